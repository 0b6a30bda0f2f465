"""The API: its answers, its faults, and how it describes itself."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from agorai_shared.trail import Dead

from .listening import until
from .pages_market import market
from .pages_story import CHAIN, WHO
from .pages_world import Site, showing

pytestmark = pytest.mark.asyncio(loop_scope="module")
STORY = market(1_790_000_000)


@dataclass
class Asking:
    """A program that asks the API."""

    site: Site
    session: aiohttp.ClientSession

    async def get(self, path: str, status: int = 200) -> Any:
        async with self.session.get(f"{self.site.url}{path}") as answer:
            assert answer.status == status, await answer.text()
            return await answer.json()

    async def post(self, path: str, status: int = 202, **headers: str) -> Any:
        own = {"Origin": self.site.url, **headers}
        async with self.session.post(f"{self.site.url}{path}", headers=own) as answer:
            assert answer.status == status, await answer.text()
            return await answer.json()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ask(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Asking]:
    async with showing(tmp_path_factory.mktemp("api"), STORY) as site, aiohttp.ClientSession() as session:
        yield Asking(site, session)


PATHS = [
    "/api/overview",
    "/api/resources",
    "/api/resources/3",
    "/api/trades",
    "/api/trades/1",
    "/api/cases",
    "/api/cases/1",
    "/api/pools",
    "/api/pools/1",
    "/api/tasks",
    "/api/tasks/1",
    "/api/actors",
    f"/api/actors/{WHO['eve'].lower()}",
    "/api/events",
    "/api/health",
]


@pytest.mark.parametrize("path", PATHS)
async def test_every_path_answers(ask: Asking, path: str) -> None:
    assert await ask.get(path)


async def test_the_api_describes_itself(ask: Asking) -> None:
    described = (await ask.get("/openapi.json"))["paths"]
    for path in PATHS:
        template = path
        for example in ("/1", "/3", f"/{WHO['eve'].lower()}"):
            template = template.removesuffix(example) if path.endswith(example) else template
        assert any(one == template or one.startswith(f"{template}/{{") for one in described), path


async def test_amounts_are_decimal_text(ask: Asking) -> None:
    pool = await ask.get("/api/pools/1")
    assert pool["bond"] == str(50 * 10**18)
    assert isinstance(pool["balances"][0]["points"][0]["value"], str)


async def test_a_list_is_read_on_with_its_cursor(ask: Asking) -> None:
    first = await ask.get("/api/events?limit=500")
    rest = await ask.get(f"/api/events?limit=500&cursor={first['following']}")
    sequences = [row["sequence"] for row in first["rows"] + rest["rows"]]
    assert sequences == sorted(set(sequences), reverse=True)


async def test_events_of_an_item_are_found(ask: Asking) -> None:
    found = await ask.get("/api/events?kind=trade&id=1")
    assert {row["event"] for row in found["rows"]} >= {"Opened", "Joined", "Fulfilled", "Ended"}


async def test_another_chain_is_not_shown(ask: Asking) -> None:
    problem = await ask.get(f"/api/events?chain={CHAIN + 1}", status=404)
    assert str(CHAIN) in problem["remedy"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/trades/99", 404),
        ("/api/resources/99", 404),
        ("/api/pools/99", 404),
        ("/api/tasks/99", 404),
        ("/api/cases/99", 404),
        ("/api/events/0x0-0/story", 404),
        ("/api/actors/0x0000000000000000000000000000000000000009", 404),
        ("/api/actors/nobody", 422),
        ("/api/trades/-1", 422),
        ("/api/trades/99999999999999999999", 422),
        ("/api/events?limit=0", 422),
        ("/api/events?limit=501", 422),
        ("/api/events?cursor=x", 422),
        ("/api/events?nonsense=1", 422),
        ("/api/trades?cursor=-4", 422),
        ("/api/trades?state=nonsense", 422),
        ("/api/events?kind=pool", 422),
        ("/api/events?id=1", 422),
    ],
)
async def test_a_fault_is_a_problem_document(ask: Asking, path: str, status: int) -> None:
    problem = await ask.get(path, status)
    assert problem["status"] == status
    assert problem["detail"]


async def test_a_pool_shows_its_growth_balances_and_accuracy(ask: Asking) -> None:
    pool = await ask.get("/api/pools/1")
    growth = {curve["name"]: [int(point["value"]) for point in curve["points"]] for curve in pool["growth"]}
    assert growth["added"] == sorted(growth["added"])
    assert growth["accepted"][-1] == pool["row"]["accepted"] > 0
    accuracy = [int(point["value"]) for point in pool["accuracy"][0]["points"]]
    assert accuracy[-1] == pool["row"]["accuracy"]
    last = {curve["name"]: int(curve["points"][-1]["value"]) for curve in pool["balances"]}
    assert last[WHO["eve"]] < 0 < last[WHO["carl"]]


async def test_a_task_shows_rounds_and_who_was_paid(ask: Asking) -> None:
    task = await ask.get("/api/tasks/1")
    accuracies = [one["accuracy"] for one in task["rounds"]]
    assert accuracies == sorted(accuracies)
    (payout,) = [one for one in task["payouts"] if one["stands"]]
    assert sum(int(line["amount"]) for line in payout["lines"]) == int(payout["total"])


async def test_a_trade_shows_who_must_act_and_until_when(ask: Asking) -> None:
    trade = await ask.get("/api/trades/4")
    names = [stage["name"] for stage in trade["stages"]]
    assert names == ["offered", "preparing", "keys", "addresses", "inspecting"]
    assert [stage["done"] for stage in trade["stages"]] == [True, True, True, True, False]
    assert trade["row"]["duty"]["who"]


async def test_a_search_finds_a_resource_by_a_word_of_its_name(ask: Asking) -> None:
    found = await ask.get("/api/resources?text=flowers&kind=model")
    assert found["rows"]
    assert all("flowers" in row["name"] and row["kind"] == "model" for row in found["rows"])
    assert not (await ask.get("/api/resources?text=%25"))["rows"]


async def test_a_service_that_does_not_answer_a_retry_is_named(ask: Asking) -> None:
    letter = await given_up(ask, "3")
    assert letter["item"] == {"kind": "trade", "contract": "FairExchange", "key": "3"}
    problem = await ask.post(f"/api/dead-letters/{letter['id']}/retry", status=503)
    assert "nobody" in problem["detail"]
    await ask.post("/api/dead-letters/999/retry", status=404)
    await ask.post("/api/dead-letters/x/retry", status=422)


async def test_a_dead_letter_about_no_item_cannot_be_retried(ask: Asking) -> None:
    letter = await given_up(ask, "nothing")
    problem = await ask.post(f"/api/dead-letters/{letter['id']}/retry", status=404)
    assert "'nothing'" in problem["detail"]


async def given_up(ask: Asking, key: str) -> Any:
    """Tell of a dead letter, and give it once it is kept."""
    letter = Dead(
        service="nobody",
        protocol="trade",
        contract="FairExchange",
        key=key,
        step="Pay",
        error="no money",
        attempts=5,
        at=time.time(),
    )
    await ask.site.tell(letter)

    def kept(health: Any) -> list[Any]:
        return [one for one in health["dead_letters"] if one["item"]["key"] == key]

    found = await until(ask.session, ask.site.url, "/api/health", lambda health: bool(kept(health)))
    return kept(found)[0]


async def test_an_action_from_another_site_is_refused(ask: Asking) -> None:
    await ask.post("/api/rebuild", status=403, Origin="http://elsewhere.example")


async def test_the_read_model_is_built_anew_on_demand(ask: Asking) -> None:
    before = await ask.get("/api/pools/1")
    await ask.post("/api/rebuild")
    await until(
        ask.session, ask.site.url, "/api/overview", lambda found: not found["projection"]["rebuilding"]
    )
    assert await ask.get("/api/pools/1") == before
