"""What providers give in a round, and what a task keeps from round to round.

InputError
├── UpdateRefusedError         an update that cannot be added to others
├── SamplesError               an update of no samples
├── PlaceTakenError            two updates of one provider
└── StateError                 bytes that are no state, or a state of another strategy
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from agorai_shared.errors import InputError
from agorai_shared.vectors import Vector, malformed

LARGEST: Final = 2.0**40
"""Most magnitude of a parameter, about 1e12: beside it float64 still has twelve bits behind the point."""


class UpdateRefusedError(InputError):
    """An update that cannot be added to others."""

    def __init__(self, place: int, why: str) -> None:
        super().__init__(
            f"The update of place {place} cannot be taken: {why}.",
            remedy="Leave it out, or have it trained again.",
        )


class SamplesError(InputError):
    """An update of no samples."""

    def __init__(self, place: int, samples: int) -> None:
        super().__init__(
            f"The update of place {place} says that it was trained on {samples} samples.",
            remedy="Give the number of rows it was trained on, 1 or more.",
        )


class PlaceTakenError(InputError):
    """Two updates of one provider."""

    def __init__(self, place: int) -> None:
        super().__init__(f"Place {place} has more than one update.", remedy="Give one update for each place.")


class StateError(InputError):
    """Bytes that are no state, or a state of another strategy."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The state of the aggregation cannot be used: {why}.",
            remedy="Give the state that the same strategy gave in the round before.",
        )


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """What one provider gives in a round.

    Attributes
    ----------
    place
        Of the provider in its task, e.g. the number of its subtask: updates are taken in this order.
    vector
        Parameters of its model, not the difference to the global one.
    samples
        Rows that it was trained on; its weight where strategies weigh.

    Raises
    ------
    SamplesError
    """

    place: int
    vector: Vector = field(repr=False)
    samples: int

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise SamplesError(self.place, self.samples)


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What a task keeps between rounds.

    Attributes
    ----------
    round
        Rounds that were aggregated.
    vector
        The global model.
    moments
        What the strategy keeps besides, each as long as `vector`: none, or the step's first and second moment.
    """

    round: int
    vector: Vector = field(repr=False)
    moments: tuple[Vector, ...] = field(repr=False)

    def to_bytes(self) -> bytes:
        """Give the state as safetensors: equal states give equal bytes."""
        moments = {f"moment.{number}": moment for number, moment in enumerate(self.moments)}
        return save_tensors({"round": np.array([self.round]), "vector": self.vector, **moments})

    @classmethod
    def from_bytes(cls, data: bytes) -> State:
        """Read a state.

        Raises
        ------
        StateError
            If the bytes are not what `to_bytes` gives.
        """
        try:
            tensors = load_tensors(data)
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise StateError(f"it is not safetensors ({error})") from error
        moments = [f"moment.{number}" for number in range(len(tensors) - 2)]
        if tensors.keys() != {"round", "vector", *moments}:
            raise StateError(f"it has tensors of other names: {', '.join(sorted(tensors))[:200]}")
        number, vector = tensors["round"], tensors["vector"]
        if number.dtype != np.int64 or number.shape != (1,) or number[0] < 0:
            raise StateError("its round is not a number from 0")
        for name in ("vector", *moments):
            if why := malformed(tensors[name], vector.size):
                raise StateError(f"{name} is unusable, {why}")
        return cls(int(number[0]), vector, tuple(tensors[name] for name in moments))


def refusal(vector: object, size: int) -> str | None:
    """Say why a vector cannot be taken as an update of a model of `size` parameters, or `None` if it can."""
    if why := malformed(vector, size):
        return why
    largest = float(np.max(np.abs(np.asarray(vector)), initial=0.0))
    return f"it has the value {largest:.3g}, more than {LARGEST:.3g}" if largest > LARGEST else None
