"""Local training on a Ray cluster of the owner's own, in place of the sandbox.

A process of its own, `ray_driver`, talks to Ray: Ray unpickles what its cluster sends and ends a driver whose
cluster is lost, and a node's process has keys. What is given up is the sandbox around the job: data and models of
strangers are read on the cluster, which is therefore to hold no secrets.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from agorai_shared.errors import UnavailableError
from agorai_trainer import frames, verdicts
from agorai_trainer.estimators import ExtraMissingError
from agorai_trainer.frames import Frame, FrameError, Json, Reply
from agorai_trainer.tasks import Limits

_END_S: Final = 10.0
_PLACE_S: Final = 600.0
"""For a processor that is free, on a cluster that may have to grow first."""
_MOST_TEXT: Final = 2000


class ClusterError(UnavailableError):
    """A Ray cluster that cannot be reached, or that lost the job."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(
            f"The Ray cluster {address!r} did not do the job: {' '.join(why.split())[:_MOST_TEXT].rstrip('.')}.",
            remedy="See that it runs, and that its nodes have this trainer's packages and its versions of Python"
            " and Ray; the job is sent again.",
        )


class RayEngine:
    """Runs jobs as `Sandbox.run` does, each in a fresh process on one processor of the cluster.

    Of the limits it keeps those of time and of the answer's size. The cluster decides how many run at once.

    Parameters
    ----------
    address
        As of `ray.init`: `ray://host:10001`, `auto` for the cluster that this machine is part of, or `local` for
        one that is started here.

    Raises
    ------
    ExtraMissingError
        Without the extra `ray`.
    """

    def __init__(self, address: str, limits: Limits) -> None:
        if importlib.util.find_spec("ray") is None:
            raise ExtraMissingError("Training on Ray", "ray")
        self._address, self._limits = address, limits
        self._driver: tuple[Process, socket.socket] | None = None
        self._handing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave the cluster; a job that still runs ends there, and fails here as lost."""
        driver, self._driver = self._driver, None
        if driver is None:
            return
        process, control = driver
        control.close()
        try:
            async with asyncio.timeout(_END_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def run(self, entry: str, body: Json, blobs: Sequence[bytes]) -> Reply:
        """Run the entry `module:function` on a body of JSON values and blobs; cancelling ends its process.

        Raises
        ------
        ClusterError
            If the cluster cannot be reached, has no processor free in time, or loses the job's process.
        AgoraiError
            What the entry raised, or a leaf of `verdicts`.
        """
        ours, theirs = socket.socketpair()
        limit = self._limits.wall_s
        with ours:
            ours.setblocking(False)
            with theirs:
                await self._hand(theirs)
            try:
                async with asyncio.timeout(_PLACE_S):
                    await self._receive(ours)
            except TimeoutError as error:
                raise ClusterError(
                    self._address, f"it named no free processor within {_PLACE_S:g} s"
                ) from error
            try:
                async with asyncio.timeout(limit):
                    return await self._result(ours, Frame("job", {"entry": entry, "job": body}, tuple(blobs)))
            except TimeoutError as error:
                raise verdicts.TimeLimitError(limit) from error

    async def _hand(self, theirs: socket.socket) -> None:
        """Give the driver one end of a job's socket; start it if it does not run, or no more."""
        async with self._handing:
            try:
                if self._driver is not None:
                    socket.send_fds(self._driver[1], [b"J"], [theirs.fileno()])
                    return
            except OSError:
                await self.close()
            self._driver = await self._started()
            socket.send_fds(self._driver[1], [b"J"], [theirs.fileno()])

    async def _started(self) -> tuple[Process, socket.socket]:
        ours, theirs = socket.socketpair()
        with theirs:
            # Ray gives the environment to the processes of a cluster that it starts
            environment = {
                name: value for name, value in os.environ.items() if not name.startswith("AGORAI_")
            }
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-s", "-P", "-m", "agorai_trainer.federated.ray_driver",
                str(theirs.fileno()), self._address,
                stdin=DEVNULL, stdout=DEVNULL, pass_fds=(theirs.fileno(),), start_new_session=True, cwd="/",
                env=environment | {"RAY_USAGE_STATS_ENABLED": "0"},
            )  # fmt: skip
        ours.setblocking(False)
        return process, ours

    async def _result(self, connection: socket.socket, job: Frame) -> Reply:
        try:
            await frames.send_async(connection, job)
        except OSError as error:
            raise ClusterError(self._address, "the process that talks to it ended") from error
        frame = await self._receive(connection)
        return Reply(frame.body, frame.blobs)

    async def _receive(self, connection: socket.socket) -> Frame:
        """Give what the driver says next, unless it is that there will be no result."""
        try:
            frame = await frames.receive_async(connection, self._limits.output_mib << 20)
        except FrameError as error:
            raise verdicts.OutputLimitError(str(error)) from error
        except OSError:
            frame = None
        match frame:
            case None:
                raise ClusterError(self._address, "the process that talks to it ended")
            case Frame("lost", {"why": str(why)}):
                raise ClusterError(self._address, why)
            case Frame("error", told):
                raise verdicts.from_told(told, self._limits)
        return frame
