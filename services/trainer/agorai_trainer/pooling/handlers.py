"""The shells that publish versions of pools' models and reveal pools' test sets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, cast

from agorai_shared import cid, logging, unixfs
from agorai_shared.bindings.data_pool import Pool, Published
from agorai_shared.content import NODE_PIN, StoreUnreachableError
from agorai_shared.digest_files import MOST_FILE, FileAbsentError, several
from agorai_shared.errors import AgoraiError, RemoteError
from agorai_shared.pool import PoolBinding, Rule, Snapshot, Taken, VersionRecord
from agorai_shared.pool_files import gone
from agorai_shared.pool_history import Part
from agorai_shared.reconciler import idempotency_key
from agorai_shared.vault import TransactionState, send_step
from agorai_trainer.pooling import decide
from agorai_trainer.pooling.reading import PoolReader
from agorai_trainer.pooling.rules import goes_on, ruled, versions
from agorai_trainer.pooling.sandboxed import Given, PoolSandbox
from agorai_trainer.pooling.store import KeptTest, PoolStore, Prepared, VersionKey

log = logging.get(__name__)

PATIENCE_S: Final = 600.0
"""How long a version waits for a file that nobody serves; then it is made without. Nobody challenged it in time."""

SERVE_S: Final = 60.0
"""How long this node's own vault and store may take over a test set before it is revealed all the same."""

_AT_ONCE: Final = 500
"""Contributions read from the chain in one request."""

_KEPT: Final = 32
"""Versions of this node's that are kept in memory."""


@dataclass(frozen=True, slots=True)
class _Own:
    """A version that this account published."""

    version: int
    record: VersionRecord
    snapshot: Snapshot


