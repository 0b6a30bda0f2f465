"""Reads server-sent events (WHATWG HTML, 9.2.6 "Interpreting an event stream") from bytes as they come.

IntegrityError
└── MessageTooLongError     one message is larger than any that a hub sends
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from agorai_shared.errors import IntegrityError

LONGEST: Final = 16 << 20
"""Bytes of one message."""
_END: Final = re.compile(rb"\r\n|\n|\r")


class MessageTooLongError(IntegrityError):
    """One message has no end."""

    def __init__(self) -> None:
        super().__init__(f"A message is longer than {LONGEST} bytes.")


@dataclass(frozen=True, slots=True)
class Message:
    """One event; `id` is the last one told, be it with this event or before."""

    id: str
    event: str
    data: str


class Parser:
    """Takes chunks cut anywhere, and gives the messages that they complete."""

    def __init__(self) -> None:
        self._rest = b""
        self._id = ""
        self._event = ""
        self._data: list[str] = []
        self._size = 0
        self._begun = False

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """Give the messages that end in this chunk; raises `MessageTooLongError`."""
        for line in self._lines(chunk):
            if line:
                self._take(line)
                continue
            data, event = self._data, self._event
            self._data, self._event, self._size = [], "", 0
            if data:
                yield Message(self._id, event or "message", "\n".join(data))

    def _lines(self, chunk: bytes) -> Iterator[str]:
        self._rest += chunk
        start = 0
        for end in _END.finditer(self._rest):
            if end[0] == b"\r" and end.end() == len(self._rest):
                break  # the line feed may come with the next chunk
            line = self._rest[start : end.start()].decode(errors="replace")
            start = end.end()
            yield line if self._begun else line.removeprefix("\ufeff")
            self._begun = True
        self._rest = self._rest[start:]
        if len(self._rest) + self._size > LONGEST:
            raise MessageTooLongError

    def _take(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._size += len(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
