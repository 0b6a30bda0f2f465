"""The verifier as the node's other services meet it: what it is asked, what it answers, and a client."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from agorai_shared.command import Commander, Message
from agorai_shared.types import TradeId

INSPECT_S: Final = 3600.0
"""How long an inspection may take: as long as the sandbox lets an evaluation, by default."""


class Inspect(Message):
    """Hold the model that the other side of a trade handed over against what it promised."""

    trade: int = Field(gt=0)


class Report(Message):
    """What an inspection found."""

    good: bool
    why: str


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
