"""Each paper's flow, run on this machine with real parts."""
