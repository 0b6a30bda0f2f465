"""`agorai up --only`: some parts of a node, and what each needs."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree

import psutil
import pytest
import typer.main

from agorai.cli.main import app
from agorai.client import Client
from agorai.home import Home, write_private
from agorai.parts import (
    NEEDS,
    HubLackingError,
    HubTwiceError,
    PartLackingError,
    PartUnknownError,
    chosen,
)
from agorai.status import advise, look
from agorai_shared.errors import InputError
from tests.nodes import Node, agorai, stop, up


@pytest.fixture(scope="module")
def carrier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node = up(tmp_path_factory.mktemp("only") / "carrier", "--only", "hub,storage")
    yield node
    assert stop(node) == 0


def test_by_default_all_of_it_runs_and_who_joins_brings_no_hub() -> None:
    assert chosen(None, joins=False) == set(NEEDS)
    assert chosen(None, joins=True) == set(NEEDS) - {"hub"}
    assert chosen("hub, storage", joins=False) == {"hub", "storage"}


@pytest.mark.parametrize(
    ("only", "joins", "error", "remedy"),
    [
        ("hub,wallet", False, PartUnknownError, "Name some of hub, storage"),
        ("", False, PartUnknownError, "Name some of"),
        ("hub,trainer", False, PartLackingError, "--only hub,storage,vault,trainer"),
        ("hub,storage,reward", False, PartLackingError, "--only hub,storage,vault,reward"),
        ("storage", False, HubLackingError, "--only hub,storage"),
        ("hub,storage", True, HubTwiceError, "Leave out hub"),
    ],
)
def test_what_cannot_run_is_refused_with_what_can(
    only: str, joins: bool, error: type[InputError], remedy: str
) -> None:
    with pytest.raises(error) as refused:
        chosen(only, joins=joins)
    assert remedy in refused.value.remedy


def test_the_operators_guide_names_every_option_and_every_part() -> None:
    page = (Path(__file__).parents[1] / "docs" / "operator.md").read_text()
    command = getattr(typer.main.get_command(app), "commands", {})["up"]
    options = {option for parameter in command.params for option in parameter.opts if option[:2] == "--"}
    section = page.partition("## Run a node")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(--[a-z-]+)`", section, re.MULTILINE)) == options - {
        *("--help", "--json", "--verbose")
    }
    parts = page.partition("## Parts of a node")[2].partition("\n## ")[0]
    assert set(NEEDS) <= set(re.findall(r"`([a-z]+)`", parts))


def test_the_command_refuses_before_it_asks_for_anything(tmp_path: Path) -> None:
    refused = agorai(tmp_path / "home", "up", "--only", "trainer", "--json")
    assert refused.returncode == 1
    assert "part_lacking" in refused.stdout
    assert not (tmp_path / "home").exists()


def test_a_node_without_a_vault_stores_and_says_what_it_is(carrier: Node, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"bytes")
    assert carrier.agorai("store", "put", file)["cid"]
    found = carrier.agorai("status")
    assert (found["well"], found["parts"]) == (True, ["storage"])
    assert found["left_out"] == ["vault", "trainer", "verifier", "reward", "dashboard"]
    assert found["pending_transactions"] is None
    assert found["dashboard"] is None
    assert "on purpose" in agorai(carrier.home, "status").stdout
    (said,) = [one for one in carrier.agorai("doctor")["findings"] if one["area"] == "parts"]
    assert (said["level"], "vault, trainer" in said["what"]) == ("ok", True)


def test_a_node_whose_file_was_taken_away_is_told_with_its_process(carrier: Node) -> None:
    file = Home(carrier.home).node_file
    kept = file.read_bytes()
    pid = json.loads(kept)["pid"]
    file.unlink()
    try:
        told = carrier.agorai("status", status=1)["error"]
        assert str(file) in told["detail"]
        assert f"kill {pid}" in told["remedy"]
        assert f"as process {pid}" in carrier.agorai("up", status=1)["error"]["detail"]
    finally:
        write_private(file, kept)
    assert carrier.agorai("status")["well"] is True


async def test_an_embedded_chain_that_hangs_is_told_with_what_to_do(carrier: Node) -> None:
    (anvil,) = [one for one in psutil.Process(carrier.process.pid).children(True) if one.name() == "anvil"]
    home = Home(carrier.home)
    async with Client.connect(home) as client:
        client.chain.rpc.timeout_s = 1
        anvil.suspend()
        try:
            found = await look(client, home)
        finally:
            anvil.resume()
    (advice,) = [one for one in advise(found, client.address) if one.urgent]
    assert "chain" in found.failing
    assert advice.do.endswith(f"AGORAI_HOME={home.path} agorai up --only hub,storage")


def test_a_node_that_joins_may_have_a_vault_and_storage_alone(carrier: Node, tmp_path: Path) -> None:
    wanted = ("--join", carrier.home, "--only", "storage,vault")
    node = up(tmp_path / "joined", *wanted, "--name", "zoe")
    assert node.agorai("account", "send", "0x" + "11" * 20, 1)["transaction"]
    assert node.agorai("status")["open_jobs"] is None
    assert stop(node) == 0
    refused = agorai(tmp_path / "joined", "up", "--json")
    assert (
        f"agorai up --join {carrier.home}" in json.loads(refused.stdout or refused.stderr)["error"]["remedy"]
    )
    assert not (tmp_path / "joined" / "bus").exists()
    node = up(tmp_path / "joined", *wanted)
    assert node.agorai("status")["name"] == "zoe"  # as in the last run
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # else it is ignored by what this test starts, too
        node.process.send_signal(signal.SIGHUP)  # as a terminal does that is closed
        assert node.process.wait(20) == 0
    assert stop(node) == 0


def test_an_account_does_not_run_twice(carrier: Node, tmp_path: Path) -> None:
    copytree(carrier.home / "vault", tmp_path / "copy" / "vault")
    refused = agorai(tmp_path / "copy", "up", "--join", carrier.home, "--only", "storage,vault", "--json")
    assert json.loads(refused.stderr or refused.stdout)["error"]["title"] == "account_runs"


async def test_a_copy_of_a_node_that_has_joined_is_refused_before_it_registers_itself(
    carrier: Node, tmp_path: Path
) -> None:
    wanted = ("--join", carrier.home, "--only", "storage,vault")
    node, copy = up(tmp_path / "node", *wanted), tmp_path / "copy"
    copytree(node.home / "vault", copy / "vault")
    refused = agorai(copy, "up", *wanted, "--json")
    told = json.loads(refused.stderr or refused.stdout)["error"]
    assert (told["title"], str(carrier.home) in told["detail"]) == ("account_runs", True)
    (found,) = [one for one in node.agorai("doctor")["findings"] if one["area"] == "registry"]
    assert (found["level"], node.agorai("status")["well"]) == ("ok", True)
    async with Client.connect(Home(node.home)) as client:
        registry, me = client.market.registry, await client.market.actor(client.address)
        elsewhere = registry.join(me.roles, me.profile, me.encryption_key, "http://127.0.0.1:1")
        await client.vault.send("elsewhere", elsewhere)
        await client.vault.settled("elsewhere")
    (found,) = [one for one in node.agorai("doctor", status=1)["findings"] if one["area"] == "registry"]
    assert found["level"] == "fail"
    assert "http://127.0.0.1:1," in found["what"]
    (urgent,) = [one for one in node.agorai("status", status=1)["attention"] if one["urgent"]]
    assert (urgent["what"], urgent["do"]) == (found["what"], found["remedy"])
    assert stop(node) == 0
    (found,) = [one for one in node.agorai("doctor")["findings"] if "has joined" in one["what"]]
    assert str(carrier.home) in found["what"]
    node = up(node.home, *wanted)
    assert node.agorai("status")["well"] is True  # it has told the registry
    assert stop(node) == 0


def test_a_home_that_lost_its_marketplace_founds_no_other(tmp_path: Path) -> None:
    (tmp_path / "home" / "vault").mkdir(parents=True)
    for kept in ("vault/vault.sqlite", "chain.json"):
        (tmp_path / "home" / kept).touch()
    refused = agorai(tmp_path / "home", "up", "--json")
    assert json.loads(refused.stderr or refused.stdout)["error"]["title"] == "deployment_lost"


def test_a_node_without_a_vault_starts_without_the_passphrase(carrier: Node, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert agorai(home, "account", "create").returncode == 0
    node = up(home, "--join", carrier.home, "--only", "storage", passphrase=None)
    assert node.agorai("status")["well"] is True
    assert stop(node) == 0


def test_a_hub_alone_needs_no_account(tmp_path: Path) -> None:
    node = up(tmp_path / "hub", "--only", "hub", passphrase=None)
    assert not (node.home / "vault").exists()
    assert json.loads(agorai(node.home, "events", "lag", "--json").stdout)[0]["contracts"]
    found = node.agorai("status")
    assert (found["well"], found["attention"], found["failing"]) == (True, [], {})
    assert (found["address"], found["parts"], found["lag_blocks"]) == (None, [], 0)
    assert found["left_out"] == [part for part in NEEDS if part != "hub"]
    looked = node.agorai("doctor")
    assert {one["level"] for one in looked["findings"]} == {"ok"}
    assert {"bus", "chain", "hub"} <= {one["area"] for one in looked["findings"]}
    assert node.agorai("offer", "list", status=1)["error"]["title"] == "node_not_running"
    assert stop(node) == 0
    assert node.agorai("status", status=1)["error"]["title"] == "node_not_running"
