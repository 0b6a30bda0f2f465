"""Exact values against their definition and axioms, estimates against exact values."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agorai_reward import shapley
from agorai_reward.shapley import (
    BATCH,
    Estimate,
    Permutations,
    StopRuleError,
    TooFewPlayersError,
    TooManyPlayersError,
    UnknownWorthError,
)

Game = dict[frozenset[int], int]
SEED = bytes(range(32))


@st.composite
def games(draw: st.DrawFn, most: int = 5) -> tuple[tuple[int, ...], Game]:
    players = tuple(range(draw(st.integers(1, most))))
    worths = {coalition: draw(st.integers(-400, 400)) for coalition in shapley.coalitions(players)}
    return players, worths


def by_definition(players: tuple[int, ...], worths: Mapping[frozenset[int], int]) -> dict[int, Fraction]:
    sums = Counter(dict.fromkeys(players, 0))
    for order in itertools.permutations(players):
        for place, player in enumerate(order):
            before = frozenset(order[:place])
            sums[player] += worths[before | {player}] - worths.get(before, 0)
    return {player: Fraction(sums[player], math.factorial(len(players))) for player in players}


def estimate(
    players: tuple[int, ...],
    worths: Game,
    seed: bytes = SEED,
    *,
    most: int = 200,
    width: int = 0,
    tolerance: int = 0,
) -> Permutations[int]:
    drawn = Permutations(players, seed, most=most, width=Fraction(width), tolerance=tolerance)
    while wanted := drawn.wanted():
        drawn.take({coalition: worths[coalition] for coalition in wanted})
    return drawn


@settings(max_examples=25)
@given(games())
def test_exact_values_are_the_mean_gains_over_all_orders(game: tuple[tuple[int, ...], Game]) -> None:
    assert shapley.exact(*game) == by_definition(*game)


@settings(max_examples=25)
@given(games())
def test_exact_values_add_up_to_the_worth_of_all(game: tuple[tuple[int, ...], Game]) -> None:
    players, worths = game
    assert sum(shapley.exact(players, worths).values()) == worths[frozenset(players)]


@settings(max_examples=25)
@given(games(4))
def test_who_adds_nothing_is_worth_nothing_and_changes_nothing(game: tuple[tuple[int, ...], Game]) -> None:
    players, worths = game
    more = worths | {frozenset({9}): 0} | {coalition | {9}: worth for coalition, worth in worths.items()}
    assert shapley.exact((9, *players), more) == shapley.exact(players, worths) | {9: 0}


@settings(max_examples=25)
@given(games(4))
def test_two_who_add_the_same_are_worth_the_same(game: tuple[tuple[int, ...], Game]) -> None:
    """By how many of 7 and 8 are in a coalition, not by which."""
    players, worths = game
    both = (*players, 7, 8)

    def worth(coalition: frozenset[int]) -> int:
        rest = coalition - {7, 8}
        return (
            worths.get(rest, 0) + 31 * len(rest) * len(coalition & {7, 8}) + 5 * len(coalition & {7, 8}) ** 2
        )

    values = shapley.exact(both, {coalition: worth(coalition) for coalition in shapley.coalitions(both)})
    assert values[7] == values[8] > 0


@settings(max_examples=25)
@given(games(), st.randoms(use_true_random=False))
def test_values_of_two_games_add_up(game: tuple[tuple[int, ...], Game], random: object) -> None:
    players, one = game
    other = {coalition: random.randint(-400, 400) for coalition in one}  # type: ignore[attr-defined]
    summed = shapley.exact(players, {coalition: one[coalition] + other[coalition] for coalition in one})
    assert summed == {
        player: shapley.exact(players, one)[player] + shapley.exact(players, other)[player]
        for player in players
    }


def test_ten_players_are_valued_exactly_and_eleven_are_refused() -> None:
    ten = tuple(range(10))
    worths = {coalition: sum(coalition) for coalition in shapley.coalitions(ten)}
    assert len(worths) == 1023
    assert shapley.exact(ten, worths) == {player: player for player in ten}
    with pytest.raises(TooManyPlayersError, match="2047 coalitions"):
        shapley.exact(range(11), {})


def test_a_worth_that_is_missing_is_named() -> None:
    with pytest.raises(UnknownWorthError, match="1, 2 "):
        shapley.exact((1, 2), {frozenset({1}): 1, frozenset({2}): 1})


@settings(max_examples=25)
@given(games())
def test_leave_one_out_is_what_is_lost_without_each(game: tuple[tuple[int, ...], Game]) -> None:
    players, worths = game
    needed = {coalition: worths[coalition] for coalition in shapley.coalitions_without_one(players)}
    whole = worths[frozenset(players)]
    assert shapley.leave_one_out(players, needed) == {
        player: whole - worths.get(frozenset(players) - {player}, 0) for player in players
    }
    assert len(needed) <= len(players) + 1


def test_samples_share_a_round() -> None:
    assert shapley.by_samples({1: 30, 2: 10, 3: 0}) == {1: Fraction(3, 4), 2: Fraction(1, 4), 3: 0}
    assert shapley.by_samples({1: 0}) == {1: 0}


# Estimates


def majority(players: tuple[int, ...]) -> Game:
    """Worth 100 as soon as the weights, 1 to n, make more than half: gains are rare and far apart."""
    half = sum(player + 1 for player in players) / 2
    return {
        coalition: 100 * (sum(player + 1 for player in coalition) > half)
        for coalition in shapley.coalitions(players)
    }


def test_intervals_hold_the_exact_values_as_often_as_they_say() -> None:
    players = tuple(range(5))
    worths = majority(players)
    exact = shapley.exact(players, worths)
    hits = trials = 0
    for trial in range(60):
        drawn = estimate(players, worths, trial.to_bytes(32, "big"), most=200)
        for player, found in drawn.estimates().items():
            hits += abs(found.value - exact[player]) <= found.half_width
            trials += 1
    assert 0.93 <= hits / trials <= 0.985


@settings(max_examples=25)
@given(games(4))
def test_estimates_without_truncation_add_up_to_the_worth_of_all(game: tuple[tuple[int, ...], Game]) -> None:
    players, worths = game
    found = estimate(players, worths, most=BATCH).estimates()
    assert sum(each.value for each in found.values()) == worths[frozenset(players)]


def test_estimates_stop_by_width_and_by_count() -> None:
    players = tuple(range(6))
    wide, narrow = (estimate(players, majority(players), most=5_000, width=width) for width in (12, 4))
    assert BATCH <= wide.drawn < narrow.drawn < 5_000
    assert max(found.half_width for found in narrow.estimates().values()) <= 4
    assert estimate(players, majority(players), most=50).drawn == 50


def test_one_who_has_always_added_the_same_is_not_taken_for_certain() -> None:
    found = estimate(
        (1, 2), {frozenset({1}): 3, frozenset({2}): 4, frozenset({1, 2}): 7}, most=BATCH
    ).estimates()
    assert found[1] == Estimate(Fraction(3), Fraction(105, 1_000))  # 2.0930 / 20, rounded up


def test_intervals_are_students() -> None:
    """Of a gain of 2 to whoever comes last."""
    drawn = estimate((1, 2), {frozenset({1}): 0, frozenset({2}): 0, frozenset({1, 2}): 2}, most=BATCH)
    last = int(drawn.estimates()[1].value * BATCH / 2)
    variance = statistics.variance([2] * last + [0] * (BATCH - last))
    width = 2.09302 * math.sqrt((variance + 1 / BATCH) / BATCH)
    assert float(drawn.estimates()[1].half_width) == pytest.approx(width, abs=1e-3)


def test_the_same_seed_asks_for_the_same_and_gives_the_same_and_another_does_not() -> None:
    players = tuple(range(6))
    one, again, other = (estimate(players, majority(players), seed) for seed in (SEED, SEED, bytes(32)))
    assert one.estimates() == again.estimates() != other.estimates()


def test_truncation_asks_for_less_and_cuts_off_only_what_is_below_the_tolerance() -> None:
    players = tuple(range(8))
    worths = {coalition: min(100, 40 * len(coalition)) for coalition in shapley.coalitions(players)}
    asked: Counter[int] = Counter()
    for tolerance in (0, 1):
        drawn = Permutations(players, SEED, most=40, tolerance=tolerance)
        while wanted := drawn.wanted():
            asked[tolerance] += len(wanted)
            drawn.take(worths)
        assert sum(found.value for found in drawn.estimates().values()) == 100
    assert asked[1] < asked[0] / 2
    low = estimate(players, worths, most=40, tolerance=25).estimates()
    assert sum(found.value for found in low.values()) == 80


def test_no_coalition_is_wanted_twice() -> None:
    players = tuple(range(5))
    drawn = Permutations(players, SEED, most=100)
    seen: list[frozenset[int]] = []
    while wanted := drawn.wanted():
        seen += wanted
        drawn.take(majority(players))
    assert len(seen) == len(set(seen)) <= 31


def test_taking_again_behind_the_end_changes_nothing() -> None:
    drawn = estimate((1, 2), {frozenset({1}): 3, frozenset({2}): 4, frozenset({1, 2}): 9}, most=BATCH)
    before = drawn.estimates()
    drawn.take({})
    assert (drawn.estimates(), drawn.drawn) == (before, BATCH)


def test_estimates_want_all_that_was_asked_for() -> None:
    drawn = Permutations((1, 2), SEED, most=BATCH)
    with pytest.raises(UnknownWorthError):
        drawn.estimates()
    with pytest.raises(UnknownWorthError):
        drawn.take({})


@pytest.mark.parametrize("rule", [{"most": BATCH - 1}, {"width": Fraction(-1)}, {"tolerance": -1}])
def test_a_stop_rule_that_cannot_be_is_refused(rule: dict[str, int]) -> None:
    with pytest.raises(StopRuleError):
        Permutations((1, 2), SEED, **({"most": BATCH} | rule))  # type: ignore[arg-type]


def test_nobody_cannot_be_estimated_and_a_short_seed_is_none() -> None:
    with pytest.raises(TooFewPlayersError):
        Permutations((), SEED, most=BATCH)
    with pytest.raises(ValueError, match="32 bytes, not 3"):
        estimate((1, 2), majority((1, 2)), b"abc")


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(19, 2.09302), (29, 2.04523), (59, 2.00100), (199, 1.97196)]
)
def test_quantiles_are_those_in_students_table(freedom: int, quantile: float) -> None:
    assert float(shapley._student(freedom)) == pytest.approx(quantile, abs=3e-5)


# Groups


def test_a_groups_value_is_shared_evenly() -> None:
    values = {frozenset({1, 2}): Fraction(5), frozenset({3, 4, 5}): Fraction(-1)}
    shared = shapley.shared_evenly(values)
    assert shared == {1: Fraction(5, 2), 2: Fraction(5, 2)} | dict.fromkeys((3, 4, 5), Fraction(-1, 3))
