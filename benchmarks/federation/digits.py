"""Handwritten digits, dealt to providers, and the model that learns them: the same for every contestant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

from agorai_trainer.federated.models import Column, ModelSpec
from agorai_trainer.federated.partition import iid

Matrix = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

TEST_SHARE: Final = 0.3
LOCAL_EPOCHS: Final = 5
_DARKEST: Final = 16


@dataclass(frozen=True, slots=True)
class Share:
    """Samples: pixels, shape [rows, 64], and digits, shape [rows]."""

    pixels: Matrix
    digits: Labels

    def csv(self) -> bytes:
        """Write them as a CSV file."""
        lines = [
            ",".join(COLUMNS),
            *(
                ",".join(map(str, (*row, digit)))
                for row, digit in zip(self.pixels.astype(int).tolist(), self.digits.tolist(), strict=True)
            ),
        ]
        return "\n".join(lines).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Dealt:
    """All samples, as they lie."""

    shares: tuple[Share, ...]
    """Of the providers, i.i.d."""
    test: Share

    @property
    def together(self) -> Share:
        """Give all providers' samples."""
        return Share(
            np.vstack([share.pixels for share in self.shares]),
            np.concatenate([share.digits for share in self.shares]),
        )


PIXELS: Final = tuple(f"p{place}" for place in range(64))
COLUMNS: Final = (*PIXELS, "digit")
MODEL: Final = ModelSpec(
    kind="logistic_regression",
    features=tuple(Column(name=name, scale=_DARKEST, minimum=0, maximum=_DARKEST) for name in PIXELS),
    target=Column(name="digit"),
    classes=tuple(range(10)),
    local_epochs=LOCAL_EPOCHS,
)


def dealt(providers: int, seed: int) -> Dealt:
    """Split the samples 70:30 at random, and deal the larger part."""
    pixels, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(digits))
    tests, others = np.split(order, [round(TEST_SHARE * len(order))])
    shares = [others[rows] for rows in iid(len(others), providers, seed)]
    return Dealt(
        tuple(Share(pixels[rows], digits[rows]) for rows in shares), Share(pixels[tests], digits[tests])
    )
