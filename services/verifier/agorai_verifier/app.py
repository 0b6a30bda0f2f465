"""The verifier's wiring: inspections by command, cases and contributions to pools by their reconcilers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
from faststream.nats import NatsBroker, NatsRouter

from agorai_shared import verifier as messages
from agorai_shared.answering import commands_of
from agorai_shared.bindings.fair_exchange import FairExchange
from agorai_shared.bindings.voting_panel import VotingPanel
from agorai_shared.bus import inbox_of
from agorai_shared.chain import Chain, Finality
from agorai_shared.command import Commander, bus_of, subject
from agorai_shared.content import ContentStore
from agorai_shared.deployment import Deployment
from agorai_shared.digest_files import DigestFiles
from agorai_shared.events import BlockTick, ChainEvent
from agorai_shared.look_again import on_look_again
from agorai_shared.market import Market
from agorai_shared.pool_files import PoolFiles
from agorai_shared.pool_trainer import PoolTrainer
from agorai_shared.reconciler import Reconciler, Scope
from agorai_shared.rpc import Rpc
from agorai_shared.service import Service, run
from agorai_shared.settings import NodeSettings
from agorai_shared.standby import active
from agorai_shared.task_reward import TaskReward
from agorai_shared.trail import Trail
from agorai_shared.trainer import Trainer
from agorai_shared.types import CaseId, TradeId
from agorai_shared.vault import Vault
from agorai_shared.waking import on_final_events, stream_made
from agorai_verifier import decide, pool_decide
from agorai_verifier.handlers import CaseProtocol, DataInspector, Inspector
from agorai_verifier.pool_decide import PoolItem, Watch
from agorai_verifier.pool_handlers import PoolProtocol
from agorai_verifier.pool_records import PoolRecords
from agorai_verifier.settings import VerifierSettings
from agorai_verifier.votes import Votes

_OF_CONTRIBUTIONS = frozenset({"Added", "Challenged", "Answered", "Resolved"})
"""Events that name a contribution, and after which there may be something to do."""


@asynccontextmanager
async def create(
    node: NodeSettings, settings: VerifierSettings, broker: NatsBroker
) -> AsyncIterator[Service]:
    """Make the verifier of one participant."""
    deployment = Deployment.load(node.deployment)
    token = node.node_token.get_secret_value()
    async with AsyncExitStack() as stack:
        rpc = await stack.enter_async_context(Rpc(node.rpc_url))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        store = ContentStore(settings.store_url, token, session)
        market = Market(Chain(rpc, Finality(node.confirmations)), deployment, store, session)
        commander = Commander(bus_of(broker), settings.address, token)
        exchange, panel = FairExchange(deployment.fair_exchange), VotingPanel(deployment.voting_panel)
        votes = Votes(settings.path, deployment.chain_id, panel.address)
        stack.callback(votes.close)
        evaluating = Trainer(commander)
        inspector = Inspector(market, exchange, evaluating)
        vault = Vault(commander, settings.vault_url, token, session, verb="step")
        trainer = PoolTrainer(commander)
        protocol = CaseProtocol(
            market=market,
            panel=panel,
            exchange=exchange,
            me=settings.address,
            vault=vault,
            inspector=inspector,
            votes=votes,
            pools=deployment.data_pool,
            trainer=trainer,
            tasks=deployment.training_task,
            reward=TaskReward(commander),
            data=DataInspector(DigestFiles(market), deployment.data_transfer, evaluating),
        )
        trail = Trail(broker, settings.address, "verifier")
        reconciler: Reconciler[decide.CaseState, decide.Step] = Reconciler(
            protocol, Scope(deployment.chain_id, "VotingPanel", panel.address), trail, clock=protocol.now
        )
        router = NatsRouter()
        _wake(router, deployment.chain_id, protocol, reconciler, inbox_of(node.bus_user))
        records = PoolRecords(settings.path, deployment.chain_id, deployment.data_pool)
        stack.callback(records.close)
        pools = PoolProtocol(
            PoolFiles(market), settings.address, vault, trainer, records, settings.stake_on_own
        )
        checking: Reconciler[PoolItem, pool_decide.Step] = Reconciler(
            pools, Scope(deployment.chain_id, "DataPool", deployment.data_pool), trail, clock=pools.now
        )
        _wake_pools(router, deployment.chain_id, pools, checking, inbox_of(node.bus_user))
        commands = commands_of(token)
        _commands(commands, protocol)
        _pool_commands(commands, pools, checking)
        on_look_again(commands, settings.address, "verifier", reconciler, checking)
        router.include_router(commands)

        def on_block(tick: BlockTick) -> None:
            reconciler.tick(tick.timestamp)
            checking.tick(tick.timestamp)

        @asynccontextmanager
        async def background() -> AsyncIterator[None]:
            async with reconciler.running(), checking.running():
                yield

        yield Service(
            "verifier",
            router,
            (),
            lambda: stream_made(broker, deployment.chain_id),
            background,
            {},
            on_block=on_block,
        )


def _wake(
    router: NatsRouter,
    chain_id: int,
    protocol: CaseProtocol,
    reconciler: Reconciler[decide.CaseState, decide.Step],
    inbox: str,
) -> None:
    async def on_event(event: ChainEvent) -> None:
        case = CaseId(int(event.key)) if event.key.isdigit() else None
        if case is not None and await protocol.concerns(case):
            await reconciler.wake(case)

    on_final_events(router, chain_id, "VotingPanel", f"verifier-{protocol.me}", on_event, inbox)


def _wake_pools(
    router: NatsRouter,
    chain_id: int,
    protocol: PoolProtocol,
    reconciler: Reconciler[PoolItem, pool_decide.Step],
    inbox: str,
) -> None:
    async def on_event(event: ChainEvent) -> None:
        if event.event in _OF_CONTRIBUTIONS and await protocol.concerns(int(event.key)):
            await reconciler.wake(int(event.key))

    on_final_events(router, chain_id, "DataPool", f"verifier-pool-{protocol.me}", on_event, inbox)


def _commands(router: NatsRouter, protocol: CaseProtocol) -> None:
    @router.subscriber(subject(protocol.me, "verifier", "inspect"), max_workers=4)
    async def inspect(command: messages.Inspect) -> messages.Report:
        """Hold the model that the other side of a trade handed over against what it promised."""
        trade = TradeId(command.trade)
        giver = await protocol.other_side(trade)
        return await protocol.inspector.inspect(trade, giver, f"/vault/trades/{trade}/package")


def _pool_commands(
    router: NatsRouter, protocol: PoolProtocol, reconciler: Reconciler[PoolItem, pool_decide.Step]
) -> None:
    @router.subscriber(subject(protocol.me, "verifier", "watch"))
    async def watch(command: messages.WatchPool) -> messages.WatchedPools:
        """Check what is added to a pool, or no more."""
        kind = Watch.OFF if command.off else Watch.STAKE if command.stake else Watch.LOOK
        await protocol.watch(command.pool, kind)
        for contribution in await protocol.open_of(command.pool):
            reconciler.wake(contribution)
        return messages.WatchedPools(pools=await protocol.watched())

    @router.subscriber(subject(protocol.me, "verifier", "watched"))
    async def watched(_command: messages.WatchedOf) -> messages.WatchedPools:
        """Tell which pools are watched."""
        return messages.WatchedPools(pools=await protocol.watched())

    @router.subscriber(subject(protocol.me, "verifier", "findings"))
    async def findings(command: messages.FindingsOf) -> messages.PoolFindings:
        """Tell what was found and nobody has challenged."""
        return messages.PoolFindings(findings=await protocol.findings(command.pool))


def main() -> None:
    """Run the verifier alone."""
    node, settings = NodeSettings(), VerifierSettings()

    @asynccontextmanager
    async def build(broker: NatsBroker) -> AsyncIterator[Service]:
        async with active(settings.path, node), create(node, settings, broker) as service:
            yield service

    run(node, build)


if __name__ == "__main__":
    main()
