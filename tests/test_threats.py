"""One test for each threat of fair-sharing III-B, against running nodes, their chain, bus and stores.

In each: who has what before and after, to the last unit; whose fault is on record; and that the honest side keeps its
deposit and is never without both goods and money. What a cheater runs is in `rogue`.

"The contract is under attack" is left to the contracts' own tests, which have tokens and receivers that call back
(contracts/test/unit/*Reentrancy.t.sol) and invariants of the money held.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

import aiohttp
import orjson
import pytest
import pytest_asyncio
from nats.errors import Error as NatsError
from pydantic import JsonValue

from agorai.client import Client
from agorai.demo.town import Resident, Town, running
from agorai.devchain import PANEL, TOKEN
from agorai_shared import cid as cids
from agorai_shared import handover, jwe, peer_messages
from agorai_shared.bindings.fair_exchange import Outcome, State, Terms, Trade
from agorai_shared.bindings.fair_exchange import Step as OnChain
from agorai_shared.bindings.voting_panel import Phase, VotingPanel
from agorai_shared.command import subject
from agorai_shared.contract import Call
from agorai_shared.errors import RemoteError
from agorai_shared.handover import HandoverRefusedError, PackageAddress
from agorai_shared.negotiation import TOPIC, Negotiation
from agorai_shared.negotiation import State as Asking
from agorai_shared.peer_messages import MEDIA_TYPE, Message
from agorai_shared.sealing import new_content_key
from agorai_shared.types import Address, CaseId, Cid, Digest, ResourceId, TradeId
from agorai_shared.vault import AgreeTo, AskFor
from agorai_vault.trade.decide import Duty, Finding, GiveEvidence
from agorai_vault.trade.records import Found
from tests.rogue import Rogue, back_afterwards, content_of, found_at, intercepted, modified, shown
from tests.trades import (
    PRICE,
    VOTERS,
    allow,
    csv,
    ended,
    enlist,
    exchange_of,
    listed,
    model_of,
    opened,
    package_of,
    pass_until,
    reached,
    standings,
    terms,
    until,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

DAY_S = 86_400
BONUS = 20
"""Tokens for the voters of one dispute: a fifth of the smaller deposit, which is the price of 100."""
DEPOSIT = 100
LIMIT_S = 600
"""Far more than any step takes here: only the chain's clock, when a test moves it, ends one."""
NOBODY: Final = MappingProxyType[str, int]({})
NO_TEXT = bytes(range(256))
FOREIGN = r"none to the recipient's key|padding is malformed"
"""How a message that is sealed to another's key is refused."""


@dataclass(frozen=True)
class Market:
    """Honest alice and bob; mallory, paul and quinn, who run modified nodes; and three voters."""

    town: Town
    mallory: Rogue
    paul: Rogue
    quinn: Rogue
    accounts: Mapping[str, Address]
    model: ResourceId
    """Alice's, as she promises."""
    advertised: ResourceId
    """Mallory's, as she promises."""
    worthless: ResourceId
    """Mallory's, wrong about nearly every row."""
    another: ResourceId
    """Mallory's, as good as the one advertised."""
    verification: Cid

    def __getitem__(self, name: str) -> Client:
        return self.town.clients[name]

    def terms(self, seller: str, buyer: str, **changed: Any) -> Terms:
        resource = self.model if seller == "alice" else self.advertised
        agreed = terms(self[seller], self[buyer], resource, self.verification, limit_s=LIMIT_S)
        return replace(agreed, **changed)

    async def sold(self, seller: str, buyer: str, **changed: Any) -> TradeId:
        """Open a trade to which the buyer agrees."""
        trade = await opened(self[seller], self.terms(seller, buyer, **changed))
        await self[buyer].vault.agree(trade)
        return trade

    @asynccontextmanager
    async def reckoning(
        self, *, faults: Mapping[str, int] = NOBODY, voters: int = 0, **gains: int
    ) -> AsyncGenerator[None]:
        """See that meanwhile each gains or loses so many tokens, to the last unit, and who is at fault how often."""
        watch = self["alice"]
        before = await standings(watch, self.accounts)
        yield
        after = await standings(watch, self.accounts)
        changed = {name: after[name].tokens - before[name].tokens for name in before}
        shares = [changed.pop(name) for name in VOTERS]
        assert changed == {name: gains.get(name, 0) * TOKEN for name in changed}
        assert sum(shares) == voters * TOKEN
        assert max(shares) - min(shares) <= 2 * voters // BONUS  # what a division leaves, of each dispute
        guilty = {name: after[name].faults - before[name].faults for name in before}
        assert {name: count for name, count in guilty.items() if count} == dict(faults)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def market() -> AsyncGenerator[Market]:
    modified_nodes = ("mallory", "paul", "quinn")
    with modified(*modified_nodes) as rogues:
        names = ("alice", "bob", *modified_nodes, *VOTERS)
        async with running([Resident(name, 10_000) for name in names]) as town:
            alice, mallory = town.clients["alice"], town.clients["mallory"]
            for name in VOTERS:
                await enlist(town.clients[name], 10)
            model, advertised = await asyncio.gather(model_of(alice), model_of(mallory))
            worthless = await model_of(mallory, csv(0, 400, upside_down=True))
            another = await model_of(mallory, csv(0, 300))
            await listed(alice, model)
            for resource in (advertised, worthless, another):
                await listed(mallory, resource)
            for name in ("bob", *modified_nodes):  # who buy, and are to serve them
                verification = await town.clients[name].store.put_document(csv(500, 569))
            accounts = {name: client.address for name, client in town.clients.items()}
            yield Market(
                town=town,
                mallory=rogues["mallory"],
                paul=rogues["paul"],
                quinn=rogues["quinn"],
                accounts=accounts,
                model=model,
                advertised=advertised,
                worthless=worthless,
                another=another,
                verification=verification,
            )


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def mallory_is_let_in(market: Market) -> None:
    """Have it be a day later if the contract keeps mallory out, who was caught too often."""
    (conduct,) = await market["alice"].chain.read(exchange_of(market["alice"]).conduct_of(market.mallory.me))
    await pass_until(market["alice"], conduct.blocked_until + 1)


