"""What a side finds of the other's key, what it joins, and which price its package is made by."""

from __future__ import annotations

import sqlite3
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, cast

import pytest
from joserfc.jwk import RSAKey

from agorai_shared import negotiation, package
from agorai_shared.bindings.fair_exchange import Kind, Mode, Terms
from agorai_shared.bindings.voting_panel import Voter
from agorai_shared.errors import AgoraiError, UnavailableError
from agorai_shared.handover import Binding, KeySecret
from agorai_shared.jwe import EncryptionKeyError
from agorai_shared.market import Market, NotAMemberError
from agorai_shared.negotiation import (
    Agreement,
    Limits,
    LimitsTooShortError,
    Listing,
    Negotiation,
    Quote,
    Role,
)
from agorai_shared.types import Address, TradeId, Wei
from agorai_vault.database import Box
from agorai_vault.trade.decide import Duty, Finding
from agorai_vault.trade.handlers import KeyOutdatedError, TooFewVotersError, TradeProtocol
from agorai_vault.trade.packing import Packing
from agorai_vault.trade.records import Records
from agorai_vault.trade.transcript import Fulfilment, NotServedError, Transcript
from agorai_vault.trade.transcript import Named as Message

SEVEN = TradeId(7)
SELLER, BUYER = Address("0x" + "Aa" * 20), Address("0x" + "bB" * 20)
AGREED = Agreement(
    kind=negotiation.Kind.SALE, mode=negotiation.Mode.DIRECT,
    seller=Address("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"),
    buyer=Address("0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"), seller_resource=1, buyer_resource=0, price=60,
    seller_deposit=60, buyer_deposit=60, t0=60, t1=60, t2=60, t3=60, tb=60, seller_accuracy=9_500, buyer_accuracy=0,
    panel_size=3, seller_verification=b"\1" * 32, buyer_verification=bytes(32),
)  # fmt: skip
TERMS = Terms(
    kind=Kind.SALE, mode=Mode.DIRECT, seller=AGREED.seller, buyer=AGREED.buyer, seller_resource=1, buyer_resource=0,
    price=Wei(60), seller_deposit=60, buyer_deposit=60, t0=60, t1=60, t2=60, t3=60, tb=60, seller_accuracy=9_500,
    buyer_accuracy=0, panel_size=3, seller_verification=b"\1" * 32, buyer_verification=bytes(32), keys_at=5,
)  # fmt: skip


@pytest.fixture
def records() -> Iterator[Records]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    yield Records(connection, Box(connection, bytes(32)))
    connection.close()


def protocol(records: Records, transcript: object = None, **parts: object) -> TradeProtocol:
    absent: dict[str, Any] = dict.fromkeys(
        ("panel", "keys", "outbox", "packing", "witness", "verifier", "agreements")
    )
    return TradeProtocol(**absent | {"transcript": transcript, "records": records} | parts)


@pytest.mark.parametrize(
    ("error", "raised", "finding"),
    [
        (EncryptionKeyError(BUYER, "its exponent is 3"), None, Finding.BAD),
        (NotServedError(7, "public key", UnavailableError("nobody")), NotServedError, Finding.UNSEEN),
    ],
)
async def test_a_key_to_which_no_address_can_be_sealed_is_bad_and_one_that_is_not_served_not_seen(
    records: Records, error: AgoraiError, raised: type[AgoraiError] | None, finding: Finding
) -> None:
    async def key_of_side(_trade: TradeId, _account: Address) -> RSAKey:
        raise error

    trades = protocol(records, SimpleNamespace(key_of_side=key_of_side))
    if raised is None:
        await trades._open_key(SEVEN, BUYER)
    else:
        with pytest.raises(raised):
            await trades._open_key(SEVEN, BUYER)
    assert records.found(SEVEN, "key").finding is finding


async def test_an_address_found_bad_while_voters_judge_is_shown_to_them_though_less_was_shown_before(
    records: Records,
) -> None:
    async def message(*_: object) -> Message:
        return Message(b"none at all", 1_900_000_000)

    async def fulfilled(*_: object) -> Fulfilment:
        return Fulfilment(bytes(32), 1_900_000_000)

    transcript = SimpleNamespace(
        message=message, fulfilled=fulfilled, binding=lambda *_: Binding(1, SELLER, 7, SELLER, BUYER)
    )
    keys: Any = SimpleNamespace(address=BUYER, jwk=None)
    records.keep_key_secret(SEVEN, b"document", KeySecret(b"K" * 32, b"Q" * 32))
    records.keep_evidence(SEVEN, 3)
    await protocol(records, transcript, keys=keys)._open_address(SEVEN, SELLER)
    assert records.found(SEVEN, "address").finding is Finding.BAD
    assert records.evidence(SEVEN) == 0


