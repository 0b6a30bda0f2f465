"""The world that is simulated: the market's contracts, a clock, who wakes when, and all trades that were made."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Final

from eth_utils.address import to_checksum_address

from agorai_shared.bindings.fair_exchange import (
    Ended,
    FairExchange,
    Faulted,
    Kind,
    Outcome,
    Terms,
    Trade,
)
from agorai_shared.bindings.market_token import MarketToken
from agorai_shared.bindings.registry import Registry
from agorai_shared.bindings.voting_panel import Config, Drawn, VotingPanel
from agorai_shared.contract import Call
from agorai_shared.types import Address, CaseId, TradeId
from agorai_vault.trade.decide import Duty, Finding, about_key
from tests.simulation.chain import Chain, RefusedError

if TYPE_CHECKING:
    from tests.simulation.players import Party, Voter

TOKEN: Final = 10**18
"""One token in its smallest unit."""
WEALTH: Final = 10**7 * TOKEN
"""What each account has to begin with."""
PANEL: Final = Config(
    seat_stake=10 * TOKEN,
    seat_bonus=10**15,
    draw_window=600,
    commit_window=120,
    reveal_window=120,
    draw_delay=2,
)
ISSUER: Final = Address("0x" + 40 * "1")


@dataclass(frozen=True, slots=True)
class Goods:
    """What one side hands over in a trade, as it is: good, bad, or served to nobody (`UNSEEN`)."""

    key: Finding = Finding.GOOD
    address: Finding = Finding.GOOD
    model: Finding = Finding.GOOD

    @property
    def good(self) -> bool:
        """Whether who is passed the address has a model as promised."""
        return self.address is self.model is Finding.GOOD


@dataclass(slots=True)
class Side:
    """One party in one trade."""

    party: Party
    goods: Goods
    agreed: bool
    quits_after: int
    """After how many steps an absent party is gone."""
    key: Finding = Finding.UNSEEN
    """What it found of the other's."""
    address: Finding = Finding.UNSEEN
    model: Finding = Finding.UNSEEN
    steps: int = 0
    evidence: int = 0
    """How many voters its evidence is sealed to."""
    net: int = 0
    """By how much the trade changed what it has, once it ended; the token's smallest unit."""
    faulted: bool = False


@dataclass(slots=True)
class Deal:
    """One trade, and what nobody on the chain knows of it."""

    id: TradeId
    terms: Terms
    seller: Side
    buyer: Side
    meddled: bool
    """Whether strangers call what anyone may call."""
    case: CaseId | None = None
    accuser: Address | None = None
    about_key: bool = False
    """Whether the dispute is about a key message, or else about what was handed over."""
    panel: tuple[Address, ...] = ()
    """All who were ever drawn."""
    commitments: list[bytes] = field(default_factory=list)
    """What voters have committed to, which all can see."""
    ended: Trade | None = None

    @property
    def sides(self) -> tuple[Side, Side]:
        """The seller's, and the buyer's."""
        return self.seller, self.buyer

    def side(self, account: Address) -> Side:
        """Give that of an account."""
        return self.seller if account == self.seller.party.account else self.buyer

    def other(self, account: Address) -> Side:
        """Give the one across from an account."""
        return self.buyer if account == self.seller.party.account else self.seller


