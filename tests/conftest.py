"""A marketplace of three nodes for a whole module: starting one takes seconds."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest_asyncio

from agorai.demo.town import Resident, Town, running
from tests.forks import Forked
from tests.nodes import kill_left


def pytest_sessionfinish() -> None:
    kill_left()
    Forked.forks.end()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town() -> AsyncGenerator[Town]:
    residents = [Resident("owner", 0), Resident("linhao", 1000), Resident("tommy", 1000), Resident("poor", 3)]
    async with running(residents) as started:
        yield started
