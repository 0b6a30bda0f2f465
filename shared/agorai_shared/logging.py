"""One structlog set-up for every service; the standard library's records go the same way.

Event names are dotted nouns and the rest is keys: `log.info("invocation.delivered", invocation=7)`.
Never log a secret, a grant's content or a whole argument list.

Bus and chain carry everything, so while one of them is away whatever asks it fails, again and again. `trouble` and
`present` tell of that once for the whole process when it goes, and once when it is back; of each try at debug level.
"""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass, field
from typing import Final, Literal

import structlog

LogFormat = Literal["console", "json"]
Carrier = Literal["bus", "chain"]
_processors: Final[list[structlog.typing.Processor]] = []
"""One list for good: a logger keeps that with which it was used first."""
_CARRIERS: Final[dict[str, Carrier]] = {"bus_unreachable": "bus", "rpc_unreachable": "chain"}
"""Codes of errors, a service's answers among them, that say which of the two does not answer."""


def configure(level: str = "INFO", fmt: LogFormat = "console") -> None:
    """Send all logs to standard error, as coloured lines or as one JSON object a line."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    final: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if fmt == "json"
        # A traceback that shows local variables would show keys.
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("aiohttp", "asyncio", "nats", "faststream", "uvicorn.access", "web3", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    _processors[:] = [
        structlog.stdlib.filter_by_level,
        *shared,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ]
    structlog.configure(
        processors=_processors,
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def get(name: str) -> structlog.stdlib.BoundLogger:
    """Give the logger of one part, named like its module."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger


log = get(__name__)


@dataclass(slots=True)
class _Absence:
    """Since when a carrier is away, and who has not had it again."""

    since: float
    missed_by: set[str] = field(default_factory=set)
    again: float | None = None
    """When the first had it again, unless somebody has missed it since."""


_absences: Final[dict[tuple[Carrier, int | None], _Absence]] = {}
"""Of each carrier that is away, a chain with its id where that is known."""


def absent(carrier: Carrier, by: str, reason: str, chain: int | None = None) -> None:
    """Note that `by` misses the bus or a chain; the first to miss it is heard.

    Parameters
    ----------
    by
        Names one part of this process, which calls `present` or `forget` later.
    """
    absence = _absences.get((carrier, chain))
    if absence is None:
        absence = _absences[carrier, chain] = _Absence(time.monotonic())
        _tell(carrier, chain, "away", reason=reason)
    absence.missed_by.add(by)
    absence.again = None


def present(by: str, *, but: tuple[Carrier, int | None] | None = None) -> None:
    """Note that `by` has what it missed; that it is back is told once nobody misses it any more."""
    for which, absence in _absences.items():
        if which != but and by in absence.missed_by:
            absence.missed_by.remove(by)
            absence.again = absence.again or time.monotonic()
    _end()


def forget(by: str) -> None:
    """Note that `by` has ended, whatever it missed."""
    for absence in _absences.values():
        absence.missed_by.discard(by)
    _end()


def trouble(
    told_by: structlog.stdlib.BoundLogger,
    event: str,
    error: BaseException,
    by: str,
    chain_id: int | None = None,
    /,
    **keys: object,
) -> None:
    """Log a try of `by` that failed: as a warning, or at debug level where bus or chain is away.

    A loop that tries again calls this each time, and `present` when it got through.
    """
    carrier = _carrier_of(error)
    which = (carrier, chain_id if carrier == "chain" else None) if carrier else None
    present(by, but=which)
    if which is None:
        told_by.warning(event, **keys)
    else:
        absent(which[0], by, str(error) or type(error).__name__, which[1])
        told_by.debug(event, **keys)


def is_told(error: BaseException) -> bool:
    """Say whether an error comes of bus or chain being away, and that is told already."""
    carrier = _carrier_of(error)
    return any(one == carrier for one, _ in _absences)


def _carrier_of(error: BaseException) -> Carrier | None:
    """Say which carrier's absence an error comes of; what asks over the bus may fail for other reasons, too."""
    code = getattr(error, "code", "")
    over_bus = code == "service_unreachable" or type(error).__module__.startswith("nats.")
    if over_bus and ("bus", None) in _absences:
        return "bus"
    return _CARRIERS.get(code) if isinstance(code, str) else None


def _end() -> None:
    """Tell of what nobody misses any more, if somebody had it again."""
    for which, absence in list(_absences.items()):
        if not absence.missed_by:
            del _absences[which]
            if absence.again is not None:
                _tell(*which, "back", away_s=round(absence.again - absence.since, 1))


def _tell(carrier: Carrier, chain: int | None, what: str, **keys: object) -> None:
    event = f"{carrier}.{what}"
    log.warning(event, **keys, **({} if chain is None else {"chain": chain}))
