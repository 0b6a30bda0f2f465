"""A marketplace of three nodes for a whole module: starting one takes seconds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator

import pytest
import pytest_asyncio

from agorai.cli import output
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


@pytest.fixture(scope="module")
def wide() -> Iterator[None]:
    """Let tables be as wide as they like, whatever the console was when the command was first loaded."""
    consoles = (output.out, output.err)
    before = [console.width for console in consoles]
    for console in consoles:
        console.width = 220
    yield
    for console, width in zip(consoles, before, strict=True):
        console.width = width
