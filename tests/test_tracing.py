"""One purchase in one trace: the hub's spans and both nodes', at a real receiver of OTLP over HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from agorai.home import Home, NodeFile
from agorai_shared import tracing
from agorai_shared.deployment import Deployment
from tests.nodes import Node, stop, up

PATIENCE_S = 30.0


@dataclass(frozen=True)
class Span:
    service: str
    name: str
    trace: str
    id: str
    parent: str
    node: str


class Receiver:
    """Takes spans, as a collector would."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._more = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def take(self, request: ExportTraceServiceRequest) -> None:
        with self._more:
            for part in request.resource_spans:
                resource = {entry.key: entry.value.string_value for entry in part.resource.attributes}
                for span in (span for scope in part.scope_spans for span in scope.spans):
                    values = {entry.key: entry.value.string_value for entry in span.attributes}
                    self.spans.append(
                        Span(
                            resource["service.name"],
                            span.name,
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            span.parent_span_id.hex(),
                            values.get("agorai.node", ""),
                        )
                    )
            self._more.notify_all()

    def until(self, reached: Callable[[list[Span]], bool]) -> list[Span]:
        with self._more:
            assert self._more.wait_for(lambda: reached(self.spans), PATIENCE_S), self.names()
            return list(self.spans)

    def names(self) -> list[tuple[str, str]]:
        return [(span.service, span.name) for span in self.spans]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


@pytest.fixture(scope="module")
def nodes(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    folder = tmp_path_factory.mktemp("homes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        seller = up(folder / "seller", "--name", "seller", begin=subprocess.Popen)
        try:
            buyer = up(folder / "buyer", "--name", "buyer", "--join", folder / "seller")
            patch.undo()
            try:
                yield seller, buyer
            finally:
                assert stop(buyer) == 0
        finally:
            assert stop(seller) == 0


def info(node: Node) -> NodeFile:
    found = NodeFile.load(Home(node.home).node_file)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def bought(
    nodes: tuple[Node, Node], receiver: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, list[Span]]:
    """Give the purchase's trace id and, once it is settled, its spans."""
    seller, buyer = nodes
    table = tmp_path_factory.mktemp("tables") / "numbers.csv"
    table.write_text("a,b\n" + "".join(f"{n},{n % 2}\n" for n in range(50)))
    resource = seller.agorai("publish", "data", table, "--target", "b", "--price", 1, "--no-quality")
    purchase = buyer.agorai("buy", resource["resource"])
    deployment = Deployment.load(info(seller).deployment)
    trace = tracing.trace_id(deployment.chain_id, deployment.invocation, purchase["invocation"])
    ends = {"step invocation.TakeGrant", "transaction Invocation.deliver", "final Invocation.Delivered"}
    spans = receiver.until(lambda spans: ends <= {span.name for span in spans if span.trace == trace})
    return trace, [span for span in spans if span.trace == trace]


def test_a_purchase_is_one_trace_of_chain_and_both_nodes(
    nodes: tuple[Node, Node], bought: tuple[str, list[Span]]
) -> None:
    names = {(span.service, span.name) for span in bought[1]}
    assert {
        ("agorai-hub", "head Invocation.Paid"),
        ("agorai-hub", "final Invocation.Paid"),
        ("agorai-vault", "step invocation.Deliver"),
        ("agorai-vault", "send Invocation.deliver"),
        ("agorai-vault", "transaction Invocation.deliver"),
        ("agorai-hub", "final Invocation.Delivered"),
        ("agorai-vault", "step invocation.TakeGrant"),
    } <= names
    looking = {span.node for span in bought[1] if span.name == "look invocation"}
    assert looking == {info(node).address for node in nodes}


def test_what_a_step_did_is_below_it(bought: tuple[str, list[Span]]) -> None:
    by_id = {span.id: span for span in bought[1]}

    def above(span: Span) -> list[str]:
        names = []
        while span.parent:
            span = by_id[span.parent]
            names.append(span.name)
        return names

    (sent,) = [span for span in bought[1] if span.name == "transaction Invocation.deliver"]
    assert above(sent)[-2:] == ["step invocation.Deliver", "look invocation"]
    taken = next(span for span in bought[1] if span.name == "step invocation.TakeGrant")
    assert any(span.name == "fetch" and taken.name in above(span) for span in bought[1])


def test_nothing_of_the_sdk_is_imported_unless_traces_are_asked_for() -> None:
    program = (
        "import sys; from agorai_shared import tracing; tracing.configure(); import agorai_vault.app;"
        "assert tracing.traceparent() == {}; tracing.flush();"
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk')])"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    found = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_traces_that_cannot_be_sent_are_told_with_what_to_install() -> None:
    program = (
        "import sys; sys.modules['opentelemetry'] = None; from agorai_shared import tracing\n"
        "try: tracing.configure()\n"
        "except tracing.TelemetryMissingError as error: print(error.message, error.remedy)"
    )
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "console"}
    found = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert "agorai-shared[telemetry]" in found.stdout
