"""What an account does next about one contribution to a `DataPool`: check it, challenge it, answer, contest.

Pure: no clock, no chain, no trainer. "Leveraging Centric Data Federated Learning Using Blockchain For Integrity
Assurance", Data Integrity: whoever finds samples that are wrong lays down a deposit to say so, and the pool's owner
answers. Nothing is staked, answered or contested on anybody's word: this node's own trainer has looked before.

A contribution is checked once in each round: a round ends with a challenge, by which either fewer samples are left or
one more has failed. What was found in one round is not staked on in the next, when a challenge costs something else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from agorai_shared.bindings.data_pool import Contribution, Pool, State
from agorai_shared.types import Address
from agorai_verifier.decide import MARGIN_S, PATIENCE_SHARE

POOR_S: Final = 60
"""How often to look whether there are tokens by now: of the token no event wakes."""


class Watch(StrEnum):
    """What is done about others' contributions to a pool."""

    OFF = "off"
    LOOK = "look"
    """They are checked, and what is found is left to a person."""
    STAKE = "stake"
    """They are checked, and challenged where that gains on average."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a pool was opened with; it never changes, so that no other contribution makes a new state of this one."""

    owner: Address
    deposit: int
    """For each sample, in the token's smallest unit, like the next."""
    bonus: int
    """What contesting costs."""
    check_window: int
    """In seconds, like the next."""
    answer_window: int

    @classmethod
    def of(cls, pool: Pool) -> Rules:
        """Read them off the pool."""
        return cls(pool.owner, pool.deposit, pool.bonus, pool.check_window, pool.answer_window)


@dataclass(frozen=True, slots=True)
class Round:
    """Which of a contribution's rounds it is: no two have both alike."""

    failed: int
    left: int

    @classmethod
    def of(cls, contribution: Contribution) -> Round:
        """Give the round that it is in."""
        return cls(contribution.failed, contribution.left)


@dataclass(frozen=True, slots=True)
class Found:
    """What this node's check of this round has come to."""

    wrong: int
    """Samples that the challenge it has prepared calls wrong; 0: it has prepared none."""
    staking: bool
    """Whether it was to prepare one."""
    bound: bytes
    """What binds to it; with another salt, after a loss of the first, there is something else to commit to."""


@dataclass(frozen=True, slots=True)
class Commitment:
    """The newest block in which this node's challenge was committed to."""

    block: int
    good: bool
    """Whether it can still be used."""


@dataclass(frozen=True, slots=True)
class PoolItem:
    """One contribution as the chain has it at a final block, and what this node holds of it."""

    contribution: Contribution
    rules: Rules
    watch: Watch
    found: Found | None
    """None: this round was not checked yet."""
    commitment: Commitment | None
    judged: bool | None
    """Whether this round's challenge is right by this node's own judgement; None: it has come to none."""
    funded: bool
    """Whether the account has the tokens for what it would lay down next, as `cost` says."""
    allowed: bool
    """Whether the contract may take them."""


@dataclass(frozen=True, slots=True)
class Check:
    """Have the samples checked, until a time in seconds since 1970."""

    round: Round
    stake: float | None
    """What a challenge would cost for each sample, in deposits; None: prepare none."""
    final: bool
    """A file that nobody serves is not waited for any longer."""
    until: int


@dataclass(frozen=True, slots=True)
class Approve:
    """Let the contract take tokens."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Bind to the challenge that was prepared."""

    round: Round


@dataclass(frozen=True, slots=True)
class Challenge:
    """Call the samples wrong, in a later block than that of the commitment."""

    round: Round


@dataclass(frozen=True, slots=True)
class Judge:
    """Come to a judgement of the challenge, until a time in seconds since 1970."""

    round: Round
    final: bool
    until: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Say as the pool's owner whether the challenge is right."""

    upheld: bool


@dataclass(frozen=True, slots=True)
class Contest:
    """Have voters decide instead of the owner."""


Step = Check | Approve | Commit | Challenge | Judge | Answer | Contest


def next_step(state: PoolItem, me: Address, now: int) -> Step | None:
    """Give the account's one next step, or nothing; `now` in seconds since 1970."""
    item = state.contribution
    if now > item.deadline - MARGIN_S:
        return None
    if item.state == State.OPEN and state.watch is not Watch.OFF and item.contributor != me:
        return _of_open(state, me, now)
    if item.state == State.CHALLENGED and state.rules.owner == me:
        return _judge(state, now) if state.judged is None else Answer(state.judged)
    if item.state == State.ANSWERED and loser(item) == me:
        if state.judged is None:
            return _judge(state, now)
        return None if state.judged == item.upheld else _paid(state, Contest())
    return None


def due(state: PoolItem, me: Address, now: int) -> int | None:
    """Say when to look again: for what is lacking to pay for a step, and for an owner's turn, there is no event."""
    if lacks(state, now):
        return now + POOR_S
    item = state.contribution
    turn = _owners_turn(state) if item.state == State.OPEN and state.rules.owner == me else 0
    return turn if state.watch is Watch.STAKE and now < turn else None


def lacks(state: PoolItem, now: int) -> bool:
    """Say whether all that keeps the account from its next step is that it has not the tokens."""
    return not state.funded and now <= state.contribution.deadline - MARGIN_S


def cost(state: PoolItem, me: Address) -> int:
    """Give what the account would lay down next for a contribution, in the token's smallest unit; 0 for nothing."""
    item, found = state.contribution, state.found
    if (
        item.state == State.OPEN
        and state.watch is Watch.STAKE
        and found is not None
        and item.contributor != me
    ):
        return found.wrong * state.rules.deposit << item.failed
    disagrees = state.judged is not None and state.judged != item.upheld
    return state.rules.bonus if item.state == State.ANSWERED and loser(item) == me and disagrees else 0


def loser(item: Contribution) -> Address:
    """Give who loses by the owner's answer, and may contest it."""
    return item.contributor if item.upheld else item.challenger


def _of_open(state: PoolItem, me: Address, now: int) -> Step | None:
    item, found = state.contribution, state.found
    staking = state.watch is Watch.STAKE
    if found is None or (staking and not found.staking):
        final, until = _patience(item.deadline, state.rules.check_window, now)
        return Check(Round.of(item), 2.0**item.failed if staking else None, final, until)
    if not (staking and found.wrong) or (state.rules.owner == me and now < _owners_turn(state)):
        return None
    if state.commitment is not None and state.commitment.good:
        return _paid(state, Challenge(Round.of(item)))
    in_time = now <= item.deadline - 2 * MARGIN_S  # for the challenge, which comes after it
    return _paid(state, Commit(Round.of(item))) if in_time else None


def _owners_turn(state: PoolItem) -> int:
    """Give from when on the owner challenges: what others find first is theirs to win, and worth their checking."""
    return state.contribution.deadline - state.rules.check_window // 2


def _judge(state: PoolItem, now: int) -> Judge:
    item = state.contribution
    return Judge(Round.of(item), *_patience(item.deadline, state.rules.answer_window, now))


def _paid(state: PoolItem, step: Step) -> Step | None:
    """Give the step if it can be paid for, or what comes before."""
    if not state.funded:
        return None
    return step if state.allowed else Approve()


def _patience(deadline: int, window: int, now: int) -> tuple[bool, int]:
    """Say whether what is missing is not waited for any longer, and until when to try so."""
    last_call = deadline - max(window // PATIENCE_SHARE, MARGIN_S + 1)
    final = now >= last_call
    return final, deadline - MARGIN_S if final else last_call
