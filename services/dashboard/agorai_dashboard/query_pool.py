"""Data pools, as pages show them (the papers' Figs. 9-12)."""

from __future__ import annotations

from typing import Final

from sqlalchemy import or_, select

from agorai_dashboard import duties
from agorai_dashboard.looking import Look, thinned
from agorai_dashboard.rows import Row
from agorai_dashboard.tables import (
    CONTRIBUTIONS,
    POOL_ACCOUNTS,
    POOL_BALANCES,
    POOL_POINTS,
    POOLS,
    VERSIONS,
)
from agorai_dashboard.views import Curve, DocumentState, Page, Point, Stage
from agorai_dashboard.views_pool import ContributionRow, Pool, PoolRow, VersionRow
from agorai_shared.pool import PoolDocument
from agorai_shared.pool_files import PoolAbsentError

_MOST_ACCOUNTS: Final = 8
"""Accounts whose balance is drawn: those with the most movements."""
_MOST_VERSIONS: Final = 1000


def pool_row(look: Look, row: Row) -> PoolRow:
    """Give a pool as lists show it."""
    _, document = _description(look, row)
    return _pool_row(row, document, look.now)


def _description(look: Look, row: Row) -> tuple[DocumentState, PoolDocument | None]:
    what = f"description of pool {row['id']}"
    return look.document(PoolDocument, row["document"], what, row["owner"])


def _pool_row(row: Row, document: PoolDocument | None, now: int) -> PoolRow:
    return PoolRow(
        id=row["id"],
        owner=row["owner"],
        name=document.name if document else None,
        state=duties.pool_state(row, now),
        opened_at=row["opened_at"],
        closes_at=row["closes_at"],
        accepted=row["accepted"],
        pending=row["pending"],
        contributions=row["contributions"],
        contributors=row["contributors"],
        versions=row["versions"],
        accuracy=row["accuracy"],
        duty=duties.of_pool(row, now),
    )


def pools(look: Look, cursor: str | None, most: int) -> Page[PoolRow]:
    """Give pools, the newest first."""
    rows, following = look.page(select(POOLS), POOLS.c.id, cursor, most)
    return Page(tuple(pool_row(look, row) for row in rows), following)


def pool(look: Look, id_: int, cursor: str | None, most: int) -> Pool:
    """Give one pool; the cursor is of its contributions. Raises `PoolAbsentError`."""
    row = look.row(select(POOLS).where(POOLS.c.id == id_))
    if row is None:
        raise PoolAbsentError(id_)
    state, document = _description(look, row)
    versions = _versions(look, id_)
    return Pool(
        row=_pool_row(row, document, look.now),
        document=state,
        description=document.description if document else None,
        deposit=row["deposit"],
        reward=row["reward"],
        bond=row["bond"],
        budget=row["budget"],
        check_window=row["check_window"],
        answer_window=row["answer_window"],
        reveal_window=row["reveal_window"],
        panel_size=row["panel_size"],
        test_set=row["test_set"],
        growth=_growth(look, row),
        balances=_balances(look, id_),
        accuracy=_accuracy(versions),
        contributions=_contributions(look, row, cursor, most),
        versions=versions,
        stages=_stages(row),
    )


def _growth(look: Look, row: Row) -> tuple[Curve, ...]:
    every, number = thinned(row["points"]), POOL_POINTS.c.number
    wanted = (
        select(POOL_POINTS)
        .where(POOL_POINTS.c.pool == row["id"], or_(number % every == 0, number == row["points"]))
        .order_by(number)
    )
    points = look.rows(wanted)
    return tuple(
        Curve(name, tuple(Point(point["time"], point[name]) for point in points))
        for name in ("accepted", "added")
    )


def _balances(look: Look, pool: int) -> tuple[Curve, ...]:
    moves, number = POOL_ACCOUNTS.c.moves, POOL_BALANCES.c.number
    accounts = look.rows(
        select(POOL_ACCOUNTS)
        .where(POOL_ACCOUNTS.c.pool == pool)
        .order_by(moves.desc(), POOL_ACCOUNTS.c.account)
        .limit(_MOST_ACCOUNTS)
    )
    curves = []
    for account in accounts:
        every = thinned(account["moves"])
        wanted = (
            select(POOL_BALANCES.c.time, POOL_BALANCES.c.net)
            .where(
                POOL_BALANCES.c.pool == pool,
                POOL_BALANCES.c.account == account["account"],
                or_(number % every == 0, number == account["moves"]),
            )
            .order_by(number)
        )
        points = tuple(Point(point["time"], point["net"]) for point in look.rows(wanted))
        curves.append(Curve(account["account"], points))
    return tuple(curves)


def _versions(look: Look, pool: int) -> tuple[VersionRow, ...]:
    wanted = select(VERSIONS).where(VERSIONS.c.pool == pool).order_by(VERSIONS.c.id.desc())
    return tuple(
        VersionRow(
            id=row["id"],
            publisher=row["publisher"],
            predecessor=row["predecessor"],
            accuracy=row["accuracy"],
            at=row["at"],
            record=row["record"],
            model=row["model"],
            snapshot=row["snapshot"],
        )
        for row in look.rows(wanted.limit(_MOST_VERSIONS))
    )


def _accuracy(versions: tuple[VersionRow, ...]) -> tuple[Curve, ...]:
    curves: dict[str, list[Point]] = {}
    for version in reversed(versions):
        curves.setdefault(version.publisher, []).append(Point(version.at, version.accuracy))
    return tuple(Curve(publisher, tuple(points)) for publisher, points in curves.items())


def _contributions(look: Look, pool: Row, cursor: str | None, most: int) -> Page[ContributionRow]:
    wanted = select(CONTRIBUTIONS).where(CONTRIBUTIONS.c.pool == pool["id"])
    rows, following = look.page(wanted, CONTRIBUTIONS.c.id, cursor, most)
    return Page(tuple(contribution_row(row, pool["owner"], look.now) for row in rows), following)


def contribution_row(row: Row, owner: str, now: int) -> ContributionRow:
    """Give a contribution as lists show it."""
    return ContributionRow(
        id=row["id"],
        pool=row["pool"],
        contributor=row["contributor"],
        count=row["count"],
        left=row["left"],
        state=row["state"],
        added_at=row["added_at"],
        deadline=row["deadline"],
        corrects=row["corrects"],
        challenger=row["challenger"],
        challenges=row["challenges"],
        upheld=row["upheld"],
        panel_case=row["panel_case"],
        duty=duties.of_contribution(row, owner, now),
    )


def _stages(row: Row) -> tuple[Stage, ...]:
    closes, revealed = row["closes_at"], row["state"] != "open"
    opened = Stage("open", row["opened_at"], closes, revealed, None, ())
    reveal = row["reveal_window"]
    closing = Stage("closing", closes if revealed else None, closes + reveal, revealed, reveal, ())
    ending = Stage(row["state"] if revealed else "closed", row["ended_at"], None, not row["open"], None, ())
    return opened, closing, ending
