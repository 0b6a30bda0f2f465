"""What mode `encrypted` asks of a task, and of the data that it is trained on: see `encrypted` for why."""

from __future__ import annotations

from typing import Final, NamedTuple

from agorai_shared.federated import ContributionRule, Privacy
from agorai_trainer.federated.encrypted import samples_size
from agorai_trainer.federated.models import ModelSpec, size
from agorai_trainer.federated.specs import StrategySpec

MOST_WEIGHTS: Final = 128
"""Of a model: each is a ciphertext of 640 KiB, and takes 22 ms of a step for every 4,096 samples."""
MOST_SAMPLES: Final = 512 << 20
"""Bytes of encrypted samples: a job has them in memory three times."""


class Unfit(NamedTuple):
    """What of a task cannot be trained encrypted."""

    part: str
    why: str
    remedy: str


def unfit(
    model: ModelSpec, strategy: StrategySpec, privacy: Privacy | None, contribution: ContributionRule
) -> Unfit | None:
    """Say what of a task cannot be trained on encrypted samples; None if all of it can."""
    found = (
        model.kind != "logistic_regression"
        and Unfit(
            "model",
            f"mode encrypted trains a logistic_regression only, and `kind` is {model.kind}",
            "Take this kind, or another mode.",
        ),
        model.l2 and Unfit("model", f"in mode encrypted `l2` must be 0, not {model.l2:g}", "Set it to 0."),
        model.local_epochs != 1
        and Unfit(
            "model",
            f"in mode encrypted `local_epochs` must be 1, not {model.local_epochs}",
            "Set it to 1: a round is one step.",
        ),
        size(model) > MOST_WEIGHTS
        and Unfit(
            "model",
            f"it has {size(model):,} weights, and mode encrypted takes {MOST_WEIGHTS} at most",
            "Name fewer `features`, or take another mode.",
        ),
        getattr(strategy, "proximal_mu", 0)
        and Unfit(
            "strategy",
            "mode encrypted trains without `proximal_mu`",
            "Leave it at 0, or take another strategy, such as FedAvg.",
        ),
        privacy is not None
        and Unfit(
            "privacy",
            "in mode encrypted a computer cannot shorten and blur what it does not see",
            "Leave it out, or take another mode.",
        ),
        contribution.method != "samples"
        and Unfit(
            "contribution",
            f"in mode encrypted only the model provider sees updates, and `method` is {contribution.method}",
            "Set it to `samples`.",
        ),
    )
    return next((one for one in found if isinstance(one, Unfit)), None)


def shape(model: ModelSpec) -> tuple[int, int]:
    """Give outputs and features of a model that can be trained encrypted."""
    return model.net.outputs, len(model.features)


def least_rows(model: ModelSpec, rounds: int) -> int:
    """Give how many rows hold more numbers than so many rounds show of them."""
    return rounds * model.net.outputs + 1


def fits(model: ModelSpec, rows: int, rounds: int) -> bool:
    """Say whether so many rows may be encrypted for so many rounds: they hide enough, and are not too many."""
    outputs, features = shape(model)
    return rows >= least_rows(model, rounds) and samples_size(rows, features, outputs) <= MOST_SAMPLES
