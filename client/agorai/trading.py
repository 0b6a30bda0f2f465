"""Fair sale and swap of models ("Fair and autonomous sharing", IV), from outside a node.

    async with Client.connect(Home(Path("~/.agorai"))) as client:
        asked = await Trading(client).ask(3, verification, offer=Wei(100 * 10**18))

The node takes every step of a trade by itself. What its owner decides is here: what is listed, asked, opened and
accepted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Final, cast

from pydantic import ValidationError

from agorai.client import MOST_CONTENT, PATIENCE_S, Client, OnStage, silent
from agorai.client import Listing as Offered
from agorai.devchain import TOKEN
from agorai.exchange import Contracts, explained
from agorai.own_model import OwnModel
from agorai.trade_refusals import (
    AccuracyTooLowError,
    AccuracyUnknownError,
    AskUnknownError,
    ListingMalformedError,
    NotListedError,
    NotToAcceptError,
    NotToOpenError,
    NotTradableError,
    TooFewVotersError,
    VerificationTooLargeError,
)
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
from agorai_shared.events import Phase as EventPhase
from agorai_shared.events import subject
from agorai_shared.negotiation import Limits, Listing, Negotiation, Role, Swap
from agorai_shared.panel import impartial
from agorai_shared.types import Address, CaseId, Cid, TradeId, Wei
from agorai_shared.vault import AskFor, TradeStatus

if TYPE_CHECKING:
    from agorai_trainer.sandbox import Sandbox

_LOOK_S: Final = 0.5
LEAST_ACCURACY: Final = 9_000
"""In 1/10,000. What is traded is above it: "parameters with accuracy higher than 90%" (IV-A 5, IV-B 2)."""


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
    """Trades of a participant's node.

    Parameters
    ----------
    sandbox
        Where own models are tried; None starts one each time.
    """

    def __init__(self, client: Client, sandbox: Sandbox | None = None) -> None:
        super().__init__(client)
        self._sandbox = sandbox

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
        panel_size: int = 3,
        mode: negotiation.Mode = negotiation.Mode.DIRECT,
        on_stage: OnStage | None = None,
    ) -> Listing:
        """Sell a model of this node's own from now on; what it would be swapped for stays as it was.

        Parameters
        ----------
        test
            A CSV of the model's columns; it is sealed, and a share of its rows goes with the model.
        accuracy
            Promised, in 1/10,000; None takes what the model's description says, rounded down.
        mode
            How voters judge a dispute about it.

        Raises
        ------
        NotTradableError, AccuracyTooLowError, AccuracyUnknownError, LimitsTooShortError, ListingMalformedError
            If it cannot be traded so; nothing was stored.
        UndegradableError
            In the paper's mode, if no models of low quality can be made of it; nothing was stored.
        CsvRowsError, InputError
            If the test data cannot be cut into rows or lack a column; nothing was stored.
        """
        tell = on_stage or silent
        tell("reading the model's description")
        offered = await self._model(resource)
        promised = _told_accuracy(offered) if accuracy is None else accuracy
        if promised <= LEAST_ACCURACY:
            raise AccuracyTooLowError(resource, promised)
        await self._in_time(limits)
        package.test_rows(test, Fraction(1, 5), b"")
        _check_columns(test, offered)
        if mode == negotiation.Mode.PAPER:
            tell("making a model of low quality in the sandbox")
            await OwnModel(self.client, resource, self._sandbox).check_degradable(test)
        known = [one for one in await self.listings() if one.resource == resource]
        tell("storing the data")
        try:
            listing = Listing(
                resource=resource,
                price=price,
                least=least,
                deposit_percent=deposit_percent,
                limits=limits,
                panel_size=panel_size,
                mode=mode,
                accuracy=promised,
                swaps=known[0].swaps if known else (),
                test=(await self.client.vault.put(test)).cid,
            )
        except ValidationError as error:
            raise ListingMalformedError(error) from error
        await self.client.vault.list_resource(resource, listing)
        return listing

    async def list_swaps(
        self, resource: int, wanted: Mapping[int, bytes], *, on_stage: OnStage | None = None
    ) -> Listing:
        """Give a listed model also for any of these from now on, and for no others.

        Parameters
        ----------
        wanted
            Models of others, the dearest wish first, each with the CSV on which it is judged; that becomes public.

        Raises
        ------
        NotListedError
            If the model has no price and no test data yet.
        NotTradableError, VerificationTooLargeError, ListingMalformedError, InputError
            If a model cannot be wished for so; the listing is as it was.
        """
        tell = on_stage or silent
        listing = await self.listing(resource)
        tell("publishing the verification data")
        swaps = [
            Swap(resource=one, verification=await self._published(one, data)) for one, data in wanted.items()
        ]
        try:
            changed = Listing.model_validate({**dict(listing), "swaps": tuple(swaps)})
        except ValidationError as error:
            raise ListingMalformedError(error) from error
        await self.client.vault.list_resource(resource, changed)
        return changed

    async def unlist(self, resource: int) -> None:
        """Trade a model no more; what is agreed on stays so."""
        await self.client.vault.list_resource(resource, None)

    async def listings(self) -> tuple[Listing, ...]:
        """Give what this node trades."""
        return (await self.client.vault.listings()).listings

    async def listing(self, resource: int) -> Listing:
        """Give what a model of this node's own is listed at; raises `NotListedError`."""
        found = [one for one in await self.listings() if one.resource == resource]
        if not found:
            raise NotListedError(resource)
        return found[0]

    async def ask(
        self,
        resource: int,
        verification: bytes,
        *,
        offer: int = 0,
        have: Sequence[int] = (),
        on_stage: OnStage | None = None,
    ) -> Negotiation:
        """Ask what a model costs, or offer a price; gives how it stands once it is over, or after 30 s.

        Parameters
        ----------
        verification
            The CSV on which the model is to be judged; it becomes public.
        offer
            What is paid if it is enough; an agreement on a sale binds this node. It is on the terms that were quoted
            last for this model, or better ones; if none were, they are asked for first. 0 only asks.
        have
            Own models, each listed, any of which would be swapped for it if both prices are equal: that of the own
            one and the offer, or with no offer what is asked. With no offer it never comes to a sale.

        Raises
        ------
        NotTradableError, VerificationTooLargeError, InputError
            If it cannot be asked for so.
        DepositTooHighError
            If the account could not pay the offer and a deposit as large. The quote tells the deposit, which may be
            3 times the price.
        RemoteError
            Of the vault: if it is this node's own, or one of `have` is not listed.
        """
        tell = on_stage or silent
        await self.require(offer if have else 2 * offer, at_least=True)
        tell("publishing the verification data")
        cid = await self._published(resource, verification)
        if offer and not any(one.quote and one.ask.resource == resource for one in await self.asks()):
            quoted = await self._ask(AskFor(resource=resource, price=0, verification=cid), tell)
            if quoted.state != negotiation.State.QUOTED:
                return quoted
        return await self._ask(
            AskFor(resource=resource, price=offer, verification=cid, have=tuple(have)), tell
        )

    async def _ask(self, wanted: AskFor, tell: OnStage) -> Negotiation:
        asked = await self.client.vault.ask(wanted)
        tell(f"waiting for {asked.other} to answer")
        give_up = time.monotonic() + PATIENCE_S
        while True:
            found = await self.negotiation(asked.ask)
            quoted = found.state == negotiation.State.QUOTED and not wanted.price
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
        PromiseNotKeptError, DataUnfitError
            If the own model falls short on the buyer's data, or cannot be judged on them, or on the own test data;
            nothing was laid down.
        NotListedError
            If it is not listed any more, so that no package of it could be made; nothing was laid down.
        LimitsTooShortError, TooFewVotersError, DepositTooHighError, TradeRefusedError
            If the contract refuses, or would refuse the buyer; nothing was laid down.
        """
        tell = on_stage or silent
        found = await self.negotiation(ask)
        if found.role != Role.SELLER:
            raise NotToOpenError(ask, "the seller opens it", "Wait for its owner to.")
        if found.state != negotiation.State.AGREED or found.terms is None:
            opened = f"See `agorai trade show {found.trade}`." if found.trade else "See `agorai trade asks`."
            raise NotToOpenError(ask, f"it is {found.state}", opened)
        keys_at = (await self.client.chain.final()).number
        kind, mode = Kind(found.terms.kind), Mode(found.terms.mode)
        terms = Terms(**{**asdict(found.terms), "kind": kind, "mode": mode, "keys_at": keys_at})
        await self._in_time(Limits.of(terms))
        await self._judgeable(terms)
        await self._reachable(terms.buyer, keys_at)
        await self.try_own(terms, tell)
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
        LimitsTooShortError, TooFewVotersError, DepositTooHighError
            If nodes could not keep the limits, or the contract would refuse.
        """
        seen = await self.look(trade)
        if seen.terms.buyer != self.client.address:
            raise NotToAcceptError(trade, f"{self.client.address} is not its buyer")
        if seen.trade.state != State.OFFERED:
            raise NotToAcceptError(trade, f"it is {seen.trade.state.name.lower()}")
        if (left := seen.left_s) is not None and left < 0:
            raise NotToAcceptError(trade, "the time to accept it is over")
        await self._in_time(Limits.of(seen.terms))
        await self._judgeable(seen.terms)
        await self.require(seen.needed)
        offered = asdict(seen.terms)
        del offered["keys_at"]  # which block its keys are of is the seller's to say
        agreed = [asdict(one.terms) for one in await self.asks() if one.terms and one.role == Role.ASKER]
        return seen, offered in agreed

    async def accept(self, trade: int, *, on_stage: OnStage | None = None) -> TradeStatus:
        """Agree to a trade on the terms on which it was opened; the node pays and does the rest.

        Raises
        ------
        PromiseNotKeptError, DataUnfitError, NotListedError
            In a swap, as `open`; nothing was laid down.
        RemoteError
            Of the vault: if it cannot be agreed to any more.
        """
        terms = (await self.look(trade)).terms
        if terms.kind == Kind.SWAP:
            await self.try_own(terms, on_stage or silent)
        with explained():
            return await self.client.vault.agree(TradeId(trade))

    async def _reachable(self, account: Address, at: int) -> None:
        """See that an account's encryption key of a block can be had and used: the address will be sealed to it.

        Raises
        ------
        EncryptionKeyError
        AgoraiError
            If its node does not serve it now.
        """
        from agorai_shared import jwe  # noqa: PLC0415 - cryptography that other verbs do without

        market = self.client.market
        actor, key = await market.actor(account), await market.encryption_key(account, at)
        jwe.public_key(await market.document(key, actor.gateway), account)

    async def try_own(self, terms: Terms, tell: OnStage) -> None:
        """See that the model that this side hands over keeps its promise on the data that the other side chose.

        Raises
        ------
        PromiseNotKeptError, DataUnfitError, NotListedError
            As `open`.
        NotFoundError, UnavailableError
            If the other side does not serve its data.
        """
        if terms.seller == self.client.address:
            resource, promised, digest = (
                terms.seller_resource, terms.seller_accuracy, terms.seller_verification
            )  # fmt: skip
            other = terms.buyer
        else:
            resource, promised, digest = terms.buyer_resource, terms.buyer_accuracy, terms.buyer_verification
            other = terms.seller
        tell("fetching the other side's verification data")
        market = self.client.market
        data = await market.document(digest, (await market.actor(other)).gateway)
        await self.client.store.put_document(data, name=_verification_name(resource))
        test = await self.client.vault.own(Cid((await self.listing(resource)).test), MOST_CONTENT)
        tell("trying the model on them in the sandbox")
        score = await OwnModel(self.client, resource, self._sandbox).check_promise(promised, data, test)
        tell(
            f"the model reaches {score.accuracy:.2%} on {score.rows} rows; {promised / 100:.2f}% is promised"
        )

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

    async def follow(self, trade: int) -> AsyncGenerator[Seen]:
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
                    async with asyncio.timeout(_LOOK_S):
                        await news.wait()
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
        path = f"/vault/trades/{trade}/package"
        return package.read(await self.client.vault.package(path, package.MAX_PACKAGE_SIZE))

    # ---------------------------------------------------------------------------------------------- credit

    async def withdraw(self) -> dict[str, Wei]:
        """Take all that is credited to this account; gives how much came from where."""
        found = {name: amount for name, amount in (await self.credits()).items() if amount}
        for name in found:
            await self.send(self._payers[name].withdraw())
        return found

    # --------------------------------------------------------------------------------------------- reading

    async def _judgeable(self, terms: Terms) -> None:
        """See that there are voters enough; the sides of a trade are never drawn for it."""
        available, *sides = await self.read(
            self.panel.available(), *(self.panel.voter_of(side) for side in (terms.seller, terms.buyer))
        )
        if (others := impartial(available, sides)) < terms.panel_size:
            raise TooFewVotersError(others, terms.panel_size)

    async def _in_time(self, limits: Limits) -> None:
        """See that nodes, which act on final blocks, can keep the limits on this chain."""
        limits.require_time(await self.client.chain.finality_lag())

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
        return await self.client.store.put_document(data, name=_verification_name(resource))


def not_swapped(found: Negotiation, own: Listing) -> str:
    """Say why an ask that offers `own` and no money did not come to a swap; nothing if it did, or is not answered."""
    quote = found.quote
    if quote is None or found.state != negotiation.State.QUOTED:
        return ""
    if quote.wants is None:
        return f"its owner does not want model {own.resource}"
    if quote.price != own.price:
        return f"it costs {quote.price / TOKEN:g} and model {own.resource} is listed at {own.price / TOKEN:g}"
    if quote.mode != own.mode:
        return f"it is listed with --mode {quote.mode.name.lower()} and model {own.resource} is not"
    if not own.accepts(quote.verification or ""):
        return f"model {own.resource} is not to be judged on the data that its owner chose"
    return f"its deposit is above {negotiation.MOST_DEPOSIT} times the price"


def _verification_name(resource: int) -> str:
    return f"{NODE_PIN}verification data of resource {resource}"


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
