"""What the trainer does next about one job: train on what was bought and sell the model, or predict with it.

Pure. A job waits for its invocation to be delivered, records a use on the chain where uses are counted, does
its work, and, for a model, registers it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agorai_shared.bindings.invocation import Item, State


@dataclass(frozen=True, slots=True)
class JobState:
    """A job as this node has it, and its invocation as the chain has it at a final block."""

    kind: Literal["train", "predict"]
    item: Item
    ended: bool
    use_recorded: bool
    """Whether the chain has a use for this job, or needs none."""
    worked: bool
    """Whether the model is trained and sealed, or the predictions are made."""


@dataclass(frozen=True, slots=True)
class Fail:
    """The invocation will never be delivered."""

    why: str


@dataclass(frozen=True, slots=True)
class RecordUse:
    """Record one use of the right on the chain."""


@dataclass(frozen=True, slots=True)
class Work:
    """Open what was bought and train or predict in memory."""


@dataclass(frozen=True, slots=True)
class Register:
    """Offer the sealed model on the chain."""


Step = Fail | RecordUse | Work | Register


def next_step(state: JobState) -> Step | None:
    """Give the one next step of a job, or nothing."""
    if state.ended:
        return None
    item = state.item
    if item.state == State.REFUNDED:
        return Fail("its owner did not deliver in time, and the payment was credited back")
    if item.state != State.DELIVERED:
        return None
    if not state.worked:
        if item.limited and not state.use_recorded:
            # also where none is left: the last one may be this job's, recorded before its trainer was killed
            return RecordUse()
        return Work()
    return Register() if state.kind == "train" else None
