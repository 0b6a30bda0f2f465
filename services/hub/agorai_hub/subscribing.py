"""The REST interface to subscriptions.

POST   /subscriptions                             the hub's token
GET    /subscriptions                             the hub's token
GET    /subscriptions/{id}                        the hub's token or the subscription's own, as all below
POST   /subscriptions/{id}/pause | resume | replay | test | rotate
DELETE /subscriptions/{id}
GET    /subscriptions/{id}/dead
POST   /subscriptions/{id}/dead/{seq}/redeliver

InputError
└── SubscriptionFormError       fields that do not go together
RefusedError
└── NotAWebhookError            what only a webhook subscription can do
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.security import HTTPBearer
from nats.js.errors import NotFoundError as AbsentError

from agorai_hub.guarded import guarded
from agorai_hub.listening import ChainNotFollowedError
from agorai_hub.pulling import delete_consumer, ensure_consumer, height_to_come_after, standing
from agorai_hub.subscription_forms import (
    DeadList,
    Described,
    DescribedInFull,
    Made,
    Replay,
    Rotated,
    Tried,
    Wanted,
    dead,
    described,
    tried,
)
from agorai_hub.subscriptions import (
    Subscription,
    SubscriptionUnknownError,
    new_id,
    new_secret,
    new_token,
    now,
)
from agorai_hub.webhooks import Webhooks, notice
from agorai_shared.bus import answered
from agorai_shared.errors import InputError, RefusedError, UnavailableError
from agorai_shared.event_filter import EventFilter
from agorai_shared.events import ChainEvent
from agorai_shared.service import TokenRefusedError
from agorai_shared.stream_reader import first_at

_ID: Final = re.compile(r"sub_[0-9a-f]{24}")
_Id = Annotated[str, Path(max_length=80, description="the subscription's id")]
_BEARER: Final = HTTPBearer(auto_error=False, description="the hub's token or the subscription's own")


class StreamNotMadeError(UnavailableError):
    """A chain's stream is not there yet."""

    def __init__(self, stream: str) -> None:
        super().__init__(
            f"The stream {stream} is not there yet.", remedy="The hub makes it once it reaches its chain."
        )


class SubscriptionFormError(InputError):
    """A subscription's fields do not go together."""


class NotAWebhookError(RefusedError):
    """Only a webhook subscription can do this."""

    http_status = 409

    def __init__(self, id_: str, what: str) -> None:
        super().__init__(
            f"The subscription {id_} is a consumer of your own: it cannot {what}.",
            remedy="Do it in your own NATS client, or subscribe with delivery `webhook`.",
        )


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


def _is(given: str, token: str) -> bool:
    return bool(token) and hmac.compare_digest(given.encode(), token.encode())


