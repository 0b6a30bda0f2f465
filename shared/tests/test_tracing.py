"""Where spans belong, within one process."""

from __future__ import annotations

import pytest
from faststream.nats import NatsRouter
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel, SecretStr

from agorai_shared import tracing
from agorai_shared.answering import commands_of
from agorai_shared.command import Commander, bus_of, subject
from agorai_shared.message import Message
from agorai_shared.processes import Running
from agorai_shared.service import Host, Service, make_broker
from agorai_shared.settings import NodeSettings
from agorai_shared.testing import nats_server
from agorai_shared.types import Address

__all__ = ["nats_server"]

ADDRESS = Address("0xAb5801a7D398351b8bE11C439e05C5B3259aeC9B")
TRACE = tracing.trace_id(1, ADDRESS, 7)


class Ring(Message):
    """Ring."""


class Rung(BaseModel):
    pass


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(tracing, "_tracing", tracing._Tracing(SimpleSpanProcessor(exporter)))
    return exporter


def test_an_item_has_the_same_trace_however_its_address_is_spelt() -> None:
    assert tracing.trace_id(1, ADDRESS, "7") == tracing.trace_id(1, Address(ADDRESS.lower()), 7)
    assert tracing.trace_id(2, ADDRESS, 7) != TRACE
    assert len(TRACE) == 32


def test_a_part_of_nothing_traced_is_not_traced(exported: InMemorySpanExporter) -> None:
    with tracing.span("fetch"):
        assert tracing.traceparent() == {}
    assert exported.get_finished_spans() == ()


def test_what_ends_later_is_below_the_place_where_it_began(exported: InMemorySpanExporter) -> None:
    with tracing.item("vault", "look trade", TRACE, {}):
        place = tracing.here()
    tracing.ended(place, "transaction", 1.5, state="final")
    look, transaction = exported.get_finished_spans()
    assert transaction.parent is not None
    assert look.context is not None
    assert transaction.parent.span_id == look.context.span_id
    assert transaction.start_time == 1_500_000_000


async def test_a_commands_answer_is_below_its_question(
    exported: InMemorySpanExporter, nats_server: Running
) -> None:
    settings = NodeSettings(bus_url=nats_server.url, node_token=SecretStr("t"))
    broker, commands, router = make_broker(settings, "test"), commands_of("t"), NatsRouter()

    @commands.subscriber(subject(ADDRESS, "bell", "ring"))
    async def ring(_command: Ring) -> Rung:
        return Rung()

    router.include_router(commands)
    async with Host(settings, [Service("bell", router)], broker).running():
        with tracing.item("vault", "look trade", TRACE, {}):
            await Commander(bus_of(broker), ADDRESS, "t").ask("bell", "ring", Ring(), Rung)
    spans = {span.name: span for span in exported.get_finished_spans()}
    assert set(spans) == {"bell.ring", "ask bell.ring", "look trade"}
    answer, question = spans["bell.ring"], spans["ask bell.ring"]
    assert answer.parent is not None
    assert question.context is not None
    assert answer.parent.span_id == question.context.span_id
    assert f"{question.context.trace_id:032x}" == TRACE
    services = {name: span.resource.attributes["service.name"] for name, span in spans.items()}
    assert services == {
        "bell.ring": "agorai-bell",
        "ask bell.ring": "agorai-vault",
        "look trade": "agorai-vault",
    }
