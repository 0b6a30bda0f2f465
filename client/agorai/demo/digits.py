"""Handwritten digits, dealt to five of whom two cheat: the task that learns them, and its rehearsal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import pandas as pd
from sklearn.datasets import load_digits

from agorai.devchain import TOKEN
from agorai.tasks import TaskPlan, TaskTerms
from agorai_shared.federated import Wanted
from agorai_shared.types import Wei
from agorai_shared.vectors import Vector
from agorai_trainer.estimators import Target
from agorai_trainer.federated import models, specs, strategies
from agorai_trainer.federated.models import ModelSpec
from agorai_trainer.federated.nets import Matrix
from agorai_trainer.federated.partition import dirichlet
from agorai_trainer.federated.updates import Update

OWNER: Final = "mira"
HONEST: Final = ("dora", "dino", "dana")
FREE_RIDER: Final = "frank"
POISONER: Final = "eve"
PROVIDERS: Final = (*HONEST, FREE_RIDER, POISONER)
WAGES: Final = {"cora": 0.4, "cole": 0.5, FREE_RIDER: 1.0, POISONER: 1.0}
"""Of those who compute, in tokens a round; who needs a computer asks the cheapest first."""
LATE: Final = "dana"
ROOM: Final = 2
"""Subtasks that each computer takes: cora has none left for dana, and cole trains for her."""
FEE: Final = 2 * TOKEN
AWARD: Final = 100 * TOKEN
WINDOW_S: Final = 600
SEED: Final = 1
ALPHA: Final = 1.0
"""Of the Dirichlet distribution by which each digit is dealt to the providers."""
TEST: Final = 400
"""Hidden samples."""
TARGET: Final = "digit"
STRATEGY: Final = specs.FedTrimmedAvg(beta=0.2)
"""Of five numbers it leaves out the least and the greatest."""


# ------------------------------------------------------------------------------------------------- samples


def deal(seed: int) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Give hidden samples of handwritten digits, and each provider's."""
    samples: pd.DataFrame = load_digits(as_frame=True).frame.astype(int).rename(columns={"target": TARGET})
    samples = samples.sample(frac=1, random_state=seed)
    rest = samples[TEST:]
    dealt = dirichlet(rest[TARGET].to_numpy(), len(PROVIDERS), ALPHA, seed)
    return samples[:TEST], {name: rest.iloc[rows] for name, rows in zip(PROVIDERS, dealt, strict=True)}


HIDDEN, SHARES = deal(SEED)
MODEL: Final = ModelSpec(
    kind="logistic_regression",
    features=tuple(models.Column(name=name, scale=16, minimum=0, maximum=16) for name in HIDDEN.columns[:-1]),
    target=models.Column(name=TARGET),
    classes=tuple(range(10)),
    local_epochs=10,
)


def plan(rounds: int) -> TaskPlan:
    """Give the task, whose budget is enough for all but the one that comes late."""
    return TaskPlan(
        name="handwritten digits",
        model=MODEL.model_dump(mode="json", exclude_none=True),
        strategy=STRATEGY.model_dump(mode="json", exclude_none=True),
        wanted=Wanted(most_fee=str(FEE), providers=len(PROVIDERS)),
        terms=TaskTerms(
            budget=Wei(AWARD + FEE * rounds * (len(PROVIDERS) - 1)),
            award=Wei(AWARD),
            bond=Wei(AWARD),
            rounds=rounds,
            quorum=len(PROVIDERS),
            join_window=WINDOW_S,
            round_window=WINDOW_S,
            step_window=WINDOW_S,
            challenge_window=WINDOW_S,
        ),
    )


# ----------------------------------------------------------------------------------------------- who cheats


Cheat = Callable[[Vector, Vector], Vector]
"""Gives what is handed in, of the global model and what was honestly learnt from it."""
CHEATS: Final[Mapping[str, Cheat]] = {
    FREE_RIDER: lambda model, _learnt: model,
    POISONER: lambda model, learnt: model - 3 * (learnt - model),
}


# ------------------------------------------------------------------------------------------------ rehearsals


def rehearsed(
    strategy: specs.StrategySpec, shares: Mapping[str, pd.DataFrame], hidden: pd.DataFrame, rounds: int
) -> Iterator[float]:
    """Give the accuracy behind each round without a market, the initial model's first; who cheats does so here."""
    aggregating, (pixels, digits) = strategies.strategy(strategy), _arrays(hidden)
    state = aggregating.begin(models.initial(MODEL))
    for number in range(rounds + 1):
        if number:
            state = aggregating.aggregate(state, _updates(state.vector, shares, number))
        yield models.right(MODEL, state.vector, pixels, digits) / len(hidden)


def _updates(model: Vector, shares: Mapping[str, pd.DataFrame], number: int) -> Iterator[Update]:
    for place, (name, share) in enumerate(shares.items()):
        learnt = models.fit(MODEL, model, *_arrays(share), number)
        yield Update(place, CHEATS[name](model, learnt) if name in CHEATS else learnt, len(share))


def _arrays(samples: pd.DataFrame) -> tuple[Matrix, Target]:
    return samples.drop(columns=TARGET).to_numpy(float), samples[TARGET].to_numpy()
