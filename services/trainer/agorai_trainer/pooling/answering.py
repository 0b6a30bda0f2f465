"""What the node's other services and its user have the trainer do for data pools.

NotFoundError
└── ChallengeAbsentError      a contribution that nobody challenged
RefusedError
└── VersionMadeError          a version of just these samples by this rule, which this node made or cannot make
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, nullcontext
from typing import Final

from faststream.nats import NatsRouter

from agorai_shared import cid, logging, pool_history, unixfs
from agorai_shared.bindings.data_pool import Challenged, Published
from agorai_shared.command import subject
from agorai_shared.content import NODE_PIN
from agorai_shared.digest_files import MOST_FILE, FileAbsentError, hurry, several
from agorai_shared.errors import AgoraiError, NotFoundError, RefusedError
from agorai_shared.pool import Challenge, PoolBinding, PoolDocument, Row, Snapshot, Taken, VersionRecord
from agorai_shared.pool_files import gone
from agorai_shared.pool_history import INLINE, Part
from agorai_shared.pool_trainer import (
    Checked,
    CheckSamples,
    CheckStatus,
    JudgeChallenge,
    Judged,
    JudgeStatus,
    KeepTest,
    KeptTest,
    Proposal,
    RebuildStatus,
    RebuildVersion,
    Rebuilt,
    TrainVersion,
    VersionWanted,
)
from agorai_shared.single_flight import SingleFlight
from agorai_shared.types import Address, Cid
from agorai_trainer.pooling.reading import PoolReader
from agorai_trainer.pooling.rules import ruled
from agorai_trainer.pooling.sandboxed import PoolSandbox, Remade
from agorai_trainer.pooling.store import PoolStore, VersionKey, VersionState

log = logging.get(__name__)

BUDGET_S: Final = 60.0
"""How long all files together may take that are not waited for any longer."""

AT_ONCE: Final = 4
"""Pools' samples in memory at the same time: more than the sandbox has jobs, so that reading goes on meanwhile."""


_STATES: Final = {
    VersionState.PREPARED: "is on its way to the chain",
    VersionState.PUBLISHED: "is published",
    VersionState.REFUSED: "could not be made",
}


class ChallengeAbsentError(NotFoundError):
    """There is nothing to judge."""

    def __init__(self, contribution: int) -> None:
        super().__init__(
            f"Nobody has challenged contribution {contribution}, or that is not final yet.",
            remedy="See its state: `agorai pool contribution ID`.",
        )


class VersionMadeError(RefusedError):
    """Training again would come to the same."""

    def __init__(self, pool: int, state: VersionState) -> None:
        super().__init__(
            f"Nothing was accepted into pool {pool} since this node last trained it by this rule: that version "
            f"{_STATES[state]}.",
            remedy="Train by another rule, or once more samples are accepted.",
        )


