"""A pool's samples as numbers, the same on every machine and in every process."""

from __future__ import annotations

import importlib
import re
import unicodedata
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from agorai_shared.pool import Column, PoolDocument, Samples, TextColumn
from agorai_trainer.tasks import ModelSchema

Dense = npt.NDArray[np.float64]
Labels = npt.NDArray[np.str_]
Matrix: TypeAlias = Any
"""`Dense`, or a scipy CSR matrix of float64 where there is text; of shape (samples, features)."""

_WORD = re.compile(r"\w+")


def features(document: PoolDocument, samples: Samples) -> Matrix:
    """Give the features of samples, the target left out, column by column.

    Numbers are as they are, a category is one feature for each of its values, and a text the counts of its words,
    each hashed to one of the document's buckets by MurmurHash3 (32 bits, seed 0, its absolute value modulo the
    buckets) and scaled to length 1.

    Returns
    -------
    Of shape (samples, features), the features as `model_schema` names them.
    """
    blocks = [
        encoded(column, [cells[place] for cells in samples.rows], document.buckets, words)
        for place, column in enumerate(document.columns)
        if place != document.place
    ]
    return stacked(blocks)


def labels(document: PoolDocument, samples: Samples) -> Labels:
    """Give the classes of samples."""
    return np.asarray([cells[document.place] for cells in samples.rows], dtype=np.str_)


def model_schema(document: PoolDocument) -> ModelSchema:
    """Name the features that a model of this pool takes, and its classes in the order of scikit-learn."""
    names = tuple(
        name
        for column in document.columns
        if column.name != document.target
        for name in _names(column, document.buckets)
    )
    return ModelSchema(features=names, target=document.target, classes=classes_of(document))


def classes_of(document: PoolDocument) -> tuple[str, ...]:
    """Give the target's values, sorted."""
    return tuple(sorted(document.target_column.values))


def words(text: str) -> list[str]:
    """Give a text's words: runs of letters, digits and underscores, by NFKC and without regard to case."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def encoded(column: Column, cells: list[float | str], buckets: int, analyze: Any) -> Matrix:
    """Give one column's features; `analyze` takes a text apart."""
    if isinstance(column, TextColumn):
        text = importlib.import_module("sklearn.feature_extraction.text")
        return text.HashingVectorizer(n_features=buckets, analyzer=analyze, alternate_sign=False).transform(
            cells
        )
    if column.kind == "number":
        return np.asarray(cells, dtype=np.float64).reshape(-1, 1)
    known = {value: place for place, value in enumerate(column.values)}
    matrix = np.zeros((len(cells), len(known)))
    matrix[np.arange(len(cells)), [known[cast("str", cell)] for cell in cells]] = 1
    return matrix


def stacked(blocks: list[Matrix]) -> Matrix:
    """Put blocks beside each other, sparse if one of them is."""
    if all(isinstance(block, np.ndarray) for block in blocks):
        return np.hstack(blocks)
    return importlib.import_module("scipy.sparse").hstack(blocks, format="csr")


def stacked_rows(first: Matrix, second: Matrix) -> Matrix:
    """Put one matrix below another of the same features."""
    if isinstance(first, np.ndarray):
        return np.vstack([first, second])
    return importlib.import_module("scipy.sparse").vstack([first, second], format="csr")


def _names(column: Column, buckets: int) -> list[str]:
    if isinstance(column, TextColumn):
        return [f"{column.name}#{bucket}" for bucket in range(buckets)]
    if column.kind == "number":
        return [column.name]
    return [f"{column.name}={value}" for value in column.values]
