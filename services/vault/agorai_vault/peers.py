"""Messages between nodes: the inbox to which strangers post envelopes, and the outbox from which ours go out.

What comes in is opened, and handled at most once: that it was seen reaches the disk together with what it changed.
What goes out is kept with what caused it, and tried again until it is taken or expires; to one recipient in order,
to different ones at once.

    PeerMessageRefusedError (of peer_messages.py)      the envelope brings nothing that may be believed
    PeerMessageReplayedError (IntegrityError)          it was handled before
    TooManyMessagesError (RefusedError)                429, with Retry-After
    SenderBlockedError, StrangerError (RefusedError)   its sender may not send
    TopicUnknownError (InputError)                     nothing here takes its topic
    InboxError (NotFoundError)                         a recipient names no usable inbox
    PeerUnreachableError (UnavailableError)            it does not answer, or not now
    PeerAnsweredError (RefusedError)                   it refused

An inbox's URL is its owner's word. Only http and https URLs without user and password are posted to, redirects are
not followed, no cookie or token is sent, a post takes 10 s at most, and no more than 4 KiB of an answer are read,
which only this node's owner sees. Not guarded against: a member who names an address inside this node's network
has it receive posts of sealed bytes, whose content that member does not choose; nodes on one machine need such
addresses.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol

import aiohttp
import orjson
from pydantic import JsonValue
from yarl import URL

from agorai_shared import logging, metrics
from agorai_shared.documents import Profile
from agorai_shared.endpoint import seconds_of
from agorai_shared.errors import (
    AgoraiError,
    InputError,
    IntegrityError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from agorai_shared.jwe import public_key
from agorai_shared.limiter import Limiter
from agorai_shared.market import Market, NotAMemberError
from agorai_shared.negotiation import OutOfPlaceError
from agorai_shared.peer_messages import (
    MEDIA_TYPE,
    MOST_BYTES,
    SKEW_S,
    Message,
    PeerMessageRefusedError,
    open_envelope,
    seal,
)
from agorai_shared.types import Address
from agorai_vault.database import transaction
from agorai_vault.keys import Keys

log = logging.get(__name__)

RECEIVED = metrics.counter(
    "agorai_vault_peer_messages_received", "Envelopes by what became of them", "outcome"
)

POST_S: Final = 10.0
ARRIVAL_S: Final = 10.0
"""How long an envelope may take to arrive."""
MOST_ANSWER: Final = 4096
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0
_TAKEN: Final = "peer_message_replayed"
"""What a recipient says of a message that it has: its first answer was lost on the way."""


class PeerMessageReplayedError(IntegrityError):
    """A message came before."""

    def __init__(self, message: Message) -> None:
        super().__init__(
            f"The message {message.id} of {message.sender} came before.", remedy="Send a new one."
        )


class TooManyMessagesError(RefusedError):
    """More messages come than are taken."""

    http_status = 429
    retryable = True

    def __init__(self, whose: str, pause_s: float) -> None:
        super().__init__(f"Too many messages come {whose}.", remedy="Send them more slowly.")
        self.retry_after_s = pause_s


class SenderBlockedError(RefusedError):
    """The node's owner wants no messages of a sender."""

    def __init__(self, sender: Address) -> None:
        super().__init__(f"This node takes no messages of {sender}.")


class StrangerError(RefusedError):
    """A sender is no member of the marketplace, or not yet at a final block."""

    retryable = True

    def __init__(self, sender: Address) -> None:
        super().__init__(
            f"Only members may send messages, and {sender} is none.",
            remedy="Join the Registry first; that counts once it is final.",
        )


class TopicUnknownError(InputError):
    """Nothing on this node takes messages of a topic."""

    def __init__(self, topic: str) -> None:
        super().__init__(f"Nothing here takes messages of the topic {topic!r}.")


class InboxError(NotFoundError):
    """A member's profile names no inbox that can be posted to."""

    def __init__(self, account: Address, why: str) -> None:
        super().__init__(
            f"The inbox of {account} cannot be posted to: {why}.",
            remedy="Its owner has to start the node again with a version that has an inbox.",
        )


