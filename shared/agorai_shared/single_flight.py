"""Work that takes longer than one answer may, done once for all who ask for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from agorai_shared import logging
from agorai_shared.errors import AgoraiError

log = logging.get(__name__)


class LongCommand(Protocol):
    """A message that asks for work, and says how long to wait for its end."""

    @property
    def id(self) -> str:
        """The same id, and all else the same, is the same work."""

    @property
    def timeout_s(self) -> float:
        """Seconds to wait."""

    def model_copy(self, *, update: Mapping[str, Any] | None = None) -> Self:
        """Give the same with changes."""


CommandT = TypeVar("CommandT", bound=LongCommand)
EndT = TypeVar("EndT")

_KEPT: Final = 32
"""Ends that nobody asked for yet."""


class SingleFlight(Generic[CommandT, EndT]):
    """Does what a command asks for, and keeps each end until it is told.

    An end that is lost on its way, or a service that starts anew, costs no more than the work: whoever asks again
    has it done again.
    """

    def __init__(self, work: Callable[[CommandT], Awaitable[EndT]]) -> None:
        self._work = work
        self._tasks: dict[CommandT, asyncio.Task[EndT | AgoraiError]] = {}

    async def end(self, command: CommandT) -> EndT | None:
        """Begin the work, unless it was begun, and give its end, or None if that does not come in time.

        Raises
        ------
        AgoraiError
            As the work raised it.
        """
        key = command.model_copy(update={"timeout_s": 0.0})
        task = self._tasks.get(key) or self._begin(key)
        await asyncio.wait({task}, timeout=command.timeout_s)
        if not task.done():
            return None
        if self._tasks.get(key) is task:
            del self._tasks[key]
        end = task.result()
        if isinstance(end, AgoraiError):
            raise end
        return end

    async def aclose(self) -> None:
        """Give up what is not at its end."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, key: CommandT) -> asyncio.Task[EndT | AgoraiError]:
        untold = [other for other, task in self._tasks.items() if task.done()]
        for other in untold[: 1 - _KEPT]:
            del self._tasks[other]
        task = self._tasks[key] = asyncio.create_task(self._end(key))
        return task

    async def _end(self, command: CommandT) -> EndT | AgoraiError:
        try:
            return await self._work(command)
        except AgoraiError as error:
            log.warning("command.failed", command=type(command).__name__, id=command.id, error=str(error))
            return error
