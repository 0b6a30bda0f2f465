"""Homomorphic encryption, tested in a process of its own: TenSEAL and TensorFlow crash where both are loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(600)  # a process, with many tests
def test_tasks_whose_updates_are_encrypted() -> None:
    cases = Path(__file__).with_name("task_modes_apart.py")
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "--timeout=300",
            "-o",
            "faulthandler_timeout=250",
            str(cases),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-2000:]
