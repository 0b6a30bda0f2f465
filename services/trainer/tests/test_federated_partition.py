"""Dealing to providers: every row to one of them, the same to each who has the seed, by label as in Flower."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_iris

from agorai_trainer import tables
from agorai_trainer.federated.partition import PartitionError, dirichlet, iid, partition
from agorai_trainer.portions import Rows
from agorai_trainer.table_refusals import MissingColumnError

LABELS = load_iris(return_X_y=True)[1]


def unevenness(dealt: list[Rows]) -> float:
    """Give the mean over providers of the share of their most frequent class."""
    return float(np.mean([np.bincount(LABELS[rows]).max() / len(rows) for rows in dealt]))


@given(st.integers(1, 200), st.data(), st.integers(0, 9))
def test_iid_deals_every_row_once_in_equal_shares(rows: int, data: st.DataObject, seed: int) -> None:
    providers = data.draw(st.integers(1, rows))
    dealt = iid(rows, providers, seed)
    assert np.array_equal(np.sort(np.concatenate(dealt)), np.arange(rows))
    assert len(dealt) == providers
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


@given(st.integers(1, 6), st.floats(1, 1e4), st.integers(0, 99), st.integers(1, 3))
def test_dirichlet_deals_every_row_once_and_each_provider_the_fewest_or_more(
    providers: int, alpha: float, seed: int, fewest: int
) -> None:
    dealt = dirichlet(LABELS, providers, alpha, seed, fewest=fewest)
    assert np.array_equal(np.sort(np.concatenate(dealt)), np.arange(len(LABELS)))
    assert len(dealt) == providers
    assert min(map(len, dealt)) >= fewest


def test_dirichlet_deals_as_flower_datasets_does() -> None:
    """Its DirichletPartitioner(num_partitions=5, partition_by="y", alpha=0.5, min_partition_size=15) gave this."""
    dealt = dirichlet(LABELS, 5, 0.5, 42, fewest=15)
    assert [len(rows) for rows in dealt] == [51, 26, 28, 15, 30]
    assert [rows[:4].tolist() for rows in dealt] == [
        [106, 53, 4, 104],
        [28, 31, 116, 121],
        [140, 131, 72, 137],
        [42, 146, 41, 145],
        [47, 149, 89, 90],
    ]


def test_the_lower_alpha_the_more_a_provider_has_of_one_class() -> None:
    found = [
        np.mean([unevenness(dirichlet(LABELS, 4, alpha, seed, fewest=1)) for seed in range(20)])
        for alpha in (0.1, 1.0, 100.0)
    ]
    assert found[0] > 0.8 > found[1] > 0.5 > found[2]
    assert unevenness(iid(150, 4, 0)) < 0.5


def test_dealing_is_by_the_seed() -> None:
    first, again, other = (dirichlet(LABELS, 3, 1.0, seed) for seed in (1, 1, 2))
    assert all(map(np.array_equal, first, again))
    assert not all(map(np.array_equal, first, other))
    assert not np.array_equal(iid(9, 1, 1), iid(9, 1, 2))


def test_rows_that_do_not_suffice_are_refused() -> None:
    with pytest.raises(PartitionError, match=r"3 rows .* 4 providers .* 1 or more"):
        iid(3, 4, 0)
    with pytest.raises(PartitionError, match=r"150 rows .* 16 providers .* 10 or more"):
        dirichlet(LABELS, 16, 1e6, 0)
    with pytest.raises(PartitionError, match=r"150 rows .* 10 providers .* 3 or more"):
        dirichlet(LABELS, 10, 0.1, 0, fewest=3)  # each of the draws leaves a provider with less


@pytest.mark.parametrize(
    ("providers", "alpha", "fewest"), [(0, 1.0, 1), (1, 0.0, 1), (1, float("nan"), 1), (1, 1.0, 0)]
)
def test_what_cannot_be_dealt_by_is_refused(providers: int, alpha: float, fewest: int) -> None:
    with pytest.raises(ValueError, match="an alpha above 0"):
        dirichlet(LABELS, providers, alpha, 0, fewest=fewest)


def test_files_are_dealt_by_a_column_in_their_own_format(iris: bytes, iris_parquet: bytes) -> None:
    for file in (iris, iris_parquet):
        dealt = partition(file, "y", 3, 0.5, 0)
        assert [(portion.index, portion.count) for portion in dealt] == [(0, 3), (1, 3), (2, 3)]
        read = [tables.parse(portion.content) for portion in dealt]
        assert [table.format for table in read] == [tables.parse(file).format] * 3
        assert [table.rows for table in read] == [portion.rows for portion in dealt]
        labels = np.concatenate([table.labels("y") for table in read])
        assert np.unique_counts(labels).counts.tolist() == [50, 50, 50]
        rows = [rows.tolist() for rows in dirichlet(LABELS, 3, 0.5, 0)]
        kept = [[tables.parse(file).labels("y")[row] for row in own] for own in rows]
        assert [table.labels("y").tolist() for table in read] == kept
    with pytest.raises(MissingColumnError, match="'z'"):
        partition(iris, "z", 3, 0.5, 0)
