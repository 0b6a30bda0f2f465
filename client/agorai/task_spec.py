"""What a training task is opened with, as its model provider writes it down: one file, and the hidden test set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Annotated, Any, Final, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from agorai.devchain import TOKEN
from agorai.pool_spec import Tokens, Window, duration, read
from agorai.task_refusals import HiddenSetError, TaskModeError, TaskSpecError
from agorai.tasks import TaskPlan, TaskTerms
from agorai_shared.documents import Share
from agorai_shared.federated import MOST_SUBTASKS, ContributionRule, Mode, Privacy, Stop, Wanted
from agorai_shared.types import Wei
from agorai_trainer import tables
from agorai_trainer.federated.encryptable import least_rows, unfit
from agorai_trainer.federated.models import ModelSpec
from agorai_trainer.federated.specs import StrategySpec
from agorai_trainer.table_refusals import SHOWN, listed

_ROOM: Final = 2
"""How many times their range more than the test samples others' data may have to either side."""
_WIDE: Final = 1e150
"""Range from which on squares would be no float64."""


class WantedSpec(BaseModel):
    """What data are wanted; the fee in tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    providers: int = Field(gt=0, le=MOST_SUBTASKS)
    most_fee: Tokens
    least_rows: int = Field(1, gt=0)
    least_quality: Share = 0.0
    adders: int = Field(1, gt=0, le=8)


class TaskSpec(BaseModel):
    """A task to be opened; amounts in tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    description: str = Field("", max_length=10_000)
    target: str
    """The column to be foretold."""
    model: dict[str, JsonValue]
    """Its kind and hyperparameters; features and classes that it does not name are as the test set tells."""
    strategy: dict[str, JsonValue] = {"name": "FedAvg"}
    mode: Mode = "open"
    privacy: Privacy | None = None
    wanted: WantedSpec
    contribution: ContributionRule = ContributionRule()
    stop: Stop = Stop()
    rounds: Annotated[int, Field(gt=0, lt=1 << 16)]
    quorum: Annotated[int, Field(gt=0, lt=1 << 16)]
    budget: Tokens
    award: Tokens
    bond: Tokens
    join_window: Window
    round_window: Window
    step_window: Window
    challenge_window: Window
    panel_size: int = 3

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file; raises `TaskSpecError`, `FileUnreadableError`."""
        try:
            return cls.model_validate_json(read(path))
        except ValidationError as error:
            raise TaskSpecError(str(path), error) from error

    def plan(self, test: bytes) -> TaskPlan:
        """Give the task that is to be opened, with this test set.

        Raises
        ------
        TaskSpecError, HiddenSetError
            If there is no such model or strategy, or no features that the test set has.
        TaskModeError
            If the mode cannot train what is described.
        InputError
            A leaf of `agorai_trainer.table_refusals`, if the test set is no table of its columns.
        """
        model = self._model(test)
        try:
            strategy = TypeAdapter[Any](StrategySpec).validate_python(self.strategy)
        except ValidationError as error:
            raise TaskSpecError("The strategy", error) from error
        wanted, rows, contribution = self.wanted, self.wanted.least_rows, self.contribution
        if self.mode == "encrypted":
            if "method" not in contribution.model_fields_set:
                contribution = contribution.model_copy(update={"method": "samples"})
            if fault := unfit(model, strategy, self.privacy, contribution):
                raise TaskModeError(*fault)
            rows = max(rows, least_rows(model, self.rounds))  # data providers with fewer decline
        return TaskPlan(
            name=self.name,
            description=self.description,
            model=model.model_dump(mode="json", exclude_none=True),
            strategy=strategy.model_dump(mode="json", exclude_none=True),
            mode=self.mode,
            privacy=self.privacy,
            wanted=Wanted(
                providers=wanted.providers,
                most_fee=str(_wei(wanted.most_fee)),
                least_rows=rows,
                least_quality=wanted.least_quality,
                adders=wanted.adders,
            ),
            contribution=contribution,
            stop=self.stop,
            terms=TaskTerms(
                budget=_wei(self.budget),
                award=_wei(self.award),
                bond=_wei(self.bond),
                rounds=self.rounds,
                quorum=self.quorum,
                join_window=duration(self.join_window),
                round_window=duration(self.round_window),
                step_window=duration(self.step_window),
                challenge_window=duration(self.challenge_window),
                panel_size=self.panel_size,
            ),
        )

    def _model(self, test: bytes) -> ModelSpec:
        table, given = tables.parse(test), dict(self.model)
        if self.target not in table.names:
            why = f"it has no column {self.target!r}, but {listed(_closest(self.target, table.names))}"
            raise HiddenSetError(why, "Give as `target` the column to be foretold, spelled as in the header.")
        if self.mode == "encrypted":
            given = {"l2": 0, "local_epochs": 1} | given
        if "features" not in given:
            names = tuple(name for name in table.names if name != self.target)
            if not names:
                raise HiddenSetError("it has no columns besides the target")
            columns = zip(names, table.matrix(names).T, strict=True)
            given["features"] = [_column(name, values) for name, values in columns]
        if given.get("kind") == "linear_regression" or "tolerance" in given:
            given.setdefault("target", _column(self.target, table.quantities(self.target)))
        else:
            given.setdefault("target", {"name": self.target})
            given.setdefault("classes", sorted(set(table.labels(self.target).tolist())))
        try:
            return ModelSpec.model_validate_json(TypeAdapter(dict[str, JsonValue]).dump_json(given))
        except ValidationError as error:
            raise TaskSpecError("The model", error) from error


def _column(name: str, values: npt.NDArray[np.float64]) -> dict[str, JsonValue]:
    """Describe a column by the test samples, to two digits behind the first of their deviation.

    Data of others may be beyond them by twice their range to either side, but have no other sign.
    """
    if not values.size:
        raise HiddenSetError("it has no samples")
    least, most = float(values.min()), float(values.max())
    if most - least > _WIDE:
        raise HiddenSetError(f"the numbers of column {name!r} are too far apart")
    deviation = float(values.std()) if most > least else 1.0
    deviation = deviation or most - least  # whose square is too small for a float64
    room = _ROOM * (most - least) or max(abs(most), 1.0)
    low = max(least - room, 0.0) if least >= 0 else least - room
    high = min(most + room, 0.0) if most <= 0 < -least else most + room
    digits = 2 - math.floor(math.log10(deviation))
    told = {"offset": float(values.mean()), "scale": deviation, "minimum": low, "maximum": high}
    return {"name": name, **{key: round(one, digits) for key, one in told.items()}}


def _closest(wanted: str, names: Sequence[str]) -> tuple[str, ...]:
    """Give names by how near they are to one that is wanted, the nearest first."""
    near = wanted[:SHOWN].casefold()
    found = sorted(names, key=lambda name: -SequenceMatcher(None, name[:SHOWN].casefold(), near).ratio())
    return tuple(found)


def _wei(tokens: float) -> Wei:
    return Wei(round(tokens * TOKEN))
