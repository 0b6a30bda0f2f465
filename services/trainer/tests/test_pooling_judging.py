"""A challenge is right if every sample named is wrong as is said and every corrected one is good."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agorai_shared.pool import Batch, Challenge, Checks, Origin, PoolDocument, Wrong, write_samples
from agorai_trainer.pooling.checking import check, find
from agorai_trainer.pooling.judging import judge
from agorai_trainer.pooling.staking import Policy, challenge_of, stake

from .pools import Rows, dealt, flipped, jittered, samples, sentences, small, spread_of, tumours

REPEATED = Wrong(row=1, reason="duplicate", origin=Origin(contribution=0, row=5))


def spoilt(make: Any) -> tuple[PoolDocument, list[Batch], Batch]:
    """Give a pool and a contribution of ten flipped labels, ten copies and eighty good samples."""
    document, known, rows = dealt(make)
    rows = [*flipped(document, rows[:90], list(range(10))), *known[0].samples.rows[:10]]
    return document, known, Batch(1, samples(rows))


@pytest.mark.parametrize("make", [tumours, sentences], ids=lambda make: str(make.__name__))
def test_who_stakes_by_the_rules_is_confirmed_although_others_were_accepted_since(make: Any) -> None:
    document, known, batch = spoilt(make)
    found = check(document, known, batch)
    assert {"duplicate", "label"} <= {one.reason for one in found}
    assert [one.confidence for one in found] == sorted((one.confidence for one in found), reverse=True)
    rows = stake(found, Policy())
    assert set(range(90, 100)) <= set(rows)
    _, _, later = dealt(make, 30, 100)
    verdict = judge(
        document, [*known, Batch(2, samples(later))], batch, challenge_of(document, batch, found, rows)
    )
    assert verdict.right, verdict.explanation
    assert f"All {len(rows)} samples" in verdict.explanation


def test_what_only_a_contribution_as_a_whole_shows_is_confirmed_too() -> None:
    document, known, rows = dealt(sentences, 20)
    batch = Batch(1, samples(flipped(document, rows, list(range(20)))))
    found = find(document, known, batch, frozenset({"label"}))
    named = stake(found, Policy())
    assert len(named) >= 10
    challenge = challenge_of(document, batch, found, named)
    assert judge(document, known, batch, challenge).right
    single = Batch(
        1, samples([batch.samples.rows[row] if row == named[-1] else rows[row] for row in range(20)])
    )
    verdict = judge(document, known, single, Challenge(wrong=challenge.wrong[-1:]))
    assert not verdict.right


def test_one_good_sample_among_those_named_makes_a_challenge_wrong() -> None:
    document, known, batch = spoilt(tumours)
    challenge = challenge_of(
        document, batch, find(document, known, batch, frozenset({"duplicate"})), range(90, 100)
    )
    assert judge(document, known, batch, challenge).right
    good = Wrong(row=50, reason="label", label="0" if batch.samples.rows[50][-1] == "1" else "1")
    verdict = judge(document, known, batch, Challenge(wrong=(good, *challenge.wrong)))
    assert not verdict.right
    assert verdict.explanation.startswith("Row 50 is called wrong (label)")


def copied() -> tuple[PoolDocument, list[Batch], Batch]:
    """Give a small pool and a contribution whose second sample is the sixth initial one, and whose third is new."""
    document, rows = small()
    batch = Batch(1, samples([(99.0, "north", "a new one", "no"), rows[5], (98.0, "south", "another", "no")]))
    return document, [Batch(0, samples(rows))], batch


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (REPEATED.model_copy(update={"row": 0}), "Row 0 is called wrong"),
        (REPEATED.model_copy(update={"row": 7}), "Row 7 is no sample"),
        (REPEATED.model_copy(update={"origin": Origin(contribution=0, row=6)}), "does not repeat what"),
        (REPEATED.model_copy(update={"origin": Origin(contribution=3, row=5)}), "does not repeat what"),
        (REPEATED.model_copy(update={"origin": Origin(contribution=1, row=1)}), "does not repeat what"),
        (Wrong(row=1, reason="label", label="yes"), "the rules do not bear that out"),
        (Wrong(row=1, reason="out_of_range"), "the rules do not bear that out"),
        (Wrong(row=1, reason="harmful"), "the rules do not bear that out"),
        (Wrong(row=1, reason="test_like"), "the rules do not bear that out"),
        (Wrong(row=1, reason="other", note="ugly"), "no rule tells"),
        (Wrong(row=1, reason="unreadable"), "can be read"),
    ],
)
def test_what_is_not_as_the_challenge_says_is_not_confirmed(wrong: Wrong, says: str) -> None:
    document, known, batch = copied()
    verdict = judge(document, known, batch, Challenge(wrong=(wrong,)))
    assert not verdict.right
    assert says in verdict.explanation


def test_a_sample_found_wrong_before_cannot_be_staked_on_again() -> None:
    document, known, batch = copied()
    challenge = Challenge(wrong=(REPEATED,))
    assert judge(document, known, batch, challenge).right
    verdict = judge(document, known, replace(batch, out=frozenset({1})), challenge)
    assert "was found wrong before" in verdict.explanation


def test_a_copy_may_be_called_a_near_one_too() -> None:
    document, known, batch = copied()
    near = Wrong(row=1, reason="near_duplicate", origin=Origin(contribution=0, row=5))
    assert judge(document, known, batch, Challenge(wrong=(near,))).right


def test_near_ones_within_a_contribution_are_confirmed_but_for_the_first() -> None:
    document, known, rows = dealt(tumours, 20)
    spread = spread_of(list(known[0].samples.rows))
    batch = Batch(1, samples([*rows, *(jittered(rows[0], spread, seed) for seed in range(5))]))
    wrong = tuple(
        Wrong(row=row, reason="near_duplicate", origin=Origin(contribution=1, row=0)) for row in range(20, 25)
    )
    assert judge(document, known, batch, Challenge(wrong=wrong)).right
    first = Wrong(row=0, reason="near_duplicate", origin=Origin(contribution=1, row=20))
    assert not judge(document, known, batch, Challenge(wrong=(first, *wrong))).right
    backwards = wrong[0].model_copy(update={"origin": Origin(contribution=1, row=21)})
    assert not judge(document, known, batch, Challenge(wrong=(backwards,))).right


def test_who_has_the_test_set_can_confirm_that_samples_are_of_it() -> None:
    document, known, rows = dealt(tumours, 150)
    test, batch = samples(rows[100:]), Batch(1, samples([*rows[:20], *rows[100:105]]))
    challenge = Challenge(wrong=tuple(Wrong(row=row, reason="test_like") for row in range(20, 25)))
    assert judge(document, known, batch, challenge, test=test).right
    assert not judge(document, known, batch, challenge).right


@pytest.mark.parametrize(
    ("corrected", "says"),
    [
        ([(97.0, "south", "a third", "no")], ""),
        (
            [(97.0, "south", "a third", "no"), (96.0, "south", "a fourth", "no")],
            "2 corrected samples for 1 wrong",
        ),
        ([(97.0, "east", "a third", "no")], "cannot be read: Row 0"),
        ([small()[1][9]], "suspicious itself: It repeats row 9 of the initial samples"),
        ([(98.0, "south", "another", "no")], "suspicious itself: It repeats row 2 of contribution 1"),
    ],
)
def test_corrected_samples_fit_the_pool_and_are_not_suspicious_themselves(corrected: Rows, says: str) -> None:
    document, known, batch = copied()
    text = write_samples(document, samples(corrected)).decode()
    verdict = judge(document, known, batch, Challenge(wrong=(REPEATED,), corrected=text))
    assert verdict.right == (not says)
    assert says in verdict.explanation


def test_a_corrected_sample_may_be_like_the_one_that_it_replaces() -> None:
    document, known, rows = dealt(tumours, 60)
    batch = Batch(1, samples(flipped(document, rows, list(range(5)))))
    found = find(document, known, batch, frozenset({"label"}))
    challenge = challenge_of(document, batch, found, set(stake(found, Policy())) & set(range(5)))
    assert challenge.corrected
    verdict = judge(document, known, batch, challenge)
    assert verdict.right, verdict.explanation


def test_a_contribution_that_cannot_be_read_is_wrong_as_a_whole() -> None:
    document, known, _ = copied()
    unreadable = tuple(Wrong(row=row, reason="unreadable") for row in range(2))
    assert judge(document, known, None, Challenge(wrong=unreadable)).right
    mixed = Challenge(wrong=(unreadable[0], REPEATED))
    assert "does not say so of each row" in judge(document, known, None, mixed).explanation


def test_a_suspicion_that_the_document_is_not_sure_of_is_not_confirmed() -> None:
    document, rows = small()
    often = [*rows, rows[0], rows[1]]  # of 62 initial samples four are there twice: copies are usual here
    document = document.model_copy(update={"checks": Checks(rare=0.1)})
    known, batch = [Batch(0, samples(often))], copied()[2]
    (found,) = find(document, known, batch, frozenset({"duplicate"}))
    assert 0.7 < found.confidence < 0.85
    assert judge(document, known, batch, Challenge(wrong=(REPEATED,))).right
    unsure = Batch(
        1, samples([*batch.samples.rows, *((float(90 + row), "south", "more", "no") for row in range(3))])
    )
    assert not judge(document, known, unsure, Challenge(wrong=(REPEATED,))).right
