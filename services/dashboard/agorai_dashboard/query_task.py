"""Training tasks, as pages show them."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from sqlalchemy import or_, select

from agorai_dashboard import duties
from agorai_dashboard.looking import Look
from agorai_dashboard.rows import Row
from agorai_dashboard.tables import CLAIMS, PAYOUTS, ROUNDS, SUBTASKS, TASKS, UPDATES
from agorai_dashboard.views import DocumentState, Page, Stage
from agorai_dashboard.views_task import Payout, PayoutLine, RoundRow, Share, SubtaskRow, Task, TaskRow
from agorai_shared.federated import Contribution, PayoutDocument, RoundDocument, TaskDocument
from agorai_shared.task_files import TaskAbsentError

_MOST_SUBTASKS: Final = 1000
_MOST_LINES: Final = 2000
_MOST_ROUNDS: Final = 500
"""The newest, besides round 0."""
_MOST_UPDATES: Final = 100_000
_MOST_PAYOUTS: Final = 100
"""The newest, besides the one that stands."""


def tasks(look: Look, cursor: str | None, most: int) -> Page[TaskRow]:
    """Give tasks, the newest first."""
    rows, following = look.page(select(TASKS), TASKS.c.id, cursor, most)
    return Page(tuple(task_row(look, row) for row in rows), following)


def task_row(look: Look, row: Row) -> TaskRow:
    """Give a task as lists show it."""
    _, document = _description(look, row)
    return _task_row(look, row, document)


def _description(look: Look, row: Row) -> tuple[DocumentState, TaskDocument | None]:
    what = f"description of task {row['id']}"
    return look.document(TaskDocument, row["document"], what, row["model_provider"])


def _task_row(look: Look, row: Row, document: TaskDocument | None) -> TaskRow:
    return TaskRow(
        id=row["id"],
        model_provider=row["model_provider"],
        name=document.name if document else None,
        state=row["state"],
        opened_at=row["opened_at"],
        round=row["round"],
        rounds=row["rounds"],
        budget=row["budget"],
        award=row["award"],
        ready=row["ready"],
        deadline=row["deadline"],
        duty=duties.of_task(row, late(look, row), look.now),
    )


def late(look: Look, task: Row) -> list[Row]:
    """Give the ready subtasks that have not delivered in a running task's round."""
    if task["state"] != "running":
        return []
    wanted = select(SUBTASKS).where(
        SUBTASKS.c.task == task["id"], SUBTASKS.c.state == "ready", SUBTASKS.c.updated < task["round"]
    )
    return list(look.rows(wanted.order_by(SUBTASKS.c.id)))


def task(look: Look, id_: int) -> Task:
    """Give one task; raises `TaskAbsentError`."""
    row = look.row(select(TASKS).where(TASKS.c.id == id_))
    if row is None:
        raise TaskAbsentError(id_)
    state, document = _description(look, row)
    mine = select(SUBTASKS).where(SUBTASKS.c.task == id_).order_by(SUBTASKS.c.id).limit(_MOST_SUBTASKS)
    subtasks = look.rows(mine)
    rounds = _rounds(look, row, document)
    strategy = document.strategy.get("name") if document else None
    return Task(
        row=_task_row(look, row, document),
        document=state,
        mode=document.mode if document else None,
        strategy=strategy if isinstance(strategy, str) else None,
        bond=row["bond"],
        quorum=row["quorum"],
        panel_size=row["panel_size"],
        join_window=row["join_window"],
        round_window=row["round_window"],
        step_window=row["step_window"],
        challenge_window=row["challenge_window"],
        stages=_stages(row, rounds),
        subtasks=tuple(map(_subtask, subtasks)),
        initial=rounds[0] if rounds else None,
        rounds=rounds[1:],
        payouts=_payouts(look, row, {one["id"]: one["data_provider"] for one in subtasks}),
        claimed=row["claimed"],
    )


def _subtask(row: Row) -> SubtaskRow:
    return SubtaskRow(
        id=row["id"],
        data_provider=row["data_provider"],
        computer=row["computer"],
        resource=row["resource"],
        role=row["role"],
        fee=row["fee"],
        wage=row["wage"],
        state=row["state"],
        updates=row["updates"],
    )