class PoolCommands:
    """Answers the commands of `agorai_shared.pool_trainer`; `wake` looks at a pool."""

    def __init__(
        self, reader: PoolReader, store: PoolStore, sandbox: PoolSandbox, wake: Callable[[int], object]
    ) -> None:
        self._reader, self._store, self._sandbox, self._wake = reader, store, sandbox, wake
        self._files, self._own = reader.files, reader.files.market.store
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def check(self, command: CheckSamples) -> Checked:
        """Check a contribution; raises as `PoolTrainer.check` says."""
        with _patience(final=command.final):
            await self._reader.bring(command.contribution, final=command.final)
            async with self._turns:
                pool = (await self._files.contribution(command.contribution)).pool
                test = await self._reader.test(pool, final=command.final)
                ground = await self._reader.compared(command.contribution, test, final=command.final)
                found, challenge = await self._sandbox.check(ground, command.stake, command.rows)
        proposal = None
        if challenge is not None:
            proposal = await self._proposal(command.contribution, challenge, found.corrected)
        return Checked(
            samples=found.samples,
            suspected=found.suspected,
            suspicions=found.suspicions,
            not_applied=found.not_applied,
            proposal=proposal,
        )

    async def judge(self, command: JudgeChallenge) -> Judged:
        """Judge the latest challenge of a contribution; raises as `PoolTrainer.judge` says."""
        pool = (await self._files.contribution(command.contribution)).pool
        events = (await self._files.history(pool)).challenges.get(command.contribution)
        if not events:
            raise ChallengeAbsentError(command.contribution)
        try:
            with _patience(final=command.final):
                return await self._judged(events[-1], final=command.final)
        except Exception as error:
            # Who gives no verdict in the end loses a stake; what cannot be looked at here is not borne out here.
            known = error if isinstance(error, AgoraiError) else None
            passing = known is not None and known.retryable and not isinstance(known, FileAbsentError)
            if passing or not command.final:
                raise
            log.warning("challenge.not_judged", contribution=command.contribution, error=repr(error))
            why = known.message if known else f"{type(error).__name__}."
            return Judged(right=False, explanation=f"No rule bears it out here: {why}")

    async def _judged(self, event: Challenged, *, final: bool) -> Judged:
        challenge = await self._files.challenge(event)
        if challenge is None:
            return Judged(right=False, explanation="The challenge does not say what the chain says of it.")
        contribution = event.contribution
        await self._reader.bring(contribution, final=final, without=event)
        async with self._turns:
            test = await self._reader.test(event.pool, final=final)
            ground = await self._reader.compared(contribution, test, final=final, without=event)
            return await self._sandbox.judge(ground, challenge, event.corrected)

    async def rebuild(self, command: RebuildVersion) -> Rebuilt:
        """Make a version again from its record; raises as `PoolTrainer.rebuild` says."""
        start = time.perf_counter()
        published = await self._files.version(command.version)
        sources = [published.publisher, (await self._files.opened(published.pool)).owner]

        async def file(digest: bytes, what: str) -> bytes:
            return await self._files.file(digest, f"{what} of version {published.version}", sources)

        raw = await file(published.record, "record")
        record = VersionRecord.from_bytes(raw)
        found = Remade(found=None, why=await self._untrue(published, record), measured=None)
        notes: list[str] = []
        if not found.why:
            document = await file(cid.digest_of(record.document), "pool's description")
            snapshot = await file(published.snapshot, "snapshot")
            pool, taken = published.pool, Snapshot.from_bytes(snapshot)
            described = PoolDocument.from_bytes(document)
            if record.rule != described.rule:
                notes.append("It was trained by another rule than the pool's.")
            why = await self._unsettled(pool, taken, notes)
            if why:
                found = Remade(found=None, why=why, measured=None)
            else:
                await self._bring(pool, described, taken)
                async with self._turns:
                    files = await self._named(pool, taken)
                    initial = await self._reader.initial(pool, described)
                    test = await self._reader.revealed(pool, final=True)
                    found = await self._sandbox.rebuild(raw, document, snapshot, initial, files, test)
        return Rebuilt(
            same=found.found == record.model,
            why=found.why or _inaccurate(record.accuracy, found.measured),
            notes=tuple(notes),
            model=record.model,
            found=found.found,
            samples=sum(record.batches),
            accuracy=record.accuracy,
            measured=found.measured,
            seconds=time.perf_counter() - start,
        )

    async def keep_test(self, command: KeepTest) -> KeptTest:
        """Keep a test set and a new salt; raises as `PoolTrainer.keep_test` says."""
        document = PoolDocument.from_bytes(await self._own.get_document(Cid(command.document)))
        wanted = Cid(document.initial_samples)
        initial = b"".join([piece async for piece in self._own.get(wanted, max_size=MOST_FILE)])
        sealed = Cid(command.test)
        test = await self._reader.vault.own(sealed, MOST_FILE)
        samples = await self._sandbox.try_out(document, initial, test)
        digest = cid.digest_of(await asyncio.to_thread(unixfs.cid_of, test))
        kept = self._store.keep_test(digest, sealed)
        return KeptTest(commitment=kept.commitment.hex(), samples=samples or 0)

    async def train(self, command: TrainVersion) -> VersionWanted:
        """Note that a version is wanted, once it is known that its rule can train.

        Raises
        ------
        VersionMadeError
            If nothing was accepted since this node made a version by this rule.
        """
        pool = command.pool
        document = await self._files.document(pool)
        rule = command.rule or document.rule
        key = VersionKey(pool, len((await self._files.history(pool)).settled), rule)
        if (state := self._store.state(key)) is not None:
            raise VersionMadeError(pool, state)
        await self._sandbox.try_out(ruled(document, rule), await self._reader.initial(pool, document))
        self._store.want(pool, rule)
        self._wake(pool)
        return VersionWanted(pool=pool)

    async def _proposal(self, contribution: int, challenge: Challenge, corrected: int) -> Proposal:
        document = challenge.to_bytes()
        name = f"{NODE_PIN}challenge of contribution {contribution}"
        return Proposal(
            digest=cid.digest_of(await self._own.put(document, name=name)).hex(),
            count=len(challenge.wrong),
            corrected=corrected,
            document=document.decode() if len(document) <= INLINE else "",
        )

    async def _untrue(self, published: Published, record: VersionRecord) -> str:
        """Say what a record and the chain disagree about, if they do."""
        deployment = self._files.market.deployment
        binding = PoolBinding(
            chain_id=deployment.chain_id, contract=deployment.data_pool, pool=published.pool
        )
        accuracy = None if record.accuracy is None else round(record.accuracy * 10_000)
        described = (await self._files.opened(published.pool)).terms.document
        for what, recorded, chain in (
            ("pool", record.pool, binding),
            ("description", cid.digest_of(record.document), described),
            ("predecessor", record.predecessor, published.predecessor),
            ("model", cid.digest_of(record.model), published.model),
            ("snapshot", cid.digest_of(record.snapshot), published.snapshot),
            ("accuracy", accuracy or 0, published.accuracy),
        ):
            if recorded != chain:
                return f"Its record names another {what} than the chain."
        return ""

    async def _unsettled(self, pool: int, snapshot: Snapshot, notes: list[str]) -> str:
        """Say how a snapshot first differs from what the chain says was accepted; note what it may leave out."""
        parts = (await self._files.history(pool)).accepted(len(snapshot.taken))
        partly = [
            part
            for part, one in zip(parts, snapshot.taken, strict=False)
            if part.faults and len(one.left_out) != one.count and not gone(part)
        ]
        outs = dict(zip(partly, await several(self._left_out, partly), strict=True))
        for place, one in enumerate(snapshot.taken):
            name = f"contribution {one.contribution}"
            if place >= len(parts) or parts[place].added.id != one.contribution:
                wanted = f"contribution {parts[place].added.id}" if place < len(parts) else "no further one"
                return f"Its snapshot takes {name} where the pool accepted {wanted}."
            part = parts[place]
            if pool_history.taken(part, one.left_out) != one:
                return f"Its snapshot has another digest, count or origin of {name} than the chain."
            if len(one.left_out) == one.count:
                if not gone(part):
                    notes.append(f"All of {name} is left out, of which the pool accepted samples.")
            elif gone(part) or one.left_out != outs.get(part, ()):
                return f"Its snapshot leaves out other samples of {name} than were found wrong."
        return ""

    async def _left_out(self, part: Part) -> tuple[Row, ...]:
        faults = [await self._files.challenge(fault) for fault in part.faults]
        return pool_history.left_out(part, faults)

    async def _bring(self, pool: int, document: PoolDocument, snapshot: Snapshot) -> None:
        """Have this node's own store hold all samples that a snapshot needs, and the test set if it can be had."""
        await self._reader.initial(pool, document)
        await self._reader.revealed(pool, final=True)

        async def bring(one: Taken) -> None:
            await self._bytes(pool, one)

        await several(bring, snapshot.taken)

    async def _named(self, pool: int, snapshot: Snapshot) -> list[bytes]:
        """Give the bytes of each contribution of a snapshot; none of those that it leaves out as a whole."""
        return [await self._bytes(pool, one) for one in snapshot.taken]

    async def _bytes(self, pool: int, one: Taken) -> bytes:
        added = (await self._files.history(pool)).additions.get(one.contribution)
        needed = added is not None and len(one.left_out) != one.count
        return await self._reader.named(added) if added and needed else b""


