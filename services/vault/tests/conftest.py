"""A fresh chain for each test."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest_asyncio

from agorai_shared.rpc import Rpc
from agorai_shared.testing import running_anvil

from .ground import Ground, Sender


@pytest_asyncio.fixture
async def ground() -> AsyncGenerator[Ground]:
    async with running_anvil(arguments=("--slots-in-an-epoch", "1")) as anvil, Rpc(anvil.url) as rpc:
        yield await Ground.laid(anvil, rpc)


@pytest_asyncio.fixture
async def sender(ground: Ground, tmp_path: Path) -> Sender:
    return await Sender.funded(ground, tmp_path / "vault")
