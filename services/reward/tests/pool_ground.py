"""A real chain with the contracts of data pools on it, and members whose nodes act on it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, cast

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from agorai_reward.handlers import ContributionProtocol, PoolProtocol, Sender
from agorai_shared import cid
from agorai_shared.bindings.data_pool import Added, Contribution, DataPool, Opened, Terms
from agorai_shared.bindings.market_token import MarketToken
from agorai_shared.bindings.registry import Registry
from agorai_shared.bindings.role import Role
from agorai_shared.bindings.voting_panel import Config, VotingPanel
from agorai_shared.chain import Chain, Finality, revert_error
from agorai_shared.contract import Call
from agorai_shared.deployment import NEEDED, Deployment
from agorai_shared.errors import RemoteError
from agorai_shared.market import Market
from agorai_shared.pool_files import PoolFiles
from agorai_shared.pool_trainer import (
    Checked,
    CheckSamples,
    Found,
    JudgeChallenge,
    Judged,
    Proposal,
)
from agorai_shared.reconciler import idempotency_key
from agorai_shared.rpc import Json, Rpc, RpcResponseError
from agorai_shared.testing import running_anvil
from agorai_shared.types import Address, Digest, Hash, Wei
from agorai_shared.vault import Outcome, TransactionState
from agorai_verifier.handlers import CaseProtocol
from agorai_verifier.pool_handlers import PoolProtocol as CheckProtocol
from agorai_verifier.pool_records import PoolRecords
from agorai_verifier.votes import Votes

R = TypeVar("R")

CHAIN_ID: Final = 31337
WEALTH: Final = 10_000
DEPOSIT, REWARD, BOND, BUDGET = 10, 3, 1_000, 500
SEAT_BONUS: Final = 2
PANEL_SIZE: Final = 3
BONUS: Final = PANEL_SIZE * SEAT_BONUS
CHECK_S, ANSWER_S, REVEAL_S, LIFE_S = 600, 300, 900, 100_000
PANEL = Config(
    seat_stake=10, seat_bonus=SEAT_BONUS, draw_window=600, commit_window=60, reveal_window=60, draw_delay=0
)
FLAGS: Final = ("--auto-impersonate", "--base-fee=0")
_GAS: Final = {"gas": hex(12_000_000), "gasPrice": "0x0"}


@dataclass
class Ground:
    """The chain as a test sees it."""

    rpc: Rpc
    deployment: Deployment
    names: itertools.count[int] = field(default_factory=itertools.count)

    @classmethod
    async def laid(cls, rpc: Rpc) -> Ground:
        issuer = _address("issuer")

        async def create(code: bytes) -> Address:
            receipt = await _mined(rpc, {"from": issuer, "data": "0x" + code.hex()})
            return Address(to_checksum_address(str(receipt["contractAddress"])))

        token = await create(MarketToken.deploy_data("Happy", "HAPY", issuer, 10**30))
        registry = await create(Registry.deploy_data())
        panel = await create(VotingPanel.deploy_data(token, registry, PANEL))
        pools = await create(DataPool.deploy_data(token, registry, panel))
        there = {"MarketToken": token, "Registry": registry, "VotingPanel": panel, "DataPool": pools}
        elsewhere = dict.fromkeys(NEEDED, _address("another contract"))
        return cls(rpc, Deployment(chain_id=CHAIN_ID, start_block=0, contracts=elsewhere | there))

    @property
    def chain(self) -> Chain:
        return Chain(self.rpc, Finality(0))

    @property
    def pools(self) -> DataPool:
        return DataPool(self.deployment.data_pool)

    @property
    def panel(self) -> VotingPanel:
        return VotingPanel(self.deployment.voting_panel)

    @property
    def token(self) -> MarketToken:
        return MarketToken(self.deployment.token)

    async def read(self, call: Call[R]) -> R:
        (found,) = await self.chain.read(call)
        return cast("R", found)

    async def send(self, by: Address, call: Call[Any]) -> dict[str, Json]:
        receipt = await _mined(self.rpc, {"from": by, "to": call.to, "data": "0x" + call.data.hex()})
        assert receipt["status"] == "0x1", call.function
        return receipt

    async def pass_to(self, moment: int) -> None:
        """Mine a block of this time, in seconds since 1970."""
        await self.rpc.request("evm_setNextBlockTimestamp", moment)
        await self.rpc.request("evm_mine")

    async def contribution(self, id_: int) -> Contribution:
        return await self.read(self.pools.contribution_of(id_))

    async def owned(self, account: Address) -> int:
        """Count an account's tokens, those that are credited to it among them."""
        return await self.read(self.token.balance_of(account)) + await self.read(
            self.pools.credit_of(account)
        )

    async def member(self, name: str, folder: Path, tokens: int = WEALTH) -> Member:
        """Let somebody join who has tokens and a node; no two are the same."""
        me = _address(f"{name} {next(self.names)}")
        await self.send(_address("issuer"), self.token.issue(me, Wei(tokens)))
        registry = Registry(self.deployment.registry)
        await self.send(
            me, registry.join(Role.DATA_PROVIDER, Digest(bytes(31) + b"1"), Digest(bytes(31) + b"1"), "")
        )
        return Member(self, me, folder / name)


