"""Negotiation: both sides come to the same terms, or to none; what is out of place changes nothing."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import product
from typing import Any

import orjson
import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agorai_shared import cid as cids
from agorai_shared.negotiation import (
    MOST_DEPOSIT,
    MOST_PRICE,
    Accept,
    Agreed,
    Agreement,
    Answer,
    Ask,
    BodyMalformedError,
    Counter,
    Declined,
    Kind,
    Limits,
    LimitsTooShortError,
    Listing,
    Mode,
    Negotiation,
    OutOfPlaceError,
    Quote,
    Role,
    State,
    Swap,
    begun,
    counter,
    objection,
    opened,
    quote,
    read,
    received,
    terms,
)
from agorai_shared.types import Address

ALICE, BOB, CAROL = (Address(Account.from_key(n.to_bytes(32)).address) for n in (1, 2, 3))
DATA, OTHER_DATA, TEST = (cids.of_raw(name) for name in (b"data", b"other data", b"sealed test data"))
ID = "0a" * 16
LIMITS = Limits(t0=60, t1=120, t2=180, t3=240, tb=300)
MODEL, OWN = 7, 9
"""Alice's model, and Bob's."""
BIG = 123_456_789_012_345_678_901_234
"""Wei; more than any reader's floating-point number or 64 bits hold."""


def listing(**changed: Any) -> Listing:
    members: dict[str, Any] = {
        "resource": MODEL,
        "price": 100,
        "least": 80,
        "limits": LIMITS,
        "accuracy": 9_000,
        "test": TEST,
    }
    return Listing(**members | changed)


def ask(**changed: Any) -> Ask:
    return Ask(**{"ask": ID, "resource": MODEL, "price": 100, "verification": DATA} | changed)


def quoted(given_listing: Listing, given_ask: Ask) -> Quote:
    given = quote(given_listing, given_ask)
    assert isinstance(given, Quote)
    return given


SWAPPING = listing(swaps=(Swap(resource=OWN, verification=OTHER_DATA),))
HAVING = ask(have=(3, OWN))
BOBS = listing(resource=OWN, price=100, least=1, accuracy=9_500)


def asked(given_ask: Ask) -> Negotiation:
    return Negotiation(role=Role.ASKER, me=BOB, other=ALICE, ask=given_ask, state=State.ASKED)


def talked(
    given_ask: Ask, alices: Listing | None, bobs: dict[int, Listing]
) -> tuple[Negotiation, Negotiation, list[str]]:
    """Have both sides talk until neither has an answer, over the wire's form; gives both sides."""
    bob = asked(given_ask)
    sent = read(given_ask.model_dump_json())
    assert isinstance(sent, Ask)
    reply: Answer | None
    alice, reply = begun(sent, ALICE, BOB, alices, set(sent.have))
    said: list[str] = [reply.kind]
    turn = Role.ASKER
    while reply is not None:
        over_the_wire = read(orjson.dumps(orjson.loads(reply.model_dump_json())).decode())
        assert over_the_wire == reply
        assert not isinstance(over_the_wire, Ask)
        if turn == Role.ASKER:
            bob, reply = received(bob, over_the_wire, bobs)
        else:
            alice, reply = received(alice, over_the_wire, {} if alices is None else {MODEL: alices})
        turn = Role.SELLER if turn == Role.ASKER else Role.ASKER
        said += [reply.kind] if reply else []
    return bob, alice, said


def test_an_offer_is_quoted_accepted_and_agreed_as_a_sale() -> None:
    bob, alice, said = talked(ask(price=90), listing(deposit_percent=150), {})
    assert said == ["quote", "accept", "agreed"]
    assert (bob.state, alice.state) == (State.AGREED, State.AGREED)
    assert bob.terms == alice.terms
    assert bob.terms == Agreement(
        kind=Kind.SALE,
        mode=Mode.DIRECT,
        seller=ALICE,
        buyer=BOB,
        seller_resource=MODEL,
        buyer_resource=0,
        price=90,
        seller_deposit=135,
        buyer_deposit=135,
        t0=60,
        t1=120,
        t2=180,
        t3=240,
        tb=300,
        seller_accuracy=9_000,
        buyer_accuracy=0,
        panel_size=3,
        seller_verification=cids.digest_of(DATA),
        buyer_verification=bytes(32),
    )


