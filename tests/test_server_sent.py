"""Reading server-sent events, however they are written and wherever they are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorai.server_sent import LONGEST, Message, MessageTooLongError, Parser

WRITTEN = (
    "\ufeff: a comment\n"
    "id: 1\nevent: head\ndata: {\ndata:  \"a\": 1\ndata: }\n\n"
    "data\n\n"
    ":\n\n"
    "event: nothing\n\n"
    "id: 2\nretry: 5\nunknown: x\ndata:é\n\n"
    "id: with\0nul\ndata: last\n\n"
    "data: never ended\n"
)  # fmt: skip
READ = [
    Message("1", "head", '{\n "a": 1\n}'),
    Message("1", "message", ""),
    Message("2", "message", "é"),
    Message("2", "message", "last"),
]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@given(cuts=st.lists(st.integers(0, len(WRITTEN.encode()) + 20), max_size=12))
def test_wherever_it_is_cut_it_reads_the_same(end: str, cuts: list[int]) -> None:
    content = WRITTEN.replace("\n", end).encode()
    places = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    parser = Parser()
    pieces = [content[start:stop] for start, stop in pairwise(places)]
    assert [message for piece in pieces for message in parser.feed(piece)] == READ


def test_carriage_returns_alone_end_lines_too() -> None:
    parser = Parser()
    assert list(parser.feed(b"data: a\rdata: b\r\rdata: c\r")) == [Message("", "message", "a\nb")]


def test_a_message_without_end_is_not_kept_for_ever() -> None:
    parser = Parser()
    assert list(parser.feed(b"data: " + b"x" * (LONGEST - 10))) == []
    with pytest.raises(MessageTooLongError):
        list(parser.feed(b"x" * 10))
