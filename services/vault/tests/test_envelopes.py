"""Envelopes over the vault's own routes and commands: sealed to members and to tasks, opened by these alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import aiohttp
import pytest
import pytest_asyncio

from agorai_shared import cid as cids
from agorai_shared.content import ContentNotFoundError
from agorai_shared.envelopes import TaskKey, address_of, open_as_task, seal_to_task
from agorai_shared.errors import RemoteError
from agorai_shared.jwe import encode
from agorai_shared.rpc import Rpc
from agorai_shared.sealing import HEADER_LENGTH, TAG_LENGTH, new_content_key, open_bytes, seal_bytes
from agorai_shared.shared_jwe import MOST_INLINE, Envelope
from agorai_shared.testing import running_anvil, running_nats
from agorai_shared.types import Cid
from agorai_shared.vault import OpenEnvelope, PlaintextTooLargeError, SealEnvelope

from .ground import FRIEND, Ground
from .town import LIMIT, Node, running_town

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLAIN = b"0,1,2\n" * 50_000
"""Several segments."""
CONTEXT = "eip155:31337:0xtask:7:update:3:2"
NONCE, OTHER_NONCE = "ab" * 32, "cd" * 32


@dataclass
class People:
    """Two members with usable keys, and one whose key is none."""

    alice: Node
    bob: Node
    fool: Node


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[People]:
    folder = tmp_path_factory.mktemp("town")
    async with AsyncExitStack() as stack:
        anvil = await stack.enter_async_context(running_anvil(arguments=("--slots-in-an-epoch", "1")))
        rpc = await stack.enter_async_context(Rpc(anvil.url))
        bus = await stack.enter_async_context(running_nats(folder / "jetstream"))
        town = await stack.enter_async_context(running_town(await Ground.laid(anvil, rpc), bus, folder))
        members = [await town.participant(name) for name in ("alice", "bob", "fool")]
        alice, bob, fool = [await stack.enter_async_context(one.running()) for one in members]
        private = json.dumps(members[2].keys.jwk.as_dict(private=True)).encode()
        await asyncio.gather(alice.join(), bob.join(), fool.join(private))
        yield People(alice, bob, fool)


async def sealed(
    by: Node, *members: Node, task: str | None = None, plain: bytes = PLAIN, inline: bool = False
) -> Envelope:
    accounts = tuple(one.participant.address for one in members)
    to = SealEnvelope(context=CONTEXT, members=accounts, task=task, inline=inline)
    return await by.vault.seal_envelope(plain, to)


def asking(
    envelope: Envelope, author: Node, nonce: str | None = None, context: str = CONTEXT
) -> OpenEnvelope:
    return OpenEnvelope(envelope=envelope, context=context, author=author.participant.address, nonce=nonce)


async def refusal(node: Node, asked: OpenEnvelope) -> str:
    """Give the code with which a vault refuses to open an envelope."""
    with pytest.raises(RemoteError) as caught:
        await node.vault.open_envelope(asked, LIMIT)
    return caught.value.code


async def test_what_is_small_may_stay_in_its_envelope_and_needs_no_store(people: People) -> None:
    most = MOST_INLINE - HEADER_LENGTH - TAG_LENGTH
    plain = PLAIN[:most]
    envelope = await sealed(people.alice, people.bob, plain=plain, inline=True)
    assert envelope.size == most
    with pytest.raises(ContentNotFoundError):
        await stored(people.alice, envelope)
    assert await people.bob.vault.open_envelope(asking(envelope, people.alice), LIMIT) == plain
    faulty = envelope.model_copy(update={"inline": encode(b"another object")})
    assert await refusal(people.bob, asking(faulty, people.alice)) == "envelope_faulty"
    for what in (PLAIN[: most + 1], PLAIN):
        larger = await sealed(people.alice, people.bob, plain=what, inline=True)
        assert larger.inline is None
        assert await people.bob.vault.open_envelope(asking(larger, people.alice), LIMIT) == what


async def test_each_member_that_it_is_sealed_to_opens_it_and_nobody_else(people: People) -> None:
    envelope = await sealed(people.alice, people.bob, people.alice)
    assert (envelope.size, envelope.to_task) == (len(PLAIN), None)
    for reader in (people.alice, people.bob):
        assert await reader.vault.open_envelope(asking(envelope, people.alice), LIMIT) == PLAIN
    assert await refusal(people.fool, asking(envelope, people.alice)) == "not_for_key"
    assert await refusal(people.bob, asking(envelope, people.alice, NONCE)) == "not_for_key"


async def stored(node: Node, envelope: Envelope) -> bytes:
    """Give the sealed object from a node's own store."""
    return b"".join([piece async for piece in node.market.store.get(Cid(envelope.cid), max_size=LIMIT)])


async def pinned(node: Node) -> int:
    """Count what a node's store is to keep."""
    headers = {"Authorization": "Bearer node-token"}
    async with aiohttp.request("GET", f"{node.participant.url}/stat", headers=headers) as answer:
        return int((await answer.json())["pins"])


async def test_the_store_holds_no_plaintext(people: People) -> None:
    envelope = await sealed(people.alice, people.bob)
    kept = await stored(people.alice, envelope)
    assert len(kept) > len(PLAIN)
    assert PLAIN[:100] not in kept


