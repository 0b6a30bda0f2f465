"""How training tasks are told, to people and to machines; amounts in tokens, moments since 1970."""

from __future__ import annotations

from typing import Any

from agorai.cli.output import table
from agorai.cli.pool_shown import moment, tokens_told
from agorai.cli.trade import lasting
from agorai.devchain import TOKEN
from agorai.task_offering import Offering
from agorai.task_privacy import epsilon
from agorai.task_refusals import SUBTASK_STATES, TASK_STATES
from agorai.task_state import awaited
from agorai.tasks import TaskPlan, TaskSeen
from agorai_shared import cid as cids
from agorai_shared.bindings.training_task import Subtask
from agorai_shared.federated import Mode, Privacy, RoundDocument, Specification
from agorai_shared.task_history import Line

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
        "now": seen.now,
    }


def _privacy_json(seen: TaskSeen, mode: Mode, privacy: Privacy) -> dict[str, Any]:
    """Give what updates hide, and the epsilon of who has delivered most, now and in the end."""
    now = max((one.delivered for one in seen.subtasks.values()), default=0)
    return privacy.model_dump() | {
        "epsilon_so_far": epsilon(mode, privacy, now),
        "epsilon_at_most": epsilon(mode, privacy, seen.task.rounds),
    }


def subtasks_json(seen: TaskSeen) -> list[dict[str, Any]]:
    """Give a task's subtasks for machines."""
    return [_subtask(seen.history.subtasks[id_], one) for id_, one in sorted(seen.subtasks.items())]


def _subtask(line: Line, subtask: Subtask) -> dict[str, Any]:
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
    }


def rounds_json(seen: TaskSeen, records: dict[int, RoundDocument | None]) -> list[dict[str, Any]]:
    """Give what became of each round for machines; round 0 is the initial model."""
    found = []
    for number in range(len(seen.history.rounds) + 1):
        record = records.get(number)
        updates = seen.history.rounds[number - 1].updates if number else {}
        found.append(
            {
                "round": number,
                "delivered": len(updates),
                "over": number in records,
                "taken": record and list(record.taken),
                "refused": record and {str(one.subtask): one.why for one in record.refused},
                "right": record and record.right,
            }
        )
    return found if seen.history.rounds else []


def task_name(found: dict[str, Any]) -> str:
    """Give a task's name as people are told it."""
    return found["name"] or "(its model provider's node is away)"


def waits_for(found: dict[str, Any]) -> str:
    """Say whom a task waits for, and until when."""
    if found["awaited"] is None:
        return ""
    until = "" if found["until"] is None else f", until {moment(found['until'], found['now'])}"
    return f"{found['awaited']}{until}"


def plan_table(plan: TaskPlan) -> object:
    """Show what is to be opened, before it is."""
    model, terms = plan.model, plan.terms
    shown = table("Task", plan.name, whole=("Task",))
    shown.add_row("model", f"{model['kind']}, by {plan.strategy['name']}")
    features = model["features"]
    names = (
        [str(one["name"]) for one in features if isinstance(one, dict)] if isinstance(features, list) else []
    )
    shown.add_row("learns from", f"{len(names)} columns: {', '.join(names[:6])}{' ...' if names[6:] else ''}")
    shown.add_row("asks", f"{plan.wanted.providers} data providers, and begins with {terms.quorum} at least")
    shown.add_row("pays", f"{tokens_told(int(plan.wanted.most_fee))} a round to each, at most")
    if plan.privacy is not None:
        shown.add_row(
            "privacy", f"steps clipped to {plan.privacy.clip:g}, noise {plan.privacy.noise:g} times that"
        )
    if plan.mode != "open":
        shown.add_row("mode", f"{plan.mode}: updates are encrypted homomorphically")
    if plan.mode == "aggregate":
        shown.add_row("adders", f"{plan.wanted.adders}, who are paid likewise")
    shown.add_row("award", f"{tokens_told(terms.award)}, by contribution")
    shown.add_row("rounds", f"at most {terms.rounds}")
    return shown


