"""What a party of a dispute shows to the voters drawn, and to them alone.

A testimony holds what opens the hand-over's messages (see `handover`) and packages, so it is sealed to the voters:
one public document, its digest on the chain by the party's own transaction. So it is certain who showed what to whom
in time, and nobody else learns the model.

In a trade whose terms say so the voters are not to learn the model either (fair-sharing IV-D): the accused shows
`SETS` packages with parameter sets of low quality instead, of which the accuser chooses two or three. What each side
shows first counts: the sets are fixed before they are chosen from, and both are the same for all voters.

    EvidenceMalformedError (IntegrityError)    the document is not of this form, or holds nothing for a voter
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self

from joserfc.jwk import RSAKey
from pydantic import Field, model_validator

from agorai_shared import jwe
from agorai_shared.documents import CidText, Document, DocumentMalformedError
from agorai_shared.errors import IntegrityError
from agorai_shared.jwe import MessageFaultyError
from agorai_shared.shared_jwe import SharedJwe
from agorai_shared.types import Address

TESTIMONY: Final = "agorai/testimony/1"

SETS: Final = 5
"""Of low quality that the accused shows: "multiple", of which "two or three" are chosen."""

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


class PackagePlace(Document):
    """Where a package lies, and the salt of its commitment: that it is there can be seen, not what it holds."""

    cid: CidText
    salt: Hex32


class Testimony(Document):
    """What one party shows; each part is left out where it has none, or none is asked for."""

    type: Literal["agorai/testimony/1"] = TESTIMONY
    key: Hex | None = None
    """What opens the other side's key message (`handover.disclose`)."""
    address: Hex | None = None
    """What opens the other side's address message."""
    k: Hex32 | None = None
    """This side's own K_B, under which the other side sealed the address."""
    package: PackageKey | None = None
    """This side's own package."""
    place: PackagePlace | None = None
    """Of this side's own package, where that is not shown."""
    sets: tuple[PackageKey, ...] = Field((), max_length=SETS)
    """Packages with parameter sets of low quality of this side's own model."""


class Evidence(Document):
    """The public document."""

    type: Literal["agorai/evidence/1"] = "agorai/evidence/1"
    sealed: SharedJwe
    """The testimony, to each voter by its account."""
    sets: tuple[Hex32, ...] = ()
    """Commitments to the accused's parameter sets."""
    chosen: tuple[Annotated[int, Field(ge=0, lt=SETS)], ...] = ()
    """Which of them the accuser chooses, counted from 0."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if len(self.sets) not in {0, SETS}:
            raise ValueError(f"it shows {len(self.sets)} sets, not {SETS}")
        if self.chosen and (len(self.chosen) not in {2, 3} or len(set(self.chosen)) != len(self.chosen)):
            raise ValueError("two or three different sets are to be chosen")
        return self


def choose() -> tuple[int, ...]:
    """Choose two or three of the sets, so that nobody can know beforehand which."""
    random = secrets.SystemRandom()
    return tuple(sorted(random.sample(range(SETS), random.choice((2, 3)))))


def make(
    testimony: Testimony,
    voters: Mapping[Address, RSAKey],
    *,
    sets: tuple[Hex32, ...] = (),
    chosen: tuple[int, ...] = (),
) -> bytes:
    """Seal a testimony to voters, with what everybody may see.

    Raises
    ------
    EncryptionKeyError
        If a voter's key is not RSA of 2048 to 8192 bits with exponent 65537.
    """
    sealed = jwe.encrypt_to_all(testimony.to_bytes(), TESTIMONY, voters)
    return Evidence(sealed=sealed, sets=sets, chosen=chosen).to_bytes()


def read(document: bytes) -> Evidence:
    """Read what everybody may see.

    Raises
    ------
    EvidenceMalformedError
        If it is no such document.
    """
    try:
        return Evidence.from_bytes(document)
    except DocumentMalformedError as error:
        raise EvidenceMalformedError(error.message) from error


def take(document: bytes, voter: Address, private_jwk: RSAKey) -> Testimony:
    """Open what a document holds for a voter.

    Raises
    ------
    EvidenceMalformedError
        If it is no such document, or holds nothing that opens for this voter.
    """
    sealed = read(document).sealed.to(voter)
    if sealed is None:
        raise EvidenceMalformedError(f"it holds nothing for {voter}")
    try:
        return Testimony.from_bytes(jwe.decrypt(sealed, TESTIMONY, private_jwk))
    except (DocumentMalformedError, MessageFaultyError) as error:
        raise EvidenceMalformedError(error.message) from error
