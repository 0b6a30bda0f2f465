"""Why something of a data transfer cannot be done: the contract's refusals in words, and what is found before that.

NotFoundError
├── TransferAbsentError         no such transfer, or none that is final
├── DataNotProvidedError        its provider has not provided
└── SchemaNotSoldError          no data set of this account has the schema that is wanted
InputError
├── TransferIdError             what was given is no transfer's id
└── TransferTermsError          a transfer that nobody should open so
RefusedError
├── TransferRefusedError        the contract refused, or would; says why, and what to do
├── DataNotYoursError           the data are sealed to others
└── NotProvidableError          a transfer for which this account should not give its data away
IntegrityError
└── ProvidedFaultyError         what was provided does not open, or is no table
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agorai_shared.errors import InputError, IntegrityError, NotFoundError, RefusedError

_SHOW: Final = "See `agorai transfer show {id}`."

REFUSALS: Final[Mapping[str, tuple[str, str]]] = {
    "DataTransfer_NoPayment": (
        "A transfer is paid for when it is opened",
        "Open it with an --amount above 0.",
    ),
    "DataTransfer_NoDigest": ("A digest of zero names nothing", "Name the document that is meant."),
    "DataTransfer_BadParties": (
        "Consumer, provider and authority are not three accounts",
        "Choose an authority that is neither you nor the provider, and data of another account.",
    ),
    "DataTransfer_BadDuration": (
        "A duration of {given} s is not from 60 s to 30 days",
        "Open the transfer with another --duration.",
    ),
    "DataTransfer_BadPanelSize": (
        "A panel of {size} seats is not permitted",
        "A panel has an odd number from 3 on, and where an account rules there is none.",
    ),
    "DataTransfer_SlotTaken": (
        "Slot {slot} of this account holds a transfer that has not ended",
        "Repeat it: another one is taken then.",
    ),
    "DataTransfer_NotFound": ("Transfer {id} has ended", _SHOW),
    "DataTransfer_NotAllowed": ("This is {allowed}'s to do, not {caller}'s, in transfer {id}", _SHOW),
    "DataTransfer_WrongState": ("Transfer {id} is not where this can be done", _SHOW),
    "DataTransfer_DeadlinePassed": ("The time for it in transfer {id} ended at {deadline}", _SHOW),
    "DataTransfer_DeadlineNotPassed": (
        "It can be done after {deadline} in transfer {id}",
        "Repeat it then.",
    ),
    "DataTransfer_NotPanel": (
        "In transfer {id} it is {authority} who rules, not the panel",
        "Ask who rules: `agorai transfer show {id}`.",
    ),
    "DataTransfer_NoCredit": (
        "Nothing is credited to {account}",
        "Payments are direct; only what an account did not take is credited, and bonuses that no voter earned.",
    ),
    "DataTransfer_Refused": (
        "{account} did not take its credit",
        "It is a contract that refuses the coin: have it take it.",
    ),
}
"""By error: why, and what to do, with the error's values."""


def shown(transfer: int) -> str:
    """Write a transfer's id: 160 bits of the consumer, 32 of its slot, 64 that count."""
    return f"0x{transfer:064x}"


class TransferRefusedError(RefusedError):
    """The contract of transfers refused."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(f"{why}.", remedy=remedy)


class TransferIdError(InputError):
    """What was given names no transfer."""

    def __init__(self, given: str) -> None:
        super().__init__(
            f"{given[:80]!r} is no transfer's id.",
            remedy="Give 0x and 64 hex digits, or the number that events have; see `agorai transfer list`.",
        )


class TransferAbsentError(NotFoundError):
    """There is no transfer of this id."""

    def __init__(self, transfer: int) -> None:
        super().__init__(
            f"There is no transfer {shown(transfer)}, or it is not final yet.",
            remedy="See those of this account: `agorai transfer list`.",
        )


class DataNotProvidedError(NotFoundError):
    """Nothing was provided yet, or ever."""

    def __init__(self, transfer: int) -> None:
        super().__init__(
            f"Nothing was provided in transfer {shown(transfer)}.",
            remedy=f"See whom it waits for: `agorai transfer show {shown(transfer)}`.",
        )


class SchemaNotSoldError(NotFoundError):
    """No data set of this account has the schema that is wanted."""

    def __init__(self, transfer: int, schema: str) -> None:
        super().__init__(
            f"Transfer {shown(transfer)} wants data of the schema {schema}, and none of yours on the market has it.",
            remedy="Publish the data set as it was: `agorai publish data`. Or leave it: the consumer cancels.",
        )


class TransferTermsError(InputError):
    """A transfer cannot be opened on these terms; nothing was sent."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(f"The transfer cannot be opened: {why}.", remedy=remedy)


class DataNotYoursError(RefusedError):
    """What was provided is sealed to others, as it should be."""

    def __init__(self, transfer: int, readers: str) -> None:
        super().__init__(
            f"The data of transfer {shown(transfer)} are sealed to its {readers}, and this account is neither.",
            remedy="See the transfers in which you have part: `agorai transfer list`.",
        )


class NotProvidableError(RefusedError):
    """Who provided here would give data away and might get nothing; nothing was stored or sent."""

    def __init__(self, transfer: int, why: str, remedy: str) -> None:
        super().__init__(f"Nothing is provided in transfer {shown(transfer)}: {why}.", remedy=remedy)


class ProvidedFaultyError(IntegrityError):
    """What was provided is not what its provider should have."""

    def __init__(self, transfer: int, why: str) -> None:
        super().__init__(
            f"What was provided in transfer {shown(transfer)} is faulty: {why.rstrip('.')}.",
            remedy=f"Its consumer asks for the money back: `agorai transfer request-refund {shown(transfer)}`.",
        )
        self.why = why
