"""Who may see the dashboard, and who may act in it.

    nobody < viewer < operator

On loopback, with no account named, whoever reaches it is the operator; anywhere else one signs in with an Ethereum
account (EIP-4361). Whatever the case, a request must name a host under which this dashboard is reached (another
site's name may be made to resolve to this machine), and what changes something must come from its own pages.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Final, Self
from urllib.parse import quote, urlsplit

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from agorai_dashboard.limits import RequestLimits
from agorai_dashboard.settings import DashboardSettings
from agorai_dashboard.siwe import IsContractSignature, SignIn, is_contract_signature
from agorai_shared import logging
from agorai_shared.errors import AgoraiError, InputError, RefusedError
from agorai_shared.rpc import Rpc
from agorai_shared.service import problem_response
from agorai_shared.settings import NodeSettings
from agorai_shared.types import Address

log = logging.get(__name__)

SESSION_S: Final = 12 * 3600
LINK_S: Final = 60
"""How long the link that `agorai dashboard sign-in` prints is good."""
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
UNGUARDED: Final = frozenset({"/health/live", "/health/ready", "/metrics"})
"""What probes and Prometheus ask, by whatever name they know this process; the node's own port tells the same."""
WITHOUT_SIGN_IN: Final = ("/sign-in", "/static/")
LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "same-origin",  # with none, a form's Origin would be `null`
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Role(IntEnum):
    """What somebody may do; each role may do what the one before may."""

    nobody = 0
    viewer = 1
    operator = 2


class OtherHostError(RefusedError):
    """A request names a host that is not this dashboard's."""

    http_status = 421

    def __init__(self, host: str) -> None:
        super().__init__(
            f"The dashboard is not reached as {host[:100]!r}.",
            remedy="Open it under the address it was started with, or name this one: AGORAI_DASHBOARD_PUBLIC_URL.",
        )


class CrossSiteError(RefusedError):
    """A request comes from another site's page."""

    def __init__(self) -> None:
        super().__init__(
            "The request does not come from the dashboard's own pages.",
            remedy="A program sends `Origin:` with the dashboard's own address.",
        )


class SignInNeededError(RefusedError):
    """Nobody is signed in."""

    http_status = 401

    def __init__(self) -> None:
        super().__init__("This is for those who have signed in.", remedy="Sign in at /sign-in.")


class RoleLackingError(RefusedError):
    """An account may not do this."""

    def __init__(self, role: Role) -> None:
        super().__init__(
            f"This takes the role {role.name}.",
            remedy=f"Sign in with an account of AGORAI_DASHBOARD_{role.name.upper()}S.",
        )


class AccountUnknownError(RefusedError):
    """An account that is proven has no role here."""

    def __init__(self, account: Address) -> None:
        super().__init__(
            f"{account} has no role in this dashboard.",
            remedy="Ask its operator to name it in AGORAI_DASHBOARD_VIEWERS or AGORAI_DASHBOARD_OPERATORS.",
        )


class NulInAddressError(InputError):
    """A request's path or filters have a NUL in them, which not every database takes."""

    def __init__(self) -> None:
        super().__init__("The address has a NUL in it (%00).", remedy="Leave it out.")


class RequestFailedError(AgoraiError):
    """An answer could not be made, by an error that nobody foresaw."""

    def __init__(self, path: str, error: Exception) -> None:
        super().__init__(
            f"The dashboard could not answer {path[:200]} ({type(error).__name__}).",
            remedy="Its log has more. Try again.",
        )


@dataclass(frozen=True, slots=True)
class _Pass:
    """A session or a link."""

    account: Address
    id: str
    """By which it is remembered when it is used up: its text can be spelt in several ways."""
    until: float


