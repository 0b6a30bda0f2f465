"""Fair trade of models between real nodes that are all honest (fair-sharing IV); and transfers that voters judge."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest
import pytest_asyncio

from agorai.cli.data_transfer_shown import transfer_json
from agorai.client import Client
from agorai.demo.town import Resident, Town, running
from agorai.devchain import PANEL, TOKEN
from agorai.transfer_refusals import NotProvidableError, ProvidedFaultyError, shown
from agorai.transfer_state import voters_found
from agorai.transfers import read_id
from agorai.voting import Voting
from agorai_shared import cid as cids
from agorai_shared.bindings.data_transfer import Outcome as DataOutcome
from agorai_shared.bindings.fair_exchange import Kind, Outcome
from agorai_shared.bindings.voting_panel import Phase
from agorai_shared.envelopes import seal_to_members
from agorai_shared.jwe import public_key
from agorai_shared.sealing import is_sealed, new_content_key
from agorai_shared.types import Cid
from tests.trades import (
    SETTLED_S,
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
    pass_until,
    settled,
    terms,
)
from tests.transferring import FLOWERS, Transferring

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("wide")]


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


# ------------------------------------------------------------------------ transfers on which voters are to rule


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dealing(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Transferring:
    """Have Alice sell flowers to Bob, by the panel."""
    folder = tmp_path_factory.mktemp("homes")
    return await Transferring(folder, town, provider="alice", consumer="bob", by_panel=True).laid()


async def outcome(dealing: Transferring, transfer: int) -> DataOutcome:
    """Wait until the nodes of both sides have ended a transfer as its voters found."""
    async with asyncio.timeout(SETTLED_S):
        while True:
            found = (await dealing["bob"].look(transfer)).outcome
            if found is not None:
                return found
            await asyncio.sleep(0.05)


async def contested(dealing: Transferring, transfer: int) -> DataOutcome:
    """Have Bob want his money back, and voters rule."""
    bob = dealing["bob"]
    await bob.request_refund(transfer)
    await bob.contest(transfer)
    return await outcome(dealing, transfer)


async def test_voters_settle_a_transfer_whose_consumer_calls_good_data_bad(dealing: Transferring) -> None:
    terms = ("--amount", 2.5, "--authority", "panel", "--panel-size", 3, "--duration", "10m")
    found = await dealing.agorai("bob", "transfer", "init", dealing.flowers, *terms, "--yes")
    transfer, panel = found["transfer"], dealing["bob"].panel.address
    assert (found["authority"], found["panel_size"]) == (panel, 3)
    assert "longer than each wait" in await dealing.run("alice", "transfer", "provide", transfer, "--yes")
    refused = await dealing.refusal("bob", "contest", transfer)
    assert "not where this can be done: nothing was requested" in refused
    assert f"First its consumer does `agorai transfer request-refund {transfer}`" in refused
    asked = await dealing.agorai("bob", "transfer", "request-refund", transfer)
    assert asked["awaited"] == "anyone asks the panel, or the provider is paid"
    assert "Voters cost 0.003 tokens" in await dealing.refusal("bob", "contest", transfer)

    paid, before = await dealing.coin("alice"), (await dealing.town.clients["bob"].balances()).tokens
    told = await dealing.run("bob", "transfer", "contest", transfer, "--yes")
    assert "Voters are asked." in told
    id_ = read_id(transfer)
    assert await outcome(dealing, id_) == DataOutcome.SETTLED
    assert (await dealing.town.clients["bob"].balances()).tokens == before - 3 * PANEL.seat_bonus
    assert await dealing.coin("alice") > paid + 2 * TOKEN  # less what her node's calls cost
    assert "has ended" in await dealing.refusal("bob", "resolve", transfer)
    assert "has ended" in await dealing.refusal("bob", "contest", transfer)
    ended = await dealing.agorai("bob", "transfer", "show", transfer)
    assert (ended["state"], ended["voters_found"]) == ("settled", "for the provider")
    assert "for the provider" in await dealing.run("bob", "transfer", "show", transfer)
    votes = [await Voting(dealing.town.clients[name]).judging() for name in VOTERS]
    assert [one.cases[0].vote for one in votes] == [True] * 3
    assert votes[0].cases[0].contract == "DataTransfer"


async def test_a_provider_gives_nothing_that_voters_would_find_false(
    dealing: Transferring, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, transfer = dealing["alice"], await dealing.opened()
    rows = FLOWERS.read_bytes().splitlines(keepends=True)

    async def fewer(_client: object, _resource: int) -> bytes:
        return b"".join(rows[:-1])

    monkeypatch.setattr(Client, "content", fewer)
    with pytest.raises(NotProvidableError, match="voters would find"):
        await alice.provide(transfer, sandbox=dealing.town.sandbox)
    assert (await alice.look(transfer)).provided is None


async def test_voters_give_the_money_back_for_data_that_are_not_as_their_schema_says(
    dealing: Transferring,
) -> None:
    transfer, alice = await dealing.opened(), dealing["alice"]
    rows = b"".join(FLOWERS.read_bytes().splitlines(keepends=True)[:-1])
    await dealing.hand_over(transfer, await dealing.sealed(rows, alice._context(transfer), "bob", "alice"))
    before = await dealing.coin("bob")
    await alice.request_settle(transfer)
    await alice.contest(transfer)  # who asks is nothing to the voters
    assert await outcome(dealing, transfer) == DataOutcome.REFUNDED
    assert voters_found(await alice.look(transfer)) == "for the consumer"
    assert await dealing.coin("bob") > before + 2 * TOKEN


async def test_a_consumer_who_was_given_a_false_key_has_the_data_once_voters_have_settled(
    dealing: Transferring,
) -> None:
    transfer, alice, bob = await dealing.opened(), dealing["alice"], dealing["bob"]
    said, (actor,) = (
        alice._context(transfer),
        await bob.read(bob.client.market.registry.actor(bob.client.address)),
    )
    key = public_key(
        await bob.client.market.document(actor.encryption_key, actor.gateway), bob.client.address
    )
    true = await dealing.sealed(FLOWERS.read_bytes(), said, "alice")
    false = seal_to_members({bob.client.address: key}, new_content_key(), said, Cid(true.cid))
    await dealing.hand_over(transfer, true.model_copy(update={"to_members": (*true.to_members, *false)}))
    with pytest.raises(ProvidedFaultyError, match="does not open"):
        await bob.data(transfer)
    assert await contested(dealing, transfer) == DataOutcome.SETTLED
    kept = b"".join([piece async for piece in bob.client.store.get(Cid(true.cid))])
    assert is_sealed(kept)  # its provider, who is paid, may go away
    async with asyncio.timeout(SETTLED_S):
        while True:
            try:
                data = await bob.data(transfer)
                break
            except ProvidedFaultyError:  # no voter's message has come yet
                await asyncio.sleep(0.05)
    assert data == FLOWERS.read_bytes()


async def test_a_provider_who_serves_nothing_is_not_paid(dealing: Transferring) -> None:
    transfer, bob = await dealing.opened(), dealing["bob"]
    await dealing.hand_over_bytes(transfer, b"{}", cids.of_raw(b"nowhere"))
    await bob.request_refund(transfer)
    await bob.contest(transfer)
    assert "not come to a verdict" in await dealing.refusal("bob", "resolve", shown(transfer))
    async with asyncio.timeout(SETTLED_S):
        while True:
            seen = await bob.look(transfer)
            if seen.case is not None and seen.case.case.phase == Phase.COMMITTING:
                break
            await asyncio.sleep(0.05)
    waiting = transfer_json(seen, bob.client.address)
    assert waiting["awaited"] == f"voters judge it, in case {seen.state.panel_case}"
    assert waiting["until"] == seen.case.case.deadline
    await pass_until(bob.client, seen.case.case.deadline - PANEL.commit_window // 3 + 1)
    assert await outcome(dealing, transfer) == DataOutcome.REFUNDED


async def test_what_was_bought_is_still_there_when_its_seller_is_not(town: Town) -> None:
    alice, bob = town.clients["alice"], town.clients["bob"]
    model = await model_of(alice)
    await listed(alice, model)
    trade = await opened(alice, terms(alice, bob, model, await bob.store.put_document(csv(500, 569))))
    await bob.vault.agree(trade)
    assert (await ended(bob, trade)).outcome == Outcome.COMPLETED

    await town.stop("alice")
    assert (await package_of(bob, trade)).manifest.resource == model
