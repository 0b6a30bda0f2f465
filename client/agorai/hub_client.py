"""The SDK's hub: chain events and subscriptions over HTTP, with neither account nor bus.

    async with HubClient("http://127.0.0.1:8081") as hub:
        async for told in hub.events(event_filter(contract="WETH"), chain=1):
            print(told.event.args)

    UnavailableError
    └── HubUnreachableError     it does not answer
    RefusedError
    ├── HubTokenMissingError    only its operator may do this
    └── HubTokenRefusedError    the token is not its own
    InputError
    ├── HubUrlError             what was given as its URL is none
    └── FilterMalformedError    what events are picked by is not of its form
    IntegrityError
    └── HubAnswerError          something else answers there

What the hub itself refuses comes as a `RemoteError`, with the hub's code, message and remedy.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from urllib.parse import quote

import aiohttp
import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError

from agorai.server_sent import MessageTooLongError, Parser
from agorai_hub.subscription_forms import DeadList, Described, DescribedInFull, Made, Rotated, Tried
from agorai_shared.errors import (
    InputError,
    IntegrityError,
    RefusedError,
    RemoteError,
    UnavailableError,
)
from agorai_shared.event_filter import EventFilter
from agorai_shared.events import ChainEvent, MalformedEventError

if TYPE_CHECKING:
    from agorai_hub.audit import Report
    from agorai_hub.line import ChainState

ModelT = TypeVar("ModelT", bound=BaseModel)
ShapeT = TypeVar("ShapeT")

_SILENCE_S: Final = 60.0
"""A hub says something at least every 15 s."""
_PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
_LONGEST_PROBLEM: Final = 64 << 10
_MAY_PASS: Final = frozenset({429, 502, 503, 504})


class HubUnreachableError(UnavailableError):
    """The hub does not answer."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"The hub at {url} does not answer: {reason}.",
            remedy="Check its URL (--hub, AGORAI_EVENTS_URL) and that it runs: `agorai hub FILE` or `agorai up`.",
        )


class HubUrlError(InputError):
    """What was given as a hub's URL is none."""

    def __init__(self, url: str) -> None:
        super().__init__(f"{url!r} is no hub's URL.", remedy="Give it as http://host:port.")


class HubTokenMissingError(RefusedError):
    """The hub's operator alone may do this."""

    def __init__(self, url: str) -> None:
        super().__init__(
            f"The hub at {url} lets only its operator do this, and no token is known.",
            remedy="Have its operator do it, or give their token with --token or AGORAI_EVENTS_TOKEN; it is in "
            "hub.json of the home folder from which the hub runs.",
        )


class HubTokenRefusedError(RefusedError):
    """The token is not the hub's, nor the subscription's."""

    http_status = 401

    def __init__(self, url: str) -> None:
        super().__init__(
            f"The hub at {url} does not take this token.",
            remedy="Give the hub's own (in hub.json of its home folder) with --token or AGORAI_EVENTS_TOKEN, or "
            "for one subscription the token that was told when it was made.",
        )


class HubAnswerError(IntegrityError):
    """What answers is no hub, or another version of it."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(
            f"What answers at {url} does not speak as a hub does: {why[:300]}.",
            remedy="Check the URL, and that hub and command are of the same version.",
        )


class FilterMalformedError(InputError):
    """What events are picked by is not of its form."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(
            f"Events cannot be picked by this {field}: {why}.",
            remedy="Names have no spaces, dots, * or >; an account is 0x and 40 hex digits; a comparison looks "
            "like `price >= 100`.",
        )


@dataclass(frozen=True, slots=True)
class Told:
    """One event, and the id behind which a later reader can go on."""

    id: str
    event: ChainEvent


def event_filter(
    *,
    phase: str = "final",
    contract: str | None = None,
    event: str | None = None,
    key: str | None = None,
    account: str | None = None,
    where: Sequence[str] = (),
) -> EventFilter:
    """Say which events are wanted; of names, None and `*` are any.

    Raises
    ------
    FilterMalformedError
        If one is not of its form.
    """
    names = {"contract": contract, "event": event, "key": key}
    given = {name: value for name, value in names.items() if value not in (None, "*")}
    try:
        return EventFilter.model_validate(
            {**given, "phase": phase, "account": account, "where": tuple(where)}
        )
    except ValidationError as error:
        first = error.errors()[0]
        why = str(first["msg"]).removeprefix("Value error, ")
        raise FilterMalformedError(str(first["loc"][0]), why) from error


