"""Takes the pictures of the documentation: `python -m services.dashboard.tests.screenshots` from the root.

They show the same market each time but for the days, which count back from today.
"""

from __future__ import annotations

import asyncio
import io
import tempfile
import time
from pathlib import Path
from typing import Final

from aiohttp import ClientSession
from PIL import Image
from playwright.async_api import Browser, Page

from agorai_shared.trail import Dead, Sent, Step

from .listening import until
from .pages_market import market
from .pages_world import ME, Site, browsing, showing

IMAGES: Final = Path(__file__).parents[3] / "docs" / "images"
MOST_BYTES: Final = 150_000
SHOTS: Final = (
    ("overview", "/", "light", 1280, 900),
    ("overview-dark", "/", "dark", 1280, 900),
    ("market", "/market/9", "light", 1280, 860),
    ("trade", "/trades/4", "light", 1280, 820),
    ("trade-dark", "/trades/3", "dark", 1280, 820),
    ("pool", "/pools/1", "light", 1280, 1080),
    ("pool-dark", "/pools/1", "dark", 1280, 1080),
    ("task", "/tasks/1", "light", 1280, 1180),
    ("task-dark", "/tasks/1", "dark", 1280, 760),
    ("node", "/node", "light", 1280, 700),
    ("phone", "/", "light", 390, 844),
    ("phone-dark", "/pools/1", "dark", 390, 844),
)
"""Name, page, colours, width and height."""


async def main() -> None:
    """Take all."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        async with showing(Path(folder), market(int(time.time()))) as site, browsing() as browser:
            story = await tell(site)
            for name, path, scheme, width, height in (*SHOTS, ("story", story, "light", 1280, 600)):
                await shoot(browser, site.url, name, path, scheme, width, height)


async def tell(site: Site) -> str:
    """Have this node's services tell of some work; gives the page of an event that has a whole story."""
    told = [one for one in site.story.events() if one.contract == "FairExchange" and one.key == "4"]
    advanced = [one for one in told if one.event == "Advanced"]
    by_me = [one for one in told if one.event == "Fulfilled" and one.args["by"] == ME]
    names = ("hand over the package's address", "hand over a key", "make the package")
    for number, (begun, answer) in enumerate(zip(advanced, by_me, strict=False)):
        once = f"step {number}"
        await site.tell(
            Step(
                service="vault",
                protocol="trade",
                contract="FairExchange",
                key="4",
                step=names[-1 - number],
                outcome="ok",
                error=None,
                once=once,
                at=begun.block_time + 4,
                seconds=0.41,
                trace="ab" * 16,
            )
        )
        await site.tell(Sent(once=once, transaction_hash=answer.transaction_hash, at=answer.block_time - 2))
    for number in range(24):
        await site.tell(
            Step(
                service=("vault", "trainer", "verifier")[number % 3],
                protocol="invocation",
                contract="Invocation",
                key="60",
                step="deliver",
                outcome="ok",
                error=None,
                once=f"other {number}",
                at=time.time() - 60 * number,
                seconds=0.2 + number % 3,
                trace="cd" * 16,
            )
        )
    await site.tell(
        Dead(
            service="trainer",
            protocol="job",
            contract="Invocation",
            key="58",
            step="train",
            attempts=8,
            error="The data set could not be fetched: http://dino.example:8080 did not answer within 30 s.",
            at=time.time() - 900,
        )
    )
    async with ClientSession() as session:  # what is told last is kept last
        await until(session, site.url, "/api/health", lambda health: bool(health["dead_letters"]))
    return f"/events/{advanced[0].transaction_hash}-{advanced[0].log_index}"


async def shoot(
    browser: Browser, url: str, name: str, path: str, scheme: str, width: int, height: int
) -> None:
    """Take one, in no more colours than are told apart."""
    context = await browser.new_context(
        base_url=url,
        color_scheme=scheme,  # type: ignore[arg-type]
        viewport={"width": width, "height": height},
        reduced_motion="reduce",
    )
    page: Page = await context.new_page()
    await page.goto(path)
    await page.wait_for_selector(".link-state.open", state="attached")
    await page.evaluate("document.fonts.ready")
    taken = Image.open(io.BytesIO(await page.screenshot()))
    await context.close()
    kept = IMAGES / f"{name}.png"
    taken.convert("RGB").quantize(256, kmeans=3, dither=Image.Dither.NONE).save(kept, optimize=True)
    if kept.stat().st_size >= MOST_BYTES:
        raise ValueError(f"{kept} has {kept.stat().st_size:,} bytes")


if __name__ == "__main__":
    asyncio.run(main())
