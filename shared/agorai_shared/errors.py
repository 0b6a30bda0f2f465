"""Every error that a user or another service can meet.

    AgoraiError                 root: a code, a message that names the input, a remedy
    ├── InputError              the caller's input is wrong; repeating it will not help
    ├── RefusedError            the rules of a contract, a policy or a limit say no
    ├── NotFoundError           the thing named does not exist here
    ├── IntegrityError          bytes, a signature or a proof do not match what was promised
    └── UnavailableError        a chain, bus or store does not answer; repeating it may help

A leaf takes the values it speaks of and builds its own message. `code` is stable and is what a machine
should test; it is the class name in dotted lower case unless a leaf says otherwise.
"""

from __future__ import annotations

import re
from typing import ClassVar


class AgoraiError(Exception):
    """Root of all errors; `message` says what was wrong with which input, `remedy` what to do next."""

    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    retry_after_s: float | None = None
    """Seconds after which to try again, where that is known."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        name = cls.__name__.removesuffix("Error")
        cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()

    code: ClassVar[str] = "internal"

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()

    def to_problem(self) -> dict[str, str | int | bool]:
        """Give the error as an RFC 9457 problem document."""
        return {
            "type": f"urn:agorai:error:{self.code}",
            "title": self.code,
            "status": self.http_status,
            "detail": self.message,
            "remedy": self.remedy,
            "retryable": self.retryable,
        }


class InputError(AgoraiError):
    """The caller's input is wrong."""

    http_status = 422


class RefusedError(AgoraiError):
    """A rule, a policy or a limit says no."""

    http_status = 403


class NotFoundError(AgoraiError):
    """What was named does not exist here."""

    http_status = 404


class IntegrityError(AgoraiError):
    """Bytes, a signature or a proof do not match what was promised."""

    http_status = 409


class UnavailableError(AgoraiError):
    """A chain, a bus, a store or another service does not answer."""

    http_status = 503
    retryable = True


class RemoteError(AgoraiError):
    """An error another service of this node answered with, rebuilt from its problem document."""

    def __init__(self, problem: dict[str, object]) -> None:
        super().__init__(str(problem.get("detail", "")), remedy=str(problem.get("remedy", "")))
        self.code = str(problem.get("title", "internal"))  # type: ignore[misc]
        self.http_status = int(str(problem.get("status", 500)))  # type: ignore[misc]
        self.retryable = bool(problem.get("retryable", False))  # type: ignore[misc]
