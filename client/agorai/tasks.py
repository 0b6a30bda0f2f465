"""Training tasks, from outside a node (DAI, 3.3 to 4.5).

    async with Client.connect(Home(Path("~/.agorai"))) as client:
        task = await Tasks(client).open(plan, Path("test.csv").read_bytes())

The node of whoever takes part does by itself what comes next: it asks data providers, agrees, trains, aggregates,
proposes the payout, audits, settles and claims. What its owner decides is here.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any, Final, cast

from pydantic import JsonValue

from agorai.client import Client, OnStage, silent
from agorai.devchain import TOKEN
from agorai.exchange import Contracts, refusal
from agorai_shared import cid as cids
from agorai_shared.bindings.training_task import Opened, Subtask, Task, TaskState, Terms
from agorai_shared.content import NODE_PIN
from agorai_shared.digest_files import several
from agorai_shared.documents import Profile
from agorai_shared.errors import AgoraiError, InputError
from agorai_shared.federated import (
    ContributionRule,
    Mode,
    Privacy,
    Specification,
    Stop,
    TaskDocument,
    Wanted,
)
from agorai_shared.task_files import TaskFiles
from agorai_shared.task_history import TaskHistory
from agorai_shared.task_reward import TaskReward
from agorai_shared.task_trainer import KeepTaskTest, TaskTrainer
from agorai_shared.types import Hash, Wei

_WINDOW_S: Final = (60, 30 * 86_400)
"""From the shortest to the longest that the contract takes."""


_MOST_SEATS: Final = 15


class TaskTermsError(InputError):
    """A task cannot be opened on these terms; nothing was sent."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(f"The task cannot be opened: {why}.", remedy=remedy)


@dataclass(frozen=True, slots=True)
class TaskTerms:
    """What a task costs, and its times; amounts in the token's smallest unit, times in seconds."""

    budget: Wei
    """For fees and award together."""
    award: Wei
    """Of the budget, shared by contribution."""
    bond: Wei
    rounds: int
    quorum: int
    """Data providers that are ready, for the first round."""
    join_window: int
    round_window: int
    step_window: int
    challenge_window: int
    panel_size: int = 3


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """What is to be trained, on what, and how it is paid."""

    name: str
    model: dict[str, JsonValue]
    strategy: dict[str, JsonValue]
    wanted: Wanted
    terms: TaskTerms
    description: str = ""
    mode: Mode = "open"
    privacy: Privacy | None = None
    contribution: ContributionRule = field(default_factory=ContributionRule)
    stop: Stop = field(default_factory=Stop)


@dataclass(frozen=True, slots=True)
class TaskSeen:
    """A task as it is shown."""

    id: int
    opened: Opened
    task: Task
    document: TaskDocument | None
    """None: nobody serves it, or it is malformed."""
    history: TaskHistory
    subtasks: dict[int, Subtask]
    now: int


