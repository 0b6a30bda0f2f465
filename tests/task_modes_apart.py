"""Training tasks that are encrypted homomorphically, between real nodes, beside the same training in the open."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import orjson
import pytest
import pytest_asyncio
from pydantic import JsonValue
from sklearn.datasets import load_breast_cancer

from agorai.client import Client
from agorai.demo.town import Resident, Town, running
from agorai.task_model import trained
from agorai.tasks import TaskPlan, Tasks
from agorai_shared.bindings.training_task import Role, TaskState
from agorai_shared.documents import Column, Metadata
from agorai_shared.errors import RemoteError
from agorai_shared.federated import (
    ComputingOffer,
    ContributionRule,
    DataOffer,
    HomomorphicKey,
    Specification,
)
from agorai_shared.task_reader import TaskOpener
from agorai_shared.task_reward import TaskReward
from agorai_shared.types import Digest
from agorai_shared.vault import OpenEnvelope
from agorai_trainer.federated import checking, models
from agorai_trainer.federated.computing import ComputedProtocol
from agorai_trainer.federated.models import ModelSpec
from agorai_trainer.federated.specs import FedAvg
from agorai_trainer.federated.strategies import strategy
from agorai_trainer.federated.updates import Update
from agorai_trainer.messages import Offer
from tests.pooling import until
from tests.trades import pass_time
from tests.training import (
    FEE,
    MODEL,
    WAGE,
    WINDOW_S,
    csv,
    hidden_samples,
    offer_adding,
    offer_computing,
    offer_data,
    plan,
    shares,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROVIDERS = ("dora", "dino", "dana", "dave")
ROUNDS = 2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town() -> AsyncGenerator[Town]:
    who = [Resident(name, 2000) for name in ("mira", "ada", *PROVIDERS)]
    async with running(who) as started:
        for name, rows in zip(PROVIDERS, shares(4), strict=True):
            await offer_data(started.clients[name], rows, computes=True)
        await offer_adding(started.clients["ada"])
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tasks(town: Town) -> dict[str, int]:
    """Have the same model trained in two modes, to the proposal of its payout; gives the tasks' ids."""
    mira = Tasks(town.clients["mira"])
    found = {}
    for mode in ("dai", "aggregate"):
        task = found[mode] = await mira.open(plan(rounds=ROUNDS, quorum=4, mode=mode), hidden_samples())

        async def proposed(task: int = task) -> bool:
            return (await mira.files.task(task)).state == TaskState.PROPOSED

        await until(proposed, f"the payout in mode {mode}")
    return found


@cache
def in_the_open() -> list[int]:
    """Give how many test samples are foretold rightly behind each round, of the same training without nodes."""
    spec, rule = ModelSpec.model_validate_json(orjson.dumps(MODEL)), strategy(FedAvg())
    test, *data = [checking.read(spec, one) for one in (hidden_samples(), *map(csv, shares(4)))]
    states = [rule.begin(models.initial(spec))]
    for number in range(1, ROUNDS + 1):
        before = states[-1]
        vectors = [models.fit(spec, before.vector, *one, number) for one in data]
        given = [Update(place, vectors[place], len(one[0])) for place, one in enumerate(data)]
        states.append(rule.aggregate(before, given))
    return [models.right(spec, state.vector, *test) for state in states]


@pytest.mark.parametrize("mode", ["dai", "aggregate"])
async def test_an_encrypted_task_comes_to_the_same_model(
    town: Town, tasks: dict[str, int], mode: str
) -> None:
    files = Tasks(town.clients["mira"]).files
    for number, right in enumerate(in_the_open()):
        found = await files.round(tasks[mode], number)
        assert len(found.taken) == (4 if number else 0)
        assert abs(found.right - right) <= 1


@pytest.mark.parametrize("mode", ["dai", "aggregate"])
async def test_its_payout_is_found_right_by_whoever_recomputes_it(
    town: Town, tasks: dict[str, int], mode: str
) -> None:
    audited = await TaskReward(town.clients["dora"].commander).audit(tasks[mode])
    assert (audited.verdict, audited.findings) == ("right", ())
    assert audited.rows is not None
    paid = {row.account: int(row.amount) for row in audited.rows}
    assert paid.get(town.clients["ada"].address, 0) == (ROUNDS * FEE if mode == "aggregate" else 0)
    assert all(paid[town.clients[name].address] >= ROUNDS * FEE for name in PROVIDERS)
    if mode == "aggregate":
        seen = await Tasks(town.clients["dora"]).look(tasks[mode])
        adders = {id_ for id_, one in seen.history.subtasks.items() if one.role == Role.ADDER}
        values = [Fraction(one.contribution) for one in audited.subtasks if one.subtask not in adders]
        low, second, third, high = sorted(values)  # in each round two share one value, and two another
        assert low + high == second + third


