"""A service is a FastStream router, its HTTP routes, its background work and its readiness checks.

`serve` runs one service alone or several in one process; the parts are the same. Every process answers
`/health/live`, `/health/ready`, `/metrics` (Prometheus), `/asyncapi.json` and `/openapi.json`.
"""

from __future__ import annotations

import asyncio
import gc
import hmac
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    nullcontext,
)
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import uvloop
from fast_depends.pydantic import PydanticSerializer
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from faststream.nats import NatsBroker, NatsRouter
from faststream.nats.prometheus import NatsPrometheusMiddleware
from faststream.nats.security import NatsSecurity, NatsUserPassword
from faststream.specification import AsyncAPI
from nats.errors import Error as NatsError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from agorai_shared import bus, logging, tracing
from agorai_shared.answering import problems
from agorai_shared.deployment import Deployment
from agorai_shared.errors import AgoraiError, InputError, RefusedError, UnavailableError
from agorai_shared.events import BlockTick
from agorai_shared.http_server import listen, serving
from agorai_shared.metrics import REGISTRY
from agorai_shared.process_metrics import measured
from agorai_shared.settings import NodeSettings
from agorai_shared.waking import hear_final_blocks

log = logging.get(__name__)

Check = Callable[[], Awaitable[None]]

CHECK_S = 5.0
"""How long one readiness check may take."""

_PROMETHEUS = NatsPrometheusMiddleware(registry=REGISTRY, metrics_prefix="agorai_bus")


def _no_background() -> AbstractAsyncContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class Service:
    """One service, ready to be run alone or with others.

    `api` is what the process's OpenAPI document describes; `routes` carry bytes. `prepare` runs once the bus is
    connected and before any subscription is made; `background` is entered after. A check raises an `AgoraiError`
    while the service is not ready. `on_block` is called at each final block of the node's chain.
    """

    name: str
    router: NatsRouter | None = None
    routes: Sequence[BaseRoute] = ()
    prepare: Callable[[], Awaitable[None]] | None = None
    background: Callable[[], AbstractAsyncContextManager[None]] = _no_background
    checks: dict[str, Check] = field(default_factory=dict)
    api: APIRouter | None = None
    middleware: Sequence[Middleware] = ()
    """What every request of the process's HTTP port passes first, the outermost first."""
    described: Callable[[], dict[str, dict[str, Any]]] = dict
    """Gives what the process's AsyncAPI document says beyond its router, by section."""
    on_block: Callable[[BlockTick], None] | None = None


class TokenRefusedError(RefusedError):
    """A request lacks the node's token."""

    http_status = 401

    def __init__(self) -> None:
        super().__init__(
            "This path is for the node's own services and owner only.",
            remedy="Send `Authorization: Bearer <token>`, with that of node.json, or of hub.json for a hub.",
        )


def require_token(request: Request, token: str) -> None:
    """Let a request pass only with the node's token.

    Raises
    ------
    TokenRefusedError
        If the bearer token is absent or another.
    """
    if not has_token(request, token):
        raise TokenRefusedError


def has_token(request: Request, token: str) -> bool:
    """Tell whether a request shows the node's token."""
    given = request.headers.get("authorization", "").encode()
    return hmac.compare_digest(given, f"Bearer {token}".encode())


