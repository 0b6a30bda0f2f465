"""Making the package that a side hands over, from what this vault holds sealed (fair-sharing IV-A 5)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from agorai_shared import cid as cids
from agorai_shared import package
from agorai_shared.bindings.fair_exchange import Kind, Terms
from agorai_shared.content import NODE_PIN
from agorai_shared.documents import Metadata
from agorai_shared.errors import NotFoundError, RefusedError
from agorai_shared.market import Market
from agorai_shared.negotiation import Listing, Negotiation
from agorai_shared.package import Card, InputColumn, Output, Registered, Structure, TradeBinding
from agorai_shared.sealing import Opener, new_content_key, seal_bytes
from agorai_shared.types import Address, Cid, ResourceId, TradeId
from agorai_vault.database import Box, ContentKey
from agorai_vault.trade.records import Records, terms_of


class NotPackableError(RefusedError):
    """A model cannot be handed over in a trade."""

    def __init__(self, resource: int, why: str) -> None:
        super().__init__(
            f"Resource {resource} cannot be handed over in a trade: {why}.",
            remedy="List it with its test data before you agree to a trade: `agorai trade list`.",
        )


class PackageNotHeldError(NotFoundError):
    """A package that this vault cannot open."""

    def __init__(self, trade: int, why: str) -> None:
        super().__init__(f"This vault cannot open the package of trade {trade}: {why}.")


@dataclass(frozen=True)
class Packing:
    """Makes packages, each once for its trade.

    Parameters
    ----------
    listing
        Gives how a resource of this node's is listed, None when it is not.
    sold
        Gives the negotiations in which this node agreed as the seller, the newest first.
    """

    market: Market
    exchange: Address
    me: Address
    box: Box
    records: Records
    listing: Callable[[int], Listing | None]
    sold: Callable[[], Iterable[Negotiation]]

    async def pack(self, trade: TradeId, terms: Terms) -> ContentKey:
        """Make, seal and store this side's package, unless it was made.

        Raises
        ------
        NotPackableError
            If the model or its test data are not this vault's, or the model is none that a buyer could use.
        """
        made = self.packed(trade)
        if made is not None:
            return made
        is_seller = terms.seller == self.me
        resource = ResourceId(terms.seller_resource if is_seller else terms.buyer_resource)
        promised = terms.seller_accuracy if is_seller else terms.buyer_accuracy
        listing = self.listing(resource)
        if listing is None:
            raise NotPackableError(resource, "it is not listed")
        entry = await self.market.resource(resource)
        metadata = await self.market.metadata(entry)
        model = self.box.content_by_commitment(entry.commitment)
        test = self.box.content_by_cid(Cid(listing.test))
        if model is None or test is None:
            raise NotPackableError(resource, "this vault has no key for the model or its test data")
        plain_model, header = await self._open(model)
        registered = Registered(header=header.hex(), key=model.key.hex(), salt=model.salt.hex())
        plain = await asyncio.to_thread(
            package.write,
            self._card(trade, resource, metadata, promised, registered),
            plain_model,
            (await self._open(test))[0],
            package.test_share(terms.price, self._asked(terms, listing)),
        )
        key, salt = new_content_key(), os.urandom(32)
        sealed = await asyncio.to_thread(seal_bytes, plain, key)
        cid = await self.market.store.put(sealed, name=f"{NODE_PIN}package of trade {trade}")
        content = ContentKey(cid, key, salt, cids.commitment(cid, salt))
        self.box.keep_content(content)
        self.records.keep_package(trade, cid)
        return self.own(trade)

    def packed(self, trade: TradeId) -> ContentKey | None:
        """Give the package made for a trade."""
        cid = self.records.package(trade)
        return None if cid is None else self.box.content_by_cid(cid)

    def own(self, trade: TradeId) -> ContentKey:
        """Give the package made for a trade.

        Raises
        ------
        PackageNotHeldError
            If none was made here.
        """
        made = self.packed(trade)
        if made is None:
            raise PackageNotHeldError(trade, "it was not made here")
        return made

    def _asked(self, terms: Terms, listing: Listing) -> int:
        """Give the price that was asked when these terms were agreed on, else the one asked now."""
        if terms.kind == Kind.SWAP:
            return terms.price
        for each in self.sold():
            if (
                each.quote is not None
                and each.terms is not None
                and terms_of(each.terms, terms.keys_at) == terms
            ):
                return each.quote.asked
        return listing.price

    def _card(
        self, trade: TradeId, resource: ResourceId, metadata: Metadata, promised: int, registered: Registered
    ) -> Card:
        if metadata.kind != "model" or metadata.target is None or not metadata.columns:
            raise NotPackableError(resource, "it is no model with named columns")
        training = metadata.training or {}
        return Card(
            trade=TradeBinding(chain_id=self.market.deployment.chain_id, contract=self.exchange, trade=trade),
            resource=resource,
            name=metadata.name,
            purpose=metadata.description,
            structure=Structure(estimator=str(training.get("estimator", "")), parameters=training),
            format=metadata.format,
            input=tuple(InputColumn(name=column.name, type=column.type) for column in metadata.columns),
            output=Output(target=metadata.target, classes=metadata.classes),
            registered=registered,
            accuracy=promised / 10_000,
        )

    async def _open(self, content: ContentKey) -> tuple[bytes, bytes]:
        """Give an object in the clear, and the header with which it is sealed."""
        opener = Opener(content.key)
        pieces = [
            piece async for sealed in self.market.store.get(content.cid) for piece in opener.update(sealed)
        ]
        return b"".join([*pieces, opener.finish()]), opener.header
