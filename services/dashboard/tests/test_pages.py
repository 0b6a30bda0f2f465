"""The pages in a real browser, in front of a market with some weeks behind it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from aiohttp import ClientSession
from nats.aio.msg import Msg
from playwright.async_api import Browser, Page, expect

from agorai_dashboard.pages_frame import NAVIGATION
from agorai_shared.command import subject
from agorai_shared.events import ChainEvent, Phase
from agorai_shared.trail import Dead, Sent, Step

from .listening import listening
from .pages_market import market, with_malice
from .pages_story import STRANGER, joined, registered
from .pages_world import ME, Site, browsing, showing

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGES: Final = (
    "/", "/market", "/market?text=flowers", "/market/9", "/trades", "/trades/1", "/trades/2", "/trades/3",
    "/trades/4", "/disputes/1", "/disputes/2", "/pools", "/pools/1", "/tasks", "/tasks/1", "/tasks/2", "/actors",
    f"/actors/{ME}", "/events", f"/events?contract=DataPool&account={ME}", "/subscriptions", "/node",
)  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    folder: Path = tmp_path_factory.mktemp("pages")
    async with showing(folder, with_malice(market(int(time.time())))) as shown:
        yield shown


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser, site: Site) -> AsyncIterator[Page]:
    """Give a page that fails its test if anything is wrong in it, or if it asks anybody else for anything."""
    context = await browser.new_context(base_url=site.url, reduced_motion="reduce")
    context.set_default_timeout(60_000)
    page = await context.new_page()
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(site.url) else wrong.append(asked.url))
    yield page
    await context.close()
    assert not wrong


def step(event: ChainEvent, at: float) -> Step:
    return Step(
        service="vault",
        protocol="trade",
        contract=event.contract,
        key=event.key,
        step="prepare",
        outcome="ok",
        error=None,
        once="step 1",
        at=at,
        seconds=0.4,
        trace="ab" * 16,
    )


async def test_every_page_renders_by_its_own_rules_and_asks_nobody_else(page: Page) -> None:
    for path in PAGES:
        answer = await page.goto(path)
        assert answer is not None, path
        assert answer.status == 200, path
        await page.wait_for_selector(".link-state.open", state="attached")


async def test_every_page_fits_a_phone(browser: Browser, site: Site) -> None:
    context = await browser.new_context(base_url=site.url, viewport={"width": 360, "height": 740})
    page = await context.new_page()
    for path in PAGES:
        await page.goto(path)
        wide = await page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wide == 0, path
    await context.close()


async def test_every_page_can_be_read_by_a_screen_reader(page: Page) -> None:
    for path in PAGES:
        await page.goto(path)
        assert await page.evaluate(_UNREADABLE) == [], path


_UNREADABLE: Final = """() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const wrong = [];
  const ids = all("[id]").map((one) => one.id);
  if (new Set(ids).size !== ids.length) wrong.push("two elements have one id");
  if (all("h1").length !== 1 || all("main").length !== 1 || all("nav").length < 1) wrong.push("landmarks");
  if (!document.documentElement.lang || !document.title) wrong.push("language or title");
  for (const table of all("table")) {
    if (!table.caption) wrong.push("a table without a caption");
    if (all("th").some((cell) => !cell.scope)) wrong.push("a header without a scope");
  }
  for (const one of all("input, select")) if (!one.closest("label")) wrong.push(`no label: ${one.name}`);
  for (const one of all("button, a")) {
    if (!one.textContent.trim() && !one.ariaLabel) wrong.push(`no name: ${one.outerHTML}`);
  }
  for (const one of all("[aria-labelledby]")) {
    if (!document.getElementById(one.getAttribute("aria-labelledby"))) wrong.push("a label that is not there");
  }
  for (const one of all("canvas")) {
    if (!one.ariaLabel || !one.closest("figure").querySelector("details table")) wrong.push("a chart without words");
  }
  for (const one of all("main svg")) if (!one.ariaHidden && !one.ariaLabel) wrong.push("a picture without words");
  return [...new Set(wrong)];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_stands_out_from_its_ground(browser: Browser, site: Site, scheme: str) -> None:
    context = await browser.new_context(base_url=site.url, color_scheme=scheme)  # type: ignore[arg-type]
    page = await context.new_page()
    await page.goto("/")
    for ink, grounds in _CONTRASTS.items():
        for ground in grounds:
            colours = await page.evaluate(_COLOURS, [ink, ground])
            assert _contrast(*colours) >= 4.5, (scheme, ink, ground)
    await context.close()


