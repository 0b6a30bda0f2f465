"""How the command speaks: progress and errors on standard error, results on standard output, JSON on request."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import unicodedata
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from agorai.home import DEFAULT_HOME, Home
from agorai_shared.errors import AgoraiError, InputError

if TYPE_CHECKING:
    from agorai.client import Client, OnStage

T = TypeVar("T")

# What others wrote (names, messages) must not be read as markup: only `styled` templates are.
out = Console(markup=False)
err = Console(stderr=True, markup=False)


def styled(template: str, **values: object) -> Text:
    """Fill values into a template of the project's own, whose markup counts while the values' does not."""
    safe = {name: escape(printable(str(value))) for name, value in values.items()}
    return Text.from_markup(template.format(**safe))


def printable(text: str) -> str:
    """Replace what could steer a terminal: control and format characters, line breaks among them."""
    return "".join(" " if unicodedata.category(c) in _UNPRINTABLE else c for c in text)


_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


class SafeTable(Table):
    """A table whose cells may hold what others wrote."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row, its text made printable."""
        super().add_row(*(printable(c) if isinstance(c, str) else c for c in cells), **options)


HOME = typer.Option(
    DEFAULT_HOME, "--home", envvar="AGORAI_HOME", help="The folder of the node or hub.", show_default=True
)
JSON = typer.Option(False, "--json", help="Print one JSON object and nothing else.")


def emit(value: Any, as_json: bool, human: Callable[[], object]) -> None:
    """Print a result: as one line of JSON, or as `human` shows it."""
    if as_json:
        sys.stdout.write(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode() + "\n")
        sys.stdout.flush()
    else:
        shown = human()
        if shown is not None:
            out.print(shown)


class UsageError(InputError):
    """What was typed is no command."""

    def __init__(self, message: str, command: str) -> None:
        super().__init__(message, remedy=f"See `{command} --help`.")


def fail(error: AgoraiError, as_json: bool, status: int = 1) -> None:
    """Print an error with its remedy, and end with a status."""
    if as_json:
        sys.stdout.write(orjson.dumps({"error": error.to_problem()}).decode() + "\n")
    else:
        err.print(styled("[bold red]Error:[/] {message}", message=error.message), highlight=False)
        if error.remedy:
            err.print(styled("[dim]→[/] {remedy}", remedy=error.remedy), highlight=False)
    raise typer.Exit(status)


@contextlib.contextmanager
def progress(as_json: bool) -> Iterator[OnStage]:
    """Show what is being done, how much of it, and for how long; gives what to tell of each stage."""
    if as_json:
        yield lambda _stage, _share=None: None
        return
    if not err.is_terminal:
        yield _lines()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def draw(stage: str, share: float | None = None) -> None:
            bar.update(task, description=stage, total=None if share is None else 1, completed=share or 0)

        yield draw


def _lines() -> OnStage:
    last = ""

    def say(stage: str, share: float | None = None) -> None:
        nonlocal last
        del share
        if stage != last:
            err.print(f"… {stage}", highlight=False)
        last = stage

    return say


def with_client(
    home: Path, as_json: bool, work: Callable[[Client], Awaitable[T]], *, look: str = "agorai account show"
) -> T:
    """Reach the running node, do the work, and turn an error into its message and status 1.

    Ctrl-C ends it with status 130, and tells of the command `look` if something was sent before.
    """

    async def main() -> T:
        from agorai.client import Client  # noqa: PLC0415 - what of a node other verbs do without

        async with Client.connect(Home(home)) as client:
            try:
                return await work(client)
            except asyncio.CancelledError:
                if client.has_sent:
                    err.print(f"It may have been sent: look with `{look}` before you repeat it.")
                raise

    return run(main, as_json)


def local(work: Callable[[], T], as_json: bool) -> T:
    """Do work that may take long and waits for nothing, outside of any event loop: Ctrl-C ends it at once."""
    try:
        return work()
    except AgoraiError as error:
        fail(error, as_json)
        raise AssertionError("fail ends the command") from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def run(work: Callable[[], Awaitable[T]], as_json: bool, *, log_level: str = "ERROR") -> T:
    """Run asynchronous work with quiet logs."""
    import uvloop  # noqa: PLC0415 - what help and errors of usage do without

    from agorai_shared import logging  # noqa: PLC0415 - as above

    fmt: logging.LogFormat = "json" if os.environ.get("AGORAI_LOG_FORMAT") == "json" else "console"
    logging.configure(os.environ.get("AGORAI_LOG_LEVEL", log_level), fmt)

    async def main() -> T:
        return await work()

    try:
        return uvloop.run(main())
    except AgoraiError as error:
        fail(error, as_json)
        raise AssertionError("fail ends the command") from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def table(*headings: str, title: str | None = None, whole: Sequence[str] = ()) -> SafeTable:
    """Make a table; a heading that begins with `>` is right-aligned, cells under those in `whole` are never cut."""
    made = SafeTable(title=title, header_style="bold")
    for heading in headings:
        made.add_column(
            heading.removeprefix(">"),
            justify="right" if heading.startswith(">") else "left",
            overflow="fold" if heading in whole else "ellipsis",
            no_wrap=heading in whole,
        )
    return made