class RequestMalformedError(InputError):
    """A request's parameters or body are not of their form."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"The request's {where} does not fit: {why}.", remedy="See /openapi.json.")


async def no_such_path(request: Request, error: Exception) -> Response:
    """Answer what no route takes with a problem document, too."""
    assert isinstance(error, HTTPException)  # noqa: S101 - the only type it is registered for
    problem = {
        "type": "about:blank",
        "title": error.detail,
        "status": error.status_code,
        "detail": f"{request.method} {request.url.path}: {error.detail}.",
        "remedy": "See /openapi.json.",
        "retryable": False,
    }
    return JSONResponse(
        problem,
        status_code=error.status_code,
        headers=getattr(error, "headers", None),
        media_type="application/problem+json",
    )


async def problem_response(_request: Request, error: Exception) -> Response:
    """Answer an `AgoraiError`, or a request that does not fit, with its RFC 9457 problem document."""
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        error = RequestMalformedError(".".join(map(str, first["loc"]))[:100], str(first["msg"]))
    assert isinstance(error, AgoraiError)  # noqa: S101 - the only types it is registered for
    headers = None if error.retry_after_s is None else {"Retry-After": str(ceil(error.retry_after_s))}
    return JSONResponse(
        error.to_problem(),
        status_code=error.http_status,
        headers=headers,
        media_type="application/problem+json",
    )


def make_broker(settings: NodeSettings, name: str) -> NatsBroker:
    """Make the bus connection of one process; it reconnects for ever."""
    watch = bus.Watch(name)
    return NatsBroker(
        [server.strip() for server in settings.bus_url.split(",")],
        name=name,
        security=_security(settings),
        inbox_prefix=bus.inbox_of(settings.bus_user),
        max_reconnect_attempts=-1,
        reconnect_time_wait=1,
        middlewares=[_PROMETHEUS, problems()],
        serializer=PydanticSerializer(),  # its errors tell a command's wrong arguments from a handler's fault
        error_cb=watch.on_error,
        disconnected_cb=watch.on_lost,
        reconnected_cb=watch.on_back,
        closed_cb=watch.on_closed,
        logger=None,
        graceful_timeout=5,
    )


def _security(settings: NodeSettings) -> NatsSecurity | NatsUserPassword:
    tls = settings.bus_tls()
    if settings.bus_user and settings.bus_password:
        password = settings.bus_password.get_secret_value()
        return NatsUserPassword(
            settings.bus_user, password, ssl_context=tls, tls_handshake_first=tls is not None
        )
    return NatsSecurity(ssl_context=tls, tls_handshake_first=tls is not None)


class BusLostError(UnavailableError):
    """The connection to the bus is lost for now."""

    def __init__(self) -> None:
        super().__init__("The connection to the bus is lost.", remedy="It comes back by itself with the bus.")


class NotStartedError(UnavailableError):
    """The services are not all started yet."""

    def __init__(self) -> None:
        super().__init__("The services are still starting.", remedy="Their log says what they wait for.")


async def _failure(check: Check) -> str | None:
    """Run one readiness check; give why it fails, if it does."""
    try:
        async with asyncio.timeout(CHECK_S):
            await check()
    except AgoraiError as error:
        return str(error)
    except TimeoutError:
        return f"No answer within {CHECK_S:g} s."
    except Exception as error:
        log.exception("check.failed")
        return type(error).__name__
    return None


class Host:
    """Runs services in this process over one bus connection and one HTTP port."""

    def __init__(
        self,
        settings: NodeSettings,
        services: Sequence[Service],
        broker: NatsBroker,
        listener: socket.socket | None = None,
    ) -> None:
        self.settings = settings
        self.services = services
        self.broker = broker
        self._listener = listener or listen(settings.host, settings.port)
        self.port: int = self._listener.getsockname()[1]
        self._started = False
        for service in services:
            if service.router is not None:
                broker.include_router(service.router)

    @property
    def url(self) -> str:
        """Base URL of the HTTP port."""
        return f"http://{self.settings.host}:{self.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Connect the bus, serve HTTP, prepare, subscribe, and start background work, in this order."""
        allow_open_files()
        tracing.configure()
        app = FastAPI(
            title="Agorai",
            routes=[*self._common_routes(), *(r for s in self.services for r in s.routes)],
            exception_handlers={
                AgoraiError: problem_response,
                RequestValidationError: problem_response,
                HTTPException: no_such_path,
            },
            middleware=[one for service in self.services for one in service.middleware],
            docs_url=None,  # those pages load scripts from elsewhere
            redoc_url=None,
        )
        for service in self.services:
            if service.api is not None:
                app.include_router(service.api)
        async with AsyncExitStack() as stack:
            stack.callback(self._listener.close)
            await self._connect()
            stack.push_async_callback(self._disconnect)
            await stack.enter_async_context(serving(app, self._listener))
            for service in self.services:
                if service.prepare is not None:
                    await service.prepare()
            await self.broker.start()
            await self._hear_blocks()
            stack.push_async_callback(asyncio.to_thread, tracing.flush)
            for service in self.services:
                await stack.enter_async_context(service.background())
            self._started = True
            names = "+".join(service.name for service in self.services)
            await stack.enter_async_context(measured(self.broker, names, self.readiness))
            log.info("services.started", services=[s.name for s in self.services], url=self.url)
            yield

    async def readiness(self) -> dict[str, str]:
        """Run all checks; give each failing one's message."""
        checks: dict[str, Check] = {"node.started": self._has_started, "node.bus": self._bus_answers}
        for service in self.services:
            checks |= {f"{service.name}.{name}": check for name, check in service.checks.items()}
        failures = await asyncio.gather(*map(_failure, checks.values()))
        return {name: why for name, why in zip(checks, failures, strict=True) if why is not None}

    async def _hear_blocks(self) -> None:
        """Hear each final block once, for all services."""
        told = [service.on_block for service in self.services if service.on_block is not None]
        if not told:
            return

        def on_block(tick: BlockTick) -> None:
            for tell in told:
                tell(tick)

        chain_id = Deployment.load(self.settings.deployment).chain_id
        await hear_final_blocks(await self.broker.connect(), chain_id, on_block)

    async def _connect(self) -> None:
        """Connect the bus; an absent or unwilling server is told of at once, a later loss is mended."""
        settings = self.settings
        password = settings.bus_password.get_secret_value() if settings.bus_password else None
        tls = settings.bus_tls()
        trial = await bus.connect(settings.bus_url, user=settings.bus_user, password=password, tls=tls)
        await bus.close(trial)
        await self.broker.connect()

    async def _disconnect(self) -> None:
        connection = await self.broker.connect()
        try:
            await self.broker.stop()
        except (NatsError, ExceptionGroup) as error:  # it cannot take leave of a bus that is away
            log.warning("bus.not_drained", error=str(error))
            await bus.close(connection)

    async def _has_started(self) -> None:
        if not self._started:
            raise NotStartedError

    async def _bus_answers(self) -> None:
        if not await self.broker.ping(CHECK_S / 5):
            raise BusLostError

    def _common_routes(self) -> list[BaseRoute]:
        async def live(_request: Request) -> Response:
            return JSONResponse({"status": "live"})

        async def ready(_request: Request) -> Response:
            failing = await self.readiness()
            body = {"status": "not ready" if failing else "ready", "failing": failing}
            return JSONResponse(body, status_code=503 if failing else 200)

        async def metrics(_request: Request) -> Response:
            return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

        async def asyncapi(_request: Request) -> Response:
            document = AsyncAPI(self.broker, title="Agorai", schema_version="3.0.0").to_specification()
            whole = document.to_jsonable()
            for service in self.services:
                for section, members in service.described().items():
                    _merge(whole.setdefault(section, {}), members)
            return JSONResponse(whole)

        return [
            Route("/health/live", live),
            Route("/health/ready", ready),
            Route("/metrics", metrics),
            Route("/asyncapi.json", asyncapi),
        ]


