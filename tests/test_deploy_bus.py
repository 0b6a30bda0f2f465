"""A bus for services that run apart: each under a user of its own, over TLS, with just what it needs."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client as Bus
from nats.js.api import ConsumerConfig

from agorai import bus_certificates, bus_config
from agorai.bus_certificates import Certificates
from agorai.bus_users import HUB, node_user, service_user
from agorai.client import Client
from agorai.devchain import TOKEN, DevChain
from agorai.home import NodeFile
from agorai.joining import join
from agorai.service_permissions import ASKED
from agorai_shared import bus
from agorai_shared.bus import final_stream, inbox_of
from agorai_shared.bus_tls import NotTlsError, TlsFileError, tls_context
from agorai_shared.chain import Chain, Finality
from agorai_shared.command import subject
from agorai_shared.consumers import make_consumers
from agorai_shared.processes import Running
from agorai_shared.rpc import Rpc
from agorai_shared.testing import flushed, running_anvil, running_nats
from agorai_shared.types import Address
from agorai_vault import keys as key_files
from tests.alone import PASSPHRASE, TOKEN_OF_NODE, buy_and_sell, free_port, service
from tests.nodes import agorai

NODE = Address("0x9fE46736679d2D9a65F0992F2272dE9f3c7fa6e0")
OTHER = Address("0x70997970C51812dc3A010C7d01b50e0d17dc79C8")
FINAL = final_stream(31337).name or ""
UPDATES = "chain.final.31337.TrainingTask.Updated.*"
SERVICES = ("storage", "vault", "trainer", "verifier", "reward")


@dataclass(frozen=True)
class Told:
    """A server that runs, and where its users' passwords are."""

    server: Running
    passwords: Path
    authority: Path

    @property
    def url(self) -> str:
        return self.server.url.replace("nats://", "tls://")

    def password(self, user: str) -> str:
        return (self.passwords / user).read_text()

    async def connected(self, user: str) -> Bus:
        context = tls_context(self.url, self.authority)
        return await bus.connect(self.url, user=user, password=self.password(user), tls=context)


def bring_here(config: Path) -> None:
    """Leave out where a server in a container listens and keeps its streams."""
    document = json.loads(config.read_text())
    del document["http"], document["jetstream"]
    config.write_text(json.dumps(document))


@asynccontextmanager
async def running_bus(folder: Path, *nodes: Address) -> AsyncIterator[Told]:
    """Run a server on the configuration that the command writes."""
    made = bus_certificates.make(folder / "tls")
    config, passwords = folder / "nats.conf", folder / "passwords"
    written = agorai(
        folder, "bus", "config", *(part for node in nodes for part in ("--node", node)), "--output", config,
        "--passwords", passwords, "--tls-cert", made.certificate, "--tls-key", made.key, "--json",
    )  # fmt: skip
    assert written.returncode == 0, written.stderr
    bring_here(config)
    async with running_nats(folder / "streams", config=config) as server:
        yield Told(server, passwords, made.authority)


@pytest_asyncio.fixture
async def told(tmp_path: Path) -> AsyncGenerator[Told]:
    async with running_bus(tmp_path, NODE, OTHER) as running:
        yield running


async def refused(told: Told, user: str, *, publish: str | None = None, subscribe: str | None = None) -> bool:
    """Tell whether the server refuses a user a subject."""
    errors: list[str] = []

    async def note(error: Exception) -> None:
        errors.append(str(error).lower())

    client = await nats.connect(
        told.url, user=user, password=told.password(user), inbox_prefix=inbox_of(user), error_cb=note,
        tls=tls_context(told.url, told.authority), tls_handshake_first=True, allow_reconnect=False,
    )  # fmt: skip
    try:
        if publish:
            await client.publish(publish, b"{}")
        if subscribe:
            await client.subscribe(subscribe)
        await flushed(client)
    finally:
        await client.close()
    return any("permissions violation" in error for error in errors)


