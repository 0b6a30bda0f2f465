"""What the trainer does about a pool, and when."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from agorai_shared.bindings.data_pool import Pool, PoolState
from agorai_shared.pool import Rule
from agorai_trainer.pooling.decide import AGAIN_S, Close, Keep, Prepare, Progress, Send, State, due, next_step

RULE = Rule(estimator="sklearn.SGDClassifier", mode="incremental", every=10)
OTHER = Rule(estimator="sklearn.GaussianNB", mode="anew")
CLOSES, REVEAL = 1000, 400


def state(*, keeps: bool = True, unknown: bool = False, **changes: Any) -> State:
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
    return State(Pool(**pool), keeps, None if unknown else Progress(**progress))


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
        (state(unknown=True), None),
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
def test_the_test_set_is_revealed_in_time_whatever_else_there_is_to_do(
    opened: int, now: int, final: bool | None
) -> None:
    for seen in (
        state(open=opened, tried=True),
        state(open=opened, unknown=True),
        state(open=opened, published=False, prepared=True, wanted=(OTHER,)),
    ):
        step = next_step(seen, now)
        if final is None:
            assert not isinstance(step, Close)
        else:
            assert step == Close(final)


@pytest.mark.parametrize("ended", [PoolState.CLOSED, PoolState.FORFEITED])
def test_a_test_set_is_revealed_once_and_by_who_keeps_it(ended: PoolState) -> None:
    assert next_step(state(state=ended), CLOSES + REVEAL) is None
    assert next_step(state(keeps=False), CLOSES + REVEAL) is None


@pytest.mark.parametrize(
    ("seen", "now", "at"),
    [
        (state(), 10, CLOSES),
        (state(open=2), 10, CLOSES + REVEAL // 2),
        (state(), CLOSES, None),
        (state(keeps=False), 10, None),
        (state(state=PoolState.CLOSED), 10, None),
        (state(unknown=True), 10, 10 + AGAIN_S),
        (state(unknown=True), CLOSES - 1, CLOSES),
        (state(unknown=True, keeps=False), CLOSES - 1, CLOSES - 1 + AGAIN_S),
    ],
)
def test_time_alone_brings_the_day_of_revealing(seen: State, now: int, at: int | None) -> None:
    assert due(seen, now) == at
