"""A training task whose nodes are killed goes on where the chain says; nobody loses or does anything twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, cast

import pytest

from agorai.client import Client
from agorai.devchain import TOKEN
from agorai.home import Home
from agorai.tasks import Tasks
from agorai_shared.bindings.training_task import TaskState
from agorai_shared.contract import ContractAbi
from agorai_shared.task_reward import TaskReward
from agorai_shared.types import Address, Wei
from tests.forks import SCRIPT, Forked
from tests.nodes import AGORAI, PASSPHRASE, Node, stop, up
from tests.trades import pass_time
from tests.training import FEE, WAGE, hidden_samples, offer_computing, offer_data, plan, shares

KILLS: Final = int(os.environ.get("AGORAI_TEST_KILLS", "0"))
"""Of each node, at any instant."""

ROUNDS: Final = 3
PROVIDERS: Final = ("dora", "dino")
UPDATES: Final = ROUNDS * len(PROVIDERS)
AWARD: Final = Wei(10 * TOKEN)
WINDOW_S: Final = 3600
"""Long enough for any number of restarts."""
PATIENCE_S: Final = 300.0
"""By when a moment, or a state, has come."""
MORTAL: Final = Path(__file__).with_name("mortal_node.py")

MOMENTS: Final[dict[str, tuple[str, ...]]] = {
    "mira": (
        "before Outbox.send of request",
        "after Outbox._prepare of request",
        "after Outbox.send of request",
        "after OwnedProtocol._put",
        "after Outbox._prepare of begin",
        "after TaskReader.updates",
        "after TaskReader.keep",
        "before FederatedSandbox.measure",
        "after Vault.seal_envelope",
        "after OwnedProtocol._put",
        "after Outbox.send of begin",
        "after OwnedProtocol._aggregated",
        "before Outbox.send of begin",
        "after Outbox._prepare of begin",
        "after TaskReader.state",
        "after Outbox._prepare of finish",
        "after TaskProtocol.payout",
        "after TaskProtocol._proposed",
        "after Outbox._prepare of propose",
    ),
    "dino": (
        "before Outbox.send of approve",
        "after ProvidedProtocol._handed_over",
        "after Outbox._prepare of approve",
    ),
    "cora": (
        "before Outbox.send of accept",
        "after Outbox._prepare of accept",
        "before FederatedSandbox.fit",
        "after ComputedProtocol._put",
        "before Outbox.send of update",
        "after Outbox._prepare of update",
        "after Outbox.send of update",
    ),
}
"""When each node is killed, one life after the other: the model provider's, a data provider's, the computer's."""

pytestmark = pytest.mark.skipif(
    not KILLS, reason="minutes of starting nodes: AGORAI_TEST_KILLS says how often"
)


