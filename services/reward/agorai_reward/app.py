"""The reward service's wiring: contributions and pools, each by their reconciler."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
from faststream.nats import NatsBroker, NatsRouter

from agorai_reward import decide, task_decide
from agorai_reward.answering import TaskCommands, answering
from agorai_reward.handlers import ContributionProtocol, PoolProtocol, Sender
from agorai_reward.settings import RewardSettings
from agorai_reward.task_handlers import TaskProtocol
from agorai_reward.task_record import Records
from agorai_shared.answering import commands_of
from agorai_shared.bindings.data_pool import Settled
from agorai_shared.bindings.voting_panel import VotingPanel
from agorai_shared.bus import inbox_of
from agorai_shared.chain import Chain, Finality
from agorai_shared.command import Commander, bus_of
from agorai_shared.consumers import FEW
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
from agorai_shared.task_files import TaskFiles
from agorai_shared.task_trainer import TaskTrainer
from agorai_shared.task_updates import UpdateReader
from agorai_shared.trail import Trail
from agorai_shared.types import Address, CaseId
from agorai_shared.vault import Vault
from agorai_shared.waking import on_final_events, stream_made

_OF_CONTRIBUTIONS = frozenset({"Added", "Challenged", "Answered", "Contested", "Resolved"})
"""Events that name a contribution which has not ended."""

_OF_POOLS = frozenset({"Stopped", "Forfeited", "Returned"})
"""Events that name a pool, and after which its bond may be shared, or sooner."""

Contributions = Reconciler[decide.Item, decide.Step]
Pools = Reconciler[decide.Share, decide.PoolStep]
Tasks = Reconciler[task_decide.Owed, task_decide.Step]


@asynccontextmanager
async def create(node: NodeSettings, settings: RewardSettings, broker: NatsBroker) -> AsyncIterator[Service]:
    """Make the reward service of one participant."""
    deployment = Deployment.load(node.deployment)
    token, chain_id = node.node_token.get_secret_value(), deployment.chain_id
    async with AsyncExitStack() as stack:
        rpc = await stack.enter_async_context(Rpc(node.rpc_url))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        store = ContentStore(settings.store_url, token, session)
        market = Market(Chain(rpc, Finality(node.confirmations)), deployment, store, session)
        files = PoolFiles(market)
        commander = Commander(bus_of(broker), settings.address, token)
        vault = Vault(commander, settings.vault_url, token, session, verb="step")
        sender = Sender(vault, VotingPanel(deployment.voting_panel))
        contributions = ContributionProtocol(files, settings.address, sender)
        pools = PoolProtocol(files, settings.address, sender)
        trail = Trail(broker, settings.address, "reward")
        scope = Scope(chain_id, "DataPool", deployment.data_pool, "reward")
        settling: Contributions = Reconciler(contributions, scope, trail, clock=contributions.now)
        sharing: Pools = Reconciler(pools, scope, trail, clock=contributions.now)
        opener = UpdateReader(settings.address, TaskFiles(market), vault)
        tasks = TaskProtocol(Records(opener, TaskTrainer(commander)), settings.address, sender)
        ending: Tasks = Reconciler(
            tasks,
            Scope(chain_id, "TrainingTask", deployment.training_task, "reward"),
            trail,
            clock=tasks.now,
        )
        router = NatsRouter()
        _wake(router, contributions, settling, pools, sharing, inbox_of(node.bus_user))
        _wake_tasks(router, chain_id, settings.address, tasks, ending, inbox_of(node.bus_user))
        commands = commands_of(token)
        await stack.enter_async_context(answering(commands, settings.address, TaskCommands(tasks)))
        on_look_again(commands, settings.address, "reward", settling, sharing, ending)
        router.include_router(commands)

        def on_block(tick: BlockTick) -> None:
            for reconciler in (settling, sharing, ending):
                reconciler.tick(tick.timestamp)

        @asynccontextmanager
        async def background() -> AsyncIterator[None]:
            async with settling.running(), sharing.running(), ending.running():
                yield

        yield Service(
            "reward", router, (), lambda: stream_made(broker, chain_id), background, {}, on_block=on_block
        )


def _wake(
    router: NatsRouter,
    contributions: ContributionProtocol,
    settling: Contributions,
    pools: PoolProtocol,
    sharing: Pools,
    inbox: str,
) -> None:
    chain_id, me = contributions.market.deployment.chain_id, contributions.me

    async def on_event(event: ChainEvent) -> None:
        if event.event in _OF_CONTRIBUTIONS and await contributions.concerns(int(event.key)):
            await settling.wake(int(event.key))
        elif event.event == "Settled" and (ended := Settled.from_args(event.args)).contributor == me:
            await sharing.wake(ended.pool)
        elif event.event in _OF_POOLS and await pools.concerns(int(event.key)):
            await sharing.wake(int(event.key))

    async def on_case(event: ChainEvent) -> None:
        case = CaseId(int(event.key)) if event.key.isdigit() else None
        contribution = None if case is None else await contributions.contribution_of(case)
        if contribution is not None and await contributions.concerns(contribution):
            await settling.wake(contribution)

    on_final_events(router, chain_id, "DataPool", f"reward-pool-{me}", on_event, inbox)
    on_final_events(router, chain_id, "VotingPanel", f"reward-panel-{me}", on_case, inbox)


def _wake_tasks(
    router: NatsRouter, chain_id: int, me: Address, tasks: TaskProtocol, ending: Tasks, inbox: str
) -> None:
    async def on_event(event: ChainEvent) -> None:
        if event.event == "Begun" and event.args["round"] != 1:
            return  # until its deadline nothing is to be done, and the one before is looked at anyway
        if event.event in FEW["reward-task"] and await tasks.concerns(int(event.key)):
            await ending.wake(int(event.key))

    async def on_case(event: ChainEvent) -> None:
        case = CaseId(int(event.key)) if event.key.isdigit() else None
        task = None if case is None else await tasks.task_of(case)
        if task is not None and await tasks.concerns(task):
            await ending.wake(task)

    on_final_events(
        router, chain_id, "TrainingTask", f"reward-task-{me}", on_event, inbox, FEW["reward-task"]
    )
    on_final_events(router, chain_id, "VotingPanel", f"reward-task-panel-{me}", on_case, inbox)


def main() -> None:
    """Run the reward service alone."""
    node, settings = NodeSettings(), RewardSettings()
    run(node, lambda broker: create(node, settings, broker))


if __name__ == "__main__":
    main()
