"""Compares the events that a chain has with those that a stream has."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from agorai_shared.events import ChainEvent

SHOWN: Final = 100


class Kind(StrEnum):
    """How a stream can differ from its chain."""

    missing = "missing"
    unexpected = "unexpected"
    repeated = "repeated"
    out_of_order = "out_of_order"
    differing = "differing"


class Place(BaseModel):
    """Where a difference is."""

    model_config = ConfigDict(frozen=True)

    at: str = Field(description="`block:log index`, or `message n` for one that cannot be read")
    contract: str
    event: str

    @classmethod
    def of(cls, event: ChainEvent) -> Place:
        """Give the place of an event."""
        return cls(at=f"{event.block_number}:{event.log_index}", contract=event.contract, event=event.event)


class Found(BaseModel):
    """Differences of one kind."""

    model_config = ConfigDict(frozen=True)

    count: int = 0
    first: tuple[Place, ...] = Field((), description=f"at most {SHOWN}")


class Differences(BaseModel):
    """All that a stream says otherwise than its chain."""

    model_config = ConfigDict(frozen=True)

    missing: Found = Field(Found(), description="on the chain, not on the stream")
    unexpected: Found = Field(Found(), description="on the stream, not on the chain, or not readable")
    repeated: Found = Field(Found(), description="on the stream again")
    out_of_order: Found = Field(Found(), description="behind an event that comes later on the chain")
    differing: Found = Field(Found(), description="at the right place with another content")

    @property
    def count(self) -> int:
        """How many there are of every kind together."""
        return sum(self.of(kind).count for kind in Kind)

    def of(self, kind: Kind) -> Found:
        """Give those of one kind."""
        found: Found = getattr(self, kind)
        return found


class Tally:
    """Counts differences and keeps the first places of each kind."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(Kind, 0)
        self._places: dict[Kind, list[Place]] = {kind: [] for kind in Kind}

    def add(self, kind: Kind, place: Place) -> None:
        """Count one."""
        self._counts[kind] += 1
        if len(self._places[kind]) < SHOWN:
            self._places[kind].append(place)

    def add_all(self, other: Tally) -> None:
        """Count what another has counted."""
        for kind in Kind:
            self._counts[kind] += other._counts[kind]
            self._places[kind] += other._places[kind][: SHOWN - len(self._places[kind])]

    def differences(self) -> Differences:
        """Give what was counted so far."""
        return Differences(
            **{kind: Found(count=self._counts[kind], first=tuple(self._places[kind])) for kind in Kind}
        )


class Comparison:
    """Holds what the chain has in one range against the stream's messages, taken one by one."""

    def __init__(self, expected: Iterable[ChainEvent], tally: Tally) -> None:
        self._expected = {_position(event): event for event in expected}
        self._seen: set[tuple[int, int]] = set()
        self._before = (-1, -1)
        self._tally = tally

    def take(self, event: ChainEvent, subject: str | None = None) -> None:
        """Judge the stream's next event; `subject` is where it was published, if that is known."""
        position = _position(event)
        expected = self._expected.get(position)
        if expected is None:
            self._tally.add(Kind.unexpected, Place.of(event))
            return
        if position in self._seen:
            self._tally.add(Kind.repeated, Place.of(event))
            return
        self._seen.add(position)
        if position < self._before:
            self._tally.add(Kind.out_of_order, Place.of(event))
        self._before = position
        if not _same(expected, event) or subject not in (None, expected.subject):
            self._tally.add(Kind.differing, Place.of(event))

    def end(self) -> None:
        """Count what did not come."""
        for position, event in self._expected.items():
            if position not in self._seen:
                self._tally.add(Kind.missing, Place.of(event))


def compare(expected: Iterable[ChainEvent], found: Iterable[ChainEvent]) -> Differences:
    """Give what a stream's events `found` say otherwise than a chain's `expected`, both of one range.

    The expected ones are held in memory, the found ones are taken one by one. A truncated event is compared
    without its arguments, as what fitted into a message is the bus's affair at the time.
    """
    tally = Tally()
    comparison = Comparison(expected, tally)
    for event in found:
        comparison.take(event)
    comparison.end()
    return tally.differences()


def _position(event: ChainEvent) -> tuple[int, int]:
    return event.block_number, event.log_index


def _same(expected: ChainEvent, found: ChainEvent) -> bool:
    return (expected.without_args() if found.truncated else expected).to_json() == found.to_json()
