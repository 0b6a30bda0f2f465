"""Every command that the code or a page tells a person to type is one, with the options that are told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import typer.main

from agorai.cli.main import app
from tests.test_docs import FENCE, PAGES, ROOT

SOURCES: Final = [
    path
    for folder in ("client", "shared", "services/*")
    for path in sorted(ROOT.glob(f"{folder}/agorai*/**/*.py"))
]
QUOTED: Final = re.compile(r"`(?:[A-Z_]+=\S+ )?agorai ([^`]+)`")
PLAIN: Final = re.compile(r"""(?:(?<!b)"|: |\[bold\]|\} |\{flag\})agorai ((?:[a-z-]+ ?)+)""")
"""In a program's text: a whole text, behind a colon, or what is printed bold."""


@cache
def commands() -> Any:
    return typer.main.get_command(app)


def fault(told: str) -> str | None:
    """Say what is wrong with the arguments of a command, if something is."""
    command, behind_option = commands(), False
    for word in re.sub(r"['\"\s]+", " ", told).split():
        members = getattr(command, "commands", None)
        if re.fullmatch(r"--?[a-z-]+", word):
            options = {option for parameter in command.params for option in parameter.opts}
            if word not in {*options, "--help"}:
                return f"`agorai {told}` has no {word}"
            behind_option = True
        elif members is not None and not behind_option:
            if word not in members:
                return f"there is no {word!r} in `agorai {told}`"
            command = members[word]
    return None


def told_by(path: Path) -> Iterator[str]:
    text = path.read_text()
    if path.suffix == ".py":
        text = re.sub(r'"\n\s+f?"', "", text)  # texts of several lines
        yield from PLAIN.findall(text)
    yield from QUOTED.findall(FENCE.sub("", text) if path.suffix == ".md" else text)


def test_every_command_that_is_told_can_be_given() -> None:
    told = [(path, one) for path in (*SOURCES, *PAGES) for one in told_by(path)]
    assert len(told) > 200
    assert [(path, wrong) for path, one in told if (wrong := fault(one))] == []


def test_a_command_that_is_none_is_found() -> None:
    assert fault("store gc") is None
    assert fault("store collect") is not None
    assert fault("up --colour") is not None


def test_the_runbook_names_checks_that_there_are() -> None:
    section = (
        (ROOT / "docs" / "runbooks.md").read_text().partition("## AgoraiNotReady")[2].partition("\n## ")[0]
    )
    named = re.findall(r"`([a-z]+)\.([a-z_]+)", section)
    assert len(named) > 5
    for service, check in named:
        path = f"services/{service}/agorai_{service}/app.py"
        made = f'"{check}"' if (ROOT / path).exists() else f'"{service}.{check}"'
        source = ROOT / path if (ROOT / path).exists() else ROOT / "shared" / "agorai_shared" / "service.py"
        assert made in source.read_text(), f"{service}.{check}"
