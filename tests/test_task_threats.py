"""What goes wrong in training tasks, between real nodes: who lies, who vanishes, and who does no honest work."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import numpy as np
import pytest
import pytest_asyncio

from agorai.demo.town import Resident, Town, running
from agorai.devchain import PANEL
from agorai.tasks import Tasks
from agorai_reward.audit import root_of
from agorai_reward.due import Record
from agorai_reward.payout import Row
from agorai_reward.task_handlers import TaskProtocol
from agorai_reward.task_record import Records
from agorai_shared import cid
from agorai_shared.bindings.training_task import Outcome, SubtaskState, TaskState
from agorai_shared.bindings.voting_panel import Phase, VotingPanel
from agorai_shared.content import StoreUnreachableError
from agorai_shared.digest_files import FileAbsentError
from agorai_shared.errors import RemoteError
from agorai_shared.federated import PayoutDocument, PayoutRow
from agorai_shared.task_reward import TaskReward
from agorai_shared.types import CaseId, Digest
from agorai_trainer.federated.computing import ComputedProtocol
from agorai_trainer.federated.sandboxed import FederatedSandbox, Trained
from tests.pooling import until
from tests.trades import VOTERS, enlist, pass_time, pass_until
from tests.training import (
    AWARD,
    FEE,
    WAGE,
    WINDOW_S,
    hidden_samples,
    offer_computing,
    offer_data,
    plan,
    shares,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROVIDERS = ("dora", "dino", "dana")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town() -> AsyncGenerator[Town]:
    who = [Resident(name, 2000) for name in ("mira", "max", "cora", "cole", *PROVIDERS)]
    async with running([*who, *(Resident(name, 100) for name in VOTERS)]) as started:
        for name in VOTERS:
            await enlist(started.clients[name])
        for name, rows in zip(PROVIDERS, shares(3), strict=True):
            await offer_data(started.clients[name], rows)
        for name in ("cora", "cole"):
            await offer_computing(started.clients[name])
        yield started


async def test_a_false_payout_is_challenged_and_the_right_one_takes_its_place(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    mira, dora = Tasks(town.clients["mira"]), Tasks(town.clients["dora"])
    liar, friend = mira.client.address, town.clients["cora"].address
    honest = TaskProtocol.payout

    async def false(self: TaskProtocol, task: int, *, withheld: bool = False) -> tuple[bytes, int, Digest]:
        if self._me != liar:
            return await honest(self, task, withheld=withheld)
        rows = (Row(friend, AWARD),)
        document = PayoutDocument(
            task=mira.files.binding(task),
            rows=(PayoutRow(account=friend, amount=str(AWARD)),),
            test_set=cid.of_raw(hidden_samples()),
        )
        stored = await self._files.market.store.put(document.to_bytes())
        return root_of(task, rows), AWARD, cid.digest_of(stored)

    monkeypatch.setattr(TaskProtocol, "payout", false)
    before = await _owned(mira)
    task = await mira.open(plan(rounds=1), hidden_samples())
    await until(lambda: _in(dora, task, TaskState.CHALLENGED), "the challenge")
    audited = await TaskReward(dora.client.commander).audit(task)
    assert audited.verdict == "wrong"
    assert any(friend in one.text for one in audited.findings if one.kind == "wrong")

    await until(lambda: _has_outcome(dora, task), "the verdict")
    seen = await dora.look(task)
    assert [one.outcome for one in seen.history.outcomes] == [Outcome.REJECTED]
    assert seen.task.proposer != liar
    await pass_time(dora.client, WINDOW_S + 1)
    await until(lambda: _in(dora, task, TaskState.SETTLED), "the end")
    await until(lambda: _claimed(town, task), "everyone's claim")
    spent = before - await _owned(mira)
    assert spent >= AWARD + 3 * FEE - 3 + AWARD  # what is due, and the bond
    audited = await TaskReward(dora.client.commander).audit(task)
    assert audited.verdict == "right"


async def test_a_model_provider_that_vanishes_leaves_its_budget_to_those_who_worked(town: Town) -> None:
    task = await Tasks(town.clients["max"]).open(plan(rounds=5), hidden_samples())
    dora = Tasks(town.clients["dora"])
    before = {name: await Tasks(town.clients[name]).credit() for name in (*PROVIDERS, "cora", "cole")}
    await until(lambda: _delivered(dora, task, 3), "a round")
    await town.stop("max")
    await pass_time(dora.client, 2 * WINDOW_S + 300)
    await until(lambda: _in(dora, task, TaskState.ABANDONED), "giving up")
    await until(lambda: _compensated(dora, task), "what is owed")
    delivered = (await dora.look(task)).task.delivered
    after = {name: await Tasks(town.clients[name]).credit() for name in before}
    paid = sum(after[name] - before[name] for name in PROVIDERS)
    wages = sum(after[name] - before[name] for name in ("cora", "cole"))
    assert wages == delivered * WAGE
    assert abs(paid - (delivered * (FEE - WAGE) + AWARD)) <= 3  # half of award and bond, which are alike


async def test_a_computer_that_dies_is_replaced_in_the_round(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    mira, cole = Tasks(town.clients["mira"]), town.clients["cole"].address
    trains = ComputedProtocol._train

    async def dies(self: ComputedProtocol, task: int, key: int, number: int) -> Digest:
        if self._reader.me != cole:
            raise TimeoutError("this computer is dead")
        return await trains(self, task, key, number)

    monkeypatch.setattr(ComputedProtocol, "_train", dies)
    await offer_computing(town.clients["cole"], wage=WAGE + 1)  # asked only once cora has failed
    task = await mira.open(plan(rounds=1, quorum=1, providers=1), hidden_samples())
    await until(lambda: _in(mira, task, TaskState.RUNNING), "the round")
    await pass_time(mira.client, WINDOW_S // 2 + 1)
    await until(lambda: _delivered(mira, task, 1), "the other computer's update")
    seen = await mira.look(task)
    assert seen.task.round == 1
    (gone, came) = seen.subtasks.values()
    assert (gone.state, gone.delivered) == (SubtaskState.ENDED, 0)
    assert (came.computer, came.delivered) == (cole, 1)
    await until(lambda: _in(mira, task, TaskState.PROPOSED), "the payout")
    assert (await mira.files.round(task, 1)).taken == (max(seen.subtasks),)


async def test_a_record_that_is_withheld_leaves_what_the_chain_proves(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    mira, dora = Tasks(town.clients["mira"]), Tasks(town.clients["dora"])
    reads = Records.record

    async def record(self: Records, task: int) -> Record:
        if self.opener.me != mira.client.address:
            raise FileAbsentError("record", bytes(32), StoreUnreachableError("mira's gateway", "it is away"))
        return await reads(self, task)

    monkeypatch.setattr(Records, "record", record)
    task = await mira.open(plan(rounds=1), hidden_samples())
    await until(lambda: _in(mira, task, TaskState.PROPOSED), "the payout")
    with pytest.raises(RemoteError, match="record"):
        await dora.challenge(task)
    await dora.challenge(task, withheld=True)
    panel = VotingPanel(dora.client.market.deployment.voting_panel)
    case = CaseId((await dora.files.task(task)).panel_case)

    async def committing() -> bool:
        (found,) = await dora.client.chain.read(panel.case_of(case))
        return bool(found.phase == Phase.COMMITTING)

    await until(committing, "the draw of voters")
    await pass_time(dora.client, 3 * PANEL.commit_window // 4)  # until then its store may only be away
    await until(lambda: _has_outcome(dora, task), "the verdict")
    seen = await dora.look(task)
    assert [one.outcome for one in seen.history.outcomes] == [Outcome.REJECTED]
    assert seen.task.proposer == dora.client.address
    audited = await TaskReward(town.clients["dino"].commander).audit(task, withheld=True)
    assert audited.verdict == "right"
    paid = {row.account: int(row.amount) for row in audited.rows or ()}
    equal = FEE - WAGE + AWARD // 3
    assert all(abs(paid[town.clients[name].address] - equal) <= 1 for name in PROVIDERS)


async def test_who_does_no_honest_work_gets_nothing_for_it(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three computers' updates one is the model given back, and one turned against what was learnt."""
    mira = Tasks(town.clients["mira"])
    fit = FederatedSandbox.fit
    count = 0

    async def fits(self: FederatedSandbox, *args: object, keep: str | None = None) -> Trained:
        nonlocal count
        turn = count = count + 1
        trained, start = await fit(self, *args, keep=keep), args[1]  # type: ignore[arg-type,misc]
        assert isinstance(start, np.ndarray)
        if turn == 1:
            return Trained(start.copy(), trained.samples)
        return Trained(start - 3 * (trained.vector - start), trained.samples) if turn == 2 else trained

    monkeypatch.setattr(FederatedSandbox, "fit", fits)
    task = await mira.open(plan(rounds=1), hidden_samples())
    await until(lambda: _in(mira, task, TaskState.PROPOSED), "the payout")
    audited = await TaskReward(town.clients["dora"].commander).audit(task)
    assert audited.verdict == "right"
    assert sorted(one.delivered for one in audited.subtasks) == [0, 1, 1]
    assert any("unchanged" in one.text for one in audited.findings)
    values = [float(one.contribution.partition("/")[0]) for one in audited.subtasks]
    assert sum(value > 0 for value in values) == 1


