"""How the command speaks: of amounts that are none, of what was interrupted, of who does not answer, of itself."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import metadata
from io import StringIO
from math import inf, nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from agorai.cli import asking, learner, output, pool_shown
from agorai.cli.amounts import tokens
from agorai.cli.main import app
from agorai.client import CarrierDownError, Client, OnStage
from agorai.home import Home, NodeFile
from agorai_shared.bindings.online_learner import Kind
from agorai_shared.bus import BusUnreachableError
from agorai_shared.types import Address


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """Give what is said beside results."""
    told = StringIO()
    for module in (output, learner, asking):
        monkeypatch.setattr(module, "err", Console(file=told, markup=False, width=200))
    return told


def refused(*arguments: object) -> str:
    """Run a command that is refused as usage, and give what it says."""
    found = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert found.exit_code == 2, found.output
    return str(json.loads(found.stdout)["error"]["detail"])


@pytest.mark.parametrize("amount", ["inf", "1e-19"])
@pytest.mark.parametrize(
    "command",
    [
        ("pool", "fund", 1),
        ("task", "fund", 1),
        ("account", "send", "0xabc"),
        ("issue", "0xabc"),
        ("offer", "reprice", 1),
        ("buy", 1, "--max-price"),
        ("trade", "ask", 1, __file__, "--offer"),
    ],
)
def test_what_is_no_amount_is_refused(command: tuple[object, ...], amount: str) -> None:
    assert f"{amount} is no amount of tokens" in refused(*command, amount)


@pytest.mark.parametrize("given", [nan, inf, 1e-19, 7.93e10])
def test_what_contracts_cannot_hold_is_no_amount(given: float) -> None:
    with pytest.raises(typer.BadParameter):
        tokens(given)
    assert [tokens(one) for one in (None, 0.0, 1e-18, 7.9e10)] == [None, 0.0, 1e-18, 7.9e10]


@pytest.mark.parametrize("command", [("pool", "fund", 1), ("task", "fund", 1), ("account", "send", "0xabc")])
@pytest.mark.parametrize(
    ("amount", "says"), [(0, "0 tokens are nothing"), (-5, "below 0"), ("-.5", "below 0")]
)
def test_what_is_given_is_more_than_0(command: tuple[object, ...], amount: object, says: str) -> None:
    assert says in refused(*command, amount)


def test_a_file_in_the_place_of_a_pool_is_told_as_such() -> None:
    assert "samples.csv is no pool's id" in refused("pool", "add", "samples.csv")
    assert "0 is no pool's id" in refused("pool", "show", 0)


def test_the_command_says_which_version_it_is() -> None:
    found = CliRunner().invoke(app, ["--version"])
    assert (found.exit_code, found.stdout) == (0, f"agorai {metadata.version('agorai')}\n")


@pytest.mark.parametrize("has_sent", [False, True])
def test_ctrl_c_says_where_to_look_if_something_was_sent(
    has_sent: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: StringIO
) -> None:
    @asynccontextmanager
    async def connect(_: Home) -> AsyncIterator[Any]:
        yield SimpleNamespace(has_sent=has_sent)

    async def work(_: Client) -> None:
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(60)

    monkeypatch.setattr(Client, "connect", connect)
    with pytest.raises(typer.Exit) as ended:
        output.with_client(tmp_path, False, work, look="agorai pool show 2")
    assert ended.value.exit_code == 130
    told = "It may have been sent: look with `agorai pool show 2` before you repeat it.\n" if has_sent else ""
    assert said.getvalue() == told


def test_training_that_is_interrupted_says_how_many_samples_were_learned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: StringIO
) -> None:
    class Interrupted:
        def __init__(self, _: object) -> None: ...

        async def learner(self, _: int) -> object:
            return SimpleNamespace(features=1, kind=Kind.PERCEPTRON)

        async def train(self, _: int, samples: Sequence[object], *, on_stage: OnStage) -> None:
            on_stage("training", 3 / len(samples))
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(60)

    @asynccontextmanager
    async def connect(_: Home) -> AsyncIterator[Any]:
        yield SimpleNamespace(has_sent=True)

    monkeypatch.setattr(Client, "connect", connect)
    monkeypatch.setattr(learner, "Learners", Interrupted)
    file = tmp_path / "samples.csv"
    file.write_text("x,y\n" + "1,0\n" * 5)
    with pytest.raises(typer.Exit) as ended:
        learner.train(4, file, None, None, None, None, tmp_path, False)
    assert ended.value.exit_code == 130
    assert "3 of 5 samples were learned, and perhaps one more." in said.getvalue()
    assert "look with `agorai learner show 4`" in said.getvalue()


@pytest.mark.parametrize("joined", [None, Path("/homes/owner")])
def test_a_node_that_carries_the_bus_of_others_and_is_down_is_named(
    joined: Path | None, tmp_path: Path
) -> None:
    place = Home(tmp_path)
    node = NodeFile(
        name="linhao", address=Address("0x" + "00" * 20), pid=os.getpid(), url="http://127.0.0.1:1",
        vault_url="http://127.0.0.1:1", token="t", bus_url="nats://127.0.0.1:1", bus_user=None,
        bus_password=None, rpc_url="http://127.0.0.1:1", confirmations=None, deployment=tmp_path, joined=joined,
    )  # fmt: skip
    node.save(place.node_file)

    async def reach() -> None:
        async with Client.connect(place):
            pytest.fail("nobody listens there")

    with pytest.raises((CarrierDownError, BusUnreachableError)) as told:
        asyncio.run(reach())
    assert isinstance(told.value, CarrierDownError) is (joined is not None)
    assert ("AGORAI_HOME=/homes/owner agorai up" in str(told.value.remedy)) is (joined is not None)


def test_a_question_that_nobody_can_answer_says_how_to_go_without(
    monkeypatch: pytest.MonkeyPatch, said: StringIO
) -> None:
    with Path(os.devnull).open() as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        with pytest.raises(typer.Exit) as ended:
            pool_shown.confirm("Lay down 3 tokens?", "Nothing was done", yes=False, as_json=False)
    assert ended.value.exit_code == 1
    assert "so nothing was done. Add --yes to do it." in said.getvalue()


def test_a_no_is_told_to_have_done_nothing(monkeypatch: pytest.MonkeyPatch, said: StringIO) -> None:
    monkeypatch.setattr("sys.stdin", StringIO("n\n"))
    with pytest.raises(typer.Exit) as ended:
        asking.ask("Remove everything?")
    assert (ended.value.exit_code, said.getvalue()) == (1, "Nothing was done.\n")