class Tasks(Contracts):
    """Training tasks of a participant's node."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.files = TaskFiles(client.market)
        self.contract = self.files.contract
        self.trainer = TaskTrainer(client.commander)

    # --------------------------------------------------------------------------------------------- offering

    async def offer(self, specification: Specification) -> Hash:
        """Say what this account offers to training tasks: data sets for a fee, computing for a wage.

        The node answers tasks' requests by it from then on; an empty one offers nothing any more.

        Raises
        ------
        NotAMemberError
        """
        store, market = self.client.store, self.client.market
        actor = await market.actor(self.client.address)
        profile = Profile.from_bytes(await market.document(actor.profile, actor.gateway))
        stored = await store.put_document(specification.to_bytes(), name=f"{NODE_PIN}specification")
        changed = profile.model_copy(update={"specification": stored}).to_bytes()
        described = await store.put_document(changed, name=f"{NODE_PIN}profile")
        return await self.send(
            market.registry.join(actor.roles, cids.digest_of(described), actor.encryption_key, actor.gateway)
        )

    # ----------------------------------------------------------------------------------------------- owning

    async def open(self, plan: TaskPlan, test: bytes, *, on_stage: OnStage | None = None) -> int:
        """Open a task, laying down budget and bond; gives its id once that is final.

        Parameters
        ----------
        test
            A CSV or Parquet file of the model's columns, which stays with this node, sealed, until the payout is
            proposed.

        Raises
        ------
        TaskTermsError, DepositTooHighError
            If it cannot be opened so; nothing was stored.
        RemoteError
            Of the trainer, if the task could not be trained as described; nothing was sent.
        """
        tell, terms = on_stage or silent, plan.terms
        await self.require_terms(plan)
        tell("sealing the test set")
        sealed = await self.client.vault.put(test)
        nonce = secrets.token_hex(32)
        key = await self.client.vault.task_key(nonce)
        asked = KeepTaskTest(
            model=plan.model,
            strategy=plan.strategy,
            test=sealed.cid,
            mode=plan.mode,
            privacy=plan.privacy,
            contribution=plan.contribution,
            key=key.public,
        )
        kept = await self.trainer.keep_test(asked)
        document = TaskDocument(
            name=plan.name,
            description=plan.description,
            model=plan.model,
            strategy=plan.strategy,
            mode=plan.mode,
            privacy=plan.privacy,
            wanted=plan.wanted,
            contribution=plan.contribution,
            stop=plan.stop,
            key=key.public,
            nonce=nonce,
            homomorphic=kept.homomorphic,
            test_samples=kept.samples,
        )
        tell("storing the description")
        described = await self.client.store.put_document(
            document.to_bytes(), name=f"{NODE_PIN}description of the task {plan.name[:100]}"
        )
        tell("approving budget and bond")
        await self.allow(self.contract.address, terms.budget + terms.bond)
        tell("opening")
        sent = await self.send(
            self.contract.open(
                Terms(
                    document=cids.digest_of(described),
                    key=key.address,
                    test_commitment=bytes.fromhex(kept.commitment),
                    budget=terms.budget,
                    award=terms.award,
                    bond=terms.bond,
                    join_window=terms.join_window,
                    round_window=terms.round_window,
                    step_window=terms.step_window,
                    challenge_window=terms.challenge_window,
                    rounds=terms.rounds,
                    quorum=terms.quorum,
                    panel_size=terms.panel_size,
                )
            )
        )
        return (await self.client.market.emitted(sent, Opened)).task

    async def fund(self, task: int, amount: Wei) -> Hash:
        """Add to a task's budget; anyone may."""
        await self.allow(self.contract.address, amount)
        return await self.send(self.contract.fund(task, amount))

    async def cancel(self, task: int) -> Hash:
        """Give a task up before its first round, as its model provider."""
        return await self.send(self.contract.cancel(task))

    async def leave(self, subtask: int) -> Hash:
        """Leave a subtask, as its data provider or its computer; what was delivered is kept."""
        return await self.send(self.contract.leave(subtask))

    async def challenge_cost(self, task: int) -> Wei:
        """Give what a challenge of a task's payout lays down: the stake, and the voters' bonus.

        Raises
        ------
        TaskRefusedError
            If no payout stands that this account can challenge now.
        """
        found, stake, bonus = await self.read(
            self.contract.task_of(task), self.contract.stake_of(task), self.contract.bonus_of(task)
        )
        if found.state != TaskState.PROPOSED:
            raise refusal("TrainingTask_WrongTaskState", {"task": task, "state": int(found.state)})
        # By the chain's time: a clock that is fast must not keep anyone from challenging.
        if (await self.client.chain.head()).timestamp > found.deadline:
            raise refusal("TrainingTask_DeadlinePassed", {"task": task, "deadline": found.deadline})
        if found.proposer == self.client.address:
            raise refusal("TrainingTask_NothingChallenged", {"task": task})
        return Wei(stake + bonus)

    async def challenge(self, task: int, *, withheld: bool = False, on_stage: OnStage | None = None) -> Hash:
        """Have voters decide whether the payout that stands, or the one that this node computes, is right.

        Parameters
        ----------
        withheld
            Whether what cannot be had counts as withheld by the model provider: then fees of all rounds delivered are
            proposed, and the award by these rounds. If voters can have it, the stake is lost.

        Raises
        ------
        RemoteError
            If what is due cannot be computed.
        DepositTooHighError, TaskRefusedError
        """
        tell = on_stage or silent
        tell("computing what is due")
        due = await TaskReward(self.client.commander).payout(task, withheld=withheld)
        cost = await self.challenge_cost(task)
        await self.require(cost)
        root, evidence = bytes.fromhex(due.root), bytes.fromhex(due.evidence)
        (found,) = await self.read(self.contract.task_of(task))
        if (root, int(due.total)) == (found.root, found.total):
            raise refusal("TrainingTask_NothingChallenged", {"task": task})
        tell("approving stake and bonus")
        await self.allow(self.contract.address, cost)
        tell("challenging")
        return await self.send(self.contract.challenge(task, root, int(due.total), evidence))

    async def withdraw(self) -> Hash:
        """Take out what is credited."""
        return await self.send(self.contract.withdraw())

    async def credit(self) -> Wei:
        """Give what this account can take out."""
        (found,) = await self.read(self.contract.credit_of(self.client.address))
        return Wei(found)

    async def require_terms(self, plan: TaskPlan) -> None:
        """See that a task can be opened so, and paid for; raises `TaskTermsError`, `DepositTooHighError`."""
        terms = plan.terms
        if terms.quorum > plan.wanted.providers:
            why = (
                f"a quorum of {terms.quorum} is more than the {plan.wanted.providers} data providers it asks"
            )
            raise TaskTermsError(why, "Ask more, or begin with fewer.")
        if not 0 <= terms.award <= terms.budget:
            raise TaskTermsError("the award is more than the budget", "Of the budget it is what fees leave.")
        if terms.rounds < 1 or terms.quorum < 1:
            raise TaskTermsError("it has no rounds or no quorum", "Take one at least of each.")
        if not 3 <= terms.panel_size <= _MOST_SEATS or terms.panel_size % 2 == 0:
            why = f"a panel of {terms.panel_size} seats is not permitted"
            raise TaskTermsError(why, f"Take an odd number from 3 to {_MOST_SEATS}.")
        least = max(terms.award, 2 * await self._bonus(terms.panel_size), 1)
        if terms.bond < least:
            raise TaskTermsError(
                f"the bond of {terms.bond / TOKEN:g} tokens is below {least / TOKEN:g}",
                "It is at least the award, and twice what voters get for a case.",
            )
        windows = {
            "join": terms.join_window, "round": terms.round_window,
            "step": terms.step_window, "challenge": terms.challenge_window,
        }  # fmt: skip
        least_s = max(_WINDOW_S[0], 2 * await self.client.chain.finality_lag())
        for name, given in windows.items():
            if not least_s <= given <= _WINDOW_S[1]:
                why = f"the {name} window has {given} s"
                raise TaskTermsError(why, f"Take from {least_s} s to 30 days: nodes act on final blocks.")
        await self.require(terms.budget + terms.bond)

    async def _bonus(self, seats: int) -> int:
        (config,) = await self.read(self.panel.config())
        return seats * int(config.seat_bonus)

    # ---------------------------------------------------------------------------------------------- looking

    async def look(self, task: int) -> TaskSeen:
        """Read a task; raises `TaskAbsentError`."""
        opened, history = await self.files.opened(task), await self.files.history(task)
        calls: list[Any] = [self.contract.task_of(task)]
        calls += [self.contract.subtask_of(id_) for id_ in history.subtasks]
        state, *subtasks = await self.read(*calls)
        try:
            document = await self.files.document(task)
        except AgoraiError:
            document = None
        found = cast("list[Subtask]", subtasks)
        return TaskSeen(
            task,
            opened,
            state,
            document,
            history,
            dict(zip(history.subtasks, found, strict=True)),
            await self.now(),
        )

    async def tasks(self) -> list[TaskSeen]:
        """Give all tasks, the newest first."""
        opened = await self.events(self.contract.address, Opened)
        return await several(self.look, [event.task for event in reversed(opened)])
