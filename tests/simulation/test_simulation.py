"""Random trades by the pure decisions and against the real contracts: nobody honest loses by them.

Both sides of every trade, and every voter, decide what to do when by the functions that a node decides with; about
half of the sides deviate, each in one of the ways of `Behaviour`. Trades overlap, on one chain; all act after random
delays, on what they read some seconds before. What is shown, for each trade:

1. It ends.
2. An honest seller that passed its address is paid at least the price; one that did not has its deposit back. An
   honest buyer has a good model for at most the price, or all its money. In a swap, who passed its address and has no
   good model for it has the other's deposit, less the voters' bonus. Who disputes what the other serves only once it
   is disputed pays that bonus besides, and the other gains nothing by it; in a swap it loses its deposit (the limit
   that docs/trades.md names). Else no honest side is on record with a fault, and two honest sides complete what the
   buyer has joined.
3. No token is lost or made: each account ends with what its trades say, and the contracts end empty but for the
   stakes of panels that were silent to the last, which the panel keeps for the voters of the next case.
4. An honest voter reveals whenever it is drawn, and so loses no stake; a copied vote does not count.

Assumed for 2, and looked up for each dispute: that more than 60 % of its seats were filled by voters who voted as
they found, and revealed. Where they were not, what an honest side can lose is bounded all the same. No verdict: half
the bonus, and of a sale's buyer the price. A wrong one: its deposit, and of a sale's buyer the price. Voters go on
strike, those of one owner hold a quarter of all seats and vote for it, and a party keeps voters busy by disputes with
itself. Of honest players it is assumed that they act within some seconds, where every limit is a minute or more.

What is not shown: that a node finds good what is good, as there are no messages and no models here (see `players`);
and anything of disputes judged by parameters of low quality (`Mode.PAPER`).

`AGORAI_TEST_TRADES` says how many trades, `AGORAI_TEST_SEED` which. With `-s`, their outcomes are shown.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from random import Random

import pytest
import pytest_asyncio

from agorai_shared.bindings.fair_exchange import Kind, Outcome
from agorai_shared.bindings.voting_panel import Seat
from agorai_vault.trade import decide
from agorai_vault.trade.decide import Duty
from tests.simulation.chain import running_chain
from tests.simulation.players import LARGEST_PANEL, LATE, Behaviour, Crowd, Stance, owner_in
from tests.simulation.world import PANEL, WEALTH, Deal, Side, World

TRADES = int(os.environ.get("AGORAI_TEST_TRADES", "300"))
SEED = int(os.environ.get("AGORAI_TEST_SEED", "0"))
LONGEST = 6 * 3600
"""All limits, and three rounds of voters, and then some; in seconds."""
pytestmark = pytest.mark.timeout(120 + TRADES // 2)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def played() -> AsyncGenerator[World]:
    async with running_chain() as chain:
        world = World(chain, Random(SEED))
        crowd = Crowd(world, TRADES)
        world.run(60 * 100 * TRADES, until=lambda: len(world.deals) == TRADES)
        world.run(LONGEST, until=lambda: not world.open_deals)
        crowd.close()
        world.run(LONGEST, until=lambda: not any(staked(world)))
        yield world


def staked(world: World) -> list[int]:
    voters = [world.chain.read(world.panel.voter_of(account)) for account in world.voters]
    return [voter.free + voter.taken for voter in voters]


def honest(side: Side) -> bool:
    return side.party.behaviour is Behaviour.HONEST


def fairly_judged(world: World, deal: Deal) -> bool:
    """Say whether there was no dispute, or voters who voted as they found filled more than 60 % of the seats."""
    if deal.case is None:
        return True
    seats = {account: world.chain.read(world.panel.seat_of(deal.case, account)) for account in deal.panel}
    spoke = [account for account, seat in seats.items() if seat == Seat.REVEALED]
    honest_votes = sum(world.voters[account].honest_in(deal) for account in spoke)
    return honest_votes * 100 > 60 * deal.terms.panel_size


def kept_waiting(deal: Deal, side: Side) -> bool:
    """Say whether a side disputed what the other served only from then on."""
    me = side.party.account
    return deal.accuser == me and deal.other(me).party.behaviour in LATE


def least(world: World, deal: Deal, side: Side) -> int:
    """Give what an honest side gains at least (loses at most, if below 0) in the token's smallest unit."""
    trade, me = deal.ended, side.party.account
    assert trade is not None
    other = deal.other(me)
    given = Duty.ADDRESS in decide.done(trade, me)
    got = Duty.ADDRESS in decide.done(trade, other.party.account) and other.goods.good
    bonus = world.chain.read(world.exchange.bonus_of(trade.seller_deposit, trade.buyer_deposit))
    if not fairly_judged(world, deal):
        paid = trade.price if trade.kind == Kind.SALE and side is deal.buyer else 0
        if trade.outcome == Outcome.UNDECIDED:
            return -paid - (bonus + 1) // 2
        return -paid - (trade.seller_deposit if side is deal.seller else trade.buyer_deposit)
    if kept_waiting(deal, side):
        if trade.kind == Kind.SWAP:
            return -(trade.seller_deposit if side is deal.seller else trade.buyer_deposit)
        return -bonus - (trade.price if side is deal.buyer else 0)
    if trade.kind == Kind.SALE:
        return trade.price if given else -trade.price if got else 0
    theirs = trade.seller_deposit if other is deal.seller else trade.buyer_deposit
    return theirs - bonus if given and not got else 0


def test_every_trade_ends(played: World) -> None:
    assert len(played.deals) == TRADES
    assert [deal.id for deal in played.open_deals] == []


def test_an_honest_side_loses_neither_its_deposit_nor_its_goods_unpaid(played: World) -> None:
    for deal in played.deals:
        for side in filter(honest, deal.sides):
            assert side.net >= least(played, deal, side), deal


