"""The inbox and the outbox: alone over a real chain, and in whole nodes that negotiate."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import cast

import aiohttp
import orjson
import pytest
import pytest_asyncio
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from eth_account import Account
from pydantic import JsonValue

from agorai_shared import bus
from agorai_shared import cid as cids
from agorai_shared.bindings.registry import Registry
from agorai_shared.bindings.role import Role
from agorai_shared.chain import Chain, Finality
from agorai_shared.content import ContentNotFoundError, ContentStore
from agorai_shared.documents import Profile
from agorai_shared.errors import AgoraiError, RemoteError, UnavailableError
from agorai_shared.http_server import listen
from agorai_shared.jwe import EncryptionKeyError
from agorai_shared.limiter import Limiter
from agorai_shared.market import Market, NotAMemberError
from agorai_shared.negotiation import TOPIC, Kind, Limits, Listing, OutOfPlaceError, State, Swap
from agorai_shared.peer_messages import (
    LONGEST_LIFE_S,
    MEDIA_TYPE,
    MOST_BYTES,
    SKEW_S,
    Message,
    PeerMessageRefusedError,
    open_envelope,
    seal,
)
from agorai_shared.processes import Running
from agorai_shared.testing import nats_server
from agorai_shared.types import Address, Cid, Digest
from agorai_shared.vault import AskFor
from agorai_vault import database, peers
from agorai_vault.keys import Keys
from agorai_vault.peers import (
    InboxError,
    PeerAnsweredError,
    PeerMessageReplayedError,
    Peers,
    PeerUnreachableError,
    SenderBlockedError,
    StrangerError,
    TooManyMessagesError,
    TopicUnknownError,
)

from .ground import CHAIN_ID, PATIENCE_S, Ground, send
from .town import Node, Town, running_town, until

__all__ = ["nats_server"]

NOW = 1_900_000_000


@cache
def keys_of(number: int) -> Keys:
    return Keys(
        Account.from_key(number.to_bytes(32)), rsa.generate_private_key(public_exponent=65537, key_size=2048)
    )


ALICE, BOB, MALLORY = 11, 12, 13


class Documents:
    """A content store that holds documents, as this node's own does."""

    def __init__(self) -> None:
        self.held: dict[Cid, bytes] = {}

    def put(self, document: bytes) -> Digest:
        cid = cids.of_raw(document)
        self.held[cid] = document
        return cids.digest_of(cid)

    async def get_document(self, cid: Cid) -> bytes:
        if cid not in self.held:
            raise ContentNotFoundError(cid, "own")
        return self.held[cid]


@dataclass
class Listener:
    """A topic that notes what comes, and fails when it is told to."""

    taken: list[Message] = field(default_factory=list)
    lost: list[tuple[str, str]] = field(default_factory=list)
    fails: AgoraiError | None = None
    out_of_place: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def look(self, message: Message) -> Callable[[], None]:
        if self.fails is not None:
            raise self.fails
        return lambda: self._take(message)

    def _take(self, message: Message) -> None:
        if self.out_of_place:
            raise OutOfPlaceError("message", "so the test wants it")
        self.taken.append(message)

    def undelivered(self, message: Message, why: str) -> None:
        self.lost.append((message.body, why))
        self.changed.set()


@dataclass
class Office:
    """Alice's in- and outbox over a real chain, without a bus."""

    ground: Ground
    folder: Path
    session: aiohttp.ClientSession
    documents: Documents = field(default_factory=Documents)
    listener: Listener = field(default_factory=Listener)
    noticed: list[Message] = field(default_factory=list)
    now: float = NOW

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Peers]:
        """Run one life of it."""
        connection = database.connect(self.folder, "alice")
        try:
            chain = Chain(self.ground.rpc, Finality(0))
            store = cast("ContentStore", self.documents)
            market = Market(chain, self.ground.deployment, store, self.session)
            made = Peers(connection, market, keys_of(ALICE), self.session, self._notice, lambda: self.now)
            made.on("talk", self.listener)
            async with made.running():
                yield made
        finally:
            connection.close()

    async def _notice(self, message: Message) -> None:
        self.noticed.append(message)

    async def join(self, number: int, inbox: str | None = None, key: bytes | None = None) -> None:
        """Make a member of an account, with documents that Alice's store holds."""
        keys, rpc = keys_of(number), self.ground.rpc
        profile = self.documents.put(Profile(name=str(number), inbox=inbox).to_bytes())
        document = self.documents.put(key or keys.public_document)
        call = Registry(self.ground.deployment.registry).join(Role.MODEL_USER, profile, document, "")
        await self.ground.fund(keys.address, 0)
        await rpc.request("anvil_impersonateAccount", keys.address)
        await send(rpc, {"from": keys.address, "to": call.to, "data": "0x" + call.data.hex()})

    def message(self, sender: int = BOB, **changed: object) -> Message:
        parties = keys_of(sender).address, keys_of(ALICE).address
        return replace(Message.new(CHAIN_ID, parties, "talk", {"a": 1}, int(self.now)), **changed)  # type: ignore[arg-type]


