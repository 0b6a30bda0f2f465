"""Jobs over foreign data and models, each in a process of its own that can reach nothing but its trainer.

A zygote has the libraries imported and forks one child per job; a child is forked and shut in ahead, so that
a job finds it waiting. Bytes travel by socket pairs and stay in memory: nothing is written anywhere.
See `isolation` for what a job's process gives up and `verdicts` for how a job can end.
"""

from __future__ import annotations

import asyncio
import importlib.util
import signal
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson
from pydantic import ValidationError

from agorai_shared import logging, metrics, tracing
from agorai_shared.errors import AgoraiError
from agorai_shared.trainer import Score
from agorai_trainer import frames, verdicts
from agorai_trainer.estimators import ESTIMATORS, Format
from agorai_trainer.frames import Frame, FrameError, Json, Reply
from agorai_trainer.isolation import Isolation
from agorai_trainer.pool import Pool
from agorai_trainer.settings import SandboxSettings
from agorai_trainer.tasks import (
    DegradedModel,
    Limits,
    Metrics,
    ModelSchema,
    Predictions,
    TrainedModel,
    TrainingTask,
)
from agorai_trainer.zygote import Child, Threads, Zygote

log = logging.get(__name__)

WAITING = metrics.gauge("agorai_trainer_jobs_waiting", "Sandboxed jobs that wait for their turn")
RUNNING = metrics.gauge("agorai_trainer_jobs_running", "Sandboxed jobs that run")
SECONDS = metrics.histogram(
    "agorai_trainer_job_seconds",
    "One sandboxed job, without its wait",
    "job",
    "outcome",
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600),
)
Progress = Callable[[Json], None]
_KEPT_S = 60.0
_MIB = 1 << 20
_SKLEARN = sorted({entry.module for entry in ESTIMATORS.values() if entry.extra is None})
_USUAL = (
    *_SKLEARN,
    "joblib",
    "pyarrow.csv",
    "pyarrow.parquet",
    "safetensors.numpy",
    "sklearn.model_selection",
    "sklearn.preprocessing",
    "agorai_trainer.jobs",
    "agorai_trainer.pooling.jobs",
    "agorai_trainer.federated.jobs",
    "agorai_trainer.formats.skops_zip",
    "agorai_trainer.formats.tensors",
)
_IF_INSTALLED = ("lightgbm", "xgboost", "onnxruntime", "agorai_trainer.formats.onnx_graph")
_KERAS = ("tensorflow", "h5py")
_KERAS_FORMATS = (Format.hdf5, Format.pb, Format.checkpoint)
_begun: dict[Threads, Zygote] = {}


def begin() -> None:
    """Start the process of the sandbox that the environment asks for, ahead of all else that takes time to import.

    Its own imports take twice as long as the trainer's, and go on beside them. The first sandbox takes it over.
    """
    threads = Threads(SandboxSettings().blas_threads)
    _begun[threads] = zygote = Zygote(_usual(), threads, ())
    zygote.begin()


def _usual() -> tuple[str, ...]:
    return (*_USUAL, *filter(_installed, _IF_INSTALLED))


