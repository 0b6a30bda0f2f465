"""`agorai trade`, `exchange` and `vote` as people use them: commands against real nodes, with voters of their own."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from pathlib import Path
from string import Formatter
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_asyncio
from typer.testing import CliRunner, Result

from agorai.cli.main import app
from agorai.cli.vote import _about, _case
from agorai.client import Client, Listing
from agorai.demo.exchange import CheatingTrading
from agorai.demo.town import Resident, Town, running
from agorai.devchain import TOKEN
from agorai.exchange import REFUSALS, EventT, TradeRefusedError, explained
from agorai.home import Home
from agorai.store_client import StoreClient
from agorai.trade_refusals import DataUnfitError, NotListedError, PromiseNotKeptError
from agorai.trading import Trading
from agorai.voting import Voting
from agorai_shared.bindings.fair_exchange import FairExchange, Opened, State
from agorai_shared.bindings.voting_panel import (
    Case,
    Config,
    Drawn,
    Phase,
    Seat,
    Verdict,
    Voter,
    VotingPanel,
)
from agorai_shared.chain import ContractRevertError
from agorai_shared.contract import Call
from agorai_shared.deployment import NEEDED, Deployment
from agorai_shared.documents import Metadata
from agorai_shared.negotiation import Limits, LimitsTooShortError, Mode
from agorai_shared.types import Address, Wei
from agorai_trainer.messages import Offer
from agorai_trainer.tasks import TrainingTask
from agorai_trainer.training_refusals import UndegradableError
from tests.trades import VOTERS, csv, model_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("wide")]

PREDICT = Path(__file__).parents[1] / "docs/examples/predict.py"
LIMITS = Limits(t0=60, t1=60, t2=60, t3=60, tb=60)
QUICK = ("--limits", "1m,1m,1m,1m,1m", "--panel-size", 3)


@dataclass
class Market:
    """Everybody's node, a model of alice's and one of bob's, and files of data."""

    folder: Path
    town: Town
    model: Listing
    bobs: int
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

    async def kind_in_table(self, name: str, ask: str) -> str:
        """Give what the table of asks says an ask is about."""
        rows = (await self.said(name, "trade", "asks")).splitlines()
        (row,) = (row for row in rows if ask[:8] in row)
        return row.split("│")[2].strip()

    async def balance(self, name: str) -> float:
        return float((await self.agorai(name, "account", "show"))["balance"])

    @property
    def clients(self) -> dict[str, Client]:
        return self.town.clients

    def trading(self, name: str) -> Trading:
        """Give an SDK that tries models where the nodes have theirs tried: to start a sandbox takes seconds."""
        return Trading(self.clients[name], self.town.sandbox)

    async def list_own(self, name: str, *options: object, accuracy: str = "92%") -> Any:
        """Have alice or bob list their model at 100."""
        model = self.model.id if name == "alice" else self.bobs
        terms = ("--price", 100, "--test-data", self.test, "--accuracy", accuracy, *QUICK, *options)
        return await self.agorai(name, "trade", "list", model, *terms)

    async def agreed(self, *, accuracy: str = "92%", verification: Path | None = None) -> str:
        """Have alice list her model, and bob offer what she asks; gives the ask."""
        await self.list_own("alice", accuracy=accuracy)
        data = verification or self.verification
        ask = ("trade", "ask", self.model.id, "--verification", data)
        assert (await self.agorai("bob", *ask))["state"] == "quoted"  # an offer takes what was quoted last
        asked = await self.agorai("bob", *ask, "--offer", 100)
        assert (asked["state"], asked["price"], asked["kind"]) == ("agreed", 100, "sale")
        return str(asked["ask"])

    async def ask_for_swap(self) -> Any:
        """Have bob, whose model is listed, ask for alice's in its place."""
        ask = ("exchange", "ask", self.model.id, "--give", self.bobs, "--verification", self.verification)
        return await self.agorai("bob", *ask)

    async def swap(self) -> int:
        """Have alice and bob agree on a swap, and alice open it; gives the trade."""
        await self.agorai(
            "alice", "exchange", "list", self.model.id, "--for", f"{self.bobs}={self.verification}"
        )
        asked = await self.ask_for_swap()
        assert (asked["state"], asked["kind"], asked["why"]) == ("agreed", "swap", "")
        return await self.trading("alice").open(asked["ask"])


