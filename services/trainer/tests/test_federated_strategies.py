"""Aggregation: equal to Flower's, the same bits in any order, and what a minority of providers cannot do."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import BaseModel, TypeAdapter, ValidationError
from safetensors.numpy import save as save_tensors

from agorai_shared.vectors import Vector
from agorai_trainer.federated.specs import (
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedYogi,
    Krum,
    MultiKrum,
    StrategySpec,
)
from agorai_trainer.federated.strategies import DivergedError, TooFewUpdatesError, strategy
from agorai_trainer.federated.updates import (
    LARGEST,
    PlaceTakenError,
    SamplesError,
    State,
    StateError,
    Update,
    UpdateRefusedError,
    refusal,
)

ROOT = Path(__file__).parents[3]
FLOWER = ROOT / ".flower/bin/python"
SHAPES = [[7, 3], [3], [3, 2, 2], [1]]
SIZE = 37
ROUNDS = 5
SPECS: TypeAdapter[StrategySpec] = TypeAdapter(StrategySpec)

EXACT: list[StrategySpec] = [
    FedAvg(),
    FedProx(proximal_mu=0.1),
    FedAdagrad(),
    FedYogi(),
    FedYogi(eta=0.5, beta_1=0.5, beta_2=0.3, tau=1e-6),
    FedMedian(),
    Krum(num_malicious_nodes=1),
    Krum(num_malicious_nodes=2),
    MultiKrum(num_malicious_nodes=1, num_nodes_to_select=4),
    MultiKrum(num_malicious_nodes=2, num_nodes_to_select=5),
]
"""The same operations in the same order, each of which IEEE 754 rounds in one way."""

CLOSE: list[StrategySpec] = [
    FedAdam(),  # Flower's powers of beta are the C library's
    FedAdam(eta=0.5, beta_1=0.0, beta_2=0.5, tau=1e-8),
    FedTrimmedAvg(),  # Flower adds in the order of a partition, ours in that of the values
    FedTrimmedAvg(beta=0.4),
    FedAvg(clipping_norm=2.0),  # Flower's norm is a BLAS's
    FedYogi(clipping_norm=5.0),
    FedMedian(clipping_norm=100.0),
]
ALL = EXACT + CLOSE
Flowers = dict[str | None, list[list[float]]]


def named(spec: object) -> str | None:
    values = spec.model_dump(exclude_none=True).values() if isinstance(spec, BaseModel) else ()
    return ",".join(map(str, values)) or None


every = pytest.mark.parametrize("spec", ALL, ids=named)


@pytest.fixture(scope="module")
def rounds() -> list[list[Update]]:
    """Give 7 to 9 updates a round, one of them far off."""
    rng = np.random.default_rng(7)
    found = []
    for number in range(ROUNDS):
        updates = [
            Update(place, rng.normal(size=SIZE), int(rng.integers(1, 1000)))
            for place in range(7 + number % 3)
        ]
        found.append([replace(updates[0], vector=updates[0].vector * 50), *updates[1:]])
    return found


@pytest.fixture(scope="module")
def first() -> Vector:
    return np.random.default_rng(8).normal(size=SIZE)


@pytest.fixture(scope="module")
def flowers(rounds: list[list[Update]], first: Vector) -> Flowers:
    """Give the global models of Flower's own strategies."""
    if not FLOWER.exists():
        pytest.skip("Flower is not installed: `make flower` does it")
    task = {
        "shapes": SHAPES,
        "first": first.tolist(),
        "rounds": [
            {
                "samples": [update.samples for update in updates],
                "vectors": [update.vector.tolist() for update in updates],
            }
            for updates in rounds
        ],
        # what is not chosen is left to Flower's defaults
        "strategies": [
            {"name": spec.name, "clipping_norm": spec.clipping_norm, **spec.model_dump(exclude_unset=True)}
            for spec in ALL
        ],
    }
    run = subprocess.run(
        [FLOWER, ROOT / "tests/flower/aggregate.py"],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return dict(zip(map(named, ALL), json.loads(run.stdout), strict=True))


def states(spec: StrategySpec, first: Vector, rounds: list[list[Update]]) -> list[State]:
    chosen = strategy(spec)
    found = [chosen.begin(first)]
    for updates in rounds:
        found.append(chosen.aggregate(found[-1], updates))
    return found[1:]


@pytest.mark.parametrize("spec", EXACT, ids=named)
def test_global_models_are_flowers_bit_for_bit(
    spec: StrategySpec, flowers: Flowers, first: Vector, rounds: list[list[Update]]
) -> None:
    ours = [state.vector.tolist() for state in states(spec, first, rounds)]
    assert ours == flowers[named(spec)]


@pytest.mark.parametrize("spec", CLOSE, ids=named)
def test_global_models_are_flowers_but_for_rounding(
    spec: StrategySpec, flowers: Flowers, first: Vector, rounds: list[list[Update]]
) -> None:
    ours = [state.vector for state in states(spec, first, rounds)]
    np.testing.assert_allclose(ours, flowers[named(spec)], rtol=1e-12, atol=1e-14)


@given(spec=st.sampled_from(ALL), data=st.data())
def test_the_order_of_updates_does_not_matter_to_a_bit(
    spec: StrategySpec, first: Vector, rounds: list[list[Update]], data: st.DataObject
) -> None:
    shuffled = [data.draw(st.permutations(updates)) for updates in rounds[:2]]
    assert states(spec, first, shuffled)[-1].to_bytes() == states(spec, first, rounds[:2])[-1].to_bytes()


@every
def test_aggregating_changes_nothing_that_it_is_given(
    spec: StrategySpec, first: Vector, rounds: list[list[Update]]
) -> None:
    begun = strategy(spec).begin(first.copy())
    kept, vectors = begun.to_bytes(), [update.vector.copy() for update in rounds[0]]
    once, again = (strategy(spec).aggregate(begun, rounds[0]).to_bytes() for _ in range(2))
    assert once == again != kept
    assert begun.to_bytes() == kept
    assert all((update.vector == vector).all() for update, vector in zip(rounds[0], vectors, strict=True))


@every
def test_a_state_read_back_goes_on_as_if_it_had_been_kept(
    spec: StrategySpec, first: Vector, rounds: list[list[Update]]
) -> None:
    chosen = strategy(spec)
    state = chosen.begin(first)
    for updates in rounds:
        state = State.from_bytes(chosen.aggregate(state, updates).to_bytes())
    assert state.to_bytes() == states(spec, first, rounds)[-1].to_bytes()
    assert state.round == ROUNDS


def updates_of(*vectors: list[float] | Vector, samples: list[int] | None = None) -> list[Update]:
    counts = samples or [1] * len(vectors)
    return [
        Update(place, np.array(vector, dtype=np.float64), own)
        for place, (vector, own) in enumerate(zip(vectors, counts, strict=True))
    ]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (FedAvg(), 4.1),
        (FedProx(proximal_mu=1.0), 4.1),
        (FedAvg(clipping_norm=2.0), 1.7),
        (FedAdagrad(eta=0.5, tau=0.4), 0.5 * 4.1 / 4.5),
        (FedAdam(eta=0.5, beta_1=0.0, beta_2=0.0, tau=0.4), 0.5 * 4.1 / 4.5),
        (FedYogi(eta=0.5, beta_1=0.5, beta_2=0.0, tau=0.4), 0.5 * 2.05 / 4.5),
        (FedMedian(), 2.0),
        (FedTrimmedAvg(beta=0.2), 7.0 / 3.0),
        (Krum(num_malicious_nodes=1), 1.0),
        (MultiKrum(num_malicious_nodes=1, num_nodes_to_select=3), 1.25),
    ],
    ids=named,
)
def test_a_round_worked_out_by_hand(spec: StrategySpec, expected: float) -> None:
    updates = updates_of([0.0], [1.0], [2.0], [4.0], [10.0], samples=[1, 1, 2, 4, 2])
    after = strategy(spec).aggregate(strategy(spec).begin(np.zeros(1)), updates)
    assert after.vector.tolist() == pytest.approx([expected], rel=1e-15)


