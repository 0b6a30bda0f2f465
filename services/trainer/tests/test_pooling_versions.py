"""The owner's node publishes versions and reveals the test set on a real chain: each once, whatever happens."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
import pytest_asyncio

from agorai_shared import cid as cids
from agorai_shared import unixfs
from agorai_shared.bindings.data_pool import PoolState, Published
from agorai_shared.digest_files import FileAbsentError
from agorai_shared.pool import (
    Challenge,
    PoolDocument,
    Rule,
    Samples,
    Snapshot,
    VersionRecord,
    Wrong,
    write_samples,
)
from agorai_shared.pool_trainer import RebuildVersion, Rebuilt
from agorai_shared.rpc import Rpc
from agorai_shared.testing import running_anvil
from agorai_shared.vault import Outcome, TransactionState
from agorai_trainer import app
from agorai_trainer.pooling import decide, handlers, rules
from agorai_trainer.pooling.answering import PoolCommands
from agorai_trainer.pooling.handlers import PoolProtocol, RevealProtocol
from agorai_trainer.pooling.learning import accuracy, learn
from agorai_trainer.sandbox import Sandbox

from .pool_ground import WINDOW, Ground, Node
from .pools import Rows, samples, tumours

pytestmark = pytest.mark.asyncio(loop_scope="session")
SGD = Rule(estimator="sklearn.SGDClassifier", scaler="standard", mode="incremental", every=5)
BAYES = Rule(estimator="sklearn.GaussianNB", mode="anew")


class Owner:
    """The owner of a pool, one life of its node after the other."""

    def __init__(self, ground: Ground, node: Node, document: PoolDocument, rows: Rows) -> None:
        self.ground, self.node, self.document, self.rows = ground, node, document, rows
        self.test = samples(rows[500:])
        self.live()

    def live(self) -> None:
        node = self.node
        self.protocol = PoolProtocol(node.reader, node.kept, node.jobs)
        self.revealing = RevealProtocol(node.reader)

    def die(self) -> None:
        self.node.kept.close()
        self.node.restart()
        self.live()

    @classmethod
    async def of(cls, ground: Ground, node: Node) -> Owner:
        document, rows = tumours()
        document = await node.described(document.model_copy(update={"rule": SGD}), samples(rows[:60]))
        return cls(ground, node, document, rows)

    async def open(self) -> int:
        test = write_samples(self.document, self.test)
        kept = self.node.kept.keep_test(cids.digest_of(unixfs.cid_of(test)), self.node.seal(test))
        return await self.ground.open(self.document, kept.commitment)

    def file(self, first: int, last: int) -> bytes:
        return write_samples(self.document, samples(self.rows[first:last]))

    async def steps(self, pool: int) -> list[str]:
        """Take all steps that there are now."""
        taken: list[str] = []
        while (step := await self.next(pool)) is not None:
            taken.append(type(step).__name__)
            await self.protocol.perform(pool, step, "once")
        return taken

    async def next(self, pool: int) -> decide.Step | None:
        state = await self.protocol.read(pool)
        return self.protocol.next_step(state, await self.ground.now())

    async def reveals(self, pool: int) -> decide.Close | None:
        state = await self.revealing.read(pool)
        return self.revealing.next_step(state, await self.ground.now())

    async def versions(self, pool: int) -> list[tuple[Published, VersionRecord, Snapshot]]:
        files = self.node.store
        return [
            (one, VersionRecord.from_bytes(files.of(one.record)), Snapshot.from_bytes(files.of(one.snapshot)))
            for one in await self.ground.published()
            if one.pool == pool
        ]

    def model(self, *parts: Samples) -> bytes:
        return learn(self.document, samples(self.rows[:60]), parts)

    async def rebuilt(self, version: int) -> Rebuilt:
        commands = PoolCommands(self.node.reader, self.node.kept, self.node.jobs, lambda _: None)
        return await commands.rebuild(RebuildVersion(id=secrets.token_hex(16), version=version))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ground() -> AsyncIterator[Ground]:
    async with AsyncExitStack() as stack:
        anvil = await stack.enter_async_context(running_anvil())
        rpc = await stack.enter_async_context(Rpc(anvil.url))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield await Ground.laid(rpc, session)


@pytest_asyncio.fixture(loop_scope="session")
async def owner(ground: Ground, sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[Owner]:
    made = await Owner.of(ground, Node(ground, ground.owner, tmp_path, sandbox))
    yield made
    made.node.kept.close()


async def test_versions_are_published_as_samples_are_accepted(owner: Owner) -> None:
    ground, store = owner.ground, owner.node.store
    pool = await owner.open()
    assert pool in await owner.protocol.open_items()
    assert await owner.protocol.concerns(pool)
    assert await owner.steps(pool) == ["Prepare", "Send"]
    assert await owner.steps(pool) == []

    inline, file = owner.file(60, 63), owner.file(63, 65)
    await store.put(file, pin=False)
    first, second = await ground.add(pool, 3, inline, inline=True), await ground.add(pool, 2, file)
    await ground.settle(second)
    assert await owner.steps(pool) == ["Keep"]  # two of five samples
    assert store.names[unixfs.cid_of(file)] == f"node: samples of contribution {second}"
    await ground.settle(first)
    owner.die()
    assert await owner.steps(pool) == ["Prepare", "Send"]

    (one, begun, empty), (two, record, snapshot) = await owner.versions(pool)
    assert (one.predecessor, two.predecessor) == (0, one.version)
    assert begun.batches == (60,)
    assert empty.taken == ()
    assert record.batches == (60, 2, 3)
    assert [(taken.contribution, taken.count) for taken in snapshot.taken] == [(second, 2), (first, 3)]
    model = owner.model(samples(owner.rows[63:65]), samples(owner.rows[60:63]))
    assert store.of(two.model) == model  # as from the beginning, though it was trained on from version one
    score = accuracy(owner.document, model, owner.test)
    assert (record.accuracy, two.accuracy) == (score, round(score * 10_000))
    for data in (file, model, snapshot.to_bytes(), record.to_bytes(), owner.document.to_bytes()):
        assert store.names[unixfs.cid_of(data)].startswith("node: ")
    rebuilt = await owner.rebuilt(two.version)
    assert rebuilt.same, rebuilt.why
    assert (rebuilt.samples, rebuilt.accuracy, rebuilt.measured) == (65, score, None)


async def test_corrected_samples_are_learnt_from_the_challenge_that_holds_them(owner: Owner) -> None:
    ground, store = owner.ground, owner.node.store
    pool = await owner.open()
    data = owner.file(100, 106)
    wrong = await ground.add(pool, 6, data, inline=True)
    challenge = Challenge(
        wrong=(Wrong(row=2, reason="other"), Wrong(row=4, reason="other")),
        corrected=owner.file(110, 111).decode(),
    ).to_bytes()
    await store.put(challenge, pin=False)
    await ground.challenge(wrong, challenge, 1, inline=False)
    await ground.send(ground.owner, ground.contract.answer(wrong, True))
    await ground.pass_time(WINDOW + 1)
    await ground.send(ground.adder, ground.contract.resolve(wrong))
    _, corrected, _ = await ground.counts()
    assert corrected == wrong + 1
    await ground.settle(wrong, corrected)
    assert await owner.steps(pool) == ["Prepare", "Send"]
    ((version, record, snapshot),) = await owner.versions(pool)
    assert [(one.left_out, one.corrects) for one in snapshot.taken] == [((2, 4), 0), ((), wrong)]
    kept = samples([owner.rows[place] for place in (100, 101, 103, 105)])
    assert store.of(version.model) == owner.model(kept, samples(owner.rows[110:111]))
    assert store.names[unixfs.cid_of(challenge)].startswith("node: ")
    rebuilt = await owner.rebuilt(version.version)
    assert rebuilt.same, rebuilt.why
    assert record.batches == (60, 4, 1)


async def test_a_version_is_published_once_though_the_node_dies_at_any_moment(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await owner.open()
    send = owner.node.vault.send

    async def dies_before(*_: Any) -> None:
        raise ConnectionError

    async def dies_behind(*arguments: Any) -> None:
        await send(*arguments)
        raise ConnectionError

    for death in (dies_before, dies_behind):
        monkeypatch.setattr(owner.node.vault, "send", death)
        with pytest.raises(ConnectionError):
            await owner.steps(pool)
        owner.die()
    monkeypatch.setattr(owner.node.vault, "send", send)
    # it is on the chain already, and samples are accepted before this node hears of it
    data = owner.file(120, 126)
    await owner.ground.settle(await owner.ground.add(pool, 6, data, inline=True))
    assert await owner.steps(pool) == ["Send", "Prepare", "Send"]
    assert owner.node.vault.calls == ["publish", "publish"]
    first, second = await owner.versions(pool)
    assert second[0].predecessor == first[0].version
    assert second[1].batches == (60, 6)


async def test_what_nobody_serves_is_waited_for_and_then_left_out(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await owner.open()
    await owner.steps(pool)
    absent = await owner.ground.add(pool, 5, owner.file(130, 135))
    await owner.ground.settle(absent)
    for _ in range(2):
        with pytest.raises(FileAbsentError):
            await owner.steps(pool)
    monkeypatch.setattr(handlers, "PATIENCE_S", 0.0)
    assert await owner.steps(pool) == ["Prepare", "Send"]
    version, record, snapshot = (await owner.versions(pool))[-1]
    assert snapshot.taken[0].left_out == (0, 1, 2, 3, 4)
    assert record.batches == (60, 0)
    assert (await owner.rebuilt(version.version)).same


async def test_of_a_challenge_that_says_nothing_the_first_rows_are_left_out_and_of_one_that_nobody_serves_all(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground, pool = owner.ground, await owner.open()
    await owner.steps(pool)
    void, hidden = [await ground.add(pool, 5, owner.file(at, at + 5), inline=True) for at in (130, 135)]
    for contribution, inline in ((void, True), (hidden, False)):
        await ground.challenge(contribution, b"{}", inline=inline, count=2)
        await ground.send(ground.owner, ground.contract.answer(contribution, True))
    await ground.pass_time(WINDOW + 1)
    for contribution in (void, hidden):
        await ground.send(ground.owner, ground.contract.resolve(contribution))
    await ground.settle(void, hidden)
    monkeypatch.setattr(handlers, "PATIENCE_S", 0.0)
    assert await owner.steps(pool) == ["Prepare", "Send"]
    version, record, snapshot = (await owner.versions(pool))[-1]
    assert [one.left_out for one in snapshot.taken] == [(0, 1), (0, 1, 2, 3, 4)]
    assert record.batches == (60, 3, 0)
    assert (await owner.rebuilt(version.version)).same


async def test_a_version_by_another_rule_is_made_when_it_is_wanted_and_stays_beside_the_pool_s_own(
    owner: Owner, ground: Ground, sandbox: Sandbox, tmp_path: Path
) -> None:
    pool = await owner.open()
    await owner.steps(pool)
    owner.node.kept.want(pool, BAYES)
    assert await owner.steps(pool) == ["Prepare", "Send"]
    owner.node.kept.want(pool, BAYES)
    assert await owner.steps(pool) == []  # these samples were learnt by it
    await ground.settle(await ground.add(pool, 5, owner.file(140, 145), inline=True))
    assert await owner.steps(pool) == ["Prepare", "Send", "Prepare", "Send"]
    own, bayes, later_bayes, later = await owner.versions(pool)
    assert [one[1].rule for one in (own, bayes, later_bayes, later)] == [SGD, BAYES, BAYES, SGD]
    assert (bayes[0].predecessor, later[0].predecessor) == (own[0].version, own[0].version)
    rebuilt = await owner.rebuilt(later_bayes[0].version)
    assert rebuilt.same, rebuilt.why

    other = Node(ground, ground.checker, tmp_path / "other", sandbox, owner.node.store)
    stranger = Owner(ground, other, owner.document, owner.rows)
    assert pool not in await stranger.protocol.open_items()
    assert await stranger.steps(pool) == []
    other.kept.want(pool, SGD)
    assert await stranger.protocol.open_items() == [pool]
    assert await stranger.steps(pool) == ["Prepare", "Send"]
    theirs = (await owner.versions(pool))[-1]
    assert (theirs[0].publisher, theirs[0].predecessor) == (ground.checker, later[0].version)
    assert (theirs[0].accuracy, theirs[1].accuracy) == (0, None)
    assert theirs[0].model == later[0].model
    assert await owner.steps(pool) == []
    other.kept.close()


async def test_a_test_set_is_revealed_once_and_what_is_left_over_published(owner: Owner) -> None:
    ground = owner.ground
    pool = await owner.open()
    await owner.steps(pool)
    await ground.settle(await ground.add(pool, 2, owner.file(150, 152), inline=True))
    bad = Rule(estimator="sklearn.SGDClassifier", hyperparameters={"alpha": -1.0}, mode="anew")
    owner.node.kept.want(pool, bad)
    assert await owner.steps(pool) == ["Prepare", "Keep"]  # refused, and not tried again
    assert owner.node.kept.wanted(pool) == ()
    test = write_samples(owner.document, owner.test)
    assert unixfs.cid_of(test) not in owner.node.store.files
    await ground.pass_time(3600)
    assert pool in await owner.revealing.open_items()
    close = await owner.reveals(pool)
    assert close == decide.Close(final=False)
    await owner.revealing.perform(pool, close, "once")
    owner.die()
    await owner.revealing.perform(pool, close, "another")  # as before the block is final
    assert owner.node.vault.calls.count("close") == 1
    assert (await ground.pool(pool)).state == PoolState.CLOSED
    assert owner.node.store.names[unixfs.cid_of(test)] == f"node: test set of pool {pool}"
    assert await owner.steps(pool) == ["Prepare", "Send"]
    version, record, _ = (await owner.versions(pool))[-1]
    assert record.batches == (60, 2)
    rebuilt = await owner.rebuilt(version.version)
    assert rebuilt.same
    assert rebuilt.measured == rebuilt.accuracy


async def test_a_test_set_that_cannot_be_served_is_revealed_all_the_same(owner: Owner) -> None:
    pool = await owner.open()
    await owner.steps(pool)
    owner.node.vault.sealed.clear()
    await owner.ground.add(pool, 2, owner.file(160, 162), inline=True)  # and nobody settles it
    await owner.ground.pass_time(3700)
    assert await owner.reveals(pool) is None
    await owner.ground.pass_time(500)
    close = await owner.reveals(pool)
    assert close is not None
    await owner.revealing.perform(pool, close, "once")
    assert (await owner.ground.pool(pool)).state == PoolState.CLOSED


async def test_a_model_that_is_not_what_its_record_says_is_told_apart(owner: Owner) -> None:
    ground = owner.ground
    pool = await owner.open()
    await owner.steps(pool)
    ((version, record, _),) = await owner.versions(pool)
    false = await owner.node.store.put(owner.model(samples(owner.rows[200:230])))
    lie = record.model_copy(update={"model": false})
    digest = cids.digest_of(await owner.node.store.put(lie.to_bytes()))
    for accuracy_, why in ((version.accuracy, "Trained again"), (9_999, "another accuracy")):
        call = ground.contract.publish(pool, 0, digest, cids.digest_of(false), version.snapshot, accuracy_)
        await ground.send(ground.checker, call)
        rebuilt = await owner.rebuilt((await owner.versions(pool))[-1][0].version)
        assert not rebuilt.same
        assert why in rebuilt.why
        assert rebuilt.found == (record.model if accuracy_ == version.accuracy else None)


async def test_a_stranger_who_names_the_same_commitment_learns_nothing_of_the_test_set(owner: Owner) -> None:
    commitment = (await owner.ground.pool(await owner.open())).test_commitment
    copy = await owner.ground.open(owner.document, commitment, owner.ground.checker)
    assert await owner.steps(copy) == []
    assert copy not in await owner.protocol.open_items()
    assert copy not in await owner.revealing.open_items()
    assert await owner.node.reader.test(copy, final=True) is None
    await owner.ground.pass_time(3700)
    assert await owner.reveals(copy) is None


async def test_a_model_made_with_other_versions_is_not_gone_on_from(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await owner.open()
    await owner.steps(pool)
    await owner.ground.settle(await owner.ground.add(pool, 5, owner.file(170, 175), inline=True))
    here, learn_, gone_on = rules.versions(), owner.node.jobs.learn, []

    async def seen(*arguments: Any, **named: Any) -> Any:
        gone_on.append(named["goes_on"])
        return await learn_(*arguments, **named)

    monkeypatch.setattr(owner.node.jobs, "learn", seen)
    monkeypatch.setattr(handlers, "versions", lambda: here.model_copy(update={"numpy": "0.1"}))
    assert await owner.steps(pool) == ["Prepare", "Send"]
    assert gone_on == [False]


async def test_a_transaction_on_its_way_is_waited_for_and_one_that_reverts_is_not_repeated(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await owner.open()
    first = await owner.next(pool)
    assert first is not None
    await owner.protocol.perform(pool, first, "once")
    states = [TransactionState.SENT, TransactionState.SENT, TransactionState.MINED, TransactionState.REVERTED]

    async def told(once: str, *_: object) -> Outcome:
        return Outcome(once=once, state=states.pop(0), transaction=None, block=None, reason="it was refused")

    monkeypatch.setattr(owner.node.vault, "send", told)
    monkeypatch.setattr(owner.node.vault, "settled", told, raising=False)
    assert await owner.protocol.perform(pool, decide.Send(), "once") is False
    assert await owner.next(pool) == decide.Send()
    assert await owner.protocol.perform(pool, decide.Send(), "once") is True
    assert states == []
    assert await owner.steps(pool) == []


async def test_revealing_too_early_by_the_chain_s_clock_is_no_fault(owner: Owner) -> None:
    pool = await owner.open()
    assert await owner.revealing.perform(pool, decide.Close(final=False), "once") is False
    assert owner.node.vault.calls == []
    await owner.ground.pass_time(3700)
    close = await owner.reveals(pool)
    assert close is not None
    await owner.revealing.perform(pool, close, "once")
    assert owner.node.vault.calls == ["close"]


@pytest.mark.parametrize(
    ("event", "key", "args", "wakes"),
    [
        ("Opened", "pool", {}, True),
        ("Stopped", "pool", {}, True),
        ("Settled", "7777", {"pool": "pool"}, True),
        ("Published", "7777", {"pool": "pool"}, True),
        ("Added", "7777", {"pool": "pool"}, False),
        ("Committed", "0x" + "ab" * 32, {}, False),
        ("Withdrawn", "0x" + "ab" * 20, {}, False),
    ],
)
async def test_events_of_own_pools_wake(
    owner: Owner, event: str, key: str, args: dict[str, Any], wakes: bool
) -> None:
    mine, commitment = await owner.open(), b"\x05" * 32
    others = await owner.ground.open(owner.document, commitment)
    woken: list[int] = []
    for pool in (mine, others):
        seen = SimpleNamespace(
            event=event, key=key.replace("pool", str(pool)), args=dict.fromkeys(args, pool)
        )
        await app._wake_pool(owner.protocol, (woken.append,), cast("Any", seen))
    assert woken == ([mine] if wakes else [])
