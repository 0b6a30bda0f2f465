"""Lists of what strangers serve: nobody holds up anybody else."""

from __future__ import annotations

import asyncio

from agorai.pool_reading import _each
from agorai_shared.digest_files import AT_ONCE
from agorai_shared.types import Address


async def test_who_serves_slowly_holds_up_only_what_is_its_own() -> None:
    hangs = asyncio.Event()
    started: list[int] = []
    slow, quick = Address("0xSlow"), Address("0xQuick")
    items = [(slow, number) for number in range(3 * AT_ONCE)] + [(quick, 99)]

    async def get(item: tuple[Address, int]) -> int:
        started.append(item[1])
        if item[0] == slow:
            await hangs.wait()
        else:
            hangs.set()
            assert len(started) == AT_ONCE + 1
        return item[1]

    async with asyncio.timeout(5):
        found = await _each(get, items, lambda item: item[0])
    assert found == [number for _, number in items]
