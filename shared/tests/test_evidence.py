"""What is shown to voters, and to nobody else."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import RSAKey

from agorai_shared import cid as cids
from agorai_shared import evidence
from agorai_shared.evidence import EvidenceMalformedError, PackageKey
from agorai_shared.types import Address

ANNA, BORIS, CLARA = (Address("0x" + digit * 40) for digit in "abc")
TESTIMONY = evidence.Testimony(
    key="00ff" * 100,
    k="11" * 32,
    package=PackageKey(cid=cids.of_raw(b"package"), key="22" * 32, salt="33" * 32),
)


@pytest.fixture(scope="module")
def keys() -> dict[Address, RSAKey]:
    return {voter: _key() for voter in (ANNA, BORIS)}


def _key() -> RSAKey:
    made = rsa.generate_private_key(65537, 2048)
    return RSAKey.import_key(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def test_each_voter_reads_it_and_nobody_else(keys: dict[Address, RSAKey]) -> None:
    document = evidence.make(TESTIMONY, keys)
    for voter, key in keys.items():
        assert evidence.take(document, voter, key) == TESTIMONY
    assert b"22" * 32 not in document
    with pytest.raises(EvidenceMalformedError, match="holds nothing for"):
        evidence.take(document, CLARA, keys[ANNA])
    with pytest.raises(EvidenceMalformedError):
        evidence.take(document, ANNA, keys[BORIS])


@pytest.mark.parametrize("document", [b"", b"{}", b'{"sealed":{},"type":"agorai/evidence/2"}', b"\xff"])
def test_what_is_no_evidence_is_said_not_to_be(document: bytes, keys: dict[Address, RSAKey]) -> None:
    with pytest.raises(EvidenceMalformedError):
        evidence.take(document, ANNA, keys[ANNA])


def test_evidence_that_was_altered_does_not_open(keys: dict[Address, RSAKey]) -> None:
    document = bytearray(evidence.make(TESTIMONY, keys))
    at = document.index(b".") + 40
    document[at] = ord("A") if document[at] != ord("A") else ord("B")
    with pytest.raises(EvidenceMalformedError):
        evidence.take(bytes(document), ANNA, keys[ANNA])