class Named:
    """A registry of one account, whose gateway serves one document or nothing."""

    def __init__(self, document: bytes | None, *, left: bool = False) -> None:
        self._document, self._left = document, left
        self.deployment = SimpleNamespace(registry="0xRegistry")
        self.store = SimpleNamespace(url="http://own")
        self.served: list[str] = []
        self.last: list[int | None] = []

    async def events(self, *_: object, last: int | None = None) -> list[Any]:
        self.last.append(last)
        return [
            (SimpleNamespace(encryption_key=b"\1" * 32, terms=TERMS), 9)
        ]  # both of opening and of registering

    encryption_key = Market.encryption_key

    async def actor(self, account: Address) -> Any:
        if self._left:
            raise NotAMemberError(account)
        return SimpleNamespace(gateway="http://theirs")

    async def document(self, _digest: bytes, _gateway: str) -> bytes:
        if self._document is None:
            raise UnavailableError("nobody serves it")
        return self._document

    def served_by(self, gateway: str, _patience: object = None) -> Any:
        self.served.append(gateway)
        return SimpleNamespace(url=gateway)


@pytest.mark.parametrize(
    ("market", "error"),
    [
        (Named(b"{}"), EncryptionKeyError),
        (Named(None), NotServedError),
        (Named(None, left=True), NotServedError),
        (Named(b"{}", left=True), EncryptionKeyError),  # it was read before
    ],
)
async def test_a_key_that_is_malformed_for_good_is_told_from_one_that_cannot_be_had_now(
    market: Named, error: type[AgoraiError]
) -> None:
    exchange = SimpleNamespace(address="0xExchange")
    with pytest.raises(error):
        await Transcript(cast("Any", market), cast("Any", exchange)).key_of_side(SEVEN, BUYER)


async def test_a_sides_key_is_that_of_the_block_the_terms_name_and_of_no_later_one_than_the_opening() -> None:
    exchange = SimpleNamespace(address="0xExchange")
    for named, last in ((5, 5), (9, 9), (10, 9)):
        market = Named(None)

        async def events(
            *_: object, keys_at: int = named, of: Named = market, last: int | None = None
        ) -> Any:
            of.last.append(last)
            return [(SimpleNamespace(encryption_key=b"", terms=replace(TERMS, keys_at=keys_at)), 9)]

        market.events = events  # type: ignore[method-assign]
        with pytest.raises(NotServedError):
            await Transcript(cast("Any", market), cast("Any", exchange)).key_of_side(SEVEN, BUYER)
        assert market.last == [None, last]


@pytest.mark.parametrize(("left", "asked"), [(False, "http://theirs"), (True, "http://own")])
async def test_who_leaves_the_registry_keeps_nobody_from_asking_others_for_its_package(
    left: bool, asked: str
) -> None:
    market = Named(None, left=left)
    await Transcript(cast("Any", market), cast("Any", None)).holders(SELLER)
    assert market.served == [asked]


def joining(
    records: Records, *, available: int = 3, free: tuple[int, int] = (0, 0), lag_s: int = 0
) -> Coroutine[Any, Any, Any]:
    """Join a trade of 60-second limits and a panel of three, with so many free seats, two of them of the sides'."""

    async def read(*_: object) -> tuple[object, ...]:
        return available, *(Voter(free=seats, taken=3) for seats in free)

    async def key_of_side(*_: object) -> object:
        return SimpleNamespace(thumbprint=lambda: "of this account")

    async def terms(_trade: object) -> Terms:
        return TERMS

    async def finality_lag() -> int:
        return lag_s

    transcript = SimpleNamespace(
        market=SimpleNamespace(chain=SimpleNamespace(read=read, finality_lag=finality_lag)),
        key_of_side=key_of_side,
        terms=terms,
        exchange=SimpleNamespace(join=lambda trade: ("join", trade)),
    )
    panel = SimpleNamespace(available=lambda: None, voter_of=lambda account: account)
    state: Any = SimpleNamespace(seller=SELLER, buyer=BUYER, panel_size=3)
    keys = SimpleNamespace(address=BUYER, jwk=SimpleNamespace(thumbprint=lambda: "of this account"))
    return protocol(records, transcript, panel=panel, keys=keys)._duty(SEVEN, state, Duty.JOINING)


