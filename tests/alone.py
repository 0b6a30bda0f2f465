"""Services in processes of their own, each told by its environment alone, and what a node of these must do."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from agorai.client import Client
from agorai.demo import ordinary
from agorai.demo.invocation import Case, boosting, describe
from agorai.devchain import TOKEN
from agorai_shared.processes import die_with_parent
from agorai_trainer.messages import Offer

CASE = Case("diabetes", "diabetes", boosting("Regressor", 5))
TOKEN_OF_NODE = "the node's own token"
PASSPHRASE = "a long enough passphrase"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def service(module: str, port: int, environment: dict[str, str]) -> AsyncIterator[None]:
    """Run a service's own main until left; it is ready when entered."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        env={**os.environ, **environment, "AGORAI_PORT": str(port)},
        preexec_fn=die_with_parent(),
    )
    try:
        async with asyncio.timeout(60), aiohttp.ClientSession() as session:
            while not await ready(session, port):
                assert process.returncode is None, f"{module} ended with {process.returncode}"
                await asyncio.sleep(0.05)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        assert await asyncio.wait_for(process.wait(), 60) == 0, module


async def ready(session: aiohttp.ClientSession, port: int) -> bool:
    try:
        async with session.get(f"http://127.0.0.1:{port}/health/ready") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def buy_and_sell(client: Client) -> None:
    """Publish data, buy them of oneself, train a model that is sold, buy that, and predict by it."""
    data = CASE.csv()
    resource = await client.publish(data, describe(CASE, data), Offer(name="data", price=TOKEN))
    right = await client.buy(resource)
    trained = await client.train(right.invocation, CASE.task, Offer(name="model", price=TOKEN))
    bought = await client.buy(trained.resource or 0)
    table, true = ordinary.held_back(data, CASE.task)
    assert len(await client.predict(bought.invocation, table)) == len(true)
