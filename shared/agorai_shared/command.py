"""A node's own commands: request and reply on `node.<address>.<service>.<verb>`.

The answer is the reply's JSON, or `{"problem": ...}` with the RFC 9457 document of an `AgoraiError`, which
`Commander.ask` raises again on the asking side as a `RemoteError` with the same code, message and remedy.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import orjson
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from pydantic import BaseModel

from agorai_shared import tracing
from agorai_shared.errors import InputError, IntegrityError, RemoteError, UnavailableError
from agorai_shared.types import Address

if TYPE_CHECKING:
    from faststream.nats import NatsBroker

SIGNATURE = "Agorai-Signature"
FRESH_MS = 60_000
STEP_HEADER: Final = "Agorai-Step"
STEP: Final[ContextVar[str]] = ContextVar("agorai_step", default="")
"""Idempotency key of the step that is being taken, here or where the command being answered came from."""
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

    async def request(
        self, subject: str, payload: bytes, timeout: float, *, headers: dict[str, Any] | None = None
    ) -> Any:
        """Send, and give the message that answers."""


def subject(address: Address, service: str, verb: str) -> str:
    """Give the subject of one command of one node."""
    return f"node.{address.lower()}.{service}.{verb}"


def sign(token: str, name: str, body: bytes, at_ms: int) -> str:
    """Give the header that proves a command to come from who has the node's token: time and HMAC-SHA256.

    Subject permissions alone do not: a bus will relay what others stored in a stream to any subject.
    """
    message = b"%s\n%d\n%s" % (name.encode(), at_ms, body)
    return f"{at_ms},{hmac.new(token.encode(), message, hashlib.sha256).hexdigest()}"


def is_genuine(token: str, name: str, body: bytes, signature: str) -> bool:
    """Say whether a command was signed with the node's token less than a minute ago."""
    moment = signature.partition(",")[0]
    if not moment.isdecimal() or len(moment) > 15 or abs(time.time() * 1000 - int(moment)) > FRESH_MS:
        return False
    return hmac.compare_digest(signature.encode(), sign(token, name, body, int(moment)).encode())


class Commander:
    """Asks the services of one node; `token` is the node's own, which its services know."""

    def __init__(self, connection: Callable[[], Requester], address: Address, token: str) -> None:
        self._connection = connection
        self.address = address
        self._token = token

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
            payload = body.model_dump_json().encode()
            headers = {SIGNATURE: sign(self._token, name, payload, int(time.time() * 1000))}
            if step := STEP.get():
                headers[STEP_HEADER] = step
            with tracing.span(f"ask {service}.{verb}", kind="client"):
                headers |= tracing.traceparent()
                message = await self._connection().request(name, payload, timeout_s, headers=headers)
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
        async def request(
            self, subject: str, payload: bytes, timeout: float, *, headers: dict[str, Any] | None = None
        ) -> Any:
            connection = await broker.connect()
            return await connection.request(subject, payload, timeout, headers=headers)

    return _Asker