async def quarter_begins(client: Client, trade: TradeId, state: State, quarter: int) -> None:
    """Wait until a trade is in a state, and have a quarter of its time for that begin, counted from 1."""
    found = await reached(client, trade, state)
    await pass_until(client, found.deadline - LIMIT_S * (5 - quarter) // 4 + 1)


async def patience_ends(client: Client, trade: TradeId) -> None:
    """Wait for the inspection, and have its last quarter begin, in which what cannot be had is disputed."""
    await quarter_begins(client, trade, State.INSPECTING, 4)


async def voters_wait_no_more(client: Client, trade: TradeId) -> None:
    """Wait for a dispute's voters to be drawn, and have the time end in which they wait for what is missing."""
    panel = VotingPanel(client.market.deployment.voting_panel)
    found = await reached(client, trade, State.DISPUTED)
    async with asyncio.timeout(30):
        while True:
            (case,) = await client.chain.read(panel.case_of(CaseId(found.dispute)))
            if case.phase != Phase.DRAWING:
                break
            await asyncio.sleep(0.05)
    await pass_until(client, case.deadline - PANEL.commit_window // 3 + 1)


async def lapses(client: Client, trade: TradeId) -> Trade:
    """Have the present limit of a trade pass, and give how it ended."""
    (found,) = await client.chain.read(exchange_of(client).trade(trade))
    await pass_until(client, found.deadline + 1)
    return await ended(client, trade)


async def outcomes(client: Client, *trades: TradeId) -> list[Outcome]:
    return [(await ended(client, trade)).outcome for trade in trades]


async def has_no_package(client: Client, trade: TradeId) -> bool:
    """Say whether a node refuses to open the package of a trade, even to its owner."""
    with pytest.raises(RemoteError) as answer:
        await client.vault.package(f"/vault/trades/{trade}/package", 1 << 30)
    return answer.value.code == "package_not_held"


# ------------------------------------------------------------------------------------------- a dishonest seller


async def test_a_model_below_its_promise_is_voted_down(market: Market) -> None:
    cost = {"mallory": -DEPOSIT, "bob": DEPOSIT - BONUS, "voters": BONUS}
    async with market.reckoning(faults={"mallory": 1}, **cost):
        trade = await market.sold("mallory", "bob", seller_accuracy=10_000)
        assert await outcomes(market["bob"], trade) == [Outcome.REJECTED]
    status = await market["bob"].vault.trade(trade)
    assert (status.key, status.address, status.model) == ("unseen", "good", "bad")
    assert "100.00% was promised" in status.why


async def test_another_model_than_was_advertised_is_voted_down(market: Market) -> None:
    """Its file, its name, or the trade it was made for is another, or its commitment is not to it."""
    mallory, bob, agreed = market.mallory, market["bob"], market.terms("mallory", "bob")
    cost = {"mallory": -4 * DEPOSIT, "bob": 4 * (DEPOSIT - BONUS), "voters": 4 * BONUS}
    async with market.reckoning(faults={"mallory": 4}, **cost):
        trades = [await opened(market["mallory"], agreed) for _ in range(4)]
        other_file, other_name, other_trade, uncommitted = trades
        mallory.hand_over(other_file, await mallory.swapped(other_file, agreed, market.worthless))
        named = replace(agreed, seller_resource=market.worthless)
        mallory.hand_over(other_name, await mallory.package_for(other_name, named))
        mallory.hand_over(other_trade, await mallory.package_for(other_file, agreed))
        good = await mallory.swapped(uncommitted, agreed, market.advertised)
        mallory.hand_over(uncommitted, replace(good, commitment=os.urandom(32)))
        for trade in trades:
            await bob.vault.agree(trade)
        assert await outcomes(bob, *trades) == 4 * [Outcome.REJECTED]
    why = [(await bob.vault.trade(trade)).why for trade in trades]
    assert "registered with" in why[0]
    assert f"resource {market.worthless}" in why[1]
    assert f"for trade {other_file} " in why[2]
    assert "not that of the package" in why[3]


async def test_another_model_than_was_advertised_is_voted_down_though_it_keeps_the_promise(
    market: Market,
) -> None:
    mallory, agreed = market.mallory, market.terms("mallory", "bob")
    trade = await opened(market["mallory"], agreed)
    mallory.hand_over(trade, await mallory.swapped(trade, agreed, market.another))
    await market["bob"].vault.agree(trade)
    assert await outcomes(market["bob"], trade) == [Outcome.REJECTED]


async def test_a_good_package_that_is_shown_to_voters_does_not_hide_a_bad_one_that_was_delivered(
    market: Market,
) -> None:
    mallory, agreed = market.mallory, market.terms("mallory", "bob")
    cost = {"mallory": -DEPOSIT, "bob": DEPOSIT - BONUS, "voters": BONUS}
    async with market.reckoning(faults={"mallory": 1}, **cost):
        trade = await opened(market["mallory"], agreed)
        mallory.hand_over(trade, await mallory.swapped(trade, agreed, market.worthless))
        mallory.leave_out(trade, GiveEvidence)
        await market["bob"].vault.agree(trade)
        digest = await mallory.testify(trade, package=shown(await mallory.package_for(trade, agreed)))
        await market["mallory"].transact(exchange_of(market["mallory"]).submit_evidence(trade, digest))
        assert await outcomes(market["bob"], trade) == [Outcome.REJECTED]


async def test_a_good_package_of_another_trade_is_not_believed_though_nobody_shows_the_one_delivered(
    market: Market,
) -> None:
    """Paul's node is cut off after its complaint: it shows the voters nothing."""
    mallory, agreed = market.mallory, market.terms("mallory", "paul")
    cost = {"mallory": -DEPOSIT, "paul": DEPOSIT - BONUS, "voters": BONUS}
    async with market.reckoning(faults={"mallory": 1}, **cost):
        trade = await opened(market["mallory"], agreed)
        mallory.hand_over(trade, await mallory.swapped(trade, agreed, market.worthless))
        mallory.leave_out(trade, GiveEvidence)
        market.paul.leave_out(trade, GiveEvidence)
        await market["paul"].vault.agree(trade)
        good = await mallory.package_for(TradeId(trade + 1), agreed)
        digest = await mallory.testify(trade, package=shown(good))
        await market["mallory"].transact(exchange_of(market["mallory"]).submit_evidence(trade, digest))
        await voters_wait_no_more(market["paul"], trade)
        assert await outcomes(market["paul"], trade) == [Outcome.REJECTED]


async def test_an_address_where_nothing_is_or_that_does_not_open_costs_the_seller_its_deposit(
    market: Market,
) -> None:
    mallory, bob = market.mallory, market["bob"]
    cost = {"mallory": -2 * DEPOSIT, "bob": 2 * (DEPOSIT - BONUS), "voters": 2 * BONUS}
    async with market.reckoning(faults={"mallory": 2}, **cost):
        dead, sealed_wrongly = [
            await opened(market["mallory"], market.terms("mallory", "bob")) for _ in range(2)
        ]
        mallory.hand_over(dead, content_of(cids.of_raw(os.urandom(32)), new_content_key()))
        mallory.leave_out(sealed_wrongly, Duty.ADDRESS)
        for trade in (dead, sealed_wrongly):
            await bob.vault.agree(trade)

        await reached(bob, sealed_wrongly, State.ADDRESSES)
        asked = await mallory.transcript.message(sealed_wrongly, bob.address, OnChain.KEY)
        key = handover.open_key_message(
            asked.document,
            mallory.transcript.binding(sealed_wrongly, bob.address, mallory.me),
            mallory.keys.jwk,
            asked.named_at,
            handover.MOST_AGE_S,
        )
        package = mallory.packing.own(sealed_wrongly)
        document = handover.make_address_message(
            mallory.transcript.binding(sealed_wrongly, mallory.me, bob.address),
            mallory.keys.account,
            await mallory.transcript.key_of_side(sealed_wrongly, bob.address),
            replace(key, k=os.urandom(32)),
            Digest(cids.sha256(asked.document)),
            PackageAddress(package.cid, package.key, package.salt),
            await mallory.now(),
        )
        message = await mallory.put(document)
        await market["mallory"].transact(exchange_of(bob).pass_address(sealed_wrongly, message))
        assert await outcomes(bob, sealed_wrongly) == [Outcome.REJECTED]
        assert "under K_B" in (await bob.vault.trade(sealed_wrongly)).why
        assert await has_no_package(bob, sealed_wrongly)

        await patience_ends(bob, dead)
        await voters_wait_no_more(bob, dead)
        assert await outcomes(bob, dead) == [Outcome.REJECTED]


async def test_an_address_that_is_not_given_or_that_nobody_serves_costs_the_seller_its_deposit(
    market: Market,
) -> None:
    mallory, bob = market.mallory, market["bob"]
    cost = {"mallory": -2 * DEPOSIT, "bob": 2 * DEPOSIT - BONUS, "voters": BONUS}
    async with market.reckoning(faults={"mallory": 2}, **cost):
        silent, unserved = [await opened(market["mallory"], market.terms("mallory", "bob")) for _ in range(2)]
        for trade in (silent, unserved):
            mallory.leave_out(trade, Duty.ADDRESS)
            await bob.vault.agree(trade)
        await reached(bob, unserved, State.ADDRESSES)
        nowhere = Digest(os.urandom(32))
        await market["mallory"].transact(exchange_of(bob).pass_address(unserved, nowhere))
        await patience_ends(bob, unserved)
        await voters_wait_no_more(bob, unserved)
        assert await outcomes(bob, unserved) == [Outcome.REJECTED]
        await reached(bob, silent, State.ADDRESSES)
        assert (await lapses(bob, silent)).outcome == Outcome.EXPIRED


# -------------------------------------------------------------------------------------------- a dishonest buyer


async def test_verification_data_by_which_no_model_can_be_judged_do_not_harm_the_seller(
    market: Market,
) -> None:
    """They are no text, lack a column, have a class that the model does not know, or are served by nobody."""
    mallory, table = market["mallory"], csv(500, 569)
    lines = table.decode().splitlines()
    bad = {
        "no text": NO_TEXT,
        "no column f0": "\n".join(line.partition(",")[2] for line in lines).encode(),
        "a third class": "\n".join(
            [lines[0], *(line.rpartition(",")[0] + ",7" for line in lines[1:])]
        ).encode(),
    }
    digests = [cids.digest_of(await mallory.store.put_document(data)) for data in bad.values()]
    digests.append(Digest(os.urandom(32)))
    cost = {"mallory": -4 * 2 * DEPOSIT, "alice": 4 * (2 * DEPOSIT - BONUS), "voters": 4 * BONUS}
    async with market.reckoning(faults={"mallory": 4}, **cost):
        trades = [
            await opened(market["alice"], market.terms("alice", "mallory", seller_verification=digest))
            for digest in digests
        ]
        for trade in trades:
            market.mallory.records.find(trade, "model", Found(Finding.BAD, "so it shall be"))
            await mallory.vault.agree(trade)
        assert await outcomes(market["alice"], *trades[:3]) == 3 * [Outcome.CONFIRMED]
        await voters_wait_no_more(market["alice"], trades[3])
        assert await outcomes(market["alice"], trades[3]) == [Outcome.CONFIRMED]


async def test_a_buyer_who_does_not_confirm_loses_price_and_deposit_and_is_on_record(market: Market) -> None:
    cost = {"mallory": -2 * DEPOSIT, "alice": 2 * DEPOSIT}
    async with market.reckoning(faults={"mallory": 1}, **cost):
        trade = await opened(market["alice"], market.terms("alice", "mallory"))
        market.mallory.leave_out(trade, Duty.CONFIRMATION)
        await market["mallory"].vault.agree(trade)
        await reached(market["alice"], trade, State.INSPECTING)
        assert (await lapses(market["alice"], trade)).outcome == Outcome.EXPIRED


async def test_a_buyer_who_disputes_a_good_model_pays_for_it_all_the_same(market: Market) -> None:
    """Whether it shows the voters what it was handed, something else, or nothing."""
    mallory, alice, agreed = market.mallory, market["alice"], market.terms("alice", "mallory")
    cost = {"mallory": -3 * 2 * DEPOSIT, "alice": 3 * (2 * DEPOSIT - BONUS), "voters": 3 * BONUS}
    async with market.reckoning(faults={"mallory": 3}, **cost):
        trades = [await opened(alice, agreed) for _ in range(3)]
        frank, forged, silent = trades
        for trade in trades:
            mallory.records.find(trade, "model", Found(Finding.BAD, "so it shall be"))
        for trade in (forged, silent):
            mallory.leave_out(trade, GiveEvidence)
        for trade in trades:
            await market["mallory"].vault.agree(trade)
        await reached(alice, forged, State.DISPUTED)
        own = mallory.records.key_secret(forged)
        assert own is not None
        digest = await mallory.testify(forged, address=os.urandom(9 * 384).hex(), k=own[1].k.hex())
        await market["mallory"].transact(exchange_of(alice).submit_evidence(forged, digest))
        assert await outcomes(alice, frank, forged) == 2 * [Outcome.CONFIRMED]
        await voters_wait_no_more(alice, silent)
        assert await outcomes(alice, silent) == [Outcome.CONFIRMED]


async def test_a_buyer_who_is_gone_once_it_has_the_model_has_paid_for_it(market: Market) -> None:
    cost = {"quinn": -2 * DEPOSIT, "alice": 2 * DEPOSIT}
    async with market.reckoning(faults={"quinn": 1}, **cost):
        trade = await opened(market["alice"], market.terms("alice", "quinn"))
        market.quinn.leave_out(trade, Duty.CONFIRMATION)
        await market["quinn"].vault.agree(trade)
        await reached(market["alice"], trade, State.INSPECTING)
        await market.town.stop("quinn")
        assert (await lapses(market["alice"], trade)).outcome == Outcome.EXPIRED


async def test_a_seller_who_disputes_a_good_key_pays_for_it(market: Market) -> None:
    mallory = market.mallory
    cost = {"mallory": -DEPOSIT, "bob": DEPOSIT - BONUS, "voters": BONUS}
    async with market.reckoning(faults={"mallory": 1}, **cost):
        trade = await opened(market["mallory"], market.terms("mallory", "bob"))
        mallory.records.find(trade, "key", Found(Finding.BAD, "so it shall be"))
        await market["bob"].vault.agree(trade)
        assert await outcomes(market["bob"], trade) == [Outcome.CONFIRMED]


async def test_who_floods_with_trades_is_blocked_for_a_day_and_let_in_again(market: Market) -> None:
    alice, mallory, exchange = market["alice"], market["mallory"], exchange_of(market["alice"])
    agreed = market.terms("alice", "mallory")
    cost = {"mallory": -3 * DEPOSIT - PRICE // TOKEN, "alice": 3 * DEPOSIT + PRICE // TOKEN}
    async with market.reckoning(faults={"mallory": 3}, **cost):
        standing = await opened(alice, replace(agreed, t0=7 * DAY_S))
        flood = [await opened(alice, agreed) for _ in range(3)]
        await allow(mallory)
        for trade in flood:
            market.mallory.leave_out(trade, Duty.PREPARATION)
            await mallory.transact(exchange.join(trade))
        for trade in flood:
            await until(alice, trade, lambda found: found.seller_done == 1)
        for trade in flood:
            assert (await lapses(alice, trade)).outcome == Outcome.EXPIRED

        resold = market.terms("mallory", "bob")
        for sender, call in (
            (mallory, exchange.join(standing)),
            (mallory, exchange.open(resold)),
            (alice, exchange.open(agreed)),
        ):
            await refused(sender, call, "FairExchange_Blocked")
        now = (await alice.chain.head()).timestamp
        await pass_until(alice, now + DAY_S + 1)
        await mallory.vault.agree(standing)
        assert await outcomes(alice, standing) == [Outcome.COMPLETED]


async def test_a_flood_of_asks_is_answered_with_429_and_others_are_heard(market: Market) -> None:
    alice, flooder, bob = market["alice"], market["clara"], market["bob"]
    said = question(market)
    await flooder.vault.tell(alice.address, TOPIC, {**said, "ask": 32 * "f"})
    tellings = [flooder.vault.tell(alice.address, TOPIC, {**said, "ask": f"{n:032x}"}) for n in range(39)]
    told = await asyncio.gather(*tellings, return_exceptions=True)
    left = [str(one) for one in told if isinstance(one, RemoteError)]
    assert 0 < len(left) <= 10
    assert all("status 429, 'Too many messages come from you.'" in why for why in left)
    asked = await bob.vault.ask(AskFor(resource=market.model, price=0, verification=market.verification))
    assert (await answered(bob, asked.ask)).state == Asking.QUOTED


# ------------------------------------------------------------------------------------------- on either side


async def test_who_leaves_the_registry_in_the_middle_of_a_trade_gains_nothing_by_it(market: Market) -> None:
    mallory, alice, bob = market["mallory"], market["alice"], market["bob"]
    actor = await alice.market.actor(mallory.address)
    cost = {
        "mallory": -3 * DEPOSIT,
        "alice": 2 * DEPOSIT - BONUS,
        "bob": DEPOSIT - BONUS,
        "voters": 2 * BONUS,
    }
    async with market.reckoning(faults={"mallory": 2}, **cost), back_afterwards(mallory, actor):
        bought = await opened(alice, market.terms("alice", "mallory"))
        sold = await opened(mallory, market.terms("mallory", "bob"))
        market.mallory.leave_out(bought, Duty.CONFIRMATION)
        market.mallory.leave_out(sold, Duty.ADDRESS)
        await mallory.vault.agree(bought)
        await bob.vault.agree(sold)
        await reached(alice, bought, State.INSPECTING)
        await reached(bob, sold, State.ADDRESSES)

        await mallory.transact(mallory.market.registry.leave())
        await mallory.transact(exchange_of(mallory).dispute(bought, missing=False))
        market.mallory.leave_out(sold)
        await mallory.vault.agree(sold)  # which has the node look again
        await voters_wait_no_more(alice, bought)
        assert await outcomes(alice, bought) == [Outcome.CONFIRMED]
        await patience_ends(bob, sold)
        await voters_wait_no_more(bob, sold)
        assert await outcomes(alice, sold) == [Outcome.REJECTED]


async def test_a_key_that_is_changed_just_before_a_trade_is_opened_is_not_the_one_that_counts(
    market: Market,
) -> None:
    """Else the seller could not seal the address, or the buyer not open it, and a deposit were lost."""
    mallory, alice = market["mallory"], market["alice"]
    registry, looked_at = alice.market.registry, (await alice.chain.final()).number
    actor = await alice.market.actor(mallory.address)
    async with (
        market.reckoning(alice=PRICE // TOKEN, mallory=-PRICE // TOKEN),
        back_afterwards(mallory, actor),
    ):
        await mallory.transact(registry.join(actor.roles, actor.profile, os.urandom(32), actor.gateway))
        trade = await opened(alice, replace(market.terms("alice", "mallory"), keys_at=looked_at))
        await mallory.vault.agree(trade)
        assert await outcomes(alice, trade) == [Outcome.COMPLETED]


async def test_a_seller_that_serves_its_package_only_once_it_is_disputed_gains_nothing_by_it(
    market: Market,
) -> None:
    mallory, bob = market["mallory"], market["bob"]
    before = (await standings(bob, market.accounts))["bob"]
    trade = await opened(mallory, market.terms("mallory", "bob"))
    market.mallory.leave_out(trade, Duty.ADDRESS)
    async with intercepted(mallory) as middle:
        await bob.vault.agree(trade)
        await reached(bob, trade, State.ADDRESSES)
        middle.withholds = True
        market.mallory.leave_out(trade)
        await mallory.vault.agree(trade)
        await patience_ends(bob, trade)
        await reached(bob, trade, State.DISPUTED)
        middle.withholds = False
        await ended(bob, trade)
        after = (await standings(bob, market.accounts))["bob"]
        assert after.faults == before.faults
        assert before.tokens - after.tokens == PRICE + BONUS * TOKEN
        assert (await package_of(bob, trade)).manifest.resource == market.advertised, (
            "it has what it paid for"
        )


async def test_a_buyer_that_serves_its_key_only_once_it_is_disputed_gains_nothing_by_it(
    market: Market,
) -> None:
    mallory, alice = market["mallory"], market["alice"]
    before = (await standings(alice, market.accounts))["alice"]
    trade = await opened(alice, market.terms("alice", "mallory"))
    actor = await alice.market.actor(mallory.address)
    await alice.market.document(actor.encryption_key, actor.gateway)
    async with intercepted(mallory) as middle:
        middle.withholds = True
        await mallory.vault.agree(trade)
        await quarter_begins(alice, trade, State.PREPARING, 2)
        await quarter_begins(alice, trade, State.ADDRESSES, 4)
        await reached(alice, trade, State.DISPUTED)
        middle.withholds = False
        await ended(alice, trade)
        after = (await standings(alice, market.accounts))["alice"]
        assert after.faults == before.faults
        assert before.tokens - after.tokens == BONUS * TOKEN


# ------------------------------------------------------------------------------------------- others: the middle


async def test_messages_of_one_trade_passed_on_in_another_are_refused_and_open_for_nobody_else(
    market: Market,
) -> None:
    mallory, alice, bob = market.mallory, market["alice"], market["bob"]
    exchange = exchange_of(alice)
    async with market.reckoning(alice=PRICE // TOKEN, bob=-PRICE // TOKEN):
        honest = await market.sold("alice", "bob")
        assert await outcomes(alice, honest) == [Outcome.COMPLETED]
    asked = (await mallory.transcript.message(honest, bob.address, OnChain.KEY)).document
    told = (await mallory.transcript.message(honest, alice.address, OnChain.ADDRESS)).document

    to_alice = mallory.transcript.binding(honest, bob.address, alice.address)
    now, guess = await mallory.now(), handover.KeySecret(os.urandom(32), os.urandom(32))
    with pytest.raises(HandoverRefusedError, match=FOREIGN):
        handover.open_key_message(asked, to_alice, mallory.keys.jwk, now, handover.MOST_AGE_S)
    package = await mallory.transcript.fulfilled(honest, alice.address, OnChain.PREPARATION)
    with pytest.raises(HandoverRefusedError, match=FOREIGN):
        handover.open_address_message(
            told,
            to_alice.mirrored,
            mallory.keys.jwk,
            guess,
            Digest(cids.sha256(asked)),
            package.digest,
            now,
            handover.MOST_AGE_S,
        )

    cost = {"alice": DEPOSIT - BONUS, "bob": DEPOSIT - BONUS, "mallory": -2 * DEPOSIT, "voters": 2 * BONUS}
    async with market.reckoning(faults={"mallory": 2}, **cost):
        key_reused = await opened(alice, market.terms("alice", "mallory"))
        address_reused = await opened(market["mallory"], market.terms("mallory", "bob"))
        mallory.leave_out(key_reused, Duty.KEY)
        mallory.leave_out(address_reused, Duty.ADDRESS)
        await market["mallory"].vault.agree(key_reused)
        await bob.vault.agree(address_reused)
        await reached(alice, key_reused, State.KEYS)
        await market["mallory"].transact(exchange.pass_key(key_reused, await mallory.put(asked)))
        await reached(bob, address_reused, State.ADDRESSES)
        await market["mallory"].transact(exchange.pass_address(address_reused, await mallory.put(told)))
        assert await outcomes(alice, key_reused, address_reused) == 2 * [Outcome.REJECTED]
    assert "bound to another" in (await alice.vault.trade(key_reused)).why
    assert "bound to another" in (await bob.vault.trade(address_reused)).why
    assert await has_no_package(bob, address_reused)
    assert await has_no_package(market["mallory"], key_reused)


async def test_what_is_altered_on_the_way_is_not_taken_and_the_trade_goes_on_with_what_is_true(
    market: Market,
) -> None:
    async with (
        market.reckoning(alice=PRICE // TOKEN, bob=-PRICE // TOKEN),
        intercepted(market["alice"]) as before_alice,
        intercepted(market["bob"]) as before_bob,
    ):
        before_alice.lies = before_bob.lies = 2
        trade = await market.sold("alice", "bob")
        assert await outcomes(market["bob"], trade) == [Outcome.COMPLETED]
        assert (before_alice.altered, before_bob.altered) == (2, 2)


async def test_a_peer_message_altered_replayed_or_in_anothers_name_is_refused(market: Market) -> None:
    mallory, alice, bob = market.mallory, market["alice"], market["bob"]
    wanted = AskFor(resource=market.model, price=0, verification=market.verification)
    known = {one.ask.ask for one in await alice.vault.asks()}
    async with intercepted(alice) as middle:
        asked = await bob.vault.ask(wanted)
        assert (await answered(bob, asked.ask)).state == Asking.QUOTED
        (genuine,) = middle.posted
        middle.alters_posts = True
        altered = await bob.vault.ask(wanted)
        lost = await answered(bob, altered.ask)
        assert (lost.state, "refused" in lost.why) == (Asking.DECLINED, True)

    async with intercepted(market["mallory"]) as middle:
        misled = await bob.vault.ask(wanted.model_copy(update={"resource": market.advertised}))
        await answered(bob, misled.ask)
        to_mallory = jwe.decrypt(middle.posted[0].decode(), peer_messages.TYPE, mallory.keys.jwk)
    key = await mallory.transcript.key_of_voter(alice.address)
    passed_on = jwe.encrypt(to_mallory, peer_messages.TYPE, key, alice.address).encode()
    parties = bob.address, alice.address
    now = int(time.time())
    forged = Message.new(alice.deployment.chain_id, parties, TOPIC, question(market), now)
    cases = {
        genuine: "peer_message_replayed",
        bytes([*genuine[:-1], genuine[-1] ^ 1]): "peer_message_refused",
        passed_on: "peer_message_refused",
        peer_messages.seal(forged, mallory.keys.account, key): "peer_message_refused",
    }
    assert [await posted(alice, envelope) for envelope in cases] == list(cases.values())
    new = [one for one in await alice.vault.asks() if one.ask.ask not in known]
    assert [(one.other, one.ask.ask) for one in new] == [(bob.address, asked.ask)]


# -------------------------------------------------------------------------------------- others: impersonation


async def test_nobody_but_the_two_sides_takes_a_step_of_their_trade(market: Market) -> None:
    alice, mallory, anna = market["alice"], market["mallory"], market["anna"]
    exchange, agreed = exchange_of(alice), market.terms("alice", "mallory")
    digest = Digest(os.urandom(32))
    cost = {"mallory": -2 * DEPOSIT, "alice": 2 * DEPOSIT - BONUS, "voters": BONUS}
    async with market.reckoning(faults={"mallory": 1}, **cost):
        await refused(anna, exchange.open(agreed), "FairExchange_NotSeller")
        trade = await opened(alice, agreed)
        await refused(anna, exchange.join(trade), "FairExchange_NotParty")
        market.mallory.leave_out(trade, Duty.CONFIRMATION, GiveEvidence)
        await mallory.vault.agree(trade)
        await reached(alice, trade, State.INSPECTING)
        for call in (
            exchange.prepare(trade, digest),
            exchange.pay(trade),
            exchange.pass_key(trade, digest),
            exchange.pass_address(trade, digest),
            exchange.confirm(trade),
            exchange.dispute(trade, missing=False),
        ):
            await refused(anna, call, "FairExchange_NotParty")
        await mallory.transact(exchange.dispute(trade, missing=False))
        await refused(anna, exchange.submit_evidence(trade, digest), "FairExchange_NotParty")
        await voters_wait_no_more(alice, trade)
        assert await outcomes(alice, trade) == [Outcome.CONFIRMED]


async def test_who_names_anothers_node_as_its_own_gets_nothing_meant_for_it_nor_speaks_for_it(
    market: Market,
) -> None:
    alice, bob, mallory = market["alice"], market["bob"], market["mallory"]
    known = await bob.vault.asks()
    wanted = AskFor(resource=market.advertised, price=0, verification=market.verification)
    for gateway, why in ((bob.info.url, "does not have"), (mallory.info.url, "does not open")):
        async with found_at(mallory, gateway, bob.info.url):
            lost = await answered(alice, (await alice.vault.ask(wanted)).ask)
        assert (lost.state, why in lost.why) == (Asking.DECLINED, True)
    assert await bob.vault.asks() == known


async def test_a_command_without_the_nodes_token_is_not_obeyed(market: Market) -> None:
    """Neither from another node of the same bus, nor from who has the bus's password and not the token."""
    bob, mallory = market["bob"], market["mallory"]
    async with market.reckoning():
        trade = await opened(mallory, market.terms("mallory", "bob"))
        name = subject(bob.address, "vault", "agree")
        command = AgreeTo(trade=trade).model_dump_json().encode()
        answer = orjson.loads((await bob.bus.request(name, command, timeout=5)).data)
        assert answer["problem"]["title"] == "command_refused"
        with pytest.raises((TimeoutError, NatsError)):
            await mallory.bus.request(name, command, timeout=0.5)
        assert not (await bob.vault.trade(trade)).agreed
        assert (await lapses(mallory, trade)).outcome == Outcome.WITHDRAWN


def question(market: Market) -> dict[str, JsonValue]:
    """Give a message that asks what alice's model costs."""
    about: dict[str, JsonValue] = {"resource": market.model, "verification": market.verification}
    return {"kind": "ask", "ask": 32 * "0", "price": "0", **about}


async def refused(sender: Client, call: Call[Any], reason: str) -> None:
    """See that the contract refuses a call, and for this reason."""
    with pytest.raises(RemoteError, match=reason):
        await sender.transact(call)


async def answered(client: Client, ask: str) -> Negotiation:
    """Wait until an ask is no longer on its way."""
    async with asyncio.timeout(30):
        while True:
            (found,) = [one for one in await client.vault.asks() if one.ask.ask == ask]
            if found.state != Asking.ASKED:
                return found
            await asyncio.sleep(0.05)


async def posted(client: Client, envelope: bytes) -> str:
    """Post an envelope to a node's inbox, and give the title of what it answers."""
    headers = {"Content-Type": MEDIA_TYPE}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{client.info.url}/peer", data=envelope, headers=headers) as answer,
    ):
        return str((await answer.json(content_type=None))["title"])
