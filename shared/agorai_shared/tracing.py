"""OpenTelemetry traces that follow one item across chain, bus, services and nodes.

An item's trace id is computed from its chain, its contract and its key, so every node's spans of trade 7 are in one
trace though nothing about it passes between them. Commands carry the current span in W3C `traceparent`.

Nothing is imported or done unless `OTEL_EXPORTER_OTLP_ENDPOINT` is set, or `OTEL_TRACES_EXPORTER=console`; the SDK
reads its other `OTEL_...` variables itself. A sampler by the trace id's ratio keeps or drops an item in all nodes
alike.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from agorai_shared.errors import InputError
from agorai_shared.types import Address

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
FLUSH_MS: Final = 2000
"""How long a service that ends waits for its last spans to be taken."""

Kind = Literal["internal", "server", "client"]
Value = str | int | float | bool

_SERVICE: Final[ContextVar[str]] = ContextVar("agorai_traced_service", default="client")
_TRACE: Final[ContextVar[str]] = ContextVar("agorai_trace", default="")
"""Id for a trace that is about to begin."""


class TelemetryMissingError(InputError):
    """Traces are asked for, and what sends them is not installed."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"Traces are asked for by the environment, and cannot be sent: {why}.",
            remedy="Install the extra `agorai-shared[telemetry]`, or unset OTEL_EXPORTER_OTLP_ENDPOINT and "
            "OTEL_TRACES_EXPORTER.",
        )


def trace_id(chain_id: int, contract: Address, key: str | int) -> str:
    """Give the trace id of one item, in 32 hex digits, the same in every node."""
    return hashlib.sha256(f"{chain_id}:{contract.lower()}:{key}".encode()).hexdigest()[:32]


class _Tracing:
    """What sends spans; each service of the process is a resource of its own."""

    def __init__(self, processor: SpanProcessor) -> None:
        self._processor = processor
        self._providers: dict[str, TracerProvider] = {}

    @contextmanager
    def span(
        self,
        name: str,
        kind: Kind,
        context: Context | None,
        values: Mapping[str, Value],
        began: float | None = None,
    ) -> Iterator[None]:
        from opentelemetry.trace import SpanKind  # noqa: PLC0415 - an extra

        tracer = self._provider(_SERVICE.get()).get_tracer("agorai")
        with tracer.start_as_current_span(
            name,
            context=context,
            kind=SpanKind[kind.upper()],
            attributes=dict(values),
            start_time=None if began is None else int(began * 1e9),
        ):
            yield

    def flush(self) -> None:
        self._processor.force_flush(FLUSH_MS)

    def _provider(self, service: str) -> TracerProvider:
        if service not in self._providers:
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

            resource = Resource.create({"service.name": f"agorai-{service}", "service.namespace": "agorai"})
            provider = TracerProvider(resource=resource, id_generator=_id_generator(), shutdown_on_exit=False)
            provider.add_span_processor(self._processor)
            self._providers[service] = provider
        return self._providers[service]


_tracing: _Tracing | None = None


def configure() -> None:
    """Begin to send spans, if the environment asks for it; once a process.

    Raises
    ------
    TelemetryMissingError
        If it does, and the SDK is not installed.
    """
    global _tracing  # noqa: PLW0603 - as the registry of metrics is: what a process tells of itself
    exporter = os.environ.get("OTEL_TRACES_EXPORTER") or (
        "otlp" if any(map(os.environ.get, ENDPOINTS)) else "none"
    )
    if _tracing is None and exporter != "none":
        _tracing = _Tracing(_processor(exporter))


def is_on() -> bool:
    """Say whether spans are sent."""
    return _tracing is not None


def flush() -> None:
    """Send what waits to be sent; blocks for two seconds at most."""
    if _tracing is not None:
        _tracing.flush()


@contextmanager
def item(
    service: str, name: str, trace: str, values: Mapping[str, Value], *, began: float | None = None
) -> Iterator[None]:
    """Trace work of a service on one item, in the item's own trace, since now or `began` (seconds since 1970)."""
    if _tracing is None:
        yield
        return
    from opentelemetry.context import Context  # noqa: PLC0415

    with (
        _set(_SERVICE, service),
        _set(_TRACE, trace),
        _tracing.span(name, "internal", Context(), values, began),
    ):
        yield


@contextmanager
def answer(service: str, name: str, headers: Mapping[str, str]) -> Iterator[None]:
    """Trace the answer to a command, under the span in which it was asked."""
    if _tracing is None:
        yield
        return
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    asked = TraceContextTextMapPropagator().extract(headers)
    with _set(_SERVICE, service), _set(_TRACE, ""), _tracing.span(name, "server", asked, {}):
        yield


@contextmanager
def span(name: str, kind: Kind = "internal", **values: Value) -> Iterator[None]:
    """Trace a part of what is being traced here; of nothing traced, nothing."""
    if _tracing is None or not _is_inside():
        yield
        return
    with _tracing.span(name, kind, None, values):
        yield


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a trace, to come back to."""

    service: str
    context: Context


def here() -> Place | None:
    """Remember where we are; nothing if nothing is traced."""
    if _tracing is None:
        return None
    from opentelemetry.context import get_current  # noqa: PLC0415

    return Place(_SERVICE.get(), get_current())


def ended(place: Place | None, name: str, began: float, **values: Value) -> None:
    """Trace what began at a place, at a time in seconds since 1970, and has ended now."""
    if _tracing is not None and place is not None:
        with _set(_SERVICE, place.service), _tracing.span(name, "internal", place.context, values, began):
            pass


def traceparent() -> dict[str, str]:
    """Give the header that names the current span; none if there is no span."""
    headers: dict[str, str] = {}
    if _tracing is not None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        TraceContextTextMapPropagator().inject(headers)
    return headers


def _is_inside() -> bool:
    from opentelemetry.trace import get_current_span  # noqa: PLC0415

    return get_current_span().get_span_context().is_valid


@contextmanager
def _set(variable: ContextVar[str], value: str) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def _processor(exporter: str) -> SpanProcessor:
    try:
        from opentelemetry.sdk.trace.export import (  # noqa: PLC0415 - an extra
            BatchSpanProcessor,
            ConsoleSpanExporter,
            SimpleSpanProcessor,
        )

        if exporter == "console":
            return SimpleSpanProcessor(ConsoleSpanExporter())
        if exporter != "otlp":
            raise TelemetryMissingError(
                f"OTEL_TRACES_EXPORTER={exporter!r} is neither otlp, console nor none"
            )
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    except ImportError as error:
        raise TelemetryMissingError(str(error)) from error
    return BatchSpanProcessor(OTLPSpanExporter())


def _id_generator() -> Any:
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator  # noqa: PLC0415

    class OfItem(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            return int(_TRACE.get(), 16) if _TRACE.get() else super().generate_trace_id()

    return OfItem()
