"""The one mechanism of every protocol: look at an item's state on the chain, take the one next step.

An event or a deadline only says "look again at item 7". The reconciler reads the item's state at a final
block, asks the protocol's pure function for the next step, and performs it. So lost, repeated, reordered
and reorged events are all harmless, and starting up is the same code as running: look again at everything
still open. (The idea is that of Kubernetes' controllers.)
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Generic, Protocol, TypeVar

from faststream.nats import NatsBroker
from structlog.contextvars import bound_contextvars

from agorai_shared import logging, metrics
from agorai_shared.errors import AgoraiError

log = logging.get(__name__)

STEPS = metrics.counter("agorai_reconciler_steps", "Steps performed", "protocol", "step", "outcome")
LOOKS = metrics.histogram("agorai_reconciler_look_seconds", "One look at one item", "protocol")
ITEMS = metrics.gauge("agorai_reconciler_items", "Items being looked at now", "protocol")
DEAD = metrics.counter("agorai_reconciler_dead_letters", "Items given up on", "protocol")

StateT = TypeVar("StateT")
StepT = TypeVar("StepT")


class Protocol_(Protocol[StateT, StepT]):  # noqa: N801 - `Protocol` is typing's
    """What one protocol, seen from one party, gives to the reconciler."""

    @property
    def name(self) -> str:
        """Name in logs and metrics."""

    async def read(self, key: int) -> StateT:
        """Read the item's state at a final block, in one batched call, with what this node holds of it."""

    def next_step(self, state: StateT, now: int) -> StepT | None:
        """Decide, purely, the one next step; `now` is in seconds since 1970."""

    def due(self, state: StateT, now: int) -> int | None:
        """Say when to look again though no event comes (seconds since 1970)."""

    async def perform(self, key: int, step: StepT, once: str) -> bool:
        """Take the step, sending at most one transaction under the idempotency key `once`.

        Gives whether to look again at once; a step that sent a transaction waits for its event instead.
        """

    async def open_items(self) -> Iterable[int]:
        """Find, from the chain and what the node holds, every item that may still want a step."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What a protocol gave up on, and why."""

    protocol: str
    key: int
    step: str
    error: str
    attempts: int


def bury(broker: NatsBroker, service: str) -> Callable[[DeadLetter], Awaitable[None]]:
    """Give what publishes dead letters on `dead.<service>`."""

    async def publish(letter: DeadLetter) -> None:
        await broker.publish(asdict(letter), f"dead.{service}")

    return publish


@dataclass(frozen=True, slots=True)
class Retry:
    """How long to wait before another try, and when to give up."""

    first_s: float = 0.2
    most_s: float = 30.0
    attempts: int = 5

    def delay(self, attempt: int) -> float:
        """Give the pause after the attempt of this number, in seconds, with full jitter."""
        return min(self.most_s, self.first_s * 2.0**attempt) * random.uniform(0.5, 1.0)  # noqa: S311


