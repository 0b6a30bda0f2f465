"""Fair trade of models between real nodes that are all honest (fair-sharing IV)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest
import pytest_asyncio

from agorai.demo.town import Resident, Town, running
from agorai.devchain import TOKEN
from agorai_shared import cid as cids
from agorai_shared.bindings.fair_exchange import Kind, Outcome
from tests.trades import (
    VOTERS,
    csv,
    ended,
    enlist,
    exchange_of,
    listed,
    model_of,
    opened,
    package_of,
    pass_time,
    settled,
    terms,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town() -> AsyncGenerator[Town]:
    residents = [Resident("alice", 1000), Resident("bob", 1000), *(Resident(name, 100) for name in VOTERS)]
    async with running(residents) as started:
        for name in VOTERS:
            await enlist(started.clients[name])
        yield started


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
    for client in (alice, bob):
        (conduct,) = await alice.market.chain.read(exchange_of(alice).conduct_of(client.address))
        assert conduct.streak == 0


async def test_what_was_bought_is_still_there_when_its_seller_is_not(town: Town) -> None:
    alice, bob = town.clients["alice"], town.clients["bob"]
    model = await model_of(alice)
    await listed(alice, model)
    trade = await opened(alice, terms(alice, bob, model, await bob.store.put_document(csv(500, 569))))
    await bob.vault.agree(trade)
    assert (await ended(bob, trade)).outcome == Outcome.COMPLETED

    await town.stop("alice")
    assert (await package_of(bob, trade)).manifest.resource == model
