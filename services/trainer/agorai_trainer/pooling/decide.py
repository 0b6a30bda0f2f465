"""What the trainer does next about one data pool: publish a version of its model, and reveal its test set.

Pure. The owner's node publishes by itself and reveals in time; any node publishes versions that its user wants. The
two are decided and done apart: files that do not come never keep a test set from being revealed, for that is what the
bond is for.
"""

from __future__ import annotations

from dataclasses import dataclass

from agorai_shared.bindings.data_pool import Pool, PoolState
from agorai_shared.pool import Rule


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the versions are that this node publishes."""

    rule: Rule
    """The pool's."""
    published: bool
    """Whether there is one by it."""
    fresh: int
    """Samples accepted since the newest one by it."""
    tried: bool
    """Whether one of just these samples was made, or cannot be."""
    prepared: bool
    """Whether one is on its way to the chain."""
    loose: bool
    """Whether samples were accepted since whose files this node does not keep yet."""
    wanted: tuple[Rule, ...]
    """Rules by which the user wants one that was not tried yet."""


@dataclass(frozen=True, slots=True)
class State:
    """A pool as the chain has it at a final block, and what this node holds of it."""

    pool: Pool
    keeps: bool
    """Whether the pool is this account's and its test set here."""
    progress: Progress


@dataclass(frozen=True, slots=True)
class Hidden:
    """A pool as the chain has it at a final block, and whether its test set is this node's to reveal."""

    pool: Pool
    keeps: bool
    """Whether the pool is this account's and its test set here."""


@dataclass(frozen=True, slots=True)
class Close:
    """Reveal the test set; `final` once it is to be revealed though its file cannot be served."""

    final: bool


@dataclass(frozen=True, slots=True)
class Send:
    """Publish the version that is prepared."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Train a version, and put all that it takes to make it again into this node's store."""

    rule: Rule
    on_newest: bool
    """On top of the newest version, whoever published that; else of this node's own."""


@dataclass(frozen=True, slots=True)
class Keep:
    """Keep the files of what was accepted, for the version to come: who added them may be gone by then."""

    rule: Rule
    """The pool's."""


Step = Send | Prepare | Keep


def next_step(state: State, now: int) -> Step | None:
    """Give the one next step to a version, or nothing; `now` in seconds since 1970."""
    pool, progress = state.pool, state.progress
    if progress.prepared:
        return Send()
    if progress.wanted:
        return Prepare(progress.wanted[0], on_newest=True)
    if state.keeps and not progress.tried and _wants_version(pool, progress, now):
        return Prepare(progress.rule, on_newest=False)
    return Keep(progress.rule) if state.keeps and progress.loose else None


def due(state: State, now: int) -> int | None:
    """Say when time alone brings a version: what is left over, when the pool has ended."""
    return state.pool.closes_at if state.keeps and now < state.pool.closes_at else None


def reveals(state: Hidden, now: int) -> Close | None:
    """Say whether the test set is to be revealed now; `now` in seconds since 1970."""
    pool = state.pool
    if not _hidden(state) or now < _reveal_at(pool):
        return None
    return Close(final=now >= pool.closes_at + pool.reveal_window * 3 // 4)


def reveal_due(state: Hidden, now: int) -> int | None:
    """Say when time alone brings the revealing."""
    at = _reveal_at(state.pool)
    return at if _hidden(state) and now < at else None


def _hidden(state: Hidden) -> bool:
    return state.keeps and state.pool.state == PoolState.OPEN


def _reveal_at(pool: Pool) -> int:
    """Not before all is decided that the test set could help to decide falsely, unless that takes too long."""
    return pool.closes_at + (pool.reveal_window // 2 if pool.open else 0)


def _wants_version(pool: Pool, progress: Progress, now: int) -> bool:
    ended = now >= pool.closes_at and not pool.open
    return not progress.published or progress.fresh >= (1 if ended else progress.rule.every)
