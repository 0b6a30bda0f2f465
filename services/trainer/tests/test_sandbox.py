"""Jobs in the sandbox: equal to bare ones, bounded in number, ended with whoever waits for them."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from agorai_trainer import sandbox, training
from agorai_trainer.estimators import ExtraMissingError
from agorai_trainer.frames import Json
from agorai_trainer.sandbox import Sandbox
from agorai_trainer.table_refusals import NotNumericError
from agorai_trainer.tasks import Limits, TrainingTask
from agorai_trainer.training_refusals import OneClassError, TrainingRefusedError
from agorai_trainer.verdicts import CpuLimitError, JobCrashedError, SandboxLostError, SandboxStartError

ENTRIES = Path(__file__).parent / "entries"
TRAINING: Json = {"task": {"estimator": "sklearn.LogisticRegression", "target": "y"}}
pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def own() -> AsyncIterator[Sandbox]:
    """Give a sandbox that a test may break; it runs one job at a time."""
    limits = Limits(memory_mib=1024, cpu_s=60, wall_s=60)
    async with Sandbox(limits, max_jobs=1, preload=("hostile_jobs",), path=(ENTRIES,)) as started:
        yield started


async def started_pid(sandbox: Sandbox, entry: str) -> tuple[asyncio.Task[object], int]:
    """Start an endless job and wait until it says which process it is."""
    said: asyncio.Queue[Json] = asyncio.Queue()
    job: asyncio.Task[object] = asyncio.create_task(
        sandbox.run(f"hostile_jobs:{entry}", {}, on_progress=said.put_nowait)
    )
    return job, int(str((await said.get())["pid"]))


async def gone(pid: int) -> None:
    """Wait until a process has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        readable, _, _ = await asyncio.to_thread(select.select, [fd], [], [], 10)
        assert readable
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    "task",
    [
        TrainingTask(estimator="sklearn.LogisticRegression", target="y", scaler="standard", seed=3),
        TrainingTask(estimator="sklearn.RandomForestClassifier", target="y", hyperparameters={"n_jobs": 2}),
        TrainingTask(estimator="sklearn.HistGradientBoostingClassifier", target="y"),
        TrainingTask(estimator="sklearn.MLPClassifier", target="y", scaler="standard"),
        TrainingTask(estimator="sklearn.SVC", target="y", model_format="onnx"),
    ],
    ids=lambda task: task.estimator,
)
@pytest.mark.filterwarnings("ignore")
async def test_a_sandboxed_training_gives_the_bytes_of_a_bare_one(
    sandbox: Sandbox, cancer: bytes, task: TrainingTask
) -> None:
    inside, bare = await sandbox.train(task, cancer), training.train(task, cancer)
    assert inside.model == bare.model
    assert inside.metrics.accuracy == bare.metrics.accuracy
    assert inside.schema == bare.schema
    predictions = await sandbox.predict(inside.model, inside.format, inside.schema, cancer)
    assert predictions == training.predict(bare.model, bare.format, bare.schema, cancer)


async def test_a_regression_gives_the_numbers_of_a_bare_one(sandbox: Sandbox, diabetes: bytes) -> None:
    task = TrainingTask(estimator="sklearn.Ridge", target="y")
    inside = await sandbox.train(task, diabetes)
    predictions = await sandbox.predict(inside.model, inside.format, inside.schema, diabetes)
    assert predictions == training.predict(inside.model, inside.format, inside.schema, diabetes)


async def test_data_and_models_are_described_inside(sandbox: Sandbox, iris: bytes) -> None:
    summary = await sandbox.summarize(iris)
    assert (summary["format"], summary["rows"]) == ("csv", 150)
    trained = await sandbox.train(TrainingTask(estimator="sklearn.SVC", target="y"), iris)
    assert (await sandbox.describe(trained.model))["class"] == "sklearn.svm._classes.SVC"


async def test_the_isolation_report_names_every_layer(sandbox: Sandbox) -> None:
    isolation = await sandbox.start()
    if sys.platform == "linux":
        assert isolation.complete
        assert isolation.dies_with_parent
        assert isolation.no_core_dump
    assert {"CORE", "FSIZE", "NOFILE"} <= set(isolation.limits)


