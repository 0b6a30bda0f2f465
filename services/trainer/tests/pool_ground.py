"""A real chain with the pool's contracts, its members, and the owner's node: a store and a vault in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import aiohttp
from eth_utils.address import to_checksum_address

from agorai_shared import cid as cids
from agorai_shared import unixfs
from agorai_shared.bindings.data_pool import DataPool, Pool, Published, Terms
from agorai_shared.bindings.market_token import MarketToken
from agorai_shared.bindings.registry import Registry
from agorai_shared.bindings.voting_panel import Config, VotingPanel
from agorai_shared.chain import Chain, Finality
from agorai_shared.content import ContentNotFoundError
from agorai_shared.contract import Call
from agorai_shared.deployment import NEEDED, Deployment
from agorai_shared.errors import RemoteError
from agorai_shared.market import Market
from agorai_shared.pool import Challenge, PoolDocument, Samples, write_samples
from agorai_shared.pool_files import PoolFiles
from agorai_shared.rpc import Json, Rpc, RpcResponseError
from agorai_shared.types import Address, Cid, Hash
from agorai_shared.unixfs import FileTooLargeError
from agorai_shared.vault import Outcome, TransactionState
from agorai_trainer.pooling.reading import PoolReader
from agorai_trainer.pooling.sandboxed import PoolSandbox
from agorai_trainer.pooling.store import PoolStore
from agorai_trainer.sandbox import Sandbox

PANEL = Config(seat_stake=10, seat_bonus=0, draw_window=600, commit_window=60, reveal_window=60, draw_delay=0)
NOWHERE = "http://127.0.0.1:1"
SALT = b"\x01" * 32
WINDOW = 60


class Store:
    """A content store in memory."""

    def __init__(self) -> None:
        self.files: dict[Cid, bytes] = {}
        self.names: dict[Cid, str] = {}
        """Of what is pinned."""
        self.puts: Counter[Cid] = Counter()

    async def put(self, content: bytes, *, pin: bool = True, name: str = "") -> Cid:
        cid = unixfs.cid_of(content)
        self.files[cid] = content
        self.puts[cid] += 1
        if pin:
            self.names[cid] = name
        return cid

    async def get(self, cid: Cid, *, max_size: int) -> AsyncIterator[bytes]:
        digest = cids.digest_of(cid)  # by which stores find blocks, whatever name they are asked by
        found = next((data for name, data in self.files.items() if cids.digest_of(name) == digest), None)
        if found is None:
            raise ContentNotFoundError(cid, "memory")
        if len(found) > max_size:
            raise FileTooLargeError(len(found), max_size)
        yield found

    async def get_document(self, cid: Cid) -> bytes:
        return b"".join(
            [piece async for piece in cast("AsyncIterable[bytes]", self.get(cid, max_size=1 << 20))]
        )

    def of(self, digest: bytes) -> bytes:
        return self.files[cids.of_digest(digest)]


@dataclass
class VaultDouble:
    """Sends from an account of anvil's, once for each key; knows what is sealed."""

    rpc: Rpc
    account: Address
    sealed: dict[Cid, bytes] = field(default_factory=dict)
    sent: dict[str, Outcome] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    """Functions of the transactions that were really sent, in order."""

    async def own(self, cid: Cid, limit: int) -> bytes:
        if cid not in self.sealed:
            raise RemoteError({"title": "content_not_owned", "detail": "No key."})
        return self.sealed[cid]

    async def send(self, once: str, call: Call[Any]) -> Outcome:
        if once not in self.sent:
            try:
                await self.rpc.request(
                    "eth_estimateGas",
                    {"from": self.account, "to": call.to, "data": "0x" + call.data.hex()},
                )
            except RpcResponseError as error:
                raise RemoteError({"title": "contract_revert", "detail": str(error)}) from error
            receipt = await send(self.rpc, self.account, call)
            self.calls.append(call.function)
            self.sent[once] = Outcome(
                once=once,
                state=TransactionState.FINAL,
                transaction=Hash(str(receipt["transactionHash"])),
                block=1,
                reason=None,
            )
        return self.sent[once]


