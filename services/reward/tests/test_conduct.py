"""What attackers are told by, and that honest providers are not, however unlike or alike their data."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.datasets import load_digits

from agorai_reward import conduct
from agorai_reward.conduct import (
    LEAST_SIZE,
    UNPAID,
    Misconduct,
    Reason,
    Round,
    Update,
    Vector,
    judge,
    same_model,
)

Rows = npt.NDArray[np.int64]
Forge = Callable[[list[Round], list[Vector]], Vector]
"""Makes what the last provider gives of the rounds before, this round's model and the honest updates."""


@lru_cache
def digits() -> tuple[Vector, Rows]:
    rows, labels = load_digits(return_X_y=True)
    return np.c_[rows / 16, np.ones(len(rows))], labels


def dealt(providers: int, alpha: float | None, seed: int) -> list[Rows]:
    """Deal digits by Dirichlet(alpha) for each label, or evenly; each provider gets five rows at least."""
    rng, labels = np.random.default_rng(seed), digits()[1]
    if alpha is None:
        return np.array_split(rng.permutation(len(labels)), providers)
    while True:
        parts: list[list[int]] = [[] for _ in range(providers)]
        for label in range(10):
            rows = rng.permutation(np.flatnonzero(labels == label))
            cuts = (np.cumsum(rng.dirichlet([alpha] * providers))[:-1] * len(rows)).astype(int)
            for part, some in zip(parts, np.split(rows, cuts), strict=True):
                part.extend(some)
        if min(map(len, parts)) >= 5:
            return [np.array(part) for part in parts]


def trained(model: Vector, rows: Rows, rng: np.random.Generator, batch: int) -> Vector:
    """Train softmax regression for one epoch."""
    features, labels = digits()
    weights = model.reshape(65, 10).copy()
    for some in np.array_split(rng.permutation(rows), -(-len(rows) // batch)):
        odds = np.exp(features[some] @ weights)
        odds /= odds.sum(axis=1, keepdims=True)
        odds[np.arange(len(some)), labels[some]] -= 1
        weights -= 0.2 * features[some].T @ odds / len(some)
    return weights.ravel()


def play(
    providers: int, alpha: float | None, *, forge: Forge | None = None, rounds: int = 6, batch: int = 32
) -> tuple[list[Round], list[Misconduct]]:
    """Train for some rounds by federated averaging, of what is not called; give what was found."""
    parts, rng = dealt(providers, alpha, providers), np.random.default_rng(0)
    model = np.zeros(650)
    played: list[Round] = []
    found: list[Misconduct] = []
    for _ in range(rounds):
        vectors = [trained(model, part, rng, batch) for part in parts]
        played.append(Round(model, ()))
        if forge and len(played) > 1:
            vectors[-1] = forge(played, vectors)
        played[-1] = Round(model, tuple(Update(place, vector) for place, vector in enumerate(vectors)))
        found += judge(played)
        called = {each.subtask for each in judge(played)}
        kept = [place for place in range(providers) if place not in called]
        weights = np.array([len(parts[place]) for place in kept])
        model = model + weights @ np.array([vectors[place] - model for place in kept]) / weights.sum()
    return played, found


@pytest.mark.parametrize("batch", [32, 10_000], ids=["stochastic", "full"])
@pytest.mark.parametrize("alpha", [0.1, 0.3, 1.0, None])
@pytest.mark.parametrize("providers", [3, 6, 10])
def test_honest_providers_are_not_called(providers: int, alpha: float | None, batch: int) -> None:
    assert play(providers, alpha, batch=batch)[1] == []


def noise(vector: Vector, share: float) -> Vector:
    drawn = np.random.default_rng(1).normal(size=vector.size)
    return drawn * share * float(np.linalg.norm(vector) / np.linalg.norm(drawn))


def unchanged(played: list[Round], _: list[Vector]) -> Vector:
    return played[-1].model.copy()


def old_model(played: list[Round], _: list[Vector]) -> Vector:
    return played[-2].model + 1e-9


def last_step(played: list[Round], _: list[Vector]) -> Vector:
    step = played[-1].model - played[-2].model
    return played[-1].model + 0.8 * step + noise(step, 0.002)


def copied(played: list[Round], vectors: list[Vector]) -> Vector:
    delta = vectors[0] - played[-1].model
    return vectors[0] + noise(delta, 0.02)


def copied_and_scaled(played: list[Round], vectors: list[Vector]) -> Vector:
    return played[-1].model + 3 * (vectors[0] - played[-1].model)


def copied_from_before(played: list[Round], _: list[Vector]) -> Vector:
    return played[-2].updates[0].vector.copy()


def step_copied_from_before(played: list[Round], _: list[Vector]) -> Vector:
    return played[-1].model + 2 * (played[-2].updates[0].vector - played[-2].model)


def boosted(played: list[Round], vectors: list[Vector]) -> Vector:
    return played[-1].model + 100 * (vectors[-1] - played[-1].model)


def no_number(_: list[Round], vectors: list[Vector]) -> Vector:
    return np.where(np.arange(vectors[-1].size) == 3, np.nan, vectors[-1])


def too_large(_: list[Round], vectors: list[Vector]) -> Vector:
    return np.full_like(vectors[-1], 1e200)


def too_short(_: list[Round], vectors: list[Vector]) -> Vector:
    return vectors[-1][:-1]


def of_other_numbers(_: list[Round], vectors: list[Vector]) -> Vector:
    return vectors[-1].astype(np.float32)


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (unchanged, Reason.UNCHANGED), (old_model, Reason.UNCHANGED), (last_step, Reason.REPEATED_STEP),
        (copied, Reason.COPIED), (copied_and_scaled, Reason.COPIED), (copied_from_before, Reason.COPIED),
        (step_copied_from_before, Reason.COPIED), (boosted, Reason.SCALED), (no_number, Reason.NOT_FINITE),
        (too_large, Reason.NOT_FINITE), (too_short, Reason.WRONG_SHAPE), (of_other_numbers, Reason.WRONG_SHAPE),
    ],
)  # fmt: skip
@pytest.mark.parametrize("alpha", [0.1, None])
def test_an_attacker_is_called_in_every_round_and_nobody_else_is(
    forge: Forge, reason: Reason, alpha: float | None
) -> None:
    played, found = play(5, alpha, forge=forge)
    assert [(each.subtask, each.reason) for each in found if each.reason in UNPAID | {reason}] == [
        (4, reason)
    ] * (len(played) - 1)
    assert {each.of for each in found} == ({0} if reason is Reason.COPIED else {None})


