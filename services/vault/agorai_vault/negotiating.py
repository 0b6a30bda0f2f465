"""The shell of negotiation: listings and negotiations on disk, their messages through the peers' in- and outbox."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable

from agorai_shared import logging
from agorai_shared.documents import CidText
from agorai_shared.errors import InputError, NotFoundError, RefusedError
from agorai_shared.market import Market, ResourceNotFoundError
from agorai_shared.negotiation import (
    TOPIC,
    Agreement,
    Answer,
    Ask,
    Body,
    Listing,
    Negotiation,
    OutOfPlaceError,
    Quote,
    Role,
    State,
    begun,
    opened,
    read,
    received,
)
from agorai_shared.peer_messages import Message
from agorai_shared.types import Address
from agorai_vault.database import transaction
from agorai_vault.peers import Peers

log = logging.get(__name__)

AGREEMENT_S = 7 * 86_400
"""How long an agreement has this node join the trade by itself; later its owner must accept it."""

MOST_ASKS = 100
"""Negotiations with one account that are kept besides those that led to a trade; the oldest are let go."""


class NotOwnResourceError(RefusedError):
    """A resource belongs to someone else."""

    def __init__(self, resource: int) -> None:
        super().__init__(
            f"Resource {resource} is not this node's own.", remedy="See your own: `agorai offer list`."
        )


class OwnResourceError(InputError):
    """Nobody buys from oneself."""

    def __init__(self, resource: int) -> None:
        super().__init__(f"Resource {resource} is this node's own.", remedy="Ask for someone else's.")


class NotListedError(NotFoundError):
    """A model is not listed for trade, so that its price is not known."""

    def __init__(self, resource: int) -> None:
        super().__init__(f"Resource {resource} has no listing.", remedy="List it first: its price is needed.")


class AskNotFoundError(NotFoundError):
    """There is no such negotiation here."""

    def __init__(self, ask: str) -> None:
        super().__init__(f"There is no ask {ask} with this account.", remedy="See `vault.asks`.")


class Negotiations:
    """Listings and negotiations of this node."""

    def __init__(self, database: sqlite3.Connection, market: Market, peers: Peers) -> None:
        self._database = database
        self._market = market
        self._peers = peers

    # ------------------------------------------------------------------------------------------------ owner

    async def list_resource(self, listing: Listing) -> None:
        """Trade a model of this node's own on these terms from now on.

        Raises
        ------
        NotOwnResourceError, ResourceNotFoundError
        """
        if (await self._market.resource(listing.resource)).owner != self._peers.address:
            raise NotOwnResourceError(listing.resource)
        self._database.execute(
            "INSERT OR REPLACE INTO listing VALUES (?, ?)", (listing.resource, listing.model_dump_json())
        )

    def unlist(self, resource: int) -> None:
        """Trade a model no more; what is agreed on stays so."""
        self._database.execute("DELETE FROM listing WHERE resource = ?", (resource,))

    def listings(self) -> dict[int, Listing]:
        """Give what is listed, by resource."""
        rows = self._database.execute("SELECT resource, document FROM listing ORDER BY resource")
        return {resource: Listing.model_validate_json(document) for resource, document in rows}

    async def ask(
        self, resource: int, price: int, verification: CidText, have: tuple[int, ...]
    ) -> Negotiation:
        """Ask a resource's owner what it costs, or offer a price for it; the answers come later.

        Raises
        ------
        OwnResourceError
            If it is this node's own.
        NotListedError
            If one of `have` is not listed here.
        ResourceNotFoundError
        """
        owner = (await self._market.resource(resource)).owner
        if owner == self._peers.address:
            raise OwnResourceError(resource)
        for own in have:
            if own not in self.listings():
                raise NotListedError(own)
        ask = Ask(
            ask=os.urandom(16).hex(), resource=resource, price=price, verification=verification, have=have
        )
        made = Negotiation(
            role=Role.ASKER,
            asked_at=int(time.time()), me=self._peers.address, other=owner, ask=ask, state=State.ASKED,
            seen=self._quoted(owner, resource) if price else None,
        )  # fmt: skip
        with transaction(self._database):
            self._keep_new(made)
            self._tell(owner, ask)
        return made

    def latest(self, limit: int) -> list[Negotiation]:
        """Give the negotiations begun last, the newest first."""
        rows = self._database.execute(
            "SELECT document FROM negotiation ORDER BY number DESC LIMIT ?", (limit,)
        )
        return [Negotiation.model_validate_json(document) for (document,) in rows]

    def agreed(self) -> list[Negotiation]:
        """Give those in which both sides have agreed and no trade is opened yet, the oldest first."""
        rows = self._database.execute(
            "SELECT document FROM negotiation WHERE state = ? ORDER BY number", (State.AGREED,)
        )
        return [Negotiation.model_validate_json(document) for (document,) in rows]

    def bought(self) -> list[tuple[str, Agreement]]:
        """Give what this node's owner has agreed to buy or swap for of late, opened or not, each with its ask."""
        rows = self._database.execute(
            "SELECT document FROM negotiation WHERE state IN (?, ?)", (State.AGREED, State.OPENED)
        )
        known = [Negotiation.model_validate_json(document) for (document,) in rows]
        since = time.time() - AGREEMENT_S
        return [
            (f"{each.other}/{each.ask.ask}", each.terms)
            for each in known
            if each.role is Role.ASKER and each.terms is not None and each.asked_at > since
        ]

    def sold(self) -> list[Negotiation]:
        """Give those in which this node's owner has agreed to sell or swap, opened or not, the newest first."""
        rows = self._database.execute(
            "SELECT document FROM negotiation WHERE state IN (?, ?) ORDER BY number DESC",
            (State.AGREED, State.OPENED),
        )
        known = [Negotiation.model_validate_json(document) for (document,) in rows]
        return [each for each in known if each.role is Role.SELLER]

    def opened(self, other: Address, ask: str, trade: int) -> None:
        """Note, as the seller, that the trade agreed on is opened, and tell the buyer.

        Raises
        ------
        AskNotFoundError, OutOfPlaceError
        """
        with transaction(self._database):
            known = self._find(other, ask)
            if known is None:
                raise AskNotFoundError(ask)
            changed, told = opened(known, trade)
            self._keep(changed)
            self._tell(other, told)

    # ------------------------------------------------------------------------------------------------ messages

    async def look(self, message: Message) -> Callable[[], None]:
        """Read a message, and from the chain what it speaks of.

        Raises
        ------
        BodyMalformedError
        """
        body = read(message.body)
        if not isinstance(body, Ask):
            return lambda: self._go_on(message.sender, body)
        listing = self.listings().get(body.resource)
        wished = {swap.resource for swap in listing.swaps} if listing else set()
        owned = {
            resource for resource in wished & set(body.have) if await self._owns(message.sender, resource)
        }
        return lambda: self._be_asked(message.sender, body, owned)

    def undelivered(self, message: Message, why: str) -> None:
        """Give up a negotiation of which a message was lost, unless its trade is open."""
        lost = self._find(message.recipient, read(message.body).ask)
        if lost is not None and lost.state not in (State.OPENED, State.DECLINED):
            self._keep(lost.ended(why))

    def _be_asked(self, sender: Address, ask: Ask, owned: set[int]) -> None:
        if self._find(sender, ask.ask) is not None:
            raise OutOfPlaceError(ask.kind, "another of this id came before")
        made, reply = begun(ask, self._peers.address, sender, self.listings().get(ask.resource), owned)
        self._keep_new(made)
        self._tell(sender, reply)
        log.info("negotiation.begun", other=sender, resource=ask.resource, state=made.state)

    def _go_on(self, sender: Address, body: Answer) -> None:
        known = self._find(sender, body.ask)
        if known is None:
            raise OutOfPlaceError(body.kind, "nothing was asked under its id")
        changed, reply = received(known, body, self.listings())
        self._keep(changed)
        if reply is not None:
            self._tell(sender, reply)
        log.info("negotiation.went_on", other=sender, resource=changed.ask.resource, state=changed.state)

    def _tell(self, other: Address, body: Body) -> None:
        self._peers.post(other, TOPIC, body.model_dump(mode="json"))

    async def _owns(self, account: Address, resource: int) -> bool:
        try:
            return (await self._market.resource(resource)).owner == account
        except ResourceNotFoundError:
            return False

    # ------------------------------------------------------------------------------------------------ disk

    def _quoted(self, other: Address, resource: int) -> Quote | None:
        """Give what an account quoted last for one of its models."""
        rows = self._database.execute(
            "SELECT document FROM negotiation WHERE other = ? ORDER BY number DESC", (other,)
        )
        for (document,) in rows:
            known = Negotiation.model_validate_json(document)
            asked = known.role is Role.ASKER and known.ask.resource == resource
            if asked and known.quote is not None and known.state is not State.DECLINED:
                return known.quote
        return None

    def _find(self, other: Address, ask: str) -> Negotiation | None:
        row = self._database.execute(
            "SELECT document FROM negotiation WHERE other = ? AND ask = ?", (other, ask)
        ).fetchone()
        return Negotiation.model_validate_json(row[0]) if row else None

    def _keep_new(self, made: Negotiation) -> None:
        self._database.execute(
            "INSERT INTO negotiation (other, ask, state, document) VALUES (?, ?, ?, ?)",
            (made.other, made.ask.ask, made.state, made.model_dump_json()),
        )
        self._database.execute(
            "DELETE FROM negotiation WHERE other = ?1 AND state <> ?2 AND number NOT IN (SELECT number"
            " FROM negotiation WHERE other = ?1 AND state <> ?2 ORDER BY number DESC LIMIT ?3)",
            (made.other, State.OPENED, MOST_ASKS),
        )

    def _keep(self, changed: Negotiation) -> None:
        self._database.execute(
            "UPDATE negotiation SET state = ?, document = ? WHERE other = ? AND ask = ?",
            (changed.state, changed.model_dump_json(), changed.other, changed.ask.ask),
        )