@dataclass
class Ground:
    """The chain and who is there: the owner of a pool, who adds and who challenges."""

    rpc: Rpc
    deployment: Deployment
    owner: Address
    adder: Address
    checker: Address
    session: aiohttp.ClientSession

    @property
    def contract(self) -> DataPool:
        return DataPool(self.deployment.data_pool)

    @classmethod
    async def laid(cls, rpc: Rpc, session: aiohttp.ClientSession) -> Ground:
        accounts = [
            Address(to_checksum_address(one)) for one in cast("list[str]", await rpc.request("eth_accounts"))
        ]

        async def create(code: bytes) -> Address:
            order: dict[str, Json] = {"from": accounts[0], "data": "0x" + code.hex(), "gas": hex(8_000_000)}
            return Address(to_checksum_address(str((await _mined(rpc, order))["contractAddress"])))

        token = await create(MarketToken.deploy_data("Happy", "HAPY", accounts[0], 10**30))
        registry = await create(Registry.deploy_data())
        panel = await create(VotingPanel.deploy_data(token, registry, PANEL))
        contracts = dict.fromkeys(NEEDED, registry) | {
            "MarketToken": token,
            "VotingPanel": panel,
            "DataPool": await create(DataPool.deploy_data(token, registry, panel)),
        }
        deployment = Deployment(chain_id=31337, start_block=0, contracts=contracts)
        ground = cls(rpc, deployment, accounts[0], accounts[1], accounts[2], session)
        for account in accounts[:3]:
            await ground.send(accounts[0], MarketToken(token).issue(account, 10**6))
            await ground.send(account, MarketToken(token).approve(deployment.data_pool, 10**6))
            await ground.send(account, Registry(registry).join(1, bytes(32), b"\x07" * 32, NOWHERE))
        return ground

    async def send(self, sender: Address, call: Call[Any]) -> None:
        receipt = await send(self.rpc, sender, call)
        assert receipt["status"] == "0x1", call

    async def pass_time(self, seconds: int) -> None:
        await self.rpc.request("evm_increaseTime", seconds)
        await self.rpc.request("evm_mine")

    async def now(self) -> int:
        return (await Chain(self.rpc, Finality(0)).head()).timestamp

    async def open(self, document: PoolDocument, commitment: bytes, owner: Address | None = None) -> int:
        terms = Terms(
            document=cids.digest_of(cids.of_raw(document.to_bytes())),
            test_commitment=commitment,
            deposit=10,
            reward=1,
            bond=100,
            budget=10_000,
            check_window=WINDOW,
            answer_window=WINDOW,
            reveal_window=1000,
            closes_at=await self.now() + 3600,
            panel_size=3,
        )
        await self.send(owner or self.owner, self.contract.open(terms))
        pools, _, _ = await self.counts()
        return pools

    async def counts(self) -> tuple[int, int, int]:
        (counts,) = await Chain(self.rpc, Finality(0)).read(self.contract.counts())
        return cast("tuple[int, int, int]", counts)

    async def pool(self, pool: int) -> Pool:
        (found,) = await Chain(self.rpc, Finality(0)).read(self.contract.pool_of(pool))
        return cast("Pool", found)

    async def add(self, pool: int, count: int, data: bytes, *, inline: bool = False) -> int:
        digest = cids.digest_of(unixfs.cid_of(data))
        await self._bound(self.adder, pool, False, digest)
        samples = data if inline else b""
        await self.send(self.adder, self.contract.add(pool, count, digest, samples, SALT))
        return (await self.counts())[1]

    async def challenge(
        self,
        contribution: int,
        document: bytes,
        corrected: int = 0,
        *,
        inline: bool,
        count: int | None = None,
    ) -> None:
        digest = cids.digest_of(unixfs.cid_of(document))
        count = count or len(Challenge.from_bytes(document).wrong)
        await self._bound(self.checker, contribution, True, digest)
        shown = document if inline else b""
        call = self.contract.challenge(contribution, count, corrected, digest, shown, SALT)
        await self.send(self.checker, call)

    async def _bound(self, account: Address, item: int, challenges: bool, digest: bytes) -> None:
        chain = Chain(self.rpc, Finality(0))
        (round_,) = await chain.read(self.contract.round_of(item)) if challenges else (0,)
        (commitment,) = await chain.read(self.contract.commitment_of(account, item, round_, digest, SALT))
        await self.send(account, self.contract.commit(commitment))

    async def settle(self, *contributions: int) -> None:
        await self.pass_time(WINDOW + 1)
        for contribution in contributions:
            await self.send(self.adder, self.contract.settle(contribution))

    async def published(self) -> list[Published]:
        chain = Chain(self.rpc, Finality(0))
        logs = await chain.logs(self.contract.address, [Published.ABI.topic0])
        return [Published.from_args(Published.ABI.decode(one["topics"], one["data"])) for one in logs]


@dataclass
class Node:
    """One member's trainer, its store and its vault."""

    ground: Ground
    address: Address
    folder: Path
    sandbox: Sandbox
    store: Store = field(default_factory=Store)

    def __post_init__(self) -> None:
        self.vault = VaultDouble(self.ground.rpc, self.address)
        self.restart()

    def restart(self) -> None:
        chain = Chain(self.ground.rpc, Finality(0))
        market = Market(chain, self.ground.deployment, cast("Any", self.store), self.ground.session)
        self.kept = PoolStore(self.folder, 31337, self.ground.deployment.data_pool)
        self.reader = PoolReader(self.address, PoolFiles(market), cast("Any", self.vault), self.kept)
        self.jobs = PoolSandbox(self.sandbox)

    async def described(self, document: PoolDocument, initial: Samples) -> PoolDocument:
        """Put a pool's description and initial samples into the store."""
        file = await self.store.put(write_samples(document, initial))
        described = document.model_copy(update={"initial_samples": file})
        await self.store.put(described.to_bytes())
        return described

    def seal(self, data: bytes) -> Cid:
        cid = cids.of_raw(b"sealed " + data)
        self.vault.sealed[cid] = data
        return cid


async def send(rpc: Rpc, sender: Address, call: Call[Any]) -> dict[str, Json]:
    order: dict[str, Json] = {
        "from": sender,
        "to": call.to,
        "data": "0x" + call.data.hex(),
        "gas": hex(3_000_000),
    }
    return await _mined(rpc, order)


async def _mined(rpc: Rpc, order: dict[str, Json]) -> dict[str, Json]:
    hash_ = await rpc.request("eth_sendTransaction", order)
    async with asyncio.timeout(30):
        while (receipt := await rpc.request("eth_getTransactionReceipt", hash_)) is None:
            continue  # anvil mines right behind its answer
    return cast("dict[str, Json]", receipt)
