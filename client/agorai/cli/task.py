"""`agorai task`: a model that is trained in rounds on data of many, which nobody sees but who trains on them."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import typer
from rich.console import Group

from agorai.cli.amounts import AMOUNT, tokens
from agorai.cli.output import HOME, JSON, emit, err, local, progress, styled, with_client
from agorai.cli.pool_shown import YES, confirm, tokens_told
from agorai.cli.task_offers_shown import (
    counts_told,
    offering_json,
    offers_table,
    on_offer_json,
    on_offer_table,
    specification_json,
)
from agorai.cli.task_shown import (
    members_table,
    plan_table,
    rounds_json,
    rounds_table,
    subtasks_json,
    subtasks_table,
    task_json,
    task_table,
    tasks_table,
)
from agorai.client import Client
from agorai.devchain import TOKEN
from agorai.home import Home
from agorai.pool_spec import read
from agorai.task_matching import OnOffer, on_offer, warnings
from agorai.task_offering import offerable, offerings
from agorai.task_reading import all_seen, declined, records, seen
from agorai.task_spec import TaskSpec
from agorai.tasks import TaskPlan, Tasks
from agorai_shared.federated import MOST_SUBTASKS, ComputingOffer, DataOffer, Specification
from agorai_shared.types import Wei

app = typer.Typer(
    help="Models that are trained in rounds on data of many, which are not published.",
    no_args_is_help=True,
)

TASK = typer.Argument(help="The task's id.", min=1)
_OFFER = re.compile(r"([1-9][0-9]{0,17})=([0-9]{1,9}(?:\.[0-9]+)?)")


@app.command("open")
def open_task(
    spec: Path = typer.Argument(help="What is trained and paid, JSON.", exists=True, dir_okay=False),
    test: Path = typer.Option(
        ...,
        exists=True,
        dir_okay=False,
        help="The hidden test set, CSV: sealed until the payout is proposed.",
    ),
    yes: bool = YES,
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Open a task: it is read, shown, and only then sent; your node does the rest."""

    def prepare() -> tuple[TaskPlan, bytes]:
        Home(home).running_node()
        hidden = read(test)
        return TaskSpec.load(spec).plan(hidden), hidden

    plan, hidden = local(prepare, as_json)

    async def look(client: Client) -> OnOffer:
        tasks = Tasks(client)
        await tasks.require_terms(plan)
        return await on_offer(tasks, plan)

    offered = with_client(home, as_json, look)
    warned = warnings(plan, offered)
    if not as_json:
        err.print(plan_table(plan))
        err.print(on_offer_table(offered))
        err.print(counts_told(offered, plan.terms.rounds))
        for one in warned:
            err.print(styled("[bold yellow]Warning:[/] {one}", one=one), highlight=False)
    laid_down = tokens_told(plan.terms.budget + plan.terms.bond)
    confirm(
        f"Open “{plan.name}”, and lay down {laid_down}?", "The task was not opened", yes=yes, as_json=as_json
    )

    async def work(client: Client) -> dict[str, Any]:
        tasks = Tasks(client)
        with progress(as_json) as tell:
            task = await tasks.open(plan, hidden, on_stage=tell)
        opened = task_json(await seen(tasks, task))
        return {**opened, "on_offer": on_offer_json(offered), "warnings": warned}

    found = with_client(home, as_json, work)
    emit(
        found,
        as_json,
        lambda: styled(
            "[bold green]✓[/] Task [bold]{task}[/] (“{name}”) is open. Your node asks data providers, aggregates, "
            "and proposes the payout: keep it running. `agorai task watch {task}` follows it.",
            **found,
        ),
    )


@app.command("list")
def list_tasks(home: Path = HOME, as_json: bool = JSON) -> None:
    """Show all tasks, the newest first."""

    async def work(client: Client) -> list[dict[str, Any]]:
        return [task_json(one) for one in await all_seen(Tasks(client))]

    found = with_client(home, as_json, work)
    emit(found, as_json, lambda: tasks_table(found))


