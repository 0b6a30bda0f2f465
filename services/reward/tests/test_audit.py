"""What a task pays by its record, whatever its model provider would like; proposals that pay something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from agorai_reward import conduct, shapley
from agorai_reward.audit import Proposal, Verdict, audit, root_of
from agorai_reward.conduct import Reason, Vector
from agorai_reward.due import Coalition, Due, Kind, Method, Record, Submission, TaskRound, Terms, due
from agorai_reward.payout import Row, Subtask
from agorai_shared.groups import deal
from agorai_shared.types import Address

SIZE = 40
WORTH = {1: 30, 2: 10, 3: -5, 4: 20}
"""What each subtask adds in a round, whoever else is there."""


def account(number: int) -> Address:
    return Address(f"0x{number:040x}")


SUBTASKS = tuple(Subtask(id_, account(id_), account(10 + id_), fee=100 * id_, wage=40) for id_ in WORTH)


def additive(_: int, coalitions: Sequence[Coalition]) -> Mapping[Coalition, int]:
    return {coalition: sum(WORTH[subtask] for subtask in coalition) for coalition in coalitions}


def record_of(
    rounds: int = 3, method: Method = "shapley", *, by_groups: bool = False, **forged: Vector | None
) -> Record:
    """Make a task's record; `u<subtask>_<round>` forges an update, whose taking is as in an honest record."""
    rng = np.random.default_rng(7)
    models: list[Vector] = [rng.normal(size=SIZE)]
    played: list[TaskRound] = []
    for number in range(1, rounds + 1):
        seed = number.to_bytes(32, "big")
        model = models[-1]
        vectors = {subtask: model + rng.normal(size=SIZE) for subtask in WORTH}
        given: dict[int, Vector | None] = {
            subtask: forged.get(f"u{subtask}_{number}", vector) for subtask, vector in vectors.items()
        }
        taken = {
            subtask: vector
            for subtask, vector in given.items()
            if vector is not None and conduct.usable(vector, model)
        }
        models.append(np.mean(list(taken.values()), axis=0))
        groups = deal(sorted(WORTH), seed) if by_groups else ()
        updates = tuple(
            Submission(subtask, 50 * subtask, None if by_groups else vector)
            for subtask, vector in given.items()
        )
        sums = {group: np.sum([vectors[subtask] for subtask in group], axis=0) for group in groups}
        played.append(TaskRound(updates, frozenset(taken), models[-1].copy(), seed, sums))
    terms = Terms(7, 10_000, 6_000, method, 40, by_groups)
    return Record(terms, SUBTASKS, tuple(played), tuple(models), key_revealed=True)


def with_round(record: Record, number: int, **parts: object) -> Record:
    rounds = list(record.rounds)
    rounds[number - 1] = replace(rounds[number - 1], **parts)  # type: ignore[arg-type]
    return replace(record, rounds=tuple(rounds))


def with_model(record: Record, number: int, model: Vector | None) -> Record:
    models = list(record.models)
    models[number] = model
    return replace(record, models=tuple(models))


def proposal_of(record: Record) -> Proposal:
    return proposing(record, due(record, additive))


def proposing(record: Record, what: Due) -> Proposal:
    assert what.rows is not None
    return Proposal(root_of(record.terms.task, what.rows), sum(row.amount for row in what.rows), what.rows)


def texts(record: Record, kind: Kind) -> list[str]:
    return [finding.text for finding in due(record, additive).findings if finding.kind == kind]


def test_an_honest_task_pays_fees_and_shares_the_award_by_contribution() -> None:
    what = due(record_of(), additive)
    assert what.contributions == {subtask: 3 * worth for subtask, worth in WORTH.items()}
    assert what.delivered == dict.fromkeys(WORTH, 3)
    assert not what.findings
    assert not what.conduct
    fees = {account(id_): 3 * (100 * id_ - 40) for id_ in WORTH} | {account(10 + id_): 120 for id_ in WORTH}
    award = {account(1): 3_000, account(2): 1_000, account(4): 2_000}
    assert what.rows == tuple(
        Row(who, fees[who] + award.get(who, 0)) for who in sorted(fees, key=lambda one: int(one, 16))
    )


def test_the_proposal_of_what_is_due_is_right_with_and_without_its_evidence() -> None:
    record = record_of()
    proposal = proposal_of(record)
    assert audit(record, proposal, additive).verdict == Verdict.RIGHT
    assert audit(record, replace(proposal, rows=None), additive).verdict == Verdict.RIGHT


