"""How a buyer and a seller settle on what is traded at what price (fair-sharing, IV-A 2-5 and IV-B 1).

    asker (the paper's Bob)                     seller (Alice)
    Ask       a model, a price, own models  ->
                                            <-  Quote     her price, and which of his models she would take
    Counter   the price of that model, or
    Accept    of a sale                     ->
                                            <-  Agreed    the terms: a swap if both prices are equal, else a sale
                                            <-  Agreed    once more when the trade is opened, with its id
    either, at any time before: Declined

An asker's offer is what it pays, if it is enough; whoever offers more than the seller asks is to be given more of
the test data. An ask that offers nothing never comes to a sale: it ends with the quote, or with a swap if the seller
wants one of the asker's models at the same price. An agreement binds nobody until it is on the chain.

Pure: every message gives a new `Negotiation` and the answer to it, or is refused because it is out of place.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from dataclasses import replace
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import Annotated, Final, Literal, Self, TypeGuard

from eth_utils.address import is_checksum_address
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass

from agorai_shared import cid as cids
from agorai_shared.documents import CidText
from agorai_shared.errors import IntegrityError, RefusedError
from agorai_shared.types import Address

TOPIC: Final = "negotiation"
MOST_DEPOSIT: Final = 3
"""Times the price: who asks does not accept to lay down more."""
MOST_PRICE: Final = (1 << 96) // MOST_DEPOSIT
LAGS: Final = 2
"""Times that a chain's newest final block is behind: shorter limits leave nobody time. A side sees each step one such
time late, and looks for what cannot be had until three quarters of the limit are over."""
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,28}")


class BodyMalformedError(IntegrityError):
    """A message of a negotiation is not of its form."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The message is none of a negotiation: {why}.", remedy="Run versions of Agorai that agree."
        )


class OutOfPlaceError(RefusedError):
    """A message does not belong where the negotiation stands."""

    http_status = 409

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(f"This {kind} is out of place: {why}.", remedy="Start anew with another ask.")


def _amount(given: object) -> object:
    """Read an amount: JSON readers round whole numbers beyond 53 or 64 bits, so it is written as text."""
    if isinstance(given, str):
        if not _DECIMAL.fullmatch(given):
            raise ValueError("an amount is a whole number in decimal digits")
        return int(given)
    if isinstance(given, bool) or not isinstance(given, int):
        raise ValueError("an amount is a whole number, as text")  # noqa: TRY004 - pydantic's word for it
    return given


@lru_cache(maxsize=1 << 12)  # the same few are in every message, and each costs a Keccak hash
def _check_address(text: str) -> Address:
    if not is_checksum_address(text):
        raise ValueError("it is no checksummed address")
    return Address(text)


def _check_raw(text: str) -> str:
    if cids.parse(text).codec != cids.Codec.RAW:
        raise ValueError("verification data is one raw block: a CSV of at most 1 MiB, put as a document")
    return text


def _digest(given: object) -> object:
    return bytes.fromhex(given) if isinstance(given, str) else given


_Text = PlainSerializer(str, return_type=str)
Amount = Annotated[int, Field(ge=0, lt=1 << 96), BeforeValidator(_amount), _Text]
"""Of the market's token, in its smallest unit; text in JSON."""
Price = Annotated[int, Field(ge=0, lt=MOST_PRICE), BeforeValidator(_amount), _Text]
"""An amount of which a deposit can still be a multiple."""
Account = Annotated[Address, AfterValidator(_check_address)]
AskId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Resource = Annotated[int, Field(gt=0, lt=1 << 53)]
Accuracy = Annotated[int, Field(ge=1, le=10_000)]
"""Promised of a model, in 1/10,000."""
DataCid = Annotated[CidText, AfterValidator(_check_raw)]
"""Of a public CSV on which a model is judged: one raw block, so that its digest alone names it on the chain."""
Digest32 = Annotated[
    bytes,
    Field(min_length=32, max_length=32),
    BeforeValidator(_digest),
    PlainSerializer(bytes.hex, return_type=str),
]
Seconds = Annotated[int, Field(ge=60, le=30 * 86_400)]
"""A limit as the `FairExchange` contract takes it."""


class Kind(IntEnum):
    """What is exchanged, as the contract numbers it."""

    SALE = 0
    SWAP = 1


