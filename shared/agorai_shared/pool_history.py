"""What the chain says of one pool's samples, in order: who added them, what was called wrong, what was accepted.

Pure: a history takes the pool's final events and answers what there was when a contribution was added, so that
whoever checks, answers or votes compares it with the same, whenever they do so.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeAlias

from eth_utils.crypto import keccak

from agorai_shared.abi.codec import Codec
from agorai_shared.bindings.data_pool import (
    Added,
    Answered,
    Challenged,
    Contested,
    Outcome,
    Published,
    Resolved,
    Settled,
)
from agorai_shared.documents import DocumentMalformedError
from agorai_shared.errors import RefusedError
from agorai_shared.negotiation import LAGS
from agorai_shared.pool import Challenge, Row, Taken
from agorai_shared.types import Address

INLINE: Final = 1024
"""Bytes up to which samples and challenges go on the chain themselves; longer ones are files, named by digest."""

PROMPT_BLOCKS: Final = 128
"""What is added within so many blocks of its commitment counts from there, and else from when it is added: an old
commitment is no option on samples that somebody else adds meanwhile. Who adds waits until the commitment is final,
which takes two to three epochs of 32 blocks."""

_COMMITTED: Final = Codec(
    "samples or a challenge", ["uint256", "address", "address", "uint64", "uint64", "bytes32", "bytes32"]
)

PoolEvent: TypeAlias = Added | Challenged | Answered | Contested | Resolved | Settled | Published
EVENTS: Final[tuple[type[PoolEvent], ...]] = (
    Added, Challenged, Answered, Contested, Resolved, Settled, Published,
)  # fmt: skip
"""Of one pool, which is the second of their indexed members."""


class WindowTooShortError(RefusedError):
    """A window of a pool ends before nodes, which act on final blocks, could act in it."""

    def __init__(self, name: str, given_s: int, lag_s: int, least_s: int) -> None:
        super().__init__(
            f"The {name} window has {given_s} s, and this chain's newest final block is {lag_s} s old: nobody "
            "could act in time.",
            remedy=f"Take a pool, or open one, with windows of at least {least_s} s; nothing was sent.",
        )


@dataclass(frozen=True, slots=True)
class Part:
    """One contribution at some moment."""

    added: Added
    faults: tuple[Challenged, ...]
    """Challenges by which samples had been left out by then, oldest first."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What one contribution is compared with, as `pooling.checking.check` takes it."""

    batch: Part
    known: tuple[Part, ...]
    """Accepted before it was added, in the order of acceptance; the initial samples are not among them."""
    pending: tuple[Part, ...]
    """Committed to before it and not accepted yet when it was added. Who delays another's samples to add a copy first
    gains nothing: of two alike the one committed to first counts, unless it took more than `PROMPT_BLOCKS` to add."""


