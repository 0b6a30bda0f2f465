"""ISC-MTI's case (section 6): a data owner, the trainer linhao, and tommy, who has 100 HAPY and pays 10.

For each data set: linhao buys it, trains in memory and sells the sealed model; tommy buys the model, loads it in
memory and predicts on a file of his own. The time is from linhao's payment to tommy's predictions, beside the
time of the same training done the ordinary way.
"""

from __future__ import annotations

import asyncio
import io
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from sklearn import datasets

from agorai.client import Client, OnStage, accuracy
from agorai.demo import ordinary
from agorai.demo.town import Resident, Town, running
from agorai.devchain import TOKEN, TOKEN_SYMBOL
from agorai_shared.documents import Column, Metadata
from agorai_shared.types import ResourceId
from agorai_trainer.messages import Offer
from agorai_trainer.tasks import TrainingTask

DATA_PRICE = 5
MODEL_PRICE = 10
TOMMYS_TOKENS = 100
WINDOW_S = 3600


@dataclass(frozen=True)
class Case:
    """One data set that ships with scikit-learn, and what is trained on it."""

    name: str
    load: Literal["breast_cancer", "digits", "diabetes"]
    task: TrainingTask

    def csv(self) -> bytes:
        """Give the data set as a table with its target in the last column."""
        bunch: Any = getattr(datasets, f"load_{self.load}")()
        table = pd.DataFrame(bunch.data, columns=[str(name) for name in bunch.feature_names])
        table["target"] = bunch.target
        buffer = io.StringIO()
        table.to_csv(buffer, index=False)
        return buffer.getvalue().encode()


def boosting(kind: Literal["Classifier", "Regressor"], rounds: int = 100) -> TrainingTask:
    """Declare gradient boosting; the paper sets the number of iterations to 100."""
    return TrainingTask(
        estimator=f"sklearn.GradientBoosting{kind}",
        hyperparameters={"n_estimators": rounds},
        target="target",
        seed=7,
    )


CASES = (
    Case("breast cancer", "breast_cancer", boosting("Classifier")),
    Case("digits", "digits", boosting("Classifier")),
    Case("diabetes (regression)", "diabetes", boosting("Regressor")),
)


@dataclass(frozen=True)
class Run:
    """One line of the table, as the paper's Table 4 has it."""

    dataset: str
    accuracy_ordinary: float
    accuracy_agorai: float
    seconds_ordinary: float
    seconds_agorai: float
    L: float
    """Efficiency loss rate, formula (3), in percent."""


@dataclass(frozen=True)
class Report:
    """What the demonstration showed."""

    token: str
    balances: dict[str, float]
    runs: list[Run]
    transfers: list[dict[str, Any]]
    versions: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Give it for machines."""
        return asdict(self)


def residents(cases: int) -> list[Resident]:
    """Give the paper's participants, with what they need for so many data sets."""
    return [
        Resident("owner", 0),
        Resident("linhao", DATA_PRICE * cases),
        Resident("tommy", TOMMYS_TOKENS),
    ]


async def run(tell: OnStage, *, block_time_s: float | None = None) -> Report:
    """Run the whole case on a marketplace of its own."""
    tell("starting bus, chain, hub and three nodes")
    async with running(residents(len(CASES)), block_time_s=block_time_s) as town:
        runs = [await compare(town, case, tell) for case in CASES]
        linhao = town.clients["linhao"]
        tell("linhao publishes a second version")
        versions = await _second_version(linhao)
        tell("everyone takes what they earned")
        for client in town.clients.values():
            await client.withdraw()
        balances = {name: (await c.balances()).tokens / TOKEN for name, c in town.clients.items()}
        return Report(TOKEN_SYMBOL, balances, runs, await _transfers(town), versions)


async def compare(town: Town, case: Case, tell: OnStage) -> Run:
    """Train the ordinary way and by way of the market, and compare."""
    data = case.csv()
    owner = town.clients["owner"]
    tell(f"{case.name}: the owner publishes the data set, sealed")
    resource = await owner.publish(
        data, describe(case, data), Offer(name=case.name, price=DATA_PRICE * TOKEN)
    )
    tell(f"{case.name}: ordinary training")
    with tempfile.TemporaryDirectory(prefix="agorai-") as folder:
        path = Path(folder, "data.csv")
        path.write_bytes(data)
        usual = await asyncio.to_thread(ordinary.run, path, case.task, Path(folder))
    table, true = ordinary.held_back(data, case.task)
    start = time.perf_counter()
    predicted = await through_market(town, case, resource, table, tell)
    seconds = time.perf_counter() - start
    return Run(
        dataset=case.name,
        accuracy_ordinary=usual.accuracy,
        accuracy_agorai=ordinary.percent(predicted, true, case.task.kind),
        seconds_ordinary=usual.seconds,
        seconds_agorai=seconds,
        L=(seconds - usual.seconds) / usual.seconds * 100,
    )


async def through_market(
    town: Town, case: Case, resource: ResourceId, table: bytes, tell: OnStage
) -> list[int | float | str]:
    """Buy the data, train, sell the model, buy it, predict with it."""
    linhao, tommy = town.clients["linhao"], town.clients["tommy"]
    tell(f"{case.name}: linhao pays for the data, trains in memory and sells the sealed model")
    paid, _ = await linhao.pay(resource)
    trained = await linhao.train(
        paid.id, case.task, Offer(name=f"{case.name} model", price=MODEL_PRICE * TOKEN)
    )
    tell(f"{case.name}: tommy pays for the model and predicts in memory on his own file")
    bought, _ = await tommy.pay(trained.resource or 0)
    return await tommy.predict(bought.id, table)


def describe(case: Case, data: bytes) -> Metadata:
    """Say of a data set what anyone may know."""
    table = pd.read_csv(io.BytesIO(data))
    return Metadata(
        kind="data",
        name=case.name,
        description="Ships with scikit-learn.",
        format="csv",
        size=len(data),
        columns=tuple(Column(name=str(name), type=str(table[name].dtype)) for name in table.columns),
        rows=len(table),
        target="target",
        task=case.task.kind,
    )


async def _second_version(linhao: Client) -> list[dict[str, Any]]:
    """Train once more on the data that linhao has the right to, and walk the history."""
    mine = [
        int(event.key)
        async for event in linhao.events(contract="Registry", event="Registered")
        if event.args["owner"] == linhao.address
    ]
    bought = [
        int(event.key)
        async for event in linhao.events(contract="Invocation", event="Paid")
        if event.args["payer"] == linhao.address
    ]
    offer = Offer(name=f"{CASES[0].name} model", price=MODEL_PRICE * TOKEN, previous=mine[0])
    better = await linhao.train(bought[0], boosting("Classifier", 150), offer)
    return [
        {
            "resource": version.id,
            "name": version.metadata.name if version.metadata else None,
            "previous": version.resource.previous,
            "accuracy": (accuracy(version) or 0) * 100,
        }
        for version in await linhao.versions(better.resource or 0)
    ]


async def _transfers(town: Town) -> list[dict[str, Any]]:
    names = {client.address: name for name, client in town.clients.items()}
    reader = next(iter(town.clients.values()))
    return [
        {
            "invocation": int(event.key),
            "resource": event.args["resource"],
            "from": names[event.args["payer"]],  # type: ignore[index]
            "to": names[event.args["owner"]],  # type: ignore[index]
            "amount": int(str(event.args["price"])) / TOKEN,
            "transaction": event.transaction_hash,
        }
        async for event in reader.events(contract="Invocation", event="Paid")
    ]
