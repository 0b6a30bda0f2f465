"""Every database must do this: one conformance suite, on SQLite and on PostgreSQL."""

from __future__ import annotations

import multiprocessing
import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from multiprocessing.connection import Connection

import pytest
from sqlalchemy import insert, inspect, select, text
from structlog.testing import capture_logs

from agorai_dashboard import query_market, query_task
from agorai_dashboard.looking import CursorError, Look
from agorai_dashboard.model import BEGINNING, CheckpointMovedError, DatabaseAwayError, DatabaseUrlError, Model
from agorai_dashboard.query_actor import actor, actors
from agorai_dashboard.query_events import EventAbsentError, EventQuery, event, events, story
from agorai_dashboard.query_market import ResourceQuery, nameless, resource, resources
from agorai_dashboard.query_overview import overview
from agorai_dashboard.query_pool import pool, pools
from agorai_dashboard.query_task import task, tasks
from agorai_dashboard.query_trade import case, cases, trade, trades
from agorai_dashboard.tables import (
    ACTIVITY,
    CHECKPOINT,
    DEAD,
    DOCUMENTS,
    EVENT_ACCOUNTS,
    EVENT_ITEMS,
    EVENTS,
    INVOCATIONS,
    POOLS,
    PROJECTED,
    RESOURCE_NAMES,
    SENT,
    STEPS,
)
from agorai_dashboard.trail import dead_letters, recent_steps
from agorai_dashboard.views import Item, Page
from agorai_dashboard.views_event import EventRow
from agorai_dashboard.views_node import ServiceSteps
from agorai_dashboard.views_overview import Projection
from agorai_shared.documents import Column, Metadata
from agorai_shared.events import ChainEvent

from .pages_market import market
from .pages_story import CHAIN, PLACE, TOKEN, WHO
from .reading import Reading, after, reading

NOW = 1_790_000_000
STORY = market(NOW)
TOLD = list(STORY.events())


@pytest.fixture
def empty(database: str) -> Iterator[Reading]:
    with reading(database, NOW) as found:
        yield found


@pytest.fixture
def own(empty: Reading) -> Reading:
    """Give one that a test may change."""
    empty.take(TOLD)
    return empty


@pytest.fixture(scope="module")
def model(empty_database: Callable[[], str]) -> Iterator[Reading]:
    """Give one that is only read."""
    with reading(empty_database(), NOW) as found:
        found.take(TOLD)
        yield found


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reading]:
    """Give one on SQLite, that others are compared with."""
    with reading(f"sqlite:///{tmp_path_factory.mktemp('reference') / 'dashboard.sqlite'}", NOW) as found:
        found.take(TOLD)
        yield found


def test_all_events_are_kept_in_their_order(model: Reading) -> None:
    page = model.ask(lambda look: events(look.connection, EventQuery(), None, 10_000))
    assert [row.transaction_hash for row in reversed(page.rows)] == [one.transaction_hash for one in TOLD]
    assert page.following is None


def test_portions_of_any_size_give_the_same_read_model(empty: Reading, reference: Reading) -> None:
    empty.take(TOLD, portion=70)
    assert empty.everything() == reference.everything()


def test_projecting_anew_gives_the_same_read_model(own: Reading) -> None:
    before = own.everything()
    own.model.begin_anew("")
    assert own.rows(EVENTS) == []
    own.take(TOLD)
    assert own.everything() == before


def test_a_portion_that_was_taken_is_not_taken_again(model: Reading) -> None:
    before, everything = model.model.checkpoint(), model.everything()
    part = list(enumerate(TOLD[-5:], before.sequence - 4))
    with pytest.raises(CheckpointMovedError):
        model.model.take(part, replace(before, sequence=before.sequence - 5), before)
    assert model.everything() == everything


def test_a_portion_that_fails_leaves_nothing(empty: Reading) -> None:
    before = empty.model.checkpoint()
    twice = [(1, TOLD[0]), (1, TOLD[1])]
    with pytest.raises(Exception, match=r"(?i)unique"):
        empty.model.take(twice, before, after(before, twice))
    assert empty.rows(EVENTS) == []
    assert empty.model.checkpoint() == before
    empty.take(TOLD)
    assert len(empty.rows(EVENTS)) == len(TOLD)


