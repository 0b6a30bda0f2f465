"""A block header's filter of the addresses and topics in its logs: 2048 bits, three for each of them.

Source: Ethereum yellow paper, section 4.4.1, the function M3:2048.
"""

from __future__ import annotations

from functools import lru_cache

from eth_utils.crypto import keccak

from agorai_shared.types import Address


@lru_cache(maxsize=65_536)
def masks(address: Address) -> int:
    """Give the bits that a log of this address sets."""
    digest = keccak(hexstr=address)
    bits = (int.from_bytes(digest[n : n + 2], "big") % 2048 for n in (0, 2, 4))
    mask = 0
    for bit in bits:
        mask |= 1 << bit
    return mask


def may_contain(bloom: int, mask: int) -> bool:
    """Tell whether the block may hold a log of the address; False is certain, True may be by chance.

    `bloom` is the header's `logsBloom` as a number, `mask` comes from `masks`.
    """
    return bloom & mask == mask
