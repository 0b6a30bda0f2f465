"""Checking, judging, rebuilding and keeping test sets: with a real chain, a real bus and the real sandbox."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from pydantic import SecretStr

from agorai_shared import cid as cids
from agorai_shared import unixfs
from agorai_shared.answering import commands_of
from agorai_shared.command import Commander, bus_of
from agorai_shared.errors import RemoteError
from agorai_shared.pool import Challenge, PoolDocument, Rule, Samples, Wrong, write_samples
from agorai_shared.pool_history import INLINE
from agorai_shared.pool_trainer import (
    Checked,
    CheckSamples,
    JudgeChallenge,
    Judged,
    KeepTest,
    KeptTest,
    PoolTrainer,
    RebuildVersion,
    TrainVersion,
)
from agorai_shared.rpc import Rpc
from agorai_shared.service import Host, Service, make_broker
from agorai_shared.settings import NodeSettings
from agorai_shared.testing import running_anvil, running_nats
from agorai_trainer.pooling.answering import PoolCommands, answering
from agorai_trainer.pooling.store import VersionKey
from agorai_trainer.sandbox import Sandbox

from .pool_ground import WINDOW, Ground, Node
from .pools import flipped, samples, small, tumours

pytestmark = pytest.mark.asyncio(loop_scope="session")
TOKEN = "node-token"
SGD = Rule(
    estimator="sklearn.SGDClassifier",
    hyperparameters={"loss": "log_loss"},
    scaler="standard",
    mode="incremental",
)


class World:
    """An owner's node that answers over the bus, and an open pool of 300 known samples."""

    def __init__(self, ground: Ground, node: Node, trainer: PoolTrainer, woken: list[int]) -> None:
        self.ground, self.node, self.trainer, self.woken = ground, node, trainer, woken
        self.document, rows = tumours()
        self.rows = rows
        self.test = write_samples(self.document, samples(rows[500:]))
        self.pool = 0

    async def keep(self, document: PoolDocument, test: bytes) -> KeptTest:
        return await self.trainer.keep_test(
            KeepTest(document=cids.of_raw(document.to_bytes()), test=self.node.seal(test))
        )

    async def begin(self) -> None:
        pool = self.document.model_copy(update={"rule": SGD})
        self.document = await self.node.described(pool, samples(self.rows[:300]))
        self.kept = await self.keep(self.document, self.test)
        self.pool = await self.ground.open(self.document, bytes.fromhex(self.kept.commitment))

    def file(self, given: Samples) -> bytes:
        return write_samples(self.document, given)

    async def served(self, data: bytes) -> bytes:
        """Have the owner's store hold a file, as if it had been fetched."""
        await self.node.store.put(data, pin=False)
        return data

    async def check(self, contribution: int, **changes: Any) -> Checked:
        command = CheckSamples(id=secrets.token_hex(16), contribution=contribution, **changes)
        return await self.trainer.check(command)

    async def judge(self, contribution: int, *, final: bool = False) -> Judged:
        return await self.trainer.judge(
            JudgeChallenge(id=secrets.token_hex(16), contribution=contribution, final=final)
        )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("pools")
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(running_nats(folder / "bus"))
        anvil = await stack.enter_async_context(running_anvil())
        rpc = await stack.enter_async_context(Rpc(anvil.url))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        ground = await Ground.laid(rpc, session)
        node = Node(ground, ground.owner, folder / "owner", sandbox)
        stack.callback(node.kept.close)
        settings = NodeSettings(bus_url=bus.url, node_token=SecretStr(TOKEN), port=0)
        broker = make_broker(settings, "test")
        router = commands_of(TOKEN)
        woken: list[int] = []
        commands = PoolCommands(node.reader, node.kept, node.jobs, woken.append)
        await stack.enter_async_context(answering(router, ground.owner, commands))
        await stack.enter_async_context(Host(settings, [Service("trainer", router)], broker).running())
        made = World(ground, node, PoolTrainer(Commander(bus_of(broker), ground.owner, TOKEN)), woken)
        await made.begin()
        yield made


async def test_a_test_set_is_kept_under_a_salt_before_anybody_is_told(world: World) -> None:
    kept = world.node.kept.test(bytes.fromhex(world.kept.commitment))
    assert kept is not None
    assert world.kept.samples == len(world.rows) - 500
    assert kept.digest == cids.digest_of(unixfs.cid_of(world.test))
    assert hashlib.sha256(kept.salt + kept.digest).hexdigest() == world.kept.commitment
    again = await world.keep(world.document, world.test)
    assert again.commitment != world.kept.commitment


