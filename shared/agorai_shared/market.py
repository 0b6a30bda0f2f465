"""The market as a participant sees it: actors and resources from the chain, documents from the stores.

What the chain says is believed; what a store says is verified against the digest on the chain.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Protocol, Self, TypeVar, cast

import aiohttp

from agorai_shared import cid as cids
from agorai_shared import logging
from agorai_shared.abi.codec import ArgValue
from agorai_shared.bindings.invocation import Invocation
from agorai_shared.bindings.market_token import MarketToken
from agorai_shared.bindings.registry import Actor, Joined, Registry, Resource
from agorai_shared.chain import Chain, ContractRevertError
from agorai_shared.content import ContentNotFoundError, ContentStore, Patience, StoreUrlError
from agorai_shared.contract import EventAbi
from agorai_shared.deployment import Deployment
from agorai_shared.documents import Metadata
from agorai_shared.errors import AgoraiError, NotFoundError, UnavailableError
from agorai_shared.types import Address, Digest, Hash, ResourceId

log = logging.get(__name__)

STRANGERS = Patience(attempts=1, connect_s=3, silence_s=4, block_s=8)
"""For documents from others' gateways: one that answers slowly by intent must not hold up much."""

AT_ONCE = 2
"""Documents asked of one gateway at the same time; one that hangs must not hold up the others."""


class GatewayBusyError(UnavailableError):
    """A participant's gateway is slow, and enough is being asked of it already."""

    def __init__(self, gateway: str) -> None:
        super().__init__(f"The gateway {gateway} has not answered what was asked of it before.")


class ResourceNotFoundError(NotFoundError):
    """There is no resource of this id."""

    def __init__(self, resource: int) -> None:
        super().__init__(
            f"There is no resource {resource} in this marketplace.",
            remedy="See what is on the market: `agorai offer list`.",
        )


class EventAbsentError(NotFoundError):
    """A transaction did not emit what it should have."""

    def __init__(self, transaction: Hash, event: str) -> None:
        super().__init__(f"The transaction {transaction} is not mined, or emitted no {event}.")


class Event(Protocol):
    """An event of the bindings."""

    ABI: ClassVar[EventAbi]

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read decoded arguments."""


EventT = TypeVar("EventT", bound=Event)


class NotAMemberError(NotFoundError):
    """The account has not joined the registry, or has left it."""

    def __init__(self, account: Address) -> None:
        super().__init__(
            f"The account {account} is not a member of this marketplace.",
            remedy="It has to join first, which its node does when it starts: `agorai up`.",
        )


def topic_of(account: Address) -> str:
    """Give an account as logs are filtered by it."""
    return "0x" + account[2:].lower().rjust(64, "0")


_GATEWAY_S: Final = 30.0
"""How long a member's gateway is not looked up again."""


