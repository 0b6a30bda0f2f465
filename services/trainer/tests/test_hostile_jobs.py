"""What a job that was taken over cannot do, with the limits really in force."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import sys
import time
from pathlib import Path

import pytest

from agorai_trainer.estimators import Format
from agorai_trainer.formats.refusals import PickleRefusedError
from agorai_trainer.frames import Json
from agorai_trainer.sandbox import Sandbox
from agorai_trainer.tasks import Limits, ModelSchema
from agorai_trainer.verdicts import (
    CpuLimitError,
    ForbiddenAccessError,
    JobCrashedError,
    JobFailedError,
    MemoryLimitError,
    OutputLimitError,
    TimeLimitError,
)

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(sys.platform != "linux", reason="Landlock and seccomp are Linux's"),
]


async def attempt(
    sandbox: Sandbox, entry: str, body: Json | None = None, limits: Limits | None = None
) -> Json:
    return (await sandbox.run(f"hostile_jobs:{entry}", body or {}, limits=limits)).body


@pytest.mark.parametrize("entry", ["take_memory", "take_memory_natively", "take_memory_with_numpy"])
async def test_ten_gigabytes_are_refused(sandbox: Sandbox, entry: str) -> None:
    with pytest.raises(MemoryLimitError, match="512 MiB"):
        await attempt(sandbox, entry, limits=Limits(memory_mib=512))


async def test_data_larger_than_the_memory_are_refused(sandbox: Sandbox) -> None:
    with pytest.raises(MemoryLimitError):
        await sandbox.run("hostile_jobs:echo", {}, (bytes(200 << 20),), limits=Limits(memory_mib=64))


@pytest.mark.parametrize("entry", ["spin", "spin_deaf"])
async def test_an_endless_loop_is_ended_by_its_processor_time(sandbox: Sandbox, entry: str) -> None:
    with pytest.raises(CpuLimitError, match="limit of 1 s"):
        await attempt(sandbox, entry, limits=Limits(cpu_s=1))


@pytest.mark.parametrize("entry", ["spin", "wait"])
async def test_an_endless_job_is_ended_by_its_time(sandbox: Sandbox, entry: str) -> None:
    start = time.monotonic()
    with pytest.raises(TimeLimitError, match=r"limit of 0\.3 s"):
        await attempt(sandbox, entry, limits=Limits(wall_s=0.3))
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("entry", ["connect", "download"])
async def test_the_network_is_out_of_reach(sandbox: Sandbox, entry: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(ForbiddenAccessError, match=r"PermissionError|URLError"):
            await attempt(sandbox, entry, {"port": server.getsockname()[1]})
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


async def test_sockets_of_this_machine_are_out_of_reach(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "inbox"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        with pytest.raises(ForbiddenAccessError):
            await attempt(sandbox, "reach_unix_socket", {"path": str(path)})


async def test_a_key_store_cannot_be_read(sandbox: Sandbox, tmp_path: Path) -> None:
    keys = tmp_path / "keystore.json"
    keys.write_text("secret")
    with pytest.raises(ForbiddenAccessError, match=r"keystore\.json"):
        await attempt(sandbox, "read", {"path": str(keys)})


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/proc/1/environ", "/proc/self/environ", str(Path(__file__))]
)
async def test_nothing_beside_libraries_can_be_read(sandbox: Sandbox, path: str) -> None:
    with pytest.raises(ForbiddenAccessError):
        await attempt(sandbox, "read", {"path": path})


async def test_the_home_folder_cannot_be_listed(sandbox: Sandbox) -> None:
    with pytest.raises(ForbiddenAccessError):
        await attempt(sandbox, "list_folder", {"path": str(Path.home())})


@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm", "/var/tmp", "here", "package"])  # noqa: S108
async def test_nothing_can_be_written(sandbox: Sandbox, tmp_path: Path, folder: str) -> None:
    places = {"here": tmp_path, "package": Path(pytest.__file__).parent}
    path = places.get(folder, Path(folder)) / f"model-{os.getpid()}"
    with pytest.raises(ForbiddenAccessError):
        await attempt(sandbox, "write", {"path": str(path)})
    assert not path.exists()


@pytest.mark.parametrize("entry", ["leave_in_shared_memory", "leave_in_a_queue", "leave_in_a_named_queue"])
async def test_what_a_job_has_read_is_left_nowhere_for_another(sandbox: Sandbox, entry: str) -> None:
    with pytest.raises(ForbiddenAccessError):
        await attempt(sandbox, entry)


@pytest.mark.parametrize("entry", ["write", "remove", "open_up"])
async def test_what_is_there_cannot_be_changed(sandbox: Sandbox, tmp_path: Path, entry: str) -> None:
    path = tmp_path / "keystore.json"
    path.write_text("secret")
    path.chmod(0o600)
    with pytest.raises(ForbiddenAccessError):
        await attempt(sandbox, entry, {"path": str(path)})
    assert path.read_text() == "secret"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("entry", ["fork", "run_shell", "become_shell", "raise_limits"])
async def test_no_program_can_be_started_and_no_limit_raised(sandbox: Sandbox, entry: str) -> None:
    with pytest.raises((ForbiddenAccessError, JobFailedError)) as raised:
        await attempt(sandbox, entry)
    if entry == "raise_limits":
        assert "not allowed to raise maximum limit" in str(raised.value)
    else:
        assert isinstance(raised.value, ForbiddenAccessError)


@pytest.mark.parametrize("entry", ["kill_another", "trace_another"])
async def test_other_processes_are_out_of_reach(sandbox: Sandbox, entry: str) -> None:
    with pytest.raises(ForbiddenAccessError):
        await attempt(sandbox, entry, {"pid": os.getpid()})


async def test_unpickling_is_refused_inside(sandbox: Sandbox) -> None:
    with pytest.raises(JobFailedError, match=r"unpickling posix\.system is not allowed"):
        await attempt(sandbox, "unpickle")


async def test_a_pickle_offered_as_a_model_is_refused(sandbox: Sandbox, iris: bytes) -> None:
    schema = ModelSchema(features=("f0",), target="y", classes=("a", "b"))
    with pytest.raises(PickleRefusedError):
        await sandbox.predict(pickle.dumps({"model": 1}), Format.skops, schema, iris)


async def test_a_crash_is_told_with_its_signal(sandbox: Sandbox) -> None:
    with pytest.raises(JobCrashedError, match="SIGSEGV"):
        await attempt(sandbox, "crash")


async def test_a_job_that_leaves_without_an_answer_is_told(sandbox: Sandbox) -> None:
    with pytest.raises(JobCrashedError, match="without an answer"):
        await attempt(sandbox, "leave")


@pytest.mark.parametrize("entry", ["shout", "babble", "lie"])
async def test_an_answer_that_is_too_long_or_unintelligible_is_not_taken(
    sandbox: Sandbox, entry: str
) -> None:
    with pytest.raises(OutputLimitError):
        await attempt(sandbox, entry, limits=Limits(output_mib=16))


async def test_a_job_inherits_no_environment_and_no_open_files(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGORAI_SECRET", "secret")
    found = await attempt(sandbox, "environment")
    assert found == {"environment": {}, "descriptors": [3]}


async def test_hostile_jobs_leave_the_sandbox_working(sandbox: Sandbox, iris: bytes) -> None:
    hostile = [
        attempt(sandbox, entry, limits=Limits(wall_s=1)) for entry in ("crash", "leave", "spin", "fork")
    ]
    results = await asyncio.gather(*hostile, return_exceptions=True)
    assert all(isinstance(result, Exception) for result in results)
    assert (await sandbox.summarize(iris))["rows"] == 150