class Sandbox:
    """Runs jobs, at most `max_jobs` at once.

    Parameters
    ----------
    limits
        The most that any job may use; a task can ask for less.
    max_jobs
        Further jobs wait for their turn; waiting does not count as a job's time.
    threads
        Threads of the numeric libraries in each job.
    preload, path
        Modules of the host program's own that hold entries for `run`, and where they are.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        max_jobs: int = 2,
        threads: Threads | None = None,
        preload: Sequence[str] = (),
        path: Sequence[Path] = (),
    ) -> None:
        self.limits = limits or Limits()
        self._turns = asyncio.Semaphore(max_jobs)
        self._kept: OrderedDict[str, tuple[Zygote, Child, asyncio.TimerHandle]] = OrderedDict()
        self._most_kept = max_jobs
        threads = threads or Threads()
        begun = _begun.pop(threads, None) if not preload and not path else None
        first = [begun] if begun else []
        self._usual = Pool(lambda: first.pop() if first else Zygote((*_usual(), *preload), threads, path))
        self._keras = Pool(lambda: Zygote((*_USUAL, *_KERAS, *preload), threads, path))
        self._isolation: Isolation | None = None
        # without TensorFlow the job itself says so, best
        self._has_keras = all(map(_installed, _KERAS))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> Isolation:
        """Start the sandbox, if it is not running, and tell what is in force around its jobs.

        Raises
        ------
        SandboxStartError, SandboxLostError
            If it cannot be started, or a child cannot shut itself in.
        """
        isolation = (await self._usual.peek()).isolation
        report = log.info if isolation.complete else log.warning
        report(
            "sandbox.ready", landlock=isolation.landlock, seccomp=isolation.seccomp, limits=isolation.limits
        )
        return isolation

    async def check(self) -> None:
        """See that it runs; raises as `start` does."""
        await self._usual.peek()

    async def close(self) -> None:
        """End all processes; a job that still runs fails as lost."""
        for keep in list(self._kept):
            self._let_go(keep)
        await self._usual.close()
        await self._keras.close()
        self._isolation = None

    async def train(
        self, task: TrainingTask, data: bytes, on_progress: Progress | None = None
    ) -> TrainedModel:
        """Train a task on a data set.

        Raises
        ------
        InputError
            A leaf that says what is wrong with the task or the data.
        AgoraiError
            A leaf of `verdicts`.
        """
        body: Json = {"task": orjson.loads(task.model_dump_json())}
        keras = task.estimator.startswith("keras.")
        limits = task.limits or self.limits
        reply = await self._job("train", body, (data,), limits, on_progress, keras=keras)
        try:
            (model,) = reply.blobs
            return TrainedModel(
                model,
                Format(str(reply.body["format"])),
                Metrics.model_validate(reply.body["metrics"]),
                ModelSchema.model_validate_json(orjson.dumps(reply.body["schema"])),
                tuple(map(str, _listed(reply.body["warnings"]))),
            )
        except (ValidationError, ValueError, KeyError) as error:
            raise verdicts.OutputLimitError("it is no trained model") from error

    async def predict(
        self, model: bytes, fmt: Format, schema: ModelSchema, data: bytes, limits: Limits | None = None
    ) -> Predictions:
        """Give a prediction for each row of a data set; raises as `train` does."""
        body: Json = {"format": fmt.value, "schema": orjson.loads(schema.model_dump_json())}
        keras = fmt in _KERAS_FORMATS
        reply = await self._job("predict", body, (model, data), limits or self.limits, None, keras=keras)
        try:
            (raw,) = reply.blobs
            values = orjson.loads(raw)
        except ValueError as error:
            raise verdicts.OutputLimitError("it is no list of predictions") from error
        known = (str, int) if schema.classes is not None else (float,)
        if not isinstance(values, list) or not all(isinstance(value, known) for value in values):
            raise verdicts.OutputLimitError("it is no list of predictions")
        return Predictions(tuple(values))

    async def evaluate(
        self, model: bytes, fmt: Format, schema: ModelSchema, data: bytes, limits: Limits | None = None
    ) -> Score:
        """Give a model's accuracy on a data set whose targets are known; raises as `train` does."""
        body: Json = {"format": fmt.value, "schema": orjson.loads(schema.model_dump_json())}
        keras = fmt in _KERAS_FORMATS
        reply = await self._job("evaluate", body, (model, data), limits or self.limits, None, keras=keras)
        try:
            return Score.model_validate(reply.body)
        except ValidationError as error:
            raise verdicts.OutputLimitError("it is no score") from error

    async def degrade(
        self,
        model: bytes,
        fmt: Format,
        schema: ModelSchema,
        data: bytes,
        seed: int,
        limits: Limits | None = None,
    ) -> DegradedModel:
        """Give another model of the same structure, its accuracy on the data below 1/2; raises as `train` does."""
        # as text, for a number of JSON has 64 bits only
        body: Json = {
            "format": fmt.value,
            "schema": orjson.loads(schema.model_dump_json()),
            "seed": str(seed),
        }
        reply = await self._job("degrade", body, (model, data), limits or self.limits, None, keras=False)
        match reply:
            case Reply({"accuracy": float(accuracy)}, (made,)) if accuracy < 0.5:
                return DegradedModel(made, accuracy)
        raise verdicts.OutputLimitError("it is no model of low quality")

    async def describe(self, model: bytes, limits: Limits | None = None) -> Json:
        """Tell a model's format, and what its file says of itself; raises as `train` does."""
        return (await self._job("describe", {}, (model,), limits or self.limits, None, keras=False)).body

    async def summarize(self, data: bytes, limits: Limits | None = None) -> Json:
        """Give a data set's format, rows and columns with their kinds; raises as `train` does."""
        return (await self._job("summarize", {}, (data,), limits or self.limits, None, keras=False)).body

    async def run(
        self,
        entry: str,
        body: Json,
        blobs: Sequence[bytes] = (),
        *,
        limits: Limits | None = None,
        on_progress: Progress | None = None,
        keras: bool = False,
        keep: str | None = None,
    ) -> Reply:
        """Run the entry `module:function` on a body of JSON values and blobs.

        The entry is code of the host program's, never a name that came with a job. Cancelling ends its
        process.

        Parameters
        ----------
        keep
            Names those whose data and models the job has; the process is kept for a minute for the next job of
            the same name. To begin a process takes longer than a small training.

        Raises
        ------
        AgoraiError
            What the entry raised, or a leaf of `verdicts`.
        """
        with WAITING.track_inprogress():
            await self._turns.acquire()
        began, outcome = time.perf_counter(), "error"
        try:
            with RUNNING.track_inprogress(), tracing.span(f"sandbox {entry}"):
                bounded = (limits or self.limits).within(self.limits)
                order: Json = {
                    "entry": entry, "job": body, "keep": keep is not None,
                    "memory_mib": bounded.memory_mib, "cpu_s": bounded.cpu_s,
                }  # fmt: skip
                job = Frame("job", order, tuple(blobs))
                reply = await self._by_kept(keep, job, bounded, on_progress)
                if reply is None:
                    pool = self._keras if keras and self._has_keras else self._usual
                    reply = await self._by(*(await pool.take()), keep, job, bounded, on_progress)
            outcome = "ok"
            return reply
        finally:
            self._turns.release()
            SECONDS.labels(entry.partition(":")[2], outcome).observe(time.perf_counter() - began)

    async def _by_kept(
        self, keep: str | None, job: Frame, limits: Limits, on_progress: Progress | None
    ) -> Reply | None:
        """Have a process do the job that was kept for it, if there is one and it can."""
        if keep is None or keep not in self._kept:
            return None
        zygote, child, timer = self._kept.pop(keep)
        timer.cancel()
        if zygote.has_ended(child):
            zygote.release(child)
            return None
        try:
            return await self._by(zygote, child, keep, job, limits, on_progress)
        except (verdicts.MemoryLimitError, verdicts.JobCrashedError, verdicts.SandboxLostError):
            return None  # earlier jobs may have left it less than a new one has

    async def _by(
        self,
        zygote: Zygote,
        child: Child,
        keep: str | None,
        job: Frame,
        limits: Limits,
        on_progress: Progress | None,
    ) -> Reply:
        try:
            reply = await _Run(zygote, child, limits, on_progress).result(job)
        except BaseException:
            zygote.release(child)
            raise
        if keep is None:
            zygote.release(child)
        else:
            self._let_go(keep)
            timer = asyncio.get_running_loop().call_later(_KEPT_S, self._let_go, keep)
            self._kept[keep] = zygote, child, timer
            if len(self._kept) > self._most_kept:
                self._let_go(next(iter(self._kept)))
        return reply

    def _let_go(self, keep: str) -> None:
        """End a process that was kept, if there is one of this name."""
        if keep in self._kept:
            zygote, child, timer = self._kept.pop(keep)
            timer.cancel()
            zygote.release(child)

    async def _job(
        self,
        name: str,
        body: Json,
        blobs: Sequence[bytes],
        limits: Limits,
        on_progress: Progress | None,
        *,
        keras: bool,
    ) -> Reply:
        entry = f"agorai_trainer.jobs:{name}"
        return await self.run(entry, body, blobs, limits=limits, on_progress=on_progress, keras=keras)


