"""What a chain, a node's own services and readers may send that a database does not take: on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
from nats.aio.client import Client
from sqlalchemy import insert

from agorai_dashboard import documents
from agorai_dashboard.looking import Look
from agorai_dashboard.projector import Projector
from agorai_dashboard.query_events import MOST_BYTES, EventQuery, event, events
from agorai_dashboard.query_market import nameless
from agorai_dashboard.relating import accounts
from agorai_dashboard.tables import ACTORS, DEAD, DOCUMENTS, EVENT_ACCOUNTS, RESOURCES, STEPS
from agorai_dashboard.trail import TrailKeeper
from agorai_shared.events import ChainEvent
from agorai_shared.trail import Dead, Sent, Step
from agorai_shared.types import Hash

from .pages_story import PLACE, WHO, digest, joined, registered
from .reading import Reading, reading

NOW = 1_790_000_000
NULS = "0x" + 40 * "\0"


@pytest.fixture
def empty(database: str) -> Iterator[Reading]:
    with reading(database, NOW) as found:
        yield found


def named(told: ChainEvent, number: int) -> ChainEvent:
    """Give the event another transaction, by which it is found."""
    return replace(told, transaction_hash=Hash(digest(number)), log_index=number)


def kept(found: Reading) -> list[int]:
    page = found.ask(lambda look: events(look.connection, EventQuery(), None, 100))
    return [row.log_index for row in reversed(page.rows)]


def test_a_gateway_as_long_as_an_address_is_none(empty: Reading) -> None:
    told = named(joined(1, NULS), 1)
    assert NULS not in accounts(told, PLACE)
    empty.take([told])
    assert kept(empty) == [1]
    assert len(empty.rows(ACTORS)) == 1
    assert len(empty.rows(EVENT_ACCOUNTS)) == 1


WORSE = registered(1, 3)


@pytest.mark.parametrize(
    "worse",
    [
        replace(WORSE, args={**WORSE.args, "id": 2**63}),
        replace(WORSE, args={**WORSE.args, "owner": NULS}),
        replace(WORSE, key="a\0b"),
        replace(WORSE, block_time=2**63),
    ],
)
def test_an_event_that_no_database_takes_is_kept_alone_and_stops_no_other(
    empty: Reading, worse: ChainEvent
) -> None:
    told = [registered(1, 1), worse, registered(1, 2)]
    empty.take([named(one, place) for place, one in enumerate(told)])
    assert kept(empty) == [0, 1, 2]
    assert {row[0] for row in empty.rows(RESOURCES)} >= {1, 2}
    assert empty.model.checkpoint().events == 3
    empty.take([named(registered(1, 4), 3)])
    assert kept(empty) == [0, 1, 2, 3]


def test_what_comes_before_and_behind_such_an_event_is_projected_once(empty: Reading) -> None:
    told = [registered(1, number) for number in (1, 2**63, 2)]
    empty.take(told)
    assert [row[0] for row in empty.rows(RESOURCES)] == [1, 2]


def step(**changed: object) -> Step:
    given: dict[str, object] = {
        "service": "vault",
        "protocol": "trade",
        "contract": "FairExchange",
        "key": "1",
        "step": "Pay",
        "outcome": "error",
        "error": "none",
        "once": "o",
        "at": float(NOW),
        "seconds": 0.1,
        "trace": "t",
    }
    return Step.model_validate({**given, **changed})


def dead(attempts: int) -> Dead:
    return Dead(
        service="vault",
        protocol="trade",
        contract="FairExchange",
        key="7",
        step="Pay",
        error="e",
        attempts=attempts,
        at=float(NOW),
    )


@pytest.fixture
def write(empty: Reading) -> Callable[[list[Step | Sent | Dead]], None]:
    async def client() -> Client:
        raise AssertionError("nobody listens")

    async def told(_events: Sequence[ChainEvent], _more: bool) -> None:
        raise AssertionError("nothing is projected")

    projector = Projector(empty.model, client, told)
    return TrailKeeper(projector, WHO["linhao"], client, lambda _step: None, lambda: None)._write


def test_a_step_with_nul_and_too_long_names_is_kept_as_far_as_it_fits(
    empty: Reading, write: Callable[[list[Step | Sent | Dead]], None]
) -> None:
    write([step(error="bad \0 text", service="x" * 100), dead(5)])
    ((*_, service, _protocol, _contract, _key, _step, _outcome, error, _once, _at, _seconds, _trace),) = (
        empty.rows(STEPS)
    )
    assert (service, error) == ("x" * 40, "bad  text")
    assert len(empty.rows(DEAD)) == 1


def test_a_message_that_no_database_takes_takes_no_other_with_it(
    empty: Reading, write: Callable[[list[Step | Sent | Dead]], None]
) -> None:
    write([step(), dead(2**70), dead(5), step()])
    assert len(empty.rows(STEPS)) == 2
    assert [row[7] for row in empty.rows(DEAD)] == [5]


def test_names_that_cannot_be_had_let_others_have_their_turn(empty: Reading) -> None:
    empty.take([registered(1, number) for number in range(1, 7)])
    with empty.model.writing() as connection:
        connection.execute(RESOURCES.update().where(RESOURCES.c.id == 6).values(withdrawn=True))
        for number, tried_at in ((5, NOW - 60.0), (4, NOW - 86_400.0)):
            connection.execute(
                insert(DOCUMENTS).values(
                    digest=digest(number), state="absent", content=b"", tried_at=tried_at
                )
            )

    def sought(most: int) -> list[int | None]:
        def asked(look: Look) -> list[int | None]:
            nameless(look, most)
            return [one.resource for one in look.wanted]

        return empty.ask(asked)

    assert sought(2) == [4, 3]
    assert sought(10) == [4, 3, 2, 1]


def test_documents_take_no_more_room_than_they_may(empty: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MOST_KEPT_BYTES", 1000)
    rows = [
        {"digest": digest(number), "state": "read", "content": bytes(100), "tried_at": float(number)}
        for number in range(12)
    ]
    with empty.model.writing() as connection:
        connection.execute(insert(DOCUMENTS), rows)
        documents._drop_oldest(connection)
    assert {row[0] for row in empty.rows(DOCUMENTS)} == {digest(number) for number in range(2, 12)}
    monkeypatch.setattr(documents, "MOST_KEPT", 5)
    with empty.model.writing() as connection:
        documents._drop_oldest(connection)
    assert {row[0] for row in empty.rows(DOCUMENTS)} == {digest(number) for number in range(7, 12)}


def test_a_page_of_very_long_events_ends_early_and_is_read_on(empty: Reading) -> None:
    long = "0x" + "ab" * (MOST_BYTES // 6)
    told = [replace(registered(1, number), args={"samples": long, "many": [1] * 500}) for number in range(8)]
    empty.take([named(one, place) for place, one in enumerate(told)])

    def page(cursor: str | None) -> tuple[list[int], str | None, int]:
        found = empty.ask(lambda look: events(look.connection, EventQuery(), cursor, 100))
        assert all(row.cut for row in found.rows)
        size = sum(len(str(row.args)) for row in found.rows)
        return [row.log_index for row in found.rows], found.following, size

    seen: list[int] = []
    cursor: str | None = None
    while True:
        rows, cursor, size = page(cursor)
        assert len(rows) <= 4
        assert size < 10_000
        seen += rows
        if cursor is None:
            break
    assert seen == list(range(7, -1, -1))
    whole = empty.ask(lambda look: event(look.connection, f"{digest(3)}-3"))
    assert whole.args["samples"] == long
    assert not whole.cut