class PoolProtocol:
    """Publishing, for the reconciler; the key is the pool's."""

    name = "trainer-pool"
    """In logs and metrics."""

    def __init__(self, reader: PoolReader, store: PoolStore, sandbox: PoolSandbox) -> None:
        self.me = reader.me
        self._reader, self._files, self._store, self._sandbox = reader, reader.files, store, sandbox
        self._market, self._vault = reader.files.market, reader.vault
        self._versions: dict[int, _Own] = {}
        self._left: dict[int, int] = {}
        """Samples of each contribution that was accepted."""
        self._missing_since: dict[int, float] = {}
        self._pinned: set[bytes] = set()
        self._kept: set[int] = set()
        """Contributions whose files were pinned, or could not be had when that was tried."""

    async def read(self, key: int) -> decide.State:
        """Read the pool at a final block, and which versions of it there are."""
        (pool,) = await self._market.chain.read(self._files.contract.pool_of(key))
        keeps = await self._reader.kept(key) is not None
        return decide.State(cast("Pool", pool), keeps, await self._progress(key))

    def next_step(self, state: decide.State, now: int) -> decide.Step | None:
        """Decide."""
        return decide.next_step(state, now)

    def due(self, state: decide.State, now: int) -> int | None:
        """Say when time alone brings a step."""
        return decide.due(state, now)

    async def perform(self, key: int, step: decide.Step, once: str) -> bool:
        """Take the step; a version that cannot be made is not tried again."""
        match step:
            case decide.Send():
                return await self._send(key)
            case decide.Prepare(rule, on_newest):
                await self._prepare(key, rule, on_newest=on_newest)
            case decide.Keep(rule):
                await self._keep(key, rule)
        return True

    async def open_items(self) -> Iterable[int]:
        """Find this account's pools whose test sets are kept here, and those of which versions are wanted."""
        return sorted(await self._reader.all_kept() | self._store.pools())

    async def concerns(self, pool: int) -> bool:
        """Say whether there may be something to do about a pool."""
        return await self._reader.kept(pool) is not None or pool in self._store.pools()

    # --------------------------------------------------------------------------------------------- versions

    async def _progress(self, pool: int) -> decide.Progress:
        rule = (await self._files.document(pool)).rule
        history = await self._files.history(pool)
        accepted, published = tuple(history.settled), tuple(history.versions)
        newest = await self._newest(published, rule)
        fresh = accepted[len(newest.snapshot.taken) :] if newest else accepted
        return decide.Progress(
            rule=rule,
            published=newest is not None,
            fresh=await self._samples(fresh),
            loose=not self._kept.issuperset(fresh),
            tried=self._store.state(VersionKey(pool, len(accepted), rule)) is not None,
            prepared=self._store.prepared(pool) is not None,
            wanted=tuple(
                wanted
                for wanted in self._store.wanted(pool)
                if self._store.state(VersionKey(pool, len(accepted), wanted)) is None
            ),
        )

    async def _newest(self, published: Sequence[Published], rule: Rule) -> _Own | None:
        """Give this account's newest version by a rule."""
        for event in reversed(published):
            if event.publisher == self.me:
                own = self._versions.get(event.version) or await self._load(event)
                if own.record.rule == rule:
                    return own
        return None

    async def _load(self, event: Published) -> _Own:
        what = f"of version {event.version}"
        record = await self._files.file(event.record, f"record {what}", [self.me])
        snapshot = await self._files.file(event.snapshot, f"snapshot {what}", [self.me])
        own = _Own(event.version, VersionRecord.from_bytes(record), Snapshot.from_bytes(snapshot))
        self._versions[event.version] = own
        for old in list(self._versions)[:-_KEPT]:
            del self._versions[old]
        return own

    async def _samples(self, contributions: Sequence[int]) -> int:
        """Count what was accepted of contributions."""
        unknown = [id_ for id_ in contributions if id_ not in self._left]
        for at in range(0, len(unknown), _AT_ONCE):
            some = unknown[at : at + _AT_ONCE]
            calls = [self._files.contract.contribution_of(id_) for id_ in some]
            found = await self._market.chain.read(*calls)
            self._left |= {id_: one.left for id_, one in zip(some, found, strict=True)}
        return sum(self._left[id_] for id_ in contributions)

    async def _prepare(self, pool: int, rule: Rule, *, on_newest: bool) -> None:
        history = await self._files.history(pool)
        parts, published = history.accepted(), tuple(history.versions)
        key = VersionKey(pool, len(parts), rule)
        try:
            version = await self._made(key, parts, published, on_newest=on_newest)
        except AgoraiError as error:
            if error.retryable:
                raise
            log.warning("version.refused", pool=pool, taken=key.taken, error=str(error))
            self._store.refuse(key, str(error))
        else:
            self._store.prepare(version)

    async def _made(
        self, key: VersionKey, parts: Sequence[Part], published: Sequence[Published], *, on_newest: bool
    ) -> Prepared:
        pool, rule = key.pool, key.rule
        document = await self._files.document(pool)
        described = cid.of_raw(document.to_bytes())
        newest = await self._newest(published, rule)
        # Only what was made here is known to be what learning from the beginning comes to.
        base = newest if newest and goes_on(rule) and newest.record.versions == versions() else None
        before = base.snapshot.taken if base else ()
        given = await self._given(key, parts[len(before) :])
        initial = await self._reader.initial(pool, document)
        first = initial
        if base:
            first = await self._files.file(
                cid.digest_of(base.record.model), f"model of version {base.version}", [self.me]
            )
        test = await self._reader.test(pool, final=True)
        model, learnt = await self._sandbox.learn(
            ruled(document, rule), first, given, goes_on=base is not None, test=test
        )
        taken = (*before, *(_taken(one) for one in given))
        snapshot = Snapshot(initial_samples=document.initial_samples, taken=taken).to_bytes()
        predecessor = published[-1].version if on_newest and published else newest.version if newest else 0
        deployment = self._market.deployment
        record = VersionRecord(
            pool=PoolBinding(chain_id=deployment.chain_id, contract=deployment.data_pool, pool=pool),
            predecessor=predecessor,
            document=described,
            snapshot=unixfs.cid_of(snapshot),
            model=unixfs.cid_of(model),
            format=learnt.format,
            rule=rule,
            batches=(*(base.record.batches if base else ()), *learnt.batches),
            versions=learnt.versions,
            accuracy=learnt.accuracy,
        ).to_bytes()
        await self._pin(document.to_bytes(), f"description of pool {pool}")
        await self._pin(initial, f"initial samples of pool {pool}")
        for part, one in zip(parts[len(before) :], given, strict=True):
            await self._pin_part(part, one)
        return Prepared(
            key,
            predecessor,
            record=await self._pin(record, f"record of a version of pool {pool}"),
            model=await self._pin(model, f"model of pool {pool}"),
            snapshot=await self._pin(snapshot, f"snapshot of pool {pool}"),
            accuracy=round((learnt.accuracy or 0) * 10_000),
        )

    async def _given(self, key: VersionKey, parts: Sequence[Part]) -> list[Given]:
        """Give what was accepted, waiting a while for what nobody serves."""
        try:
            given = await several(partial(self._reader.learnt, final=False), parts)
        except FileAbsentError:
            now = asyncio.get_running_loop().time()
            if now - self._missing_since.setdefault(key.pool, now) < PATIENCE_S:
                raise
            given = await several(partial(self._reader.learnt, final=True), parts)
        self._missing_since.pop(key.pool, None)
        return given

    async def _keep(self, pool: int, rule: Rule) -> None:
        history = await self._files.history(pool)
        parts, newest = history.accepted(), await self._newest(tuple(history.versions), rule)
        fresh = parts[len(newest.snapshot.taken) if newest else 0 :]

        async def keep(part: Part) -> None:
            await self._pin_part(part, await self._reader.learnt(part, final=True))

        await several(keep, [part for part in fresh if part.added.id not in self._kept])

    async def _pin_part(self, part: Part, given: Given) -> None:
        added = part.added
        if gone(part):  # nobody needs it
            self._kept.add(added.id)
            return
        if given.data and not added.samples:
            await self._pin(given.data, f"samples of contribution {added.id}")
        for fault in part.faults:
            try:
                document = await self._reader.document(fault)
            except FileAbsentError:  # then all of the contribution is left out, and nobody needs it
                continue
            await self._pin(document, f"challenge of contribution {added.id}")
        self._kept.add(added.id)

    async def _pin(self, data: bytes, what: str) -> bytes:
        """Keep a file in this node's store, and give its digest."""
        digest = cid.digest_of(await asyncio.to_thread(unixfs.cid_of, data))
        if digest not in self._pinned:
            await self._market.store.put(data, name=f"{NODE_PIN}{what}")
            self._pinned.add(digest)
        return digest

    async def _send(self, pool: int) -> bool:
        """Publish what is prepared, once; gives whether that is at its end."""
        version = self._store.prepared(pool)
        if version is None:
            return True
        key = version.key
        once = idempotency_key(*self._scope(pool), "publish", key.taken, key.rule.to_bytes().hex())
        call = self._files.contract.publish(
            pool, version.predecessor, version.record, version.model, version.snapshot, version.accuracy
        )
        try:
            outcome = await self._vault.send(once, call)
        except RemoteError as error:
            if error.retryable:
                raise
            self._store.refuse(key, str(error))
            return True
        if not outcome.settled:
            outcome = await self._vault.settled(once)
        if outcome.state == TransactionState.REVERTED:
            self._store.refuse(key, outcome.reason or "it reverted")
        elif outcome.state == TransactionState.FINAL:
            self._store.published(key)
        return outcome.settled

    def _scope(self, pool: int) -> tuple[object, ...]:
        deployment = self._market.deployment
        return deployment.chain_id, deployment.data_pool, pool