async def test_services_of_their_own_users_over_tls_do_a_whole_purchase(tmp_path: Path) -> None:
    ports = {name: free_port() for name in ("hub", *SERVICES)}
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    deployment = tmp_path / "deployment.json"
    async with AsyncExitStack() as stack:
        keys = await asyncio.to_thread(key_files.create, tmp_path / "vault", PASSPHRASE, scrypt_n=1 << 12)
        told = await stack.enter_async_context(running_bus(tmp_path / "bus", keys.address))
        anvil = await stack.enter_async_context(running_anvil())
        rpc = await stack.enter_async_context(Rpc(anvil.url))
        dev = DevChain(rpc, Chain(rpc, Finality(0)))
        await dev.fund(await dev.deployment(deployment), keys.address, 100 * TOKEN)
        environment = {
            "AGORAI_BUS_URL": told.url,
            "AGORAI_BUS_CA": str(told.authority),
            "AGORAI_RPC_URL": anvil.url,
            "AGORAI_CONFIRMATIONS": "0",
            "AGORAI_DEPLOYMENT": str(deployment),
            "AGORAI_NODE_TOKEN": TOKEN_OF_NODE,
            "AGORAI_HUB_NODES": json.dumps([keys.address]),
            "AGORAI_STORAGE_PATH": str(tmp_path / "storage"),
            "AGORAI_VAULT_PATH": str(tmp_path / "vault"),
            "AGORAI_VAULT_PASSPHRASE": PASSPHRASE,
            "AGORAI_VAULT_STORE_URL": urls["storage"],
        }
        for name in ("TRAINER", "VERIFIER", "REWARD"):
            environment |= {
                f"AGORAI_{name}_ADDRESS": keys.address,
                f"AGORAI_{name}_PATH": str(tmp_path / name.lower()),
                f"AGORAI_{name}_STORE_URL": urls["storage"],
                f"AGORAI_{name}_VAULT_URL": urls["vault"],
            }
        for name, port in ports.items():
            user = HUB if name == "hub" else service_user(keys.address, name)
            secrets = tmp_path / "secrets" / name
            secrets.mkdir(parents=True)
            (secrets / "agorai_bus_password").write_text(told.password(user))
            own = {**environment, "AGORAI_BUS_USER": user, "AGORAI_SECRETS": str(secrets)}
            await stack.enter_async_context(service(f"agorai_{name}.app", port, own))
        owner = node_user(keys.address)
        info = NodeFile(
            name="apart", address=keys.address, pid=os.getpid(), url=urls["storage"],
            vault_url=urls["vault"], token=TOKEN_OF_NODE, bus_url=told.url, bus_ca=told.authority,
            bus_user=owner, bus_password=told.password(owner), rpc_url=anvil.url, confirmations=0,
            deployment=deployment,
        )  # fmt: skip
        client = await stack.enter_async_context(Client.connect(info))
        await join(client, keys, info.url, f"{info.vault_url}/peer")
        await buy_and_sell(client)


async def test_what_is_asked_between_services_is_all_that_they_may_ask(told: Told) -> None:
    for name, asked in ASKED.items():
        user = service_user(NODE, name)
        for other in ASKED:
            for verb in (
                "send",
                "step",
                "permit",
                "tell",
                "reveal_task_key",
                "inspect",
                "evaluate",
                "look_again",
            ):
                allowed = verb in asked.get(other, ())
                assert await refused(told, user, publish=subject(NODE, other, verb)) != allowed, (name, other)


async def test_only_the_nodes_owner_has_just_any_call_sent(told: Told) -> None:
    send = subject(NODE, "vault", "send")
    assert not await refused(told, node_user(NODE), publish=send)
    for name in ASKED:
        assert await refused(told, service_user(NODE, name), publish=send), name


@pytest.mark.parametrize("name", ASKED)
async def test_a_service_reads_neither_others_commands_nor_their_answers(told: Told, name: str) -> None:
    user = service_user(NODE, name)
    assert not await refused(told, user, subscribe=f"{inbox_of(user)}.>")
    for other in set(ASKED) - {name}:
        assert await refused(told, user, subscribe=subject(NODE, other, "*"))
        assert await refused(told, user, subscribe=f"{inbox_of(service_user(NODE, other))}.>")
    assert await refused(told, user, subscribe=f"{inbox_of(node_user(NODE))}.>")
    assert await refused(told, user, subscribe=">")