def test_models_of_one_price_are_swapped() -> None:
    bob, alice, said = talked(HAVING, SWAPPING, {OWN: BOBS})
    assert said == ["quote", "counter", "agreed"]
    assert bob.terms == alice.terms
    agreement = bob.terms
    assert agreement is not None
    assert (agreement.kind, agreement.price) == (Kind.SWAP, 100)
    assert (agreement.seller_resource, agreement.buyer_resource) == (MODEL, OWN)
    assert (agreement.seller_accuracy, agreement.buyer_accuracy) == (9_000, 9_500)
    assert agreement.buyer_verification == cids.digest_of(OTHER_DATA)


@pytest.mark.parametrize("price", [99, 101])
def test_models_of_different_prices_are_sold_at_the_sellers_price(price: int) -> None:
    bob, alice, said = talked(HAVING, SWAPPING, {OWN: listing(resource=OWN, price=price, least=1)})
    assert said == ["quote", "counter", "agreed"]
    assert bob.terms == alice.terms
    assert bob.terms is not None
    assert (bob.terms.kind, bob.terms.price, bob.terms.buyer_resource) == (Kind.SALE, 100, 0)


@pytest.mark.parametrize(
    "bobs",
    [
        {},
        {OWN: listing(resource=OWN, mode=Mode.PAPER)},
        {OWN: listing(resource=OWN, verification=(DATA,))},
    ],
    ids=["not listed", "another mode", "other data"],
)
def test_a_wanted_model_that_cannot_be_swapped_so_leaves_a_sale(bobs: dict[int, Listing]) -> None:
    bob, _, said = talked(HAVING, SWAPPING, bobs)
    assert said == ["quote", "accept", "agreed"]
    assert bob.terms is not None
    assert bob.terms.kind == Kind.SALE


@pytest.mark.parametrize(
    ("having", "bobs"),
    [
        ((), {}),
        ((OWN,), {}),
        ((OWN,), {OWN: listing(resource=OWN, price=99, least=1)}),
        ((OWN,), {OWN: listing(resource=OWN, mode=Mode.PAPER)}),
    ],
    ids=["no model", "a model that is not listed", "another price", "another mode"],
)
def test_an_ask_without_an_offer_only_learns_the_price(
    having: tuple[int, ...], bobs: dict[int, Listing]
) -> None:
    bob, alice, said = talked(ask(price=0, have=having), SWAPPING, bobs)
    assert said == ["quote"]
    assert bob.quote is not None
    assert (bob.state, bob.quote.price, bob.quote.wants) == (State.QUOTED, 100, OWN if having else None)
    for answer in (Accept(ask=ID), Counter(ask=ID, price=99, accuracy=9_500)):
        with pytest.raises(OutOfPlaceError, match="offered nothing"):
            received(alice, answer, {MODEL: SWAPPING})


def test_an_ask_without_an_offer_swaps_a_wanted_model_of_the_same_price() -> None:
    bob, alice, said = talked(ask(price=0, have=(OWN,)), SWAPPING, {OWN: BOBS})
    assert said == ["quote", "counter", "agreed"]
    assert bob.terms == alice.terms
    assert bob.terms is not None
    assert (bob.terms.kind, bob.terms.price, bob.terms.buyer_resource) == (Kind.SWAP, 100, OWN)


def test_an_ask_without_an_offer_is_not_drawn_into_a_swap_of_what_it_did_not_name() -> None:
    bobs = {OWN: BOBS}
    bob = asked(ask(price=0, have=(3,)))
    lured, reply = received(bob, quoted(SWAPPING, ask(price=0, have=(OWN,))), bobs)
    assert (lured.state, reply) == (State.QUOTED, None)
    dear = listing(swaps=SWAPPING.swaps).model_copy(update={"deposit_percent": 400})
    bob = asked(ask(price=0, have=(OWN,)))
    quote_of_dear, reply = received(bob, quoted(dear, ask(price=0, have=(OWN,))), bobs)
    assert (quote_of_dear.state, reply) == (State.QUOTED, None)


