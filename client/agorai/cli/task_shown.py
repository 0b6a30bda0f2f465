"""How training tasks are told, to people and to machines; amounts in tokens, moments since 1970."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agorai.cli.output import table
from agorai.cli.pool_shown import moment, tokens_told
from agorai.cli.trade import lasting
from agorai.devchain import TOKEN
from agorai.task_privacy import epsilon
from agorai.task_refusals import SUBTASK_STATES, TASK_STATES
from agorai.task_state import awaited, missing, subtasks_told
from agorai.tasks import TaskPlan, TaskSeen
from agorai_shared import cid as cids
from agorai_shared.bindings.training_task import Subtask
from agorai_shared.federated import Mode, Privacy, RoundDocument
from agorai_shared.task_history import Line
from agorai_shared.types import Address

_WINDOWS = ("join", "round", "step", "challenge")


def task_json(seen: TaskSeen) -> dict[str, Any]:
    """Give a task for machines."""
    task, document, terms = seen.task, seen.document, seen.opened.terms
    waiting = awaited(seen)
    return {
        "task": seen.id,
        "name": document and document.name,
        "description": document and document.description,
        "model": document and document.model,
        "strategy": document and document.strategy,
        "mode": document and document.mode,
        "privacy": document and document.privacy and _privacy_json(seen, document.mode, document.privacy),
        "contribution": document and document.contribution.method,
        "document": cids.of_digest(terms.document),
        "model_provider": task.model_provider,
        "state": task.state.name.lower(),
        "budget": task.budget / TOKEN,
        "award": task.award / TOKEN,
        "owed": task.owed / TOKEN,
        "bond": terms.bond / TOKEN,
        "round": task.round,
        "rounds": task.rounds,
        "quorum": task.quorum,
        "ready": task.trainers,
        "test_samples": document and document.test_samples,
        **{f"{name}_window": getattr(terms, f"{name}_window") for name in _WINDOWS},
        "panel_size": task.panel_size,
        "challenges": len(seen.history.challenges),
        "awaited": waiting and waiting.what,
        "until": waiting and waiting.until,
        "late": list(waiting.late) if waiting else [],
        "now": seen.now,
    }


def _privacy_json(seen: TaskSeen, mode: Mode, privacy: Privacy) -> dict[str, Any]:
    """Give what updates hide, and the epsilon of who has delivered most, now and in the end."""
    now = max((one.delivered for one in seen.subtasks.values()), default=0)
    return privacy.model_dump() | {
        "epsilon_so_far": epsilon(mode, privacy, now),
        "epsilon_at_most": epsilon(mode, privacy, seen.task.rounds),
    }


def subtasks_json(seen: TaskSeen, declined: Mapping[int, Address]) -> list[dict[str, Any]]:
    """Give a task's subtasks for machines; of those that were never ready, who last said no."""
    return [
        _subtask(seen.history.subtasks[id_], one, declined.get(id_))
        for id_, one in sorted(seen.subtasks.items())
    ]


def _subtask(line: Line, subtask: Subtask, declined_by: Address | None) -> dict[str, Any]:
    return {
        "subtask": line.id,
        "data_provider": line.data_provider,
        "resource": line.resource,
        "computer": line.computer,
        "fee": line.fee / TOKEN,
        "wage": line.wage / TOKEN,
        "role": line.role.name.lower(),
        "replaces": line.replaces or None,
        "state": subtask.state.name.lower(),
        "delivered": subtask.delivered,
        "declined_by": None if line.ready else declined_by,
    }


def rounds_json(seen: TaskSeen, records: dict[int, RoundDocument | None]) -> list[dict[str, Any]]:
    """Give what became of each round for machines; round 0 is the initial model."""
    found = []
    for number in range(len(seen.history.rounds) + 1):
        record, over = records.get(number), number in records
        trained = seen.history.trained(number) if number else []
        found.append(
            {
                "round": number,
                "delivered": len(trained),
                "in": trained,
                "missing": missing(seen, number) if number and over else [],
                "added_by": seen.history.added(number) if number else [],
                "over": over,
                "taken": record and list(record.taken),
                "refused": record and {str(one.subtask): one.why for one in record.refused},
                "right": record and record.right,
            }
        )
    return found if seen.history.rounds else []


