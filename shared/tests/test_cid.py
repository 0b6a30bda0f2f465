"""Content identifiers: known ones come out, and nothing but a CID is taken for one."""

from __future__ import annotations

import base64
import hashlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorai_shared import cid as cids
from agorai_shared.cid import (
    CidError,
    CidMismatchError,
    CidParts,
    CidSyntaxError,
    CidUnsupportedError,
    Codec,
    DigestLengthError,
)
from agorai_shared.types import Digest

HELLO = "bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4"
EMPTY = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
BIG_V1 = "bafybeiff4tb5h4d5cvb2rsjcta5lpg5yx3ty3dvqcpphpaxq6g72zixkau"
BIG_V0 = "QmdzHdGMVmFX6GZXFwceHG1oSihZbguPRLChYFSZ1SWaT3"

DIGEST = hashlib.sha256(b"hello world\n").digest()
digests = st.binary(min_size=32, max_size=32).map(Digest)
any_cid = st.one_of(
    st.builds(CidParts, st.just(1), st.sampled_from(Codec), digests),
    st.builds(CidParts, st.just(0), st.just(Codec.DAG_PB), digests),
)


def in_base32(data: bytes) -> str:
    return "b" + base64.b32encode(data).decode().rstrip("=").lower()


def test_known_bytes_get_their_known_cids() -> None:
    assert cids.of_raw(b"hello world\n") == HELLO
    assert cids.of_raw(b"") == EMPTY
    assert cids.of_digest(DIGEST) == HELLO
    assert cids.digest_of(HELLO) == DIGEST


@pytest.mark.parametrize("text", [HELLO, EMPTY, BIG_V1, BIG_V0])
def test_known_cids_are_their_own_canonical_form(text: str) -> None:
    assert cids.canonical(text) == text
    assert cids.parse_binary(cids.cid_bytes(text)).text == text


def test_version_0_is_a_bare_multihash_and_means_dag_pb() -> None:
    parts = cids.parse(BIG_V0)
    assert (parts.version, parts.codec) == (0, Codec.DAG_PB)
    assert cids.cid_bytes(BIG_V0) == b"\x12\x20" + parts.digest


def test_other_multibases_name_the_same_cid() -> None:
    data = cids.cid_bytes(HELLO)
    number = int.from_bytes(data, "big")
    base36 = ""
    while number:
        number, digit = divmod(number, 36)
        base36 = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + base36
    assert cids.canonical("f" + data.hex()) == HELLO
    assert cids.canonical("k" + base36) == HELLO


@pytest.mark.parametrize("length", [3, 7, 12, 40, 58])
def test_a_cid_that_was_cut_off_is_asked_about(length: int) -> None:
    with pytest.raises(CidSyntaxError, match=f"was it cut off. It has {length} characters of 59"):
        cids.parse(HELLO[:length])


@pytest.mark.parametrize("text", ["", "flowers.csv", "big.bin", "../etc", "hello", "héllo" * 12])
def test_what_is_nothing_like_a_cid_is_said_to_be_none(text: str) -> None:
    with pytest.raises(CidSyntaxError, match="does not look like one"):
        cids.parse(text)


def test_base58_under_its_prefix_is_a_version_1() -> None:
    # the CIDv1 example of the specification, https://github.com/multiformats/cid
    digest = bytes.fromhex("6e6ff7950a36187a801613426e858dce686cd7d7e3c0fc42ee0330072d245c95")
    assert cids.canonical("zb2rhe5P4gXftAwvA4eXQ5HJwsER2owDyS9sKaQRRVQPn93bA") == cids.of_digest(digest)


@given(any_cid)
def test_every_cid_survives_text_and_binary(parts: CidParts) -> None:
    assert cids.parse(parts.text) == parts
    assert cids.parse_binary(parts.binary) == parts


@given(st.text(max_size=140) | st.text("bafkreizQm234567", min_size=40, max_size=62))
def test_no_text_crashes_the_parser(text: str) -> None:
    try:
        parts = cids.parse(text)
    except CidError:
        return
    assert cids.parse(parts.text) == parts


@given(any_cid, st.data())
def test_a_changed_byte_never_reads_as_the_same_cid(parts: CidParts, data: st.DataObject) -> None:
    binary = bytearray(parts.binary)
    at = data.draw(st.integers(0, len(binary) - 1))
    binary[at] ^= data.draw(st.integers(1, 255))
    with suppress(CidError):
        assert cids.parse_binary(bytes(binary)) != parts


@pytest.mark.parametrize(
    "data",
    [
        b"\x81\x00\x55\x12\x20" + DIGEST,  # the version padded to two bytes
        b"\x01\xd5\x00\x12\x20" + DIGEST,  # the codec padded
        b"\x01\x55\x12\xa0\x00" + DIGEST,  # the length padded
        b"\x01\x55\x12\x20" + DIGEST[:-1],
        b"\x01\x55\x12\x20" + DIGEST + b"\0",
        b"\x01\x55\x12\x1f" + DIGEST[:-1],
        b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x12\x20" + DIGEST,
        b"\x12\x20" + DIGEST[:-1],
        b"\x01",
        b"",
    ],
)
def test_a_binary_cid_of_another_form_is_no_cid(data: bytes) -> None:
    with pytest.raises(CidSyntaxError):
        cids.parse_binary(data)
    with pytest.raises(CidError):
        cids.parse(in_base32(data))


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"\x02\x55\x12\x20" + DIGEST, "version 2"),
        (b"\x01\x71\x12\x20" + DIGEST, "codec 0x71"),
        (b"\x01\x55\x1b\x20" + DIGEST, "keccak-256"),
        (b"\x01\x55\x13\x40" + DIGEST * 2, "sha2-512"),
        (b"\x01\x55\x00\x03abc", "identity"),
    ],
)
def test_an_unsupported_cid_says_what_it_is(data: bytes, named: str) -> None:
    with pytest.raises(CidUnsupportedError, match=named):
        cids.parse(in_base32(data))


@pytest.mark.parametrize(
    "text",
    [
        HELLO.upper(),
        "b" + HELLO[1:].upper(),
        HELLO + "=",
        HELLO[:-1],
        HELLO[:-1] + "5",  # a stray bit in the last digit
        f" {HELLO}",
        HELLO + "\n",
        BIG_V0[:-1],
        BIG_V0[:-1] + "0",
        "z" + BIG_V0,
        "m" + HELLO[1:],
        "b",
        "",
        "b" * 1000,
    ],
)
def test_text_that_is_not_quite_a_cid_is_refused(text: str) -> None:
    with pytest.raises(CidError):
        cids.parse(text)


def test_a_digest_has_32_bytes() -> None:
    with pytest.raises(DigestLengthError):
        cids.of_digest(DIGEST + b"\0")


def test_a_block_is_verified_by_its_hash() -> None:
    cids.verify(cids.of_raw(b"block"), b"block")
    with pytest.raises(CidMismatchError, match="from elsewhere"):
        cids.verify(cids.of_raw(b"block"), b"blocK", "elsewhere")
