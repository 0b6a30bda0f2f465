"""Fair sale of a model between real nodes, with voters of their own (fair-sharing IV)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import cast

import aiohttp
import numpy as np
import pytest
import pytest_asyncio
from sklearn.datasets import load_breast_cancer

from agorai.client import Client
from agorai.demo.town import Resident, Town, running
from agorai.devchain import TOKEN
from agorai_shared import cid as cids
from agorai_shared.bindings.fair_exchange import (
    FairExchange,
    Kind,
    Mode,
    Opened,
    Outcome,
    State,
    Terms,
    Trade,
)
from agorai_shared.bindings.market_token import MarketToken
from agorai_shared.bindings.voting_panel import VotingPanel
from agorai_shared.documents import Column, Metadata
from agorai_shared.negotiation import Limits, Listing
from agorai_shared.package import Package, read
from agorai_shared.types import Cid, ResourceId, TradeId, Wei
from agorai_trainer.messages import Offer
from agorai_trainer.tasks import TrainingTask

pytestmark = pytest.mark.asyncio(loop_scope="module")

PRICE = 100 * TOKEN
VOTERS = ("anna", "boris", "clara")
TASK = TrainingTask(estimator="sklearn.LogisticRegression", scaler="standard", target="target", seed=3)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town() -> AsyncGenerator[Town]:
    residents = [Resident("alice", 1000), Resident("bob", 1000), *(Resident(name, 100) for name in VOTERS)]
    async with running(residents) as started:
        for name in VOTERS:
            await enlist(started.clients[name])
        yield started


def csv(first: int, last: int) -> bytes:
    """Give some rows of the breast cancer data as CSV."""
    data = load_breast_cancer()
    table = np.column_stack([data.data, data.target])[first:last]
    header = ",".join([f"f{n}" for n in range(data.data.shape[1])] + ["target"])
    rows = [",".join([*(repr(float(v)) for v in row[:-1]), str(int(row[-1]))]) for row in table]
    return "\n".join([header, *rows]).encode() + b"\n"


async def enlist(client: Client) -> None:
    deployment = client.market.deployment
    panel = deployment.voting_panel
    await client.transact(MarketToken(deployment.token).approve(panel, Wei(2**255)))
    await client.transact(VotingPanel(panel).enlist(1))


async def model_of(client: Client) -> ResourceId:
    """Train a model on data of one's own, and give the resource that it is offered as."""
    table = csv(0, 400)
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
            limits=Limits(t0=60, t1=60, t2=60, t3=60, tb=60),
            panel_size=3,
            accuracy=accuracy,
            test=test.cid,
        ),
    )


def terms(seller: Client, buyer: Client, resource: int, verification: Cid, accuracy: int = 9_200) -> Terms:
    return Terms(
        kind=Kind.SALE, mode=Mode.DIRECT, seller=seller.address, buyer=buyer.address, seller_resource=resource,
        buyer_resource=0, price=Wei(PRICE), seller_deposit=PRICE, buyer_deposit=PRICE, t0=60, t1=60, t2=60, t3=60,
        tb=60, seller_accuracy=accuracy, buyer_accuracy=0, panel_size=3,
        seller_verification=cids.digest_of(verification), buyer_verification=bytes(32),
    )  # fmt: skip


async def opened(seller: Client, agreed: Terms) -> TradeId:
    exchange = FairExchange(seller.market.deployment.fair_exchange)
    await seller.transact(MarketToken(seller.market.deployment.token).approve(exchange.address, Wei(2**255)))
    transaction = await seller.transact(exchange.open(agreed))
    return TradeId((await seller.market.emitted(transaction, Opened)).id)


async def ended(client: Client, trade: TradeId) -> Trade:
    exchange = FairExchange(client.market.deployment.fair_exchange)
    async with asyncio.timeout(60):
        while True:
            (found,) = await client.market.chain.read(exchange.trade(trade))
            if found.state == State.ENDED:
                return cast("Trade", found)
            await asyncio.sleep(0.05)


async def pass_time(client: Client) -> None:
    """Let the time of every offer pass."""
    await client.chain.rpc.request("evm_increaseTime", 61)
    await client.chain.rpc.request("evm_mine")


async def settled(town: Town, before: Mapping[str, int]) -> dict[str, int]:
    """Have everyone take out what is credited, and give what each has gained."""
    change = {}
    for name, client in town.clients.items():
        deployment = client.market.deployment
        for contract in (FairExchange(deployment.fair_exchange), VotingPanel(deployment.voting_panel)):
            (credit,) = await client.market.chain.read(contract.credit_of(client.address))
            if credit:
                await client.transact(contract.withdraw())
        change[name] = (await client.balances()).tokens - before[name]
    return change


