"""A federated task's model: a specification in values only, and one flat vector of parameters.

Nothing in a specification chooses code beyond the kinds listed here, so it can be taken from a stranger. No party
sees all data, so what scaling needs (bounds, means) stands in it too, as public values.
"""

from __future__ import annotations

import math
from typing import Final, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from agorai_shared.vectors import MOST_PARAMETERS, Vector, require
from agorai_trainer.estimators import Target
from agorai_trainer.federated import keras_net, torch_net
from agorai_trainer.federated.descent import Codes, Loss, Objective, Steps, by_batch, quasi_newton
from agorai_trainer.federated.nets import Dense, Layer, Matrix, Net
from agorai_trainer.one_thread import one_thread
from agorai_trainer.table_refusals import SHOWN, EmptyTableError, TargetKindError
from agorai_trainer.tasks import ColumnName, Label
from agorai_trainer.training_refusals import PredictionRefusedError, TrainingRefusedError

Kind: TypeAlias = Literal["linear_regression", "logistic_regression", "svm", "mlp", "torch", "keras"]
_LINEAR: Final = ("linear_regression", "logistic_regression", "svm")
_LAYERED: Final = ("torch", "keras")
_QUASI_NEWTON: Final = ("linear_regression", "logistic_regression")


class _Declaration(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Column(_Declaration):
    """A column of numbers; the model learns (value - offset) / scale."""

    name: ColumnName
    offset: float = Field(0.0, description="the mean or the least value, known to all")
    scale: float = Field(1.0, gt=0, description="the standard deviation or the range, known to all")
    minimum: float | None = Field(None, description="the least value that data may have")
    maximum: float | None = Field(None, description="the greatest value that data may have")

    @property
    def range(self) -> tuple[float, float]:
        """Give the least and the greatest value that data may have."""
        return (
            -math.inf if self.minimum is None else self.minimum,
            math.inf if self.maximum is None else self.maximum,
        )

    def bounded(self, most: float) -> Self:
        """Give the column with as narrow a range as to have no scaled values beyond `most`, of either sign."""
        low, high = self.range
        room = most * self.scale
        bounds = {"minimum": max(low, self.offset - room), "maximum": min(high, self.offset + room)}
        return self.model_copy(update=bounds)


class ModelSpec(_Declaration):
    """What is to be trained, and how each provider trains it.

    A provider makes mean loss + l2 / (2 rows) |weights|^2 small: by L-BFGS for linear and logistic regression, as
    scikit-learn does with l2 = 1/C; by gradient descent in batches for the others. The loss is the logistic one of
    all classes, the hinge of each class against all others (svm), or half the squared error of the scaled target.
    """

    kind: Kind
    features: tuple[Column, ...] = Field(min_length=1, max_length=10_000)
    target: Column
    classes: tuple[Label, ...] | None = Field(
        None, min_length=2, max_length=1_000, description="in ascending order; none: a regression"
    )
    tolerance: float | None = Field(
        None,
        gt=0,
        description="error up to which a prediction of a regression counts as correct, in its units",
    )
    image: tuple[int, int, int] | None = Field(
        None, description="channels, height and width, if the features in order are an image"
    )
    layers: tuple[Layer, ...] = Field((), max_length=32, description="hidden ones")
    l2: float = Field(1.0, ge=0, description="against the sum of losses; scikit-learn's 1/C")
    learning_rate: float = Field(0.1, gt=0, le=10, description="of gradient descent in batches")
    local_epochs: int = Field(5, ge=1, le=10_000, description="passes over the data, or iterations of L-BFGS")
    batch_size: int = Field(32, ge=1, description="rows of a step of gradient descent")
    seed: int = Field(0, ge=0, le=2**32 - 1)

    @property
    def net(self) -> Net:
        """Give the shapes: one output for a regression and for two classes, else one for each class."""
        classes = len(self.classes or ())
        inputs = self.image or (len(self.features),)
        return Net(inputs, self.layers, classes if classes > 2 else 1)

    @property
    def loss(self) -> Loss:
        """Give what a provider makes small."""
        return "squared" if self.classes is None else "hinge" if self.kind == "svm" else "softmax"

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Give the features' columns."""
        return tuple(column.name for column in self.features)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = (*self.feature_names, self.target.name)
        if len(set(names)) != len(names):
            raise ValueError("two columns have one name")
        if self.classes is None:
            if self.kind in {"logistic_regression", "svm"}:
                raise ValueError(f"{self.kind} needs classes")
            if self.tolerance is None:
                raise ValueError("a regression needs a tolerance, or nothing counts as correct")
        else:
            self._require_classes(self.classes)
        self._require_layers()
        if not 0 < self.net.size <= MOST_PARAMETERS:
            raise ValueError(f"{self.net.size} parameters are more than {MOST_PARAMETERS}")
        return self

    def _require_classes(self, classes: tuple[Label, ...]) -> None:
        if self.kind == "linear_regression" or self.tolerance is not None:
            raise ValueError("a regression has no classes, and a classification no tolerance")
        one_type = len({type(label) for label in classes}) == 1
        if not one_type or list(classes) != sorted(set(classes)):
            raise ValueError("the classes are not of one type, in ascending order")
        if isinstance(classes[0], int) and not -(2**63) <= int(classes[0]) <= int(classes[-1]) < 2**63:
            raise ValueError("a class is beyond 64 bits")
        if self.target != Column(name=self.target.name):
            raise ValueError("a target of classes has no scale and no bounds")

    def _require_layers(self) -> None:
        if (self.kind in _LINEAR) == bool(self.layers):
            raise ValueError("linear models have no layers, and the other kinds have some")
        if self.kind not in _LAYERED and (
            self.image or any(not isinstance(one, Dense) for one in self.layers)
        ):
            raise ValueError(f"only {' and '.join(_LAYERED)} take images")
        if self.image and (min(self.image) < 1 or math.prod(self.image) != len(self.features)):
            raise ValueError(f"{len(self.features)} features are no image of {self.image}")


def size(spec: ModelSpec) -> int:
    """Give the number of parameters."""
    return spec.net.size


def initial(spec: ModelSpec) -> Vector:
    """Give the parameters with which a task begins; raises nothing."""
    return spec.net.initial(spec.seed)


def fit(
    spec: ModelSpec,
    vector: Vector,
    features: Matrix,
    target: Target,
    round_number: int,
    proximal_mu: float = 0.0,
) -> Vector:
    """Train on a provider's rows from the global vector; the same arguments give the same bits on one machine.

    A provider may have rows of some classes only, or of one.

    Parameters
    ----------
    features, target
        Of shape (rows, features) and (rows,), as the data have them: not scaled, labels by name.
    round_number
        Shuffles the rows otherwise in each round.
    proximal_mu
        Weight of FedProx's term mu/2 |vector - global vector|^2.

    Raises
    ------
    VectorRefusedError
        If the vector is not of this model.
    EmptyTableError, TargetKindError
        If there are no rows, or one of a class that the task does not have.
    TrainingRefusedError
        If the scaled data or the parameters do not stay finite.
    ExtraMissingError
        If the kind's framework is not installed.
    """
    require(vector, size(spec))
    if not len(features):
        raise EmptyTableError("no rows")
    known = _scaled(target, spec.target) if spec.classes is None else class_numbers(spec, target)
    with one_thread(), np.errstate(all="ignore"):
        seen = np.ascontiguousarray(scaled(spec, features))  # the order decides how sums are rounded
        if not (np.isfinite(seen).all() and np.isfinite(known).all()):
            raise TrainingRefusedError(spec.kind, "scaled as the task says, the data are beyond all bounds")
        objective = Objective(spec.net, spec.loss, seen, known, vector, spec.l2, proximal_mu)
        steps = Steps(spec.learning_rate, spec.local_epochs, spec.batch_size, (spec.seed, round_number))
        match spec.kind:
            case "torch":
                found = torch_net.fit(objective, steps)
            case "keras":
                found = keras_net.fit(objective, steps)
            case "svm" | "mlp":
                found = by_batch(objective, steps)
            case _:
                found = quasi_newton(objective, spec.local_epochs)
    if not np.isfinite(found).all():
        why = "its parameters grew beyond all bounds; a lower learning rate or other scales may help"
        raise TrainingRefusedError(spec.kind, why)
    return found


def predict(spec: ModelSpec, vector: Vector, features: Matrix) -> npt.NDArray[np.generic]:
    """Give a label or a number for each row, the same on every machine.

    Raises
    ------
    VectorRefusedError
        If the vector is not of this model.
    PredictionRefusedError
        If an output is not finite.
    """
    outputs = _outputs(spec, vector, features)
    if not np.isfinite(outputs).all():
        raise PredictionRefusedError("an output is no finite number.")
    if spec.classes is None:
        return _numbers(spec, outputs)
    return np.asarray(spec.classes)[_winners(outputs)]


def right(spec: ModelSpec, vector: Vector, features: Matrix, target: Target) -> int:
    """Count the correct rows, the same on every machine: of the right class, or within the task's tolerance.

    A row whose output is not finite is wrong.

    Raises
    ------
    VectorRefusedError
        If the vector is not of this model.
    TargetKindError
        If a row is of a class that the task does not have.
    """
    outputs = _outputs(spec, vector, features)
    if spec.classes is None:
        with np.errstate(all="ignore"):
            errors = np.abs(_numbers(spec, outputs) - target.astype(np.float64))
            return int(np.sum(errors <= spec.tolerance))
    finite = np.isfinite(outputs).all(axis=1)
    return int(np.sum(finite & (_winners(outputs) == class_numbers(spec, target))))


def _outputs(spec: ModelSpec, vector: Vector, features: Matrix) -> Matrix:
    require(vector, size(spec))
    return spec.net.outputs_of(vector, scaled(spec, features))


def scaled(spec: ModelSpec, features: Matrix) -> Matrix:
    """Give features as the model learns them; beyond all bounds where they, or what scales them, are."""
    offsets = np.array([column.offset for column in spec.features])
    scales = np.array([column.scale for column in spec.features])
    with np.errstate(all="ignore"):
        found: Matrix = (features - offsets) / scales
    return found


def _scaled(target: Target, column: Column) -> Vector:
    found: Vector = (target.astype(np.float64) - column.offset) / column.scale
    return found


def _numbers(spec: ModelSpec, outputs: Matrix) -> Vector:
    with np.errstate(all="ignore"):
        numbers: Vector = outputs[:, 0] * spec.target.scale + spec.target.offset
    return numbers


def _winners(outputs: Matrix) -> Codes:
    if outputs.shape[1] == 1:
        return (outputs[:, 0] > 0).astype(np.int64)
    winners: Codes = np.argmax(outputs, axis=1)
    return winners


def class_numbers(spec: ModelSpec, target: Target) -> Codes:
    """Give the numbers of labels among the task's classes, the first being 0.

    Raises
    ------
    TargetKindError
        If the task does not have a class.
    """
    classes = np.asarray(spec.classes)
    if classes.dtype.kind == "U":  # some rows alone may have only such names as look like numbers
        target = target.astype(np.str_)
    strange = target if target.dtype.kind != classes.dtype.kind else target[~np.isin(target, classes)]
    if len(strange):
        raise TargetKindError(
            spec.target.name,
            f"holds the class {str(strange[0])[:SHOWN]!r}, which the task does not have",
            "Leave rows of other classes out.",
        )
    numbers: Codes = np.searchsorted(classes, target)
    return numbers
