"""The read model's database: SQLite or PostgreSQL by URL, one schema, one writer at a time.

What a portion of events changes is written in one transaction with the checkpoint behind it, and only if the
checkpoint is where the portion began. So whenever the process is killed nothing is lost or doubled, and of two
processes on one database only one goes on with each portion.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Engine,
    Table,
    create_engine,
    delete,
    event,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.reflection import Inspector
from sqlalchemy.exc import (
    ArgumentError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
    StatementError,
)
from sqlalchemy.exc import TimeoutError as PoolEmptyError
from sqlalchemy.sql.dml import Insert

from agorai_dashboard.projecting import keep, project
from agorai_dashboard.relating import Place
from agorai_dashboard.rows import Row, RowAbsentError
from agorai_dashboard.tables import CHECKPOINT, METADATA, PROJECTED, SCHEMA, TRAIL
from agorai_shared import logging
from agorai_shared.errors import InputError, UnavailableError
from agorai_shared.events import ChainEvent

log = logging.get(__name__)

_KEPT_ROWS: Final = 5_000
"""Rows that are kept in memory between portions, those used last."""
OF_DATA: Final = (StatementError, ArithmeticError, ValueError, TypeError, LookupError)
"""What is raised for values that a database does not take; of a database that is away, `DatabaseAwayError` is."""


class DatabaseUrlError(InputError):
    """The read model's URL cannot be used."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(
            f"The read model cannot be kept in {_shown(url)}: {why}.",
            remedy="Give AGORAI_DASHBOARD_DATABASE as sqlite:///FILE, or as "
            "postgresql+psycopg://USER:PASSWORD@HOST/NAME with the extra `agorai-dashboard[postgresql]`.",
        )


class DatabaseAwayError(UnavailableError):
    """The read model's database does not answer."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(
            f"The read model's database ({_shown(url)}) does not answer: {why}.",
            remedy="See that it runs, and that its disk is not full; projection goes on by itself.",
        )


class CheckpointMovedError(UnavailableError):
    """Another process has projected the portion."""

    def __init__(self) -> None:
        super().__init__("Another process writes to this read model.", remedy="One goes on by itself.")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far the read model is, and of which stream."""

    stream: str
    """When the stream was made, which tells it from a later one of its name; empty before the first."""
    sequence: int
    block: int
    block_time: int
    events: int


BEGINNING: Final = Checkpoint("", 0, 0, 0, 0)


