"""Training tasks, as their events change them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agorai_dashboard.rows import Rows, add, had
from agorai_dashboard.tables import CLAIMS, PAYOUTS, ROUNDS, SUBTASKS, TASKS, UPDATES
from agorai_shared.bindings import training_task
from agorai_shared.bindings.training_task import Outcome

if TYPE_CHECKING:
    from agorai_dashboard.projecting import At


def _opened(rows: Rows, event: training_task.Opened, at: At) -> None:
    terms = event.terms
    rows.put(
        TASKS,
        id=event.task,
        model_provider=event.model_provider,
        document="0x" + terms.document.hex(),
        state="matching",
        open=True,
        opened_at=at.time,
        finished_at=None,
        ended_at=None,
        budget=terms.budget,
        award=terms.award,
        bond=terms.bond,
        claimed=0,
        join_window=terms.join_window,
        round_window=terms.round_window,
        step_window=terms.step_window,
        challenge_window=terms.challenge_window,
        rounds=terms.rounds,
        round=0,
        quorum=terms.quorum,
        panel_size=terms.panel_size,
        ready=0,
        deadline=at.time + terms.join_window,
        panel_case=None,
        payouts=0,
        standing=None,
    )
    rows.put(ROUNDS, task=event.task, number=0, begun_at=at.time, deadline=None, ended_at=None, record=None)


def _funded(rows: Rows, event: training_task.Funded, _at: At) -> None:
    add(rows, TASKS, event.task, budget=event.amount)


def _requested(rows: Rows, event: training_task.Requested, _at: At) -> None:
    had(rows, TASKS, event.task)
    rows.put(
        SUBTASKS,
        id=event.subtask,
        task=event.task,
        data_provider=event.data_provider,
        computer=None,
        resource=event.resource,
        role=event.role.name.lower(),
        fee=event.fee,
        wage=0,
        state="requested",
        replaces=None,
        updated=0,
        updates=0,
    )


def _approved(rows: Rows, event: training_task.Approved, _at: At) -> None:
    if event.replaces:
        old = had(rows, SUBTASKS, event.replaces)
        new = {**old, "id": event.subtask, "replaces": event.replaces, "updated": 0, "updates": 0}
        rows.put(SUBTASKS, **new)
    rows.change(SUBTASKS, event.subtask, computer=event.computer, wage=event.wage, state="approved")


def _accepted(rows: Rows, event: training_task.Accepted, at: At) -> None:
    task, row = had(rows, TASKS, event.task), had(rows, SUBTASKS, event.subtask)
    round_, delivered = task["round"], False
    if row["replaces"] is not None:
        delivered = had(rows, SUBTASKS, row["replaces"])["updated"] == round_
        rows.change(SUBTASKS, row["replaces"], state="ended")
    in_time = round_ and not delivered and at.time <= task["deadline"]
    rows.change(SUBTASKS, event.subtask, state="ready", updated=round_ - 1 if in_time else round_)
    add(rows, TASKS, event.task, ready=int(row["role"] == "trainer"))


def _declined(rows: Rows, event: training_task.Declined, _at: At) -> None:
    row = had(rows, SUBTASKS, event.subtask)
    again = row["state"] == "approved" and event.by == row["computer"]
    if again:
        rows.change(SUBTASKS, event.subtask, state="requested", computer=None)
    else:
        rows.change(SUBTASKS, event.subtask, state="declined")


def _left(rows: Rows, event: training_task.Left, _at: At) -> None:
    row = had(rows, SUBTASKS, event.subtask)
    if row["state"] == "ready":
        add(rows, TASKS, event.task, ready=-int(row["role"] == "trainer"))
    ends = event.by == row["data_provider"]
    rows.change(SUBTASKS, event.subtask, state="ended" if ends else "left")


def _begun(rows: Rows, event: training_task.Begun, at: At) -> None:
    record = "0x" + event.record.hex() if any(event.record) else None
    rows.change(ROUNDS, event.task, event.round - 1, ended_at=at.time, record=record)
    rows.put(
        ROUNDS,
        task=event.task,
        number=event.round,
        begun_at=at.time,
        deadline=event.deadline,
        ended_at=None,
        record=None,
    )
    rows.change(TASKS, event.task, state="running", round=event.round, deadline=event.deadline)


def _updated(rows: Rows, event: training_task.Updated, at: At) -> None:
    rows.change(SUBTASKS, event.subtask, updated=event.round)
    rows.append(UPDATES, task=event.task, round=event.round, subtask=event.subtask, at=at.time)
    add(rows, SUBTASKS, event.subtask, updates=1)


def _finished(rows: Rows, event: training_task.Finished, at: At) -> None:
    round_ = had(rows, TASKS, event.task)["round"]
    rows.change(ROUNDS, event.task, round_, ended_at=at.time, record="0x" + event.record.hex())
    rows.change(TASKS, event.task, state="finished", finished_at=at.time, deadline=event.deadline)


def _pay(rows: Rows, event: training_task.Proposed | training_task.Challenged, at: At) -> int:
    number = int(had(rows, TASKS, event.task)["payouts"]) + 1
    challenge = isinstance(event, training_task.Challenged)
    rows.put(
        PAYOUTS,
        task=event.task,
        number=number,
        proposer=event.challenger if isinstance(event, training_task.Challenged) else event.proposer,
        challenge=challenge,
        at=at.time,
        root="0x" + event.root.hex(),
        total=event.total,
        evidence="0x" + event.evidence.hex(),
        outcome=None,
        panel_case=event.panel_case if isinstance(event, training_task.Challenged) else None,
    )
    rows.change(TASKS, event.task, payouts=number)
    return number


def _proposed(rows: Rows, event: training_task.Proposed, at: At) -> None:
    number = _pay(rows, event, at)
    rows.change(TASKS, event.task, state="proposed", standing=number, deadline=event.deadline)


def _challenged(rows: Rows, event: training_task.Challenged, at: At) -> None:
    _pay(rows, event, at)
    rows.change(TASKS, event.task, state="challenged", panel_case=event.panel_case, deadline=None)


def _resolved(rows: Rows, event: training_task.Resolved, _at: At) -> None:
    number = had(rows, TASKS, event.task)["payouts"]
    rows.change(PAYOUTS, event.task, number, outcome=event.outcome.name.lower())
    rows.change(TASKS, event.task, state="proposed", panel_case=None, deadline=event.deadline)
    if event.outcome == Outcome.REJECTED:  # the payout that was challenged: the challenger's stands now
        rows.change(TASKS, event.task, standing=number)


def _settled(rows: Rows, event: training_task.Settled, at: At) -> None:
    rows.change(TASKS, event.task, state="settled", open=False, ended_at=at.time, deadline=None)


def _abandoned(rows: Rows, event: training_task.Abandoned, at: At) -> None:
    rows.change(TASKS, event.task, state="abandoned", open=False, ended_at=at.time, deadline=None)


def _claimed(rows: Rows, event: training_task.Claimed, at: At) -> None:
    add(rows, TASKS, event.task, claimed=event.amount)
    rows.append(CLAIMS, task=event.task, account=event.account, amount=event.amount, at=at.time)


TASK: Final[dict[type[Any], Any]] = {
    training_task.Opened: _opened,
    training_task.Funded: _funded,
    training_task.Requested: _requested,
    training_task.Approved: _approved,
    training_task.Accepted: _accepted,
    training_task.Declined: _declined,
    training_task.Left: _left,
    training_task.Begun: _begun,
    training_task.Updated: _updated,
    training_task.Finished: _finished,
    training_task.Proposed: _proposed,
    training_task.Challenged: _challenged,
    training_task.Resolved: _resolved,
    training_task.Settled: _settled,
    training_task.Abandoned: _abandoned,
    training_task.Claimed: _claimed,
}
