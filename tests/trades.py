"""What tests of trades are made of: data, a model on offer, terms, and the steps of those who deal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from sklearn.datasets import load_breast_cancer

from agorai.client import Client
from agorai.demo.town import Town
from agorai.devchain import PANEL, TOKEN
from agorai_shared import cid as cids
from agorai_shared.bindings.fair_exchange import (
    Conduct,
    FairExchange,
    Kind,
    Mode,
    Opened,
    State,
    Terms,
    Trade,
)
from agorai_shared.bindings.market_token import MarketToken
from agorai_shared.bindings.voting_panel import Voter, VotingPanel
from agorai_shared.documents import Column, Metadata
from agorai_shared.negotiation import Limits, Listing
from agorai_shared.package import MAX_PACKAGE_SIZE, Package, read
from agorai_shared.types import Address, Cid, ResourceId, TradeId, Wei
from agorai_trainer.messages import Offer
from agorai_trainer.tasks import TrainingTask

PRICE = 100 * TOKEN
VOTERS = ("anna", "boris", "clara")
TASK = TrainingTask(estimator="sklearn.LogisticRegression", scaler="standard", target="target", seed=3)
LIMIT_S = 60
"""Each of a trade's limits, unless a test wants another."""
SETTLED_S = 60
LAST_BLOCK = 2**40 - 1
"""For the sides' keys: those of the block in which the trade is opened."""


def csv(first: int, last: int, *, upside_down: bool = False) -> bytes:
    """Give some rows of the breast cancer data as CSV; upside down, each is of the other class."""
    data = load_breast_cancer()
    table = np.column_stack([data.data, data.target != upside_down])[first:last]
    header = ",".join([f"f{n}" for n in range(data.data.shape[1])] + ["target"])
    rows = [",".join([*(repr(float(v)) for v in row[:-1]), str(int(row[-1]))]) for row in table]
    return "\n".join([header, *rows]).encode() + b"\n"


async def enlist(client: Client, seats: int = 1) -> None:
    deployment = client.market.deployment
    panel = deployment.voting_panel
    await client.transact(MarketToken(deployment.token).approve(panel, Wei(2**255)))
    await client.transact(VotingPanel(panel).enlist(seats))


async def model_of(client: Client, table: bytes | None = None) -> ResourceId:
    """Train a model on data of one's own, and give the resource that it is offered as."""
    table = table or csv(0, 400)
    columns = tuple(Column(name=f"f{n}", type="float") for n in range(30))
    metadata = Metadata(
        kind="data", name="cells", format="csv", size=len(table), columns=columns, rows=400, target="target",
        task="classification",
    )  # fmt: skip
    data = await client.publish(table, metadata, Offer(name="cells", price=0))
    bought = await client.buy(data)
    job = await client.train(bought.invocation, TASK, Offer(name="benign or not", price=TOKEN))
    assert job.resource is not None
    return ResourceId(job.resource)


async def listed(client: Client, resource: int, accuracy: int = 9_200) -> None:
    """List a model for trades, with test data that nobody has seen."""
    test = await client.vault.put(csv(400, 500))
    await client.vault.list_resource(
        resource,
        Listing(
            resource=resource,
            price=PRICE,
            least=PRICE,
            limits=Limits(t0=LIMIT_S, t1=LIMIT_S, t2=LIMIT_S, t3=LIMIT_S, tb=LIMIT_S),
            panel_size=3,
            accuracy=accuracy,
            test=test.cid,
        ),
    )


def terms(
    seller: Client,
    buyer: Client,
    resource: int,
    verification: Cid,
    accuracy: int = 9_200,
    limit_s: int = LIMIT_S,
) -> Terms:
    return Terms(
        kind=Kind.SALE, mode=Mode.DIRECT, seller=seller.address, buyer=buyer.address, seller_resource=resource,
        buyer_resource=0, price=Wei(PRICE), seller_deposit=PRICE, buyer_deposit=PRICE, t0=limit_s, t1=limit_s,
        t2=limit_s, t3=limit_s, tb=limit_s, seller_accuracy=accuracy, buyer_accuracy=0, panel_size=3,
        seller_verification=cids.digest_of(verification), buyer_verification=bytes(32),
        keys_at=LAST_BLOCK,
    )  # fmt: skip