@pytest.mark.parametrize("name", ASKED)
async def test_a_service_can_neither_write_facts_nor_change_streams(told: Told, name: str) -> None:
    user = service_user(NODE, name)
    for forbidden in (
        "chain.final.31337.Invocation.Paid.1",
        f"$JS.API.STREAM.DELETE.{FINAL}",
        f"$JS.API.STREAM.PURGE.{FINAL}",
        f"$JS.API.CONSUMER.CREATE.{FINAL}.mine",
        subject(OTHER, "vault", "send"),
        "dead.hub",
    ):
        assert await refused(told, user, publish=forbidden), forbidden


async def test_a_service_reads_its_own_events_and_no_others(told: Told) -> None:
    hub = await told.connected(HUB)
    trainer = await told.connected(service_user(NODE, "trainer"))
    try:
        await bus.ensure_stream(hub.jetstream(), final_stream(31337))
        await make_consumers(hub.jetstream(), 31337, NODE)
        await hub.jetstream().publish("chain.final.31337.Invocation.Paid.1", b"{}")
        js = trainer.jetstream()
        place = await js.pull_subscribe("chain.final.>", durable=f"trainer-{NODE}", stream=FINAL)
        (message,) = await place.fetch(1)
        await message.ack_sync()
        assert (await place.consumer_info()).num_ack_pending == 0
        heard = await trainer.subscribe(UPDATES)
        await flushed(trainer)
        await hub.jetstream().publish(UPDATES.replace("*", "7"), b"{}")
        assert (await heard.next_msg(timeout=10)).data == b"{}"
        with pytest.raises(nats.errors.TimeoutError):
            await js.consumer_info(FINAL, f"vault-{NODE}", timeout=0.3)
        with pytest.raises(nats.errors.TimeoutError):
            await nats.js.JetStreamContext(trainer, timeout=0.3).add_consumer(
                FINAL, ConsumerConfig(name="mine")
            )
    finally:
        await trainer.close()
        await hub.close()
    assert await refused(told, service_user(NODE, "trainer"), subscribe="chain.final.>")
    assert await refused(told, service_user(NODE, "vault"), subscribe=UPDATES)


async def test_adding_a_node_changes_no_password(tmp_path: Path) -> None:
    config, passwords = tmp_path / "nats.conf", tmp_path / "passwords"
    bus_config.write(config, passwords, 31337, [NODE], routes=["a", "b"])
    before = {path.name: path.read_text() for path in passwords.iterdir()}
    between = json.loads(config.read_text())["cluster"]
    bus_config.write(config, passwords, 31337, [OTHER], routes=["a", "b"])
    after = {path.name: path.read_text() for path in passwords.iterdir()}
    assert before.items() < after.items()
    assert service_user(OTHER, "vault") in after
    assert json.loads(config.read_text())["cluster"] == between
    assert {path.stat().st_mode & 0o777 for path in (config, *passwords.iterdir())} == {0o600}


def test_adding_a_node_keeps_what_is_not_named(tmp_path: Path) -> None:
    config = ("bus", "config", "--output", tmp_path / "nats.conf", "--passwords", tmp_path / "passwords")
    tls = ("--tls-cert", "/c", "--tls-key", "/k", "--tls-ca", "/a")
    cluster = ("--chain-id", "5", "--store", "/var/js", "--route", "a", "--route", "b:7")
    assert agorai(tmp_path, *config, "--node", NODE, *cluster, *tls).returncode == 0
    before = json.loads((tmp_path / "nats.conf").read_text())
    assert agorai(tmp_path, *config, "--node", OTHER).returncode == 0
    after = json.loads((tmp_path / "nats.conf").read_text())
    assert after["tls"] == before["tls"] == bus_config.Tls("/c", "/k", "/a").of_clients()
    assert {**after, "accounts": None} == {**before, "accounts": None}
    assert before["accounts"].items() < after["accounts"].items()
    assert set(re.findall(r"CHAIN_(\d+)_", json.dumps(after))) == {"5"}


