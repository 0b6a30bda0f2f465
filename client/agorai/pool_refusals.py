"""Why something of a data pool cannot be done: the contract's refusals in words, and what is found before that.

InputError
├── PoolTermsError          money or times that no pool can have
├── PoolDocumentError       a description that no pool can have
├── SamplesUnfitError       a file of samples, of several, that is not the pool's
├── ColumnNotDerivedError   a column of which the samples do not tell what it takes
├── ChallengeUnfitError     a challenge that cannot be right
├── NoSamplesError          a file that holds no samples, whatever the pool
├── NothingFoundError       nothing to challenge
├── KnownTestSetError       a hidden test set that is among the public samples
├── VersionsApartError      versions of two pools
└── NotConfirmedError       nobody was asked
RefusedError
├── PoolRefusedError        the contract refused; says why, and what to do
├── AddedAlreadyError       a file that the account has added before
├── ChallengeOvertakenError  a challenge before which another has ended
└── NothingNewError         a version that would be the one there is
IntegrityError
└── VersionUntrueError      what a version's record names is not what there is
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from agorai_shared.bindings.data_pool import State
from agorai_shared.errors import InputError, IntegrityError, RefusedError
from agorai_shared.pool import SamplesError
from agorai_shared.validation import first_fault

REFUSALS: Final[Mapping[str, tuple[str, str]]] = {
    "DataPool_NotMember": (
        "{account} is no member of this marketplace",
        "Its node joins when it starts: `agorai up`.",
    ),
    "DataPool_PoolNotFound": ("There is no pool {pool}", "See which there are: `agorai pool list`."),
    "DataPool_NotFound": (
        "There is no contribution {contribution}",
        "See a pool's: `agorai pool show POOL`.",
    ),
    "DataPool_NoStake": (
        "A pool's deposit and its bond are more than 0",
        "Open it with a --deposit and a --bond.",
    ),
    "DataPool_BadWindow": (
        "A window of {given} s is not from 60 s to 30 days",
        "Open the pool with other windows.",
    ),
    "DataPool_BadClosing": (
        "A pool that closes at {closesAt} is closed already",
        "Open it with a later --closes.",
    ),
    "DataPool_BadPanelSize": (
        "A panel of {size} seats is not permitted",
        "Open the pool with an odd --panel-size from 3 to 15.",
    ),
    "DataPool_BadCount": (
        "{given} samples are not from 1 to {most}",
        "Add more samples as several contributions; challenge what is left, and correct at most as many.",
    ),
    "DataPool_WrongTime": (
        "Pool {pool} closes at {closesAt}; samples are taken, and it can be stopped, only before that",
        "See `agorai pool show {pool}`.",
    ),
    "DataPool_WrongPoolState": ("Pool {pool} has ended", "See `agorai pool show {pool}`."),
    "DataPool_WrongState": (
        "Contribution {contribution} {state}",
        "See `agorai pool contribution {contribution}`.",
    ),
    "DataPool_BudgetSpent": (
        "Pool {pool} has {left} left for rewards and voters, and these samples need {needed}",
        "Add fewer samples, or have its budget raised: `agorai pool fund {pool} AMOUNT`.",
    ),
    "DataPool_NotCommitted": (
        "What was bound to beforehand is older than a day, or another challenge has ended since",
        "Repeat the command; nothing but the fee was spent.",
    ),
    "DataPool_NotOwner": ("Pool {pool} is not {caller}'s", "Only who opened it can do this."),
    "DataPool_OwnSamples": (
        "Contribution {contribution} is your own",
        "Nobody challenges their own samples.",
    ),
    "DataPool_NotLoser": (
        "{caller} does not lose by the owner's answer about contribution {contribution}",
        "Only who does can contest it.",
    ),
    "DataPool_DeadlinePassed": (
        "The time for it was over at {deadline}",
        "See `agorai pool contribution {contribution}`.",
    ),
    "DataPool_DeadlineNotPassed": (
        "There is time left for others until {deadline}",
        "Wait; nodes take the next step by themselves.",
    ),
    "DataPool_NotQuiet": (
        "Contributions of pool {pool} are open: {open}",
        "Wait until all have ended: `agorai pool show {pool}`.",
    ),
    "DataPool_RevealNotOver": (
        "The owner of pool {pool} has until {until} to reveal its test set",
        "Wait until then.",
    ),
    "DataPool_NothingToClaim": (
        "There is nothing to claim for contribution {contribution}, or no more",
        "A forfeited bond is shared by what was accepted, once.",
    ),
    "DataPool_NoCredit": ("Nothing is credited to {account}", "See `agorai account show`."),
}
"""By error: why, and what to do, with the error's values."""
STATES: Final[Mapping[State, str]] = {
    State.OPEN: "is open: nobody has challenged it",
    State.CHALLENGED: "is challenged already",
    State.ANSWERED: "was answered",
    State.CONTESTED: "is before voters",
    State.SETTLED: "is settled",
}
"""What a contribution is in each state."""


