"""What a party of a dispute shows to the voters drawn, and to them alone.

A testimony holds what opens the hand-over's messages (see `handover`) and the package, so it is sealed to each voter:
one public document, one JWE for each, the document's digest on the chain by the party's own transaction. So it is
certain who showed what to whom in time, and nobody else learns the model.

    EvidenceMalformedError (IntegrityError)    the document is not of this form, or holds nothing for a voter
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from joserfc.jwk import RSAKey
from pydantic import Field

from agorai_shared import jwe
from agorai_shared.documents import CidText, Document, DocumentMalformedError
from agorai_shared.errors import IntegrityError
from agorai_shared.jwe import MessageFaultyError
from agorai_shared.types import Address

TESTIMONY: Final = "agorai/testimony/1"

Hex = Annotated[str, Field(pattern=r"^([0-9a-f]{2})*\z", max_length=40_000)]
Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}\z")]


class EvidenceMalformedError(IntegrityError):
    """A party's evidence cannot be read."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The evidence is malformed: {why}.", remedy="Judge without it; its author lost nothing else."
        )


class PackageKey(Document):
    """Where a package lies, what opens it, and the salt of its commitment."""

    cid: CidText
    key: Hex32
    salt: Hex32


class Testimony(Document):
    """What one party can show; each part is left out where it has none."""

    type: Literal["agorai/testimony/1"] = TESTIMONY
    key: Hex | None = None
    """What opens the other side's key message (`handover.disclose`)."""
    address: Hex | None = None
    """What opens the other side's address message."""
    k: Hex32 | None = None
    """This side's own K_B, under which the other side sealed the address."""
    package: PackageKey | None = None
    """This side's own package."""


class Evidence(Document):
    """The public document."""

    type: Literal["agorai/evidence/1"] = "agorai/evidence/1"
    sealed: dict[str, str] = Field(max_length=45)
    """A testimony for each voter, by its account."""


def make(testimony: Testimony, voters: Mapping[Address, RSAKey]) -> bytes:
    """Seal a testimony to voters.

    Raises
    ------
    EncryptionKeyError
        If a voter's key is not RSA of 2048 to 8192 bits with exponent 65537.
    """
    plain = testimony.to_bytes()
    return Evidence(
        sealed={voter: jwe.encrypt(plain, TESTIMONY, key, voter) for voter, key in voters.items()}
    ).to_bytes()


def take(document: bytes, voter: Address, private_jwk: RSAKey) -> Testimony:
    """Open what a document holds for a voter.

    Raises
    ------
    EvidenceMalformedError
        If it is no such document, or holds nothing that opens for this voter.
    """
    try:
        sealed = Evidence.from_bytes(document).sealed.get(voter)
        if sealed is None:
            raise EvidenceMalformedError(f"it holds nothing for {voter}")
        return Testimony.from_bytes(jwe.decrypt(sealed, TESTIMONY, private_jwk))
    except (DocumentMalformedError, MessageFaultyError) as error:
        raise EvidenceMalformedError(error.message) from error
