"""The images, and a node's services run from them as compose.yaml says; `make containers` needs an engine for it."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import aiohttp
import docker
import pytest
from testcontainers.core.container import DockerContainer
from yarl import URL

from agorai.client import Client
from agorai.home import NodeFile
from agorai.hub_client import HubClient
from agorai_shared import cid
from agorai_shared.documents import Profile
from tests.alone import PASSPHRASE, buy_and_sell
from tests.composition import prepare
from tests.containers import Composed, build, composed, require_base, require_engine

SERVICES = ("hub", "storage", "vault", "trainer", "verifier", "reward", "dashboard")
IMAGES = ("chain", *SERVICES, "node")
LEARNING = ("trainer",)
MEGABYTES_BEYOND_BASE = 250
MEGABYTES_IDLE = {"trainer": 300, "verifier": 250}

pytestmark = [
    pytest.mark.skipif(
        not os.environ.get("AGORAI_TEST_CONTAINERS"),
        reason="building the images takes minutes: `make containers` runs these tests",
    ),
    pytest.mark.timeout(1200),
]


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.DockerClient]:
    with closing(require_engine()) as client:
        yield client


@pytest.fixture(scope="module")
def base(engine: docker.DockerClient) -> str:
    name = require_base(engine)
    for target in IMAGES:
        build(target, name)
    return name


def test_images_are_small_and_say_how_they_run(engine: docker.DockerClient, base: str) -> None:
    under = engine.images.get(base).attrs["Size"]
    for name in IMAGES:
        image = engine.images.get(f"agorai-{name}:test")
        beyond = (image.attrs["Size"] - under) / 1e6
        print(f"{name}: {beyond:.0f} MB beyond the base")  # noqa: T201 - told by `make containers`
        if name not in SERVICES:
            continue
        config = image.attrs["Config"]
        assert name in LEARNING or beyond < MEGABYTES_BEYOND_BASE, (name, beyond)
        assert config["User"] == "10001:10001"
        assert config["StopSignal"] == "SIGTERM"
        assert config["Entrypoint"] == ["/agorai/bin/python", "-m", f"agorai_{name}.app"]
        assert "/health/ready" in config["Healthcheck"]["Test"][-1]
        assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_images_hold_nothing_of_the_machine_that_built_them(base: str, engine: docker.DockerClient) -> None:
    for name in IMAGES:
        command = ["-c", "ls -d /source /cache /uv /run/secrets/* 2>/dev/null; true"]
        said = engine.containers.run(f"agorai-{name}:test", command, entrypoint="/bin/sh", remove=True)
        assert said == b"", (name, said)


async def test_the_composed_system_does_a_whole_purchase(tmp_path: Path, base: str) -> None:
    module, folder = prepare(), tmp_path / "local"
    await asyncio.to_thread(module.files, folder)
    with composed(folder, base) as system:
        await asyncio.to_thread(system.start, "chain")
        rpc = f"http://{system.address('chain', 8545)}"
        await until_answers(rpc)
        await module.chain(folder, module.Reached(rpc))
        await asyncio.to_thread(system.start, "nats")
        await asyncio.to_thread(with_sqlite, system)
        for name in SERVICES:
            began = time.monotonic()
            container = await asyncio.to_thread(system.start, name)
            try:
                await until_answers(f"http://{system.address(name)}/health/ready")
            except TimeoutError:
                pytest.fail(f"{name} is not ready: {container.get_logs()}")
            took, idle = time.monotonic() - began, await asyncio.to_thread(megabytes, container)
            print(f"{name}: ready {took:.1f} s after its start, {idle:.0f} MB")  # noqa: T201
            assert idle < MEGABYTES_IDLE.get(name, 120), name
        urls = {name: f"http://{system.address(name)}" for name in ("dashboard", "storage", "vault", "hub")}
        bus = f"tls://localhost:{system.address('nats', 4222)[10:]}"
        await module.join(folder, module.Reached(rpc, bus, **urls), None, None, None)
        info = NodeFile.load(folder / "home" / "node.json")
        assert info is not None
        async with Client.connect(info) as client, HubClient(info.hub_url or "") as hub:
            (actor,) = await client.chain.read(client.market.registry.actor(info.address))
            profile = await client.store.get_document(cid.of_digest(actor.profile))
            assert Profile.from_bytes(profile).inbox == "http://vault:8080/peer"
            assert [one.chain_id for one in await hub.chains()] == [client.deployment.chain_id]
            await buy_and_sell(client)
        for name, container in system.containers.items():
            held = container.get_wrapped_container()
            held.reload()
            host = held.attrs["HostConfig"]
            assert host["ReadonlyRootfs"], name
            assert host["CapDrop"] == ["ALL"]
            assert host["PidsLimit"] == system.services[name]["pids_limit"]
            assert name == "nats" or held.attrs["State"]["Health"]["Status"] == "healthy", name
            assert held.attrs["Config"]["User"].partition(":")[0] not in ("", "0", "root")


async def test_a_node_in_one_container_is_ready_and_lets_its_owner_in(base: str) -> None:
    node = DockerContainer("agorai-node:test").with_env("AGORAI_VAULT_PASSPHRASE", PASSPHRASE)
    with node.with_exposed_ports(8080, 8100) as container:
        await until_answers(f"http://127.0.0.1:{container.get_exposed_port(8080)}/health/ready")
        command = ["agorai", "dashboard", "sign-in", "http://127.0.0.1:8100", "--json"]
        signing = await asyncio.to_thread(container.exec, command)
        assert signing.exit_code == 0, signing.output
        link = URL(json.loads(signing.output)["url"]).with_port(int(container.get_exposed_port(8100)))
        async with aiohttp.ClientSession() as session, session.get(link, allow_redirects=False) as answer:
            assert answer.status == 303
            assert answer.cookies


def with_sqlite(system: Composed) -> None:
    """Have the dashboard keep its read model in a file: there is no image of PostgreSQL here."""
    dashboard = system.services["dashboard"]
    dashboard["secrets"] = [one for one in dashboard["secrets"] if one["source"] != "database"]


def megabytes(container: DockerContainer) -> float:
    """Give what a container's processes hold, without files that the kernel keeps for them."""
    held = container.get_wrapped_container().stats(stream=False)["memory_stats"]["stats"]
    return (
        float(held["anon"] if "anon" in held else held["total_rss"]) / 1e6
    )  # cgroups' second and first version


async def until_answers(url: str) -> None:
    async with asyncio.timeout(180), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as answer:
                    if answer.status < 500 or "/health" not in url:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)
