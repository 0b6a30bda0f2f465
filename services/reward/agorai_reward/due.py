"""What a task pays by its public record: who proposes a payout asks it, and who audits one.

Pure. DAI, 4.5: once the model provider has revealed the key that updates were sealed to, the correctness of the
distribution can be verified off the chain. Whatever the model provider could tilt is recomputed, not believed: which
updates count, who has copied, what contributions are.

A record whose global models are not what the updates make of them allows no honest contributions: a model provider
could begin each round with a model that nothing improves, and keep the award. The award of such a task is shared by
rounds delivered, as the contract shares that of an abandoned one, and nothing is held against updates that began with
a false model.

Where nobody but the model provider ever sees updates and models, the payout goes by what everyone can tell: whatever
has the form of an update is paid, and the award is shared by samples.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from typing import Final, Literal, TypeAlias

from agorai_reward import conduct, shapley
from agorai_reward.conduct import UNPAID, Misconduct, Reason, Update, Vector
from agorai_reward.payout import Row, Subtask, payout

Method: TypeAlias = Literal["shapley", "leave_one_out", "samples"]

Coalition: TypeAlias = frozenset[int]
"""Of subtasks; where updates are seen as sums only, whole groups of them."""

Worths: TypeAlias = Callable[[int, Sequence[Coalition]], Mapping[Coalition, int] | None]
"""Evaluates coalitions of a round (from 1) on the test set: correct test samples of the model that the round began
with and these updates make, less those of that model alone. None if it cannot be done, as without the test set."""


_BY_FORM: Final = (
    "Neither models nor updates are recomputed: whoever saw what updates decrypt to could read the samples from it. "
    "Updates are paid by their form, and the award by samples; the counts of correct test samples are the model "
    "provider's word."
)
_MOST_DENOMINATOR: Final = 6 * math.factorial(shapley.MOST_EXACT)
"""Exact values of up to ten players, shared by two or three, have none that does not divide it."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a task pays by; amounts in the token's smallest unit."""

    task: int
    budget: int
    award: int
    method: Method
    permutations: int
    """To draw in a round with more players than have exact Shapley values."""
    by_groups: bool = False
    """Whether only sums of updates are seen."""
    by_form: bool = False
    """Whether updates are known by their form only, and models by nothing."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What a subtask has committed to on the chain in a round."""

    subtask: int
    samples: int
    vector: Vector | None
    """None if its bytes are not served, or where only sums or forms are seen; bytes that are no vector, or have no
    such form, are an empty one."""
    is_formed: bool = False
    """Whether it is an update by its form, where that is all that is seen."""


@dataclass(frozen=True, slots=True)
class TaskRound:
    """A round by its record; `updates` in the order of the chain."""

    updates: tuple[Submission, ...]
    taken: frozenset[int]
    """Subtasks whose updates, by the record, went into the next global model."""
    aggregated: Vector | None
    """What the task's strategy makes of the model before and the updates taken, computed anew; None if it cannot."""
    seed: bytes
    """32 bytes that no party could choose, from the chain, known after the round's updates."""
    sums: Mapping[Coalition, Vector | None]
    """What groups come to, where only those are seen; None if not served."""
    adders: tuple[int, ...] = ()
    """Subtasks that have added the updates."""


@dataclass(frozen=True, slots=True)
class Record:
    """All that is public of a task."""

    terms: Terms
    subtasks: tuple[Subtask, ...]
    rounds: tuple[TaskRound, ...]
    models: tuple[Vector | None, ...]
    """The initial model, and behind it the global model behind each round; None if it is not served."""
    key_revealed: bool


class Kind(StrEnum):
    """What follows from a finding."""

    WRONG = "wrong"
    """The proposal does not stand."""
    MISSING = "missing"
    """What is due cannot be known."""
    NOTED = "noted"
    """It changes what is due, or nothing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that an audit has found, in plain words."""

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Due:
    """What a task pays; nothing is known of it if something is missing."""

    rows: tuple[Row, ...] | None
    contributions: Mapping[int, Fraction]
    delivered: Mapping[int, int]
    """Subtask to the rounds that its fee is due for."""
    conduct: tuple[tuple[int, Misconduct], ...]
    """Each with its round, from 1."""
    findings: tuple[Finding, ...]