@pytest.mark.parametrize(
    ("data", "hyperparameters", "kind"),
    [
        (b"a,y\n1,0\nx,1\n3,0\n4,1\n", {}, NotNumericError),
        (b"a,y\n1,0\n2,0\n3,0\n4,0\n", {}, OneClassError),
        (b"a,y\n1,0\n2,1\n3,0\n4,1\n5,1\n6,0\n", {"C": -1}, TrainingRefusedError),
    ],
)
async def test_an_error_of_the_input_comes_out_as_it_was_raised(
    sandbox: Sandbox, data: bytes, hyperparameters: dict[str, int], kind: type[Exception]
) -> None:
    task = TrainingTask(
        estimator="sklearn.LogisticRegression", target="y", hyperparameters=dict(hyperparameters)
    )
    with pytest.raises(kind) as bare:
        training.train(task, data)
    with pytest.raises(kind) as inside:
        await sandbox.train(task, data)
    assert inside.value.to_problem() == bare.value.to_problem()  # type: ignore[attr-defined]


async def test_large_blobs_and_progress_pass_unharmed(sandbox: Sandbox) -> None:
    blobs = (os.urandom(40 << 20), b"", bytes(3))
    reply = await sandbox.run("hostile_jobs:echo", {"n": [1, 2.5, None, "ü"]}, blobs)
    assert reply.body == {"n": [1, 2.5, None, "ü"]}
    assert reply.blobs == blobs


async def test_more_jobs_than_turns_all_end_well(sandbox: Sandbox, iris: bytes) -> None:
    task = TrainingTask(estimator="sklearn.DecisionTreeClassifier", target="y")
    models = {
        trained.model for trained in await asyncio.gather(*(sandbox.train(task, iris) for _ in range(12)))
    }
    assert len(models) == 1


async def test_each_job_has_a_process_of_its_own(sandbox: Sandbox) -> None:
    (first, one), (second, other) = [await started_pid(sandbox, "wait") for _ in range(2)]
    assert one != other
    for job in (first, second):
        job.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    await gone(one)
    await gone(other)


async def burnt(sandbox: Sandbox, keep: str | None, cpu_s: float = 0, limit_s: int = 2) -> int:
    """Have a process burn some seconds; give which."""
    limits = Limits(memory_mib=1024, cpu_s=limit_s, wall_s=60)
    reply = await sandbox.run("hostile_jobs:burn", {"cpu_s": cpu_s}, limits=limits, keep=keep)
    return int(str(reply.body["pid"]))


async def test_a_process_is_kept_for_jobs_of_one_name_only(own: Sandbox) -> None:
    first = await burnt(own, "one")
    assert await burnt(own, "one") == first
    other = await burnt(own, "another")  # for which it makes room
    assert other != first
    await gone(first)
    once = await burnt(own, None)
    assert once != other
    await gone(once)
    assert await burnt(own, "another") == other
    await own.close()
    await gone(other)


async def test_each_job_of_a_kept_process_has_its_own_time(own: Sandbox) -> None:
    first = await burnt(own, "one", 1.2)
    assert await burnt(own, "one", 1.2) == first
    assert await burnt(own, "one", 1.2) == first
    with pytest.raises(CpuLimitError):
        await burnt(own, "one", 10)
    await gone(first)
    assert await burnt(own, "one") != first


async def test_a_kept_process_that_ended_or_fails_is_replaced(own: Sandbox) -> None:
    first = await burnt(own, "one")
    os.kill(first, signal.SIGKILL)
    await gone(first)
    second = await burnt(own, "one")
    assert second != first
    with pytest.raises(JobCrashedError):
        await own.run("hostile_jobs:crash", {}, keep="one")
    await gone(second)
    with pytest.raises(NotNumericError):
        await own.run("agorai_trainer.jobs:train", TRAINING, (b"a,y\n1,0\nx,1\n3,0\n4,1\n",), keep="one")
    assert await burnt(own, "one") != second


async def test_cancelling_a_job_ends_its_process_and_frees_its_turn(own: Sandbox, iris: bytes) -> None:
    job, pid = await started_pid(own, "spin")
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    await gone(pid)
    await own.summarize(iris)


async def test_a_lost_zygote_fails_its_job_as_retryable_and_is_started_again(
    own: Sandbox, iris: bytes
) -> None:
    job, pid = await started_pid(own, "wait")
    zygote = psutil.Process(pid).ppid()
    os.kill(zygote, signal.SIGKILL)
    with pytest.raises(SandboxLostError) as raised:
        await job
    assert raised.value.retryable
    await gone(pid)
    task = TrainingTask(estimator="sklearn.LogisticRegression", target="y")
    assert (await own.train(task, iris)).model == training.train(task, iris).model


async def test_closing_ends_every_process(own: Sandbox) -> None:
    job, pid = await started_pid(own, "wait")
    zygote = psutil.Process(pid).ppid()
    await own.close()
    with pytest.raises(SandboxLostError):
        await job
    await gone(pid)
    await gone(zygote)


