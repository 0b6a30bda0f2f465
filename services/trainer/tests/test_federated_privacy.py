"""Noise on updates, and what it hides."""

from __future__ import annotations

import importlib
import math
import os

import numpy as np
import pytest
from pydantic import ValidationError

from agorai_shared.federated import Privacy
from agorai_trainer.estimators import ExtraMissingError
from agorai_trainer.federated import privacy
from agorai_trainer.federated.privacy import privatised
from agorai_trainer.federated.refusals import SeedRefusedError

brentq = importlib.import_module("scipy.optimize").brentq
stats = importlib.import_module("scipy.stats")
norm = stats.norm
SEED = bytes(range(32))
HARDLY = 1e-12


def exact(multiplier: float, delta: float) -> float:
    """Give the least epsilon of one Gaussian release: Balle and Wang 2018, Theorem 8."""

    def failing(epsilon: float) -> float:
        a, b = 1 / (2 * multiplier), epsilon * multiplier
        return float(norm.cdf(a - b) - math.exp(epsilon + norm.logcdf(-a - b)))

    return float(brentq(lambda epsilon: failing(epsilon) - delta, 0, 100, xtol=1e-12))


def test_a_long_step_is_cut_to_the_clip_and_a_short_one_is_left() -> None:
    random = np.random.default_rng(0)
    before, step = random.normal(size=(2, 1000))
    for length, wanted in ((0.5, 0.5), (2.0, 2.0), (80.0, 2.0)):
        after = before + step / np.linalg.norm(step) * length
        found = privatised(before, after, Privacy(clip=2.0, noise=HARDLY), SEED) - before
        assert np.linalg.norm(found) == pytest.approx(wanted, rel=1e-9)
        assert found @ step == pytest.approx(wanted * np.linalg.norm(step), rel=1e-9)


@pytest.mark.parametrize("size", [1e200, 1.7e308])
def test_a_step_beyond_all_bounds_moves_no_further_than_the_clip(size: float) -> None:
    found = privatised(np.zeros(3), np.full(3, size), Privacy(clip=2.0, noise=HARDLY), SEED)
    assert np.linalg.norm(found) <= 2.0 + 1e-9


def test_a_step_of_nothing_is_nothing_but_noise() -> None:
    before = np.random.default_rng(0).normal(size=100_000)
    found = privatised(before, before, Privacy(clip=3.0, noise=0.7), SEED) - before
    assert stats.kstest(found / 2.1, norm.cdf).pvalue > 0.01
    assert np.std(found) == pytest.approx(2.1, rel=0.02)


def test_noise_is_the_seeds_alone() -> None:
    before, settings = np.zeros(64), Privacy(clip=1.0, noise=1.0)
    first = privatised(before, before, settings, SEED)
    assert privatised(before, before, settings, SEED).tobytes() == first.tobytes()
    others = [privatised(before, before, settings, os.urandom(32)) for _ in range(20)]
    assert all(np.min(np.abs(other - first)) > 0 for other in others)
    assert np.isfinite(others).all()


def test_the_noise_is_finite_whatever_the_seed_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    class Extreme:
        def __init__(self, seed: bytes) -> None:
            del seed

        def digest(self, size: int) -> bytes:
            return bytes(size // 2) + b"\xff" * (size // 2)

    monkeypatch.setattr("agorai_trainer.federated.privacy.hashlib.shake_256", Extreme)
    found = privatised(np.zeros(2), np.zeros(2), Privacy(clip=1.0, noise=1.0), SEED)
    assert found[0] == pytest.approx(-found[1])
    assert 8 < found[1] < 9


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(33)])
def test_a_seed_of_other_length_is_refused(seed: bytes) -> None:
    with pytest.raises(SeedRefusedError):
        privatised(np.zeros(2), np.zeros(2), Privacy(clip=1.0, noise=1.0), seed)


@pytest.mark.parametrize("wrong", [{"clip": 0.0}, {"noise": 0.0}, {"delta": 1.0}, {"clip": math.inf}])
def test_settings_that_hide_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Privacy.model_validate({"clip": 1.0, "noise": 1.0, **wrong})


class TestWithTheAccountant:
    @pytest.fixture(autouse=True)
    def accountant(self) -> None:
        pytest.importorskip("dp_accounting", reason="needs the extra `privacy`")

    @pytest.mark.parametrize(
        ("examples", "batch", "multiplier", "epochs", "delta", "published"),
        [
            (60_000, 150, 1.3, 15, 1e-5, 0.7242234026109595),
            (100_000, 100, 1.0, 30, 1e-7, 1.4154988495444845),
        ],
    )
    def test_epsilon_is_what_tensorflow_privacy_publishes(
        self, examples: int, batch: int, multiplier: float, epochs: int, delta: float, published: float
    ) -> None:
        """From compute_dp_sgd_privacy_test.py, whose numbers are of Rényi accounting too."""
        rounds = math.ceil(epochs * examples / batch)
        found = privacy.epsilon(multiplier, rounds, delta, batch / examples)
        assert found == pytest.approx(published, rel=1e-6)

    @pytest.mark.parametrize("multiplier", [0.5, 1.0, 3.0, 10.0])
    @pytest.mark.parametrize("rounds", [1, 25])
    def test_epsilon_is_a_close_bound_on_the_exact_one(self, multiplier: float, rounds: int) -> None:
        """So many releases are as one with the noise over the root of their number."""
        least = exact(multiplier / math.sqrt(rounds), 1e-5)
        assert least < privacy.epsilon(multiplier, rounds, 1e-5) < 1.2 * least

    def test_alone_an_update_has_the_noise_against_twice_the_clip(self) -> None:
        settings = Privacy(clip=5.0, noise=8.0, delta=1e-6)
        assert exact(4.0, 1e-6) < privacy.spent_alone(settings, 1) < 1.2 * exact(4.0, 1e-6)
        assert privacy.spent_alone(settings, 9) > 2 * privacy.spent_alone(settings, 1)

    def test_in_a_sum_the_noise_of_all_hides_each(self) -> None:
        settings = Privacy(clip=5.0, noise=1.0, delta=1e-6)
        assert exact(4.0, 1e-6) < privacy.spent_in_sum(settings, 1, 16) < 1.2 * exact(4.0, 1e-6)
        assert privacy.spent_in_sum(settings, 10, 16, 0.1) < privacy.spent_in_sum(settings, 10, 16) / 2


def test_without_the_accountant_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("agorai_trainer.estimators.importlib.import_module", absent)
    with pytest.raises(ExtraMissingError, match=r"\[privacy\]"):
        privacy.epsilon(1.0, 1, 1e-5)
