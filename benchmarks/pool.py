"""Whether malicious contributors lose, honest ones gain and a pool's model grows, as the data pool's paper has it.

One real pool on an anvil for each run: two models (a text's sentiment, handwritten digits), 0, 10, 30 and 50 % of
ten contributors malicious, several seeds; six days of three rounds, by time travel. Malicious contributors add with
all that they have left; what is wrong with a contribution, and how often, says `pooling.contributors.FAULTS`.

    malicious_balance_left   of malicious contributors at the end, as a share of what they began with: by model and
                             share of them, means over the seeds
    accuracy                 on the hidden test set with 30 % malicious, means over the seeds: at the beginning; with
                             the mechanism; without it, where deposits come back and malicious contributors add as
                             much each day; with honest data alone. `unchecked`: all that was added in the pool with
                             the mechanism, where they soon cannot pay for much
    honest_loss              of the samples that honest contributors added, good ones that were found wrong, each of
                             which costs its deposit: the largest share in any one pool. `honest_loss_of_one`: the
                             largest share of any one contributor's 90 or 120 samples. Of the sentences 2 % do have
                             the wrong label, as people's have: those count in `by_share.*.honest_wrong` only
    growth                   gas and milliseconds of each action at 100 to 10,000 contributions in one pool
    table1_s                 the paper's Table 1 between real nodes, medians in seconds; see `pooling.table1`
    table1_times_faster      the lower end of the paper's range over our median, and over the slowest of ours
    gas                      whole transactions, from the contracts' gated snapshots; an update learns 20 features

Progress goes to standard error, one JSON object to standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agorai_shared import logging
from benchmarks.pooling import cases
from benchmarks.pooling.figures import write_figures
from benchmarks.pooling.growth import MARKS, growth
from benchmarks.pooling.ledger import running_ledger
from benchmarks.pooling.trial import DAYS, Told, Trial, told_of

SNAPSHOTS: Final = Path(__file__).parent.parent / "contracts" / "snapshots"
CASES: Final = {"text": cases.text, "image": cases.image}
SHARES: Final = (0.0, 0.1, 0.3, 0.5)
OF_NOTE: Final = 0.3
PAPER: Final = {
    "accuracy": {"text": {"initial": 0.78, "final": 0.829}, "image": {"initial": 0.59, "final": 0.63}},
    "samples": {"text": [25_000, 25_500], "image": [1_000, 1_100]},
    "malicious_balance_left": "almost zero (Fig. 11)",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """One pool to be run."""

    case: str
    share: float
    seed: int
    days: int


def say(text: str) -> None:
    """Tell a person how far it is."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def run(plan: Plan) -> tuple[Told, float]:
    """Run one pool on a chain of its own; gives what came of it, and the seconds that took."""
    logging.configure("ERROR")

    async def running() -> Told:
        async with running_ledger() as ledger:
            return Trial(ledger, CASES[plan.case](plan.seed), plan.share, plan.seed, plan.days).run()

    began = time.perf_counter()
    return asyncio.run(running()), time.perf_counter() - began


def run_all(plans: Sequence[Plan]) -> list[Told]:
    """Run pools side by side, one for each core."""
    found: dict[Plan, Told] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(len(plans), os.cpu_count() or 1), mp_context=context) as executor:
        waiting = {executor.submit(run, plan): plan for plan in plans}
        for done in as_completed(waiting):
            plan = waiting[done]
            found[plan], seconds = done.result()
            say(_line(found[plan], seconds))
    return [found[plan] for plan in plans]


def _line(told: Told, seconds: float) -> str:
    summary = told_of(told)
    left = summary["malicious_balance_left"]
    return (
        f"{told.case}, {told.share:.0%} malicious, seed {told.seed}: accuracy {summary['initial']:.3f} -> "
        f"{summary['with_mechanism']:.3f} (without {summary['without_mechanism']:.3f}, "
        f"clean {summary['clean']:.3f}); "
        f"malicious keep {'-' if left is None else format(left, '.1%')}, honest {summary['checkers_profit']:+.1%}, "
        f"honest loss {summary['honest_loss']:.2%} (one {summary['worst_loss']:.1%}, rightly "
        f"{summary['honest_wrong']:.2%}); {seconds:.0f} s"
    )


async def grown(count: int) -> dict[str, Any]:
    """Add so many contributions to one pool."""
    async with running_ledger() as ledger:
        return growth(ledger, count)


