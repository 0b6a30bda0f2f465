"""Pools whose windows end before a final block tells that they began: nothing is staked there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agorai_shared.pool_history import WindowTooShortError
from agorai_shared.types import Address
from agorai_verifier.pool_decide import Rules, Watch
from agorai_verifier.pool_handlers import PoolProtocol
from agorai_verifier.pool_records import PoolRecords

ME, OLGA = Address("0xMe"), Address("0xOlga")
LAG_S = 72
LONG, SHORT, OWN = 1, 2, 3


def rules(owner: Address, check: int, answer: int) -> Rules:
    return Rules(owner=owner, deposit=7, bonus=15, check_window=check, answer_window=answer)


@pytest.fixture
def protocol(tmp_path: Path) -> Iterator[PoolProtocol]:
    async def finality_lag() -> int:
        return LAG_S

    async def opened(_: int) -> None:
        return None

    market = SimpleNamespace(chain=SimpleNamespace(finality_lag=finality_lag))
    records = PoolRecords(tmp_path, 1, "0xC")
    yield PoolProtocol(
        cast("Any", SimpleNamespace(market=market, opened=opened)), ME, cast("Any", None), cast("Any", None),
        records, stake_on_own=True,
        rules={
            LONG: rules(OLGA, 2 * LAG_S, 2 * LAG_S),
            SHORT: rules(OLGA, 3600, 2 * LAG_S - 1),
            OWN: rules(ME, 60, 3600),
        },
    )  # fmt: skip
    records.close()


async def test_a_pool_with_short_windows_is_not_to_be_watched_with_stake(protocol: PoolProtocol) -> None:
    with pytest.raises(WindowTooShortError, match="The answer window has 143 s"):
        await protocol.watch(SHORT, Watch.STAKE)
    assert protocol.records.watches() == {}
    await protocol.watch(SHORT, Watch.LOOK)
    await protocol.watch(LONG, Watch.STAKE)
    assert protocol.records.watches() == {LONG: Watch.STAKE, SHORT: Watch.LOOK}


@pytest.mark.parametrize(("pool", "watch"), [(LONG, Watch.STAKE), (SHORT, Watch.LOOK), (OWN, Watch.LOOK)])
async def test_nothing_is_staked_on_a_pool_with_short_windows_whatever_was_said_before(
    protocol: PoolProtocol, pool: int, watch: Watch
) -> None:
    if pool != OWN:
        protocol.records.watch(pool, Watch.STAKE)
    assert await protocol.watch_of(pool, protocol.rules[pool]) is watch
