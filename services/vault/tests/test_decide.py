"""The invocation protocol from both sides, and as a whole: money never stays in the contract."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorai_shared.bindings.invocation import Item, State
from agorai_shared.types import Address, Digest, ResourceId, Wei
from agorai_vault.decide import (
    DELIVERY_MARGIN_S,
    Deliver,
    InvocationState,
    Refund,
    Step,
    TakeGrant,
    due,
    next_step,
)

OWNER, PAYER, STRANGER = Address("0xOwner"), Address("0xPayer"), Address("0xStranger")
DEADLINE = 1000
ITEM = Item(PAYER, OWNER, Wei(5), ResourceId(1), DEADLINE, 0, 0, 0, False, State.PAID, Digest(bytes(32)))
EARLY, LAST, MARGIN = 0, DEADLINE - DELIVERY_MARGIN_S, DEADLINE - DELIVERY_MARGIN_S + 1
LATE = DEADLINE + 1

TABLE: list[tuple[State, bool, Address, int, type[Step] | None]] = [
    (State.PAID, False, OWNER, EARLY, Deliver),
    (State.PAID, False, OWNER, LAST, Deliver),
    (State.PAID, False, OWNER, MARGIN, None),
    (State.PAID, False, OWNER, DEADLINE, None),
    (State.PAID, False, OWNER, LATE, None),
    (State.PAID, False, PAYER, EARLY, None),
    (State.PAID, False, PAYER, DEADLINE, None),
    (State.PAID, False, PAYER, LATE, Refund),
    (State.DELIVERED, False, PAYER, EARLY, TakeGrant),
    (State.DELIVERED, False, PAYER, LATE, TakeGrant),
    (State.DELIVERED, True, PAYER, EARLY, None),
    (State.DELIVERED, True, PAYER, LATE, None),
    (State.DELIVERED, False, OWNER, EARLY, None),
    (State.DELIVERED, False, OWNER, LATE, None),
    *(
        (state, settled, me, now, None)
        for state in (State.NONE, State.REFUNDED)
        for settled in (False, True)
        for me in (OWNER, PAYER)
        for now in (EARLY, DEADLINE, LATE)
    ),
    *(
        (state, settled, STRANGER, now, None)
        for state in State
        for settled in (False, True)
        for now in (EARLY, DEADLINE, LATE)
    ),
]


@pytest.mark.parametrize(("state", "settled", "me", "now", "step"), TABLE)
def test_each_party_does_in_each_state_and_time_what_the_table_says(
    state: State, settled: bool, me: Address, now: int, step: type[Step] | None
) -> None:
    decided = next_step(InvocationState(replace(ITEM, state=state), settled), me, now)
    assert (type(decided) if decided else None) is step


def test_only_the_payer_of_what_is_paid_waits_for_the_deadline() -> None:
    for state in State:
        for me in (OWNER, PAYER, STRANGER):
            expected = DEADLINE + 1 if (state, me) == (State.PAID, PAYER) else None
            assert due(InvocationState(replace(ITEM, state=state), False), me) == expected


times = st.integers(0, 1 << 40)
states = st.builds(
    lambda state, deadline, settled, same: InvocationState(
        replace(ITEM, state=state, deadline=deadline, payer=OWNER if same else PAYER), settled
    ),
    st.sampled_from(State),
    times,
    st.booleans(),
    st.booleans(),
)


@given(states, times)
def test_at_no_time_does_one_deliver_while_the_other_refunds(state: InvocationState, now: int) -> None:
    steps = {type(next_step(state, me, now)) for me in (OWNER, PAYER, STRANGER)}
    assert not steps >= {Deliver, Refund}


@given(states, times, times)
def test_who_may_have_the_money_back_may_at_any_later_time(
    state: InvocationState, now: int, later: int
) -> None:
    if isinstance(next_step(state, state.item.payer, now), Refund):
        assert isinstance(next_step(state, state.item.payer, now + later), Refund)


@given(states, times)
def test_when_a_look_falls_due_there_is_a_step(state: InvocationState, now: int) -> None:
    for me in (OWNER, PAYER):
        when = due(state, me)
        if when is not None and next_step(state, me, now) is None:
            assert next_step(state, me, max(now, when)) is not None


class Contract:
    """What `Invocation.sol` does with one item, in as many lines."""

    def __init__(self, deadline: int) -> None:
        self.item = replace(ITEM, deadline=deadline)
        self.credit: dict[Address, int] = {OWNER: 0, PAYER: 0}
        self.reverted = 0

    def do(self, step: Step, now: int) -> None:
        open_ = self.item.state == State.PAID
        if isinstance(step, Deliver) and open_ and now <= self.item.deadline:
            self.credit[OWNER] += self.item.price
            self.item = replace(self.item, state=State.DELIVERED)
        elif isinstance(step, Refund) and open_ and now > self.item.deadline:
            self.credit[PAYER] += self.item.price
            self.item = replace(self.item, state=State.REFUNDED)
        else:
            self.reverted += 1


moves = st.lists(
    st.tuples(st.sampled_from([OWNER, PAYER]), st.integers(0, 20), st.integers(0, 8)), max_size=40
)


@given(deadline=st.integers(0, 120), moves=moves, late=st.integers(0, 300))
def test_money_never_stays_in_the_contract(
    deadline: int, moves: list[tuple[Address, int, int]], late: int
) -> None:
    """Each move: who is awake, seconds until then, and seconds that its transaction takes to be mined."""
    contract, now, settled = Contract(deadline), 0, False
    for me, waited, mining in moves:
        now += waited
        step = next_step(InvocationState(contract.item, settled), me, now)
        if isinstance(step, TakeGrant):
            settled = True
        elif step is not None:
            now += mining
            contract.do(step, now)
        assert sum(contract.credit.values()) <= contract.item.price
    # However it went so far: once the payer's node is awake when it said it wanted to be, all is settled.
    when = due(InvocationState(contract.item, settled), PAYER)
    now = max(now, when or 0) + late
    for _ in range(2):
        step = next_step(InvocationState(contract.item, settled), PAYER, now)
        if isinstance(step, TakeGrant):
            settled = True
        elif step is not None:
            contract.do(step, now)
    assert sum(contract.credit.values()) == contract.item.price
    assert contract.item.state == State.REFUNDED or settled
    assert contract.reverted <= len(moves)


@given(deadline=st.integers(10, 100), mining=st.integers(0, DELIVERY_MARGIN_S))
def test_a_delivery_mined_within_the_margin_never_reverts(deadline: int, mining: int) -> None:
    for now in range(deadline + 2):
        contract = Contract(deadline)
        step = next_step(InvocationState(contract.item, False), OWNER, now)
        if step is not None:
            contract.do(step, now + mining)
        assert contract.reverted == 0