@dataclass
class Sold:
    """A sale of alice's model to bob that has ended, and what the two made of it."""

    ask: str
    trade: int
    taken: Any
    """By alice, once it had ended."""
    gained: dict[str, float]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sold(market: Market) -> Sold:
    sides = ("alice", "bob")
    for name in sides:
        await market.agorai(name, "account", "withdraw")
    before = {name: await market.balance(name) for name in sides}
    ask = await market.agreed()
    trade = (await market.agorai("alice", "trade", "open", ask[:8]))["trade"]
    await market.agorai("bob", "trade", "show", trade, "--follow")
    taken = await market.agorai("alice", "account", "withdraw")
    await market.agorai("bob", "account", "withdraw")
    return Sold(ask, trade, taken, {name: await market.balance(name) - before[name] for name in sides})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def market(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Market]:
    folder = tmp_path_factory.mktemp("homes")
    test, verification = folder / "test.csv", folder / "verification.csv"
    test.write_bytes(csv(400, 500))
    verification.write_bytes(csv(420, 569))
    residents = [Resident("alice", 2000), Resident("bob", 2000), *(Resident(name, 100) for name in VOTERS)]
    async with running(residents) as town:
        for name, client in town.clients.items():
            (folder / name).mkdir()
            client.info.save(Home(folder / name).node_file)
        alice = town.clients["alice"]
        model = await alice.listing(await model_of(alice))
        bobs = await model_of(town.clients["bob"])
        made = Market(folder, town, model, bobs, test, verification)
        for name in VOTERS:
            await made.agorai(name, "vote", "enlist", 2, "--yes")
        yield made


async def test_a_model_is_sold_by_commands_alone(market: Market, sold: Sold) -> None:
    ended = await market.agorai("bob", "trade", "show", sold.trade)
    assert (ended["outcome"], ended["to_seller"], ended["to_buyer"]) == ("completed", 200, 100)
    assert ended["found"]["model"] == "good"
    assert (ended["role"], ended["seller_accuracy"], ended["left_s"]) == ("buyer", 9_200, None)
    assert "200 to the seller, 100 to the buyer" in await market.said("anna", "trade", "status", sold.trade)
    asks = {one["ask"]: one for one in await market.agorai("bob", "trade", "asks")}
    assert (asks[sold.ask]["state"], asks[sold.ask]["trade"]) == ("opened", sold.trade)
    assert await market.kind_in_table("bob", sold.ask) == asks[sold.ask]["kind"] == "sale"
    assert f"trade show {sold.trade}" in await market.refusal("alice", "trade", "open", sold.ask)
    assert (sold.taken["withdrawn"], sold.taken["from"]) == (200, {"trades": 200})
    assert sold.gained == {"alice": 100, "bob": -100}


async def test_what_was_bought_is_the_sellers_model_with_a_fifth_of_its_test_rows(
    market: Market, sold: Sold, tmp_path: Path
) -> None:
    await market.agorai("bob", "trade", "get", sold.trade, "--to", tmp_path / "bought")
    own = await market.clients["alice"].content(market.model.id)
    assert (tmp_path / "bought" / "model").read_bytes() == own
    header, *rows = (tmp_path / "bought" / "test.csv").read_text().splitlines()
    assert header == market.test.read_text().splitlines()[0]
    assert len(rows) == 20
    assert set(rows) < set(market.test.read_text().splitlines())
    manifest = json.loads((tmp_path / "bought" / "package.json").read_text())
    assert (manifest["resource"], manifest["trade"]["trade"]) == (market.model.id, sold.trade)
    assert "bought/model" in await market.refusal(
        "bob", "trade", "get", sold.trade, "--to", tmp_path / "bought"
    )
    sellers = ("trade", "get", sold.trade, "--to", tmp_path / "sold")
    assert "cannot open the package" in await market.refusal("alice", *sellers)


