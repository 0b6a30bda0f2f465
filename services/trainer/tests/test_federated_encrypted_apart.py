"""Homomorphic encryption, tested in a process of its own: TenSEAL and TensorFlow crash where both are loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(600)  # a process, with many tests
def test_training_on_encrypted_samples() -> None:
    cases = Path(__file__).with_name("federated_encrypted_apart.py")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(cases)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-2000:]
