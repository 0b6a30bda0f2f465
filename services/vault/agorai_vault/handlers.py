"""The shell of the vault: the invocation protocol's reading and performing, and sealed bytes in and out."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import cast

from agorai_shared import cid as cids
from agorai_shared import logging
from agorai_shared.bindings.invocation import Delivered, Item, Paid
from agorai_shared.bindings.invocation import State as ItemState
from agorai_shared.chain import ContractRevertError, time_of
from agorai_shared.content import NODE_PIN
from agorai_shared.contract import Call
from agorai_shared.errors import NotFoundError, RefusedError
from agorai_shared.market import Market, topic_of
from agorai_shared.sealing import new_content_key, open_sealed, seal
from agorai_shared.types import Cid, InvocationId
from agorai_vault import decide, grants
from agorai_vault.database import Box, ContentKey
from agorai_vault.holders import Holders
from agorai_vault.keys import Keys
from agorai_vault.outbox import Outbox
from agorai_vault.steps import send_step

log = logging.get(__name__)


class InvocationNotFoundError(NotFoundError):
    """There is no invocation of this id."""

    retryable = True

    def __init__(self, invocation: int) -> None:
        super().__init__(
            f"There is no invocation {invocation}, or it is not final yet.",
            remedy="Look at what was paid: `agorai events --contract Invocation`.",
        )


class ContentNotOwnedError(NotFoundError):
    """The vault has no key for a content."""

    def __init__(
        self,
        what: str,
        remedy: str = "Restore the vault's database from its backup, or withdraw the resource.",
    ) -> None:
        super().__init__(f"This vault holds no key for {what}.", remedy=remedy)


class NotEntitledError(RefusedError):
    """The chain gives this account no right to open the content now."""

    def __init__(self, invocation: int, why: str) -> None:
        super().__init__(f"Invocation {invocation} gives no right to its content: {why}.")


@dataclass(frozen=True)
class InvocationProtocol:
    """The invocation protocol, for the reconciler."""

    market: Market
    keys: Keys
    box: Box
    outbox: Outbox

    @property
    def name(self) -> str:
        """Name in logs and metrics."""
        return "invocation"

    async def read(self, key: int) -> decide.InvocationState:
        """Read the item at a final block, and whether its grant is settled here."""
        item = await self.item(key)
        return decide.InvocationState(item, self.box.grant_settled(InvocationId(key)))

    async def item(self, invocation: int) -> Item:
        """Read the item at a final block.

        Raises
        ------
        InvocationNotFoundError
            If there is none of this id.
        """
        if not 0 < invocation < 1 << 63:
            raise InvocationNotFoundError(invocation)
        try:
            (item,) = await self.market.chain.read(self.market.invocation.item(InvocationId(invocation)))
        except ContractRevertError as error:
            raise InvocationNotFoundError(invocation) from error
        return cast("Item", item)

    def next_step(self, state: decide.InvocationState, now: int) -> decide.Step | None:
        """Decide as this account."""
        return decide.next_step(state, self.keys.address, now)

    def due(self, state: decide.InvocationState, now: int) -> int | None:
        """Give the deadline that concerns this account."""
        return decide.due(state, self.keys.address)

    async def perform(self, key: int, step: decide.Step, once: str) -> bool:
        """Take the step."""
        invocation = InvocationId(key)
        match step:
            case decide.Deliver():
                await send_step(self.outbox, once, lambda: self._delivery(invocation))
            case decide.Refund():
                try:
                    await send_step(self.outbox, once, lambda: self._refund(invocation))
                except ContractRevertError as error:
                    if not error.reason.startswith("Invocation_DeadlineNotPassed"):
                        raise
                    log.info("refund.early", invocation=invocation)  # the chain's clock is behind ours
            case decide.TakeGrant():
                await self.take_grant(invocation)
        return False

    async def open_items(self) -> Iterable[int]:
        """Find the invocations in which this account is owner or payer and that are not settled."""
        me, contract = topic_of(self.keys.address), self.market.deployment.invocation
        paid = [
            *await self.market.events(contract, Paid, None, me),
            *await self.market.events(contract, Paid, None, None, me),
        ]
        ids = sorted({event.id for event, _ in paid})
        calls = [self.market.invocation.item(id_) for id_ in ids]
        items = cast("tuple[Item, ...]", await self.market.chain.read(*calls) if calls else ())
        return [id_ for id_, item in zip(ids, items, strict=True) if self._is_open(id_, item)]

    def _is_open(self, invocation: int, item: Item) -> bool:
        if item.state == ItemState.DELIVERED:
            return item.payer == self.keys.address and not self.box.grant_settled(InvocationId(invocation))
        return item.state == ItemState.PAID

    def concerns(self, event: Paid | Delivered) -> bool:
        """Say whether this account is a party; that much of an event never changes."""
        return self.keys.address in (event.payer, event.owner)

    async def take_grant(self, invocation: InvocationId) -> None:
        """Fetch, verify and keep the grant delivered; a false one is refused for good."""
        item = await self.item(invocation)
        if item.state != ItemState.DELIVERED or item.payer != self.keys.address:
            raise NotEntitledError(invocation, f"it is {item.state.name.lower()} for {item.payer}")
        owner = await self.market.actor(item.owner)
        document = await self.market.document(item.grant, owner.gateway)
        try:
            content = grants.take(document, await self._terms(invocation, item), self.keys, await self.now())
        except grants.GrantRefusedError as error:
            log.warning("grant.refused", invocation=invocation, owner=item.owner, reason=str(error))
            self.box.refuse_grant(invocation, str(error))
            return
        self.box.keep_grant(invocation, content.cid, content.key)
        log.info("grant.taken", invocation=invocation)

    async def now(self) -> int:
        """Give the later of the chain's time and this machine's, in seconds since 1970."""
        return await time_of(self.market.chain)

    async def _delivery(self, invocation: InvocationId) -> Call[None]:
        grant = await self._make_grant(invocation)
        document = await self.market.store.put_document(grant, name=f"{NODE_PIN}grant")
        digest = cids.digest_of(document)
        return self.market.invocation.deliver(invocation, digest)

    async def _refund(self, invocation: InvocationId) -> Call[None]:
        return self.market.invocation.refund(invocation)

    async def _make_grant(self, invocation: InvocationId) -> bytes:
        item = await self.item(invocation)
        terms = await self._terms(invocation, item)
        content = self.box.content_by_commitment(terms.commitment)
        if content is None:
            raise ContentNotOwnedError(f"resource {item.resource}")
        payer = await self.market.actor(item.payer)
        recipient_key = await self.market.document(payer.encryption_key, payer.gateway)
        return grants.make(
            terms, grants.Content(content.cid, content.key, content.salt), self.keys, recipient_key
        )

    async def _terms(self, invocation: InvocationId, item: Item) -> grants.Terms:
        resource = await self.market.resource(item.resource)
        return grants.Terms(
            chain_id=self.market.deployment.chain_id,
            contract=self.market.deployment.invocation,
            invocation=invocation,
            resource=item.resource,
            sender=item.owner,
            recipient=item.payer,
            commitment=resource.commitment,
            expires_at=item.deadline + item.duration if item.duration else 0,
        )


@dataclass(frozen=True)
class SealedContent:
    """Plaintext in, sealed object out to the store, and back, for those entitled."""

    protocol: InvocationProtocol

    async def put(self, plain: AsyncIterator[bytes]) -> tuple[ContentKey, int]:
        """Seal a stream under a fresh key into the store; the key is kept before this returns."""
        size = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size
            async for piece in plain:
                size += len(piece)
                yield piece

        key, salt = new_content_key(), os.urandom(32)
        cid = await self.protocol.market.store.put(seal(counted(), key), name=f"{NODE_PIN}sealed content")
        content = ContentKey(cid, key, salt, cids.commitment(cid, salt))
        self.protocol.box.keep_content(content)
        return content, size

    def own(self, cid: Cid) -> AsyncIterator[bytes]:
        """Open an object that this vault sealed.

        Raises
        ------
        ContentNotOwnedError
            If it holds no key for it.
        """
        content = self.protocol.box.content_by_cid(cid)
        if content is None:
            remedy = (
                "If it is not sealed, leave --sealed out; if it was sealed by another node, ask that one."
            )
            raise ContentNotOwnedError(cid, remedy)
        return open_sealed(self.protocol.market.store.get(cid), content.key)

    async def bought(self, invocation: InvocationId, job: str) -> AsyncIterator[bytes]:
        """Open what an invocation gives a right to, for one job.

        Raises
        ------
        NotEntitledError
            If it is not delivered, has ended, or its uses recorded on the chain are all spent on other jobs.
        GrantRefusedError
            If the owner delivered a false grant.
        """
        box, item = self.protocol.box, await self.protocol.item(invocation)
        self._check_right(invocation, item, await self.protocol.now())
        if not box.grant_settled(invocation):
            await self.protocol.take_grant(invocation)
        granted = box.granted(invocation)
        if granted is None:
            raise NotEntitledError(invocation, box.refusal(invocation) or "it brought no grant")
        resource = await self.protocol.market.resource(item.resource)
        if item.limited and not box.count_opening(invocation, job, resource.uses - item.uses_left):
            raise NotEntitledError(invocation, "no use of it is recorded on the chain for this job")
        owner = await self.protocol.market.actor(item.owner)
        cid, key = granted
        return open_sealed(Holders(self.protocol.market, owner.gateway).get(cid), key)

    def _check_right(self, invocation: InvocationId, item: Item, now: int) -> None:
        if item.payer != self.protocol.keys.address:
            raise NotEntitledError(invocation, f"it was paid for by {item.payer}")
        if item.state != ItemState.DELIVERED:
            raise NotEntitledError(invocation, f"it is {item.state.name.lower()}, not delivered")
        if item.expires_at and now >= item.expires_at:
            raise NotEntitledError(invocation, f"it ended at {item.expires_at} (seconds since 1970)")