async def _in(tasks: Tasks, task: int, state: TaskState) -> bool:
    return (await tasks.files.task(task)).state == state


async def _delivered(tasks: Tasks, task: int, least: int) -> bool:
    return (await tasks.files.task(task)).delivered >= least


async def _owned(tasks: Tasks) -> int:
    return int((await tasks.client.balances()).tokens) + int(await tasks.credit())


async def _has_outcome(tasks: Tasks, task: int) -> bool:
    """Let a phase of the panel pass once all who were drawn have spoken in it, and tell whether the panel has."""
    state = await tasks.files.task(task)
    if state.panel_case:
        panel = VotingPanel(tasks.client.market.deployment.voting_panel)
        (case,) = await tasks.client.chain.read(panel.case_of(CaseId(state.panel_case)))
        spoken = {Phase.COMMITTING: case.committed, Phase.REVEALING: case.revealed}.get(case.phase)
        if spoken == case.size:
            await pass_until(tasks.client, case.deadline + 1)
    return bool((await tasks.files.history(task)).outcomes)


async def _claimed(town: Town, task: int) -> bool:
    tasks = Tasks(town.clients["dora"])
    state = await tasks.files.task(task)
    return bool(state.claimed) and state.claimed == state.total


async def _compensated(tasks: Tasks, task: int) -> bool:
    return all(one.claimed for one in (await tasks.look(task)).subtasks.values() if one.delivered)