@pytest.mark.parametrize(("offer", "price"), [(80, 80), (99, 99), (100, 100), (250, 250)])
def test_an_offer_that_is_enough_is_taken_and_carried_beside_what_is_asked(offer: int, price: int) -> None:
    given_quote = quoted(listing(), ask(price=offer))
    assert (given_quote.price, given_quote.asked) == (price, 100)


def test_an_offer_below_the_least_price_is_declined() -> None:
    bob, alice, said = talked(ask(price=79), listing(), {})
    assert said == ["declined"]
    assert (bob.state, alice.state, bob.why) == (State.DECLINED, State.DECLINED, alice.why)
    assert "80" not in bob.why  # what the least price is stays the seller's to know


def test_a_model_that_is_not_for_sale_is_declined() -> None:
    bob, alice, _ = talked(ask(), None, {})
    assert (bob.state, alice.state) == (State.DECLINED, State.DECLINED)
    assert "not for sale" in bob.why


def test_verification_data_that_the_seller_does_not_take_is_declined_and_told() -> None:
    bob, _, _ = talked(ask(), listing(verification=(OTHER_DATA,)), {})
    assert (bob.state, OTHER_DATA in bob.why) == (State.DECLINED, True)
    assert talked(ask(), listing(verification=(OTHER_DATA, DATA)), {})[0].state == State.AGREED
    assert talked(ask(), listing(verification=()), {})[0].state == State.DECLINED


def test_models_that_are_not_the_askers_are_not_wanted() -> None:
    _, reply = begun(HAVING, ALICE, BOB, SWAPPING, set())
    assert isinstance(reply, Quote)
    assert reply.wants is None


def test_a_model_is_not_swapped_for_itself() -> None:
    with pytest.raises(ValidationError, match="for itself"):
        listing(swaps=(Swap(resource=MODEL, verification=DATA),))


def test_of_several_the_dearest_wish_is_wanted() -> None:
    wishes = tuple(Swap(resource=resource, verification=DATA) for resource in (5, OWN, 3))
    assert quoted(listing(swaps=wishes), HAVING).wants == OWN


def test_an_offer_changed_or_withdrawn_meanwhile_is_not_agreed_on() -> None:
    alice, _ = begun(ask(), ALICE, BOB, listing(), set())
    for listings in ({}, {MODEL: listing(accuracy=9_001)}, {MODEL: listing(price=101, least=101)}):
        changed, reply = received(alice, Accept(ask=ID), listings)
        assert (changed.state, isinstance(reply, Declined)) == (State.DECLINED, True)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"price": 101, "deposit": 101}, "above the offer"),
        ({"deposit": MOST_DEPOSIT * 100 + 1}, "deposit is above"),
        ({"wants": 4, "verification": DATA}, "was not offered"),
    ],
)
def test_a_quote_that_goes_beyond_the_offer_is_declined(change: dict[str, Any], why: str) -> None:
    given_quote = Quote(**quoted(listing(), HAVING).model_dump() | change)
    assert why in str(objection(HAVING, None, given_quote))
    bob, reply = received(asked(HAVING), given_quote, {OWN: BOBS})
    assert isinstance(reply, Declined)
    assert (bob.state, why in reply.why) == (State.DECLINED, True)


def test_the_trades_id_is_told_when_it_is_opened_and_only_once() -> None:
    bob, alice, _ = talked(ask(), listing(), {})
    alice, told = opened(alice, 17)
    bob, reply = received(bob, told, {})
    assert (bob.state, alice.state, bob.trade, alice.trade, reply) == (
        State.OPENED,
        State.OPENED,
        17,
        17,
        None,
    )
    with pytest.raises(OutOfPlaceError):
        opened(alice, 18)
    with pytest.raises(OutOfPlaceError):
        received(bob, told, {})
    with pytest.raises(OutOfPlaceError):
        opened(bob, 18)


def test_an_opening_that_overtakes_the_agreement_is_taken() -> None:
    alice, first = begun(ask(), ALICE, BOB, listing(), set())
    assert isinstance(first, Quote)
    bob, accept = received(asked(ask()), first, {})
    assert isinstance(accept, Accept)
    alice, late = received(alice, accept, {MODEL: listing()})
    _, told = opened(alice, 17)
    bob, _ = received(bob, told, {})
    assert (bob.state, bob.trade, bob.terms) == (State.OPENED, 17, alice.terms)
    assert isinstance(late, Agreed)
    with pytest.raises(OutOfPlaceError):
        received(bob, late, {})