async def test_nobody_but_the_adder_opens_an_update_that_is_added(town: Town, tasks: dict[str, int]) -> None:
    task, mira = tasks["aggregate"], Tasks(town.clients["mira"])
    history = await mira.files.history(task)
    event = history.rounds[0].updates[history.trained(1)[0]]
    envelope = (await mira.files.update(event)).update
    assert envelope.to_task is None
    asked = OpenEnvelope(
        envelope=envelope, context=mira.files.binding(task).update(event.subtask, 1), author=event.computer
    )
    ciphertext = await town.clients["ada"].vault.open_envelope(asked, 1 << 20)
    assert ciphertext.startswith(b"AGOHEC")
    nonce = (await mira.files.document(task)).nonce
    for given in (asked, asked.model_copy(update={"nonce": nonce})):
        with pytest.raises(RemoteError) as refused:
            await town.clients["mira"].vault.open_envelope(given, 1 << 20)
        assert refused.value.code == "not_for_key"


# --------------------------------------------------------------------------------------- mode encrypted

NAMES = ("radius", "texture", "smoothness", "concavity")
TESTED = 169
"""Samples of the hidden test set."""


def tumours() -> tuple[npt.NDArray[np.float64], list[JsonValue]]:
    """Give rows of four measures and a class, and how their columns are scaled."""
    measures, classes = load_breast_cancer(return_X_y=True)
    measures = measures[:, [0, 1, 4, 6]]
    scales: list[JsonValue] = [
        {"name": name, "offset": float(of.mean()), "scale": float(of.std())}
        for name, of in zip(NAMES, measures.T, strict=True)
    ]
    return np.column_stack([measures, classes])[np.random.default_rng(3).permutation(len(classes))], scales


def written(rows: npt.NDArray[np.float64]) -> bytes:
    lines = [",".join([*(f"{cell:.6g}" for cell in row[:-1]), str(int(row[-1]))]) for row in rows]
    return "\n".join([",".join((*NAMES, "benign")), *lines]).encode() + b"\n"


async def offer_tumours(client: Client, rows: npt.NDArray[np.float64], *, computes: bool = False) -> None:
    content = written(rows)
    columns = tuple(Column(name=name, type="number") for name in (*NAMES, "benign"))
    metadata = Metadata(
        kind="data", name="tumours", format="csv", size=len(content), rows=len(rows), target="benign",
        task="classification", columns=columns,
    )  # fmt: skip
    resource = await client.publish(content, metadata, Offer(name="tumours", price=0))
    computing = ComputingOffer(wage=str(WAGE), cores=1, memory_mib=512) if computes else None
    await Tasks(client).offer(
        Specification(data=(DataOffer(resource=resource, fee=str(FEE)),), computing=computing)
    )


