"""What all pages have in common: templates, navigation, static files, and what a fault looks like.

Templates escape all they are given, as most of it is foreign text.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from agorai_dashboard import formatting
from agorai_dashboard.access import Role, account_of, role_of
from agorai_shared import logging
from agorai_shared.errors import AgoraiError
from agorai_shared.types import Address

log = logging.get(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]

_STATIC: Final = Path(str(files("agorai_dashboard") / "static"))
_A_YEAR: Final = "public, max-age=31536000, immutable"
NAVIGATION: Final = (
    ("/", "Overview", "overview", False),
    ("/market", "Market", "market", False),
    ("/trades", "Trades", "trades", False),
    ("/pools", "Data pools", "pools", False),
    ("/tasks", "Training tasks", "tasks", False),
    ("/actors", "Actors", "actors", False),
    ("/events", "Events", "events", True),
    ("/subscriptions", "Subscriptions", "subscriptions", False),
    ("/node", "Node health", "node", False),
)
"""Path, name, icon, and whether it begins a group."""


@dataclass(frozen=True, slots=True)
class KindShown:
    """How a kind of item is counted."""

    name: str
    open: str
    """What those are that have not ended."""
    path: str


KINDS: Final[Mapping[str, KindShown]] = {
    "resource": KindShown("Resources", "on the market", "/market"),
    "invocation": KindShown("Paid uses", "under way", "/events?contract=Invocation"),
    "trade": KindShown("Trades", "under way", "/trades"),
    "case": KindShown("Disputes", "open", "/trades?state=disputed"),
    "pool": KindShown("Data pools", "open", "/pools"),
    "contribution": KindShown("Contributions", "being checked", "/pools"),
    "task": KindShown("Training tasks", "under way", "/tasks"),
    "actor": KindShown("Actors", "members", "/actors"),
}
_THEMES: Final = frozenset({"auto", "light", "dark"})
_TITLES: Final = {
    401: "Not signed in",
    403: "Not allowed",
    404: "There is nothing here",
    422: "This cannot be asked",
    429: "Too many requests",
    500: "The dashboard failed",
    503: "Not ready yet",
}


@dataclass(frozen=True, slots=True)
class Note:
    """A line above a page, told once."""

    tone: str
    text: str


@dataclass(frozen=True, slots=True)
class Fault:
    """What is shown in a page's place."""

    status: int
    detail: str
    remedy: str = ""

    @property
    def title(self) -> str:
        """The headline."""
        return _TITLES.get(self.status, "This did not work")


@dataclass(frozen=True, slots=True)
class Shown:
    """A page: its template, and what that is given."""

    template: str
    values: Mapping[str, object]


def templates() -> Environment:
    """Give what writes the pages."""
    environment = Environment(
        loader=PackageLoader("agorai_dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "argument": formatting.argument,
        "begun": formatting.begun,
        "curve_table": formatting.curve_table,
        "grouped": formatting.grouped,
        "item_path": formatting.item_path,
        "machine_time": formatting.machine_time,
        "mark": formatting.mark,
        "meaning": formatting.meaning,
        "moment": formatting.moment,
        "parts": formatting.parts,
        "percent": formatting.percent,
        "relative": formatting.relative,
        "short": formatting.short,
        "size": formatting.size,
        "span": formatting.span,
        "spark": formatting.spark,
        "token_value": formatting.token_value,
        "tokens": formatting.tokens,
        "tone": formatting.tone,
        "web_link": _web_link,
        "with_code": _with_code,
    }
    environment.globals |= {"static": _static_path, "navigation": NAVIGATION, "kinds": KINDS}
    return environment


class Frame:
    """Writes pages.

    Parameters
    ----------
    me
        The node's account, which pages mark as one's own.
    block
        Gives the block up to which the read model is, so that the pages' script can tell whether they are up to date.
    """

    def __init__(self, me: Address, block: Callable[[], int]) -> None:
        self._me = me
        self._block = block
        self._environment = templates()

    def write(self, request: Request, shown: Shown, status: int = 200) -> Response:
        """Write a page; HTML as browsers take it, never kept by them."""
        theme = request.cookies.get("theme", "auto")
        role = role_of(request)
        text = self._environment.get_template(shown.template).render(
            theme=theme if theme in _THEMES else "auto",
            section=_section(request.url.path),
            now=time.time(),
            me=self._me,
            signed_in=account_of(request),
            operator=role >= Role.operator,
            block_shown=self._block(),
            cursor=request.query_params.get("cursor"),
            with_query=partial(_with_query, request),
            **{"note": None, **shown.values},
        )
        return HTMLResponse(text, status_code=status)

    def page(self, endpoint: Callable[[Request], Awaitable[Shown | Response]]) -> Endpoint:
        """Have what an endpoint gives written as a page, and what it raises as a fault."""

        async def answer(request: Request) -> Response:
            try:
                shown = await endpoint(request)
                return shown if isinstance(shown, Response) else self.write(request, shown)
            except AgoraiError as error:
                return self.fault(request, Fault(error.http_status, error.message, error.remedy))
            except HTTPException as error:
                return self.fault(request, Fault(error.status_code, error.detail))
            except Exception as error:
                log.exception("page.failed", path=request.url.path)
                why = f"An error that nobody foresaw: {type(error).__name__}."
                return self.fault(request, Fault(500, why, "The dashboard's log has more. Try again."))

        return answer

    def fault(self, request: Request, fault: Fault) -> Response:
        """Write what went wrong."""
        return self.write(request, Shown("fault.html", {"fault": fault}), fault.status)


async def static_file(request: Request) -> Response:
    """Give a file of the pages; one asked for by its version is kept by browsers."""
    path = (_STATIC / request.path_params["path"]).resolve()
    if not (path.is_relative_to(_STATIC.resolve()) and path.is_file()):
        raise HTTPException(404, "There is no such file.")
    asked = request.query_params.get("v")
    kept = _A_YEAR if asked and asked == _version(path) else "no-cache"
    return FileResponse(path, headers={"Cache-Control": kept})


@cache
def _version(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()[:12]


def _static_path(name: str) -> str:
    return f"/static/{name}?v={_version((_STATIC / name).resolve())}"


def _section(path: str) -> str:
    """Give which entry of the navigation a page belongs to."""
    first = "/" + path.split("/")[1]
    return "/trades" if first == "/disputes" else first


def _with_query(request: Request, **changed: str | None) -> str:
    """Give this page's own address with some of its query changed."""
    query = {**request.query_params, **changed}
    return "?" + urlencode({name: value for name, value in query.items() if value})


def _web_link(text: str) -> Markup:
    """Link a foreign text if it is a plain web address, and else only show it."""
    found = formatting.web_address(text)
    if found is None:
        return escape(text)
    return Markup('<a href="{0}" rel="noopener noreferrer nofollow">{0}</a>').format(found)


def _with_code(text: str) -> Markup:
    """Show what stands between backquotes, as in an error's remedy, as a command."""
    pieces = text.split("`")
    whole = len(pieces) % 2 == 1
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if whole and index % 2 else escape(piece)
        for index, piece in enumerate(pieces)
    )
