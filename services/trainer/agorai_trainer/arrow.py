"""Arrow, as far as tables use it, with types: the library brings none."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

pa = importlib.import_module("pyarrow")
pc = importlib.import_module("pyarrow.compute")
pacsv = importlib.import_module("pyarrow.csv")
pq = importlib.import_module("pyarrow.parquet")


class ArrowScalar(Protocol):
    """One value."""

    def as_py(self) -> str | None:
        """Give it as Python's; asked of text columns only."""


class ArrowColumn(Protocol):
    """A `pyarrow.ChunkedArray`."""

    type: Any
    null_count: int

    def __len__(self) -> int:
        """Count the rows."""

    def __getitem__(self, position: int) -> ArrowScalar:
        """Give one value."""

    def slice(self, offset: int, length: int) -> Self:
        """Give some rows."""

    def to_pylist(self) -> list[str]:
        """Give all values of a text column."""

    def to_numpy(self) -> npt.NDArray[np.generic]:
        """Give all values."""


class ArrowTable(Protocol):
    """A `pyarrow.Table`."""

    num_rows: int
    column_names: list[str]
    columns: Sequence[ArrowColumn]