@dataclass
class World:
    """One market. Players act in slots: one thing at a time for each player and item, as the reconciler has it."""

    chain: Chain
    random: Random
    deals: list[Deal] = field(default_factory=list)
    cases: dict[CaseId, Deal] = field(default_factory=dict)
    voters: dict[Address, Voter] = field(default_factory=dict)
    accounts: list[Address] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._queue: list[tuple[int, float, Hashable]] = []
        self._slots: dict[Hashable, tuple[int, bool, Callable[[], None]]] = {}
        create = self.chain.create
        token = create(ISSUER, MarketToken.deploy_data("Happy Token", "HAPY", ISSUER, 10**6 * WEALTH))
        registry = create(ISSUER, Registry.deploy_data())
        panel = create(ISSUER, VotingPanel.deploy_data(token, registry, PANEL))
        exchange = create(ISSUER, FairExchange.deploy_data(token, registry, panel))
        self.token, self.registry = MarketToken(token), Registry(registry)
        self.panel, self.exchange = VotingPanel(panel), FairExchange(exchange)

    @property
    def now(self) -> int:
        """The time, in seconds since 1970."""
        return self.chain.now

    @property
    def open_deals(self) -> list[Deal]:
        """The trades that have not ended."""
        return [deal for deal in self.deals if deal.ended is None]

    def soon(self, least: int = 1, most: int = 4) -> int:
        """Give a time in the near future."""
        return self.now + self.random.randint(least, most)

    def new_account(self) -> Address:
        """Give a new member of the market with money."""
        account = Address(to_checksum_address(f"0x{0xA11CE + len(self.accounts):040x}"))
        self.accounts.append(account)
        self.chain.send(account, self.registry.join(1, bytes(32), b"k" * 32, ""))
        self.chain.send(ISSUER, self.token.issue(account, WEALTH))
        return account

    def balance(self, account: Address) -> int:
        """Give what an account holds."""
        return self.chain.read(self.token.balance_of(account))

    # ----------------------------------------------------------------------------------------------- time

    def wake(self, slot: Hashable, at: int, look: Callable[[], None]) -> None:
        """Have a player look at something by the time `at`, unless it is about to act."""
        pending = self._slots.get(slot)
        if pending is None or (not pending[1] and pending[0] > at):
            self._put(slot, at, look, acts=False)

    def act(self, slot: Hashable, at: int, perform: Callable[[], None]) -> None:
        """Have a player do at the time `at` what it has decided on, whatever happens until then."""
        self._put(slot, at, perform, acts=True)

    def _put(self, slot: Hashable, at: int, what: Callable[[], None], *, acts: bool) -> None:
        at = max(at, self.now + 1)
        self._slots[slot] = (at, acts, what)
        heapq.heappush(self._queue, (at, self.random.random(), slot))

    def run(self, seconds: int, until: Callable[[], bool]) -> None:
        """Let time pass until something is so, at most for so many seconds."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end and not until():
            at, _, slot = heapq.heappop(self._queue)
            pending = self._slots.get(slot)
            if pending is None or pending[0] != at:
                continue  # it was brought forward
            del self._slots[slot]
            self.chain.move(at)
            pending[2]()

    # ---------------------------------------------------------------------------------------------- calls

    def attempt(self, by: Address, call: Call[Any], deal: Deal) -> bool:
        """Send a transaction about a trade; say whether the contract took it, and wake whom it concerns."""
        try:
            self.chain.send(by, call)
        except RefusedError:
            return False
        drawn, faulted, ended = (self.chain.events(event.ABI) for event in (Drawn, Faulted, Ended))
        for event in faulted:
            deal.side(event["account"]).faulted = True
        after = self.chain.read(self.exchange.trade(deal.id))
        if after.dispute and deal.case is None:
            deal.case, deal.accuser, deal.about_key = CaseId(after.dispute), by, about_key(after)
            self.cases[deal.case] = deal
        for event in ended:
            self._end(deal, after, Ended.from_args(event))
        self._tell(deal)
        if drawn:  # whose turn it was in the queue of draws is not the caller's to say
            self._draw(self.cases[CaseId(drawn[0]["id"])])
        return True

    def _draw(self, deal: Deal) -> None:
        assert deal.case is not None
        deal.panel = self.chain.read(self.panel.panel_of(deal.case))
        self._tell(deal)

    def _tell(self, deal: Deal) -> None:
        for side in deal.sides:
            side.party.told(deal)
        for account in deal.panel:
            self.voters[account].told(deal)

    def _end(self, deal: Deal, trade: Trade, event: Ended) -> None:
        deal.ended = trade
        deal.seller.net = event.to_seller - trade.seller_deposit
        deal.buyer.net = event.to_buyer
        if trade.outcome != Outcome.WITHDRAWN:
            deal.buyer.net -= trade.buyer_deposit
        if trade.kind == Kind.SALE and Duty.PREPARATION in Duty(trade.buyer_done):
            deal.buyer.net -= trade.price
