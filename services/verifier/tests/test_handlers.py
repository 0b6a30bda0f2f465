"""How a voter votes when something cannot be had: against who had to serve it, and not at all for its own faults."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import pytest

from agorai_shared import cid, dag_pb, package, sealing, unixfs
from agorai_shared.digest_files import FileAbsentError
from agorai_shared.documents import DocumentMalformedError, Metadata, Quality, Schema, SchemaField
from agorai_shared.errors import AgoraiError, RemoteError, UnavailableError
from agorai_shared.market import NotAMemberError
from agorai_shared.peers import NoPeerHasError
from agorai_shared.pool_trainer import JudgeChallenge, Judged
from agorai_shared.task_reward import Audited, AuditFinding
from agorai_shared.trainer import Compare, Comparison, Failure
from agorai_shared.types import Address, CaseId, TradeId
from agorai_shared.vault import CaseFinding, PlaintextCutOffError, PlaintextTooLargeError
from agorai_shared.verifier import Report
from agorai_verifier.handlers import (
    GONE,
    GONE_DATA,
    THEIR_FAULT,
    CaseProtocol,
    DataInspector,
    Inspector,
    JudgementOverdueError,
    OfferAbsentError,
    PayoutUnknownError,
    TransferAbsentError,
    VerificationAbsentError,
)
from agorai_verifier.inspecting import CannotTellError, fault, fault_of_set
from agorai_verifier.votes import Votes

ACCUSER, ACCUSED = Address("0xAccuser"), Address("0xAccused")
CASE = CaseId(1)
POOLS = Address("0xPools")
TASKS = Address("0xTasks")
TRANSFERS = Address("0xTransfers")
AWAY = UnavailableError("nobody serves it")
TOO_SLOW = CannotTellError(cast("Any", SimpleNamespace(message="It took too long.")))


@pytest.fixture
def votes(tmp_path: Path) -> Iterator[Votes]:
    kept = Votes(tmp_path, 1, "0xPanel")
    yield kept
    kept.close()


def protocol(
    votes: Votes,
    found: Report | AgoraiError | dict[str, bool],
    blamed: Address | None = None,
    chosen: tuple[int, ...] = (),
) -> CaseProtocol:
    """A voter to whose vault and inspector the given things happen; of sets, to which of them."""

    async def judge(_case: CaseId, *, final: bool) -> CaseFinding:
        return CaseFinding(trade=7, blamed=blamed, why="as its message shows", chosen=chosen)

    async def inspect(_trade: object, _giver: object, source: str, rule: object = fault) -> Report:
        if isinstance(found, AgoraiError):
            raise found
        if isinstance(found, Report):
            return found
        assert rule is fault_of_set
        return Report(good=found[source], why="it is none")

    async def read(_call: object) -> tuple[Any]:
        return (SimpleNamespace(accused=ACCUSED, opener="0xExchange"),)

    return CaseProtocol(
        market=cast("Any", SimpleNamespace(chain=SimpleNamespace(read=read))),
        panel=cast("Any", SimpleNamespace(case_of=lambda case: case)),
        exchange=cast("Any", None),
        me=Address("0xVoter"),
        vault=cast("Any", SimpleNamespace(judge=judge)),
        inspector=cast("Any", SimpleNamespace(inspect=inspect)),
        votes=votes,
        pools=POOLS,
        trainer=cast("Any", None),
        tasks=TASKS,
        reward=cast("Any", None),
        data=cast("Any", SimpleNamespace(transfers=TRANSFERS)),
    )


def remote(code: str) -> RemoteError:
    return RemoteError({"title": code, "detail": "it failed"})


@pytest.mark.parametrize("good", [True, False])
async def test_the_vote_is_what_the_inspection_found(votes: Votes, good: bool) -> None:
    await protocol(votes, Report(good=good, why="so it is"))._judge(CASE, final=False)
    vote = votes.get(CASE)
    assert vote is not None
    assert (vote.confirms, vote.why) == (good, "so it is")


@pytest.mark.parametrize(
    ("bad", "confirms", "why"),
    [(None, True, ""), (1, False, "of set 1, it is none"), (4, False, "of set 4, it is none")],
)
async def test_the_accused_is_confirmed_if_each_chosen_set_is_good(
    votes: Votes, bad: int | None, confirms: bool, why: str
) -> None:
    found = {f"/vault/cases/1/sets/{index}": index != bad for index in (1, 2, 4)}
    await protocol(votes, found, chosen=(1, 2, 4))._judge(CASE, final=False)
    vote = votes.get(CASE)
    assert vote is not None
    assert (vote.confirms, vote.why) == (confirms, why)


@pytest.mark.parametrize(("blamed", "confirms"), [(ACCUSER, True), (ACCUSED, False)])
async def test_who_is_to_blame_by_the_transcript_loses(votes: Votes, blamed: Address, confirms: bool) -> None:
    await protocol(votes, AWAY, blamed)._judge(CASE, final=False)
    vote = votes.get(CASE)
    assert vote is not None
    assert vote.confirms is confirms


@pytest.mark.parametrize(
    ("error", "confirms"),
    [
        (VerificationAbsentError(7, AWAY), True),  # the accuser's to serve
        (OfferAbsentError(3, AWAY), False),
        (TOO_SLOW, False),  # else who makes the model could make every voter silent
        (remote("no_peer_has"), False),
        (remote("plaintext_cut_off"), False),
        (remote("package_too_slow"), False),
        (remote("plaintext_too_large"), False),  # how large it is, who makes it decides
    ],
)
async def test_what_nobody_serves_counts_against_who_had_to_serve_it_once_nobody_waits(
    votes: Votes, error: AgoraiError, confirms: bool
) -> None:
    with pytest.raises(type(error)):
        await protocol(votes, error)._judge(CASE, final=False)
    assert votes.get(CASE) is None
    await protocol(votes, error)._judge(CASE, final=True)
    vote = votes.get(CASE)
    assert vote is not None
    assert vote.confirms is confirms


@pytest.mark.parametrize(
    "error",
    [
        remote("service_unreachable"),
        remote("sandbox_lost"),
        remote("content_not_found"),  # the data, which this node had
        remote("store_unreachable"),
    ],
)
async def test_what_a_voters_own_node_cannot_do_makes_no_vote(votes: Votes, error: AgoraiError) -> None:
    with pytest.raises(type(error)):
        await protocol(votes, error)._judge(CASE, final=True)
    assert votes.get(CASE) is None


# ------------------------------------------------------------------------------------- about samples of a pool


class PoolsCase:
    """A chain with a case about contribution 9, which is committed to until `deadline`; it is 1,000 now."""

    deployment = SimpleNamespace(chain_id=1)

    def __init__(self, deadline: int = 2_000) -> None:
        self.chain = self
        self.deadline = deadline

    async def read(self, call: object) -> tuple[Any]:
        if call == "config":
            return (SimpleNamespace(commit_window=300),)
        return (SimpleNamespace(opener=POOLS, item=9, deadline=self.deadline, accused=ACCUSED),)


class At1000(CaseProtocol):
    """A voter whose clock stands still."""

    async def now(self) -> int:
        return 1_000


class Trainer:
    """One that comes to a judgement, fails, or hangs."""

    def __init__(self, found: bool | AgoraiError | None) -> None:
        self.found = found
        self.asked: list[JudgeChallenge] = []

    async def judge(self, command: JudgeChallenge) -> Judged:
        self.asked.append(command)
        if self.found is None:
            await asyncio.Event().wait()
        if isinstance(self.found, AgoraiError):
            raise self.found
        return Judged(right=bool(self.found), explanation="as the rules say")


def of_pools(votes: Votes, trainer: Trainer, deadline: int = 2_000) -> CaseProtocol:
    """A voter in a case about samples, whose vault knows nothing of it."""
    panel = SimpleNamespace(address="0xPanel", case_of=lambda case: case, config=lambda: "config")
    absent = dict.fromkeys(("exchange", "vault", "inspector", "reward"), cast("Any", None))
    return At1000(
        market=cast("Any", PoolsCase(deadline)),
        panel=cast("Any", panel),
        me=Address("0xVoter"),
        votes=votes,
        pools=POOLS,
        trainer=cast("Any", trainer),
        tasks=TASKS,
        data=cast("Any", SimpleNamespace(transfers=TRANSFERS)),
        **absent,
    )


@pytest.mark.parametrize("right", [True, False])
async def test_samples_are_confirmed_where_the_challenge_is_not_right(votes: Votes, right: bool) -> None:
    trainer = Trainer(right)
    await of_pools(votes, trainer)._judge(CASE, final=False)
    vote = votes.get(CASE)
    assert vote is not None
    assert (vote.confirms, vote.why) == (not right, "as the rules say")
    assert [(one.contribution, one.final) for one in trainer.asked] == [(9, False)]


@pytest.mark.parametrize("final", [True, False])
async def test_samples_that_a_voters_node_cannot_judge_bring_no_vote(votes: Votes, final: bool) -> None:
    trainer = Trainer(remote("file_absent"))
    with pytest.raises(RemoteError):
        await of_pools(votes, trainer)._judge(CASE, final=final)
    assert votes.get(CASE) is None
    assert trainer.asked[0].final is final


@pytest.mark.parametrize(("final", "deadline"), [(False, 1_101), (True, 1_006)])
async def test_a_trainer_that_hangs_does_not_keep_a_voter_from_trying_otherwise(
    votes: Votes, final: bool, deadline: int
) -> None:
    """There is a second left: until the last third of the time to commit, or until the margin before its end."""
    trainer = Trainer(None)
    with pytest.raises(JudgementOverdueError):
        await of_pools(votes, trainer, deadline)._judge(CASE, final=final)
    assert votes.get(CASE) is None
    again = Trainer(True)
    await of_pools(votes, again, deadline)._judge(CASE, final=not final)
    assert again.asked[0].id != trainer.asked[0].id  # other work, which is not joined to what hangs


class Reward:
    """A reward service that has audited a payout, or not yet; it knows what the chain proves."""

    def __init__(
        self, verdict: Literal["right", "wrong", "unknown"], by_chain: Literal["right", "wrong"]
    ) -> None:
        self.verdict, self.by_chain = verdict, by_chain

    async def audit(self, _task: int, *, withheld: bool = False) -> Audited:
        if withheld and self.verdict == "unknown":
            return await Reward(self.by_chain, self.by_chain).audit(_task)
        texts = {"right": [], "wrong": ["Anna is due 3."], "unknown": ["A model is not served."]}
        found = [AuditFinding(kind="noted", text="A copy."), *(
            AuditFinding(kind="wrong", text=text) for text in texts[self.verdict]
        )]  # fmt: skip
        return Audited(verdict=self.verdict, findings=tuple(found), rows=None, total="3", subtasks=())


def of_tasks(
    votes: Votes, verdict: Literal["right", "wrong", "unknown"], by_chain: Literal["right", "wrong"] = "wrong"
) -> CaseProtocol:
    return replace(
        of_pools(votes, cast("Any", None)),
        pools=Address("0xOthers"),
        tasks=POOLS,
        reward=cast("Any", Reward(verdict, by_chain)),
    )


@pytest.mark.parametrize(("verdict", "why"), [("right", ""), ("wrong", "Anna is due 3.")])
async def test_a_payout_is_confirmed_where_recomputing_gives_the_same(
    votes: Votes, verdict: Literal["right", "wrong"], why: str
) -> None:
    await of_tasks(votes, verdict)._judge(CASE, final=False)
    vote = votes.get(CASE)
    assert vote is not None
    assert (vote.confirms, vote.why) == (verdict == "right", why)


@pytest.mark.parametrize("by_chain", ["right", "wrong"])
async def test_a_payout_that_cannot_be_recomputed_is_waited_for_and_in_the_end_judged_by_the_chain(
    votes: Votes, by_chain: Literal["right", "wrong"]
) -> None:
    protocol = of_tasks(votes, "unknown", by_chain)
    with pytest.raises(PayoutUnknownError, match="not served"):
        await protocol._judge(CASE, final=False)
    assert votes.get(CASE) is None
    await protocol._judge(CASE, final=True)
    vote = votes.get(CASE)
    assert vote is not None
    assert vote.confirms == (by_chain == "right")


# --------------------------------------------------------------------------------- about the data of a transfer


def of_transfers(votes: Votes, found: Report | AgoraiError, deadline: int = 2_000) -> CaseProtocol:
    """A voter in a case about a transfer, to whose inspection this happens."""

    async def inspect(transfer: int, source: str) -> Report:
        assert (transfer, source) == (9, "/vault/cases/1/data")
        if isinstance(found, AgoraiError):
            raise found
        return found

    return replace(
        of_pools(votes, cast("Any", None), deadline),
        pools=Address("0xOthers"),
        data=cast("Any", SimpleNamespace(transfers=POOLS, inspect=inspect)),
    )


@pytest.mark.parametrize("good", [True, False])
async def test_a_provider_is_confirmed_where_the_data_are_as_their_schema_says(
    votes: Votes, good: bool
) -> None:
    await of_transfers(votes, Report(good=good, why="as it is"))._judge(CASE, final=False)
    vote = votes.get(CASE)
    assert vote is not None
    assert (vote.confirms, vote.why) == (good, "as it is")


@pytest.mark.parametrize(
    "error",
    [
        FileAbsentError("schema", bytes(32), AWAY),
        TOO_SLOW,
        *(remote(code) for code in sorted(GONE_DATA)),
    ],
    ids=lambda error: error.code,
)
async def test_what_a_provider_can_withhold_is_waited_for_and_counts_against_it_in_the_end(
    votes: Votes, error: AgoraiError
) -> None:
    with pytest.raises(type(error)):
        await of_transfers(votes, error)._judge(CASE, final=False)
    assert votes.get(CASE) is None
    await of_transfers(votes, error)._judge(CASE, final=True)
    vote = votes.get(CASE)
    assert vote is not None
    assert not vote.confirms


@pytest.mark.parametrize(
    "error",
    [
        remote("service_unreachable"), remote("sandbox_lost"), remote("content_not_found"),
        remote("store_unreachable"), TransferAbsentError(9),
    ],
    ids=lambda error: error.code,
)  # fmt: skip
async def test_what_a_voters_own_node_cannot_do_about_data_makes_no_vote(
    votes: Votes, error: AgoraiError
) -> None:
    for final in (False, True):
        with pytest.raises(type(error)):
            await of_transfers(votes, error)._judge(CASE, final=final)
    assert votes.get(CASE) is None


@pytest.mark.parametrize(("final", "deadline"), [(False, 1_101), (True, 1_011)])
async def test_data_that_come_too_slowly_to_be_judged_in_time_count_against_their_provider_in_the_end(
    votes: Votes, final: bool, deadline: int
) -> None:
    """Else who serves them slowly could make every voter silent; there is a second left, as above."""
    voter = of_transfers(votes, AWAY, deadline)
    endless = SimpleNamespace(transfers=POOLS, inspect=lambda *_: asyncio.Event().wait())
    voter = replace(voter, data=cast("Any", endless))
    if final:
        await voter._judge(CASE, final=True)
    else:
        with pytest.raises(JudgementOverdueError):
            await voter._judge(CASE, final=False)
    vote = votes.get(CASE)
    assert (vote is not None and not vote.confirms) == final


DESCRIBED = Schema(
    name="lots", format="csv", rows=1, target=None, task=None,
    fields=(SchemaField(name="a", type="integer", missing=0, distinct=1),),
    quality=Quality(
        size=1, rows=1, missing_share=0, duplicate_rows=0, duplicate_share=0, class_balance=None,
        label_noise=None, not_measured={"class_balance": "no", "label_noise": "no"}, score=1,
    ),
)  # fmt: skip

WRITTEN = b"\n" + DESCRIBED.to_bytes()
"""As its author wrote it, which is not as this node would."""


def data_inspector(
    found: Comparison | AgoraiError, schema: Schema | AgoraiError = DESCRIBED
) -> DataInspector:
    """One to whose trainer and files these things happen."""

    async def compare(command: Compare) -> Comparison:
        assert (command.source, command.described) == ("/vault/cases/1/data", cid.of_raw(WRITTEN))
        if isinstance(found, AgoraiError):
            raise found
        return found

    async def read(_kind: object, digest: bytes, _what: str, owners: list[Address]) -> Schema:
        assert (digest, owners) == (b"s" * 32, [ACCUSED, ACCUSER])
        if isinstance(schema, AgoraiError):
            raise schema
        return schema

    async def file(digest: bytes, _what: str, owners: list[Address]) -> bytes:
        assert (digest, owners) == (b"s" * 32, [ACCUSED, ACCUSER])
        return WRITTEN

    async def events(_contract: object, _kind: object, _topic: str) -> list[Any]:
        deal = SimpleNamespace(data_provider=ACCUSED, data_consumer=ACCUSER, ipfs_schema_address=b"s" * 32)
        return [(SimpleNamespace(deal=deal), 1)]

    async def put(document: bytes, *, pin: bool) -> str:
        assert not pin
        return cid.of_raw(document)

    market = SimpleNamespace(events=events, store=SimpleNamespace(put=put))
    files = SimpleNamespace(market=market, read=read, file=file)
    return DataInspector(cast("Any", files), TRANSFERS, cast("Any", SimpleNamespace(compare=compare)))


async def inspected(found: Comparison | AgoraiError, schema: Schema | AgoraiError = DESCRIBED) -> Report:
    return await data_inspector(found, schema).inspect(9, "/vault/cases/1/data")


async def test_data_are_good_if_they_differ_in_nothing_from_their_schema() -> None:
    assert await inspected(Comparison(differences=())) == Report(good=True, why="")
    bad = await inspected(Comparison(differences=("rows is 2, not 1",)))
    assert (bad.good, bad.why) == (False, "the data are not as their schema says: rows is 2, not 1")


async def test_what_only_the_provider_can_have_caused_is_found_against_it_at_once() -> None:
    no_table = Failure(code="empty_table", message="It is empty.", remedy="")
    faults: list[Comparison | AgoraiError] = [
        Comparison(differences=no_table),
        *map(remote, sorted(THEIR_FAULT)),
    ]
    for found in faults:
        assert not (await inspected(found)).good
    malformed = DocumentMalformedError("schema", "it has no rows")
    assert not (await inspected(Comparison(differences=()), malformed)).good


async def test_what_cannot_be_had_or_told_now_is_said() -> None:
    for code in ("memory_limit", "job_crashed"):  # a machine that runs out of memory ends a job, too
        broken = Failure(code=code, message="It took too much.", remedy="")
        with pytest.raises(CannotTellError):
            await inspected(Comparison(differences=broken))
    for found in (remote("no_peer_has"), remote("transfer_key_absent"), remote("service_unreachable")):
        with pytest.raises(RemoteError):
            await inspected(found)
    with pytest.raises(FileAbsentError):
        await inspected(Comparison(differences=()), FileAbsentError("schema", bytes(32), AWAY))


# --------------------------------------------------------------------------------- what documents say, and when


class Documents:
    """A market in which some gateways serve everything."""

    deployment = SimpleNamespace(chain_id=1)

    def __init__(self, *serving: str, left: tuple[Address, ...] = (), chain: bool = True) -> None:
        self.serving, self.left, self.chain = serving, left, chain

    async def actor(self, account: Address) -> Any:
        if not self.chain:
            raise AWAY
        if account in self.left:
            raise NotAMemberError(account)
        return SimpleNamespace(gateway=f"at {account}")

    async def document(self, _digest: bytes, gateway: str) -> bytes:
        if gateway not in self.serving:
            raise AWAY
        return gateway.encode()


class Agreed(Inspector):
    """One that knows the terms."""

    async def _terms(self, _trade: TradeId) -> Any:
        return SimpleNamespace(
            buyer=ACCUSER,
            seller=ACCUSED,
            seller_resource=1,
            seller_accuracy=9_500,
            seller_verification=bytes(32),
        )


class Offers(Documents):
    """One in which every resource is described."""

    async def resource(self, _resource: int) -> Any:
        return SimpleNamespace(metadata=bytes(32), commitment=bytes(32))

    async def document(self, _digest: bytes, _gateway: str) -> bytes:
        return Metadata(kind="model", name="model", format="skops", size=1).to_bytes()


@pytest.mark.parametrize(
    ("market", "document"),
    [
        (Documents(f"at {ACCUSER}", f"at {ACCUSED}"), f"at {ACCUSER}"),
        (Documents(f"at {ACCUSED}"), f"at {ACCUSED}"),
        (Documents(f"at {ACCUSED}", left=(ACCUSER,)), f"at {ACCUSED}"),
    ],
)
async def test_either_side_may_serve_a_document(market: Documents, document: str) -> None:
    inspector = Inspector(cast("Any", market), cast("Any", None), cast("Any", None))
    gateways = [await inspector._gateway(side) for side in (ACCUSER, ACCUSED)]
    assert await inspector._document(bytes(32), gateways) == document.encode()
    with pytest.raises(UnavailableError):
        await inspector._document(bytes(32), ["at nobody", ""])


async def test_a_chain_that_does_not_answer_is_not_taken_for_data_that_nobody_serves() -> None:
    market = Documents(chain=False)
    exchange = SimpleNamespace(address="0x" + "ab" * 20)
    inspector = Agreed(cast("Any", market), cast("Any", exchange), cast("Any", None))
    with pytest.raises(UnavailableError) as raised:
        await inspector.inspect(TradeId(7), ACCUSED, "/vault/cases/1/package")
    assert not isinstance(raised.value, VerificationAbsentError)
    market.chain = True
    with pytest.raises(VerificationAbsentError):
        await inspector.inspect(TradeId(7), ACCUSED, "/vault/cases/1/package")


MAKERS = (
    package.PackageMalformedError, sealing.WrongKeyError, sealing.NotSealedError, sealing.SealTamperedError,
    sealing.SealTruncatedError, unixfs.TreeInconsistentError, dag_pb.BlockMalformedError, unixfs.NotAFileError,
    cid.CidUnsupportedError, cid.CidSyntaxError, cid.CidCodecError,
)  # fmt: skip


def test_the_codes_that_count_against_a_side_are_those_of_errors() -> None:
    assert {error.code for error in MAKERS} == THEIR_FAULT
    gone = {NoPeerHasError.code, PlaintextCutOffError.code, PlaintextTooLargeError.code}
    assert gone == GONE - {"package_too_slow"}  # which the trainer raises


@pytest.mark.parametrize("code", sorted(THEIR_FAULT))
async def test_what_only_the_packages_maker_can_have_caused_is_found_against_it(code: str) -> None:
    async def evaluate(_command: object) -> None:
        raise remote(code)

    market = Offers(f"at {ACCUSED}")
    exchange = SimpleNamespace(address="0x" + "ab" * 20)
    inspector = Agreed(
        cast("Any", market), cast("Any", exchange), cast("Any", SimpleNamespace(evaluate=evaluate))
    )
    report = await inspector.inspect(TradeId(7), ACCUSED, "/vault/cases/1/package")
    assert (report.good, report.why) == (False, "it failed")
