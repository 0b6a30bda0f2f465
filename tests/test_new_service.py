"""The service that docs/new-service.md shows, taken from the page and run as it stands."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import aiohttp
import pytest
import pytest_asyncio
from eth_utils.address import to_checksum_address

from agorai.devchain import DevChain
from agorai_shared.bindings.registry import Kind, Registry, ResourceParams
from agorai_shared.chain import Chain, Finality
from agorai_shared.contract import Call
from agorai_shared.rpc import Json, Rpc
from agorai_shared.testing import running_anvil, running_nats
from tests.alone import TOKEN_OF_NODE, free_port, service
from tests.test_docs import ROOT, fences

(SERVICE,) = fences(ROOT / "docs" / "new-service.md", "python")
COUNT: Final = re.compile(r'^agorai_tally_resources\{owner="(\w+)"\} ([\d.]+)$', re.MULTILINE)
DATA: Final = ResourceParams(
    kind=Kind.DATA,
    price=1,
    previous=0,
    duration=0,
    uses=0,
    window=3600,
    restricted=False,
    metadata=b"\1" * 32,
    commitment=b"\2" * 32,
)


@dataclass(frozen=True)
class World:
    """A chain with a marketplace on it, a bus, and the hub between them."""

    rpc: Rpc
    registry: Registry
    owners: Sequence[str]
    environment: dict[str, str]
    program: Path

    async def register(self, *owners: str) -> None:
        """Have accounts register a resource each."""
        for owner in owners:
            await self.send(owner, self.registry.register(DATA))

    async def send(self, account: str, call: Call[Any]) -> None:
        transaction: dict[str, Json] = {
            "from": account,
            "to": call.to,
            "data": "0x" + call.data.hex(),
            "gas": "0x100000",
        }
        receipt = cast("dict[str, str]", await self.rpc.request("eth_sendTransactionSync", transaction))
        assert receipt["status"] == "0x1"

    @asynccontextmanager
    async def tally(self) -> AsyncIterator[str]:
        """Run the page's service until left; gives its URL once it is ready."""
        port = free_port()
        async with service(
            self.program.stem, port, self.environment | {"PYTHONPATH": str(self.program.parent)}
        ):
            yield f"http://127.0.0.1:{port}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    tmp_path = tmp_path_factory.mktemp("world")
    deployment, program = tmp_path / "deployment.json", tmp_path / "tally.py"
    program.write_text(SERVICE)
    async with AsyncExitStack() as stack:
        anvil = await stack.enter_async_context(running_anvil())
        bus = await stack.enter_async_context(running_nats(tmp_path / "bus"))
        rpc = await stack.enter_async_context(Rpc(anvil.url))
        market = await DevChain(rpc, Chain(rpc, Finality(0))).deployment(deployment)
        environment = {
            "AGORAI_BUS_URL": bus.url,
            "AGORAI_RPC_URL": anvil.url,
            "AGORAI_CONFIRMATIONS": "0",
            "AGORAI_DEPLOYMENT": str(deployment),
            "AGORAI_NODE_TOKEN": TOKEN_OF_NODE,
        }
        await stack.enter_async_context(service("agorai_hub.app", free_port(), environment))
        accounts = cast("list[str]", await rpc.request("eth_accounts"))
        owners = [to_checksum_address(account) for account in accounts[:4]]
        found = World(rpc, Registry(market.registry), owners, environment, program)
        for owner in owners:
            await found.send(owner, found.registry.join(1, b"\1" * 32, b"\2" * 32, "http://127.0.0.1"))
        yield found


async def told(url: str) -> dict[str, float]:
    """Give what the service tells of each owner."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as answer:
        return {owner: float(count) for owner, count in COUNT.findall(await answer.text())}


async def until_told(url: str, expected: dict[str, float]) -> None:
    async with asyncio.timeout(20):
        while not expected.items() <= (await told(url)).items():  # noqa: ASYNC110 - nobody could tell
            await asyncio.sleep(0.05)  # a metric is asked for, it does not announce itself


@pytest.mark.asyncio(loop_scope="module")
async def test_the_pages_service_counts_what_was_before_it_and_what_comes(world: World) -> None:
    ada, ben, *_ = world.owners
    await world.register(ada, ada)
    async with world.tally() as url:
        assert (await told(url))[ada] == 2
        await world.register(ben, ada)
        await until_told(url, {ada: 3, ben: 1})


@pytest.mark.asyncio(loop_scope="module")
async def test_the_pages_service_counts_what_happened_while_it_was_away(world: World) -> None:
    *_, ada, ben = world.owners
    async with world.tally() as url:
        await world.register(ada)
        await until_told(url, {ada: 1})
    await world.register(ben, ben)
    async with world.tally() as url:
        await until_told(url, {ada: 1, ben: 2})


def test_the_pages_service_is_twenty_lines() -> None:
    (body,) = re.findall(r"^async def create\(.*?\n(.*?)^if __name__", SERVICE, re.MULTILINE | re.DOTALL)
    assert len([line for line in body.splitlines() if line.strip()]) == 20