@given(
    arrays.arrays(np.float64, 5, elements=st.floats(-LARGEST, LARGEST, allow_subnormal=False)),
    st.lists(st.integers(1, 10**6), min_size=1, max_size=9),
)
def test_the_mean_of_equal_updates_is_that_update(vector: Vector, samples: list[int]) -> None:
    updates = updates_of(*[vector] * len(samples), samples=samples)
    after = strategy(FedAvg()).aggregate(strategy(FedAvg()).begin(np.zeros(5)), updates)
    np.testing.assert_allclose(after.vector, vector, rtol=1e-14)


@st.composite
def attacked(draw: st.DrawFn, count: int, malicious: int) -> tuple[npt.NDArray[np.float64], list[Update]]:
    """Give the honest vectors, within 1 of 0, and all updates, of which as many as `malicious` are far off."""
    size, bad = draw(st.integers(1, 4)), draw(st.integers(0, malicious))
    honest = draw(arrays.arrays(np.float64, (count - bad, size), elements=st.floats(-1, 1, width=32)))
    far = st.sampled_from([-LARGEST, -1e4, 1e4, LARGEST])
    others = draw(arrays.arrays(np.float64, (bad, size), elements=far))
    vectors = draw(st.permutations([*honest, *others]))
    samples = draw(st.lists(st.integers(1, 10**6), min_size=count, max_size=count))
    return honest, updates_of(*vectors, samples=samples)


