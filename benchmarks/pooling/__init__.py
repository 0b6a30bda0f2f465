"""The parts of the data pool's experiment; `python -m benchmarks.pool` runs it."""