async def allow(client: Client) -> None:
    """Let the exchange take what the account itself tells it to."""
    deployment = client.market.deployment
    await client.transact(MarketToken(deployment.token).approve(deployment.fair_exchange, Wei(2**255)))


async def opened(seller: Client, agreed: Terms) -> TradeId:
    await allow(seller)
    transaction = await seller.transact(exchange_of(seller).open(agreed))
    return TradeId((await seller.market.emitted(transaction, Opened)).id)


async def until(client: Client, trade: TradeId, holds: Callable[[Trade], bool]) -> Trade:
    """Wait until something holds of a trade."""
    async with asyncio.timeout(SETTLED_S):
        while True:
            (found,) = await client.market.chain.read(exchange_of(client).trade(trade))
            if holds(found):
                return cast("Trade", found)
            await asyncio.sleep(0.05)


async def reached(client: Client, trade: TradeId, state: State) -> Trade:
    """Wait until a trade is in a state, or past it."""
    return await until(client, trade, lambda found: found.state >= state)


async def ended(client: Client, trade: TradeId) -> Trade:
    return await reached(client, trade, State.ENDED)


async def pass_time(client: Client, seconds: int = LIMIT_S + 1) -> None:
    """Let time pass on the chain: as much as every offer is good for, if not told otherwise."""
    await client.chain.rpc.request("evm_increaseTime", seconds)
    await client.chain.rpc.request("evm_mine")


async def pass_until(client: Client, moment: int) -> None:
    """Have the chain's next block at a moment, in seconds since 1970, unless that is over."""
    if moment > (await client.chain.head()).timestamp:
        await client.chain.rpc.request("evm_setNextBlockTimestamp", moment)
        await client.chain.rpc.request("evm_mine")


@dataclass(frozen=True)
class Standing:
    """How an account stands: what it owns, in the token's smallest unit, and how many faults are on record."""

    tokens: int
    faults: int


async def standings(client: Client, accounts: Mapping[str, Address]) -> dict[str, Standing]:
    """Give how each account stands; its own are the tokens it holds, those credited to it, and its staked seats."""
    deployment = client.market.deployment
    token, exchange = MarketToken(deployment.token), exchange_of(client)
    panel = VotingPanel(deployment.voting_panel)
    found = {}
    for name, account in accounts.items():
        held, sales, votes, voter, conduct = cast(
            "tuple[int, int, int, Voter, Conduct]",
            await client.market.chain.read(
                token.balance_of(account),
                exchange.credit_of(account),
                panel.credit_of(account),
                panel.voter_of(account),
                exchange.conduct_of(account),
            ),
        )
        staked = (voter.free + voter.taken) * PANEL.seat_stake
        found[name] = Standing(held + sales + votes + staked, conduct.faults)
    return found


async def settled(town: Town, before: Mapping[str, int]) -> dict[str, int]:
    """Have everyone take out what is credited, and give what each has gained."""
    change = {}
    for name, client in town.clients.items():
        contracts: tuple[Any, ...] = exchange_of(client), VotingPanel(client.market.deployment.voting_panel)
        for contract in contracts:
            (credit,) = await client.market.chain.read(contract.credit_of(client.address))
            if credit:
                await client.transact(contract.withdraw())
        change[name] = (await client.balances()).tokens - before[name]
    return change


def exchange_of(client: Client) -> FairExchange:
    return FairExchange(client.market.deployment.fair_exchange)


async def package_of(client: Client, trade: TradeId) -> Package:
    """Read the package that a node was handed, as its owner may."""
    return read(await client.vault.package(f"/vault/trades/{trade}/package", MAX_PACKAGE_SIZE))
