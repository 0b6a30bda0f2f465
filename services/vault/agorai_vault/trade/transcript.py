"""What the chain and the two sides' gateways hold of a trade: its terms, messages, evidence and keys.

TradeNotFoundError (NotFoundError)      there is no such trade
MessageAbsentError (NotFoundError)      a side has not put a message on the chain
NotServedError (UnavailableError)       it has, but it cannot be had now
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from joserfc.jwk import RSAKey

from agorai_shared import jwe
from agorai_shared.bindings.fair_exchange import (
    FairExchange,
    Fulfilled,
    Mode,
    Opened,
    Step,
    Terms,
    Trade,
)
from agorai_shared.errors import AgoraiError, NotFoundError, UnavailableError
from agorai_shared.handover import Binding
from agorai_shared.market import EventT, Market, NotAMemberError
from agorai_shared.types import Address, TradeId
from agorai_vault.holders import Holders, holders_of
from agorai_vault.trade import decide


class TradeNotFoundError(NotFoundError):
    """There is no trade of this id."""

    retryable = True

    def __init__(self, trade: int) -> None:
        super().__init__(
            f"There is no trade {trade}, or it is not final yet.",
            remedy="See this account's trades: `agorai trade mine`.",
        )


class MessageAbsentError(NotFoundError):
    """A message that was not put on the chain, or is not final."""

    retryable = True

    def __init__(self, trade: int, what: str) -> None:
        super().__init__(f"There is no final {what} message of trade {trade}.")


class NotServedError(UnavailableError):
    """What the other side handed over cannot be had, or not evaluated, now; it is tried until it is disputed."""

    def __init__(self, trade: int, what: str, error: AgoraiError) -> None:
        super().__init__(f"The {what} of trade {trade} cannot be had now: {error.message}")


@dataclass(frozen=True, slots=True)
class Fulfilment:
    """What a side put on the chain by a step, and when: the time of the block, in seconds since 1970."""

    digest: bytes
    at: int


@dataclass(frozen=True, slots=True)
class Named:
    """A document, and when the chain named it, in seconds since 1970."""

    document: bytes
    named_at: int


@dataclass(frozen=True)
class Transcript:
    """Reads trades."""

    market: Market
    exchange: FairExchange

    async def state(self, trade: TradeId) -> Trade:
        """Read the trade at a final block."""
        (state,) = await self.market.chain.read(self.exchange.trade(trade))
        return cast("Trade", state)

    async def terms(self, trade: TradeId) -> Terms:
        """Give what a trade was opened on."""
        for opened, _ in await self.events(Opened, trade):
            return opened.terms
        raise TradeNotFoundError(trade)

    async def by_sets(self, trade: TradeId, state: Trade) -> bool:
        """Say whether voters of a dispute are to judge by parameter sets of low quality."""
        return not decide.about_key(state) and (await self.terms(trade)).mode == Mode.PAPER

    async def message(self, trade: TradeId, giver: Address, step: Step) -> Named:
        """Fetch the message that a side put on the chain, and tell when it did.

        Raises
        ------
        MessageAbsentError, NotServedError
        """
        named = await self.fulfilled(trade, giver, step)
        document = await self.document(trade, giver, named.digest, f"{step.name.lower()} message")
        return Named(document, named.at)

    async def document(self, trade: TradeId, author: Address, digest: bytes, what: str) -> bytes:
        """Fetch a document that a side named on the chain.

        Raises
        ------
        NotServedError
            If that side does not serve it; a chain that does not answer is another matter.
        """
        try:
            gateway = (await self.market.actor(author)).gateway
        except NotAMemberError:  # what was had of it before is still there
            gateway = self.market.store.url
        try:
            return await self.market.document(digest, gateway)
        except AgoraiError as error:
            raise NotServedError(trade, what, error) from error

    async def fulfilled(self, trade: TradeId, by: Address, step: Step) -> Fulfilment:
        """Give what a side put on the chain by a step.

        Raises
        ------
        MessageAbsentError
        """
        for event, block in await self.events(Fulfilled, trade):
            if event.by == by and event.step == step:
                found = await self.market.chain.block(block)
                if found is not None:
                    return Fulfilment(event.digest, found.timestamp)
        raise MessageAbsentError(trade, step.name.lower())

    async def events(self, kind: type[EventT], trade: TradeId) -> list[tuple[EventT, int]]:
        """Give a trade's events of a kind, oldest first, each with its block."""
        return await self.market.events(self.exchange.address, kind, f"0x{trade:064x}")

    def binding(self, trade: TradeId, sender: Address, recipient: Address) -> Binding:
        """Give what a message of a trade is bound to."""
        chain_id = self.market.deployment.chain_id
        return Binding(chain_id, self.exchange.address, trade, sender, recipient)

    async def key_of_side(self, trade: TradeId, account: Address) -> RSAKey:
        """Give the key that a side had in the registry at the block that the trade's terms name, or its opening.

        That was final before either side laid anything down, and both have looked at both keys: with a later one, a
        side could change it just before, or once a message is sealed to it, and blame the sender.

        Raises
        ------
        EncryptionKeyError
            If it is none that can be used, and will be none.
        NotServedError, TradeNotFoundError
        """
        opened = await self.events(Opened, trade)
        if not opened:
            raise TradeNotFoundError(trade)
        event, block = opened[0]
        digest = await self.market.encryption_key(account, min(event.terms.keys_at, block))
        return jwe.public_key(
            await self.document(trade, account, digest, f"public key of {account}"), account
        )

    async def key_of_voter(self, account: Address) -> RSAKey:
        """Give the key that an account has in the registry."""
        actor = await self.market.actor(account)
        return jwe.public_key(await self.market.document(actor.encryption_key, actor.gateway), account)

    async def holders(self, owner: Address) -> Holders:
        """Give who may hold what a side handed over."""
        return await holders_of(self.market, owner)