_SURFACES: Final = ("ground", "surface", "raised")
_CONTRASTS: Final = {
    "text": (*_SURFACES, "accent-soft"),
    "muted": (*_SURFACES, "accent-soft"),
    "accent": (*_SURFACES, "accent-soft"),
    "on-accent": ("accent",),
    **{tone: (*_SURFACES, f"{tone}-soft") for tone in ("good", "wait", "bad", "idle")},
}
_COLOURS: Final = """(names) => names.map((name) => {
  const probe = document.createElement("i");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  return getComputedStyle(probe).color.match(/[0-9.]+/g).slice(0, 3).map(Number);
})"""


def _contrast(one: list[float], other: list[float]) -> float:
    """Give the ratio of WCAG 2.2."""

    def luminance(colour: list[float]) -> float:
        shares = (value / 255 for value in colour)
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dark, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


async def test_the_keyboard_reaches_the_content_and_every_page(page: Page) -> None:
    await page.goto("/")
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.className") == "skip"
    await page.keyboard.press("Enter")
    assert await page.evaluate("document.activeElement.id") == "content"
    await page.goto("/")
    reached = []
    for _ in range(12):
        await page.keyboard.press("Tab")
        reached.append(await page.evaluate("document.activeElement.getAttribute('href')"))
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", reached[-1]
    assert {path for path, *_ in NAVIGATION} <= set(reached)


async def test_colours_follow_the_system_until_somebody_chooses_others(page: Page) -> None:
    await page.emulate_media(color_scheme="dark")
    await page.goto("/")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = await page.evaluate(ground)
    await page.click("[data-theme-switch]")
    light = await page.evaluate(ground)
    assert light != dark
    await page.reload()
    assert await page.evaluate(ground) == light
    assert await page.evaluate("document.documentElement.dataset.theme") == "light"


async def test_a_chart_is_drawn_from_the_table_beneath_it(page: Page) -> None:
    await page.goto("/tasks/1")
    shown = await page.evaluate(
        "Chart.getChart(document.querySelector('#accuracy canvas')).data.datasets[0].data"
    )
    assert shown == [11.8, 65.5, 77.8, 81.8, 84.5]
    await page.click("#accuracy summary")
    assert "84.50" in await page.inner_text("#accuracy table")


async def test_pages_say_everything_without_their_script(browser: Browser, site: Site) -> None:
    context = await browser.new_context(base_url=site.url, java_script_enabled=False)
    page = await context.new_page()
    await page.goto("/pools/1")
    assert await page.is_visible("#growth summary")
    assert not await page.is_visible("canvas")
    await page.goto("/market")
    await page.fill("input[name=text]", "breast")
    await page.click("button.primary")
    await expect(page.locator("tbody tr")).to_have_count(2)
    await context.close()


async def test_an_event_is_on_screen_at_once_and_says_when_it_is_final(page: Page, site: Site) -> None:
    await page.goto("/events")
    await page.wait_for_selector(".link-state.open", state="attached")
    event = registered(200_100, resource=91)
    await site.happen(event, Phase.head)
    row = page.locator("tbody tr").first
    await row.get_by_text("Registry.Registered").wait_for()
    await row.get_by_text("seen").wait_for()
    await site.happen(event, Phase.final)
    await row.get_by_text("final", exact=True).wait_for()
    await row.get_by_role("link", name="Registry.Registered").click()
    await page.get_by_role("heading", name="Registry.Registered").wait_for()


async def test_a_list_about_one_item_stays_about_it(page: Page, site: Site) -> None:
    await page.goto("/events?about=pool:1")
    await page.wait_for_selector(".link-state.open", state="attached")
    assert not await page.locator("[data-tail]").count()
    await page.fill("input[name=event]", "Added")
    await page.click("button.primary")
    await page.wait_for_url("**/events?*event=Added*")
    assert "about=pool%3A1" in page.url
    assert await page.locator("tbody tr").count() > 0


async def test_an_event_that_is_taken_back_is_struck_through(page: Page, site: Site) -> None:
    await page.goto("/events?contract=Registry")
    await page.wait_for_selector(".link-state.open", state="attached")
    event = registered(200_101, resource=92)
    await site.happen(event, Phase.head)
    await page.locator("tbody tr").first.get_by_text("seen").wait_for()
    await site.happen(event, Phase.retracted)
    await page.locator("tr.retracted").get_by_text("retracted").wait_for()


