"""What events of the contract `DataPool` say, for people: files by their CIDs, and what is inline as text.

Numbers stay as `--where` compares them. This loads no contract's bindings, which watching events does without.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from agorai_shared import cid as cids

if TYPE_CHECKING:
    from agorai_shared.abi.codec import ArgValue

_FILES: Final = frozenset(
    {"digest", "corrections", "record", "model", "snapshot", "testSet", "terms.document"}
)
"""SHA-256 digests of files; others are of what is bound to, and name none."""
_ONE_BLOCK: Final = frozenset({"terms.document"})
"""Files that are too short to be divided."""
_INLINE: Final = {"samples": "digest", "document": "corrections"}
"""Bytes of a file that is on the chain itself, and what names it."""
_OUTCOMES: Final = ("upheld", "failed", "undecided")
"""Of a challenge, in the contract's order."""
_MOST_TEXT: Final = 200


def words(args: Mapping[str, ArgValue]) -> str:
    """Write an event's arguments."""
    return ", ".join(f"{name}={value}" for name, value in _told(args, ""))


def _told(args: Mapping[str, ArgValue], within: str) -> Iterator[tuple[str, str]]:
    short = {named for content, named in _INLINE.items() if args.get(content, "0x") != "0x"}
    for name, value in args.items():
        path = within + name
        match value:
            case dict():
                inside = ", ".join(f"{one}={each}" for one, each in _told(value, f"{path}."))
                yield name, f"({inside})"
            case str() if path in _FILES:
                digest = bytes.fromhex(value.removeprefix("0x"))
                one = cids.of_digest(digest)
                whole = path in _ONE_BLOCK or path in short
                yield name, one if whole else f"{one} or {cids.of_dag_pb_digest(digest)}"
            case str() if path in _INLINE:
                yield name, _text(value)
            case int() if path == "outcome" and value < len(_OUTCOMES):
                yield name, _OUTCOMES[value]
            case _:
                yield name, str(value)


def _text(value: str) -> str:
    data = bytes.fromhex(value.removeprefix("0x"))
    if not data:
        return "(in a file)"
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return value
    cut = text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…"
    return json.dumps(cut, ensure_ascii=False)
