"""Real servers for tests, each fresh, on a free port, ended even on failure.

    async with running_nats(tmp_path) as nats, running_anvil() as anvil: ...

or, after `from agorai_shared.testing import anvil, nats_server, said`, as pytest fixtures of those names.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from nats.aio.client import Client
from structlog.testing import capture_logs

from agorai_shared import logging
from agorai_shared.processes import Running, start_anvil, start_nats


@asynccontextmanager
async def running_nats(
    store: Path, *, port: int | None = None, config: Path | None = None
) -> AsyncIterator[Running]:
    """Run a NATS server with JetStream, its streams in `store`."""
    server = await start_nats(store, port=port, config=config)
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def running_anvil(
    *,
    port: int | None = None,
    chain_id: int = 31337,
    block_time_s: float | None = None,
    slots_in_an_epoch: int | None = None,
    state: Path | None = None,
    arguments: Sequence[str] = (),
) -> AsyncIterator[Running]:
    """Run an anvil chain; see `processes.start_anvil`."""
    node = await start_anvil(
        port=port,
        chain_id=chain_id,
        block_time_s=block_time_s,
        slots_in_an_epoch=slots_in_an_epoch,
        state=state,
        arguments=arguments,
    )
    try:
        yield node
    finally:
        await node.stop()


async def flushed(client: Client) -> None:
    """Wait until the server has taken all that this connection said."""
    while client.pending_data_size:  # its ping may overtake what waits to be sent
        await client.flush()
    await client.flush()


@pytest_asyncio.fixture
async def nats_server(tmp_path: Path) -> AsyncGenerator[Running]:
    """Give a NATS server with JetStream of the test's own."""
    async with running_nats(tmp_path / "jetstream") as server:
        yield server


@pytest_asyncio.fixture
async def anvil() -> AsyncGenerator[Running]:
    """Give an anvil chain of the test's own that mines a block for each transaction."""
    async with running_anvil() as node:
        yield node


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Give what is logged in the test, as far as it has come; nothing is away at its start (`logging.absent`)."""
    monkeypatch.setattr(logging, "_absences", {})
    with capture_logs() as entries:
        yield entries


def warned(said: Sequence[Any]) -> list[str]:
    """Give the events that were logged as warnings."""
    return [entry["event"] for entry in said if entry["log_level"] == "warning"]
