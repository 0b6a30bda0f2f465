"""The verifier as the node's other services meet it: what it is asked, what it answers, and a client."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from agorai_shared.command import Commander
from agorai_shared.message import Message
from agorai_shared.pool_trainer import Found, Id
from agorai_shared.types import TradeId
from agorai_shared.vault import Word

INSPECT_S: Final = 3600.0
"""How long an inspection may take: as long as the sandbox lets an evaluation, by default."""


class Inspect(Message):
    """Hold the model that the other side of a trade handed over against what it promised."""

    trade: int = Field(gt=0)


class Report(Message):
    """What an inspection found."""

    good: bool
    why: str


class WatchPool(Message):
    """Check what is added to a pool; `stake` has what is wrong challenged where that gains on average."""

    pool: Id
    stake: bool
    off: bool = False
    """Check it no more."""


class WatchedOf(Message):
    """Tell which pools are watched."""


class WatchedPool(Message):
    """A pool whose contributions are checked."""

    pool: int
    stake: bool
    """Whether what is wrong is challenged; else it is left to a person."""


class WatchedPools(Message):
    """All pools whose contributions are checked, the node's own among them."""

    pools: tuple[WatchedPool, ...]


class FindingsOf(Message):
    """Tell what was found and nobody has challenged; of one pool, or of all."""

    pool: Id | None = None


class PoolFinding(Message):
    """Samples of one contribution that are suspected, and can be challenged."""

    pool: int
    contribution: int
    deadline: int
    """Until when, in seconds since 1970."""
    samples: int
    """That are left of it."""
    suspected: int
    suspicions: tuple[Found, ...]
    """The surest; the trainer tells of more."""
    lacking: Word = 0
    """Of the token, in its smallest unit: what the account has too little to challenge them as it was told to."""


class PoolFindings(Message):
    """What was found; at most a hundred contributions, those first whose time is up first."""

    findings: tuple[PoolFinding, ...]


class Verifier:
    """Asks the node's verifier."""

    def __init__(self, commander: Commander) -> None:
        self._commander = commander

    async def inspect(self, trade: TradeId) -> Report:
        """Have a model inspected that was handed over.

        Raises
        ------
        AgoraiError
            If it could not be: what was handed over cannot be had now, or nobody evaluates. Try again.
        """
        return await self._commander.ask("verifier", "inspect", Inspect(trade=trade), Report, INSPECT_S)

    async def watch(self, pool: int, *, stake: bool, off: bool = False) -> tuple[WatchedPool, ...]:
        """Have what is added to a pool checked, or with `off` no more; gives all that are watched then.

        Raises
        ------
        RemoteError
            Of the code `pool_absent`, if there is no such pool.
        """
        asked = WatchPool(pool=pool, stake=stake, off=off)
        return (await self._commander.ask("verifier", "watch", asked, WatchedPools)).pools

    async def watched(self) -> tuple[WatchedPool, ...]:
        """Ask which pools are watched."""
        return (await self._commander.ask("verifier", "watched", WatchedOf(), WatchedPools)).pools

    async def findings(self, pool: int | None = None) -> tuple[PoolFinding, ...]:
        """Ask what was found and nobody has challenged, while there is time for it; of one pool, or of all."""
        return (
            await self._commander.ask("verifier", "findings", FindingsOf(pool=pool), PoolFindings)
        ).findings
