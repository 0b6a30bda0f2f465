"""A pool's model from its samples, bit for bit the same for everybody.

InputError
├── RuleRefusedError          an estimator or setting by which a pool cannot be trained
└── InitialClassError         a class that the initial samples have no row of
IntegrityError
├── NotOfRecordError          a document, snapshot or contribution that a record does not name
└── NotRebuiltError           the same samples and rule give another model here
"""

from __future__ import annotations

import importlib
import platform
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from agorai_shared import cid, unixfs
from agorai_shared.errors import InputError, IntegrityError
from agorai_shared.pool import (
    Batch,
    PoolBinding,
    PoolDocument,
    Samples,
    Snapshot,
    VersionRecord,
    Versions,
    read_initial,
    read_samples,
)
from agorai_trainer import formats
from agorai_trainer.estimators import Format, build, spec
from agorai_trainer.pooling.features import Labels, Matrix, classes_of, features, labels, model_schema
from agorai_trainer.training_refusals import TrainingRefusedError

_MOST_DENSE = 50_000_000
"""Cells of a matrix that an estimator wants whole: 400 MB."""


class RuleRefusedError(InputError):
    """A rule by which a pool cannot be trained."""

    def __init__(self, estimator: str, why: str, remedy: str) -> None:
        super().__init__(f"A pool cannot be trained by {estimator}: {why}.", remedy=remedy)


class InitialClassError(InputError):
    """A class that is not learnt from the beginning; the model's classes are the document's."""

    def __init__(self, label: str) -> None:
        super().__init__(
            f"The initial samples have no row of the class {label!r}.",
            remedy="Give at least one row of each class.",
        )


class NotOfRecordError(IntegrityError):
    """Something that a version was not made from."""

    def __init__(self, what: str, given: str, wanted: str) -> None:
        super().__init__(
            f"The {what} is {given}, and the version's record names {wanted}.",
            remedy="Fetch what the record names.",
        )


class NotRebuiltError(IntegrityError):
    """A model that did not come out again."""

    def __init__(self, found: str, wanted: str, made: Versions, here: Versions) -> None:
        same = "with the same versions here" if made == here else f"with {made}, and here are {here}"
        super().__init__(
            f"Trained again, the model is {found} and not {wanted}; it was made {same}.",
            remedy="Install the record's versions and train again; if that fails, the record is not true.",
        )


