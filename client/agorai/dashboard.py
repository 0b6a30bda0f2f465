"""The dashboard of a node on this machine, at a port of its own; and signing in to any by the node's vault."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from pydantic import SecretStr

from agorai import same_ports
from agorai.client import Client
from agorai.home import Home, NodeFile
from agorai_shared.errors import InputError, RefusedError, RemoteError, UnavailableError
from agorai_shared.sign_in import SignInMessage


class DashboardUrlError(InputError):
    """What was given as a dashboard's address is none."""

    def __init__(self, given: str) -> None:
        super().__init__(
            f"{given!r} is no address of a dashboard.", remedy="Give it as https://HOST or http://HOST:PORT."
        )


class DashboardUnreachableError(UnavailableError):
    """A dashboard does not answer, or something else does."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(
            f"No dashboard answers at {url}: {why}.", remedy="See whether it runs, and under this address."
        )


class MessageForeignError(RefusedError):
    """A dashboard asks to have a sign-in to another page signed: it may want to sign in there as you."""

    def __init__(self, url: str, domain: str) -> None:
        super().__init__(
            f"What answers at {url} asks to sign in to {domain}; nothing was signed.",
            remedy="Open the dashboard under its own address. If this is it, tell its operator.",
        )


@asynccontextmanager
async def running(
    home: Home, info: NodeFile, *, host: str, port: int | None, log_level: str = "INFO"
) -> AsyncIterator[str]:
    """Run the dashboard of a running node until left; gives its URL.

    Parameters
    ----------
    port
        None takes the port of the last run, or a free one.
    """
    from agorai_dashboard import app  # noqa: PLC0415 - what signing in does without
    from agorai_dashboard.settings import DashboardSettings  # noqa: PLC0415 - as above
    from agorai_shared.http_server import listen  # noqa: PLC0415 - as above
    from agorai_shared.service import Host, make_broker  # noqa: PLC0415 - as above
    from agorai_shared.settings import NodeSettings  # noqa: PLC0415 - as above

    ports = home.ports()
    listener = (
        same_ports.listener(host, ports.dashboard) if port is None else listen(host, port, "--dashboard-port")
    )
    ports.model_copy(update={"dashboard": listener.getsockname()[1]}).save(home.ports_file)
    node = NodeSettings(
        bus_url=info.bus_url,
        bus_user=info.bus_user,
        bus_password=SecretStr(info.bus_password) if info.bus_password else None,
        bus_ca=info.bus_ca,
        rpc_url=info.rpc_url,
        confirmations=info.confirmations,
        deployment=info.deployment,
        node_token=SecretStr(info.token),
        host=host,
        port=listener.getsockname()[1],
        log_level=log_level,
    )
    home.dashboard.mkdir(mode=0o700, exist_ok=True)
    kept: dict[str, Any] = {}
    if "AGORAI_DASHBOARD_DATABASE" not in os.environ:
        kept = {"database": f"sqlite:///{home.dashboard / 'read-model.sqlite'}"}
    own = DashboardSettings(
        address=info.address,
        store_url=info.url,
        node_url=info.url,
        hub_url=info.hub_url,
        hub_token=None if info.joined else SecretStr(home.hub_token()),
        **kept,
    )
    broker = make_broker(node, f"dashboard-{info.name}")
    async with AsyncExitStack() as stack:
        stack.callback(listener.close)
        service = await stack.enter_async_context(app.create(node, own, broker))
        await stack.enter_async_context(Host(node, [service], broker, listener).running())
        reached = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - compared, not bound
        shown = f"[{reached}]" if ":" in reached else reached
        yield own.public_url or f"http://{shown}:{listener.getsockname()[1]}"


async def sign_in(client: Client, url: str) -> str:
    """Sign in to a dashboard with the node's account; gives a link that signs a browser in, once, within a minute.

    Raises
    ------
    DashboardUrlError, DashboardUnreachableError
        If no dashboard is there.
    MessageForeignError
        If what is there asks for a sign-in to another page.
    RemoteError
        If the dashboard, or the vault, refuses.
    """
    async with aiohttp.ClientSession() as session:
        return await _link(session, client, _origin(url))


async def rebuild(client: Client, url: str) -> None:
    """Have a dashboard's read model built anew, signed in with the node's account where one must.

    Raises
    ------
    As `sign_in` does.
    """
    origin = _origin(url)
    # A dashboard on this machine has no name, of which aiohttp's jar would take no cookie.
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        try:
            await _asked(session, "POST", origin, "/api/rebuild")
        except RemoteError as error:
            if error.http_status != 401:
                raise
            link = await _link(session, client, origin)
            async with session.get(link, allow_redirects=False):
                pass
            await _asked(session, "POST", origin, "/api/rebuild")


def _origin(url: str) -> str:
    at = urlsplit(url)
    if at.scheme not in ("http", "https") or not at.netloc:
        raise DashboardUrlError(url)
    return f"{at.scheme}://{at.netloc}"


async def _link(session: aiohttp.ClientSession, client: Client, origin: str) -> str:
    asked = await _asked(session, "GET", origin, f"/sign-in/message?address={client.address}")
    text = str(asked.get("message", ""))
    message = SignInMessage.parse(text)
    if not message.is_for(origin):
        raise MessageForeignError(origin, message.domain)
    proof = {"message": text, "signature": await client.vault.sign_in(text)}
    made = await _asked(session, "POST", origin, "/sign-in/link", proof)
    link = str(made.get("url", ""))
    if _origin(link) != origin:
        raise DashboardUnreachableError(origin, "the link that it gives leads elsewhere")
    return link


async def _asked(
    session: aiohttp.ClientSession, method: str, origin: str, path: str, body: object = None
) -> dict[str, Any]:
    try:
        async with session.request(
            method, origin + path, json=body, headers={"Origin": origin}, allow_redirects=False
        ) as answer:
            found = await answer.json(content_type=None)
            status = answer.status
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise DashboardUnreachableError(origin, str(error) or type(error).__name__) from error
    if status >= 400 and isinstance(found, dict):
        raise RemoteError(found)
    if status not in (200, 201, 202, 204):
        raise DashboardUnreachableError(origin, f"it answers with status {status}")
    return found if isinstance(found, dict) else {}
