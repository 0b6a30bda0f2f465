"""Pools of digits, tumours and sentences for tests, and what can be done to their samples."""

from __future__ import annotations

import hashlib
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits

from agorai_shared.pool import (
    Batch,
    CategoryColumn,
    Cell,
    Checks,
    NumberColumn,
    PoolDocument,
    Rule,
    Samples,
    TextColumn,
)
from agorai_trainer.pooling.checking import find
from agorai_trainer.pooling.features import features
from agorai_trainer.pooling.learning import learn

Rows = list[tuple[Cell, ...]]
CID = "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
LOGISTIC = Rule(estimator="sklearn.LogisticRegression", mode="anew")


def samples(rows: Rows) -> Samples:
    return Samples(tuple(rows))


def numbers(load: Any, rule: Rule = LOGISTIC) -> tuple[PoolDocument, Rows]:
    """Give a pool of one of scikit-learn's data sets, and its samples in an order of their own."""
    features, target = load(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(target))
    columns = [
        NumberColumn(name=f"f{place}", low=-1, high=float(20 * column.max() + 1))
        for place, column in enumerate(features.T)
    ]
    classes = CategoryColumn(name="y", values=tuple(map(str, np.unique(target).tolist())))
    document = PoolDocument(
        name="Numbers", columns=(*columns, classes), target="y", initial_samples=CID, rule=rule
    )
    return document, [(*features[row].tolist(), str(target[row])) for row in order]


@cache
def digits() -> tuple[PoolDocument, Rows]:
    return numbers(load_digits)


@cache
def tumours() -> tuple[PoolDocument, Rows]:
    return numbers(load_breast_cancer)


@cache
def sentences() -> tuple[PoolDocument, Rows]:
    """Give a pool of sentences of praise and blame."""
    path = Path(__file__).parents[3] / "benchmarks" / "pooling" / "sentences.py"
    spec = importlib.util.spec_from_file_location("sentences", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    document = PoolDocument(
        name="Sentences",
        columns=(TextColumn(name="text", longest=500), CategoryColumn(name="y", values=module.CLASSES)),
        target="y",
        initial_samples=CID,
        rule=LOGISTIC,
        buckets=2048,
    )
    return document, module.sentences(3_000, 0)


def small() -> tuple[PoolDocument, Rows]:
    """Give a pool of every kind of column."""
    document = PoolDocument(
        name="Flats",
        columns=(
            NumberColumn(name="area", low=5, high=500),
            CategoryColumn(name="side", values=("north", "south")),
            TextColumn(name="note", longest=40),
            CategoryColumn(name="heated", values=("yes", "no")),
        ),
        target="heated",
        initial_samples=CID,
        rule=LOGISTIC,
        checks=Checks(),
        buckets=16,
    )
    rows: Rows = [
        (float(10 + number), ("north", "south")[number % 2], f"flat {number}", ("yes", "no")[number % 3 == 0])
        for number in range(60)
    ]
    return document, rows


def flipped(document: PoolDocument, rows: Rows, places: list[int]) -> Rows:
    """Give the samples with the next class as label in these places."""
    values = document.target_column.values
    changed = list(rows)
    for place in places:
        label = values[(values.index(str(rows[place][-1])) + 1) % len(values)]
        changed[place] = (*rows[place][:-1], label)
    return changed


def jittered(cells: tuple[Cell, ...], spread: np.ndarray, seed: int) -> tuple[Cell, ...]:
    """Give a sample of numbers with a little noise."""
    noise = np.random.default_rng(seed).normal(0, 0.05, len(spread)) * spread
    return (*(float(cell) + change for cell, change in zip(cells[:-1], noise, strict=True)), cells[-1])


def spread_of(rows: Rows) -> np.ndarray:
    spread: np.ndarray = np.std(np.asarray([cells[:-1] for cells in rows], dtype=np.float64), axis=0)
    return spread


KNOWN = {digits: 600, tumours: 300, sentences: 1_000}


def dealt(make: Any, count: int = 100, at: int = 0) -> tuple[PoolDocument, list[Batch], Rows]:
    """Give a pool, what is known of it, and samples that are not."""
    document, rows = make()
    known = KNOWN[make]
    first = known + at
    return document, [Batch(0, samples(rows[:known]))], rows[first : first + count]


def told() -> str:
    """Give a digest of features, suspicions and models."""
    digest = hashlib.sha256()
    for make in (tumours, sentences):
        document, known, rows = dealt(make)
        noisy = samples(flipped(document, [*rows[:90], *known[0].samples.rows[:10]], list(range(20))))
        matrix: Any = features(document, noisy)
        digest.update((matrix if isinstance(matrix, np.ndarray) else matrix.toarray()).tobytes())
        found = find(document, known, Batch(1, noisy), frozenset({"label", "near_duplicate"}))
        assert found
        digest.update(repr(found).encode())
        digest.update(learn(document, known[0].samples, [noisy]))
    return digest.hexdigest()
