"""The `agorai` command as a person uses it: two nodes of one machine, each its own process."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from rich.console import Console
from sklearn.datasets import load_iris

from agorai.cli.account import _account, exact
from agorai.client import Balances, Client
from agorai.devchain import TOKEN
from agorai.exchange import Contracts
from agorai.home import Home
from agorai.rights import usable_right
from agorai.trading import Trading
from agorai.voting import Voting
from agorai_shared.bindings.data_pool import DataPool, Opened, Terms
from agorai_shared.bindings.invocation import Item, Paid, State
from agorai_shared.deployment import NEEDED
from agorai_shared.rpc import Rpc
from agorai_shared.testing import running_anvil
from agorai_shared.types import Address, InvocationId, ResourceId, Wei
from tests.nodes import AGORAI, Node, agorai, stop, up

TASK = """
estimator = "sklearn.LogisticRegression"
target = "species"
seed = 1
[hyperparameters]
C = 2.0
"""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    folder = tmp_path_factory.mktemp("homes")
    seller = up(folder / "seller", "--name", "seller", begin=subprocess.Popen)
    try:
        buyer = up(folder / "buyer", "--name", "buyer", "--join", folder / "seller")
        try:
            yield seller, buyer
        finally:
            assert stop(buyer) == 0
    finally:
        assert stop(seller) == 0


@pytest.fixture(scope="module")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bunch = load_iris(as_frame=True)
    table = bunch.data.assign(species=[str(bunch.target_names[code]) for code in bunch.target])
    path = tmp_path_factory.mktemp("tables") / "flowers.csv"
    table.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def model(nodes: tuple[Node, Node], flowers: Path) -> int:
    """The buyer trained it on the seller's data."""
    seller, buyer = nodes
    data = seller.agorai("publish", "data", flowers, "--target", "species", "--price", 5)
    task = flowers.with_name("task.toml")
    task.write_text(TASK)
    trained = buyer.agorai("train", data["resource"], "--task", task, "--name", "flowers", "--price", 10)
    assert trained["accuracy"] > 0.9
    return int(trained["resource"])


def test_a_model_is_bought_and_predicts_on_a_file_of_ones_own(
    nodes: tuple[Node, Node], flowers: Path, model: int, tmp_path: Path
) -> None:
    seller, _ = nodes
    table = tmp_path / "mine.csv"
    lines = flowers.read_text().splitlines()
    table.write_text("\n".join(line.rsplit(",", 1)[0] for line in (lines[0], lines[1], lines[-1])))
    found = seller.agorai("invoke", model, table)
    assert (found["predictions"], found["bought"]) == (["setosa", "virginica"], True)
    written = tmp_path / "out.csv"
    seller.agorai("invoke", model, table, "--invocation", found["invocation"], "--output", written)
    assert written.read_text().split() == ["species", "setosa", "virginica"]
    before = seller.agorai("account", "show")["balance"]
    again = agorai(seller.home, "invoke", model, table)
    assert again.stdout.split() == ["species", "setosa", "virginica"]
    said = " ".join(again.stderr.split())
    assert f"Invocation {found['invocation']} gives the right to it and is used; nothing is paid." in said
    assert f"agorai buy {model}" in said
    assert seller.agorai("account", "show")["balance"] == before


def test_what_is_bought_is_told_with_the_command_that_uses_it(
    nodes: tuple[Node, Node], flowers: Path, model: int, tmp_path: Path
) -> None:
    seller, buyer = nodes
    counted = seller.agorai("publish", "data", flowers, "--target", "species", "--uses", 1)["resource"]
    bought = buyer.agorai("buy", counted)
    assert bought["next"].startswith(f"agorai train {counted} --task TASK.toml")
    task = tmp_path / "task.toml"
    task.write_text(TASK)
    offered = ("--task", task, "--name", "counted", "--price", 1)
    first = buyer.agorai("train", counted, *offered)
    assert (first["invocation"], first["bought"]) == (bought["invocation"], False)
    second = buyer.agorai("train", counted, *offered)  # that right is used up
    assert (second["invocation"] > first["invocation"], second["bought"]) == (True, True)
    right = agorai(buyer.home, "buy", first["resource"])  # its own model, as good as any
    assert f"agorai invoke {first['resource']} FILE.csv --invocation" in " ".join(right.stdout.split())
    other = ("--invocation", bought["invocation"])
    wrong = buyer.agorai("invoke", first["resource"], flowers, *other, status=1)["error"]
    assert f"gives the right to resource {counted}, not to {first['resource']}" in wrong["detail"]


ME, ZEROS = Address("0x" + "22" * 20), dict.fromkeys(Item.__dataclass_fields__, 0)


