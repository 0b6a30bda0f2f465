"""The trainer's wiring: sandbox, jobs, their reconciler and commands."""

from __future__ import annotations

if __name__ == "__main__":
    # before the imports below, which take a second: those of the sandbox go on beside them
    from agorai_trainer.sandbox import begin

    begin()

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, closing, nullcontext
from dataclasses import asdict
from functools import partial
from typing import Final

import aiohttp
from faststream.nats import NatsBroker, NatsRouter

from agorai_shared.abi.codec import as_int
from agorai_shared.answering import commands_of
from agorai_shared.bus import inbox_of
from agorai_shared.chain import Chain, Finality
from agorai_shared.command import Commander, bus_of, subject
from agorai_shared.consumers import FEW, HEARD
from agorai_shared.content import ContentStore
from agorai_shared.deployment import Deployment
from agorai_shared.events import BlockTick, ChainEvent
from agorai_shared.look_again import on_look_again
from agorai_shared.market import Market
from agorai_shared.pool_files import PoolFiles
from agorai_shared.reconciler import Reconciler, Scope
from agorai_shared.rpc import Rpc
from agorai_shared.service import Service, run
from agorai_shared.settings import NodeSettings
from agorai_shared.standby import Aside, active
from agorai_shared.task_files import TaskFiles
from agorai_shared.trail import Trail
from agorai_shared.vault import Vault
from agorai_shared.waking import hearing, on_final_events, stream_made
from agorai_trainer import decide, lending, messages
from agorai_trainer.borrowing import BorrowingSandbox
from agorai_trainer.federated import answering as task_answering
from agorai_trainer.federated import wiring as federated
from agorai_trainer.federated.reading import TaskReader
from agorai_trainer.handlers import JobProtocol, JobRefusedError
from agorai_trainer.job_store import JobStore
from agorai_trainer.lending import Lender
from agorai_trainer.packages import Packages, answering
from agorai_trainer.pooling import answering as pool_answering
from agorai_trainer.pooling import decide as pool_decide
from agorai_trainer.pooling.answering import PoolCommands
from agorai_trainer.pooling.handlers import PoolProtocol, RevealProtocol
from agorai_trainer.pooling.reading import PoolReader
from agorai_trainer.pooling.sandboxed import PoolSandbox
from agorai_trainer.pooling.store import PoolStore
from agorai_trainer.sandbox import Sandbox
from agorai_trainer.settings import SandboxSettings, TrainerSettings
from agorai_trainer.zygote import Threads

_OF_POOLS: Final = frozenset({"Opened", "Stopped", "Closed", "Forfeited"})
"""Events whose key is the pool."""
_OF_SAMPLES: Final = frozenset({"Resolved", "Settled", "Published"})
"""Events of contributions and versions after which there may be something to do."""


@asynccontextmanager
async def create(
    node: NodeSettings, settings: TrainerSettings, broker: NatsBroker, sandbox: Sandbox
) -> AsyncIterator[Service]:
    """Make the trainer of one participant; the sandbox may be shared and stays the giver's."""
    deployment = Deployment.load(node.deployment)
    token = node.node_token.get_secret_value()
    async with AsyncExitStack() as stack:
        rpc = await stack.enter_async_context(Rpc(node.rpc_url))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        store = ContentStore(settings.store_url, token, session)
        jobs = stack.enter_context(closing(JobStore(settings.path)))
        commander = Commander(bus_of(broker), settings.address, token)
        vault = Vault(commander, settings.vault_url, token, session, verb="step")
        max_content = settings.max_content_mib << 20
        market = Market(Chain(rpc, Finality(node.confirmations)), deployment, store, session)
        protocol = JobProtocol(market, vault, jobs, sandbox, max_content)
        trail = Trail(broker, settings.address, "trainer")
        # A job is this node's own, and no contract's.
        reconciler: Reconciler[decide.JobState, decide.Step] = Reconciler(
            protocol, Scope(deployment.chain_id, "trainer", settings.address), trail
        )
        kept = stack.enter_context(
            closing(PoolStore(settings.path, deployment.chain_id, deployment.data_pool))
        )
        reader = PoolReader(settings.address, PoolFiles(market), vault, kept)
        pools = PoolProtocol(reader, kept, PoolSandbox(sandbox))
        scope = Scope(deployment.chain_id, "DataPool", deployment.data_pool)
        versions: Reconciler[pool_decide.State, pool_decide.Step] = Reconciler(
            pools, scope, trail, clock=reader.now
        )
        reveals: Reconciler[pool_decide.Hidden, pool_decide.Close] = Reconciler(
            RevealProtocol(reader), scope, trail, clock=reader.now
        )
        task_reader = TaskReader(settings.address, TaskFiles(market), vault, kept)
        tasks = federated.make(task_reader, kept, sandbox, settings.ray, trail, max_content)
        router = NatsRouter()

        async def on_event(event: ChainEvent) -> None:
            if event.event in ("Delivered", "Refunded"):
                await asyncio.gather(*map(reconciler.wake, jobs.open(int(event.key))))

        def on_block(tick: BlockTick) -> None:
            reconciler.tick(tick.timestamp)
            versions.tick(tick.timestamp)
            reveals.tick(tick.timestamp)
            tasks.tick(tick.timestamp)

        on_final_events(
            router,
            deployment.chain_id,
            "Invocation",
            f"trainer-{settings.address}",
            on_event,
            inbox_of(node.bus_user),
        )
        on_final_events(
            router,
            deployment.chain_id,
            "DataPool",
            f"trainer-pool-{settings.address}",
            partial(_wake_pool, pools, (versions.wake, reveals.wake)),
            inbox_of(node.bus_user),
        )
        on_final_events(
            router,
            deployment.chain_id,
            "TrainingTask",
            f"trainer-task-{settings.address}",
            tasks.wake,
            inbox_of(node.bus_user),
            FEW["trainer-task"],
        )
        commands = commands_of(token)
        _commands(commands, settings, jobs, reconciler, sandbox)
        packages = Packages(vault, store, sandbox, max_content)
        await stack.enter_async_context(answering(commands, settings.address, packages))
        asked = PoolCommands(reader, kept, PoolSandbox(sandbox), versions.wake)
        await stack.enter_async_context(pool_answering.answering(commands, settings.address, asked))
        await stack.enter_async_context(task_answering.answering(commands, settings.address, tasks.commands))
        on_look_again(
            commands, settings.address, "trainer", reconciler, versions, reveals, *tasks.reconcilers
        )
        router.include_router(commands)

        @asynccontextmanager
        async def running() -> AsyncIterator[None]:
            await sandbox.start()
            async with (
                hearing(broker, deployment.chain_id, *HEARD["trainer"], tasks.wake),
                reconciler.running(),
                versions.running(),
                reveals.running(),
                tasks.running(),
            ):
                yield

        yield Service(
            "trainer",
            router,
            (),
            lambda: stream_made(broker, deployment.chain_id),
            running,
            {"sandbox": sandbox.check},
            on_block=on_block,
        )