def due(record: Record, worths: Worths) -> Due:
    """Compute what a task pays, from nothing but the record, so that everybody comes to the same rows.

    Raises
    ------
    InputError
        As `payout` and the methods of `shapley` do, if terms, fees or worths cannot be.
    """
    missing = tuple(_missing(record))
    if missing:
        return Due(None, {}, {}, (), missing)
    honest, noted = _honest_rounds(record)
    judged = [] if record.terms.by_groups or record.terms.by_form else list(_judge(record, honest))
    unpaid = {(number, found.subtask) for number, found in judged if found.reason in UNPAID}
    delivered: Counter[int] = Counter()
    contributions: dict[int, Fraction] = {subtask.id: Fraction(0) for subtask in record.subtasks}
    for number, round_ in enumerate(record.rounds, 1):
        sound = [update for update in _served(record, round_) if (number, update.subtask) not in unpaid]
        noted += _differently_taken(number, round_, {update.subtask for update in sound})
        delivered.update((*(update.subtask for update in sound), *round_.adders))
        if honest < len(record.rounds):
            continue
        try:
            values = _values(record, number, sound, worths)
        except _NotEvaluatedError:
            gone = Finding(Kind.MISSING, f"Round {number} cannot be evaluated on the test set.")
            return Due(None, {}, {}, tuple(judged), (*noted, gone))
        for subtask, value in values.items():
            contributions[subtask] += _short(value)
    if honest < len(record.rounds):
        adders = {adder for round_ in record.rounds for adder in round_.adders}
        contributions |= {
            subtask: Fraction(count) for subtask, count in delivered.items() if subtask not in adders
        }
    terms = record.terms
    rows = payout(record.subtasks, delivered, contributions, award=terms.award, budget=terms.budget)
    noted += [Finding(Kind.NOTED, _in_words(number, found)) for number, found in judged]
    return Due(rows, contributions, delivered, tuple(judged), tuple(noted))


def _missing(record: Record) -> list[Finding]:
    texts = [] if record.key_revealed else ["The key that updates were sealed to is not revealed."]
    texts += [
        f"The {'initial model' if not number else f'global model behind round {number}'} is not served."
        for number, model in enumerate(record.models)
        if model is None
    ]
    for number, round_ in enumerate(record.rounds, 1):
        if round_.aggregated is None:
            texts.append(f"The updates of round {number} cannot be aggregated anew.")
        if record.terms.by_groups:
            texts += [
                f"The sum of subtasks {_listed(group)} in round {number} is not served."
                for group, total in round_.sums.items()
                if total is None
            ]
            continue
        texts += [
            f"The update of subtask {update.subtask} in round {number} was taken and is not served."
            for update in round_.updates
            if update.vector is None and not update.is_formed and update.subtask in round_.taken
        ]
    return [Finding(Kind.MISSING, text) for text in texts]


def _honest_rounds(record: Record) -> tuple[int, list[Finding]]:
    """Give how many rounds have a true record, from the first one on, and what is false in the next."""
    if record.terms.by_form:
        return len(record.rounds), [Finding(Kind.NOTED, _BY_FORM)]
    models = [model for model in record.models if model is not None]
    if not conduct.usable(models[0], models[0]):
        return -1, [Finding(Kind.NOTED, "The initial model is not a vector of finite numbers.")]
    for number, round_ in enumerate(record.rounds, 1):
        aggregated = round_.aggregated
        if aggregated is None or not conduct.same_model(models[number], aggregated):
            text = f"The global model behind round {number} is not what the updates taken make of the one before."
            return number - 1, [Finding(Kind.NOTED, text)]
    return len(record.rounds), []