def _merge(into: dict[str, Any], members: dict[str, Any]) -> None:
    for name, value in members.items():
        if isinstance(into.get(name), dict) and isinstance(value, dict):
            _merge(into[name], value)
        else:
            into[name] = value


def allow_open_files() -> None:
    """Raise the process's limit on open files, connections among them, to what the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 1 << 16 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def relax_collector() -> None:
    """Have Python look for cyclic garbage less often: many short-lived objects at once are normal here.

    With its usual thresholds it looks through everything again and again, which makes decoding thousands of logs
    up to nine times slower. What is loaded by now is left out of its search for good.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def until_signalled() -> None:
    """Wait for SIGINT, SIGTERM or, unless that is ignored as under nohup, SIGHUP of a terminal that was closed."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    heeded = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        heeded.append(signal.SIGHUP)
    for number in heeded:
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


def run(settings: NodeSettings, build: Callable[[NatsBroker], AbstractAsyncContextManager[Service]]) -> None:
    """Run one service alone until it is told to stop; `build` makes it for a bus connection."""

    async def main() -> None:
        broker = make_broker(settings, "agorai")
        async with build(broker) as service, Host(settings, [service], broker).running():
            await until_signalled()

    logging.configure(settings.log_level, settings.log_format)
    relax_collector()
    try:
        uvloop.run(main())
    except AgoraiError as error:
        log.error("service.not_started", error=error.message, remedy=error.remedy)  # noqa: TRY400
        sys.exit(1)