def aggregated(spec: StrategySpec, updates: list[Update]) -> Vector:
    chosen = strategy(spec)
    return chosen.aggregate(chosen.begin(np.zeros(updates[0].vector.size)), updates).vector


def within(vector: Vector, honest: npt.NDArray[np.float64]) -> bool:
    """Tell whether each coordinate lies among the honest ones, but for a mean's rounding."""
    return bool(((honest.min(axis=0) - 1e-15 <= vector) & (vector <= honest.max(axis=0) + 1e-15)).all())


@given(st.data(), st.integers(1, 11))
def test_less_than_half_cannot_move_the_median_beyond_the_honest(data: st.DataObject, count: int) -> None:
    honest, updates = data.draw(attacked(count, (count - 1) // 2))
    assert within(aggregated(FedMedian(), updates), honest)


@given(st.data(), st.integers(1, 11), st.floats(0, 0.49))
def test_what_is_trimmed_cannot_move_the_mean_beyond_the_honest(
    data: st.DataObject, count: int, beta: float
) -> None:
    honest, updates = data.draw(attacked(count, int(beta * count)))
    assert within(aggregated(FedTrimmedAvg(beta=beta), updates), honest)


@given(st.data(), st.integers(0, 4), st.integers(0, 3))
def test_krum_gives_an_honest_update(data: st.DataObject, malicious: int, more: int) -> None:
    honest, updates = data.draw(attacked(2 * malicious + 3 + more, malicious))
    chosen = aggregated(Krum(num_malicious_nodes=malicious), updates)
    assert any((chosen == vector).all() for vector in honest)


@given(st.data(), st.integers(0, 4), st.integers(0, 3))
def test_multi_krum_averages_honest_updates_only(data: st.DataObject, malicious: int, more: int) -> None:
    count = 2 * malicious + 3 + more
    selected = data.draw(st.integers(1, count - malicious))
    honest, updates = data.draw(attacked(count, malicious))
    spec = MultiKrum(num_malicious_nodes=malicious, num_nodes_to_select=selected)
    assert within(aggregated(spec, updates), honest)


@given(st.floats(1, LARGEST), st.floats(1e-3, 1e3))
def test_a_clipped_update_moves_the_mean_by_no_more_than_its_share_of_the_norm(
    scale: float, norm: float
) -> None:
    honest = [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]
    updates = updates_of(*honest, [scale, -scale])
    chosen = strategy(FedAvg(clipping_norm=norm))
    moved = chosen.aggregate(chosen.begin(np.ones(2)), updates).vector - 1.0
    assert np.linalg.norm(moved) <= norm / 4 * (1 + 1e-9)


@pytest.mark.parametrize(
    ("spec", "fewest"),
    [
        (FedAvg(), 1),
        (FedTrimmedAvg(beta=0.49), 1),
        (Krum(), 3),
        (Krum(num_malicious_nodes=2), 7),
        (MultiKrum(num_malicious_nodes=1, num_nodes_to_select=2), 5),
        (MultiKrum(num_malicious_nodes=1, num_nodes_to_select=6), 7),
    ],
)
def test_too_few_updates_are_refused(spec: StrategySpec, fewest: int) -> None:
    chosen = strategy(spec)
    state, updates = chosen.begin(np.zeros(2)), updates_of(*[[1.0, 2.0]] * fewest)
    assert chosen.fewest == fewest
    assert chosen.aggregate(state, updates).round == 1
    with pytest.raises(TooFewUpdatesError, match=f"{fewest - 1} updates .* needs {fewest}"):
        chosen.aggregate(state, updates[1:])


@pytest.mark.parametrize(
    ("vector", "says"),
    [
        ([1.0, 2.0], "it is list"),
        (np.array([1, 2]), "int64"),
        (np.array([1, 2], dtype=np.float32), "float32"),
        (np.array([1, 2], dtype=">f8"), ">f8"),
        (np.zeros(3), r"\(3,\), not \(2,\)"),
        (np.zeros((1, 2)), r"\(1, 2\)"),
        (np.array([1.0, np.nan]), "finite"),
        (np.array([-np.inf, 1.0]), "finite"),
        (np.array([0.0, -1.01 * LARGEST]), "1.11e[+]12, more than 1.1e[+]12"),
    ],
)
def test_a_vector_that_is_no_update_is_refused_with_the_reason(vector: Vector, says: str) -> None:
    found = refusal(vector, 2)
    assert found is not None
    assert re.search(says, found)
    updates = [Update(3, vector, 1), *updates_of([1.0, 2.0])]
    with pytest.raises(UpdateRefusedError, match=f"place 3 .*{says}"):
        strategy(FedAvg()).aggregate(strategy(FedAvg()).begin(np.zeros(2)), updates)


def test_the_largest_values_are_taken() -> None:
    vector = np.array([LARGEST, -LARGEST, -0.0])
    assert refusal(vector, 3) is None
    assert aggregated(FedAvg(), updates_of(vector)).tolist() == vector.tolist()


@every
def test_no_zero_is_negative(spec: StrategySpec) -> None:
    updates = updates_of(*[[-0.0]] * 10)
    assert not np.signbit(aggregated(spec, updates)).any()


def test_of_updates_that_are_equally_near_to_others_the_first_are_selected() -> None:
    updates = updates_of(*np.eye(64) * np.tile([2.0, 1.0], 32))
    assert aggregated(Krum(), updates).tolist() == updates[1].vector.tolist()
    of_three = aggregated(MultiKrum(num_nodes_to_select=3), updates)
    assert np.flatnonzero(of_three).tolist() == [1, 3, 5]


def test_updates_of_no_samples_or_of_one_place_are_refused() -> None:
    with pytest.raises(SamplesError, match=r"place 4 .* 0 samples"):
        Update(4, np.zeros(1), 0)
    with pytest.raises(PlaceTakenError, match="Place 1 "):
        aggregated(FedAvg(), [Update(place, np.zeros(1), 1) for place in (1, 0, 1)])


def test_a_state_of_another_strategy_is_refused() -> None:
    updates = updates_of([1.0])
    with pytest.raises(StateError, match="0 moments where the strategy keeps 2"):
        strategy(FedAdam()).aggregate(strategy(FedAvg()).begin(np.zeros(1)), updates)
    with pytest.raises(StateError, match="2 moments where the strategy keeps 0"):
        strategy(FedAvg()).aggregate(strategy(FedAdam()).begin(np.zeros(1)), updates)


def test_a_first_model_that_is_no_vector_is_refused() -> None:
    with pytest.raises(StateError, match="not all of its numbers are finite"):
        strategy(FedAvg()).begin(np.array([np.nan]))


@pytest.mark.parametrize(
    "spec", [FedAdagrad(), FedAdagrad(eta=1e308), FedAdam(eta=1e308), FedYogi(eta=1e308)], ids=named
)
def test_a_model_or_moment_that_diverges_is_told(spec: StrategySpec) -> None:
    chosen = strategy(spec)
    with pytest.raises(DivergedError, match="round 1 is not finite"):
        chosen.aggregate(chosen.begin(np.array([1e308])), updates_of([1e6]))


STATE = {"round": np.array([1]), "vector": np.ones(2), "moment.0": np.ones(2)}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"round": np.array([-1])}, "round is not a number"),
        ({"round": np.array([1.0])}, "round is not a number"),
        ({"round": np.array(1)}, "round is not a number"),
        ({"moment.0": np.ones(3)}, "moment.0 is unusable, its shape"),
        ({"moment.0": np.ones(2, np.float32)}, "moment.0 is unusable, its numbers"),
        ({"vector": np.array([np.inf, 0.0])}, "vector is unusable, not all"),
        ({"moment.2": np.ones(2)}, "tensors of other names: moment.0, moment.2"),
    ],
)
def test_bytes_that_are_no_state_are_refused(changed: dict[str, Vector], says: str) -> None:
    assert State.from_bytes(save_tensors(STATE)).round == 1
    with pytest.raises(StateError, match=says):
        State.from_bytes(save_tensors(STATE | changed))