def operations(repeats: int) -> dict[str, Any]:
    """Take the times of the paper's Table 1."""
    from benchmarks.pooling.table1 import PAPER_S, table1  # noqa: PLC0415 - each process would load all services

    measured = asyncio.run(table1(repeats))
    for what, taken in measured.items():
        say(f"{what}: {taken['median']:.3f} s")
    return {
        "table1_s": {what: measured[what]["median"] for what in PAPER_S},
        "table1_range_s": {what: [taken["least"], taken["most"]] for what, taken in measured.items()},
        "table1_paper_s": PAPER_S,
        "table1_times_faster": {
            what: {how: round(paper[0] / measured[what][how], 1) for how in ("median", "most")}
            for what, paper in PAPER_S.items()
        },
    }


def gas() -> dict[str, int]:
    """Read what the gated snapshots say."""
    pool = json.loads((SNAPSHOTS / "DataPool.json").read_text())
    learner = json.loads((SNAPSHOTS / "OnlineLearner.json").read_text())
    return {
        "add_sample": int(pool["add, a sample of 64 bytes inline"]),
        "add_file": int(pool["add, a file"]),
        "learner_update": int(learner["train, a perceptron's mistake, mean"]),
    }


def summary(told: Sequence[Told]) -> dict[str, Any]:
    """Give means and spreads over the seeds, by model and share."""
    found: dict[str, Any] = {}
    for one in told:
        group = [each for each in told if (each.case, each.share) == (one.case, one.share)]
        rows = [told_of(each) for each in group]
        measured = {
            what: _spread([row[what] for row in rows]) for what in rows[0] if rows[0][what] is not None
        }
        counts = {
            what: dict(sorted(sum((getattr(each, what) for each in group), Counter()).items()))
            for what in ("challenges", "inadequate", "found", "honest_lost_for")
        }
        gained = [min(each.earned) for each in group]
        found.setdefault(one.case, {})[f"{one.share:g}"] = {
            **measured,
            **counts,
            "corrected": sum(each.corrected for each in group),
            "corrected_lost": sum(each.corrected_lost for each in group),
            "least_balance_of_an_honest_one": min(min(each.balances["honest"]) for each in group),
            "least_earned_by_challenges": min(gained),
            "samples": [[each.samples[0], each.samples[-1]] for each in group],
        }
    return found


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "mean": round(statistics.mean(values), 4),
        "range": [round(min(values), 4), round(max(values), 4)],
    }


def mean(told: Sequence[Told], share: float, what: str, case: str) -> float:
    """Give one model's mean over the seeds."""
    chosen = [one for one in told if (one.share, one.case) == (share, case)]
    return round(float(statistics.mean(told_of(one)[what] for one in chosen)), 4)


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--seed", type=int, default=0, help="the first of the seeds (default: 0)")
    options.add_argument("--seeds", type=int, default=5, help="how many (default: 5)")
    options.add_argument("--repeats", type=int, default=5, help="of Table 1's operations (default: 5)")
    options.add_argument(
        "--quick", action="store_true", help="two pools of one day, and no table: does it run?"
    )
    options.add_argument("--figures", type=Path, help="folder for the figures")
    given = options.parse_args()
    logging.configure("ERROR")
    seeds = range(given.seed, given.seed + (1 if given.quick else given.seeds))
    shares = (OF_NOTE,) if given.quick else SHARES
    days = 1 if given.quick else DAYS
    told = run_all(
        [Plan(case, share, seed, days) for share in reversed(shares) for seed in seeds for case in CASES]
    )
    count = MARKS[0] if given.quick else MARKS[-1]
    grew = asyncio.run(grown(count))
    say(f"{count} contributions in one pool: {json.dumps(grew)}")
    table = {} if given.quick else operations(given.repeats)
    if given.figures:
        write_figures(told, OF_NOTE, given.figures)
    result = {
        "malicious_balance_left": {
            case: {
                f"{share:g}": mean(told, share, "malicious_balance_left", case)
                for share in shares
                if share >= OF_NOTE
            }
            for case in CASES
        },
        "accuracy": {
            case: {
                what: mean(told, OF_NOTE, what, case)
                for what in ("initial", "with_mechanism", "without_mechanism", "clean")
            }
            for case in CASES
        },
        "honest_loss": max(round(told_of(one)["honest_loss"], 4) for one in told),
        "honest_loss_of_one": max(round(one.worst_lost, 4) for one in told),
        "by_share": summary(told),
        "growth": grew,
        **table,
        "gas": gas(),
        "paper": PAPER,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
