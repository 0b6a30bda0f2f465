"""Training tasks as they are shown: what rounds came to, and what a payout says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from agorai.task_state import ENDED, awaited, standing
from agorai.tasks import Tasks, TaskSeen
from agorai_shared.bindings.training_task import Declined, Proposed
from agorai_shared.digest_files import hurry, several
from agorai_shared.errors import AgoraiError
from agorai_shared.federated import PayoutDocument, RoundDocument
from agorai_shared.types import Address

_LOOK_S: Final = 0.5
SHOWN_S: Final = 15.0
"""How long strangers are asked for documents that are only to be shown."""


async def seen(tasks: Tasks, task: int) -> TaskSeen:
    """Read a task, not waiting long for its description; raises `TaskAbsentError`."""
    with hurry(SHOWN_S):
        return await tasks.look(task)


async def all_seen(tasks: Tasks) -> list[TaskSeen]:
    """Give all tasks, the newest first."""
    with hurry(SHOWN_S):
        return await tasks.tasks()


async def records(tasks: Tasks, task: TaskSeen, since: int = 0) -> dict[int, RoundDocument | None]:
    """Give what the model provider wrote of each round from one on that is over; None where nobody serves it."""
    over = range(since, len(task.history.rounds) + (1 if task.history.finished else 0))

    async def one(number: int) -> RoundDocument | None:
        try:
            return await tasks.files.round(task.id, number)
        except AgoraiError:
            return None

    with hurry(SHOWN_S):
        return dict(zip(over, await several(one, over), strict=True))


async def declined(tasks: Tasks, task: int) -> dict[int, Address]:
    """Give who last said no to each subtask, or took the request back."""
    events = await tasks.events(tasks.contract.address, Declined, None, f"0x{task:064x}")
    return {event.subtask: event.by for event in events}


async def payout(tasks: Tasks, task: TaskSeen) -> PayoutDocument | None:
    """Give the payout that stands; None if there is none, or nobody serves it."""
    found = standing(task.history)
    if found is None:
        return None
    by = found.proposer if isinstance(found, Proposed) else found.challenger
    try:
        with hurry(SHOWN_S):
            return await tasks.files.read(PayoutDocument, found.evidence, f"payout of task {task.id}", [by])
    except AgoraiError:
        return None


async def follow(tasks: Tasks, task: int) -> AsyncGenerator[TaskSeen]:
    """Give a task whenever it has moved, until it has ended."""
    last: TaskSeen | None = None
    while last is None or last.task.state not in ENDED:
        found = await seen(tasks, task)
        if last is None or (found.task, awaited(found)) != (last.task, awaited(last)):
            yield found
        last = found
        await asyncio.sleep(_LOOK_S)