async def test_a_pool_that_could_not_be_trained_or_measured_is_refused_before_it_is_opened(
    world: World,
) -> None:
    malignant = samples([cells for cells in world.rows[:300] if cells[-1] == "1"])
    cases = (
        (world.document, samples(world.rows[:300]), b"f0,f1\n1,2\n", "samples_header"),
        (world.document, malignant, world.test, "initial_class"),
        (
            world.document.model_copy(update={"rule": Rule(estimator="sklearn.Ridge", mode="anew")}),
            samples(world.rows[:300]),
            world.test,
            "rule_refused",
        ),
    )
    for document, initial, test, code in cases:
        described = await world.node.described(document, initial)
        with pytest.raises(RemoteError) as refusal:
            await world.keep(described, test)
        assert refusal.value.code == code
        assert refusal.value.remedy


async def test_wrong_labels_are_found_and_a_challenge_of_them_is_prepared_and_judged_right(
    world: World,
) -> None:
    rows = flipped(world.document, world.rows[300:360], list(range(0, 60, 5)))
    data = await world.served(world.file(samples(rows)))
    contribution = await world.ground.add(world.pool, 60, data)

    seen = await world.check(contribution)
    assert seen.samples == 60
    assert seen.proposal is None
    assert seen.not_applied == ()
    assert seen.suspected >= 6
    surest = seen.suspicions[0]
    assert (surest.reason, surest.row % 5) == ("label", 0)
    assert surest.correction is not None
    assert surest.correction.endswith(f",{surest.label}")

    staked = await world.check(contribution, stake=1.0)
    assert staked.proposal is not None
    document = world.node.store.of(bytes.fromhex(staked.proposal.digest))
    assert world.node.store.names[cids.of_raw(document)] == f"node: challenge of contribution {contribution}"
    challenge = Challenge.from_bytes(document)
    assert len(challenge.wrong) == staked.proposal.count
    assert challenge.corrected.count("\n") == staked.proposal.corrected + 1
    assert staked.proposal.document == (document.decode() if len(document) <= INLINE else "")
    assert not {one.row for one in challenge.wrong if one.row % 5}

    one = await world.check(contribution, rows=(surest.row,))
    assert one.proposal is not None
    assert one.proposal.count == 1
    innocent = next(row for row in range(60) if row not in {one.row for one in seen.suspicions})
    with pytest.raises(RemoteError, match=f"row {innocent}") as refusal:
        await world.check(contribution, rows=(surest.row, innocent))
    assert refusal.value.code == "row_not_suspected"

    await world.ground.challenge(contribution, document, staked.proposal.corrected, inline=False)
    judged = await world.judge(contribution)
    assert judged.right, judged.explanation
    await world.ground.send(world.ground.owner, world.ground.contract.answer(contribution, True))
    await world.ground.pass_time(WINDOW + 1)
    await world.ground.send(world.ground.adder, world.ground.contract.resolve(contribution))
    assert (await world.check(contribution)).samples == 60 - len(challenge.wrong)
    assert (await world.judge(contribution)).right  # as it was, though its samples are left out by now


async def test_a_false_challenge_and_one_that_is_none_are_not_right(world: World) -> None:
    data = world.file(samples(world.rows[360:366]))
    contribution = await world.ground.add(world.pool, 6, data, inline=True)
    with pytest.raises(RemoteError) as refusal:
        await world.judge(contribution)
    assert refusal.value.code == "challenge_absent"
    false = Challenge(wrong=(Wrong(row=1, reason="harmful"),)).to_bytes()
    await world.ground.challenge(contribution, false, inline=True)
    judged = await world.judge(contribution)
    assert not judged.right
    assert "Row 1" in judged.explanation

    other = await world.ground.add(world.pool, 6, world.file(samples(world.rows[366:372])), inline=True)
    await world.ground.challenge(other, false, 1, inline=True)
    assert "does not say what the chain says" in (await world.judge(other)).explanation


@pytest.mark.parametrize("final", [False, True])
async def test_a_challenge_with_a_number_that_nobody_could_pass_on_is_not_right(
    world: World, final: bool
) -> None:
    data = world.file(samples(world.rows[390:394]))
    contribution = await world.ground.add(world.pool, 4, data, inline=True)
    origin = b'{"contribution":1%030d,"row":0}' % 0
    document = b'{"type":"agorai/challenge/1","wrong":[{"row":0,"reason":"duplicate","origin":%s}]}' % origin
    await world.ground.challenge(contribution, document, count=1, inline=True)
    judged = await world.judge(contribution, final=final)
    assert not judged.right
    assert "does not say what the chain says" in judged.explanation


