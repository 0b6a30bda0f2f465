"""How a job can end without a result.

    RefusedError
    ├── MemoryLimitError       took more memory than allowed
    ├── CpuLimitError          took more processor time than allowed
    ├── TimeLimitError         took longer than allowed
    ├── OutputLimitError       gave back more than allowed, or something unintelligible
    └── ForbiddenAccessError   tried what the sandbox denies: files, network, other programs
    AgoraiError
    ├── JobCrashedError        its process ended by a signal
    └── JobFailedError         an error nobody foresaw
    UnavailableError
    ├── SandboxLostError       the sandbox's own process ended under the job; repeating helps
    └── SandboxStartError      the sandbox cannot be started

An error of the caller's input that was raised inside arrives as the same class, message and remedy.
"""

from __future__ import annotations

import importlib
import signal

from agorai_shared.errors import (
    AgoraiError,
    InputError,
    IntegrityError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from agorai_trainer.frames import Json
from agorai_trainer.tasks import Limits

_RAISING = frozenset(
    {
        "agorai_shared.ckks",
        "agorai_shared.pool",
        "agorai_shared.vectors",
        "agorai_trainer.estimators",
        "agorai_trainer.federated.encrypted",
        "agorai_trainer.formats.refusals",
        "agorai_trainer.pooling.refusals",
        "agorai_trainer.table_refusals",
        "agorai_trainer.training_refusals",
    }
)
"""Modules of errors that are known again by name; none of them imports a framework."""
_MOST_TEXT = 2000


class MemoryLimitError(RefusedError):
    """A job took more memory than allowed."""

    def __init__(self, memory_mib: int) -> None:
        super().__init__(
            f"The job needs more memory than its limit of {memory_mib} MiB.",
            remedy="Raise `limits.memory_mib` and the trainer's own, or use fewer rows or a smaller model.",
        )


class CpuLimitError(RefusedError):
    """A job took more processor time than allowed."""

    def __init__(self, cpu_s: int) -> None:
        super().__init__(
            f"The job took more processor time than its limit of {cpu_s} s.",
            remedy="Raise `limits.cpu_s` and the trainer's own, or ask for fewer iterations.",
        )


class TimeLimitError(RefusedError):
    """A job took longer than allowed."""

    def __init__(self, wall_s: float) -> None:
        super().__init__(
            f"The job took longer than its limit of {wall_s:g} s.",
            remedy="Raise `limits.wall_s` and the trainer's own, or ask for fewer iterations.",
        )


class OutputLimitError(RefusedError):
    """A job's answer is too long or unintelligible."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The job's answer was not taken: {why}.", remedy="Raise `limits.output_mib` if it is honest."
        )


class ForbiddenAccessError(RefusedError):
    """A job tried what the sandbox denies."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"The job tried something the sandbox denies: {what}.",
            remedy="Do not use this task or model: jobs need no files, network or other programs.",
        )


class JobCrashedError(AgoraiError):
    """A job's process ended by a signal, or without an answer."""

    def __init__(self, signal_number: int | None) -> None:
        how = f"by {signal.Signals(signal_number).name}" if signal_number else "without an answer"
        super().__init__(
            f"The job's process ended {how}.",
            remedy="A damaged or hostile model does this, and so does a machine that runs out of memory.",
        )


class JobFailedError(AgoraiError):
    """An error inside a job that nobody foresaw."""

    def __init__(self, what: str) -> None:
        super().__init__(f"The job failed: {what}.", remedy="Report it, with the task, if the task is sound.")


class SandboxLostError(UnavailableError):
    """The zygote ended while it had a job, and is being started again."""

    def __init__(self) -> None:
        super().__init__(
            "The sandbox ended under the job.", remedy="Send the job again; the sandbox starts anew."
        )


class SandboxStartError(UnavailableError):
    """The zygote cannot be started."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The sandbox cannot be started: {why[-_MOST_TEXT:]}",
            remedy="See that the trainer's packages are whole.",
        )


def from_told(told: Json, limits: Limits) -> AgoraiError:
    """Rebuild an error from what a job's process says; texts and names of our own classes are taken."""
    match told:
        case {"type": "memory"}:
            return MemoryLimitError(limits.memory_mib)
        case {"type": "forbidden", "what": str(what)}:
            return ForbiddenAccessError(_clean(what))
        case {"type": "agorai", "class": str(name), "message": str(message), "remedy": str(remedy)}:
            kind = _class(name)
            if kind is not None:
                error = kind.__new__(kind)
                AgoraiError.__init__(error, _clean(message), remedy=_clean(remedy))
                return error
            return JobFailedError(_clean(message))
        case {"type": "failed", "what": str(what)}:
            return JobFailedError(_clean(what))
    return OutputLimitError("it is an error of another form")


def told(error: AgoraiError) -> Json:
    """Write down an error for the trainer that lent a job to this one."""
    name = f"{type(error).__module__}:{type(error).__name__}"
    return {"class": name, "message": error.message, "remedy": error.remedy}


def from_trainer(said: Json) -> AgoraiError:
    """Rebuild what `told` wrote down."""
    module, _, leaf = str(said["class"]).partition(":")
    ours = module in _RAISING or module == __name__
    kind: type[AgoraiError] = getattr(importlib.import_module(module), leaf) if ours else AgoraiError
    error = kind.__new__(kind)
    AgoraiError.__init__(error, str(said["message"]), remedy=str(said["remedy"]))
    return error


def _class(name: str) -> type[AgoraiError] | None:
    module, _, leaf = name.partition(":")
    known = importlib.import_module(module) if module in _RAISING else None
    kind = getattr(known, leaf, None)
    roots = (InputError, RefusedError, NotFoundError, IntegrityError, UnavailableError)
    return kind if isinstance(kind, type) and issubclass(kind, roots) else None


def _clean(text: str) -> str:
    """Keep a foreign text printable and short."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text[:_MOST_TEXT])