async def test_a_page_keeps_itself_up_to_date_and_what_its_reader_does(page: Page, site: Site) -> None:
    await page.goto("/market?kind=model")
    await page.wait_for_selector(".link-state.open", state="attached")
    await page.locator("tbody a").first.focus()
    before = await page.evaluate("document.activeElement.textContent")
    await site.happen(registered(200_102, resource=93), Phase.final)
    await page.get_by_role("link", name="Resource 93").wait_for()
    assert await page.evaluate("document.activeElement.textContent") == before


async def test_what_strangers_write_does_nothing_but_stand_there(page: Page, site: Site) -> None:
    await site.become_final(joined(200_103, gateway="javascript:window.harmed=1"))
    await page.goto("/market/11")
    await page.get_by_role("heading", name="<img src=x onerror=window.harmed=1>").wait_for()
    await page.goto("/market?text=onerror")
    assert await page.locator("tbody tr").count() == 1
    await page.goto(f"/actors/{STRANGER}")
    await page.get_by_text("javascript:window.harmed=1").wait_for()
    for path in (
        "/market/11",
        "/market?text=%22%3E%3Cscript%3Ewindow.harmed=1%3C/script%3E",
        f"/actors/{STRANGER}",
    ):
        await page.goto(path)
        assert await page.evaluate("window.harmed") is None
        links = await page.evaluate("[...document.links].map((link) => link.protocol)")
        assert set(links) == {"http:"}


async def test_a_story_leads_from_a_transaction_to_what_it_caused(page: Page, site: Site) -> None:
    told = [one for one in site.story.events() if one.contract == "FairExchange" and one.key == "4"]
    advanced = next(one for one in told if one.event == "Advanced")
    answer = next(one for one in told if one.event == "Fulfilled" and one.args["by"] == ME)
    async with ClientSession() as session, listening(session, site.url) as told_live:
        await site.tell(Sent(once="step 1", transaction_hash=answer.transaction_hash, at=answer.block_time))
        await site.tell(step(advanced, at=advanced.block_time + 2))
        while (await anext(told_live))[0] != "step":  # it is told once it is kept
            pass
    await page.goto(f"/events/{advanced.transaction_hash}-{advanced.log_index}")
    story = page.locator("#story")
    await story.get_by_text("vault took the step “prepare”").wait_for()
    await story.get_by_role("link", name="FairExchange.Fulfilled").first.click()
    await page.get_by_role("heading", name="FairExchange.Fulfilled").wait_for()
    await page.get_by_text("vault took the step “prepare”").wait_for()


async def test_a_dead_letter_is_retried_by_a_button(page: Page, site: Site) -> None:
    asked: asyncio.Queue[bytes] = asyncio.Queue()

    async def look_again(message: Msg) -> None:
        asked.put_nowait(message.data)
        await message.respond(b'{"protocol":"job","key":3}')

    service = await site.client.subscribe(subject(ME, "trainer", "look_again"), cb=look_again)
    await page.goto("/node")
    await page.get_by_text("No dead letters").wait_for()
    await page.wait_for_selector(".link-state.open", state="attached")
    why = "No gateway served the data set."
    await site.tell(
        Dead(
            service="trainer",
            protocol="job",
            contract="Invocation",
            key="3",
            step="train",
            error=why,
            attempts=8,
            at=time.time(),
        )
    )
    await page.get_by_text(why).wait_for()
    await page.get_by_text("needs attention").wait_for()
    await page.get_by_role("button", name="Retry").click()
    await page.get_by_text("The service was told").wait_for()
    assert json.loads(await asked.get())["key"] == 3
    await page.get_by_text("all is well").wait_for()
    assert await page.locator("#dead tbody tr").count() == 1
    await service.unsubscribe()


async def test_what_is_not_there_is_said_so(browser: Browser, site: Site) -> None:
    context = await browser.new_context(base_url=site.url)
    page = await context.new_page()
    for path, status, words in (
        ("/nowhere", 404, "No page has the address /nowhere"),
        ("/trades/999", 404, "There is no trade 999"),
        ("/trades/1e9", 404, "No page has the address"),
        (f"/trades/{10**40}", 404, "No page has the address"),
        ("/actors/0x12", 404, "No page has the address"),
        ("/events/nonsense", 404, "There is no event"),
        ("/events?account=0x12", 422, "does not take '0x12'"),
        ("/events?cursor=x", 422, "no cursor"),
        ("/events?about=pool", 422, "does not take 'pool'"),
        ("/static/../app.py", 404, ""),
        ("/static/%2e%2e/app.py", 404, ""),
    ):
        answer = await page.goto(path)
        assert answer is not None
        assert answer.status == status, path
        assert words in await page.inner_text("main"), path
    await context.close()