async def test_a_bought_model_predicts_by_the_example(market: Market, sold: Sold, tmp_path: Path) -> None:
    await market.agorai("bob", "trade", "get", sold.trade, "--to", tmp_path)
    command = [sys.executable, str(PREDICT), str(tmp_path), str(tmp_path / "test.csv")]
    found = await asyncio.to_thread(
        lambda: subprocess.run(command, capture_output=True, text=True, check=False)
    )
    assert found.returncode == 0, found.stderr
    labels = [row.rpartition(",")[2] for row in (tmp_path / "test.csv").read_text().splitlines()[1:]]
    right = sum(one == other for one, other in zip(found.stdout.split(), labels, strict=True))
    assert right >= 0.9 * len(labels)


async def test_a_trade_is_opened_by_its_seller(market: Market) -> None:
    ask = await market.agreed()
    assert "the seller opens it" in await market.refusal("bob", "trade", "open", ask)
    trade = await market.trading("alice").open(ask)
    assert "behind `mine`" in await market.said("alice", "trade", "--json", "mine", status=2)
    mine = {one["trade"]: one for one in await market.agorai("alice", "trade")}
    assert (mine[trade]["role"], mine[trade]["seller_resource"]) == ("seller", market.model.id)
    assert (await market.agorai("bob", "trade", "show", trade, "--follow"))["outcome"] == "completed"


async def test_terms_that_were_not_agreed_on_are_shown_and_wait_for_the_buyers_word(
    market: Market, sold: Sold
) -> None:
    await market.list_own("alice")
    trading = Trading(market.clients["alice"])
    other = replace((await trading.look(sold.trade)).terms, seller_accuracy=9_300)
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
    assert "Lay down 200 tokens, deposit and price?" in asked
    assert "--yes" in await market.refusal("bob", "trade", "accept", trade)
    assert (await market.agorai("bob", "trade", "show", trade))["state"] == "offered"
    assert not (await market.agorai("bob", "trade", "accept", trade, "--yes"))["as_negotiated"]
    assert (await market.agorai("alice", "trade", "show", trade, "--follow"))["outcome"] == "completed"


async def test_two_models_of_one_price_are_swapped_once_the_buyer_accepts(
    market: Market, tmp_path: Path
) -> None:
    await market.list_own("bob")
    await market.list_own("alice")
    trade = await market.swap()
    # what was said once stays when the terms are said anew
    assert [one["resource"] for one in (await market.list_own("alice"))["swaps"]] == [market.bobs]
    assert str(market.bobs) in await market.said("alice", "exchange", "list")
    mine = {one["trade"]: one for one in await market.agorai("bob", "exchange", "mine")}
    assert mine[trade] == {
        "trade": trade, "role": "buyer", "other": market.clients["alice"].address, "give": market.bobs,
        "get": market.model.id, "deposit": 100, "state": "offered", "outcome": None,
    }  # fmt: skip
    asked = await market.said("bob", "exchange", "accept", trade, status=1)
    assert "you have not agreed" not in asked
    assert "Lay down 100 tokens, the deposit?" in asked
    accepted = await market.said("bob", "exchange", "accept", trade, "--yes")
    assert "the model reaches 9" in accepted
    assert "92.00% is promised" in accepted
    ended = await market.agorai("bob", "exchange", "show", trade, "--follow")
    assert (ended["outcome"], ended["to_seller"], ended["to_buyer"]) == ("completed", 100, 100)
    assert (ended["seller_resource"], ended["buyer_resource"]) == (market.model.id, market.bobs)
    assert f"for model {market.bobs}, accuracy 92.00% promised" in await market.said(
        "bob", "trade", "show", trade
    )
    asks = {one["trade"]: one["ask"] for one in await market.agorai("bob", "trade", "asks")}
    assert await market.kind_in_table("bob", asks[trade]) == "swap"
    got = await market.agorai("alice", "trade", "get", trade, "--to", tmp_path / "theirs")
    assert got["resource"] == market.bobs


