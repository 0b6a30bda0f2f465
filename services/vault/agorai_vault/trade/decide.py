"""What one party does next about one trade ("Fair and autonomous sharing", IV, seen from both sides).

Pure: no clock, no chain, no key. A side does each of its duties as early as the contract lets it, as many in one
transaction as are due. It never confirms what it has not found good, disputes what it has found bad while there is
time, and ends what the other side let lapse.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntFlag

from agorai_shared.bindings.fair_exchange import Kind, State, Trade
from agorai_shared.bindings.voting_panel import Phase
from agorai_shared.panel import PanelCall, PanelCase
from agorai_shared.types import Address

MARGIN_S = 5
"""A step this close to a deadline may be mined after it and only cost its gas."""

PATIENCE_SHARE = 4
"""What cannot be had (a message or a package that nobody serves) is looked for before one's own duties in the first
quarter of the time, after them in the next two, and disputed in the last."""


class Duty(IntFlag):
    """A side's steps, as `Trade.seller_done` and `buyer_done` count them, and the buyer's joining."""

    PREPARATION = 1
    KEY = 2
    ADDRESS = 4
    CONFIRMATION = 8
    JOINING = 16


class Finding(Enum):
    """What this node found of something that the other side handed over."""

    UNSEEN = "unseen"
    GOOD = "good"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class TradeState:
    """One trade as the chain has it at a final block, and what this node holds of it."""

    trade: Trade
    agreed: bool
    """Whether this node's owner agreed to the terms with which the trade was opened."""
    allowance: int
    """What the contract may take of this account's, in the token's smallest unit."""
    key: Finding
    """The other side's key message."""
    address: Finding
    """The other side's address message."""
    model: Finding
    """The other side's model, against what it promised."""
    case: PanelCase | None = None
    """The panel's case, in a dispute."""
    voters: int = 0
    """How many were ever drawn for it."""
    evidence: int = 0
    """For how many of them this node's evidence is on the chain."""
    by_sets: bool = False
    """Whether voters are to judge by parameter sets of low quality, and not by the model (IV-D)."""
    made_sets: bool = False
    """Whether this node has made such sets of its own model, or found that none can be made."""
    answered: bool = False
    """Whether any evidence of the accused's is on the chain."""


@dataclass(frozen=True, slots=True)
class Approve:
    """Let the contract take what this account itself tells it to."""


@dataclass(frozen=True, slots=True)
class Fulfil:
    """Do these duties, in one transaction: in their order."""

    duties: tuple[Duty, ...]


@dataclass(frozen=True, slots=True)
class OpenKey:
    """Fetch and open the other side's key message."""


@dataclass(frozen=True, slots=True)
class OpenAddress:
    """Fetch and open the other side's address message."""


@dataclass(frozen=True, slots=True)
class Inspect:
    """Evaluate the other side's model."""


@dataclass(frozen=True, slots=True)
class Dispute:
    """Have voters judge the other side: what it handed over is bad, or `missing`."""

    missing: bool


@dataclass(frozen=True, slots=True)
class MakeSets:
    """Make parameter sets of low quality of this side's own model; `final` once it will not be tried any longer."""

    final: bool


@dataclass(frozen=True, slots=True)
class GiveEvidence:
    """Show these many voters drawn what they judge by, and put its digest on the chain."""

    voters: int


@dataclass(frozen=True, slots=True)
class MovePanel:
    """Make the call of the panel that anyone may make."""

    call: PanelCall


@dataclass(frozen=True, slots=True)
class Settle:
    """End the trade on the panel's verdict."""


@dataclass(frozen=True, slots=True)
class Expire:
    """End a trade of which a limit was missed."""


Step = (
    Approve
    | Fulfil
    | OpenKey
    | OpenAddress
    | Inspect
    | Dispute
    | MakeSets
    | GiveEvidence
    | MovePanel
    | Settle
    | Expire
)


def next_step(state: TradeState, me: Address, now: int) -> Step | None:
    """Give the one next step of `me`, or nothing; `now` in seconds since 1970."""
    trade = state.trade
    if me not in (trade.seller, trade.buyer) or trade.state in (State.NONE, State.ENDED):
        return None
    if trade.state == State.DISPUTED:
        return _in_dispute(state, me, now)
    if now > trade.deadline:  # an offer that was not taken up concerns only who paid a deposit
        return Expire() if trade.state != State.OFFERED or me == trade.seller else None
    if now > trade.deadline - MARGIN_S:
        return None
    if trade.state == State.OFFERED:
        return _join(state, me)
    return _judge(state, me, now) or _go_on(state, me, now)


def due(state: TradeState, me: Address, now: int) -> int | None:
    """Say when time alone brings a step: past the deadline, and when what cannot be inspected is disputed."""
    trade = state.trade
    if trade.state in (State.NONE, State.ENDED):
        return None
    if trade.state == State.DISPUTED:
        return None if state.case is None else state.case.phase(now)[1] + 1
    turns = [_second_quarter(trade), patience_ends(trade)]
    return min((at for at in turns if at > now), default=trade.deadline + 1)


def receives(trade: Trade, me: Address) -> bool:
    """Say whether a side is handed a model."""
    return trade.kind == Kind.SWAP or me == trade.buyer


def hands_over(trade: Trade, me: Address) -> bool:
    """Say whether a side hands a model over."""
    return trade.kind == Kind.SWAP or me == trade.seller


def done(trade: Trade, account: Address) -> Duty:
    """Give what a side has done."""
    return Duty(trade.seller_done if account == trade.seller else trade.buyer_done)


def other(trade: Trade, me: Address) -> Address:
    """Give the other side."""
    return trade.buyer if me == trade.seller else trade.seller