class RevealProtocol:
    """Revealing, for a reconciler of its own: it fetches nothing and waits for nobody; the key is the pool's."""

    name = "trainer-reveal"
    """In logs and metrics."""

    def __init__(self, reader: PoolReader) -> None:
        self._reader, self._contract = reader, reader.files.contract
        self._market, self._vault = reader.files.market, reader.vault

    async def read(self, key: int) -> decide.Hidden:
        """Read the pool at a final block."""
        (pool,) = await self._market.chain.read(self._contract.pool_of(key))
        return decide.Hidden(cast("Pool", pool), await self._reader.kept(key) is not None)

    def next_step(self, state: decide.Hidden, now: int) -> decide.Close | None:
        """Decide."""
        return decide.reveals(state, now)

    def due(self, state: decide.Hidden, now: int) -> int | None:
        """Say when time alone brings the step."""
        return decide.reveal_due(state, now)

    async def perform(self, key: int, step: decide.Close, once: str) -> bool:
        """Reveal the test set; nothing is lost if the chain's clock is behind this one's."""
        kept = await self._reader.kept(key)
        if kept is None:
            raise AssertionError("it was kept when the pool was read")
        try:
            await self._serve(key, kept)
        except AgoraiError as error:
            if error.retryable and not step.final:
                raise
            log.warning("pool.test_set_not_served", pool=key, error=str(error))
        deployment = self._market.deployment
        try:
            call = self._contract.close(key, kept.digest, kept.salt)
            sent_as = idempotency_key(deployment.chain_id, deployment.data_pool, key, "close")
            await send_step(self._vault, sent_as, call)
        except RemoteError as error:
            if error.code != "contract_revert":
                raise
            log.info("pool.close_early", pool=key, error=str(error))
        return False

    async def open_items(self) -> Iterable[int]:
        """Find this account's pools whose test sets are kept here."""
        return sorted(await self._reader.all_kept())

    async def _serve(self, pool: int, kept: KeptTest) -> None:
        try:
            async with asyncio.timeout(SERVE_S):
                test = await self._vault.own(kept.sealed, MOST_FILE)
                await self._market.store.put(test, name=f"{NODE_PIN}test set of pool {pool}")
        except TimeoutError:
            raise StoreUnreachableError("this node", f"it took longer than {SERVE_S:g} s") from None


def _taken(given: Given) -> Taken:
    """Give what a snapshot says: of what has no bytes everything is left out, so that nobody needs them."""
    out = given.taken.left_out if given.data else tuple(range(given.taken.count))
    return given.taken.model_copy(update={"left_out": out})