def test_tables_of_another_version_are_made_anew_but_for_what_nobody_tells_again(
    own: Reading, database: str
) -> None:
    own.keep(STORY.documents)
    with own.model.writing() as connection:
        connection.execute(insert(DEAD).values(service="vault"))
        connection.execute(insert(STEPS).values(service="vault"))
        connection.execute(text("UPDATE checkpoint SET version = 0"))
        connection.execute(text("ALTER TABLE steps ADD COLUMN of_old INTEGER"))
    with reading(database, NOW) as other:
        assert other.model.checkpoint() == BEGINNING
        assert [len(other.rows(table)) for table in (EVENTS, DOCUMENTS, STEPS, DEAD)] == [0, 0, 0, 1]
        other.take(TOLD[:5])
    with reading(database, NOW) as other:
        assert len(other.rows(EVENTS)) == 5


def test_a_file_of_another_chain_is_made_anew_and_a_server_is_refused(own: Reading, database: str) -> None:
    with closing(Model(database, CHAIN + 1, PLACE)) as other:
        if own.model.engine.dialect.name == "sqlite":
            other.prepare()
            assert other.checkpoint() == BEGINNING
        else:
            with pytest.raises(DatabaseUrlError, match=f"the read model of chain {CHAIN}"):
                other.prepare()
            assert own.model.checkpoint() != BEGINNING


@pytest.mark.parametrize("table", ["events", "checkpoint"])
def test_tables_of_another_program_are_left_alone(database: str, table: str) -> None:
    with closing(Model(database, CHAIN, PLACE)) as model:
        with model.writing() as connection:
            connection.execute(text(f"CREATE TABLE {table} (id INTEGER)"))
            connection.execute(text(f"INSERT INTO {table} VALUES (7)"))  # noqa: S608 - one of two names
        with pytest.raises(DatabaseUrlError, match="another program"):
            model.prepare()
        with model.reading() as connection:
            assert connection.execute(text(f"SELECT id FROM {table}")).scalar() == 7  # noqa: S608 - as above
            assert inspect(connection).get_table_names() == [table]


def test_a_read_model_is_found_again(own: Reading, database: str) -> None:
    with reading(database, NOW) as other:
        assert other.model.checkpoint() == own.model.checkpoint()
        assert other.everything() == own.everything()


def _page(model: Reading, query: EventQuery, cursor: str | None) -> Page[EventRow]:
    return model.ask(lambda look: events(look.connection, query, cursor, 37))


@pytest.mark.parametrize(
    ("query", "holds"),
    [
        (EventQuery(contract="FairExchange"), lambda row: row.contract == "FairExchange"),
        (EventQuery(contract="DataPool", event="Added"), lambda row: row.event == "Added"),
        (EventQuery(contract="DataPool", key="3"), lambda row: row.contract == "DataPool" and row.key == "3"),
        (EventQuery(account=WHO["eve"]), lambda row: WHO["eve"] in str(row.args)),
        (
            EventQuery(item=Item("pool", "DataPool", "1")),
            lambda row: Item("pool", "DataPool", "1") in row.related,
        ),
        (EventQuery(from_block=150_000, to_block=180_000), lambda row: 150_000 <= row.block <= 180_000),
    ],
)
def test_filters_give_those_events_and_no_others(
    model: Reading, query: EventQuery, holds: Callable[[EventRow], bool]
) -> None:
    every = model.ask(lambda look: events(look.connection, EventQuery(), None, 10_000)).rows
    found: list[EventRow] = []
    cursor: str | None = None
    while True:
        page = _page(model, query, cursor)
        found += page.rows
        cursor = page.following
        if cursor is None:
            break
    assert found == [row for row in every if holds(row)]
    assert found


def test_a_cursor_that_was_not_given_is_refused(model: Reading) -> None:
    with pytest.raises(CursorError):
        model.ask(lambda look: events(look.connection, EventQuery(), "1 OR 1", 10))


@pytest.mark.parametrize(
    "name", ["0x00-0", "nonsense", "", f"{TOLD[0].transaction_hash}-99", "0x00-99999999999"]
)
def test_an_event_that_is_not_there_is_not_found(model: Reading, name: str) -> None:
    with pytest.raises(EventAbsentError):
        model.ask(lambda look: event(look.connection, name))