@dataclass(frozen=True, slots=True)
class Policy:
    """Where the dashboard is reached, and by whom."""

    host: str
    """Where it listens."""
    public_url: str | None = None
    """How people reach it, if not at `host`."""
    operators: frozenset[Address] = frozenset()
    viewers: frozenset[Address] = frozenset()

    @property
    def is_open(self) -> bool:
        """Whether nobody signs in."""
        accounts = self.operators or self.viewers
        return is_loopback(self.host) and self.public_url is None and not accounts

    def origin(self, request: Request) -> str:
        """Give the origin under which a request reached this dashboard.

        Raises
        ------
        OtherHostError
            If it is none of its own.
        """
        host = request.headers.get("host", "")
        if self.public_url is not None:
            at = urlsplit(self.public_url)
            if host.lower() != at.netloc.lower():
                raise OtherHostError(host)
            return f"{at.scheme}://{at.netloc}"
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            name = None
        if name not in {*LOOPBACK_NAMES, self.host.strip("[]")}:
            raise OtherHostError(host)
        return f"{request.url.scheme}://{host}"


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches what listens there."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Access:
    """Judges requests.

    Parameters
    ----------
    account
        The node's own, which is an operator.
    token
        The node's, from which the secret of sessions is derived: they outlive a restart, and its replicas share them.
    """

    def __init__(
        self,
        policy: Policy,
        chain_id: int,
        account: Address,
        token: str,
        is_contract_signature: IsContractSignature,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.policy = policy
        self._operators = policy.operators | {account}
        secret = hmac.new(token.encode(), b"agorai dashboard", hashlib.sha256).digest()
        self.sign_in = SignIn(chain_id, secret, is_contract_signature, clock)
        self._clock = clock
        self._sessions = URLSafeTimedSerializer(secret, salt="session")
        self._links = URLSafeTimedSerializer(secret, salt="link")
        self._limits = RequestLimits()
        # Cookies know no ports: nodes of one machine would sign each other's people out.
        self._cookie = f"agorai-{hashlib.sha256(secret).hexdigest()[:8]}"

    @classmethod
    def of(cls, node: NodeSettings, own: DashboardSettings, rpc: Rpc, chain_id: int) -> Self:
        """Make what guards a dashboard with these settings."""
        policy = Policy(node.host, own.public_url, frozenset(own.operators), frozenset(own.viewers))
        token = node.node_token.get_secret_value()
        return cls(policy, chain_id, own.address, token, partial(is_contract_signature, rpc))

    def middleware(self) -> Middleware:
        """Give what asks this about every request; it is to be the outermost."""
        return Middleware(AccessMiddleware, access=self)

    def role(self, account: Address) -> Role:
        """Give what an account may do."""
        if account in self._operators:
            return Role.operator
        return Role.viewer if account in self.policy.viewers else Role.nobody

    def known(self, account: Address) -> Address:
        """Give the account, if it has a role.

        Raises
        ------
        AccountUnknownError
            If it has none.
        """
        if self.role(account) == Role.nobody:
            raise AccountUnknownError(account)
        return account

    def admit(self, request: Request) -> None:
        """Let a request in, with the role of whoever sends it kept in its state.

        Raises
        ------
        OtherHostError, TooManyRequestsError, CrossSiteError, SignInNeededError, NulInAddressError
        """
        self._limits.check(request)
        path = request.url.path
        if path in UNGUARDED and request.method in SAFE_METHODS:
            return
        origin = self.policy.origin(request)
        _check_site(request, origin)
        request.state.origin = origin
        session = self._session(request)
        request.state.account = session.account if session else None
        request.state.role = role = self._role_now(session)
        request.state.still_admitted = lambda: self._role_now(session) > Role.nobody
        if role == Role.nobody and not path.startswith(WITHOUT_SIGN_IN):
            raise SignInNeededError
        if "\0" in path or b"%00" in request.scope["query_string"]:
            raise NulInAddressError

    def begin(self, request: Request, answer: Response, account: Address) -> None:
        """Have the browser that gets this answer signed in."""
        answer.set_cookie(
            self._cookie,
            self._sessions.dumps([account, secrets.token_hex(8)]),
            max_age=SESSION_S,
            httponly=True,
            samesite="strict",
            secure=request.state.origin.startswith("https:"),
        )

    def end(self, request: Request, answer: Response) -> None:
        """Have the browser that gets this answer signed out, and its session be worth nothing."""
        session = self._session(request)
        if session is not None:
            self.sign_in.spent.spend(session.id, session.until)
        answer.delete_cookie(self._cookie, httponly=True, samesite="strict")

    def link_code(self, account: Address) -> str:
        """Give what signs a browser in as an account, once and soon."""
        return self._links.dumps([account, secrets.token_hex(8)])

    def linked(self, code: str) -> Address | None:
        """Give whom a code signs in, and use it up; none if it is not good (any more)."""
        link = _loaded(self._links, code, LINK_S)
        return link.account if link and self.sign_in.spent.spend(link.id, link.until) else None

    def _session(self, request: Request) -> _Pass | None:
        cookie = request.cookies.get(self._cookie)
        session = _loaded(self._sessions, cookie, SESSION_S) if cookie else None
        return session if session and not self.sign_in.spent.is_spent(session.id) else None

    def _role_now(self, session: _Pass | None) -> Role:
        """Give what a session is good for by now."""
        if self.policy.is_open:
            return Role.operator
        if session is None or self._clock() >= session.until or self.sign_in.spent.is_spent(session.id):
            return Role.nobody
        return self.role(session.account)


class AccessMiddleware:
    """Asks `Access` about every request, and gives every answer the headers that hold browsers to its rules."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await WebSocketClose()(scope, receive, send)
            return
        request = Request(scope, receive)
        begun = False

        async def guarded(message: Message) -> None:
            nonlocal begun
            begun = True
            if message["type"] == "http.response.start":
                self._harden(request, MutableHeaders(scope=message))
            await send(message)

        try:
            self._access.admit(request)
        except SignInNeededError as error:
            wants_page = request.method == "GET" and "text/html" in request.headers.get("accept", "")
            answer = _to_sign_in(request) if wants_page else await problem_response(request, error)
            await answer(scope, receive, guarded)
        except AgoraiError as error:
            await (await problem_response(request, error))(scope, receive, guarded)
        else:
            try:
                await self._app(scope, receive, guarded)
            except Exception as error:
                if begun:
                    raise
                log.exception("request.failed", path=request.url.path)
                failed = RequestFailedError(request.url.path, error)
                await (await problem_response(request, failed))(scope, receive, guarded)

    def _harden(self, request: Request, headers: MutableHeaders) -> None:
        for name, value in HEADERS.items():
            headers[name] = value
        headers.setdefault(
            "Cache-Control", "no-cache" if request.url.path.startswith("/static/") else "no-store"
        )
        if (self._access.policy.public_url or "").startswith("https:"):
            headers["Strict-Transport-Security"] = "max-age=31536000"


def role_of(request: Request) -> Role:
    """Give what whoever sends a request may do; nobody, where no `AccessMiddleware` was asked."""
    role: Role = getattr(request.state, "role", Role.nobody)
    return role


def still_admitted(request: Request) -> bool:
    """Say whether a request that goes on would be let in by now: nobody has signed out, no time has run out."""
    state: Callable[[], bool] | None = getattr(request.state, "still_admitted", None)
    return state is not None and state()


def account_of(request: Request) -> Address | None:
    """Give who has signed in."""
    account: Address | None = getattr(request.state, "account", None)
    return account


def require(request: Request, role: Role) -> None:
    """Let a request pass only with a role.

    Raises
    ------
    RoleLackingError
        If whoever sends it has less.
    """
    if role_of(request) < role:
        raise RoleLackingError(role)


def _check_site(request: Request, origin: str) -> None:
    """Refuse what another site's page sends; browsers say so in headers that no page can set (Fetch Metadata)."""
    site = request.headers.get("sec-fetch-site")
    if request.method not in SAFE_METHODS:
        if site is None and request.headers.get("origin") == origin:
            return
        if site != "same-origin":
            raise CrossSiteError
    elif site in ("cross-site", "same-site") and request.headers.get("sec-fetch-mode") != "navigate":
        raise CrossSiteError


def _to_sign_in(request: Request) -> Response:
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/sign-in?next={quote(path, safe='/')}", status_code=303)


def _loaded(serializer: URLSafeTimedSerializer, text: str, age_s: int) -> _Pass | None:
    try:
        (account, id_), signed_at = serializer.loads(text, max_age=age_s, return_timestamp=True)
    except BadData:
        return None
    return _Pass(Address(account), id_, signed_at.timestamp() + age_s)