def paid_for(invocation: int, state: State) -> tuple[Paid, Item]:
    item = Item(**{**ZEROS, "state": state, "deadline": 2**39})  # type: ignore[arg-type]
    return Paid(InvocationId(invocation), ME, ME, ResourceId(3), Wei(1), 2**39), item


@pytest.mark.parametrize("stays", [True, False])
async def test_a_payment_that_is_not_final_yet_is_waited_for_and_not_made_again(stays: bool) -> None:
    """Unless a reorganization of the chain took it away: its number may be another's then."""
    paid, item = paid_for(7, State.PAID)
    final = [3]

    class OfChain:
        async def head(self) -> object:
            return SimpleNamespace(number=5, timestamp=0)

        async def final(self) -> object:
            return SimpleNamespace(number=final[0])

        async def heads(self) -> AsyncIterator[None]:
            for final[0] in (4, 5, 6):
                yield

        async def read(self, _call: object) -> tuple[Item]:
            assert final == [5]
            return (item,)

    class OfMarket:
        invocation = SimpleNamespace(item=lambda _id: None)

        async def events(self, *_: object, last: int) -> list[tuple[Paid, int]]:
            return [(paid, last)] if stays or final == [3] else []

    deployment = SimpleNamespace(invocation=ME)
    client = SimpleNamespace(address=ME, chain=OfChain(), market=OfMarket(), deployment=deployment)
    assert await usable_right(cast("Client", client), 3) == (paid if stays else None)


async def test_a_right_that_is_there_is_used_rather_than_one_that_is_still_to_be_delivered() -> None:
    rights = [paid_for(7, State.PAID), paid_for(8, State.DELIVERED), paid_for(9, State.DELIVERED)]

    async def block() -> object:
        return SimpleNamespace(number=5, timestamp=0)

    async def read(item: Item) -> tuple[Item]:
        return (item,)

    async def events(*_: object, last: int) -> list[tuple[Paid, int]]:
        return [(paid, last) for paid, _ in rights]

    async def grant(_id: int) -> object:
        return SimpleNamespace(refusal=None)

    items = {paid.id: item for paid, item in rights}
    client = SimpleNamespace(
        address=ME,
        chain=SimpleNamespace(head=block, final=block, read=read),
        market=SimpleNamespace(invocation=SimpleNamespace(item=items.get), events=events),
        deployment=SimpleNamespace(invocation=ME),
        vault=SimpleNamespace(grant=grant),
    )
    assert await usable_right(cast("Client", client), 3) == rights[1][0]


def test_versions_show_accuracy_price_and_predecessor(nodes: tuple[Node, Node], model: int) -> None:
    (version,) = nodes[0].agorai("versions", model)
    assert (version["name"], version["price"], version["previous"]) == ("flowers", 10, None)


def test_what_was_earned_can_be_taken(nodes: tuple[Node, Node], model: int) -> None:
    seller, _ = nodes
    assert seller.agorai("account", "withdraw")["withdrawn"] == 5
    assert seller.agorai("account", "show")["credit"] == 0


