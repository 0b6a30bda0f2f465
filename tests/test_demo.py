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
from agorai.demo import digits, federated, pool
from agorai.demo.exchange import VOTERS, Deal, Holdings, UnaccountedError, check
from agorai.demo.pool import Line
from agorai_shared.types import TradeId

AGORAI = str(Path(sys.executable).parent / "agorai")
LIMIT_S = 280
"""All of them together, beside other tests."""

pytestmark = pytest.mark.timeout(LIMIT_S + 20)


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
        for name, *options in (("invocation",), ("exchange",), ("pool",), ("federated", "--rounds", "2")):
            scratch, home = tmp_path_factory.mktemp("tmp"), tmp_path_factory.mktemp("home")
            process = stack.enter_context(
                subprocess.Popen(
                    [AGORAI, "demo", name, *options, "--json"],
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


def test_the_life_of_a_pool_is_reported_and_leaves_nothing_behind(runs: dict[str, Run]) -> None:
    report = runs["pool"].report()

    told = [
        (
            one["contribution"],
            one["who"],
            one["did"],
            one["samples"],
            one["outcome"],
            one["laid_down"],
            one["paid_out"],
        )
        for one in report["contributions"]
    ]
    assert told == [
        (0, "olga", "opened", 250, "closed", 100, 127),
        (1, "anna", "added", 60, "60 accepted", 60, 67.5),
        (1, "eve", "challenged", 3, "failed", 3, 0),
        (2, "boris", "added", 60, "55 accepted", 60, 60.5),
        (2, "carl", "challenged", 5, "upheld", 5, 7.5),
        (3, "eve", "added", 40, "0 accepted", 40, 0),
        (3, "carl", "challenged", 40, "upheld", 40, 60),
        (4, "eve", "added", 30, "0 accepted", 30, 0),
        (4, "carl", "challenged", 30, "upheld", 30, 45),
        (4, "eve", "contested", 30, "in vain", 0.003, 0),
        *((4, name, "judged", 30, "voted", 0, 0.001) for name in VOTERS),
        (5, "carl", "corrected 2", 5, "5 accepted", 5, 5.5),
    ]
    versions = report["versions"]
    assert [one["predecessor"] for one in versions] == [None, *(one["version"] for one in versions[:-1])]
    assert [versions[0]["samples"], versions[-1]["samples"]] == [250, 370]
    assert report["rebuilt"]["same"]
    assert report["rebuilt"]["measured"] == pytest.approx(versions[-1]["accuracy"], abs=1e-4)
    assert versions[-1]["accuracy"] > versions[0]["accuracy"] > report["accuracy_unchecked"]
    assert report["contracts"] == {"DataPool": 0, "VotingPanel": 30}
    assert report["supply"] == 6 * 500


def test_the_task_of_dai_is_reported_and_leaves_nothing_behind(runs: dict[str, Run]) -> None:
    report = runs["federated"].report()

    rehearsed = digits.rehearsed(digits.STRATEGY, digits.SHARES, digits.HIDDEN, 2)
    assert [one["accuracy"] for one in report["rounds"]] == list(rehearsed)
    last = report["rounds"][-1]
    assert last["central"] > last["accuracy"] > 0.7
    assert last["fedavg"] < 0.3

    told = {
        one["data_provider"]: (one["computer"], one["delivered"], one["paid_for"], one["found"])
        for one in report["subtasks"]
    }
    assert told == {
        "dora": ("cora", 2, 2, ""),
        "dino": ("cora", 2, 2, ""),
        "dana": ("cole", 2, 2, ""),
        "frank": ("frank", 2, 0, "unchanged in 2 rounds"),
        "eve": ("eve", 2, 2, ""),
    }
    contributed = {one["data_provider"]: one["contribution"] for one in report["subtasks"]}
    assert contributed.pop("eve") < contributed.pop("frank") == 0
    award = {name: 100 * value / sum(contributed.values()) for name, value in contributed.items()}
    assert min(award.values()) > 0
    due = {
        "dora": 2 * (2 - 0.4) + award["dora"],
        "dino": 2 * (2 - 0.4) + award["dino"],
        "dana": 2 * (2 - 0.5) + award["dana"],
        "cora": 2 * 2 * 0.4,
        "cole": 2 * 0.5,
        "frank": 0,
        "eve": 2 * 2,
    }
    assert report["audit"]["verdict"] == "right"
    accounts = {one.pop("name"): one for one in report["participants"]}
    mira = accounts.pop("mira")
    assert mira["before"] - mira["after"] == pytest.approx(sum(due.values()))
    for paid in ("proposed", "recomputed", "after"):
        assert {name: one[paid] for name, one in accounts.items()} == pytest.approx(due)
    assert report["contracts"] == {"TrainingTask": 0}


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


ADDED = Line(1, "alice", "added", 2, "2 accepted", 2, 3)
OPENED = Line(0, "bob", "opened", 9, "closed", 5, 4)
POOL_BEFORE = replace(BEFORE, accounts={**BEFORE.accounts, "anna": 0}, supply=20, contracts={"DataPool": 0})
POOL_AFTER = replace(POOL_BEFORE, accounts={**POOL_BEFORE.accounts, "alice": 11, "bob": 9})


def test_what_the_rules_of_a_pool_say_is_accounted_for() -> None:
    pool.check(POOL_BEFORE, POOL_AFTER, [OPENED, ADDED])


@pytest.mark.parametrize(
    ("after", "added", "what"),
    [
        (POOL_AFTER, replace(ADDED, paid_out=4), "the pool keeps"),
        (replace(POOL_AFTER, accounts={**POOL_AFTER.accounts, "bob": 10}), ADDED, "bob has"),
        (replace(POOL_AFTER, contracts={"DataPool": 1}), ADDED, "DataPool holds"),
        (replace(POOL_AFTER, supply=21), ADDED, "there are"),
    ],
    ids=["the pool", "an account", "the contract", "the supply"],
)
def test_a_token_that_a_pool_cannot_account_for_is_an_error(after: Holdings, added: Line, what: str) -> None:
    with pytest.raises(UnaccountedError, match=what):
        pool.check(POOL_BEFORE, after, [OPENED, added])


TASK_BEFORE = Holdings(supply=9, accounts={"mira": 9, "dora": 0}, staked={}, contracts={"TrainingTask": 0})
TASK_AFTER = replace(TASK_BEFORE, accounts={"mira": 4, "dora": 5})


def test_what_a_payout_says_is_accounted_for() -> None:
    federated.check(TASK_BEFORE, TASK_AFTER, {"dora": 5})


@pytest.mark.parametrize(
    ("after", "what"),
    [
        (replace(TASK_AFTER, accounts={"mira": 4, "dora": 4}), "dora has"),
        (replace(TASK_AFTER, accounts={"mira": 3, "dora": 5}), "mira has"),
        (replace(TASK_AFTER, contracts={"TrainingTask": 1}), "TrainingTask holds"),
        (replace(TASK_AFTER, supply=10), "there are"),
    ],
    ids=["a provider", "the owner", "the contract", "the supply"],
)
def test_a_token_that_a_payout_cannot_account_for_is_an_error(after: Holdings, what: str) -> None:
    with pytest.raises(UnaccountedError, match=what):
        federated.check(TASK_BEFORE, after, {"dora": 5})
