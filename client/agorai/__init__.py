"""Agorai for those who use it: the SDK (`Client`), a whole node in one process, and the `agorai` command."""