class PoolRefusedError(RefusedError):
    """The contract of data pools refused, or would have."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(f"{why}.", remedy=remedy)


class PoolTermsError(InputError):
    """Money or times that no pool can have."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(f"The pool cannot be opened so: {why}.", remedy=f"{remedy} Nothing was sent.")


class PoolDocumentError(InputError):
    """A description that no pool can have."""

    def __init__(self, what: str, error: ValidationError) -> None:
        super().__init__(
            f"{what}: {first_fault(error)}.",
            remedy="Mend it and repeat; nothing was sent.",
        )


class SamplesUnfitError(InputError):
    """One of several files of samples does not fit the pool."""

    def __init__(self, what: str, error: SamplesError) -> None:
        super().__init__(f"{what}: {error.message}", remedy=error.remedy)


class NoSamplesError(InputError):
    """A file that holds no samples, whatever the pool."""

    def __init__(self, path: Path, why: str, remedy: str) -> None:
        super().__init__(f"{path} {why}.", remedy=f"{remedy} Nothing was sent.")


class AddedAlreadyError(RefusedError):
    """The account has added the very same file before, perhaps by a command that was interrupted."""

    def __init__(self, pool: int, contribution: int) -> None:
        super().__init__(
            f"The same file is contribution {contribution} of yours in pool {pool} already.",
            remedy=f"See `agorai pool contribution {contribution}`. --again adds it once more, and whoever calls "
            "that a duplicate wins half of its deposits.",
        )


class ColumnNotDerivedError(InputError):
    """A column of which the samples do not tell what it takes."""

    def __init__(self, column: str, why: str, remedy: str) -> None:
        super().__init__(
            f"What the column {column!r} takes is not told by the samples: {why}.", remedy=remedy
        )


class ChallengeUnfitError(InputError):
    """A challenge that cannot be right, whoever judges it."""

    def __init__(self, contribution: int, why: str) -> None:
        super().__init__(
            f"Contribution {contribution} cannot be challenged so: {why}.",
            remedy=f"Name samples that are left: `agorai pool check {contribution}`; nothing was spent.",
        )


class NothingFoundError(InputError):
    """No sample is suspected, or none so surely that a stake pays."""

    def __init__(self, contribution: int, suspected: int) -> None:
        told = "1 sample is" if suspected == 1 else f"{suspected} samples are"
        why = (
            f"{told} suspected, and none surely enough for a stake to pay on average"
            if suspected
            else "no sample is suspected"
        )
        super().__init__(
            f"There is nothing to challenge in contribution {contribution}: {why}.",
            remedy="Choose samples yourself with --rows, or give a challenge of your own with --file."
            if suspected
            else "Give a challenge of your own with --file if you know better.",
        )


class KnownTestSetError(InputError):
    """A hidden test set of which too much is among the samples that become public."""

    def __init__(self, known: int, count: int) -> None:
        super().__init__(
            f"Of the {count} samples of the test set {known} are among the initial samples, which become public: "
            "accuracy on them would say little.",
            remedy="Hold back samples that nobody has, and leave them out of the initial ones; nothing was sent.",
        )


class VersionsApartError(InputError):
    """Two versions that have nothing in common."""

    def __init__(self, before: int, after: int, pools: tuple[int, int]) -> None:
        super().__init__(
            f"Version {before} is of pool {pools[0]}, and version {after} of pool {pools[1]}.",
            remedy="Compare versions of one pool: `agorai pool versions POOL`.",
        )


class NotConfirmedError(InputError):
    """Money is laid down only after a yes."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what}: with --json nobody is asked first, so nothing was sent.", remedy="Add --yes to do it."
        )


class ChallengeOvertakenError(RefusedError):
    """Another challenge of the contribution has ended meanwhile: the price or the samples left are others."""

    def __init__(self, contribution: int) -> None:
        super().__init__(
            f"Another challenge of contribution {contribution} has ended since this one was prepared.",
            remedy="Repeat the command to see what is left and what it costs; nothing but a fee was spent.",
        )


class NothingNewError(RefusedError):
    """Training would come to a version that there is."""

    def __init__(self, pool: int, version: int) -> None:
        super().__init__(
            f"Nothing was accepted into pool {pool} since version {version} was trained by this rule: to train again "
            "would come to the same.",
            remedy=f"Nothing was done. Prove it: `agorai pool rebuild {version}`; or train by another --rule.",
        )


class VersionUntrueError(IntegrityError):
    """A version's record says something else than the chain, or than the files that it names."""

    def __init__(self, version: int, why: str) -> None:
        super().__init__(
            f"Version {version} is not what its record says: {why}.",
            remedy="Take another version, of another publisher: `agorai pool versions POOL`.",
        )
