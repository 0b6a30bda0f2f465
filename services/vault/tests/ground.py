"""A real chain with the marketplace's contracts on it, and one account that sends from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address

from agorai_shared.bindings.data_pool import DataPool
from agorai_shared.bindings.data_transfer import DataTransfer
from agorai_shared.bindings.fair_exchange import FairExchange
from agorai_shared.bindings.invocation import Invocation
from agorai_shared.bindings.market_token import MarketToken
from agorai_shared.bindings.online_learner import OnlineLearner
from agorai_shared.bindings.registry import Registry
from agorai_shared.bindings.training_task import TrainingTask
from agorai_shared.bindings.voting_panel import Config, VotingPanel
from agorai_shared.chain import Chain, Finality
from agorai_shared.contract import Call
from agorai_shared.deployment import Deployment
from agorai_shared.processes import Running
from agorai_shared.rpc import Json, Rpc
from agorai_shared.types import Address
from agorai_shared.vault import TransactionState
from agorai_vault import database
from agorai_vault.account import AccountOnChain
from agorai_vault.outbox import Intent, Outbox

CHAIN_ID = 31337
TOKENS = 1_000_000
PATIENCE_S = 60.0
PANEL = Config(seat_stake=10, seat_bonus=0, draw_window=600, commit_window=60, reveal_window=60, draw_delay=0)
FRIEND = Address(to_checksum_address("0x" + "f0" * 20))


@dataclass
class Ground:
    """The chain as a test sees it: with an issuer whose key the node holds."""

    anvil: Running
    rpc: Rpc
    issuer: Address
    deployment: Deployment

    @property
    def token(self) -> MarketToken:
        return MarketToken(self.deployment.token)

    @classmethod
    async def laid(cls, anvil: Running, rpc: Rpc) -> Ground:
        issuer = Address(cast("list[str]", await rpc.request("eth_accounts"))[0])

        async def create(code: bytes) -> Address:
            receipt = await send(rpc, {"from": issuer, "data": "0x" + code.hex()})
            return Address(to_checksum_address(str(receipt["contractAddress"])))

        token = await create(MarketToken.deploy_data("Happy", "HAPY", issuer, 10**30))
        registry = await create(Registry.deploy_data())
        invocation = await create(Invocation.deploy_data(token, registry))
        panel = await create(VotingPanel.deploy_data(token, registry, PANEL))
        contracts = {
            "MarketToken": token,
            "Registry": registry,
            "Invocation": invocation,
            "VotingPanel": panel,
            "FairExchange": await create(FairExchange.deploy_data(token, registry, panel)),
            "DataPool": await create(DataPool.deploy_data(token, registry, panel)),
            "OnlineLearner": await create(OnlineLearner.deploy_data()),
            "TrainingTask": await create(TrainingTask.deploy_data(token, registry, panel)),
            "DataTransfer": await create(DataTransfer.deploy_data(panel)),
        }
        return cls(anvil, rpc, issuer, Deployment(chain_id=CHAIN_ID, start_block=0, contracts=contracts))

    async def fund(self, account: Address, tokens: int = TOKENS) -> None:
        await self.rpc.request("anvil_setBalance", account, hex(10**20))
        if tokens:
            await self.issuer_sends(self.token.issue(account, tokens))

    async def issuer_sends(self, call: Call[Any]) -> dict[str, Json]:
        return await send(self.rpc, {"from": self.issuer, "to": call.to, "data": "0x" + call.data.hex()})

    async def automine(self, on: bool) -> None:
        await self.rpc.request("evm_setAutomine", on)

    async def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            await self.rpc.request("evm_mine")

    async def nonce(self, account: Address) -> int:
        """Count the account's mined transactions."""
        return int(str(await self.rpc.request("eth_getTransactionCount", account, "latest")), 16)

    async def transfers(self, account: Address) -> list[int]:
        """Give the amounts of all transfers that left the account, in chain order."""
        logs = await Chain(self.rpc, Finality(0)).logs(
            self.token.address, [TRANSFER, "0x" + account[2:].lower().rjust(64, "0")], 0
        )
        return [int(entry["data"], 16) for entry in logs]


TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"


async def send(rpc: Rpc, transaction: dict[str, Json]) -> dict[str, Json]:
    hash_ = await rpc.request("eth_sendTransaction", {"gas": hex(8_000_000), **transaction})
    async with asyncio.timeout(PATIENCE_S):
        while (receipt := await rpc.request("eth_getTransactionReceipt", hash_)) is None:
            continue  # anvil mines right behind its answer
    return cast("dict[str, Json]", receipt)


class Sender:
    """One account, its outbox, and the folder that outlives it."""

    def __init__(self, ground: Ground, folder: Path, account: LocalAccount) -> None:
        self.ground = ground
        self.folder = folder
        self.account = account
        self.address = Address(account.address)
        self.sent: list[tuple[str, str]] = []
        """Step and transaction of what was told to be sent."""

    @classmethod
    async def funded(cls, ground: Ground, folder: Path, tokens: int = TOKENS) -> Sender:
        sender = cls(ground, folder, Account.create())
        await ground.fund(sender.address, tokens)
        return sender

    @asynccontextmanager
    async def outbox(
        self,
        *,
        confirmations: int | None = 0,
        stuck_after_s: float = 60,
        most_fee: int = 500 * 10**9,
        chain_id: int = CHAIN_ID,
        timeout_s: float = 10,
        watching: bool = True,
    ) -> AsyncIterator[Outbox]:
        """Run an outbox over the folder, as one life of a vault."""
        async with AsyncExitStack() as stack:
            rpc = await stack.enter_async_context(Rpc(self.ground.anvil.url, timeout_s=timeout_s))
            connection = database.connect(self.folder, self.address)
            stack.callback(connection.close)
            on_chain = AccountOnChain(Chain(rpc, Finality(confirmations)), self.address, chain_id)
            outbox = Outbox(
                connection,
                self.account,
                on_chain,
                lambda once, hash_: self.sent.append((once, hash_)),
                stuck_after_s=stuck_after_s,
                most_fee=most_fee,
            )
            if watching:
                await stack.enter_async_context(outbox.running())
            yield outbox

    def transfer(self, amount: int) -> Call[Any]:
        return self.ground.token.transfer(FRIEND, amount)


async def settled(outbox: Outbox, once: str, state: TransactionState = TransactionState.FINAL) -> Intent:
    """Wait for an intent to come to a state, whatever it was before."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            outbox.on_block()
            intent = await outbox.wait(once, state, 1)
            if intent is not None and intent.state == state:
                return intent
            ended = intent is not None and intent.outcome().settled
            assert not ended or state == TransactionState.MINED, intent
            await looked(outbox)


async def looked(outbox: Outbox) -> None:
    """Wait until the watcher has looked once more."""
    async with asyncio.timeout(PATIENCE_S), outbox._moved:
        outbox.on_block()
        await outbox._moved.wait()


async def until_attempts(outbox: Outbox, once: str, count: int) -> list[int]:
    """Wait until so many transactions were signed for an intent; give their fees."""
    query = "SELECT max_fee FROM attempt WHERE once = ? ORDER BY max_fee"
    while True:
        fees = [row[0] for row in outbox._database.execute(query, (once,))]
        if len(fees) >= count:
            return fees
        await looked(outbox)
