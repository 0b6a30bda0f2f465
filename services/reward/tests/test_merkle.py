"""The tree against OpenZeppelin's own."""

from __future__ import annotations

import pytest
from eth_utils.crypto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from agorai_reward import merkle
from agorai_reward.merkle import NotInTreeError
from agorai_reward.payout import Row
from agorai_shared.abi.codec import Codec
from agorai_shared.types import Address

OPENZEPPELIN = {
    1: ("8f0db8f4d40a3f4a136d0bb3517d29d16b91f4ab899f163bce0f26e258c3bb61", ()),
    2: (
        "2a6def85aec0af4aed70c13ef94e47821914266aefd0d6391fa28a7de329cc3a",
        ("8f0db8f4d40a3f4a136d0bb3517d29d16b91f4ab899f163bce0f26e258c3bb61",),
    ),
    3: (
        "f6eb58475c1f638b250d1cea08b96f374a163915b8961a86b582e798b58dea25",
        ("2a6def85aec0af4aed70c13ef94e47821914266aefd0d6391fa28a7de329cc3a",),
    ),
    5: (
        "50a24da794e806cbc23b32637ffcd95963a4c6ab49dd99409b28c4d4381c2aa0",
        (
            "55747103d77224aabbef2ed85f7a38ee5b846966a7eed08eabecd6d5610aad06",
            "ffebdb4dc442f526484e13691458d2495a7c06629bc8fe6e1a523bc5593d9aaa",
        ),
    ),
    8: (
        "9b9f37feb7f5159f5b00c54843acc458d672ac4bb975d485d2d432add7e7a85c",
        (
            "42851200a9b233f502c2fd05585414de735521a4c7424f441f7651a46637e9d2",
            "f6534591d926dae9d560dc457195694944b4181b7f9eeec7ec5f26831d15b37d",
            "43c2b890a57949944df9cc15d80938e9c18a76fe53dbc2b42c6e9c3594d1cfc0",
        ),
    ),
}
"""Rows to the root, and the last row's proof, by OpenZeppelin's package `merkle-tree`, version 1.0.8."""


def leaves_of(count: int) -> list[bytes]:
    rows = [Row(Address(f"0x{0x1111 * place:040x}"), place * 10**18 + place) for place in range(1, count + 1)]
    return [merkle.leaf_of(7, row) for row in rows]


@pytest.mark.parametrize("count", OPENZEPPELIN)
def test_roots_and_proofs_are_openzeppelins(count: int) -> None:
    root, proof = OPENZEPPELIN[count]
    leaves = leaves_of(count)
    assert merkle.root(leaves).hex() == root
    assert tuple(node.hex() for node in merkle.proof(leaves, leaves[-1])) == proof


def test_the_root_is_the_one_that_openzeppelin_publishes() -> None:
    """The example of that package's own introduction, whose leaves are (address, uint256)."""
    values = (("0x" + "11" * 20, 5 * 10**18), ("0x" + "22" * 20, 25 * 10**17))
    codec = Codec("an example", ["address", "uint256"])
    root = merkle.root([keccak(keccak(codec.encode(value))) for value in values])
    assert root.hex() == "d4dee0beab2d53f2cc83e567171bd2820e49898130a22622b10ead383e90bd77"


@settings(max_examples=25)
@given(
    st.sets(st.binary(min_size=32, max_size=32), min_size=1, max_size=40), st.randoms(use_true_random=False)
)
def test_each_leaf_is_proved_and_no_other(some: set[bytes], random: object) -> None:
    leaves = sorted(some)
    root = merkle.root(leaves)
    random.shuffle(leaves)  # type: ignore[attr-defined]
    assert merkle.root(leaves) == root
    for leaf in leaves:
        proof = merkle.proof(leaves, leaf)
        assert merkle.proves(root, leaf, proof)
        assert not merkle.proves(root, keccak(leaf), proof)
        assert not merkle.proves(keccak(root), leaf, proof)


def test_task_account_and_amount_all_bind() -> None:
    anna, boris = (Address(f"0x{number:040x}") for number in (1, 2))
    assert len({
        merkle.leaf_of(7, Row(anna, 5)), merkle.leaf_of(8, Row(anna, 5)),
        merkle.leaf_of(7, Row(boris, 5)), merkle.leaf_of(7, Row(anna, 6)),
    }) == 4  # fmt: skip


def test_what_is_not_in_the_tree_has_no_proof_and_nobody_has_the_empty_root() -> None:
    with pytest.raises(NotInTreeError):
        merkle.proof(leaves_of(2), leaves_of(3)[-1])
    assert merkle.root([]) == merkle.EMPTY_ROOT == bytes(32)
