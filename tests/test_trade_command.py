"""`agorai trade` and `agorai vote` as people use them: commands against real nodes, with voters of their own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from string import Formatter
from typing import Any

import pytest
import pytest_asyncio
from typer.testing import CliRunner, Result

from agorai.cli import output
from agorai.cli.main import app
from agorai.client import Client, Listing
from agorai.demo.town import Resident, running
from agorai.exchange import REFUSALS, TradeRefusedError, explained
from agorai.home import Home
from agorai.trading import Trading
from agorai_shared.bindings.fair_exchange import FairExchange, Opened
from agorai_shared.bindings.voting_panel import VotingPanel
from agorai_shared.chain import ContractRevertError
from tests.test_trades import csv, model_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

VOTERS = ("anna", "boris", "clara")
QUICK = ("--limits", "1m,1m,1m,1m,1m", "--panel-size", 3)


@dataclass
class Market:
    """Everybody's node, a model of alice's, and files of data."""

    folder: Path
    clients: dict[str, Client]
    model: Listing
    test: Path
    verification: Path

    async def run(self, name: str, *arguments: object) -> Result:
        """Run a command in a thread: a process of its own would take a second more."""
        environment = {"AGORAI_HOME": str(self.folder / name)}
        return await asyncio.to_thread(CliRunner().invoke, app, list(map(str, arguments)), env=environment)

    async def agorai(self, name: str, *arguments: object, status: int = 0) -> Any:
        found = await self.run(name, *arguments, "--json")
        assert found.exit_code == status, found.output
        return json.loads(found.stdout)

    async def refusal(self, name: str, *arguments: object) -> str:
        error = (await self.agorai(name, *arguments, status=1))["error"]
        return f"{error['detail']} {error['remedy']}"

    async def said(self, name: str, *arguments: object, status: int = 0) -> str:
        found = await self.run(name, *arguments)
        assert found.exit_code == status, found.output
        return found.output

    async def balance(self, name: str) -> float:
        return float((await self.agorai(name, "account", "show"))["balance"])

    async def agreed(self, *, accuracy: str) -> str:
        """Have alice list her model, and bob offer what she asks; gives the ask."""
        terms = ("--price", 100, "--test-data", self.test, "--accuracy", accuracy, *QUICK)
        await self.agorai("alice", "trade", "list", self.model.id, *terms)
        asked = await self.agorai(
            "bob", "trade", "ask", self.model.id, "--verification", self.verification, "--offer", 100
        )
        assert (asked["state"], asked["price"], asked["kind"]) == ("agreed", 100, "sale")
        return str(asked["ask"])


@pytest.fixture(scope="module", autouse=True)
def _wide() -> Iterator[None]:
    """Let tables be as wide as they like, whatever the console was when the command was first loaded."""
    consoles = (output.out, output.err)
    before = [console.width for console in consoles]
    for console in consoles:
        console.width = 200
    yield
    for console, width in zip(consoles, before, strict=True):
        console.width = width


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def market(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Market]:
    folder = tmp_path_factory.mktemp("homes")
    test, verification = folder / "test.csv", folder / "verification.csv"
    test.write_bytes(csv(400, 500))
    verification.write_bytes(csv(420, 569))
    residents = [Resident("alice", 1000), Resident("bob", 1000), *(Resident(name, 100) for name in VOTERS)]
    async with running(residents) as town:
        for name, client in town.clients.items():
            (folder / name).mkdir()
            client.info.save(Home(folder / name).node_file)
        alice = town.clients["alice"]
        model = await alice.listing(await model_of(alice))
        made = Market(folder, town.clients, model, test, verification)
        for name in VOTERS:
            await made.agorai(name, "vote", "enlist", 2)
        yield made


async def test_a_model_is_sold_by_commands_alone(market: Market, tmp_path: Path) -> None:
    before = {name: await market.balance(name) for name in ("alice", "bob")}
    ask = await market.agreed(accuracy="92%")
    trade = (await market.agorai("alice", "trade", "open", ask[:8]))["trade"]
    ended = await market.agorai("bob", "trade", "show", trade, "--follow")
    assert (ended["outcome"], ended["to_seller"], ended["to_buyer"]) == ("completed", 200, 100)
    assert ended["found"]["model"] == "good"
    assert (ended["role"], ended["seller_accuracy"], ended["left_s"]) == ("buyer", 9_200, None)
    assert "200 to the seller, 100 to the buyer" in await market.said("anna", "trade", "status", trade)
    (asked, *_) = await market.agorai("bob", "trade", "asks")
    assert (asked["ask"], asked["state"], asked["trade"]) == (ask, "opened", trade)

    await market.agorai("bob", "trade", "get", trade, "--to", tmp_path / "bought")
    client = market.clients["alice"]
    own = await client.content(market.model.id)
    assert (tmp_path / "bought" / "model").read_bytes() == own
    header, *rows = (tmp_path / "bought" / "test.csv").read_text().splitlines()
    assert header == market.test.read_text().splitlines()[0]
    assert len(rows) == 20
    assert set(rows) < set(market.test.read_text().splitlines())
    manifest = json.loads((tmp_path / "bought" / "package.json").read_text())
    assert (manifest["resource"], manifest["trade"]["trade"]) == (market.model.id, trade)
    assert "bought/model" in await market.refusal("bob", "trade", "get", trade, "--to", tmp_path / "bought")

    assert (await market.agorai("alice", "account", "show"))["credit"] == 200
    taken = await market.agorai("alice", "account", "withdraw")
    assert (taken["withdrawn"], taken["from"]) == (200, {"trades": 200})
    assert await market.balance("alice") == before["alice"] + 100
    await market.agorai("bob", "account", "withdraw")
    assert await market.balance("bob") == before["bob"] - 100


async def test_a_trade_is_opened_once_and_by_its_seller(market: Market) -> None:
    ask = await market.agreed(accuracy="92%")
    assert "the seller opens it" in await market.refusal("bob", "trade", "open", ask)
    trade = (await market.agorai("alice", "trade", "open", ask))["trade"]
    assert f"trade show {trade}" in await market.refusal("alice", "trade", "open", ask)
    assert "behind `mine`" in await market.said("alice", "trade", "--json", "mine", status=2)
    (newest, *_) = await market.agorai("alice", "trade")
    assert (newest["trade"], newest["role"], newest["seller_resource"]) == (trade, "seller", market.model.id)


async def test_terms_that_were_not_agreed_on_are_shown_and_wait_for_the_buyers_word(market: Market) -> None:
    trading = Trading(market.clients["alice"])
    other = replace((await trading.look(1)).terms, seller_accuracy=9_300)
    transaction = await trading.send(trading.exchange.open(other))
    trade = (await market.clients["alice"].market.emitted(transaction, Opened)).id
    found = await market.agorai("bob", "trade", "show", trade)
    assert (found["state"], found["awaited"], found["found"]["agreed"]) == (
        "offered",
        ["the buyer accepts"],
        False,
    )
    assert 0 < found["left_s"] <= 60
    asked = await market.said("bob", "trade", "accept", trade, status=1)
    assert "you have not agreed on these terms" in asked
    assert "93.00% promised" in asked
    assert "Lay down 200 tokens" in asked
    assert "--yes" in await market.refusal("bob", "trade", "accept", trade)
    assert (await market.agorai("bob", "trade", "show", trade))["state"] == "offered"
    assert not (await market.agorai("bob", "trade", "accept", trade, "--yes"))["as_negotiated"]
    assert (await market.agorai("alice", "trade", "show", trade, "--follow"))["outcome"] == "completed"


async def test_two_models_of_one_price_are_swapped(market: Market, tmp_path: Path) -> None:
    theirs = await model_of(market.clients["bob"])
    terms = ("--price", 100, "--test-data", market.test, "--accuracy", "92%", *QUICK)
    await market.agorai("bob", "trade", "list", theirs, *terms)
    swap = ("--swap-for", f"{theirs}={market.verification}")
    listed = await market.agorai("alice", "trade", "list", market.model.id, *terms, *swap)
    assert [one["resource"] for one in listed["swaps"]] == [theirs]
    ask = ("trade", "ask", market.model.id, "--verification", market.verification)
    asked = await market.agorai("bob", *ask, "--offer", 100, "--have", theirs)
    assert (asked["state"], asked["kind"]) == ("agreed", "swap")
    trade = (await market.agorai("alice", "trade", "open", asked["ask"]))["trade"]
    ended = await market.agorai("bob", "trade", "show", trade, "--follow")
    assert (ended["outcome"], ended["to_seller"], ended["to_buyer"]) == ("completed", 100, 100)
    assert (ended["seller_resource"], ended["buyer_resource"]) == (market.model.id, theirs)
    assert f"for model {theirs}, accuracy 92.00% promised" in await market.said("bob", "trade", "show", trade)
    got = await market.agorai("alice", "trade", "get", trade, "--to", tmp_path / "theirs")
    assert got["resource"] == theirs
    for name in ("alice", "bob"):
        await market.agorai(name, "account", "withdraw")


async def test_voters_see_what_they_judged_and_take_out_what_they_earned(market: Market) -> None:
    ask = await market.agreed(accuracy="100%")
    trade = (await market.agorai("alice", "trade", "open", ask))["trade"]
    ended = await market.agorai("alice", "trade", "show", trade, "--follow")
    assert (ended["outcome"], ended["to_seller"], ended["to_buyer"]) == ("rejected", 0, 280)
    assert ended["dispute"] == {
        "case": 1, "accuser": ended["buyer"], "accused": ended["seller"], "phase": "closed",
        "verdict": "rejected", "confirming": 0, "revealed": 3, "size": 3,
    }  # fmt: skip

    shown = await market.agorai("anna", "vote", "show")
    assert (shown["free"], shown["taken"], shown["stake"]) == (2, 0, 20)
    (case,) = shown["cases"]
    assert (case["trade"], case["vote"], case["verdict"]) == (trade, False, "rejected")
    assert (await market.agorai("anna", "vote", "retire", 2))["free"] == 0
    assert "fewer than 1" in await market.refusal("anna", "vote", "retire", 1)
    taken = await market.agorai("anna", "account", "withdraw")
    assert taken["from"].keys() == {"votes"}
    assert 26.6 < taken["withdrawn"] < 26.7  # two stakes of 10, and a third of a fifth of 100

    refused = await market.agreed(accuracy="92%")
    said = await market.refusal("alice", "trade", "open", refused)
    assert "2 voters could judge a dispute now, and the panel has 3 seats" in said
    await market.agorai("anna", "vote", "enlist", 2)


async def test_the_accuracy_promised_is_the_trainers_by_default_and_listings_end(market: Market) -> None:
    model, metadata = market.model.id, market.model.metadata
    assert metadata is not None
    assert metadata.evaluation is not None
    assert metadata.evaluation.accuracy is not None
    listed = await market.agorai(
        "alice", "trade", "list", model, "--price", 10, "--least", 8, "--test-data", market.test
    )
    assert listed["accuracy"] == int(metadata.evaluation.accuracy * 10_000)
    assert listed["limits"] == {"t0": 3600, "t1": 3600, "t2": 3600, "t3": 3600, "tb": 86_400}
    assert await market.agorai("alice", "trade", "list") == [listed]
    said = await market.said("alice", "trade", "list", model, "--price", 10, "--test-data", market.test)
    assert f"Model {model} is listed at 10, accuracy {listed['accuracy'] / 100:.2f}% promised" in said
    assert "1h 1h 1h 1h 1d" in await market.said("alice", "trade", "list")
    await market.agorai(
        "alice", "trade", "list", model, "--price", 10, "--least", 8, "--test-data", market.test
    )
    ask = ("trade", "ask", model, "--verification", market.verification)
    assert (await market.agorai("bob", *ask))["price"] == 10
    assert "below the least price" in (await market.agorai("bob", *ask, "--offer", 7))["why"]
    await market.agorai("alice", "trade", "unlist", model)
    assert await market.agorai("alice", "trade", "list") == []
    assert "not for sale" in await market.said("bob", *ask)


async def test_what_cannot_be_listed_is_refused_with_its_reason(market: Market, tmp_path: Path) -> None:
    terms = ("--price", 10, "--test-data", market.test)
    listing = ("trade", "list", market.model.id)
    assert "above 90%" in await market.refusal("alice", *listing, *terms, "--accuracy", "90%")
    assert "least price is above" in await market.refusal("alice", *listing, *terms, "--least", 11)
    assert "not this node's own" in await market.refusal("bob", *listing, *terms)
    assert "it is a data set" in await market.refusal("alice", "trade", "list", 1, *terms)
    short = tmp_path / "short.csv"
    short.write_text("f0,f1\n1,2\n")
    assert "f2" in await market.refusal("alice", *listing, "--price", 10, "--test-data", short)
    absent = ("--price", 1, "--test-data", tmp_path / "absent.csv")
    assert "does not exist" in await market.said("alice", *listing, *absent, status=2)
    assert "five times" in await market.said("alice", *listing, *terms, "--limits", "1h,1h", status=2)


async def test_what_cannot_be_asked_or_accepted_is_refused_with_its_reason(
    market: Market, tmp_path: Path
) -> None:
    large = tmp_path / "large.csv"
    large.write_bytes(csv(0, 569) * 12)
    said = await market.refusal("bob", "trade", "ask", market.model.id, "--verification", large)
    assert "at most 1 MiB" in said
    ask = ("trade", "ask", market.model.id, "--verification", market.verification)
    assert "4000 tokens are to be laid down" in await market.refusal("bob", *ask, "--offer", 2000)
    said = await market.refusal("bob", "trade", "accept", 1, "--yes")
    assert "it is ended" in said
    assert "is not its buyer" in await market.refusal("anna", "trade", "accept", 1, "--yes")
    assert "no trade 99" in await market.refusal("bob", "trade", "show", 99)
    assert "No negotiations begin" in await market.refusal("bob", "trade", "open", "abc")
    assert "cannot open the package" in await market.refusal(
        "alice", "trade", "get", 1, "--to", tmp_path / "sold"
    )


@pytest.mark.parametrize("error", REFUSALS)
async def test_a_refusal_is_one_of_the_contracts_and_told_with_its_values(error: str) -> None:
    errors = {
        found.name: found for abi in (FairExchange.ABI, VotingPanel.ABI) for found in abi.errors.values()
    }
    named = {field for text in REFUSALS[error] for _, field, _, _ in Formatter().parse(text) if field}
    assert named <= {parameter.name for parameter in errors[error].inputs}


async def test_amounts_and_times_of_a_refusal_are_read_as_people_write_them() -> None:
    blocked = "FairExchange_Blocked(account=0xA, until=1767225600)"
    with (
        pytest.raises(TradeRefusedError, match=r"0xA .* is blocked until 2026-01-01 00:00:00 UTC"),
        explained(),
    ):
        raise ContractRevertError("FairExchange", "open", blocked)
    low = f"FairExchange_BonusTooSmall(bonus={10**17}, least={3 * 10**17})"
    with pytest.raises(TradeRefusedError, match=r"would be 0\.1; for this panel it is 0\.3"), explained():
        raise ContractRevertError("FairExchange", "open", low)
    with pytest.raises(ContractRevertError, match="Registry_Withdrawn"), explained():
        raise ContractRevertError("Registry", "quote", "Registry_Withdrawn(id=1)")
