"""A real Kubo for a test: its own repository, a free port on loopback, no network, and gone when the test is.

The binary is the one named in AGORAI_KUBO, else the one on PATH, else the newest that `tools/kubo/build` has built.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agorai_shared.processes import Running, start

_LISTENING = re.compile(r"RPC API server listening on /ip4/127\.0\.0\.1/tcp/(\d+)")
_READY = re.compile(r"Daemon is ready")


class KuboDaemon:
    """A daemon on a repository; `start` after `kill` runs it again on another port."""

    def __init__(self, binary: Path, repo: Path) -> None:
        self.repo = repo
        self._binary = binary
        self._running: Running | None = None

    @property
    def api(self) -> str:
        """Where its RPC API listens, as a multiaddr."""
        assert self._running is not None
        return f"/ip4/127.0.0.1/tcp/{self._running.port}"

    async def initialise(self, storage_max: str) -> None:
        """Make the repository; nothing in its configuration reaches beyond loopback."""
        await self._command("init", "--profile=test,announce-off", "--empty-repo")
        settings = self.repo / "config"
        config = json.loads(settings.read_text())
        config["Addresses"].update(Swarm=[], Gateway=[])
        config["Routing"] = {"Type": "none"}
        config["Datastore"]["StorageMax"] = storage_max
        config["Plugins"] = {"Plugins": {"telemetry": {"Config": {"Mode": "off"}}}}
        settings.write_text(json.dumps(config))

    async def start(self, port: int = 0) -> None:
        """Run it; it takes a free port unless told one."""
        settings = self.repo / "config"
        config = json.loads(settings.read_text())
        config["Addresses"]["API"] = f"/ip4/127.0.0.1/tcp/{port}"
        settings.write_text(json.dumps(config))
        command = [str(self._binary), f"--repo-dir={self.repo}", "daemon", "--offline"]
        self._running = await start(command, "http", "127.0.0.1", _LISTENING, _READY)

    async def kill(self) -> None:
        """End it as a power cut would; nothing if it does not run."""
        if self._running is not None:
            self._running.kill()
            await self._running.stop()

    def freeze(self) -> None:
        """Have it stop in the midst of whatever it does, with its connections open."""
        assert self._running is not None
        os.kill(self._running.pid, signal.SIGSTOP)

    async def _command(self, *arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(
            self._binary,
            f"--repo-dir={self.repo}",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()


@asynccontextmanager
async def running_kubo(repo: Path, *, storage_max: str = "10GB") -> AsyncIterator[KuboDaemon]:
    """Run a daemon on a new repository; skip the test where there is no Kubo."""
    daemon = KuboDaemon(find_kubo(), repo)
    await daemon.initialise(storage_max)
    try:
        await daemon.start()
        yield daemon
    finally:
        await daemon.kill()


def find_kubo() -> Path:
    """Give the path of `ipfs`; skip the test if there is none."""
    if named := os.environ.get("AGORAI_KUBO"):
        return Path(named)
    if on_path := shutil.which("ipfs"):
        return Path(on_path)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "agorai")
    built = [path for path in cache.glob("kubo-*/ipfs") if os.access(path, os.X_OK)]
    if not built:
        pytest.skip("no Kubo: none in AGORAI_KUBO, on PATH or built; `make kubo` builds one where Go is")
    return max(built, key=lambda path: [int(n) for n in re.findall(r"\d+", path.parent.name)])
