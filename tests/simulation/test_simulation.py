"""Thousands of random trades, by the pure decisions and the real contracts: nobody honest loses by them.

Both sides of every trade, and every voter, decide with the functions that a node decides with; about half of the
sides deviate, each in one of the ways of `Behaviour`. Trades overlap, on one chain; all act after random delays, on
what they read some seconds before. What is shown, for each trade:

1. It ends.
2. An honest seller that passed its address is paid at least the price; one that did not has its deposit back. An
   honest buyer has a good model for at most the price, or all its money. In a swap, who passed its address and has no
   good model for it has the other's deposit, less the voters' bonus. No honest side is on record with a fault, and
   two honest sides complete.
3. No token is lost or made: each account ends with what its trades say, and the contracts end empty.
4. An honest voter loses no stake, and a copied vote does not count.

Assumed for 2, and looked up for each dispute: that honest voters who revealed filled more than 60 % of its seats.
Where they did not (voters on strike, more who collude), what an honest side can lose is bounded all the same: half
the bonus, and in a sale the price, where no panel came to a verdict; otherwise its deposit and the price. Assumed of
honest players is that they look and act within some seconds, where every limit is a minute or more.

`AGORAI_TEST_TRADES` says how many trades, `AGORAI_TEST_SEED` which.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from random import Random

import pytest

from agorai_shared.bindings.fair_exchange import Kind, Outcome
from agorai_shared.bindings.voting_panel import Seat
from agorai_vault.trade import decide
from agorai_vault.trade.decide import Duty

pytest.importorskip(
    "pyrevm",
    reason="pyrevm is not installed: its authors state no licence, so it is not among the locked packages",
)

from tests.simulation.players import Behaviour, Crowd, Stance
from tests.simulation.world import WEALTH, Deal, Side, World

TRADES = int(os.environ.get("AGORAI_TEST_TRADES", "300"))
SEED = int(os.environ.get("AGORAI_TEST_SEED", "0"))
LONGEST = 6 * 3600
"""All limits, and three rounds of voters, and then some; in seconds."""
pytestmark = pytest.mark.timeout(120 + TRADES // 2)


@pytest.fixture(scope="module")
def played() -> World:
    world = World(Random(SEED))
    crowd = Crowd(world, TRADES)
    world.run(60 * 100 * TRADES, until=lambda: len(world.deals) == TRADES)
    world.run(LONGEST, until=lambda: not world.open_deals)
    crowd.striking = True  # for good: voters take their stakes back
    world.run(LONGEST, until=lambda: not any(staked(world)))
    return world


def staked(world: World) -> list[int]:
    voters = [world.chain.read(world.panel.voter_of(account)) for account in world.voters]
    return [voter.free + voter.taken for voter in voters]


def honest(side: Side) -> bool:
    return side.party.behaviour is Behaviour.HONEST


def fairly_judged(world: World, deal: Deal) -> bool:
    """Say whether there was no dispute, or honest voters filled more than 60 % of the seats."""
    if deal.case is None:
        return True
    seats = {account: world.chain.read(world.panel.seat_of(deal.case, account)) for account in deal.panel}
    spoke = [account for account, seat in seats.items() if seat == Seat.REVEALED]
    honest_votes = sum(world.voters[account].stance is Stance.HONEST for account in spoke)
    return honest_votes * 100 > 60 * deal.terms.panel_size


def least(world: World, deal: Deal, side: Side) -> int:
    """Give what an honest side gains at least (loses at most, if below 0) in the token's smallest unit."""
    trade, me = deal.ended, side.party.account
    assert trade is not None
    other = deal.other(me)
    given = Duty.ADDRESS in decide.done(trade, me)
    got = Duty.ADDRESS in decide.done(trade, other.party.account) and other.goods.good
    bonus = world.chain.read(world.exchange.bonus_of(trade.seller_deposit, trade.buyer_deposit))
    if not fairly_judged(world, deal):
        if trade.outcome == Outcome.UNDECIDED:
            paid = trade.price if trade.kind == Kind.SALE and side is deal.buyer else 0
            return -paid - (bonus + 1) // 2
        return -(trade.seller_deposit if side is deal.seller else trade.buyer_deposit + trade.price)
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
            assert [side for side in deal.sides if honest(side) and side.faulted] == [], deal


def test_two_honest_sides_complete(played: World) -> None:
    for deal in played.deals:
        assert deal.ended is not None
        if all(map(honest, deal.sides)) and deal.ended.outcome != Outcome.WITHDRAWN:
            assert deal.ended.outcome == Outcome.COMPLETED, deal


def test_four_in_five_panels_that_came_to_a_verdict_were_honest(played: World) -> None:
    verdicts = {Outcome.CONFIRMED, Outcome.REJECTED}
    judged = [deal for deal in played.deals if deal.ended is not None and deal.ended.outcome in verdicts]
    assert sum(fairly_judged(played, deal) for deal in judged) > 0.8 * len(judged) > 0


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
    assert played.balance(exchange.address) == played.balance(panel.address) == 0
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
    lines = [
        "trades with a side that".ljust(30) + "".join(f"{outcome.name.lower():>11}" for outcome in outcomes)
    ]
    lines += [
        behaviour.value.ljust(30) + "".join(f"{row[outcome]:>11}" for outcome in outcomes)
        for behaviour, row in rows.items()
    ]
    unfair = sum(not fairly_judged(played, deal) for deal in played.deals)
    disputes = sum(deal.case is not None for deal in played.deals)
    with capsys.disabled():
        sys.stdout.write(
            "\n" + "\n".join(lines) + f"\n{unfair} of {disputes} panels without an honest majority\n"
        )
    assert all(row.total() for row in rows.values())
    assert all(any(row[outcome] for row in rows.values()) for outcome in outcomes)