class Market:
    """Reads actors, resources and documents."""

    def __init__(
        self, chain: Chain, deployment: Deployment, store: ContentStore, session: aiohttp.ClientSession
    ) -> None:
        self.chain = chain
        self.deployment = deployment
        self.store = store
        self.registry = Registry(deployment.registry)
        self.invocation = Invocation(deployment.invocation)
        self.token = MarketToken(deployment.token)
        self._session = session
        self._asked: Counter[str] = Counter()
        self._gateways: dict[Address, tuple[str, float]] = {}
        """By member, with the time from which it is looked up again."""

    async def resource(self, resource: int) -> Resource:
        """Read a resource at a final block.

        Raises
        ------
        ResourceNotFoundError
            If there is none of this id.
        """
        try:
            (found,) = await self.chain.read(self.registry.resource(ResourceId(resource)))
        except ContractRevertError as error:
            raise ResourceNotFoundError(resource) from error
        return cast("Resource", found)

    async def actor(self, account: Address) -> Actor:
        """Read a member at a final block.

        Raises
        ------
        NotAMemberError
            If the account is none.
        """
        (found,) = await self.chain.read(self.registry.actor(account))
        if not found.roles:
            raise NotAMemberError(account)
        return cast("Actor", found)

    async def gateway(self, account: Address) -> str:
        """Give where a member serves what it has, or did so seconds ago; raises as `actor`."""
        now = time.monotonic()
        found, until = self._gateways.get(account, ("", now))
        if now >= until:
            found = (await self.actor(account)).gateway
            self._gateways[account] = found, now + _GATEWAY_S
        return found

    def gateway_failed(self, account: Address) -> None:
        """Look a member's gateway up anew when it is asked for again."""
        self._gateways.pop(account, None)

    async def encryption_key(self, account: Address, at: int) -> Digest:
        """Give the digest of the encryption key that a member had at a block.

        Raises
        ------
        NotAMemberError
            If the account had not joined by then.
        """
        joined = await self.events(self.deployment.registry, Joined, topic_of(account), last=at)
        if not joined:
            raise NotAMemberError(account)
        return joined[-1][0].encryption_key

    async def gateways(self) -> list[str]:
        """Read all members' gateways at a final block, each once, those of the oldest members first.

        Whoever has joined writes their own gateway, so what is no URL of a store is left out.
        """
        joined = await self.events(self.deployment.registry, Joined)
        calls = [
            self.registry.actor(account) for account in dict.fromkeys(event.account for event, _ in joined)
        ]
        actors = cast("tuple[Actor, ...]", await self.chain.read(*calls) if calls else ())
        gateways = dict.fromkeys(actor.gateway for actor in actors if actor.roles)
        return [gateway for gateway in gateways if self._is_store(gateway)]

    def _is_store(self, gateway: str) -> bool:
        try:
            self.served_by(gateway)
        except StoreUrlError:
            return False
        return True

    async def document(self, digest: bytes, gateway: str) -> bytes:
        """Fetch a document from this node's own store, else from where its author serves it."""
        name = cids.of_digest(Digest(digest))
        try:
            return await self.store.get_document(name)
        except ContentNotFoundError:
            if self._asked[gateway] >= AT_ONCE:
                raise GatewayBusyError(gateway) from None
            self._asked[gateway] += 1
            try:
                document = await self.served_by(gateway, STRANGERS).get_document(name)
            finally:
                self._asked[gateway] -= 1
            # Kept, so that its author need not be there the next time; the next collection may take it.
            try:
                await self.store.put_document(document, pin=False)
            except AgoraiError as error:
                log.info("document.not_kept", reason=str(error))
            return document

    async def metadata(self, resource: Resource) -> Metadata:
        """Fetch a resource's metadata document.

        Raises
        ------
        DocumentMalformedError
            If its author wrote something else.
        """
        owner = await self.actor(resource.owner)
        return Metadata.from_bytes(await self.document(resource.metadata, owner.gateway))

    async def emitted(self, transaction: Hash, event: type[EventT]) -> EventT:
        """Give the first event of a type that a mined transaction emitted.

        Raises
        ------
        EventAbsentError
            If it is not mined, or emitted none.
        """
        receipt = cast(
            "dict[str, Any] | None", await self.chain.rpc.request("eth_getTransactionReceipt", transaction)
        )
        for entry in (receipt or {}).get("logs", []):
            if entry["topics"] and entry["topics"][0] == event.ABI.topic0:
                return event.from_args(event.ABI.decode(entry["topics"], entry["data"]))
        raise EventAbsentError(transaction, event.ABI.name)

    async def events(
        self, contract: Address, kind: type[EventT], *topics: str | None, last: int | None = None
    ) -> list[tuple[EventT, int]]:
        """Give a contract's events of a kind, oldest first, each with its block.

        Parameters
        ----------
        topics
            What its indexed members are, in their order; None is any.
        last
            The block up to which to look; None is the last final one.
        """
        end = (await self.chain.final()).number if last is None else last
        wanted = [kind.ABI.topic0, *topics]
        logs = await self.chain.logs(contract, wanted, self.deployment.start_block, end)
        return [
            (kind.from_args(kind.ABI.decode(entry["topics"], entry["data"])), int(entry["blockNumber"], 16))
            for entry in logs
        ]

    def served_by(self, gateway: str, patience: Patience | None = None) -> ContentStore:
        """Give the content store at a participant's gateway, to read from."""
        return ContentStore(gateway, None, self._session, patience=patience or Patience())