def test_what_is_named_anew_changes(tmp_path: Path) -> None:
    config, passwords = tmp_path / "nats.conf", tmp_path / "passwords"
    tls = bus_config.Tls("/c", "/k", "/a")
    bus_config.write(config, passwords, 5, [NODE], tls=tls, routes=["a", "b"], store="/var/js")
    another = bus_config.Tls("/new", "/k")
    bus_config.write(config, passwords, 7, [], tls=another, routes=["a", "c"], store="/js")
    after = json.loads(config.read_text())
    assert after["tls"] == bus_config.Tls("/new", "/k", "/a").of_clients()  # clients are asked as before
    assert after["cluster"]["tls"]["cert_file"] == "/new"
    assert [one.rpartition("@")[2] for one in after["cluster"]["routes"]] == ["a:6222", "c:6222"]
    assert after["jetstream"] == {"store_dir": "/js"}
    assert set(re.findall(r"CHAIN_(\d+)_", json.dumps(after))) == {"7"}


def test_what_is_no_address_is_refused(tmp_path: Path) -> None:
    assert "0x" in agorai(tmp_path, "bus", "config", "--node", "vault").stderr
    half = agorai(tmp_path, "bus", "config", "--node", NODE, "--tls-cert", "a.pem")
    assert "--tls-key" in half.stderr
    assert not any(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------------- TLS


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    return bus_certificates.make(tmp_path / "another")


async def test_a_server_of_an_unknown_authority_is_turned_away(told: Told, made: Certificates) -> None:
    with pytest.raises(bus.BusUnreachableError, match=r"(?i)certificate"):
        await bus.connect(told.url, user=HUB, password="x", tls=tls_context(told.url, made.authority))


async def test_a_server_without_tls_gets_no_password(tmp_path: Path, made: Certificates) -> None:
    heard = bytearray()

    async def without(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b'INFO {"server_id":"X","version":"2.15.0","auth_required":true,"max_payload":1048576}\r\n'
        )
        heard.extend(await reader.read(1 << 16))
        writer.close()

    listener = await asyncio.start_server(without, "127.0.0.1", 0)
    url = f"tls://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        with pytest.raises(bus.BusUnreachableError):
            await bus.connect(url, user=HUB, password="secret-word", tls=tls_context(url, made.authority))
    finally:
        listener.close()
        await listener.wait_closed()
    assert heard
    assert b"secret-word" not in heard
    assert b"CONNECT" not in heard


async def test_a_server_may_ask_for_a_certificate(tmp_path: Path, made: Certificates) -> None:
    config = tmp_path / "nats.conf"
    tls = bus_config.Tls(str(made.certificate), str(made.key), str(made.authority))
    bus_config.write(config, tmp_path / "passwords", 31337, [NODE], tls=tls)
    bring_here(config)
    async with running_nats(tmp_path / "streams", config=config) as server:
        told = Told(server, tmp_path / "passwords", made.authority)
        with pytest.raises(bus.BusUnreachableError):
            await told.connected(HUB)
        context = tls_context(told.url, made.authority, made.certificate, made.key)
        client = await bus.connect(told.url, user=HUB, password=told.password(HUB), tls=context)
        assert client.is_connected
        await client.close()


def test_certificates_that_cannot_be_used_are_told_of(tmp_path: Path, made: Certificates) -> None:
    with pytest.raises(NotTlsError, match="nats://a"):
        tls_context("tls://b, nats://user:pass@a", None)
    with pytest.raises(NotTlsError):
        tls_context("nats://a", made.authority)
    with pytest.raises(TlsFileError, match=r"absent\.pem"):
        tls_context("tls://a", tmp_path / "absent.pem")
    with pytest.raises(TlsFileError, match=r"ca\.pem"):
        tls_context("tls://a", made.authority, made.authority, made.key)
    assert tls_context("nats://a") is None