def _judge(record: Record, honest: int) -> Iterable[tuple[int, Misconduct]]:
    """Judge the rounds that have a true record; nothing is held against anybody in one that has not."""
    providers = {subtask.id: subtask.data_provider for subtask in record.subtasks}
    known = [
        conduct.Round(
            model,
            tuple(
                Update(update.subtask, update.vector)
                for update in round_.updates
                if update.vector is not None
            ),
        )
        for model, round_ in zip(record.models, record.rounds, strict=False)
        if model is not None
    ]
    for number in range(1, min(honest, len(known)) + 1):
        after = record.models[number]
        copies = set()
        for found in conduct.judge(known[:number], providers, after):
            copies |= {found.subtask} if found.reason == Reason.COPIED else set()
            yield number, found
        round_ = known[number - 1]
        known[number - 1] = replace(
            round_, updates=tuple(one for one in round_.updates if one.subtask not in copies)
        )


def _served(record: Record, round_: TaskRound) -> list[Submission]:
    """Give the updates that count as delivered: neither taken nor served is not delivered."""
    if record.terms.by_groups:
        return list(round_.updates)
    if record.terms.by_form:
        return [update for update in round_.updates if update.is_formed]
    return [update for update in round_.updates if update.vector is not None]


class _NotEvaluatedError(Exception):
    """The worths of a round cannot be had."""


def _values(record: Record, number: int, sound: Sequence[Submission], worths: Worths) -> dict[int, Fraction]:
    """Give what each subtask has contributed in a round."""
    terms, round_, model = record.terms, record.rounds[number - 1], record.models[number - 1]
    if terms.method == "samples":
        return shapley.by_samples({update.subtask: update.samples for update in sound})
    if terms.by_groups:
        players = [
            group
            for group, total in round_.sums.items()
            if total is not None and model is not None and conduct.usable(total, model)
        ]
    else:
        players = [frozenset({subtask}) for subtask in sorted(update.subtask for update in sound)]
    if not players:
        return {}

    def ask(coalitions: Sequence[frozenset[Coalition]]) -> dict[frozenset[Coalition], int]:
        members = {coalition: Coalition().union(*coalition) for coalition in coalitions}
        found = worths(number, tuple(members.values()))
        if found is None:
            raise _NotEvaluatedError
        return {coalition: found[union] for coalition, union in members.items() if union in found}

    return shapley.shared_evenly(_values_of(terms, players, round_.seed, ask))


def _short(value: Fraction) -> Fraction:
    """Give a round's value with so few digits that a task's can be written down, however many rounds it has."""
    if _MOST_DENOMINATOR % value.denominator == 0:
        return value
    return Fraction(round(value * _MOST_DENOMINATOR), _MOST_DENOMINATOR)


def _values_of(
    terms: Terms,
    players: Sequence[Coalition],
    seed: bytes,
    ask: Callable[[Sequence[frozenset[Coalition]]], dict[frozenset[Coalition], int]],
) -> dict[Coalition, Fraction]:
    if terms.method == "leave_one_out":
        return shapley.leave_one_out(players, ask(shapley.coalitions_without_one(players)))
    if len(players) <= shapley.MOST_EXACT:
        return shapley.exact(players, ask(shapley.coalitions(players)))
    drawn = shapley.Permutations(players, seed, most=terms.permutations)
    while wanted := drawn.wanted():
        drawn.take(ask(wanted))
    return {player: estimate.value for player, estimate in drawn.estimates().items()}


def _differently_taken(number: int, round_: TaskRound, sound: set[int]) -> list[Finding]:
    left_out, wrongly = sorted(sound - round_.taken), sorted(round_.taken - sound)
    texts = []
    if left_out:
        texts.append(
            f"Round {number} left out sound updates, of subtasks {_listed(left_out)}; they are paid."
        )
    if wrongly:
        texts.append(f"Round {number} took updates that are not due a fee, of subtasks {_listed(wrongly)}.")
    return [Finding(Kind.NOTED, text) for text in texts]


def _in_words(number: int, found: Misconduct) -> str:
    of = "" if found.of is None else f", of subtask {found.of}"
    return (
        f"The update of subtask {found.subtask} in round {number} is {found.reason}{of}: "
        f"{found.evidence:.3g}, where {found.threshold:.3g} is the limit."
    )


def _listed(subtasks: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(subtasks)))
