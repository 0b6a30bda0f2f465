"""Rehearsed rounds: those of a plain loop, the same on any number of processes, with thousands of providers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
import pytest

from agorai_trainer.federated import models
from agorai_trainer.federated.models import ModelSpec
from agorai_trainer.federated.partition import dirichlet, iid
from agorai_trainer.federated.simulation import ParticipantsError, Round, Samples, Worths, simulate
from agorai_trainer.federated.specs import FedAdam, FedAvg, FedProx, Krum, StrategySpec
from agorai_trainer.federated.strategies import strategy
from agorai_trainer.federated.updates import Update

from .federated import data_of, spec_of

FEATURES, TARGET = data_of("iris")
TEST = Samples(FEATURES[:50], TARGET[:50])


def dealt(count: int) -> list[Samples]:
    rest = np.arange(50, len(TARGET))
    rows = dirichlet(TARGET[rest], count, 0.5, 3, fewest=5)
    return [Samples(FEATURES[rest[own]], TARGET[rest[own]]) for own in rows]


def spec() -> ModelSpec:
    return spec_of("logistic_regression", FEATURES, TARGET)


def told(rounds: Sequence[Round]) -> list[tuple[int, tuple[int, ...], bytes, int, Mapping[int, Fraction]]]:
    return [
        (one.number, one.participants, one.vector.tobytes(), one.right, one.contributions) for one in rounds
    ]


def leave_one_out(players: Sequence[int], worths: Worths) -> dict[int, Fraction]:
    everyone = frozenset(players)
    without = {player: everyone - {player} for player in players}
    found = worths([everyone, *without.values()])
    return {player: Fraction(found[everyone] - found[rest]) for player, rest in without.items()}


@pytest.mark.parametrize("chosen", [FedAvg(), FedAdam(), FedProx(proximal_mu=0.5)])
def test_rounds_are_those_of_a_plain_loop(chosen: StrategySpec) -> None:
    shares, one, rule = dealt(4), spec(), strategy(chosen)
    state = rule.begin(models.initial(one))
    mu = 0.5 if isinstance(chosen, FedProx) else 0.0
    for found in simulate(one, chosen, shares, TEST, 3):
        if found.number:
            updates = [
                Update(
                    place,
                    models.fit(one, state.vector, own.features, own.target, found.number, mu),
                    len(own.target),
                )
                for place, own in enumerate(shares)
            ]
            state = rule.aggregate(state, updates)
            assert found.participants == (0, 1, 2, 3)
        assert np.array_equal(found.vector, state.vector)
        assert found.right == models.right(one, state.vector, TEST.features, TEST.target)
    assert state.round == 3
    assert found.right >= 40


def test_the_number_of_processes_changes_nothing() -> None:
    shares = dealt(6)
    asked = {"rounds": 2, "participants": 4, "seed": 7, "contributions": leave_one_out}
    alone = told(list(simulate(spec(), FedAvg(), shares, TEST, jobs=1, **asked)))  # type: ignore[arg-type]
    assert told(list(simulate(spec(), FedAvg(), shares, TEST, jobs=2, **asked))) == alone  # type: ignore[arg-type]
    assert {places for _, places, *_ in alone[1:]} - {(0, 1, 2, 3)}


def test_each_seed_draws_others() -> None:
    shares = dealt(6)
    drawn = [
        [one.participants for one in simulate(spec(), FedAvg(), shares, TEST, 4, participants=2, seed=seed)]
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(len(places) == len(set(places)) == 2 for places in drawn[0][1:])


def test_a_coalitions_worth_is_what_its_updates_alone_would_gain() -> None:
    shares, asked = dealt(3), [frozenset[int](), frozenset({0}), frozenset({0, 1, 2})]
    seen: list[dict[frozenset[int], int]] = []

    def value(players: Sequence[int], worths: Worths) -> dict[int, Fraction]:
        seen.append(worths(asked))
        return dict.fromkeys(players, Fraction(1, 3))

    first, then = simulate(spec(), FedAvg(), shares, TEST, 1, contributions=value)
    (alone,) = list(simulate(spec(), FedAvg(), shares[:1], TEST, 1))[1:]
    assert seen == [
        {
            asked[0]: 0,
            asked[1]: alone.right - first.right,
            asked[2]: then.right - first.right,
        }
    ]
    assert then.contributions == dict.fromkeys((0, 1, 2), Fraction(1, 3))


def test_too_few_updates_leave_the_model_what_it_was() -> None:
    first, then = simulate(spec(), Krum(num_malicious_nodes=1), dealt(3), TEST, 1)
    assert np.array_equal(first.vector, then.vector)
    assert first.right == then.right


def test_a_thousand_virtual_providers_learn_in_seconds() -> None:
    pixels, digits = data_of("digits")
    rest = np.arange(400, len(digits))
    one = spec_of("logistic_regression", pixels, digits)
    shares = [Samples(pixels[rest[own]], digits[rest[own]]) for own in iid(len(rest), 1000, 0)]
    *_, last = simulate(one, FedAvg(), shares, Samples(pixels[:400], digits[:400]), 1)
    assert len(last.participants) == 1000
    assert last.right > 300


@pytest.mark.parametrize("participants", [0, 5, -1])
def test_who_is_not_there_cannot_be_drawn(participants: int) -> None:
    with pytest.raises(ParticipantsError, match="1 to 4"):
        simulate(spec(), FedAvg(), dealt(4), TEST, 1, participants=participants)


def test_there_are_no_rounds_without_providers() -> None:
    with pytest.raises(ParticipantsError, match="Give the providers"):
        simulate(spec(), FedAvg(), [], TEST, 1)
