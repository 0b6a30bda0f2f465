"""The trade protocol from both sides: what each state asks of whom, and what is never done."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorai_shared.bindings.fair_exchange import Kind, Outcome, State, Trade
from agorai_shared.bindings.voting_panel import Case, Config, Phase, Verdict
from agorai_shared.panel import PanelCall, PanelCase
from agorai_shared.types import Address, Wei
from agorai_vault.trade.decide import (
    MARGIN_S,
    Approve,
    Dispute,
    Duty,
    Expire,
    Finding,
    Fulfil,
    GiveEvidence,
    Inspect,
    MakeSets,
    MovePanel,
    OpenAddress,
    OpenKey,
    Settle,
    Step,
    TradeState,
    due,
    next_step,
)

SELLER, BUYER, STRANGER = Address("0xSeller"), Address("0xBuyer"), Address("0xStranger")
DEADLINE = 10_000
IN_TIME, LATER, LATE = DEADLINE - 7_000, DEADLINE - 4_000, DEADLINE + 1
NOTHING = Duty(0)
UNSEEN, GOOD, BAD = Finding.UNSEEN, Finding.GOOD, Finding.BAD
SALE = Trade(
    seller=SELLER, buyer=BUYER, price=Wei(100), seller_deposit=120, buyer_deposit=130, t1=8_000, t2=8_000,
    t3=8_000, tb=8_000, deadline=DEADLINE, seller_done=0, buyer_done=0, panel_size=3, kind=Kind.SALE,
    state=State.OFFERED, outcome=Outcome.NONE, dispute=0,
)  # fmt: skip
CONFIG = Config(10, 0, 600, 60, 60, 0)
CASE = Case(
    opener=SELLER, item=1, accuser=BUYER, accused=SELLER, bonus=5, draw_block=7, deadline=DEADLINE, size=3,
    round=1, seated=3, committed=0, revealed=0, confirming=0, phase=Phase.COMMITTING, verdict=Verdict.PENDING,
)  # fmt: skip


def state(
    on_chain: State,
    seller: Duty = NOTHING,
    buyer: Duty = NOTHING,
    *,
    kind: Kind = Kind.SALE,
    key: Finding = UNSEEN,
    address: Finding = UNSEEN,
    model: Finding = UNSEEN,
    allowance: int = 1_000,
    agreed: bool = True,
) -> TradeState:
    trade = replace(SALE, state=on_chain, seller_done=int(seller), buyer_done=int(buyer), kind=kind)
    return TradeState(trade, agreed, allowance, key, address, model)


P, K, A, C = Duty.PREPARATION, Duty.KEY, Duty.ADDRESS, Duty.CONFIRMATION
JOIN = Fulfil((Duty.JOINING, P, K))
TABLE: list[tuple[TradeState, Address, int, Step | None]] = [
    # an offer: the buyer joins, pays and hands its key over at once, if its owner agreed and the money may be taken
    (state(State.OFFERED), BUYER, IN_TIME, JOIN),
    (state(State.OFFERED, agreed=False), BUYER, IN_TIME, None),
    (state(State.OFFERED, allowance=229), BUYER, IN_TIME, Approve()),
    (state(State.OFFERED, allowance=230), BUYER, IN_TIME, JOIN),
    (state(State.OFFERED, allowance=130, kind=Kind.SWAP), BUYER, IN_TIME, Fulfil((Duty.JOINING,))),
    (state(State.OFFERED), SELLER, IN_TIME, None),
    (state(State.OFFERED), BUYER, DEADLINE - MARGIN_S + 1, None),
    (state(State.OFFERED), SELLER, LATE, Expire()),
    (state(State.OFFERED), BUYER, LATE, None),
    # a sale: the seller looks at the key before it answers it, and does both its steps in one
    (state(State.PREPARING, buyer=P | K), SELLER, IN_TIME, OpenKey()),
    (state(State.PREPARING, buyer=P | K, key=GOOD), SELLER, IN_TIME, Fulfil((P, A))),
    (state(State.PREPARING, buyer=P), SELLER, IN_TIME, Fulfil((P,))),
    (state(State.PREPARING, buyer=P | K, key=BAD), SELLER, IN_TIME, Fulfil((P,))),
    (state(State.PREPARING, buyer=P | K), SELLER, LATER, Fulfil((P,))),  # a key that nobody serves
    (state(State.PREPARING, P, buyer=P | K), SELLER, LATER, OpenKey()),
    (state(State.KEYS, P, P), BUYER, IN_TIME, Fulfil((K,))),
    (state(State.KEYS, P, P), SELLER, IN_TIME, None),
    (state(State.ADDRESSES, P, P | K, key=BAD), SELLER, IN_TIME, Dispute(missing=False)),
    (state(State.ADDRESSES, P, P | K), SELLER, IN_TIME, OpenKey()),
    (state(State.ADDRESSES, P, P | K), SELLER, DEADLINE - 1_000, Dispute(missing=True)),
    (state(State.ADDRESSES, P, P | K), BUYER, IN_TIME, None),
    (state(State.ADDRESSES, P, P | K), BUYER, LATE, Expire()),
    # inspection: confirmed only when found good
    (state(State.INSPECTING, P | A, P | K), BUYER, IN_TIME, OpenAddress()),
    (state(State.INSPECTING, P | A, P | K, address=GOOD), BUYER, IN_TIME, Inspect()),
    (state(State.INSPECTING, P | A, P | K, address=GOOD, model=GOOD), BUYER, IN_TIME, Fulfil((C,))),
    (state(State.INSPECTING, P | A, P | K, address=GOOD, model=BAD), BUYER, IN_TIME, Dispute(missing=False)),
    (state(State.INSPECTING, P | A, P | K, address=BAD), BUYER, IN_TIME, Dispute(missing=False)),
    (state(State.INSPECTING, P | A, P | K, address=GOOD), BUYER, DEADLINE - 1_000, Dispute(missing=True)),
    (state(State.INSPECTING, P | A, P | K, key=GOOD), SELLER, IN_TIME, None),
    (state(State.INSPECTING, P | A, P | K, key=GOOD), SELLER, LATE, Expire()),
    # a swap: both do both
    (state(State.PREPARING, kind=Kind.SWAP), SELLER, IN_TIME, Fulfil((P, K))),
    (state(State.PREPARING, kind=Kind.SWAP, seller=P | K), BUYER, IN_TIME, OpenKey()),
    (state(State.PREPARING, kind=Kind.SWAP, seller=P | K, key=GOOD), BUYER, IN_TIME, Fulfil((P, K, A))),
    (state(State.ADDRESSES, P | K, P | K | A, kind=Kind.SWAP, key=GOOD), SELLER, IN_TIME, OpenAddress()),
    (
        state(State.ADDRESSES, P | K, P | K | A, kind=Kind.SWAP, key=GOOD, address=GOOD),
        SELLER, IN_TIME, Fulfil((A,)),
    ),
    (
        state(State.ADDRESSES, P | K, P | K | A, kind=Kind.SWAP, key=GOOD),
        SELLER, LATER, Fulfil((A,)),
    ),
    (state(State.PREPARING, kind=Kind.SWAP, seller=P | K), BUYER, LATER, Fulfil((P, K))),
    # over
    (state(State.ENDED), SELLER, LATE, None),
    (state(State.PREPARING), STRANGER, LATE, None),
]  # fmt: skip


@pytest.mark.parametrize(("given_", "me", "now", "step"), TABLE)
def test_the_next_step_is_the_papers(given_: TradeState, me: Address, now: int, step: Step | None) -> None:
    assert next_step(given_, me, now) == step


def test_a_dispute_is_evidenced_moved_on_and_settled() -> None:
    disputed = replace(state(State.DISPUTED, P | A, P | K), voters=3)
    assert next_step(disputed, SELLER, IN_TIME) is None  # the case is not read yet
    pending = replace(disputed, case=PanelCase(CASE, CONFIG))
    assert next_step(pending, SELLER, IN_TIME) == GiveEvidence(3)
    shown = replace(pending, evidence=3)
    assert next_step(shown, SELLER, IN_TIME) is None
    assert due(shown, SELLER, IN_TIME) == DEADLINE + 1
    drawing = replace(shown, case=PanelCase(replace(CASE, phase=Phase.DRAWING), CONFIG))
    assert next_step(drawing, SELLER, IN_TIME) == MovePanel(PanelCall.DRAW)
    failed = replace(shown, case=PanelCase(replace(CASE, phase=Phase.DRAWING, draw_block=0), CONFIG))
    assert next_step(failed, SELLER, IN_TIME) == MovePanel(PanelCall.CLOSE)
    # the time to reveal begins though no block tells of it, and ends
    assert next_step(shown, SELLER, DEADLINE + 60) is None
    assert next_step(shown, SELLER, DEADLINE + 61) == MovePanel(PanelCall.CLOSE)
    closed = replace(shown, case=PanelCase(replace(CASE, verdict=Verdict.REJECTED), CONFIG))
    assert next_step(closed, SELLER, IN_TIME) == Settle()


def test_an_address_that_was_missing_is_looked_for_while_voters_judge() -> None:
    disputed = replace(state(State.DISPUTED, P | A, P | K), case=PanelCase(CASE, CONFIG), voters=3)
    assert next_step(disputed, BUYER, IN_TIME) == OpenAddress()
    assert next_step(replace(disputed, address=GOOD), BUYER, IN_TIME) == GiveEvidence(3)
    drawing = replace(disputed, case=PanelCase(replace(CASE, phase=Phase.DRAWING), CONFIG))
    assert next_step(drawing, BUYER, IN_TIME) == MovePanel(PanelCall.DRAW)
    assert next_step(disputed, BUYER, DEADLINE + 61) == MovePanel(PanelCall.CLOSE)
    closed = replace(disputed, case=PanelCase(replace(CASE, verdict=Verdict.CONFIRMED), CONFIG))
    assert next_step(closed, BUYER, IN_TIME) == Settle()


def judged(case: Case = CASE, **known: Any) -> TradeState:
    """Give a dispute about the seller's model that is judged by sets; the time to commit is 9,940 to 10,000."""
    passed = state(State.DISPUTED, P | A, P | K, address=GOOD, model=BAD)
    return replace(passed, case=PanelCase(case, CONFIG), by_sets=True, **known)


