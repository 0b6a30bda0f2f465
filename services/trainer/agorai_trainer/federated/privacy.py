"""Differential privacy of a provider's updates: DP-FedAvg, with the noise added by the provider itself.

McMahan et al., "Learning differentially private recurrent language models", 2018, Algorithm 1, clip each update's
step and let a trusted server add noise to their sum. Here nobody is trusted: each provider adds noise to its own
step before it leaves (local noise), and what the sum then hides follows from that. What is protected is all of a
provider's data in a task together, not one row of them.
"""

from __future__ import annotations

import hashlib
import importlib
import math
from typing import Final

import numpy as np

from agorai_shared.federated import Privacy
from agorai_shared.vectors import Vector
from agorai_trainer.estimators import framework
from agorai_trainer.federated.refusals import SeedRefusedError

_SEED_BYTES: Final = 32


def privatised(before: Vector, after: Vector, privacy: Privacy, seed: bytes) -> Vector:
    """Give an update whose step from the global vector is clipped and blurred.

    Parameters
    ----------
    before, after
        The global vector, and what local training gave.
    seed
        32 fresh secret bytes, of the vault or the operating system. Who knows them knows the noise; two updates with
        the same bytes have the same noise, and their difference has none.

    Raises
    ------
    SeedRefusedError
        If the seed is not of 32 bytes.
    """
    if len(seed) != _SEED_BYTES:
        raise SeedRefusedError(len(seed), _SEED_BYTES)
    step = after - before
    with np.errstate(over="ignore"):
        length = float(np.sqrt(np.sum(step**2)))
    clipped = step * min(1.0, privacy.clip / length) if length else step
    found: Vector = before + clipped + privacy.noise * privacy.clip * _normal(step.size, seed)
    return found


def spent_alone(privacy: Privacy, rounds: int) -> float:
    """Give the epsilon of a provider against whoever sees each of its updates by itself, at the spec's delta.

    Two data sets of a provider give steps that are at most two clips apart, whatever they are.

    Raises
    ------
    ExtraMissingError
        Without the extra `privacy`.
    """
    return epsilon(privacy.noise / 2, rounds, privacy.delta)


def spent_in_sum(privacy: Privacy, rounds: int, updates: int, sampling: float = 1.0) -> float:
    """Give the epsilon of a provider against whoever sees sums of updates and the global models only.

    For sums or plain means: neighbours are that a provider's step is there, or is nothing but its noise. A mean
    weighted by samples hides less where a provider has more than its part.

    Parameters
    ----------
    updates
        Fewest that are added up, whose noise adds up too.
    sampling
        Probability with which a provider takes part in a round, by itself and unknown to others; 1 where who takes
        part is public, as the chain makes it.

    Raises
    ------
    ExtraMissingError
        Without the extra `privacy`.
    """
    return epsilon(privacy.noise * math.sqrt(updates), rounds, privacy.delta, sampling)


def epsilon(multiplier: float, rounds: int, delta: float, sampling: float = 1.0) -> float:
    """Give an upper bound on epsilon of so many Gaussian releases, by Rényi accounting of `dp-accounting`.

    Parameters
    ----------
    multiplier
        Standard deviation over sensitivity.
    sampling
        Probability of Poisson sampling (Mironov, Talwar and Zhang, "Rényi differential privacy of the sampled
        Gaussian mechanism", 2019).

    Raises
    ------
    ExtraMissingError
        Without the extra `privacy`.
    """
    events = framework("dp_accounting", "The accountant", "privacy")
    rdp = framework("dp_accounting.rdp", "The accountant", "privacy")
    release = events.PoissonSampledDpEvent(sampling, events.GaussianDpEvent(multiplier))
    accountant = rdp.RdpAccountant()
    accountant.compose(release, rounds)
    return float(accountant.get_epsilon(delta))


def _normal(count: int, seed: bytes) -> Vector:
    """Give standard normal numbers by SHAKE-256: without the seed nobody can tell them from others."""
    words = np.frombuffer(hashlib.shake_256(seed).digest(8 * count), "<u8")
    uniform = ((words >> np.uint64(12)) + 0.5) / 2.0**52  # never 0 or 1
    drawn: Vector = importlib.import_module("scipy.special").ndtri(uniform)
    return drawn
