"""Sealing for other members and for training tasks, and opening what is sealed to this account or its tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from joserfc.jwk import RSAKey

from agorai_shared import logging, unixfs
from agorai_shared.bindings.registry import Actor
from agorai_shared.content import NODE_PIN
from agorai_shared.envelopes import (
    TaskKey,
    inlined,
    open_as_member,
    open_as_task,
    public_key,
    seal_to_members,
    seal_to_task,
)
from agorai_shared.errors import AgoraiError
from agorai_shared.jwe import encode
from agorai_shared.jwe import public_key as member_key
from agorai_shared.market import Market, NotAMemberError
from agorai_shared.sealing import new_content_key, open_sealed, seal
from agorai_shared.shared_jwe import MOST_INLINE, Envelope
from agorai_shared.types import Address, Cid, Digest
from agorai_vault.holders import Holders
from agorai_vault.keys import Keys

log = logging.get(__name__)


@dataclass(frozen=True)
class Envelopes:
    """Plaintext in, envelope out, and back for whom it is sealed to."""

    market: Market
    keys: Keys
    _known: dict[tuple[Address, Digest], RSAKey] = field(default_factory=dict)
    """Members' encryption keys, by the digests of their documents."""

    def task_key(self, nonce: bytes) -> TaskKey:
        """Give the key of a task of this account's: it follows from the account's, so that it is never lost."""
        return TaskKey.derived(self.keys.derive(f"task/{nonce.hex()}"))

    async def seal(
        self,
        plain: AsyncIterator[bytes],
        context: str,
        members: Iterable[Address],
        task: str | None,
        *,
        lenient: bool = False,
        inline: bool = False,
    ) -> Envelope:
        """Seal a stream under a fresh key, into the store or, where it is small and may be, into the envelope.

        Parameters
        ----------
        task
            The public key of a task, in hex.
        lenient
            Whether members whose key cannot be used are left out, unless nobody were left.

        Raises
        ------
        TaskKeyError, EncryptionKeyError, NotAMemberError
            If a reader's key cannot be used; nothing is stored then.
        """
        if task is not None:
            public_key(task)
        keys = await self.keys_of(dict.fromkeys(members), lenient=lenient, may_be_none=task is not None)
        size = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size
            async for piece in plain:
                size += len(piece)
                yield piece

        content_key = new_content_key()
        sealed = seal(counted(), content_key)
        held = await _beginning(sealed) if inline else b""
        stays = 0 < len(held) <= MOST_INLINE
        if stays:
            cid = unixfs.cid_of(held)
        else:
            cid = await self.market.store.put(_chained(held, sealed), name=f"{NODE_PIN}envelope {context}")
        return Envelope(
            cid=cid,
            size=size,
            inline=encode(held) if stays else None,
            to_members=seal_to_members(keys, content_key, context, cid),
            to_task=None if task is None else seal_to_task(task, content_key, context, cid),
        )

    async def keys_of(
        self, members: Iterable[Address], *, lenient: bool, may_be_none: bool
    ) -> dict[Address, RSAKey]:
        """Give members' encryption keys; `lenient` without those that cannot be used."""
        accounts, registry = list(members), self.market.registry
        actors = await self.market.chain.read(*map(registry.actor, accounts)) if accounts else ()
        found: dict[Address, RSAKey] = {}
        unusable: AgoraiError | None = None
        for account, actor in zip(accounts, actors, strict=True):
            try:
                found[account] = await self._key_of(account, actor)
            except AgoraiError as error:
                if not lenient:
                    raise
                log.warning("envelope.reader_left_out", account=account, why=error.message)
                unusable = error
        if unusable is not None and not found and not may_be_none:
            raise unusable
        return found

    async def _key_of(self, account: Address, actor: Actor) -> RSAKey:
        if not actor.roles:
            raise NotAMemberError(account)
        if (account, actor.encryption_key) not in self._known:
            document = await self.market.document(actor.encryption_key, actor.gateway)
            self._known[account, actor.encryption_key] = member_key(document, account)
        return self._known[account, actor.encryption_key]

    async def open(
        self, envelope: Envelope, context: str, author: Address, nonce: bytes | None
    ) -> AsyncIterator[bytes]:
        """Open what is sealed to this account, or to a task of this account's; `author` serves the object.

        Raises
        ------
        NotForKeyError, EnvelopeFaultyError, NotAMemberError
        """
        if nonce is None:
            key = open_as_member(envelope, self.keys.address, self.keys.jwk, context)
        else:
            key = open_as_task(envelope, self.task_key(nonce), context)
        held = inlined(envelope)
        if held is not None:
            return open_sealed([held], key)
        gateway = await self.market.gateway(author)
        return open_sealed(Holders(self.market, gateway).get(Cid(envelope.cid)), key)


async def _beginning(pieces: AsyncIterator[bytes]) -> bytes:
    """Take from a stream all that an envelope may hold, and a little more if there is more."""
    held = bytearray()
    async for piece in pieces:
        held += piece
        if len(held) > MOST_INLINE:
            break
    return bytes(held)


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
