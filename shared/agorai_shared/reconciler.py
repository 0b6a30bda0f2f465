"""The one mechanism of every protocol: look at an item's state on the chain, take the one next step.

An event or a deadline only says "look again at item 7". The reconciler reads the item's state at a final
block, asks the protocol's pure function for the next step, and performs it. So lost, repeated, reordered
and reorged events are all harmless, and starting up is the same code as running: look again at everything
still open. (The idea is that of Kubernetes' controllers.)
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from structlog.contextvars import bound_contextvars

from agorai_shared import logging, metrics, tracing
from agorai_shared.chain import at_one_block
from agorai_shared.command import STEP
from agorai_shared.ending import cancelled
from agorai_shared.errors import AgoraiError, UnavailableError
from agorai_shared.trail import DeadLetter, Step
from agorai_shared.types import Address

log = logging.get(__name__)

STEPS = metrics.counter("agorai_reconciler_steps", "Steps performed", "protocol", "step", "outcome")
LOOKS = metrics.histogram("agorai_reconciler_look_seconds", "One look at one item", "protocol")
ITEMS = metrics.gauge("agorai_reconciler_items", "Items being looked at now", "protocol")
OLDEST = metrics.gauge(
    "agorai_reconciler_oldest_item_seconds", "Since when the item longest not at rest is not", "protocol"
)
DEAD = metrics.counter("agorai_reconciler_dead_letters", "Items given up on", "protocol")

StateT = TypeVar("StateT")
StepT = TypeVar("StepT")


class ReconcilerClosedError(UnavailableError):
    """The service ended before an item was looked at."""

    def __init__(self, protocol: str, key: int) -> None:
        super().__init__(f"The service is ending and does not look at {protocol} {key} any more.")


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
class Scope:
    """Whose items these are: those of one contract on one chain."""

    chain_id: int
    contract: str
    """The contract's name."""
    address: Address
    part: str = ""
    """Parts reconcilers that take steps of the same name for the same items of one account."""

    def once(self, *what: object) -> str:
        """Give the key under which a step's transaction is sent once."""
        return idempotency_key(self.chain_id, self.address, *([self.part] if self.part else []), *what)


class Telling(Protocol):
    """What a reconciler tells of its steps to (a `trail.Trail` is one)."""

    service: str
    address: Address

    def step(self, told: Step) -> None:
        """Tell of a step, without waiting."""

    async def dead(self, letter: DeadLetter, contract: str) -> None:
        """Keep what was given up on, and tell of it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How long to wait before another try, and when to give up."""

    first_s: float = 0.2
    most_s: float = 30.0
    attempts: int = 5

    def delay(self, attempt: int) -> float:
        """Give the pause after the attempt of this number, in seconds, with full jitter."""
        return min(self.most_s, self.first_s * 2.0 ** min(attempt, 30)) * random.uniform(0.5, 1.0)  # noqa: S311


class _Item:
    """One item that wants a look, is being looked at, or waits for another try."""

    def __init__(self) -> None:
        self.woken = asyncio.Event()
        self.looked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the next look to begin has ended, well or not."""
        self.failed = 0
        """Looks that failed since the last that did not, and how many of them will not pass by themselves."""
        self.in_vain = 0
        self.since = time.monotonic()
        """When it was last at rest, or came."""
        self.step = "look"
        """What was being done when the last of them failed."""
        self.least: int | None = None
        """A block at which the next look may be, see `at_one_block`; none: at the newest final one."""

    def wake(self, least: int | None) -> None:
        """Ask for a look."""
        if self.woken.is_set():
            least = None if least is None or self.least is None else max(least, self.least)
        self.least = least
        self.woken.set()

    def begin(self) -> tuple[asyncio.Future[None], int | None]:
        """Begin a look: a wake from now on asks for another. Gives what is to be done with it, and `least`."""
        self.woken.clear()
        current, self.looked = self.looked, asyncio.get_running_loop().create_future()
        return current, self.least

    def at_rest(self) -> None:
        """Forget the failures."""
        self.failed = self.in_vain = 0
        self.since = time.monotonic()

    async def paused(self, pause_s: float) -> None:
        """Wait, but no longer than until a wake."""
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self.woken.wait()


def idempotency_key(*parts: object) -> str:
    """Give the key under which a step's transaction is sent once: chain, contract, item, step and state."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()