async def test_an_honest_sale_is_completed_and_everyone_has_what_is_due(town: Town) -> None:
    alice, bob = town.clients["alice"], town.clients["bob"]
    model = await model_of(alice)
    await listed(alice, model)
    verification = await bob.store.put_document(csv(500, 569))
    before = {name: (await client.balances()).tokens for name, client in town.clients.items()}

    trade = await opened(alice, terms(alice, bob, model, verification))
    await bob.vault.agree(trade)
    found = await ended(bob, trade)

    assert found.outcome == Outcome.COMPLETED
    change = {name: amount // TOKEN for name, amount in (await settled(town, before)).items()}
    assert change == {"alice": 100, "bob": -100, "anna": 0, "boris": 0, "clara": 0}
    # what was agreed once is good for one trade: the same terms again are not joined
    again = await opened(alice, terms(alice, bob, model, verification))
    assert not (await bob.vault.trade(again)).agreed
    await pass_time(alice)
    assert (await ended(alice, again)).outcome == Outcome.WITHDRAWN
    status = await bob.vault.trade(trade)
    assert status.model == "good"


async def test_a_model_below_its_promise_is_voted_down(town: Town) -> None:
    alice, bob = town.clients["alice"], town.clients["bob"]
    model = await model_of(alice)
    await listed(alice, model, 10_000)
    verification = await bob.store.put_document(csv(400, 569))
    before = {name: (await client.balances()).tokens for name, client in town.clients.items()}

    trade = await opened(alice, terms(alice, bob, model, verification, 10_000))
    await bob.vault.agree(trade)
    found = await ended(bob, trade)

    assert found.outcome == Outcome.REJECTED
    status = await bob.vault.trade(trade)
    assert (status.key, status.address, status.model) == ("unseen", "good", "bad")
    assert "100.00% was promised" in status.why
    change = await settled(town, before)
    # the seller's deposit: a fifth of it to the voters, in equal shares, the rest to the buyer
    assert change["alice"] == -100 * TOKEN
    assert change["bob"] == 80 * TOKEN
    assert sum(change[name] for name in VOTERS) == 20 * TOKEN
    assert all(abs(change[name] - 20 * TOKEN // 3) <= 2 for name in VOTERS)


async def test_an_honest_swap_gives_each_the_others_model(town: Town) -> None:
    alice, bob = town.clients["alice"], town.clients["bob"]
    models = {client.address: await model_of(client) for client in (alice, bob)}
    for client in (alice, bob):
        await listed(client, models[client.address])
    chosen = {client.address: await client.store.put_document(csv(500, 569)) for client in (alice, bob)}
    before = {name: (await client.balances()).tokens for name, client in town.clients.items()}

    # each is judged on data that the other chose
    agreed = replace(
        terms(alice, bob, models[alice.address], chosen[bob.address]),
        kind=Kind.SWAP,
        buyer_resource=models[bob.address],
        buyer_accuracy=9_200,
        buyer_verification=cids.digest_of(chosen[alice.address]),
    )
    trade = await opened(alice, agreed)
    await bob.vault.agree(trade)
    found = await ended(bob, trade)

    assert found.outcome == Outcome.COMPLETED
    assert not any((await settled(town, before)).values())
    for client, other in ((alice, bob), (bob, alice)):
        status = await client.vault.trade(trade)
        assert (status.key, status.address, status.model) == ("good", "good", "good")
        package = await package_of(client, trade)
        assert package.manifest.resource == models[other.address]
        assert package.test.startswith(b"f0,")


async def package_of(client: Client, trade: TradeId) -> Package:
    """Read the package that a node was handed, as its owner may."""
    url = f"{client.info.vault_url}/vault/trades/{trade}/package"
    headers = {"Authorization": f"Bearer {client.info.token}"}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return read(await answer.read())


async def test_an_offer_that_is_not_taken_up_goes_back_and_is_nobodys_fault(town: Town) -> None:
    alice, bob = town.clients["alice"], town.clients["bob"]
    model = await model_of(alice)
    await listed(alice, model)
    verification = await bob.store.put_document(csv(500, 569))
    before = {name: (await client.balances()).tokens for name, client in town.clients.items()}

    trade = await opened(alice, terms(alice, bob, model, verification))
    await pass_time(alice)
    found = await ended(alice, trade)

    assert found.outcome == Outcome.WITHDRAWN
    assert not any((await settled(town, before)).values())
    exchange = FairExchange(alice.market.deployment.fair_exchange)
    for client in (alice, bob):
        (conduct,) = await alice.market.chain.read(exchange.conduct_of(client.address))
        assert conduct.streak == 0
