"""What the chain says of one training task, in order: who takes part, what was delivered, how it ended.

Pure: a history takes the task's final events, so that whoever coordinates, trains or audits it knows the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from agorai_shared.bindings.training_task import (
    Abandoned,
    Accepted,
    Approved,
    Begun,
    Challenged,
    Declined,
    Finished,
    Left,
    Proposed,
    Requested,
    Resolved,
    Role,
    Settled,
    Updated,
)
from agorai_shared.types import Address

OfTask: TypeAlias = Begun | Finished | Proposed | Challenged | Resolved | Settled | Abandoned
"""Events whose first indexed member is the task."""
OfSubtask: TypeAlias = Requested | Approved | Accepted | Declined | Left | Updated
"""Events whose first indexed member is the subtask, and whose second is the task."""
OF_TASK: Final[tuple[type[OfTask], ...]] = (
    Begun, Finished, Proposed, Challenged, Resolved, Settled, Abandoned,
)  # fmt: skip
OF_SUBTASK: Final[tuple[type[OfSubtask], ...]] = (Requested, Approved, Accepted, Declined, Left, Updated)


@dataclass(frozen=True, slots=True)
class Line:
    """A subtask as its last events tell it."""

    id: int
    data_provider: Address
    resource: int
    fee: int
    role: Role
    computer: Address | None = None
    wage: int = 0
    data: bytes = b""
    """Digest of the `DataHandover`; none where the data provider computes itself."""
    replaces: int = 0
    approvals: int = 0
    """How often a computer was asked."""
    ready: bool = False
    """Whether it was ready at some time."""


@dataclass(slots=True)
class RoundLine:
    """A round that was begun."""

    begun: Begun
    updates: dict[int, Updated] = field(default_factory=dict)
    """By subtask, in the order of the chain."""
    blocks: dict[int, bytes] = field(default_factory=dict)
    """By subtask, the hash of the block with its update: known behind it, and chosen by none who takes part."""

    @property
    def seed(self) -> bytes:
        """Give the hash of the block with the last update."""
        return next(reversed(self.blocks.values()), bytes(32))


class TaskHistory:
    """The events of one task."""

    def __init__(self) -> None:
        self.subtasks: dict[int, Line] = {}
        """By id."""
        self.rounds: list[RoundLine] = []
        """Round 1 is the first."""
        self.finished: Finished | None = None
        self.proposals: list[Proposed] = []
        self.challenges: list[Challenged] = []
        self.outcomes: list[Resolved] = []
        """Of the challenges, in their order."""
        self.end: Settled | Abandoned | None = None

    def take(self, events: Iterable[tuple[OfTask | OfSubtask, bytes]]) -> None:
        """Take further events, in the order of the chain, each with the hash of its block."""
        for event, block in events:
            self._take(event, block)

    def _take(self, event: OfTask | OfSubtask, block: bytes) -> None:
        match event:
            case Requested() | Approved() | Accepted():
                self._take_handshake(event)
            case Begun():
                self.rounds.append(RoundLine(event))
            case Updated(subtask=id_):
                line = self.rounds[event.round - 1]
                line.updates[id_], line.blocks[id_] = event, block
            case Finished():
                self.finished = event
            case Proposed():
                self.proposals.append(event)
            case Challenged():
                self.challenges.append(event)
            case Resolved():
                self.outcomes.append(event)
            case Settled() | Abandoned():
                self.end = event

    def _take_handshake(self, event: Requested | Approved | Accepted) -> None:
        id_ = event.subtask
        match event:
            case Requested():
                self.subtasks[id_] = Line(id_, event.data_provider, event.resource, event.fee, event.role)
            case Approved():
                line = self.subtasks.get(id_) or replace(
                    self.subtasks[event.replaces], id=id_, replaces=event.replaces, approvals=0, ready=False
                )
                self.subtasks[id_] = replace(
                    line,
                    computer=event.computer,
                    wage=event.wage,
                    data=event.data,
                    approvals=line.approvals + 1,
                )
            case Accepted():
                self.subtasks[id_] = replace(self.subtasks[id_], ready=True)

    def trained(self, round_: int) -> list[int]:
        """Give the subtasks that have delivered a trained model in a round, in the order of the chain."""
        updates = self.rounds[round_ - 1].updates
        return [id_ for id_ in updates if self.subtasks[id_].role == Role.TRAINER]

    def added(self, round_: int) -> list[int]:
        """Give the adders that have delivered in a round, in the order of the chain."""
        updates = self.rounds[round_ - 1].updates
        return [id_ for id_ in updates if self.subtasks[id_].role == Role.ADDER]

    def delivered(self, subtask: int) -> int:
        """Count the rounds that a subtask delivered."""
        return sum(subtask in line.updates for line in self.rounds)