class HubClient:
    """One hub. Use it as a context manager, or `close` it.

    Parameters
    ----------
    url
        Where its HTTP is, as `http://127.0.0.1:8081`.
    token
        The operator's, or that of one subscription; reading needs none.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise HubUrlError(url)
        self.url = url.rstrip("/")
        self.token = token
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; a later request opens new ones."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    # --------------------------------------------------------------------------------------------- looking

    async def chains(self) -> list[ChainState]:
        """Tell how each chain is followed."""
        from agorai_hub.line import ChainState  # noqa: PLC0415 - the hub itself, which its events do without

        answer = await self._asked("GET", "/chains")
        return self._shaped(TypeAdapter(list[ChainState]), answer)

    async def events(
        self,
        wanted: EventFilter | None = None,
        *,
        chain: int | None = None,
        from_block: int | None = None,
        follow: bool = True,
        after: str | None = None,
        on_trouble: Callable[[str], None] = lambda _why: None,
    ) -> AsyncGenerator[Told]:
        """Yield events in order; while following, go on behind the last one when the hub was away.

        Parameters
        ----------
        wanted
            Which ones; None is all final ones.
        chain
            Id of the chain; None is the hub's first.
        from_block
            Height of the first block; None is from now on.
        follow
            Go on for ever; otherwise end when all that is stored was told.
        after
            The id of a `Told`: go on behind it.
        on_trouble
            Told why nothing can be heard now, each time that begins.

        Raises
        ------
        RemoteError
            The hub refuses: the chain is not followed, or a place on the head stream is gone (status 410).
        HubUnreachableError
            It does not answer, and `follow` is false.
        HubAnswerError
            Something else answers.
        """
        wanted = wanted or EventFilter()
        query = _query(wanted, chain, follow)
        attempt = 0
        while True:
            try:
                if follow and from_block is None and after is None:
                    from_block = await self._next_block(wanted, chain)  # so that a break loses nothing
                place = [] if from_block is None or after is not None else [("from_block", str(from_block))]
                with self._in_words():
                    async with self._stream([*query, *place], after) as answer:
                        await self._require(answer)
                        if answer.content_type != "text/event-stream":
                            raise HubAnswerError(self.url, f"events come as {answer.content_type}")
                        parser = Parser()
                        async for chunk in answer.content.iter_any():
                            for message in parser.feed(chunk):
                                attempt, after = 0, message.id
                                yield Told(message.id, ChainEvent.from_json(message.data))
                if not follow:
                    return
                reason = f"The hub at {self.url} has ended the connection."
            except (HubUnreachableError, RemoteError) as error:
                if not (follow and error.retryable):
                    raise
                reason = error.message
            if attempt == 0:
                on_trouble(reason)
            await asyncio.sleep(_PAUSES_S[min(attempt, len(_PAUSES_S) - 1)])
            attempt += 1

    async def _next_block(self, wanted: EventFilter, chain: int | None) -> int | None:
        for state in await self.chains():
            if chain in (None, state.chain_id):
                newest = state.final if wanted.phase == "final" else state.head
                return None if newest is None else newest + 1
        return None

    def _stream(
        self, query: Sequence[tuple[str, str]], after: str | None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Ask for events.

        No asynchronous generator within `events`: a loop that ends closes all that are left at the same time, and
        one that is closed from within another fails then.
        """
        headers = {"accept": "text/event-stream"} | ({"last-event-id": after} if after else {})
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=_SILENCE_S)
        return self._request("GET", "/events", params=query, headers=headers, timeout=timeout)

    async def audit(
        self,
        first: int,
        last: int,
        *,
        chain: int | None = None,
        on_progress: Callable[[int], None] = lambda _block: None,
    ) -> Report:
        """Have final blocks compared with the final stream, both ends included; the operator's token is needed.

        Parameters
        ----------
        on_progress
            Told the last block of each range that was compared.

        Raises
        ------
        RemoteError
            The blocks are not published, another audit runs, or the chain's node did not answer.
        """
        from agorai_hub.audit import Report  # noqa: PLC0415 - the hub itself, which its events do without

        wanted = {"chain": chain, "from": first, "to": last}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with self._answer("POST", "/audit", json=wanted, operator=True, timeout=timeout) as answer:
            async for line in answer.content:
                told = _object(self.url, line)
                if isinstance(told.get("error"), dict):
                    raise RemoteError(told["error"])
                if "report" in told:
                    return self._shaped(TypeAdapter(Report), told["report"])
                on_progress(int(told.get("block", first)))
        raise HubUnreachableError(self.url, "it broke the audit off")

    async def rebuild(self, chain: int) -> None:
        """Have a chain's streams deleted and written anew; the operator's token is needed, subscriptions stay."""
        await self._asked("POST", f"/chains/{chain}/rebuild", operator=True)

    # --------------------------------------------------------------------------------------------- subscriptions

    async def subscribe(
        self,
        wanted: EventFilter,
        *,
        chain: int,
        url: str | None = None,
        from_block: int | None = None,
        notice_url: str | None = None,
        name: str = "",
        concurrency: int = 1,
    ) -> Made:
        """Make a subscription: a webhook to `url`, or with none a durable consumer on the bus.

        The answer's `secret` and `token` are told this once.
        """
        body = {
            "chain": chain,
            "filter": wanted.model_dump(mode="json"),
            "delivery": "consumer" if url is None else "webhook",
            "url": url,
            "from_block": from_block,
            "notice_url": notice_url,
            "name": name,
            "concurrency": concurrency,
        }
        return await self._do(Made, "POST", "", body)

    async def subscriptions(self) -> list[Described]:
        """List all subscriptions."""
        answer = await self._asked("GET", "/subscriptions", operator=True)
        return self._shaped(TypeAdapter(list[Described]), answer)

    async def subscription(self, id_: str) -> DescribedInFull:
        """Tell of one, and how far it is."""
        return await self._do(DescribedInFull, "GET", f"/{quote(id_, safe='')}")

    async def pause(self, id_: str) -> Described:
        """Stop delivering to a webhook; nothing is lost meanwhile."""
        return await self._do(Described, "POST", f"/{quote(id_, safe='')}/pause")

    async def resume(self, id_: str) -> Described:
        """Go on where it was paused or disabled."""
        return await self._do(Described, "POST", f"/{quote(id_, safe='')}/resume")

    async def replay(self, id_: str, from_block: int) -> Described:
        """Begin again at a block."""
        return await self._do(Described, "POST", f"/{quote(id_, safe='')}/replay", {"from_block": from_block})

    async def test(self, id_: str) -> Tried:
        """Send a ping to a webhook now."""
        return await self._do(Tried, "POST", f"/{quote(id_, safe='')}/test")

    async def rotate(self, id_: str) -> Rotated:
        """Draw a new secret; the old one signs too for a day."""
        return await self._do(Rotated, "POST", f"/{quote(id_, safe='')}/rotate")

    async def delete(self, id_: str) -> None:
        """Forget a subscription and its dead letters."""
        await self._asked("DELETE", f"/subscriptions/{quote(id_, safe='')}", operator=True)

    async def dead(self, id_: str, *, start: int = 0, limit: int = 100) -> DeadList:
        """List what a webhook never took, from a dead letter's number on."""
        return await self._do(DeadList, "GET", f"/{quote(id_, safe='')}/dead?from={start}&limit={limit}")

    async def redeliver(self, id_: str, seq: int) -> Tried:
        """Try a dead letter again now; it goes when it is taken."""
        return await self._do(Tried, "POST", f"/{quote(id_, safe='')}/dead/{seq}/redeliver")

    # --------------------------------------------------------------------------------------------- asking

    async def _do(
        self, model: type[ModelT], method: str, path: str, body: Mapping[str, object] | None = None
    ) -> ModelT:
        answer = await self._asked(method, f"/subscriptions{path}", json=body, operator=True)
        return self._shaped(TypeAdapter(model), answer)

    async def _asked(self, method: str, path: str, *, operator: bool = False, json: object = None) -> Any:
        timeout = aiohttp.ClientTimeout(total=60, sock_connect=10)
        async with self._answer(method, path, json=json, operator=operator, timeout=timeout) as answer:
            content = await answer.read()
            return None if answer.status == 204 else _parsed(self.url, content)

    @asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        *,
        operator: bool = False,
        **more: Any,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send one request, and turn whatever hinders it into one of this module's errors."""
        if operator and self.token is None:
            raise HubTokenMissingError(self.url)
        with self._in_words():
            async with self._request(method, path, **more) as answer:
                await self._require(answer)
                yield answer

    def _request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        sent = dict(headers or {}) | ({"authorization": f"Bearer {self.token}"} if self.token else {})
        if self._session is None:
            self._session = aiohttp.ClientSession()
        return self._session.request(method, self.url + path, headers=sent, **more)

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except aiohttp.InvalidURL:
            raise HubUrlError(self.url) from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise HubUnreachableError(self.url, str(error) or type(error).__name__) from error
        except (MessageTooLongError, MalformedEventError) as error:
            raise HubAnswerError(self.url, error.message) from error

    async def _require(self, answer: aiohttp.ClientResponse) -> None:
        if answer.status >= 400:
            raise await self._refusal(answer)

    async def _refusal(self, answer: aiohttp.ClientResponse) -> Exception:
        if answer.content_type == "application/problem+json":
            problem = _object(self.url, await answer.content.read(_LONGEST_PROBLEM))
            if answer.status == 401:
                return HubTokenRefusedError(self.url)
            return RemoteError(problem | {"status": answer.status})
        if answer.status in _MAY_PASS:
            return HubUnreachableError(self.url, f"status {answer.status}")
        return HubAnswerError(self.url, f"status {answer.status}")

    def _shaped(self, shape: TypeAdapter[ShapeT], answer: object) -> ShapeT:
        try:
            return shape.validate_python(answer)
        except ValidationError as error:
            first = error.errors()[0]
            raise HubAnswerError(self.url, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _query(wanted: EventFilter, chain: int | None, follow: bool) -> list[tuple[str, str]]:
    named = wanted.model_dump(exclude={"where"}, exclude_none=True)
    query = [(name, str(value)) for name, value in named.items()]
    query += [("where", text) for text in wanted.where]
    if chain is not None:
        query.append(("chain", str(chain)))
    return query if follow else [*query, ("follow", "false")]


def _parsed(url: str, content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise HubAnswerError(url, "its answer is no JSON") from error


def _object(url: str, content: bytes) -> dict[str, Any]:
    found = _parsed(url, content)
    if not isinstance(found, dict):
        raise HubAnswerError(url, "its answer is no JSON object")
    return found
