"""Sums that come out the same on any number of processors: each in one thread."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


@cache
def libraries() -> Any:
    """Find the native libraries that compute in threads; ahead of a job, for in there nobody may look."""
    for module in ("scipy.linalg", "sklearn.linear_model"):  # which load them
        importlib.import_module(module)
    parallel = importlib.import_module("sklearn.utils.parallel")
    parallel._get_threadpool_controller()  # scikit-learn keeps its own
    return importlib.import_module("threadpoolctl").ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread, and let warnings pass: a fit that has not converged is a model too."""
    with warnings.catch_warnings(), libraries().limit(limits=1):
        warnings.simplefilter("ignore")
        yield