def _rounds(look: Look, task: Row, document: TaskDocument | None) -> tuple[RoundRow, ...]:
    delivered: dict[int, list[int]] = defaultdict(list)
    before = task["round"] - _MOST_ROUNDS
    updates = select(UPDATES).where(UPDATES.c.task == task["id"], UPDATES.c.round > before)
    for update in look.rows(updates.order_by(UPDATES.c.round.desc(), UPDATES.c.subtask).limit(_MOST_UPDATES)):
        delivered[update["round"]].append(update["subtask"])
    awaited = tuple(one["id"] for one in late(look, task))
    number = ROUNDS.c.number
    shown = select(ROUNDS).where(ROUNDS.c.task == task["id"], or_(number == 0, number > before))
    rounds = look.rows(shown.order_by(number))
    return tuple(_round(look, task, row, delivered[row["number"]], awaited, document) for row in rounds)


def _round(
    look: Look,
    task: Row,
    row: Row,
    delivered: list[int],
    awaited: tuple[int, ...],
    document: TaskDocument | None,
) -> RoundRow:
    number = row["number"]
    what = f"record of round {number} of task {task['id']}"
    state, record = look.document(RoundDocument, row["record"], what, task["model_provider"])
    if record is not None and (record.task.task, record.round) != (task["id"], number):
        record = None
    return RoundRow(
        number=number,
        begun_at=row["begun_at"],
        deadline=row["deadline"] or task["opened_at"] + task["join_window"],
        ended_at=row["ended_at"],
        updates=tuple(delivered),
        awaited=awaited if number == task["round"] else (),
        document=state,
        accuracy=record.right / document.test_samples if record and document else None,
        right=record.right if record else None,
        refused=tuple(f"subtask {one.subtask}: {one.why}" for one in record.refused) if record else (),
    )


def _payouts(look: Look, task: Row, accounts: dict[int, str]) -> tuple[Payout, ...]:
    claimed = set(
        look.connection.execute(select(CLAIMS.c.account).where(CLAIMS.c.task == task["id"])).scalars()
    )
    number = PAYOUTS.c.number
    shown = or_(number == task["standing"], number > task["payouts"] - _MOST_PAYOUTS)
    wanted = select(PAYOUTS).where(PAYOUTS.c.task == task["id"], shown).order_by(number)
    return tuple(_payout(look, task, row, accounts, claimed) for row in look.rows(wanted))


def _payout(look: Look, task: Row, row: Row, accounts: dict[int, str], claimed: set[str]) -> Payout:
    stands = task["standing"] == row["number"]
    what = f"evidence of a payout of task {task['id']}"
    owners = dict.fromkeys((row["proposer"], task["model_provider"]))
    state, document = (
        look.document(PayoutDocument, row["evidence"], what, *owners) if stands else (None, None)
    )
    return Payout(
        proposer=row["proposer"],
        challenge=row["challenge"],
        at=row["at"],
        root=row["root"],
        total=row["total"],
        stands=stands,
        outcome=row["outcome"],
        panel_case=row["panel_case"],
        document=state,
        shares=tuple(
            Share(
                subtask=one.subtask,
                account=accounts.get(one.subtask),
                contribution=_float(one),
                half_width=one.half_width,
                conduct=one.conduct,
            )
            for one in (document.contributions[:_MOST_LINES] if document else ())
        ),
        lines=tuple(
            PayoutLine(line.account, int(line.amount), stands and line.account in claimed)
            for line in (document.rows[:_MOST_LINES] if document else ())
        ),
    )


def _float(one: Contribution) -> float:
    try:
        return float(one.fraction)
    except OverflowError:  # whoever proposes a payout writes what they like
        return 0.0


def _stages(row: Row, rounds: tuple[RoundRow, ...]) -> tuple[Stage, ...]:
    """Give the states that a task goes through."""
    order = ("matching", "running", "finished", "proposed", "settled")
    state = {"challenged": "proposed", "abandoned": "settled"}.get(row["state"], row["state"])
    reached = order.index(state)
    since = {
        "matching": row["opened_at"],
        "running": rounds[0].ended_at if rounds and row["round"] else None,
        "finished": row["finished_at"],
        "settled": row["ended_at"],
    }
    limits = {
        "matching": row["join_window"],
        "finished": row["step_window"],
        "proposed": row["challenge_window"],
    }
    stages = []
    for place, name in enumerate(order):
        shown = row["state"] if place == reached else name
        deadline = row["deadline"] if place == reached else None
        done = place < reached or not row["open"]
        stages.append(Stage(shown, since.get(name), deadline, done, limits.get(name), ()))
    return tuple(stages)
