"""What is to be trained, said in values only: a task can travel, be hashed and be repeated.

Importing this module imports no framework; `training` does the work, in the sandbox.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

from agorai_trainer.estimators import SCALERS, Format, Kind, spec

Scalar = StrictBool | StrictInt | StrictFloat | StrictStr | None
Hyperparameter = Scalar | list[Scalar] | dict[str, StrictFloat | StrictInt]
Label = StrictInt | StrictStr
TableFormat = Literal["csv", "parquet"]
Scaler = Literal["standard", "minmax", "robust", "maxabs"]
ColumnName = Annotated[str, Field(min_length=1, max_length=1000)]


class _Declaration(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Limits(_Declaration):
    """What one job may use at most."""

    memory_mib: int = Field(4096, ge=16, description="address space beyond the idle worker's, MiB")
    cpu_s: int = Field(3600, ge=1, description="processor time, all threads together, s")
    wall_s: float = Field(3600, gt=0, description="time from the job's start to its last byte, s")
    output_mib: int = Field(1024, ge=1, description="what a job may give back, MiB")

    def within(self, ceiling: Limits) -> Limits:
        """Give the lower of both, limit by limit."""
        return Limits(
            memory_mib=min(self.memory_mib, ceiling.memory_mib),
            cpu_s=min(self.cpu_s, ceiling.cpu_s),
            wall_s=min(self.wall_s, ceiling.wall_s),
            output_mib=min(self.output_mib, ceiling.output_mib),
        )


class Split(_Declaration):
    """How rows are dealt to training and test set, shuffled by the task's seed."""

    test_share: float = Field(0.3, gt=0, lt=1, description="ISC-MTI's 7:3 (section 6.2)")
    stratify: bool = Field(default=False, description="the same share of each class in both sets")


class TrainingTask(_Declaration):
    """One training: which estimator, on which columns, judged how."""

    estimator: str = Field(description="a name of `estimators.ESTIMATORS`, e.g. sklearn.LogisticRegression")
    hyperparameters: dict[str, Hyperparameter] = Field(default_factory=dict)
    scaler: Scaler | None = Field(None, description=f"a scaling step before it: {', '.join(SCALERS)}")
    target: ColumnName
    features: tuple[ColumnName, ...] | None = Field(None, description="none: every column but the target")
    split: Split = Split()
    seed: int = Field(0, ge=0, le=2**32 - 1)
    data_format: TableFormat | None = Field(None, description="none: told by the first bytes")
    model_format: Format | None = Field(None, description="none: the estimator's default")
    limits: Limits | None = Field(None, description="lower than the sandbox's own")

    @property
    def kind(self) -> Kind:
        """Classification or regression."""
        return spec(self.estimator).kind

    @property
    def stored_as(self) -> Format:
        """The format the model will have."""
        return self.model_format or spec(self.estimator).default_format

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        spec(self.estimator)  # an InputError of its own, which pydantic passes on unchanged
        for name, value in self.hyperparameters.items():
            for part in _parts(value):
                if isinstance(part, float) and not math.isfinite(part):
                    raise ValueError(f"hyperparameter {name!r} is not a finite number")
        return self


class ModelSchema(_Declaration):
    """What a model takes and gives: the columns by name and order, and the classes in the model's order."""

    features: tuple[ColumnName, ...] = Field(min_length=1)
    target: ColumnName
    classes: tuple[Label, ...] | None = Field(None, description="none: a regression")

    @property
    def kind(self) -> Kind:
        """Classification or regression."""
        return "regression" if self.classes is None else "classification"


class Metrics(_Declaration):
    """How a model did on rows it had not seen, by the paper's formulas (section 6.2)."""

    accuracy: float | None = Field(
        description="formula (1) or (2), as a share: 1 is perfect, (2) may be negative; none: not defined"
    )
    n_train: int
    n_test: int
    n_zero_targets: int = Field(0, description="test rows left out of (2), which divides by the true value")
    seconds: float = Field(description="reading, training, testing and storing, s")


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A model as bytes, with all that is needed to use it. The bytes are in memory only."""

    model: bytes = field(repr=False)
    format: Format
    metrics: Metrics
    schema: ModelSchema
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DegradedModel:
    """A model's structure with parameters of low quality, and its accuracy, below 1/2, on the data it was made by."""

    model: bytes = field(repr=False)
    accuracy: float


@dataclass(frozen=True, slots=True)
class Predictions:
    """One prediction a row: class labels or numbers."""

    values: tuple[int | str | float, ...]


def _parts(value: Hyperparameter) -> list[Scalar]:
    if isinstance(value, list):
        return value
    return list(value.values()) if isinstance(value, dict) else [value]
