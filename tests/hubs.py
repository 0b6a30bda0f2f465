"""A foreign contract on a chain, and `agorai hub` on top of it, each its own process."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from agorai_shared.processes import die_with_parent, find_anvil
from tests.forks import SCRIPT
from tests.nodes import AGORAI

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
PATIENCE_S = 30.0


def example(name: str) -> Any:
    """Import one of the example programs."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TILL = example("deploy_till")
FIRST_CONTRACT: str = TILL.TILL
"""Where the first transaction of anvil's first account puts a contract."""


class Spoken:
    """A process whose lines are read as they come."""

    def __init__(
        self,
        command: list[str],
        environment: Mapping[str, str] | None = None,
        begin: type[subprocess.Popen[str]] = subprocess.Popen,
    ) -> None:
        self.process = begin(
            command,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent(),
        )
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.errors: queue.Queue[str | None] = queue.Queue()
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self.process.stdout, self.lines), (self.process.stderr, self.errors))
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: Any, lines: queue.Queue[str | None]) -> None:
        for line in stream:
            lines.put(line.rstrip("\n"))
        lines.put(None)

    def until(self, enough: Callable[[str], bool], *, on_stderr: bool = False) -> str:
        """Read on to the first line that is enough, and give it."""
        lines = self.errors if on_stderr else self.lines
        end = time.monotonic() + PATIENCE_S
        while True:
            line = lines.get(timeout=max(0.0, end - time.monotonic()))
            assert line is not None, f"it ended with {self.process.wait()}: {self.rest_of_errors()}"
            if enough(line):
                return line

    def rest_of_errors(self) -> list[str]:
        found = []
        while not self.errors.empty():
            found.append(str(self.errors.get_nowait()))
        return found

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal, and give the exit status."""
        self.process.send_signal(number)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
            for reader in self._readers:
                reader.join()
            for stream in (self.process.stdout, self.process.stderr):
                if stream is not None:
                    stream.close()


@dataclass
class TillChain:
    """An anvil chain with one till on it."""

    url: str

    def rpc(self, method: str, *params: Any) -> Any:
        return TILL.rpc(self.url, method, *params)

    @property
    def account(self) -> str:
        return str(self.rpc("eth_accounts")[0])

    def deposit(self, amount: int) -> None:
        """Pay into the till; a block of its own."""
        TILL.deposit(self.url, amount)


@contextlib.contextmanager
def running_chain(chain_id: int = 31337) -> Iterator[TillChain]:
    anvil = Spoken([str(find_anvil()), "--port", "0", "--chain-id", str(chain_id)])
    try:
        said = anvil.until(lambda line: "Listening on" in line)
        found = re.search(r":(\d+)\s*$", said)
        assert found is not None
        chain = TillChain(f"http://127.0.0.1:{found[1]}")
        TILL.deploy(chain.url)
        yield chain
    finally:
        anvil.stop(signal.SIGTERM)


def example_file(folder: Path, chain: TillChain, **changes: str) -> Path:
    """Copy the example file and its ABI, with this chain's URL in it."""
    text = (EXAMPLES / "listen.toml").read_text().replace("http://127.0.0.1:8545", chain.url)
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "till.json").write_text((EXAMPLES / "till.json").read_text())
    path = folder / "listen.toml"
    path.write_text(text)
    return path


@dataclass
class HubProcess:
    """A running `agorai hub`."""

    home: Path
    spoken: Spoken
    url: str
    bus_url: str

    @property
    def token(self) -> str:
        return str(json.loads((self.home / "hub.json").read_text())["token"])

    def ask(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=20) as answer:  # noqa: S310
            return json.loads(answer.read())


def start_hub(home: Path, file: Path, *arguments: str) -> HubProcess:
    spoken = Spoken([AGORAI, "hub", str(file), "--home", str(home), "--json", *arguments], begin=SCRIPT)
    said = json.loads(spoken.until(lambda _: True))
    assert "error" not in said, said
    return HubProcess(home, spoken, said["url"], said["bus_url"])


@contextlib.contextmanager
def running_hub(home: Path, file: Path, *arguments: str) -> Iterator[HubProcess]:
    hub = start_hub(home, file, *arguments)
    try:
        yield hub
    finally:
        assert hub.spoken.stop() == 0, hub.spoken.rest_of_errors()


@contextlib.contextmanager
def running(
    command: list[str],
    environment: Mapping[str, str] | None = None,
    begin: type[subprocess.Popen[str]] = subprocess.Popen,
) -> Iterator[Spoken]:
    """Run a program; end it when left, if it has not ended."""
    spoken = Spoken(command, environment, begin)
    try:
        yield spoken
    finally:
        spoken.stop(signal.SIGTERM)


def watching(hub: HubProcess, *arguments: str) -> contextlib.AbstractContextManager[Spoken]:
    """Run `agorai events watch --json`."""
    command = [AGORAI, "events", "watch", "--json", "--home", str(hub.home), *arguments]
    return running(command, begin=SCRIPT)


def until(true: Callable[[], Any]) -> Any:
    """Ask again and again, for what does not announce itself; give the first answer that counts."""
    end = time.monotonic() + PATIENCE_S
    while not (found := true()):
        assert time.monotonic() < end, "it did not come about"
        threading.Event().wait(0.02)
    return found


class Webhook:
    """An endpoint that takes, or refuses, what is sent to it."""

    def __init__(self) -> None:
        self.got: queue.Queue[dict[str, Any]] = queue.Queue()
        self.status = 204
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                self.send_response(outer.status)
                self.end_headers()
                outer.got.put(json.loads(body))

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def next(self, kind: str) -> dict[str, Any]:
        """Give the next of that type."""
        while True:
            got = self.got.get(timeout=PATIENCE_S)
            if got["type"] == kind:
                return got


PYTHON = sys.executable
