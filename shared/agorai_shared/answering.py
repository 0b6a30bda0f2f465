"""How a service's error becomes the answer to a command; `command` has the asking side."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from fast_depends.exceptions import ValidationError as ArgumentError
from faststream import BaseMiddleware, Depends, ExceptionMiddleware
from faststream.nats import NatsMessage, NatsRouter
from pydantic import ValidationError

from agorai_shared import logging, metrics, tracing
from agorai_shared.command import SIGNATURE, STEP, STEP_HEADER, is_genuine
from agorai_shared.errors import AgoraiError, InputError, RefusedError, UnavailableError

log = logging.get(__name__)

ANSWERS = metrics.histogram(
    "agorai_command_answer_seconds", "Answering one command of the node's own", "service", "verb", "outcome"
)
Problem = dict[str, dict[str, str | int | bool]]


class CommandError(InputError):
    """A command's arguments are not of its form."""

    def __init__(self, why: str) -> None:
        super().__init__(f"The command's arguments do not fit: {why}.", remedy="See the service's AsyncAPI.")


class CommandRefusedError(RefusedError):
    """A command does not prove that it comes from the node itself."""

    http_status = 401

    def __init__(self) -> None:
        super().__init__(
            "The command is not signed with this node's token, or a minute old.",
            remedy="Send it through the SDK; see that all of the node's clocks agree.",
        )


def commands_of(token: str) -> NatsRouter:
    """Make the router for a service's commands: each must be signed with the node's token."""

    async def signed(message: NatsMessage) -> None:
        name = message.raw_message.subject
        if not is_genuine(token, name, message.body, message.headers.get(SIGNATURE, "")):
            raise CommandRefusedError

    return _Commands(dependencies=(Depends(signed),), middlewares=(_Observed,))


class _Commands(NatsRouter):
    """Has each command answered by one of a service's replicas: they are a queue group of the service's name."""

    def subscriber(  # type: ignore[override]
        self, subject: str, queue: str = "", **options: Any
    ) -> Any:
        """Subscribe as one of the service's replicas; of FastStream's overloads, that which is used."""
        return super().subscriber(subject, queue or subject.split(".")[-2], **options)


class _Observed(BaseMiddleware[Any, Any]):
    """Counts, times and traces each command, and knows whose step it is a part of."""

    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: Any) -> Any:
        """Answer one command."""
        service, verb = msg.raw_message.subject.split(".")[-2:]
        began, outcome = time.perf_counter(), "fault"
        token = STEP.set(msg.headers.get(STEP_HEADER, ""))
        try:
            with tracing.answer(service, f"{service}.{verb}", msg.headers):
                answer = await call_next(msg)
            outcome = "ok"
        except UnavailableError:
            outcome = "unavailable"
            raise
        except AgoraiError:
            outcome = "refused"
            raise
        except ArgumentError as error:
            outcome = "fault" if _is_fault(error) else "refused"
            raise
        else:
            return answer
        finally:
            STEP.reset(token)
            ANSWERS.labels(service, verb, outcome).observe(time.perf_counter() - began)


def problems() -> ExceptionMiddleware:
    """Give the FastStream middleware that turns a command's error into its answer."""

    def of_error(error: AgoraiError) -> Problem:
        return {"problem": error.to_problem()}

    def of_arguments(error: ArgumentError) -> Problem:
        if _is_fault(error):
            return of_fault(error)
        return {"problem": CommandError(_first_fault(error.original_error)).to_problem()}

    def of_fault(error: Exception) -> Problem:
        log.error("command.failed", exc_info=error)
        return {"problem": AgoraiError(f"The service failed: {type(error).__name__}.").to_problem()}

    handlers: dict[type[Exception], Callable[..., Problem | Awaitable[Problem]]] = {
        AgoraiError: of_error,
        ArgumentError: of_arguments,
        Exception: of_fault,
    }
    return ExceptionMiddleware(publish_handlers=handlers)


def _is_fault(error: ArgumentError) -> bool:
    """Say whether it is what a handler gave that does not fit, not what it was given."""
    return any(field.field_name == "return" for field in error.error_fields)


def _first_fault(error: Exception) -> str:
    """Say where the arguments are wrong first; never what they were, for that may be a secret."""
    if not isinstance(error, ValidationError):
        return type(error).__name__
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(map(str, first["loc"]))[:100]
    return f"{where}: {first['msg']}"