class Reconciler(Generic[StateT, StepT]):
    """Looks at many items at once, at each by one task at a time.

    Parameters
    ----------
    protocol
        The four parts of the protocol.
    scope
        Chain and contract.
    trail
        Told of each step, and of what was given up on; a retryable error is never given up on.
    clock
        Tells the chain's time (seconds since 1970), for deadlines that passed before the first tick comes.
    look_again_s
        After a step that should bring an event: when to look again though none came.
    rescan_s
        How often to look for open items though nothing told of them: what was given up on gets another
        chance, and an event that was lost is made good.
    concurrency
        Looks at once; a pause before a retry is no look.
    """

    def __init__(
        self,
        protocol: Protocol_[StateT, StepT],
        scope: Scope,
        trail: Telling,
        *,
        clock: Callable[[], Awaitable[int]] | None = None,
        retry: Retry | None = None,
        look_again_s: float = 15.0,
        rescan_s: float = 600.0,
        concurrency: int = 64,
    ) -> None:
        self._protocol = protocol
        self._scope = scope
        self._trail = trail
        self._clock = clock
        self._retry = retry or Retry()
        self._look_again_s = look_again_s
        self._rescan_s = rescan_s
        self._slots = asyncio.Semaphore(concurrency)
        self._items: dict[int, _Item] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._due: dict[int, float] = {}
        self._stepped: set[int] = set()
        """Items of which a step was taken in the last look: what it did is younger than an event that comes now."""
        self._chain_time = 0
        self._closed = False
        DEAD.labels(protocol.name)  # from 0 on: of what begins at 1 no increase is seen
        OLDEST.labels(protocol.name)

    def wake(self, key: int, *, least: int | None = None) -> asyncio.Future[None]:
        """Look at an item: now, after the look that is under way, or cutting short the pause before a retry.

        Gives what is done once that look has ended, well or not; it fails with `ReconcilerClosedError` if the
        service ends first.

        Parameters
        ----------
        least
            The block of the event that it is for, from which on any final block that is known will do.
        """
        self._due.pop(key, None)
        item = self._items.get(key)
        if item is None:
            item = _Item()
            if self._closed:
                self._leave(key, item.looked)
                return item.looked
            self._items[key] = item
            task = asyncio.create_task(self._attend(key, item), name=f"{self._protocol.name}-{key}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            ITEMS.labels(self._protocol.name).set(len(self._items))
        item.wake(least)
        return item.looked

    @property
    def name(self) -> str:
        """Name of the protocol."""
        return self._protocol.name

    def look_again(self, key: int) -> None:
        """Look at an item whose failures are forgotten: it is given up on after as many more only."""
        self.wake(key)
        if key in self._items:
            self._items[key].at_rest()

    def tick(self, chain_time: int) -> None:
        """Tell the time of a final block, in seconds since 1970; wakes the items that have become due."""
        self._chain_time = max(self._chain_time, chain_time)
        now = self._now()
        for key in [key for key, due in self._due.items() if due <= now]:
            self.wake(key)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look at every open item, then keep the deadlines; end all looks on leaving."""
        name = self._protocol.name
        clock = asyncio.create_task(self._keep_time(), name=f"{name}-clock")
        scan = asyncio.create_task(self._find_open(), name=f"{name}-scan")
        try:
            yield
        finally:
            self._closed = True
            await cancelled([clock, scan, *self._tasks])
            logging.forget(self._part("open items"))
            for key, item in self._items.items():  # whose task had not begun
                self._leave(key, item.looked)
            self._items.clear()

    def _now(self) -> int:
        # A chain that mines only on arrival has no ticks, one whose clock was set ahead has early ones.
        return max(self._chain_time, int(time.time()))

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.tick(0)
            now = time.monotonic()
            ages = (now - item.since for item in self._items.values())
            OLDEST.labels(self._protocol.name).set(max(ages, default=0.0))

    async def _find_open(self) -> None:
        attempt = 0
        while True:
            try:
                if self._clock is not None:
                    self.tick(await self._clock())
                for key in await self._protocol.open_items():
                    self.wake(key)
                attempt, pause = 0, self._rescan_s
                logging.present(self._part("open items"))
            except Exception as error:  # noqa: BLE001 - whatever it was, the open items are still to be found
                pause = self._retry.delay(attempt)
                attempt += 1
                logging.trouble(
                    log,
                    "reconciler.open_items_unread",
                    error,
                    self._part("open items"),
                    self._scope.chain_id,
                    protocol=self._protocol.name,
                    error=str(error),
                )
            await asyncio.sleep(pause)

    async def _attend(self, key: int, item: _Item) -> None:
        """Look at an item until it is at rest; one task does so at a time."""
        name = self._protocol.name
        current = item.looked
        try:
            with bound_contextvars(protocol=name, item=key):
                while item.woken.is_set() and not self._closed:
                    async with self._slots:
                        current, least = item.begin()
                        if key in self._stepped:
                            self._stepped.remove(key)
                            least = None
                        pause = await self._look_until_still(key, item, least)
                    current.set_result(None)
                    if pause is not None:
                        await item.paused(pause)
                        item.wake(None)
        finally:
            del self._items[key]
            logging.forget(self._part(key))
            ITEMS.labels(name).set(len(self._items))
            self._leave(key, current, item.looked)

    def _part(self, what: object) -> str:
        """Name what may miss bus or chain."""
        return f"{self._protocol.name} {what} {id(self)}"

    def _leave(self, key: int, *unlooked: asyncio.Future[None]) -> None:
        for future in unlooked:
            if not future.done():
                future.set_exception(ReconcilerClosedError(self._protocol.name, key))
                future.exception()  # nobody need be waiting

    async def _look_until_still(self, key: int, item: _Item, least: int | None) -> float | None:
        """Look until nothing is to be done at once; give the pause before another try, when it failed."""
        try:
            look_again = True
            while look_again:
                item.step = "look"
                with LOOKS.labels(self._protocol.name).time():
                    look_again = await self._look(key, item, least)
                least = None
                item.at_rest()
                logging.present(self._part(key))
        except Exception as error:  # noqa: BLE001 - a fault in one item must not end the others
            return await self._failed(key, item, error)
        return None

    async def _failed(self, key: int, item: _Item, error: Exception) -> float | None:
        item.failed += 1
        if not (isinstance(error, AgoraiError) and error.retryable):
            item.in_vain += 1
        if item.in_vain < self._retry.attempts:
            pause = self._retry.delay(item.failed - 1)
            logging.trouble(
                log,
                "item.retry",
                error,
                self._part(key),
                self._scope.chain_id,
                attempt=item.failed,
                pause_s=round(pause, 2),
                error=str(error),
            )
            return pause
        name = self._protocol.name
        DEAD.labels(name).inc()
        log.error("item.given_up", step=item.step, attempts=item.failed, error=str(error), exc_info=error)
        letter = DeadLetter(name, key, item.step, f"{type(error).__name__}: {error}", item.failed)
        item.at_rest()
        try:
            await self._trail.dead(letter, self._scope.contract)
        except Exception:
            log.exception("dead_letter.unpublished")  # the item is looked at again all the same
        return None

    async def _look(self, key: int, item: _Item, least: int | None) -> bool:
        name, scope = self._protocol.name, self._scope
        trace = tracing.trace_id(scope.chain_id, scope.address, key)
        values: dict[str, tracing.Value] = {
            "agorai.item": key,
            "agorai.contract": scope.contract,
            "agorai.node": self._trail.address,
        }
        with tracing.item(self._trail.service, f"look {name}", trace, values):
            with at_one_block(least=least):
                state = await self._protocol.read(key)
            now = self._now()
            step = self._protocol.next_step(state, now)
            if step is None:
                due = self._protocol.due(state, now)
                if due is not None:
                    self._due[key] = due
                return False
            item.step = type(step).__name__
            self._stepped.add(key)
            look_again = await self._take(key, step, scope.once(key, item.step, state), trace)
        if not look_again:
            self._due[key] = self._now() + self._look_again_s
        return look_again

    async def _take(self, key: int, step: StepT, once: str, trace: str) -> bool:
        """Take a step, and tell how it went."""
        protocol, name = self._protocol.name, type(step).__name__
        began = time.time()
        token = STEP.set(once)
        try:
            with tracing.span(f"step {protocol}.{name}"):
                look_again = await self._protocol.perform(key, step, once)
        except Exception as error:
            self._tell(key, name, once, trace, began, f"{type(error).__name__}: {error}")
            raise
        finally:
            STEP.reset(token)
        self._tell(key, name, once, trace, began)
        log.info("item.stepped", step=name)
        return look_again

    def _tell(
        self, key: int, step: str, once: str, trace: str, began: float, error: str | None = None
    ) -> None:
        outcome: Literal["ok", "error"] = "ok" if error is None else "error"
        STEPS.labels(self._protocol.name, step, outcome).inc()
        self._trail.step(
            Step(
                service=self._trail.service,
                protocol=self._protocol.name,
                contract=self._scope.contract,
                key=str(key),
                step=step,
                outcome=outcome,
                error=error,
                once=once,
                at=began,
                seconds=time.time() - began,
                trace=trace,
            )
        )
