"""Data pools, as pages and the API show them."""

from __future__ import annotations

from dataclasses import dataclass

from agorai_dashboard.views import Amount, Curve, DocumentState, Duty, Page, Stage


@dataclass(frozen=True, slots=True)
class PoolRow:
    """A data pool."""

    id: int
    owner: str
    name: str | None
    state: str
    """open, closing, closed, forfeited."""
    opened_at: int
    closes_at: int
    accepted: int
    """Samples."""
    pending: int
    """Samples of contributions that have not ended."""
    contributions: int
    contributors: int
    versions: int
    accuracy: int | None
    """Of the latest version."""
    duty: Duty | None


@dataclass(frozen=True, slots=True)
class ContributionRow:
    """Samples that somebody added."""

    id: int
    pool: int
    contributor: str
    count: int
    left: int
    """Samples that have not been found wrong."""
    state: str
    """open, challenged, answered, contested, settled."""
    added_at: int
    deadline: int | None
    corrects: int | None
    challenger: str | None
    challenges: int
    upheld: bool | None
    """The owner's answer to the challenge at hand."""
    panel_case: int | None
    duty: Duty | None


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A model version that was published for a pool."""

    id: int
    publisher: str
    predecessor: int | None
    accuracy: int
    at: int
    record: str
    model: str
    snapshot: str


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool with what it became (the papers' Figs. 9-12)."""

    row: PoolRow
    document: DocumentState
    description: str | None
    deposit: Amount
    reward: Amount
    bond: Amount
    budget: Amount
    """All that was paid in for rewards and voters."""
    check_window: int
    answer_window: int
    reveal_window: int
    panel_size: int
    test_set: str | None
    """Digest, once it is revealed."""
    growth: tuple[Curve, ...]
    """`accepted` and `added` samples, summed up; thinned out where there are many."""
    balances: tuple[Curve, ...]
    """By account with the most to show: what it got from the pool less what it paid in."""
    accuracy: tuple[Curve, ...]
    """By publisher, of its versions."""
    contributions: Page[ContributionRow]
    versions: tuple[VersionRow, ...]
    stages: tuple[Stage, ...]
