"""A net in Keras, built from its shapes; CPU, double precision, one order of batches.

Keras has images as (height, width, channels) and the vector as (channels, height, width): weights and images are
turned on the way in and out.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

import numpy as np

from agorai_shared.vectors import Vector
from agorai_trainer.estimators import framework
from agorai_trainer.federated.descent import Objective, Steps
from agorai_trainer.federated.nets import Conv, Dense, Matrix, Net, Pool

_TO_KERAS, _FROM_KERAS = (2, 3, 1, 0), (3, 2, 0, 1)


def model(net: Net, vector: Vector) -> Any:
    """Give a `keras.Sequential` with the vector's parameters.

    Raises
    ------
    ExtraMissingError
        Without the extra `tensorflow`.
    """
    keras = _tensorflow().keras
    layers = keras.layers
    parts: list[Any] = [layers.Input(net.inputs[1:] + net.inputs[:1])]
    for stage in net.stages:
        activation = "linear" if stage.last else "relu"
        match stage.layer:
            case Pool(size=size):
                parts.append(layers.MaxPooling2D(size, dtype="float64"))
            case Conv(filters=filters, kernel=kernel):
                parts.append(layers.Conv2D(filters, kernel, activation=activation, dtype="float64"))
            case Dense(units=units):
                if len(stage.before) > 1:
                    parts += [layers.Permute((3, 1, 2), dtype="float64"), layers.Flatten(dtype="float64")]
                parts.append(layers.Dense(units, activation=activation, dtype="float64"))
    built = keras.Sequential(parts)
    values: list[Matrix] = []
    for weights, biases in net.split(vector):
        values += [weights if weights.ndim == 2 else weights.transpose(_TO_KERAS), biases]
    built.set_weights(values)
    return built


def vector_of(net: Net, built: Any) -> Vector:
    """Give the parameters of a model that `model` made."""
    vector = np.empty(net.size)
    values = iter(built.get_weights())
    for weights, biases in net.split(vector):
        given = next(values)
        weights[:] = given if weights.ndim == 2 else given.transpose(_FROM_KERAS)
        biases[:] = next(values)
    return vector


def fit(objective: Objective, steps: Steps) -> Vector:
    """Descend as `descent.by_batch` does."""
    tf = _tensorflow()
    tf.keras.utils.set_random_seed(
        0
    )  # of nothing that is drawn here, but without one TensorFlow is not exact
    tf.config.experimental.enable_op_determinism()
    net, rows = objective.net, len(objective.features)
    built = model(net, objective.start)
    anchors = [tf.constant(variable) for variable in built.trainable_variables]
    features = objective.features
    if len(net.inputs) == 3:
        features = features.reshape(-1, *net.inputs).transpose(0, 2, 3, 1)

    def step(batch: Any, target: Any) -> None:
        with tf.GradientTape() as tape:
            value = _loss(objective, built(batch), target)
            for variable, anchor in zip(built.trainable_variables, anchors, strict=True):
                if len(variable.shape) > 1:
                    value += objective.l2 / (2 * rows) * tf.reduce_sum(tf.square(variable))
                value += objective.proximal_mu / 2 * tf.reduce_sum(tf.square(variable - anchor))
        for variable, gradient in zip(
            built.trainable_variables, tape.gradient(value, built.trainable_variables), strict=True
        ):
            variable.assign_sub(steps.learning_rate * gradient)

    compiled = tf.function(step, reduce_retracing=True)
    for chosen in steps.batches(rows):
        compiled(tf.constant(features[chosen]), tf.constant(objective.target[chosen]))
    return vector_of(net, built)


def _loss(objective: Objective, outputs: Any, target: Any) -> Any:
    tf = _tensorflow()
    if objective.loss == "squared":
        return tf.reduce_mean(tf.square(outputs[:, 0] - target)) / 2
    if outputs.shape[1] == 1:
        outputs = tf.concat([tf.zeros_like(outputs), outputs], axis=1)
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(target, outputs))


def _tensorflow() -> ModuleType:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return framework("tensorflow", "A Keras net", "tensorflow")