async def test_a_process_that_was_begun_ahead_is_that_of_the_first_sandbox(iris: bytes) -> None:
    sandbox.begin()
    (begun,) = sandbox._begun.values()
    assert begun._process is not None
    async with Sandbox() as own:
        await own.summarize(iris)
        assert psutil.Process(begun._process.pid).children()
    assert not sandbox._begun


async def test_the_trainer_begins_it_before_it_imports_what_takes_long() -> None:
    """Nothing of the bus, the chain or learning is imported by then."""
    code = """
import runpy, sys
from agorai_trainer import sandbox
sandbox.begin = lambda: sys.exit(" ".join({"faststream", "aiohttp", "web3", "numpy", "sklearn"} & {*sys.modules}))
runpy.run_module("agorai_trainer.app", run_name="__main__")
"""
    found = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert found.stderr.strip() == ""


_HOST = """
import asyncio, sys
from contextlib import suppress
from pathlib import Path
from agorai_trainer.sandbox import Sandbox

async def main():
    async with Sandbox(preload=("hostile_jobs",), path=(Path(sys.argv[1]),)) as sandbox:
        await sandbox.run("hostile_jobs:spin", {}, on_progress=lambda said: print(said["pid"], flush=True))

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
async def test_a_killed_trainer_takes_its_jobs_with_it() -> None:
    host = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _HOST, str(ENTRIES), stdout=-1, stderr=-3
    )
    try:
        assert host.stdout is not None
        pid = 0
        while not pid:
            line = (await host.stdout.readline()).strip()  # after lines of the log
            assert line or not host.stdout.at_eof()
            pid = int(line) if line.isdigit() else 0
        zygote = psutil.Process(pid).ppid()
    finally:
        host.kill()
        await host.wait()
    await gone(pid)
    await gone(zygote)


async def test_a_sandbox_that_cannot_start_says_why() -> None:
    broken = Sandbox(preload=("no_such_module",))
    with pytest.raises(SandboxStartError, match="No module named 'no_such_module'"):
        await broken.start()
    await broken.close()


async def test_a_task_can_ask_for_less_than_the_sandbox_gives_and_not_for_more() -> None:
    ceiling = Limits(memory_mib=100, cpu_s=10, wall_s=20, output_mib=5)
    asked = Limits(memory_mib=50, cpu_s=60, wall_s=5, output_mib=50)
    assert asked.within(ceiling) == Limits(memory_mib=50, cpu_s=10, wall_s=5, output_mib=5)


async def test_a_missing_framework_is_named_with_its_extra(sandbox: Sandbox, iris: bytes) -> None:
    try:
        import lightgbm  # noqa: F401, PLC0415
    except ModuleNotFoundError:
        with pytest.raises(ExtraMissingError, match=r"agorai-trainer\[boosting\]"):
            await sandbox.train(TrainingTask(estimator="lightgbm.LGBMClassifier", target="y"), iris)
        with pytest.raises(ExtraMissingError, match=r"agorai-trainer\[tensorflow\]"):
            await sandbox.train(TrainingTask(estimator="keras.MLPClassifier", target="y"), iris)
    else:
        pytest.skip("the extras are installed here")


def _files(*folders: Path) -> dict[Path, tuple[int, int]]:
    """Find files down to two levels, but for those of tests that run meanwhile, which may be many and large."""
    found = {}
    for folder in folders:
        for below, inner, names in os.walk(folder):  # which passes over what goes meanwhile
            deep = len(Path(below).relative_to(folder).parts) >= 2
            inner[:] = [] if deep else [name for name in inner if not name.startswith("pytest-of-")]
            for path in (Path(below, name) for name in names):
                with suppress(OSError):
                    status = path.stat(follow_symlinks=False)
                    found[path] = (status.st_mtime_ns, status.st_size)
    return found


@pytest.mark.parametrize("name", ["sklearn.LogisticRegression", "sklearn.RandomForestClassifier"])
async def test_a_models_bytes_come_by_no_file(sandbox: Sandbox, cancer: bytes, name: str) -> None:
    watched = {Path(tempfile.gettempdir()), Path.cwd() / "services", Path("/dev/shm")}  # noqa: S108
    before = _files(*watched)
    trained = await sandbox.train(TrainingTask(estimator=name, target="y"), cancer)
    await sandbox.predict(trained.model, trained.format, trained.schema, cancer)
    middle = len(trained.model) // 2
    sample = trained.model[middle : middle + 64]
    for path, seen in _files(*watched).items():
        if before.get(path) != seen and path.is_file():
            with suppress(OSError):  # another program's, gone meanwhile
                assert sample not in path.read_bytes()