@pytest.mark.parametrize("served", [True, False])
def test_one_unit_too_little_for_one_account_is_wrong(served: bool) -> None:
    record = record_of()
    right = proposal_of(record).rows
    assert right is not None
    rows = (replace(right[0], amount=right[0].amount - 1), *right[1:])
    total = sum(row.amount for row in rows)
    found = audit(record, Proposal(root_of(7, rows), total, rows if served else None), additive)
    assert found.verdict == Verdict.WRONG
    said = [finding.text for finding in found.findings if finding.kind == Kind.WRONG]
    assert (
        any(text.startswith(f"{account(1)} is due 3180, and the proposal pays 3179") for text in said)
        == served
    )


@pytest.mark.parametrize("served", [True, False])
def test_a_root_for_another_task_and_another_total_are_wrong(served: bool) -> None:
    record = record_of()
    proposal = proposal_of(record)
    assert proposal.rows is not None
    rows = proposal.rows if served else None
    for wrong in (
        replace(proposal, root=root_of(8, proposal.rows), rows=rows),
        replace(proposal, total=proposal.total + 1, rows=rows),
    ):
        assert audit(record, wrong, additive).verdict == Verdict.WRONG


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda rows: (*rows, Row(account(99), 1)), "no part in the task"),
        (lambda rows: (*rows, rows[0]), "2 rows"),
        (lambda rows: (Row(rows[0].account, 20_000), *rows[1:]), "budget is 10000"),
    ],
)
def test_a_proposal_that_cannot_be_right_is_wrong_even_if_nothing_can_be_recomputed(
    change: object, says: str
) -> None:
    record = record_of()
    rows = change(proposal_of(record).rows)  # type: ignore[operator]
    proposal = Proposal(root_of(7, rows), sum(row.amount for row in rows), rows)
    found = audit(replace(record, key_revealed=False), proposal, additive)
    assert found.verdict == Verdict.WRONG
    assert any(says in finding.text for finding in found.findings)


@pytest.mark.parametrize(("root", "total"), [(bytes(32), None), (None, 1)])
def test_evidence_that_contradicts_root_or_total_is_wrong(root: bytes | None, total: int | None) -> None:
    record = record_of()
    right = proposal_of(record)
    proposal = Proposal(root or right.root, total or right.total, right.rows)
    assert audit(replace(record, key_revealed=False), proposal, additive).verdict == Verdict.WRONG


def test_what_cannot_be_had_makes_the_verdict_unknown_and_is_named() -> None:
    record = record_of()
    proposal = proposal_of(record)
    unserved = tuple(replace(update, vector=None) for update in record.rounds[1].updates[:1])
    cases = {
        "The key": replace(record, key_revealed=False),
        "The initial model": with_model(record, 0, None),
        "The global model behind round 2": with_model(record, 2, None),
        "The update of subtask 1 in round 2 was taken": with_round(
            record, 2, updates=(*unserved, *record.rounds[1].updates[1:])
        ),
        "The updates of round 3 cannot be aggregated": with_round(record, 3, aggregated=None),
    }
    for said, case in cases.items():
        found = audit(case, proposal, additive)
        assert (found.verdict, found.due.rows) == (Verdict.UNKNOWN, None)
        assert [finding.text[: len(said)] for finding in found.findings] == [said]
    found = audit(record, proposal, lambda number, some: None if number == 2 else additive(number, some))
    assert found.verdict == Verdict.UNKNOWN
    assert "Round 2 cannot be evaluated" in found.findings[0].text


def test_an_update_neither_taken_nor_served_is_not_delivered() -> None:
    record = record_of(u2_1=None)
    assert due(record, additive).delivered == {1: 3, 2: 2, 3: 3, 4: 3}


def test_broken_updates_free_rides_and_copies_are_paid_nothing_for_their_round_and_are_named() -> None:
    honest = record_of()
    model = honest.models[0]
    assert model is not None
    first = honest.rounds[0].updates[0].vector
    assert first is not None
    record = record_of(u2_1=np.full(SIZE, np.nan), u3_1=model.copy(), u4_1=first.copy())
    what = due(record, additive)
    assert what.delivered == {1: 3, 2: 2, 3: 2, 4: 2}
    assert what.contributions == {1: 90, 2: 20, 3: -10, 4: 40}
    assert {(found.subtask, found.reason) for _, found in what.conduct} == {
        (2, Reason.NOT_FINITE), (3, Reason.UNCHANGED), (4, Reason.COPIED),
    }  # fmt: skip
    said = texts(record, Kind.NOTED)
    assert "Round 1 took updates that are not due a fee, of subtasks 3, 4." in said
    assert any(
        text.startswith("The update of subtask 4 in round 1 is copied, of subtask 1: ") for text in said
    )