async def test_what_is_sealed_to_a_task_only_its_model_provider_opens_until_its_key_is_known(
    people: People,
) -> None:
    key = await people.alice.vault.task_key(NONCE)
    assert address_of(key.public) == key.address
    envelope = await sealed(people.bob, task=key.public)
    assert envelope.to_members == ()
    assert await people.alice.vault.open_envelope(asking(envelope, people.bob, NONCE), LIMIT) == PLAIN
    assert await refusal(people.alice, asking(envelope, people.bob, OTHER_NONCE)) == "envelope_faulty"
    assert await refusal(people.alice, asking(envelope, people.bob)) == "not_for_key"
    assert await refusal(people.bob, asking(envelope, people.bob)) == "not_for_key"
    assert await refusal(people.bob, asking(envelope, people.bob, NONCE)) == "envelope_faulty"

    revealed = TaskKey(await people.alice.vault.reveal_task_key(NONCE))
    assert (revealed.public, revealed.address) == (key.public, key.address)
    kept = await stored(people.bob, envelope)
    assert open_bytes(kept, open_as_task(envelope, revealed, CONTEXT)) == PLAIN


async def test_a_task_s_key_is_its_account_s_and_its_nonce_s_alone(people: People) -> None:
    keys = [
        await one.vault.task_key(nonce)
        for one in (people.alice, people.bob)
        for nonce in (NONCE, OTHER_NONCE)
    ]
    assert len({key.public for key in keys}) == 4
    assert await people.alice.vault.task_key(NONCE) == keys[0]


async def test_an_envelope_opens_in_its_own_context_alone(people: People) -> None:
    key = await people.alice.vault.task_key(NONCE)
    envelope = await sealed(people.bob, people.alice, task=key.public)
    for nonce in (None, NONCE):
        lifted = asking(envelope, people.bob, nonce, CONTEXT.replace(":3:", ":4:"))
        assert await refusal(people.alice, lifted) == "envelope_faulty"
        other = envelope.model_copy(update={"cid": cids.of_raw(b"another object")})
        assert await refusal(people.alice, asking(other, people.bob, nonce)) == "envelope_faulty"


async def test_nothing_is_sealed_where_a_reader_s_key_is_none(people: People) -> None:
    before = await pinned(people.alice)
    public = (await people.alice.vault.task_key(NONCE)).public
    for members, task, code in (
        ((people.fool,), None, "encryption_key"),
        ((people.bob, people.fool), public, "encryption_key"),
        ((), "02" + "ff" * 32, "task_key"),
        ((people.bob,), public.upper(), "task_key"),
    ):
        with pytest.raises(RemoteError) as caught:
            await sealed(people.alice, *members, task=task)
        assert (caught.value.code, caught.value.retryable) == (code, False)
    with pytest.raises(RemoteError, match="not a member") as caught:
        await people.alice.vault.seal_envelope(PLAIN, SealEnvelope(context=CONTEXT, members=(FRIEND,)))
    assert caught.value.code == "not_a_member"
    assert await pinned(people.alice) == before


async def test_who_has_left_or_has_no_key_holds_up_nobody_where_that_is_asked_for(people: People) -> None:
    public = (await people.alice.vault.task_key(NONCE)).public
    bob, fool = (one.participant.address for one in (people.bob, people.fool))
    to = SealEnvelope(context=CONTEXT, members=(fool, FRIEND, bob), lenient=True)
    envelope = await people.alice.vault.seal_envelope(PLAIN, to)
    assert await people.bob.vault.open_envelope(asking(envelope, people.alice), LIMIT) == PLAIN
    assert await refusal(people.fool, asking(envelope, people.alice)) == "not_for_key"
    alone = SealEnvelope(context=CONTEXT, members=(fool,), lenient=True)
    with pytest.raises(RemoteError) as caught:
        await people.alice.vault.seal_envelope(PLAIN, alone)
    assert caught.value.code == "encryption_key"
    envelope = await people.alice.vault.seal_envelope(PLAIN, alone.model_copy(update={"task": public}))
    assert await people.alice.vault.open_envelope(asking(envelope, people.alice, NONCE), LIMIT) == PLAIN


async def test_an_object_that_its_author_altered_is_refused_as_such(people: People) -> None:
    key = new_content_key()
    public = (await people.alice.vault.task_key(NONCE)).public
    whole = seal_bytes(b"x" * 100, key)
    for altered, code in (
        (whole[:HEADER_LENGTH], "seal_truncated"),
        (whole[:-1], "seal_tampered"),
        (whole[:-1] + bytes([whole[-1] ^ 1]), "seal_tampered"),
        (seal_bytes(b"x" * 100, new_content_key()), "wrong_key"),
        (b"in the clear", "not_sealed"),
    ):
        cid = await people.bob.market.store.put(altered)
        envelope = Envelope(cid=cid, size=100, to_task=seal_to_task(public, key, CONTEXT, cid))
        assert await refusal(people.alice, asking(envelope, people.bob, NONCE)) == code


async def test_no_more_is_taken_into_memory_than_was_asked_for(people: People) -> None:
    envelope = await sealed(people.alice, people.bob)
    with pytest.raises(PlaintextTooLargeError):
        await people.bob.vault.open_envelope(asking(envelope, people.alice), len(PLAIN) - 1)


async def test_without_the_node_s_token_nothing_is_sealed_or_opened(people: People) -> None:
    envelope = await sealed(people.alice, people.alice)
    url, body = people.alice.participant.url, asking(envelope, people.alice).model_dump_json()
    to = SealEnvelope(context=CONTEXT).model_dump_json()
    async with aiohttp.ClientSession() as session:
        for headers in ({}, {"Authorization": "Bearer nonsense"}):
            async with session.post(f"{url}/vault/envelopes/open", data=body, headers=headers) as answer:
                assert answer.status == 401
            async with session.post(
                f"{url}/vault/envelopes", params={"for": to}, data=b"x", headers=headers
            ) as answer:
                assert answer.status == 401