def _patience(*, final: bool) -> AbstractContextManager[None]:
    return hurry(BUDGET_S) if final else nullcontext()


def _inaccurate(published: float | None, measured: float | None) -> str:
    """Say that a published accuracy is false; last bits of it do not decide."""
    if published is None or measured is None or abs(published - measured) <= 1e-4:
        return ""
    return f"Its accuracy is not {published:.2%}, as was published, but {measured:.2%} on the test set."


@asynccontextmanager
async def answering(router: NatsRouter, address: Address, commands: PoolCommands) -> AsyncIterator[None]:
    """Have the router answer one node's commands about pools; at the end, give up what is under way."""

    def verb(name: str) -> str:
        return subject(address, "trainer", name)

    async with (
        aclosing(SingleFlight(commands.check)) as checks,
        aclosing(SingleFlight(commands.judge)) as judgements,
        aclosing(SingleFlight(commands.rebuild)) as rebuildings,
    ):
        # Those that wait must not keep others waiting until their signatures are too old.
        @router.subscriber(verb("check_samples"), max_workers=64)
        async def check_samples(command: CheckSamples) -> CheckStatus:
            """Find what is likely wrong with a contribution, waiting a while for the end."""
            return CheckStatus(checked=await checks.end(command))

        @router.subscriber(verb("judge_challenge"), max_workers=64)
        async def judge_challenge(command: JudgeChallenge) -> JudgeStatus:
            """Say whether the latest challenge of a contribution is right, waiting a while for the end."""
            return JudgeStatus(judged=await judgements.end(command))

        @router.subscriber(verb("rebuild_version"), max_workers=64)
        async def rebuild_version(command: RebuildVersion) -> RebuildStatus:
            """Make a version again from its record alone and compare, waiting a while for the end."""
            return RebuildStatus(rebuilt=await rebuildings.end(command))

        @router.subscriber(verb("keep_test"), max_workers=4)
        async def keep_test(command: KeepTest) -> KeptTest:
            """Keep the hidden test set of a pool that is about to be opened."""
            return await commands.keep_test(command)

        @router.subscriber(verb("train_version"), max_workers=4)
        async def train_version(command: TrainVersion) -> VersionWanted:
            """Publish a version besides those that the node publishes by itself."""
            return await commands.train(command)

        yield