def test_a_damaged_state_is_refused() -> None:
    whole = save_tensors(STATE)
    of_other_numbers = (whole.replace(b'"F64"', name) for name in (b'"F63"', b'"U64"'))
    header = b'{"vector": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}'
    unknown_to_numpy = len(header).to_bytes(8, "little") + header + bytes(2)
    for data in (b"", whole[:-1], whole[:20], whole + b"0", bytes(100), *of_other_numbers, unknown_to_numpy):
        with pytest.raises(StateError):
            State.from_bytes(data)


@pytest.mark.parametrize(
    "given_spec",
    [
        {},
        {"name": "FedSGD"},
        {"name": "FedAvg", "eta": 0.1},
        {"name": "FedAvg", "clipping_norm": 0},
        {"name": "FedProx", "proximal_mu": -0.1},
        {"name": "FedAdam", "eta": 0},
        {"name": "FedAdam", "beta_1": 1},
        {"name": "FedAdam", "beta_2": -0.1},
        {"name": "FedYogi", "tau": 0},
        {"name": "FedAdagrad", "eta": "inf"},
        {"name": "FedTrimmedAvg", "beta": 0.5},
        {"name": "Krum", "num_malicious_nodes": -1},
        {"name": "MultiKrum", "num_nodes_to_select": 0},
    ],
)
def test_a_spec_out_of_bounds_is_refused(given_spec: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SPECS.validate_python(given_spec)


@every
def test_a_spec_comes_back_from_json(spec: StrategySpec) -> None:
    assert SPECS.validate_json(SPECS.dump_json(spec)) == spec