class PeerUnreachableError(UnavailableError):
    """A member's inbox does not answer, or not now."""

    def __init__(self, account: Address, why: str, retry_after_s: float | None = None) -> None:
        super().__init__(
            f"The inbox of {account} does not take the message now: {why}.", remedy="Try again later."
        )
        self.retry_after_s = retry_after_s


class PeerAnsweredError(RefusedError):
    """A member's node refused a message."""

    def __init__(self, account: Address, why: str) -> None:
        super().__init__(f"The node of {account} refused the message: {why}.")


class Topic(Protocol):
    """What takes messages of one topic."""

    async def look(self, message: Message) -> Callable[[], None]:
        """Read what is needed for a message; gives what changes the database, within one transaction.

        That may raise `OutOfPlaceError`, before it changes anything: the message is used up then.
        """

    def undelivered(self, message: Message, why: str) -> None:
        """Note that a message of this node's own did not reach its recipient."""


class Peers:
    """The inbox and the outbox of one node.

    Parameters
    ----------
    session
        For posting to strangers: without cookies.
    notify
        Tells outside listeners of a message that was taken.
    clock
        Seconds since 1970.
    """

    def __init__(
        self,
        database: sqlite3.Connection,
        market: Market,
        keys: Keys,
        session: aiohttp.ClientSession,
        notify: Callable[[Message], Awaitable[None]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._market = market
        self._keys = keys
        self._session = session
        self._notify = notify
        self._clock = clock
        self._topics: dict[str, Topic] = {}
        # Opening an envelope takes milliseconds of one core, so all together and each address are limited before it,
        # and each sender after it, when it is known who that is.
        self._all = Limiter(50, 200)
        self._addresses = Limiter(25, 100)
        self._senders = Limiter(1, 30)
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._runs = False

    @property
    def address(self) -> Address:
        """The node's account."""
        return self._keys.address

    def on(self, topic: str, handler: Topic) -> None:
        """Have messages of a topic handled."""
        self._topics[topic] = handler

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send what is left and what comes until left."""
        self._runs = True
        for (recipient,) in self._database.execute("SELECT DISTINCT recipient FROM peer_outgoing").fetchall():
            self._begin(recipient)
        try:
            yield
        finally:
            self._runs = False
            tasks = list(self._sending.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------------------------------------------ inbox

    async def arrive(self, pieces: AsyncIterable[bytes], came_from: str) -> None:
        """Take a posted envelope; `came_from` is the network address.

        Raises
        ------
        TooManyMessagesError, PeerMessageRefusedError, PeerMessageReplayedError, SenderBlockedError, StrangerError
        TopicUnknownError, OutOfPlaceError
            And whatever else the topic's handler raises.
        """
        try:
            self._limit(self._addresses, came_from, "from your network address")
            self._limit(self._all, "", "to this node")
            await self._take(await _whole(pieces))
        except AgoraiError as error:
            RECEIVED.labels(error.code).inc()
            raise
        RECEIVED.labels("taken").inc()

    async def _take(self, envelope: bytes) -> None:
        keys, chain_id = self._keys, self._market.deployment.chain_id
        message = open_envelope(envelope, keys.jwk, keys.address, chain_id, int(self._clock()))
        if self._was_seen(message):  # before its sender is charged for what anybody may post again
            raise PeerMessageReplayedError(message)
        self._limit(self._senders, message.sender, "from you")
        if message.sender in self.blocked():
            raise SenderBlockedError(message.sender)
        handler = self._topics.get(message.topic)
        if handler is None:
            raise TopicUnknownError(message.topic)
        try:
            await self._market.actor(message.sender)
        except NotAMemberError as error:
            raise StrangerError(message.sender) from error
        change = await handler.look(message)
        refusal = None
        with transaction(self._database):
            self._see(message)
            try:
                change()
            except OutOfPlaceError as error:
                refusal = error
        if refusal is not None:
            raise refusal
        await self._notify(message)

    def _limit(self, limiter: Limiter, key: str, whose: str) -> None:
        pause_s = limiter.take(key)
        if pause_s:
            raise TooManyMessagesError(whose, pause_s)

    def _was_seen(self, message: Message) -> bool:
        query = "SELECT 1 FROM peer_seen WHERE sender = ? AND id = ?"
        return self._database.execute(query, (message.sender, message.id)).fetchone() is not None

    def _see(self, message: Message) -> None:
        # Kept a little longer than it can be opened, should this machine's clock be set back.
        self._database.execute("DELETE FROM peer_seen WHERE expires < ?", (int(self._clock()) - SKEW_S,))
        seen = self._database.execute(
            "INSERT OR IGNORE INTO peer_seen VALUES (?, ?, ?)", (message.sender, message.id, message.expires)
        )
        if not seen.rowcount:
            raise PeerMessageReplayedError(message)

    # ------------------------------------------------------------------------------------------------ block list

    def block(self, account: Address, *, blocked: bool) -> None:
        """Take no messages of an account any more, or take them again."""
        change = (
            "INSERT OR IGNORE INTO peer_blocked VALUES (?)"
            if blocked
            else "DELETE FROM peer_blocked WHERE account = ?"
        )
        self._database.execute(change, (account,))

    def blocked(self) -> list[Address]:
        """Give whose messages are not taken."""
        rows = self._database.execute("SELECT account FROM peer_blocked ORDER BY account")
        return [Address(account) for (account,) in rows]

    # ------------------------------------------------------------------------------------------------ outbox

    async def tell(self, recipient: Address, topic: str, body: Mapping[str, JsonValue]) -> Message:
        """Send a message at once; gives it when the recipient has taken it.

        Raises
        ------
        NotAMemberError, InboxError, EncryptionKeyError
            If nothing can be sent to the account.
        PeerUnreachableError, PeerAnsweredError
            If its node does not answer or refuses.
        BodyError, PeerMessageTooLargeError
            If the body cannot be sent.
        """
        message = self._new(recipient, topic, body)
        await self._send(message)
        return message

    def post(self, recipient: Address, topic: str, body: Mapping[str, JsonValue]) -> None:
        """Keep a message to be sent as soon as may be; within the transaction of what caused it."""
        message = self._new(recipient, topic, body)
        self._database.execute(
            "INSERT INTO peer_outgoing (id, recipient, topic, body, time, expires) VALUES (?, ?, ?, ?, ?, ?)",
            (message.id, recipient, topic, message.body, message.time, message.expires),
        )
        self._begin(recipient)

    def is_sending(self, recipient: Address, topic: str) -> bool:
        """Say whether a message of a topic is kept for a recipient that has not taken it."""
        query = "SELECT 1 FROM peer_outgoing WHERE recipient = ? AND topic = ?"
        return self._database.execute(query, (recipient, topic)).fetchone() is not None

    def _new(self, recipient: Address, topic: str, body: Mapping[str, JsonValue]) -> Message:
        chain_id = self._market.deployment.chain_id
        return Message.new(chain_id, (self.address, recipient), topic, body, int(self._clock()))

    def _begin(self, recipient: str) -> None:
        """See that what is kept for a recipient is being sent."""
        if self._runs and recipient not in self._sending:
            task = asyncio.create_task(self._send_all(recipient), name=f"peer-{recipient}")
            self._sending[recipient] = task

    async def _send_all(self, recipient: str) -> None:
        try:
            while (kept := self._first(recipient)) is not None:
                number, message = kept
                why = await self._send_until_taken(message)
                with transaction(self._database):
                    self._database.execute("DELETE FROM peer_outgoing WHERE number = ?", (number,))
                    if why is not None:
                        log.info("peer.undelivered", recipient=recipient, topic=message.topic, why=why)
                        self._topics[message.topic].undelivered(message, why)
        finally:
            del self._sending[recipient]

    def _first(self, recipient: str) -> tuple[int, Message] | None:
        row = self._database.execute(
            "SELECT number, id, topic, body, time, expires FROM peer_outgoing WHERE recipient = ?"
            " ORDER BY number LIMIT 1",
            (recipient,),
        ).fetchone()
        if row is None:
            return None
        number, id_, topic, body, sent, expires = row
        chain_id = self._market.deployment.chain_id
        return number, Message(chain_id, self.address, Address(recipient), id_, sent, expires, topic, body)

    async def _send_until_taken(self, message: Message) -> str | None:
        """Try until the message is taken, refused or expired; gives why it was not taken."""
        pause_s, why = FIRST_PAUSE_S, "it had expired when this node started again"
        while self._clock() <= message.expires:
            asked_s: float | None = None
            try:
                await self._send(message)
            except AgoraiError as error:
                why, asked_s = error.message, error.retry_after_s
                if not error.retryable:
                    return why
            except Exception as error:
                log.exception("peer.send_failed", recipient=message.recipient)
                why = f"{type(error).__name__} on this node"
            else:
                return None
            # Jitter keeps many senders from coming back in step.
            await asyncio.sleep(min(asked_s or 0, LONGEST_PAUSE_S) + pause_s * random.uniform(0.5, 1))  # noqa: S311
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return why

    async def _send(self, message: Message) -> None:
        actor = await self._market.actor(message.recipient)
        profile = Profile.from_bytes(await self._market.document(actor.profile, actor.gateway))
        document = await self._market.document(actor.encryption_key, actor.gateway)
        inbox = _checked(profile.inbox, message.recipient)
        envelope = seal(message, self._keys.account, public_key(document, message.recipient))
        await self._post(inbox, envelope, message.recipient)

    async def _post(self, inbox: URL, envelope: bytes, recipient: Address) -> None:
        headers = {"Content-Type": MEDIA_TYPE, "Accept-Encoding": "identity"}
        try:
            async with (
                asyncio.timeout(POST_S),
                self._session.post(inbox, data=envelope, headers=headers, allow_redirects=False) as answer,
            ):
                if answer.status == 202:
                    return
                problem = await _problem(answer)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise PeerUnreachableError(recipient, str(error)[:200] or type(error).__name__) from error
        if problem.get("title") == _TAKEN:
            return
        detail = problem.get("detail")
        why = f"status {answer.status}" + (f", {detail[:200]!r}" if isinstance(detail, str) else "")
        if answer.status >= 500 or answer.status == 429 or problem.get("retryable") is True:
            raise PeerUnreachableError(recipient, why, seconds_of(answer.headers.get("Retry-After")))
        raise PeerAnsweredError(recipient, why)


def _checked(inbox: str | None, account: Address) -> URL:
    if inbox is None:
        raise InboxError(account, "its profile names none")
    try:
        url = URL(inbox)
        ok = url.scheme in ("http", "https") and bool(url.host) and bool(url.port) and url.user is None
    except ValueError as error:
        raise InboxError(account, "it is no URL") from error
    if not ok or url.password is not None:
        raise InboxError(account, "it is no http or https URL without a user")
    return url


async def _whole(pieces: AsyncIterable[bytes]) -> bytes:
    envelope = bytearray()
    try:
        async with asyncio.timeout(ARRIVAL_S):
            async for piece in pieces:
                envelope += piece
                if len(envelope) > MOST_BYTES:
                    raise PeerMessageRefusedError(f"it has more than {MOST_BYTES} bytes")
    except TimeoutError as error:
        raise PeerMessageRefusedError(f"it did not arrive within {ARRIVAL_S:g} s") from error
    return bytes(envelope)


async def _problem(answer: aiohttp.ClientResponse) -> dict[str, object]:
    """Read the problem document of an answer, if it is one and not long."""
    read = bytearray()
    while len(read) <= MOST_ANSWER and (piece := await answer.content.read(MOST_ANSWER + 1 - len(read))):
        read += piece
    with suppress(orjson.JSONDecodeError):
        found = orjson.loads(read[:MOST_ANSWER])
        if isinstance(found, dict):
            return found
    return {}
