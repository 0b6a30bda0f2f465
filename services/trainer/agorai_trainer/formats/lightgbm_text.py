"""LightGBM's text form."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agorai_trainer.estimators import Estimator, Format, framework
from agorai_trainer.formats.fitted import labelled, last_step
from agorai_trainer.formats.refusals import BrokenModelError
from agorai_trainer.tasks import ModelSchema

_END = "\nend of trees\n"


class _Boosted:
    """A booster read from text; gives what the scikit-learn wrapper gave before it was stored."""

    def __init__(self, text: str, schema: ModelSchema) -> None:
        lightgbm = framework("lightgbm", "A text model", "boosting")
        self._booster = lightgbm.Booster(model_str=text)
        self._schema = schema

    def predict(self, features: npt.NDArray[np.float64]) -> npt.NDArray[np.generic]:
        values = np.asarray(self._booster.predict(features))
        if self._schema.classes is None:
            return values
        indices = np.argmax(values, axis=1) if values.ndim == 2 else (values > 0.5).astype(np.int64)
        return labelled(indices, self._schema)


def store(estimator: Estimator, schema: ModelSchema) -> bytes:
    """Give the booster's text; the schema, not the text, knows the class labels."""
    booster = getattr(last_step(estimator), "booster_")  # noqa: B009 - untyped library attribute
    text: str = booster.model_to_string()
    return text.encode()


def load(data: bytes, schema: ModelSchema) -> _Boosted:
    """Build the booster from text; one that is cut off would crash LightGBM."""
    text = data.decode("utf-8")
    if _END not in text:
        raise BrokenModelError(Format.text, "its end is missing")
    return _Boosted(text, schema)


def describe(data: bytes) -> dict[str, str | int | list[str]]:
    """Give the head of the text: objective, classes and trees."""
    head = data[:65_536].decode("utf-8", errors="replace").split("\n\n", 1)[0]
    fields = dict(line.split("=", 1) for line in head.splitlines() if "=" in line)
    return {
        "objective": fields.get("objective", ""),
        "features": fields.get("feature_names", "").split(),
        "outputs": int(fields.get("num_tree_per_iteration", "1")),
    }