async def _wake_pool(
    pools: PoolProtocol, wakes: Iterable[Callable[[int], object]], event: ChainEvent
) -> None:
    if event.event in _OF_POOLS:
        pool = int(event.key)
    elif event.event in _OF_SAMPLES:
        pool = as_int(event.args["pool"])
    else:
        return
    if await pools.concerns(pool):
        for wake in wakes:
            wake(pool)


def _commands(
    router: NatsRouter,
    settings: TrainerSettings,
    jobs: JobStore,
    reconciler: Reconciler[decide.JobState, decide.Step],
    sandbox: Sandbox,
) -> None:
    def verb(name: str) -> str:
        return subject(settings.address, "trainer", name)

    @router.subscriber(verb("submit"))
    async def submit(command: messages.Submit) -> messages.JobStatus:
        """Take a job; the same id is the same job."""
        key = jobs.add(command.job)
        reconciler.wake(key)
        return jobs.get(key)[1]

    @router.subscriber(verb("job"), max_workers=64)
    async def job(command: messages.WatchJob) -> messages.JobStatus:
        """Tell how far a job is, waiting a while for news."""
        return await jobs.wait(command.id, command.after, command.timeout_s)

    @router.subscriber(verb("cancel"))
    async def cancel(command: messages.Cancel) -> messages.JobStatus:
        """Give up a job that has not ended."""
        return await jobs.fail(jobs.key(command.id), JobRefusedError("it was cancelled"))

    @router.subscriber(verb("status"))
    async def status(_command: messages.Ask) -> messages.TrainerStatus:
        """Tell the trainer's own state."""
        return messages.TrainerStatus(isolation=asdict(await sandbox.start()), open_jobs=len(jobs.open()))


def main() -> None:
    """Run the trainer alone."""
    node, settings, bounds = NodeSettings(), TrainerSettings(), SandboxSettings()
    token = node.node_token.get_secret_value()

    @asynccontextmanager
    async def build(broker: NatsBroker) -> AsyncIterator[Service]:
        async with BorrowingSandbox(settings.path, token, bounds) as sandbox:
            host = settings.lend_host or await lending.host_of(node)

            def lends(port: int) -> AbstractContextManager[None]:
                if host is None:
                    return nullcontext()
                lender = Lender(url=lending.url_of(host, port), jobs=bounds.max_jobs)
                return lending.announced(settings.path, lender)

            aside = Aside(lending.routes(sandbox, token), lends)
            async with active(settings.path, node, aside), create(node, settings, broker, sandbox) as service:
                yield service

    run(node, build)


def make_sandbox() -> Sandbox:
    """Make the sandbox that the environment asks for."""
    settings = SandboxSettings()
    return Sandbox(settings.limits, max_jobs=settings.max_jobs, threads=Threads(settings.blas_threads))


if __name__ == "__main__":
    main()
