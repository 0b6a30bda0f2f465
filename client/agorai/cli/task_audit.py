"""`agorai audit`: what is due, recomputed from the public record, beside what was proposed."""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction
from pathlib import Path
from typing import Any

import typer
from rich.console import Group

from agorai.cli.output import HOME, JSON, emit, progress, styled, table, with_client
from agorai.cli.task import TASK
from agorai.client import Client
from agorai.devchain import TOKEN
from agorai.task_reading import payout, seen
from agorai.tasks import Tasks
from agorai_shared.bindings.training_task import Role
from agorai_shared.federated import PayoutDocument
from agorai_shared.task_reward import Audited, TaskReward

app = typer.Typer(help="Recompute what others say is due.", no_args_is_help=True)
app.callback()(lambda: None)

_SAYS = {
    "right": "[bold green]✓[/] The payout of task [bold]{task}[/] is right.",
    "wrong": "[bold red]✗[/] The payout of task [bold]{task}[/] is wrong. A node that is due something challenges "
    "it by itself, in time.",
    "unknown": "[bold yellow]?[/] Whether the payout of task [bold]{task}[/] is right cannot be known now.",
}


@app.command("task")
def audit_task(task: int = TASK, home: Path = HOME, as_json: bool = JSON) -> None:
    """Recompute a task's payout: contributions, fees and awards."""

    async def work(client: Client) -> dict[str, Any]:
        tasks = Tasks(client)
        found = await seen(tasks, task)
        with progress(as_json) as tell:
            tell("measuring contributions anew")
            audited = await TaskReward(client.commander).audit(task)
        adders = {id_ for id_, line in found.history.subtasks.items() if line.role == Role.ADDER}
        method = found.document and found.document.contribution.method
        return {**audited_json(task, audited, await payout(tasks, found), adders), "contribution": method}

    found = with_client(home, as_json, work)

    def human() -> object:
        parts: list[Any] = [styled(_SAYS[found["verdict"]], **found)]
        parts += [styled("  {kind}: {text}", **one) for one in found["findings"]]
        if found["accounts"]:
            parts.append(_accounts_table(found["accounts"]))
        if found["contributions"]:
            parts.append(_contributions_table(found["contributions"], found["contribution"]))
        return Group(*parts)

    emit(found, as_json, human)


def audited_json(
    task: int, audited: Audited, proposed: PayoutDocument | None, adders: Collection[int]
) -> dict[str, Any]:
    """Give an audit for machines: by account, what is due and what was proposed, in tokens.

    Subtasks that add have no contribution: they bring the model nothing, and are paid by round.
    """
    due = None if audited.rows is None else {row.account: int(row.amount) for row in audited.rows}
    told = None if proposed is None else {row.account: int(row.amount) for row in proposed.rows}
    accounts = sorted({*(due or {}), *(told or {})}, key=str.lower)
    return {
        "task": task,
        "verdict": audited.verdict,
        "findings": [{"kind": one.kind, "text": one.text} for one in audited.findings],
        "total": int(audited.total) / TOKEN,
        "accounts": [
            {
                "account": one,
                "due": None if due is None else due.get(one, 0) / TOKEN,
                "proposed": None if told is None else told.get(one, 0) / TOKEN,
                "as_due": None if due is None or told is None else due.get(one, 0) == told.get(one, 0),
            }
            for one in accounts
        ],
        "contributions": [
            {
                "subtask": one.subtask,
                "role": "adder" if one.subtask in adders else "trainer",
                "contribution": None if one.subtask in adders else one.contribution,
                "about": None if one.subtask in adders else float(Fraction(one.contribution)),
                "delivered": one.delivered,
            }
            for one in audited.subtasks
        ],
    }


def _accounts_table(found: list[dict[str, Any]]) -> object:
    shown = table("Account", ">Due", ">Proposed", "", whole=("Account",))
    for one in found:
        due, proposed = ("unknown" if one[name] is None else f"{one[name]:g}" for name in ("due", "proposed"))
        shown.add_row(one["account"], due, proposed, "wrong" if one["as_due"] is False else "")
    return shown


def _contributions_table(found: list[dict[str, Any]], method: str | None = None) -> object:
    by_samples = method == "samples"
    what = "Share of samples (1 a round)" if by_samples else "Contribution (test samples)"
    shown = table(">Subtask", f">{what}", ">Rounds paid")
    for one in found:
        about = "(adds)" if one["about"] is None else f"{one['about']:{'' if by_samples else '+'}.2f}"
        shown.add_row(str(one["subtask"]), about, str(one["delivered"]))
    return shown
