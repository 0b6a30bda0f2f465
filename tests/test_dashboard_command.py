"""The dashboard that `agorai up` brings, and the command's verbs about it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.nodes import Node, agorai, stop, up


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    started = up(
        tmp_path_factory.mktemp("dashboard") / "home",
        dashboard=True,
        AGORAI_DASHBOARD_VIEWERS="0x1111111111111111111111111111111111111111",
    )
    yield started
    assert stop(started) == 0


@pytest.fixture(scope="module")
def url(node: Node) -> str:
    return str(node.agorai("dashboard")["url"])


def test_it_has_an_origin_of_its_own_and_keeps_its_port(node: Node, url: str) -> None:
    info = json.loads((node.home / "node.json").read_text())
    assert info["dashboard_url"] == url
    assert urlsplit(url).port not in (urlsplit(info["url"]).port, urlsplit(info["hub_url"]).port)
    assert json.loads((node.home / "ports.json").read_text())["dashboard"] == urlsplit(url).port
    assert node.agorai("status")["dashboard"] == url


async def test_the_nodes_account_signs_in_by_a_link_and_is_the_operator(node: Node, url: str) -> None:
    link = node.agorai("dashboard", "sign-in", url)["url"]
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as browser:
        async with browser.get(f"{url}/api/overview") as answer:
            assert answer.status == 401
        async with browser.get(link) as answer:
            assert answer.status == 200
        async with browser.get(f"{url}/api/overview") as answer:
            assert answer.status == 200
        async with browser.post(f"{url}/api/rebuild", headers={"Origin": url}) as answer:
            assert answer.status == 202
        async with browser.post(f"{url}/api/rebuild", headers={"Origin": "http://evil.example"}) as answer:
            assert answer.status == 403


@pytest.mark.parametrize("arguments", [(), ("--from-chain",)])
async def test_what_it_shows_is_built_anew_and_is_the_same(
    node: Node, url: str, arguments: tuple[str, ...]
) -> None:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        async with browser.get(node.agorai("dashboard", "sign-in", url)["url"]) as answer:
            assert answer.status == 200
        before = await events(browser, url)
        assert before
        async with browser.get(f"{url}/live") as live:
            assert (await live.content.readline()).startswith(b": here")
            asked = await asyncio.to_thread(node.agorai, "dashboard", "rebuild", *arguments)
            assert asked["url"] == url
            while await rebuilding(browser, url) or len(await events(browser, url)) < len(before):
                while not (await live.content.readline()).startswith(b"event: "):
                    pass
        assert await events(browser, url) == before


async def rebuilding(browser: aiohttp.ClientSession, url: str) -> bool:
    async with browser.get(f"{url}/api/overview") as answer:
        return bool((await answer.json())["projection"]["rebuilding"])


async def events(browser: aiohttp.ClientSession, url: str) -> list[object]:
    async with browser.get(f"{url}/api/events") as answer:
        found = await answer.json()
    return [(one["block"], one["log_index"], one["event"]) for one in found["rows"]]


def test_a_page_that_wants_a_sign_in_elsewhere_signed_gets_nothing(node: Node) -> None:
    info = json.loads((node.home / "node.json").read_text())
    refused = node.agorai("dashboard", "sign-in", info["url"], status=1)
    assert refused["error"]["title"] == "Not Found"
    assert (
        "address of a dashboard" in node.agorai("dashboard", "sign-in", "market", status=1)["error"]["detail"]
    )


def test_the_doctor_finds_nothing_wrong_with_a_node_that_runs(node: Node) -> None:
    found = node.agorai("doctor")
    assert found["well"] is True
    assert {one["area"] for one in found["findings"] if one["level"] == "ok"} >= {
        *("versions", "keys", "disk", "chain", "clock", "bus", "store", "node", "dashboard", "hub")
    }
    assert [one for one in found["findings"] if one["level"] != "ok"] == []


def test_where_none_runs_the_command_says_so(tmp_path: Path) -> None:
    refused = agorai(tmp_path, "dashboard", "--json")
    assert refused.returncode == 1
    assert "No node runs" in refused.stdout
