"""Nodes of this machine for tests, each its own `agorai up`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, AnyStr

from agorai.parts import HUB, SERVICES
from tests.forks import SCRIPT

AGORAI = str(Path(sys.executable).parent / "agorai")
PASSPHRASE = "a long enough passphrase"


_STARTED: list[subprocess.Popen[str]] = []


@dataclass
class Node:
    home: Path
    process: subprocess.Popen[str]

    def agorai(self, *arguments: object, status: int = 0) -> Any:
        found = agorai(self.home, *arguments, "--json")
        assert found.returncode == status, found.stderr + found.stdout
        lines = found.stdout.splitlines()
        return json.loads(lines[-1]) if lines else None


def agorai(home: Path, *arguments: object, passphrase: str = PASSPHRASE) -> subprocess.CompletedProcess[str]:
    process = SCRIPT(
        [AGORAI, *map(str, arguments)],
        env={**os.environ, "AGORAI_HOME": str(home), "AGORAI_VAULT_PASSPHRASE": passphrase},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    return finished(process)


def finished(
    process: subprocess.Popen[AnyStr], given: AnyStr | None = None
) -> subprocess.CompletedProcess[AnyStr]:
    """Wait for a process's end, a minute at most."""
    with process:
        try:
            out, err = process.communicate(given, timeout=60)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def up(
    home: Path,
    *arguments: object,
    begin: type[subprocess.Popen[str]] = SCRIPT,
    passphrase: str | None = PASSPHRASE,
    dashboard: bool = False,
    **environment: str,
) -> Node:
    """Run a node, with its dashboard where that is tested: it takes a second of a processor to load."""
    if not dashboard and "--only" not in arguments:
        parts = SERVICES if "--join" in arguments else SERVICES | {HUB}
        arguments = (*arguments, "--only", ",".join(sorted(parts)))
    known = {} if passphrase is None else {"AGORAI_VAULT_PASSPHRASE": passphrase}
    process = begin(
        [AGORAI, "up", "--json", *map(str, arguments)],
        env={**os.environ, "AGORAI_HOME": str(home), **known, **environment},
        stdout=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    _STARTED.append(process)
    assert process.stdout is not None
    said = process.stdout.readline()
    assert "seconds" in said, said
    return Node(home, process)


def stop(node: Node) -> int:
    node.process.send_signal(signal.SIGINT)
    try:
        return node.process.wait(20)
    finally:
        node.process.kill()
        node.process.communicate()


def kill_left() -> None:
    """End what a test left running, such as one that ran out of time; what a node started ends with it."""
    for process in _STARTED:
        process.kill()
        process.wait()
