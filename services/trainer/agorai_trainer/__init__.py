"""The trainer: local training and prediction, in memory and in a sandbox."""
