"""Training tasks whose updates are encrypted homomorphically, between real nodes, beside one in the open."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from fractions import Fraction

import pytest
import pytest_asyncio

from agorai.demo.town import Resident, Town, running
from agorai.tasks import Tasks
from agorai_shared.bindings.training_task import Role, TaskState
from agorai_shared.errors import RemoteError
from agorai_shared.task_reward import TaskReward
from agorai_shared.vault import OpenEnvelope
from tests.pooling import until
from tests.training import FEE, hidden_samples, offer_adding, offer_data, plan, shares

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROVIDERS = ("dora", "dino", "dana", "dave")
ROUNDS = 2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town() -> AsyncGenerator[Town]:
    who = [Resident(name, 1000) for name in ("mira", "ada", *PROVIDERS)]
    async with running(who) as started:
        for name, rows in zip(PROVIDERS, shares(4), strict=True):
            await offer_data(started.clients[name], rows, computes=True)
        await offer_adding(started.clients["ada"])
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tasks(town: Town) -> dict[str, int]:
    """Have the same model trained in each mode, to the proposal of its payout; gives the tasks' ids."""
    mira = Tasks(town.clients["mira"])
    found = {}
    for mode in ("open", "dai", "aggregate"):
        task = found[mode] = await mira.open(plan(rounds=ROUNDS, quorum=4, mode=mode), hidden_samples())

        async def proposed(task: int = task) -> bool:
            return (await mira.files.task(task)).state == TaskState.PROPOSED

        await until(proposed, f"the payout in mode {mode}")
    return found


@pytest.mark.parametrize("mode", ["dai", "aggregate"])
async def test_an_encrypted_task_comes_to_the_same_model(
    town: Town, tasks: dict[str, int], mode: str
) -> None:
    files = Tasks(town.clients["mira"]).files
    for number in range(ROUNDS + 1):
        plain, found = await files.round(tasks["open"], number), await files.round(tasks[mode], number)
        assert len(found.taken) == len(plain.taken) == (4 if number else 0)
        assert abs(found.right - plain.right) <= 1


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