@dataclass
class Member:
    """A member, and the double of its vault and its trainer."""

    ground: Ground
    me: Address
    folder: Path
    trainer: Trainer = field(init=False)
    wallet: Wallet = field(init=False)

    def __post_init__(self) -> None:
        self.trainer, self.wallet = Trainer(), Wallet(self.ground, self.me)

    @property
    def files(self) -> PoolFiles:
        absent = cast("Any", None)
        return PoolFiles(Market(self.ground.chain, self.ground.deployment, absent, absent))

    async def send(self, call: Call[Any]) -> dict[str, Json]:
        return await self.ground.send(self.me, call)

    async def open(self, **terms: Any) -> int:
        """Open a pool."""
        await self.send(self.ground.token.approve(self.ground.pools.address, Wei(10**12)))
        head = await self.ground.chain.head()
        opened = Terms(
            document=b"\1" * 32, test_commitment=b"\2" * 32, deposit=DEPOSIT, reward=REWARD, bond=BOND,
            budget=BUDGET, check_window=CHECK_S, answer_window=ANSWER_S, reveal_window=REVEAL_S,
            closes_at=head.timestamp + LIFE_S, panel_size=PANEL_SIZE,
        )  # fmt: skip
        receipt = await self.send(self.ground.pools.open(replace(opened, **terms)))
        return int(self._event(receipt, Opened).id)

    async def add(self, pool: int, count: int = 4) -> int:
        """Add samples."""
        await self.send(self.ground.token.approve(self.ground.pools.address, Wei(10**12)))
        data = f"{count} samples of {self.me}".encode()
        digest, salt = cid.sha256(data), b"\3" * 32
        commitment = await self.ground.read(self.ground.pools.commitment_of(self.me, pool, 0, digest, salt))
        await self.send(self.ground.pools.commit(commitment))
        receipt = await self.send(self.ground.pools.add(pool, count, digest, data, salt))
        return int(self._event(receipt, Added).id)

    async def challenge(self, contribution: int, count: int) -> None:
        """Challenge by hand."""
        await self.send(self.ground.token.approve(self.ground.pools.address, Wei(10**12)))
        data = f"{count} of {contribution} are wrong, says {self.me}".encode()
        digest, salt = cid.sha256(data), b"\4" * 32
        pools = self.ground.pools
        round_ = await self.ground.read(pools.round_of(contribution))
        commitment = await self.ground.read(pools.commitment_of(self.me, contribution, round_, digest, salt))
        await self.send(pools.commit(commitment))
        await self.send(pools.challenge(contribution, count, 0, digest, data, salt))

    @staticmethod
    def _event(receipt: dict[str, Json], kind: Any) -> Any:
        logs = cast("list[dict[str, Any]]", receipt["logs"])
        (entry,) = [one for one in logs if one["topics"][0] == kind.ABI.topic0]
        return kind.from_args(kind.ABI.decode(entry["topics"], entry["data"]))

    # ------------------------------------------------------------------------------------------ its node

    def records(self) -> PoolRecords:
        return PoolRecords(self.folder, CHAIN_ID, self.ground.pools.address)

    def checking(self, records: PoolRecords, *, stake_on_own: bool = True) -> CheckProtocol:
        """Its verifier, from a start on."""
        return CheckProtocol(
            self.files, self.me, cast("Any", self.wallet), cast("Any", self.trainer), records, stake_on_own
        )

    def voting(self, votes: Votes) -> CaseProtocol:
        """Its verifier's part as a voter."""
        absent = cast("Any", None)
        return CaseProtocol(
            self.files.market, self.ground.panel, absent, self.me, cast("Any", self.wallet), absent, votes,
            self.ground.pools.address, cast("Any", self.trainer), absent, absent, absent,
        )  # fmt: skip

    @property
    def settling(self) -> ContributionProtocol:
        """Its reward service, about contributions."""
        return ContributionProtocol(self.files, self.me, self._sender)

    @property
    def sharing(self) -> PoolProtocol:
        """Its reward service, about pools."""
        return PoolProtocol(self.files, self.me, self._sender)

    @property
    def _sender(self) -> Sender:
        return Sender(cast("Any", self.wallet), self.ground.panel)


