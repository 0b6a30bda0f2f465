"""What a pool's description and files must be before anything of it is stored."""

from __future__ import annotations

import difflib
from typing import Final

from agorai.pool_refusals import KnownTestSetError, SamplesUnfitError
from agorai_shared.pool import PoolDocument, Samples, SamplesError, read_initial
from agorai_trainer.estimators import ESTIMATORS
from agorai_trainer.pooling.refusals import RuleRefusedError

_MOST_KNOWN: Final = 0.1
"""Share of a test set that may be among the initial samples: data have a few rows twice."""
_OF: Final = "sklearn."
_CLASSIFIERS: Final = [
    name.removeprefix(_OF)
    for name, entry in ESTIMATORS.items()
    if entry.kind == "classification" and entry.extra is None
]
"""What `agorai_trainer.pooling.learning` trains."""


def require_openable(document: PoolDocument, initial: bytes, test: bytes) -> None:
    """See that a pool can be opened with these files, as far as that goes without training.

    Raises
    ------
    RuleRefusedError
        As `require_classifier`.
    SamplesUnfitError
        If a file is not of the pool's samples.
    KnownTestSetError
        If too much of the test set becomes public with the initial samples.
    """
    require_classifier(document.rule.estimator)
    public = set(_read(document, "The initial samples", initial).rows)
    hidden = _read(document, "The test set", test).rows
    known = sum(row in public for row in hidden)
    if known > _MOST_KNOWN * len(hidden):
        raise KnownTestSetError(known, len(hidden))


def _read(document: PoolDocument, what: str, data: bytes) -> Samples:
    try:
        return read_initial(document, data)
    except SamplesError as error:
        raise SamplesUnfitError(what, error) from error


def require_classifier(estimator: str) -> None:
    """See that a pool can be trained by an estimator; raises `RuleRefusedError`, which names some that it can be."""
    name = estimator.removeprefix(_OF)
    if estimator.startswith(_OF) and name in _CLASSIFIERS:
        return
    alike = name.replace("Regressor", "Classifier")
    near = difflib.get_close_matches(alike, _CLASSIFIERS, n=3, cutoff=0.5)
    why = "it is no classifier of scikit-learn" if estimator in ESTIMATORS else "there is no such estimator"
    remedy = (
        f"Did you mean {' or '.join(_OF + one for one in near)}?"
        if near
        else "Name a classifier of scikit-learn, such as sklearn.SGDClassifier."
    )
    raise RuleRefusedError(estimator[:80], why, remedy)