def enveloped(message: Message, signer: int = BOB) -> bytes:
    return seal(message, keys_of(signer).account, keys_of(ALICE).jwk)


async def arrive(inbox: Peers, envelope: bytes, came_from: str = "192.0.2.1") -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(envelope), 1000):
            yield envelope[at : at + 1000]

    await inbox.arrive(pieces(), came_from)


@pytest_asyncio.fixture
async def office(ground: Ground, tmp_path: Path) -> AsyncGenerator[Office]:
    async with aiohttp.ClientSession() as session:
        made = Office(ground, tmp_path / "alice", session)
        await made.join(BOB)
        yield made


# ---------------------------------------------------------------------------------------------------- inbox


async def test_a_message_is_handled_once_whatever_is_sent_again(office: Office) -> None:
    message = office.message()
    envelope = enveloped(message)
    async with office.open() as inbox:
        await arrive(inbox, envelope)
        for again in (envelope, enveloped(message), enveloped(replace(message, expires=message.expires - 1))):
            with pytest.raises(PeerMessageReplayedError):
                await arrive(inbox, again)
    async with office.open() as inbox:  # a restart forgets nothing
        with pytest.raises(PeerMessageReplayedError):
            await arrive(inbox, envelope)
        office.now += LONGEST_LIFE_S + 1
        with pytest.raises(PeerMessageRefusedError, match="expired"):
            await arrive(inbox, envelope)
    assert office.listener.taken == office.noticed == [message]


