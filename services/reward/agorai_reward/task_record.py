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
from agorai_shared.errors import AgoraiError, RemoteError
from agorai_shared.federated import Mode, PayoutDocument
from agorai_shared.he_parameters import SUMS
from agorai_shared.task_history import TaskHistory
from agorai_shared.task_reader import is_fault, is_gone
from agorai_shared.task_trainer import TaskTrainer
from agorai_shared.task_updates import MOST_ENCRYPTED, KeyFaultyError, UpdateReader
from agorai_shared.types import Address
from agorai_shared.vectors import MOST_BYTES, of_any_length

_EMPTY: Final = np.empty(0)
"""Bytes that are no vector."""
_FALSE: Final = np.full(1, np.nan)
"""What no model is."""
_MOST_SUM: Final = SUMS.ciphertext_size(MOST_ENCRYPTED)


@dataclass(frozen=True)
class Records:
    """Reads records, and has coalitions measured."""

    opener: UpdateReader
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
        count, by_form = len(history.rounds), document.mode == "encrypted"
        readable = document.mode == "open" or await self._is_key_sound(task, document.mode)
        models = [_EMPTY if by_form else await self._model(task, number) for number in range(count + 1)]
        rounds = [
            await self._round(task, number, models[number]) if readable else self._unreadable(history, number)
            for number in range(1, count + 1)
        ]
        return Record(
            terms=Terms(
                task=task,
                budget=on_chain.budget,
                award=opened.terms.award,
                method="samples" if by_form else document.contribution.method,
                permutations=document.contribution.permutations,
                by_groups=document.mode == "aggregate" or not readable,
                by_form=by_form,
            ),
            subtasks=_subtasks(history),
            rounds=tuple(rounds),
            models=tuple(models),
            key_revealed=bool(history.proposals) or opened.model_provider == self.opener.me,
        )

    async def by_chain(self, task: int) -> Record:
        """Give what the chain alone proves of a task: who has delivered, and no true record."""
        files = self.opener.files
        opened, history = await files.opened(task), await files.history(task)
        numbers = range(1, len(history.rounds) + 1)
        return Record(
            terms=Terms(
                task=task,
                budget=(await files.task(task)).budget,
                award=opened.terms.award,
                method="samples",
                permutations=0,
                by_groups=True,
            ),
            subtasks=_subtasks(history),
            rounds=tuple(self._unreadable(history, number) for number in numbers),
            models=(_EMPTY,) * (len(numbers) + 1),
            key_revealed=True,
        )

    async def worths(
        self, task: int, number: int, coalitions: Sequence[Coalition]
    ) -> Mapping[Coalition, int] | None:
        """Have coalitions of a round measured; None if the test set cannot be had."""
        try:
            found = await self.trainer.worths(task, number, [tuple(sorted(one)) for one in coalitions])
        except RemoteError as error:
            gone = error.code in {"file_absent", "test_set_absent"}
            if not gone and (error.retryable or error.code == "internal"):
                raise
            return None  # it is not served, or cannot be measured on: either way the model provider's fault
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
        except AgoraiError as error:
            if is_fault(error):
                return _EMPTY
            if isinstance(error, FileAbsentError):
                return None
            raise

    async def _is_key_sound(self, task: int, mode: Mode) -> bool:
        try:
            await (self.opener.public(task) if mode == "encrypted" else self.opener.keys(task))
        except KeyFaultyError:
            return False
        return True

    def _unreadable(self, history: TaskHistory, number: int) -> TaskRound:
        """Give a round whose updates nobody can read, by the model provider's fault: all count; it is false."""
        return TaskRound(
            updates=tuple(Submission(subtask, 1, None) for subtask in history.trained(number)),
            taken=frozenset(),
            aggregated=_FALSE,
            seed=history.rounds[number - 1].seed,
            sums={},
            adders=tuple(history.added(number)),
        )

    async def _round(self, task: int, number: int, model: Vector | None) -> TaskRound:
        files = self.opener.files
        history, record = await files.history(task), await files.round(task, number)
        mode = (await files.document(task)).mode
        aggregated = model if mode == "encrypted" or await self._is_true(task, number) else _FALSE
        seed, taken = history.rounds[number - 1].seed, frozenset(record.taken)
        events = [history.rounds[number - 1].updates[id_] for id_ in history.trained(number)]
        if mode != "aggregate":
            updates = [await self._submission(task, event, mode) for event in events]
            return TaskRound(tuple(updates), taken, aggregated, seed, {})
        sums = await self.opener.sums(task, number, _MOST_SUM, final=True, adder=record.adder)
        if sums is None:
            updates = [Submission(event.subtask, 1, None) for event in events]
            return TaskRound(tuple(updates), taken, aggregated, seed, {})
        # Of one sound update there is no sum: it counts, as an adder had it before it and did not refuse it.
        counted = {member for one in sums.groups for member in one.members} or sums.passed
        updates = [await self._claimed(event) for event in events if event.subtask in counted]
        means = {
            Coalition(one.members): None if one.gone and taken & set(one.members) else _EMPTY
            for one in sums.groups
        } | {Coalition(one.members): one.vector for one in sums.groups if one.vector is not None}
        adders = tuple(adder.subtask for adder in sums.adders)
        return TaskRound(tuple(updates), taken, aggregated, seed, means, adders)

    async def _claimed(self, event: Updated) -> Submission:
        """Give what an update says of itself, where it is seen in a sum only."""
        try:
            return Submission(event.subtask, (await self.opener.delivered(event)).samples, None)
        except AgoraiError as error:
            if is_fault(error) or is_gone(error):
                return Submission(event.subtask, 1, None)
            raise

    async def _is_true(self, task: int, number: int) -> bool:
        try:
            return await self.trainer.replay(task, number)
        except RemoteError as error:
            says_nothing = error.retryable or error.code == "internal"
            if says_nothing and not is_fault(error):
                raise
            return False

    async def _submission(self, task: int, event: Updated, mode: Mode) -> Submission:
        samples = 0
        try:
            samples = (await self.opener.files.update(event)).samples
            if mode == "encrypted":
                await self.opener.result(task, event)
                return Submission(event.subtask, samples, None, is_formed=True)
            _, vector = await self.opener.update(task, event, MOST_BYTES)
        except AgoraiError as error:
            if is_fault(error):
                return Submission(event.subtask, samples, _EMPTY)
            if is_gone(error):
                return Submission(event.subtask, samples, None)
            raise
        return Submission(event.subtask, samples, vector)


def _subtasks(history: TaskHistory) -> tuple[Subtask, ...]:
    return tuple(
        Subtask(line.id, line.data_provider, line.computer, line.fee, line.wage)
        for line in history.subtasks.values()
        if line.ready and line.computer is not None
    )
