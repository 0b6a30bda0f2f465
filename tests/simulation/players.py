"""Who plays: parties and voters, honest and otherwise, and strangers who call what anyone may call.

When to do what, all decide by the pure functions of a node. One that deviates tells them what is not so, or does
not do as they say; only the erratic party calls whatever comes to its mind.

What is simulated is how something is found good or bad: there are no messages and no models here. A party is told how
what it was handed is, and a voter goes by `judgement`, which is the rule of `agorai_vault.trade.judging` and the
verifier, in direct mode, written once more for that.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from typing import Any, Final

from agorai_shared.bindings.fair_exchange import Kind, Mode, State, Terms
from agorai_shared.bindings.registry import Kind as ResourceKind
from agorai_shared.bindings.registry import ResourceParams
from agorai_shared.contract import Call
from agorai_shared.panel import PanelCall, PanelCase, commitment
from agorai_shared.types import Address, CaseId, TradeId, Wei
from agorai_vault.trade import decide
from agorai_vault.trade.decide import Duty, Finding
from agorai_verifier import decide as voting
from tests.simulation.chain import CHAIN_ID, RefusedError
from tests.simulation.world import PANEL, TOKEN, Deal, Goods, Side, World

UNLIMITED: Final = 2**256 - 1
SEATS: Final = 3
"""What a voter has staked for."""
LARGEST_PANEL: Final = 15
BURST: Final = 12
"""Trades that a party disputes with itself at a time: for each seat there is, more than one is wanted."""


class Behaviour(Enum):
    """How a party acts in all its trades."""

    HONEST = "honest"
    ABSENT = "absent from some moment on"
    LAZY = "late, at times too late"
    ERRATIC = "calls anything"
    BAD_KEY = "passes a bad key"
    HIDDEN_KEY = "serves no key message"
    LATE_KEY = "serves its key message once disputed"
    DISPUTES_MODEL = "disputes a good model"
    NEVER_CONFIRMS = "never confirms"
    BAD_ADDRESS = "passes a bad address"
    HIDDEN_ADDRESS = "serves no address message"
    BAD_MODEL = "hands over a bad model"
    HIDDEN_MODEL = "serves no model"
    LATE_MODEL = "serves its model once disputed"
    NEVER_PASSES = "never passes the address"
    DISPUTES_KEY = "disputes a good key"
    OWNS_VOTERS = "cheats, and owns many voters"
    OCCUPIES_VOTERS = "disputes with itself, often"


IDLE: Final = (Behaviour.ABSENT, Behaviour.LAZY, Behaviour.ERRATIC)
OF_TAKERS: Final = (
    Behaviour.BAD_KEY,
    Behaviour.HIDDEN_KEY,
    Behaviour.LATE_KEY,
    Behaviour.DISPUTES_MODEL,
    Behaviour.NEVER_CONFIRMS,
    Behaviour.OWNS_VOTERS,
)
OF_GIVERS: Final = (
    Behaviour.BAD_ADDRESS,
    Behaviour.HIDDEN_ADDRESS,
    Behaviour.BAD_MODEL,
    Behaviour.HIDDEN_MODEL,
    Behaviour.LATE_MODEL,
    Behaviour.NEVER_PASSES,
    Behaviour.DISPUTES_KEY,
    Behaviour.OWNS_VOTERS,
)
OF_BOTH: Final = tuple(dict.fromkeys((*OF_GIVERS, *OF_TAKERS)))
OBJECTORS: Final = (Behaviour.DISPUTES_MODEL, Behaviour.OWNS_VOTERS, Behaviour.OCCUPIES_VOTERS)
"""Who disputes a model though it is good."""


GOODS: Final = {
    Behaviour.BAD_KEY: Goods(key=Finding.BAD),
    Behaviour.HIDDEN_KEY: Goods(key=Finding.UNSEEN),
    Behaviour.BAD_ADDRESS: Goods(address=Finding.BAD),
    Behaviour.HIDDEN_ADDRESS: Goods(address=Finding.UNSEEN),
    Behaviour.BAD_MODEL: Goods(model=Finding.BAD),
    Behaviour.HIDDEN_MODEL: Goods(model=Finding.UNSEEN),
    Behaviour.OWNS_VOTERS: Goods(model=Finding.BAD),
}
"""What parties hand over that is not all good."""
LATE: Final = (Behaviour.LATE_KEY, Behaviour.LATE_MODEL)
LEFT_OUT: Final = {Behaviour.NEVER_PASSES: Duty.ADDRESS, Behaviour.NEVER_CONFIRMS: Duty.CONFIRMATION}


@dataclass(eq=False)
class Party:
    """One account that sells, buys and swaps."""

    world: World
    behaviour: Behaviour

    def __post_init__(self) -> None:
        self.account = self.world.new_account()
        params = ResourceParams(
            ResourceKind.MODEL,
            TOKEN,
            0,
            0,
            0,
            3600,
            restricted=False,
            metadata=b"m" * 32,
            commitment=b"c" * 32,
        )
        self.resource = self.world.chain.send(self.account, self.world.registry.register(params))

    def told(self, deal: Deal) -> None:
        """Look at a trade again soon."""
        if deal.ended is None:
            self.world.wake(self._slot(deal), self.world.soon(), partial(self._look, deal))

    def _slot(self, deal: Deal) -> Hashable:
        return self.account, deal.id

    def _look(self, deal: Deal) -> None:
        if deal.ended is not None:
            return
        if self.behaviour is Behaviour.ERRATIC:
            self._perform(deal, self._anything(deal))
            return
        world, side = self.world, deal.side(self.account)
        state = self._state(deal, side)
        step = self._decide(state, side)
        match step:
            case None:
                due = decide.due(state, self.account, world.now)
                at = due if due is not None and due > world.now else world.now + 60
                world.wake(self._slot(deal), at, partial(self._look, deal))
            case decide.OpenKey():
                side.key = self._found(deal, served(deal, deal.other(self.account)).key)
            case decide.OpenAddress():
                side.address = self._found(deal, served(deal, deal.other(self.account)).address)
            case decide.Inspect():
                side.model = self._found(deal, served(deal, deal.other(self.account)).model)
            case _:
                world.act(self._slot(deal), self._when(state), partial(self._take, deal, step))

    def _found(self, deal: Deal, finding: Finding) -> Finding:
        """Look again; later, if what was looked for is not served."""
        at = self.world.soon(5, 10) if finding is Finding.UNSEEN else self.world.soon()
        self.world.wake(self._slot(deal), at, partial(self._look, deal))
        return finding

    def _state(self, deal: Deal, side: Side) -> decide.TradeState:
        read, world = self.world.chain.read, self.world
        trade = read(world.exchange.trade(deal.id))
        return decide.TradeState(
            trade=trade,
            agreed=side.agreed,
            allowance=read(world.token.allowance(self.account, world.exchange.address)),
            key=side.key,
            address=side.address,
            model=side.model,
            case=None if deal.case is None else PanelCase(read(world.panel.case_of(deal.case)), PANEL),
            voters=len(deal.panel),
            evidence=side.evidence,
        )

    def _decide(self, state: decide.TradeState, side: Side) -> decide.Step | None:
        if self.behaviour is Behaviour.ABSENT and side.steps >= side.quits_after:
            return None
        if self.behaviour is Behaviour.DISPUTES_KEY and state.key is Finding.GOOD:
            state = replace(state, key=Finding.BAD)
        if self.behaviour in OBJECTORS and state.model is Finding.GOOD:
            state = replace(state, model=Finding.BAD)
        step = decide.next_step(state, self.account, self.world.now)
        if isinstance(step, decide.Fulfil) and self.behaviour in LEFT_OUT:
            duties = tuple(duty for duty in step.duties if duty != LEFT_OUT[self.behaviour])
            return decide.Fulfil(duties) if duties else None
        return step

    def _when(self, state: decide.TradeState) -> int:
        world, trade = self.world, state.trade
        if self.behaviour is Behaviour.LAZY and world.random.random() < 0.5:
            return world.soon(1, int(1.3 * max(trade.t1, trade.t2, trade.t3, trade.tb)))
        return world.soon()

    def _take(self, deal: Deal, step: decide.Step) -> None:
        side = deal.side(self.account)
        side.steps += 1
        if self._perform(deal, self._call(deal, step)) and isinstance(step, decide.GiveEvidence):
            side.evidence = step.voters

    def _perform(self, deal: Deal, call: Call[Any]) -> bool:
        taken = deal.ended is None and self.world.attempt(self.account, call, deal)
        if deal.ended is None:
            self.world.wake(self._slot(deal), self.world.soon(2, 10), partial(self._look, deal))
        return taken

    def _call(self, deal: Deal, step: decide.Step) -> Call[Any]:
        world, exchange = self.world, self.world.exchange
        match step:
            case decide.Approve():
                call: Call[Any] = world.token.approve(exchange.address, UNLIMITED)
            case decide.Fulfil(duties):
                calls = [self._duty(deal, duty) for duty in duties]
                call = calls[0] if len(calls) == 1 else exchange.multicall([one.data for one in calls])
            case decide.Dispute(missing):
                call = exchange.dispute(deal.id, missing)
            case decide.GiveEvidence():
                call = exchange.submit_evidence(deal.id, self._digest())
            case decide.MovePanel(of_panel):
                call = panel_call(world, deal, of_panel)
            case decide.Settle():
                call = exchange.settle(deal.id)
            case decide.Expire():
                call = exchange.expire(deal.id)
            case _:
                raise AssertionError(step)
        return call

    def _duty(self, deal: Deal, duty: Duty) -> Call[Any]:
        exchange = self.world.exchange
        match duty:
            case Duty.JOINING:
                return exchange.join(deal.id)
            case Duty.PREPARATION if deal.terms.kind == Kind.SALE and self is deal.buyer.party:
                return exchange.pay(deal.id)
            case Duty.PREPARATION:
                return exchange.prepare(deal.id, self._digest())
            case Duty.KEY:
                return exchange.pass_key(deal.id, self._digest())
            case Duty.ADDRESS:
                return exchange.pass_address(deal.id, self._digest())
            case _:
                return exchange.confirm(deal.id)

    def _digest(self) -> bytes:
        return self.world.random.randbytes(32)

    def _anything(self, deal: Deal) -> Call[Any]:
        random, world = self.world.random, self.world
        calls = [self._duty(deal, duty) for duty in random.sample(tuple(Duty), k=random.randint(1, 3))]
        exchange, id_ = world.exchange, deal.id
        return random.choice(
            (
                calls[0],
                exchange.multicall([call.data for call in calls]),
                world.token.approve(exchange.address, UNLIMITED),
                exchange.dispute(id_, random.random() < 0.5),
                exchange.submit_evidence(id_, self._digest()),
                *common_calls(world, deal),
            )
        )


def served(deal: Deal, side: Side) -> Goods:
    """Give what a side's goods are to who looks at them now."""
    if deal.case is None and side.party.behaviour is Behaviour.LATE_KEY:
        return replace(side.goods, key=Finding.UNSEEN)
    if deal.case is None and side.party.behaviour is Behaviour.LATE_MODEL:
        return replace(side.goods, model=Finding.UNSEEN)
    return side.goods


