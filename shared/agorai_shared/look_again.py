"""The command by which a node's owner has an item looked at again: one that was given up on, above all."""

from __future__ import annotations

from typing import Any

from faststream.nats import NatsRouter
from pydantic import Field

from agorai_shared.command import Commander, subject
from agorai_shared.errors import NotFoundError
from agorai_shared.message import Message
from agorai_shared.reconciler import Reconciler
from agorai_shared.types import Address

VERB = "look_again"


class LookAgain(Message):
    """Look at an item again, with its failures forgotten."""

    protocol: str = Field(max_length=100)
    key: int = Field(ge=0)


class LookedAt(Message):
    """The item is being looked at; what comes of it is told on the node's trail."""

    protocol: str
    key: int


class ProtocolNotFoundError(NotFoundError):
    """The service has no protocol of this name."""

    def __init__(self, service: str, protocol: str, known: list[str]) -> None:
        super().__init__(
            f"The {service} service has no protocol {protocol!r}.",
            remedy=f"It has {', '.join(known)}.",
        )


def on_look_again(
    commands: NatsRouter, address: Address, service: str, *reconcilers: Reconciler[Any, Any]
) -> None:
    """Answer the command for all of a service's protocols."""
    by_name = {reconciler.name: reconciler for reconciler in reconcilers}

    @commands.subscriber(subject(address, service, VERB))
    async def look_again(command: LookAgain) -> LookedAt:
        """Look at an item again, as if it had not failed before."""
        if command.protocol not in by_name:
            raise ProtocolNotFoundError(service, command.protocol, sorted(by_name))
        by_name[command.protocol].look_again(command.key)
        return LookedAt(protocol=command.protocol, key=command.key)


async def look_again(commander: Commander, service: str, protocol: str, key: int) -> LookedAt:
    """Have a service of this node look at an item again.

    Raises
    ------
    ServiceUnreachableError, RemoteError
        If the service does not answer, or has no such protocol.
    """
    return await commander.ask(service, VERB, LookAgain(protocol=protocol, key=key), LookedAt)