def patience_ends(trade: Trade) -> int:
    """Give from when on what cannot be had is disputed, in seconds since 1970."""
    return _last_quarter(trade, _limit(trade))


def about_key(trade: Trade) -> bool:
    """Say whether a dispute was begun before all addresses were passed: then it is a key that is said to be bad."""
    givers = [trade.seller, *([trade.buyer] if trade.kind == Kind.SWAP else [])]
    return any(Duty.ADDRESS not in done(trade, giver) for giver in givers)


def sets_due(case: PanelCase) -> int:
    """Give by when the accused must have shown its sets, in seconds since 1970.

    It has the first third of the time to commit, the accuser the second to answer, and in the third the voters judge
    by what there is. Who shows sets later, and is not answered, has left no time for an answer.
    """
    return case.case.deadline - case.config.commit_window * 2 // 3


def _join(state: TradeState, me: Address) -> Step | None:
    if me != state.trade.buyer or not state.agreed:
        return None
    needed = state.trade.buyer_deposit + (0 if state.trade.kind == Kind.SWAP else state.trade.price)
    if state.allowance < needed:
        return Approve()
    if state.trade.kind == Kind.SWAP:  # the package names the trade: it can be made only now
        return Fulfil((Duty.JOINING,))
    return Fulfil((Duty.JOINING, Duty.PREPARATION, Duty.KEY))


def _judge(state: TradeState, me: Address, now: int) -> Step | None:
    """Object to what is not good, or cannot be had, while there is time; confirm what was found good."""
    trade, mine = state.trade, done(state.trade, me)
    if trade.state == State.ADDRESSES and hands_over(trade, me) and Duty.ADDRESS not in mine:
        return _objection(now, trade, trade.t3, state.key)
    if trade.state != State.INSPECTING or not receives(trade, me) or Duty.CONFIRMATION in mine:
        return None
    if state.model is Finding.GOOD:
        return Fulfil((Duty.CONFIRMATION,))
    return _objection(now, trade, trade.tb, state.address, state.model)


def _go_on(state: TradeState, me: Address, now: int) -> Step | None:
    """Look, and do this side's duties: what nobody serves must not keep it from them, what is served saves a step."""
    look, fulfil = _look(state, me), _fulfil(state, me)
    return look or fulfil if now < _second_quarter(state.trade) else fulfil or look


def _look(state: TradeState, me: Address) -> Step | None:
    """Look at what the other side handed over."""
    trade, theirs = state.trade, done(state.trade, other(state.trade, me))
    if hands_over(trade, me) and Duty.KEY in theirs and state.key is Finding.UNSEEN:
        return OpenKey()
    if not receives(trade, me) or Duty.ADDRESS not in theirs:
        return None
    if state.address is Finding.UNSEEN:
        return OpenAddress()
    wanted = trade.state == State.INSPECTING and Duty.CONFIRMATION not in done(trade, me)
    return Inspect() if wanted and state.address is Finding.GOOD and state.model is Finding.UNSEEN else None


def _fulfil(state: TradeState, me: Address) -> Step | None:
    """Do what is this side's to do, as early as the contract lets it."""
    trade, mine = state.trade, done(state.trade, me)
    duties: list[Duty] = []
    if Duty.PREPARATION not in mine:
        duties.append(Duty.PREPARATION)
    if receives(trade, me) and Duty.KEY not in mine:
        duties.append(Duty.KEY)
    if hands_over(trade, me) and Duty.ADDRESS not in mine and state.key is Finding.GOOD:
        duties.append(Duty.ADDRESS)
    return Fulfil(tuple(duties)) if duties else None


def _in_dispute(state: TradeState, me: Address, now: int) -> Step | None:
    if state.case is None:
        return None
    if not state.case.pending:
        return Settle()
    accused = me == state.case.case.accused
    if state.by_sets and accused and not state.made_sets:
        half_way = sets_due(state.case) - state.case.config.commit_window // 6
        return MakeSets(final=state.case.case.phase == Phase.COMMITTING and now > half_way)
    call = state.case.call(now)
    move = None if call is None else MovePanel(call)
    # An address that nobody served may be served, and found bad or good, while voters judge; who pays for it all the
    # same must have it. What cannot be opened cannot be disclosed either.
    unseen = not accused and not about_key(state.trade) and state.address is Finding.UNSEEN
    if unseen and not state.by_sets:
        return move or OpenAddress()
    # Who chooses before the sets are fixed lets the accused fit them to the choice; one that never shows any loses.
    waits = state.by_sets and not accused and not state.answered
    needless = accused and about_key(state.trade)  # which the accuser alone can open
    if state.evidence < state.voters and not waits and not needless:
        return GiveEvidence(state.voters)
    return move or (OpenAddress() if unseen else None)


def _objection(now: int, trade: Trade, limit: int, *found: Finding) -> Dispute | None:
    if Finding.BAD in found:
        return Dispute(missing=False)
    late = Finding.UNSEEN in found and now >= _last_quarter(trade, limit)
    return Dispute(missing=True) if late else None


def _limit(trade: Trade) -> int:
    limits = {State.PREPARING: trade.t1, State.KEYS: trade.t2, State.ADDRESSES: trade.t3}
    return limits.get(trade.state, trade.tb)


def _second_quarter(trade: Trade) -> int:
    return trade.deadline - _limit(trade) * (PATIENCE_SHARE - 1) // PATIENCE_SHARE


def _last_quarter(trade: Trade, limit: int) -> int:
    return trade.deadline - max(limit // PATIENCE_SHARE, MARGIN_S + 1)
