"""What parties and voters alike must know of the `VotingPanel`: who can judge, and what moves a case on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from eth_utils.crypto import keccak

from agorai_shared.abi.codec import Codec
from agorai_shared.bindings.voting_panel import Case, Config, Phase, Verdict, Voter
from agorai_shared.types import Address, CaseId

_COMMITTED: Final = Codec("a vote", ["uint256", "address", "uint64", "address", "bool", "bytes32"])


class PanelCall(Enum):
    """A call of the panel that anyone may make."""

    DRAW = "draw"
    CLOSE = "close"


AGAIN_S: Final = 60
"""How long such a call is not made again for the same state of a case."""


def once_more(once: str, now: int) -> str:
    """Give the key of such a call, which is another after `AGAIN_S`; `now` in seconds since 1970.

    The same state of a case may want it several times: a draw may be another case's, or fail, and leave this one as
    it was. What is not wanted any more the contract refuses.
    """
    return f"{once}/{now // AGAIN_S}"


@dataclass(frozen=True, slots=True)
class PanelCase:
    """A case at a final block, and the panel's times."""

    case: Case
    config: Config

    @property
    def pending(self) -> bool:
        """Whether there is no verdict yet."""
        return self.case.verdict == Verdict.PENDING

    def phase(self, now: int) -> tuple[Phase, int]:
        """Give the phase and its deadline at chain time `now`, both in seconds since 1970.

        The contract told them as of its block; where no block has come since the time to commit ended, the time to
        reveal has begun all the same.
        """
        case = self.case
        if case.phase == Phase.COMMITTING and now > case.deadline:
            return Phase.REVEALING, case.deadline + self.config.reveal_window
        return case.phase, case.deadline

    def call(self, now: int) -> PanelCall | None:
        """Give the call that would move the case on at chain time `now`; None while it waits.

        A draw whose block is not there yet, or another try where voters still lack, the contract refuses, which
        costs nothing: calls are tried before they are sent.
        """
        if not self.pending:
            return None
        phase, deadline = self.phase(now)
        if phase == Phase.DRAWING:
            return PanelCall.DRAW if self.case.draw_block else PanelCall.CLOSE
        over = now > deadline or self.case.revealed == self.case.seated
        return PanelCall.CLOSE if phase == Phase.REVEALING and over else None


def impartial(available: int, parties: Iterable[Voter]) -> int:
    """Give how many voters can be drawn for a dispute between parties: of all that are available, not they.

    Parameters
    ----------
    available
        What the contract gives, which counts every voter with a free seat.
    parties
        The two sides, as voters.
    """
    return available - sum(party.free > 0 for party in parties)


def commitment(
    chain_id: int, panel: Address, case: CaseId, voter: Address, *, confirms: bool, salt: bytes
) -> bytes:
    """Give what binds a voter to a vote, 31 bytes, as the contract's `commitmentOf` does.

    Asking the contract would tell the vote and its salt to the chain's node.
    """
    return keccak(_COMMITTED.encode((chain_id, panel, case, voter, confirms, salt)))[:31]
