"""Amounts of tokens as they are typed."""

from __future__ import annotations

from typing import Final

import typer

from agorai.devchain import TOKEN

_MOST: Final = 2**96 / TOKEN
"""What contracts keep amounts in."""


def tokens(given: float | None) -> float | None:
    """See, as the callback of an option, that an amount is one that contracts can hold, or 0."""
    if given is not None and not (given == 0 or (given * TOKEN >= 1 and given < _MOST)):
        raise typer.BadParameter(
            f"{given:g} is no amount of tokens: give a number from 1e-18, the smallest unit, to 7.9e10."
        )
    return given


def _some(given: float) -> float:
    if given == 0:
        raise typer.BadParameter("0 tokens are nothing: give more.")
    tokens(given)
    return given


AMOUNT = typer.Argument(help="How many tokens.", min=0, callback=_some)
