"""Pages of a dashboard of their own: with nothing to show, with a connection that is lost, with a hub to ask."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import typer.main
from aiohttp import ClientSession, CookieJar, web
from eth_account.messages import encode_defunct
from playwright.async_api import Browser, Page

from agorai.cli.main import app
from agorai_dashboard import pages_frame
from agorai_dashboard.formatting import curve_table, relative, span, spark, tokens, web_address
from agorai_dashboard.views import Curve, Point
from agorai_dashboard.views_node import ChainHealth, NodeHealth
from agorai_dashboard.views_overview import Projection
from agorai_hub.subscription_forms import DescribedInFull
from agorai_shared.event_filter import EventFilter
from agorai_shared.trail import Dead

from .guarded import VIEWER
from .listening import listening
from .pages_story import World, registered
from .pages_world import ME, browsing, running, showing

ROOT = Path(__file__).parents[3]
VENDORED = ROOT / "services/dashboard/agorai_dashboard/static/vendor/chart.umd.min.js"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as running_:
        yield running_


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser) -> AsyncIterator[Page]:
    context = await browser.new_context(reduced_motion="reduce")
    context.set_default_timeout(60_000)
    yield await context.new_page()
    await context.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_an_empty_page_says_what_would_fill_it_and_fills_by_itself(page: Page, tmp_path: Path) -> None:
    async with showing(tmp_path, World(0)) as site:
        shown = set()
        for path in (
            "/",
            "/market",
            "/trades",
            "/pools",
            "/tasks",
            "/actors",
            "/events",
            "/subscriptions",
            "/node",
        ):
            await page.goto(site.url + path)
            assert await page.locator(".empty").count() > 0, path
            shown.update(await page.locator(".empty .command").all_inner_texts())
        assert len(shown) >= 6
        await page.goto(site.url + "/trades/7")
        assert await page.inner_text("main code") == "agorai trade list"
        await page.goto(site.url + "/events")
        await page.wait_for_selector(".link-state.open", state="attached")
        await site.become_final(registered(200_000, resource=1))
        await page.get_by_role("link", name="Registry.Registered").wait_for()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_lost_connection_is_told_and_mends_itself(page: Page, tmp_path: Path) -> None:
    async with showing(tmp_path, World(0)) as site:
        (tmp_path / "second").mkdir()
        async with running(tmp_path / "second", site.bus_url, World(0)) as host:
            port = host.port
            await page.goto(host.url + "/market")
            await page.wait_for_selector(".link-state.open", state="attached")
        await page.locator("[data-lost]").wait_for()
        await site.become_final(registered(200_000, resource=1))
        async with running(tmp_path / "second", site.bus_url, World(0), port):
            await page.wait_for_selector(".link-state.open", state="attached")
            await page.locator("[data-lost]").wait_for(state="hidden")
            await page.get_by_role("link", name="Resource 1").wait_for()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_viewer_sees_what_failed_and_cannot_retry_it(tmp_path: Path) -> None:
    async with (
        showing(tmp_path, World(0), viewers=(VIEWER.address,)) as site,
        ClientSession(site.url, cookie_jar=CookieJar(unsafe=True)) as session,
    ):
        async with session.get("/sign-in/message", params={"address": VIEWER.address}) as answer:
            message = (await answer.json())["message"]
        signature = VIEWER.sign_message(encode_defunct(text=message)).signature.to_0x_hex()
        proof = {"message": message, "signature": signature, "next": "/node"}
        own = {"Origin": site.url}
        why = {"step": "train", "error": "No data.", "attempts": 8, "at": 1.0}
        dead = Dead(service="trainer", protocol="job", contract="Invocation", key="3", **why)
        async with session.post("/sign-in", data=proof, headers=own) as answer:
            shown = await answer.text()
            assert answer.status == 200
        async with listening(session, site.url) as told:
            await site.tell(dead)
            while "No data." not in shown:
                await anext(told)
                async with session.get("/node") as answer:
                    shown = await answer.text()
        assert "Sign out" in shown
        assert "operators can retry" in shown
        assert "<button>Retry" not in shown
        async with session.post("/node/dead/1/retry", headers=own) as answer:
            assert answer.status == 403
            assert "role operator" in await answer.text()
        async with session.get("/subscriptions") as answer:
            assert answer.status == 403


@pytest.mark.asyncio(loop_scope="module")
async def test_a_phone_has_the_pages_behind_a_button(browser: Browser, tmp_path: Path) -> None:
    async with showing(tmp_path, World(0)) as site:
        context = await browser.new_context(base_url=site.url, viewport={"width": 360, "height": 740})
        page = await context.new_page()
        await page.goto("/")
        assert not await page.is_visible("nav a[href='/pools']")
        await page.get_by_role("button", name="Menu").click()
        await page.click("nav a[href='/pools']")
        await page.get_by_role("heading", name="Data pools").wait_for()
        await context.close()


@asynccontextmanager
async def hub(subscriptions: list[DescribedInFull]) -> AsyncIterator[str]:
    """Answer as a hub does about its subscriptions."""

    async def listed(_request: web.Request) -> web.Response:
        return web.json_response([one.model_dump(mode="json") for one in subscriptions])

    async def shown(request: web.Request) -> web.Response:
        one = next(one for one in subscriptions if one.id == request.match_info["id"])
        return web.json_response(one.model_dump(mode="json"))

    @web.middleware
    async def guarded(request: web.Request, handler: Any) -> web.StreamResponse:
        if request.headers.get("Authorization") != "Bearer the hub's":
            raise web.HTTPUnauthorized
        answer: web.StreamResponse = await handler(request)
        return answer

    site = web.Application(middlewares=[guarded])
    site.add_routes([web.get("/subscriptions", listed), web.get("/subscriptions/{id}", shown)])
    runner = web.AppRunner(site)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def subscription() -> DescribedInFull:
    return DescribedInFull(
        id="sub_" + 24 * "a",
        chain=31337,
        filter=EventFilter(contract="Invocation", event="Paid"),
        delivery="webhook",
        url="http://shop.example/paid",
        notice_url=None,
        name="the shop",
        concurrency=1,
        state="disabled",
        reason="It failed for three days.",
        created_at=1_795_000_000.0,
        failing_since=1_795_100_000.0,
        last_error="HTTP 500",
        last_error_at=1_795_200_000.0,
        stream="CHAIN_31337_FINAL",
        consumer="sub",
        pending=12,
        in_retry=1,
        under_way=1,
    )


@pytest.mark.asyncio(loop_scope="module")
async def test_subscriptions_are_what_the_hub_tells(page: Page, tmp_path: Path) -> None:
    async with (
        hub([subscription()]) as url,
        showing(tmp_path, World(0), hub_url=url, hub_token="the hub's") as site,
    ):
        await page.goto(site.url + "/subscriptions")
        row = await page.inner_text("tbody tr")
        for words in (
            "the shop",
            "shop.example/paid",
            "contract Invocation; event Paid",
            "disabled",
            "HTTP 500",
            "12",
        ):
            assert words in row


@pytest.mark.asyncio(loop_scope="module")
async def test_a_hub_that_does_not_take_the_token_is_told_of(page: Page, tmp_path: Path) -> None:
    async with hub([]) as url, showing(tmp_path, World(0), hub_url=url, hub_token="another") as site:
        answer = await page.goto(site.url + "/subscriptions")
        assert answer is not None
        assert answer.status == 503
        assert "AGORAI_DASHBOARD_HUB_TOKEN" in await page.inner_text("main")


def test_the_chart_library_is_the_locked_one() -> None:
    installed = ROOT / "node_modules/chart.js/dist/chart.umd.min.js"
    if not installed.exists():
        pytest.skip("chart.js is not installed here: npm ci")
    assert VENDORED.read_bytes() == installed.read_bytes()


def test_the_contracts_of_a_chain_are_listed_each_with_its_address() -> None:
    place = "0x" + "4" * 40
    known = {"name": "DataPool", "address": place, "start_block": 1234, "members": None, "has_code": True}
    made = {"name": "Pair", "address": None, "start_block": 1, "members": 3, "has_code": None}
    chain = ChainHealth(5, {"head": 17, "contracts": [known, made]})
    health = NodeHealth(0, ME, (), (chain,), Projection(1, 1, 1, 0, 1, rebuilding=False), (), (), (), 0)
    page = (
        pages_frame.templates()
        .get_template("node.html")
        .render(
            it=health, theme="auto", section="/node", now=0, me=ME, signed_in=None, operator=True,
            block_shown=1, note=None,
        )
    )  # fmt: skip
    assert re.search(r'<th scope="row">DataPool</th><td data-name="address">.*?data-copy="' + place, page)
    assert "3 made by its factory" in page
    assert "start_block" not in page


def test_commands_on_pages_can_be_given() -> None:
    templates = Path(pages_frame.__file__).parent / "templates"
    text = "".join(one.read_text() for one in sorted(templates.glob("*.html")))
    told = re.findall(r'"(agorai [^"{}]+?)"', text)
    assert len(told) >= 6
    assert not re.search(r'row\.id ~ "[^"]*docs/examples', text)  # what is others' wants files of one's own
    command = typer.main.get_command(app)
    for line in told:
        group: Any = command
        words = line.split()[1:]
        while words and words[0] in getattr(group, "commands", {}):
            group = group.commands[words.pop(0)]
        known = {option for parameter in group.params for option in parameter.opts}
        assert not hasattr(group, "commands") or not words, line
        assert {word for word in words if word.startswith("--")} <= known, line


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0"),
        (10**18, "1"),
        (1_234_567_890_000_000_000_000, "1,234.5679"),
        (1, "< 0.0001"),
        (-(5 * 10**17), "-0.5"),
        (2**256 - 1, "unlimited"),
    ],
)
def test_an_amount_is_written_in_tokens(amount: int, text: str) -> None:
    assert tokens(amount) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (3_600, "1 h"), (90_061, "1 d 1 h"), (2**40 - 1, "no limit")],
)
def test_a_span_is_written_by_its_largest_units(seconds: int, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("at", "text"), [(100, "now"), (40, "1 min ago"), (7_400, "in 2 h"), (2**40 - 1, "never")]
)
def test_a_time_is_written_as_how_far_it_is(at: int, text: str) -> None:
    assert relative(at, 100) == text


@pytest.mark.parametrize(
    "text", ["javascript:alert(1)", "data:text/html,x", "//evil.example", "http:///x", "http://a\nb"]
)
def test_only_plain_web_addresses_are_linked(text: str) -> None:
    assert web_address(text) is None


def test_a_line_of_one_point_is_level() -> None:
    assert spark([Point(0, 5)]) == "0.00,2.00 100.00,2.00"
    assert spark([]) == ""


def test_curves_of_many_points_are_put_together_and_keep_their_ends() -> None:
    many = Curve("many", tuple(Point(at, at) for at in range(10_000)))
    few = Curve("few", (Point(0, 1), Point(9_999, 2)))
    table = curve_table((many, few), most=100)
    assert len(table.rows) <= 101
    assert table.rows[-1] == (9_999, (9_999, 2))
    assert [values[1] for _, values in table.rows if values[1] is not None] == [1, 2]
