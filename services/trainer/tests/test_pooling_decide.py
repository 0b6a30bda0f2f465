"""What the trainer does about a pool, and when."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from agorai_shared.bindings.data_pool import Pool, PoolState
from agorai_shared.pool import Rule
from agorai_trainer.pooling.decide import (
    Close,
    Hidden,
    Keep,
    Prepare,
    Progress,
    Send,
    State,
    due,
    next_step,
    reveal_due,
    reveals,
)

RULE = Rule(estimator="sklearn.SGDClassifier", mode="incremental", every=10)
OTHER = Rule(estimator="sklearn.GaussianNB", mode="anew")
CLOSES, REVEAL = 1000, 400


def state(*, keeps: bool = True, **changes: Any) -> State:
    """A pool that is open, with one version published and nothing accepted since."""
    pool: dict[str, Any] = {field.name: 0 for field in fields(Pool)} | {
        "closes_at": CLOSES,
        "reveal_window": REVEAL,
        "open": 0,
        "state": PoolState.OPEN,
    }
    progress: dict[str, Any] = {
        "rule": RULE, "published": True, "fresh": 0, "tried": False, "prepared": False, "loose": False, "wanted": ()
    }  # fmt: skip
    for name, value in changes.items():
        (pool if name in pool else progress)[name] = value
    return State(Pool(**pool), keeps, Progress(**progress))


def hidden(**changes: Any) -> Hidden:
    """The same pool, as revealing sees it."""
    seen = state(**changes)
    return Hidden(seen.pool, seen.keeps)


MINE, WANTED = Prepare(RULE, on_newest=False), Prepare(OTHER, on_newest=True)


@pytest.mark.parametrize(
    ("seen", "step"),
    [
        (state(), None),
        (state(published=False), MINE),
        (state(published=False, tried=True), None),
        (state(published=False, keeps=False), None),
        (state(fresh=9), None),
        (state(fresh=10), MINE),
        (state(fresh=10, tried=True), None),
        (state(fresh=10, keeps=False), None),
        (state(fresh=10, prepared=True), Send()),
        (state(fresh=10, wanted=(OTHER, RULE)), WANTED),
        (state(wanted=(OTHER,), keeps=False), WANTED),
        (state(prepared=True, keeps=False), Send()),
        (state(fresh=9, loose=True), Keep(RULE)),
        (state(fresh=10, loose=True), MINE),
        (state(fresh=9, loose=True, keeps=False), None),
    ],
)
def test_versions_while_the_pool_is_open(seen: State, step: object) -> None:
    assert next_step(seen, CLOSES - 1) == step


@pytest.mark.parametrize(
    ("seen", "now", "step"),
    [
        (state(open=1, fresh=9, state=PoolState.CLOSED), CLOSES, None),
        (state(fresh=9, state=PoolState.CLOSED), CLOSES - 1, None),
        (state(fresh=9, state=PoolState.CLOSED), CLOSES, MINE),
        (state(fresh=1, state=PoolState.FORFEITED), CLOSES, MINE),
        (state(fresh=0, state=PoolState.CLOSED), CLOSES, None),
        (state(fresh=9, state=PoolState.CLOSED, keeps=False), CLOSES, None),
        (state(wanted=(OTHER,), state=PoolState.CLOSED, keeps=False), CLOSES, WANTED),
    ],
)
def test_what_is_left_over_is_a_version_when_the_pool_has_ended(seen: State, now: int, step: object) -> None:
    assert next_step(seen, now) == step


@pytest.mark.parametrize(
    ("opened", "now", "final"),
    [
        (0, CLOSES - 1, None),
        (0, CLOSES, False),
        (3, CLOSES + REVEAL // 2 - 1, None),
        (3, CLOSES + REVEAL // 2, False),
        (3, CLOSES + REVEAL * 3 // 4 - 1, False),
        (0, CLOSES + REVEAL * 3 // 4, True),
        (0, CLOSES + 10 * REVEAL, True),
    ],
)
def test_the_test_set_is_revealed_in_time(opened: int, now: int, final: bool | None) -> None:
    assert reveals(hidden(open=opened), now) == (None if final is None else Close(final))


@pytest.mark.parametrize("ended", [PoolState.CLOSED, PoolState.FORFEITED])
def test_a_test_set_is_revealed_once_and_by_who_keeps_it(ended: PoolState) -> None:
    assert reveals(hidden(state=ended), CLOSES + REVEAL) is None
    assert reveals(hidden(keeps=False), CLOSES + REVEAL) is None


@pytest.mark.parametrize(
    ("seen", "now", "at"),
    [
        (hidden(), 10, CLOSES),
        (hidden(open=2), 10, CLOSES + REVEAL // 2),
        (hidden(), CLOSES, None),
        (hidden(keeps=False), 10, None),
        (hidden(state=PoolState.CLOSED), 10, None),
    ],
)
def test_time_alone_brings_the_day_of_revealing(seen: Hidden, now: int, at: int | None) -> None:
    assert reveal_due(seen, now) == at


@pytest.mark.parametrize(
    ("seen", "now", "at"),
    [(state(), 10, CLOSES), (state(), CLOSES, None), (state(keeps=False), 10, None)],
)
def test_time_alone_brings_the_version_of_what_is_left_over(seen: State, now: int, at: int | None) -> None:
    assert due(seen, now) == at
