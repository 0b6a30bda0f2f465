"""What the vault's app adds for transfers: their reconciler, its waking, and the streams of their data."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from agorai_shared.digest_files import DigestFiles
from agorai_shared.reconciler import Reconciler, Scope
from agorai_shared.service import require_token
from agorai_shared.trail import Trail
from agorai_shared.transfer_key import TOPIC
from agorai_shared.types import CaseId
from agorai_vault.envelopes import Envelopes
from agorai_vault.outbox import Outbox
from agorai_vault.peers import Peers
from agorai_vault.trade.wiring import Answer
from agorai_vault.transfer import decide
from agorai_vault.transfer.handlers import TransferProtocol
from agorai_vault.transfer.opening import TransferData
from agorai_vault.transfer.records import TransferRecords

Transfers = Reconciler[decide.CaseState, decide.Step]


def make(
    envelopes: Envelopes, outbox: Outbox, database: sqlite3.Connection, peers: Peers, trail: Trail
) -> tuple[TransferProtocol, Transfers]:
    """Make what takes part in cases about transfers."""
    market, records = envelopes.market, TransferRecords(database, peers)
    data = TransferData(market, envelopes.keys, records, DigestFiles(market))
    protocol = TransferProtocol(data, envelopes, outbox)
    peers.on(TOPIC, protocol)
    deployment = market.deployment
    scope = Scope(deployment.chain_id, "VotingPanel", deployment.voting_panel, "transfer")
    return protocol, Reconciler(protocol, scope, trail, clock=protocol.now)


def waking(protocol: TransferProtocol, transfers: Transfers) -> Callable[[CaseId], Awaitable[None]]:
    """Give what looks again at a case about a transfer that concerns this account."""

    async def wake(case: CaseId) -> None:
        if await protocol.concerns(case):
            await transfers.wake(case)

    return wake


def routes(data: TransferData, token: str, answer: Answer) -> list[BaseRoute]:
    """Stream data in the clear to who holds the node's token."""

    async def judged(request: Request) -> Response:
        """Give the data that a case is about, in the clear, to a voter."""
        require_token(request, token)
        return await answer(await data.judged(CaseId(request.path_params["case"])))

    async def bought(request: Request) -> Response:
        """Give the data of a transfer, in the clear, by the key that voters told their consumer."""
        require_token(request, token)
        return await answer(await data.bought(request.path_params["transfer"]))

    return [
        Route("/vault/cases/{case:int}/data", judged),
        Route("/vault/transfers/{transfer:int}/data", bought),
    ]
