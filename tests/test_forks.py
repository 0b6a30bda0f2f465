"""A script that is forked does as one that Python was started for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import AnyStr

import psutil
import pytest

from tests.forks import Forked, Forks
from tests.nodes import AGORAI

TELLS = """
import os, sys
print(sys.argv, os.getcwd(), dict(os.environ), sys.path[1:], __name__, sys.stdin.read())
print(sorted(os.listdir("/proc/self/fd")))
print("\N{SNOWMAN}", file=sys.stderr)
sys.exit(int(sys.argv[1]))
"""
WAITS = """
import sys, time
print("waiting", flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(7)
"""


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="scripts are forked on Linux only")


class Bare(Forked[AnyStr]):
    forks = Forks()


@pytest.fixture(autouse=True, scope="module")
def ended() -> Iterator[None]:
    yield
    Bare.forks.end()


@pytest.fixture
def waiting(tmp_path: Path) -> Path:
    path = tmp_path / "waits"
    path.write_text(WAITS)
    return path


def test_a_command_says_the_same(tmp_path: Path) -> None:
    environment = {**os.environ, "AGORAI_HOME": str(tmp_path), "FORCE_COLOR": "1", "COLUMNS": "40"}

    def said(begin: type[subprocess.Popen[str]]) -> tuple[int, str, str]:
        command = [AGORAI, "buy", "many"]
        with begin(command, env=environment, stdout=-1, stderr=-1, stdin=-3, text=True) as process:
            out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    forked = said(Forked)
    assert forked == said(subprocess.Popen)
    assert (forked[0], forked[1]) == (2, "")
    assert "whole number" in forked[2]


def test_arguments_folder_environment_streams_and_status_are_its_own(tmp_path: Path) -> None:
    script = tmp_path / "tells"
    script.write_text(TELLS)
    said = []
    begins: list[tuple[type[subprocess.Popen[bytes]], list[str]]]
    begins = [(Bare, []), (subprocess.Popen, [sys.executable])]
    for begin, command in begins:
        with begin(
            [*command, str(script), "3", "ü"], cwd=tmp_path, env={"A": "1", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            said.append((*process.communicate(b"given"), process.returncode))
    assert said[0] == said[1]
    assert said[0][1:] == ("\N{SNOWMAN}\n".encode(), 3)


def test_signals_reach_it_and_how_it_ended_is_told(waiting: Path) -> None:
    for number, status in ((signal.SIGINT, 7), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGKILL, -9)):
        with Bare[str]([str(waiting)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting\n"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.01)
            assert process.poll() is None
            process.send_signal(number)
            assert process.wait(10) == status


def test_it_ends_with_the_process_that_began_it(waiting: Path) -> None:
    program = (
        "import os, subprocess; from tests.forks import Forked, Forks; Forked.forks = Forks()\n"
        f"process = Forked([{str(waiting)!r}], stdout=subprocess.PIPE, text=True)\n"
        "process.stdout.readline(); print(process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    folder = Path(__file__).parents[1]
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=folder
    )
    assert ended.returncode == -9, ended.stderr
    psutil.wait_procs([psutil.Process(int(ended.stdout))] if psutil.pid_exists(int(ended.stdout)) else [], 10)
    assert not psutil.pid_exists(int(ended.stdout))
