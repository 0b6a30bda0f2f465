"""The `agorai` command."""

from agorai.cli.main import main

__all__ = ["main"]
