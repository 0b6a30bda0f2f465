"""The paper's figures 9 to 12 from what was measured, and accuracy by the share of malicious contributors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Final

from benchmarks.pooling.chart import Chart, Point
from benchmarks.pooling.trial import ROUNDS, Told, told_of

_PLACES: Final = {"text": 9, "image": 10}


def write_figures(told: Sequence[Told], share: float, folder: Path) -> None:
    """Write all figures; those over time are of pools with this share, with the first seed."""
    folder.mkdir(parents=True, exist_ok=True)
    first = min(one.seed for one in told)
    for one in told:
        if (one.share, one.seed) != (share, first):
            continue
        Chart(
            f"Fig. {_PLACES[one.case]}: growth of the {one.case} pool, {share:.0%} malicious",
            "days",
            "samples in the pool",
            {"initial and accepted samples": _by_day(one.samples)},
        ).write(folder, f"fig{_PLACES[one.case]}_growth_{one.case}")
        Chart(
            f"Fig. 11: balances in the {one.case} pool, {share:.0%} malicious",
            "days",
            "balance, as a share of the first",
            {"good contributors, mean": _by_day(one.good), "malicious, mean": _by_day(one.malicious)},
        ).write(folder, f"fig11_balances_{one.case}")
        Chart(
            f"Fig. 12: accuracy of the {one.case} model, {share:.0%} malicious",
            "days",
            "accuracy on the hidden test set",
            {
                "with the mechanism": one.with_mechanism,
                "without": _by_day(one.without_mechanism),
                "honest data alone": _by_day(one.clean),
            },
        ).write(folder, f"fig12_accuracy_{one.case}")
    for name in dict.fromkeys(one.case for one in told):
        _by_share([one for one in told if one.case == name]).write(folder, f"accuracy_by_share_{name}")


def _by_day(values: Sequence[float]) -> list[Point]:
    return [(number / ROUNDS, value) for number, value in enumerate(values)]


def _by_share(told: Sequence[Told]) -> Chart:
    shares = sorted({one.share for one in told})
    seeds = len({one.seed for one in told})

    def line(what: str) -> list[Point]:
        return [
            (100 * share, mean(told_of(one)[what] for one in told if one.share == share)) for share in shares
        ]

    return Chart(
        f"Accuracy of the {told[0].case} model after six days, mean of {seeds} seeds",
        "malicious contributors, %",
        "accuracy on the hidden test set",
        {
            "with the mechanism": line("with_mechanism"),
            "without": line("without_mechanism"),
            "honest data alone": line("clean"),
            "initial model": line("initial"),
        },
    )
