"""What federated training costs between real nodes, beside Flower's simulation, and what encryption adds to it.

The task: logistic regression of handwritten digits (1,258 samples dealt i.i.d., 539 to test with), five iterations of
L-BFGS by each provider in each round, FedAvg. The nodes stand in two processes on this machine, with a chain that
mines on arrival, a bus, and a store, a vault and a trainer of each participant's own.

    accuracy               on the test set behind the last round: between the nodes (`agorai`); in Flower's simulation
                           of the same providers with Ray and scikit-learn; of one model trained on all samples until
                           it has converged (`central`)
    seconds                of the nodes from before `open` until the last round's end is final, matching included; of
                           Flower from the start of its process to its end
    aggregate_over_open    a round between the nodes, about 10,000 parameters, an adder among them, from when its
                           begin is final until its end is, median: with updates that are encrypted, added and
                           decrypted, over one in the open
    dai_over_open          the same with updates that are encrypted, and decrypted by the model provider
    arithmetic_over_open   as `aggregate_over_open`, of what is computed alone: one after the other, in one process
    encrypted_epoch_s      one step of gradient descent on 600 encrypted samples of 10 features, and the refreshing of
                           the model; median
    encrypted_accuracy_gap plain training's accuracy behind as many steps, less the encrypted one's
    simulated_round_s      a round of 1,000 virtual providers in `federated.simulation`, by the number of processes
    gas                    whole transactions, from the contracts' gated snapshots

Progress goes to standard error, one JSON object to standard output.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
import uvloop
from sklearn.datasets import load_digits

from agorai_shared import logging
from agorai_shared.service import relax_collector
from agorai_trainer.federated.partition import iid
from agorai_trainer.federated.simulation import Samples, simulate
from agorai_trainer.federated.specs import FedAvg
from benchmarks.federation.digits import MODEL, Dealt, dealt
from benchmarks.federation.encryption import MLP, aggregation, encrypted_epochs
from benchmarks.federation.nodes import by_mode, trained

ROOT: Final = Path(__file__).parent.parent
SNAPSHOTS: Final = ROOT / "contracts" / "snapshots"
FLOWER: Final = ROOT / ".flower-simulation" / "bin" / "python"
_PATIENCE_S: Final = 600
_VIRTUAL: Final = 1_000
_CONVERGED: Final = 10_000
"""Iterations, at most."""


def say(text: str) -> None:
    """Tell a person how far it is."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def flower(shares: Dealt, rounds: int) -> tuple[float, list[float]] | None:
    """Run Flower's simulation; gives its seconds and accuracies, or nothing where it cannot be run."""
    if not FLOWER.exists():
        say("Flower is not installed: `make flower-simulation` does that")
        return None
    script = Path(__file__).parent / "federation" / "flower.py"
    # "local": a cluster of its own, also where a file of one that is gone still names that.
    alone = {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": "local"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "samples.npz")
        np.savez(path, **_arrays(shares))
        began = time.perf_counter()
        with subprocess.Popen(
            [FLOWER, script, path, str(rounds)],
            env=os.environ | alone,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as running:
            try:
                told, errors = running.communicate(timeout=_PATIENCE_S)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)  # Ray's processes, too
                say(f"Flower's simulation did not end within {_PATIENCE_S} s")
                return None
        seconds = time.perf_counter() - began
    if running.returncode:
        say(f"Flower's simulation failed:\n{errors.decode()[-2000:]}")
        return None
    return seconds, json.loads(told.splitlines()[-1])


def _arrays(shares: Dealt) -> dict[str, Any]:
    """Give what the nodes' model scales by itself, scaled."""
    darkest = MODEL.features[0].scale
    found = {"test_pixels": shares.test.pixels / darkest, "test_digits": shares.test.digits}
    for place, share in enumerate(shares.shares):
        found |= {f"pixels_{place}": share.pixels / darkest, f"digits_{place}": share.digits}
    return found


def central(shares: Dealt) -> float:
    """Give the accuracy of one model of all samples."""
    arrays, everything = _arrays(shares), shares.together
    model = importlib.import_module("sklearn.linear_model").LogisticRegression(max_iter=_CONVERGED)
    model.fit(everything.pixels / MODEL.features[0].scale, everything.digits)
    return float(model.score(arrays["test_pixels"], arrays["test_digits"]))


def simulated(jobs: int) -> float:
    """Give the seconds of a round with virtual providers."""
    pixels, digits = load_digits(return_X_y=True)
    everyone = [Samples(pixels[rows], digits[rows]) for rows in iid(len(digits), _VIRTUAL, 0)]
    rounds = simulate(MODEL, FedAvg(), everyone, Samples(pixels, digits), 2, jobs=jobs)
    next(rounds)
    next(rounds)  # which starts the processes
    began = time.perf_counter()
    next(rounds)
    return time.perf_counter() - began


def gas() -> dict[str, int]:
    """Read what the gated snapshots say."""
    task = json.loads((SNAPSHOTS / "TrainingTask.json").read_text())
    transfer = json.loads((SNAPSHOTS / "DataTransfer.json").read_text())
    return {
        **{f"TrainingTask: {what}": int(spent) for what, spent in task.items()},
        **{f"DataTransfer: {what}": int(spent) for what, spent in transfer.items()},
    }


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=20, help="of the task (default: 20)")
    options.add_argument("--providers", type=int, default=10, help="of data (default: 10)")
    options.add_argument("--seed", type=int, default=0, help="of the split and the dealing (default: 0)")
    options.add_argument("--quick", action="store_true", help="few providers and rounds: does it run?")
    given = options.parse_args()
    logging.configure("ERROR")
    warnings.simplefilter("ignore")
    providers, rounds = (3, 2) if given.quick else (given.providers, given.rounds)
    shares = dealt(providers, given.seed)
    tested = len(shares.test.digits)
    # The nodes of a process share a sandbox here; with one of its own, each would work on two jobs at a time.
    os.environ.setdefault("AGORAI_TRAINER_MAX_JOBS", str(providers))
    relax_collector()
    ours = uvloop.run(trained(shares, rounds, say))
    say(f"between nodes: {ours.right[-1]} of {tested} right, {ours.seconds:.1f} s")
    theirs = flower(shares, rounds)
    if theirs:
        say(f"in Flower: {theirs[1][-1] * tested:.0f} of {tested} right, {theirs[0]:.1f} s")
    few, turns = (2, 1) if given.quick else (7, 2)
    modes = uvloop.run(by_mode(shares, MLP, few, turns, say))
    say(f"rounds over those in the open: {modes['over_open']}")
    adding = aggregation(shares, 2 if given.quick else 10)
    say(f"a round added encrypted, over one in the open, the arithmetic alone: {adding['over_open']}")
    epochs = encrypted_epochs(epochs=2) if given.quick else encrypted_epochs()
    say(f"an encrypted epoch: {epochs['epoch_s']} s, accuracies {epochs['accuracy']}")
    processes = (1,) if given.quick else (1, os.cpu_count() or 1)
    rehearsed = {str(jobs): round(simulated(jobs), 3) for jobs in processes}
    result = {
        "accuracy": {
            "agorai": round(ours.right[-1] / tested, 4),
            "flower": round(theirs[1][-1], 4) if theirs else None,
            "central": round(central(shares), 4),
        },
        "seconds": {
            "agorai": round(ours.seconds, 2),
            "agorai_matching": round(ours.matching_s, 2),
            "agorai_round": round((ours.seconds - ours.matching_s) / rounds, 3),
            "flower": round(theirs[0], 2) if theirs else None,
        },
        "accuracy_by_round": {
            "agorai": [round(right / tested, 4) for right in ours.right],
            "flower": [round(share, 4) for share in theirs[1]] if theirs else None,
        },
        "providers": providers,
        "rounds": rounds,
        "aggregate_over_open": modes["over_open"]["aggregate"],
        "dai_over_open": modes["over_open"]["dai"],
        "modes": modes,
        "arithmetic_over_open": adding["over_open"],
        "arithmetic": adding,
        "encrypted_epoch_s": epochs["epoch_s"],
        "encrypted_accuracy_gap": epochs["gap"],
        "encrypted": epochs,
        "simulated_round_s": rehearsed,
        "gas": gas(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
