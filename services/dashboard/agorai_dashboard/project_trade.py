"""Trades and the cases before the panel, as their events change them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from agorai_dashboard.project_market import actor
from agorai_dashboard.rows import Rows, add, had
from agorai_dashboard.tables import ACTORS, CASES, SEATS, TRADES
from agorai_shared.bindings import fair_exchange, voting_panel

if TYPE_CHECKING:
    from agorai_dashboard.projecting import At


def _opened(rows: Rows, event: fair_exchange.Opened, at: At) -> None:
    terms = event.terms
    swap = terms.kind == fair_exchange.Kind.SWAP
    rows.put(
        TRADES,
        id=event.id,
        kind=terms.kind.name.lower(),
        mode=terms.mode.name.lower(),
        seller=event.seller,
        buyer=event.buyer,
        seller_resource=terms.seller_resource,
        buyer_resource=terms.buyer_resource if swap else None,
        price=terms.price,
        seller_deposit=terms.seller_deposit,
        buyer_deposit=terms.buyer_deposit,
        limits=orjson.dumps([terms.t0, terms.t1, terms.t2, terms.t3, terms.tb]).decode(),
        seller_accuracy=terms.seller_accuracy,
        buyer_accuracy=terms.buyer_accuracy if swap else None,
        panel_size=terms.panel_size,
        state="offered",
        open=True,
        outcome=None,
        opened_at=at.time,
        ended_at=None,
        deadline=at.time + terms.t0,
        seller_done=0,
        buyer_done=0,
        to_seller=None,
        to_buyer=None,
        faulted="",
    )


def _advanced(rows: Rows, event: fair_exchange.Advanced, _at: At) -> None:
    rows.change(TRADES, event.id, state=event.state.name.lower(), deadline=event.deadline)


def _fulfilled(rows: Rows, event: fair_exchange.Fulfilled, _at: At) -> None:
    row = had(rows, TRADES, event.id)
    side = "seller_done" if event.by == row["seller"] else "buyer_done"
    rows.change(TRADES, event.id, **{side: row[side] | 1 << event.step})


def _disputed(rows: Rows, event: fair_exchange.Disputed, _at: At) -> None:
    rows.change(TRADES, event.id, state="disputed", deadline=None)


def _faulted(rows: Rows, event: fair_exchange.Faulted, at: At) -> None:
    known = had(rows, TRADES, event.id)["faulted"]
    actor(rows, event.account, at)
    add(rows, ACTORS, event.account, faults=1)
    rows.change(TRADES, event.id, faulted=f"{known} {event.account}".strip())


def _ended(rows: Rows, event: fair_exchange.Ended, at: At) -> None:
    rows.change(
        TRADES,
        event.id,
        state="ended",
        open=False,
        outcome=event.outcome.name.lower(),
        ended_at=at.time,
        deadline=None,
        to_seller=event.to_seller,
        to_buyer=event.to_buyer,
    )


EXCHANGE: Final[dict[type[Any], Any]] = {
    fair_exchange.Opened: _opened,
    fair_exchange.Advanced: _advanced,
    fair_exchange.Fulfilled: _fulfilled,
    fair_exchange.Disputed: _disputed,
    fair_exchange.Faulted: _faulted,
    fair_exchange.Ended: _ended,
}


def _case_opened(rows: Rows, event: voting_panel.Opened, at: At) -> None:
    rows.put(
        CASES,
        id=event.id,
        opener=at.place.name(event.opener),
        item=str(event.item),
        accuser=event.accuser,
        accused=event.accused,
        size=event.size,
        bonus=event.bonus,
        round=1,
        state="drawing",
        open=True,
        since=at.time,
        committed=0,
        kept=0,
        verdict=None,
        confirming=0,
        revealed=0,
        opened_at=at.time,
        closed_at=None,
    )


def _awaited(rows: Rows, event: voting_panel.Awaited, at: At) -> None:
    row = had(rows, CASES, event.id)
    again = event.round == row["round"]  # another try at the same draw
    rows.change(
        CASES,
        event.id,
        round=event.round,
        state="drawing",
        since=row["since"] if again else at.time,
        committed=0,
        kept=row["revealed"],
    )


def _drawn(rows: Rows, event: voting_panel.Drawn, at: At) -> None:
    rows.change(CASES, event.id, state="committing", since=at.time)
    rows.put(
        SEATS,
        case_id=event.id,
        voter=event.voter,
        round=event.round,
        state="seated",
        confirms=None,
        at=at.time,
    )
    actor(rows, event.voter, at)
    add(rows, ACTORS, event.voter, seats=1)


def _committed(rows: Rows, event: voting_panel.Committed, at: At) -> None:
    rows.change(SEATS, event.id, event.voter, state="committed", at=at.time)
    row = had(rows, CASES, event.id)
    committed = row["committed"] + 1
    rows.change(CASES, event.id, committed=committed)
    if committed == row["size"] - row["kept"]:
        rows.change(CASES, event.id, state="revealing", since=at.time)


def _revealed(rows: Rows, event: voting_panel.Revealed, at: At) -> None:
    rows.change(SEATS, event.id, event.voter, state="revealed", confirms=event.confirms, at=at.time)
    add(rows, CASES, event.id, revealed=1, confirming=int(event.confirms))
    actor(rows, event.voter, at)
    add(rows, ACTORS, event.voter, votes=1)


def _absented(rows: Rows, event: voting_panel.Absented, at: At) -> None:
    rows.change(SEATS, event.id, event.voter, state="absent", at=at.time)
    actor(rows, event.voter, at)
    add(rows, ACTORS, event.voter, absences=1)


def _closed(rows: Rows, event: voting_panel.Closed, at: At) -> None:
    rows.change(
        CASES,
        event.id,
        state="closed",
        open=False,
        verdict=event.verdict.name.lower(),
        confirming=event.confirming,
        revealed=event.revealed,
        closed_at=at.time,
    )


PANEL: Final[dict[type[Any], Any]] = {
    voting_panel.Opened: _case_opened,
    voting_panel.Awaited: _awaited,
    voting_panel.Drawn: _drawn,
    voting_panel.Committed: _committed,
    voting_panel.Revealed: _revealed,
    voting_panel.Absented: _absented,
    voting_panel.Closed: _closed,
}
