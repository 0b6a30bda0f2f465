"""How the hub is doing, for readiness.

    UnavailableError
    └── HubNotReadyError        starting, catching up, or in trouble for a while
    IntegrityError
    └── ReorgPastFinalityError  the chain took back what was final; the hub has stopped

A hub that stands by for another one is ready.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from agorai_shared.chain import Block
from agorai_shared.errors import IntegrityError, UnavailableError


class HubNotReadyError(UnavailableError):
    """The hub does not keep up with its chain now."""

    def __init__(self, chain_id: int | None, reason: str, seconds: float) -> None:
        chain = "the chain" if chain_id is None else f"chain {chain_id}"
        super().__init__(
            f"The hub does not keep up with {chain} since {seconds:.0f} s: {reason}",
            remedy="It goes on by itself as soon as that is mended.",
        )


class ReorgPastFinalityError(IntegrityError):
    """The node's branch does not hold a block that was published as final."""

    def __init__(self, chain_id: int, anchor: Block, found: Block) -> None:
        super().__init__(
            f"Chain {chain_id} was reorged past finality: block {anchor.number} was final as {anchor.hash}, "
            f"the node's {found.number} is {found.hash} on {found.parent_hash}. The hub has stopped.",
            remedy="Check that the node is on the right chain. If the chain did change or began anew, ask "
            f"for more confirmations, and have the streams written anew: `agorai events rebuild --chain {chain_id}`.",
        )


@dataclass(slots=True)
class Status:
    """What readiness is made of; times are `time.monotonic()`."""

    unready_after_s: float
    max_block_age_s: float | None = None
    chain_id: int | None = None
    newest: Block | None = None
    """The newest block published, head or final."""
    final: int | None = None
    """Height of the newest block published as final."""
    node_head: int | None = None
    """The newest height that the node told of."""
    standby: bool = False
    stopped: ReorgPastFinalityError | None = None
    behind: int = 0
    """Blocks still to be backfilled."""
    _started: bool = False
    _trouble: str = "it is starting."
    _since: float | None = None

    def begin_anew(self) -> None:
        """Forget all, as at a start."""
        self.stopped = self.newest = self.final = None
        self._started, self._trouble, self._since, self.behind = False, "it is starting.", None, 0

    def fine(self) -> None:
        """Note that all is published, or that another hub does it."""
        self._started = True
        self._trouble, self._since, self.behind = "", None, 0

    def trouble(self, reason: str) -> None:
        """Note what is in the way; the time counts from the first time since all was fine."""
        self._trouble = reason
        if self._since is None:
            self._since = time.monotonic()

    def check(self) -> None:
        """Raise while not ready."""
        if self.stopped is not None:
            raise self.stopped
        waited = 0.0 if self._since is None else time.monotonic() - self._since
        if self.behind:
            raise HubNotReadyError(self.chain_id, f"it is catching up, {self.behind} blocks to go.", waited)
        if not self._started or (self._trouble and waited >= self.unready_after_s):
            raise HubNotReadyError(self.chain_id, self._trouble, waited)
        age = 0.0 if self.newest is None else time.time() - self.newest.timestamp
        if self.max_block_age_s is not None and age > self.max_block_age_s:
            raise HubNotReadyError(self.chain_id, f"its node has no block newer than {age:.0f} s.", age)
