"""`agorai doctor` on what is wrong with a home, a chain, a bus, a clock and a machine."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from agorai import doctor, remote_findings
from agorai.cli.passphrase import PassphraseFileError, given
from agorai.devchain import DevChain
from agorai.doctor import examine
from agorai.findings import Finding, Level
from agorai.home import Home, NodeFile, Ports
from agorai.remote_findings import Chosen
from agorai_shared.chain import Chain, Finality
from agorai_shared.rpc import Rpc
from agorai_shared.testing import running_anvil
from agorai_shared.types import Address
from agorai_vault import keys as key_files
from tests.nodes import PASSPHRASE, agorai


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    key_files.create(made.vault, PASSPHRASE, scrypt_n=1 << 12)
    return made


def wrong(found: list[Finding]) -> dict[str, Finding]:
    return {one.area: one for one in found if one.level != Level.OK}


async def test_a_home_that_is_well_has_only_to_be_started(home: Home) -> None:
    assert set(wrong(await examine(home, PASSPHRASE, Chosen()))) == {"node"}


async def test_a_home_that_is_not_there_is_no_fault(tmp_path: Path) -> None:
    found = await examine(Home(tmp_path / "none"), None, Chosen())
    assert all(one.level != Level.FAIL for one in found)
    assert not (tmp_path / "none").exists()


async def test_a_key_that_others_may_read_is_told_with_what_to_type(home: Home) -> None:
    path = home.vault / "account.json"
    path.chmod(0o644)
    found = wrong(await examine(home, None, Chosen()))["keys"]
    assert found.level == Level.FAIL
    assert found.remedy == f"chmod 600 {path}"


async def test_a_vault_whose_database_is_gone_is_told(home: Home) -> None:
    home.verifier.mkdir()  # as a node that has run has it
    found = wrong(await examine(home, PASSPHRASE, Chosen()))["keys"]
    assert (found.level, "is gone" in found.what) == (Level.FAIL, True)


async def test_a_passphrase_that_does_not_open_the_keys_is_told(home: Home) -> None:
    assert "does not open" in wrong(await examine(home, "another one", Chosen()))["keys"].what


def test_the_passphrase_is_that_of_the_environment_or_of_the_file_that_it_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AGORAI_VAULT_PASSPHRASE", raising=False)
    monkeypatch.delenv("AGORAI_VAULT_PASSPHRASE_FILE", raising=False)
    assert given() is None
    file = tmp_path / "passphrase"
    monkeypatch.setenv("AGORAI_VAULT_PASSPHRASE_FILE", str(file))
    with pytest.raises(PassphraseFileError, match=str(file)):
        given()
    file.write_text("of the file\n")
    assert given() == "of the file"
    monkeypatch.setenv("AGORAI_VAULT_PASSPHRASE", PASSPHRASE)
    assert given() == PASSPHRASE


@pytest.mark.parametrize("name", ["account.json", "encryption-key.pem"])
async def test_a_damaged_key_file_is_told(home: Home, name: str) -> None:
    (home.vault / name).write_bytes(b"{")
    found = wrong(await examine(home, PASSPHRASE, Chosen()))["keys"]
    assert found.level == Level.FAIL
    assert "backup" in found.remedy


async def test_a_port_that_was_taken_meanwhile_is_told(home: Home) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        Ports(name="tommy", hub=other.getsockname()[1]).save(home.ports_file)
        found = wrong(await examine(home, None, Chosen()))["ports"]
    assert found.level == Level.WARN
    assert "the hub's port" in found.what


async def test_a_chain_state_that_was_cut_off_is_told(home: Home) -> None:
    home.chain_state.write_text('{"block":')
    assert "cut off" in wrong(await examine(home, None, Chosen()))["chain"].what


async def test_a_stopped_node_that_has_joined_is_told_whose_chain_it_uses(home: Home, tmp_path: Path) -> None:
    Ports(joined=tmp_path / "carrier").save(home.ports_file)
    found = wrong(await examine(home, None, Chosen()))["chain"]
    assert (found.level, f"chain of {tmp_path / 'carrier'}," in found.what) == (Level.WARN, True)


async def test_packages_of_two_versions_are_told(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: "0.0.1" if name == "agorai-hub" else "0.1.0")
    assert "agorai-hub 0.0.1" in wrong(await examine(home, None, Chosen()))["versions"].what


async def test_an_old_nats_server_is_told(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = tmp_path / "nats-server"
    old.write_text("#!/bin/sh\necho nats-server: v2.10.7\n")
    old.chmod(0o755)
    monkeypatch.setenv("AGORAI_NATS_SERVER", str(old))
    assert "2.10.7" in wrong(await examine(home, None, Chosen()))["versions"].what
    monkeypatch.setenv("AGORAI_NATS_SERVER", str(tmp_path / "none"))
    assert "does not run" in wrong(await examine(home, None, Chosen()))["versions"].what


async def test_a_node_that_does_not_answer_is_told_part_by_part(home: Home) -> None:
    nowhere = "127.0.0.1:1"
    NodeFile(
        name="me", address=key_files.address_of(home.vault), pid=os.getpid(), url=f"http://{nowhere}",
        vault_url=f"http://{nowhere}", token="t", bus_url=f"nats://{nowhere}", bus_user=None, bus_password=None,
        rpc_url=f"http://{nowhere}", confirmations=0, deployment=home.deployment, hub_url=f"http://{nowhere}",
    ).save(home.node_file)  # fmt: skip
    found = wrong(await examine(home, None, Chosen()))
    assert {"bus", "store", "node", "hub", "chain"} <= {
        area for area, one in found.items() if one.level == Level.FAIL and one.remedy
    }


def test_the_command_ends_with_one_when_something_is_wrong(home: Home) -> None:
    found = agorai(home.path, "doctor", "--json")
    assert found.returncode == 0
    assert json.loads(found.stdout)["well"] is True
    (home.vault / "account.json").chmod(0o666)
    found = agorai(home.path, "doctor")
    assert found.returncode == 1
    assert "chmod 600" in found.stdout


class OnChain:
    """A chain with a marketplace."""

    def __init__(self, rpc: Rpc, url: str, deployment: Path) -> None:
        self.rpc, self.url, self.deployment = rpc, url, deployment

    @property
    def chosen(self) -> Chosen:
        return Chosen(self.url, self.deployment)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def on_chain(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[OnChain]:
    path = tmp_path_factory.mktemp("chain") / "deployment.json"
    async with running_anvil() as anvil, Rpc(anvil.url) as rpc:
        await DevChain(rpc, Chain(rpc, Finality(0))).deployment(path)
        yield OnChain(rpc, anvil.url, path)


@pytest.mark.asyncio(loop_scope="module")
class TestChain:
    async def test_an_account_without_coin_is_told_and_with_it_all_is_well(
        self, home: Home, on_chain: OnChain
    ) -> None:
        found = wrong(await examine(home, None, on_chain.chosen))
        assert "too little coin" in found["chain"].what
        account = key_files.address_of(home.vault)
        await on_chain.rpc.request("anvil_setBalance", account, hex(10**18))
        assert set(wrong(await examine(home, None, on_chain.chosen))) == {"node"}

    async def test_a_deployment_of_another_chain_or_place_is_told(
        self, home: Home, on_chain: OnChain, tmp_path: Path
    ) -> None:
        known = json.loads(on_chain.deployment.read_text())
        elsewhere = tmp_path / "elsewhere.json"
        elsewhere.write_text(json.dumps({**known, "chain_id": 5}))
        found = wrong(await examine(home, None, Chosen(on_chain.url, elsewhere)))
        assert "speaks of chain 5" in found["chain"].what
        known["contracts"]["DataPool"] = Address("0x" + "11" * 20)
        elsewhere.write_text(json.dumps(known))
        found = wrong(await examine(home, None, Chosen(on_chain.url, elsewhere)))
        assert "DataPool" in found["chain"].what
        found = wrong(await examine(home, None, Chosen(on_chain.url, tmp_path / "none.json")))
        assert "cannot be used" in found["chain"].what

    async def test_a_clock_behind_the_chain_is_told(self, home: Home, on_chain: OnChain) -> None:
        await on_chain.rpc.request("anvil_setBalance", key_files.address_of(home.vault), hex(10**18))
        await on_chain.rpc.request("evm_increaseTime", 3600)
        await on_chain.rpc.request("evm_mine")
        found = wrong(await examine(home, None, on_chain.chosen))["clock"]
        assert found.level == Level.FAIL
        assert "the future" in found.what


@pytest.mark.parametrize(
    ("date", "level"),
    [("Tue, 01 Jan 2030 00:00:00 GMT", Level.FAIL), ("Tue, 01 Jan 2019 00:00:00 GMT", Level.FAIL)],
)
async def test_a_clock_that_differs_from_the_servers_is_told(date: str, level: Level) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(headers={"Date": date})

    app = web.Application()
    app.router.add_get("/", answer)
    async with TestServer(app) as server:
        (found,) = await remote_findings._clock(str(server.make_url("/")))
    assert found.level == level
    assert "differ by" in found.what