class Wallet:
    """A vault that tries a call before it sends it, and sends it once."""

    def __init__(self, ground: Ground, me: Address) -> None:
        self.ground = ground
        self.me = me
        self.sent: dict[str, Outcome] = {}
        self.calls: list[str] = []

    async def send(self, once: str, call: Call[Any]) -> Outcome:
        if once not in self.sent:
            transaction = {"from": self.me, "to": call.to, "data": "0x" + call.data.hex(), **_GAS}
            try:
                await self.ground.rpc.request("eth_call", cast("Json", transaction), "pending")
            except RpcResponseError as error:
                refused = revert_error(call, error)
                raise RemoteError(cast("dict[str, object]", refused.to_problem())) from error
            receipt = await self.ground.send(self.me, call)
            self.calls.append(call.function)
            self.sent[once] = Outcome(
                once=once, state=TransactionState.FINAL, transaction=Hash(str(receipt["transactionHash"])),
                block=int(str(receipt["blockNumber"]), 16), reason=None,
            )  # fmt: skip
        return self.sent[once]

    async def settled(self, once: str) -> Outcome:
        return self.sent[once]


class Trainer:
    """One that comes to what a test says."""

    def __init__(self) -> None:
        self.wrong: list[int] = []
        """Rows that are wrong in whatever is checked."""
        self.right = True
        """Whether challenges are."""
        self.fails: RemoteError | None = None
        self.hangs = False
        self.asked: list[CheckSamples | JudgeChallenge] = []

    async def check(self, command: CheckSamples) -> Checked:
        await self._come_to(command)
        document = f"rows {self.wrong} of {command.contribution}"
        proposal = Proposal(
            digest=cid.sha256(document.encode()).hex(), count=len(self.wrong), corrected=0, document=document
        )
        found = [Found(row=row, reason="label", explanation="it is", confidence=0.9) for row in self.wrong]
        return Checked(
            samples=4,
            suspected=len(found),
            suspicions=tuple(found),
            proposal=proposal if found and command.stake is not None else None,
        )

    async def judge(self, command: JudgeChallenge) -> Judged:
        await self._come_to(command)
        return Judged(right=self.right, explanation="so the rules say")

    async def _come_to(self, command: CheckSamples | JudgeChallenge) -> None:
        self.asked.append(command)
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails is not None:
            raise self.fails


class Reconciled(Protocol):
    """What the reconciler is given."""

    def read(self, key: int) -> Awaitable[Any]: ...
    def next_step(self, state: Any, now: int) -> Any: ...
    def perform(self, key: int, step: Any, once: str) -> Awaitable[bool]: ...


async def look(protocol: Reconciled, key: int, now: int | None = None) -> str | None:
    """Look at an item once, as the reconciler does at this time or that of the head; give the step that was taken."""
    state = await protocol.read(key)
    if now is None:
        now = (await cast("Any", protocol).market.chain.head()).timestamp
    step = protocol.next_step(state, now)
    if step is None:
        return None
    name = type(step).__name__
    await protocol.perform(key, step, idempotency_key(key, name, state))
    return name


async def run(protocol: Reconciled, key: int) -> list[str]:
    """Look until there is nothing to be done."""
    steps: list[str] = []
    while (step := await look(protocol, key)) is not None:
        steps.append(step)
        assert len(steps) < 10, steps
    return steps


@asynccontextmanager
async def laid_ground() -> AsyncGenerator[Ground]:
    async with running_anvil(chain_id=CHAIN_ID, arguments=FLAGS) as anvil, Rpc(anvil.url) as rpc:
        yield await Ground.laid(rpc)


def _address(name: str) -> Address:
    return Address(to_checksum_address(keccak(text=name)[:20]))


async def _mined(rpc: Rpc, transaction: dict[str, str]) -> dict[str, Json]:
    hash_ = await rpc.request("eth_sendTransaction", cast("Json", {**_GAS, **transaction}))
    async with asyncio.timeout(30):
        while (receipt := await rpc.request("eth_getTransactionReceipt", hash_)) is None:
            continue  # anvil mines right behind its answer
    return cast("dict[str, Json]", receipt)