@app.command("show")
def show(task: int = TASK, home: Path = HOME, as_json: bool = JSON) -> None:
    """Show a task: who takes part, what rounds came to, what is awaited and until when."""

    async def work(client: Client) -> tuple[dict[str, Any], str]:
        tasks = Tasks(client)
        found = await seen(tasks, task)
        rounds = rounds_json(found, await records(tasks, found))
        subtasks = subtasks_json(found, await declined(tasks, task))
        return {**task_json(found), "subtasks": subtasks, "rounds_run": rounds}, client.address

    found, account = with_client(home, as_json, work)

    def human() -> object:
        parts: list[Any] = [task_table(found, account)]
        if found["subtasks"]:
            parts += [subtasks_table(found["subtasks"]), members_table(found["subtasks"], account)]
        if found["rounds_run"]:
            parts.append(rounds_table(found["rounds_run"], found["test_samples"]))
        return Group(*parts)

    emit(found, as_json, human)


@app.command("offer")
def offer(
    data: list[str] = typer.Option(
        [], metavar="RESOURCE=FEE", help="A data set of yours, and its fee a round."
    ),
    computing: float | None = typer.Option(
        None, min=0, callback=tokens, metavar="WAGE", help="Train for others, for this wage a round."
    ),
    subtasks: int = typer.Option(1, min=1, max=MOST_SUBTASKS, help="That you train at the same time."),
    adding: float | None = typer.Option(
        None,
        min=0,
        callback=tokens,
        metavar="FEE",
        help="Add encrypted updates up, which you cannot read, for this fee a round.",
    ),
    nothing: bool = typer.Option(False, "--nothing", help="Take back what you offer."),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Say all that you offer to training tasks, in place of what you offered before."""
    if nothing == bool(data or computing is not None or adding is not None):
        raise typer.BadParameter("Give some of --data, --computing and --adding, or else --nothing.")
    offers = tuple(map(_data_offer, data))
    if len({one.resource for one in offers}) != len(offers):
        raise typer.BadParameter("--data: each data set has one fee.")
    lent = None
    if computing is not None:
        lent = ComputingOffer(
            wage=str(round(computing * TOKEN)),
            subtasks=subtasks,
            cores=os.cpu_count() or 1,
            memory_mib=_memory(),
        )
    adds = None if adding is None else str(round(adding * TOKEN))
    made = Specification(data=offers, computing=lent, adding=adds)

    async def work(client: Client) -> dict[str, Any]:
        tasks = Tasks(client)
        with progress(as_json) as tell:
            for one in made.data:
                tell(f"looking at resource {one.resource}")
                await offerable(tasks, one.resource)
            tell("offering")
            await tasks.offer(made)
        return specification_json(made)

    found = with_client(home, as_json, work)
    emit(
        found,
        as_json,
        lambda: styled(
            "[bold green]✓[/] You offer nothing any more; subtasks that you agreed to go on."
            if nothing
            else "[bold green]✓[/] Offered. Your node takes part where that pays."
        ),
    )


def _data_offer(given: str) -> DataOffer:
    found = _OFFER.fullmatch(given)
    if found is None:
        raise typer.BadParameter(f"--data {given}: write it as RESOURCE=FEE, such as 7=0.5.")
    return DataOffer(resource=int(found[1]), fee=str(round(float(found[2]) * TOKEN)))


def _memory() -> int:
    return max(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20, 1)


@app.command("offers")
def offers(home: Path = HOME, as_json: bool = JSON) -> None:
    """Show what members offer to training tasks."""

    async def work(client: Client) -> tuple[list[dict[str, Any]], str]:
        return [offering_json(one) for one in await offerings(Tasks(client))], client.address

    found, account = with_client(home, as_json, work)
    emit(found, as_json, lambda: offers_table(found, account))


@app.command("fund")
def fund(
    task: int = TASK,
    amount: float = AMOUNT,
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Add to a task's budget."""
    found = _changed(
        task,
        lambda tasks: tasks.fund(task, Wei(round(amount * TOKEN))),
        "adding to the budget",
        home,
        as_json,
    )
    emit(
        found,
        as_json,
        lambda: styled("[bold green]✓[/] Task [bold]{task}[/] has a budget of {budget:g}.", **found),
    )


@app.command("cancel")
def cancel(task: int = TASK, home: Path = HOME, as_json: bool = JSON) -> None:
    """Give a task of yours up before its first round; all goes back."""
    found = _changed(task, lambda tasks: tasks.cancel(task), "cancelling", home, as_json)
    emit(
        found,
        as_json,
        lambda: styled(
            "[bold green]✓[/] Task [bold]{task}[/] is cancelled; budget and bond are credited to you: "
            "[bold]agorai task withdraw[/] takes them.",
            **found,
        ),
    )


def _changed(
    task: int, change: Callable[[Tasks], Awaitable[object]], stage: str, home: Path, as_json: bool
) -> dict[str, Any]:
    async def work(client: Client) -> dict[str, Any]:
        tasks = Tasks(client)
        with progress(as_json) as tell:
            tell(stage)
            await change(tasks)
        return task_json(await seen(tasks, task))

    return with_client(home, as_json, work)


@app.command("leave")
def leave(
    subtask: int = typer.Argument(help="The subtask's id.", min=1), home: Path = HOME, as_json: bool = JSON
) -> None:
    """Leave a subtask that is on your data or that you train; what it delivered stays delivered."""

    async def work(client: Client) -> dict[str, Any]:
        tasks = Tasks(client)
        with progress(as_json) as tell:
            tell("leaving")
            await tasks.leave(subtask)
        found = await tasks.files.subtask(subtask)
        return {
            "subtask": subtask,
            "task": found.task,
            "state": found.state.name.lower(),
            "delivered": found.delivered,
        }

    found = with_client(home, as_json, work)
    emit(
        found,
        as_json,
        lambda: styled(
            "[bold green]✓[/] You have left subtask [bold]{subtask}[/], with {delivered} rounds delivered.",
            **found,
        ),
    )


@app.command("challenge")
def challenge(
    task: int = TASK,
    withheld: bool = typer.Option(
        False,
        "--withheld",
        help="Count what your node cannot have as withheld by the model provider. If voters have it, you lose.",
    ),
    yes: bool = YES,
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Have voters decide about a payout, beside what your node computes; where that is known it does so by itself."""

    async def price(client: Client) -> Wei:
        return await Tasks(client).challenge_cost(task)

    cost = with_client(home, as_json, price)
    confirm(
        f"Challenge the payout of task {task}, and lay down {tokens_told(cost)}, stake and voters' bonus together?",
        "The payout was not challenged",
        yes=yes,
        as_json=as_json,
    )

    async def work(client: Client) -> dict[str, Any]:
        tasks = Tasks(client)
        with progress(as_json) as tell:
            await tasks.challenge(task, withheld=withheld, on_stage=tell)
        return task_json(await seen(tasks, task))

    found = with_client(home, as_json, work)
    emit(
        found,
        as_json,
        lambda: styled(
            "[bold green]✓[/] The payout of task [bold]{task}[/] is before voters: `agorai task watch {task}`.",
            **found,
        ),
    )


@app.command("withdraw")
def withdraw(home: Path = HOME, as_json: bool = JSON) -> None:
    """Take what training tasks credited to you."""

    async def work(client: Client) -> dict[str, Any]:
        tasks = Tasks(client)
        credit = await tasks.credit()
        if credit:
            await tasks.withdraw()
        return {"withdrawn": credit / TOKEN}

    found = with_client(home, as_json, work)
    emit(
        found,
        as_json,
        lambda: (
            f"Took {tokens_told(found['withdrawn'] * TOKEN)}."
            if found["withdrawn"]
            else "There is no credit to take."
        ),
    )
