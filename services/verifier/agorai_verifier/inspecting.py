"""Whether a model is as promised: the one rule by which a buyer inspects and a voter judges. Pure.

A package is held against the trade's terms (fair-sharing IV-B 4): it is for this trade and resource, promises the
accuracy agreed on, and reaches it on the data that both sides committed to before the trade began. Its own share of
test data is the seller's choice of rows; it says more about the model and settles nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from agorai_shared.bindings.fair_exchange import Terms
from agorai_shared.package import TradeBinding
from agorai_shared.trainer import Evaluation, Failure
from agorai_shared.types import Address


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


def fault(promise: Promise, found: Evaluation) -> str | None:
    """Say what is wrong with a package, None when it is as promised."""
    package, score = found.package, found.verification
    if package.trade.seed != promise.trade.seed:
        return f"the package is for trade {package.trade.trade} of {package.trade.contract}"
    if package.resource != promise.resource:
        return f"the package holds resource {package.resource}, not {promise.resource}"
    if score is None or isinstance(score, Failure):
        return f"the model cannot be evaluated: {'no data' if score is None else score.message}"
    if score.accuracy is None or round(score.accuracy * 10_000) < promise.accuracy:
        reached = "none" if score.accuracy is None else f"{score.accuracy:.2%}"
        return f"its accuracy is {reached}, {promise.accuracy / 100:.2f}% was promised"
    return None
