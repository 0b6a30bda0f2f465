"""The contracts' ABIs and bytecode as checked in, and the codec for ABI-encoded values."""
