"""Data pools, as their events change them: what was added, and what each account has laid down and got.

The sums follow `DataPool.sol`, function by function: `_share` and `_judge` divide what a challenge was about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agorai_dashboard.rows import Row, Rows, add, had
from agorai_dashboard.tables import (
    CASES,
    CONTRIBUTIONS,
    POOL_ACCOUNTS,
    POOL_BALANCES,
    POOL_POINTS,
    POOLS,
    VERSIONS,
)
from agorai_shared.bindings import data_pool
from agorai_shared.bindings.data_pool import Outcome
from agorai_shared.types import Address

if TYPE_CHECKING:
    from agorai_dashboard.projecting import At

_MOST_FAILED: Final = 128
_NOBODY: Final = "0x" + 40 * "0"


def _move(rows: Rows, pool: int, account: Address, amount: int, at: At, contributions: int = 0) -> bool:
    """Note what an account paid in (below 0) or got; gives whether it is its first contribution."""
    row = rows.get(POOL_ACCOUNTS, pool, account)
    net, moves, count = (row["net"], row["moves"], row["contributions"]) if row else (0, 0, 0)
    net += amount
    rows.put(
        POOL_ACCOUNTS,
        pool=pool,
        account=account,
        net=net,
        moves=moves + 1,
        contributions=count + contributions,
    )
    rows.append(POOL_BALANCES, pool=pool, account=account, number=moves + 1, time=at.time, net=net)
    return not count


def _grow(rows: Rows, pool: int, at: At, **amounts: int) -> None:
    """Add to a pool's counts, and note a point of its growth."""
    add(rows, POOLS, pool, points=1, **amounts)
    row = had(rows, POOLS, pool)
    rows.append(
        POOL_POINTS,
        pool=pool,
        number=row["points"],
        time=at.time,
        added=row["added"],
        accepted=row["accepted"],
    )


def _opened(rows: Rows, event: data_pool.Opened, at: At) -> None:
    terms = event.terms
    rows.put(
        POOLS,
        id=event.id,
        owner=event.owner,
        document="0x" + terms.document.hex(),
        state="open",
        open=True,
        opened_at=at.time,
        closes_at=terms.closes_at,
        ended_at=None,
        deposit=terms.deposit,
        reward=terms.reward,
        bond=terms.bond,
        budget=terms.budget,
        check_window=terms.check_window,
        answer_window=terms.answer_window,
        reveal_window=terms.reveal_window,
        panel_size=terms.panel_size,
        test_set=None,
        added=0,
        accepted=0,
        pending=0,
        contributions=0,
        contributors=0,
        versions=0,
        accuracy=None,
        points=0,
    )
    _move(rows, event.id, event.owner, -terms.bond - terms.budget, at)


def _funded(rows: Rows, event: data_pool.Funded, at: At) -> None:
    add(rows, POOLS, event.pool, budget=event.amount)
    _move(rows, event.pool, event.by, -event.amount, at)


def _stopped(rows: Rows, event: data_pool.Stopped, _at: At) -> None:
    rows.change(POOLS, event.pool, closes_at=event.closes_at)


def _closed(rows: Rows, event: data_pool.Closed, at: At) -> None:
    row = had(rows, POOLS, event.pool)
    rows.change(POOLS, event.pool, state="closed", test_set="0x" + event.test_set.hex())
    _move(rows, event.pool, row["owner"], row["bond"], at)


def _forfeited(rows: Rows, event: data_pool.Forfeited, _at: At) -> None:
    rows.change(POOLS, event.pool, state="forfeited")


def _returned(rows: Rows, event: data_pool.Returned, at: At) -> None:
    rows.change(POOLS, event.pool, open=False, ended_at=at.time)
    if event.amount:
        _move(rows, event.pool, had(rows, POOLS, event.pool)["owner"], event.amount, at)


def _claimed(rows: Rows, event: data_pool.Claimed, at: At) -> None:
    had(rows, POOLS, event.pool)
    _move(rows, event.pool, event.contributor, event.amount, at)


def _published(rows: Rows, event: data_pool.Published, at: At) -> None:
    add(rows, POOLS, event.pool, versions=1)
    rows.change(POOLS, event.pool, accuracy=event.accuracy)
    rows.put(
        VERSIONS,
        id=event.version,
        pool=event.pool,
        publisher=event.publisher,
        predecessor=event.predecessor or None,
        accuracy=event.accuracy,
        at=at.time,
        record="0x" + event.record.hex(),
        model="0x" + event.model.hex(),
        snapshot="0x" + event.snapshot.hex(),
    )


