"""A developer's way: a chain, an address and an ABI, `agorai hub`, and the example programs of docs/listen.md."""

from __future__ import annotations

import json
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from agorai import listener
from agorai.home import Home
from agorai.hub_client import HubClient, event_filter
from agorai_hub.contracts import ContractSet
from agorai_hub.settings import load_chains
from agorai_shared.contract import EventAbi
from agorai_shared.testing import running_nats
from tests.hubs import (
    EXAMPLES,
    FIRST_CONTRACT,
    PYTHON,
    TILL,
    HubProcess,
    TillChain,
    example_file,
    running,
    running_chain,
    running_hub,
    start_hub,
    until,
    watching,
)
from tests.nodes import AGORAI, agorai


@pytest.fixture(scope="module")
def chain() -> Iterator[TillChain]:
    with running_chain() as started:
        yield started


@pytest.fixture(scope="module")
def file(chain: TillChain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return example_file(tmp_path_factory.mktemp("example"), chain)


@pytest.fixture(scope="module")
def hub(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with running_hub(tmp_path_factory.mktemp("hub"), file, "--allow-private-webhooks") as started:
        yield started


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_the_example_consumer_gets_past_and_new_events(chain: TillChain, hub: HubProcess) -> None:
    chain.deposit(11)
    until(lambda: (state := hub.ask("/chains")[0])["ready"] and state["final"])
    program = [PYTHON, str(EXAMPLES / "consume.py"), hub.bus_url, "31337", "Till"]
    with running(program) as consumer:
        consumer.until(lambda line: "'amount': 11" in line)
        chain.deposit(12)
        said = consumer.until(lambda line: "'amount': 12" in line)
    assert chain.account.lower() in said.lower()


def test_events_are_watched_by_server_sent_events(chain: TillChain, hub: HubProcess) -> None:
    with watching(hub, "--contract", "Till", "--from-block", "0", "--where", "amount >= 21") as watch:
        chain.deposit(20)
        chain.deposit(21)
        found = json.loads(watch.until(lambda _: True))
    assert (found["data"]["event"], found["data"]["args"]["amount"]) == ("Deposit", 21)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_is_all_that_server_sent_events_need(chain: TillChain, hub: HubProcess) -> None:
    chain.deposit(31)
    with running(["curl", "-sN", f"{hub.url}/events?contract=Till&from_block=0"]) as curl:
        assert curl.until(lambda line: '"amount":31' in line).startswith("data: {")


def test_the_example_receiver_takes_what_is_genuine_and_nothing_else(
    chain: TillChain, hub: HubProcess
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    home = ("--home", hub.home)
    made = json.loads(
        agorai(hub.home, "events", "subscribe", url, "--contract", "Till", *home, "--json").stdout
    )
    program = [PYTHON, str(EXAMPLES / "receive.py"), str(port)]
    with running(program, {"WEBHOOK_SECRET": made["secret"]}) as receiver:
        receiver.until(lambda line: line == "listening")
        chain.deposit(41)
        assert "agorai.Till.Deposit 31337:0x" in receiver.until(lambda _: True)
        tried = agorai(hub.home, "events", "test", made["id"], "--json")
        assert json.loads(tried.stdout)["status"] == 204
        agorai(hub.home, "events", "rotate", made["id"])
    other = {"WEBHOOK_SECRET": "whsec_" + "A" * 32}
    with running(program, other) as receiver:
        receiver.until(lambda line: line == "listening")
        tried = agorai(hub.home, "events", "test", made["id"], "--json")
        assert tried.returncode == 1
        assert json.loads(tried.stdout)["status"] == 401
    agorai(hub.home, "events", "delete", made["id"])


def test_the_hub_file_is_for_its_owner_and_names_the_chain(hub: HubProcess) -> None:
    path = hub.home / "hub.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert until(lambda: json.loads(path.read_text())["chains"]) == [31337]


def test_started_again_it_has_the_ports_and_the_token_that_it_had(
    chain: TillChain, file: Path, tmp_path: Path
) -> None:
    with running_hub(tmp_path, file) as first:
        token = first.token
        until(lambda: first.ask("/chains")[0]["final"])
    assert not (tmp_path / "hub.json").exists()
    chain.deposit(51)
    with running_hub(tmp_path, file) as second:
        assert (second.url, second.bus_url, second.token) == (first.url, first.bus_url, token)
        with watching(second, "--from-block", "0") as watch:
            watch.until(lambda line: '"amount":51' in line)


def test_the_bus_that_it_starts_takes_the_port_that_is_asked_for_or_none(file: Path, tmp_path: Path) -> None:
    port = free_port()
    with running_hub(tmp_path / "first", file, "--bus-port", str(port)) as first:
        assert first.bus_url == f"nats://127.0.0.1:{port}"
        found = agorai(tmp_path / "second", "hub", file, "--bus-port", str(port))
        assert found.returncode == 1
        assert "address already in use" in " ".join(found.stderr.split())
    found = agorai(tmp_path / "second", "hub", file, "--bus-port", str(port), "--bus", "nats://127.0.0.1:9")
    assert found.returncode == 2


async def test_it_uses_a_bus_of_ones_own(chain: TillChain, file: Path, tmp_path: Path) -> None:
    async with running_nats(tmp_path / "jetstream") as nats:
        hub = start_hub(tmp_path / "home", file, "--bus", nats.url)
        try:
            assert hub.bus_url == nats.url
            assert until(lambda: hub.ask("/chains")[0]["final"])
            assert not (tmp_path / "home" / "bus").exists()
        finally:
            assert hub.spoken.stop() == 0


async def test_a_program_runs_a_hub_and_reads_from_it(chain: TillChain, file: Path, tmp_path: Path) -> None:
    chain.deposit(71)
    chain.deposit(72)
    wanted = event_filter(contract="Till", where=["amount >= 71", "amount < 80"])
    async with (
        listener.running(Home(tmp_path), load_chains(file), log_level="ERROR") as hub,
        HubClient(hub.url, hub.token) as client,
        aclosing(client.events(wanted, from_block=0)) as following,
    ):
        first, second = [await anext(following) for _ in range(2)]
        assert [told.event.args["amount"] for told in (first, second)] == [71, 72]
        behind = [told async for told in client.events(wanted, after=first.id, follow=False)]
        assert behind == [second]
        assert await client.subscriptions() == []
    assert not (tmp_path / "hub.json").exists()


def test_a_second_hub_is_kept_out_of_a_home_in_use(hub: HubProcess, file: Path) -> None:
    found = agorai(hub.home, "hub", file)
    assert found.returncode == 1
    assert "runs from" in found.stderr


def test_the_home_of_a_node_is_left_alone(file: Path, tmp_path: Path) -> None:
    (tmp_path / "bus").mkdir()
    (tmp_path / "bus" / "nats-server.conf").write_text("{}")
    found = agorai(tmp_path, "hub", file)
    assert found.returncode == 1
    assert "is the home of a node" in " ".join(found.stderr.split())


def test_a_bus_that_is_away_is_said_to_be(file: Path, tmp_path: Path) -> None:
    found = agorai(tmp_path / "home", "hub", file, "--bus", "nats://127.0.0.1:9")
    assert found.returncode == 1
    assert "does not answer" in found.stderr
    assert "NATS server" in found.stderr


def test_a_check_says_what_the_file_finds(chain: TillChain, file: Path, tmp_path: Path) -> None:
    found = agorai(tmp_path, "hub", file, "--check", "--json")
    assert found.returncode == 0, found.stderr
    told = json.loads(found.stdout)
    (one,) = told["chains"]
    assert (one["chain_id"], one["contracts"][0]["events"]) == (31337, 1)
    assert one["endpoints"][0]["head"] >= 1
    assert agorai(tmp_path, "hub", file, "--check").returncode == 0


def test_a_check_says_what_it_could_not_ask(tmp_path: Path) -> None:
    chain = TillChain("http://127.0.0.1:9")
    found = agorai(tmp_path, "hub", example_file(tmp_path, chain), "--check")
    assert found.returncode == 1
    (row,) = [line for line in found.stdout.splitlines() if FIRST_CONTRACT in line]
    assert "?" in row
    assert "✓" not in found.stdout
    assert "? not asked" in found.stdout
    assert "events)" not in found.stdout


def test_a_check_asks_no_endpoint_of_another_chain_for_contracts(chain: TillChain, tmp_path: Path) -> None:
    other = example_file(tmp_path, chain, **{"confirmations = 0": "confirmations = 0\nchain_id = 4242"})
    told = json.loads(agorai(tmp_path, "hub", other, "--check", "--json").stdout)
    assert told["chains"][0]["contracts"][0]["asked"] is False
    assert ["serves chain 31337" in problem for problem in told["problems"]] == [True]


def test_a_check_warns_of_an_abi_without_events(chain: TillChain, tmp_path: Path) -> None:
    path = example_file(tmp_path, chain)
    (tmp_path / "till.json").write_text("[]")
    found = agorai(tmp_path, "hub", path, "--check", "--json")
    assert found.returncode == 1
    assert "its ABI has no events" in json.loads(found.stdout)["problems"][0]


def test_a_check_warns_of_an_address_without_a_contract(chain: TillChain, tmp_path: Path) -> None:
    nobody = "0x000000000000000000000000000000000000dEaD"
    path = example_file(tmp_path, chain, **{FIRST_CONTRACT: nobody})
    found = agorai(tmp_path, "hub", path, "--check")
    assert found.returncode == 1
    assert "no contract at 0x000000000000000000000000000000000000dEaD" in " ".join(found.stderr.split())


def test_a_check_names_an_endpoint_of_another_chain_or_none(chain: TillChain, tmp_path: Path) -> None:
    with running_chain(4242) as other:
        three = f'{chain.url}", "{other.url}", "http://127.0.0.1:9'
        path = example_file(tmp_path, chain, **{chain.url: three})
        found = agorai(tmp_path, "hub", path, "--check", "--json")
    assert found.returncode == 1
    problems = json.loads(found.stdout)["problems"]
    assert any("serves chain 4242" in problem for problem in problems)
    assert any("http://127.0.0.1:9 does not answer" in problem for problem in problems)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("chains = 3", "cannot be read from"),
        ("[[chains]]\nendpoints = []", "endpoints"),
        (
            '[[chains]]\nendpoints = ["http://127.0.0.1:9"]\n[[chains.contracts]]\nname = "A"\n'
            f'address = "{FIRST_CONTRACT}"\nabi = "absent.json"',
            "absent.json",
        ),
    ],
    ids=["not its form", "no endpoint", "no ABI"],
)
@pytest.mark.parametrize("check", [(), ("--check",)], ids=["run", "check"])
def test_a_file_that_is_wrong_is_said_to_be(
    text: str, said: str, check: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "listen.toml"
    path.write_text(text)
    found = agorai(tmp_path / "home", "hub", path, *check, "--json")
    assert found.returncode == 1
    problem = json.loads(found.stdout)["error"]
    assert said in problem["detail"]
    assert problem["remedy"]


def test_it_says_what_to_do_next(file: Path, tmp_path: Path) -> None:
    with running([AGORAI, "hub", str(file), "--home", str(tmp_path)], {"COLUMNS": "200"}) as spoken:
        spoken.until(lambda line: "The hub is up at" in line)
        spoken.until(lambda line: "chain of http://127.0.0.1:" in line)
        spoken.until(lambda line: "/openapi.json" in line)
        spoken.until(lambda line: "agorai events watch" in line)


def test_the_example_files_are_of_their_form() -> None:
    for name in ("listen.toml", "pools.toml"):
        for one in load_chains(EXAMPLES / name):
            assert ContractSet(one.contracts)
    (abi,) = json.loads((EXAMPLES / "till.json").read_text())
    assert EventAbi.from_abi(abi).topic0[2:] in TILL.BYTECODE


def test_the_example_contract_is_deployed_once_and_paid_into() -> None:
    with running_chain() as own:
        program = [PYTHON, str(EXAMPLES / "deploy_till.py"), "7"]
        with running(program, {"RPC_URL": own.url}) as spoken:
            spoken.until(lambda line: line == f"The till is at {FIRST_CONTRACT}")
            spoken.until(lambda line: line == "Paid in 7")
        assert int(own.rpc("eth_getBalance", FIRST_CONTRACT, "latest"), 16) == 7


def test_the_example_consumer_outlives_its_bus_and_says_so_in_one_line(
    chain: TillChain, file: Path, tmp_path: Path
) -> None:
    chain.deposit(81)
    first = start_hub(tmp_path, file)
    until(lambda: first.ask("/chains")[0]["final"])
    with running([PYTHON, str(EXAMPLES / "consume.py"), first.bus_url, "31337", "Till"]) as consumer:
        consumer.until(lambda line: "'amount': 81" in line)
        assert first.spoken.stop() == 0
        assert consumer.until(lambda _: True, on_stderr=True).startswith("bus: ")
        chain.deposit(82)
        with running_hub(tmp_path, file):
            consumer.until(lambda line: "'amount': 82" in line)
        assert all(line.startswith("bus: ") for line in consumer.rest_of_errors())