def test_an_account_is_shown_whole_and_to_the_last_digit_on_a_narrow_terminal() -> None:
    address = "0x" + "9" * 40
    has = Balances(Wei(1_234_567 * TOKEN + 1), Wei(0), Wei(99_998_765_432_109_876_543), "HAPY")
    written = io.StringIO()
    Console(width=80, file=written).print(_account(address, "a name " * 20, has, TOKEN // 10))
    shown = written.getvalue()
    assert address in shown
    assert "1,234,567.000000000000000001 " in shown
    assert " 0.1 " in shown
    assert "99.998765432109876543 " in shown
    assert "…" not in shown
    assert [exact(amount) for amount in (0, TOKEN, 100 * TOKEN, 1)] == [
        "0", "1", "100", "0.000000000000000001",
    ]  # fmt: skip


def test_tokens_are_sent(nodes: tuple[Node, Node]) -> None:
    seller, buyer = nodes
    before = buyer.agorai("account", "show")["balance"]
    seller.agorai("account", "send", buyer.agorai("account", "show")["address"], 2.5)
    assert buyer.agorai("account", "show")["balance"] == before + 2.5
    refused = seller.agorai("account", "send", "0x12", 1, status=1)
    assert "no account" in refused["error"]["detail"]


def test_status_says_that_all_is_well(nodes: tuple[Node, Node]) -> None:
    status = nodes[1].agorai("status")
    assert status["ready"] is True
    assert status["failing"] == {}


def test_status_counts_what_every_contract_owes(nodes: tuple[Node, Node]) -> None:
    home = nodes[1].home

    async def owed() -> dict[str, Wei]:
        async with Client.connect(Home(home)) as client:
            await Voting(client).enlist(1)
            await Voting(client).retire(1)
            await open_and_close_pool(client, bond=2 * TOKEN, budget=3 * TOKEN)
            return await Trading(client).credits()

    credits_ = asyncio.run(owed())
    assert (credits_["votes"], credits_["pools"]) == (10 * TOKEN, 5 * TOKEN)
    assert nodes[1].agorai("status")["credit"] == sum(credits_.values()) / TOKEN
    taken = nodes[1].agorai("account", "withdraw")["from"]
    assert (taken["votes"], taken["pools"]) == (10, 5)
    assert nodes[1].agorai("account", "show")["credit"] == 0


async def open_and_close_pool(client: Client, bond: int, budget: int) -> None:
    contracts, pools = Contracts(client), DataPool(client.deployment.data_pool)
    test_set, salt = b"t" * 32, b"s" * 32
    terms = Terms(
        document=b"d" * 32,
        test_commitment=sha256(salt + test_set).digest(),
        deposit=1,
        reward=0,
        bond=bond,
        budget=budget,
        check_window=60,
        answer_window=60,
        reveal_window=60,
        closes_at=2**40 - 1,
        panel_size=3,
    )
    await contracts.allow(pools.address, bond + budget)
    await contracts.send(pools.open(terms))
    (opened,) = await contracts.events(pools.address, Opened, None, contracts.my_topic)
    await contracts.send(pools.stop(opened.id))
    await contracts.send(pools.close(opened.id, test_set, salt))


def test_events_are_one_json_object_a_line(nodes: tuple[Node, Node], model: int) -> None:
    found = agorai(nodes[0].home, "events", "--contract", "Registry", "--event", "Registered", "--json")
    events = [json.loads(line) for line in found.stdout.splitlines()]
    assert [event["specversion"] for event in events] == ["1.0"] * len(events)
    assert str(model) in {event["data"]["key"] for event in events}


def test_an_offer_withdrawn_is_not_sold(nodes: tuple[Node, Node], flowers: Path) -> None:
    seller, buyer = nodes
    data = seller.agorai("publish", "data", flowers)["resource"]
    seller.agorai("offer", "withdraw", data)
    refused = buyer.agorai("buy", data, status=1)
    assert "Withdrawn" in refused["error"]["detail"]


@pytest.mark.parametrize(
    ("arguments", "said", "help_"),
    [
        (("--nonsense",), "No such option", "agorai --help"),
        (("stor",), "Did you mean 'store'", "agorai --help"),
        (("buy", "many"), "it is 'many', and must be a whole number", "agorai buy --help"),
        (("trade", "show"), "Missing argument", "agorai trade show --help"),
        (("store", "get"), "give a CID", "agorai store get --help"),
    ],
    ids=["option", "verb", "value", "argument", "together"],
)
def test_what_was_mistyped_is_told_as_json_on_request(
    arguments: tuple[str, ...], said: str, help_: str, tmp_path: Path
) -> None:
    refused = agorai(tmp_path, *arguments, "--json")
    assert (refused.returncode, refused.stderr) == (2, "")
    error = json.loads(refused.stdout)["error"]
    assert said in error["detail"]
    assert help_ in error["remedy"]


def test_what_was_mistyped_is_told_on_standard_error_without_json(tmp_path: Path) -> None:
    refused = agorai(tmp_path, "buy", "many")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "'resource'" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("buy", 999), "no resource 999"),
        (("publish", "data", __file__), "CSV"),
        (("versions", 999), "no resource 999"),
    ],
    ids=["no such resource", "not a table", "no such version"],
)
def test_an_error_says_what_is_wrong_and_ends_with_status_one(
    nodes: tuple[Node, Node], arguments: tuple[object, ...], said: str
) -> None:
    found = agorai(nodes[0].home, *arguments)
    assert found.returncode == 1
    assert said in found.stderr
    assert "Traceback" not in found.stderr


def test_an_estimator_that_is_not_on_the_list_is_refused_before_anything_is_paid(
    nodes: tuple[Node, Node], tmp_path: Path
) -> None:
    task = tmp_path / "task.toml"
    task.write_text('estimator = "os.system"\ntarget = "species"\n')
    refused = nodes[1].agorai("train", 1, "--task", task, "--name", "x", status=1)
    assert "os.system" in refused["error"]["detail"]