def test_a_flipped_sign_is_seen_where_the_others_agree() -> None:
    found = play(5, None, rounds=3, forge=lambda played, vectors: 2 * played[-1].model - vectors[-1])[1]
    assert {(each.subtask, each.reason) for each in found} == {(4, Reason.REVERSED)}


def test_of_two_equal_updates_the_later_is_the_copy() -> None:
    rng = np.random.default_rng(0)
    model, one, other = rng.normal(size=(3, LEAST_SIZE))
    found = judge([Round(model, (Update(9, one), Update(2, other), Update(5, one.copy())))])
    assert [(each.subtask, each.reason, each.of) for each in found] == [(5, Reason.COPIED, 9)]


@pytest.mark.parametrize("size", [2, LEAST_SIZE])
def test_of_small_models_only_equality_is_a_copy(size: int) -> None:
    delta = np.linspace(1, 2, size)
    updates = (Update(1, delta), Update(2, delta * 1.5), Update(3, -delta))
    found = judge([Round(np.zeros(size), updates)])
    assert [each.subtask for each in found] == ([] if size == 2 else [2])
    assert [
        each.subtask for each in judge([Round(np.zeros(size), (Update(1, delta), Update(2, delta.copy())))])
    ] == [2]


def test_one_who_leads_may_go_on_where_the_model_went() -> None:
    """A lone provider's step is the model's, and the next may be the same."""
    step = np.linspace(1, 2, 50)
    rounds = [Round(step * number, (Update(1, step * (number + 1)),)) for number in range(4)]
    assert [judge(rounds[:count]) for count in range(1, 5)] == [()] * 4


def test_one_who_leads_others_may_go_on_nearly_as_before() -> None:
    """Its first update became the model; the other's are far away, and a step by a stranger would be called."""
    step, aside, *others = np.eye(40)[:4]
    first = Round(np.zeros(40), (Update(1, step), Update(2, others[0])))
    on = step + step + 0.05 * aside
    assert judge([first, Round(step, (Update(1, on), Update(2, step + others[1])))]) == ()
    called = judge([first, Round(step, (Update(3, on), Update(2, step + others[1])))])
    assert [(each.subtask, each.reason) for each in called] == [(3, Reason.REPEATED_STEP)]


def test_a_round_of_nobody_and_one_of_free_riders_alone_are_judged() -> None:
    model = np.ones(40)
    assert judge([Round(model, ())]) == ()
    both = judge([Round(model, (Update(1, model), Update(2, model)))])
    assert [each.reason for each in both] == [Reason.UNCHANGED] * 2
    assert [each.reason for each in judge([Round(0 * model, (Update(1, 0 * model),))])] == [Reason.UNCHANGED]


@pytest.mark.parametrize("providers", [2, 4])
def test_who_is_far_off_does_not_make_others_look_as_if_they_had_not_moved(providers: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(providers, 40))
    vectors[: providers // 2] *= 1e9
    updates = tuple(Update(place, vector) for place, vector in enumerate(vectors))
    assert not {each.reason for each in judge([Round(np.zeros(40), updates)])} & UNPAID


def test_free_riders_in_the_majority_take_nobody_honest_with_them() -> None:
    model, honest = np.random.default_rng(0).normal(size=(2, 40))
    updates = (Update(1, model), Update(2, model + 1e-12), Update(3, model + honest))
    assert [each.subtask for each in judge([Round(model, updates)]) if each.reason in UNPAID] == [1, 2]
    zero = np.zeros(40)
    updates = (Update(1, zero), Update(2, zero), Update(3, honest))
    assert [each.subtask for each in judge([Round(zero, updates)]) if each.reason in UNPAID] == [1, 2]


def test_another_computer_may_come_to_the_same_with_a_providers_data_and_another_provider_may_not() -> None:
    models, optimum = np.random.default_rng(0).normal(size=(2, 40)), np.ones(40)
    other = np.random.default_rng(1).normal(size=40)
    rounds = [
        Round(models[0], (Update(1, optimum),)),
        Round(models[1], (Update(5, other), Update(2, optimum))),
    ]
    assert judge(rounds, {1: "anna", 2: "anna"}) == ()
    assert [(each.subtask, each.of) for each in judge(rounds, {1: "anna", 2: "boris"})] == [(2, 1)]


def test_models_are_the_same_but_for_rounding() -> None:
    model = np.linspace(-1, 1, 9)
    assert same_model(model, model * (1 + 1e-12))
    assert not same_model(model, model * (1 + 1e-6))
    assert not same_model(model, model[:-1])
    assert not same_model(model * np.nan, model * np.nan)
    assert conduct.usable(model, model)
    assert not conduct.usable(model[1:], model)
