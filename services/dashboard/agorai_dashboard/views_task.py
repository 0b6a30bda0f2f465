"""Training tasks, as pages and the API show them."""

from __future__ import annotations

from dataclasses import dataclass

from agorai_dashboard.views import Amount, DocumentState, Duty, Stage


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A training task."""

    id: int
    model_provider: str
    name: str | None
    state: str
    """matching, running, finished, proposed, challenged, settled, abandoned."""
    opened_at: int
    round: int
    rounds: int
    budget: Amount
    award: Amount
    ready: int
    """Trainers that are."""
    deadline: int | None
    duty: Duty | None


@dataclass(frozen=True, slots=True)
class SubtaskRow:
    """Who takes part in a task, and as what."""

    id: int
    data_provider: str
    computer: str | None
    resource: int
    role: str
    """trainer, adder."""
    fee: Amount
    wage: Amount
    state: str
    """requested, approved, ready, left, declined, ended."""
    updates: int


@dataclass(frozen=True, slots=True)
class RoundRow:
    """A round of a task."""

    number: int
    begun_at: int
    deadline: int
    ended_at: int | None
    updates: tuple[int, ...]
    """Subtasks that delivered."""
    awaited: tuple[int, ...]
    document: DocumentState
    accuracy: float | None
    """Share of test samples foretold rightly after it, where its record could be read; else None."""
    right: int | None
    refused: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """What a subtask has contributed by a payout's evidence, and what its account gets."""

    subtask: int
    account: str | None
    contribution: float
    half_width: float
    conduct: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PayoutLine:
    """One account's part of a payout."""

    account: str
    amount: Amount
    claimed: bool


@dataclass(frozen=True, slots=True)
class Payout:
    """A payout that was proposed, or that a challenger proposed instead."""

    proposer: str
    challenge: bool
    at: int
    root: str
    total: Amount
    stands: bool
    outcome: str | None
    """Of the challenge: confirmed, rejected, undecided; None while it is open, or for the first."""
    panel_case: int | None
    document: DocumentState | None
    """Its evidence; None for one that does not stand, whose evidence is not read."""
    shares: tuple[Share, ...]
    lines: tuple[PayoutLine, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """One task with its rounds and payout."""

    row: TaskRow
    document: DocumentState
    mode: str | None
    strategy: str | None
    bond: Amount
    quorum: int
    panel_size: int
    join_window: int
    round_window: int
    step_window: int
    challenge_window: int
    stages: tuple[Stage, ...]
    subtasks: tuple[SubtaskRow, ...]
    initial: RoundRow | None
    """Round 0: the model before the first, whose record tells its accuracy."""
    rounds: tuple[RoundRow, ...]
    payouts: tuple[Payout, ...]
    claimed: Amount
