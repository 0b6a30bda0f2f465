"""`agorai task watch`: a task as it goes on, a line for each round and for each change of who is awaited."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path
from typing import Any

import typer
from rich.text import Text

from agorai.cli.output import HOME, emit, run, styled
from agorai.cli.task import TASK, app
from agorai.cli.task_shown import left_out_told, rounds_json, task_json, waits_for
from agorai.client import Client
from agorai.home import Home
from agorai.task_following import News, watched
from agorai.task_state import ENDED
from agorai_shared.errors import AgoraiError


@app.command("watch")
def watch(
    task: int = TASK,
    home: Path = HOME,
    as_json: bool = typer.Option(
        False, "--json", help="Print a JSON object for each line, and nothing else."
    ),
) -> None:
    """Follow a task to its end: a line for each round, and whenever others are awaited.

    Ends with status 0 once the task is settled, and with 1 if it was abandoned. Restarts of the node do not end it.
    """

    def connect() -> AbstractAsyncContextManager[Client]:
        return Client.connect(Home(home))

    def tell(one: dict[str, Any]) -> None:
        emit(one, as_json, lambda: told(one))

    def away(error: AgoraiError) -> None:
        tell({"what": "away", "task": task, "why": error.message})

    async def work() -> str:
        state = ""
        async with aclosing(watched(connect, task, away)) as all_news:
            async for news in all_news:
                for one in lines(news):
                    tell(one)
                state = news.seen.task.state.name.lower()
        return state

    if run(work, as_json) != "settled":
        raise typer.Exit(1)


def lines(news: News) -> list[dict[str, Any]]:
    """Give what there is to say of news, for machines, an object for each line."""
    seen, found = news.seen, task_json(news.seen)
    samples = found["test_samples"]
    said: list[dict[str, Any]] = [
        {
            "what": "round",
            "task": seen.id,
            **one,
            "accuracy": one["right"] / samples if one["right"] is not None and samples else None,
            "test_samples": samples,
        }
        for one in rounds_json(seen, news.rounds)
        if one["round"] in news.rounds
    ]
    if seen.task.state in ENDED:
        return [*said, {"what": "ended", **found}]
    names = ("task", "state", "round", "rounds", "awaited", "late", "until", "now")
    return [*said, {"what": "awaited", **{name: found[name] for name in names}}]


def told(one: dict[str, Any]) -> Text:
    """Say it to people."""
    match one["what"]:
        case "round":
            return _round(one)
        case "awaited":
            late = f"; late: {', '.join(map(str, one['late']))}" if one["late"] else ""
            return styled("[dim]awaited[/] {what}{late}", what=waits_for(one), late=late)
        case "away":
            return styled("[yellow]away[/] {why} Trying again until it is back.", why=one["why"])
    if one["state"] == "settled":
        return styled(
            "[bold green]✓[/] Task [bold]{task}[/] is settled. Nodes claim what they are due; "
            "[bold]agorai task withdraw[/] takes it.",
            **one,
        )
    return styled(
        "[bold red]✗[/] Task [bold]{task}[/] was abandoned behind round {round}. What came back is credited: "
        "[bold]agorai task withdraw[/] takes it.",
        **one,
    )


def _round(one: dict[str, Any]) -> Text:
    accuracy = "its record is not served"
    if one["right"] is not None:
        accuracy = f"{one['right']:,} of {one['test_samples'] or '?'} correct"
    if one["accuracy"] is not None:
        accuracy = f"{one['accuracy']:.1%}, {accuracy}"
    number, updates = one["round"], one["delivered"]
    what = f"; {updates} update{'' if updates == 1 else 's'} in" if number else ", before any training"
    left_out = left_out_told(one)
    return styled(
        "[bold]round {number}[/] {accuracy}{what}{rest}",
        number=number, accuracy=accuracy, what=what, rest=f"; {left_out}" if left_out else "",
    )  # fmt: skip
