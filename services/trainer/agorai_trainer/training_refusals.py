"""What can be wrong with a training, a prediction or a model to be degraded.

InputError
├── TooFewRowsError          not enough rows, or rows of a class, to split
├── OneClassError            a classification whose training rows have one class only
├── TrainingRefusedError     the estimator does not take these data or hyperparameters
├── PredictionRefusedError   the model gave something that is no prediction
└── UndegradableError        a model for which no other of low quality can be made

They stand apart from what raises them: the node names them too, and does without the frameworks.
"""

from __future__ import annotations

from agorai_shared.errors import InputError
from agorai_trainer.estimators import Format


class TooFewRowsError(InputError):
    """Not enough rows to split."""

    def __init__(self, rows: int, why: str) -> None:
        super().__init__(
            f"{rows} rows cannot be split into a training and a test set: {why}.",
            remedy="Give more rows, or another test share.",
        )


class OneClassError(InputError):
    """Only one class to learn."""

    def __init__(self, target: str, label: str) -> None:
        super().__init__(
            f"All training rows have {label!r} in the target {target!r}: there is nothing to tell apart.",
            remedy="Give rows of at least two classes; `split.stratify` keeps rare ones in both sets.",
        )


class TrainingRefusedError(InputError):
    """The estimator's own refusal."""

    def __init__(self, estimator: str, why: str) -> None:
        super().__init__(
            f"{estimator} cannot be trained on these data: {why.strip()[:500]}",
            remedy="Change the hyperparameter or the data it speaks of.",
        )


class PredictionRefusedError(InputError):
    """A model that does not give one finite prediction a row."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The model does not predict from these data: {why}", remedy="Ask the model's maker."
        )


class UndegradableError(InputError):
    """A model for which no parameters of low quality can be made."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"No parameters of low quality can be made for the model: {why}.",
            remedy=f"Sell a model of the format {Format.safetensors}, a decision tree or a forest, "
            "and give test data with targets of all kinds.",
        )
