"""A task's history and rounds: how often the chain is asked for them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agorai_shared import unixfs
from agorai_shared.bindings.training_task import Begun
from agorai_shared.cid import digest_of
from agorai_shared.federated import RoundDocument
from agorai_shared.rpc import RpcUnreachableError
from agorai_shared.shared_jwe import Envelope
from agorai_shared.task_files import TaskAbsentError, TaskFiles
from agorai_shared.types import Address

ANNA = Address("0x" + "a" * 40)
TASK = 1


class Chain:
    """A chain whose newest final block is the one that it is told."""

    def __init__(self) -> None:
        self.asked = 0
        self.block = 1
        self.spans: list[tuple[int, int]] = []
        self.away = False

    async def final(self) -> Any:
        self.asked += 1
        return SimpleNamespace(number=self.block)

    async def logs_between(self, wanted: list[Any], first: int, last: int) -> tuple[list[Any], None, None]:
        assert len(wanted) == 2
        self.spans.append((first, last))
        await asyncio.sleep(0)
        if self.away:
            self.away = False
            raise RpcUnreachableError("memory", "it is away")
        return [], None, None


@pytest.fixture
async def chain() -> Chain:
    return Chain()


@pytest.fixture
async def files(chain: Chain) -> TaskFiles:
    deployment = SimpleNamespace(training_task=ANNA, chain_id=1, start_block=0)
    return TaskFiles(cast("Any", SimpleNamespace(chain=chain, deployment=deployment)))


async def test_a_block_s_events_are_read_once_for_all_who_ask(chain: Chain, files: TaskFiles) -> None:
    await asyncio.gather(*(files.history(TASK) for _ in range(5)))
    chain.block = 3
    await asyncio.gather(*(files.history(TASK) for _ in range(5)))
    assert chain.spans == [(0, 1), (2, 3)]


async def test_whoever_knows_of_an_older_block_takes_nothing_back(chain: Chain, files: TaskFiles) -> None:
    chain.block = 3
    await files.history(TASK)
    chain.block = 2
    await files.history(TASK)
    assert chain.spans == [(0, 3)]


async def test_a_reading_that_failed_is_nobody_elses(chain: Chain, files: TaskFiles) -> None:
    chain.away = True
    first, second = await asyncio.gather(files.history(TASK), files.history(TASK), return_exceptions=True)
    assert isinstance(first, RpcUnreachableError)
    assert second is await files.history(TASK)
    assert chain.spans == [(0, 1), (0, 1)]


async def test_the_chain_is_not_asked_for_a_round_that_is_known(chain: Chain, files: TaskFiles) -> None:
    envelope = Envelope(cid=unixfs.cid_of(b"model"), size=5)
    record = RoundDocument(
        task=files.binding(TASK), round=0, taken=(), refused=(), model=envelope, state=envelope, right=3
    ).to_bytes()
    digest = digest_of(unixfs.cid_of(record))
    first = Begun(task=TASK, round=1, model=bytes(32), record=digest, deadline=1)
    (await files.history(TASK)).take([(first, bytes(32))])
    files._opened[TASK] = cast("Any", SimpleNamespace(model_provider=ANNA))
    files._small[digest] = record
    asked = chain.asked
    assert (await files.round(TASK, 0)).right == 3
    assert chain.asked == asked
    with pytest.raises(TaskAbsentError):
        await files.round(TASK, 1)
    assert chain.asked == asked + 1
