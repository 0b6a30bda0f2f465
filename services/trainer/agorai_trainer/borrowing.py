"""A sandbox that has those of the trainers that stand by do jobs, too, once its own turns are all taken."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import aiohttp

from agorai_shared import logging, metrics, tracing
from agorai_trainer import frames, lending, verdicts
from agorai_trainer.frames import FrameError, Json, Reply
from agorai_trainer.lending import Lender
from agorai_trainer.sandbox import WAITING, Progress, Sandbox
from agorai_trainer.settings import SandboxSettings
from agorai_trainer.tasks import Limits
from agorai_trainer.zygote import Threads

log = logging.get(__name__)

LENT = metrics.gauge(
    "agorai_trainer_jobs_lent", "Sandboxed jobs that trainers which stand by do for this one"
)
_LOOK_S: Final = 1.0
"""How often to see who lends, while a job waits."""
_REST_S: Final = 30.0
"""How long one that was lost and still lends is left alone."""
_OWN: Final = ""
_ANSWER_S: Final = 60.0
"""How long an answer may take beyond what the job may: its bytes travel, and its sandbox may have to start."""


class _LenderLostError(Exception):
    """Whoever had a job ended, or does not serve."""


class BorrowingSandbox(Sandbox):
    """Runs jobs in its own turns first, then in those of whoever lends in `folder`; see `lending`.

    A job whose lender is lost is done again, here or by another: it changed nothing.
    """

    def __init__(self, folder: Path, token: str, bounds: SandboxSettings) -> None:
        super().__init__(bounds.limits, max_jobs=bounds.max_jobs, threads=Threads(bounds.blas_threads))
        self._max_jobs = bounds.max_jobs
        self._folder, self._headers = folder, {"Authorization": f"Bearer {token}"}
        self._taken: Counter[str] = Counter()
        self._shunned: dict[str, float] = {}
        self._freed = asyncio.Event()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=2))
        )
        return self  # it starts with the service, beside the rest of it

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        await super().__aexit__(kind, error, trace)

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
        """Run an entry, as `Sandbox.run` does; one whose progress is asked for is run here."""
        while True:
            name, lender = await self._turn(here=on_progress is not None)
            try:
                if lender is None:
                    return await super().run(
                        entry, body, blobs, limits=limits, on_progress=on_progress, keras=keras, keep=keep
                    )
                with LENT.track_inprogress(), tracing.span(f"lend {entry}"):
                    order = lending.order(entry, body, blobs, limits, keras=keras)
                    return await self._lent(lender, order, (limits or self.limits).wall_s)
            except _LenderLostError as error:
                self._shunned[name] = time.monotonic() + _REST_S
                log.warning("job.lender_lost", lender=name, reason=str(error.__cause__ or error))
            finally:
                self._taken[name] -= 1
                self._freed.set()

    async def _turn(self, *, here: bool) -> tuple[str, Lender | None]:
        """Take a turn, one's own if there is one; give whose it is, by the name of its announcement."""
        with WAITING.track_inprogress():
            while True:
                self._freed.clear()
                if self._taken[_OWN] < self._max_jobs:
                    self._taken[_OWN] += 1
                    return _OWN, None
                lenders = {} if here else await asyncio.to_thread(lending.known, self._folder)
                for name, lender in lenders.items():
                    if self._taken[name] < lender.jobs and time.monotonic() > self._shunned.get(name, 0):
                        self._taken[name] += 1
                        return name, lender
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await self._freed.wait()

    async def _lent(self, lender: Lender, order: frames.Frame, wall_s: float) -> Reply:
        url, data = lender.url + lending.PATH, order.portions()
        try:
            async with (
                asyncio.timeout(wall_s + _ANSWER_S),
                self._session.post(url, data=data, headers=self._headers) as answer,
            ):
                answer.raise_for_status()
                frame = await frames.read(answer.content.iter_any())
        except (aiohttp.ClientError, TimeoutError, FrameError) as error:
            raise _LenderLostError from error
        if frame.kind == "error":
            raise verdicts.from_trainer(frame.body)
        return Reply(frame.body, frame.blobs)
