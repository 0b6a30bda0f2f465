"""What an examination finds: well, worth a look, or wrong; each with what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    area: str
    level: Level
    what: str
    remedy: str = ""


def ok(area: str, what: str) -> Finding:
    """Say that something is as it should be."""
    return Finding(area, Level.OK, what)


def warn(area: str, what: str, remedy: str) -> Finding:
    """Say that something may become a trouble."""
    return Finding(area, Level.WARN, what, remedy)


def fail(area: str, what: str, remedy: str) -> Finding:
    """Say that something is wrong."""
    return Finding(area, Level.FAIL, what, remedy)
