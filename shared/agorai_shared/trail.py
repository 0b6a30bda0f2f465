"""What a node's handlers did, told on the node's own subjects to whoever shows it.

    node.<address>.trail.step    a step was taken, or failed
    node.<address>.trail.sent    a transaction left the vault's outbox
    node.<address>.trail.dead    an item was given up on (what is kept of it is on `dead.<service>`)

Nobody need listen, and nothing waits: what cannot be told at once is dropped. The chain has all that matters.

A transaction is told under the idempotency key of the step that asked for it, also where the vault, another
service, sends it: commands carry the step in `Agorai-Step`.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from typing import Final, Literal

from faststream.nats import NatsBroker
from nats.aio.client import Client
from nats.errors import Error as NatsError
from pydantic import BaseModel, ConfigDict

from agorai_shared import logging
from agorai_shared.command import subject
from agorai_shared.types import Address

log = logging.get(__name__)

TRAIL: Final = "trail"
MOST_AT_ONCE: Final = 1000
"""Messages on their way to the bus; more are dropped."""


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True)


class Step(_Told):
    """One step of one item."""

    service: str
    protocol: str
    contract: str
    """Name of the contract whose item it is."""
    key: str
    step: str
    outcome: Literal["ok", "error"]
    error: str | None
    once: str
    """The step's idempotency key."""
    at: float
    """When it began, in seconds since 1970."""
    seconds: float
    trace: str
    """Trace id, 32 hex digits: the same for this item in every node."""


class Sent(_Told):
    """One signed transaction that was sent; one of the same nonce with a higher fee is told again."""

    once: str
    """Key of the step that asked for it, or the outbox's own where none did."""
    transaction_hash: str
    at: float


class Dead(_Told):
    """An item that was given up on."""

    service: str
    protocol: str
    contract: str
    key: str
    step: str
    error: str
    attempts: int
    at: float


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What a protocol gave up on, and why."""

    protocol: str
    key: int
    step: str
    error: str
    attempts: int


class Trail:
    """Tells of one service of one node."""

    def __init__(self, broker: NatsBroker, address: Address, service: str) -> None:
        self._broker = broker
        self.address = address
        self.service = service
        self._telling: set[asyncio.Task[None]] = set()
        self._connection: Client | None = None

    def step(self, told: Step) -> None:
        """Tell of a step, without waiting."""
        self._tell("step", told)

    def sent(self, once: str, transaction: str) -> None:
        """Tell of a transaction, without waiting."""
        self._tell("sent", Sent(once=once, transaction_hash=transaction, at=time.time()))

    async def dead(self, letter: DeadLetter, contract: str) -> None:
        """Put a dead letter where it is kept, and tell of it."""
        self._tell(
            "dead",
            Dead(
                service=self.service,
                protocol=letter.protocol,
                contract=contract,
                key=str(letter.key),
                step=letter.step,
                error=letter.error,
                attempts=letter.attempts,
                at=time.time(),
            ),
        )
        await self._broker.publish(asdict(letter), f"dead.{self.service}")

    def _tell(self, verb: str, told: _Told) -> None:
        if len(self._telling) >= MOST_AT_ONCE:
            return
        task = asyncio.create_task(
            self._publish(subject(self.address, TRAIL, verb), told.model_dump_json().encode()), name="trail"
        )
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _publish(self, name: str, payload: bytes) -> None:
        if self._connection is None:  # kept: asking a broker that has ended would connect it anew
            self._connection = await self._broker.connect()
        if not self._connection.is_connected:  # the client would keep it and tell it much later
            return
        try:
            await self._connection.publish(name, payload)
        except (NatsError, OSError) as error:
            log.debug("trail.untold", subject=name, error=str(error))