class _Handlers:
    """One method for each route."""

    def __init__(
        self,
        webhooks: Webhooks,
        token: str,
        chains: Callable[[], Sequence[int]],
        check: Callable[[int, EventFilter], None],
    ) -> None:
        self.webhooks = webhooks
        self.store = webhooks.subscriptions
        self.client = webhooks.client
        self.token = token
        self.chains = chains
        self.check = check

    async def admit(self, request: Request) -> None:
        """Let the hub's owner pass, and to one subscription whoever holds its token; it is kept for `_found`."""
        id_ = request.path_params.get("subscription")
        if id_ is not None:
            request.state.subscription = await self._admitted(_bearer(request), id_)
        elif not _is(_bearer(request), self.token):
            raise TokenRefusedError

    async def _admitted(self, given: str, id_: str) -> Subscription:
        if not given:
            raise TokenRefusedError
        if not _ID.fullmatch(id_):
            raise SubscriptionUnknownError(id_)
        found = await self.store.read(id_)
        by_owner, by_holder = _is(given, self.token), _is(given, found.token)
        if not (by_owner or by_holder):
            raise TokenRefusedError
        return found

    def _found(self, request: Request) -> Subscription:
        found: Subscription = request.state.subscription
        return found

    async def _begun(self, subscription: Subscription, from_block: int | None) -> dict[str, Any]:
        """Tell where on its stream, and on which stream of that name, a subscription begins."""
        stream, client = subscription.stream, self.client()
        try:
            info = await answered(stream, client.jetstream().stream_info(stream))
        except AbsentError as error:
            raise StreamNotMadeError(stream) from error
        if from_block is None:
            start = info.state.last_seq + 1
            told = await height_to_come_after(client, subscription, info.state.last_seq)
        else:
            start, told = await first_at(client, stream, from_block), from_block - 1
        return {"start_seq": start, "stream_created": str(info.created), "told_block": told}

    async def subscribe(self, wanted: Wanted) -> Made:
        """Make a subscription; its secret and token are told this once."""
        _require_form(wanted)
        if wanted.chain not in self.chains():
            raise ChainNotFollowedError(wanted.chain, self.chains())
        self.check(wanted.chain, wanted.filter)
        for url in (wanted.url, wanted.notice_url):
            if url is not None:
                await self.webhooks.outbound.check(url)
        new = Subscription(
            id=new_id(),
            secret=new_secret() if wanted.delivery == "webhook" else "",
            token=new_token(),
            created_at=now(),
            start_seq=1,
            first_block=wanted.from_block or 0,
            filter=wanted.filter,
            **wanted.model_dump(exclude={"filter", "from_block"}),
        )
        new = new.model_copy(update=await self._begun(new, wanted.from_block))
        await ensure_consumer(self.client(), new, self.webhooks.settings.consumer)
        await self.store.add(new)
        return Made(**described(new).model_dump(), secret=new.secret, token=new.token)

    async def listed(self) -> list[Described]:
        """Give all subscriptions, without their secrets."""
        await self.store.refresh()
        return [described(subscription) for subscription in self.store.known.values()]

    async def shown(self, request: Request, subscription: _Id) -> DescribedInFull:
        """Show a subscription and how far it is."""
        found = self._found(request)
        at = await standing(self.client(), found)
        return DescribedInFull(
            **described(found).model_dump(),
            pending=None if at is None else at.pending,
            in_retry=None if at is None else at.redelivered,
            under_way=None if at is None else at.unacknowledged,
        )

    async def pause(self, request: Request, subscription: _Id) -> Described:
        """Stop delivering; nothing is lost meanwhile."""
        found = _webhook(self._found(request), "be paused")
        return await self._change(found, {"state": "paused"})

    async def resume(self, request: Request, subscription: _Id) -> Described:
        """Go on where it stopped, after a pause or when it was disabled."""
        found = _webhook(self._found(request), "be resumed")
        return await self._change(found, {"state": "active", "reason": "", "failing_since": None})

    async def _change(self, found: Subscription, update: dict[str, Any]) -> Described:
        return described(await self.store.change(found.id, lambda s: s.model_copy(update=update)))

    async def replay(self, request: Request, subscription: _Id, wanted: Replay) -> Described:
        """Begin again at a block, with a new consumer; what waited for another attempt is dropped."""
        found = self._found(request)
        begun = await self._begun(found, wanted.from_block)
        left = ""

        def again(subscription: Subscription) -> Subscription:
            nonlocal left
            left = subscription.consumer
            update = {"first_block": wanted.from_block, "generation": subscription.generation + 1}
            return subscription.model_copy(update=begun | update)

        changed = await self.store.change(found.id, again)
        await ensure_consumer(self.client(), changed, self.webhooks.settings.consumer)
        await delete_consumer(self.client(), changed.stream, left)
        return described(changed)

    async def test(self, request: Request, subscription: _Id) -> Tried:
        """Send a signed `agorai.subscription.ping` now."""
        found = _webhook(self._found(request), "be tested")
        id_, body = notice(found, "ping", now(), {})
        return tried(await self.webhooks.send(found, id_, body))

    async def rotate(self, request: Request, subscription: _Id) -> Rotated:
        """Draw a new secret; the one until now signs too for a day."""
        found = _webhook(self._found(request), "have its secret replaced")
        changed = await self.store.change(found.id, lambda s: s.rotated(now()))
        return Rotated(secret=changed.secret, old_secret_until=changed.old_secret_until)

    async def unsubscribe(self, request: Request, subscription: _Id) -> None:
        """Forget a subscription and its dead letters."""
        found = self._found(request)
        await self.store.remove(found.id)
        await delete_consumer(self.client(), found.stream, found.consumer)
        await self.webhooks.dead_letters.remove_all(found.id)

    async def dead(
        self,
        request: Request,
        subscription: _Id,
        start: Annotated[int, Query(alias="from", ge=0, lt=2**63)] = 0,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> DeadList:
        """List what was given up on."""
        found = self._found(request)
        letters, more = await self.webhooks.dead_letters.listed(found.id, start, limit)
        return DeadList(dead=[dead(letter) for letter in letters], more=more)

    async def redeliver(
        self, request: Request, subscription: _Id, seq: Annotated[int, Path(ge=0, lt=2**63)]
    ) -> Tried:
        """Try a dead letter again now; it goes when it is taken."""
        found = self._found(request)
        letter = await self.webhooks.dead_letters.get(found.id, seq)
        answer = await self.webhooks.send(found, ChainEvent.from_json(letter.payload).id, letter.payload)
        if answer.taken:
            await self.webhooks.dead_letters.remove(seq)
        return tried(answer)


def router(
    webhooks: Webhooks,
    token: str,
    chains: Callable[[], Sequence[int]],
    check: Callable[[int, EventFilter], None] = lambda _chain, _wanted: None,
) -> APIRouter:
    """Make the routes.

    Parameters
    ----------
    token
        The hub's own bearer token.
    chains
        Gives the ids of the chains that the hub follows.
    check
        Raises an `AgoraiError` for a filter that can match nothing.
    """
    do = _Handlers(webhooks, token, chains, check)
    routes = APIRouter(
        prefix="/subscriptions",
        tags=["subscriptions"],
        route_class=guarded(do.admit),
        dependencies=[Depends(_BEARER)],
    )
    routes.add_api_route("", do.subscribe, methods=["POST"], status_code=201)
    routes.add_api_route("", do.listed, methods=["GET"])
    routes.add_api_route("/{subscription}", do.shown, methods=["GET"])
    routes.add_api_route("/{subscription}", do.unsubscribe, methods=["DELETE"], status_code=204)
    for verb in (do.pause, do.resume, do.replay, do.test, do.rotate):
        routes.add_api_route(f"/{{subscription}}/{verb.__name__}", verb, methods=["POST"])
    routes.add_api_route("/{subscription}/dead", do.dead, methods=["GET"])
    routes.add_api_route("/{subscription}/dead/{seq}/redeliver", do.redeliver, methods=["POST"])
    return routes


def _webhook(subscription: Subscription, what: str) -> Subscription:
    if subscription.delivery != "webhook":
        raise NotAWebhookError(subscription.id, what)
    return subscription


def _require_form(wanted: Wanted) -> None:
    if wanted.delivery == "webhook":
        if wanted.url is None:
            raise SubscriptionFormError(
                "A webhook subscription has no `url`.", remedy="Say where its events are to be POSTed."
            )
        return
    if wanted.url is not None or wanted.notice_url is not None or wanted.concurrency != 1:
        raise SubscriptionFormError(
            "A `consumer` subscription has a `url`, `notice_url` or `concurrency`.",
            remedy="Leave them out: its events are fetched by your own NATS client.",
        )
    if wanted.filter.needs_arguments:
        raise SubscriptionFormError(
            "A `consumer` subscription cannot filter by `account` or `where`: the bus knows subjects only.",
            remedy="Use delivery `webhook` or GET /events, or filter in your own client.",
        )
