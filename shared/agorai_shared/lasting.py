"""Work that takes a service longer than an answer may: it is asked for again until its status tells the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

from pydantic import Field

from agorai_shared.message import Message

if TYPE_CHECKING:
    from agorai_shared.command import Commander

ANSWER_S: Final = 10.0
"""How long an answer may take beyond what was asked for."""

JobId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
StatusT = TypeVar("StatusT", bound=Message)
EndT = TypeVar("EndT")


class Lasting(Message):
    """Long work: wait a while for its end; the same command asks for the same work."""

    id: JobId
    timeout_s: float = Field(20.0, ge=0, le=25)


async def ended(
    commander: Commander,
    service: str,
    verb: str,
    command: Lasting,
    kind: type[StatusT],
    end: Callable[[StatusT], EndT | None],
) -> EndT:
    """Have such work done, however long it takes; `end` gives it, or None before. Raises as `Commander.ask`."""
    while True:
        status = await commander.ask(service, verb, command, kind, command.timeout_s + ANSWER_S)
        found = end(status)
        if found is not None:
            return found
