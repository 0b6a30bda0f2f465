"""Dealing by a public seed: whoever deals again comes to the same groups and orders."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

ItemT = TypeVar("ItemT")

LEAST: Final = 2
"""Members of a group: the sum of one is its update."""
SEED_LENGTH: Final = 32
"""Bytes."""


def deal(subtasks: Sequence[int], seed: bytes) -> tuple[frozenset[int], ...]:
    """Deal those whose updates are added in a round into as many groups as they fill, of two members or three.

    Parameters
    ----------
    subtasks
        None are dealt where there is but one.
    seed
        32 bytes that nobody could choose, such as a hash of the round.
    """
    order = shuffled(sorted(subtasks), numbers(seed, b"agorai/groups/1"))
    count = len(order) // LEAST
    return tuple(frozenset(order[index::count]) for index in range(count))


def numbers(seed: bytes, purpose: bytes) -> Iterator[int]:
    """Give 64-bit numbers without end: SHA-256 of purpose, seed and a counter of 8 bytes, in four, big-endian."""
    if len(seed) != SEED_LENGTH:
        raise ValueError(f"a seed has {SEED_LENGTH} bytes, not {len(seed)}")
    for counter in itertools.count():
        digest = hashlib.sha256(purpose + seed + counter.to_bytes(8, "big")).digest()
        yield from (int.from_bytes(digest[start : start + 8], "big") for start in range(0, len(digest), 8))


def shuffled(items: Sequence[ItemT], drawn: Iterator[int]) -> tuple[ItemT, ...]:
    """Put the items in a random order (Durstenfeld, "Algorithm 235", 1964), every order as likely as any other."""
    order = list(items)
    for last in range(len(order) - 1, 0, -1):
        even = 2**64 - 2**64 % (last + 1)
        chosen = next(number for number in drawn if number < even) % (last + 1)
        order[last], order[chosen] = order[chosen], order[last]
    return tuple(order)
