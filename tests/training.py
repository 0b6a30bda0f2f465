"""What tests of training tasks are made of: handwritten digits, dealt unevenly, and a task that learns them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue
from sklearn.datasets import load_digits

from agorai.client import Client
from agorai.devchain import TOKEN
from agorai.tasks import TaskPlan, Tasks, TaskTerms
from agorai_shared.documents import Column, Metadata
from agorai_shared.federated import ComputingOffer, DataOffer, Mode, Specification, Wanted
from agorai_shared.types import Wei
from agorai_trainer.federated.partition import dirichlet
from agorai_trainer.messages import Offer

FEE: Final = 2 * TOKEN
WAGE: Final = TOKEN // 2
AWARD: Final = 100 * TOKEN
WINDOW_S: Final = 600
PIXELS: Final = 64
TEST: Final = 400
"""Samples of the hidden test set."""

MODEL: Final[dict[str, JsonValue]] = {
    "kind": "logistic_regression",
    "features": [{"name": f"p{place}", "scale": 16, "minimum": 0, "maximum": 16} for place in range(PIXELS)],
    "target": {"name": "digit"},
    "classes": list(range(10)),
    "local_epochs": 5,
}


@cache
def table() -> npt.NDArray[np.float64]:
    """Give pixels and digit of all samples, in an order of their own."""
    pixels, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(digits))
    found: npt.NDArray[np.float64] = np.column_stack([pixels, digits])[order]
    return found


def csv(rows: npt.NDArray[np.float64]) -> bytes:
    """Write samples as a CSV file."""
    header = ",".join([*(f"p{place}" for place in range(PIXELS)), "digit"])
    return "\n".join([header, *(",".join(str(int(cell)) for cell in row) for row in rows)]).encode() + b"\n"


def hidden_samples() -> bytes:
    return csv(table()[:TEST])


def shares(count: int, alpha: float = 0.5) -> list[npt.NDArray[np.float64]]:
    """Deal the other samples unevenly."""
    rest = table()[TEST:]
    return [rest[rows] for rows in dirichlet(rest[:, -1], count, alpha, 1)]


def plan(
    *,
    rounds: int = 3,
    quorum: int = 3,
    strategy: dict[str, JsonValue] | None = None,
    providers: int | None = None,
    mode: Mode = "open",
) -> TaskPlan:
    fees = FEE * rounds * ((providers or quorum) + (mode == "aggregate"))
    return TaskPlan(
        name="digits",
        model=MODEL,
        strategy=strategy or {"name": "FedAvg"},
        mode=mode,
        wanted=Wanted(most_fee=str(FEE), providers=providers or quorum),
        terms=TaskTerms(
            budget=Wei(fees + AWARD),
            award=Wei(AWARD),
            bond=Wei(AWARD),
            rounds=rounds,
            quorum=quorum,
            join_window=WINDOW_S,
            round_window=WINDOW_S,
            step_window=WINDOW_S,
            challenge_window=WINDOW_S,
        ),
    )


async def publish(client: Client, rows: npt.NDArray[np.float64]) -> int:
    """Register a share as a data set."""
    content = csv(rows)
    names = [*(f"p{place}" for place in range(PIXELS)), "digit"]
    metadata = Metadata(
        kind="data", name="digits", format="csv", size=len(content), rows=len(rows), target="digit",
        task="classification", columns=tuple(Column(name=name, type="integer") for name in names),
    )  # fmt: skip
    return await client.publish(content, metadata, Offer(name="digits", price=0))


async def offer_data(client: Client, rows: npt.NDArray[np.float64], *, computes: bool = False) -> int:
    """Offer a share to training; gives the resource."""
    resource = await publish(client, rows)
    computing = ComputingOffer(wage=str(WAGE), cores=1, memory_mib=512) if computes else None
    await Tasks(client).offer(
        Specification(data=(DataOffer(resource=resource, fee=str(FEE)),), computing=computing)
    )
    return resource


async def offer_computing(client: Client, wage: int = WAGE, subtasks: int = 10) -> None:
    computing = ComputingOffer(wage=str(wage), cores=1, memory_mib=512, subtasks=subtasks)
    await Tasks(client).offer(Specification(computing=computing))


async def offer_adding(client: Client) -> None:
    await Tasks(client).offer(Specification(adding=str(FEE)))


def names(count: int) -> Sequence[str]:
    return [f"dora{number}" for number in range(count)]
