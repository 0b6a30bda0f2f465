"""Values and rows as small whole numbers: equal ones have equal numbers, which makes comparing tables fast.

Missing values are equal to each other, as are a missing number and not-a-number, and 0.0 and -0.0.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from agorai_trainer.arrow import ArrowColumn, pa, pc

Codes = npt.NDArray[np.int64]


def codes_of(values: ArrowColumn) -> tuple[Codes, int]:
    """Give each value of a column a number from 0, and how many different ones there are."""
    if pa.types.is_floating(values.type):
        places, uniques = pd.factorize(cast("npt.NDArray[np.float64]", values.to_numpy()) + 0.0)
        return np.where(places < 0, len(uniques), places).astype(np.int64), len(uniques) + 1
    encoded = pc.dictionary_encode(values).unify_dictionaries()
    different = len(encoded.chunk(0).dictionary) if encoded.num_chunks else 0
    numbers = pc.fill_null(
        pa.chunked_array([chunk.indices for chunk in encoded.chunks], pa.int32()), different
    )
    return numbers.to_numpy().astype(np.int64), different + 1


def combined(columns: Iterable[tuple[Codes, int]], rows: int) -> Codes:
    """Give each row a number, equal for rows whose numbers are equal in every column."""
    identity = np.zeros(rows, dtype=np.int64)
    different = 1
    for codes, count in columns:
        # both are at most the number of rows, or one more: the product stays below 2**63
        identity, uniques = pd.factorize(identity * count + codes)
        identity = identity.astype(np.int64, copy=False)
        different = len(uniques)
        if different == rows:
            break
    return identity
