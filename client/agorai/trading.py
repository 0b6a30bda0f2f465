"""Fair sale and swap of models ("Fair and autonomous sharing", IV), from outside a node.

    async with Client.connect(Home(Path("~/.agorai"))) as client:
        asked = await Trading(client).ask(3, verification, offer=Wei(100 * 10**18))

The node takes every step of a trade by itself. What its owner decides is here: what is listed, asked, opened and
accepted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, cast

from pydantic import ValidationError

from agorai.client import PATIENCE_S, OnStage, silent
from agorai.client import Listing as Offered
from agorai.exchange import Contracts, explained
from agorai_shared import negotiation, package
from agorai_shared.bindings.fair_exchange import (
    Disputed,
    Ended,
    Kind,
    Mode,
    Opened,
    State,
    Step,
    Terms,
    Trade,
)
from agorai_shared.bindings.registry import Kind as Content
from agorai_shared.bindings.voting_panel import Case
from agorai_shared.content import MAX_DOCUMENT_SIZE, NODE_PIN
from agorai_shared.errors import InputError, NotFoundError, RefusedError
from agorai_shared.events import Phase as EventPhase
from agorai_shared.events import subject
from agorai_shared.negotiation import Limits, Listing, Negotiation, Role, Swap
from agorai_shared.types import Address, CaseId, Cid, TradeId, Wei
from agorai_shared.vault import AskFor, PlaintextTooLargeError, TradeStatus

_LOOK_S: Final = 0.5
LEAST_ACCURACY: Final = 9_000
"""In 1/10,000. What is traded is above it: "parameters with accuracy higher than 90%" (IV-A 5, IV-B 2)."""


class NotTradableError(InputError):
    """What is to be traded cannot be."""

    def __init__(self, resource: int, why: str) -> None:
        super().__init__(
            f"Resource {resource} cannot be traded: {why}.", remedy="Trade a model; see `agorai offer list`."
        )


class AccuracyTooLowError(RefusedError):
    """A model is not good enough to be traded."""

    def __init__(self, resource: int, accuracy: int) -> None:
        super().__init__(
            f"Model {resource} with an accuracy of {accuracy / 100:g}% cannot be traded: only parameters with "
            "an accuracy above 90% are sold (fair-sharing, IV-B).",
            remedy="Train a better one, or sell this one's use: `agorai offer list`.",
        )


class AccuracyUnknownError(InputError):
    """Nobody has told how good a model is."""

    def __init__(self, resource: int) -> None:
        super().__init__(
            f"The description of model {resource} has no accuracy.", remedy="Promise one with --accuracy."
        )


class ListingMalformedError(InputError):
    """Terms that no listing can have."""

    def __init__(self, error: ValidationError) -> None:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])).replace("_", " ") or "the terms"
        super().__init__(f"It cannot be listed so: {where}: {first['msg']}.")


class VerificationTooLargeError(InputError):
    """Verification data are one block, which the chain names by its digest."""

    def __init__(self, size: int) -> None:
        super().__init__(
            f"Verification data have at most {MAX_DOCUMENT_SIZE >> 20} MiB, not {size:,} bytes.",
            remedy="Give fewer rows: some hundreds tell an accuracy well.",
        )


class TooFewVotersError(RefusedError):
    """The contract lets nobody into a trade whose dispute could not be judged."""

    def __init__(self, available: int, size: int) -> None:
        super().__init__(
            f"{available} voters could judge a dispute now, and the panel has {size} seats.",
            remedy="Wait for more (`agorai vote enlist`), or agree on a smaller --panel-size; nothing was spent.",
        )


class AskUnknownError(NotFoundError):
    """There is no such negotiation."""

    def __init__(self, ask: str, found: int) -> None:
        super().__init__(
            f"{found or 'No'} negotiations begin with {ask!r}.", remedy="See them: `agorai trade asks`."
        )


class NotToOpenError(RefusedError):
    """A negotiation from which no trade can be opened here."""

    def __init__(self, ask: str, why: str, remedy: str) -> None:
        super().__init__(f"No trade can be opened from the ask {ask[:8]}: {why}.", remedy=remedy)


class NotToAcceptError(RefusedError):
    """A trade that cannot be accepted here."""

    def __init__(self, trade: int, why: str) -> None:
        super().__init__(
            f"Trade {trade} cannot be accepted: {why}.", remedy=f"See `agorai trade show {trade}`."
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """A trade, at a final block."""

    id: TradeId
    terms: Terms
    trade: Trade
    status: TradeStatus | None
    """What this node found; None when it is no side."""
    dispute: Disputed | None
    case: Case | None
    """Before the panel."""
    ended: Ended | None

    @property
    def left_s(self) -> int | None:
        """Seconds until the limit; below 0 past it, None where there is none."""
        over = self.trade.state in (State.DISPUTED, State.ENDED)
        return None if over else self.trade.deadline - int(time.time())

    @property
    def needed(self) -> int:
        """What the buyer lays down, deposit and price, in the token's smallest unit."""
        return self.terms.buyer_deposit + (self.terms.price if self.terms.kind == Kind.SALE else 0)

    def role(self, account: Address) -> str | None:
        """Give which side an account is."""
        sides = {self.terms.seller: "seller", self.terms.buyer: "buyer"}
        return sides.get(account)

    def awaited(self) -> tuple[str, ...]:
        """Give who must act now, and how."""
        state, swap = self.trade.state, self.trade.kind == Kind.SWAP
        if state == State.DISPUTED:
            return ("the voters judge",)
        if state == State.OFFERED:
            return ("the buyer accepts",)
        duties = _DUTIES.get(state)
        if duties is None:
            return ()
        step, seller, buyer = duties
        done = {"seller": self.trade.seller_done, "buyer": self.trade.buyer_done}
        does = {"seller": seller or (swap and buyer), "buyer": (swap and seller) or buyer}
        return tuple(f"the {side} {does[side]}" for side in done if does[side] and not done[side] >> step & 1)