class PoolHistory:
    """The events of one pool."""

    def __init__(self) -> None:
        self.additions: dict[int, Added] = {}
        """By contribution, in the order of adding."""
        self.settled: list[int] = []
        """Contributions in the order of acceptance."""
        self.challenges: dict[int, list[Challenged]] = {}
        """By contribution, oldest first."""
        self.answers: dict[int, Answered] = {}
        """By contribution, to the latest challenge."""
        self.cases: dict[int, Contested] = {}
        """By contribution, of the latest challenge."""
        self.resolved: dict[int, list[Resolved]] = {}
        """By contribution, all challenges that ended."""
        self.corrections: dict[int, Challenged] = {}
        """By contribution that corrects another, the challenge whose corrected samples it is."""
        self.versions: list[Published] = []
        self._faults: dict[int, list[tuple[int, Challenged]]] = {}
        self._added_at: dict[int, tuple[int, int]] = {}
        """By contribution: how many events, and how many acceptances, came before it."""
        self._place: dict[int, tuple[int, int]] = {}
        """By contribution: from which block on it counts, and its id."""
        self._challenged_at: dict[int, int] = {}
        """By contribution, the block of its latest challenge."""
        self._count = 0

    def take(self, events: Iterable[tuple[PoolEvent, int]]) -> None:
        """Take further events, each with its block, in the order of the chain."""
        for event, block in events:
            self._take(event, block)
            self._count += 1

    def _take(self, event: PoolEvent, block: int) -> None:
        match event:
            case Added(id=id_):
                self.additions[id_] = event
                self._added_at[id_] = self._count, len(self.settled)
                told_at = block
                if event.corrects:  # told by the latest challenge of that, which is resolved now
                    self.corrections[id_] = self.challenges[event.corrects][-1]
                    told_at = self._challenged_at[event.corrects]
                prompt = told_at - event.committed_at <= PROMPT_BLOCKS
                self._place[id_] = event.committed_at if prompt else told_at, id_
            case Challenged(contribution=id_):
                self._challenged_at[id_] = block
                self.challenges.setdefault(id_, []).append(event)
                self.answers.pop(id_, None)
                self.cases.pop(id_, None)
            case Answered(contribution=id_):
                self.answers[id_] = event
            case Contested(contribution=id_):
                self.cases[id_] = event
            case Resolved(contribution=id_):
                self.resolved.setdefault(id_, []).append(event)
                if event.outcome != Outcome.FAILED:
                    self._faults.setdefault(id_, []).append((self._count, self.challenges[id_][-1]))
            case Settled(contribution=id_):
                self.settled.append(id_)
            case Published():
                self.versions.append(event)

    def part(self, contribution: int) -> Part:
        """Give a contribution as it is now."""
        return self._part(contribution, self._count)

    def ground(self, contribution: int) -> Ground:
        """Give what there was when a contribution was added, and what is left of it now."""
        at, accepted = self._added_at[contribution]
        known = self.settled[:accepted]
        taken_ = set(known)
        own = self._place[contribution]
        pending = [id_ for id_, place in self._place.items() if place < own and id_ not in taken_]
        return Ground(
            batch=self.part(contribution),
            known=tuple(self._part(id_, at) for id_ in known),
            pending=tuple(self._part(id_, at) for id_ in pending),
        )

    def accepted(self, most: int | None = None) -> tuple[Part, ...]:
        """Give the first contributions that were accepted, in that order; None is all."""
        return tuple(map(self.part, self.settled[:most]))

    def _part(self, contribution: int, at: int) -> Part:
        faults = self._faults.get(contribution, [])
        by_then = faults[: bisect_left(faults, at, key=lambda fault: fault[0])]
        return Part(self.additions[contribution], tuple(challenge for _, challenge in by_then))


def require_time(windows: Mapping[str, int], lag_s: int) -> None:
    """See that nodes can act in windows, by name in seconds, where final blocks are so many seconds behind.

    Raises
    ------
    WindowTooShortError
    """
    for name, given_s in windows.items():
        if given_s < LAGS * lag_s:
            raise WindowTooShortError(name, given_s, lag_s, LAGS * lag_s)


def challenge_of(event: Challenged, document: bytes, count: int) -> Challenge | None:
    """Read the document of a challenge; None if it is not what the chain says of it.

    Parameters
    ----------
    count
        Samples that the contribution was added with. The rows are in order, so that the last is below it if all are.
    """
    try:
        read = Challenge.from_bytes(document)
    except DocumentMalformedError:
        return None
    fits = len(read.wrong) == event.count and read.wrong[-1].row < count
    return read if fits and bool(read.corrected) == bool(event.corrected) else None


def left_out(part: Part, challenges: Sequence[Challenge | None]) -> tuple[Row, ...]:
    """Give the rows of a contribution that its faults have left out: as many as the chain took off.

    Of a challenge that does not say which rows it means, or names some that were left out before, these are the first
    that are still left: what the chain pays for must not be missing from what others are compared with.

    Parameters
    ----------
    challenges
        What each of the part's faults says, in their order.
    """
    out: set[Row] = set()
    for fault, challenge in zip(part.faults, challenges, strict=True):
        most = len(out) + fault.count
        if challenge:
            out.update(one.row for one in challenge.wrong)
        rest = (row for row in range(part.added.count) if row not in out)
        out.update(tuple(islice(rest, most - len(out))))
    return tuple(sorted(out))


def taken(part: Part, out: tuple[Row, ...]) -> Taken:
    """Give a contribution as a snapshot names it."""
    added = part.added
    return Taken(
        contribution=added.id,
        digest=added.digest.hex(),
        count=added.count,
        left_out=out,
        corrects=added.corrects,
    )


def round_of(left: int, failed: int) -> int:
    """Give which of a contribution's rounds it is by two of its members, as the contract's `roundOf` does."""
    return left << 8 | failed


def commitment(
    chain_id: int, contract: Address, account: Address, item: int, round_: int, digest: bytes, salt: bytes
) -> bytes:
    """Give what binds an account to samples or to a challenge, 32 bytes, as the contract's `commitmentOf` does.

    Asking the contract would tell it and its salt to the chain's node.

    Parameters
    ----------
    item, round_
        A pool and 0, or a contribution and the round in which it is challenged.
    """
    return keccak(_COMMITTED.encode((chain_id, contract, account, item, round_, digest, salt)))
