"""The command's verbs, put together; a verb's module is loaded when the verb is named, or by help."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module, metadata
from typing import Any, cast

import typer
from typer.core import TyperGroup
from typer.main import get_group

_VERBS = {
    "up": "node:up",
    "found": "node:found",
    "issue": "node:issue",
    "status": "status:status",
    "doctor": "doctor:doctor",
    "dashboard": "dashboard:app",
    "backup": "backup:backup",
    "restore": "backup:restore",
    "hub": "hub:hub",
    "bus": "bus:app",
    "search": "search:search",
    "buy": "market:buy",
    "train": "market:train",
    "invoke": "market:invoke",
    "versions": "versions:versions",
    "events": "events:app",
    "account": "account:app",
    "store": "store:app",
    "publish": "publish:app",
    "data": "data:app",
    "offer": "market:offer_app",
    "trade": "trade:app",
    "exchange": "exchange:app",
    "pool": "pool:app",
    "learner": "learner:app",
    "task": "task:app",
    "audit": "task_audit:app",
    "transfer": "data_transfer:app",
    "vote": "vote:app",
    "demo": "demo:demo",
}
"""Where each verb and group of verbs is, in the order of help."""

_MORE = {
    "events": ("hub_state", "subscriptions"),
    "store": ("store_pins",),
    "pool": ("pool_samples", "pool_versions"),
    "task": ("task_model", "task_watch"),
}
"""Modules that add verbs of their own to a group."""


@cache
def _loaded(name: str) -> Any:
    module, _, attribute = _VERBS[name].partition(":")
    for more in _MORE.get(name, ()):
        import_module(f"agorai.cli.{more}")
    verb = getattr(import_module(f"agorai.cli.{module}"), attribute)
    parent = typer.Typer(rich_markup_mode="rich")
    if isinstance(verb, typer.Typer):
        parent.add_typer(verb, name=name)
    else:
        parent.command(name)(verb)
    return get_group(parent).commands[name]


class _Loading(Mapping[str, Any]):
    """The verbs by name, each loaded when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        return _loaded(name)

    def __iter__(self) -> Iterator[str]:
        return iter(_VERBS)

    def __len__(self) -> int:
        return len(_VERBS)


class _Verbs(TyperGroup):
    """The verbs, and how an error in what was typed is told under --json."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = cast("dict[str, Any]", _Loading())
        self._as_json = False

    def list_commands(self, ctx: object) -> list[str]:
        """Name the verbs; loads none."""
        return list(_VERBS)

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        """Read the command's own options."""
        self._as_json = "--json" in args
        with self._told():
            return super().make_context(info_name, args, *rest, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Read the verb's options, and do it."""
        with self._told():
            return super().invoke(ctx)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except typer.TyperException as error:
            if isinstance(error.__cause__, ValueError):
                from pydantic import ValidationError  # noqa: PLC0415 - what usage that is right does without

                from agorai_shared.validation import first_fault  # noqa: PLC0415 - as above

                if isinstance(error.__cause__, ValidationError):
                    error.message = f"{first_fault(error.__cause__)}."
            given = getattr(error, "option_name", None) or ""
            if re.fullmatch(r"-[0-9.].*", given):  # the first letter of it, of what is no option
                error.message = "No amount and no id is below 0."
            if not self._as_json:
                raise
            from agorai.cli.output import UsageError, fail  # noqa: PLC0415 - what usage that is right does without

            context = getattr(error, "ctx", None)
            command = context.command_path if context else "agorai"
            fail(UsageError(error.format_message(), command), as_json=True, status=error.exit_code)


app = typer.Typer(
    cls=_Verbs,
    name="agorai",
    help="A marketplace for machine-learning data and models in which nobody has to be trusted.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
)


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"agorai {metadata.version('agorai')}\n")
        raise typer.Exit


@app.callback()
def _own_options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Say which it is."
    ),
) -> None:
    del version