def _added(rows: Rows, event: data_pool.Added, at: At) -> None:
    pool = had(rows, POOLS, event.pool)
    rows.put(
        CONTRIBUTIONS,
        id=event.id,
        pool=event.pool,
        contributor=event.contributor,
        count=event.count,
        left=event.count,
        state="open",
        open=True,
        added_at=at.time,
        deadline=at.time + pool["check_window"],
        corrects=event.corrects or None,
        challenger=None,
        challenged=0,
        corrected=0,
        failed=0,
        challenges=0,
        upheld=None,
        contester=None,
        panel_case=None,
    )
    paid = event.count * pool["deposit"]
    first = _move(rows, event.pool, event.contributor, -paid, at, contributions=1)
    _grow(
        rows,
        event.pool,
        at,
        added=event.count,
        pending=event.count,
        contributions=1,
        contributors=int(first),
    )


def _stake(pool: Row, item: Row) -> int:
    return int(item["challenged"]) * int(pool["deposit"]) << int(item["failed"])


def _challenged(rows: Rows, event: data_pool.Challenged, at: At) -> None:
    rows.change(
        CONTRIBUTIONS,
        event.contribution,
        state="challenged",
        challenger=event.challenger,
        challenged=event.count,
        corrected=event.corrected,
        deadline=event.deadline,
        upheld=None,
        contester=None,
        panel_case=None,
    )
    add(rows, CONTRIBUTIONS, event.contribution, challenges=1)
    stake = _stake(had(rows, POOLS, event.pool), had(rows, CONTRIBUTIONS, event.contribution))
    _move(rows, event.pool, event.challenger, -stake, at)


def _answered(rows: Rows, event: data_pool.Answered, _at: At) -> None:
    rows.change(
        CONTRIBUTIONS, event.contribution, state="answered", upheld=event.upheld, deadline=event.deadline
    )


def _contested(rows: Rows, event: data_pool.Contested, at: At) -> None:
    contester = None if event.by == _NOBODY else event.by
    bonus = had(rows, CASES, event.panel_case)["bonus"] if contester is not None else 0
    rows.change(
        CONTRIBUTIONS,
        event.contribution,
        state="contested",
        contester=contester,
        panel_case=event.panel_case,
        deadline=None,
    )
    if contester is not None:
        _move(rows, event.pool, contester, -bonus, at)


def _resolved(rows: Rows, event: data_pool.Resolved, at: At) -> None:
    pool = had(rows, POOLS, event.pool)
    item = had(rows, CONTRIBUTIONS, event.contribution)
    if item["contester"] is not None:
        case = had(rows, CASES, item["panel_case"])
        answered = Outcome.UPHELD if item["upheld"] else Outcome.FAILED
        refund = 0 if case["revealed"] else case["bonus"]
        back = refund if event.outcome == answered else case["bonus"]
        if back:
            _move(rows, event.pool, item["contester"], back, at)
    stake, deposits = _stake(pool, item), item["challenged"] * pool["deposit"]
    left, failed, lost = item["left"], item["failed"], 0
    to_challenger = to_contributor = 0
    match event.outcome:
        case Outcome.FAILED:
            failed = min(failed + 1, _MOST_FAILED)
            to_contributor = stake // 2
        case Outcome.UPHELD:
            failed, lost, to_challenger = 0, item["challenged"], stake + deposits // 2
        case Outcome.UNDECIDED:
            lost, to_challenger, to_contributor = item["challenged"], stake, deposits
    if to_challenger:
        _move(rows, event.pool, event.challenger, to_challenger, at)
    if to_contributor:
        _move(rows, event.pool, item["contributor"], to_contributor, at)
    if lost:
        add(rows, POOLS, event.pool, pending=-lost)
    rows.change(
        CONTRIBUTIONS,
        event.contribution,
        state="open",
        left=left - lost,
        failed=failed,
        deadline=event.deadline or None,
        upheld=None,
    )


def _settled(rows: Rows, event: data_pool.Settled, at: At) -> None:
    left = had(rows, CONTRIBUTIONS, event.contribution)["left"]
    rows.change(CONTRIBUTIONS, event.contribution, state="settled", open=False, deadline=None)
    pool = had(rows, POOLS, event.pool)
    if event.accepted:
        earned = event.accepted * (pool["deposit"] + pool["reward"])
        _move(rows, event.pool, event.contributor, earned, at)
    _grow(rows, event.pool, at, accepted=event.accepted, pending=-left)


POOL: Final[dict[type[Any], Any]] = {
    data_pool.Opened: _opened,
    data_pool.Funded: _funded,
    data_pool.Stopped: _stopped,
    data_pool.Closed: _closed,
    data_pool.Forfeited: _forfeited,
    data_pool.Returned: _returned,
    data_pool.Claimed: _claimed,
    data_pool.Published: _published,
    data_pool.Added: _added,
    data_pool.Challenged: _challenged,
    data_pool.Answered: _answered,
    data_pool.Contested: _contested,
    data_pool.Resolved: _resolved,
    data_pool.Settled: _settled,
}