async def test_what_cannot_be_swapped_is_told_with_the_price_of_a_sale(market: Market) -> None:
    await market.list_own("bob")
    await market.agorai("alice", "trade", "unlist", market.model.id)  # with what it was to be swapped for
    await market.list_own("alice")
    unwanted = await market.ask_for_swap()
    assert (unwanted["state"], unwanted["price"], unwanted["kind"]) == ("quoted", 100, None)
    assert await market.kind_in_table("bob", unwanted["ask"]) == ""
    assert unwanted["why"] == f"its owner does not want model {market.bobs}"

    wish = ("exchange", "list", market.model.id, "--for", f"{market.bobs}={market.verification}")
    await market.agorai("alice", *wish)
    await market.agorai(
        "bob", "trade", "list", market.bobs, "--price", 90, "--test-data", market.test, "--accuracy", "92%"
    )
    dearer = await market.ask_for_swap()
    assert (dearer["state"], dearer["kind"]) == ("quoted", None)
    assert dearer["why"] == f"it costs 100 and model {market.bobs} is listed at 90"
    ask = ("exchange", "ask", market.model.id, "--give", market.bobs, "--verification", market.verification)
    said = await market.said("bob", *ask)
    assert "To buy it costs 100, with a deposit of 100" in said
    assert f"agorai trade ask {market.model.id}" in said

    await market.agorai("bob", "trade", "unlist", market.bobs)
    assert "agorai trade list" in await market.refusal("bob", *ask)
    nothing = await market.said("alice", "exchange", "list", market.model.id, "--for", "7", status=2)
    assert "write it as THEIRS=FILE" in nothing


async def test_a_seller_lays_nothing_down_for_a_promise_that_its_model_does_not_keep(market: Market) -> None:
    ask = await market.agreed(accuracy="100%")
    before = await market.balance("alice")
    with pytest.raises(PromiseNotKeptError) as refused:
        await market.trading("alice").open(ask)
    assert re.search(
        r"an accuracy of 9\d\.\d\d% on the data .* 100\.00% is promised.* lower --accuracy",
        str(refused.value),
    )
    assert await market.balance("alice") == before
    assert (await market.trading("alice").negotiation(ask)).trade == 0
    # what it was tried on is now in the own store, for good
    async with StoreClient.connect(market.clients["alice"].info) as store:
        data = (await market.trading("alice").negotiation(ask)).ask.verification
        assert data in {pin.cid for pin in await store.pins()}


async def test_a_seller_lays_nothing_down_where_the_data_do_not_fit_its_model(
    market: Market, tmp_path: Path
) -> None:
    strange = tmp_path / "strange.csv"
    header, *rows = market.verification.read_text().splitlines()
    strange.write_text("\n".join([header, *(row.rpartition(",")[0] + ",7" for row in rows)]) + "\n")
    ask = await market.agreed(verification=strange)
    before = await market.balance("alice")
    with pytest.raises(
        DataUnfitError, match=r"on the data that the other side chose: .* holds the class '7'"
    ):
        await market.trading("alice").open(ask)
    ask = await market.agreed()
    terms = ("--price", 100, "--test-data", strange, "--accuracy", "92%", *QUICK)
    await market.agorai("alice", "trade", "list", market.model.id, *terms)
    with pytest.raises(DataUnfitError, match=r"on its own test data: .* holds the class '7'"):
        await market.trading("alice").open(ask)
    await market.agorai("alice", "trade", "unlist", market.model.id)
    with pytest.raises(NotListedError):  # no package could be made of it
        await market.trading("alice").open(ask)
    assert await market.balance("alice") == before


async def test_the_buyer_of_a_swap_lays_nothing_down_for_a_promise_that_its_model_does_not_keep(
    market: Market,
) -> None:
    await market.list_own("bob", accuracy="100%")
    await market.list_own("alice")
    trade = await market.swap()
    trading = market.trading("bob")
    with pytest.raises(PromiseNotKeptError, match=r"100\.00% is promised"):
        await trading.accept(trade)
    seen = await trading.look(trade)
    assert seen.trade.state == State.OFFERED
    assert seen.status is not None
    assert not seen.status.agreed


