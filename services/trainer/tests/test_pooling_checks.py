"""Planted duplicates, flips and poison are found, honest contributions are left in peace.

The shares in the comments were measured; the bounds leave room for other versions of the libraries.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from math import comb
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import sklearn.utils.parallel
import threadpoolctl

from agorai_shared.pool import Batch, CategoryColumn, Cell, Checks, NumberColumn, PoolDocument
from agorai_trainer import one_thread
from agorai_trainer.pooling import harm
from agorai_trainer.pooling.checking import REASONS, Suspicion, check, find, not_applied
from agorai_trainer.pooling.rarity import confidences, joint_confidences, p_values
from agorai_trainer.pooling.staking import Policy, challenge_of, stake

from .pools import (
    LOGISTIC,
    Rows,
    dealt,
    digits,
    flipped,
    jittered,
    samples,
    sentences,
    small,
    spread_of,
    told,
    tumours,
)

SETS = pytest.mark.parametrize("make", [digits, tumours, sentences], ids=lambda make: str(make.__name__))


def staked(found: tuple[Suspicion, ...]) -> set[int]:
    return set(stake(found, Policy()))


def look_denied(*_: object) -> None:
    raise PermissionError("a sandbox lets nobody read which libraries are loaded")


def places(count: int, share: float) -> list[int]:
    return sorted(np.random.default_rng(1).choice(count, round(count * share), replace=False).tolist())


@SETS
def test_an_honest_contribution_is_left_in_peace(make: Any) -> None:
    document, known, rows = dealt(make)
    wrongly = staked(check(document, known, Batch(1, samples(rows))))
    assert len(wrongly) <= 2  # measured: 0 of 100 of each


def test_a_check_looks_for_no_libraries_within_the_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sklearn.utils.parallel, "_threadpool_controller", None)
    one_thread.libraries.cache_clear()
    one_thread.libraries()
    monkeypatch.setattr(threadpoolctl.ThreadpoolController, "__init__", look_denied)
    document, known, rows = dealt(digits)
    mixed = [*noise(document, rows, 0)[:20], *flipped(document, rows[20:], [0])]
    reasons = {one.reason for one in check(document, known, Batch(1, samples(mixed)))}
    assert {"unlike", "label"} <= reasons


@pytest.mark.parametrize(("make", "least"), [(digits, 0.7), (tumours, 0.7)])
def test_flipped_labels_are_found_and_corrected(make: Any, least: float) -> None:
    document, known, rows = dealt(make)
    planted = places(len(rows), 0.1)
    noisy = flipped(document, rows, planted)
    found = tuple(find(document, known, Batch(1, samples(noisy)), frozenset({"label"})))
    named = staked(found)
    assert len(named & set(planted)) >= least * len(planted)  # measured: 9 and 10 of 10
    assert len(named - set(planted)) <= 0.03 * len(rows)  # measured: 0
    corrected = [one for one in found if one.correction is not None and one.row in planted]
    assert corrected
    right = [one for one in corrected if one.correction == rows[one.row]]
    assert len(right) >= 0.9 * len(corrected)
    assert all(one.label == rows[one.row][-1] and one.label in one.explanation for one in right)


def test_a_batch_that_is_wrong_throughout_does_not_persuade_its_judge() -> None:
    document, known, rows = dealt(digits)
    noisy = Batch(1, samples(flipped(document, rows, list(range(len(rows))))))
    assert len(staked(find(document, known, noisy, frozenset({"label"})))) >= 65  # measured: 86 of 100


def test_a_batch_that_is_wrong_throughout_and_larger_than_what_is_known_is_seen_by_the_harm_it_does() -> None:
    document, known, rows = dealt(digits, 300)
    few = [Batch(0, samples(list(known[0].samples.rows[:200])))]
    noisy = Batch(1, samples(flipped(document, rows, list(range(len(rows))))))
    assert len(staked(find(document, few, noisy, frozenset({"harmful"})))) >= 240  # measured: 299 of 300


@SETS
def test_duplicates_are_found_and_what_they_repeat(make: Any) -> None:
    document, known, rows = dealt(make)
    rows = [*rows[:80], *known[0].samples.rows[5:15], *rows[:10]]
    found = tuple(find(document, known, Batch(1, samples(rows)), frozenset({"duplicate"})))
    assert [one.row for one in found] == list(range(80, 100))
    assert [(one.origin.contribution, one.origin.row) for one in found if one.origin] == [
        *((0, row) for row in range(5, 15)),
        *((1, row) for row in range(10)),
    ]
    assert {one.confidence for one in found} == {1.0}


@pytest.mark.parametrize("make", [digits, tumours])
def test_near_duplicates_of_known_samples_and_of_one_another_are_found(make: Any) -> None:
    document, known, rows = dealt(make)
    spread = spread_of(list(known[0].samples.rows))
    spam = [jittered(known[0].samples.rows[place], spread, place) for place in range(10)]
    spam += [jittered(rows[5], spread, 100 + place) for place in range(10)]
    found = tuple(
        find(document, known, Batch(1, samples([*rows[:80], *spam])), frozenset({"near_duplicate"}))
    )
    named = staked(found)
    assert len(named & set(range(80, 100))) >= 18  # measured: all 20
    assert len(named - set(range(80, 100))) <= 2  # measured: 0
    assert 5 not in named  # the first of those alike
    origins = {one.row: one.origin for one in found if one.origin is not None}
    assert all(
        origins[row].contribution == 0 and origins[row].row == row - 80 for row in named if 80 <= row < 90
    )
    assert all(origins[row].contribution == 1 for row in named if row >= 90)


def test_a_text_repeated_in_other_spelling_or_with_a_word_changed_is_found() -> None:
    document, known, rows = dealt(sentences)
    spam: Rows = []
    for number, (text, label) in enumerate(known[0].samples.rows[:20]):
        shouted = f"  {text}!!".upper() if number % 2 else str(text).replace("the ", "this ", 1)
        spam.append((shouted, label))
    batch = Batch(1, samples([*rows[:80], *spam]))
    named = staked(find(document, known, batch, frozenset({"near_duplicate"})))
    assert named >= set(range(81, 100, 2))  # those that are alike but for case and signs
    assert len(named & set(range(80, 100))) >= 17  # measured: 20 of 20
    assert len(named - set(range(80, 100))) <= 2  # measured: 0


def test_the_more_is_pending_the_likelier_an_honest_sample_is_near_some_and_is_left_in_peace() -> None:
    document, rows = digits()
    known, pending = [Batch(0, samples(rows[:200]))], [Batch(1, samples(rows[200:600]))]
    reasons: Any = frozenset({"near_duplicate"})
    batches = [Batch(2, samples(rows[at : at + 60])) for at in range(600, 1_500, 60)]
    found = sum(len(find(document, known, batch, reasons, pending=pending)) for batch in batches)
    assert found <= 17  # measured: 12, and 6 with nothing pending


def noise(document: PoolDocument, rows: Rows, seed: int) -> Rows:
    """Give samples of the same labels whose features mean nothing: any words, any numbers of their columns."""
    random = np.random.default_rng(seed)
    if document.columns[0].kind == "text":
        words = sorted({word for text, _ in rows for word in str(text).split()})
        return [
            (" ".join(random.choice(words, len(str(text).split())).tolist()), label) for text, label in rows
        ]
    top = np.asarray([cells[:-1] for cells in rows]).max(axis=0)
    return [(*(random.random(len(top)) * top).tolist(), cells[-1]) for cells in rows]


@pytest.mark.parametrize("count", [20, 50])
@SETS
def test_samples_that_mean_nothing_are_unlike_all_known_ones(make: Any, count: int) -> None:
    document, known, rows = dealt(make)
    reasons: Any = frozenset({"unlike"})
    mixed = [*noise(document, rows, 0)[:count], *rows[count:]]
    found = find(document, known, Batch(1, samples(mixed)), reasons)
    named = staked(found)
    assert len(named & set(range(count))) >= 0.9 * count  # measured: all
    assert len(named - set(range(count))) <= 0.15 * (len(rows) - count)  # measured: 3 to 6
    assert "unlike all known samples: the nearest, row " in found[0].explanation


def test_few_samples_that_are_wrong_throughout_bear_each_other_out() -> None:
    document, known, rows = dealt(sentences, 80)
    reasons: Any = frozenset({"label"})
    named = alone = 0
    for at in range(0, 80, 10):
        wrong = flipped(document, rows[at : at + 10], list(range(10)))
        named += len(staked(find(document, known, Batch(1, samples(wrong)), reasons)))
        single = [*wrong[:1], *rows[at + 1 : at + 10]]
        alone += len(staked(find(document, known, Batch(1, samples(single)), reasons)))
    assert named >= 0.7 * 80  # measured: 70
    assert alone <= 0.5 * 8  # measured: 2


@pytest.mark.parametrize("make", [digits, tumours], ids=lambda make: str(make.__name__))
def test_small_honest_contributions_are_left_in_peace_too(make: Any) -> None:
    document, known, rows = dealt(make, 200)
    reasons: Any = REASONS - {"label", "harmful"}
    batches = [Batch(1, samples(rows[at : at + 5])) for at in range(0, 200, 5)]
    wrongly = sum(len(staked(find(document, known, batch, reasons))) for batch in batches)
    assert wrongly <= 0.02 * len(rows)  # measured: 0 and 1


def test_a_unit_mistaken_is_out_of_range() -> None:
    document, known, rows = dealt(tumours)
    rows = [
        (float(rows[place][0]) * 10, *rows[place][1:]) if place < 8 else rows[place] for place in range(100)
    ]
    found = tuple(find(document, known, Batch(1, samples(rows)), frozenset({"out_of_range"})))
    assert set(range(8)) <= staked(found)
    assert "column 'f0'" in found[0].explanation
    assert len(staked(found)) <= 10  # measured: 8


def test_poison_that_no_single_sample_shows_is_seen_by_the_harm_it_does() -> None:
    document, known, rows = dealt(sentences, 400)
    planted = set(places(len(rows), 0.7))
    poisoned = Batch(1, samples(flipped(document, rows, sorted(planted))))
    found = tuple(find(document, known, poisoned, frozenset({"harmful"})))
    named = staked(found)
    assert len(named & planted) >= 0.5 * len(planted)  # measured: 233 of 280
    assert len(named & planted) >= 0.8 * len(named)  # measured: 233 of 253
    assert "fewer of them right" in found[0].explanation
    honest = Batch(1, samples(rows))
    assert not list(find(document, known, honest, frozenset({"harmful"})))


def test_samples_of_the_hidden_test_set_are_seen_by_who_has_it() -> None:
    document, known, rows = dealt(digits, 300)
    test = samples(rows[100:])
    batch = Batch(1, samples([*rows[:90], *rows[100:110]]))
    named = staked(find(document, known, batch, frozenset({"test_like"}), test=test))
    assert named >= set(range(90, 100))
    assert len(named) <= 13  # measured: 11
    assert not list(find(document, known, batch, frozenset({"test_like"})))


def test_where_known_samples_repeat_each_other_repeating_is_no_fault() -> None:
    yes_or_no = ("no", "yes")
    columns = tuple(CategoryColumn(name=name, values=yes_or_no) for name in "abcdy")
    document = PoolDocument(
        name="Answers", columns=columns, target="y", initial_samples=small()[0].initial_samples, rule=LOGISTIC
    )
    answers = np.random.default_rng(0).integers(0, 2, (400, 5))
    rows: Rows = [tuple(yes_or_no[answer] for answer in line) for line in answers.tolist()]
    known, batch = [Batch(0, samples(rows[:300]))], Batch(1, samples(rows[300:]))
    assert not list(find(document, known, batch, frozenset({"duplicate", "near_duplicate"})))


def test_where_a_few_known_samples_repeat_each_other_copies_are_found_all_the_same() -> None:
    document, rows = digits()
    known = [Batch(0, samples([*rows[:597], *rows[:3]]))]  # one in a hundred has a twin
    reasons: Any = frozenset({"duplicate"})
    copies = Batch(9, samples(rows[100:200]))
    assert len(staked(find(document, known, copies, reasons))) == 100
    honest = Batch(9, samples([*rows[600:699], rows[5]]))
    assert not find(document, known, honest, reasons)
    # whoever has many wait does not excuse copies of others, nor do copies of what waits excuse each other
    pending = [Batch(number, samples(rows[700:900])) for number in range(1, 9)]
    assert len(staked(find(document, known, copies, reasons, pending=pending))) == 100
    again = Batch(9, samples(rows[700:760]))
    assert len(staked(find(document, known, again, reasons, pending=pending))) == 60
    same = Batch(9, samples(rows[950:960] * 10))
    assert len(staked(find(document, known, same, reasons))) == 90


@pytest.mark.parametrize("grains", [1, 6])
def test_a_grain_in_a_column_that_is_constant_does_not_make_copies_with_dust_there_new(grains: int) -> None:
    document, known, rows = dealt(digits)
    constant = 32
    assert {cells[constant] for cells in known[0].samples.rows} == {0.0}

    def with_dust(cells: tuple[Cell, ...], dust: float) -> tuple[Cell, ...]:
        return (*cells[:constant], dust, *cells[constant + 1 :])

    known = [*known, Batch(1, samples([with_dust(cells, 1e-6) for cells in rows[:grains]]))]
    copied = known[0].samples.rows[100:150]
    copies = samples([with_dust(cells, 3e-7 + place * 1e-10) for place, cells in enumerate(copied)])
    assert len(staked(find(document, known, Batch(2, copies), frozenset({"near_duplicate"})))) == 50


def test_what_is_not_rare_among_known_samples_is_not_suspected_of_a_single_one_either() -> None:
    document = PoolDocument(
        name="Points",
        columns=(NumberColumn(name="at", low=0, high=1_000), CategoryColumn(name="y", values=("no", "yes"))),
        target="y",
        initial_samples=small()[0].initial_samples,
        rule=LOGISTIC,
    )
    pairs = [place + near for place in range(300, 310) for near in (0.0, 0.1)]
    reasons = frozenset({"near_duplicate"})
    alone: Rows = [(float(place), "no") for place in range(300)]
    paired: Rows = [*alone, *((place, "yes") for place in pairs)]
    new = Batch(1, samples([(7.2, "no")]))
    assert find(document, [Batch(0, samples(alone))], new, reasons)  # type: ignore[arg-type]
    assert not find(document, [Batch(0, samples(paired))], new, reasons)  # type: ignore[arg-type]


def test_rows_found_wrong_before_are_neither_named_nor_compared_with() -> None:
    document, known, rows = dealt(tumours, 4)
    batch = Batch(1, samples([rows[0], rows[0], rows[1], known[0].samples.rows[3]]))
    reasons = frozenset({"duplicate"})
    assert [one.row for one in find(document, known, batch, reasons)] == [1, 3]  # type: ignore[arg-type]
    rest = replace(batch, out=frozenset({0}))
    known_rest = [replace(known[0], out=frozenset({3}))]
    assert not list(find(document, known_rest, rest, reasons))  # type: ignore[arg-type]
    assert not check(document, known, replace(batch, out=frozenset(range(4))))
    assert not check(document, [], batch)


def test_what_was_added_before_and_is_not_accepted_yet_is_not_to_be_repeated_either() -> None:
    document, known, rows = dealt(tumours)
    spread = spread_of(list(known[0].samples.rows))
    pending = [Batch(1, samples(rows[:20]))]
    again = Batch(2, samples([*rows[:5], *(jittered(rows[place], spread, place) for place in range(5, 20))]))
    reasons = frozenset({"duplicate", "near_duplicate"})
    assert not list(find(document, known, again, reasons))  # type: ignore[arg-type]
    found = list(find(document, known, again, reasons, pending=pending))  # type: ignore[arg-type]
    assert [one.row for one in found] == list(range(20))
    assert {one.origin and one.origin.contribution for one in found} == {1}


def test_of_a_few_known_samples_only_exact_duplicates_are_said() -> None:
    document, rows = small()
    spam = [*rows[:2], (10.001, "north", "Flat 0", "no"), (500.0, "north", "flat", "no")]
    found = check(document, [Batch(0, samples(rows))], Batch(4, samples(spam)))
    assert [(one.row, one.reason) for one in found] == [(0, "duplicate"), (1, "duplicate")]
    assert "row 0 of the initial samples" in found[0].explanation
    again = check(
        document, [Batch(0, samples(rows)), Batch(4, samples(spam[2:]))], Batch(5, samples(spam[2:]))
    )
    assert "row 0 of contribution 4" in again[0].explanation


def test_what_too_few_samples_are_known_for_is_said() -> None:
    document, rows = small()
    known, batch = [Batch(0, samples(rows))], Batch(1, samples(rows[:3]))
    told = not_applied(document, known, batch)
    assert told.keys() == {"near_duplicate", "unlike", "out_of_range", "label"}
    assert told["unlike"].startswith("60 known samples are measured, and it takes 199")
    assert told["label"].startswith("60 known samples are measured, and it takes 99")
    assert not_applied(document, known, batch, test=samples(rows[:5]))["test_like"] == told["unlike"]
    assert not_applied(document, known, replace(batch, out=frozenset({0, 1, 2}))) == {}
    digit, enough, given = dealt(digits)
    assert not_applied(digit, enough, Batch(1, samples(given)), test=samples(given)) == {}
    strict = digit.model_copy(update={"checks": Checks(rare=0.0005)})
    few = not_applied(strict, [Batch(0, samples(digits()[1]))], Batch(1, samples(given)))
    assert few["unlike"].startswith("1,000 known samples are measured, and it takes 1,999")
    assert "out_of_range" in few  # of all 1,797 known ones


def _spoilt(reason: str) -> tuple[PoolDocument, Rows, Batch]:
    document, rows = tumours()
    known, cells = rows[:200], rows[300]
    changed: Any = {
        "near_duplicate": (*(float(cell) * (1 + 1e-9) for cell in rows[0][:-1]), rows[0][-1]),
        "unlike": (*(float(cell) * 5 for cell in cells[:-1]), cells[-1]),
        "out_of_range": (float(cells[0]) * 15, *cells[1:]),
        "test_like": cells,
    }[reason]
    return document, known, Batch(1, samples([changed]))


@pytest.mark.parametrize("reason", ["near_duplicate", "unlike", "out_of_range", "test_like"])
def test_a_reason_is_not_applied_up_to_just_as_many_known_samples_as_are_said(reason: Any) -> None:
    document, rows, batch = _spoilt(reason)
    test = samples([tumours()[1][300]])
    for count in (198, 199):
        known = [Batch(0, samples(rows[:count]))]
        found = find(document, known, batch, frozenset({reason}), test=test)
        assert (reason in not_applied(document, known, batch, test=test)) is not bool(found), count


def test_labels_are_not_judged_up_to_just_as_many_known_samples_as_are_said() -> None:
    document, rows = digits()
    ones = [cells for cells in rows if str(cells[-1]) in "01"]
    batch = Batch(1, samples([(*ones[150][:-1], str(1 - int(ones[150][-1])))]))
    for count in (98, 99):
        known = [Batch(0, samples(ones[:count]))]
        found = find(document, known, batch, frozenset({"label"}))
        assert ("label" in not_applied(document, known, batch)) is not bool(found), count


def test_classes_with_few_known_samples_are_named() -> None:
    document, rows = digits()
    ones = [cells for cells in rows if str(cells[-1]) in "01"][:200]
    twos = [cells for cells in rows if cells[-1] == "2"]
    batch = Batch(1, samples([*twos[10:12], *ones[:2]]))
    for count, named in ((4, True), (5, False)):
        known = [Batch(0, samples([*ones, *twos[:count]]))]
        told = not_applied(document, known, batch).get("label", "")
        assert (told == "samples called '2' are not judged: it takes 5 known ones of their class") is named
    only = not_applied(document, [Batch(0, samples([*ones[:1], *twos]))], batch)
    assert only["label"] == "it takes two classes with 5 known samples"


@pytest.mark.parametrize(
    ("of_class", "tried", "told"),
    [((30,), False, True), ((2, 30), False, True), ((3, 4), True, True), ((3, 5), True, False)],
)
def test_harm_is_not_told_where_too_few_samples_are_known(
    of_class: tuple[int, ...], tried: bool, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    document, rows = digits()
    by_class = [[cells for cells in rows if cells[-1] == label] for label in "01"]
    of_each = [given[:count] for count, given in zip(of_class, by_class, strict=False)]
    known = [Batch(0, samples([cells for given in of_each for cells in given]))]
    batch = Batch(1, samples(flipped(document, by_class[0][100:150], list(range(50)))))
    assert ("harmful" in not_applied(document, known, batch)) is told
    assert not told or not find(document, known, batch, frozenset({"harmful"}))
    trial = Mock(wraps=harm._Trial)
    monkeypatch.setattr(harm, "_Trial", trial)
    find(document, known, batch, frozenset({"harmful"}))
    assert trial.called is tried


def test_what_is_checked_and_trained_is_the_same_in_another_process() -> None:
    found = subprocess.run(
        [sys.executable, "-c", "import pools; print(pools.told())"],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert found.stdout.strip() == told()


def test_a_stake_is_much_surer_than_where_it_gains_on_average() -> None:
    found = [Suspicion(row, "other", "", sure) for row, sure in ((3, 0.96), (1, 0.92), (2, 0.91), (1, 0.5))]
    assert stake(found, Policy()) == (1, 3)
    assert Policy(caution=1).threshold("label") == pytest.approx(2 / 3)
    assert Policy(caution=1).threshold("unlike") == pytest.approx(5 / 6)
    assert stake(found, Policy(stake=2)) == (3,)  # after a challenge that failed
    assert stake(found, Policy(stake=4)) == ()
    assert stake([], Policy()) == ()


def test_a_challenge_names_each_row_once_for_its_surest_reason() -> None:
    document, rows = small()
    batch = Batch(1, samples(rows[:3]))
    better = (*rows[2][:-1], "yes")
    found = [
        Suspicion(2, "label", "looks heated", 0.9, label="yes", correction=better),
        Suspicion(2, "harmful", "with others", 0.85),
        Suspicion(0, "harmful", "with others", 0.85),
    ]
    challenge = challenge_of(document, batch, found, (2, 0))
    assert [(one.row, one.reason, one.label) for one in challenge.wrong] == [
        (0, "harmful", None),
        (2, "label", "yes"),
    ]
    assert challenge.corrected == "area,side,note,heated\n12,north,flat 2,yes\n"
    odd = [*found, Suspicion(2, "unlike", "far from all", 0.1)]
    assert challenge_of(document, batch, odd, (2, 0)) == challenge.model_copy(update={"corrected": ""})
    for strange, left in (((1,), batch), ((0, 5), batch), ((2,), replace(batch, out=frozenset({2})))):
        with pytest.raises(ValueError, match="is not suspected"):
            challenge_of(document, left, found, strange)


def test_p_values_are_shares_and_confidences_fall_with_them() -> None:
    usual = np.arange(99.0)
    values = p_values(usual, np.array([98.5, 98.0, 50.0, -1.0]))
    assert values.tolist() == [0.01, 0.02, 0.5, 1.0]
    assert confidences(values).tolist() == pytest.approx([0.5, 0.5, 0, 0])  # as two of fifty
    hundred = np.concatenate([values, np.ones(96)])
    assert confidences(hundred)[:4].tolist() == pytest.approx([0, 0, 0, 0])
    assert confidences(np.repeat(values[:1], 100)).tolist() == pytest.approx([0.99] * 100)
    honest = np.random.default_rng(0).random((200, 50))
    share = np.mean([(confidences(line) >= 0.8) & (line <= 0.005) for line in honest])
    assert share <= 0.005


def test_a_batch_bears_its_samples_out_if_it_is_unlike_what_is_known() -> None:
    usual, seen = np.arange(1_000.0), np.array([999.5, *[900.5] * 7, *[0.0] * 2])
    assert joint_confidences(usual, np.arange(0.0, 1_000, 100), 900, 0.005) is None
    sure = joint_confidences(usual, seen, 900, 0.005)
    assert sure is not None
    honest = (1 + 2) / (10 * 900 / 1_001)  # of which a tenth would reach the cut
    chance = sum(comb(108, count) * comb(902, 10 - count) for count in (8, 9, 10)) / comb(1_010, 10)
    rare, common = 0.1 * 1_001, 0.7 / (100 / 1_001)  # densities
    assert 50 * chance < honest / rare
    assert sure.tolist() == pytest.approx([1 - honest / rare, *[1 - honest / common] * 7, 0, 0])
    assert joint_confidences(usual[:198], seen, 180, 0.005) is None  # too few are known
    # so few do not say more of each other than a batch of fifty with as rare ones would
    pair = (
        joint_confidences(usual, np.array([950.0]), 999, 0.005),
        joint_confidences(usual, np.array([999.0]), 999, 0.005),
    )
    assert pair[0] is None
    assert pair[1] is not None
    assert pair[1].tolist() == pytest.approx([1 - 50 * 2 / 1_001])
    random = np.random.default_rng(0)
    flagged = [
        joint_confidences(usual, random.random(10) * 1_000, 900, 0.005) is not None for _ in range(2_000)
    ]
    assert np.mean(flagged) <= 0.005
