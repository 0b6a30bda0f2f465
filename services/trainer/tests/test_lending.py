"""A trainer that stands by does jobs of the one that is active."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Self

import aiohttp
import pytest
from pydantic import SecretStr

from agorai_shared.settings import NodeSettings
from agorai_shared.standby import Aside, active
from agorai_trainer import lending
from agorai_trainer.borrowing import BorrowingSandbox
from agorai_trainer.frames import Frame, read
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
        return lending.announced(folder, Lender(url=lending.url_of(NODE, port), jobs=1))

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

    @property
    def lent(self) -> bool:
        return self._taken.total() > 1

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


async def test_a_job_whose_lender_is_lost_is_done_again(tmp_path: Path) -> None:
    async with active(tmp_path, NODE), Sandbox(max_jobs=1) as lent, Taken(tmp_path, TOKEN, ONE) as sandbox:
        async with standing_by(tmp_path, lent):
            training = asyncio.create_task(sandbox.train(TASK, MANY_ROWS))
            while not sandbox.lent:  # noqa: ASYNC110 - a sandbox has no news to give
                await asyncio.sleep(0.001)
        sandbox.give_back()
        assert (await training).metrics.n_test == 750_000


async def test_nobody_without_the_nodes_token_has_anything_done(tmp_path: Path) -> None:
    async with (
        active(tmp_path, NODE),
        Sandbox() as lent,
        standing_by(tmp_path, lent) as lender,
        aiohttp.ClientSession() as session,
        session.post(lender.url + lending.PATH, data=b"", headers={"Authorization": "Bearer x"}) as answer,
    ):
        assert answer.status == 401


def test_what_a_dead_lender_left_is_cleared_away(tmp_path: Path) -> None:
    left = tmp_path / "lenders" / "dead"
    left.parent.mkdir()
    left.write_text(Lender(url="http://127.0.0.1:1", jobs=1).model_dump_json())
    assert not known(tmp_path)
    assert not left.exists()


def test_a_frame_is_read_as_it_was_written() -> None:
    frame = Frame("job", {"a": 1}, (b"one", b"", b"another"))
    assert read(b"".join(frame.pieces())) == frame
