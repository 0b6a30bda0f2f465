"""Parameters of low quality, by which a buyer can try a model without being given it (Hao et al., IV-D).

A degraded model has the structure of the trained one: the same estimator, hyperparameters, scaler, layers and
trees' shapes. All that was learned is drawn anew, and only the size of the numbers stays. What a draw tells beyond
that is that it is wrong on the data more often than right, as it must be. Noise added to the parameters would tell
far more: the mean of a few is the model, and a tree's thresholds are nearly all of it.

Of two classes, what is wrong far more often is as good as what is right: one need only turn its answers round. So
draws a little below 1/2 are sought, or such as are no worse than always naming the rarer class. Five of a logistic
regression (Wisconsin breast cancer, scaled) that had 97 % of new rows right were measured to have 67 % right when
turned round and asked together, the five first below 1/2 85 %, and the name of the commoner class alone 59 %.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from agorai_trainer import evaluating, tables
from agorai_trainer.estimators import Estimator, Format
from agorai_trainer.formats import skops_zip
from agorai_trainer.formats.fitted import last_step
from agorai_trainer.tables import Table
from agorai_trainer.tasks import DegradedModel, ModelSchema
from agorai_trainer.training_refusals import UndegradableError

_DRAWS = 64
_CLOSE = 0.4
_TREES = ("DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor")
_FORESTS = ("RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor")
_LEFT_OUT = ("oob_score_", "oob_decision_function_", "oob_prediction_")
_POSITIVE = ("var_", "class_prior_")  # of naive Bayes

Array = npt.NDArray[np.generic]


def degrade(model: bytes, fmt: Format, schema: ModelSchema, data: bytes, seed: int) -> DegradedModel:
    """Give another model of the same structure and format whose accuracy on the data is below 1/2.

    The same seed gives the same bytes. Carried are all models in safetensors, and decision trees and forests
    (also extremely randomized ones) in skops.

    Raises
    ------
    UndegradableError
        If the estimator or format is another, or no draw falls below 1/2.
    InputError
        A leaf that says what is wrong with the model or the data.
    """
    makers = {Format.safetensors: _tensors_drawn, Format.skops: _trees_drawn}
    if fmt not in makers:
        raise UndegradableError(f"its format is {fmt}")
    table = tables.parse(data)
    evaluating.score(model, fmt, schema, table)  # what is wrong with the model itself is told first
    enough = _enough(schema, table)
    best: DegradedModel | None = None
    for draw in range(_DRAWS):
        made = makers[fmt](model, schema, np.random.default_rng((seed, draw)))
        accuracy = evaluating.score(made, fmt, schema, table).accuracy
        if made == model or accuracy is None or accuracy >= 0.5:  # all zeros have no size to draw by
            continue
        if best is None or accuracy > best.accuracy:
            best = DegradedModel(made, accuracy)
        if best.accuracy >= enough:
            break
    if best is None:
        raise UndegradableError(f"none of {_DRAWS} draws has an accuracy below one half on these data")
    return best


def _enough(schema: ModelSchema, table: Table) -> float:
    """Give the accuracy from which on a draw tells little, even turned round: close to 1/2, or that of one answer."""
    if schema.classes is None or len(schema.classes) != 2:
        return -np.inf
    counts = np.unique(table.labels(schema.target), return_counts=True)[1]
    return min(_CLOSE, 1 - float(counts.max()) / table.rows)


def _drawn(array: Array, rng: np.random.Generator) -> Array:
    """Give random numbers in an array's shape, type and size."""
    size = float(np.sqrt(np.mean(np.square(array.astype(np.float64))))) if array.size else 0.0
    return rng.normal(0, size, array.shape).astype(array.dtype)


def _tensors_drawn(model: bytes, schema: ModelSchema, rng: np.random.Generator) -> bytes:
    """Draw the tensors of the last step; those before are scalers."""
    del schema
    header = json.loads(model[8 : 8 + int.from_bytes(model[:8], "little")])
    tensors = load_tensors(model)
    last = max(int(key.partition(".")[0]) for key in tensors)
    for key in sorted(tensors):  # a loaded file has no order
        step, attribute = key.split(".")[:2]
        if int(step) == last:
            made = _drawn(tensors[key], rng)
            tensors[key] = np.abs(made) if attribute in _POSITIVE else made
    return save_tensors(tensors, metadata=header["__metadata__"])


def _trees_drawn(model: bytes, schema: ModelSchema, rng: np.random.Generator) -> bytes:
    estimator: Estimator = skops_zip.load(model, schema)
    last: Any = last_step(estimator)
    name = type(last).__name__
    if name not in (*_TREES, *_FORESTS):
        raise UndegradableError(f"it is a {name} in {Format.skops}")
    for attribute in _LEFT_OUT:  # what a forest learned of single rows
        if hasattr(last, attribute):
            delattr(last, attribute)
    for tree in [last] if name in _TREES else last.estimators_:
        _draw_tree(tree.tree_, len(schema.features), rng)
    return skops_zip.store(estimator, schema)


def _draw_tree(tree: Any, features: int, rng: np.random.Generator) -> None:
    """Overwrite in place what a tree learned; its arrays are views of its own memory."""
    inner = tree.children_left != tree.children_right
    tree.feature[inner] = rng.integers(0, features, int(inner.sum()))
    tree.threshold[inner] = _drawn(tree.threshold[inner], rng)
    classes = tree.value.shape[2]
    if classes > 1:
        tree.value[:] = rng.dirichlet(np.ones(classes), tree.value.shape[:2])
    else:
        tree.value[:] = _drawn(tree.value, rng)
    tree.impurity[:] = 0
    tree.n_node_samples[:] = 1
    tree.weighted_n_node_samples[:] = 1
