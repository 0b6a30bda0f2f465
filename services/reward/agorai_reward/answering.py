"""What the node's user has the reward service tell of training tasks.

RefusedError
└── NothingProposedError      a task without a payout to audit
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from faststream.nats import NatsRouter

from agorai_reward.task_handlers import TaskProtocol
from agorai_shared.command import subject
from agorai_shared.errors import RefusedError
from agorai_shared.federated import PayoutRow
from agorai_shared.single_flight import SingleFlight
from agorai_shared.task_reward import (
    Audited,
    AuditFinding,
    AuditStatus,
    AuditTask,
    DueOf,
    PayoutStatus,
    PreparedPayout,
    PreparePayout,
)
from agorai_shared.types import Address


class NothingProposedError(RefusedError):
    """There is no payout to audit."""

    def __init__(self, task: int) -> None:
        super().__init__(
            f"Nobody has proposed a payout of task {task}, or that is not final yet.",
            remedy="See where the task is: `agorai task show ID`.",
        )


class TaskCommands:
    """Answers the commands of `agorai_shared.task_reward`."""

    def __init__(self, tasks: TaskProtocol) -> None:
        self._tasks = tasks

    async def audit(self, command: AuditTask) -> Audited:
        """Recompute a task's payout; raises `NothingProposedError`, and as `TaskProtocol.audit` does."""
        if not await self._tasks.is_proposed(command.task):
            raise NothingProposedError(command.task)
        found = await self._tasks.audit(command.task, withheld=command.withheld)
        standing = await self._tasks.standing(command.task)
        due = found.due
        return Audited(
            verdict=found.verdict.value,
            findings=tuple(AuditFinding(kind=one.kind.value, text=one.text) for one in found.findings),
            rows=None
            if due.rows is None
            else tuple(PayoutRow(account=row.account, amount=str(row.amount)) for row in due.rows),
            total=str(standing.proposal.total),
            subtasks=tuple(
                DueOf(subtask=id_, contribution=str(value), delivered=due.delivered.get(id_, 0))
                for id_, value in sorted(due.contributions.items())
            ),
        )

    async def prepare(self, command: PreparePayout) -> PreparedPayout:
        """Compute a task's payout, and keep its evidence; raises as `audit`."""
        if not await self._tasks.is_proposed(command.task):
            raise NothingProposedError(command.task)
        root, total, evidence = await self._tasks.payout(command.task, withheld=command.withheld)
        return PreparedPayout(root=root.hex(), total=str(total), evidence=evidence.hex())


@asynccontextmanager
async def answering(router: NatsRouter, address: Address, commands: TaskCommands) -> AsyncIterator[None]:
    """Have the router answer one node's commands about tasks; at the end, give up what is under way."""
    async with (
        aclosing(SingleFlight(commands.audit)) as audits,
        aclosing(SingleFlight(commands.prepare)) as preparations,
    ):

        @router.subscriber(subject(address, "reward", "audit_task"), max_workers=64)
        async def audit_task(command: AuditTask) -> AuditStatus:
            """Recompute a task's payout, waiting a while for the end."""
            return AuditStatus(audited=await audits.end(command))

        @router.subscriber(subject(address, "reward", "prepare_payout"), max_workers=64)
        async def prepare_payout(command: PreparePayout) -> PayoutStatus:
            """Compute a task's payout, waiting a while for the end."""
            return PayoutStatus(prepared=await preparations.end(command))

        yield
