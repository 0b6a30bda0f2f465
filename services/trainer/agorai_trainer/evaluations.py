"""The evaluations of packages that the node's other services ask for, each made once while it is asked for."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Final

from faststream.nats import NatsRouter

from agorai_shared import logging, package
from agorai_shared.command import subject
from agorai_shared.content import ContentStore
from agorai_shared.errors import AgoraiError, UnavailableError
from agorai_shared.package import Manifest, Package, PackageMalformedError
from agorai_shared.trainer import Evaluate, Evaluation, EvaluationStatus, Failure, Score
from agorai_shared.types import Address, Cid
from agorai_shared.vault import PlaintextTooLargeError, Vault
from agorai_trainer.estimators import Format
from agorai_trainer.sandbox import Sandbox
from agorai_trainer.tasks import ModelSchema

log = logging.get(__name__)

_AT_ONCE: Final = 2
"""Packages in memory at the same time."""

_KEPT: Final = 32
"""Ends that nobody asked for yet."""


class PackageVault(Vault):
    """The vault as evaluations meet it."""

    async def package(self, source: str, limit: int) -> bytes:
        """Read the package at a path of the vault, of at most `limit` bytes; a fault raises as in `own`."""
        plain = bytearray()
        async with aclosing(self._open(source, {})) as pieces:
            async for piece in pieces:
                plain += piece
                if len(plain) > limit:
                    raise PlaintextTooLargeError(limit)
        return bytes(plain)


class Evaluations:
    """Evaluates packages in the sandbox, and keeps each end until it is told.

    An end that is lost on its way, or a trainer that starts anew, costs no more than the work: whoever asks again
    has it done again.
    """

    def __init__(self, vault: PackageVault, store: ContentStore, sandbox: Sandbox, max_content: int) -> None:
        self._vault, self._store, self._sandbox = vault, store, sandbox
        self._max_content = max_content
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._tasks: dict[Evaluate, asyncio.Task[Evaluation | AgoraiError]] = {}

    async def status(self, command: Evaluate) -> EvaluationStatus:
        """Begin an evaluation, unless it was, and give its end if it comes in time.

        Raises
        ------
        AgoraiError
            Why there is no evaluation, as `Trainer.evaluate` says.
        """
        key = command.model_copy(update={"timeout_s": 0.0})
        task = self._tasks.get(key) or self._begin(key)
        await asyncio.wait({task}, timeout=command.timeout_s)
        if not task.done():
            return EvaluationStatus(evaluation=None)
        if self._tasks.get(key) is task:
            del self._tasks[key]
        end = task.result()
        if isinstance(end, AgoraiError):
            raise end
        return EvaluationStatus(evaluation=end)

    async def close(self) -> None:
        """Give up what is not at its end."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, key: Evaluate) -> asyncio.Task[Evaluation | AgoraiError]:
        untold = [other for other, task in self._tasks.items() if task.done()]
        for other in untold[: 1 - _KEPT]:
            del self._tasks[other]
        task = self._tasks[key] = asyncio.create_task(self._end(key))
        return task

    async def _end(self, command: Evaluate) -> Evaluation | AgoraiError:
        try:
            async with self._turns:
                return await self._evaluate(command)
        except AgoraiError as error:
            log.warning("evaluation.failed", id=command.id, source=command.source, error=str(error))
            return error

    async def _evaluate(self, command: Evaluate) -> Evaluation:
        plain = await self._vault.package(command.source, self._max_content)
        read = await asyncio.to_thread(package.read, plain)
        del plain
        verification = await self._verification(command.verification)
        test = await self._scored(read, read.test)
        promised = read.manifest.test.rows
        if isinstance(test, Score) and test.rows != promised:
            raise PackageMalformedError(f"its test.csv has {test.rows} rows where {promised} are promised")
        other = None if verification is None else await self._scored(read, verification)
        return Evaluation(package=read.manifest, test=test, verification=other)

    async def _verification(self, cid: str | None) -> bytes | None:
        if cid is None:
            return None
        data = bytearray()
        async for piece in self._store.get(Cid(cid), max_size=self._max_content):
            data += piece
        return bytes(data)

    async def _scored(self, read: Package, data: bytes) -> Score | Failure:
        fmt, schema = _told(read.manifest)
        try:
            return await self._sandbox.evaluate(read.model, fmt, schema, data)
        except UnavailableError:  # something of this node's own does not answer, or is not installed
            raise
        except AgoraiError as error:
            return Failure(code=error.code, message=error.message, remedy=error.remedy)


def answer(router: NatsRouter, address: Address, evaluations: Evaluations) -> None:
    """Answer the command `evaluate` of one node."""

    # Those that wait must not keep others waiting until their signatures are too old.
    @router.subscriber(subject(address, "trainer", "evaluate"), max_workers=64)
    async def evaluate(command: Evaluate) -> EvaluationStatus:
        """Evaluate the model of a package, waiting a while for the end."""
        return await evaluations.status(command)


def _told(manifest: Manifest) -> tuple[Format, ModelSchema]:
    """Read from a manifest what the model is, and what it takes and gives."""
    try:
        return Format(manifest.format), ModelSchema(
            features=tuple(column.name for column in manifest.input),
            target=manifest.output.target,
            classes=manifest.output.classes,
        )
    except ValueError as error:
        raise PackageMalformedError(f"{manifest.format!r} is no format of models") from error