class _Run:
    """One job in one child."""

    def __init__(self, zygote: Zygote, child: Child, limits: Limits, on_progress: Progress | None) -> None:
        self._zygote, self._child, self._limits = zygote, child, limits
        self._on_progress = on_progress
        self._kept = False

    async def result(self, job: Frame) -> Reply:
        """Send the job, pass its progress on, and give its reply."""
        self._kept = bool(job.body["keep"])
        sending = asyncio.create_task(self._send(job))
        try:
            async with asyncio.timeout(self._limits.wall_s):
                return await self._receive()
        except TimeoutError as error:
            raise verdicts.TimeLimitError(self._limits.wall_s) from error
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending

    async def _send(self, frame: Frame) -> None:
        with suppress(OSError):  # a child that ended early; how it ended is heard on the other way
            await frames.send_async(self._child.connection, frame)

    async def _receive(self) -> Reply:
        most = self._limits.output_mib * _MIB
        while True:
            try:
                frame = await frames.receive_async(self._child.connection, most)
            except FrameError as error:
                raise verdicts.OutputLimitError(str(error)) from error
            except OSError:
                frame = None
            match frame:
                case None:
                    raise await self._verdict()
                case Frame("progress", said):
                    if self._on_progress is not None:
                        self._on_progress(said)
                case Frame("result", said, blobs):
                    return Reply(said, blobs)
                case Frame("error", told):
                    raise verdicts.from_told(told, self._limits)
                case _:
                    raise verdicts.OutputLimitError(f"it is of the kind {frame.kind[:40]!r}")

    async def _verdict(self) -> AgoraiError:
        """Tell why a child ended without an answer."""
        ending = await self._zygote.ending(self._child)
        all_its_time = not self._kept and ending.cpu_s >= self._limits.cpu_s
        out_of_time = ending.signal == signal.SIGXCPU or all_its_time
        if out_of_time:
            return verdicts.CpuLimitError(self._limits.cpu_s)
        return verdicts.JobCrashedError(ending.signal)


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _listed(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError("no list")  # noqa: TRY004 - one kind of error for all of an answer's faults
    return value