class Stance(Enum):
    """How a voter votes."""

    HONEST = "honest"
    ABSENT = "absent"
    CONTRARY = "votes the opposite"
    COPYING = "copies another's commitment"
    OWNED = "votes for its owner, and honestly where that is no side"


VOTERS: Final = {
    Stance.HONEST: 30,
    Stance.ABSENT: 8,
    Stance.CONTRARY: 3,
    Stance.COPYING: 2,
    Stance.OWNED: 14,
}


@dataclass(eq=False)
class Voter:
    """One account that has staked to judge."""

    world: World
    stance: Stance
    votes: dict[CaseId, tuple[bool, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.account = self.world.new_account()
        self.world.voters[self.account] = self
        self.world.chain.send(self.account, self.world.token.approve(self.world.panel.address, UNLIMITED))
        self.keep_seats(SEATS)

    def keep_seats(self, seats: int) -> bool:
        """Stake for as many seats as these, or take the free ones back; False if a draw comes first."""
        read, send, panel = self.world.chain.read, self.world.chain.send, self.world.panel
        held = read(panel.voter_of(self.account))
        more = seats - held.free - held.taken
        try:
            if more > 0:
                send(self.account, panel.enlist(more))
            elif seats == 0 and held.free:
                send(self.account, panel.retire(held.free))
        except RefusedError as refused:
            assert refused.reason == "VotingPanel_DrawDue", refused  # noqa: PT017
            return False
        return True

    def honest_in(self, deal: Deal) -> bool:
        """Whether it votes as it finds."""
        return self.stance is Stance.HONEST or (self.stance is Stance.OWNED and owner_in(deal) is None)

    def told(self, deal: Deal) -> None:
        """Look at a case again soon."""
        if self.stance is not Stance.ABSENT and deal.ended is None:
            self.world.wake(self._slot(deal), self.world.soon(), partial(self._look, deal))

    def _slot(self, deal: Deal) -> Hashable:
        return self.account, deal.id

    def _look(self, deal: Deal) -> None:
        world, case = self.world, deal.case
        assert case is not None
        state = voting.CaseState(
            PanelCase(world.chain.read(world.panel.case_of(case)), PANEL),
            world.chain.read(world.panel.seat_of(case, self.account)),
            judged=case in self.votes,
        )
        step = voting.next_step(state, world.now)
        match step:
            case None:
                due = voting.due(state, world.now)
                if due is not None and due > world.now:
                    world.wake(self._slot(deal), due, partial(self._look, deal))
            case voting.Judge(final):
                self._judge(deal, case, final=final)
                world.wake(self._slot(deal), world.soon(), partial(self._look, deal))
            case _:
                world.act(self._slot(deal), world.soon(), partial(self._take, deal, case, step))

    def _judge(self, deal: Deal, case: CaseId, *, final: bool) -> None:
        owner = owner_in(deal) if self.stance is Stance.OWNED else None
        contrary = self.stance is Stance.CONTRARY
        if owner is not None:
            confirms: bool | None = owner != deal.accuser
        else:
            confirms = judgement(deal, self.account, final=final or contrary)
        if confirms is not None:
            self.votes[case] = confirms != contrary, self.world.random.randbytes(32)

    def _take(self, deal: Deal, case: CaseId, step: voting.Step) -> None:
        world = self.world
        confirms, salt = self.votes.get(case, (False, b""))
        match step:
            case voting.Commit():
                bound = commitment(
                    CHAIN_ID,
                    world.panel.address,
                    case,
                    self.account,
                    confirms=confirms,
                    salt=salt,
                )
                if self.stance is Stance.COPYING:
                    bound = deal.commitments[-1] if deal.commitments else b""
                else:
                    deal.commitments.append(bound)
                call: Call[Any] = world.panel.commit(case, bound.ljust(31, b"\0"))
            case voting.Reveal():
                call = world.panel.reveal(case, confirms, salt)
            case voting.MovePanel(moves):
                call = panel_call(world, deal, moves)
            case _:
                raise AssertionError(step)
        if deal.ended is None:
            world.attempt(self.account, call, deal)
            world.wake(self._slot(deal), world.soon(2, 10), partial(self._look, deal))


def owner_in(deal: Deal) -> Address | None:
    """Give the side of a trade that owns voters; None if neither does, or both do."""
    owners = [side.party.account for side in deal.sides if side.party.behaviour is Behaviour.OWNS_VOTERS]
    return owners[0] if len(owners) == 1 else None


def judgement(deal: Deal, voter: Address, *, final: bool) -> bool | None:
    """Say whether an honest voter confirms the accused; None while it waits for evidence.

    Once it does not wait any longer, who had to show something and did not is to blame. The accuser is heard first:
    what the accused shows proves that there is a package, not that it told the accuser where.
    """
    assert deal.accuser is not None
    accuser, accused = deal.side(deal.accuser), deal.other(deal.accuser)
    place = deal.panel.index(voter)
    heard = place < accuser.evidence
    about = accused.goods.key if deal.about_key else accused.goods.address
    accuser_lacks = not heard if deal.about_key else heard and accuser.goods.key is Finding.UNSEEN
    if about is not Finding.UNSEEN:
        if accuser_lacks:
            return True if final else None
        if deal.about_key or (heard and about is Finding.BAD):
            return about is Finding.GOOD
        shown = heard or (final and place < accused.evidence)
        if shown and accused.goods.model is not Finding.UNSEEN:
            return accused.goods.model is Finding.GOOD
    return False if final else None


def panel_call(world: World, deal: Deal, call: PanelCall) -> Call[Any]:
    """Make a call of the panel."""
    return world.panel.draw() if call is PanelCall.DRAW else world.panel.close(deal.case or CaseId(0))


def common_calls(world: World, deal: Deal) -> tuple[Call[Any], ...]:
    """Give what anyone may call about a trade."""
    return (
        world.exchange.expire(deal.id),
        world.exchange.settle(deal.id),
        panel_call(world, deal, PanelCall.DRAW),
        panel_call(world, deal, PanelCall.CLOSE),
    )


@dataclass
class Crowd:
    """All players of a world: opens trades between them, has voters come and go, and meddles as a stranger."""

    world: World
    wanted: int
    """How many trades are to be opened."""
    striking: bool = False
    """Whether all voters but the absent take back the seats that are free, so that hardly a panel can be drawn."""
    closed: bool = False
    """Whether all voters take back theirs, for good."""

    def __post_init__(self) -> None:
        world = self.world
        self._stranger = world.new_account()
        self._parties: dict[Behaviour, list[Party]] = {
            behaviour: [Party(world, behaviour) for _ in range(6 if behaviour is Behaviour.HONEST else 2)]
            for behaviour in Behaviour
        }
        for stance, count in VOTERS.items():
            for _ in range(count):
                self._keep_seats(Voter(world, stance))
        world.act("opening", world.soon(), self._open)
        world.act("meddling", world.soon(), self._meddle)
        world.act("striking", world.soon(500, 1200), self._strike)
        world.act("occupying", world.soon(300, 900), self._occupy)

    def party(self, behaviour: Behaviour, but: Party | None = None) -> Party:
        """Give a party that behaves so; one that is blocked comes back under a new name."""
        parties, world = self._parties[behaviour], self.world
        for place, party in enumerate(parties):
            if world.chain.read(world.exchange.conduct_of(party.account)).blocked_until > world.now:
                parties[place] = Party(world, behaviour)
        return world.random.choice([party for party in parties if party is not but])

    def _open(self) -> None:
        world, random = self.world, self.world.random
        if len(world.deals) == self.wanted:
            return
        world.act("opening", world.soon(1, 60), self._open)
        if self.striking and random.random() < 0.9:
            return
        kind = random.choice((Kind.SALE, Kind.SALE, Kind.SWAP))
        as_seller = self._behaviour((*IDLE, *(OF_GIVERS if kind == Kind.SALE else OF_BOTH)))
        as_buyer = self._behaviour((*IDLE, *(OF_TAKERS if kind == Kind.SALE else OF_BOTH)))
        seller = self.party(as_seller)
        buyer = self.party(as_buyer, but=seller)
        self._trade(self._terms(kind, seller, buyer), seller, buyer)

    def _occupy(self) -> None:
        """Have one party open many cheap trades with itself, which it will dispute, for as many voters as can be."""
        world = self.world
        for _ in range(min(BURST, self.wanted - len(world.deals))):
            seller = self.party(Behaviour.OCCUPIES_VOTERS)
            buyer = self.party(Behaviour.OCCUPIES_VOTERS, but=seller)
            terms = self._terms(Kind.SALE, seller, buyer)
            cheap = replace(
                terms, price=Wei(TOKEN), seller_deposit=TOKEN, buyer_deposit=TOKEN, panel_size=LARGEST_PANEL
            )
            self._trade(cheap, seller, buyer)
        world.act("occupying", world.soon(2000, 4000), self._occupy)

    def _trade(self, terms: Terms, seller: Party, buyer: Party) -> None:
        world, exchange = self.world, self.world.exchange
        if world.chain.read(world.token.allowance(seller.account, exchange.address)) == 0:
            world.chain.send(seller.account, world.token.approve(exchange.address, UNLIMITED))
        id_ = TradeId(world.chain.send(seller.account, exchange.open(terms)))
        nobody_honest = Behaviour.HONEST not in {seller.behaviour, buyer.behaviour}
        meddled = nobody_honest or world.random.random() < 0.3
        deal = Deal(id_, terms, self._side(seller), self._side(buyer), meddled)
        world.deals.append(deal)
        seller.told(deal)
        buyer.told(deal)

    def _behaviour(self, deviations: tuple[Behaviour, ...]) -> Behaviour:
        honest = self.world.random.random() < 0.5
        return Behaviour.HONEST if honest else self.world.random.choice(deviations)

    def _side(self, party: Party) -> Side:
        random, behaviour = self.world.random, party.behaviour
        erratic = behaviour is Behaviour.ERRATIC
        return Side(
            party=party,
            goods=Goods(*random.choices(tuple(Finding), k=3)) if erratic else GOODS.get(behaviour, Goods()),
            agreed=random.random() < 0.97,
            quits_after=random.randint(0, 4),
        )

    def _terms(self, kind: Kind, seller: Party, buyer: Party) -> Terms:
        random, swap = self.world.random, kind == Kind.SWAP
        price = random.randint(TOKEN, 1000 * TOKEN)
        return Terms(
            kind=kind,
            mode=Mode.DIRECT,
            seller=seller.account,
            buyer=buyer.account,
            seller_resource=seller.resource,
            buyer_resource=buyer.resource if swap else 0,
            price=Wei(price),
            seller_deposit=random.randint(price, 2 * price),
            buyer_deposit=random.choice((price, random.randint(price, 2 * price))),
            t0=random.randint(60, 600),
            t1=random.randint(60, 600),
            t2=random.randint(60, 600),
            t3=random.randint(60, 600),
            tb=random.randint(60, 600),
            seller_accuracy=random.randint(1, 10_000),
            buyer_accuracy=random.randint(1, 10_000) if swap else 0,
            panel_size=random.choice((3, 3, 5, 5, 7, 9)),
            seller_verification=random.randbytes(32),
            buyer_verification=random.randbytes(32) if swap else bytes(32),
            keys_at=1,
        )

    def _meddle(self) -> None:
        """Call, as a stranger, what anyone may, and what only a side may."""
        world = self.world
        world.act("meddling", world.soon(3, 20), self._meddle)
        if not world.open_deals:
            return
        deal = world.random.choice(world.open_deals)
        # Who was offered a trade and did not join has nothing at stake: it leaves the trade as it is.
        if not deal.meddled and world.chain.read(world.exchange.trade(deal.id)).state != State.OFFERED:
            return
        common = common_calls(world, deal)
        others = (
            world.exchange.dispute(deal.id, missing=False),
            world.exchange.confirm(deal.id),
            world.exchange.join(deal.id),
        )
        call = world.random.choice((*common, *others))
        assert not world.attempt(self._stranger, call, deal) or call in common, call

    def close(self) -> None:
        """Have all voters take their stakes back."""
        self.closed = True
        self._tell_voters()

    def _strike(self) -> None:
        self.striking = not self.striking
        lasts = 2 * PANEL.draw_window if self.striking else self.world.random.randint(500, 1200)
        self.world.act("striking", self.world.soon(lasts, lasts), self._strike)
        self._tell_voters()

    def _tell_voters(self) -> None:
        for voter in self.world.voters.values():
            self.world.act((voter.account, "seats"), self.world.soon(1, 20), partial(self._keep_seats, voter))

    def _keep_seats(self, voter: Voter) -> None:
        strikes = self.striking and voter.stance is not Stance.ABSENT
        kept = voter.keep_seats(0 if self.closed or strikes else SEATS)
        pause = (20, 60) if strikes else (60, 180)
        again = self.world.soon(*pause) if kept else self.world.soon()
        self.world.act((voter.account, "seats"), again, partial(self._keep_seats, voter))