AGREEMENT_CHANGES: dict[str, Any] = {
    "kind": Kind.SWAP,
    "mode": Mode.PAPER,
    "seller": CAROL,
    "buyer": CAROL,
    "seller_resource": 8,
    "buyer_resource": OWN,
    "price": 101,
    "seller_deposit": 101,
    "buyer_deposit": 101,
    "t0": 61,
    "t1": 61,
    "t2": 61,
    "t3": 61,
    "tb": 61,
    "seller_accuracy": 1,
    "buyer_accuracy": 1,
    "panel_size": 7,
    "seller_verification": bytes(32),
    "buyer_verification": b"x" * 32,
}


@pytest.mark.parametrize("name", AGREEMENT_CHANGES)
def test_terms_other_than_those_agreed_on_are_refused(name: str) -> None:
    _, first = begun(ask(), ALICE, BOB, listing(), set())
    assert isinstance(first, Quote)
    bob, _ = received(asked(ask()), first, {})
    fair = terms(ALICE, BOB, ask(), first, Accept(ask=ID))
    unfair = Agreement(
        **{field: getattr(fair, field) for field in AGREEMENT_CHANGES} | {name: AGREEMENT_CHANGES[name]}
    )
    for trade in (0, 17):
        with pytest.raises(OutOfPlaceError, match="not those that were agreed"):
            received(bob, Agreed(ask=ID, terms=unfair, trade=trade), {})
    assert received(bob, Agreed(ask=ID, terms=fair), {})[0].state == State.AGREED


def every_message() -> list[Answer]:
    first = quoted(SWAPPING, HAVING)
    agreement = terms(ALICE, BOB, HAVING, first, Counter(ask=ID, price=100, accuracy=9_500))
    return [
        first,
        Counter(ask=ID, price=100, accuracy=9_500),
        Accept(ask=ID),
        Agreed(ask=ID, terms=agreement),
        Agreed(ask=ID, terms=agreement, trade=17),
        Declined(ask=ID, why="no"),
    ]


def every_standing() -> list[Negotiation]:
    first, counter_, _, agreed, open_, declined = every_message()
    bob = asked(HAVING)
    alice, _ = begun(HAVING, ALICE, BOB, SWAPPING, {OWN})
    countered, _ = received(bob, first, {OWN: BOBS})
    accepted, _ = received(bob, first, {})
    agreed_bob, _ = received(countered, agreed, {})
    agreed_alice, _ = received(alice, counter_, {MODEL: SWAPPING})
    return [
        bob,
        received(asked(ask(price=0)), quoted(listing(), ask(price=0)), {})[0],
        countered,
        accepted,
        agreed_bob,
        received(agreed_bob, open_, {})[0],
        received(bob, declined, {})[0],
        alice,
        agreed_alice,
        opened(agreed_alice, 17)[0],
        received(alice, declined, {})[0],
    ]


AWAITED = {
    (Role.ASKER, State.ASKED): {"quote", "declined"},
    (Role.ASKER, State.QUOTED): {"declined"},
    (Role.ASKER, State.COUNTERED): {"agreed", "agreed 17", "declined"},
    (Role.ASKER, State.ACCEPTED): {"declined"},  # to the terms of a swap, at least
    (Role.ASKER, State.AGREED): {"agreed 17"},
    (Role.ASKER, State.OPENED): set(),
    (Role.ASKER, State.DECLINED): set(),
    (Role.SELLER, State.QUOTED): {"counter", "accept", "declined"},
    (Role.SELLER, State.AGREED): set(),
    (Role.SELLER, State.OPENED): set(),
    (Role.SELLER, State.DECLINED): set(),
}