class Mode(IntEnum):
    """How voters judge a model in dispute, as the contract numbers it."""

    DIRECT = 0
    PAPER = 1


class Model(BaseModel):
    """Unknown members are kept out."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LimitsTooShortError(RefusedError):
    """Nodes act on final blocks; a limit would be over before, or right after, they see that it has begun."""

    def __init__(self, shortest_s: int, lag_s: int) -> None:
        super().__init__(
            f"The shortest of the trade's time limits is {shortest_s} s, and this chain's newest final block is "
            f"{lag_s} s old: a side could not do its part in time.",
            remedy=f"Agree on limits of at least {LAGS * lag_s} s; nothing was spent.",
        )


class Limits(Model):
    """Time limits of a trade in seconds (IV-E): to join, to prepare, for keys, for addresses, to inspect."""

    t0: Seconds
    t1: Seconds
    t2: Seconds
    t3: Seconds
    tb: Seconds

    @classmethod
    def of(cls, terms: object) -> Self:
        """Take them out of terms, of an agreement or of a contract's."""
        return cls.model_validate(terms, from_attributes=True)

    def require_time(self, lag_s: int) -> None:
        """Raise `LimitsTooShortError` if a limit leaves no time on a chain whose final blocks are so much behind."""
        shortest = min(self.t0, self.t1, self.t2, self.t3, self.tb)
        if shortest < LAGS * lag_s:
            raise LimitsTooShortError(shortest, lag_s)


class Swap(Model):
    """A model of someone else that a seller would take for its own, and the data on which that is judged."""

    resource: Resource
    verification: DataCid


class Listing(Model):
    """A seller's policy for one of its models."""

    resource: Resource
    price: Annotated[Price, Field(gt=0)]
    """What it asks."""
    least: Annotated[Price, Field(gt=0)]
    """Offers below are declined; offers from here on are taken."""
    deposit_percent: int = Field(100, ge=100, le=100 * MOST_DEPOSIT)
    """Of the price, to be laid down by either side."""
    limits: Limits
    panel_size: int = Field(3, ge=3, le=15)
    mode: Mode = Mode.DIRECT
    accuracy: Accuracy
    swaps: tuple[Swap, ...] = Field((), max_length=100)
    """What it would take in a swap, the dearest wish first."""
    test: CidText
    """Its own sealed test data, a share of which goes with the model; the other side is not told."""
    verification: tuple[DataCid, ...] | None = Field(None, max_length=100)
    """The data on which it lets the model be judged; none is any."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.least > self.price:
            raise ValueError("the least price is above the price asked")
        if any(swap.resource == self.resource for swap in self.swaps):
            raise ValueError("a model is not swapped for itself")
        if self.panel_size % 2 == 0:
            raise ValueError("a panel has an odd number of seats")
        return self

    def accepts(self, verification: str) -> bool:
        """Say whether the model may be judged on this data."""
        return self.verification is None or verification in self.verification

    def deposit(self, price: int) -> int:
        """Give what either side lays down at this price, rounded up."""
        return -(-price * self.deposit_percent // 100)


class Body(BaseModel):
    """One message of a negotiation; written by a stranger."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    ask: AskId


class Ask(Body):
    """What does it cost (IV-A 2)."""

    kind: Literal["ask"] = "ask"
    resource: Resource
    price: Price
    """What the asker pays; 0 only asks what it costs, and whether it would be swapped."""
    verification: DataCid
    """On which the seller's model shall be judged."""
    have: tuple[Resource, ...] = Field((), max_length=100)
    """What the asker would swap for it."""


class Quote(Body):
    """What it costs (IV-A 3)."""

    kind: Literal["quote"] = "quote"
    price: Annotated[Price, Field(gt=0)]
    """At which it is sold: what was offered, if that is enough, else what is asked."""
    asked: Annotated[Price, Field(gt=0)]
    """What the seller asks of everybody; who pays more is given more of the test data."""
    deposit: Amount
    limits: Limits
    panel_size: int = Field(ge=3, le=15)
    mode: Mode
    accuracy: Accuracy
    wants: Resource | None
    """Which of the asker's models the seller would take instead of money."""
    verification: DataCid | None
    """On which that one would be judged."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.wants is None) != (self.verification is None):
            raise ValueError("a wanted model comes with the data to judge it on, and only then")
        if self.deposit < self.price or self.panel_size % 2 == 0:
            raise ValueError("no contract would take these terms")
        return self


class Counter(Body):
    """What the asker's own model costs (IV-A 4)."""

    kind: Literal["counter"] = "counter"
    price: Annotated[Price, Field(gt=0)]
    accuracy: Accuracy


