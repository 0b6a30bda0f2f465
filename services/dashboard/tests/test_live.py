"""Server-sent events: who is told what, and when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from nats.aio.client import Client

from agorai_dashboard import live
from agorai_dashboard.views import Item
from agorai_shared.events import Phase

from .guarded import VIEWER, signed
from .listening import Told, listening
from .pages_market import market
from .pages_story import CHAIN, PLACE, STRANGER, WHO, World, joined, registered, step
from .pages_world import Site, showing

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with showing(tmp_path_factory.mktemp("live"), market(1_790_000_000), readers=3) as found:
        yield found


@asynccontextmanager
async def reading(site: Site, **query: str) -> AsyncIterator[Told]:
    """Read a live connection's events as somebody of whom nothing is known."""
    async with aiohttp.ClientSession() as session, listening(session, site.url, **query) as told:
        yield told


async def test_a_head_event_is_told_with_what_it_is_about(site: Site) -> None:
    async with reading(site) as told:
        event = registered(300_000, 90)
        await site.happen(event, Phase.head)
        name, change = await anext(told)
    assert name == "change"
    assert change["phase"] == "head"
    assert change["contract"] == "Registry"
    assert ["Registry", "90"] in change["related"]
    assert (change["transaction_hash"], change["log_index"]) == (event.transaction_hash, event.log_index)
    assert change["block"] == 300_000


async def test_a_final_event_is_told_once_the_api_has_it(site: Site) -> None:
    async with reading(site, phase="final") as told, aiohttp.ClientSession() as session:
        await site.happen(registered(300_001, 91), Phase.final)
        _, change = await anext(told)
        assert change["key"] == "91"
        async with session.get(f"{site.url}/api/resources/91") as answer:
            assert answer.status == 200


async def test_what_was_taken_back_is_told(site: Site) -> None:
    async with reading(site) as told:
        await site.happen(registered(300_002, 92), Phase.retracted)
        _, change = await anext(told)
    assert change["phase"] == "retracted"


@pytest.mark.parametrize(
    "query",
    [
        {"event": "Joined"},
        {"contract": "Registry", "event": "Joined"},
        {"account": WHO["eve"].lower()},
        {"phase": "retracted"},
        {"key": "no such"},
    ],
)
async def test_a_filter_leaves_out_what_is_not_wanted(site: Site, query: dict[str, str]) -> None:
    told_of = step()
    async with reading(site, **query) as told:
        await site.happen(registered(300_003, 93), Phase.head)
        await site.tell(told_of)
        name, said = await anext(told)
    assert (name, said["step"]) == ("step", "Pay")


async def test_a_filter_lets_pass_what_is_wanted(site: Site) -> None:
    async with reading(site, contract="Registry", event="Joined") as told:
        await site.happen(registered(300_004, 94), Phase.head)
        await site.happen(joined(300_004, "http://a.example"), Phase.head)
        _, change = await anext(told)
    assert change["event"] == "Joined"


async def test_more_readers_than_allowed_are_told_to_wait(site: Site) -> None:
    async with (
        reading(site),
        reading(site),
        reading(site),
        aiohttp.ClientSession() as session,
        session.get(f"{site.url}/live") as answer,
    ):
        assert answer.status == 503
        assert "AGORAI_DASHBOARD_READERS" in (await answer.json())["remedy"]
        assert "Retry-After" in answer.headers


async def test_a_seat_is_free_again_when_its_reader_leaves(site: Site) -> None:
    for _ in range(8):
        async with reading(site) as told:
            await site.happen(registered(300_005, 95), Phase.head)
            await anext(told)


@pytest.mark.parametrize("query", ["account=0x12", "phase=maybe", "nonsense=1"])
async def test_a_malformed_filter_is_refused(site: Site, query: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{site.url}/live?{query}") as answer:
        assert answer.status == 422
        assert answer.content_type == "application/problem+json"


async def test_another_contract_of_a_known_name_stops_nothing(site: Site) -> None:
    event = replace(
        registered(300_006, 96), contract="VotingPanel", event="Drawn", key=str(2**255), address=STRANGER
    )
    async with reading(site) as told:
        await site.happen(event, Phase.head)
        _, change = await anext(told)
    assert (change["key"], change["related"]) == (str(2**255), [])


@pytest.mark.parametrize("silent", [False, True])
async def test_who_signs_out_is_told_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    monkeypatch.setattr(live, "PING_S", 0.5 if silent else 60)
    async with (
        showing(tmp_path, World(0), public_url="http://market.example", viewers=VIEWER.address) as site,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
    ):
        own = {"Host": "market.example", "Origin": "http://market.example"}
        asked = {"address": VIEWER.address}
        async with session.get(f"{site.url}/sign-in/message", params=asked, headers=own) as answer:
            message = (await answer.json())["message"]
        proof = {"message": message, "signature": signed(message, VIEWER)}
        async with session.post(
            f"{site.url}/sign-in", data=proof, headers=own, allow_redirects=False
        ) as answer:
            own["Cookie"] = "; ".join(f"{one.key}={one.value}" for one in answer.cookies.values())
        async with session.get(f"{site.url}/live", headers=own) as reader:
            assert (await reader.content.readline()).startswith(b":")
            await site.happen(registered(300_007, 97), Phase.head)
            while b'"97"' not in await reader.content.readline():
                pass
            async with session.post(f"{site.url}/sign-out", headers=own, allow_redirects=False) as answer:
                assert answer.status == 303
            if not silent:
                await site.happen(registered(300_008, 98), Phase.head)
            rest = await reader.content.read()
    assert b'"98"' not in rest


async def test_what_came_at_once_is_told_once_it_is_all_there() -> None:
    async def client() -> Client:
        raise AssertionError("nobody listens")

    async def about(_case: str) -> Item | None:
        raise AssertionError("no case")

    told = live.Live(CHAIN, PLACE, client, about, 1)
    reader = live._Reader(live.LiveQuery())
    told._readers.add(reader)
    event = registered(300_009, 99)
    for events, more in (([event], True), ([event], True), ([event], False), ([], False)):
        await told.projected(events, more)
    assert [reader.pieces.get_nowait() for _ in range(reader.pieces.qsize())] == [live.RELOAD]
    await told.projected([event], more=False)
    assert reader.pieces.get_nowait() != live.RELOAD


async def test_a_reader_that_is_behind_is_told_to_reload() -> None:
    reader = live._Reader(live.LiveQuery())
    for number in range(live.MOST_WAITING + 1):
        reader.tell(b"%d" % number)
    assert reader.pieces.get_nowait() == live.RELOAD
    assert reader.pieces.empty()
