"""The images, and the system that compose.yaml makes of them; `make containers` runs it where there is an engine."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import docker
import pytest
from testcontainers.core.container import DockerContainer

from agorai.client import Client
from agorai.demo import ordinary
from agorai.demo.invocation import describe
from agorai.devchain import TOKEN
from agorai.home import NodeFile
from agorai_trainer.messages import Offer
from tests.containers import ROOT, Composed, build, composed, require_base, require_engine
from tests.test_alone import CASE

SERVICES = ("hub", "storage", "vault", "trainer", "verifier", "reward", "dashboard")
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


def prepare() -> Any:
    spec = importlib.util.spec_from_file_location("prepare", ROOT / "deploy" / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.DockerClient]:
    with closing(require_engine()) as client:
        yield client


@pytest.fixture(scope="module")
def base(engine: docker.DockerClient) -> str:
    name = require_base(engine)
    for target in SERVICES:
        build(target, name)
    return name


def test_images_are_small_and_say_how_they_run(engine: docker.DockerClient, base: str) -> None:
    under = engine.images.get(base).attrs["Size"]
    for name in SERVICES:
        image = engine.images.get(f"agorai-{name}:test")
        beyond = (image.attrs["Size"] - under) / 1e6
        print(f"{name}: {beyond:.0f} MB beyond the base")  # noqa: T201 - told by `make containers`
        config = image.attrs["Config"]
        assert name in LEARNING or beyond < MEGABYTES_BEYOND_BASE, (name, beyond)
        assert config["User"] == "10001:10001"
        assert config["StopSignal"] == "SIGTERM"
        assert config["Entrypoint"] == ["/agorai/bin/python", "-m", f"agorai_{name}.app"]
        assert "/health/ready" in config["Healthcheck"]["Test"][-1]
        assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_images_hold_nothing_of_the_machine_that_built_them(base: str, engine: docker.DockerClient) -> None:
    for name in SERVICES:
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
        await module.chain(folder, rpc)
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
        places = [f"http://{system.address(name)}" for name in ("storage", "vault")]
        await module.join(folder, rpc, *places, f"tls://localhost:{system.address('nats', 4222)[10:]}")
        info = NodeFile.load(folder / "home" / "node.json")
        assert info is not None
        async with Client.connect(info) as client:
            data = CASE.csv()
            resource = await client.publish(data, describe(CASE, data), Offer(name="data", price=TOKEN))
            right = await client.buy(resource)
            trained = await client.train(right.invocation, CASE.task, Offer(name="model", price=TOKEN))
            bought = await client.buy(trained.resource or 0)
            table, true = ordinary.held_back(data, CASE.task)
            assert len(await client.predict(bought.invocation, table)) == len(true)
        for name, container in system.containers.items():
            held = container.get_wrapped_container()
            held.reload()
            host = held.attrs["HostConfig"]
            assert host["ReadonlyRootfs"], name
            assert host["CapDrop"] == ["ALL"]
            assert name not in SERVICES or held.attrs["State"]["Health"]["Status"] == "healthy", name
            assert held.attrs["Config"]["User"].partition(":")[0] not in ("", "0", "root")


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
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as answer:
                    if answer.status < 500 or "/health" not in url:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)
