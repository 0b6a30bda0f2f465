"""A training task's public record, read for whom it is readable: the model provider, and everyone in the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from agorai_reward.conduct import Vector
from agorai_reward.due import Coalition, Record, Submission, TaskRound, Terms
from agorai_reward.payout import Row, Subtask
from agorai_shared.bindings.training_task import Updated
from agorai_shared.digest_files import FileAbsentError
from agorai_shared.documents import DocumentMalformedError
from agorai_shared.envelopes import NotForKeyError
from agorai_shared.errors import RemoteError
from agorai_shared.federated import PayoutDocument
from agorai_shared.task_reader import FAULT_CODES, FAULTS, GONE_CODES, TaskOpener
from agorai_shared.task_trainer import TaskTrainer
from agorai_shared.types import Address
from agorai_shared.vectors import MOST_BYTES, of_any_length

_EMPTY: Final = np.empty(0)
"""Bytes that are no vector."""


@dataclass(frozen=True)
class Records:
    """Reads records, and has coalitions measured."""

    opener: TaskOpener
    trainer: TaskTrainer

    async def record(self, task: int) -> Record:
        """Give all that is public of a task, or will be once its key is revealed.

        Raises
        ------
        FileAbsentError, RemoteError
            If its description or a round's record cannot be had.
        """
        files = self.opener.files
        opened, history = await files.opened(task), await files.history(task)
        document, on_chain = await files.document(task), await files.task(task)
        count = len(history.rounds)
        models = [await self._model(task, number) for number in range(count + 1)]
        rounds = [await self._round(task, number, models[number]) for number in range(1, count + 1)]
        return Record(
            terms=Terms(
                task=task,
                budget=on_chain.budget,
                award=opened.terms.award,
                method=document.contribution.method,
                permutations=document.contribution.permutations,
            ),
            subtasks=tuple(
                Subtask(line.id, line.data_provider, line.computer, line.fee, line.wage)
                for line in history.subtasks.values()
                if line.ready and line.computer is not None
            ),
            rounds=tuple(rounds),
            models=tuple(models),
            key_revealed=bool(history.proposals) or opened.model_provider == self.opener.me,
        )

    async def worths(
        self, task: int, number: int, coalitions: Sequence[Coalition]
    ) -> Mapping[Coalition, int] | None:
        """Have coalitions of a round measured; None if the test set cannot be had."""
        try:
            found = await self.trainer.worths(task, number, [tuple(sorted(one)) for one in coalitions])
        except RemoteError as error:
            if error.code in {"file_absent", "test_set_absent"}:
                return None
            raise
        return dict(zip(coalitions, found, strict=True))

    async def rows(self, task: int, digest: bytes, author: Address) -> tuple[Row, ...] | None:
        """Give the rows of a proposal's evidence; None if it is not served, or no such evidence."""
        what = f"evidence of a payout of task {task}"
        try:
            document = await self.opener.files.read(PayoutDocument, digest, what, [author])
        except (FileAbsentError, DocumentMalformedError):
            return None
        return tuple(Row(row.account, int(row.amount)) for row in document.rows)

    async def _model(self, task: int, number: int) -> Vector | None:
        files = self.opener.files
        author, context = (await files.opened(task)).model_provider, files.binding(task).model(number)
        try:
            record = await files.round(task, number)
            return of_any_length(await self.opener.open(task, record.model, context, author, MOST_BYTES))
        except FAULTS:
            return _EMPTY
        except FileAbsentError:
            return None
        except RemoteError as error:
            if error.code in FAULT_CODES:
                return _EMPTY
            raise

    async def _round(self, task: int, number: int, model: Vector | None) -> TaskRound:
        files = self.opener.files
        line = (await files.history(task)).rounds[number - 1]
        record = await files.round(task, number)
        return TaskRound(
            updates=tuple([await self._submission(task, event) for event in line.updates.values()]),
            taken=frozenset(record.taken),
            aggregated=model if await self._is_true(task, number) else _EMPTY,
            seed=line.seed,
            sums={},
        )

    async def _is_true(self, task: int, number: int) -> bool:
        try:
            return await self.trainer.replay(task, number)
        except RemoteError as error:
            if error.retryable:
                raise
            return False

    async def _submission(self, task: int, event: Updated) -> Submission:
        files = self.opener.files
        context = files.binding(task).update(event.subtask, event.round)
        samples = 0
        try:
            document = await files.update(event)
            samples = document.samples
            if document.update.to_task is None:  # nobody could ever audit it
                raise NotForKeyError("the task's key")
            data = await self.opener.open(task, document.update, context, event.computer, MOST_BYTES)
            return Submission(event.subtask, samples, of_any_length(data))
        except FAULTS:
            return Submission(event.subtask, samples, _EMPTY)
        except FileAbsentError:
            return Submission(event.subtask, samples, None)
        except RemoteError as error:
            if error.code in GONE_CODES:
                return Submission(event.subtask, samples, None)
            if error.code not in FAULT_CODES:
                raise
            return Submission(event.subtask, samples, _EMPTY)