def test_a_wrong_passphrase_is_said_to_be_one(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert agorai(home, "account", "create").returncode == 0
    before = sorted(home.rglob("*"))
    for joins in (("--join", nodes[0].home), ()):
        found = agorai(home, "up", *joins, passphrase="another passphrase")
        assert found.returncode == 1
        assert "does not open" in found.stderr
        assert "AGORAI_VAULT_PASSPHRASE" in found.stderr
        assert "starting" not in found.stderr
        assert sorted(home.rglob("*")) == before
    refused = agorai(home / "new", "up", "--json", passphrase="short")
    assert (json.loads(refused.stdout)["error"]["title"], refused.stderr) == ("passphrase_too_short", "")
    assert not (home / "new").exists()


def test_without_a_passphrase_or_a_terminal_the_way_out_is_told(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if "PASSPHRASE" not in name}
    found = subprocess.run(
        [AGORAI, "up", "--home", str(tmp_path)],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert found.returncode == 1
    assert "AGORAI_VAULT_PASSPHRASE" in found.stderr


def test_a_command_without_a_node_says_how_to_start_one(tmp_path: Path) -> None:
    found = agorai(tmp_path, "status")
    assert found.returncode == 1
    assert "agorai up" in found.stderr


def test_a_chain_that_does_not_answer_is_said_not_to(tmp_path: Path) -> None:
    deployment = tmp_path / "deployment.json"
    contracts = {name: f"0x{number:040x}" for number, name in enumerate(NEEDED, 1)}
    deployment.write_text(json.dumps({"chain_id": 1, "start_block": 0, "contracts": contracts}))
    arguments = ("up", "--rpc", "http://127.0.0.1:9", "--deployment", deployment)
    found = agorai(tmp_path / "home", *arguments)
    assert found.returncode == 1
    assert "chain node at http://127.0.0.1:9 does not answer" in found.stderr
    assert {"… starting the bus", "… making the account's keys"} <= set(found.stderr.splitlines())


async def test_a_marketplace_is_founded_on_a_chain_of_ones_own(tmp_path: Path) -> None:
    home, deployment = tmp_path / "home", tmp_path / "deployment.json"
    async with running_anvil(block_time_s=0.2, slots_in_an_epoch=1) as chain, Rpc(chain.url) as rpc:
        address = json.loads(agorai(home, "account", "create", "--json").stdout)["address"]
        poor = await asyncio.to_thread(agorai, home, "found", "--rpc", chain.url, "--output", deployment)
        assert poor.returncode == 1
        assert "enough of the chain's own coin" in poor.stderr
        await rpc.request("anvil_setBalance", address, hex(10**18))
        made = await asyncio.to_thread(agorai, home, "found", "--rpc", chain.url, "--output", deployment)
        assert made.returncode == 0, made.stderr
        node = await asyncio.to_thread(up, home, "--rpc", chain.url, "--deployment", deployment)
        try:
            await asyncio.to_thread(node.agorai, "issue", address, 50)
            shown = await asyncio.to_thread(node.agorai, "account", "show")
            assert shown["balance"] == 50
        finally:
            assert await asyncio.to_thread(stop, node) == 0


def test_a_second_node_is_kept_out_of_a_home_in_use(nodes: tuple[Node, Node]) -> None:
    found = agorai(nodes[0].home, "up")
    assert found.returncode == 1
    assert "runs from" in found.stderr
    assert nodes[0].agorai("status")["ready"] is True


def test_nothing_is_paid_for_what_cannot_work(
    nodes: tuple[Node, Node], flowers: Path, model: int, tmp_path: Path
) -> None:
    seller, _ = nodes
    before = seller.agorai("account", "show")["balance"]
    short = tmp_path / "short.csv"
    short.write_text("sepal length (cm)\n5.1\n")
    assert "sepal width" in seller.agorai("invoke", model, short, status=1)["error"]["detail"]
    task = tmp_path / "task.toml"
    task.write_text(TASK)
    refused = seller.agorai("train", model, "--task", task, "--name", "x", status=1)
    assert "is a model, not a data set" in refused["error"]["detail"]
    assert seller.agorai("account", "show")["balance"] == before


def test_names_that_look_like_markup_are_shown_as_they_are(nodes: tuple[Node, Node], flowers: Path) -> None:
    seller, buyer = nodes
    name = "odd [/] [bold]name[/]"
    seller.agorai("publish", "data", flowers, "--name", name)
    shown = agorai(buyer.home, "offer", "list")
    assert shown.returncode == 0
    found = {offer["name"] for offer in buyer.agorai("offer", "list")}
    assert name in found


def test_a_restricted_offer_is_repriced_and_opened_to_one_account(
    nodes: tuple[Node, Node], flowers: Path
) -> None:
    seller, buyer = nodes
    data = seller.agorai("publish", "data", flowers, "--restricted", "--price", 3)["resource"]
    assert "NotAllowed" in buyer.agorai("buy", data, status=1)["error"]["detail"]
    account = buyer.agorai("account", "show")["address"]
    seller.agorai("offer", "allow", data, account)
    seller.agorai("offer", "reprice", data, 1)
    assert buyer.agorai("buy", data)["price"] == 1