def test_every_message_is_taken_where_it_belongs_and_refused_everywhere_else() -> None:
    standings = every_standing()
    assert {(standing.role, standing.state) for standing in standings} == set(AWAITED)
    for standing, message in product(standings, every_message()):
        name = f"agreed {message.trade}" if isinstance(message, Agreed) and message.trade else message.kind
        if name in AWAITED[standing.role, standing.state]:
            changed, _ = received(standing, message, {MODEL: SWAPPING, OWN: BOBS})
            assert changed.state != standing.state
        else:
            with pytest.raises(OutOfPlaceError):
                received(standing, message, {MODEL: SWAPPING, OWN: BOBS})


def test_a_counter_where_nothing_was_wanted_is_out_of_place() -> None:
    alice, _ = begun(ask(), ALICE, BOB, listing(), set())
    with pytest.raises(OutOfPlaceError, match="no model was wanted"):
        received(alice, Counter(ask=ID, price=100, accuracy=1), {MODEL: listing()})


def test_where_a_negotiation_stands_survives_the_disk() -> None:
    for standing in every_standing():
        assert Negotiation.model_validate_json(standing.model_dump_json()) == standing
        assert Negotiation.model_validate(orjson.loads(standing.model_dump_json())) == standing


@given(
    price=st.integers(1, MOST_PRICE - 1),
    percent=st.integers(100, 100 * MOST_DEPOSIT),
    offer=st.integers(0, MOST_PRICE - 1),
)
def test_a_deposit_is_at_least_the_price_and_fits_the_contract(price: int, percent: int, offer: int) -> None:
    reply = quote(listing(price=price, least=1, deposit_percent=percent), ask(price=offer))
    assert isinstance(reply, Quote)
    assert reply.price <= reply.deposit < 1 << 96
    exact = Fraction(reply.price * percent, 100)
    assert exact <= reply.deposit < exact + 1
    assert objection(ask(price=reply.price), None, reply) is None


def test_the_shortest_limit_must_leave_time_beside_a_chains_finality() -> None:
    LIMITS.require_time(30)
    with pytest.raises(LimitsTooShortError, match=r"is 60 s.*31 s old.*at least 62 s"):
        LIMITS.require_time(31)


SEEN = quoted(listing(limits=Limits(t0=100, t1=100, t2=100, t3=100, tb=100), panel_size=5), ask(price=0))
OTHER_LIMITS = [
    SEEN.limits.model_copy(update={name: other})
    for name in ("t0", "t1", "t2", "t3", "tb")
    for other in (99, 101)
]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"accuracy": SEEN.accuracy - 1}, "accuracy"),
        ({"mode": Mode.PAPER}, "who judges"),
        ({"panel_size": 3}, "who judges"),
        ({"deposit": SEEN.deposit + 2}, "deposit"),
        *[({"limits": limits}, "the limits") for limits in OTHER_LIMITS],
    ],
)
def test_an_offer_takes_the_terms_quoted_last_or_better_ones_and_no_worse(
    change: dict[str, Any], why: str
) -> None:
    offer = asked(ask(price=SEEN.price)).model_copy(update={"seen": SEEN})
    bob, reply = received(offer, SEEN.model_copy(update=change), {})
    assert (bob.state, isinstance(reply, Declined), why in bob.why) == (State.DECLINED, True, True)
    assert received(offer, SEEN, {})[0].state == State.ACCEPTED


@given(
    price=st.integers(1, MOST_PRICE - 1),
    percent=st.integers(100, 100 * MOST_DEPOSIT),
    offer=st.integers(1, MOST_PRICE - 1),
)
def test_the_same_listing_quotes_no_worse_terms_for_an_offer(price: int, percent: int, offer: int) -> None:
    policy = listing(price=price, least=1, deposit_percent=percent)
    assert objection(ask(price=offer), quoted(policy, ask(price=0)), quoted(policy, ask(price=offer))) is None


@given(
    price=st.integers(1, 1000),
    offer=st.integers(0, 1500),
    least=st.integers(1, 1000),
    own=st.integers(1, 1000),
)
def test_both_sides_always_end_with_the_same_terms_or_with_none(
    price: int, offer: int, least: int, own: int
) -> None:
    least = min(least, price)
    alices = listing(price=price, least=least, swaps=SWAPPING.swaps)
    bob, alice, _ = talked(
        ask(price=offer, have=(OWN,)), alices, {OWN: listing(resource=OWN, price=own, least=1)}
    )
    assert bob.terms == alice.terms
    if bob.terms is None:
        assert offer < least
        assert offer or own != price
    elif offer:
        assert bob.terms.price == offer >= least
        assert (bob.terms.kind == Kind.SWAP) == (own == offer)
    else:  # no money
        assert (bob.terms.kind, bob.terms.price) == (Kind.SWAP, price)
        assert own == price