_DUTIES: Final[Mapping[State, tuple[Step, str, str]]] = {
    State.PREPARING: (Step.PREPARATION, "makes the package", "pays"),
    State.KEYS: (Step.KEY, "", "hands over a key"),
    State.ADDRESSES: (Step.ADDRESS, "hands over the package's address", ""),
    State.INSPECTING: (Step.CONFIRMATION, "", "confirms or disputes"),
}
"""Of a sale: the step of a state, and what the seller and the buyer do; in a swap each does what either does."""


class Trading(Contracts):
    """Trades of a participant's node."""

    # ---------------------------------------------------------------------------------------------- terms

    async def list_model(
        self,
        resource: int,
        test: bytes,
        *,
        price: Wei,
        least: Wei,
        limits: Limits,
        accuracy: int | None = None,
        deposit_percent: int = 100,
        panel_size: int = 5,
        swaps: Mapping[int, bytes] | None = None,
        on_stage: OnStage | None = None,
    ) -> Listing:
        """Trade a model of this node's own from now on.

        Parameters
        ----------
        test
            A CSV of the model's columns; it is sealed, and a share of its rows goes with the model.
        accuracy
            Promised, in 1/10,000; None takes what the model's description says, rounded down.
        swaps
            Models of others that would be taken for it, each with the CSV on which it is judged.

        Raises
        ------
        NotTradableError, AccuracyTooLowError, AccuracyUnknownError, ListingMalformedError
            If it cannot be traded so; nothing was stored.
        CsvRowsError, InputError
            If the test data cannot be cut into rows or lack a column; nothing was stored.
        """
        tell = on_stage or silent
        tell("reading the model's description")
        offered = await self._model(resource)
        promised = _told_accuracy(offered) if accuracy is None else accuracy
        if promised <= LEAST_ACCURACY:
            raise AccuracyTooLowError(resource, promised)
        package.test_rows(test, Fraction(1, 5), b"")
        _check_columns(test, offered)
        tell("storing the data")
        try:
            listing = Listing(
                resource=resource,
                price=price,
                least=least,
                deposit_percent=deposit_percent,
                limits=limits,
                panel_size=panel_size,
                accuracy=promised,
                swaps=tuple([Swap(resource=one, verification=await self._published(one, data))
                             for one, data in (swaps or {}).items()]),
                test=(await self.client.vault.put(test)).cid,
            )  # fmt: skip
        except ValidationError as error:
            raise ListingMalformedError(error) from error
        await self.client.vault.list_resource(resource, listing)
        return listing

    async def unlist(self, resource: int) -> None:
        """Trade a model no more; what is agreed on stays so."""
        await self.client.vault.list_resource(resource, None)

    async def listings(self) -> tuple[Listing, ...]:
        """Give what this node trades."""
        return (await self.client.vault.listings()).listings

    async def ask(
        self,
        resource: int,
        verification: bytes,
        *,
        offer: int = 0,
        have: Sequence[int] = (),
        on_stage: OnStage | None = None,
    ) -> Negotiation:
        """Ask what a model costs, or offer at most so much; gives how it stands once it is over, or after 30 s.

        Parameters
        ----------
        verification
            The CSV on which the model is to be judged; it becomes public.
        have
            Own models, each listed, that would be swapped for it.

        Raises
        ------
        NotTradableError, VerificationTooLargeError, InputError
            If it cannot be asked for so.
        DepositTooHighError
            If the account could not pay the offer and a deposit as large.
        RemoteError
            Of the vault: if it is this node's own, or one of `have` is not listed.
        """
        tell = on_stage or silent
        await self.require(offer if have else 2 * offer)  # the deposit is at least the price
        tell("publishing the verification data")
        cid = await self._published(resource, verification)
        wanted = AskFor(resource=resource, price=offer, verification=cid, have=tuple(have))
        asked = await self.client.vault.ask(wanted)
        tell(f"waiting for {asked.other} to answer")
        give_up = time.monotonic() + PATIENCE_S
        while True:
            found = await self.negotiation(asked.ask)
            quoted = found.state == negotiation.State.QUOTED and not offer
            if quoted or found.state.over or time.monotonic() > give_up:
                return found
            await asyncio.sleep(0.1)

    async def asks(self) -> tuple[Negotiation, ...]:
        """Give how negotiations stand, the newest first."""
        return await self.client.vault.asks()

    async def negotiation(self, ask: str) -> Negotiation:
        """Give the negotiation whose id begins so; raises `AskUnknownError`."""
        found = [one for one in await self.asks() if one.ask.ask.startswith(ask)]
        if len(found) != 1:
            raise AskUnknownError(ask, len(found))
        return found[0]

    # ---------------------------------------------------------------------------------------------- trades

    async def open(self, ask: str, *, on_stage: OnStage | None = None) -> TradeId:
        """Open, as the seller, the trade agreed on, and lay down the deposit; the buyer's node is told.

        Raises
        ------
        AskUnknownError, NotToOpenError
            If there is nothing to be opened.
        TooFewVotersError, DepositTooHighError, TradeRefusedError
            If the contract refuses, or would refuse the buyer; nothing was laid down.
        """
        tell = on_stage or silent
        found = await self.negotiation(ask)
        if found.role != Role.SELLER:
            raise NotToOpenError(ask, "the seller opens it", "Wait for its owner to.")
        if found.state != negotiation.State.AGREED or found.terms is None:
            opened = f"See `agorai trade show {found.trade}`." if found.trade else "See `agorai trade asks`."
            raise NotToOpenError(ask, f"it is {found.state}", opened)
        terms = Terms(
            **{**asdict(found.terms), "kind": Kind(found.terms.kind), "mode": Mode(found.terms.mode)}
        )
        await self._judgeable(terms.panel_size)
        tell("approving the deposit")
        await self.allow(self.exchange.address, terms.seller_deposit)
        tell("opening")
        sent = await self.send(self.exchange.open(terms), once=f"trade/open/{found.other}/{found.ask.ask}")
        trade = (await self.client.market.emitted(sent, Opened)).id
        await self.client.vault.opened(found.other, found.ask.ask, trade)
        return trade

    async def acceptable(self, trade: int) -> tuple[Seen, bool]:
        """Look at a trade before it is accepted; gives whether its terms are those of a negotiation.

        Raises
        ------
        NotToAcceptError
            If this account is not its buyer, or it is not offered any more.
        TooFewVotersError, DepositTooHighError
            If the contract would refuse.
        """
        seen = await self.look(trade)
        if seen.terms.buyer != self.client.address:
            raise NotToAcceptError(trade, f"{self.client.address} is not its buyer")
        if seen.trade.state != State.OFFERED:
            raise NotToAcceptError(trade, f"it is {seen.trade.state.name.lower()}")
        if (left := seen.left_s) is not None and left < 0:
            raise NotToAcceptError(trade, "the time to accept it is over")
        await self._judgeable(seen.terms.panel_size)
        await self.require(seen.needed)
        offered = asdict(seen.terms)
        agreed = [asdict(one.terms) for one in await self.asks() if one.terms and one.role == Role.ASKER]
        return seen, offered in agreed

    async def accept(self, trade: int) -> TradeStatus:
        """Agree to a trade on the terms on which it was opened; the node pays and does the rest."""
        with explained():
            return await self.client.vault.agree(TradeId(trade))

    async def look(self, trade: int) -> Seen:
        """Read a trade; raises `TradeRefusedError` if there is none."""
        id_, key = TradeId(trade), f"0x{trade:064x}"
        (state,) = cast("tuple[Trade]", await self.read(self.exchange.trade(id_)))
        (opened,) = await self.events(self.exchange.address, Opened, key)
        ended = disputed = case = status = None
        if state.dispute:
            (disputed,) = await self.events(self.exchange.address, Disputed, key)
            (case,) = await self.read(self.panel.case_of(CaseId(state.dispute)))
        if state.state == State.ENDED:
            (ended,) = await self.events(self.exchange.address, Ended, key)
        if self.client.address in (opened.seller, opened.buyer):
            status = await self.client.vault.trade(id_)
        return Seen(id_, opened.terms, state, status, disputed, case, ended)

    async def follow(self, trade: int) -> AsyncIterator[Seen]:
        """Give a trade whenever it has moved, until it has ended."""
        news = asyncio.Event()

        async def on_event(_message: object) -> None:
            news.set()

        pattern = subject(EventPhase.final, self.client.deployment.chain_id, "FairExchange", "*", str(trade))
        subscription = await self.client.bus.subscribe(pattern, cb=on_event)
        last: Seen | None = None
        try:
            while last is None or last.trade.state != State.ENDED:
                news.clear()
                seen = await self.look(trade)
                if seen != last:
                    yield seen
                last = seen
                with suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), _LOOK_S)
        finally:
            await subscription.unsubscribe()

    async def mine(self) -> list[tuple[Opened, Trade]]:
        """Give this account's trades, the newest first."""
        address = self.exchange.address
        found = [
            *await self.events(address, Opened, None, self.my_topic),
            *await self.events(address, Opened, None, None, self.my_topic),
        ]
        found.sort(key=lambda opened: opened.id, reverse=True)
        calls = [self.exchange.trade(opened.id) for opened in found]
        trades = cast("tuple[Trade, ...]", await self.read(*calls) if calls else ())
        return list(zip(found, trades, strict=True))

    async def package(self, trade: int) -> package.Package:
        """Open what the other side of a trade handed over.

        Raises
        ------
        RemoteError
            If it was not handed over, or not to this node.
        PackageMalformedError
            If it is no package.
        """
        plain = bytearray()
        pieces = self.client.vault._open(f"/vault/trades/{trade}/package", {})
        async with aclosing(pieces):
            async for piece in pieces:
                plain += piece
                if len(plain) > package.MAX_PACKAGE_SIZE:
                    raise PlaintextTooLargeError(package.MAX_PACKAGE_SIZE)
        return package.read(bytes(plain))

    # ---------------------------------------------------------------------------------------------- credit

    async def credits(self) -> dict[str, Wei]:
        """Give what is credited to this account, by where: `sales` (and refunds), `trades` and `votes`."""
        me = self.client.address
        found = await self.read(*(contract.credit_of(me) for contract in self._payers.values()))
        return dict(zip(self._payers, found, strict=True))

    async def withdraw(self) -> dict[str, Wei]:
        """Take all that is credited to this account; gives how much came from where."""
        found = {name: amount for name, amount in (await self.credits()).items() if amount}
        for name in found:
            await self.send(self._payers[name].withdraw())
        return found

    @property
    def _payers(self) -> dict[str, Any]:
        return {"sales": self.client.market.invocation, "trades": self.exchange, "votes": self.panel}

    # --------------------------------------------------------------------------------------------- reading

    async def _judgeable(self, size: int) -> None:
        (available,) = await self.read(self.panel.available())
        if available < size:
            raise TooFewVotersError(available, size)

    async def _model(self, resource: int) -> Offered:
        offered = await self.client.listing(resource)
        if offered.resource.kind != Content.MODEL:
            raise NotTradableError(resource, "it is a data set")
        return offered

    async def _published(self, resource: int, data: bytes) -> Cid:
        """Put data on which a model is judged into the store, readable by all, after a look at them."""
        if len(data) > MAX_DOCUMENT_SIZE:
            raise VerificationTooLargeError(len(data))
        _check_columns(data, await self._model(resource))
        name = f"{NODE_PIN}verification data of resource {resource}"
        return await self.client.store.put_document(data, name=name)


def _told_accuracy(offered: Offered) -> int:
    evaluation = offered.metadata.evaluation if offered.metadata else None
    if evaluation is None or evaluation.accuracy is None:
        raise AccuracyUnknownError(offered.id)
    return int(Decimal(repr(evaluation.accuracy)) * 10_000)


def _check_columns(data: bytes, offered: Offered) -> None:
    """See that a CSV has the model's columns and its target; raises `InputError`."""
    from agorai_trainer import tables  # noqa: PLC0415 - pyarrow, which other verbs do without

    table = tables.parse(data, "csv")
    if offered.metadata is not None and offered.metadata.target is not None:
        table.matrix(tuple(column.name for column in offered.metadata.columns))
        table.column(offered.metadata.target, "target")
