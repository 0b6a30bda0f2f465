"""Whether a model is as promised: the one rule by which a buyer inspects and a voter judges. Pure.

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
from agorai_shared.trainer import Evaluation, Failure
from agorai_shared.types import Address

LIMITS: Final = frozenset({"memory_limit", "cpu_limit", "time_limit"})

UNFIT: Final = frozenset(
    {
        "empty_table", "encoding", "csv_shape", "column_names", "missing_column", "extra_feature",
        "not_numeric", "not_finite", "target_kind", "parquet",
    }
)  # fmt: skip
"""Codes of errors with which the trainer refuses a table, before any model sees it."""


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


def fault(promise: Promise, offered: Metadata, found: Evaluation) -> str | None:
    """Say what is wrong with a package, None when it is as promised.

    Parameters
    ----------
    offered
        The metadata with which the resource was registered.

    Raises
    ------
    CannotTellError
    """
    score = found.verification
    for failure in (found.test, score):
        if isinstance(failure, Failure) and failure.code in LIMITS:
            raise CannotTellError(failure)
    why = _misfit(promise, offered, found.package)
    if why is not None:
        return why
    if isinstance(found.test, Failure):
        return f"the model cannot be evaluated: {found.test.message}"
    if isinstance(score, Failure):
        return None if score.code in UNFIT else f"the model cannot be evaluated: {score.message}"
    if score is None or score.accuracy is None or round(score.accuracy * 10_000) < promise.accuracy:
        reached = "not defined" if score is None or score.accuracy is None else f"{score.accuracy:.2%}"
        return f"its accuracy is {reached}, {promise.accuracy / 100:.2f}% was promised"
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
