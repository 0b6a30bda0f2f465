"""dag-pb: one form for every node, and nothing else passes for it."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agorai_shared import cid as cids
from agorai_shared import dag_pb
from agorai_shared.cid import CidParts, CidSyntaxError, CidUnsupportedError, Codec
from agorai_shared.dag_pb import BlockMalformedError, PbLink, PbNode
from agorai_shared.errors import AgoraiError
from agorai_shared.types import Digest

FUZZ = settings(max_examples=100 * int(os.environ.get("AGORAI_TEST_FUZZ", "1")), deadline=None)

DIGESTS = st.binary(min_size=32, max_size=32).map(Digest)
CIDS = st.one_of(
    st.builds(CidParts, st.just(1), st.sampled_from(Codec), DIGESTS),
    st.builds(CidParts, st.just(0), st.just(Codec.DAG_PB), DIGESTS),
)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LINKS = st.builds(PbLink, CIDS, NAMES, st.integers(0, 2**64 - 1))
NODES = st.builds(PbNode, st.lists(LINKS, max_size=5).map(tuple), st.none() | st.binary(max_size=50))

RAW = cids.of_raw(b"x")
LINK = PbLink(cids.parse(RAW), "name", 300)
HASH = b"\x0a\x24" + LINK.cid.binary


def in_link(fields: bytes) -> bytes:
    return b"\x12" + dag_pb.varint(len(fields)) + fields


@FUZZ
@given(NODES)
def test_a_node_survives_its_encoding(node: PbNode) -> None:
    assert dag_pb.decode(dag_pb.encode(node)) == node


@FUZZ
@given(st.binary(max_size=300))
def test_no_bytes_crash_the_decoder(data: bytes) -> None:
    try:
        dag_pb.decode(data)
    except AgoraiError:
        return


@FUZZ
@given(NODES, st.data())
def test_a_changed_node_is_refused_or_is_another_node(node: PbNode, data: st.DataObject) -> None:
    block = bytearray(dag_pb.encode(node) or b"\0")
    block[data.draw(st.integers(0, len(block) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert dag_pb.decode(bytes(block)) != node
    except AgoraiError:
        return


@FUZZ
@given(NODES, st.data())
def test_a_node_cut_short_is_refused_or_is_another_node(node: PbNode, data: st.DataObject) -> None:
    block = dag_pb.encode(node) + b"\0"
    try:
        assert (
            dag_pb.decode(block[: data.draw(st.integers(0, len(block) - 2))] if len(block) > 1 else b"\0")
            != node
        )
    except AgoraiError:
        return


def test_the_empty_node_is_no_bytes() -> None:
    assert dag_pb.encode(PbNode((), None)) == b""
    assert dag_pb.encode(PbNode((), b"")) == b"\x0a\x00"
    assert dag_pb.decode(b"") == PbNode((), None)


def test_a_link_without_name_and_size_is_read() -> None:
    assert dag_pb.decode(in_link(HASH)) == PbNode((PbLink(LINK.cid, "", 0),), None)


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (b"\x0a\x00\x0a\x00", "repeated"),
        (b"\x0a\x00" + in_link(HASH), "out of order"),
        (b"\x0a\x01", "beyond its end"),
        (b"\x0a\x81\x00x", "not minimal"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "not minimal or is cut off"),
        (b"\x0a", "cut off"),
        (b"\x08\x00", "field 1"),
        (b"\x1a\x00", "field 3"),
        (b"\x0d\x00\x00\x00\x00", "wire type 5"),
        (in_link(b""), "no CID"),
        (in_link(HASH + HASH), "repeated"),
        (in_link(b"\x12\x00" + HASH), "out of order"),
        (in_link(HASH + b"\x12\x01\xff"), "not UTF-8"),
        (in_link(HASH + b"\x22\x00"), "field 4"),
        (bytes(dag_pb.MAX_BLOCK_SIZE + 1), "more than"),
    ],
)
def test_malformed_nodes_are_refused_with_a_reason(block: bytes, why: str) -> None:
    with pytest.raises(BlockMalformedError, match=why):
        dag_pb.decode(block)


def test_links_to_what_cannot_be_verified_are_refused() -> None:
    with pytest.raises(CidUnsupportedError):
        dag_pb.decode(in_link(b"\x0a\x24\x01\x71\x12\x20" + bytes(32)))
    with pytest.raises(CidSyntaxError):
        dag_pb.decode(in_link(b"\x0a\x03\x01\x55\x12"))


def test_only_dag_pb_blocks_have_links() -> None:
    block = dag_pb.encode(PbNode((LINK,), None))
    assert dag_pb.links_of(cids.of_dag_pb(block), block) == (LINK,)
    assert dag_pb.links_of(cids.of_raw(block), block) == ()
