"""A training task followed live, across restarts of the node and of the bus that it stands on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

from agorai.client import Client
from agorai.home import NodeNotRunningError
from agorai.task_reading import follow, records
from agorai.task_state import Awaited, awaited
from agorai.tasks import Tasks, TaskSeen
from agorai_shared.bindings.training_task import Task
from agorai_shared.errors import AgoraiError
from agorai_shared.federated import RoundDocument

_AGAIN_S: Final = 1.0
"""From one try to reach a node that is away to the next."""


@dataclass(frozen=True, slots=True)
class News:
    """What is new of a task."""

    seen: TaskSeen
    rounds: dict[int, RoundDocument | None]
    """Those that are over since the last news, by number; None where nobody serves what it came to."""


async def watched(
    connect: Callable[[], AbstractAsyncContextManager[Client]],
    task: int,
    on_away: Callable[[AgoraiError], None],
) -> AsyncGenerator[News]:
    """Give each news of a task once, until it has ended; where it stands again when the node is back.

    Parameters
    ----------
    connect
        Reaches the node, anew after it was away.
    on_away
        Told why the node, or what it stands on, cannot be reached, once until it can be again.

    Raises
    ------
    AgoraiError
        What waiting does not mend; before the first news, anything.
    """
    over, last, away = 0, None, True
    while True:
        try:
            async with connect() as client:
                tasks = Tasks(client)
                async for seen in follow(tasks, task):
                    ended = await records(tasks, seen, over)
                    over += len(ended)
                    if away or ended or _standing(seen) != last:
                        yield News(seen, ended)
                    away, last = False, _standing(seen)
                return
        except AgoraiError as error:
            if last is None or not (error.retryable or isinstance(error, NodeNotRunningError)):
                raise
            if not away:
                on_away(error)
            away = True
        await asyncio.sleep(_AGAIN_S)


def _standing(seen: TaskSeen) -> tuple[Task, Awaited | None]:
    return seen.task, awaited(seen)