async def test_of_one_message_that_arrives_twice_at_once_one_is_taken(office: Office) -> None:
    envelope = enveloped(office.message())
    async with office.open() as inbox:
        results = await asyncio.gather(*(arrive(inbox, envelope) for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results if result] == [PeerMessageReplayedError] * 4
    assert len(office.listener.taken) == 1


async def test_what_was_seen_is_forgotten_once_it_cannot_be_opened_any_more(office: Office) -> None:
    async with office.open() as inbox:
        for _ in range(3):
            await arrive(inbox, enveloped(office.message()))
        office.now += LONGEST_LIFE_S + SKEW_S
        await arrive(inbox, enveloped(office.message()))
        assert seen(inbox) == 4
        office.now += 1
        await arrive(inbox, enveloped(office.message()))
        assert seen(inbox) == 2


def seen(inbox: Peers) -> int:
    count: int = inbox._database.execute("SELECT count(*) FROM peer_seen").fetchone()[0]
    return count


async def test_a_message_that_could_not_be_handled_now_can_be_sent_again(office: Office) -> None:
    envelope = enveloped(office.message())
    async with office.open() as inbox:
        office.listener.fails = UnavailableError("The chain is away.")
        with pytest.raises(UnavailableError, match="away"):
            await arrive(inbox, envelope)
        office.listener.fails = None
        await arrive(inbox, envelope)
    assert len(office.listener.taken) == 1


async def test_a_message_that_is_out_of_place_is_used_up(office: Office) -> None:
    envelope = enveloped(office.message())
    async with office.open() as inbox:
        office.listener.out_of_place = True
        with pytest.raises(OutOfPlaceError):
            await arrive(inbox, envelope)
        office.listener.out_of_place = False
        with pytest.raises(PeerMessageReplayedError):
            await arrive(inbox, envelope)
    assert office.listener.taken == office.noticed == []


async def test_only_members_may_send(office: Office) -> None:
    envelope = enveloped(office.message(MALLORY), MALLORY)
    async with office.open() as inbox:
        with pytest.raises(StrangerError) as caught:
            await arrive(inbox, envelope)
        assert (caught.value.http_status, caught.value.retryable) == (403, True)
        await office.join(MALLORY)
        await arrive(inbox, envelope)


async def test_who_is_blocked_is_not_heard_until_it_is_taken_off_the_list(office: Office) -> None:
    bob = keys_of(BOB).address
    async with office.open() as inbox:
        inbox.block(bob, blocked=True)
        inbox.block(bob, blocked=True)
    async with office.open() as inbox:
        assert inbox.blocked() == [bob]
        with pytest.raises(SenderBlockedError):
            await arrive(inbox, enveloped(office.message()))
        await office.join(MALLORY)
        await arrive(inbox, enveloped(office.message(MALLORY), MALLORY))
        inbox.block(bob, blocked=False)
        await arrive(inbox, enveloped(office.message()))


async def test_a_topic_that_nothing_takes_is_refused(office: Office) -> None:
    async with office.open() as inbox:
        with pytest.raises(TopicUnknownError, match="'gossip'"):
            await arrive(inbox, enveloped(office.message(topic="gossip")))


async def test_a_man_in_the_middle_can_speak_for_itself_only(office: Office) -> None:
    """It was taken for Alice, opened what Bob sealed, and now seals to her what it likes."""
    await office.join(MALLORY)
    message = office.message()
    async with office.open() as inbox:
        with pytest.raises(PeerMessageRefusedError, match="not its sender"):
            await arrive(inbox, enveloped(message, MALLORY))
        with pytest.raises(PeerMessageRefusedError, match="not its sender"):
            await arrive(inbox, enveloped(replace(message, body='{"a":2}'), MALLORY))
        own = replace(message, sender=keys_of(MALLORY).address, body='{"a":2}')
        await arrive(inbox, enveloped(own, MALLORY))
        assert office.listener.taken == [own]
        # It took Bob's id for its own message: that does not use up Bob's.
        await arrive(inbox, enveloped(message))
    assert [taken.sender for taken in office.listener.taken] == [own.sender, message.sender]


async def test_altered_and_foreign_envelopes_are_refused(office: Office) -> None:
    envelope = enveloped(office.message())
    async with office.open() as inbox:
        for at in range(0, len(envelope), 97):
            altered = bytearray(envelope)
            altered[at] ^= 1
            with pytest.raises(PeerMessageRefusedError):
                await arrive(inbox, bytes(altered), f"192.0.2.{at % 250}")
        to_bob = seal(office.message(), keys_of(BOB).account, keys_of(BOB).jwk)
        with pytest.raises(PeerMessageRefusedError, match="does not open"):
            await arrive(inbox, to_bob)
        with pytest.raises(PeerMessageRefusedError, match="another chain"):
            await arrive(inbox, enveloped(office.message(chain_id=1)))
        with pytest.raises(PeerMessageRefusedError, match="another recipient"):
            await arrive(inbox, enveloped(office.message(recipient=keys_of(BOB).address)))


async def test_an_envelope_without_end_is_left_at_its_limit(office: Office) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield bytes(1024)

    async with office.open() as inbox:
        with pytest.raises(PeerMessageRefusedError, match=f"more than {MOST_BYTES}"):
            await inbox.arrive(endless(), "192.0.2.1")
    assert taken == MOST_BYTES // 1024 + 1


async def test_an_envelope_that_does_not_come_is_not_waited_for(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    monkeypatch.setattr(peers, "ARRIVAL_S", 0.01)
    async with office.open() as inbox:
        with pytest.raises(PeerMessageRefusedError, match="did not arrive"):
            await inbox.arrive(never(), "192.0.2.1")


async def flooded(flood: Callable[[int], Awaitable[None]], at_most: int) -> TooManyMessagesError:
    """Send until it is too much."""
    for number in range(at_most):
        try:
            await flood(number)
        except TooManyMessagesError as error:
            return error
    raise AssertionError


async def test_a_sender_that_floods_is_told_to_wait_and_others_are_heard(office: Office) -> None:
    await office.join(MALLORY)
    async with office.open() as inbox:

        async def flood(number: int) -> None:
            await arrive(inbox, enveloped(office.message(MALLORY), MALLORY), f"192.0.2.{number}")

        error = await flooded(flood, 60)
        assert (error.http_status, error.retryable) == (429, True)
        assert 0 < (error.retry_after_s or 0) <= 1
        assert len(office.listener.taken) >= 30
        await arrive(inbox, enveloped(office.message()))


async def test_whoever_posts_a_senders_message_again_and_again_does_not_use_up_its_share(
    office: Office,
) -> None:
    envelope = enveloped(office.message())
    async with office.open() as inbox:
        await arrive(inbox, envelope)
        for _ in range(40):
            with pytest.raises(PeerMessageReplayedError):
                await arrive(inbox, envelope)
        await arrive(inbox, enveloped(office.message()), "192.0.2.2")


async def test_an_address_that_floods_with_noise_is_told_to_wait_and_others_are_heard(office: Office) -> None:
    async with office.open() as inbox:

        async def flood(_number: int) -> None:
            with pytest.raises(PeerMessageRefusedError):
                await arrive(inbox, b"noise", "192.0.2.9")

        assert "from your network address" in str(await flooded(flood, 200))
        await arrive(inbox, enveloped(office.message()), "192.0.2.1")


async def test_all_together_are_limited_too(office: Office) -> None:
    async with office.open() as inbox:

        async def flood(number: int) -> None:
            with pytest.raises(PeerMessageRefusedError):
                await arrive(inbox, b"noise", f"2001:db8::{number}")

        assert "to this node" in str(await flooded(flood, 2000))


# ---------------------------------------------------------------------------------------------------- outbox


@dataclass
class Inbox:
    """Bob's inbox, which answers as the test wants."""

    answers: list[web.Response]
    url: str = ""
    posts: list[web.Request] = field(default_factory=list)
    envelopes: list[bytes] = field(default_factory=list)
    came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def post(self, request: web.Request) -> web.Response:
        self.posts.append(request)
        self.envelopes.append(await request.read())
        async with self.came:
            self.came.notify_all()
        return self.answers.pop(0) if self.answers else web.Response(status=202)

    async def have_come(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S), self.came:
            await self.came.wait_for(lambda: len(self.envelopes) >= count)

    def messages(self) -> list[Message]:
        bob = keys_of(BOB)
        return [open_envelope(envelope, bob.jwk, bob.address, CHAIN_ID, NOW) for envelope in self.envelopes]


@asynccontextmanager
async def serving(*answers: web.Response) -> AsyncIterator[Inbox]:
    inbox = Inbox(list(answers))
    app = web.Application()
    app.router.add_post("/peer", inbox.post)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        inbox.url = f"http://{host}:{port}/peer"
        yield inbox
    finally:
        await runner.cleanup()


def problem(status: int, title: str, **members: object) -> web.Response:
    return web.json_response({"title": title, **members}, status=status)


async def empty(outbox: Peers) -> None:
    """Wait until nothing is kept to be sent."""
    async with asyncio.timeout(PATIENCE_S):
        while outbox._sending:
            await asyncio.gather(*outbox._sending.values())
    assert outbox._database.execute("SELECT count(*) FROM peer_outgoing").fetchone() == (0,)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(peers, "LONGEST_PAUSE_S", 0.02)


async def test_what_is_told_reaches_the_inbox_sealed_without_any_secret_of_the_node(office: Office) -> None:
    async with serving() as inbox, office.open() as outbox:
        await office.join(BOB, inbox.url)
        sent = await outbox.tell(keys_of(BOB).address, "talk", {"b": 2})
        (request,) = inbox.posts
        assert inbox.messages() == [sent]
        assert (sent.sender, sent.body) == (keys_of(ALICE).address, '{"b":2}')
        assert request.headers["Content-Type"] == MEDIA_TYPE
        assert not {"Authorization", "Cookie"} & set(request.headers)


@pytest.mark.parametrize(
    ("answer", "error", "why"),
    [
        (lambda: problem(422, "topic_unknown", detail="no such topic"), PeerAnsweredError, "no such topic"),
        (lambda: problem(403, "stranger", retryable=True), PeerUnreachableError, "status 403"),
        (lambda: web.Response(status=503), PeerUnreachableError, "status 503"),
        (lambda: problem(429, "x" * 10_000), PeerUnreachableError, "status 429"),
        (lambda: web.Response(status=200), PeerAnsweredError, "status 200"),
        (lambda: web.Response(status=404, body=b"[" * 5000), PeerAnsweredError, "status 404"),
    ],
)
async def test_a_refusal_is_told(
    office: Office, answer: Callable[[], web.Response], error: type[AgoraiError], why: str
) -> None:
    async with serving(answer()) as inbox, office.open() as outbox:
        await office.join(BOB, inbox.url)
        with pytest.raises(error, match=why):
            await outbox.tell(keys_of(BOB).address, "talk", {})


async def test_a_redirect_is_not_followed(office: Office) -> None:
    async with serving() as other:
        moved = web.Response(status=307, headers={"Location": other.url})
        async with serving(moved) as inbox, office.open() as outbox:
            await office.join(BOB, inbox.url)
            with pytest.raises(PeerAnsweredError, match="status 307"):
                await outbox.tell(keys_of(BOB).address, "talk", {})
        assert other.posts == []


@pytest.mark.parametrize(
    "inbox",
    [
        None,
        "",
        "nonsense",
        "ftp://example.org/",
        "file:///etc/passwd",
        "http://user:pass@127.0.0.1:1/peer",
        "http://user@127.0.0.1:1/peer",
        "http://[::1",
    ],
)
async def test_an_account_without_a_usable_inbox_is_told_of(office: Office, inbox: str | None) -> None:
    async with office.open() as outbox:
        await office.join(BOB, inbox)
        with pytest.raises(InboxError):
            await outbox.tell(keys_of(BOB).address, "talk", {})


async def test_nothing_is_sent_to_strangers_nor_to_unusable_keys(office: Office) -> None:
    async with serving() as inbox, office.open() as outbox:
        with pytest.raises(NotAMemberError):
            await outbox.tell(keys_of(MALLORY).address, "talk", {})
        await office.join(MALLORY, inbox.url, key=b"no key")
        with pytest.raises(EncryptionKeyError):
            await outbox.tell(keys_of(MALLORY).address, "talk", {})
        assert inbox.posts == []


async def test_an_inbox_where_nothing_listens_or_answers_is_unreachable(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with office.open() as outbox:
        async with serving() as inbox:
            await office.join(BOB, inbox.url)
        with pytest.raises(PeerUnreachableError):
            await outbox.tell(keys_of(BOB).address, "talk", {})
        monkeypatch.setattr(peers, "POST_S", 0.05)
        silent = listen("127.0.0.1", 0)  # it takes connections, and says nothing
        port = silent.getsockname()[1]
        await office.join(BOB, f"http://127.0.0.1:{port}/peer")
        with pytest.raises(PeerUnreachableError):
            await outbox.tell(keys_of(BOB).address, "talk", {})
        silent.close()


@pytest.mark.usefixtures("hasty")
async def test_what_is_posted_is_tried_again_until_it_is_taken_and_in_order(office: Office) -> None:
    later = {"Retry-After": "1"}
    answers = [
        web.Response(status=503),
        web.Response(status=429, headers=later),
        problem(403, "x", retryable=True),
    ]
    async with serving(*answers) as inbox, office.open() as outbox:
        await office.join(BOB, inbox.url)
        for number in range(3):
            outbox.post(keys_of(BOB).address, "talk", {"n": number})
        await empty(outbox)
        ids = [message.id for message in inbox.messages()]
        assert [message.body for message in inbox.messages()[3:]] == ['{"n":0}', '{"n":1}', '{"n":2}']
        assert ids[:4] == ids[:1] * 4  # one message, so that it is handled once
        assert office.listener.lost == []


@pytest.mark.usefixtures("hasty")
async def test_a_message_whose_answer_was_lost_counts_as_taken(office: Office) -> None:
    async with serving(problem(409, "peer_message_replayed")) as inbox, office.open() as outbox:
        await office.join(BOB, inbox.url)
        outbox.post(keys_of(BOB).address, "talk", {"n": 0})
        await empty(outbox)
        assert (len(inbox.posts), office.listener.lost) == (1, [])


@pytest.mark.usefixtures("hasty")
async def test_a_message_that_is_refused_is_given_up_and_the_next_is_sent(office: Office) -> None:
    async with serving(problem(403, "sender_blocked", detail="go away")) as inbox, office.open() as outbox:
        await office.join(BOB, inbox.url)
        outbox.post(keys_of(BOB).address, "talk", {"n": 0})
        outbox.post(keys_of(BOB).address, "talk", {"n": 1})
        await empty(outbox)
        ((body, why),) = office.listener.lost
        assert (body, "go away" in why) == ('{"n":0}', True)
        assert len(inbox.posts) == 2


@pytest.mark.usefixtures("hasty")
async def test_a_message_to_an_inbox_that_stays_away_is_given_up_when_it_expires(office: Office) -> None:
    async with serving() as inbox:
        await office.join(BOB, inbox.url)
    async with office.open() as outbox:
        outbox.post(keys_of(BOB).address, "talk", {"n": 0})
        assert outbox._sending
        office.now += LONGEST_LIFE_S + 1
        await empty(outbox)
    assert len(office.listener.lost) == 1


@pytest.mark.usefixtures("hasty")
async def test_a_restarted_node_sends_what_was_left(office: Office) -> None:
    async with serving() as inbox:
        await office.join(BOB, inbox.url)
        async with office.open() as outbox:
            outbox._runs = False  # it is killed before it sends anything
            outbox.post(keys_of(BOB).address, "talk", {"n": 0})
        assert inbox.posts == []
        async with office.open() as outbox:
            await inbox.have_come(1)
            await empty(outbox)
        assert [message.body for message in inbox.messages()] == ['{"n":0}']


@pytest.mark.usefixtures("hasty")
async def test_one_recipient_that_hangs_does_not_hold_up_another(office: Office) -> None:
    async with serving() as inbox, office.open() as outbox:
        silent = listen("127.0.0.1", 0)  # it takes connections, and says nothing
        port = silent.getsockname()[1]
        await office.join(MALLORY, f"http://127.0.0.1:{port}/peer")
        await office.join(BOB, inbox.url)
        outbox.post(keys_of(MALLORY).address, "talk", {"n": 0})
        outbox.post(keys_of(BOB).address, "talk", {"n": 1})
        await inbox.have_come(1)
        silent.close()


async def test_what_is_posted_in_a_change_that_fails_is_not_sent(office: Office) -> None:
    async with serving() as inbox, office.open() as outbox:
        await office.join(BOB, inbox.url)

        def fail() -> None:
            with database.transaction(outbox._database):
                outbox.post(keys_of(BOB).address, "talk", {"n": 0})
                raise sqlite3.OperationalError("disk full")

        with pytest.raises(sqlite3.OperationalError):
            fail()
        await empty(outbox)
        assert inbox.posts == []


def test_a_profile_without_an_inbox_keeps_the_bytes_it_had() -> None:
    old = b'{"description":"","name":"a","type":"agorai/profile/1"}'
    assert Profile(name="a").to_bytes() == old
    assert Profile.from_bytes(old) == Profile(name="a")
    new = Profile(name="a", inbox="http://127.0.0.1:1/peer")
    assert Profile.from_bytes(new.to_bytes()) == new


# ---------------------------------------------------------------------------------------------------- nodes


@pytest_asyncio.fixture
async def town(ground: Ground, nats_server: Running, tmp_path: Path) -> AsyncGenerator[Town]:
    async with running_town(ground, nats_server, tmp_path) as started:
        yield started


async def join(node: Node) -> None:
    """Join as `agorai up` does, with an inbox."""
    participant, store = node.participant, node.market.store
    profile = Profile(name=participant.name, inbox=f"{participant.url}/peer").to_bytes()
    named = [
        cids.digest_of(await store.put_document(each)) for each in (profile, participant.keys.public_document)
    ]
    roles = Role.MODEL_PROVIDER | Role.MODEL_USER
    await node.transact("join", node.registry.join(roles, named[0], named[1], participant.url))


async def publish(node: Node, price: int, *, swaps: tuple[Swap, ...] = ()) -> int:
    """Register a model and list it."""
    resource = await node.publish(b"a model")
    listing = Listing(
        resource=resource,
        price=price,
        least=price // 2,
        limits=Limits(t0=60, t1=60, t2=60, t3=60, tb=60),
        accuracy=9_000,
        test=cids.of_raw(b"test data"),
        swaps=swaps,
    )
    assert listing in (await node.vault.list_resource(resource, listing)).listings
    return resource


async def reached(node: Node, state: State, *, number: int = 0) -> None:
    async def so() -> bool:
        asks = await node.vault.asks()
        return len(asks) > number and asks[number].state == state

    await until(so)


BIG = 30_123_456_789_012_345_678
"""Of the token's smallest unit: some 30 tokens, which 64 bits do not hold."""
DATA = cids.of_raw(b"verification data")


async def test_two_nodes_agree_on_a_sale_and_then_on_a_swap(town: Town) -> None:
    alice, bob = [await town.participant(name) for name in ("alice", "bob")]
    async with alice.running() as seller, bob.running() as buyer:
        await asyncio.gather(join(seller), join(buyer))
        wanted = await publish(buyer, BIG)
        resource = await publish(seller, BIG, swaps=(Swap(resource=wanted, verification=DATA),))
        asked = await buyer.vault.ask(AskFor(resource=resource, price=BIG - 1, verification=DATA))
        assert asked.other == alice.address
        await asyncio.gather(reached(seller, State.AGREED), reached(buyer, State.AGREED))
        ((sold,), (bought,)) = await seller.vault.asks(), await buyer.vault.asks()
        assert sold.terms == bought.terms
        assert sold.terms is not None
        assert (sold.terms.kind, sold.terms.price, sold.terms.seller) == (Kind.SALE, BIG - 1, alice.address)

        await buyer.vault.ask(AskFor(resource=resource, price=BIG, verification=DATA, have=(wanted,)))
        await asyncio.gather(reached(seller, State.AGREED), reached(buyer, State.AGREED))
        given, got = (await seller.vault.asks())[0], (await buyer.vault.asks())[0]
        assert given.terms == got.terms
        assert given.terms is not None
        assert (given.terms.kind, given.terms.buyer_resource, given.terms.price) == (Kind.SWAP, wanted, BIG)

        await seller.vault.list_resource(resource, None)
        await buyer.vault.ask(AskFor(resource=resource, price=BIG, verification=DATA))
        await reached(buyer, State.DECLINED)
        assert "not for sale" in (await buyer.vault.asks())[0].why


async def test_an_ask_waits_for_a_seller_that_is_away_and_outlives_restarts(town: Town) -> None:
    alice, bob = [await town.participant(name) for name in ("alice", "bob")]
    async with bob.running() as buyer:
        async with alice.running() as seller:
            await asyncio.gather(join(seller), join(buyer))
            resource = await publish(seller, 100)
            for digest in await documents_of(buyer, alice.address):  # as known from earlier talk
                await buyer.market.document(digest, alice.url)
        asked = await buyer.vault.ask(AskFor(resource=resource, price=100, verification=DATA))
    async with bob.running() as buyer:
        (known,) = await buyer.vault.asks()
        assert (known.ask.ask, known.state) == (asked.ask, State.ASKED)
        async with alice.running() as seller:
            await asyncio.gather(reached(seller, State.AGREED), reached(buyer, State.AGREED))
            assert len(await seller.vault.asks()) == 1


async def documents_of(node: Node, account: Address) -> tuple[bytes, bytes]:
    actor = await node.market.actor(account)
    return actor.profile, actor.encryption_key


async def test_messages_of_a_negotiation_that_do_not_belong_are_refused_with_a_problem(town: Town) -> None:
    alice, bob, mallory = [await town.participant(name) for name in ("alice", "bob", "mallory")]
    async with alice.running() as seller, bob.running() as buyer, mallory.running() as thief:
        await asyncio.gather(join(seller), join(buyer), join(thief))
        resource = await publish(seller, 100)
        asked = await buyer.vault.ask(AskFor(resource=resource, price=0, verification=DATA))
        await reached(buyer, State.QUOTED)
        body: dict[str, JsonValue] = {"kind": "accept", "ask": asked.ask}
        for node, told, why in (
            (thief, body, "nothing was asked under its id"),  # of somebody else's negotiation
            (buyer, body, "the ask offered nothing"),
            (buyer, body | {"more": 1}, "none of a negotiation"),
            (buyer, json_of(resource, asked.ask), "another of this id came before"),
        ):
            with pytest.raises(RemoteError, match=why):
                await node.vault.tell(alice.address, TOPIC, told)
        with pytest.raises(RemoteError, match="'gossip'"):
            await thief.vault.tell(alice.address, "gossip", {})
        assert (await seller.vault.block_peer(mallory.address)).accounts == (mallory.address,)
        with pytest.raises(RemoteError, match="takes no messages of"):
            await thief.vault.tell(alice.address, TOPIC, body)
        (kept,) = await seller.vault.asks()
        assert kept.state == State.QUOTED


def json_of(resource: int, ask: str) -> dict[str, JsonValue]:
    return {
        "kind": "ask",
        "ask": ask,
        "resource": resource,
        "price": "100",
        "verification": DATA,
        "have": [],
    }


async def test_only_what_exists_and_is_ones_own_is_listed_or_offered(town: Town) -> None:
    alice, bob = [await town.participant(name) for name in ("alice", "bob")]
    async with alice.running() as seller, bob.running() as buyer:
        await asyncio.gather(join(seller), join(buyer))
        resource = await publish(seller, 100)
        (listing,) = (await seller.vault.listings()).listings
        with pytest.raises(RemoteError, match="not this node's own"):
            await buyer.vault.list_resource(resource, listing)
        for ask, why in (
            (AskFor(resource=resource + 1, price=1, verification=DATA), "no resource"),
            (AskFor(resource=resource, price=1, verification=DATA, have=(5,)), "5 has no listing"),
        ):
            with pytest.raises(RemoteError, match=why):
                await buyer.vault.ask(ask)
        with pytest.raises(RemoteError, match="is this node's own"):
            await seller.vault.ask(AskFor(resource=resource, price=1, verification=DATA))
        assert (await buyer.vault.asks(), await seller.vault.asks()) == ((), ())


async def test_strangers_may_post_and_the_bus_hears_who_wrote_of_what_but_not_what(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "Limiter", lambda rate, burst: Limiter(min(rate, 1), min(burst, 40)))
    alice, bob = [await town.participant(name) for name in ("alice", "bob")]
    client = await bus.connect(town.bus.url, name="test")
    notices = await client.subscribe(f"peer.{alice.address.lower()}")
    async with alice.running() as seller, bob.running() as buyer, aiohttp.ClientSession() as stranger:
        await asyncio.gather(join(seller), join(buyer))
        url = f"{alice.url}/peer"
        parties = bob.address, alice.address
        resource = await publish(seller, 100)
        body = json_of(resource, "0a" * 16)
        now = int(time.time())
        message = Message.new(CHAIN_ID, parties, TOPIC, body, now)
        envelope = seal(message, bob.keys.account, alice.keys.jwk)
        async with stranger.post(url, data=envelope) as answer:
            assert (answer.status, await answer.read()) == (202, b"")
        notice = orjson.loads((await notices.next_msg(timeout=PATIENCE_S)).data)
        assert notice == {"topic": TOPIC, "sender": bob.address, "id": message.id}
        async with stranger.post(url, data=envelope) as answer:
            assert (answer.status, (await answer.json(content_type=None))["title"]) == (
                409,
                "peer_message_replayed",
            )
        async with stranger.post(url, data=bytes(MOST_BYTES + 1)) as answer:
            assert (answer.status, (await answer.json(content_type=None))["title"]) == (
                409,
                "peer_message_refused",
            )
        async with stranger.get(url) as answer:
            assert answer.status == 405
        await broken_off(alice.port)
        answers = [await posted(stranger, url) for _ in range(60)]
        assert {status for status, _ in answers} == {409, 429}
        assert all((status == 429) == (pause is not None) for status, pause in answers)
        assert answers[-1] == (429, "1")
        (kept,) = await seller.vault.asks()
        assert (kept.ask.ask, kept.other) == ("0a" * 16, bob.address)
    await client.close()


async def broken_off(port: int) -> None:
    """Go away in the middle of an envelope."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /peer HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nbeginning")
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def posted(stranger: aiohttp.ClientSession, url: str) -> tuple[int, str | None]:
    async with stranger.post(url, data=b"noise") as answer:
        return answer.status, answer.headers.get("Retry-After")
