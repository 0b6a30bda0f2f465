"""What the node's other services have done with packages: evaluated, and made again with models of low quality.

And with data of a transfer, which come in the same way: compared with their schema.

UnavailableError
└── PackageTooSlowError     a package that does not come in time
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final

from faststream.nats import NatsRouter

from agorai_shared import package
from agorai_shared.command import subject
from agorai_shared.content import ContentStore
from agorai_shared.documents import Schema
from agorai_shared.errors import AgoraiError, UnavailableError
from agorai_shared.package import Manifest, Package, PackageMalformedError
from agorai_shared.single_flight import SingleFlight
from agorai_shared.trainer import (
    Compare,
    CompareStatus,
    Comparison,
    Degrade,
    Degraded,
    DegradeStatus,
    Evaluate,
    Evaluation,
    EvaluationStatus,
    Failure,
    Score,
)
from agorai_shared.types import Address, Cid
from agorai_shared.vault import Vault
from agorai_trainer.estimators import Format
from agorai_trainer.sandbox import Sandbox
from agorai_trainer.tasks import ModelSchema

FETCH_S: Final = 300.0
"""How long a package may take to come; it comes from a stranger."""

AT_ONCE: Final = 4
"""Packages in memory at the same time: more than the sandbox has jobs, so that slow ones do not stop the others."""

_SEED_SIZE: Final = 16
_TOLD: Final = 5
"""Differences that are told of data; one is enough to judge them."""


class PackageTooSlowError(UnavailableError):
    """A package did not come in time."""

    def __init__(self, source: str) -> None:
        super().__init__(
            f"The package at {source} did not come within {FETCH_S:g} s.",
            remedy="Who made it serves it too slowly, or this node's own connection is slow.",
        )


class Packages:
    """Packages that the node's vault can open, in memory and in the sandbox only."""

    def __init__(self, vault: Vault, store: ContentStore, sandbox: Sandbox, max_content: int) -> None:
        self._vault, self._store, self._sandbox = vault, store, sandbox
        self._max_content = max_content
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def evaluate(self, command: Evaluate) -> Evaluation:
        """Evaluate a package's model; raises as `Trainer.evaluate` says."""
        async with self._opened(command.source) as read:
            verification = None if command.verification is None else await self._data(command.verification)
            test = await self._scored(read, read.test)
            promised = read.manifest.test.rows
            if isinstance(test, Score) and test.rows != promised:
                raise PackageMalformedError(
                    f"its test.csv has {test.rows} rows where {promised} are promised"
                )
            other = None if verification is None else await self._scored(read, verification)
            commitment = await asyncio.to_thread(package.commitment, read)
            return Evaluation(
                package=read.manifest,
                commitment=commitment and commitment.hex(),
                test=test,
                verification=other,
            )

    async def degrade(self, command: Degrade) -> Degraded:
        """Make packages of low quality, one at a time; raises as `Trainer.degrade` says.

        Nobody can draw them again: the seeds are the system's random numbers, and forgotten.
        """
        async with self._opened(command.source) as read:
            fmt, schema = _told(read.manifest)
            verification = await self._data(command.verification)
            sets = []
            for _ in range(command.count):
                seed = int.from_bytes(os.urandom(_SEED_SIZE))
                made = await self._sandbox.degrade(read.model, fmt, schema, verification, seed)
                plain = await asyncio.to_thread(package.with_model, read, made.model, made.accuracy)
                sets.append((await self._vault.put(plain)).cid)
            return Degraded(sets=tuple(sets))

    async def compare(self, command: Compare) -> Comparison:
        """Compare data with their schema; raises as `Trainer.compare` says."""
        from agorai_trainer import describing  # noqa: PLC0415 - pyarrow, with which no node need start

        described = Schema.from_bytes(await self._data(command.described))
        async with self._turns:
            data = await self._fetched(command.source)
            try:
                found = await describing.in_sandbox(self._sandbox, data, described)
            except UnavailableError:  # as in `_scored`
                raise
            except AgoraiError as error:
                return Comparison(differences=_failure(error))
        return Comparison(differences=describing.told(found, _TOLD))

    @asynccontextmanager
    async def _opened(self, source: str) -> AsyncIterator[Package]:
        async with self._turns:
            plain = await self._fetched(source)
            read = await asyncio.to_thread(package.read, plain)
            del plain
            yield read

    async def _fetched(self, source: str) -> bytes:
        try:
            async with asyncio.timeout(FETCH_S):
                return await self._vault.package(source, self._max_content)
        except TimeoutError as error:
            raise PackageTooSlowError(source) from error

    async def _data(self, cid: str) -> bytes:
        return b"".join([piece async for piece in self._store.get(Cid(cid), max_size=self._max_content)])

    async def _scored(self, read: Package, data: bytes) -> Score | Failure:
        fmt, schema = _told(read.manifest)
        try:
            return await self._sandbox.evaluate(read.model, fmt, schema, data)
        except UnavailableError:  # something of this node's own does not answer, or is not installed
            raise
        except AgoraiError as error:
            return _failure(error)


@asynccontextmanager
async def answering(router: NatsRouter, address: Address, packages: Packages) -> AsyncIterator[None]:
    """Have the router answer one node's commands about packages; at the end, give up what is under way."""
    async with (
        aclosing(SingleFlight(packages.evaluate)) as evaluations,
        aclosing(SingleFlight(packages.compare)) as comparisons,
        aclosing(SingleFlight(packages.degrade)) as degradations,
    ):
        # Those that wait must not keep others waiting until their signatures are too old.
        @router.subscriber(subject(address, "trainer", "evaluate"), max_workers=64)
        async def evaluate(command: Evaluate) -> EvaluationStatus:
            """Evaluate the model of a package, waiting a while for the end."""
            return EvaluationStatus(evaluation=await evaluations.end(command))

        @router.subscriber(subject(address, "trainer", "degrade"), max_workers=64)
        async def degrade(command: Degrade) -> DegradeStatus:
            """Make packages like one, with models of low quality, waiting a while for the end."""
            return DegradeStatus(degraded=await degradations.end(command))

        @router.subscriber(subject(address, "trainer", "compare"), max_workers=64)
        async def compare(command: Compare) -> CompareStatus:
            """Compare data with their schema, waiting a while for the end."""
            return CompareStatus(comparison=await comparisons.end(command))

        yield


def _failure(error: AgoraiError) -> Failure:
    return Failure(code=error.code, message=error.message, remedy=error.remedy)


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
