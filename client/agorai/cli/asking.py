"""How the command asks before it does what cannot be undone, and what it says when it may not."""

from __future__ import annotations

import sys

import typer

from agorai.cli.output import err


def ask(question: str) -> None:
    """Go on only after a yes; otherwise say that nothing was done, and end with status 1, or 130 after Ctrl-C."""
    status, told = 1, "Nothing was done."
    try:
        if typer.confirm(question, err=True):
            return
    except typer.Abort:
        err.print()
        if sys.stdin.isatty():
            status = 130
        else:
            told = "Nobody is there to answer, so nothing was done. Add --yes to do it."
    err.print(told)
    raise typer.Exit(status)
