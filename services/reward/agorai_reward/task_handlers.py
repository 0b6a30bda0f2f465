"""The shell that brings training tasks to their end: proposing, auditing, challenging, settling, claiming."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Event
from typing import Any, Final, TypeVar, cast

from agorai_reward import merkle, task_decide
from agorai_reward.audit import Audit, Proposal, Verdict, audit, root_of
from agorai_reward.decide import MovePanel, Resolve
from agorai_reward.due import Coalition, Due, Record, Worths, due
from agorai_reward.handlers import Sender
from agorai_reward.payout import Row
from agorai_reward.task_record import Records
from agorai_shared import cid, logging
from agorai_shared.bindings.training_task import (
    Approved,
    Challenged,
    Opened,
    Proposed,
    Requested,
    Task,
    TaskState,
)
from agorai_shared.bindings.voting_panel import Case, Config
from agorai_shared.content import NODE_PIN
from agorai_shared.contract import Call
from agorai_shared.errors import AgoraiError, RefusedError
from agorai_shared.federated import Contribution, PayoutDocument, PayoutRow
from agorai_shared.market import topic_of
from agorai_shared.panel import PanelCall, PanelCase, once_more
from agorai_shared.task_reader import is_fault, is_gone
from agorai_shared.types import Address, CaseId, Cid, Digest, Wei
from agorai_shared.vault import send_step

log = logging.get(__name__)

_UNLIMITED: Final = 2**256 - 1
_LOOK_S: Final = 0.2

FoundT = TypeVar("FoundT")


class PayoutUnknownError(RefusedError):
    """What a task pays cannot be computed, since something is missing."""

    retryable = True

    def __init__(self, task: int, why: str) -> None:
        super().__init__(
            f"What task {task} pays cannot be computed: {why}",
            remedy="It is tried again; see that the nodes of those who take part are there.",
        )


@dataclass(frozen=True, slots=True)
class Standing:
    """The payout that stands."""

    proposer: Address
    evidence: bytes
    proposal: Proposal


class TaskProtocol:
    """Ending tasks, for the reconciler; the key is the task's."""

    name = "reward-task"
    """In logs and metrics."""

    def __init__(self, records: Records, me: Address, sender: Sender) -> None:
        self._records, self._files = records, records.opener.files
        self._me, self._sender = me, sender
        self._token = self._files.market.token
        self._rows: dict[int, tuple[Row, ...]] = {}
        """By task, of payouts that are for good."""
        self._verdicts: dict[tuple[int, bytes, int], Verdict] = {}
        """By task, root and total, of the payouts that this node has audited."""

    async def read(self, key: int) -> task_decide.Owed:
        """Read the task at final blocks, and what of it concerns this account."""
        task = await self._files.task(key)
        case = None
        if task.state == TaskState.CHALLENGED:
            panel = self._sender.panel
            found, config = await self._files.market.chain.read(
                panel.case_of(CaseId(task.panel_case)), panel.config()
            )
            case = PanelCase(cast("Case", found), cast("Config", config))
        owed = task_decide.Owed(
            task=task,
            turn=await self._turn(key),
            verdict=self._verdicts.get((key, task.root, task.total)),
            case=case,
            unclaimed=await self._unclaimed(key, task),
        )
        if owed.verdict != Verdict.WRONG or task.state != TaskState.PROPOSED:
            return owed
        stake, bonus, tokens, allowed = await self._files.market.chain.read(
            self._files.contract.stake_of(key),
            self._files.contract.bonus_of(key),
            self._token.balance_of(self._me),
            self._token.allowance(self._me, self._files.contract.address),
        )
        if tokens < stake + bonus:
            log.warning("task.tokens_lacking", task=key, needed=stake + bonus)
        return replace(owed, funded=tokens >= stake + bonus, allowed=allowed >= stake + bonus)

    def next_step(self, state: task_decide.Owed, now: int) -> task_decide.Step | None:
        """Decide as this account."""
        return task_decide.next_step(state, self._me, now)

    def due(self, state: task_decide.Owed, now: int) -> int | None:
        """Give this account's turn."""
        return task_decide.due(state, self._me, now)

    async def perform(self, key: int, step: task_decide.Step, once: str) -> bool:
        """Take the step."""
        if isinstance(step, MovePanel):
            once = once_more(once, await self.now())
        if step == MovePanel(PanelCall.DRAW):
            (first,) = await self._files.market.chain.read(self._sender.panel.due_draw())
            once = f"{once}/{first}"
        if isinstance(step, task_decide.Audit):
            task = await self._files.task(key)
            found = await self.audit(key)
            if found.verdict == Verdict.UNKNOWN:
                raise PayoutUnknownError(key, found.findings[0].text)
            self._verdicts[key, task.root, task.total] = found.verdict
            return True
        if isinstance(step, task_decide.Approve):
            approved = self._token.approve(self._files.contract.address, Wei(_UNLIMITED))
            await self._sender.vault.settled(await send_step(self._sender.vault, once, approved))
            return True
        await self._sender.send(once, await self._call(key, step), task=key)
        return False

    async def open_items(self) -> Iterable[int]:
        """Find the tasks of this account's, and those it takes part in, that have not ended for it."""
        address, me = self._files.contract.address, topic_of(self._me)
        events = self._files.market.events
        found = {event.task for event, _ in await events(address, Opened, None, me)}
        found |= {event.task for event, _ in await events(address, Requested, None, None, me)}
        found |= {event.task for event, _ in await events(address, Approved, None, None, me)}
        return sorted(found)

    async def concerns(self, task: int) -> bool:
        """Say whether this account takes part in a task."""
        return self._me in await self._parties(task)

    async def task_of(self, case: CaseId) -> int | None:
        """Give the task that a case is about, None when it is another contract's."""
        (found,) = await self._files.market.chain.read(self._sender.panel.case_of(case))
        return int(found.item) if found.opener == self._files.contract.address else None

    async def now(self) -> int:
        """Give the later of the chain's time and this machine's, in seconds since 1970."""
        return await self._records.opener.now()

    # ------------------------------------------------------------------------------------------------ payout

    async def due_of(self, task: int, *, withheld: bool = False) -> Due:
        """Compute what a task pays.

        Parameters
        ----------
        withheld
            Whether what cannot be had counts as withheld by the model provider: then what the chain alone proves is
            due. Who says so may be wrong: it may be this node alone that cannot have it.

        Raises
        ------
        AgoraiError
            As `Records.record` does.
        """
        return await self._computed(
            task, lambda record, worths: (what := due(record, worths), what.rows is not None), withheld
        )

    async def audit(self, task: int, *, withheld: bool = False) -> Audit:
        """Recompute a task's payout, and compare the one that stands; arguments and errors as of `due_of`."""
        proposal = (await self.standing(task)).proposal

        def compute(record: Record, worths: Worths) -> tuple[Audit, bool]:
            found = audit(record, proposal, worths)
            return found, found.verdict != Verdict.UNKNOWN

        return await self._computed(task, compute, withheld)

    async def _computed(
        self, task: int, compute: Callable[[Record, Worths], tuple[FoundT, bool]], withheld: bool
    ) -> FoundT:
        """Compute something of a task's record, which says whether it is known; else of what the chain proves.

        A record that is none is its model provider's fault, for everyone to see: then, too, the chain alone counts.
        """
        with self._asking(task) as worths:
            try:
                found, known = await asyncio.to_thread(compute, await self._records.record(task), worths)
            except AgoraiError as error:
                if not (is_fault(error) or (withheld and is_gone(error))):
                    raise
            else:
                if known or not withheld:
                    return found
            found, _ = await asyncio.to_thread(compute, await self._records.by_chain(task), worths)
            return found

    async def is_proposed(self, task: int) -> bool:
        """Say whether a payout stands; raises `TaskAbsentError`."""
        await self._files.opened(task)
        return bool((await self._files.history(task)).proposals)

    async def standing(self, task: int) -> Standing:
        """Give the payout that stands, with the rows of its evidence where that is served."""
        on_chain, history = await self._files.task(task), await self._files.history(task)
        author = on_chain.proposer
        events: list[Proposed | Challenged] = [*history.proposals, *history.challenges]
        evidence = next(
            event.evidence
            for event in reversed(events)
            if (event.root, event.total) == (on_chain.root, on_chain.total)
        )
        rows = await self._records.rows(task, evidence, author)
        return Standing(author, evidence, Proposal(on_chain.root, on_chain.total, rows))

    @contextmanager
    def _asking(self, task: int) -> Iterator[Worths]:
        """Give what asks the trainer for worths, from another thread, until whoever computes is no longer waited for.

        A thread that waits for an event loop which has ended would hold up the node's own end for ever.
        """
        loop, ended = asyncio.get_running_loop(), Event()

        def ask(number: int, coalitions: Sequence[Coalition]) -> Mapping[Coalition, int] | None:
            if ended.is_set():
                raise CancelledError
            asked = asyncio.run_coroutine_threadsafe(self._records.worths(task, number, coalitions), loop)
            while not wait([asked], timeout=_LOOK_S).done:
                if ended.is_set():
                    asked.cancel()
                    raise CancelledError
            return asked.result()

        try:
            yield ask
        finally:
            ended.set()

    async def payout(self, task: int, *, withheld: bool = False) -> tuple[bytes, int, Digest]:
        """Compute the right payout, and keep its evidence; gives root, total and the evidence's digest.

        Raises
        ------
        PayoutUnknownError
            And as `due_of`.
        """
        found = await self.due_of(task, withheld=withheld)
        if found.rows is None:
            raise PayoutUnknownError(task, found.findings[0].text)
        revealed = await self._records.trainer.reveal_test(task) if await self._owns(task) else None
        history = await self._files.history(task)
        test = (
            cid.of_digest(Digest(history.proposals[0].test_set)) if revealed is None else Cid(revealed.test)
        )
        told: dict[int, list[str]] = {}
        for number, one in found.conduct:
            told.setdefault(one.subtask, []).append(f"round {number}: {one.reason}")
        document = PayoutDocument(
            task=self._files.binding(task),
            contributions=tuple(
                Contribution(subtask=subtask, value=str(value), conduct=tuple(told.get(subtask, ())))
                for subtask, value in sorted(found.contributions.items())
                if value or subtask in told or found.delivered.get(subtask)
            ),
            delivered={str(subtask): count for subtask, count in sorted(found.delivered.items()) if count},
            rows=tuple(PayoutRow(account=row.account, amount=str(row.amount)) for row in found.rows),
            test_set=test,
        )
        name = f"{NODE_PIN}payout of task {task}"
        stored = await self._files.market.store.put(document.to_bytes(), name=name)
        total = sum(row.amount for row in found.rows)
        return root_of(task, found.rows), total, cid.digest_of(stored)

    async def _call(self, key: int, step: task_decide.Step) -> Call[Any]:
        contract, panel = self._files.contract, self._sender.panel
        call: Call[Any]
        match step:
            case task_decide.Propose():
                call = await self._proposed(key)
            case task_decide.Challenge():
                call = contract.challenge(key, *await self.payout(key))
            case Resolve():
                call = contract.resolve(key)
            case MovePanel(which):
                case_id = CaseId((await self._files.task(key)).panel_case)
                call = panel.draw() if which == PanelCall.DRAW else panel.close(case_id)
            case task_decide.Settle():
                call = contract.settle(key)
            case task_decide.Claim():
                call = await self._claim(key)
            case task_decide.Abandon():
                call = contract.abandon(key)
            case task_decide.ClaimAbandoned(subtask):
                call = contract.claim_abandoned(subtask)
            case task_decide.Audit() | task_decide.Approve():
                raise AssertionError("it is sent otherwise, or not at all")
        return call

    async def _proposed(self, task: int) -> Call[Any]:
        root, total, evidence = await self.payout(task)
        revealed = await self._records.trainer.reveal_test(task)
        nonce = (await self._files.document(task)).nonce
        key = await self._records.opener.vault.reveal_task_key(nonce)
        return self._files.contract.propose(
            task, root, total, evidence, key, bytes.fromhex(revealed.digest), bytes.fromhex(revealed.salt)
        )

    async def _leaves(self, task: int) -> tuple[Row, ...]:
        """Give the leaves of the payout that stands: as its evidence has them or, where that does not, as is due."""
        if task not in self._rows:
            proposal = (await self.standing(task)).proposal
            rows = proposal.rows
            if rows is None or root_of(task, rows) != proposal.root:
                rows = (await self.due_of(task)).rows
            if rows is None or root_of(task, rows) != proposal.root:
                raise PayoutUnknownError(task, "the evidence of the payout that stands is not served.")
            self._rows[task] = rows
        return self._rows[task]

    async def _claim(self, task: int) -> Call[Any]:
        rows = await self._leaves(task)
        mine = next(row for row in rows if row.account == self._me)
        leaves = [merkle.leaf_of(task, row) for row in rows]
        proof = merkle.proof(leaves, merkle.leaf_of(task, mine))
        return self._files.contract.claim(task, mine.account, mine.amount, proof)

    # ----------------------------------------------------------------------------------------------- parties

    async def _owns(self, task: int) -> bool:
        return (await self._files.opened(task)).model_provider == self._me

    async def _parties(self, task: int) -> list[Address]:
        """Give the model provider, and who has part in subtasks in their order."""
        found = [(await self._files.opened(task)).model_provider]
        for line in (await self._files.history(task)).subtasks.values():
            found.append(line.data_provider)
            if line.computer is not None:
                found.append(line.computer)
        return list(dict.fromkeys(found))

    async def _turn(self, task: int) -> int:
        parties = await self._parties(task)
        return parties.index(self._me) if self._me in parties else len(parties)

    async def _unclaimed(self, key: int, task: Task) -> tuple[int, ...]:
        if task.state == TaskState.ABANDONED:
            mine = [
                line.id
                for line in (await self._files.history(key)).subtasks.values()
                if self._me in (line.data_provider, line.computer)
            ]
            subtasks = zip(mine, await self._files.subtasks(mine), strict=True)
            return tuple(id_ for id_, one in subtasks if one.delivered and not one.claimed)
        if task.state != TaskState.SETTLED:
            return ()
        rows = await self._leaves(key)
        if not any(row.account == self._me for row in rows):
            return ()
        (claimed,) = await self._files.market.chain.read(self._files.contract.is_claimed(key, self._me))
        return () if claimed else (0,)
