"""A training task as a participant reads it: its history from the chain, its documents from its participants' stores.

NotFoundError
├── TaskAbsentError             no such task, or none that is final
└── SubtaskAbsentError          no such subtask, or none that is final
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import TypeVar, cast

from agorai_shared.bindings.training_task import Opened, Subtask, Task, TrainingTask, Updated
from agorai_shared.chain import ContractRevertError, LogFilter
from agorai_shared.content import NODE_PIN
from agorai_shared.digest_files import MOST_FILE, DigestFiles
from agorai_shared.documents import DocumentMalformedError
from agorai_shared.errors import NotFoundError
from agorai_shared.federated import (
    DataHandover,
    RoundDocument,
    SumsDocument,
    TaskBinding,
    TaskDocument,
    UpdateDocument,
)
from agorai_shared.market import Market
from agorai_shared.rpc import Json
from agorai_shared.task_history import OF_SUBTASK, OF_TASK, Line, OfSubtask, OfTask, TaskHistory
from agorai_shared.types import Address

_KINDS: dict[str, type[OfTask | OfSubtask]] = {kind.ABI.topic0: kind for kind in (*OF_TASK, *OF_SUBTASK)}

DeliveredT = TypeVar("DeliveredT", UpdateDocument, SumsDocument)


class TaskAbsentError(NotFoundError):
    """There is no task of this id."""

    def __init__(self, task: int) -> None:
        super().__init__(
            f"There is no task {task}, or it is not final yet.",
            remedy="See which there are: `agorai task list`.",
        )


class SubtaskAbsentError(NotFoundError):
    """There is no subtask of this id."""

    def __init__(self, *subtasks: int) -> None:
        super().__init__(
            f"There is no subtask {' or '.join(map(str, subtasks))}, or it is not final yet.",
            remedy="See a task's: `agorai task show TASK`.",
        )


class TaskFiles(DigestFiles):
    """Reads tasks."""

    def __init__(self, market: Market) -> None:
        super().__init__(market)
        self.contract = TrainingTask(market.deployment.training_task)
        self._histories: dict[int, tuple[TaskHistory, int]] = {}
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._opened: dict[int, Opened] = {}
        self._task_of: dict[int, int] = {}
        """By subtask."""
        self._documents: dict[int, TaskDocument] = {}
        self._challengers: dict[Address, None] = {}

    async def file(
        self, digest: bytes, what: str, owners: Sequence[Address], most: int = MOST_FILE, *, pin: str = ""
    ) -> bytes:
        """Fetch a file as `DigestFiles.file`; whoever has challenged a payout has it, and serves it too."""
        return await super().file(digest, what, [*owners, *self._challengers], most, pin=pin)

    def binding(self, task: int) -> TaskBinding:
        """Give what documents about a task are bound to."""
        deployment = self.market.deployment
        return TaskBinding(chain_id=deployment.chain_id, contract=deployment.training_task, task=task)

    # ------------------------------------------------------------------------------------------- the chain

    async def opened(self, task: int) -> Opened:
        """Give what a task was opened with; raises `TaskAbsentError`."""
        if task not in self._opened:
            found = await self.market.events(self.contract.address, Opened, _topic(task))
            if not found:
                raise TaskAbsentError(task)
            self._opened[task] = found[0][0]
        return self._opened[task]

    async def task(self, task: int) -> Task:
        """Read a task at a final block; raises `TaskAbsentError`."""
        try:
            (found,) = await self.market.chain.read(self.contract.task_of(task))
        except ContractRevertError as error:
            raise TaskAbsentError(task) from error
        return cast("Task", found)

    async def subtask(self, subtask: int) -> Subtask:
        """Read a subtask at a final block; raises `SubtaskAbsentError`."""
        try:
            (found,) = await self.market.chain.read(self.contract.subtask_of(subtask))
        except ContractRevertError as error:
            raise SubtaskAbsentError(subtask) from error
        return cast("Subtask", found)

    async def subtasks(self, ids: Sequence[int]) -> tuple[Subtask, ...]:
        """Read subtasks at one final block, in one request; raises `SubtaskAbsentError`."""
        try:
            return await self.market.chain.read(*map(self.contract.subtask_of, ids)) if ids else ()
        except ContractRevertError as error:
            raise SubtaskAbsentError(*ids) from error

    async def standing(self, subtask: int) -> tuple[Task, Subtask]:
        """Read a subtask and its task at one final block; raises `SubtaskAbsentError`."""
        if subtask not in self._task_of:
            self._task_of[subtask] = (await self.subtask(subtask)).task
        calls = self.contract.task_of(self._task_of[subtask]), self.contract.subtask_of(subtask)
        try:
            return cast("tuple[Task, Subtask]", await self.market.chain.read(*calls))
        except ContractRevertError as error:  # the chain's node has fallen behind
            raise SubtaskAbsentError(subtask) from error

    async def history(self, task: int) -> TaskHistory:
        """Give a task's history up to the last final block; it goes on in place when it is read again."""
        last = (await self.market.chain.final()).number
        async with self._turns[task]:
            history, first = self._histories.get(task, (TaskHistory(), self.market.deployment.start_block))
            if first <= last:
                of_task: list[Json] = [[kind.ABI.topic0 for kind in OF_TASK], _topic(task)]
                of_subtask: list[Json] = [[kind.ABI.topic0 for kind in OF_SUBTASK], None, _topic(task)]
                wanted: list[LogFilter] = [
                    {"address": self.contract.address, "topics": topics} for topics in (of_task, of_subtask)
                ]
                logs, _, _ = await self.market.chain.logs_between(wanted, first, last)
                kinds = [_KINDS[entry["topics"][0]] for entry in logs]
                history.take(
                    (
                        kind.from_args(kind.ABI.decode(entry["topics"], entry["data"])),
                        bytes.fromhex(entry["blockHash"].removeprefix("0x")),
                    )
                    for kind, entry in zip(kinds, logs, strict=True)
                )
                self._histories[task] = history, last + 1
                self._challengers |= {event.challenger: None for event in history.challenges}
            return history

    # --------------------------------------------------------------------------------------- the documents

    async def document(self, task: int) -> TaskDocument:
        """Give a task's description.

        Raises
        ------
        FileAbsentError, TaskAbsentError
        DocumentMalformedError
            If its model provider wrote something else.
        """
        if task not in self._documents:
            opened = await self.opened(task)
            what = f"description of task {task}"
            digest = opened.terms.document
            self._documents[task] = await self.read(TaskDocument, digest, what, [opened.model_provider])
        return self._documents[task]

    async def round(self, task: int, number: int) -> RoundDocument:
        """Give what its model provider wrote of a round; 0 is before the first.

        Raises
        ------
        FileAbsentError, TaskAbsentError
        DocumentMalformedError
            If it is not of this round.
        """
        opened = await self.opened(task)
        history, _ = self._histories.get(task, (TaskHistory(), 0))
        if number >= len(history.rounds):  # what was final once stays so
            history = await self.history(task)
        if number < len(history.rounds):
            digest = history.rounds[number].begun.record
        elif history.finished is not None and number == len(history.rounds):
            digest = history.finished.record
        else:
            raise TaskAbsentError(task)
        what = f"record of round {number} of task {task}"
        read = await self.read(RoundDocument, digest, what, [opened.model_provider])
        if (read.task, read.round) != (self.binding(task), number):
            raise DocumentMalformedError("round", f"it is of round {read.round} of {read.task}")
        return read

    async def handover(self, task: int, line: Line) -> DataHandover:
        """Give where the data of a subtask are.

        Raises
        ------
        FileAbsentError
        DocumentMalformedError
            If it is neither of this subtask nor of the one that it replaces.
        """
        what = f"handover of the data of subtask {line.id}"
        read = await self.read(DataHandover, line.data, what, [line.data_provider])
        if read.task != self.binding(task) or read.subtask not in (line.id, line.replaces):
            raise DocumentMalformedError("task-data", f"it is of subtask {read.subtask} of {read.task}")
        return read

    async def update(self, event: Updated, *, pin: bool = False) -> UpdateDocument:
        """Give what a subtask delivered in a round, pinned if it comes from elsewhere and is to be.

        Raises
        ------
        FileAbsentError
        DocumentMalformedError
            If it is not of this subtask and round.
        """
        return await self._delivered(UpdateDocument, "update", event, pin=pin)

    async def sums(self, event: Updated) -> SumsDocument:
        """Give what an adder delivered in a round; raises as `update` does."""
        return await self._delivered(SumsDocument, "sums", event)

    async def _delivered(
        self, kind: type[DeliveredT], name: str, event: Updated, *, pin: bool = False
    ) -> DeliveredT:
        what = f"{name} of subtask {event.subtask} in round {event.round}"
        owners = [event.computer, (await self.opened(event.task)).model_provider]
        read = await self.read(kind, event.digest, what, owners, pin=f"{NODE_PIN}{what}" if pin else "")
        said = read.task, read.subtask, read.round
        if said != (self.binding(event.task), event.subtask, event.round):
            raise DocumentMalformedError(name, f"it is of subtask {read.subtask} in round {read.round}")
        return read


def _topic(id_: int) -> str:
    return f"0x{id_:064x}"