DRAWING = replace(CASE, phase=Phase.DRAWING)
BY_SETS: list[tuple[TradeState, Address, int, Step | None]] = [
    # the accused makes its sets as soon as it is accused, and shows them once there are voters
    (judged(DRAWING), SELLER, 9_000, MakeSets(final=False)),
    (judged(voters=3), SELLER, 9_950, MakeSets(final=False)),
    (judged(voters=3), SELLER, 9_951, MakeSets(final=True)),
    (judged(DRAWING), SELLER, 9_980, MakeSets(final=False)),
    (judged(made_sets=True, voters=3), SELLER, 9_950, GiveEvidence(3)),
    (judged(made_sets=True, voters=3, evidence=3), SELLER, 9_950, None),
    (judged(made_sets=True, voters=5, evidence=3), SELLER, 9_950, GiveEvidence(5)),
    # the accuser waits for them, however long: who shows none loses
    (judged(voters=3), BUYER, 9_950, None),
    (judged(voters=3), BUYER, 9_999, None),
    (judged(voters=3, answered=True), BUYER, 9_950, GiveEvidence(3)),
    (judged(voters=3, answered=True, evidence=3), BUYER, 9_950, None),
    # an address that was not served may still turn out bad
    (replace(judged(voters=3), address=UNSEEN), BUYER, 9_950, OpenAddress()),
    (replace(judged(voters=3, answered=True), address=UNSEEN), BUYER, 9_950, GiveEvidence(3)),
    (replace(judged(DRAWING), address=UNSEEN), BUYER, 9_950, MovePanel(PanelCall.DRAW)),
    (replace(judged(replace(CASE, verdict=Verdict.REJECTED)), address=UNSEEN), BUYER, 9_950, Settle()),
]