def test_a_story_joins_the_step_an_event_woke_with_what_it_sent(own: Reading) -> None:
    joined = next(one for one in TOLD if one.contract == "FairExchange" and one.event == "Joined")
    next_ = next(
        one
        for one in TOLD
        if one.event == "Fulfilled" and one.key == joined.key and one.block_time > joined.block_time
    )
    with own.model.writing() as connection:
        step = {
            "service": "vault",
            "protocol": "trade",
            "contract": "FairExchange",
            "key": joined.key,
            "step": "PassKey",
            "outcome": "ok",
            "error": None,
            "once": "a",
            "at": joined.block_time + 0.5,
            "seconds": 0.1,
            "trace": "0" * 32,
        }
        connection.execute(STEPS.insert(), [step, {**step, "protocol": "case", "once": "b"}])
        sent = {"once": "a", "transaction_hash": next_.transaction_hash, "at": 0.0}
        connection.execute(SENT.insert(), [sent])
    found = own.ask(lambda look: story(look.connection, f"{joined.transaction_hash}-{joined.log_index}"))
    assert [(one.step, one.transactions) for one in found.steps] == [("PassKey", (next_.transaction_hash,))]
    assert next_.transaction_hash in {row.transaction_hash for row in found.followed}
    assert found.event in found.together
    caused = own.ask(
        lambda look: story(look.connection, f"{next_.transaction_hash}-{next_.log_index}")
    ).caused_by
    assert caused is not None
    assert caused.step == "PassKey"


NOTHING = Projection(0, 0, 0, 0, 0, rebuilding=False)


ASKED: dict[str, Callable[[Look], object]] = {
    "resources": lambda look: resources(look, ResourceQuery(text="7 0xab flowers_%", kind="data"), "99", 10),
    "resource": lambda look: resource(look, 3),
    "nameless": lambda look: nameless(look, 10),
    "trades": lambda look: trades(look, "open", WHO["linhao"], "99", 10),
    "trade": lambda look: trade(look, 1),
    "cases": lambda look: cases(look, only_open=True, cursor="99", most=10),
    "case": lambda look: case(look, 1),
    "pools": lambda look: pools(look, "99", 10),
    "pool": lambda look: pool(look, 1, "99", 10),
    "tasks": lambda look: tasks(look, "99", 10),
    "task": lambda look: task(look, 1),
    "actors": lambda look: actors(look, "0x", "99999", 10),
    "actor": lambda look: actor(look, WHO["linhao"]),
    "dead letters": dead_letters,
    "steps": lambda look: recent_steps(look, 0),
}


@pytest.mark.parametrize("name", ASKED)
def test_every_question_is_answered_alike(model: Reading, reference: Reading, name: str) -> None:
    assert model.ask(ASKED[name]) == reference.ask(ASKED[name])


def test_documents_are_shown_once_they_were_read(own: Reading) -> None:
    own.keep(STORY.documents)
    assert own.ask(pool, 1, None, 10).row.name == "film reviews"
    found = own.ask(task, 1)
    assert found.mode == "open"
    assert [one.right for one in found.rounds]
    assert own.ask(resource, 3).described is not None


def test_a_search_finds_names_columns_and_owners_and_takes_no_wildcard(own: Reading) -> None:
    metadata = Metadata(
        kind="data",
        name="flowers",
        description="petals " * 1000,
        format="csv",
        size=1,
        columns=(Column(name="Sepal_Width", type="real"),),
    )
    row = {"id": 3, "name": metadata.name, "words": query_market.words_of(metadata)}
    with own.model.writing() as connection:
        connection.execute(insert(RESOURCE_NAMES), [row])

    def found(text: str) -> list[tuple[int, str]]:
        page = own.ask(resources, ResourceQuery(text=text, withdrawn=True), None, 500)
        return [(row.id, row.owner) for row in page.rows]

    ((_, owner),) = found("sepal_width flowers")
    assert {one for _, one in found(owner.upper().replace("0X", "0x"))} == {owner}
    assert (3, owner) in found(owner.lower())
    assert found("sepal%width") == []
    assert found("0x" + 40 * "_") == []