class Model:
    """One read model; its methods block, so call them in a thread."""

    def __init__(self, url: str, chain_id: int, place: Place) -> None:
        self.url = url
        self.chain_id = chain_id
        self.place = place
        self.engine = _engine(url)
        self._kept: OrderedDict[tuple[str, tuple[object, ...]], dict[str, Any] | None] = OrderedDict()

    def prepare(self) -> None:
        """Make the tables, anew if they are of another version; of another chain, only in a file of its own.

        Raises
        ------
        DatabaseAwayError
        DatabaseUrlError
            If the database is not this read model's.
        """
        with self.writing() as connection:
            try:
                self._make(connection)
            except ProgrammingError as error:  # it may not
                raise DatabaseUrlError(self.url, _reason(error)) from error

    def _make(self, connection: Connection) -> None:
        # SQLite writes each table down at once, so a start may be broken off between any two of them.
        found = inspect(connection)
        names = set(found.get_table_names()) & set(METADATA.tables)
        if names and not _is_as(found, CHECKPOINT):
            raise DatabaseUrlError(self.url, "it has tables of another program")
        CHECKPOINT.create(connection, checkfirst=True)
        row = connection.execute(select(CHECKPOINT.c.version, CHECKPOINT.c.chain_id)).first()
        version, chain_id = row or (SCHEMA, self.chain_id)
        if chain_id != self.chain_id and connection.dialect.name != "sqlite":
            raise DatabaseUrlError(self.url, f"it is the read model of chain {chain_id}")
        if (version, chain_id) != (SCHEMA, self.chain_id):
            told = {table for table in TRAIL if chain_id == self.chain_id and _is_as(found, table)}
            old = set(METADATA.sorted_tables) - told - {CHECKPOINT}
            log.info("model.made_anew", version=version, chain=chain_id, kept=[table.name for table in told])
            METADATA.drop_all(connection, tables=list(old))
        METADATA.create_all(connection)
        if row is None:
            connection.execute(insert(CHECKPOINT).values(id=1, **self._first()))
        elif (version, chain_id) != (SCHEMA, self.chain_id):
            connection.execute(update(CHECKPOINT).values(**self._first()))

    def _first(self) -> dict[str, object]:
        return {
            "version": SCHEMA,
            "chain_id": self.chain_id,
            "stream": "",
            "sequence": 0,
            "block": 0,
            "block_time": 0,
            "events": 0,
        }

    def checkpoint(self) -> Checkpoint:
        """Give how far the read model is; raises `DatabaseAwayError`."""
        with self.reading() as connection:
            return _checkpoint(connection)

    def begin_anew(self, stream: str) -> None:
        """Forget all that was projected, to project a stream from its beginning.

        Raises
        ------
        DatabaseAwayError
        """
        self._kept.clear()
        with self.writing() as connection:
            for table in PROJECTED:
                if table is not CHECKPOINT:
                    connection.execute(delete(table))
            connection.execute(update(CHECKPOINT).values(**{**self._first(), "stream": stream}))

    def take(self, events: Iterable[tuple[int, ChainEvent]], before: Checkpoint, after: Checkpoint) -> None:
        """Write what events change, and the checkpoint behind them, at once or not at all.

        An event whose values the database does not take is kept as an event alone, so that none stops all others.

        Parameters
        ----------
        events
            Each with its sequence in the stream.

        Raises
        ------
        CheckpointMovedError
            If the read model is not where it was before; nothing was written.
        DatabaseAwayError
        """
        told = list(events)
        try:
            try:
                with self.writing() as connection:
                    rows = _WorkingRows(connection, self._kept)
                    for sequence, one in told:
                        project(one, sequence, rows, self.place)
                    _move(connection, before, after)
                    rows.write()
            except OF_DATA as error:
                log.warning("portion.one_by_one", events=len(told), error=_name(error))
                self._kept.clear()
                with self.writing() as connection:
                    _move(connection, before, after)  # first: SQLite begins a transaction with a change alone
                    for sequence, one in told:
                        self._take_one(connection, sequence, one)
        except BaseException:
            self._kept.clear()  # they may tell of what was not written
            raise
        while len(self._kept) > _KEPT_ROWS:
            self._kept.popitem(last=False)

    def _take_one(self, connection: Connection, sequence: int, one: ChainEvent) -> None:
        try:
            with connection.begin_nested():
                rows = _WorkingRows(connection, self._kept)
                project(one, sequence, rows, self.place)
                rows.write()
        except OperationalError:
            raise
        except OF_DATA as error:
            log.warning("event.not_projected", id=one.id, error=_name(error))
            self._kept.clear()
            rows = _WorkingRows(connection, self._kept)
            keep(one, sequence, rows)
            rows.write()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Read at one moment; raises `DatabaseAwayError`."""
        with self._answering(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Write at once or not at all; raises `DatabaseAwayError`."""
        with self._answering(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            raise DatabaseAwayError(self.url, _reason(error)) from error
        except PoolEmptyError as error:
            raise DatabaseAwayError(self.url, "all connections to it are busy") from error

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()


class _WorkingRows:
    """Rows as a portion has changed them so far; written at its end."""

    def __init__(
        self,
        connection: Connection,
        kept: OrderedDict[tuple[str, tuple[object, ...]], dict[str, Any] | None],
    ) -> None:
        self._connection = connection
        self._kept = kept
        self._changed: dict[Table, dict[tuple[object, ...], dict[str, Any]]] = {}
        self._new: dict[Table, list[Mapping[str, object]]] = {}

    def get(self, table: Table, *key: object) -> Row | None:
        place = (table.name, key)
        try:
            row = self._kept[place]
        except KeyError:
            columns = table.primary_key.columns
            found = self._connection.execute(
                select(table).where(*(column == value for column, value in zip(columns, key, strict=True)))
            ).first()
            row = self._kept[place] = None if found is None else dict(found._mapping)
        else:
            self._kept.move_to_end(place)
        return row

    def put(self, table: Table, **values: object) -> None:
        key = tuple(values[column.name] for column in table.primary_key.columns)
        self._kept[table.name, key] = values
        self._kept.move_to_end((table.name, key))
        self._changed.setdefault(table, {})[key] = values

    def append(self, table: Table, **values: object) -> None:
        self._new.setdefault(table, []).append(values)

    def change(self, table: Table, *key: object, **values: object) -> None:
        row = self.get(table, *key)
        if row is None:
            raise RowAbsentError(f"{table.name} {key}")
        whole = {**row, **values}
        self._kept[table.name, key] = whole
        self._changed.setdefault(table, {})[key] = whole

    def write(self) -> None:
        """Write all."""
        for table, rows in self._new.items():
            self._connection.execute(insert(table), rows)
        for table, changed in self._changed.items():
            self._connection.execute(over(self._connection, table), list(changed.values()))


def over(connection: Connection, table: Table) -> Insert:
    """Give the statement that writes a row over the one of its key, if there is one."""
    in_postgresql = connection.dialect.name == "postgresql"
    statement = postgresql.insert(table) if in_postgresql else sqlite.insert(table)
    keys: Sequence[str] = [column.name for column in table.primary_key.columns]
    rest = {
        column.name: statement.excluded[column.name] for column in table.columns if column.name not in keys
    }
    return statement.on_conflict_do_update(index_elements=keys, set_=rest)


def _is_as(found: Inspector, table: Table) -> bool:
    """Say whether the database has a table with these columns."""
    return found.has_table(table.name) and {column["name"] for column in found.get_columns(table.name)} == {
        column.name for column in table.columns
    }


def _checkpoint(connection: Connection) -> Checkpoint:
    columns = CHECKPOINT.c
    row = connection.execute(
        select(columns.stream, columns.sequence, columns.block, columns.block_time, columns.events)
    ).first()
    return BEGINNING if row is None else Checkpoint(*row)


def _move(connection: Connection, before: Checkpoint, after: Checkpoint) -> None:
    moved = connection.execute(
        update(CHECKPOINT)
        .where(CHECKPOINT.c.stream == before.stream, CHECKPOINT.c.sequence == before.sequence)
        .values(
            sequence=after.sequence,
            block=after.block,
            block_time=after.block_time,
            events=after.events,
        )
    )
    if moved.rowcount != 1:
        raise CheckpointMovedError


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if _is_sqlite(parsed) and parsed.database in (None, "", ":memory:"):
            raise DatabaseUrlError(url, "that names no file")
        engine = create_engine(parsed, pool_size=4, max_overflow=4, pool_pre_ping=not _is_sqlite(parsed))
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise DatabaseUrlError(url, str(error)) from error
    except (ArgumentError, ValueError, TypeError) as error:  # which may quote a piece of the password
        raise DatabaseUrlError(url, f"it cannot be read ({type(error).__name__})") from None
    if engine.dialect.name not in ("sqlite", "postgresql"):
        raise DatabaseUrlError(url, f"{engine.dialect.name} is not supported")
    if _is_sqlite(parsed):
        event.listen(engine, "connect", _set_up_sqlite)
    return engine


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _set_up_sqlite(connection: Any, _record: object) -> None:
    """Let readers read while one writes; a crash of the machine may lose the last portions, never tear them."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.close()


def _shown(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return "this URL"


def _name(error: BaseException) -> str:
    """Name a fault without its statement's values."""
    return type(getattr(error, "orig", None) or error).__name__


def _reason(error: OperationalError | ProgrammingError) -> str:
    return str(error.orig or error).splitlines()[0]
