"""The nouns that cross a boundary, one type each."""

from __future__ import annotations

from typing import NewType

Address = NewType("Address", str)
"""An EIP-55 checksummed account or contract address, `0x` and 40 hex digits."""

Cid = NewType("Cid", str)
"""A content identifier in its canonical text form (CIDv1 base32 lower case, or CIDv0 base58btc)."""

Digest = NewType("Digest", bytes)
"""32 bytes of SHA-256: how the chain names a document, which is one raw block (see `cid.of_digest`)."""

Hash = NewType("Hash", str)
"""A block or transaction hash, `0x` and 64 lower-case hex digits."""

Wei = NewType("Wei", int)
"""An amount in the smallest unit of its token (18 decimals unless the token says otherwise)."""

ResourceId = NewType("ResourceId", int)
InvocationId = NewType("InvocationId", int)
TradeId = NewType("TradeId", int)
CaseId = NewType("CaseId", int)
