"""A net as shapes and one flat vector of its parameters.

What it gives for a sample is computed here without a linear algebra library: one multiplication and one addition of
whole columns after the other, in one order. Each is rounded by IEEE 754, so the outputs are the same bit for bit on
every machine, and whoever audits a task counts the same correct samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from agorai_shared.vectors import Vector

Matrix: TypeAlias = npt.NDArray[np.float64]
Shape: TypeAlias = tuple[int, ...]
Parameters: TypeAlias = tuple[Matrix, Vector]
_ROWS_AT_ONCE = 1024
Units = Annotated[int, Field(ge=1, le=65_536)]


class _Layer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Dense(_Layer):
    """Fully connected, with ReLU behind it."""

    layer: Literal["dense"] = "dense"
    units: Units


class Conv(_Layer):
    """A two-dimensional convolution with stride 1 and no padding, and ReLU behind it."""

    layer: Literal["conv"] = "conv"
    filters: Units
    kernel: int = Field(ge=1, le=64)


class Pool(_Layer):
    """The largest value of each square of `size` by `size`; what is left over at the edge is not looked at."""

    layer: Literal["pool"] = "pool"
    size: int = Field(ge=2, le=64)


Layer = Annotated[Dense | Conv | Pool, Field(discriminator="layer")]


@dataclass(frozen=True, slots=True)
class Stage:
    """One layer between two shapes; `weights` is None where there is nothing to learn."""

    layer: Layer
    before: Shape
    after: Shape
    weights: Shape | None
    last: bool


@dataclass(frozen=True, slots=True)
class Net:
    """Hidden layers, and a dense one without ReLU behind them.

    The vector holds each layer's weights in C order and then its biases: a dense layer's weights are of shape
    (inputs, units), a convolution's (filters, channels, height, width).
    """

    inputs: Shape
    """(features,), or (channels, height, width)."""
    hidden: tuple[Layer, ...]
    outputs: int

    @property
    def stages(self) -> list[Stage]:
        """Give the layers with their shapes.

        Raises
        ------
        ValueError
            If a layer does not fit behind the one before.
        """
        shape, found = self.inputs, []
        for place, layer in enumerate((*self.hidden, Dense(units=self.outputs))):
            weights: Shape | None = None
            if isinstance(layer, Dense):
                weights = (math.prod(shape), layer.units)
                after: Shape = (layer.units,)
            else:
                if len(shape) != 3:
                    raise ValueError(f"layer {place} ({layer.layer}) needs an image, not {shape[0]} numbers")
                channels, *sides = shape
                if isinstance(layer, Conv):
                    weights = (layer.filters, channels, layer.kernel, layer.kernel)
                    after = (layer.filters, *(side - layer.kernel + 1 for side in sides))
                else:
                    after = (channels, *(side // layer.size for side in sides))
            if min(after) < 1:
                raise ValueError(f"layer {place} ({layer.layer}) leaves nothing of an image of shape {shape}")
            found.append(Stage(layer, shape, after, weights, last=place == len(self.hidden)))
            shape = after
        return found

    @property
    def size(self) -> int:
        """Give the number of parameters."""
        return sum(math.prod(stage.weights) + _biases(stage) for stage in self.stages if stage.weights)

    def split(self, vector: Vector) -> list[Parameters]:
        """Give each learning layer's weights and biases as views of the vector."""
        found, place = [], 0
        for stage in self.stages:
            if stage.weights is None:
                continue
            middle = place + math.prod(stage.weights)
            end = middle + _biases(stage)
            found.append((vector[place:middle].reshape(stage.weights), vector[middle:end]))
            place = end
        return found

    def initial(self, seed: int) -> Vector:
        """Give the vector to begin with: zeros where nothing is hidden, which is convex; else drawn by the seed.

        Weights and biases are uniform within sqrt(6 / (inputs + outputs)) of the layer: Glorot and Bengio,
        "Understanding the difficulty of training deep feedforward neural networks", 2010, as scikit-learn does.
        """
        vector = np.zeros(self.size)
        random = np.random.default_rng(seed)
        for weights, biases in self.split(vector) if self.hidden else []:
            field = math.prod(weights.shape[2:])
            bound = math.sqrt(6 / (field * (weights.shape[0] + weights.shape[1])))
            weights[:] = random.uniform(-bound, bound, weights.shape)
            biases[:] = random.uniform(-bound, bound, biases.shape)
        return vector

    def outputs_of(self, vector: Vector, features: Matrix) -> Matrix:
        """Give outputs of shape (rows, outputs), the same on every machine; infinite or NaN where they overflow."""
        with np.errstate(all="ignore"):
            parts = [
                self._forward(vector, features[start : start + _ROWS_AT_ONCE])
                for start in range(0, len(features), _ROWS_AT_ONCE)
            ]
        return np.concatenate(parts) if parts else np.empty((0, self.outputs))

    def _forward(self, vector: Vector, features: Matrix) -> Matrix:
        parameters = iter(self.split(vector))
        values = features.reshape(-1, *self.inputs)
        for stage in self.stages:
            match stage.layer:
                case Pool(size=size):
                    values = _pooled(values, size, stage.after)
                    continue
                case Conv():
                    values = _convolved(values, *next(parameters), stage.after)
                case Dense():
                    values = _weighed(values.reshape(len(values), -1), *next(parameters))
            if not stage.last:
                values = np.maximum(values, 0)
        return values


def _biases(stage: Stage) -> int:
    return stage.after[0]


def _weighed(values: Matrix, weights: Matrix, biases: Vector) -> Matrix:
    total = np.repeat(biases[:, None], len(values), axis=1)
    product = np.empty_like(total)
    for column, row in zip(np.ascontiguousarray(values.T), weights, strict=True):
        total += np.multiply.outer(row, column, out=product)
    return total.T


def _convolved(values: Matrix, weights: Matrix, biases: Vector, after: Shape) -> Matrix:
    _, height, width = after
    total = np.empty((len(values), *after))
    total[:] = biases[:, None, None]
    for channel, down, right in np.ndindex(*weights.shape[1:]):
        seen = values[:, None, channel, down : down + height, right : right + width]
        total += seen * weights[:, channel, down, right, None, None]
    return total


def _pooled(values: Matrix, size: int, after: Shape) -> Matrix:
    channels, height, width = after
    whole = values[:, :, : height * size, : width * size]
    largest: Matrix = whole.reshape(-1, channels, height, size, width, size).max(axis=(3, 5))
    return largest