async def test_voters_see_what_they_judged_and_take_out_what_they_earned(market: Market) -> None:
    await market.agorai("anna", "account", "withdraw")
    ask = await market.agreed(accuracy="100%")
    trade = await CheatingTrading(market.clients["alice"]).open(ask)
    ended = await market.agorai("alice", "trade", "show", trade, "--follow")
    assert (ended["outcome"], ended["to_seller"], ended["to_buyer"]) == ("rejected", 0, 280)
    number = ended["dispute"].pop("case")
    assert ended["dispute"] == {
        "accuser": ended["buyer"], "accused": ended["seller"], "phase": "closed",
        "verdict": "rejected", "confirming": 0, "revealed": 3, "size": 3,
    }  # fmt: skip

    shown = await market.agorai("anna", "vote", "show")
    assert (shown["free"], shown["taken"], shown["stake"]) == (2, 0, 20)
    case = {one["case"]: one for one in shown["cases"]}[number]
    assert (case["contract"], case["item"], case["pool"]) == ("FairExchange", trade, None)
    assert (case["vote"], case["verdict"]) == (False, "rejected")
    assert (await market.agorai("anna", "vote", "retire", 2))["free"] == 0
    assert "fewer than 1" in await market.refusal("anna", "vote", "retire", 1)
    taken = await market.agorai("anna", "account", "withdraw")
    assert taken["from"].keys() == {"votes"}
    assert 26.6 < taken["withdrawn"] < 26.7  # two stakes of 10, and a third of a fifth of 100
    await market.agorai("anna", "vote", "enlist", 2, "--yes")


async def test_a_side_of_a_trade_does_not_count_among_its_voters(market: Market) -> None:
    ask = await market.agreed()
    await market.agorai("anna", "vote", "retire", 2)
    await market.agorai("alice", "vote", "enlist", 1, "--yes")
    said = await market.refusal("alice", "trade", "open", ask)
    assert "2 voters besides the two sides could judge a dispute now, and the panel has 3 seats" in said
    await market.agorai("alice", "vote", "retire", 1)
    await market.agorai("anna", "vote", "enlist", 2, "--yes")


async def test_an_offer_says_what_will_be_laid_down_and_warns_who_has_less(market: Market) -> None:
    balance = await market.balance("bob")
    price = balance // 3
    terms = (
        "--price",
        price,
        "--deposit-percent",
        300,
        "--test-data",
        market.test,
        "--accuracy",
        "92%",
        *QUICK,
    )
    await market.agorai("alice", "trade", "list", market.model.id, *terms)
    ask = ("trade", "ask", market.model.id, "--verification", market.verification)
    assert f"you would lay down {4 * price:g}" in await market.said("bob", *ask)
    said = await market.said("bob", *ask, "--offer", price)
    said = " ".join(said.split())
    assert f"your node lays down {4 * price:g}" in said
    assert f"You have {balance:g}: get more" in said


async def test_a_model_is_listed_in_the_papers_mode_if_worse_ones_can_be_made_of_it(market: Market) -> None:
    listed = await market.list_own("alice", "--mode", "paper")
    assert listed["mode"] == "paper"
    assert "paper" in await market.said("alice", "trade", "list")
    ask = ("trade", "ask", market.model.id, "--verification", market.verification)
    assert (await market.agorai("bob", *ask))["state"] == "quoted"
    await market.list_own("bob")
    await market.agorai(
        "alice", "exchange", "list", market.model.id, "--for", f"{market.bobs}={market.verification}"
    )
    other = await market.ask_for_swap()
    assert other["why"] == f"it is listed with --mode paper and model {market.bobs} is not"

    client = market.clients["alice"]
    table = csv(0, 400)
    metadata = market.model.metadata
    assert metadata is not None
    described = Metadata(
        kind="data", name="cells", format="csv", size=len(table), columns=metadata.columns, rows=400,
        target="target", task="classification",
    )  # fmt: skip
    bought = await client.buy(await client.publish(table, described, Offer(name="cells", price=0)))
    task = TrainingTask(estimator="sklearn.KNeighborsClassifier", scaler="standard", target="target", seed=3)
    neighbours = (await client.train(bought.invocation, task, Offer(name="neighbours", price=TOKEN))).resource
    assert neighbours is not None
    trading = market.trading("alice")
    with pytest.raises(UndegradableError, match="No parameters of low quality can be made"):
        await trading.list_model(
            neighbours, csv(400, 500), price=Wei(TOKEN), least=Wei(TOKEN), limits=LIMITS, mode=Mode.PAPER
        )
    assert neighbours not in [one.resource for one in await trading.listings()]


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


