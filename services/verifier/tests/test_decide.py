"""The voter's next step in every phase, and the votes that it keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from eth_utils.crypto import keccak

from agorai_shared.bindings.voting_panel import Case, Config, Phase, Seat, Verdict
from agorai_shared.panel import PanelCall, PanelCase, commitment
from agorai_shared.types import Address, CaseId
from agorai_verifier.decide import CaseState, Commit, Judge, MovePanel, Reveal, Step, due, next_step
from agorai_verifier.votes import Votes

DEADLINE = 10_000
CONFIG = Config(10, 0, 6_000, 3_000, 3_000, 0)
CASE = Case(
    opener=Address("0xExchange"), item=1, accuser=Address("0xBuyer"), accused=Address("0xSeller"), bonus=5,
    draw_block=7, deadline=DEADLINE, size=3, round=1, seated=3, committed=0, revealed=0, confirming=0,
    phase=Phase.COMMITTING, verdict=Verdict.PENDING,
)  # fmt: skip
REVEALING = replace(CASE, phase=Phase.REVEALING)
EARLY, LAST_CALL, LATE = 8_000, 9_000, DEADLINE + 1


@pytest.mark.parametrize(
    ("case", "seat", "judged", "now", "step"),
    [
        (CASE, Seat.SEATED, False, EARLY, Judge(final=False)),
        (CASE, Seat.SEATED, False, LAST_CALL, Judge(final=True)),
        (CASE, Seat.SEATED, True, EARLY, Commit()),
        (CASE, Seat.SEATED, True, DEADLINE - 4, None),
        (CASE, Seat.COMMITTED, True, EARLY, None),
        (CASE, Seat.NONE, False, EARLY, None),
        # no block tells that the time to reveal has begun
        (CASE, Seat.COMMITTED, True, LATE, Reveal()),
        (CASE, Seat.SEATED, True, LATE, None),
        (CASE, Seat.COMMITTED, True, DEADLINE + 3_001, MovePanel(PanelCall.CLOSE)),
        (REVEALING, Seat.COMMITTED, True, EARLY, Reveal()),
        (REVEALING, Seat.REVEALED, True, EARLY, None),
        (replace(REVEALING, revealed=3), Seat.REVEALED, True, EARLY, MovePanel(PanelCall.CLOSE)),
        (REVEALING, Seat.REVEALED, True, LATE, MovePanel(PanelCall.CLOSE)),
        (replace(CASE, phase=Phase.DRAWING), Seat.REVEALED, True, EARLY, MovePanel(PanelCall.DRAW)),
        (replace(CASE, verdict=Verdict.CONFIRMED), Seat.SEATED, False, EARLY, None),
    ],
)
def test_a_voter_judges_commits_and_reveals_in_time(
    case: Case, seat: Seat, judged: bool, now: int, step: Step | None
) -> None:
    assert next_step(CaseState(PanelCase(case, CONFIG), seat, judged), now) == step


def test_a_voter_looks_again_when_it_will_wait_no_longer_and_when_time_is_up() -> None:
    state = CaseState(PanelCase(CASE, CONFIG), Seat.SEATED, judged=False)
    assert due(state, EARLY) == LAST_CALL
    assert due(state, LAST_CALL) == LATE
    assert due(replace(state, case=PanelCase(replace(CASE, verdict=Verdict.REJECTED), CONFIG)), EARLY) is None


def test_the_first_vote_on_a_case_stands_and_is_there_after_a_restart(tmp_path: Path) -> None:
    votes = Votes(tmp_path, 1, "0xPanel")
    assert votes.get(CaseId(7)) is None
    votes.keep(CaseId(7), confirms=False, why="its accuracy is low")
    votes.keep(CaseId(7), confirms=True, why="a second thought")
    kept = votes.get(CaseId(7))
    votes.close()
    again = Votes(tmp_path, 1, "0xPanel")
    assert kept == again.get(CaseId(7))
    assert kept is not None
    assert (kept.confirms, kept.why, len(kept.salt)) == (False, "its accuracy is low", 32)
    again.close()
    elsewhere = Votes(tmp_path, 1, "0xOther")
    assert elsewhere.get(CaseId(7)) is None
    elsewhere.close()


def test_a_commitment_binds_chain_panel_case_voter_vote_and_salt() -> None:
    panel, voter = Address("0x" + "aa" * 20), Address("0x" + "bb" * 20)
    words = [
        (31337).to_bytes(32), bytes(12) + b"\xaa" * 20, (5).to_bytes(32), bytes(12) + b"\xbb" * 20,
        (1).to_bytes(32), b"\x07" * 32,
    ]  # fmt: skip
    made = commitment(31337, panel, CaseId(5), voter, confirms=True, salt=b"\x07" * 32)
    assert made == keccak(b"".join(words))[:31]