def test_steps_are_counted_by_service(own: Reading) -> None:
    step = {"service": "vault", "outcome": "ok", "at": 5.0, "seconds": 1.0}
    with own.model.writing() as connection:
        connection.execute(STEPS.insert(), [step, {**step, "outcome": "error", "seconds": 2.0}])
    assert own.ask(recent_steps, 5.0) == (ServiceSteps("vault", 2, 1, 1.5),)
    assert own.ask(recent_steps, 6.0) == ()


def test_the_overview_tells_what_is_held_and_who_must_act(model: Reading) -> None:
    at = Projection(200_000, NOW, len(TOLD), 0, len(TOLD), rebuilding=False)
    found = model.ask(overview, CHAIN, at, ())
    held = {one.contract: one.amount for one in found.held}
    moved = [one for one in TOLD if one.contract == "MarketToken"]
    address = next(one for one, name in PLACE.names.items() if name == "FairExchange")
    into = sum(int(str(one.args["value"])) for one in moved if one.args["to"] == address)
    out = sum(int(str(one.args["value"])) for one in moved if one.args["from"] == address)
    assert held["FairExchange"] == into - out > TOKEN
    assert sum(point.value for point in found.activity) <= len(TOLD)
    assert found.activity[-1].value > 0
    deadlines = [(duty.overdue, duty.until) for duty in found.duties if duty.until is not None]
    assert deadlines == sorted(deadlines)
    assert {duty.item.kind for duty in found.duties} >= {
        "trade",
        "case",
        "invocation",
        "task",
        "contribution",
    }


