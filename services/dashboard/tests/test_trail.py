"""What this node's services tell of themselves is kept, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from sqlalchemy import insert
from structlog.testing import capture_logs

from agorai_dashboard import background, trail
from agorai_dashboard.background import going
from agorai_dashboard.model import DatabaseAwayError
from agorai_dashboard.projector import Projector
from agorai_dashboard.tables import DEAD, STEPS
from agorai_dashboard.trail import KEPT_S, TrailKeeper
from agorai_shared.events import ChainEvent
from agorai_shared.trail import Dead, Sent, Step

from .pages_story import WHO, step
from .reading import Reading, reading

T = TypeVar("T")


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Reading]:
    with reading(f"sqlite:///{tmp_path / 'dashboard.sqlite'}", 0) as found:
        yield found


async def nobody() -> Client:
    raise AssertionError("there is no bus")


class Unsteady(Projector):
    """Writes to a database that is away at first."""

    away = 0

    async def write(self, work: Callable[[], T]) -> T:
        if self.away:
            self.away -= 1
            raise DatabaseAwayError("sqlite:///of-a-test", "it is locked")
        return work()


class Keeping:
    """What keeps a trail, and how many rows there were when it told of a step and of a dead letter."""

    def __init__(self, kept: Reading) -> None:
        self.projector = Unsteady(kept.model, nobody, self._projected)
        self.stepped: asyncio.Queue[int] = asyncio.Queue()
        self.given_up: asyncio.Queue[int] = asyncio.Queue()
        self.keeper = TrailKeeper(
            self.projector,
            WHO["linhao"],
            nobody,
            lambda _step: self.stepped.put_nowait(len(kept.rows(STEPS))),
            lambda: self.given_up.put_nowait(len(kept.rows(DEAD))),
        )

    async def _projected(self, _events: Sequence[ChainEvent], _more: bool) -> None:
        raise AssertionError("nothing is projected")

    async def hear(self, told: Step | Sent | Dead) -> None:
        name = type(told).__name__.lower()
        await self.keeper._hear(Msg(None, f"trail.{name}", data=told.model_dump_json().encode()))  # type: ignore[arg-type]


@asynccontextmanager
async def keeping(kept: Reading) -> AsyncIterator[Keeping]:
    found = Keeping(kept)
    async with going(trail=found.keeper._keep):
        yield found


def dead() -> Dead:
    return Dead(
        service="vault",
        protocol="trade",
        contract="FairExchange",
        key="1",
        step="Pay",
        error="no money",
        attempts=8,
        at=time.time(),
    )


async def test_steps_and_dead_letters_are_told_of_once_they_are_kept(kept: Reading) -> None:
    async with keeping(kept) as found:
        await found.hear(step())
        assert await found.stepped.get() == 1
        await found.hear(dead())
        assert await found.given_up.get() == 1
        await found.keeper.retried(1)
        assert await found.given_up.get() == 1


async def test_what_is_told_while_the_database_is_away_is_kept_when_it_is_back(
    kept: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail, "AWAY_S", 0)
    async with keeping(kept) as found:
        found.projector.away = 3
        await found.hear(step())
        await found.hear(dead())
        assert await found.given_up.get() == 1
    assert len(kept.rows(STEPS)) == 1


async def test_what_there_is_no_room_for_is_told_in_the_log(
    kept: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail, "_WAITING", 1)
    with capture_logs() as said:
        async with keeping(kept) as found:
            for _ in range(3):
                await found.hear(step())
            assert await found.stepped.get() == 1
    assert [line["messages"] for line in said if line["event"] == "trail.dropped"] == [2]


async def test_a_dead_letter_is_forgotten_only_when_it_was_retried(kept: Reading) -> None:
    long_ago = time.time() - KEPT_S - 1
    old = {"service": "vault", "at": long_ago}
    with kept.model.writing() as connection:
        connection.execute(insert(STEPS).values(**old))
        connection.execute(insert(DEAD), [{**old, "retried_at": None}, {**old, "retried_at": long_ago}])
    Keeping(kept).keeper._forget_old()
    assert kept.rows(STEPS) == []
    assert [row[-1] for row in kept.rows(DEAD)] == [None]


async def test_work_that_an_error_ends_is_begun_again_and_ends_with_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(background, "AGAIN_S", 0)
    turns: asyncio.Queue[int] = asyncio.Queue()
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        turns.put_nowait(begun)
        if begun == 1:
            raise ZeroDivisionError
        await asyncio.Event().wait()

    with capture_logs() as said:
        async with going(reckoning=work):
            assert [await turns.get(), await turns.get()] == [1, 2]
    assert [(line["event"], line["work"]) for line in said] == [("background.ended", "reckoning")]
