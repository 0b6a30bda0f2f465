"""A node's own commands: request and reply on `node.<address>.<service>.<verb>`.

The answer is the reply's JSON, or `{"problem": ...}` with the RFC 9457 document of an `AgoraiError`, which
`Commander.ask` raises again on the asking side as a `RemoteError` with the same code, message and remedy.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import orjson
from fast_depends.exceptions import ValidationError as ArgumentError
from faststream import ExceptionMiddleware
from faststream.nats import NatsBroker
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError
from pydantic import BaseModel

from agorai_shared import logging
from agorai_shared.errors import AgoraiError, InputError, RemoteError, UnavailableError
from agorai_shared.types import Address

log = logging.get(__name__)
Reply = TypeVar("Reply", bound=BaseModel)
Problem = dict[str, dict[str, str | int | bool]]


class ServiceUnreachableError(UnavailableError):
    """No service of the node answers a command."""

    def __init__(self, service: str, verb: str) -> None:
        super().__init__(
            f"The {service} service does not answer `{verb}`.",
            remedy="See whether the node runs it: `agorai status`.",
        )


class CommandError(InputError):
    """A command's arguments are not of its form."""

    def __init__(self, why: str) -> None:
        super().__init__(f"The command's arguments do not fit: {why}.", remedy="See the service's AsyncAPI.")


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
        """
        name = subject(self.address, service, verb)
        try:
            message = await self._connection().request(name, body.model_dump_json().encode(), timeout_s)
        except (TimeoutError, NoRespondersError, NatsTimeoutError) as error:
            raise ServiceUnreachableError(service, verb) from error
        answer = orjson.loads(message.data)
        if isinstance(answer, dict) and "problem" in answer:
            raise RemoteError(answer["problem"])
        return reply.model_validate(answer)


def problems() -> ExceptionMiddleware:
    """Give the FastStream middleware that turns a command's error into its answer."""

    def of_error(error: AgoraiError) -> Problem:
        return {"problem": error.to_problem()}

    def of_arguments(error: ArgumentError) -> Problem:
        return {"problem": CommandError(str(error).replace("\n", "; ")).to_problem()}

    def of_fault(error: Exception) -> Problem:
        log.error("command.failed", exc_info=error)
        return {"problem": AgoraiError(f"The service failed: {type(error).__name__}.").to_problem()}

    handlers: dict[type[Exception], Callable[..., Problem | Awaitable[Problem]]] = {
        AgoraiError: of_error,
        ArgumentError: of_arguments,
        Exception: of_fault,
    }
    return ExceptionMiddleware(publish_handlers=handlers)


def bus_of(broker: NatsBroker) -> Callable[[], Requester]:
    """Give what asks over a broker's own connection, once it is connected."""

    class _Asker:
        async def request(self, subject: str, payload: bytes, timeout: float) -> Any:
            connection = await broker.connect()
            return await connection.request(subject, payload, timeout)

    return _Asker
