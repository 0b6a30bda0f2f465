"""What is known of a pool's rule without any framework."""

from __future__ import annotations

import platform
from importlib import metadata

from agorai_shared.pool import PoolDocument, Rule, Versions
from agorai_trainer.estimators import Format, spec


def goes_on(rule: Rule) -> bool:
    """Tell whether a model is trained batch by batch.

    Raises
    ------
    UnknownEstimatorError
        If the rule's estimator is not on the trainer's list.
    """
    return rule.mode == "incremental" and spec(rule.estimator).by_batch


def format_of(rule: Rule) -> Format:
    """Give the format in which a pool's model is stored.

    A model that is trained batch by batch is stored with all that its next `partial_fit` goes on from (step counts,
    sums, an optimizer's moments): skops keeps that, the first formats of most estimators do not.

    Raises
    ------
    UnknownEstimatorError
    """
    return Format.skops if goes_on(rule) else spec(rule.estimator).default_format


def ruled(document: PoolDocument, rule: Rule) -> PoolDocument:
    """Give the document of the same pool whose model is trained by another rule."""
    return document.model_copy(update={"rule": rule})


def versions() -> Versions:
    """Give what models are made with here."""
    return Versions(
        python=platform.python_version(),
        numpy=metadata.version("numpy"),
        scikit_learn=metadata.version("scikit-learn"),
        machine=platform.machine(),
    )
