"""An account as a setting gives it: in any spelling, kept in its one (EIP-55), in which names are made of it."""

from __future__ import annotations

from typing import Annotated

from eth_utils.address import is_address, to_checksum_address
from pydantic import AfterValidator

from agorai_shared.types import Address


def _checksummed(given: str) -> Address:
    if not is_address(given):
        raise ValueError(f"{given!r} is no address: write 0x and 40 hex digits")
    return Address(to_checksum_address(given))


Account = Annotated[Address, AfterValidator(_checksummed)]
"""Refuses what is no address."""
