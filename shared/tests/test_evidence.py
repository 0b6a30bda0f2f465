"""What is shown to voters, and to nobody else."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import RSAKey

from agorai_shared import cid as cids
from agorai_shared import evidence
from agorai_shared.content import MAX_DOCUMENT_SIZE
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
    assert document.count(b'"ciphertext"') == 1
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
    at = document.index(b'"ciphertext":"') + 40
    document[at] = ord("A") if document[at] != ord("A") else ord("B")
    with pytest.raises(EvidenceMalformedError):
        evidence.take(bytes(document), ANNA, keys[ANNA])


def test_the_largest_evidence_for_the_most_voters_with_the_longest_keys_is_one_document(
    keys: dict[Address, RSAKey],
) -> None:
    n = keys[ANNA].public_key.public_numbers().n
    longest = RSAKey.import_key(RSAPublicNumbers(65537, n**4).public_key())
    voters = {Address(f"0x{number:040x}"): longest for number in range(44)} | {ANNA: keys[ANNA]}
    shown = "ff" * (9 * 1024)  # what opens a message sealed to a key as long
    package = PackageKey(cid=cids.of_raw(b"package"), key="22" * 32, salt="33" * 32)
    most = evidence.Testimony(key=shown, address=shown, k="11" * 32, package=package, sets=(package,) * 5)
    document = evidence.make(most, voters, sets=("44" * 32,) * 5, chosen=(0, 2, 4))
    assert len(document) < MAX_DOCUMENT_SIZE / 4
    assert evidence.take(document, ANNA, keys[ANNA]) == most


def test_two_or_three_different_ones_of_five_sets_are_chosen(keys: dict[Address, RSAKey]) -> None:
    choices = {evidence.choose() for _ in range(300)}
    assert {len(choice) for choice in choices} == {2, 3}
    assert {index for choice in choices for index in choice} == set(range(evidence.SETS))
    assert all(list(choice) == sorted(set(choice)) for choice in choices)
    document = evidence.make(TESTIMONY, keys, sets=("44" * 32,) * 5, chosen=(1, 3))
    assert evidence.read(document).chosen == (1, 3)


@pytest.mark.parametrize("chosen", [(1,), (1, 1), (0, 5), (0, -1), (0, 1, 2, 3)])
def test_another_choice_is_none(keys: dict[Address, RSAKey], chosen: tuple[int, ...]) -> None:
    document = evidence.make(TESTIMONY, keys).replace(b'"chosen":[]', f'"chosen":{list(chosen)}'.encode())
    with pytest.raises(EvidenceMalformedError):
        evidence.read(document)


def test_fewer_sets_are_none(keys: dict[Address, RSAKey]) -> None:
    document = evidence.make(TESTIMONY, keys).replace(b'"sets":[]', b'"sets":["%b"]' % (b"44" * 32))
    with pytest.raises(EvidenceMalformedError, match="shows 1 sets"):
        evidence.read(document)
