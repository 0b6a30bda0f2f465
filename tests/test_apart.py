"""Homomorphic encryption, tested in processes of its own: TenSEAL and TensorFlow crash where both are loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CASES = (
    "shared/tests/ckks_apart.py",
    "services/trainer/tests/federated_encrypted_apart.py",
    "services/trainer/tests/federated_reading_apart.py",
    "tests/task_modes_apart.py",
)


@pytest.mark.timeout(600)  # a process, with many tests
@pytest.mark.parametrize("cases", CASES)
def test_homomorphic_encryption(cases: str) -> None:
    options = (
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "--timeout=300",
        "-o",
        "faulthandler_timeout=250",
    )
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(ROOT / cases)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-2000:]


def test_none_is_forgotten() -> None:
    folders = (ROOT / "tests", *ROOT.glob("*/tests"), *ROOT.glob("services/*/tests"))
    found = {one.relative_to(ROOT).as_posix() for folder in folders for one in folder.glob("*_apart.py")}
    assert {one for one in found if not Path(one).name.startswith("test_")} == set(CASES)
