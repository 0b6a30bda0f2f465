"""Reading what was delivered as it comes: the end of a round then waits for the last only."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, Generic, Protocol, TypeVar
from weakref import WeakValueDictionary

from agorai_shared import logging
from agorai_shared.bindings.training_task import Updated
from agorai_shared.errors import AgoraiError

log = logging.get(__name__)

_KEPT: Final = 64 << 20
"""Bytes that are kept in memory, those read last."""
_AT_ONCE: Final = 16
"""Readings ahead: authors who do not serve what they delivered must not take all the turns that events have."""
_PATIENCE_S: Final = 15.0
"""Of a reading ahead: whoever needs it, and may wait no longer, waits for that which is under way."""


class _Sized(Protocol):
    @property
    def size(self) -> int:
        """Give about how many bytes of memory it takes."""
        ...


ReadT = TypeVar("ReadT", bound=_Sized)


class Ahead(Generic[ReadT]):
    """Reads what an event names, once for all who ask; what fails is tried anew by the next."""

    def __init__(self, read: Callable[[Updated], Awaitable[ReadT]]) -> None:
        self._read = read
        self._turns: WeakValueDictionary[Updated, asyncio.Lock] = WeakValueDictionary()
        self._by_now: OrderedDict[Updated, ReadT] = OrderedDict()
        self._size = 0

    async def get(self, event: Updated) -> ReadT:
        """Give what an event names; raises as reading it does."""
        async with self._turns.setdefault(event, asyncio.Lock()):
            found = self._by_now.get(event)
            if found is None:
                found = self._by_now[event] = await self._read(event)
                self._size += found.size
        while self._size > _KEPT:
            self._size -= self._by_now.popitem(last=False)[1].size
        return found

    async def begin(self, event: Updated) -> None:
        """Read what an event names for whoever will ask."""
        if len(self._turns) >= _AT_ONCE:
            return
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self.get(event)
        except (AgoraiError, TimeoutError) as error:  # that is told when it is asked for, if it lasts
            log.debug("update.not_read_ahead", subtask=event.subtask, round=event.round, why=str(error))