class Accept(Body):
    """The asker buys at the quoted price."""

    kind: Literal["accept"] = "accept"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Agreement:
    """What the two sides agree on: the terms of a trade as `FairExchange` takes them."""

    kind: Kind
    mode: Mode
    seller: Account
    buyer: Account
    seller_resource: Resource
    buyer_resource: Annotated[int, Field(ge=0, lt=1 << 53)]
    """0 in a sale."""
    price: Price
    seller_deposit: Amount
    buyer_deposit: Amount
    t0: Seconds
    t1: Seconds
    t2: Seconds
    t3: Seconds
    tb: Seconds
    seller_accuracy: Accuracy
    buyer_accuracy: Annotated[int, Field(ge=0, le=10_000)]
    """0 in a sale."""
    panel_size: Annotated[int, Field(ge=3, le=15)]
    seller_verification: Digest32
    buyer_verification: Digest32
    """32 zero bytes in a sale."""


class Agreed(Body):
    """The terms, from the seller, who opens the trade; again with its id once that is done."""

    kind: Literal["agreed"] = "agreed"
    terms: Agreement
    trade: int = Field(0, ge=0, lt=1 << 63)
    """0 until it is opened."""


class Declined(Body):
    """There will be no trade."""

    kind: Literal["declined"] = "declined"
    why: str = Field(max_length=300)


Answer = Quote | Counter | Accept | Agreed | Declined
_BODIES: Final[TypeAdapter[Ask | Answer]] = TypeAdapter(
    Annotated[Ask | Quote | Counter | Accept | Agreed | Declined, Field(discriminator="kind")]
)


