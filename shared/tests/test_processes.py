from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from agorai_shared.processes import (
    ProgramAbsentError,
    ProgramFailedError,
    find_anvil,
    start_anvil,
    start_nats,
)
from agorai_shared.rpc import Rpc
from agorai_shared.testing import running_anvil, running_nats


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


async def test_a_port_that_is_taken_is_told_in_the_programs_own_words(tmp_path: Path) -> None:
    async with running_nats(tmp_path / "one") as server, running_anvil() as node:
        with pytest.raises(ProgramFailedError, match="address already in use"):
            await start_nats(tmp_path / "two", port=server.port)
        with pytest.raises(ProgramFailedError, match="in use"):
            await start_anvil(port=node.port)


async def test_stopping_ends_the_process_and_may_be_repeated(tmp_path: Path) -> None:
    server = await start_nats(tmp_path)
    assert is_alive(server.pid)
    assert await server.stop() == await server.stop()
    assert not is_alive(server.pid)


async def test_a_chain_is_kept_in_its_state_file(tmp_path: Path) -> None:
    state = tmp_path / "chain.json"
    async with running_anvil(state=state) as node, Rpc(node.url) as rpc:
        await rpc.request("anvil_mine", "0x3")
    async with running_anvil(state=state) as node, Rpc(node.url) as rpc:
        assert await rpc.request("eth_blockNumber") == "0x3"


def test_a_program_that_is_absent_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ProgramAbsentError, match="AGORAI_ANVIL"):
        find_anvil()


def test_a_named_program_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGORAI_ANVIL", "/elsewhere/anvil")
    assert find_anvil() == Path("/elsewhere/anvil")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_children_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import asyncio, os, signal
        from pathlib import Path
        from agorai_shared.processes import start_nats
        async def main():
            server = await start_nats(Path({str(tmp_path)!r}))
            print(server.pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        asyncio.run(main())
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    pid = int(done.stdout.split()[-1])
    waiting = 1000
    while is_alive(pid) and waiting:  # the kernel's signal is on its way
        os.sched_yield()
        waiting -= 1
    assert not is_alive(pid)
