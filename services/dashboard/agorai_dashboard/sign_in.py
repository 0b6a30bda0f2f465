"""Signing in and out: a page for people, and two paths by which `agorai dashboard sign-in` makes a link.

GET  /sign-in               the page; with ?address= it shows the message to be signed
GET  /sign-in/message       {"message"} for ?address=
POST /sign-in               a form with `message`, `signature` and `next`
POST /sign-in/link          {"message", "signature"} -> {"url"}, good once within a minute
GET  /sign-in/link/{code}   signs the browser in
POST /sign-out
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qs

import orjson
from eth_utils.address import is_address, to_checksum_address
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from agorai_dashboard.access import Access
from agorai_dashboard.pages_frame import templates
from agorai_dashboard.siwe import MESSAGE_S
from agorai_shared.errors import AgoraiError, InputError
from agorai_shared.types import Address

MOST_BODY: Final = 1 << 14
"""Bytes: a message and a signature, with room for those of contract accounts."""


class AccountMalformedError(InputError):
    """What was given as an account is no address."""

    def __init__(self, given: str) -> None:
        super().__init__(f"{given[:100]!r} is no address.", remedy="Write 0x and 40 hex digits.")


class SignInBodyError(InputError):
    """What is sent to sign in is not of its form."""

    def __init__(self) -> None:
        super().__init__(
            f"A sign-in has a message and a signature, and {MOST_BODY >> 10} KiB at most.",
            remedy="Send what /sign-in shows.",
        )


def routes(access: Access) -> Sequence[BaseRoute]:
    """Give the routes of one dashboard."""
    pages = _Pages(access)
    return [
        Route("/sign-in", pages.show),
        Route("/sign-in", pages.sign_in, methods=["POST"]),
        Route("/sign-in/message", pages.message),
        Route("/sign-in/link", pages.make_link, methods=["POST"]),
        Route("/sign-in/link/{code}", pages.follow_link),
        Route("/sign-out", pages.sign_out, methods=["POST"]),
    ]


class _Pages:
    def __init__(self, access: Access) -> None:
        self._access = access
        self._templates = templates()

    async def show(self, request: Request) -> Response:
        """Show where one signs in."""
        return _to("/") if self._access.policy.is_open else self._page(request)

    async def message(self, request: Request) -> Response:
        """Give the message that an account is to sign."""
        return JSONResponse({"message": self._message(request, request.query_params.get("address", ""))})

    async def sign_in(self, request: Request) -> Response:
        """Begin a session with a signed message, sent as a form."""
        form = parse_qs((await _body(request)).decode(errors="replace"))
        message, signature, inside = (form.get(name, [""])[0] for name in ("message", "signature", "next"))
        try:  # browsers send the lines of a form with CR LF
            account = await self._proven(request, message.replace("\r\n", "\n"), signature)
        except AgoraiError as error:
            return self._page(request, error)
        answer = _to(_inside(inside))
        self._access.begin(request, answer, account)
        return answer

    async def make_link(self, request: Request) -> Response:
        """Give a link that begins a session once, within a minute, for a signed message."""
        try:
            body = orjson.loads(await _body(request))
            message, signature = str(body["message"]), str(body["signature"])
        except (ValueError, KeyError, TypeError) as error:
            raise SignInBodyError from error
        code = self._access.link_code(await self._proven(request, message, signature))
        return JSONResponse({"url": f"{request.state.origin}/sign-in/link/{code}"}, status_code=201)

    async def follow_link(self, request: Request) -> Response:
        """Begin a session by such a link."""
        # A link on another site's page would sign its reader in as whoever made it.
        typed = request.headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        account = self._access.linked(request.path_params["code"]) if typed else None
        if account is None:
            return _to("/sign-in")
        answer = _to("/")
        self._access.begin(request, answer, account)
        return answer

    async def sign_out(self, request: Request) -> Response:
        """End the session."""
        answer = _to("/sign-in")
        self._access.end(request, answer)
        return answer

    def _page(self, request: Request, error: AgoraiError | None = None) -> Response:
        given, message = request.query_params.get("address", ""), ""
        if given and error is None:
            try:
                message = self._message(request, given)
            except AccountMalformedError as malformed:
                error = malformed
        shown = self._templates.get_template("sign-in.html").render(
            address=given,
            message=message,
            next=_inside(request.query_params.get("next", "/")),
            origin=request.state.origin,
            minutes=MESSAGE_S // 60,
            error=error,
        )
        return HTMLResponse(shown, status_code=error.http_status if error else 200)

    def _message(self, request: Request, given: str) -> str:
        return self._access.sign_in.message(request.state.origin, _address(given)).text()

    async def _proven(self, request: Request, message: str, signature: str) -> Address:
        account = await self._access.sign_in.account(request.state.origin, message, signature)
        return self._access.known(account)


def _address(given: str) -> Address:
    if not is_address(given):
        raise AccountMalformedError(given)
    return Address(to_checksum_address(given))


def _inside(path: str) -> str:
    """Give a path of this site; the front page for what would lead elsewhere."""
    leads_out = not path.startswith("/") or path.startswith(("//", "/\\")) or not path.isprintable()
    return "/" if leads_out else path


def _to(path: str) -> Response:
    return RedirectResponse(path, status_code=303)


async def _body(request: Request) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_BODY:
            raise SignInBodyError
    return body
