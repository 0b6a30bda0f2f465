"""Disputes judged by parameter sets of low quality, as the paper has it, and what passes them (fair-sharing IV-D)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio

from agorai.demo.town import Resident, Town, running
from agorai.devchain import TOKEN
from agorai_shared import evidence, package
from agorai_shared.bindings.fair_exchange import EvidenceGiven, Mode, Outcome
from agorai_shared.errors import RemoteError
from agorai_shared.evidence import Evidence
from agorai_shared.types import ResourceId, TradeId
from agorai_trainer.packages import PackageTooSlowError
from agorai_verifier.handlers import GONE
from tests.rogue import Rogue, modified
from tests.trades import VOTERS, csv, ended, enlist, exchange_of, listed, model_of, opened, standings, terms

LIMIT = 1 << 20

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Stage:
    """Mallory sells, bob buys, and three voters judge."""

    town: Town
    mallory: Rogue
    advertised: ResourceId
    worthless: ResourceId

    async def traded(self, mode: Mode, *, swapped: bool = False) -> tuple[TradeId, Outcome]:
        """Have the advertised model sold, or the worthless one in its stead; gives how it ends."""
        seller, bob = self.town.clients["mallory"], self.town.clients["bob"]
        verification = await bob.store.put_document(csv(500, 569))
        agreed = replace(terms(seller, bob, self.advertised, verification), mode=mode)
        trade = await opened(seller, agreed)
        if swapped:
            self.mallory.hand_over(trade, await self.mallory.swapped(trade, agreed, self.worthless))
        await bob.vault.agree(trade)
        return trade, (await ended(bob, trade)).outcome

    async def shown(self, trade: TradeId, name: str) -> list[Evidence]:
        """Give what a side has shown to all."""
        side = self.town.clients[name]
        topic = f"0x{trade:064x}"
        given = await side.market.events(exchange_of(side).address, EvidenceGiven, topic)
        digests = [event.digest for event, _ in given if event.by == side.address]
        return [evidence.read(await side.market.document(digest, side.info.url)) for digest in digests]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage() -> AsyncGenerator[Stage]:
    residents = [Resident("mallory", 1000), Resident("bob", 1000), *(Resident(name, 100) for name in VOTERS)]
    with modified("mallory") as rogues:
        async with running(residents) as town:
            for name in VOTERS:
                await enlist(town.clients[name])
            seller = town.clients["mallory"]
            advertised, worthless = (
                await model_of(seller),
                await model_of(seller, csv(0, 400, upside_down=True)),
            )
            for resource in (advertised, worthless):
                await listed(seller, resource)
            yield Stage(town, rogues["mallory"], advertised, worthless)


async def test_an_honest_sale_in_the_papers_mode_needs_no_voters(stage: Stage) -> None:
    trade, outcome = await stage.traded(Mode.PAPER)
    assert outcome == Outcome.COMPLETED
    assert not [*await stage.shown(trade, "mallory"), *await stage.shown(trade, "bob")]


async def test_a_swapped_model_passes_the_papers_mode(stage: Stage) -> None:
    bob = stage.town.clients["bob"]
    accounts = {name: client.address for name, client in stage.town.clients.items()}
    before = await standings(bob, accounts)
    trade, outcome = await stage.traded(Mode.PAPER, swapped=True)

    assert "registered with" in (await bob.vault.trade(trade)).why
    assert outcome == Outcome.CONFIRMED
    after = await standings(bob, accounts)
    change = {name: after[name].tokens - before[name].tokens for name in accounts}
    # the price and the buyer's deposit, but what voters earned, for a model that is nearly always wrong
    assert change["mallory"] == 180 * TOKEN
    assert change["bob"] == -200 * TOKEN
    assert sum(change[name] for name in VOTERS) == 20 * TOKEN

    for name in VOTERS:
        await sees_the_chosen_sets_alone(stage, name, trade)
    (fixed,), (choice,) = await stage.shown(trade, "mallory"), await stage.shown(trade, "bob")
    assert len(set(fixed.sets)) == evidence.SETS
    assert not fixed.chosen
    assert len(choice.chosen) in {2, 3}
    assert not choice.sets


async def sees_the_chosen_sets_alone(stage: Stage, voter: str, trade: TradeId) -> None:
    """See that a voter's node can open the chosen sets, which are wrong, and neither the others nor the model."""
    client = stage.town.clients[voter]
    (choice,) = await stage.shown(trade, "bob")
    (found,) = await client.market.chain.read(exchange_of(client).trade(trade))
    folder = f"/vault/cases/{found.dispute}"
    for index in range(evidence.SETS):
        if index in choice.chosen:
            held = package.read(await client.vault.package(f"{folder}/sets/{index}", LIMIT))
            assert held.manifest.accuracy < 0.5
            continue
        with pytest.raises(RemoteError, match="was shown to this vault"):
            await client.vault.package(f"{folder}/sets/{index}", LIMIT)
    with pytest.raises(RemoteError, match="was shown to this vault"):
        await client.vault.package(f"{folder}/package", LIMIT)


async def test_the_same_model_of_the_same_seller_fails_where_voters_judge_the_model(stage: Stage) -> None:
    _, outcome = await stage.traded(Mode.DIRECT, swapped=True)
    assert outcome == Outcome.REJECTED


async def test_a_package_that_the_trainer_awaited_in_vain_counts_as_gone() -> None:
    assert PackageTooSlowError.code in GONE
