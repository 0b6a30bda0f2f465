"""The verifier's wiring: inspections by command, cases by their reconciler."""

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
from agorai_shared.events import BlockTick, ChainEvent
from agorai_shared.market import Market
from agorai_shared.reconciler import Reconciler, bury
from agorai_shared.rpc import Rpc
from agorai_shared.service import Service, run
from agorai_shared.settings import NodeSettings
from agorai_shared.trainer import Trainer
from agorai_shared.types import CaseId, TradeId
from agorai_shared.vault import Vault
from agorai_shared.waking import on_final_blocks, on_final_events, stream_made
from agorai_verifier import decide
from agorai_verifier.handlers import CaseProtocol, Inspector
from agorai_verifier.settings import VerifierSettings
from agorai_verifier.votes import Votes


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
        inspector = Inspector(market, exchange, Trainer(commander))
        vault = Vault(commander, settings.vault_url, token, session)
        protocol = CaseProtocol(market, panel, exchange, settings.address, vault, inspector, votes)
        reconciler: Reconciler[decide.CaseState, decide.Step] = Reconciler(
            protocol, (deployment.chain_id, panel.address), bury(broker, "verifier"), clock=protocol.now
        )
        router = NatsRouter()
        _wake(router, deployment.chain_id, protocol, reconciler, inbox_of(node.bus_user))
        commands = commands_of(token)
        _commands(commands, protocol)
        router.include_router(commands)
        yield Service(
            "verifier", router, (), lambda: stream_made(broker, deployment.chain_id), reconciler.running, {}
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

    def on_block(tick: BlockTick) -> None:
        reconciler.tick(tick.timestamp)

    on_final_events(router, chain_id, "VotingPanel", f"verifier-{protocol.me}", on_event, inbox)
    on_final_blocks(router, chain_id, on_block)


def _commands(router: NatsRouter, protocol: CaseProtocol) -> None:
    @router.subscriber(subject(protocol.me, "verifier", "inspect"), max_workers=4)
    async def inspect(command: messages.Inspect) -> messages.Report:
        """Hold the model that the other side of a trade handed over against what it promised."""
        trade = TradeId(command.trade)
        giver = await protocol.other_side(trade)
        return await protocol.inspector.inspect(trade, giver, f"/vault/trades/{trade}/package")


def main() -> None:
    """Run the verifier alone."""
    node, settings = NodeSettings(), VerifierSettings()
    run(node, lambda broker: create(node, settings, broker))


if __name__ == "__main__":
    main()
