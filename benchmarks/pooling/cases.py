"""The two models: a text's sentiment, for the paper's IMDB reviews, and handwritten digits, for its hot dogs.

Both begin with few samples, so that there is room to grow. Each case has a supply of good samples, which contributors
draw from, and a test set that only the pool's owner knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

import numpy as np
from sklearn.datasets import load_digits

from agorai_shared import cid
from agorai_shared.pool import CategoryColumn, Cell, NumberColumn, PoolDocument, Rule, Samples, TextColumn
from benchmarks.pooling.sentences import CLASSES, mislabelled, sentences

Row = tuple[Cell, ...]

_DARKEST: Final = 16


@dataclass(frozen=True)
class Case:
    """One model, and the samples that there are for it."""

    name: str
    paper: tuple[float, float]
    """The paper's accuracy at the beginning and at the end."""
    document: PoolDocument
    initial: Samples
    supply: tuple[Row, ...]
    test: Samples
    batch: int
    """Samples that an honest contributor adds at a time."""
    noised: Callable[[Row, Random], Row]
    """Gives a sample again with hardly any change."""
    scrambled: Callable[[Row, Random], Row]
    """Gives a sample whose features mean nothing."""
    wrong: frozenset[Cell] = frozenset()
    """First cells of those in the supply that have the wrong label, as the generator knows."""


def text(seed: int, supply: int = 2_500, test: int = 2_000) -> Case:
    """Give the model of sentiments: a logistic regression of hashed words."""
    first = 500
    count = first + supply + test
    rows = list(dict.fromkeys(sentences(count, seed)))
    vocabulary = sorted({word for sentence, _ in rows for word in sentence.split()})
    return _case(
        "text",
        (0.78, 0.829),
        (TextColumn(name="text", longest=500), CategoryColumn(name="sentiment", values=CLASSES)),
        rows,
        (first, len(rows) - first - test),
        "sklearn.LogisticRegression",
        batch=40,
        noised=_respelt,
        scrambled=partial(_salad, vocabulary),
        wrong=mislabelled(count, seed),
    )


def image(seed: int) -> Case:
    """Give the model of digits: the nearest of those known, by 64 pixels."""
    pixels, target = load_digits(return_X_y=True)
    columns = tuple(
        NumberColumn(name=f"p{place}", low=0, high=_DARKEST, whole=True) for place in range(pixels.shape[1])
    )
    order = np.random.default_rng(seed).permutation(len(target))
    rows = [(*pixels[place].tolist(), str(target[place])) for place in order]
    return _case(
        "image",
        (0.59, 0.63),
        (*columns, CategoryColumn(name="digit", values=tuple("0123456789"))),
        rows,
        (200, 1_050),
        "sklearn.KNeighborsClassifier",
        batch=30,
        noised=_blurred,
        scrambled=_static,
    )


def _case(
    name: str,
    paper: tuple[float, float],
    columns: tuple[NumberColumn | TextColumn | CategoryColumn, ...],
    rows: Sequence[Row],
    counts: tuple[int, int],
    estimator: str,
    *,
    batch: int,
    noised: Callable[[Row, Random], Row],
    scrambled: Callable[[Row, Random], Row],
    wrong: frozenset[Cell] = frozenset(),
) -> Case:
    first, supply = counts
    document = PoolDocument(
        name=name,
        columns=columns,
        target=columns[-1].name,
        initial_samples=cid.of_raw(b""),
        rule=Rule(estimator=estimator, mode="anew"),
    )
    return Case(
        name=name,
        paper=paper,
        document=document,
        initial=Samples(tuple(rows[:first])),
        supply=tuple(rows[first : first + supply]),
        test=Samples(tuple(rows[first + supply :])),
        batch=batch,
        noised=noised,
        scrambled=scrambled,
        wrong=wrong,
    )


def _respelt(row: Row, random: Random) -> Row:
    words = str(row[0]).split()
    place = random.randrange(len(words))
    words[place] = words[place].upper()
    return " ".join(words) + random.choice(("", " .", "!")), row[1]


def _salad(vocabulary: list[str], row: Row, random: Random) -> Row:
    return " ".join(random.choices(vocabulary, k=len(str(row[0]).split()))), random.choice(CLASSES)


def _blurred(row: Row, random: Random) -> Row:
    """Change every second pixel that is neither empty nor full by one shade."""
    return (
        *(
            cell + random.choice((-1, 0, 0, 1)) if isinstance(cell, float) and 0 < cell < _DARKEST else cell
            for cell in row
        ),
    )


def _static(row: Row, random: Random) -> Row:
    return *(float(random.randint(0, _DARKEST)) for _ in row[:-1]), str(random.randrange(10))