def format_of(document: PoolDocument) -> Format:
    """Give the format in which the pool's model is stored.

    Raises
    ------
    UnknownEstimatorError
        If the rule's estimator is not on the trainer's list.
    """
    return spec(document.rule.estimator).default_format


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
    The model in its estimator's first format; the same samples and document give the same bytes.

    Raises
    ------
    RuleRefusedError, InitialClassError, TrainingRefusedError, UnknownEstimatorError, HyperparameterError
    """
    rule = document.rule
    _require(document, initial)
    model = build(rule.estimator, dict(rule.hyperparameters), rule.seed, rule.scaler)
    parts = [part for part in batches if len(part)]
    with _exact(rule.estimator):
        if rule.mode == "incremental" and hasattr(_last(model), "partial_fit"):
            _fit_in_turn(document, model, [initial, *parts])
        else:
            together = Samples(tuple(cells for part in (initial, *parts) for cells in part.rows))
            model.fit(*_matter(document, model, together))
    return formats.store(model, format_of(document), rule.estimator, model_schema(document))


def accuracy(document: PoolDocument, model: bytes, test: Samples) -> float:
    """Give the share of samples whose class a model foretells: formula (1) of ISC-MTI, section 6.2.

    Raises
    ------
    InputError
        A leaf of `formats`, if the bytes are no model of this pool.
    """
    predictor = formats.load(model, format_of(document), model_schema(document))
    matrix = features(document, test)
    if _wants_dense(document.rule.estimator):
        matrix = _dense(document.rule.estimator, matrix)
    return float(np.mean(predictor.predict(matrix) == labels(document, test)))


def record(
    binding: PoolBinding,
    document: PoolDocument,
    snapshot: Snapshot,
    model: bytes,
    batches: Sequence[int],
    *,
    predecessor: int,
    accuracy: float | None,
) -> VersionRecord:
    """Say how a model was made, here and now; `batches` counts the samples of each, the initial ones first."""
    return VersionRecord(
        pool=binding,
        predecessor=predecessor,
        document=cid.of_raw(document.to_bytes()),
        snapshot=cid.of_raw(snapshot.to_bytes()),
        model=unixfs.cid_of(model),
        format=format_of(document),
        rule=document.rule,
        batches=tuple(batches),
        versions=versions(),
        accuracy=accuracy,
    )


def versions() -> Versions:
    """Give what models are made with here."""
    sklearn = importlib.import_module("sklearn")
    return Versions(
        python=platform.python_version(),
        numpy=np.__version__,
        scikit_learn=sklearn.__version__,
        machine=platform.machine(),
    )


def taken_of(
    document: PoolDocument, snapshot: Snapshot, initial: bytes, contributions: Sequence[bytes]
) -> tuple[Batch, ...]:
    """Read the samples that a snapshot names, the initial ones first.

    A contribution that cannot be read holds no samples: nobody challenged it, and nothing can be learnt from it.

    Raises
    ------
    NotOfRecordError
        If bytes are not those of the snapshot, or not as many.
    SamplesError
        If the initial samples cannot be read.
    """
    _same("file of initial samples", unixfs.cid_of(initial), snapshot.initial_samples)
    _same("number of contributions", str(len(contributions)), str(len(snapshot.taken)))
    found = [Batch(0, read_initial(document, initial))]
    for one, data in zip(snapshot.taken, contributions, strict=True):
        _same(f"contribution {one.contribution}", cid.digest_of(unixfs.cid_of(data)).hex(), one.digest)
        try:
            samples = read_samples(document, data, count=one.count)
        except InputError:
            samples = Samples(())
        found.append(Batch(one.contribution, samples, frozenset(one.left_out)))
    return tuple(found)


def rebuild(
    made: VersionRecord,
    document: PoolDocument,
    snapshot: Snapshot,
    initial: bytes,
    contributions: Sequence[bytes],
) -> bytes:
    """Make a version's model again from the files that its snapshot names, in its order, and compare.

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
    _same("snapshot", cid.of_raw(snapshot.to_bytes()), made.snapshot)
    _same("rule of the document", repr(document.rule), repr(made.rule))
    first, *batches = (
        batch.samples.without(batch.out) for batch in taken_of(document, snapshot, initial, contributions)
    )
    _same("number of samples", repr([len(part) for part in (first, *batches)]), repr(list(made.batches)))
    model = learn(document, first, batches)
    if (found := unixfs.cid_of(model)) != made.model:
        raise NotRebuiltError(found, made.model, made.versions, versions())
    return model


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
    """Train in one thread, whose sums come out the same on any number of processors; tell refusals as such."""
    threads = importlib.import_module("threadpoolctl")
    with warnings.catch_warnings(), threads.threadpool_limits(limits=1):
        warnings.simplefilter("ignore")  # a fit that has not converged is a model too
        try:
            yield
        except (ValueError, TypeError, AttributeError, IndexError, KeyError, ArithmeticError) as error:
            raise TrainingRefusedError(estimator, str(error) or type(error).__name__) from error


def _fit_in_turn(document: PoolDocument, model: Any, parts: list[Samples]) -> None:
    matrix, known = _matter(document, model, parts[0])
    model.fit(matrix, known)
    scalers = [step for _, step in getattr(model, "steps", [])[:-1]]
    for part in parts[1:]:
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


def _wants_dense(estimator: str) -> bool:
    return not _takes_sparse(build(estimator, {}, 0, None))


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
