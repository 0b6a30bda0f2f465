"""Flows of every sort between an owner and a buyer, each of which bears being asked for again and again."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from agorai.client import Client
from agorai.devchain import TOKEN
from agorai.pools import Pools
from agorai_shared import cid as cids
from agorai_shared import pool_history
from agorai_shared.bindings.data_pool import Added, Settled
from agorai_shared.bindings.fair_exchange import Ended, Opened, Outcome, State
from agorai_shared.bindings.invocation import Delivered, Paid, Used
from agorai_shared.bindings.registry import Registered
from agorai_shared.contract import Call
from agorai_shared.documents import Column, Metadata
from agorai_shared.errors import AgoraiError
from agorai_shared.types import Address, Cid, ResourceId, TradeId, Wei
from agorai_trainer.messages import JobStatus, Offer, Submit, TrainJob, WatchJob
from tests import pooling, trades
from tests.replicated import Replicas

SORTS: Final = {"purchase": 8, "training": 4, "payment": 4, "contribution": 3, "trade": 1}
"""Of so many flows each; and one of each at least."""
PRICE: Final = 2 * TOKEN
FRIEND: Final = Address("0x000000000000000000000000000000000000dEaD")
SAMPLES: Final = 2
"""Of one contribution."""
PATIENCE_S: Final = 300
LIMIT_S: Final = 7200
"""Of a trade: longer than any load takes."""

PAUSE_S: Final = 1.0, 5.0
"""From one kill to the next."""
LEAST_KILLS: Final = 3

ResultT = TypeVar("ResultT")


async def surely(ask: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """Ask again for as long as that may help, five minutes at most: one who was asked may have been killed."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await ask()
        except AgoraiError as error:
            if not error.retryable or time.monotonic() > give_up:
                raise
        await asyncio.sleep(0.2)


async def end_of(client: Client, job: TrainJob) -> JobStatus:
    """Wait for a job's end, asking often: a trainer that was killed never answers."""
    status = JobStatus(id=job.id, kind="train", invocation=job.invocation, revision=-1, stage="waiting")
    while not status.ended:
        watch = WatchJob(id=job.id, after=status.revision, timeout_s=2)
        ask = partial(client.commander.ask, "trainer", "job", watch, JobStatus, 4)
        status = await surely(ask)
    return status


