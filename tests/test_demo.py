"""`agorai demo`: each paper's case, and nothing left of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from agorai.cli import demo
from agorai.cli.main import app
from agorai.demo.exchange import VOTERS, Deal, Holdings, UnaccountedError, check
from agorai_shared.types import TradeId

AGORAI = str(Path(sys.executable).parent / "agorai")
LIMIT_S = 110


@dataclass
class Run:
    """A demonstration in a process of its own, with folders of its own."""

    process: subprocess.Popen[str]
    scratch: Path
    home: Path

    def report(self) -> Any:
        """Wait for its end, and see that nothing is left of it."""
        out, err = self.process.communicate(timeout=LIMIT_S)
        assert self.process.returncode == 0, err
        assert list(self.scratch.iterdir()) == []
        assert list(self.home.iterdir()) == []
        left = [
            process.name()
            for process in psutil.process_iter()
            if process.name() in ("anvil", "nats-server") and str(self.scratch) in " ".join(process.cmdline())
        ]
        assert left == []
        return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """Run all side by side: much of their time they wait."""
    with ExitStack() as stack:
        made = {}
        for name in ("invocation", "exchange"):
            scratch, home = tmp_path_factory.mktemp("tmp"), tmp_path_factory.mktemp("home")
            process = stack.enter_context(
                subprocess.Popen(
                    [AGORAI, "demo", name, "--json"],
                    env={**os.environ, "TMPDIR": str(scratch), "HOME": str(home)},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            made[name] = Run(process, scratch, home)
        yield made


def test_the_case_of_isc_mti_is_reported_and_leaves_nothing_behind(runs: dict[str, Run]) -> None:
    report = runs["invocation"].report()

    assert report["token"] == "HAPY"
    assert report["balances"]["tommy"] == 100 - 10 * len(report["runs"])
    assert report["balances"]["linhao"] == 10 * len(report["runs"])
    assert len(report["runs"]) == 3
    for run in report["runs"]:
        assert run["accuracy_agorai"] == run["accuracy_ordinary"]
        loss = (run["seconds_agorai"] - run["seconds_ordinary"]) / run["seconds_ordinary"]
        assert run["L"] == pytest.approx(loss * 100)
    assert [version["previous"] for version in report["versions"]] == [2, 0]


def test_the_case_of_fair_sharing_is_reported_and_leaves_nothing_behind(runs: dict[str, Run]) -> None:
    report = runs["exchange"].report()

    told = [
        (one["kind"], one["seller"], one["buyer"], one["price"], one["to_seller"], one["to_buyer"], one["bonus"],
         one["outcome"], one["at_fault"])
        for one in report["trades"]
    ]  # fmt: skip
    assert told == [
        ("sale", "alice", "bob", 100, 200, 100, 0, "completed", None),
        ("swap", "alice", "bob", 0, 100, 100, 0, "completed", None),
        ("sale", "mallory", "bob", 100, 0, 280, 20, "rejected", "mallory"),
        ("sale", "alice", "mallory", 100, 280, 0, 20, "confirmed", "mallory"),
        ("sale", "alice", "oscar", 100, 300, 0, 0, "expired", "oscar"),
    ]
    change = {one["name"]: one["after"] + one["staked"] - one["before"] for one in report["participants"]}
    voters = [change.pop(name) for name in VOTERS]
    assert change == {"alice": 480, "bob": -20, "mallory": -300, "oscar": -200}
    assert voters == pytest.approx([40 / 3] * 3)
    assert report["contracts"] == {"Invocation": 0, "FairExchange": 0, "VotingPanel": 30}
    assert report["supply"] == 4 * 500 + 3 * 10


def test_demo_alone_runs_every_demonstration(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    names = [command.callback.__name__ for command in demo.demo.registered_commands if command.callback]
    for name in names:
        monkeypatch.setattr(demo, name, lambda *, block_time, as_json, name=name: ran.append(name))
    assert CliRunner().invoke(app, ["demo"]).exit_code == 0
    assert sorted(ran) == sorted(names)


SALE = Deal(
    trade=TradeId(1), story="", kind="sale", seller="alice", buyer="bob", seller_deposit=3, buyer_deposit=3, price=2,
    bonus=1, to_seller=7, to_buyer=0, outcome="confirmed", at_fault="bob",
)  # fmt: skip
BEFORE = Holdings(
    supply=21,
    accounts={"alice": 10, "bob": 10, "anna": 1, "boris": 0, "clara": 0},
    staked=dict.fromkeys(("alice", "bob", *VOTERS), 0),
    contracts={"FairExchange": 0, "VotingPanel": 0},
)
AFTER = Holdings(
    supply=21,
    accounts={"alice": 14, "bob": 5, "anna": 0, "boris": 1, "clara": 0},
    staked={"alice": 0, "bob": 0, "anna": 1, "boris": 0, "clara": 0},
    contracts={"FairExchange": 0, "VotingPanel": 1},
)


def test_what_the_trades_say_is_accounted_for() -> None:
    check(BEFORE, AFTER, [SALE])


@pytest.mark.parametrize(
    ("after", "deal", "what"),
    [
        (AFTER, replace(SALE, to_seller=6), "trade 1 paid out"),
        (replace(AFTER, accounts={**AFTER.accounts, "bob": 6}), SALE, "bob has"),
        (replace(AFTER, accounts={**AFTER.accounts, "clara": 1}), SALE, "the voters have"),
        (replace(AFTER, contracts={"FairExchange": 1, "VotingPanel": 1}), SALE, "FairExchange holds"),
        (replace(AFTER, contracts={"FairExchange": 0, "VotingPanel": 2}), SALE, "VotingPanel holds"),
        (replace(AFTER, supply=22), SALE, "there are"),
    ],
    ids=["a trade", "a trader", "a voter", "the exchange", "the panel", "the supply"],
)
def test_a_token_that_is_elsewhere_is_an_error(after: Holdings, deal: Deal, what: str) -> None:
    with pytest.raises(UnaccountedError, match=what):
        check(BEFORE, after, [deal])
