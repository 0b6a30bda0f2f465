"""A trainer that stands by does jobs of the one that is active."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Literal, Self

import aiohttp
import pytest
from pydantic import SecretStr

from agorai_shared.settings import NodeSettings
from agorai_shared.standby import Aside, active
from agorai_trainer import lending
from agorai_trainer.borrowing import BorrowingSandbox
from agorai_trainer.frames import Frame, FrameError, read
from agorai_trainer.lending import Lender, known
from agorai_trainer.sandbox import Sandbox
from agorai_trainer.settings import SandboxSettings
from agorai_trainer.tasks import Limits, TrainingTask
from agorai_trainer.verdicts import MemoryLimitError

TOKEN = "the node's own token"
NODE = NodeSettings(node_token=SecretStr(TOKEN))
ONE = SandboxSettings(max_jobs=1)
ROWS = b"".join(b"%d,%d\n" % (n, 2 * n) for n in range(50))
TABLE, MANY_ROWS = b"a,b\n" + ROWS, b"a,b\n" + 50_000 * ROWS
TASK = TrainingTask(estimator="sklearn.LinearRegression", target="b")


@asynccontextmanager
async def standing_by(folder: Path, sandbox: Sandbox) -> AsyncIterator[Lender]:
    """Have a sandbox lent by one who waits for the folder, which another has."""

    def lends(port: int) -> AbstractContextManager[None]:
        return lending.announced(folder, Lender(url=lending.url_of(NODE.host, port), jobs=1))

    async def wait() -> None:
        async with active(folder, NODE, Aside(lending.routes(sandbox, TOKEN), lends)):
            pytest.fail("the folder was taken")

    waiting = asyncio.create_task(wait())
    try:
        async with asyncio.timeout(20):
            while not (found := known(folder)):  # noqa: ASYNC110 - a file tells nobody
                await asyncio.sleep(0.02)
        yield next(iter(found.values()))
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


class Taken(BorrowingSandbox):
    """One whose own turns are all taken."""

    async def __aenter__(self) -> Self:
        self._taken[""] = 1
        return await super().__aenter__()

    def give_back(self) -> None:
        self._taken[""] = 0
        self._freed.set()


async def test_what_stands_by_trains_when_the_active_ones_turns_are_taken(tmp_path: Path) -> None:
    async with active(tmp_path, NODE), Sandbox(max_jobs=1) as lent, Taken(tmp_path, TOKEN, ONE) as sandbox:
        async with standing_by(tmp_path, lent):
            trained = await sandbox.train(TASK, TABLE)
        assert trained.metrics.n_test == 15
        assert not known(tmp_path)


async def test_a_jobs_error_is_the_same_wherever_it_was_done(tmp_path: Path) -> None:
    little = TASK.model_copy(update={"limits": Limits(memory_mib=16)})
    async with (
        active(tmp_path, NODE),
        Sandbox(max_jobs=1) as lent,
        Taken(tmp_path, TOKEN, ONE) as sandbox,
        standing_by(tmp_path, lent),
    ):
        with pytest.raises(MemoryLimitError, match="16 MiB"):
            await sandbox.train(little, MANY_ROWS)


class Held(asyncio.Semaphore):
    """Turns that nobody gets."""

    def __init__(self) -> None:
        super().__init__(0)
        self.wanted = asyncio.Event()

    async def acquire(self) -> Literal[True]:
        self.wanted.set()
        return await super().acquire()


async def test_a_job_whose_lender_is_lost_is_done_again(tmp_path: Path) -> None:
    async with active(tmp_path, NODE), Sandbox(max_jobs=1) as lent, Taken(tmp_path, TOKEN, ONE) as sandbox:
        held = lent._turns = Held()
        async with standing_by(tmp_path, lent):
            training = asyncio.create_task(sandbox.train(TASK, TABLE))
            await held.wanted.wait()
            assert not sandbox._shunned
        sandbox.give_back()
        assert (await training).metrics.n_test == 15
        assert sandbox._shunned


async def test_nobody_without_the_nodes_token_has_anything_done(tmp_path: Path) -> None:
    async with (
        active(tmp_path, NODE),
        Sandbox() as lent,
        standing_by(tmp_path, lent) as lender,
        aiohttp.ClientSession() as session,
        session.post(lender.url + lending.PATH, data=b"", headers={"Authorization": "Bearer x"}) as answer,
    ):
        assert answer.status == 401


@pytest.mark.parametrize(
    ("listens", "bus", "addresses", "host"),
    [
        ("10.0.0.7", "nats://10.0.0.1:4222", [], "10.0.0.7"),
        ("0.0.0.0", "nats://10.0.0.1:4222", ["127.0.1.1", "10.0.0.7"], "10.0.0.7"),  # noqa: S104
        ("::", "nats://10.0.0.1:4222", ["fe80::1%eth0", "fd00::7"], "fd00::7"),
        ("0.0.0.0", "nats://10.0.0.1:4222", ["127.0.1.1"], None),  # noqa: S104
        ("0.0.0.0", "nats://10.0.0.1:4222", None, None),  # noqa: S104
        ("0.0.0.0", "nats://127.0.0.1:4222", None, "127.0.0.1"),  # noqa: S104
        ("127.0.0.1", "nats://127.0.0.1:4222,localhost:4223", [], "127.0.0.1"),
        ("127.0.0.1", "nats://127.0.0.1:4222,tls://bus.example:4222", [], None),
    ],
)
async def test_one_lends_where_the_others_reach_it_and_never_at_their_own_loopback(
    monkeypatch: pytest.MonkeyPatch, listens: str, bus: str, addresses: list[str] | None, host: str | None
) -> None:
    async def named(*_: object, **__: object) -> list[tuple[object, ...]]:
        if addresses is None:
            raise socket.gaierror
        return [(None, None, 0, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", named)
    node = NODE.model_copy(update={"host": listens, "bus_url": bus})
    assert await lending.host_of(node) == host


def test_an_announcement_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refused)
    with (
        pytest.raises(OSError, match="no locks"),
        lending.announced(tmp_path, Lender(url="http://127.0.0.1:1", jobs=1)),
    ):
        pytest.fail("it was announced")
    assert not list((tmp_path / "lenders").iterdir())


def test_what_a_dead_lender_left_is_cleared_away(tmp_path: Path) -> None:
    left = tmp_path / "lenders" / "dead"
    left.parent.mkdir()
    left.write_text(Lender(url="http://127.0.0.1:1", jobs=1).model_dump_json())
    assert not known(tmp_path)
    assert not left.exists()


FRAME = Frame("job", {"a": 1}, (b"one", b"", b"another" * 300_000))


async def portions(raw: bytes, size: int) -> AsyncIterator[bytes]:
    yield b""
    for start in range(0, len(raw), size):
        yield raw[start : start + size]


@pytest.mark.parametrize("size", [3, 1 << 16, 1 << 30])
async def test_a_frame_is_read_as_it_was_written(size: int) -> None:
    written = [bytes(portion) async for portion in FRAME.portions()]
    assert max(map(len, written)) == 1 << 20
    assert await read(portions(b"".join(written), size)) == FRAME


@pytest.mark.parametrize("change", [lambda raw: raw[:-1], lambda raw: raw + b"x", lambda raw: raw[:3]])
async def test_bytes_that_are_more_or_less_than_a_frame_are_none(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(FrameError):
        await read(portions(change(b"".join(FRAME.pieces())), 1 << 16))
