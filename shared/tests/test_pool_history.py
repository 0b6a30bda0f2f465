"""What there was when a contribution was added, whatever came later."""

from __future__ import annotations

from agorai_shared import cid, unixfs
from agorai_shared.bindings.data_pool import Added, Challenged, Outcome, Resolved, Settled
from agorai_shared.digest_files import cids_of
from agorai_shared.pool import Challenge, Wrong
from agorai_shared.pool_history import (
    PROMPT_BLOCKS,
    Part,
    PoolEvent,
    PoolHistory,
    challenge_of,
    left_out,
    taken,
)
from agorai_shared.types import Address

ANNA, BORIS = Address("0x" + "a" * 40), Address("0x" + "b" * 40)
CHALLENGE = Challenge(wrong=(Wrong(row=1, reason="out_of_range"), Wrong(row=3, reason="harmful")))


def added(contribution: int, corrects: int = 0, count: int = 5, committed_at: int = 1) -> Added:
    return Added(
        id=contribution, pool=1, contributor=ANNA, count=count, digest=bytes([contribution]) * 32, samples=b"",
        committed_at=committed_at, corrects=corrects,
    )  # fmt: skip


def challenged(contribution: int, number: int = 0) -> Challenged:
    return Challenged(
        contribution=contribution, pool=1, challenger=BORIS, count=2, corrected=0, corrections=bytes([number]) * 32,
        document=b"", deadline=9,
    )  # fmt: skip


def resolved(contribution: int, outcome: Outcome) -> Resolved:
    return Resolved(contribution=contribution, pool=1, challenger=BORIS, outcome=outcome, count=2, deadline=0)


def at(block: int, *events: PoolEvent) -> list[tuple[PoolEvent, int]]:
    return [(event, block) for event in events]


def settled(contribution: int) -> Settled:
    return Settled(contribution=contribution, pool=1, contributor=ANNA, accepted=5)


def test_the_ground_of_a_contribution_is_what_there_was_when_it_was_added() -> None:
    history = PoolHistory()
    first = challenged(1, 1)
    history.take(at(2, added(1), added(2), first, resolved(1, Outcome.UPHELD), settled(2), added(3)))
    before = history.ground(3)

    later = challenged(1, 2)
    history.take(
        at(3, later, resolved(1, Outcome.UPHELD), settled(1), added(4), challenged(3, 3), settled(3))
    )

    assert [part.added.id for part in before.known] == [2]
    assert [(part.added.id, part.faults) for part in before.pending] == [(1, (first,))]
    assert history.ground(3).known == before.known
    assert history.ground(3).pending == before.pending
    after = history.ground(4)
    assert [(part.added.id, part.faults) for part in after.known] == [(2, ()), (1, (first, later))]
    assert [part.added.id for part in after.pending] == [3]
    assert [part.added.id for part in history.accepted()] == [2, 1, 3]
    assert [part.added.id for part in history.accepted(1)] == [2]


def test_of_two_alike_the_one_committed_to_first_counts_though_it_was_added_later() -> None:
    history = PoolHistory()
    history.take(at(8, added(1, committed_at=7), added(2, committed_at=5), added(3, committed_at=7)))
    assert [part.added.id for part in history.ground(1).pending] == [2]
    assert history.ground(2).pending == ()
    assert [part.added.id for part in history.ground(3).pending] == [1, 2]


def test_only_challenges_that_did_not_fail_leave_samples_out() -> None:
    history = PoolHistory()
    failed, undecided = challenged(1, 1), challenged(1, 2)
    history.take(
        at(2, added(1), failed, resolved(1, Outcome.FAILED), undecided, resolved(1, Outcome.UNDECIDED))
    )
    assert history.part(1).faults == (undecided,)
    assert history.challenges[1] == [failed, undecided]


