"""The parts of federated training's experiment; `python -m benchmarks.federated` runs it."""