@pytest.mark.parametrize(
    ("available", "free", "joins"),
    [(3, (0, 0), True), (5, (2, 1), True), (4, (2, 1), False), (3, (0, 1), False), (2, (0, 0), False)],
)
async def test_a_trade_is_joined_only_if_a_panel_without_its_sides_could_judge_it(
    records: Records, available: int, free: tuple[int, int], joins: bool
) -> None:
    duty = joining(records, available=available, free=free)
    if joins:
        assert await duty == ("join", SEVEN)
    else:
        with pytest.raises(TooFewVotersError, match=r"2 voters could judge") as refused:
            await duty
        assert refused.value.retryable  # until the time to join is over


async def test_a_trade_is_joined_only_if_its_limits_leave_time_on_this_chain(records: Records) -> None:
    assert await joining(records, lag_s=30) == ("join", SEVEN)
    with pytest.raises(LimitsTooShortError, match=r"60 s.*31 s old"):
        await joining(records, lag_s=31)


async def test_a_trade_that_names_a_key_which_this_account_has_no_more_is_not_joined(
    records: Records,
) -> None:
    async def key_of_side(*_: object) -> object:
        return SimpleNamespace(thumbprint=lambda: "of long ago")

    keys = SimpleNamespace(address=BUYER, jwk=SimpleNamespace(thumbprint=lambda: "of now"))
    trades = protocol(records, SimpleNamespace(key_of_side=key_of_side), keys=keys)
    with pytest.raises(KeyOutdatedError, match="Trade 7"):
        await trades._require_keys(SEVEN, cast("Any", SimpleNamespace(seller=SELLER)))


def test_an_ask_agrees_to_a_sale_and_only_the_owner_to_a_swap(records: Records) -> None:
    swap = replace(AGREED, kind=negotiation.Kind.SWAP, buyer_resource=2, buyer_accuracy=9_500)
    swapped = replace(TERMS, kind=Kind.SWAP, buyer_resource=2, buyer_accuracy=9_500)
    trades = protocol(records, agreements=lambda: [("0xSeller/1", AGREED), ("0xSeller/2", swap)])
    assert trades._agreed(SEVEN, TERMS)
    assert not trades._agreed(SEVEN, swapped)
    records.agree(SEVEN, swapped)
    assert trades._agreed(SEVEN, swapped)
    assert not trades._agreed(TradeId(8), swapped)


def test_the_share_of_test_rows_is_by_the_price_asked_when_the_terms_were_agreed_on(records: Records) -> None:
    ask = negotiation.Ask(ask="0" * 32, resource=1, price=60, verification=CID)
    quote = Quote(
        ask="0" * 32, price=60, asked=40, deposit=60, limits=LIMITS, panel_size=3, mode=negotiation.Mode.DIRECT,
        accuracy=9_500, wants=None, verification=None,
    )  # fmt: skip
    led = Negotiation(
        role=Role.SELLER, me=AGREED.seller, other=AGREED.buyer, ask=ask, state=negotiation.State.AGREED,
        quote=quote, terms=AGREED,
    )  # fmt: skip
    unlike = led.model_copy(
        update={"terms": replace(AGREED, price=61), "quote": quote.model_copy(update={"asked": 10})}
    )
    now = Listing(resource=1, price=120, least=120, limits=LIMITS, accuracy=9_500, test=CID)
    sold: list[Negotiation] = [unlike, led]
    packing = Packing(cast("Any", None), SELLER, SELLER, records.box, records, lambda _: now, lambda: sold)
    assert package.test_share(TERMS.price, packing._asked(TERMS, now)) == Fraction(3, 10)
    sold.remove(led)
    assert packing._asked(TERMS, now) == 120
    assert packing._asked(replace(TERMS, kind=Kind.SWAP), now) == 60


LIMITS = Limits(t0=60, t1=60, t2=60, t3=60, tb=60)
CID = "bafkreie4yhbulry3zsnuq23uzp3amp5gn5f3lyhwaoslhq2hd3bol2hdku"