def read(body: str) -> Ask | Answer:
    """Read a message's body.

    Raises
    ------
    BodyMalformedError
        If it is of no kind, or not of its kind's form.
    """
    try:
        return _BODIES.validate_json(body, strict=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise BodyMalformedError(f"{'.'.join(map(str, first['loc']))[:100]}: {first['msg'][:200]}") from error


class Role(StrEnum):
    """Which side of a negotiation one is."""

    ASKER = "asker"
    SELLER = "seller"


class State(StrEnum):
    """How far a negotiation has come."""

    ASKED = "asked"
    QUOTED = "quoted"
    COUNTERED = "countered"
    ACCEPTED = "accepted"
    AGREED = "agreed"
    OPENED = "opened"
    DECLINED = "declined"

    @property
    def over(self) -> bool:
        """Whether no message is awaited any more, but that of a trade's opening."""
        return self in (State.AGREED, State.OPENED, State.DECLINED)


class Negotiation(Model):
    """One ask as one side sees it."""

    role: Role
    me: Account
    other: Account
    ask: Ask
    state: State
    asked_at: int = 0
    """By the asker's clock, in seconds since 1970."""
    seen: Quote | None = None
    """What the seller quoted last, as the asker offered: the offer takes these terms, or better ones."""
    quote: Quote | None = None
    answer: Counter | Accept | None = None
    terms: Agreement | None = None
    trade: int = 0
    why: str = ""
    """Of a decline."""

    def ended(self, why: str) -> Negotiation:
        """Give it as declined."""
        return self.model_copy(update={"state": State.DECLINED, "why": why[:300]})


def quote(listing: Listing, ask: Ask) -> Quote | Declined:
    """Answer as the seller: at what price, and whether for a model instead."""
    if ask.price and ask.price < listing.least:
        return Declined(ask=ask.ask, why="the offer is below the least price")
    if not listing.accepts(ask.verification):
        accepted = ", ".join((listing.verification or ())[:3]) or "none"
        return Declined(ask=ask.ask, why=f"the model is judged on given data only: {accepted}")
    wanted = next((swap for swap in listing.swaps if swap.resource in ask.have), None)
    price = ask.price or listing.price
    return Quote(
        ask=ask.ask,
        price=price,
        asked=listing.price,
        deposit=listing.deposit(price),
        limits=listing.limits,
        panel_size=listing.panel_size,
        mode=listing.mode,
        accuracy=listing.accuracy,
        wants=wanted.resource if wanted else None,
        verification=wanted.verification if wanted else None,
    )


def counter(own: Listing | None, given: Quote) -> Counter | Accept:
    """Answer as the asker: with the price of the wanted model, if it is listed and may be judged so."""
    if (
        own is None
        or own.resource != given.wants
        or own.mode != given.mode
        or not own.accepts(given.verification or "")
    ):
        return Accept(ask=given.ask)
    return Counter(ask=given.ask, price=own.price, accuracy=own.accuracy)


def objection(ask: Ask, seen: Quote | None, given: Quote) -> str | None:
    """Say why the asker does not take a quote, if it does not; `seen` is the one on which it made its offer."""
    if ask.price and given.price > ask.price:
        return "the price is above the offer"
    if seen is not None and (worse := _worse(seen, given)):
        return f"since it was quoted last, {worse}; ask without an offer to see how it stands"
    if given.deposit > MOST_DEPOSIT * given.price:
        return f"the deposit is above {MOST_DEPOSIT} times the price"
    if given.wants is not None and given.wants not in ask.have:
        return "the wanted model was not offered"
    return None


def _worse(seen: Quote, given: Quote) -> str | None:
    """Say what of a quote is worse than another, besides the prices."""
    if given.accuracy < seen.accuracy:
        return "the accuracy promised has fallen"
    if given.mode != seen.mode or given.panel_size != seen.panel_size:
        return "who judges a dispute has changed"
    if given.limits != seen.limits:
        return "the limits have changed"
    if given.deposit * seen.price > seen.deposit * given.price + seen.price:  # it is rounded up
        return "the deposit has risen"
    return None


def terms(seller: Address, buyer: Address, ask: Ask, given: Quote, answer: Counter | Accept) -> Agreement:
    """Give what both sides have agreed on: a swap if both prices are equal, else a sale at the seller's."""
    sale = Agreement(
        kind=Kind.SALE,
        mode=given.mode,
        seller=seller,
        buyer=buyer,
        seller_resource=ask.resource,
        buyer_resource=0,
        price=given.price,
        seller_deposit=given.deposit,
        buyer_deposit=given.deposit,
        t0=given.limits.t0,
        t1=given.limits.t1,
        t2=given.limits.t2,
        t3=given.limits.t3,
        tb=given.limits.tb,
        seller_accuracy=given.accuracy,
        buyer_accuracy=0,
        panel_size=given.panel_size,
        seller_verification=cids.digest_of(ask.verification),
        buyer_verification=bytes(32),
    )
    if given.wants is None or given.verification is None or not _swaps(answer, given):
        return sale
    return replace(
        sale,
        kind=Kind.SWAP,
        buyer_resource=given.wants,
        buyer_accuracy=answer.accuracy,
        buyer_verification=cids.digest_of(given.verification),
    )


def _swaps(answer: Counter | Accept, given: Quote) -> TypeGuard[Counter]:
    """Say whether an answer to a quote comes to a swap: the wanted model's price is equal."""
    return given.wants is not None and isinstance(answer, Counter) and answer.price == given.price


def begun(
    ask: Ask, me: Address, other: Address, listing: Listing | None, owned: AbstractSet[int]
) -> tuple[Negotiation, Quote | Declined]:
    """Begin as the seller who is asked.

    Parameters
    ----------
    listing
        Of the resource asked for; none if it is not for sale.
    owned
        Those of the asker's models that are its own by the `Registry`.
    """
    ask = ask.model_copy(update={"have": tuple(resource for resource in ask.have if resource in owned)})
    start = Negotiation(role=Role.SELLER, me=me, other=other, ask=ask, state=State.QUOTED)
    reply = _unlisted(ask) if listing is None else quote(listing, ask)
    if isinstance(reply, Declined):
        return start.ended(reply.why), reply
    return start.model_copy(update={"quote": reply}), reply


def _unlisted(ask: Ask) -> Declined:
    return Declined(ask=ask.ask, why="the model is not for sale")


def received(
    negotiation: Negotiation, body: Answer, listings: dict[int, Listing]
) -> tuple[Negotiation, Counter | Accept | Agreed | Declined | None]:
    """Take the other side's next message; gives where that leads, and what to answer.

    Parameters
    ----------
    listings
        Of one's own models.

    Raises
    ------
    OutOfPlaceError
        If it does not belong here; nothing has changed then.
    """
    match negotiation.role, negotiation.state, body:
        case _, State.DECLINED | State.OPENED, _:
            raise OutOfPlaceError(body.kind, f"the negotiation is {negotiation.state}")
        case _, State.AGREED, Declined():
            raise OutOfPlaceError(body.kind, "both have agreed")
        case _, _, Declined():
            return negotiation.ended(body.why), None
        case Role.ASKER, State.ASKED, Quote():
            return _quoted(negotiation, body, listings)
        case Role.ASKER, State.COUNTERED | State.ACCEPTED | State.AGREED, Agreed():
            return _agreed(negotiation, body), None
        case Role.SELLER, State.QUOTED, Counter() | Accept():
            return _answered(negotiation, body, listings)
    raise OutOfPlaceError(body.kind, f"{negotiation.state} as {negotiation.role}, none is awaited")


def _quoted(
    negotiation: Negotiation, given: Quote, listings: dict[int, Listing]
) -> tuple[Negotiation, Counter | Accept | Declined | None]:
    told = negotiation.model_copy(update={"quote": given, "state": State.QUOTED})
    why = objection(negotiation.ask, negotiation.seen, given)
    answer = counter(listings.get(given.wants or 0), given)
    if not negotiation.ask.price and (why or not _swaps(answer, given)):
        return told, None
    if why:
        return told.ended(why), Declined(ask=given.ask, why=why)
    state = State.COUNTERED if isinstance(answer, Counter) else State.ACCEPTED
    return told.model_copy(update={"answer": answer, "state": state}), answer


def _answered(
    negotiation: Negotiation, answer: Counter | Accept, listings: dict[int, Listing]
) -> tuple[Negotiation, Agreed | Declined]:
    ask, given = negotiation.ask, negotiation.quote
    if not ask.price and (given is None or not _swaps(answer, given)):
        raise OutOfPlaceError(answer.kind, "the ask offered nothing")
    if isinstance(answer, Counter) and (given is None or given.wants is None):
        raise OutOfPlaceError(answer.kind, "no model was wanted")
    listing = listings.get(ask.resource)
    if given is None or listing is None or quote(listing, ask) != given:
        why = "the offer has changed since"
        return negotiation.ended(why), Declined(ask=ask.ask, why=why)
    agreement = terms(negotiation.me, negotiation.other, ask, given, answer)
    agreed = negotiation.model_copy(update={"answer": answer, "terms": agreement, "state": State.AGREED})
    return agreed, Agreed(ask=ask.ask, terms=agreement)


def _agreed(negotiation: Negotiation, agreed: Agreed) -> Negotiation:
    given, answer = negotiation.quote, negotiation.answer
    if given is None or answer is None:
        raise AssertionError("who has countered or accepted was quoted")
    if agreed.terms != terms(negotiation.other, negotiation.me, negotiation.ask, given, answer):
        raise OutOfPlaceError("agreed", "its terms are not those that were agreed on")
    if negotiation.state == State.AGREED and not agreed.trade:
        raise OutOfPlaceError("agreed", "it was told before")
    state = State.OPENED if agreed.trade else State.AGREED
    return negotiation.model_copy(update={"terms": agreed.terms, "trade": agreed.trade, "state": state})


def opened(negotiation: Negotiation, trade: int) -> tuple[Negotiation, Agreed]:
    """Note, as the seller, that the trade is opened; gives what to tell the other side.

    Raises
    ------
    OutOfPlaceError
        If this side has not agreed, or is not the seller.
    """
    if negotiation.role != Role.SELLER or negotiation.state != State.AGREED or negotiation.terms is None:
        raise OutOfPlaceError("trade", f"{negotiation.state} as {negotiation.role}, none is to be opened")
    told = Agreed(ask=negotiation.ask.ask, terms=negotiation.terms, trade=trade)
    return negotiation.model_copy(update={"trade": trade, "state": State.OPENED}), told