def test_amounts_cross_json_to_the_last_digit() -> None:
    offer = ask(price=BIG)
    crossed = orjson.dumps(orjson.loads(offer.model_dump_json())).decode()
    assert json.loads(crossed)["price"] == str(BIG)
    assert read(crossed) == offer


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "other"},
        {"kind": None},
        {"ask": "0A" * 16},
        {"ask": ""},
        {"resource": 0},
        {"resource": 1 << 53},
        {"resource": "7"},
        {"resource": True},
        {"price": 1.0},
        {"price": True},
        {"price": "1e3"},
        {"price": "-1"},
        {"price": "01"},
        {"price": "1\n"},
        {"price": str(MOST_PRICE)},
        {"price": "9" * 5000},
        {"verification": "bafy"},
        {"verification": cids.of_dag_pb(b"")},
        {"verification": ""},
        {"have": [1] * 101},
        {"have": [0]},
        {"have": None},
        {"more": 1},
    ],
    ids=lambda change: str(change)[:40],
)
def test_a_body_of_another_form_is_refused_in_few_words(change: dict[str, object]) -> None:
    raw = json.dumps(json.loads(ask().model_dump_json()) | change)
    with pytest.raises(BodyMalformedError) as caught:
        read(raw)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("raw", ["", "null", "[]", "{}", '{"kind":"ask"}', "[" * 100_000])
def test_what_is_no_body_is_refused(raw: str) -> None:
    with pytest.raises(BodyMalformedError):
        read(raw)


@pytest.mark.parametrize(
    "change",
    [
        {"deposit": "99"},
        {"panel_size": 4},
        {"panel_size": 17},
        {"limits": {"t0": 59, "t1": 60, "t2": 60, "t3": 60, "tb": 60}},
        {"limits": {"t0": 2_592_001, "t1": 60, "t2": 60, "t3": 60, "tb": 60}},
        {"accuracy": 0},
        {"accuracy": 10_001},
        {"price": "0"},
        {"mode": 2},
        {"wants": OWN},
        {"verification": DATA},
    ],
    ids=lambda change: str(change)[:40],
)
def test_a_quote_that_no_contract_would_take_is_refused(change: dict[str, object]) -> None:
    raw = json.loads(quoted(listing(), ask()).model_dump_json())
    read(json.dumps(raw))
    with pytest.raises(BodyMalformedError):
        read(json.dumps(raw | change))


@pytest.mark.parametrize(
    "change",
    [
        {"seller": ALICE.lower()},
        {"seller_verification": "00" * 31},
        {"seller_verification": "zz" * 32},
        {"kind": 2},
        {"more": 1},
    ],
    ids=lambda change: str(change)[:40],
)
def test_terms_of_another_form_are_refused(change: dict[str, object]) -> None:
    whole = json.loads(every_message()[3].model_dump_json())
    read(json.dumps(whole))
    with pytest.raises(BodyMalformedError):
        read(json.dumps(whole | {"terms": whole["terms"] | change}))


@pytest.mark.parametrize(
    "change",
    [
        {"least": 101},
        {"least": 0},
        {"price": MOST_PRICE, "least": 1},
        {"deposit_percent": 99},
        {"deposit_percent": 100 * MOST_DEPOSIT + 1},
        {"panel_size": 4},
        {"verification": ("bafy",)},
        {"accuracy": 0},
        {"test": "no CID"},
    ],
    ids=lambda change: str(change)[:40],
)
def test_a_listing_that_no_contract_would_take_is_told_of(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        listing(**change)


def test_the_askers_policy_is_its_listing() -> None:
    first = quoted(SWAPPING, HAVING)
    assert counter(BOBS, first) == Counter(ask=ID, price=100, accuracy=9_500)
    assert counter(None, first) == Accept(ask=ID)
    assert counter(listing(resource=3), first) == Accept(ask=ID)