def shared_told(method: str | None) -> str:
    """Say what a task's award is shared by."""
    return "by samples" if method == "samples" else "by contribution"


def task_name(found: dict[str, Any]) -> str:
    """Give a task's name as people are told it."""
    return found["name"] or "(its model provider's node is away)"


def waits_for(found: dict[str, Any]) -> str:
    """Say whom a task waits for, and until when."""
    if found["awaited"] is None:
        return ""
    until = "" if found["until"] is None else f", until {moment(found['until'], found['now'])}"
    return f"{found['awaited']}{until}"


def left_out_told(one: dict[str, Any]) -> str:
    """Say whose updates a round that is over went without, and why."""
    parts = [f"missing: {subtasks_told(one['missing'])}"] if one["missing"] else []
    refused = "; ".join(f"{id_}: {why}" for id_, why in (one["refused"] or {}).items())
    return "; ".join([*parts, *([f"left out: {refused}"] if refused else [])])


def plan_table(plan: TaskPlan) -> object:
    """Show what is to be opened, before it is: what is trained, how the money is split, and the times."""
    model, terms = plan.model, plan.terms
    shown = table("Task", plan.name, whole=("Task",))
    shown.add_row("model", f"{model['kind']}, by {plan.strategy['name']}")
    features = model["features"]
    names = (
        [str(one["name"]) for one in features if isinstance(one, dict)] if isinstance(features, list) else []
    )
    shown.add_row("learns from", f"{len(names)} columns: {', '.join(names[:6])}{' ...' if names[6:] else ''}")
    providers = plan.wanted.providers
    are = f"{providers} data provider{'' if providers == 1 else 's'}"
    shown.add_row("asks", f"{are}, and begins with {terms.quorum} at least")
    if plan.privacy is not None:
        shown.add_row(
            "privacy", f"steps clipped to {plan.privacy.clip:g}, noise {plan.privacy.noise:g} times that"
        )
    if plan.mode == "encrypted":
        shown.add_row("mode", "encrypted: computers see neither samples nor model")
    elif plan.mode != "open":
        shown.add_row("mode", f"{plan.mode}: updates are encrypted homomorphically")
    if plan.mode == "aggregate":
        shown.add_row("adders", f"{plan.wanted.adders}, who are paid a fee likewise")
    shown.add_row("rounds", f"at most {terms.rounds}")
    windows = {name: int(getattr(terms, f"{name}_window")) for name in _WINDOWS}
    shown.add_row("windows", " ".join(f"{name} {lasting(length)}" for name, length in windows.items()))
    shown.add_section()
    fee, left = tokens_told(int(plan.wanted.most_fee)), tokens_told(terms.budget - terms.award)
    shown.add_row("fees", f"{left} at most, {fee} a round to each at most; what no round takes comes back")
    shown.add_row("wages", "of a fee: each data provider pays its computer")
    shown.add_row("award", f"{tokens_told(terms.award)}, shared {shared_told(plan.contribution.method)}")
    shown.add_row("bond", f"{tokens_told(terms.bond)}, lost if your node does not go on, or pays wrongly")
    return shown


def tasks_table(found: list[dict[str, Any]]) -> object:
    """Show all tasks."""
    shown = table(">Task", "Name", "State", ">Round", ">Ready", ">Budget", ">Award", ">Time left")
    for one in found:
        left = "" if one["until"] is None else lasting(max(one["until"] - one["now"], 0))
        shown.add_row(
            str(one["task"]), task_name(one), one["state"], f"{one['round']}/{one['rounds']}",
            f"{one['ready']}/{one['quorum']}", f"{one['budget']:g}", f"{one['award']:g}", left,
        )  # fmt: skip
    return shown


