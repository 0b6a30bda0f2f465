"""A data set dealt to providers as it might lie with them, for measurements and rehearsals.

InputError
└── PartitionError             rows that do not suffice for the providers
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from agorai_shared.errors import InputError
from agorai_trainer.portions import Portion, Rows, opened
from agorai_trainer.row_codes import codes_of

_REDRAWN: Final = 10
"""After as many times Flower gives up too."""


class PartitionError(InputError):
    """Rows that do not suffice for the providers."""

    def __init__(self, rows: int, providers: int, fewest: int) -> None:
        super().__init__(
            f"{rows} rows could not be dealt to {providers} providers so that each has {fewest} or more.",
            remedy="Name fewer providers or fewer rows for each, or a higher alpha.",
        )


def iid(rows: int, providers: int, seed: int) -> list[Rows]:
    """Deal row numbers at random, in shares that differ by one at most; `portions.split` does so with files.

    Raises
    ------
    PartitionError
        If there are fewer rows than providers, or no providers.
    """
    if not 1 <= providers <= rows:
        raise PartitionError(rows, providers, 1)
    return np.array_split(np.random.default_rng(seed).permutation(rows), providers)


def dirichlet(
    labels: npt.NDArray[np.generic], providers: int, alpha: float, seed: int, *, fewest: int = 10
) -> list[Rows]:
    """Deal row numbers so that each class is spread over the providers in shares drawn from a Dirichlet distribution.

    The lower `alpha`, the fewer providers have most of a class; the higher, the nearer the shares are to equal ones.
    The same as the DirichletPartitioner of Flower Datasets gives (its `self_balancing` off) with the same seed, after
    Yurochkin et al. 2019, section 4. Hsu, Qi and Brown 2019 draw the classes' shares in each provider instead, for
    providers of one size.

    Parameters
    ----------
    labels
        Of each row, any values that sort.
    alpha
        Concentration, more than 0.
    fewest
        Rows for each provider at least. Shares are drawn anew until that is so, ten times at most.

    Returns
    -------
    The rows of each provider, in random order.

    Raises
    ------
    PartitionError
        If there are too few rows, or no draw gave every provider its rows.
    ValueError
        If providers or rows for each are fewer than one, or alpha is not above 0.
    """
    if providers < 1 or fewest < 1 or not alpha > 0:
        raise ValueError("it takes a provider, a row for each, and an alpha above 0")
    rng = np.random.default_rng(seed)
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    for _ in range(1 + _REDRAWN):
        parts = [_spread(rows, rng.dirichlet(np.full(providers, float(alpha)))) for rows in classes]
        dealt = [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]
        if min(map(len, dealt)) >= fewest:
            for rows in dealt:
                rng.shuffle(rows)
            return dealt
    raise PartitionError(len(labels), providers, fewest)


def partition(
    data: bytes, by: str, providers: int, alpha: float, seed: int, *, fewest: int = 10
) -> list[Portion]:
    """Deal a file's rows by `dirichlet` on the column `by`, each provider a file of the same format.

    Raises
    ------
    PartitionError
    MissingColumnError, CsvShapeError, InputError
        As of `portions.split`.
    """
    values, copy = opened(data, by)
    dealt = dirichlet(codes_of(values)[0], providers, alpha, seed, fewest=fewest)
    return [Portion(index, providers, copy(rows), len(rows)) for index, rows in enumerate(dealt)]


def _spread(rows: Rows, shares: npt.NDArray[np.float64]) -> list[Rows]:
    ends = (np.cumsum(shares) * len(rows)).astype(np.int64)
    return np.split(rows, ends[:-1])
