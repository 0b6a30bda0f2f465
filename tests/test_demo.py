"""`agorai demo invocation`: the paper's case, and nothing left of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

AGORAI = str(Path(sys.executable).parent / "agorai")


def test_the_demo_reports_the_papers_case_and_leaves_nothing_behind(tmp_path: Path) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    home = tmp_path / "home"
    home.mkdir()
    before = {process.pid for process in psutil.process_iter()}
    found = subprocess.run(
        [AGORAI, "demo", "invocation", "--json"],
        env={**os.environ, "TMPDIR": str(scratch), "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    report = json.loads(found.stdout.splitlines()[-1])

    assert report["token"] == "HAPY"
    assert report["balances"]["tommy"] == 100 - 10 * len(report["runs"])
    assert report["balances"]["linhao"] == 10 * len(report["runs"])
    assert len(report["runs"]) == 3
    for run in report["runs"]:
        assert run["accuracy_agorai"] == run["accuracy_ordinary"]
        loss = (run["seconds_agorai"] - run["seconds_ordinary"]) / run["seconds_ordinary"]
        assert run["L"] == pytest.approx(loss * 100)
    assert [version["previous"] for version in report["versions"]] == [2, 0]
    assert list(scratch.iterdir()) == []
    assert list(home.iterdir()) == []
    left = [
        process.name()
        for process in psutil.process_iter()
        if process.pid not in before and process.name() in ("anvil", "nats-server")
        and str(scratch) in " ".join(process.cmdline())
    ]  # fmt: skip
    assert left == []
