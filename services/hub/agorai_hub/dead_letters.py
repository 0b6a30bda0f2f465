"""What a webhook never took: one message for each event and subscription, in the stream `WEBHOOKS_DEAD`.

    webhooks.dead.<subscription>.<stream>.<sequence>    the CloudEvent; headers say what became of it

The subject names the event and the stream keeps one message of a subject, so setting aside the same event again
replaces it, at any distance in time; a message id is remembered for minutes only.

    NotFoundError
    └── DeadLetterUnknownError    there is no such dead letter (any more)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from nats.aio.client import Client
from nats.js.api import DiscardPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

from agorai_shared.bus import Stored, answered, ensure_stream, stored
from agorai_shared.errors import NotFoundError as AbsentError
from agorai_shared.events import CONTENT_TYPE
from agorai_shared.stream_reader import read_portion

STREAM: Final = "WEBHOOKS_DEAD"
_DAYS: Final = 30
_MOST_BYTES: Final = 1 << 30
_ERROR_LENGTH: Final = 500


class DeadLetterUnknownError(AbsentError):
    """There is no dead letter of that number for that subscription."""

    def __init__(self, id_: str, seq: int) -> None:
        super().__init__(
            f"The subscription {id_} has no dead letter {seq}.",
            remedy=f"List them; they are kept for {_DAYS} days and go once delivered.",
        )


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One event that was given up on."""

    seq: int
    payload: bytes
    error: str
    attempts: int
    stream: str
    stream_seq: int


class DeadLetters:
    """The stream of dead letters."""

    def __init__(self, client: Callable[[], Client], replicas: int = 1) -> None:
        self._client = client
        self._replicas = replicas

    async def ensure(self) -> None:
        """Create the stream where it is absent."""
        config = StreamConfig(
            name=STREAM,
            subjects=["webhooks.dead.>"],
            storage=StorageType.FILE,
            num_replicas=self._replicas,
            max_age=_DAYS * 86_400,
            max_bytes=_MOST_BYTES,
            max_msgs_per_subject=1,
            discard=DiscardPolicy.OLD,
            allow_direct=True,
        )
        await ensure_stream(self._client().jetstream(), config)

    async def add(self, id_: str, letter: DeadLetter) -> None:
        """Set an event aside; its `seq` is given by the stream. Once this returns it is stored.

        Raises
        ------
        BusUnreachableError
            The bus does not answer.
        """
        headers = {
            "content-type": CONTENT_TYPE,
            "Agorai-Error": _one_line(letter.error),
            "Agorai-Attempts": str(letter.attempts),
            "Agorai-Stream": letter.stream,
            "Agorai-Sequence": str(letter.stream_seq),
        }
        subject = f"webhooks.dead.{id_}.{letter.stream}.{letter.stream_seq}"
        js = self._client().jetstream()
        await answered(STREAM, js.publish(subject, letter.payload, headers=headers, stream=STREAM))

    async def listed(self, id_: str, following: int, most: int) -> tuple[Sequence[DeadLetter], int]:
        """Give a subscription's dead letters from a number on, oldest first, and how many there are beyond."""
        pattern = f"webhooks.dead.{id_}.>"
        found = await read_portion(self._client(), STREAM, max(1, following), pattern, most=most)
        return [_letter(message) for message in found.messages], found.pending

    async def get(self, id_: str, seq: int) -> DeadLetter:
        """Give one.

        Raises
        ------
        DeadLetterUnknownError
            It is not there, or not this subscription's.
        """
        message = await stored(self._client().jetstream(), STREAM, seq) if seq > 0 else None
        if message is None or not message.subject.startswith(f"webhooks.dead.{id_}."):
            raise DeadLetterUnknownError(id_, seq)
        return _letter(message)

    async def remove(self, seq: int) -> None:
        """Delete one that was delivered; it is no error that it is not there."""
        try:
            await answered(STREAM, self._client().jetstream().delete_msg(STREAM, seq))
        except NotFoundError:
            return

    async def remove_all(self, id_: str) -> None:
        """Delete all of a subscription."""
        js = self._client().jetstream()
        await answered(STREAM, js.purge_stream(STREAM, subject=f"webhooks.dead.{id_}.>"))


def _letter(message: Stored) -> DeadLetter:
    headers = message.headers
    return DeadLetter(
        seq=message.seq,
        payload=message.payload,
        error=headers.get("Agorai-Error", ""),
        attempts=int(headers.get("Agorai-Attempts", "0")),
        stream=headers.get("Agorai-Stream", ""),
        stream_seq=int(headers.get("Agorai-Sequence", "0")),
    )


def _one_line(text: str) -> str:
    return " ".join(text.encode("ascii", "backslashreplace").decode().split())[:_ERROR_LENGTH]
