"""The reconciler with a protocol in memory: what it promises, whatever the protocol does."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from agorai_shared import ending
from agorai_shared.chain import Chain, Finality
from agorai_shared.errors import InputError, UnavailableError
from agorai_shared.reconciler import Reconciler, ReconcilerClosedError, Retry, Scope, idempotency_key
from agorai_shared.rpc import RpcUnreachableError
from agorai_shared.tracing import trace_id
from agorai_shared.trail import DeadLetter, Step
from agorai_shared.types import Address

QUICK = Retry(first_s=0.001, most_s=0.002, attempts=3)
SCOPE = Scope(1, "Counter", Address("0xC"))
PATIENT = Retry(first_s=600, most_s=600, attempts=3)


class AwayError(UnavailableError):
    def __init__(self) -> None:
        super().__init__("It is away.")


class WrongError(InputError):
    def __init__(self) -> None:
        super().__init__("It is wrong.")


@dataclass(frozen=True)
class Count:
    """The step: count one."""


@dataclass
class Counting:
    """Each item is a number to be counted up to its goal, one step at a time."""

    goals: dict[int, int] = field(default_factory=dict)
    values: Counter[int] = field(default_factory=Counter)
    looks: Counter[int] = field(default_factory=Counter)
    onces: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    again: bool = True
    open: Callable[[], Iterable[int]] = tuple
    deadline: dict[int, int] = field(default_factory=dict)
    on_look: Callable[[int], Awaitable[None]] | None = None
    on_step: Callable[[int], Awaitable[None]] | None = None
    looking: Counter[int] = field(default_factory=Counter)
    most_at_once: int = 0
    times: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def name(self) -> str:
        return "counting"

    async def read(self, key: int) -> int:
        self.looking[key] += 1
        try:
            assert self.looking[key] == 1, "two looks at one item at once"
            self.most_at_once = max(self.most_at_once, sum(self.looking.values()))
            self.looks[key] += 1
            await self._tell()
            if self.on_look:
                await self.on_look(key)
        finally:
            self.looking[key] -= 1
        return self.values[key]

    def next_step(self, state: int, now: int) -> Count | None:
        (key,) = [key for key, count in self.looks.items() if count] if len(self.looks) == 1 else (None,)
        if key is not None:
            self.times[key].append(now)
        goal = max(self.goals.values(), default=0)
        return Count() if state < goal else None

    def due(self, state: int, now: int) -> int | None:
        waiting = [when for when in self.deadline.values() if when > now]
        return min(waiting, default=None)

    async def perform(self, key: int, step: Count, once: str) -> bool:
        self.onces[key].append(once)
        if self.on_step:
            await self.on_step(key)
        self.values[key] += 1
        await self._tell()
        return self.again

    async def open_items(self) -> Iterable[int]:
        return self.open()

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(60), self.changed:
            await self.changed.wait_for(reached)


class World:
    """A reconciler, and what it tells."""

    service = "counter"
    address = Address("0xA")

    def __init__(self, protocol: Counting, **options: object) -> None:
        self.letters: list[DeadLetter] = []
        self.steps: list[Step] = []
        self.protocol = protocol
        options.setdefault("retry", QUICK)
        self.reconciler: Reconciler[int, Count] = Reconciler(
            protocol,
            SCOPE,
            self,
            **options,  # type: ignore[arg-type]
        )

    def step(self, told: Step) -> None:
        self.steps.append(told)

    async def dead(self, letter: DeadLetter, contract: str) -> None:
        assert contract == SCOPE.contract
        self.letters.append(letter)
        await self.protocol._tell()


@asynccontextmanager
async def running(protocol: Counting, **options: object) -> AsyncIterator[World]:
    world = World(protocol, **options)
    async with asyncio.timeout(30), world.reconciler.running():
        yield world
    leftover = [task for task in asyncio.all_tasks() if task.get_name().startswith("counting")]
    assert leftover == []


async def test_steps_are_taken_until_none_is_left() -> None:
    protocol = Counting({1: 5})
    async with running(protocol) as world:
        await world.reconciler.wake(1)
    assert protocol.values[1] == 5
    assert protocol.looks[1] == 6


async def test_each_state_has_its_own_idempotency_key_and_the_same_state_the_same() -> None:
    protocol = Counting({1: 3})
    async with running(protocol) as world:
        await world.reconciler.wake(1)
        protocol.values[1] = 0
        await world.reconciler.wake(1)
    assert protocol.onces[1][:3] == protocol.onces[1][3:]
    assert len(set(protocol.onces[1])) == 3
    assert protocol.onces[1][0] == idempotency_key(1, "0xC", 1, "Count", 0)


async def test_an_item_is_looked_at_by_one_task_and_many_items_at_once() -> None:
    gate = asyncio.Event()
    protocol = Counting(on_look=lambda _: waited(gate))
    async with running(protocol, concurrency=8) as world:
        wakes = [world.reconciler.wake(key) for key in range(40) for _ in range(3)]
        await protocol.until(lambda: len(protocol.looks) == 8)
        gate.set()
        await asyncio.gather(*wakes)
    assert protocol.most_at_once == 8
    assert set(protocol.looks) == set(range(40))


async def waited(gate: asyncio.Event) -> None:
    await gate.wait()


async def test_a_wake_during_a_look_brings_another_and_no_more_than_one() -> None:
    gate = asyncio.Event()
    protocol = Counting(on_look=lambda _: waited(gate))
    async with running(protocol) as world:
        first = world.reconciler.wake(1)
        await protocol.until(lambda: protocol.looks[1] == 1)
        later = [world.reconciler.wake(1) for _ in range(5)]
        gate.set()
        await first
        assert protocol.looks[1] <= 2
        await asyncio.gather(*later)
    assert protocol.looks[1] == 2


async def test_a_wake_is_done_only_once_a_look_that_began_after_it_has_ended() -> None:
    gates = [asyncio.Event(), asyncio.Event()]

    async def hold(key: int) -> None:
        await gates[protocol.looks[key] - 1].wait()

    protocol = Counting(on_look=hold)
    async with running(protocol) as world:
        first = world.reconciler.wake(1)
        await protocol.until(lambda: protocol.looks[1] == 1)
        second = world.reconciler.wake(1)
        gates[0].set()
        await first
        await protocol.until(lambda: protocol.looks[1] == 2)
        assert not second.done()
        gates[1].set()
        await second


async def test_a_look_for_an_event_takes_a_final_block_that_is_known_and_not_before_it() -> None:
    heads, seen = count(1), []

    async def newest(*_: object) -> dict[str, str]:
        return {"number": hex(next(heads)), "hash": "0x1", "parentHash": "0x0", "timestamp": "0x1"}

    chain = Chain(cast("Any", SimpleNamespace(request=newest)), Finality(0))

    async def look(key: int) -> None:
        seen.append((await chain.final()).number)
        if held.pop("first", None):
            looks.set()
            await gate.wait()

    gate, looks, held = asyncio.Event(), asyncio.Event(), {"first": True}
    protocol = Counting(on_look=look)
    async with running(protocol) as world:
        first = world.reconciler.wake(1)  # asks: 1
        await looks.wait()
        second = world.reconciler.wake(1, least=1)
        gate.set()
        await first
        await second  # takes what is known
        await world.reconciler.wake(1, least=2)  # 1 is before it: asks
        for least in (1, None, 2):  # of several one wants the newest
            last = world.reconciler.wake(1, least=least)
        await last
        protocol.goals[1] = 1
        await world.reconciler.wake(1, least=1)  # and after its own step it asks
    assert seen == [1, 1, 2, 3, 3, 4]


async def test_after_a_step_a_look_is_at_the_newest_final_block_whatever_event_came_meanwhile() -> None:
    heads, seen = count(1), []

    async def newest(*_: object) -> dict[str, str]:
        return {"number": hex(next(heads)), "hash": "0x1", "parentHash": "0x0", "timestamp": "0x1"}

    chain = Chain(cast("Any", SimpleNamespace(request=newest)), Finality(0))
    later: list[asyncio.Future[None]] = []

    async def look(_: int) -> None:
        seen.append((await chain.final()).number)

    async def step(key: int) -> None:
        later.append(world.reconciler.wake(key, least=1))

    protocol = Counting(goals={1: 1}, again=False, on_look=look, on_step=step)
    async with running(protocol) as world:
        await world.reconciler.wake(1)
        await later[0]
        await world.reconciler.wake(1, least=2)
        protocol.goals[1] = 2
        protocol.on_step = None
        await world.reconciler.wake(1, least=2)
        looks = [task for task in asyncio.all_tasks() if task.get_name() == "counting-1"]
        await asyncio.gather(*looks)  # it comes to rest
        await world.reconciler.wake(1, least=2)
        await world.reconciler.wake(1, least=2)
    assert seen == [1, 2, 2, 2, 3, 3]
    assert len(protocol.onces[1]) == 2


async def test_while_the_chain_is_away_that_is_told_once_however_many_items_want_it() -> None:
    async def away(key: int) -> None:
        if protocol.looks[key] <= 5:
            raise RpcUnreachableError("http://127.0.0.1:9", "refused")

    protocol = Counting(on_look=away)
    with capture_logs([merge_contextvars]) as said:
        async with running(protocol) as world:
            for key in range(3):
                world.reconciler.wake(key)
            await protocol.until(lambda: sum(looks == 6 for looks in protocol.looks.values()) == 3)
            await asyncio.gather(*map(world.reconciler.wake, range(3)))
    warned = [entry["event"] for entry in said if entry["log_level"] == "warning"]
    assert warned == ["chain.away", "chain.back"]
    tries = [entry for entry in said if entry["event"] == "item.retry"]
    assert Counter(entry["item"] for entry in tries) == {0: 5, 1: 5, 2: 5}


async def test_what_may_pass_by_itself_is_tried_until_it_does() -> None:
    async def away(_key: int) -> None:
        if protocol.looks[1] <= 50:
            raise AwayError

    protocol = Counting({1: 1}, on_look=away)
    async with running(protocol) as world:
        world.reconciler.wake(1)
        await protocol.until(lambda: protocol.values[1] == 1)
    assert world.letters == []


async def test_what_will_not_pass_is_given_up_on_and_told_once() -> None:
    async def wrong(_key: int) -> None:
        raise WrongError

    protocol = Counting({1: 1}, on_step=wrong)
    async with running(protocol) as world:
        world.reconciler.wake(1)
        await protocol.until(lambda: bool(world.letters))
        assert world.letters == [DeadLetter("counting", 1, "Count", "WrongError: It is wrong.", 3)]
        assert protocol.looks[1] == 3


async def test_a_fault_of_the_code_counts_as_one_that_will_not_pass() -> None:
    async def broken(_key: int) -> None:
        raise ZeroDivisionError("no")

    protocol = Counting({1: 1}, on_look=broken)
    async with running(protocol) as world:
        world.reconciler.wake(1)
        await protocol.until(lambda: bool(world.letters))
    assert world.letters == [DeadLetter("counting", 1, "look", "ZeroDivisionError: no", 3)]


async def test_outages_in_between_do_not_count_towards_giving_up() -> None:
    async def mixed(_key: int) -> None:
        raise WrongError if protocol.looks[1] % 4 == 0 else AwayError

    protocol = Counting({1: 1}, on_look=mixed)
    async with running(protocol) as world:
        world.reconciler.wake(1)
        await protocol.until(lambda: bool(world.letters))
    assert protocol.looks[1] == 12


async def test_a_success_forgives_the_failures_before() -> None:
    async def twice_wrong(_key: int) -> None:
        if protocol.looks[1] % 3:
            raise WrongError

    protocol = Counting({1: 5}, on_look=twice_wrong, again=False)
    async with running(protocol) as world:
        while protocol.values[1] < 5:
            world.reconciler.wake(1)
            value = protocol.values[1]
            await protocol.until(lambda value=value: protocol.values[1] > value)  # type: ignore[misc]
    assert world.letters == []


async def test_what_was_given_up_on_is_looked_at_again_when_woken() -> None:
    wrong = True

    async def maybe(_key: int) -> None:
        if wrong:
            raise WrongError

    protocol = Counting({1: 1}, on_step=maybe)
    async with running(protocol) as world:
        world.reconciler.wake(1)
        await protocol.until(lambda: bool(world.letters))
        wrong = False
        world.reconciler.wake(1)
        await protocol.until(lambda: protocol.values[1] == 1)


async def test_a_fault_in_one_item_does_not_disturb_the_others() -> None:
    async def wrong(key: int) -> None:
        if key % 2:
            raise WrongError if key % 4 == 1 else AwayError

    protocol = Counting({1: 2}, on_look=wrong)
    async with running(protocol, concurrency=2) as world:
        for key in range(20):
            world.reconciler.wake(key)
        await protocol.until(lambda: all(protocol.values[key] == 2 for key in range(0, 20, 2)))
        await protocol.until(lambda: len(world.letters) == 5)


async def test_items_that_wait_for_another_try_take_nobodys_place() -> None:
    async def away(key: int) -> None:
        if key < 100:
            raise AwayError

    protocol = Counting({1: 1}, on_look=away)
    async with running(protocol, concurrency=4, retry=PATIENT) as world:
        await asyncio.gather(*(world.reconciler.wake(key) for key in range(100)))
        await world.reconciler.wake(100)
        assert protocol.values[100] == 1


async def test_a_wake_cuts_a_pause_short() -> None:
    async def away_once(_key: int) -> None:
        if protocol.looks[1] == 1:
            raise AwayError

    protocol = Counting({1: 1}, on_look=away_once)
    async with running(protocol, retry=PATIENT) as world:
        await world.reconciler.wake(1)
        assert protocol.values[1] == 0
        await world.reconciler.wake(1)
        assert protocol.values[1] == 1


async def test_a_dead_letter_that_cannot_be_sent_does_no_more_harm() -> None:
    async def wrong(_key: int) -> None:
        raise WrongError

    async def undeliverable(letter: DeadLetter, contract: str) -> None:
        tried.set()
        raise AwayError

    tried = asyncio.Event()
    protocol = Counting({1: 1}, on_step=wrong)
    async with running(protocol) as world:
        world.dead = undeliverable  # type: ignore[method-assign]
        world.reconciler.wake(1)
        await tried.wait()
        protocol.on_step = None
        await world.reconciler.wake(1)
        await protocol.until(lambda: protocol.values[1] == 1)


async def test_each_step_is_told_with_how_it_went() -> None:
    async def wrong_once(_key: int) -> None:
        protocol.on_step = None
        raise WrongError

    protocol = Counting({7: 1}, on_step=wrong_once)
    async with running(protocol) as world:
        world.reconciler.wake(7)
        await protocol.until(lambda: protocol.values[7] == 1)
    failed, taken = world.steps
    assert (failed.outcome, failed.error) == ("error", "WrongError: It is wrong.")
    assert (taken.outcome, taken.error) == ("ok", None)
    assert (taken.service, taken.protocol, taken.contract) == ("counter", "counting", "Counter")
    assert (taken.key, taken.step, taken.once) == ("7", "Count", protocol.onces[7][0])
    assert taken.trace == failed.trace == trace_id(1, SCOPE.address, 7)


async def test_an_item_that_was_given_up_on_is_looked_at_again_with_as_many_tries_as_before() -> None:
    async def wrong(_key: int) -> None:
        raise WrongError

    protocol = Counting({1: 1}, on_step=wrong)
    async with running(protocol) as world:
        world.reconciler.wake(1)
        await protocol.until(lambda: len(world.letters) == 1)
        world.reconciler.look_again(1)
        await protocol.until(lambda: len(world.letters) == 2)
    assert [letter.attempts for letter in world.letters] == [3, 3]


async def test_open_items_are_looked_at_from_the_start_and_again_now_and_then() -> None:
    scans = 0

    def opened() -> Iterable[int]:
        nonlocal scans
        scans += 1
        return range(scans)

    protocol = Counting({1: 1}, open=opened)
    async with running(protocol, rescan_s=0.01):
        await protocol.until(lambda: len(protocol.looks) >= 4)


@pytest.mark.parametrize("error", [AwayError(), ZeroDivisionError()])
async def test_open_items_are_found_though_asking_for_them_failed_at_first(error: Exception) -> None:
    asked = 0

    def opened() -> Iterable[int]:
        nonlocal asked
        asked += 1
        if asked < 5:
            raise error
        return [7]

    protocol = Counting({7: 1}, open=opened)
    async with running(protocol):
        await protocol.until(lambda: protocol.values[7] == 1)


async def test_a_deadline_is_kept_by_the_chains_time() -> None:
    now = int(time.time())
    protocol = Counting(deadline={1: now + 1000})
    async with running(protocol) as world:
        await world.reconciler.wake(1)
        world.reconciler.tick(now + 999)
        assert protocol.looks[1] == 1
        world.reconciler.tick(now + 1000)
        await protocol.until(lambda: protocol.looks[1] == 2)
        assert protocol.times[1][-1] == now + 1000


async def test_a_deadline_is_kept_by_the_clock_of_a_chain_that_stands_still() -> None:
    protocol = Counting(deadline={1: int(time.time()) + 2})
    async with running(protocol) as world:
        await world.reconciler.wake(1)
        assert protocol.looks[1] == 1
        await protocol.until(lambda: protocol.looks[1] == 2)
    assert time.time() >= protocol.deadline[1]


async def test_a_deadline_that_passed_before_the_start_is_known_without_a_tick() -> None:
    ahead = int(time.time()) + 5000

    async def clock() -> int:
        return ahead

    protocol = Counting(open=lambda: [1])
    async with running(protocol, clock=clock):
        await protocol.until(lambda: protocol.looks[1] == 1)
    assert protocol.times[1] == [ahead]


async def test_the_chains_time_never_goes_back() -> None:
    ahead = int(time.time()) + 5000
    protocol = Counting()
    async with running(protocol) as world:
        world.reconciler.tick(ahead)
        world.reconciler.tick(5)
        await world.reconciler.wake(1)
    assert protocol.times[1] == [ahead]


async def test_a_step_whose_event_never_comes_is_looked_after() -> None:
    protocol = Counting({1: 2}, again=False)
    async with running(protocol, look_again_s=0) as world:
        await world.reconciler.wake(1)
        assert protocol.values[1] == 1
        await protocol.until(lambda: protocol.values[1] == 2)


async def test_closing_ends_every_look_and_pause_and_tells_who_waits() -> None:
    gate = asyncio.Event()

    async def hold(key: int) -> None:
        if key == 2:
            raise AwayError
        await gate.wait()

    protocol = Counting({1: 1}, on_look=hold)
    async with running(protocol, retry=PATIENT, concurrency=2) as world:
        looking, paused = world.reconciler.wake(1), world.reconciler.wake(2)
        await paused
        await protocol.until(lambda: protocol.looks[1] == 1)
        another = world.reconciler.wake(1)
        world.reconciler.wake(3)
        waiting = world.reconciler.wake(4)
    for left in (looking, another, waiting, world.reconciler.wake(5)):
        with pytest.raises(ReconcilerClosedError):
            await left
    assert protocol.values.total() == 0


async def test_closing_does_not_hang_on_a_look_that_forgets_its_cancellation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ending, "CANCEL_AGAIN_S", 0.01)

    async def deaf(_key: int) -> None:
        started.set()
        for _ in range(3):
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    started = asyncio.Event()
    protocol = Counting({1: 1}, on_look=deaf)
    async with running(protocol) as world:
        world.reconciler.wake(1)
        await started.wait()
        world.reconciler.wake(1)


async def test_a_step_under_way_is_cancelled_and_nothing_is_forgotten_by_the_next_life() -> None:
    stuck = asyncio.Event()

    async def hang(_key: int) -> None:
        stuck.set()
        await asyncio.Event().wait()

    protocol = Counting({1: 1}, on_step=hang, open=lambda: [1])
    async with running(protocol):
        await stuck.wait()
    protocol.on_step = None
    async with running(protocol):
        await protocol.until(lambda: protocol.values[1] == 1)
    assert len(set(protocol.onces[1])) == 1


@given(st.integers(0, 1 << 20), st.floats(0.01, 10), st.floats(0.01, 100))
def test_a_pause_is_never_longer_than_the_longest_however_many_went_before(
    attempt: int, first: float, most: float
) -> None:
    assert 0 < Retry(first, most).delay(attempt) <= most


@given(st.lists(st.text(max_size=5), max_size=4), st.lists(st.text(max_size=5), max_size=4))
def test_different_parts_give_different_idempotency_keys(a: list[str], b: list[str]) -> None:
    assert (idempotency_key(*a) == idempotency_key(*b)) == (a == b)


async def test_an_item_that_comes_to_rest_at_each_look_does_not_age() -> None:
    begun: list[float] = []

    async def woken_again(key: int) -> None:
        begun.append(world.reconciler._items[key].since)
        if len(begun) < 3:
            world.reconciler.wake(key)

    protocol = Counting(on_look=woken_again)
    async with running(protocol) as world:
        await world.reconciler.wake(1)
        await protocol.until(lambda: len(begun) == 3)
    assert begun == sorted(set(begun)), "each look begins anew"


async def test_an_item_that_fails_ages() -> None:
    begun: list[float] = []

    async def away(key: int) -> None:
        begun.append(world.reconciler._items[key].since)
        if len(begun) < 3:
            raise AwayError

    protocol = Counting(on_look=away)
    async with running(protocol) as world:
        world.reconciler.wake(1)
        await protocol.until(lambda: len(begun) == 3)
    assert len(set(begun)) == 1