def idempotency_key(*parts: object) -> str:
    """Give the key under which a step's transaction is sent once: chain, contract, item, step and state."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()


class Reconciler(Generic[StateT, StepT]):
    """Looks at many items at once, at each by one task at a time.

    Parameters
    ----------
    protocol
        The four parts of the protocol.
    scope
        Chain and contract, for the idempotency key.
    on_dead
        Called with what was given up on; a retryable error is never given up on.
    look_again_s
        After a step that should bring an event: when to look again though none came.
    """

    def __init__(
        self,
        protocol: Protocol_[StateT, StepT],
        scope: tuple[object, ...],
        on_dead: Callable[[DeadLetter], Awaitable[None]],
        *,
        retry: Retry | None = None,
        look_again_s: float = 15.0,
        concurrency: int = 64,
    ) -> None:
        self._protocol = protocol
        self._scope = scope
        self._on_dead = on_dead
        self._retry = retry or Retry()
        self._look_again_s = look_again_s
        self._slots = asyncio.Semaphore(concurrency)
        self._running: dict[int, asyncio.Task[None]] = {}
        self._again: set[int] = set()
        self._due: dict[int, float] = {}
        self._chain_time = 0

    def wake(self, key: int) -> asyncio.Task[None]:
        """Look at an item; a look that is under way is followed by another. Gives what ends with it."""
        self._due.pop(key, None)
        task = self._running.get(key)
        if task is not None:
            self._again.add(key)
            return task
        task = asyncio.create_task(self._settle(key), name=f"{self._protocol.name}-{key}")
        self._running[key] = task
        ITEMS.labels(self._protocol.name).set(len(self._running))
        return task

    def tick(self, chain_time: int) -> None:
        """Tell the time of a final block, in seconds since 1970; wakes the items that have become due."""
        self._chain_time = max(self._chain_time, chain_time)
        now = self._now()
        for key in [key for key, due in self._due.items() if due <= now]:
            self.wake(key)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look at every open item, then keep the deadlines; end all looks on leaving."""
        clock = asyncio.create_task(self._keep_time(), name=f"{self._protocol.name}-clock")
        try:
            yield
        finally:
            tasks = [clock, *self._running.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _now(self) -> int:
        # A chain that mines only on arrival has no ticks, one whose clock was set ahead has early ones.
        return max(self._chain_time, int(time.time()))

    async def _keep_time(self) -> None:
        attempt = 0
        while True:
            try:
                for key in await self._protocol.open_items():
                    self.wake(key)
                break
            except AgoraiError as error:
                log.warning("reconciler.open_items_unread", protocol=self._protocol.name, error=str(error))
                await asyncio.sleep(self._retry.delay(attempt))
                attempt += 1
        while True:
            await asyncio.sleep(1)
            self.tick(0)

    async def _settle(self, key: int) -> None:
        name = self._protocol.name
        try:
            async with self._slots:
                with bound_contextvars(protocol=name, item=key):
                    while True:
                        self._again.discard(key)
                        await self._look_with_retries(key)
                        if key not in self._again:
                            break
        finally:
            self._running.pop(key, None)
            ITEMS.labels(name).set(len(self._running))

    async def _look_with_retries(self, key: int) -> None:
        given_up_after = 0
        attempt = 0
        while True:
            try:
                with LOOKS.labels(self._protocol.name).time():
                    look_again = await self._look(key)
                if not look_again:
                    return
                attempt = given_up_after = 0
            except AgoraiError as error:
                if not error.retryable:
                    given_up_after += 1
                await self._pause_or_bury(key, error, attempt, given_up_after)
            except Exception as error:  # noqa: BLE001 - a fault in one item must not end the others
                given_up_after += 1
                await self._pause_or_bury(key, error, attempt, given_up_after)
            else:
                continue
            if given_up_after >= self._retry.attempts:
                return
            attempt += 1

    async def _pause_or_bury(self, key: int, error: Exception, attempt: int, given_up_after: int) -> None:
        name = self._protocol.name
        if given_up_after >= self._retry.attempts:
            DEAD.labels(name).inc()
            log.error("item.given_up", attempts=attempt + 1, error=str(error), exc_info=error)
            await self._on_dead(
                DeadLetter(name, key, "look", f"{type(error).__name__}: {error}", attempt + 1)
            )
            return
        pause = self._retry.delay(attempt)
        log.warning("item.retry", attempt=attempt + 1, pause_s=round(pause, 2), error=str(error))
        await asyncio.sleep(pause)

    async def _look(self, key: int) -> bool:
        state = await self._protocol.read(key)
        now = self._now()
        step = self._protocol.next_step(state, now)
        if step is None:
            due = self._protocol.due(state, now)
            if due is not None:
                self._due[key] = due
            return False
        name = type(step).__name__
        once = idempotency_key(*self._scope, key, name, state)
        try:
            look_again = await self._protocol.perform(key, step, once)
        except Exception:
            STEPS.labels(self._protocol.name, name, "error").inc()
            raise
        STEPS.labels(self._protocol.name, name, "ok").inc()
        log.info("item.stepped", step=name)
        if not look_again:
            self._due[key] = self._now() + self._look_again_s
        return look_again
