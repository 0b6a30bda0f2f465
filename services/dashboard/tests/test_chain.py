"""From a real chain over the hub and the bus to what the dashboard shows: the money agrees to the last unit."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest_asyncio
from eth_utils.address import to_checksum_address
from pydantic import SecretStr

from agorai.devchain import DevChain
from agorai_dashboard import app
from agorai_dashboard.settings import DashboardSettings
from agorai_hub.app import create as hub_of
from agorai_hub.settings import HubSettings
from agorai_shared.bindings.data_pool import DataPool, Terms
from agorai_shared.bindings.market_token import MarketToken
from agorai_shared.bindings.registry import Kind, Registry, ResourceParams
from agorai_shared.bindings.role import Role
from agorai_shared.bindings.voting_panel import VotingPanel
from agorai_shared.chain import Chain, Finality
from agorai_shared.cid import digest_of
from agorai_shared.content import ContentStore
from agorai_shared.contract import Call
from agorai_shared.deployment import Deployment
from agorai_shared.documents import Metadata
from agorai_shared.pool_history import commitment, round_of
from agorai_shared.rpc import Json, Rpc
from agorai_shared.service import Host, make_broker
from agorai_shared.settings import NodeSettings
from agorai_shared.testing import running_anvil, running_nats
from agorai_shared.types import Address
from agorai_storage import app as storage
from agorai_storage.settings import StorageSettings

from .listening import until

TOKEN = "token"
BEGUN_WITH = 10**24
SALT = bytes(31) + b"\x01"
TEST_SET = hashlib.sha256(b"test set").digest()


@dataclass
class Market:
    """A chain with some accounts on it, and a dashboard that follows it."""

    rpc: Rpc
    chain: Chain
    deployment: Deployment
    url: str
    accounts: list[Address]
    store: ContentStore
    last: str = ""
    """The last event that was caused."""

    async def send(self, account: Address, call: Call[Any]) -> None:
        transaction: dict[str, Json] = {
            "from": account,
            "to": call.to,
            "data": "0x" + call.data.hex(),
            "gas": hex(2_000_000),
        }
        receipt = cast("dict[str, Any]", await self.rpc.request("eth_sendTransactionSync", transaction))
        assert receipt["status"] == "0x1", call.function
        for log in receipt["logs"]:
            self.last = f"{log['transactionHash']}-{int(log['logIndex'], 16)}"

    async def pass_time(self, seconds: int) -> None:
        await self.rpc.request("evm_increaseTime", seconds)
        await self.rpc.request("anvil_mine", "0x1")

    async def shown(self, path: str, enough: Callable[[Any], bool] = lambda _: True) -> Any:
        """Ask the dashboard, once it has projected what was caused, until the answer is as it should be."""
        async with aiohttp.ClientSession() as session:
            await until(session, self.url, f"/api/events/{self.last}/story")
            return await until(session, self.url, path, enough)


@pytest_asyncio.fixture
async def market(tmp_path: Path) -> AsyncIterator[Market]:
    async with AsyncExitStack() as stack:
        anvil = await stack.enter_async_context(running_anvil())
        nats = await stack.enter_async_context(running_nats(tmp_path / "jetstream"))
        rpc = await stack.enter_async_context(Rpc(anvil.url))
        chain = Chain(rpc, Finality(0))
        path = tmp_path / "deployment.json"
        deployment = await DevChain(rpc, chain).deployment(path)
        listed = cast("list[str]", await rpc.request("eth_accounts"))
        accounts = [Address(to_checksum_address(one)) for one in listed[1:5]]
        node = NodeSettings(
            bus_url=nats.url,
            rpc_url=anvil.url,
            confirmations=0,
            deployment=path,
            node_token=SecretStr(TOKEN),
        )
        hub = hub_of(node, HubSettings())
        await stack.enter_async_context(hub.background())
        content = storage.create(StorageSettings(path=tmp_path / "storage"), TOKEN)
        store = Host(node, [content], make_broker(node, "storage"))
        await stack.enter_async_context(store.running())
        own = DashboardSettings(
            address=accounts[0],
            database=f"sqlite:///{tmp_path / 'dashboard.sqlite'}",
            store_url=store.url,
            node_url=store.url,
        )
        broker = make_broker(node, "dashboard")
        service = await stack.enter_async_context(app.create(node, own, broker))
        host = Host(node, [service], broker)
        await stack.enter_async_context(host.running())
        session = await stack.enter_async_context(aiohttp.ClientSession())
        found = Market(rpc, chain, deployment, host.url, accounts, ContentStore(store.url, TOKEN, session))
        token, pool = MarketToken(deployment.token), DataPool(deployment.data_pool)
        for account in accounts:
            await found.send(Address(to_checksum_address(listed[0])), token.issue(account, BEGUN_WITH))
            await found.send(account, token.approve(pool.address, BEGUN_WITH))
            joining = Registry(deployment.registry).join(
                Role.DATA_PROVIDER, bytes(32), bytes(31) + b"\x01", "http://127.0.0.1:9"
            )
            await found.send(account, joining)
        yield found


async def add(market: Market, account: Address, count: int, name: bytes) -> None:
    """Commit to samples and add them to pool 1."""
    pool, digest = DataPool(market.deployment.data_pool), hashlib.sha256(name).digest()
    bound = commitment(market.deployment.chain_id, pool.address, account, 1, 0, digest, SALT)
    await market.send(account, pool.commit(bound))
    await market.send(account, pool.add(1, count, digest, b"", SALT))


async def challenge(market: Market, account: Address, of: int, left: int, count: int, corrected: int) -> None:
    """Commit to a challenge of a contribution and make it."""
    pool, digest = DataPool(market.deployment.data_pool), hashlib.sha256(b"challenge").digest()
    chain_id, round_ = market.deployment.chain_id, round_of(left, 0)
    bound = commitment(chain_id, pool.address, account, of, round_, digest, SALT)
    await market.send(account, pool.commit(bound))
    await market.send(account, pool.challenge(of, count, corrected, digest, b"", SALT))


async def test_a_pools_balances_are_what_accounts_really_won_and_lost(market: Market) -> None:
    owner, anna, boris, carl = market.accounts
    token, pool = MarketToken(market.deployment.token), DataPool(market.deployment.data_pool)
    panel = VotingPanel(market.deployment.voting_panel)
    (test_commitment,) = await market.chain.read(pool.test_commitment_of(TEST_SET, SALT))
    closes_at = (await market.chain.head()).timestamp + 100_000
    terms = Terms(
        document=hashlib.sha256(b"document").digest(),
        test_commitment=test_commitment,
        deposit=1001,
        reward=77,
        bond=5000,
        budget=10**18,
        check_window=3600,
        answer_window=3600,
        reveal_window=100_000,
        closes_at=closes_at,
        panel_size=3,
    )
    await market.send(owner, pool.open(terms))
    await add(market, anna, 5, b"anna")
    await add(market, boris, 4, b"boris")
    await challenge(market, carl, 1, 5, 2, 1)
    await market.send(owner, pool.answer(1, upheld=True))
    await challenge(market, carl, 2, 4, 3, 0)
    await market.send(owner, pool.answer(2, upheld=False))
    await market.send(carl, pool.contest(2))  # there are no voters: nobody is drawn, and nothing is decided
    await market.pass_time(1)
    await market.send(carl, panel.draw())
    await market.pass_time(3700)
    await market.send(carl, panel.close(1))
    await market.send(carl, pool.resolve(1))
    await market.send(carl, pool.resolve(2))
    await market.pass_time(3700)
    for contribution in (1, 2, 3):
        await market.send(anna, pool.settle(contribution))
    await market.send(owner, pool.stop(1))
    await market.pass_time(1)
    await market.send(owner, pool.close(1, TEST_SET, SALT))

    shown = await market.shown("/api/pools/1")
    assert shown["row"]["accepted"] == 3 + 1 + 1
    assert shown["row"]["pending"] == 0
    last = {curve["name"]: int(curve["points"][-1]["value"]) for curve in shown["balances"]}
    for account in market.accounts:
        held, credit = await market.chain.read(token.balance_of(account), pool.credit_of(account))
        assert last[account] == held + credit - BEGUN_WITH
    overview = await market.shown("/api/overview")
    (held_by_pool,) = await market.chain.read(token.balance_of(pool.address))
    assert {one["contract"]: int(one["amount"]) for one in overview["held"]}["DataPool"] == held_by_pool


async def test_a_resource_is_shown_with_the_document_that_its_owner_serves(market: Market) -> None:
    owner = market.accounts[1]
    metadata = Metadata(kind="data", name="flowers <b>", format="csv", size=10)
    digest = digest_of(await market.store.put_document(metadata.to_bytes()))
    params = ResourceParams(
        kind=Kind.DATA,
        price=5,
        previous=0,
        duration=0,
        uses=0,
        window=3600,
        restricted=True,
        metadata=digest,
        commitment=bytes(31) + b"\x01",
    )
    registry = Registry(market.deployment.registry)
    await market.send(owner, registry.register(params))
    await market.send(owner, registry.register(replace(params, metadata=hashlib.sha256(b"lost").digest())))
    shown = await market.shown("/api/resources/1")
    while shown["document"] == "wanted":  # the dashboard waits for it, a little at each question
        shown = await market.shown("/api/resources/1")
    assert (shown["row"]["owner"], shown["row"]["restricted"]) == (owner, True)
    assert shown["document"] == "read"
    assert shown["described"]["name"] == "flowers <b>"
    found = await market.shown("/api/resources?text=flowers")
    assert [row["id"] for row in found["rows"]] == [1]
    lost = await market.shown("/api/resources/2")
    assert lost["described"] is None
    assert lost["document"] in {"wanted", "absent"}


async def test_whoever_asks_for_its_health_learns_of_the_node_and_of_the_dashboard(market: Market) -> None:
    health = await market.shown("/api/health", lambda found: all(one["ready"] for one in found["checked"]))
    assert [one["name"] for one in health["checked"]] == ["node", "dashboard"]
    assert health["projection"]["behind"] == 0
