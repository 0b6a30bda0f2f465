"""TensorFlow's SavedModel ("pb"), the graph and its weights, written to and read from memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agorai_trainer.dense import outputs
from agorai_trainer.estimators import Estimator
from agorai_trainer.formats.dense_nets import (
    NetPredictor,
    description,
    details,
    fitted,
    folder,
    pack,
    tensorflow,
    unpack,
)
from agorai_trainer.tasks import ModelSchema


class _Graph:
    """A graph's serving function as a net."""

    def __init__(self, module: object) -> None:
        self._module = module  # its variables live as long as it does
        self._serve = getattr(module, "signatures")["serving_default"]  # noqa: B009 - untyped library attribute

    def __call__(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        (values,) = self._serve(tensorflow().constant(features)).values()
        return np.asarray(values)


def store(estimator: Estimator, schema: ModelSchema) -> bytes:
    """Give the SavedModel with one signature: float32 features of any number of rows to outputs."""
    del schema
    net, architecture = fitted(estimator)
    tf = tensorflow()
    module = tf.Module()
    module.net = net
    module.weights = list(net.variables)
    serve = tf.function(
        lambda features: {"outputs": net(features)},
        input_signature=[tf.TensorSpec((None, architecture.inputs), tf.float32, name="features")],
    )
    with folder() as path:
        tf.saved_model.save(module, path, signatures={"serving_default": serve})
        return pack(path, architecture)


def load(data: bytes, schema: ModelSchema) -> NetPredictor:
    """Load the graph; it may hold any operation, so this belongs in the sandbox."""
    with folder() as path:
        architecture = unpack(data, path)
        graph = _Graph(tensorflow().saved_model.load(path))
        outputs(graph, np.zeros((1, architecture.inputs)))  # everything is read before the folder goes
    return NetPredictor(graph, schema)


def describe(data: bytes) -> dict[str, str | int | list[str]]:
    """Give the layers."""
    return details(description(data))