def test_of_a_long_task_the_newest_rounds_are_shown(model: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = model.ask(task, 1)
    monkeypatch.setattr(query_task, "_MOST_ROUNDS", 2)
    shown = model.ask(task, 1)
    assert len(whole.rounds) > 2
    assert (shown.initial, shown.rounds) == (whole.initial, whole.rounds[-2:])
    assert shown.stages == whole.stages


def test_what_is_long_overdue_hides_nothing_that_is_still_due(own: Reading) -> None:
    (paid,) = [row for row in own.ask(overview, CHAIN, NOTHING, ()).duties if row.item.kind == "invocation"][
        :1
    ]
    with own.model.writing() as connection:
        row = connection.execute(select(INVOCATIONS).where(INVOCATIONS.c.id == int(paid.item.key)))
        old = {**row.mappings().one(), "deadline": NOW - 86_400}
        connection.execute(insert(INVOCATIONS), [{**old, "id": 10_000 + number} for number in range(25)])
    duties = own.ask(overview, CHAIN, NOTHING, ()).duties
    assert paid in duties
    assert [duty.overdue for duty in duties] == sorted(duty.overdue for duty in duties)


def test_what_this_node_told_outlives_a_projection_anew(own: Reading) -> None:
    with own.model.writing() as connection:
        connection.execute(SENT.insert(), [{"once": "a", "transaction_hash": "0x", "at": 0.0}])
    own.model.begin_anew("")
    assert len(own.rows(SENT)) == 1


def test_amounts_beyond_what_integers_of_databases_hold_are_exact(empty: Reading) -> None:
    opened = next(one for one in TOLD if one.contract == "DataPool" and one.event == "Opened")
    terms = opened.args["terms"]
    assert isinstance(terms, dict)
    large = {**opened.args, "terms": {**terms, "budget": str(2**120 + 1)}}
    empty.take([replace(opened, args=large)])
    assert empty.ask(pool, 1, None, 10).budget == 2**120 + 1


def test_an_event_without_its_arguments_is_kept_and_changes_nothing_else(empty: Reading) -> None:
    opened = next(one for one in TOLD if one.contract == "DataPool" and one.event == "Opened")
    empty.take(
        [opened.without_args(), *(one for one in TOLD if one.contract == "DataPool" and one != opened)]
    )
    assert empty.rows(POOLS) == []
    assert len(empty.rows(EVENTS)) == sum(one.contract == "DataPool" for one in TOLD)


def test_an_event_of_an_item_that_is_not_known_changes_nothing_else(empty: Reading) -> None:
    of_events = {CHECKPOINT, EVENTS, ACTIVITY, EVENT_ITEMS, EVENT_ACCOUNTS}
    alone = {(one.contract, one.event): one for one in TOLD}
    not_projected = 0
    for name, one in alone.items():
        empty.model.begin_anew("")
        with capture_logs() as said:
            empty.take([one])
        if any(line["event"] == "event.not_projected" for line in said):
            not_projected += 1
            changed = [table.name for table in PROJECTED if table not in of_events and empty.rows(table)]
            assert changed == [], name
    assert not_projected > 20


def test_a_foreign_contract_of_a_known_name_changes_nothing(empty: Reading) -> None:
    stranger = [replace(one, address=WHO["eve"]) for one in TOLD]
    empty.take(stranger)
    assert empty.rows(POOLS) == []
    assert empty.rows(EVENT_ITEMS) == []
    assert len(empty.rows(EVENTS)) == len(TOLD)


def test_foreign_text_with_nul_and_lone_surrogates_is_kept(empty: Reading) -> None:
    joined = next(one for one in TOLD if one.event == "Joined" and one.contract == "Registry")
    empty.take([replace(joined, args={**joined.args, "gateway": "http://a\0b\n'; DROP TABLE events; --"})])
    assert len(empty.rows(EVENTS)) == 1


def test_two_processes_on_one_database_take_each_portion_once(empty: Reading, database: str) -> None:
    with reading(database, NOW) as other:
        before = empty.model.checkpoint()
        part = list(enumerate(TOLD[:50], 1))
        other.model.take(part, before, after(before, part))
        with pytest.raises(CheckpointMovedError):
            empty.model.take(part, before, after(before, part))
        empty.take(TOLD[50:])
        other.take([])
    assert len(empty.rows(EVENTS)) == len(TOLD)


_FORKS = multiprocessing.get_context("fork")


_PORTION = 5
_MOST_PORTIONS = 12


def _project_on(database: str, told: list[ChainEvent], asked: Connection) -> None:
    """Take what is not taken yet, a portion whenever this is asked for, as a process that may end anywhere."""
    with reading(database, NOW) as found:
        done = found.model.checkpoint().sequence
        for begin in range(done, len(told), _PORTION):
            asked.recv()
            found.take(told[begin : begin + _PORTION])
            asked.send(begin)


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_killed_at_any_moment_nothing_is_lost_or_doubled(
    empty: Reading, database: str, reference: Reading
) -> None:
    moments = random.Random(5)
    for _ in range(int(os.environ.get("AGORAI_TEST_KILLS", "8"))):
        before = empty.model.checkpoint().sequence
        if len(TOLD) - before <= _PORTION * (_MOST_PORTIONS + 1):
            empty.model.begin_anew("")
            before = 0
        here, there = _FORKS.Pipe()
        with here, there:
            process = _FORKS.Process(target=_project_on, args=(database, TOLD, there), daemon=True)
            process.start()
            portions = moments.randint(1, _MOST_PORTIONS)
            for _ in range(portions):
                here.send(None)
                here.recv()
            here.send(None)
            process.join(moments.uniform(0, 0.01))  # somewhere in the next portion
            process.kill()
            process.join()
            process.close()
        assert before + _PORTION * portions <= empty.model.checkpoint().sequence < len(TOLD)
    empty.take(TOLD[empty.model.checkpoint().sequence :])
    assert empty.everything() == reference.everything()


@pytest.mark.parametrize(
    "url",
    [
        "mysql://host/name",
        "nonsense",
        "postgresql+absent://host/name",
        "postgresql+psycopg://user:p@secret:secret/name",
        "sqlite://",
    ],
)
def test_a_database_that_cannot_be_used_is_named(url: str) -> None:
    with pytest.raises(DatabaseUrlError, match="AGORAI_DASHBOARD_DATABASE") as raised:
        Model(url, CHAIN, PLACE)
    assert "secret" not in str(raised.value)


def test_a_database_whose_connections_are_all_in_use_is_told_to_be_busy(
    own: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own.model.engine.pool, "_timeout", 0)
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(own.model.reading())
        with pytest.raises(DatabaseAwayError, match="busy"):
            stack.enter_context(own.model.reading())


def test_a_database_that_is_away_is_told_without_its_password() -> None:
    model = Model("postgresql+psycopg://user:secret@127.0.0.1:1/name", CHAIN, PLACE)
    with pytest.raises(DatabaseAwayError) as raised:
        model.prepare()
    model.close()
    assert "secret" not in str(raised.value)
