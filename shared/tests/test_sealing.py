"""Sealed objects: what comes out is what went in, or an error that says what happened to it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agorai_shared import sealing
from agorai_shared.errors import AgoraiError
from agorai_shared.sealing import (
    HEADER_LENGTH,
    TAG_LENGTH,
    ContentKeyLengthError,
    NotSealedError,
    Opener,
    SealTamperedError,
    SealTruncatedError,
    SegmentSizeError,
    WrongKeyError,
    new_content_key,
    open_bytes,
    open_sealed,
    seal,
    seal_bytes,
)

SEGMENT = 1024
SEALED_SEGMENT = SEGMENT + TAG_LENGTH
KEY = bytes(range(32))
PLAIN = random.Random(3).randbytes(4 * SEGMENT + 100)


def sealed(plain: bytes = PLAIN) -> bytes:
    return seal_bytes(plain, KEY, segment_size=SEGMENT)


def segments(whole: bytes) -> tuple[bytes, list[bytes]]:
    body = whole[HEADER_LENGTH:]
    return whole[:HEADER_LENGTH], [body[i : i + SEALED_SEGMENT] for i in range(0, len(body), SEALED_SEGMENT)]


async def stream(whole: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(whole), size):
        yield whole[at : at + size]


async def opened(pieces: AsyncIterator[bytes] | Iterable[bytes], got: list[bytes], key: bytes = KEY) -> None:
    async for piece in open_sealed(pieces, key):
        got.append(piece)  # noqa: PERF401


@pytest.mark.parametrize(
    "size", [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT, 2 * SEGMENT + 1, 10 * SEGMENT]
)
async def test_every_length_comes_back(size: int) -> None:
    plain = random.Random(size).randbytes(size)
    whole = b"".join([p async for p in seal([plain], KEY, segment_size=SEGMENT)])
    count = max(1, -(-size // SEGMENT))
    assert len(whole) == HEADER_LENGTH + size + count * TAG_LENGTH
    assert open_bytes(whole, KEY) == plain
    assert b"".join([p async for p in open_sealed([whole], KEY)]) == plain


@given(st.binary(max_size=5000), st.integers(1, 3000), st.integers(1, 3000))
@settings(deadline=None)
async def test_it_does_not_matter_how_the_streams_are_cut(plain: bytes, into: int, out: int) -> None:
    whole = b"".join([p async for p in seal(stream(plain, into), KEY, segment_size=SEGMENT)])
    assert b"".join([p async for p in open_sealed(stream(whole, out), KEY)]) == plain


async def test_large_pieces_come_back_at_the_default_segment_size() -> None:
    plain = random.Random(5).randbytes(9 << 20)
    whole = b"".join([p async for p in seal([plain], KEY)])
    assert b"".join([p async for p in open_sealed(stream(whole, 5 << 20), KEY)]) == plain


def test_the_same_bytes_are_never_sealed_to_the_same_bytes() -> None:
    assert sealed() != sealed()
    assert new_content_key() != new_content_key()


@pytest.mark.parametrize("at", [0, 1, 2, 3, 4])
async def test_a_flipped_bit_shows_before_any_byte_of_its_segment(at: int) -> None:
    header, parts = segments(sealed())
    parts[at] = bytes([parts[at][0] ^ 1]) + parts[at][1:]
    got: list[bytes] = []
    with pytest.raises(SealTamperedError) as fault:
        await opened(stream(header + b"".join(parts), 777), got)
    assert not isinstance(fault.value, SealTruncatedError)
    assert fault.value.segment == at
    assert b"".join(got) == PLAIN[: at * SEGMENT]


@given(st.data())
def test_no_flipped_bit_anywhere_goes_unseen(data: st.DataObject) -> None:
    whole = bytearray(sealed(PLAIN[: SEGMENT + 100]))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises((SealTamperedError, WrongKeyError, NotSealedError)):
        open_bytes(whole, KEY)


@given(st.integers(0, len(sealed()) - 1))
def test_no_cut_goes_unseen(length: int) -> None:
    whole = sealed()[:length]
    with pytest.raises((SealTamperedError, NotSealedError)):
        open_bytes(whole, KEY)


@pytest.mark.parametrize("kept", [0, 1, 2, 3, 4])
async def test_a_cut_between_segments_is_told_from_tampering(kept: int) -> None:
    header, parts = segments(sealed())
    got: list[bytes] = []
    with pytest.raises(SealTruncatedError) as fault:
        await opened([header, *parts[:kept]], got)
    assert fault.value.segment == kept
    # the last genuine one is held back: without more behind it, it is not known to be in its place
    assert b"".join(got) == PLAIN[: max(0, kept - 1) * SEGMENT]


@pytest.mark.parametrize(
    "order", [[1, 0, 2, 3, 4], [0, 1, 3, 2, 4], [0, 1, 2, 4, 3], [0, 2, 3, 4], [0, 0, 1, 2, 3, 4]]
)
def test_moved_dropped_and_repeated_segments_show(order: list[int]) -> None:
    header, parts = segments(sealed())
    with pytest.raises(SealTamperedError):
        open_bytes(header + b"".join(parts[i] for i in order), KEY)


@pytest.mark.parametrize("size", [SEGMENT, 2 * SEGMENT, SEGMENT + 5])
def test_bytes_behind_the_last_segment_show(size: int) -> None:
    whole = sealed(PLAIN[:size])
    _, parts = segments(whole)
    for more in (b"\0", parts[-1], bytes(SEALED_SEGMENT)):
        with pytest.raises(SealTamperedError):
            open_bytes(whole + more, KEY)


def test_a_segment_of_another_object_shows() -> None:
    header, parts = segments(sealed())
    _, others = segments(sealed())
    with pytest.raises(SealTamperedError):
        open_bytes(header + b"".join([others[0], *parts[1:]]), KEY)


async def test_another_key_is_refused_at_the_header() -> None:
    got: list[bytes] = []
    with pytest.raises(WrongKeyError):
        await opened([sealed()], got, new_content_key())
    assert got == []


@pytest.mark.parametrize("content", [b"", b"AGO", b"plain text, never sealed", bytes(500)])
def test_what_was_never_sealed_is_called_so(content: bytes) -> None:
    with pytest.raises(NotSealedError):
        open_bytes(content, KEY)


def test_a_header_that_asks_for_too_much_memory_is_refused() -> None:
    whole = sealed()
    with pytest.raises(NotSealedError, match="4294967295"):
        open_bytes(whole[:8] + b"\xff\xff\xff\xff" + whole[12:], KEY)


def test_another_version_is_refused_by_its_number() -> None:
    whole = sealed()
    with pytest.raises(NotSealedError, match="version 2"):
        open_bytes(whole[:7] + b"\x02" + whole[8:], KEY)


def test_keys_and_segments_of_another_size_are_refused() -> None:
    with pytest.raises(ContentKeyLengthError):
        seal_bytes(b"", b"short")
    with pytest.raises(ContentKeyLengthError):
        Opener(b"short")
    with pytest.raises(SegmentSizeError):
        seal_bytes(b"", KEY, segment_size=100)


def test_no_error_shows_a_key() -> None:
    for content, key in ((sealed(), b"\x41" * 32), (sealed()[:-1], KEY)):
        with pytest.raises(AgoraiError) as fault:
            open_bytes(content, key)
        assert key.hex() not in str(fault.value)
        assert repr(key) not in str(fault.value)


@pytest.mark.parametrize("size", [0, 1, 1024, 1025, 5000])
def test_bytes_are_sealed_again_as_they_were_and_only_with_their_key(size: int) -> None:
    key, plain = bytes(range(32)), bytes(size)
    sealed = sealing.seal_bytes(plain, key, segment_size=1024)
    header = sealed[: sealing.HEADER_LENGTH]
    assert sealing.seal_again(plain, key, header) == sealed
    assert sealing.seal_again(plain + b"!", key, header) != sealed
    with pytest.raises(sealing.WrongKeyError):
        sealing.seal_again(plain, bytes(32), header)
    with pytest.raises(sealing.NotSealedError):
        sealing.seal_again(plain, key, header[:-1])
