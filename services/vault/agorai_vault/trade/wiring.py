"""What the vault's app adds for trades: waking, commands and the streams of packages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from faststream.nats import NatsRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from agorai_shared import vault as messages
from agorai_shared.command import subject
from agorai_shared.events import ChainEvent
from agorai_shared.reconciler import Reconciler
from agorai_shared.service import require_token
from agorai_shared.types import CaseId, TradeId
from agorai_shared.waking import on_final_events
from agorai_vault.trade import decide
from agorai_vault.trade.handlers import TradeProtocol
from agorai_vault.trade.judging import Judge

Trades = Reconciler[decide.TradeState, decide.Step]
Answer = Callable[[AsyncIterator[bytes]], Awaitable[Response]]


def wake(
    router: NatsRouter,
    chain_id: int,
    protocol: TradeProtocol,
    trades: Trades,
    inbox: str,
    on_other_case: Callable[[CaseId], Awaitable[None]],
) -> None:
    """Look again at a trade of this account when it, or the case about it, has moved."""

    async def on_trade(event: ChainEvent) -> None:
        trade = TradeId(int(event.key)) if event.key.isdigit() else None
        if trade is not None and await protocol.concerns(trade):
            await trades.wake(trade)

    async def on_case(event: ChainEvent) -> None:
        if not event.key.isdigit():
            return
        case = CaseId(int(event.key))
        trade = await protocol.trade_of(case)
        if trade is None:
            await on_other_case(case)
        elif await protocol.concerns(trade):
            await trades.wake(trade)

    on_final_events(router, chain_id, "FairExchange", f"vault-trades-{protocol.me}", on_trade, inbox)
    on_final_events(router, chain_id, "VotingPanel", f"vault-cases-{protocol.me}", on_case, inbox)


def commands(router: NatsRouter, protocol: TradeProtocol, trades: Trades, judge: Judge) -> None:
    """Answer what the command line and the verifier ask."""

    @router.subscriber(subject(protocol.me, "vault", "agree"))
    async def agree(command: messages.AgreeTo) -> messages.TradeStatus:
        """Agree to a trade on the terms on which it was opened."""
        trade = TradeId(command.trade)
        protocol.records.agree(trade, await protocol.transcript.terms(trade))
        trades.wake(trade)
        return await protocol.status(trade)

    @router.subscriber(subject(protocol.me, "vault", "trade"), max_workers=16)
    async def trade(command: messages.TradeOf) -> messages.TradeStatus:
        """Tell what this node found of a trade."""
        return await protocol.status(TradeId(command.trade))

    @router.subscriber(subject(protocol.me, "vault", "judge"), max_workers=4)
    async def judge_case(command: messages.JudgeCase) -> messages.CaseFinding:
        """Judge the transcript of a case for which this account was drawn."""
        return await judge.finding(CaseId(command.case), final=command.final)


def routes(protocol: TradeProtocol, judge: Judge, token: str, answer: Answer) -> list[BaseRoute]:
    """Stream packages in the clear to who holds the node's token."""

    async def traded(request: Request) -> Response:
        """Give the package that the other side of a trade handed over, in the clear."""
        require_token(request, token)
        return await answer(await protocol.package(TradeId(request.path_params["trade"])))

    async def own(request: Request) -> Response:
        """Give the package that this side of a trade hands over, in the clear."""
        require_token(request, token)
        return await answer(protocol.own_package(TradeId(request.path_params["trade"])))

    async def judged(request: Request) -> Response:
        """Give the package that a case is about, in the clear, to a voter."""
        require_token(request, token)
        return await answer(await judge.package(CaseId(request.path_params["case"])))

    async def chosen(request: Request) -> Response:
        """Give a set of a case that is judged instead of its package, in the clear, to a voter."""
        require_token(request, token)
        case, index = CaseId(request.path_params["case"]), request.path_params["index"]
        return await answer(await judge.package(case, index))

    return [
        Route("/vault/trades/{trade:int}/package", traded),
        Route("/vault/trades/{trade:int}/own", own),
        Route("/vault/cases/{case:int}/package", judged),
        Route("/vault/cases/{case:int}/sets/{index:int}", chosen),
    ]
