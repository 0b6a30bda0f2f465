"""XGBoost's JSON form."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt

from agorai_trainer.estimators import Estimator, framework
from agorai_trainer.formats.fitted import labelled, last_step
from agorai_trainer.tasks import ModelSchema


class _Boosted:
    def __init__(self, data: bytes, schema: ModelSchema) -> None:
        xgboost = framework("xgboost", "A json model", "boosting")
        self._model = xgboost.XGBRegressor() if schema.classes is None else xgboost.XGBClassifier()
        self._model.load_model(bytearray(data))
        self._schema = schema

    def predict(self, features: npt.NDArray[np.float64]) -> npt.NDArray[np.generic]:
        values = np.asarray(self._model.predict(features))
        return values if self._schema.classes is None else labelled(values.astype(np.int64), self._schema)


def store(estimator: Estimator, schema: ModelSchema) -> bytes:
    """Give the booster's JSON; the schema, not the JSON, knows the class labels."""
    booster = getattr(last_step(estimator), "get_booster")()  # noqa: B009 - untyped library attribute
    return bytes(booster.save_raw("json"))


def load(data: bytes, schema: ModelSchema) -> _Boosted:
    """Build the booster from JSON."""
    return _Boosted(data, schema)


def describe(data: bytes) -> dict[str, str | int | list[str]]:
    """Give the objective and the numbers of features and outputs."""
    learner = json.loads(data)["learner"]
    shape = learner["learner_model_param"]
    return {
        "objective": str(learner["objective"]["name"]),
        "features": [str(name) for name in learner.get("feature_names", [])],
        "outputs": max(1, int(shape.get("num_class", "0"))),
    }
