"""A pool's model from its samples, bit for bit the same for everybody."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from agorai_shared import cid, unixfs
from agorai_shared.documents import DocumentMalformedError
from agorai_shared.pool import (
    Batch,
    Challenge,
    PoolDocument,
    Samples,
    SamplesError,
    Snapshot,
    Taken,
    VersionRecord,
    read_initial,
    read_samples,
)
from agorai_trainer import formats
from agorai_trainer.estimators import build, spec
from agorai_trainer.one_thread import one_thread
from agorai_trainer.pooling.features import Labels, Matrix, classes_of, features, labels, model_schema
from agorai_trainer.pooling.refusals import (
    InitialClassError,
    NotOfRecordError,
    NotRebuiltError,
    RuleRefusedError,
)
from agorai_trainer.pooling.rules import format_of, goes_on, ruled, versions
from agorai_trainer.training_refusals import TrainingRefusedError

_MOST_DENSE = 50_000_000
"""Cells of a matrix that an estimator wants whole: 400 MB."""

_TRIED: Final = 500
"""Samples on which a rule is tried out."""


def learn(document: PoolDocument, initial: Samples, batches: Sequence[Samples]) -> bytes:
    """Train the pool's model, in memory.

    An incremental rule fits the initial samples as ever, with the scaler if there is one, and then goes once through
    each batch by `partial_fit`. Without `partial_fit`, or anew, all samples are fitted together.

    Parameters
    ----------
    batches
        What was accepted of each contribution, in the order of acceptance; where nothing is left, nothing.

    Returns
    -------
    The model in the format that `format_of` gives; the same samples and document give the same bytes.

    Raises
    ------
    RuleRefusedError, InitialClassError, TrainingRefusedError, UnknownEstimatorError, HyperparameterError
    """
    rule = document.rule
    _require(document, initial)
    model = build(rule.estimator, dict(rule.hyperparameters), rule.seed, rule.scaler)
    parts = [part for part in batches if len(part)]
    with _exact(rule.estimator):
        if goes_on(document.rule):
            model.fit(*_matter(document, model, initial))
            _go_on(document, model, parts)
        else:
            together = Samples(tuple(cells for part in (initial, *parts) for cells in part.rows))
            model.fit(*_matter(document, model, together))
    return formats.store(model, format_of(document.rule), rule.estimator, model_schema(document))


def advance(document: PoolDocument, model: bytes, batches: Sequence[Samples]) -> bytes:
    """Train on from a model that `learn` or `advance` made here by the same document, where it `goes_on`.

    The same bytes come out as if all was learnt from the beginning, at the cost of the new batches alone.

    Raises
    ------
    TrainingRefusedError
    InputError
        A leaf of `formats`, if the bytes are no model of this pool.
    """
    schema = model_schema(document)
    fitted: Any = formats.load(model, format_of(document.rule), schema)
    with _exact(document.rule.estimator):
        _go_on(document, fitted, [part for part in batches if len(part)])
    return formats.store(fitted, format_of(document.rule), document.rule.estimator, schema)


def try_out(document: PoolDocument, initial: Samples) -> None:
    """See that a pool can be trained by its rule, on some of its initial samples; raises as `learn` does."""
    _require(document, initial)
    _matter(document, _bare(document.rule.estimator), initial)
    place, rows = document.place, initial.rows
    of_class = {cells[place]: cells for cells in reversed(rows)}
    some = Samples((*of_class.values(), *rows[:_TRIED]))
    learn(document, some, [some])


def accuracy(document: PoolDocument, model: bytes, test: Samples) -> float:
    """Give the share of samples whose class a model foretells: formula (1) of ISC-MTI, section 6.2.

    Raises
    ------
    InputError
        A leaf of `formats`, if the bytes are no model of this pool.
    """
    predictor = formats.load(model, format_of(document.rule), model_schema(document))
    matrix = features(document, test)
    if not _takes_sparse(_bare(document.rule.estimator)):
        matrix = _dense(document.rule.estimator, matrix)
    return float(np.mean(predictor.predict(matrix) == labels(document, test)))


def batch_of(document: PoolDocument, one: Taken, data: bytes) -> Batch | None:
    """Read one contribution; None if it is not what everybody can read.

    Parameters
    ----------
    data
        What its digest names: a file of samples as this project's importer divides files, so that everybody names it
        the same; of a correction, the challenge that holds its samples.
    """
    if _digest(data) != one.digest:
        return None
    try:
        file = Challenge.from_bytes(data).corrected.encode() if one.corrects else data
        samples = read_samples(document, file, count=one.count)
    except (DocumentMalformedError, SamplesError):
        return None
    return Batch(one.contribution, samples, frozenset(one.left_out))


def learnt_of(document: PoolDocument, one: Taken, data: bytes) -> Samples:
    """Give what is learnt from one contribution: nothing, if it cannot be read or all of it is left out."""
    batch = None if len(one.left_out) == one.count else batch_of(document, one, data)
    return Samples(()) if batch is None else batch.samples.without(batch.out)


def rebuild(
    made: VersionRecord,
    document: PoolDocument,
    snapshot: Snapshot,
    initial: bytes,
    contributions: Sequence[bytes],
) -> bytes:
    """Make a version's model again from the files that its snapshot names, in its order, and compare.

    It is trained by the record's rule, which may be another than the pool's. Of a contribution that is left out as a
    whole no bytes are needed: nobody may have them any more.

    Raises
    ------
    NotOfRecordError
        If something given is not what the record names.
    NotRebuiltError
        If another model comes out.
    InputError
        As `learn` raises it.
    """
    _same("pool's document", cid.of_raw(document.to_bytes()), made.document)
    _same("snapshot", unixfs.cid_of(snapshot.to_bytes()), made.snapshot)
    _same("file of initial samples", unixfs.cid_of(initial), snapshot.initial_samples)
    _same("number of contributions", str(len(contributions)), str(len(snapshot.taken)))
    for one, data in zip(snapshot.taken, contributions, strict=True):
        if len(one.left_out) != one.count:
            _same(f"contribution {one.contribution}", _digest(data), one.digest)
    by_rule = ruled(document, made.rule)
    first = read_initial(document, initial)
    batches = [
        learnt_of(document, one, data) for one, data in zip(snapshot.taken, contributions, strict=True)
    ]
    _same("number of samples", repr([len(part) for part in (first, *batches)]), repr(list(made.batches)))
    model = learn(by_rule, first, batches)
    if (found := unixfs.cid_of(model)) != made.model:
        raise NotRebuiltError(found, made.model, made.versions, versions())
    return model


def _digest(data: bytes) -> str:
    return cid.digest_of(unixfs.cid_of(data)).hex()


def _same(what: str, given: str, wanted: str) -> None:
    if given != wanted:
        raise NotOfRecordError(what, given, wanted)


def _require(document: PoolDocument, initial: Samples) -> None:
    estimator = document.rule.estimator
    entry = spec(estimator)
    if entry.kind != "classification" or entry.extra is not None:
        raise RuleRefusedError(
            estimator, "it is no classifier of scikit-learn", "Name one, such as sklearn.SGDClassifier."
        )
    present = set(labels(document, initial).tolist())
    for label in classes_of(document):
        if label not in present:
            raise InitialClassError(label)


@contextmanager
def _exact(estimator: str) -> Iterator[None]:
    """Train the same everywhere, and tell refusals as such."""
    with one_thread():
        try:
            yield
        except (ValueError, TypeError, AttributeError, IndexError, KeyError, ArithmeticError) as error:
            raise TrainingRefusedError(estimator, str(error) or type(error).__name__) from error


def _go_on(document: PoolDocument, model: Any, parts: Sequence[Samples]) -> None:
    scalers = [step for _, step in getattr(model, "steps", [])[:-1]]
    for part in parts:
        matrix, known = _matter(document, model, part)
        for scaler in scalers:
            matrix = scaler.transform(matrix)
        _last(model).partial_fit(matrix, known)


def _matter(document: PoolDocument, model: Any, samples: Samples) -> tuple[Matrix, Labels]:
    matrix = features(document, samples)
    if not _takes_sparse(model):
        matrix = _dense(document.rule.estimator, matrix)
    return matrix, labels(document, samples)


def _last(model: Any) -> Any:
    return getattr(model, "steps", [("", model)])[-1][1]


def _bare(estimator: str) -> Any:
    return build(estimator, {}, 0, None)


def _takes_sparse(model: Any) -> bool:
    return bool(importlib.import_module("sklearn.utils").get_tags(_last(model)).input_tags.sparse)


def _dense(estimator: str, matrix: Matrix) -> Matrix:
    if isinstance(matrix, np.ndarray):
        return matrix
    rows, wide = matrix.shape
    if rows * wide > _MOST_DENSE:
        raise RuleRefusedError(
            estimator,
            f"it wants {rows} rows of {wide} features whole",
            "Name a linear estimator, or fewer hash buckets.",
        )
    return matrix.toarray()