async def test_limits_too_short_for_the_chain_are_refused_before_anything_is_listed(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def quarter_of_an_hour() -> (
        int
    ):  # as Ethereum's main network; this chain's blocks are final at once
        return 900

    trading = market.trading("alice")
    listed = await trading.listings()
    monkeypatch.setattr(trading.client.chain, "finality_lag", quarter_of_an_hour)
    hour = LIMITS.model_copy(update=dict.fromkeys(("t0", "t1", "t3", "tb"), 3600))
    short = hour.model_copy(update={"t2": 1799})
    with pytest.raises(LimitsTooShortError, match=r"1799 s.*900 s old.*at least 1800 s"):
        await trading.list_model(
            market.model.id, csv(400, 500), price=Wei(TOKEN), least=Wei(TOKEN), limits=short
        )
    assert await trading.listings() == listed


async def test_what_cannot_be_asked_or_accepted_is_refused_with_its_reason(
    market: Market, sold: Sold, tmp_path: Path
) -> None:
    large = tmp_path / "large.csv"
    large.write_bytes(csv(0, 569) * 12)
    said = await market.refusal("bob", "trade", "ask", market.model.id, "--verification", large)
    assert "at most 1 MiB" in said
    ask = ("trade", "ask", market.model.id, "--verification", market.verification)
    assert "8000 tokens at least are to be laid down" in await market.refusal("bob", *ask, "--offer", 4000)
    said = await market.refusal("bob", "trade", "accept", sold.trade, "--yes")
    assert "it is ended" in said
    assert "is not its buyer" in await market.refusal("anna", "trade", "accept", sold.trade, "--yes")
    assert "no trade 99" in await market.refusal("bob", "trade", "show", 99)
    assert "No negotiations begin" in await market.refusal("bob", "trade", "open", "xyz")


@pytest.mark.parametrize("error", REFUSALS)
async def test_a_refusal_is_one_of_the_contracts_and_told_with_its_values(error: str) -> None:
    errors = {
        found.name: found for abi in (FairExchange.ABI, VotingPanel.ABI) for found in abi.errors.values()
    }
    named = {field for text in REFUSALS[error] for _, field, _, _ in Formatter().parse(text) if field}
    assert named <= {parameter.name for parameter in errors[error].inputs}


ME, STRANGER = Address("0x" + "11" * 20), Address("0x" + "99" * 20)
MARKETPLACE = Deployment(
    chain_id=1,
    start_block=0,
    contracts={name: Address(f"0x{number:040x}") for number, name in enumerate(sorted(NEEDED), 1)},
)


class Seated(Voting):
    """One who was drawn for a case of a trade, of a pool's contribution, and of a contract that nobody knows."""

    def __init__(self) -> None:
        super().__init__(cast("Client", SimpleNamespace(address=ME, deployment=MARKETPLACE)))
        openers = (MARKETPLACE.fair_exchange, MARKETPLACE.data_pool, STRANGER)
        self.cases = {
            number: Case(opener, 4, ME, ME, 0, 0, 0, 3, 1, 3, 0, 0, 0, Phase.COMMITTING, Verdict.PENDING)
            for number, opener in enumerate(openers, 1)
        }

    async def read(self, *calls: Call[Any]) -> tuple[Any, ...]:
        def answer(call: Call[Any]) -> Any:
            match call.function:
                case "caseOf":
                    return self.cases[int.from_bytes(call.data[4:36])]
                case "contributionOf":
                    return SimpleNamespace(pool=10 * int.from_bytes(call.data[4:36]))
                case "seatOf":
                    return Seat.SEATED
                case "voterOf":
                    return Voter(0, 3)
            return Config(TOKEN, 0, 0, 0, 0, 0)

        return tuple(map(answer, calls))

    async def events(self, contract: Address, kind: type[EventT], *topics: str | None) -> list[EventT]:
        ids = self.cases if kind is Drawn else ()
        return [kind.from_args({"id": id_, "voter": ME, "round": 1}) for id_ in ids]


async def test_a_case_says_what_it_is_about() -> None:
    found = [_case(one) for one in (await Seated().judging()).cases]
    assert [(one["contract"], one["item"], one["pool"]) for one in found] == [
        (STRANGER, 4, None),
        ("DataPool", 4, 40),
        ("FairExchange", 4, None),
    ]
    assert [_about(one) for one in found] == [
        f"item 4 of {STRANGER}",
        "contribution 4 of pool 40",
        "trade 4",
    ]


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
