"""Files that strangers withhold or spoil: verdicts are given and test sets revealed all the same, and soon."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from agorai_shared import cid as cids
from agorai_shared import digest_files, unixfs
from agorai_shared.bindings.data_pool import PoolState
from agorai_shared.bindings.registry import Registry
from agorai_shared.digest_files import FileAbsentError
from agorai_shared.errors import AgoraiError
from agorai_shared.pool import (
    Challenge,
    Origin,
    PoolBinding,
    PoolDocument,
    Rule,
    Samples,
    Snapshot,
    Taken,
    VersionRecord,
    Wrong,
    write_samples,
)
from agorai_shared.pool_trainer import CheckSamples, JudgeChallenge, Judged, RebuildVersion, Rebuilt
from agorai_shared.reconciler import Reconciler, Scope
from agorai_shared.rpc import Rpc
from agorai_shared.testing import running_anvil
from agorai_shared.trail import DeadLetter, Step
from agorai_shared.types import Address
from agorai_trainer.pooling import answering, decide, rules
from agorai_trainer.pooling.answering import PoolCommands
from agorai_trainer.pooling.learning import learn
from agorai_trainer.pooling.sandboxed import PoolSandbox
from agorai_trainer.sandbox import Sandbox
from agorai_trainer.tasks import Limits
from agorai_trainer.verdicts import MemoryLimitError, TimeLimitError

from .pool_ground import NOWHERE, SALT, WINDOW, Ground, Node
from .pools import Rows, samples
from .test_pooling_versions import Owner

pytestmark = pytest.mark.asyncio(loop_scope="session")
LABEL = Challenge(wrong=(Wrong(row=0, reason="label", label="1"),)).to_bytes()


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


@pytest_asyncio.fixture(loop_scope="session")
async def voter(ground: Ground, sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(ground, ground.checker, tmp_path / "voter", sandbox)
    yield made
    made.kept.close()


def commands(node: Node) -> PoolCommands:
    return PoolCommands(node.reader, node.kept, node.jobs, lambda _: None)


async def judged(node: Node, contribution: int, *, final: bool = True) -> Judged:
    command = JudgeChallenge(id=secrets.token_hex(16), contribution=contribution, final=final)
    return await commands(node).judge(command)


async def challenged(owner: Owner, pool: int) -> int:
    """Add ten samples whose first is called wrong."""
    contribution = await owner.ground.add(pool, 10, owner.file(60, 70), inline=True)
    await owner.ground.challenge(contribution, LABEL, inline=True)
    return contribution


async def absent(ground: Ground, pool: int) -> int:
    """Add one sample that nobody has."""
    digest = secrets.token_bytes(32)
    await ground._bound(ground.adder, pool, False, digest)
    await ground.send(ground.adder, ground.contract.add(pool, 1, digest, b"", SALT))
    return (await ground.counts())[1]


async def moves(ground: Ground, account: str, gateway: str) -> None:
    registry = Registry(ground.deployment.contracts["Registry"])
    await ground.send(cast("Any", account), registry.leave())
    await ground.send(cast("Any", account), registry.join(1, bytes(32), b"\x07" * 32, gateway))


@asynccontextmanager
async def hanging(ground: Ground) -> AsyncIterator[list[str]]:
    """Have the gateway of who adds take all questions and answer none; gives those asked."""
    asked: list[str] = []
    ended = asyncio.Event()

    async def get(request: web.Request) -> web.Response:
        asked.append(request.path)
        await ended.wait()
        raise web.HTTPNotFound

    application = web.Application()
    application.router.add_get("/{tail:.*}", get)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        await moves(ground, ground.adder, f"http://127.0.0.1:{runner.addresses[0][1]}")
        yield asked
    finally:
        ended.set()
        await moves(ground, ground.adder, NOWHERE)
        await runner.cleanup()


# --------------------------------------------------------------------------------------------- verdicts


def hidden(document: PoolDocument, _: bytes) -> tuple[Any, list[bytes]]:
    return document.model_copy(update={"name": "hidden"}), []


def without_samples(document: PoolDocument, _: bytes) -> tuple[Any, list[bytes]]:
    named = document.model_copy(update={"initial_samples": unixfs.cid_of(b"nobody has it")})
    return named, [named.to_bytes()]


def of_junk(document: PoolDocument, _: bytes) -> tuple[Any, list[bytes]]:
    named = document.model_copy(update={"initial_samples": unixfs.cid_of(b"no csv")})
    return named, [named.to_bytes(), b"no csv"]


class Junk:
    def to_bytes(self) -> bytes:
        return b"junk"


def junk(_: PoolDocument, initial: bytes) -> tuple[Any, list[bytes]]:
    return Junk(), [b"junk", initial]


@pytest.mark.parametrize(
    ("spoil", "waits"), [(hidden, True), (without_samples, True), (of_junk, False), (junk, False)]
)
async def test_what_cannot_be_looked_at_in_the_end_is_not_right(
    owner: Owner, voter: Node, spoil: Callable[..., tuple[Any, list[bytes]]], waits: bool
) -> None:
    document, served = spoil(owner.document, owner.file(0, 60))
    for one in served:
        await voter.store.put(one)
    contribution = await challenged(owner, await owner.ground.open(document, b"\x09" * 32))
    with pytest.raises(AgoraiError) as refusal:
        await judged(voter, contribution, final=False)
    assert refusal.value.retryable is waits
    found = await judged(voter, contribution)
    assert not found.right
    assert found.explanation == f"No rule bears it out here: {refusal.value.message}"


@pytest.mark.parametrize(
    ("limits", "error"),
    [(Limits(wall_s=0.01), TimeLimitError), (Limits(memory_mib=16), MemoryLimitError)],
)
async def test_a_job_beyond_its_limits_gives_a_verdict_in_the_end(
    owner: Owner, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, limits: Limits, error: type[AgoraiError]
) -> None:
    class Small:
        async def run(self, *work: Any) -> Any:
            return await sandbox.run(*work, limits=limits)

    document = await owner.node.described(owner.document, samples(owner.rows[:60] * 1000))
    contribution = await challenged(owner, await owner.ground.open(document, b"\x09" * 32))
    monkeypatch.setattr(owner.node, "jobs", PoolSandbox(cast("Any", Small())))
    with pytest.raises(error) as limit:
        await judged(owner.node, contribution, final=False)
    found = await judged(owner.node, contribution)
    assert not found.right
    assert limit.value.message in found.explanation


async def test_an_owner_that_lost_its_test_set_judges_without_in_the_end(owner: Owner) -> None:
    pool = await owner.open()
    rows = [*owner.rows[60:65], owner.rows[60]]
    contribution = await owner.ground.add(pool, 6, write_samples(owner.document, samples(rows)), inline=True)
    origin = Origin(contribution=contribution, row=0)
    right = Challenge(wrong=(Wrong(row=5, reason="duplicate", origin=origin),)).to_bytes()
    await owner.ground.challenge(contribution, right, inline=True)
    owner.node.vault.sealed.clear()
    found = await judged(owner.node, contribution)
    assert found.right, found.explanation


@pytest.mark.parametrize(("said", "right"), [(1, True), (2, False)])
async def test_corrected_samples_are_as_many_as_the_chain_says(owner: Owner, said: int, right: bool) -> None:
    pool = await owner.open()
    rows = [*owner.rows[60:62], *owner.rows[60:62]]
    contribution = await owner.ground.add(pool, 4, write_samples(owner.document, samples(rows)), inline=True)
    challenge = Challenge(
        wrong=tuple(
            Wrong(row=2 + row, reason="duplicate", origin=Origin(contribution=contribution, row=row))
            for row in range(2)
        ),
        corrected=owner.file(80, 81).decode(),
    )
    await owner.ground.challenge(contribution, challenge.to_bytes(), said, inline=True)
    found = await judged(owner.node, contribution)
    assert found.right is right, found.explanation
    assert right or "1 corrected samples" in found.explanation


# --------------------------------------------------------------------------------------------- fetching


async def test_nobody_is_asked_for_what_is_left_out_as_a_whole(owner: Owner) -> None:
    ground, pool = owner.ground, await owner.open()
    gone = [await absent(ground, pool) for _ in range(2)]
    unreadable = Challenge(wrong=(Wrong(row=0, reason="unreadable"),)).to_bytes()
    for one in gone:
        await ground.challenge(one, unreadable, inline=False)
        await ground.send(ground.owner, ground.contract.answer(one, True))
    await ground.pass_time(WINDOW + 1)
    for one in gone:
        await ground.send(ground.owner, ground.contract.resolve(one))
    honest = await ground.add(pool, 3, owner.file(60, 63), inline=True)
    async with hanging(ground) as asked:
        checked = await commands(owner.node).check(
            CheckSamples(id=secrets.token_hex(16), contribution=honest)
        )
        assert checked.samples == 3
        await ground.settle(honest)
        assert await owner.steps(pool) == ["Prepare", "Send"]
        version, record, snapshot = (await owner.versions(pool))[-1]
        rebuilt = await owner.rebuilt(version.version)
        assert asked == []
    assert [(one.contribution, one.left_out) for one in snapshot.taken] == [
        *((one, (0,)) for one in gone), (honest, ())
    ]  # fmt: skip
    assert record.batches == (60, 0, 0, 3)
    assert (rebuilt.same, rebuilt.why, rebuilt.notes) == (True, "", ())


async def test_files_that_hang_hold_up_a_final_check_only_so_long_and_once(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground, pool = owner.ground, await owner.open()
    for _ in range(digest_files.AT_ONCE + 1):
        await absent(ground, pool)
    honest = await ground.add(pool, 3, owner.file(60, 63), inline=True)

    loop, ahead = asyncio.get_running_loop(), 0.0
    clock = loop.time
    monkeypatch.setattr(loop, "time", lambda: clock() + ahead)

    async def checked(asking: int) -> int:
        """Check, and let the time be over once so many were asked."""
        nonlocal ahead
        command = CheckSamples(id=secrets.token_hex(16), contribution=honest, final=True)
        checking = asyncio.create_task(commands(owner.node).check(command))
        while len(asked) < asking and not checking.done():  # noqa: ASYNC110 - a list tells nobody
            await asyncio.sleep(0)
        ahead += answering.BUDGET_S
        return (await checking).samples

    async with hanging(ground) as asked:
        assert await checked(digest_files.AT_ONCE) == 3
        assert len(asked) == digest_files.AT_ONCE  # together, and no more when the time was over
        assert await checked(digest_files.AT_ONCE + 1) == 3
        assert len(asked) == digest_files.AT_ONCE + 1  # those that did not come are not asked for again
        monkeypatch.setattr(digest_files, "FETCH_S", 0.1)
        owner.node.reader.files._absent.clear()
        with pytest.raises(FileAbsentError, match=r"within 0|not have|answer"):
            await commands(owner.node).check(CheckSamples(id=secrets.token_hex(16), contribution=honest))


async def test_absences_are_forgotten_and_own_files_found_at_once(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, data = owner.node.reader.files, b"a file"
    digest = cids.digest_of(unixfs.cid_of(data))
    asked: list[str] = []
    actor = files.market.actor

    async def seen(account: Any) -> Any:
        asked.append(account)
        return await actor(account)

    monkeypatch.setattr(files.market, "actor", seen)
    monkeypatch.setattr(digest_files, "AGAIN_S", digest_files.ABSENT_S)
    for expected in (1, 1):
        with pytest.raises(FileAbsentError):
            await files.file(digest, "file", [owner.ground.adder])
        assert len(asked) == expected
    monkeypatch.setattr(digest_files, "ABSENT_S", 0.0)
    files._absent.clear()
    for expected in (2, 3):
        with pytest.raises(FileAbsentError):
            await files.file(digest, "file", [owner.ground.adder])
        assert len(asked) == expected
    monkeypatch.undo()
    with pytest.raises(FileAbsentError):
        await files.file(digest, "file", [owner.ground.adder])
    await owner.node.store.put(data)
    assert await files.file(digest, "file", [owner.ground.adder]) == data


class Untold:
    """Hears of steps, and of nothing that was given up on."""

    service = "trainer"
    address = Address("0x" + "0" * 40)

    def step(self, told: Step) -> None:
        pass

    async def dead(self, letter: DeadLetter, contract: str) -> None:
        raise AssertionError(letter, contract)


async def test_a_test_set_is_revealed_in_time_though_files_hang(owner: Owner) -> None:
    ground, pool = owner.ground, await owner.open()
    await owner.steps(pool)
    await ground.settle(*[await absent(ground, pool) for _ in range(2)])

    scope, trail = Scope(31337, "DataPool", ground.deployment.data_pool), Untold()
    versions: Reconciler[Any, Any] = Reconciler(owner.protocol, scope, trail, clock=owner.node.reader.now)
    reveals: Reconciler[Any, Any] = Reconciler(owner.revealing, scope, trail, clock=owner.node.reader.now)
    state = await owner.protocol.read(pool)
    assert isinstance(owner.protocol.next_step(state, await ground.now()), decide.Keep)
    async with hanging(ground) as asked, versions.running(), reveals.running():
        async with asyncio.timeout(10):
            while not asked:  # noqa: ASYNC110 - a gateway tells nobody
                await asyncio.sleep(0.02)
            await ground.pass_time(3600)
            reveals.tick(await ground.now())
            reveals.wake(pool)
            while (await ground.pool(pool)).state != PoolState.CLOSED:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert owner.node.vault.calls == ["publish", "close"]
        assert len(asked) <= 2  # the other reconciler is where it was


# ------------------------------------------------------------------------------------------- rebuilding


class Publisher:
    """Publishes versions of a pool by hand; the pool accepted ten samples, and then five of ten."""

    def __init__(self, owner: Owner) -> None:
        self.owner, self.ground, self.document = owner, owner.ground, owner.document

    async def begin(self) -> None:
        owner, ground = self.owner, self.ground
        self.pool = await owner.open()
        self.files = [owner.file(60, 70), owner.file(70, 80), owner.file(80, 90)]
        self.first, self.second = [
            await ground.add(self.pool, 10, file, inline=True) for file in self.files[:2]
        ]
        challenge = Challenge(wrong=tuple(Wrong(row=row, reason="other") for row in range(5))).to_bytes()
        await ground.challenge(self.second, challenge, inline=True)
        await ground.send(ground.owner, ground.contract.answer(self.second, True))
        await ground.pass_time(WINDOW + 1)
        await ground.send(ground.owner, ground.contract.resolve(self.second))
        await ground.settle(self.first, self.second)
        self.pending = await ground.add(self.pool, 10, self.files[2], inline=True)

    def taken(self, contribution: int, out: range = range(0), **changes: Any) -> Taken:
        file = self.files[contribution - self.first]
        digest = cids.digest_of(unixfs.cid_of(file)).hex()
        taken = Taken(contribution=contribution, digest=digest, count=10, left_out=tuple(out))
        return taken.model_copy(update=changes)

    async def published(
        self, *parts: tuple[Taken, Rows], rule: Rule | None = None, accuracy: float | None = None
    ) -> Rebuilt:
        store, ground = self.owner.node.store, self.ground
        by_rule = rules.ruled(self.document, rule or self.document.rule)
        learnt: list[Samples] = [samples(rows) for _, rows in parts]
        snapshot = Snapshot(
            initial_samples=self.document.initial_samples, taken=tuple(taken for taken, _ in parts)
        ).to_bytes()
        model = learn(by_rule, samples(self.owner.rows[:60]), learnt)
        binding = PoolBinding(chain_id=31337, contract=ground.deployment.data_pool, pool=self.pool)
        record = VersionRecord(
            pool=binding,
            predecessor=0,
            document=cids.of_raw(self.document.to_bytes()),
            snapshot=unixfs.cid_of(snapshot),
            model=unixfs.cid_of(model),
            format=rules.format_of(by_rule.rule).value,
            rule=by_rule.rule,
            batches=(60, *map(len, learnt)),
            versions=rules.versions(),
            accuracy=accuracy,
        ).to_bytes()
        named, trained, listed = [cids.digest_of(await store.put(data)) for data in (record, model, snapshot)]
        shown = round((accuracy or 0) * 10_000)
        call = ground.contract.publish(self.pool, 0, named, trained, listed, shown)
        await ground.send(ground.adder, call)
        _, _, version = await ground.counts()
        return await commands(self.owner.node).rebuild(
            RebuildVersion(id=secrets.token_hex(16), version=version)
        )


async def test_a_version_is_held_against_what_the_pool_accepted(owner: Owner) -> None:
    made, rows = Publisher(owner), owner.rows
    await made.begin()
    good = made.taken(made.first), rows[60:70]
    half = made.taken(made.second, range(5)), rows[75:80]
    found = await made.published(good, half)
    assert (found.same, found.why, found.notes) == (True, "", ())
    assert (await made.published(good)).same  # when only the first was accepted

    nobody = Taken(contribution=made.pending + 1, digest="ab" * 32, count=3, left_out=(0, 1, 2))
    lies: list[tuple[str, list[tuple[Taken, Rows]]]] = [
        (f"leaves out other samples of contribution {made.second}",
         [good, (made.taken(made.second), rows[70:80])]),
        (f"contribution {made.second} where the pool accepted contribution {made.first}", [half]),
        (f"leaves out other samples of contribution {made.first}",
         [(made.taken(made.first, range(9)), rows[69:70])]),
        ("where the pool accepted no further one",
         [good, half, (made.taken(made.pending), rows[80:90])]),
        ("where the pool accepted no further one", [good, half, (nobody, [])]),
        (f"contribution {made.second} where", [half, good]),
        (f"another digest, count or origin of contribution {made.first}",
         [(made.taken(made.first, range(10), digest="ab" * 32), [])]),
        (f"another digest, count or origin of contribution {made.first}",
         [(made.taken(made.first, range(9), count=9), [])]),
    ]  # fmt: skip
    for why, parts in lies:
        found = await made.published(*parts)
        assert not found.same
        assert why in found.why

    found = await made.published((made.taken(made.first, range(10)), []), half)
    assert (found.same, found.why) == (True, "")
    assert f"contribution {made.first}" in found.notes[0]
    found = await made.published(good, rule=Rule(estimator="sklearn.GaussianNB", mode="anew"))
    assert (found.same, found.why) == (True, "")
    assert "another rule" in found.notes[0]


async def test_a_false_accuracy_is_told_once_the_test_set_is_revealed(owner: Owner) -> None:
    made = Publisher(owner)
    await made.begin()
    assert (await made.published(accuracy=1.0)).why == ""
    await owner.ground.pass_time(3600 + 600)
    close = await owner.reveals(made.pool)
    assert close is not None
    await owner.revealing.perform(made.pool, close, "once")
    found = await made.published(accuracy=1.0)
    assert found.same
    assert found.measured is not None
    assert "not 100.00%" in found.why
    for accuracy in (found.measured, found.measured + 0.00009):
        assert (await made.published(accuracy=accuracy)).why == ""