def mixed(count: int, chance: random.Random) -> list[str]:
    """Give the sorts of so many flows in an order of chance."""
    whole = sum(SORTS.values())
    sorts = [sort for sort, share in SORTS.items() for _ in range(max(1, count * share // whole))]
    sorts += ["purchase"] * (count - len(sorts))
    chance.shuffle(sorts)
    return sorts


@dataclass
class Flows:
    """What the two deal in, and how each sort of flow goes from its begin to its good end."""

    owner: Client
    buyer: Client
    cells: int
    """Data set of the owner's, of which one payment buys one use."""
    model: ResourceId
    verification: Cid
    pool: int
    done: Counter[str] = field(default_factory=Counter)

    async def run(self, sort: str, number: int) -> None:
        flow = getattr(self, sort)
        await flow(number)
        self.done[sort] += 1

    async def bought(self, number: int) -> int:
        invocation = self.buyer.market.invocation
        allowed = invocation.pay(ResourceId(self.cells), Wei(PRICE))
        sent = await self._sent(self.buyer, f"pay/{number}", allowed)
        paid = await surely(lambda: self.buyer.market.emitted(sent, Paid))
        await surely(lambda: self.buyer.delivered(paid.id))
        return paid.id

    async def purchase(self, number: int) -> None:
        await self.bought(number)

    async def training(self, number: int) -> None:
        job = TrainJob(
            id=f"{number:032x}",
            invocation=await self.bought(number),
            task=trades.TASK,
            offer=Offer(name=f"model {number}", price=TOKEN),
        )
        await surely(partial(self.buyer.commander.ask, "trainer", "submit", Submit(job=job), JobStatus))
        status = await end_of(self.buyer, job)
        assert status.stage == "done", status.failure

    async def payment(self, number: int) -> None:
        await self._sent(
            self.buyer, f"payment/{number}", self.buyer.market.token.transfer(FRIEND, Wei(number))
        )

    async def contribution(self, number: int) -> None:
        pools = Pools(self.buyer)
        first = pooling.INITIAL + 100 + SAMPLES * number % (len(pooling.table()) - pooling.INITIAL - 100)
        data = pooling.csv(first, first + SAMPLES)
        digest, salt = cids.digest_of(cids.of_raw(data)), hashlib.sha256(b"%d" % number).digest()
        bound = pool_history.commitment(
            self.buyer.deployment.chain_id,
            pools.contract.address,
            self.buyer.address,
            self.pool,
            0,
            digest,
            salt,
        )
        await self._sent(self.buyer, f"bind/{number}", pools.contract.commit(bound))
        await self._sent(
            self.buyer, f"add/{number}", pools.contract.add(self.pool, SAMPLES, digest, data, salt)
        )

    async def trade(self, number: int) -> None:
        agreed = trades.terms(self.owner, self.buyer, self.model, self.verification, limit_s=LIMIT_S)
        exchange = trades.exchange_of(self.owner)
        sent = await self._sent(self.owner, f"open/{number}", exchange.open(agreed))
        trade = TradeId((await surely(lambda: self.owner.market.emitted(sent, Opened))).id)
        await surely(lambda: self.buyer.vault.agree(trade))
        async with asyncio.timeout(PATIENCE_S):
            while True:
                (found,) = await surely(lambda: self.buyer.market.chain.read(exchange.trade(trade)))
                if found.state >= State.ENDED:
                    break
                await asyncio.sleep(0.2)
        assert found.outcome == Outcome.COMPLETED

    async def _sent(self, client: Client, once: str, call: Call[Any]) -> Any:
        return await surely(lambda: client.transact(call, once=f"load/{once}"))


async def in_parallel(load: Flows, sorts: list[str]) -> None:
    """Run flows, many of them at once."""
    turns = asyncio.Semaphore(max(3, len(sorts) // 20))

    async def one(number: int, sort: str) -> None:
        async with turns:
            await load.run(sort, number)

    async with asyncio.TaskGroup() as group:
        for number, sort in enumerate(sorts, 1):
            group.create_task(one(number, sort), name=f"{sort} {number}")


@dataclass
class Killer:
    """Kills a process of chance every few seconds, and starts it again at once."""

    services: list[Replicas]
    chance: random.Random
    kills: list[str] = field(default_factory=list)

    async def kill_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self.chance.uniform(*PAUSE_S))
            service = self.chance.choice(self.services)
            place = self.chance.randrange(len(service.members))
            member = service.members[place]
            await member.kill()
            await member.start()
            self.kills.append(f"{service.name} {place}")

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Kill as long as entered, and then until it was often enough."""
        killing = asyncio.create_task(self.kill_for_ever())
        try:
            yield
            while len(self.kills) < LEAST_KILLS and not killing.done():  # noqa: ASYNC110 - it has no news to give
                await asyncio.sleep(0.1)
        finally:
            killing.cancel()
            (ended,) = await asyncio.gather(killing, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError), ended


async def prepared(owner: Client, buyer: Client) -> Flows:
    """Make what is dealt in, and let the contracts take what the two pay."""
    table = trades.csv(0, 400)
    columns = tuple(Column(name=f"f{n}", type="float") for n in range(30))
    metadata = Metadata(
        kind="data", name="cells", format="csv", size=len(table), columns=columns, rows=400, target="target",
        task="classification",
    )  # fmt: skip
    cells = await owner.publish(table, metadata, Offer(name="cells", price=PRICE, uses=1))
    model = await trades.model_of(owner)
    await trades.listed(owner, model)
    verification = await buyer.store.put_document(trades.csv(500, 569))
    pool = await pooling.open_pool(Pools(owner))
    await pooling.until(lambda: _has_version(Pools(owner), pool), "the first version")
    for client in (owner, buyer):
        token, deployment = client.market.token, client.deployment
        for contract in (deployment.invocation, deployment.fair_exchange, deployment.data_pool):
            await client.transact(token.approve(contract, Wei(2**255)))
    return Flows(owner, buyer, cells, model, verification, pool)


async def _has_version(pools: Pools, pool: int) -> bool:
    return len((await pools.files.history(pool)).versions) > 0


@dataclass(frozen=True)
class Counted:
    """What is on the chain: how often each thing happened, and to how many different items."""

    happened: Counter[str]
    items: Counter[str]

    @classmethod
    async def read(cls, client: Client) -> Counted:
        deployment = client.deployment
        kinds: list[tuple[Address, Any, Callable[[Any], Any]]] = [
            (deployment.invocation, Paid, lambda one: one.id),
            (deployment.invocation, Delivered, lambda one: one.id),
            (deployment.invocation, Used, lambda one: one.id),
            (deployment.registry, Registered, lambda one: one.metadata),
            (deployment.data_pool, Added, lambda one: one.id),
            (deployment.data_pool, Settled, lambda one: one.contribution),
            (deployment.fair_exchange, Ended, lambda one: one.id),
        ]
        happened, items = Counter[str](), Counter[str]()
        for contract, kind, item in kinds:
            found = [event for event, _ in await client.market.events(contract, kind)]
            happened[kind.__name__] = len(found)
            items[kind.__name__] = len({item(one) for one in found})
        return cls(happened, items)

    def __sub__(self, before: Counted) -> Counted:
        return Counted(
            Counter({name: count - before.happened[name] for name, count in self.happened.items()}),
            Counter({name: count - before.items[name] for name, count in self.items.items()}),
        )


async def owned(client: Client) -> int:
    """Give an account's tokens and all that contracts owe it, in the smallest unit."""
    found: tuple[int, ...] = await client.chain.read(
        client.market.token.balance_of(client.address),
        client.market.invocation.credit_of(client.address),
        trades.exchange_of(client).credit_of(client.address),
        Pools(client).contract.credit_of(client.address),
    )
    return sum(found)
