"""What the REST interface to subscriptions takes and gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from agorai_shared.event_filter import EventFilter

if TYPE_CHECKING:
    from agorai_hub.dead_letters import DeadLetter
    from agorai_hub.outbound import Answer
    from agorai_hub.subscriptions import Subscription


class Wanted(BaseModel):
    """A subscription to be made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    chain: int = Field(ge=0, description="chain id")
    filter: EventFilter = Field(default_factory=EventFilter, description="which events; all when left out")
    delivery: Literal["webhook", "consumer"] = Field(
        "webhook",
        description="`consumer`: a durable pull consumer for a NATS client of your own. When the chain's streams "
        "are deleted and written anew, it goes with them, and within a minute the hub makes another, whose name "
        "is told by GET /subscriptions/{id}; it begins behind what is known to be acknowledged, or else where the "
        "subscription began, so events may come again, with the same ids.",
    )
    url: str | None = Field(None, max_length=2048, description="where a webhook's events are POSTed")
    from_block: int | None = Field(None, ge=0, description="begin with this block; otherwise with what comes")
    notice_url: str | None = Field(
        None, max_length=2048, description="where its owner is told that it was disabled"
    )
    name: str = Field("", max_length=200, description="a label")
    concurrency: int = Field(1, ge=1, le=32, description="POSTs at a time; 1 keeps order while it answers")


class Replay(BaseModel):
    """Where to begin again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    from_block: int = Field(ge=0)


class Described(BaseModel):
    """A subscription, without its secrets; times are seconds since 1970."""

    id: str
    chain: int
    filter: EventFilter
    delivery: Literal["webhook", "consumer"]
    url: str | None
    notice_url: str | None
    name: str
    concurrency: int
    state: Literal["active", "paused", "disabled"]
    reason: str = Field(description="why it is disabled")
    created_at: float
    failing_since: float | None = Field(description="since when nothing was taken; null when all is well")
    last_error: str
    last_error_at: float | None
    stream: str = Field(description="the JetStream stream that it reads")
    consumer: str = Field(
        description="its durable consumer on that stream; another after a replay, and when the stream is written anew"
    )


def described(subscription: Subscription) -> Described:
    """Leave the secrets out."""
    places = {"stream": subscription.stream, "consumer": subscription.consumer}
    return Described.model_validate(subscription.model_dump() | places)


class DescribedInFull(Described):
    """A subscription and how far it is."""

    pending: int | None = Field(
        description="events not begun yet, before `where` and `account` are looked at"
    )
    in_retry: int | None = Field(description="events not done that were begun more than once")
    under_way: int | None = Field(description="events begun and not done, those in retry among them")


class Made(Described):
    """A new subscription; secret and token are told once."""

    secret: str = Field(description="verifies webhooks' signatures (Standard Webhooks); empty for a consumer")
    token: str = Field(description="bearer token for this subscription alone")


class Rotated(BaseModel):
    """A new secret."""

    secret: str
    old_secret_until: float = Field(description="until when the old one signs too, in seconds since 1970")


class Tried(BaseModel):
    """What came of one attempt."""

    delivered: bool
    status: int = Field(description="HTTP status; 0 when there was no answer")
    error: str
    body: str = Field(description="the beginning of the answer")
    seconds: float


class Dead(BaseModel):
    """An event that was given up on."""

    seq: int
    error: str
    attempts: int
    stream: str
    stream_seq: int
    event: str = Field(description="the CloudEvent, as JSON text")


class DeadList(BaseModel):
    """Dead letters, the oldest first."""

    dead: list[Dead]
    more: int = Field(description="how many there are beyond; go on with `from` = the last seq + 1")


def tried(answer: Answer) -> Tried:
    """Say what came of an attempt."""
    return Tried(
        delivered=answer.taken,
        status=answer.status,
        error=answer.error,
        body=answer.body,
        seconds=answer.seconds,
    )


def dead(letter: DeadLetter) -> Dead:
    """Say what a dead letter is."""
    return Dead(
        seq=letter.seq,
        error=letter.error,
        attempts=letter.attempts,
        stream=letter.stream,
        stream_seq=letter.stream_seq,
        event=letter.payload.decode(errors="replace"),
    )