def test_a_copy_from_a_round_before_is_called_unless_the_data_are_the_same_providers() -> None:
    record = record_of(u2_2=record_of().rounds[0].updates[0].vector)
    (number, found), *others = due(record, additive).conduct
    assert (number, found.subtask, found.reason, found.of, others) == (2, 2, Reason.COPIED, 1, [])
    one_provider = replace(SUBTASKS[1], data_provider=account(1))
    same = replace(record, subtasks=(SUBTASKS[0], one_provider, *SUBTASKS[2:]))
    assert due(same, additive).conduct == ()


def test_a_mere_suspicion_costs_nothing() -> None:
    model = record_of().models[0]
    assert model is not None
    what = due(record_of(u4_1=model + np.random.default_rng(1).normal(size=SIZE) * 1_000), additive)
    assert [found.reason for _, found in what.conduct] == [Reason.SCALED]
    assert what.delivered == dict.fromkeys(WORTH, 3)


def test_an_update_that_the_model_provider_left_out_is_paid_all_the_same() -> None:
    record = record_of()
    model, others = record.models[2], [update.vector for update in record.rounds[2].updates[1:]]
    without = np.mean([vector for vector in others if vector is not None], axis=0)
    assert model is not None
    left_out = with_model(with_round(record, 3, taken=frozenset({2, 3, 4}), aggregated=without), 3, without)
    assert due(left_out, additive).rows == due(record, additive).rows
    assert texts(left_out, Kind.NOTED) == ["Round 3 left out sound updates, of subtasks 1; they are paid."]


def test_a_false_model_gains_its_model_provider_nothing_as_the_award_is_shared_by_rounds() -> None:
    record = with_model(record_of(), 2, np.full(SIZE, 5.0))
    what = due(record, lambda *_: pytest.fail("nothing is to be evaluated"))
    assert what.contributions == dict.fromkeys(WORTH, 3)
    assert what.rows is not None
    assert sum(row.amount for row in what.rows) == 3 * (100 + 200 + 300 + 400) + 6_000
    assert texts(record, Kind.NOTED)[0].startswith("The global model behind round 2 is not what")


def test_models_that_nobody_can_open_make_no_true_record() -> None:
    empty = np.empty(0)
    record = record_of(rounds=1)
    for number in (0, 1):
        record = with_model(record, number, empty)
    what = due(with_round(record, 1, aggregated=empty), additive)
    assert what.contributions == what.delivered == dict.fromkeys(WORTH, 1)


def test_longer_steps_of_most_accounts_that_are_left_out_make_nobody_s_look_like_none() -> None:
    record = record_of(rounds=1)
    model, rng = record.models[0], np.random.default_rng(3)
    assert model is not None
    long = {subtask: model + 1e6 * rng.normal(size=SIZE) for subtask in (2, 3, 4)}
    given = tuple(replace(one, vector=long.get(one.subtask, one.vector)) for one in record.rounds[0].updates)
    alone = given[0].vector
    forged = with_model(
        with_round(record, 1, updates=given, taken=frozenset({1}), aggregated=alone), 1, alone
    )
    what = due(forged, additive)
    assert what.delivered[1] == 1
    assert not any(found.subtask == 1 for _, found in what.conduct)


def test_who_copies_an_earlier_update_is_no_original_of_the_next() -> None:
    record = record_of(rounds=2)
    first, second = record.models[0], record.models[1]
    assert first is not None
    assert second is not None
    victim = next(one.vector for one in record.rounds[0].updates if one.subtask == 2)
    assert victim is not None
    again = second + (victim - first)  # training that has converged takes the same step
    copied = {1: again.copy(), 2: again * (1 + 1e-9)}
    updates = tuple(
        replace(one, vector=copied.get(one.subtask, one.vector)) for one in record.rounds[1].updates
    )
    mean = np.mean([one.vector for one in updates if one.vector is not None], axis=0)
    what = due(with_model(with_round(record, 2, updates=updates, aggregated=mean), 2, mean), additive)
    assert {(found.subtask, found.reason) for number, found in what.conduct if number == 2} == {
        (1, Reason.COPIED)
    }
    assert what.delivered == {1: 1, 2: 2, 3: 2, 4: 2}


def test_values_of_many_rounds_can_be_written_down() -> None:
    rounds = 400
    record = record_of(rounds=1, method="samples")
    (one,) = record.rounds
    model = record.models[0]
    many = tuple(
        replace(
            one,
            updates=tuple(replace(given, samples=given.samples + number) for given in one.updates),
            aggregated=model,
        )
        for number in range(rounds)
    )
    what = due(
        replace(
            record,
            rounds=many,
            models=(model,) * (rounds + 1),
            terms=replace(record.terms, by_groups=True, budget=10**9),
        ),
        additive,
    )
    for value in what.contributions.values():
        assert len(str(value)) < 40
    assert float(sum(what.contributions.values())) == pytest.approx(rounds)


