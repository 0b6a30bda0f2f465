"""A node's own commands: request and reply on `node.<address>.<service>.<verb>`.

The answer is the reply's JSON, or `{"problem": ...}` with the RFC 9457 document of an `AgoraiError`, which
`Commander.ask` raises again on the asking side as a `RemoteError` with the same code, message and remedy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import orjson
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from pydantic import BaseModel

from agorai_shared.errors import InputError, IntegrityError, RemoteError, UnavailableError
from agorai_shared.types import Address

if TYPE_CHECKING:
    from faststream.nats import NatsBroker

Reply = TypeVar("Reply", bound=BaseModel)


class ServiceUnreachableError(UnavailableError):
    """No service of the node answers a command."""

    def __init__(self, service: str, verb: str) -> None:
        super().__init__(
            f"The {service} service does not answer `{verb}`.",
            remedy="See whether the node runs it: `agorai status`.",
        )


class CommandTooLargeError(InputError):
    """A command is larger than one message of the bus."""

    def __init__(self, service: str, verb: str) -> None:
        super().__init__(f"The arguments of {service}'s `{verb}` are larger than one message of the bus.")


class AnswerError(IntegrityError):
    """A service answers a command with something that is no answer to it."""

    def __init__(self, service: str, verb: str) -> None:
        super().__init__(
            f"The {service} service's answer to `{verb}` cannot be read.",
            remedy="Run the same version of Agorai everywhere in a node.",
        )


class Requester(Protocol):
    """What sends a request over the bus and waits for its answer (a nats-py client does)."""

    async def request(self, subject: str, payload: bytes, timeout: float) -> Any:
        """Send, and give the message that answers."""


def subject(address: Address, service: str, verb: str) -> str:
    """Give the subject of one command of one node."""
    return f"node.{address.lower()}.{service}.{verb}"


class Commander:
    """Asks the services of one node."""

    def __init__(self, connection: Callable[[], Requester], address: Address) -> None:
        self._connection = connection
        self.address = address

    async def ask(
        self, service: str, verb: str, body: BaseModel, reply: type[Reply], timeout_s: float = 30
    ) -> Reply:
        """Send one command and give its parsed answer.

        Raises
        ------
        ServiceUnreachableError
            If no service listens, or none answers within `timeout_s` seconds.
        RemoteError
            If the service answered with a problem.
        CommandTooLargeError
            If the command is larger than the bus takes.
        AnswerError
            If the answer is of another form.
        """
        name = subject(self.address, service, verb)
        try:
            message = await self._connection().request(name, body.model_dump_json().encode(), timeout_s)
        except MaxPayloadError as error:
            raise CommandTooLargeError(service, verb) from error
        except (TimeoutError, OSError, NatsError) as error:
            raise ServiceUnreachableError(service, verb) from error
        try:
            answer = orjson.loads(message.data)
            problem = answer.get("problem") if isinstance(answer, dict) else None
            if not isinstance(problem, dict):
                return reply.model_validate(answer)
        except ValueError as error:
            raise AnswerError(service, verb) from error
        raise RemoteError(problem)


def bus_of(broker: NatsBroker) -> Callable[[], Requester]:
    """Give what asks over a broker's own connection, once it is connected."""

    class _Asker:
        async def request(self, subject: str, payload: bytes, timeout: float) -> Any:
            connection = await broker.connect()
            return await connection.request(subject, payload, timeout)

    return _Asker