def test_of_a_challenge_only_what_the_chain_says_too_counts() -> None:
    event, document = challenged(1), CHALLENGE.to_bytes()
    assert challenge_of(event, document, 4) == CHALLENGE
    assert challenge_of(event, document, 3) is None, "it names a row that the contribution has not"
    one = Challenge(wrong=CHALLENGE.wrong[:1])
    assert challenge_of(event, one.to_bytes(), 4) is None
    assert challenge_of(event, CHALLENGE.model_copy(update={"corrected": "a,b\n"}).to_bytes(), 4) is None
    assert challenge_of(event, b"no document", 4) is None


def test_as_many_rows_are_left_out_as_the_chain_took_off() -> None:
    part = Part(added(1), (challenged(1, 1), challenged(1, 2)))
    other = Challenge(wrong=(Wrong(row=0, reason="harmful"), Wrong(row=4, reason="harmful")))
    assert left_out(Part(part.added, ()), []) == ()
    assert left_out(part, [CHALLENGE, other]) == (0, 1, 3, 4)
    # nobody can tell which rows the second means: the first that are still left
    assert left_out(part, [CHALLENGE, None]) == (0, 1, 2, 3)
    assert left_out(part, [None, CHALLENGE]) == (0, 1, 2, 3)
    assert left_out(part, [CHALLENGE, CHALLENGE]) == (0, 1, 2, 3)
    all_of_it = Part(part.added, (*part.faults, challenged(1, 3)))
    assert left_out(all_of_it, [CHALLENGE, None, other]) == (0, 1, 2, 3, 4)


def test_samples_that_the_chain_pays_for_are_known_whatever_a_challenge_of_others_said() -> None:
    history = PoolHistory()
    void = challenged(1)
    history.take(at(2, added(1), void, resolved(1, Outcome.UNDECIDED), settled(1), added(2)))
    (known,) = history.ground(2).known
    out = left_out(known, [challenge_of(fault, b"{}", known.added.count) for fault in known.faults])
    assert len(out) == void.count


def test_who_commits_and_waits_does_not_come_before_who_adds_meanwhile() -> None:
    history = PoolHistory()
    history.take(at(3 + PROMPT_BLOCKS, added(1, committed_at=3)))
    history.take(at(4 + PROMPT_BLOCKS, added(2, committed_at=2), added(3, committed_at=4)))
    assert [part.added.id for part in history.ground(1).pending] == []
    assert [part.added.id for part in history.ground(2).pending] == [1, 3]
    assert [part.added.id for part in history.ground(3).pending] == [1]


def test_corrections_count_from_when_they_were_told_though_they_are_added_with_the_verdict() -> None:
    history = PoolHistory()
    history.take(at(5, added(1)))
    history.take(at(900, challenged(1)))
    history.take(at(905, added(2, committed_at=901)))
    late = 900 + 2 * PROMPT_BLOCKS
    history.take(at(late, resolved(1, Outcome.UPHELD), added(3, corrects=1, committed_at=890)))
    assert [part.added.id for part in history.ground(3).pending] == [1]
    assert [part.added.id for part in history.ground(2).pending] == [1, 3]
    history.take(at(late, challenged(2), resolved(2, Outcome.UPHELD), added(4, corrects=2, committed_at=1)))
    assert [part.added.id for part in history.ground(4).pending] == [1, 2, 3]


def test_a_snapshot_names_a_contribution_by_its_digest() -> None:
    history = PoolHistory()
    challenge = challenged(3)
    history.take(
        at(2, added(3), challenged(3, 9), challenge, resolved(3, Outcome.UPHELD), added(7, corrects=3))
    )
    assert history.corrections == {7: challenge}
    found = taken(history.part(7), (1, 2))
    assert (found.contribution, found.digest, found.left_out, found.corrects) == (7, "07" * 32, (1, 2), 3)


def test_a_file_has_one_of_two_names() -> None:
    for data in (b"small", b"large" * 300_000):
        name = unixfs.cid_of(data)
        assert name in cids_of(cid.digest_of(name))
