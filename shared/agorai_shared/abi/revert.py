"""Why a call was refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agorai_shared.abi.codec import ArgValue

PANICS: Final[Mapping[int, str]] = {
    0x00: "compiler's own",
    0x01: "assertion failed",
    0x11: "arithmetic overflow",
    0x12: "division by zero",
    0x21: "no such enum member",
    0x22: "broken storage encoding",
    0x31: "pop from an empty array",
    0x32: "index out of bounds",
    0x41: "out of memory",
    0x51: "call of an uninitialised function",
}
"""Solidity's panic codes, from its documentation's section on Panic."""


@dataclass(frozen=True, slots=True)
class Revert:
    """Why a call was refused, as far as its data tells: the error's name and its values."""

    name: str
    args: Mapping[str, ArgValue]

    def __str__(self) -> str:
        """Give it as people read it."""
        if self.name == "Error":
            return str(self.args["message"])
        if self.name == "Panic":
            code = self.args["code"]
            return f"panic {code:#04x}: {PANICS.get(int(str(code)), 'unknown code')}"
        return f"{self.name}({', '.join(f'{name}={value}' for name, value in self.args.items())})"