def task_table(found: dict[str, Any], account: str) -> object:
    """Show a task."""
    shown = table("Task", f"{found['task']}: {task_name(found)}", whole=("Task",))
    if found["description"]:
        shown.add_row("", found["description"])
    you = " (you)" if found["model_provider"] == account else ""
    shown.add_row("model provider", found["model_provider"] + you)
    if found["model"]:
        shown.add_row("trains", f"{found['model']['kind']}, by {found['strategy']['name']}, {found['mode']}")
    if found["privacy"]:
        shown.add_row("privacy", _privacy_told(found["privacy"]))
    by = shared_told(found["contribution"])
    shown.add_row("budget", f"{found['budget']:g}, of which {found['award']:g} {by}")
    shown.add_row("owed", f"{found['owed']:g} in fees of rounds delivered")
    shown.add_row("bond", f"{found['bond']:g}, lost if the model provider does not go on")
    shown.add_row("windows", " ".join(f"{name} {lasting(found[f'{name}_window'])}" for name in _WINDOWS))
    shown.add_section()
    state = next(words for state, words in TASK_STATES.items() if state.name.lower() == found["state"])
    shown.add_row("state", state)
    ready = "1 subtask is" if found["ready"] == 1 else f"{found['ready']} subtasks are"
    shown.add_row("round", f"{found['round']} of at most {found['rounds']}; {ready} ready")
    if found["awaited"]:
        shown.add_row("awaited", waits_for(found))
    if found["challenges"]:
        shown.add_row("challenges", str(found["challenges"]))
    return shown


def _privacy_told(found: dict[str, Any]) -> str:
    told = f"steps clipped to {found['clip']:g}, noise of {found['noise']:g} times that on each parameter: "
    if found["epsilon_at_most"] is None:
        return f"{told}what that hides is reckoned by dp-accounting, which is not installed (agorai-trainer[privacy])"
    return (
        f"{told}epsilon {found['epsilon_so_far']:.3g} so far, {found['epsilon_at_most']:.3g} at most, "
        f"at delta {found['delta']:g}"
    )


def subtasks_table(found: list[dict[str, Any]]) -> object:
    """Show a task's subtasks."""
    shown = table(">Subtask", ">Data set", ">Fee", ">Wage", ">Rounds", "State")
    for one in found:
        state = _state_told(one)
        replaces = f", in place of {one['replaces']}" if one["replaces"] else ""
        shown.add_row(
            str(one["subtask"]), str(one["resource"] or "(adds)"), f"{one['fee']:g}", f"{one['wage']:g}",
            str(one["delivered"]), state + replaces,
        )  # fmt: skip
    return shown


def _state_told(one: dict[str, Any]) -> str:
    by, state = one["declined_by"], one["state"]
    if by and state == "ended":
        is_own = by == one["data_provider"]
        return "declined by its data provider" if is_own else "withdrawn by the model provider"
    if by and by == one["computer"] and state == "requested":
        return "was declined by its computer"
    return next(words for kind, words in SUBTASK_STATES.items() if kind.name.lower() == state)


def members_table(found: list[dict[str, Any]], account: str) -> object:
    """Show who takes part, by account, which nothing cuts short."""
    parts: dict[str, dict[str, list[int]]] = {}
    for one in found:
        adds = one["role"] == "adder"
        if not adds:
            parts.setdefault(one["data_provider"], {}).setdefault("data of", []).append(one["subtask"])
        if one["computer"] or adds:
            who, what = one["computer"] or one["data_provider"], "adds as" if adds else "trains"
            parts.setdefault(who, {}).setdefault(what, []).append(one["subtask"])
    shown = table("Account", "Takes part by", whole=("Account",))
    for who, part in parts.items():
        does = "; ".join(f"{what} {subtasks_told(ids)}" for what, ids in part.items())
        shown.add_row(who, f"{does} (you)" if who == account else does)
    return shown


def rounds_table(found: list[dict[str, Any]], samples: int | None) -> object:
    """Show what rounds came to."""
    shown = table(">Round", ">Updates", ">Taken", ">Correct", ">Accuracy", "Left out")
    for one in found:
        right = one["right"]
        share = f"{right / samples:.1%}" if right is not None and samples else ""
        told = "" if one["over"] else "going on"
        if one["over"] and one["taken"] is None:
            told = "(its record is not served)"
        taken = "" if one["taken"] is None or not one["round"] else str(len(one["taken"]))
        shown.add_row(
            str(one["round"]), str(one["delivered"] if one["round"] else ""), taken,
            "" if right is None else f"{right:,}", share, told or left_out_told(one),
        )  # fmt: skip
    return shown