def encrypted_plan(quorum: int, rounds: int, features: list[JsonValue], learning_rate: float) -> TaskPlan:
    found = plan(rounds=rounds, quorum=quorum, mode="encrypted")
    model: dict[str, JsonValue] = {
        "kind": "logistic_regression", "features": features, "target": {"name": "benign"}, "classes": [0, 1],
        "l2": 0, "local_epochs": 1, "learning_rate": learning_rate,
    }  # fmt: skip
    return replace(
        found,
        model=model,
        wanted=found.wanted.model_copy(update={"least_rows": 20}),
        contribution=ContributionRule(method="samples"),
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hidden(town: Town, tasks: dict[str, int]) -> int:
    """Have a model trained on samples that their computers do not see; gives the task."""
    rows, features = tumours()
    await offer_tumours(town.clients["dora"], rows[TESTED : TESTED + 200])
    await offer_tumours(town.clients["dana"], rows[TESTED + 200 :], computes=True)
    await offer_computing(town.clients["ada"], wage=WAGE // 2)
    await offer_computing(town.clients["mira"], wage=WAGE // 4)  # who has the key, and is given no samples
    for name in ("dino", "dave"):
        await Tasks(town.clients[name]).offer(Specification())
    mira = Tasks(town.clients["mira"])
    task = await mira.open(encrypted_plan(2, ROUNDS, features, 2.0), written(rows[:TESTED]))

    async def proposed() -> bool:
        return (await mira.files.task(task)).state == TaskState.PROPOSED

    await until(proposed, "the payout in mode encrypted")
    return task


async def test_a_model_is_trained_on_samples_that_its_computers_do_not_see(town: Town, hidden: int) -> None:
    seen = await Tasks(town.clients["mira"]).look(hidden)
    computers = {line.data_provider: line.computer for line in seen.history.subtasks.values()}
    ada, dora, dana = (town.clients[name].address for name in ("ada", "dora", "dana"))
    assert computers == {dora: ada, dana: dana}
    first, *_, last = [
        await Tasks(town.clients["mira"]).files.round(hidden, number) for number in range(ROUNDS + 1)
    ]
    assert len(last.taken) == 2
    assert first.right < 0.7 * TESTED
    assert last.right > 0.85 * TESTED


async def test_its_computer_opens_neither_model_nor_samples_in_the_clear(town: Town, hidden: int) -> None:
    mira, ada = Tasks(town.clients["mira"]), town.clients["ada"]
    files, owner = mira.files, mira.client.address
    history = await files.history(hidden)
    line = next(one for one in history.subtasks.values() if one.computer == ada.address)
    record, binding = await files.round(hidden, 1), files.binding(hidden)
    asked = OpenEnvelope(envelope=record.model, context=binding.model(1), author=owner)
    with pytest.raises(RemoteError) as refused:
        await ada.vault.open_envelope(asked, 1 << 20)
    assert refused.value.code == "not_for_key"
    assert record.encrypted is not None
    asked = OpenEnvelope(envelope=record.encrypted, context=binding.encrypted(1), author=owner)
    assert (await ada.vault.open_envelope(asked, 1 << 24)).startswith(b"AGOHEC")
    handed = (await files.handover(hidden, line)).data
    asked = OpenEnvelope(envelope=handed, context=binding.data(line.id), author=line.data_provider)
    assert (await ada.vault.open_envelope(asked, 1 << 24)).startswith(b"AGOHEX")


async def test_what_reveals_the_task_s_key_opens_neither_secret_key_nor_models(
    town: Town, hidden: int
) -> None:
    mira, dino = Tasks(town.clients["mira"]), Tasks(town.clients["dino"])
    document, owner = await dino.files.document(hidden), mira.client.address
    assert document.homomorphic is not None
    envelopes = {HomomorphicKey.context(document.key): document.homomorphic.secret}
    for number in range(ROUNDS + 1):
        record, context = await dino.files.round(hidden, number), dino.files.binding(hidden).model(number)
        envelopes |= {context: record.model, f"{context}:state": record.state}
    for client in (dino.client, town.clients["ada"], town.clients["dora"]):
        opener = TaskOpener(client.address, dino.files, client.vault)
        for context, envelope in envelopes.items():
            to = [one.header.kid for sealed in envelope.to_members for one in sealed.recipients]
            assert (envelope.to_task, to) == (None, [owner])
            with pytest.raises(RemoteError) as refused:
                await opener.open(hidden, envelope, context, owner, 1 << 20)
            assert refused.value.code == "not_for_key"
    assert (await trained(mira, hidden)).round == ROUNDS


async def test_its_payout_by_form_and_samples_is_found_right_by_a_stranger(town: Town, hidden: int) -> None:
    audited = await TaskReward(town.clients["dino"].commander).audit(hidden)
    (why,) = audited.findings
    assert (audited.verdict, why.kind) == ("right", "noted")
    assert "Neither models nor updates are recomputed" in why.text
    assert all(one.delivered == ROUNDS for one in audited.subtasks)
    rows = {"dora": 200, "dana": len(tumours()[0]) - TESTED - 200}
    seen = (await Tasks(town.clients["dino"]).look(hidden)).history.subtasks
    owners = {
        town.clients[name].address: Fraction(ROUNDS * count, sum(rows.values()))
        for name, count in rows.items()
    }
    assert {seen[one.subtask].data_provider: Fraction(one.contribution) for one in audited.subtasks} == owners


async def test_a_computer_that_does_not_deliver_is_replaced_and_weights_beyond_all_use_are_told_to_nobody(
    town: Town, hidden: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    mira, dora = Tasks(town.clients["mira"]), town.clients["dora"]
    ada, dana = (town.clients[name].address for name in ("ada", "dana"))
    trains = ComputedProtocol._train

    async def dies(self: ComputedProtocol, task: int, key: int, number: int) -> Digest:
        if self._reader.me == ada:
            raise TimeoutError("this computer is dead")
        return await trains(self, task, key, number)

    monkeypatch.setattr(ComputedProtocol, "_train", dies)
    rows, scales = tumours()
    benign = rows[:, -1] == 1
    await offer_tumours(dora, np.concatenate([rows[benign][-150:], rows[~benign][-50:]]))
    await offer_computing(town.clients["dana"])
    # far from their mean of 0, samples give long steps: weights come to 35, which cannot be encrypted again
    far: list[JsonValue] = [
        one | {"offset": one["offset"] - 56 * one["scale"], "scale": 4 * one["scale"]}
        for one in cast("list[dict[str, Any]]", scales)
    ]
    task = await mira.open(encrypted_plan(1, ROUNDS, far, 10.0), written(rows[:TESTED]))

    async def is_in(state: TaskState) -> bool:
        return (await mira.files.task(task)).state == state

    await until(lambda: is_in(TaskState.RUNNING), "the first round")
    await pass_time(mira.client, WINDOW_S // 2 + 1)
    await until(lambda: is_in(TaskState.PROPOSED), "the payout")
    gone, came = (await mira.look(task)).subtasks.values()
    assert (gone.computer, gone.delivered, came.computer, came.delivered) == (ada, 0, dana, ROUNDS)
    records = [await mira.files.round(task, number) for number in range(ROUNDS + 1)]
    last = max((await mira.look(task)).subtasks)
    assert [one.taken for one in records] == [(), *[(last,)] * ROUNDS]
    assert not any(one.refused for one in records)
    assert len({one.right for one in records}) == 1
    assert [one.encrypted is not None for one in records] == [True, True, False]
    audited = await TaskReward(dora.commander).audit(task)
    assert audited.verdict == "right"
    assert {one.subtask: one.delivered for one in audited.subtasks}[last] == ROUNDS
