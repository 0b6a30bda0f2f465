"""What a training task's providers give away of their data at most, where their updates are blurred."""

from __future__ import annotations

from agorai_shared.federated import Mode, Privacy
from agorai_shared.groups import LEAST
from agorai_trainer.estimators import ExtraMissingError
from agorai_trainer.federated import privacy


def epsilon(mode: Mode, hidden: Privacy, rounds: int) -> float | None:
    """Give the epsilon of a provider that delivers so many rounds of a task whose updates are blurred.

    It is against whoever sees each of its updates: the model provider, and everyone behind the payout. In mode
    `aggregate` these see sums of two at least. None without the extra `privacy`, which has the accountant.
    """
    if not rounds:
        return 0.0
    try:
        if mode == "aggregate":
            return privacy.spent_in_sum(hidden, rounds, LEAST)
        return privacy.spent_alone(hidden, rounds)
    except ExtraMissingError:
        return None
