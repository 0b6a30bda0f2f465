"""What tests of data pools are made of: samples, good and bad, and a pool on its terms."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Final

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from agorai.devchain import TOKEN
from agorai.pools import Pools, PoolTerms
from agorai_shared.bindings.data_pool import Contribution, Resolved, State
from agorai_shared.pool import (
    CategoryColumn,
    Cell,
    NumberColumn,
    PoolDocument,
    Rule,
    Samples,
    read_initial,
    write_samples,
)
from agorai_shared.types import Wei

PATIENCE_S: Final = 90
WINDOW_S: Final = 600
"""Of checking; half of it for answering."""
DEPOSIT: Final = TOKEN
REWARD: Final = TOKEN // 10
BOND: Final = 100 * TOKEN
BUDGET: Final = 200 * TOKEN
INITIAL: Final = 250
"""Samples that a pool begins with."""

CLASSES: Final = ("malignant", "benign")
RULE: Final = Rule(
    estimator="sklearn.SGDClassifier",
    hyperparameters={"loss": "log_loss", "alpha": 0.01},
    scaler="standard",
    mode="incremental",
)


@cache
def table() -> tuple[tuple[Cell, ...], ...]:
    """Give the samples of the breast cancer data in an order of their own."""
    features, target = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(target))
    return tuple((*features[row].tolist(), CLASSES[target[row]]) for row in order)


@cache
def document() -> PoolDocument:
    """Describe the pool; the CID of its initial samples is put in by who opens it."""
    columns = [
        NumberColumn(name=f"f{place}", low=0, high=2 * float(max(column)))
        for place, column in enumerate(zip(*(cells[:-1] for cells in table()), strict=True))
    ]
    return PoolDocument(
        name="Cells",
        columns=(*columns, CategoryColumn(name="kind", values=CLASSES)),
        target="kind",
        initial_samples="bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e",
        rule=RULE,
    )


def csv(first: int, last: int) -> bytes:
    """Give some of the samples as a file."""
    return write_samples(document(), Samples(table()[first:last]))


def flipped(data: bytes) -> bytes:
    """Give the same samples, each called the other class."""
    other = dict(zip(CLASSES, reversed(CLASSES), strict=True))
    rows = read_initial(document(), data).rows
    return write_samples(document(), Samples(tuple((*cells[:-1], other[str(cells[-1])]) for cells in rows)))


async def open_pool(owner: Pools, life_s: int = 86_400, budget: int = BUDGET) -> int:
    """Open a pool whose first version the owner's node publishes."""
    terms = PoolTerms(
        deposit=Wei(DEPOSIT), reward=Wei(REWARD), bond=Wei(BOND), budget=Wei(budget), check_window=WINDOW_S,
        answer_window=WINDOW_S // 2, reveal_window=WINDOW_S, closes_at=await owner.now() + life_s, panel_size=3,
    )  # fmt: skip
    return await owner.open(document(), csv(0, INITIAL), csv(INITIAL, INITIAL + 100), terms)


async def until(look: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait until something holds."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await look():  # noqa: ASYNC110 - the chain announces nothing to a test
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail(f"{what} did not come")


async def in_state(pools: Pools, contribution: int, *states: State) -> Contribution:
    """Wait until a contribution is in one of these states."""
    found: list[Contribution] = []

    async def look() -> bool:
        found[:] = [await pools.files.contribution(contribution)]
        return found[0].state in states

    await until(look, f"state {[state.name for state in states]} of contribution {contribution}")
    return found[0]


async def outcome(pools: Pools, pool: int, contribution: int) -> Resolved:
    """Wait until a challenge of a contribution has ended."""

    async def look() -> bool:
        return contribution in (await pools.files.history(pool)).resolved

    await until(look, f"the end of the challenge of contribution {contribution}")
    return (await pools.files.history(pool)).resolved[contribution][-1]


async def owned(pools: Pools) -> int:
    """Give an account's tokens and all that is credited to it, in the smallest unit."""
    (credit,) = await pools.read(pools.contract.credit_of(pools.client.address))
    return int((await pools.client.balances()).tokens + credit)
