"""Federated training: what is computed of a task, in pure functions that give everybody the same bits."""
