"""Keeps what this node's handlers tell of themselves: steps, what they sent, what they gave up on.

It is told by plain messages that nobody repeats, so the read model has what was said while it listened.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from pydantic import ValidationError
from sqlalchemy import String, Table, case, delete, func, insert, select, true, update

from agorai_dashboard.background import going
from agorai_dashboard.looking import Look
from agorai_dashboard.model import OF_DATA, Model, over
from agorai_dashboard.projector import AWAY_S, Projector
from agorai_dashboard.query_events import BY_PROTOCOL
from agorai_dashboard.rows import Row
from agorai_dashboard.tables import DEAD, SENT, STEPS
from agorai_dashboard.views import Item
from agorai_dashboard.views_node import DeadLetter, ServiceSteps
from agorai_shared import logging
from agorai_shared.command import subject
from agorai_shared.errors import NotFoundError, UnavailableError
from agorai_shared.trail import TRAIL, Dead, Sent, Step
from agorai_shared.types import Address

log = logging.get(__name__)

KEPT_S: Final = 30 * 86_400
"""How long steps are kept, and dead letters once they were retried."""
MOST_LETTERS: Final = 500
_AT_ONCE: Final = 500
_WAITING: Final = 10_000
"""Messages that wait to be written; more are dropped, as the trail's are everywhere."""


class DeadLetterAbsentError(NotFoundError):
    """There is no dead letter of this id."""

    def __init__(self, id_: int) -> None:
        super().__init__(f"There is no dead letter {id_}.", remedy="See which there are: /node.")


class TrailKeeper:
    """Writes the trail of one node into the read model.

    Parameters
    ----------
    stepped
        Called with each step, once it is written.
    given_up
        Called when dead letters have changed.
    """

    def __init__(
        self,
        projector: Projector,
        address: Address,
        client: Callable[[], Awaitable[Client]],
        stepped: Callable[[Step], None],
        given_up: Callable[[], None],
    ) -> None:
        self._model: Model = projector.model
        self._projector = projector
        self._address = address
        self._client = client
        self._stepped = stepped
        self._given_up = given_up
        self._heard: asyncio.Queue[Step | Sent | Dead] = asyncio.Queue(_WAITING)
        self._dropped = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen; inside the projector's `running`."""
        client = await self._client()
        heard = await client.subscribe(subject(self._address, TRAIL, "*"), cb=self._hear)
        try:
            async with going(trail=self._keep):
                yield
        finally:
            with suppress(NatsError, OSError):
                await heard.unsubscribe()

    async def _hear(self, message: Msg) -> None:
        kinds: dict[str, type[Step | Sent | Dead]] = {"step": Step, "sent": Sent, "dead": Dead}
        kind = kinds.get(message.subject.rpartition(".")[2])
        if kind is None:
            return
        try:
            told = kind.model_validate_json(message.data)
        except ValidationError as error:
            log.warning("trail.malformed", subject=message.subject, errors=error.error_count())
            return
        try:
            self._heard.put_nowait(told)
        except asyncio.QueueFull:
            self._dropped += 1

    async def _keep(self) -> None:
        cleaned = 0.0
        while True:
            told = [await self._heard.get()]
            while len(told) < _AT_ONCE and not self._heard.empty():
                told.append(self._heard.get_nowait())
            await self._written(told)
            for one in told:
                if isinstance(one, Step):
                    self._stepped(one)
            if any(isinstance(one, Dead) for one in told):
                self._given_up()
            if time.time() - cleaned > 3600:
                cleaned = time.time()
                with suppress(UnavailableError):
                    await self._projector.write(self._forget_old)

    async def _written(self, told: Sequence[Step | Sent | Dead]) -> None:
        """Write messages, however long the database is away."""
        left = list(told)
        while True:
            if self._dropped:
                log.warning("trail.dropped", messages=self._dropped)
                self._dropped = 0
            try:
                await self._projector.write(partial(self._write, left))
            except UnavailableError as error:
                log.warning("trail.waits", messages=len(left), reason=str(error))
                await asyncio.sleep(AWAY_S)
            except Exception:
                log.exception("trail.not_kept", messages=len(left))
                return
            else:
                return

    def _write(self, told: list[Step | Sent | Dead]) -> None:
        """Write messages at once; where the database does not take one of them, all but that one.

        Those are left in the list that are to be written yet, if this is broken off.
        """
        steps = [_fitting(STEPS, one) for one in told if isinstance(one, Step)]
        sent = [_fitting(SENT, one) for one in told if isinstance(one, Sent)]
        dead = [_fitting(DEAD, one) for one in told if isinstance(one, Dead)]
        try:
            with self._model.writing() as connection:
                if steps:
                    connection.execute(insert(STEPS), steps)
                if sent:
                    connection.execute(over(connection, SENT), sent)
                if dead:
                    connection.execute(insert(DEAD), dead)
        except OF_DATA as error:
            if len(told) == 1:
                log.warning("trail.not_kept", messages=1, reason=type(error).__name__)
                return
            while told:
                self._write(told[:1])
                del told[0]

    def _forget_old(self) -> None:
        with self._model.writing() as connection:
            for table, done in ((STEPS, true()), (SENT, true()), (DEAD, DEAD.c.retried_at.is_not(None))):
                connection.execute(delete(table).where(done, table.c.at < time.time() - KEPT_S))

    async def retried(self, id_: int) -> None:
        """Note that a dead letter's item is looked at again."""

        def note() -> None:
            with self._model.writing() as connection:
                connection.execute(update(DEAD).where(DEAD.c.id == id_).values(retried_at=time.time()))

        await self._projector.write(note)
        self._given_up()


def _fitting(table: Table, told: Step | Sent | Dead) -> dict[str, object]:
    """Give a message as a row, its texts as every database takes them."""
    row = told.model_dump()
    for name, value in row.items():
        kind = table.c[name].type
        if isinstance(value, str) and isinstance(kind, String):
            row[name] = value.replace("\0", "")[: kind.length]
    return row


def dead_letters(look: Look) -> tuple[DeadLetter, ...]:
    """Give dead letters, the newest first."""
    return tuple(map(_letter, look.rows(select(DEAD).order_by(DEAD.c.id.desc()).limit(MOST_LETTERS))))


def dead_letter(look: Look, id_: int) -> DeadLetter:
    """Give one dead letter; raises `DeadLetterAbsentError`."""
    row = look.row(select(DEAD).where(DEAD.c.id == id_))
    if row is None:
        raise DeadLetterAbsentError(id_)
    return _letter(row)


def _letter(row: Row) -> DeadLetter:
    return DeadLetter(
        id=row["id"],
        service=row["service"],
        protocol=row["protocol"],
        item=Item(BY_PROTOCOL.get(row["protocol"], "item"), row["contract"], row["key"]),
        step=row["step"],
        error=row["error"],
        attempts=row["attempts"],
        at=row["at"],
        retried_at=row["retried_at"],
    )


def recent_steps(look: Look, since: float) -> tuple[ServiceSteps, ...]:
    """Give what each service's handlers did since a time."""
    failed = func.count(case((STEPS.c.outcome == "error", 1)))
    wanted = (
        select(
            STEPS.c.service,
            func.count().label("steps"),
            failed.label("errors"),
            func.avg(STEPS.c.seconds).label("seconds"),
        )
        .where(STEPS.c.at >= since)
        .group_by(STEPS.c.service)
        .order_by(STEPS.c.service)
    )
    return tuple(
        ServiceSteps(row["service"], row["steps"], int(row["errors"]), float(row["seconds"]))
        for row in look.rows(wanted)
    )
