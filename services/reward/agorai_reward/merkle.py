"""The payout of a task as a Merkle tree: its root goes on the chain, and with a proof an account claims its amount.

Pure. It is OpenZeppelin's `StandardMerkleTree` over (uint64 task, address account, uint256 amount): leaves are
hashed twice, so that no inner node can pass for one, and sorted; pairs are sorted, so that a proof needs no
directions. Contracts check it by OpenZeppelin's `MerkleProof`.

InputError
└── NotInTreeError             there is no proof of what is not in the tree
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from eth_utils.crypto import keccak

from agorai_reward.payout import Row
from agorai_shared.abi.codec import Codec
from agorai_shared.errors import InputError

EMPTY_ROOT: Final = bytes(32)
"""Of a payout that pays nobody; nothing hashes to it."""

_LEAF: Final = Codec("a payout", ["uint64", "address", "uint256"])


class NotInTreeError(InputError):
    """A proof was asked for of a leaf that the tree does not have."""

    def __init__(self, leaf: bytes) -> None:
        super().__init__(
            f"The leaf 0x{leaf.hex()} is not in the tree.",
            remedy="Ask for the proof of an account and amount that the payout has.",
        )


def leaf_of(task: int, row: Row) -> bytes:
    """Give the leaf of an account's payout, 32 bytes."""
    return keccak(keccak(_LEAF.encode((task, row.account, row.amount))))


def root(leaves: Sequence[bytes]) -> bytes:
    """Give the root of these leaves, in whatever order they are, 32 bytes."""
    return _tree(leaves)[0] if leaves else EMPTY_ROOT


def proof(leaves: Sequence[bytes], leaf: bytes) -> tuple[bytes, ...]:
    """Give the hashes that lead from a leaf to the root, from below.

    Raises
    ------
    NotInTreeError
    """
    if leaf not in leaves:
        raise NotInTreeError(leaf)
    tree = _tree(leaves)
    node, siblings = len(tree) - 1 - sorted(leaves).index(leaf), []
    while node:
        siblings.append(tree[node + 1 if node % 2 else node - 1])
        node = (node - 1) // 2
    return tuple(siblings)


def proves(root: bytes, leaf: bytes, proof: Sequence[bytes]) -> bool:
    """Say whether the hashes lead from the leaf to the root, as `MerkleProof.verify` does."""
    node = leaf
    for sibling in proof:
        node = _parent(node, sibling)
    return node == root


def _tree(leaves: Sequence[bytes]) -> list[bytes]:
    """Give the nodes of a complete binary tree, root first: those below node i are 2i + 1 and 2i + 2.

    The leaves are its last nodes, the smallest at the very end.
    """
    inner = len(leaves) - 1
    tree = [b""] * inner + sorted(leaves, reverse=True)
    for node in range(inner - 1, -1, -1):
        tree[node] = _parent(tree[2 * node + 1], tree[2 * node + 2])
    return tree


def _parent(one: bytes, other: bytes) -> bytes:
    return keccak(min(one, other) + max(one, other))
