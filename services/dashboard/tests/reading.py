"""A read model without a bus: events are handed to it, and questions asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Table, insert, select

from agorai_dashboard.duties import Windows
from agorai_dashboard.looking import Look
from agorai_dashboard.model import Checkpoint, Model
from agorai_dashboard.relating import Place
from agorai_dashboard.tables import DOCUMENTS, PROJECTED
from agorai_shared.events import ChainEvent

from .pages_story import CHAIN, PLACE

P = ParamSpec("P")
T = TypeVar("T")


class Reading:
    """One read model, and its time."""

    def __init__(self, model: Model, now: int) -> None:
        self.model = model
        self.now = now
        self.windows: Windows | None = Windows(600, 1800, 1800)

    def take(self, events: Iterable[ChainEvent], portion: int = 512) -> None:
        """Take events in, a portion at a time; each has the sequence behind the one before."""
        waiting = list(events)
        for begin in range(0, len(waiting), portion):
            before = self.model.checkpoint()
            part = list(enumerate(waiting[begin : begin + portion], before.sequence + 1))
            self.model.take(part, before, after(before, part))

    def keep(self, documents: dict[str, bytes]) -> None:
        """Have documents read."""
        rows = [
            {"digest": digest, "state": "read", "content": content, "tried_at": 0.0}
            for digest, content in documents.items()
        ]
        with self.model.writing() as connection:
            connection.execute(insert(DOCUMENTS), rows)

    def ask(self, query: Callable[Concatenate[Look, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Ask something."""
        with self.model.reading() as connection:
            return query(Look(connection, self.now, self.windows), *args, **kwargs)

    def rows(self, table: Table) -> list[tuple[object, ...]]:
        """Give a table's rows in the order of their keys."""
        with self.model.reading() as connection:
            return [
                tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns))
            ]

    def everything(self) -> dict[str, list[tuple[object, ...]]]:
        """Give all that was projected."""
        return {table.name: self.rows(table) for table in PROJECTED}


def after(before: Checkpoint, part: list[tuple[int, ChainEvent]]) -> Checkpoint:
    """Give the checkpoint behind a portion."""
    sequence, last = part[-1]
    return Checkpoint(before.stream, sequence, last.block_number, last.block_time, before.events + len(part))


@contextmanager
def reading(database: str, now: int, place: Place = PLACE) -> Iterator[Reading]:
    """Give an empty read model in a database."""
    model = Model(database, CHAIN, place)
    try:
        model.prepare()
        yield Reading(model, now)
    finally:
        model.close()
