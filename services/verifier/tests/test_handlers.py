"""How a voter votes when something cannot be had: against who had to serve it, and not at all for its own faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agorai_shared.errors import AgoraiError, RemoteError, UnavailableError
from agorai_shared.types import Address, CaseId
from agorai_shared.vault import CaseFinding
from agorai_shared.verifier import Report
from agorai_verifier.handlers import CaseProtocol, OfferAbsentError, VerificationAbsentError
from agorai_verifier.inspecting import CannotTellError
from agorai_verifier.votes import Votes

ACCUSER, ACCUSED = Address("0xAccuser"), Address("0xAccused")
CASE = CaseId(1)
AWAY = UnavailableError("nobody serves it")
TOO_SLOW = CannotTellError(cast("Any", SimpleNamespace(message="It took too long.")))


@pytest.fixture
def votes(tmp_path: Path) -> Iterator[Votes]:
    kept = Votes(tmp_path, 1, "0xPanel")
    yield kept
    kept.close()


def protocol(votes: Votes, found: Report | AgoraiError, blamed: Address | None = None) -> CaseProtocol:
    """A voter to whose vault and inspector the given things happen."""

    async def judge(_case: CaseId, *, final: bool) -> CaseFinding:
        return CaseFinding(trade=7, blamed=blamed, why="as its message shows")

    async def inspect(*_: object) -> Report:
        if isinstance(found, AgoraiError):
            raise found
        return found

    async def read(_call: object) -> tuple[Any]:
        return (SimpleNamespace(accused=ACCUSED),)

    return CaseProtocol(
        market=cast("Any", SimpleNamespace(chain=SimpleNamespace(read=read))),
        panel=cast("Any", SimpleNamespace(case_of=lambda case: case)),
        exchange=cast("Any", None),
        me=Address("0xVoter"),
        vault=cast("Any", SimpleNamespace(judge=judge)),
        inspector=cast("Any", SimpleNamespace(inspect=inspect)),
        votes=votes,
    )


def remote(code: str) -> RemoteError:
    return RemoteError({"title": code, "detail": "it failed"})


@pytest.mark.parametrize("good", [True, False])
async def test_the_vote_is_what_the_inspection_found(votes: Votes, good: bool) -> None:
    await protocol(votes, Report(good=good, why="so it is"))._judge(CASE, final=False)
    vote = votes.get(CASE)
    assert vote is not None
    assert (vote.confirms, vote.why) == (good, "so it is")


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
        remote("plaintext_too_large"),
    ],
)
async def test_what_a_voters_own_node_cannot_do_makes_no_vote(votes: Votes, error: AgoraiError) -> None:
    with pytest.raises(type(error)):
        await protocol(votes, error)._judge(CASE, final=True)
    assert votes.get(CASE) is None