def test_an_honest_side_is_never_at_fault(played: World) -> None:
    for deal in played.deals:
        if fairly_judged(played, deal):
            faulted = [side for side in deal.sides if honest(side) and side.faulted]
            swap = deal.terms.kind == Kind.SWAP
            assert [side for side in faulted if not (swap and kept_waiting(deal, side))] == [], deal


def test_nobody_gains_by_serving_only_once_an_honest_side_disputes_it(played: World) -> None:
    late = 0
    for deal in filter(lambda deal: deal.case is not None and fairly_judged(played, deal), played.deals):
        assert deal.ended is not None
        for side in deal.sides if deal.ended.kind == Kind.SALE else ():
            accuser = deal.other(side.party.account)
            if side.party.behaviour in LATE and honest(accuser) and deal.accuser == accuser.party.account:
                late += 1
                assert side.net <= (deal.ended.price if side is deal.seller else 0), deal
    assert late


def test_two_honest_sides_complete(played: World) -> None:
    for deal in played.deals:
        assert deal.ended is not None
        if all(map(honest, deal.sides)) and deal.ended.outcome != Outcome.WITHDRAWN:
            assert deal.ended.outcome == Outcome.COMPLETED, deal


def test_four_in_five_panels_that_came_to_a_verdict_were_honest(played: World) -> None:
    """Where nobody owns voters, what is assumed of panels is the rule: the tests above have something to show."""
    verdicts = {Outcome.CONFIRMED, Outcome.REJECTED}
    judged = [
        deal
        for deal in played.deals
        if deal.ended is not None and deal.ended.outcome in verdicts and owner_in(deal) is None
    ]
    assert sum(fairly_judged(played, deal) for deal in judged) > 0.8 * len(judged) > 0


def test_no_side_gains_by_voters_silence(played: World) -> None:
    silent = 0
    for deal in played.deals:
        if deal.case is not None and deal.panel:
            silent += played.chain.read(played.panel.case_of(deal.case)).revealed == 0
        assert deal.seller.net + deal.buyer.net <= 0, deal
    assert silent > 0


def test_voters_who_are_kept_busy_are_paid_for_it(played: World) -> None:
    paid = [
        -deal.seller.net - deal.buyer.net
        for deal in played.deals
        if deal.seller.party.behaviour is Behaviour.OCCUPIES_VOTERS and deal.case is not None and deal.panel
    ]
    assert paid
    assert min(paid) >= LARGEST_PANEL * PANEL.seat_bonus


def test_an_honest_voter_keeps_its_stake_and_a_copied_vote_does_not_count(played: World) -> None:
    for deal in played.deals:
        for account in deal.panel:
            assert deal.case is not None
            stance, seat = (
                played.voters[account].stance,
                played.chain.read(played.panel.seat_of(deal.case, account)),
            )
            if stance is Stance.HONEST:
                assert seat == Seat.REVEALED, deal
            if stance is Stance.COPYING:
                assert seat == Seat.ABSENT, deal


def test_no_token_is_lost_or_made(played: World) -> None:
    chain, exchange, panel = played.chain, played.exchange, played.panel
    for account in played.accounts:
        for contract in (exchange, panel):
            if chain.read(contract.credit_of(account)):
                chain.send(account, contract.withdraw())
    expected = Counter(dict.fromkeys(played.accounts, WEALTH))
    for deal in played.deals:
        for side in deal.sides:
            expected[side.party.account] += side.net
    for account in played.accounts:
        voter = played.voters.get(account)
        if voter is None:
            assert played.balance(account) == expected[account]
        elif voter.stance is Stance.HONEST:
            assert played.balance(account) >= WEALTH
    assert played.balance(exchange.address) == 0
    assert played.balance(panel.address) == chain.read(panel.reserve())
    assert chain.read(played.token.total_supply()) == WEALTH * len(played.accounts)


def test_every_outcome_and_every_behaviour_occurred(
    played: World, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {behaviour: Counter[Outcome]() for behaviour in Behaviour}
    for deal in played.deals:
        assert deal.ended is not None
        for behaviour in {side.party.behaviour for side in deal.sides}:
            rows[behaviour][deal.ended.outcome] += 1
    outcomes = [outcome for outcome in Outcome if outcome != Outcome.NONE]
    with capsys.disabled():
        sys.stdout.write(f"\n{table(rows, outcomes)}\n{panels(played)}\n")
    assert all(row.total() for row in rows.values())
    assert all(any(row[outcome] for row in rows.values()) for outcome in outcomes)


def table(rows: Mapping[Behaviour, Counter[Outcome]], outcomes: Sequence[Outcome]) -> str:
    head = f"{TRADES} trades, seed {SEED}; with a side that"
    lines = [head.ljust(44) + "".join(f"{outcome.name.lower():>11}" for outcome in outcomes) + "      total"]
    for behaviour, row in rows.items():
        counts = "".join(f"{row[outcome]:>11}" for outcome in outcomes)
        lines.append(f"{behaviour.value:<44}{counts}{row.total():>11}")
    return "\n".join(lines)


def panels(world: World) -> str:
    disputes = [deal for deal in world.deals if deal.case is not None]
    unfair = [deal for deal in disputes if not fairly_judged(world, deal)]
    owned = [deal for deal in disputes if owner_in(deal) is not None]
    robbed = [deal for deal in unfair if any(honest(side) and side.faulted for side in deal.sides)]
    by_owner = sum(owner_in(deal) is not None for deal in robbed)
    return (
        f"{len(disputes)} panels, {len(unfair)} of them without an honest majority; "
        f"{len(owned)} about a side that owns voters. "
        f"{len(robbed)} found against an honest side, {by_owner} of them for an owner of voters."
    )
