"""What pages and the API show: plain facts, read from the read model by `queries`.

Here is what several kinds share; `views_*.py` have each kind. Times are seconds since 1970 as blocks tell them,
amounts integers of the token's smallest unit (in JSON decimal text, as doubles do not hold them), accuracies
1/10,000, accounts checksummed addresses.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Generic, TypeAlias, TypeVar

from pydantic import PlainSerializer

Amount: TypeAlias = Annotated[int, PlainSerializer(str, return_type=str, when_used="json")]

T = TypeVar("T")


class DocumentState(StrEnum):
    """Whether a document that the chain names by digest could be read."""

    read = "read"
    wanted = "wanted"
    """Nobody has been asked for it yet, or it is on its way."""
    absent = "absent"
    """Nobody who should serve it does, for now."""
    malformed = "malformed"


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some rows; `following` is the cursor of those after them, None at the end."""

    rows: tuple[T, ...]
    following: str | None


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that events are about: `contract` and `key` as on the bus, `kind` as pages name it.

    Kinds are resource, invocation, trade, case, pool, contribution, version, task, subtask, transfer, learner, actor.
    """

    kind: str
    contract: str
    key: str


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a curve."""

    time: int
    value: Amount


@dataclass(frozen=True, slots=True)
class Duty:
    """Something that waits for somebody."""

    item: Item
    what: str
    """A sentence: who does what."""
    who: tuple[str, ...]
    """Accounts that can do it; none where anyone can, or who it is is not known by account."""
    until: int | None
    """Deadline; None where there is none."""
    overdue: bool


@dataclass(frozen=True, slots=True)
class Count:
    """How many there are of a kind, and how many of them are still open."""

    kind: str
    total: int
    open: int


@dataclass(frozen=True, slots=True)
class Stage:
    """One state on a timeline; `since` is None while it is still to come."""

    name: str
    since: int | None
    deadline: int | None
    """Of this state, where it is known."""
    done: bool
    limit_s: int | None
    """How long it may take."""
    steps: tuple[StageStep, ...]


@dataclass(frozen=True, slots=True)
class StageStep:
    """What one side does in a state."""

    who: str
    """seller, buyer, or a role."""
    what: str
    at: int | None
    """When it was done; None: not yet."""
    event: str | None
    """Id of the event that says so."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One account's or one quantity's course."""

    name: str
    """An address, or the quantity's name."""
    points: tuple[Point, ...]
