"""`agorai task download`: the model that a task came to, into a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from agorai.cli.output import HOME, JSON, emit, progress, styled, with_client
from agorai.cli.task import TASK, app
from agorai.client import Client
from agorai.tasks import Tasks


@app.command("download")
def download(
    task: int = TASK,
    model: Path = typer.Option(..., dir_okay=False, help="Where the final model goes."),
    schema: Path | None = typer.Option(
        None, dir_okay=False, help="Where its features, target and classes go, as `publish model` takes them."
    ),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Fetch a task's final model: its model provider, or, not in mode encrypted, anyone once a payout is proposed."""
    from agorai.task_model import trained  # noqa: PLC0415 - libraries of models, for this alone

    async def work(client: Client) -> dict[str, Any]:
        with progress(as_json) as tell:
            tell("fetching the model")
            found = await trained(Tasks(client), task)
        _write(model, found.content)
        if schema is not None:
            _write(schema, found.schema.model_dump_json(indent=2).encode() + b"\n")
        return {"task": task, "round": found.round, "model": str(model), "format": found.format}

    found = with_client(home, as_json, work)
    emit(
        found,
        as_json,
        lambda: styled("[bold green]✓[/] The model behind round {round} is in {model} ({format}).", **found),
    )


def _write(path: Path, content: bytes) -> None:
    try:
        with path.open("xb") as stream:  # nobody's file is overwritten
            stream.write(content)
    except OSError as error:
        from agorai.cli.data import FileNotWrittenError  # noqa: PLC0415 - what reads tables, for its error alone

        raise FileNotWrittenError(path, error.strerror or str(error)) from error
