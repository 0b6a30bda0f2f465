"""Data sets and a sandbox for the trainer's tests."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytest_asyncio
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris

from agorai_trainer.sandbox import Sandbox
from agorai_trainer.tasks import Limits

ENTRIES = Path(__file__).parent / "entries"


def as_csv(features: np.ndarray, target: np.ndarray) -> bytes:
    """Give a table with the columns f0, f1, ... and y."""
    frame = pd.DataFrame(features, columns=[f"f{number}" for number in range(features.shape[1])])
    frame["y"] = target
    return frame.to_csv(index=False).encode()


@pytest.fixture(scope="session")
def iris() -> bytes:
    features, target = load_iris(return_X_y=True)
    return as_csv(features, np.array(["setosa", "versicolor", "virginica"])[target])


@pytest.fixture(scope="session")
def cancer() -> bytes:
    return as_csv(*load_breast_cancer(return_X_y=True))


@pytest.fixture(scope="session")
def diabetes() -> bytes:
    return as_csv(*load_diabetes(return_X_y=True))


@pytest.fixture(scope="session")
def iris_parquet(iris: bytes) -> bytes:
    buffer = io.BytesIO()
    pd.read_csv(io.BytesIO(iris)).to_parquet(buffer)
    return buffer.getvalue()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sandbox() -> AsyncIterator[Sandbox]:
    limits = Limits(memory_mib=2048, cpu_s=60, wall_s=60)
    async with Sandbox(limits, preload=("hostile_jobs",), path=(ENTRIES,)) as started:
        yield started