@dataclass
class Place:
    """Nodes that share a bus and a chain, whose blocks are final a second after they are mined."""

    folder: Path
    nodes: dict[str, Node] = field(default_factory=dict)
    """Those that are up."""
    addresses: dict[str, Address] = field(default_factory=dict)

    async def up(self, name: str) -> None:
        arguments: tuple[object, ...] = ("--block-time", 0.25, "--confirmations", 3)
        begin: type[subprocess.Popen[str]] = subprocess.Popen
        if self.nodes:
            arguments, begin = ("--join", self.folder / PROVIDERS[0]), SCRIPT
        self.nodes[name] = await asyncio.to_thread(
            up, self.folder / name, "--name", name, *arguments, begin=begin
        )

    def kill(self, name: str) -> None:
        """Kill a node that is up."""
        process = self.nodes.pop(name).process
        process.kill()
        process.communicate()

    async def killed_at(self, name: str, moment: str) -> None:
        """Start a node that is killed at a moment, and wait until it is."""
        python = [] if issubclass(SCRIPT, Forked) else [sys.executable]
        with self._begun(name, *python, str(MORTAL), moment) as process:
            assert await asyncio.to_thread(process.wait, PATIENCE_S) == -signal.SIGKILL, moment

    async def killed_after(self, name: str, seconds: float) -> None:
        """Start a node, and kill it after a time, be it up or not."""
        with self._begun(name, AGORAI) as process, suppress(subprocess.TimeoutExpired):
            pytest.fail(f"{name} ended with {await asyncio.to_thread(process.wait, seconds)}")

    @contextmanager
    def _begun(self, name: str, *program: str) -> Iterator[subprocess.Popen[str]]:
        process = SCRIPT(
            [*program, "up", "--join", str(self.folder / PROVIDERS[0]), "--name", name],
            env={
                **os.environ,
                "AGORAI_HOME": str(self.folder / name),
                "AGORAI_VAULT_PASSPHRASE": PASSPHRASE,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    @asynccontextmanager
    async def tasks(self, name: str) -> AsyncIterator[Tasks]:
        async with Client.connect(Home(self.folder / name)) as client:
            self.addresses[name] = client.address
            yield Tasks(client)

    async def offer(self) -> None:
        """Have data and computing offered."""
        for name, rows in zip(PROVIDERS, shares(2), strict=True):
            async with self.tasks(name) as tasks:
                await offer_data(tasks.client, rows)
        async with self.tasks("cora") as tasks:
            await offer_computing(tasks.client)

    async def open(self) -> int:
        """Open a task that wants all of it."""
        digits = plan(rounds=ROUNDS, quorum=len(PROVIDERS))
        terms = replace(
            digits.terms, budget=Wei(UPDATES * FEE + AWARD), award=AWARD, bond=AWARD,
            join_window=WINDOW_S, round_window=WINDOW_S, step_window=WINDOW_S, challenge_window=WINDOW_S,
        )  # fmt: skip
        async with self.tasks("mira") as tasks:
            return await tasks.open(replace(digits, terms=terms), hidden_samples())


@asynccontextmanager
async def standing(folder: Path) -> AsyncIterator[Place]:
    place = Place(folder)
    try:
        for name in (*PROVIDERS, "cora", "mira"):
            await place.up(name)
        await place.offer()
        yield place
    finally:
        for node in reversed(place.nodes.values()):
            await asyncio.to_thread(stop, node)


async def test_killed_at_each_of_its_steps_a_task_ends_as_it_would(tmp_path: Path) -> None:
    async def killed(name: str) -> None:
        place.kill(name)
        for moment in MOMENTS[name]:
            await place.killed_at(name, moment)
        await place.up(name)

    async with standing(tmp_path) as place:
        task = await place.open()
        await asyncio.gather(*map(killed, MOMENTS))
        await ended_as_it_would(place, task)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_killed_at_any_instant_a_task_ends_as_it_would(tmp_path: Path, seed: int) -> None:
    async with standing(tmp_path) as place:
        task = await place.open()
        await killed_at_any_instant(place, seed)
        await ended_as_it_would(place, task)


async def killed_at_any_instant(place: Place, seed: int) -> None:
    """Kill nodes again and again, each within the time that three starts take: it may be starting still."""
    began = time.monotonic()
    place.kill("mira")
    await place.up("mira")
    start_s = time.monotonic() - began

    async def killed(name: str) -> None:
        instants = random.Random(f"{name} {seed}")
        place.kill(name)
        for _ in range(KILLS):
            await place.killed_after(name, start_s * instants.uniform(0.5, 3))
        await place.up(name)

    await asyncio.gather(*map(killed, MOMENTS))


async def ended_as_it_would(place: Place, task: int) -> None:
    """Bring a task to its end, and see that it is the one that it has where nobody is killed."""
    async with place.tasks(PROVIDERS[0]) as tasks:

        async def reached(state: TaskState) -> bool:
            return (await tasks.files.task(task)).state == state

        async def credit(*names: str) -> int:
            asked = [tasks.contract.credit_of(place.addresses[name]) for name in names]
            return sum(cast("Sequence[int]", await tasks.read(*asked)))

        await until(lambda: reached(TaskState.PROPOSED))
        for number in range(1, ROUNDS + 1):
            assert await tasks.trainer.replay(task, number)
        audited = await TaskReward(tasks.client.commander).audit(task)
        assert audited.verdict == "right", audited.findings
        await pass_time(tasks.client, WINDOW_S + 1)
        await until(lambda: reached(TaskState.SETTLED))

        history = await tasks.files.history(task)
        assert [len(one.updates) for one in history.rounds] == [len(PROVIDERS)] * ROUNDS
        sent = await calls(place, tasks)
        assert {name: sent["mira", name] for name in ("open", "begin", "finish", "propose")} == {
            "open": 1, "begin": ROUNDS, "finish": 1, "propose": 1,
        }  # fmt: skip
        assert sent["mira", "request"] == sent["cora", "accept"] == len(PROVIDERS)
        assert [sent[name, "approve"] for name in PROVIDERS] == [1, 1]
        assert sent["cora", "update"] == UPDATES

        async def all_credited() -> bool:
            return (
                await credit(*everyone) >= paid + AWARD - 2
            )  # the bond, and no more than remainders missing

        paid, everyone = UPDATES * FEE + AWARD, ("mira", "cora", *PROVIDERS)
        await until(all_credited)
        assert await credit("cora") == UPDATES * WAGE
        assert AWARD <= await credit("mira") <= AWARD + 2
        assert await credit(*everyone) <= paid + AWARD


async def until(look: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await look():  # noqa: ASYNC110 - the chain announces nothing to a test
            await asyncio.sleep(0.1)


async def calls(place: Place, tasks: Tasks) -> Counter[tuple[str, str]]:
    """Count the transactions to the contract, also those that reverted, by who sent them and the function."""
    functions = {one.selector.hex(): one.name for one in ContractAbi.load("TrainingTask").functions.values()}
    names = {address.lower(): name for name, address in place.addresses.items()}
    found: Counter[tuple[str, str]] = Counter()
    for number in range((await tasks.client.chain.head()).number + 1):
        block = cast("Any", await tasks.client.chain.rpc.request("eth_getBlockByNumber", hex(number), True))
        found.update(
            (names[one["from"].lower()], functions[one["input"][2:10]])
            for one in block["transactions"]
            if (one["to"] or "").lower() == tasks.contract.address.lower()
        )
    return found
