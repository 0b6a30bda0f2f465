"""A node's entry in the registry: who it is, the key that others seal to, and where they reach it."""

from __future__ import annotations

import secrets
from typing import Final

from agorai.client import Client
from agorai_shared import cid as cids
from agorai_shared import logging
from agorai_shared.content import NODE_PIN, ContentNotFoundError, ContentStore
from agorai_shared.documents import DocumentMalformedError, Profile
from agorai_shared.types import Digest
from agorai_shared.vault import TransactionRevertedError, TransactionState
from agorai_vault.keys import Keys

log = logging.get(__name__)

ALL_ROLES: Final = 1 | 2 | 4 | 8
"""Data, model and computation provider, and model user (`Role` of the Registry)."""


async def join(client: Client, keys: Keys, gateway: str, inbox: str) -> None:
    """Put a node's profile, encryption key and gateway on the chain, unless they are there.

    Parameters
    ----------
    gateway
        Where other participants reach its content.
    inbox
        Where they send its vault messages.

    Raises
    ------
    TransactionRevertedError
        If the registry did not take it.
    """
    store, registry = client.store, client.market.registry
    (actor,) = await client.chain.read(registry.actor(keys.address), at=await client.chain.head())
    made = Profile(
        name=client.info.name, inbox=inbox, specification=await _specification(store, actor.profile)
    )
    described = await store.put_document(made.to_bytes(), name=f"{NODE_PIN}profile")
    public_key = await store.put_document(keys.public_document, name=f"{NODE_PIN}encryption key")
    profile, key = cids.digest_of(described), cids.digest_of(public_key)
    if (actor.profile, actor.encryption_key, actor.gateway) == (profile, key, gateway):
        return
    call = registry.join(actor.roles or ALL_ROLES, profile, key, gateway)
    once = f"join/{secrets.token_hex(8)}"
    await client.vault.send(once, call)
    outcome = await client.vault.settled(once)
    if outcome.state == TransactionState.REVERTED:
        raise TransactionRevertedError("Registry.join", outcome.transaction, outcome.reason or "")
    log.info("registry.joined", address=keys.address, gateway=gateway)


async def _specification(store: ContentStore, profile: Digest) -> str | None:
    """Give what the node's present profile names as its offer to training; a profile that is lost offers nothing."""
    if not any(profile):
        return None
    try:
        return Profile.from_bytes(await store.get_document(cids.of_digest(profile))).specification
    except (ContentNotFoundError, DocumentMalformedError) as error:
        log.warning("profile.lost", reason=str(error))
        return None