def test_nothing_is_held_against_updates_that_began_with_a_false_model() -> None:
    broken = np.full(SIZE, np.nan)
    record = with_model(record_of(u1_2=broken, u1_3=broken), 2, broken)
    what = due(record, additive)
    assert what.delivered == dict.fromkeys(WORTH, 3)
    assert what.conduct == ()
    assert due(with_model(record, 0, broken), additive).delivered == dict.fromkeys(WORTH, 3)


@pytest.mark.parametrize(
    ("method", "contributions"),
    [
        ("leave_one_out", {1: 90, 2: 30, 3: -15, 4: 60}),
        ("samples", {id_: Fraction(3 * id_, 10) for id_ in WORTH}),
    ],
)
def test_contributions_are_measured_by_the_method_that_the_terms_name(
    method: Method, contributions: dict[int, Fraction]
) -> None:
    assert due(record_of(method=method), additive).contributions == contributions


def test_many_players_are_valued_by_permutations_from_the_rounds_seed() -> None:
    count = shapley.MOST_EXACT + 1
    rng = np.random.default_rng(0)
    model = rng.normal(size=SIZE)
    vectors = [model + rng.normal(size=SIZE) for _ in range(count)]
    aggregated = np.mean(vectors, axis=0)
    updates = tuple(Submission(place, 1, vector) for place, vector in enumerate(vectors))
    round_ = TaskRound(updates, frozenset(range(count)), aggregated, bytes(32), {})
    subtasks = tuple(Subtask(place, account(place + 1), account(place + 1), 0, 0) for place in range(count))
    record = Record(
        Terms(7, 100, 100, "shapley", 20), subtasks, (round_,), (model, aggregated), key_revealed=True
    )

    def pairs(_: int, coalitions: Sequence[Coalition]) -> Mapping[Coalition, int]:
        return {coalition: len(coalition) ** 2 for coalition in coalitions}

    what = due(record, pairs)
    assert sum(what.contributions.values()) == count**2
    assert what.rows == due(record, pairs).rows
    other = replace(record, rounds=(replace(round_, seed=b"\1" * 32),))
    assert due(other, pairs).contributions != what.contributions
    unknown = due(record, lambda _, some: None if len(some) > 1 else pairs(_, some))
    assert unknown.rows is None


# Sums only


def test_groups_share_their_value_evenly_and_everybody_is_paid_its_fee() -> None:
    record = record_of(rounds=1, by_groups=True)
    what = due(record, additive)
    groups = deal(sorted(WORTH), record.rounds[0].seed)
    assert what.contributions == {
        member: Fraction(sum(WORTH[other] for other in group), 2) for group in groups for member in group
    }
    assert what.delivered == dict.fromkeys(WORTH, 1)
    assert audit(record, proposal_of(record), additive).verdict == Verdict.RIGHT


def test_who_adds_is_paid_its_fee_and_contributes_nothing() -> None:
    record = record_of(rounds=2, by_groups=True)
    for number in (1, 2):
        record = with_round(record, number, adders=(9,))
    adder = Subtask(9, account(9), account(9), 7, 0)
    record = replace(record, subtasks=(*record.subtasks, adder))
    what = due(record, additive)
    assert what.delivered[9] == 2
    assert what.contributions[9] == 0
    assert what.rows is not None
    assert next(row.amount for row in what.rows if row.account == adder.computer) == 14
    false = due(with_round(record, 1, aggregated=np.zeros(SIZE)), additive)
    assert false.rows is not None
    assert next(row.amount for row in false.rows if row.account == adder.computer) == 14


def test_a_sum_that_is_not_served_is_missing_and_one_that_is_broken_is_worth_nothing() -> None:
    record = record_of(rounds=1, by_groups=True)
    one, other = record.rounds[0].sums
    missing = with_round(record, 1, sums={one: None, other: record.rounds[0].sums[other]})
    assert texts(missing, Kind.MISSING)[0].startswith("The sum of subtasks")
    broken = with_round(record, 1, sums={one: np.full(SIZE, np.inf), other: record.rounds[0].sums[other]})
    what = due(broken, additive)
    assert {subtask for subtask, value in what.contributions.items() if value} == set(other)


def test_too_few_for_a_group_are_paid_their_fees_and_are_worth_nothing() -> None:
    record = record_of(rounds=1, by_groups=True)
    model = record.models[0]
    alone = with_round(
        record, 1, updates=record.rounds[0].updates[:1], taken=frozenset(), sums={}, aggregated=model
    )
    what = due(with_model(alone, 1, model), additive)
    assert what.delivered == {1: 1}
    assert not any(what.contributions.values())
