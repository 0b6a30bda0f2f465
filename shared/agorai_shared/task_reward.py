"""What a node's reward service tells of training tasks, as the node's user asks for it.

It goes over the bus (`node.<address>.reward.<verb>`); what is long waits a while for its end and is asked for again.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import uuid4

from pydantic import Field

from agorai_shared.command import Commander
from agorai_shared.documents import Count
from agorai_shared.federated import Amount, PayoutRow
from agorai_shared.lasting import Lasting, ended
from agorai_shared.message import Message
from agorai_shared.pool import Sha256


class AuditTask(Lasting):
    """Recompute a task's payout."""

    task: Annotated[int, Field(gt=0, lt=2**64)]
    withheld: bool = False
    """Whether what cannot be had counts as withheld by the model provider, so that what the chain proves is due."""


class PreparePayout(AuditTask):
    """Compute what a task pays, and keep the evidence for a challenge."""


class PreparedPayout(Message):
    """What a challenge proposes."""

    root: Sha256
    total: Amount
    evidence: Sha256


class PayoutStatus(Message):
    """How far that is."""

    prepared: PreparedPayout | None
    """None: not at its end."""


class AuditFinding(Message):
    """One thing that an audit has found, in plain words."""

    kind: Literal["wrong", "missing", "noted"]
    text: str


class DueOf(Message):
    """What a subtask is due for."""

    subtask: int
    contribution: str
    """In test samples, an exact fraction."""
    delivered: Count
    """Rounds that its fee is due for."""


class Audited(Message):
    """A verdict and what it rests on."""

    verdict: Literal["right", "wrong", "unknown"]
    findings: tuple[AuditFinding, ...]
    rows: tuple[PayoutRow, ...] | None
    """What is due, by account; None if it cannot be known."""
    total: Amount
    """Of the proposal that stands."""
    subtasks: tuple[DueOf, ...]


class AuditStatus(Message):
    """How far an audit is."""

    audited: Audited | None
    """None: not at its end."""


class TaskReward:
    """Asks one node's reward service about training tasks."""

    def __init__(self, commander: Commander) -> None:
        self._commander = commander

    async def audit(self, task: int, *, withheld: bool = False) -> Audited:
        """Have the payout that stands recomputed from the public record.

        Parameters
        ----------
        withheld
            Whether what cannot be had counts as withheld by the model provider.

        Raises
        ------
        RemoteError
            If nothing is proposed yet, or something of the record cannot be had.
        """
        asked = AuditTask(id=uuid4().hex, task=task, withheld=withheld)
        return await ended(
            self._commander, "reward", "audit_task", asked, AuditStatus, lambda status: status.audited
        )

    async def payout(self, task: int, *, withheld: bool = False) -> PreparedPayout:
        """Have the right payout computed, and its evidence kept; arguments and errors as of `audit`."""
        asked = PreparePayout(id=uuid4().hex, task=task, withheld=withheld)
        return await ended(
            self._commander, "reward", "prepare_payout", asked, PayoutStatus, lambda status: status.prepared
        )