@pytest.mark.parametrize(("given_", "me", "now", "step"), BY_SETS)
def test_where_sets_are_judged_the_accused_shows_them_first_and_the_accuser_chooses(
    given_: TradeState, me: Address, now: int, step: Step | None
) -> None:
    assert next_step(given_, me, now) == step


def test_who_is_accused_of_a_bad_key_has_nothing_to_show() -> None:
    accused = replace(CASE, accuser=SELLER, accused=BUYER)
    disputed = replace(state(State.DISPUTED, P, P | K), case=PanelCase(accused, CONFIG), voters=3)
    assert next_step(disputed, BUYER, IN_TIME) is None
    assert next_step(disputed, SELLER, IN_TIME) == GiveEvidence(3)


@given(
    on_chain=st.sampled_from(State),
    kind=st.sampled_from(Kind),
    seller=st.integers(0, 15),
    buyer=st.integers(0, 15),
    findings=st.tuples(*[st.sampled_from(Finding)] * 3),
    me=st.sampled_from([SELLER, BUYER]),
    now=st.integers(0, 2 * DEADLINE),
)
def test_nothing_is_confirmed_that_was_not_found_good_nor_done_twice_nor_too_late(
    on_chain: State,
    kind: Kind,
    seller: int,
    buyer: int,
    findings: tuple[Finding, Finding, Finding],
    me: Address,
    now: int,
) -> None:
    key, address, model = findings
    if on_chain == State.OFFERED:  # where nobody can have done anything
        seller = buyer = 0
    looked_at = state(on_chain, Duty(seller), Duty(buyer), kind=kind, key=key, address=address, model=model)
    step = next_step(looked_at, me, now)
    mine = Duty(seller if me == SELLER else buyer)
    if isinstance(step, Fulfil):
        assert now <= DEADLINE - MARGIN_S
        assert not any(duty in mine for duty in step.duties)
        assert Duty.CONFIRMATION not in step.duties or model is GOOD
        assert Duty.ADDRESS not in step.duties or key is GOOD
    if isinstance(step, Expire):
        assert now > DEADLINE
    if isinstance(step, Dispute):
        assert on_chain in (State.ADDRESSES, State.INSPECTING)
        assert (key if on_chain == State.ADDRESSES else model) is not GOOD
    if step is None and on_chain not in (State.NONE, State.ENDED, State.DISPUTED):
        assert due(looked_at, me, now) is not None