def tasks_table(found: list[dict[str, Any]]) -> object:
    """Show all tasks."""
    shown = table(
        ">Task", "Name", "State", ">Round", ">Ready", ">Budget", ">Award", ">Time left", "Model provider"
    )
    for one in found:
        left = "" if one["until"] is None else lasting(max(one["until"] - one["now"], 0))
        shown.add_row(
            str(one["task"]), task_name(one), one["state"], f"{one['round']}/{one['rounds']}",
            f"{one['ready']}/{one['quorum']}", f"{one['budget']:g}", f"{one['award']:g}", left,
            one["model_provider"],
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
    shown.add_row("budget", f"{found['budget']:g}, of which {found['award']:g} by contribution")
    shown.add_row("owed", f"{found['owed']:g} in fees of rounds delivered")
    shown.add_row("bond", f"{found['bond']:g}, lost if the model provider does not go on")
    shown.add_row("windows", " ".join(f"{name} {lasting(found[f'{name}_window'])}" for name in _WINDOWS))
    shown.add_section()
    state = next(words for state, words in TASK_STATES.items() if state.name.lower() == found["state"])
    shown.add_row("state", state)
    shown.add_row(
        "round", f"{found['round']} of at most {found['rounds']}; {found['ready']} subtasks are ready"
    )
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


def subtasks_table(found: list[dict[str, Any]], account: str) -> object:
    """Show who takes part."""
    shown = table(">Subtask", ">Data set", "Data provider", "Computer", ">Fee", ">Wage", ">Rounds", "State")
    for one in found:
        state = next(words for state, words in SUBTASK_STATES.items() if state.name.lower() == one["state"])
        data, computer = (
            "you" if one[who] == account else one[who] or "" for who in ("data_provider", "computer")
        )
        replaces = f", in place of {one['replaces']}" if one["replaces"] else ""
        shown.add_row(
            str(one["subtask"]), str(one["resource"] or "(adds)"), data, computer, f"{one['fee']:g}",
            f"{one['wage']:g}", str(one["delivered"]), state + replaces,
        )  # fmt: skip
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
        refused = "; ".join(f"{id_}: {why}" for id_, why in (one["refused"] or {}).items())
        taken = "" if one["taken"] is None or not one["round"] else str(len(one["taken"]))
        shown.add_row(
            str(one["round"]), str(one["delivered"] if one["round"] else ""), taken,
            "" if right is None else f"{right:,}", share, told or refused,
        )  # fmt: skip
    return shown


# --------------------------------------------------------------------------------------------------- offers


def specification_json(specification: Specification) -> dict[str, Any]:
    """Give what a member offers, for machines."""
    computing = specification.computing
    return {
        "data": [{"resource": one.resource, "fee": int(one.fee) / TOKEN} for one in specification.data],
        "computing": computing
        and {
            "wage": int(computing.wage) / TOKEN,
            "subtasks": computing.subtasks,
            "cores": computing.cores,
            "memory_mib": computing.memory_mib,
            "gpu": computing.gpu or None,
        },
        "adding": None if specification.adding is None else int(specification.adding) / TOKEN,
    }


def offering_json(one: Offering) -> dict[str, Any]:
    """Give a member's offer, for machines."""
    return {"account": one.account, **specification_json(one.specification)}


def offers_table(found: list[dict[str, Any]], account: str) -> object:
    """Show what members offer."""
    shown = table(
        "Member",
        "Data sets, fee a round",
        ">Wage a round",
        ">Subtasks",
        ">Cores",
        ">Memory",
        ">Adds, fee a round",
    )
    for one in found:
        data = ", ".join(f"{each['resource']} for {each['fee']:g}" for each in one["data"])
        computing = one["computing"]
        cells = ("", "", "", "")
        if computing:
            memory = f"{computing['memory_mib']:,} MiB"
            cells = (f"{computing['wage']:g}", str(computing["subtasks"]), str(computing["cores"]), memory)
        you = " (you)" if one["account"] == account else ""
        adding = "" if one["adding"] is None else f"{one['adding']:g}"
        shown.add_row(one["account"] + you, data, *cells, adding)
    return shown
