from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorai_shared.abi.codec import Codec, Parameter, shaper
from agorai_shared.abi.errors import UndecodableError
from agorai_shared.abi.words import word_reader

TYPES = [
    "address",
    "bool",
    "bytes32",
    "bytes1",
    "bytes20",
    "int256",
    "int8",
    "int128",
    "uint256",
    "uint8",
    "uint160",
]
WORDS = st.one_of(
    st.binary(min_size=32, max_size=32),
    st.integers(0, 300).map(lambda n: n.to_bytes(32)),
    st.integers(1, 300).map(lambda n: (2**256 - n).to_bytes(32)),
    st.binary(min_size=20, max_size=20).map(lambda raw: raw.rjust(32, b"\0")),
    st.binary(min_size=20, max_size=20).map(lambda raw: raw.ljust(32, b"\0")),
)


@pytest.mark.parametrize("type_", TYPES)
@given(word=WORDS)
def test_a_word_reads_as_the_general_decoder_reads_it(type_: str, word: bytes) -> None:
    read = word_reader(type_)
    assert read is not None
    expected: object = "refused"
    with suppress(UndecodableError):
        expected = shaper(Parameter("x", type_, False, ()))(Codec("x", [type_]).decode(word)[0])
    found: object = "refused"
    with suppress(ValueError):
        found = read(word.hex())
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    "type_", ["string", "bytes", "uint8[]", "uint8[2]", "(uint8)", "function", "bytes33"]
)
def test_what_is_not_one_word_has_no_reader(type_: str) -> None:
    assert word_reader(type_) is None