async def test_a_fault_that_nobody_foresaw_costs_no_voter_its_stake(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = world.file(samples(world.rows[394:398]))
    contribution = await world.ground.add(world.pool, 4, data, inline=True)
    false = Challenge(wrong=(Wrong(row=1, reason="harmful"),)).to_bytes()
    await world.ground.challenge(contribution, false, inline=True)

    async def fails(*_: object) -> Judged:
        raise TypeError("Integer exceeds 64-bit range")

    monkeypatch.setattr(world.node.jobs, "judge", fails)
    with pytest.raises(RemoteError, match="TypeError"):
        await world.judge(contribution)
    judged = await world.judge(contribution, final=True)
    assert not judged.right
    assert judged.explanation == "No rule bears it out here: TypeError."


async def test_what_cannot_be_read_is_wrong_as_a_whole(world: World) -> None:
    rubbish = await world.ground.add(world.pool, 3, b"no samples", inline=True)
    found = await world.check(rubbish, stake=1000.0)
    assert (found.samples, found.suspected) == (3, 3)
    assert found.proposal is not None
    named = Challenge.from_bytes(world.node.store.of(bytes.fromhex(found.proposal.digest)))
    assert [(one.row, one.reason) for one in named.wrong] == [(row, "unreadable") for row in range(3)]
    assert found.proposal.document == named.to_bytes().decode()
    assert (await world.check(rubbish)).proposal is None
    await world.ground.challenge(rubbish, named.to_bytes(), inline=True)
    assert (await world.judge(rubbish)).right


async def test_what_too_little_is_known_for_is_told(world: World) -> None:
    described, rows = small()
    document = await world.node.described(described, samples(rows))
    pool = await world.ground.open(document, b"\x01" * 32)
    data = write_samples(document, samples([*rows[:1], (600.0 / 7, "south", "flat", "yes")]))
    found = await world.check(await world.ground.add(pool, 2, data, inline=True))
    assert [one.reason for one in found.suspicions] == ["duplicate"]
    told = {one.reason: one.why for one in found.not_applied}
    assert told.keys() == {"near_duplicate", "unlike", "out_of_range", "label"}
    assert told["label"].startswith("60 known samples are measured, and it takes 99")


async def test_a_file_that_nobody_serves_is_waited_for_and_then_wrong(world: World) -> None:
    data = world.file(samples(world.rows[380:384]))
    contribution = await world.ground.add(world.pool, 4, data)
    with pytest.raises(RemoteError) as absent:
        await world.check(contribution)
    assert absent.value.code == "file_absent"
    assert absent.value.retryable
    found = await world.check(contribution, final=True, stake=1.0)
    assert found.proposal is not None
    assert found.proposal.count == 4

    hidden = Challenge(wrong=(Wrong(row=0, reason="unreadable"),)).to_bytes()
    await world.ground.challenge(contribution, hidden, inline=False)
    with pytest.raises(RemoteError) as absent:
        await world.judge(contribution)
    assert absent.value.code == "file_absent"
    assert not (await world.judge(contribution, final=True)).right
    await world.served(hidden)
    assert (await world.judge(contribution, final=True)).right
    await world.served(data)
    assert not (await world.judge(contribution)).right  # it can be had after all


async def test_a_file_that_was_divided_in_another_way_is_unreadable(world: World) -> None:
    data = world.file(samples(world.rows[384:388]))
    other = unixfs.cid_of(data, unixfs.UNIXFS_V0)
    digest = cids.digest_of(other)
    await world.ground._bound(world.ground.adder, world.pool, False, digest)
    call = world.ground.contract.add(world.pool, 4, digest, b"", b"\x01" * 32)
    await world.ground.send(world.ground.adder, call)
    _, contribution, _ = await world.ground.counts()
    world.node.store.files[cids.of_dag_pb_digest(digest)] = data
    found = await world.check(contribution)
    assert {one.reason for one in found.suspicions} == {"unreadable"}


async def test_a_version_is_wanted_only_by_a_rule_that_can_train(world: World) -> None:
    rule = Rule(estimator="sklearn.SGDClassifier", hyperparameters={"alpha": -1.0}, mode="anew")
    with pytest.raises(RemoteError) as refusal:
        await world.trainer.train(TrainVersion(pool=world.pool, rule=rule))
    assert refusal.value.code == "training_refused"
    assert world.woken == []
    bayes = Rule(estimator="sklearn.GaussianNB", mode="anew")
    assert (await world.trainer.train(TrainVersion(pool=world.pool, rule=bayes))).pool == world.pool
    assert world.node.kept.wanted(world.pool) == (bayes,)
    assert world.woken == [world.pool]
    settled = (await world.node.reader.files.history(world.pool)).settled
    world.node.kept.published(VersionKey(world.pool, len(settled), bayes))
    nothing_new = f"Nothing was accepted into pool {world.pool} since .*: that version is published"
    with pytest.raises(RemoteError, match=nothing_new):
        await world.trainer.train(TrainVersion(pool=world.pool, rule=bayes))
    assert (world.woken, world.node.kept.wanted(world.pool)) == ([world.pool], ())
    with pytest.raises(RemoteError) as absent:
        await world.trainer.train(TrainVersion(pool=world.pool + 99))
    assert absent.value.code == "pool_absent"
    with pytest.raises(RemoteError) as absent:
        await world.trainer.rebuild(RebuildVersion(id=secrets.token_hex(16), version=1))
    assert absent.value.code == "version_absent"
