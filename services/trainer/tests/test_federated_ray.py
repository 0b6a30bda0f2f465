"""Local training on Ray: on the real one where it is installed, and on a stand-in everywhere."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from agorai_shared import vectors
from agorai_trainer import verdicts
from agorai_trainer.estimators import ExtraMissingError
from agorai_trainer.federated import models
from agorai_trainer.federated.checking import read
from agorai_trainer.federated.on_ray import ClusterError, RayEngine
from agorai_trainer.federated.sandboxed import FederatedSandbox
from agorai_trainer.frames import Json, Reply
from agorai_trainer.sandbox import Sandbox
from agorai_trainer.table_refusals import MissingColumnError
from agorai_trainer.tasks import Limits

from .conftest import ENTRIES
from .federated import DENSE
from .test_federated_jobs import of_iris

STAND_IN = Path(__file__).parent / "stand_in"


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["stand-in", "ray"])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[RayEngine]:
    path = [str(ENTRIES)]
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "ray":
            pytest.importorskip("ray", reason="needs the extra `ray`")
        else:
            path = [str(STAND_IN), *path]
            patch.syspath_prepend(STAND_IN)
        patch.setenv("PYTHONPATH", os.pathsep.join(path))
        patch.setenv("AGORAI_VAULT_PASSPHRASE", "secret")
        async with RayEngine("local", Limits(wall_s=120)) as made:
            yield made


@asynccontextmanager
async def staying(engine: RayEngine, folder: Path) -> AsyncIterator[asyncio.Task[Reply]]:
    """Give a job that runs; afterwards its process is to end."""
    path = folder / "process"
    os.mkfifo(path)
    running = asyncio.create_task(engine.run("ray_jobs:stay", {"path": str(path)}, []))
    process = psutil.Process(int(await asyncio.to_thread(path.read_text)))
    yield running
    await asyncio.to_thread(psutil.wait_procs, [process])


def drivers() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if "ray_driver" in " ".join(one.cmdline())]


@pytest.mark.timeout(600)
@pytest.mark.asyncio(loop_scope="session")
class TestOnRay:
    async def test_a_round_gives_the_bits_that_it_gives_in_the_sandbox(
        self, engine: RayEngine, sandbox: Sandbox, iris: bytes
    ) -> None:
        spec = of_iris("mlp", layers=DENSE)
        start = models.initial(spec)
        found = await FederatedSandbox(sandbox, engine).fit(spec, start, iris, 1, 0.1)
        shut_in = await FederatedSandbox(sandbox).fit(spec, start, iris, 1, 0.1)
        assert found.vector.tobytes() == shut_in.vector.tobytes()
        assert found.vector.tobytes() == models.fit(spec, start, *read(spec, iris), 1, 0.1).tobytes()
        assert found.samples == shut_in.samples == 150

    async def test_what_is_wrong_with_the_data_is_told_as_in_the_sandbox(
        self, engine: RayEngine, sandbox: Sandbox, iris: bytes
    ) -> None:
        spec, told = of_iris(), []
        for work in (FederatedSandbox(sandbox, engine), FederatedSandbox(sandbox)):
            with pytest.raises(MissingColumnError, match="'f0'") as caught:
                await work.fit(spec, models.initial(spec), iris.replace(b"f0", b"g0", 1), 0)
            told.append(caught.value.to_problem())
        assert told[0] == told[1]

    async def test_each_job_has_a_process_of_its_own_that_knows_no_secrets_of_the_node(
        self, engine: RayEngine
    ) -> None:
        blobs = [b"", b"x" * 3_000_000]
        found = await asyncio.gather(*(engine.run("ray_jobs:describe", {}, blobs) for _ in range(2)))
        bodies = [reply.body for reply in found]
        assert bodies[0]["process"] != bodies[1]["process"]
        for body in bodies:
            assert body["sizes"] == [0, 3_000_000]
            assert not [name for name in body["variables"] if name.startswith("AGORAI_")]  # type: ignore[attr-defined]

    async def test_a_job_that_takes_too_long_is_ended(
        self, engine: RayEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(engine, "_limits", Limits(wall_s=2))
        async with staying(engine, tmp_path) as running:
            with pytest.raises(verdicts.TimeLimitError, match="2 s"):
                await running

    async def test_a_job_that_is_cancelled_is_ended(self, engine: RayEngine, tmp_path: Path) -> None:
        async with staying(engine, tmp_path) as running:
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    async def test_a_process_that_is_killed_can_be_tried_again(self, engine: RayEngine) -> None:
        with pytest.raises(ClusterError, match="'local'") as caught:
            await engine.run("ray_jobs:die", {}, [])
        assert caught.value.retryable
        assert (await engine.run("ray_jobs:describe", {}, [])).body["sizes"] == []

    async def test_an_answer_that_is_too_long_is_not_taken(
        self, engine: RayEngine, iris: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(engine, "_limits", Limits(output_mib=1))
        with pytest.raises(verdicts.OutputLimitError):
            await engine.run("ray_jobs:echo", {}, [b"x" * 1_100_000])

    async def test_a_cluster_without_a_free_processor_can_be_tried_again(
        self, engine: RayEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("agorai_trainer.federated.on_ray._PLACE_S", 0.001)
        with pytest.raises(ClusterError, match=r"no free processor within 0\.001 s"):
            await engine.run("ray_jobs:describe", {}, [])

    async def test_a_connection_that_is_lost_is_made_again(self, engine: RayEngine, tmp_path: Path) -> None:
        async with staying(engine, tmp_path) as running:
            (driver,) = drivers()
            driver.kill()
            with pytest.raises(ClusterError) as caught:
                await running
            assert caught.value.retryable
        assert (await engine.run("ray_jobs:describe", {}, [])).body["sizes"] == []

    async def test_with_the_engine_its_jobs_end(self, engine: RayEngine, tmp_path: Path) -> None:
        async with staying(engine, tmp_path) as running:
            await engine.close()
            with pytest.raises(ClusterError):
                await running
        assert drivers() == []

    async def test_where_there_is_no_cluster_the_error_says_so(self, engine: RayEngine) -> None:
        async with RayEngine("ray://127.0.0.1:9", Limits()) as nowhere:
            with pytest.raises(ClusterError, match=r"'ray://127.0.0.1:9' .* nodes have") as caught:
                await nowhere.run("ray_jobs:describe", {}, [])
        assert caught.value.retryable


class Recording(RayEngine):
    """Keeps what it is asked to run, and gives one reply."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.entries: list[str] = []

    async def run(self, entry: str, body: Json, blobs: Sequence[bytes]) -> Reply:
        del body, blobs
        self.entries.append(entry)
        return self._reply


@pytest.mark.asyncio(loop_scope="session")
class TestBesideTheSandbox:
    async def test_training_alone_goes_to_the_cluster(self, sandbox: Sandbox, iris: bytes) -> None:
        spec = of_iris()
        start = models.initial(spec)
        engine = Recording(Reply({"samples": 150}, (vectors.to_bytes(start),)))
        work = FederatedSandbox(sandbox, engine)
        trained = await work.fit(spec, start, iris, 1)
        assert trained.samples == 150
        await work.measure(spec, [start], iris)
        await work.check_data(spec, iris, 10)
        await work.store(spec, start)
        assert engine.entries == ["agorai_trainer.federated.jobs:fit"]

    async def test_what_the_cluster_says_is_believed_no_more_than_the_sandbox(
        self, sandbox: Sandbox, iris: bytes
    ) -> None:
        spec = of_iris()
        start = models.initial(spec)
        work = FederatedSandbox(sandbox, Recording(Reply({"samples": 150}, (vectors.to_bytes(start)[:-8],))))
        with pytest.raises(verdicts.OutputLimitError):
            await work.fit(spec, start, iris, 1)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ExtraMissingError, match=r"\[ray\]"):
        RayEngine("auto", Limits())
