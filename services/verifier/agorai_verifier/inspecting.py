"""Whether a model is as promised: the one rule by which a buyer inspects and a voter judges; a set, and data. Pure.

A package is held against the trade's terms (fair-sharing IV-B 4): it is for this trade and resource, takes and gives
what the resource was offered with, promises the accuracy agreed on, and reaches it on the data that both sides
committed to before the trade began. Data that do not fit a model as it was offered show nothing against it: who
receives the model chose them. Its own share of test data is the giver's choice of rows: that it can be evaluated on
them is the giver's affair, how well says nothing.

    CannotTellError (UnavailableError)    the node's own limits, not the model, were in the way
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agorai_shared.bindings.fair_exchange import Terms
from agorai_shared.documents import Metadata
from agorai_shared.errors import UnavailableError
from agorai_shared.package import Manifest, TradeBinding
from agorai_shared.trainer import Comparison, Evaluation, Failure
from agorai_shared.types import Address

LIMITS: Final = frozenset({"memory_limit", "cpu_limit", "time_limit"})

BROKEN: Final = LIMITS | {"job_crashed"}
"""Codes of errors by which a table ends a job, or a machine that runs out of memory does."""

UNFIT: Final = frozenset(
    {
        "empty_table", "encoding", "csv_shape", "column_names", "missing_column", "extra_feature",
        "not_numeric", "not_finite", "target_kind", "target_zero", "parquet",
    }
)  # fmt: skip
"""Codes of errors with which the trainer refuses a table, before any model sees it."""


CHANCE: Final = frozenset({"target_zero"})
"""Codes that the choice of rows from good data can bring about."""

LOW: Final = 0.5
"""Parameters of a lower accuracy prove a model and do not give it away: "low-quality (accuracy < 50 %)" (III-A)."""

SLACK: Final = 1 / 10_000
"""By which two machines may measure the accuracy of one model differently."""


class CannotTellError(UnavailableError):
    """An evaluation ran into the limits of this node's own sandbox."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(
            f"This node cannot tell: {failure.message}", remedy="Raise AGORAI_TRAINER_LIMITS__*."
        )


@dataclass(frozen=True, slots=True)
class Promise:
    """What one side of a trade promised of the model that it hands over."""

    trade: TradeBinding
    resource: int
    accuracy: int
    """In 1/10,000."""
    verification: bytes
    """Digest of the data on which it is judged."""

    @classmethod
    def of(cls, terms: Terms, giver: Address, trade: TradeBinding) -> Promise:
        """Give what `giver` promised."""
        if giver == terms.seller:
            return cls(trade, terms.seller_resource, terms.seller_accuracy, terms.seller_verification)
        return cls(trade, terms.buyer_resource, terms.buyer_accuracy, terms.buyer_verification)


@dataclass(frozen=True, slots=True)
class Offer:
    """A resource as it was registered."""

    metadata: Metadata
    commitment: bytes
    """Of the object that it sells."""


def fault(promise: Promise, offered: Offer, found: Evaluation) -> str | None:
    """Say what is wrong with a package, None when it is as promised.

    Raises
    ------
    CannotTellError
    """
    why = _unusable(promise, offered.metadata, found)
    if why is None and found.commitment != offered.commitment.hex():
        why = f"the model is not the one that resource {promise.resource} was registered with"
    if why is not None or isinstance(found.verification, Failure):
        return why
    score = found.verification
    if score is None or not score.reaches(promise.accuracy):
        reached = None if score is None else score.accuracy
        told = "not defined" if reached is None else f"{reached:.2%}"
        return f"its accuracy is {told}, {promise.accuracy / 100:.2f}% was promised"
    return None


def fault_of_set(promise: Promise, offered: Offer, found: Evaluation) -> str | None:
    """Say what is wrong with a parameter set that is judged in a model's stead, None when nothing is (IV-D).

    It must be of the shape in which the model was offered, be right less than half of the time, so that it gives the
    model away to nobody, and no better or worse than the accused says: who makes up numbers has measured nothing.

    Raises
    ------
    CannotTellError
    """
    why = _unusable(promise, offered.metadata, found)
    if why is not None or isinstance(found.verification, Failure):
        return why
    if found.package.format != offered.metadata.format:
        return (
            f"it is of the format {found.package.format}, the model was offered in {offered.metadata.format}"
        )
    reached = None if found.verification is None else found.verification.accuracy
    said = found.package.accuracy
    if reached is None or reached >= LOW:
        return (
            f"its accuracy is {'not defined' if reached is None else f'{reached:.2%}'}, not below {LOW:.0%}"
        )
    if abs(reached - said) >= SLACK:
        return f"its accuracy is {reached:.2%}, {said:.2%} was said"
    return None


def fault_of_data(found: Comparison) -> str | None:
    """Say what is wrong with the data of a transfer, None when they are as their schema says.

    Raises
    ------
    CannotTellError
    """
    differences = found.differences
    if isinstance(differences, Failure):
        if differences.code in BROKEN:
            raise CannotTellError(differences)
        return f"the data cannot be read: {differences.message}"
    return f"the data are not as their schema says: {'; '.join(differences)}" if differences else None


def _unusable(promise: Promise, offered: Metadata, found: Evaluation) -> str | None:
    """Say why a package is none of the kind, or cannot be evaluated; data that do not fit are no fault of it."""
    failures = [one for one in (found.test, found.verification) if isinstance(one, Failure)]
    for failure in failures:
        if failure.code in LIMITS:
            raise CannotTellError(failure)
    why = _misfit(promise, offered, found.package)
    if why is not None:
        return why
    for failure in failures:
        # The test data are the giver's own; but which of their rows it is, the trade's id says.
        excused = CHANCE if failure is found.test else UNFIT
        if failure.code not in excused:
            return f"the model cannot be evaluated: {failure.message}"
    return None


def _misfit(promise: Promise, offered: Metadata, package: Manifest) -> str | None:
    if package.trade.seed != promise.trade.seed:
        return f"the package is for trade {package.trade.trade} of {package.trade.contract}"
    if package.resource != promise.resource:
        return f"the package holds resource {package.resource}, not {promise.resource}"
    takes, was_to_take = ([column.name for column in one] for one in (package.input, offered.columns))
    gives, was_to_give = (package.output.target, package.output.classes), (offered.target, offered.classes)
    if takes != was_to_take or gives != was_to_give:
        return "the model takes or gives other columns than it was offered with"
    return None
