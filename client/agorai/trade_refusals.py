"""Why something of a trade cannot be done, found before anything is laid down.

InputError
├── NotTradableError            what is to be traded cannot be
├── AccuracyUnknownError        nobody has told how good a model is
├── ListingMalformedError       terms that no listing can have
├── VerificationTooLargeError   data that are more than one block
└── DataUnfitError              data on which a model cannot be evaluated
RefusedError
├── AccuracyTooLowError         a model that is not good enough to be traded
├── PromiseNotKeptError         a model that falls short of what is promised
├── TooFewVotersError           nobody could judge a dispute
├── NotToOpenError              nothing that could be opened
└── NotToAcceptError            nothing that could be accepted
NotFoundError
├── NotListedError              a model without terms
└── AskUnknownError             no such negotiation
"""

from __future__ import annotations

from pydantic import ValidationError

from agorai_shared.content import MAX_DOCUMENT_SIZE
from agorai_shared.errors import AgoraiError, InputError, NotFoundError, RefusedError
from agorai_shared.validation import first_fault


class NotTradableError(InputError):
    """What is to be traded cannot be."""

    def __init__(self, resource: int, why: str) -> None:
        super().__init__(
            f"Resource {resource} cannot be traded: {why}.", remedy="Trade a model; see `agorai offer list`."
        )


class DataUnfitError(InputError):
    """The other side's data, or a model's own test data, do not fit the model."""

    def __init__(self, resource: int, whose: str, error: AgoraiError) -> None:
        super().__init__(
            f"Model {resource} cannot be judged on {whose}: {error.message}",
            remedy="Nothing was laid down. Have it asked for with, or list it with, data of its columns and classes.",
        )


class PromiseNotKeptError(RefusedError):
    """A model is less accurate on the other side's data than is promised."""

    def __init__(self, resource: int, reached: str, promised: int) -> None:
        super().__init__(
            f"Model {resource} reaches an accuracy of {reached} on the data that the other side chose; "
            f"{promised / 100:.2f}% is promised.",
            remedy="Nothing was laid down; voters would find against you. List it with a lower --accuracy and "
            "have new terms agreed on, or leave this trade.",
        )


class AccuracyTooLowError(RefusedError):
    """A model is not good enough to be traded."""

    def __init__(self, resource: int, accuracy: int) -> None:
        super().__init__(
            f"Model {resource} with an accuracy of {accuracy / 100:g}% cannot be traded: only parameters with "
            "an accuracy above 90% are sold (fair-sharing, IV-B).",
            remedy="Train a better one, or sell this one's use: `agorai offer list`.",
        )


class NotListedError(NotFoundError):
    """A model that is to be swapped has no terms yet."""

    def __init__(self, resource: int) -> None:
        super().__init__(
            f"Model {resource} is not listed, so that it has no price.",
            remedy="List it with its price and test data first: `agorai trade list`.",
        )


class AccuracyUnknownError(InputError):
    """Nobody has told how good a model is."""

    def __init__(self, resource: int) -> None:
        super().__init__(
            f"The description of model {resource} has no accuracy.", remedy="Promise one with --accuracy."
        )


class ListingMalformedError(InputError):
    """Terms that no listing can have."""

    def __init__(self, error: ValidationError) -> None:
        super().__init__(
            f"It cannot be listed so: {first_fault(error)}.",
            remedy="See the options: `agorai trade list --help`.",
        )


class VerificationTooLargeError(InputError):
    """Verification data are one block, which the chain names by its digest."""

    def __init__(self, size: int) -> None:
        super().__init__(
            f"Verification data have at most {MAX_DOCUMENT_SIZE >> 20} MiB, not {size:,} bytes.",
            remedy="Give fewer rows: some hundreds tell an accuracy well.",
        )


class TooFewVotersError(RefusedError):
    """The contract lets nobody into a trade whose dispute could not be judged."""

    def __init__(self, available: int, size: int) -> None:
        super().__init__(
            f"{available} voters besides the two sides could judge a dispute now, and the panel has {size} seats.",
            remedy="Wait for more (`agorai vote enlist`), or agree on a smaller --panel-size; nothing was spent.",
        )


class AskUnknownError(NotFoundError):
    """There is no such negotiation."""

    def __init__(self, ask: str, found: int) -> None:
        super().__init__(
            f"{found or 'No'} negotiations begin with {ask!r}.", remedy="See them: `agorai trade asks`."
        )


class NotToOpenError(RefusedError):
    """A negotiation from which no trade can be opened here."""

    def __init__(self, ask: str, why: str, remedy: str) -> None:
        super().__init__(f"No trade can be opened from the ask {ask[:8]}: {why}.", remedy=remedy)


class NotToAcceptError(RefusedError):
    """A trade that cannot be accepted here."""

    def __init__(self, trade: int, why: str) -> None:
        super().__init__(
            f"Trade {trade} cannot be accepted: {why}.", remedy=f"See `agorai trade show {trade}`."
        )
