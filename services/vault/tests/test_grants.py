"""Grants: only the one made for this very invocation is taken."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import fields, replace
from functools import cache

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwe
from joserfc.jwk import ECKey, OctKey, RSAKey

from agorai_shared import cid as cids
from agorai_shared.types import Address, Cid
from agorai_vault import grants
from agorai_vault.grants import Content, EncryptionKeyError, GrantRefusedError, Terms
from agorai_vault.keys import Keys

NOW = 1_900_000_000
CID = cids.of_raw(b"sealed")
CONTENT = Content(CID, bytes(range(32)), bytes(range(32, 64)))
HEADER = {"alg": "RSA-OAEP-256", "enc": "A256GCM"}
TERMS = Terms(
    chain_id=31337,
    contract=Address("0x" + "11" * 20),
    invocation=7,
    resource=3,
    sender=Address(""),
    recipient=Address(""),
    commitment=cids.commitment(CID, CONTENT.salt),
    expires_at=NOW + 60,
)


@cache
def participant(number: int) -> Keys:
    return Keys(
        Account.from_key(number.to_bytes(32)), rsa.generate_private_key(public_exponent=65537, key_size=2048)
    )


def parties() -> tuple[Keys, Keys, Terms]:
    owner, payer = participant(1), participant(2)
    return owner, payer, replace(TERMS, sender=owner.address, recipient=payer.address)


@cache
def good() -> bytes:
    owner, payer, terms = parties()
    return grants.make(terms, CONTENT, owner, payer.public_document)


def document() -> dict[str, object]:
    opened = jwe.decrypt_compact(good(), participant(2).jwk, algorithms=grants.ALGORITHMS)
    read: dict[str, object] = orjson.loads(opened.plaintext or b"")
    return read


def sealed(plain: bytes, **header: str) -> bytes:
    key = RSAKey.import_key(json.loads(participant(2).public_document))
    registry = jwe.JWERegistry(algorithms=[*grants.ALGORITHMS, "DEF"])
    return jwe.encrypt_compact(HEADER | header, plain, key, registry=registry).encode()


def taken(grant: bytes, *, now: int = NOW, **changed: object) -> Content:
    _, payer, terms = parties()
    return grants.take(grant, replace(terms, **changed), payer, now)  # type: ignore[arg-type]


def test_the_payer_takes_what_the_owner_gave() -> None:
    assert taken(good()) == CONTENT


def test_a_grant_without_an_end_is_taken_at_any_time() -> None:
    owner, payer, terms = parties()
    grant = grants.make(replace(terms, expires_at=0), CONTENT, owner, payer.public_document)
    assert taken(grant, expires_at=0, now=1 << 40) == CONTENT


def test_content_does_not_show_its_key() -> None:
    assert repr(CONTENT.key) not in repr(CONTENT)
    assert repr(CONTENT.salt) not in repr(CONTENT)


def test_two_grants_of_the_same_thing_have_nothing_in_common_but_their_header() -> None:
    owner, payer, terms = parties()
    again = grants.make(terms, CONTENT, owner, payer.public_document)
    assert [a == b for a, b in zip(good().split(b"."), again.split(b"."), strict=True)] == [
        True,
        False,
        False,
        False,
        False,
    ]


def test_a_grant_for_another_account_does_not_open() -> None:
    owner, _, terms = parties()
    grant = grants.make(terms, CONTENT, owner, participant(3).public_document)
    with pytest.raises(GrantRefusedError, match="does not open"):
        taken(grant)


@pytest.mark.parametrize(
    "other",
    [
        {"invocation": 8},
        {"resource": 4},
        {"chain_id": 1},
        {"contract": Address("0x" + "22" * 20)},
        {"recipient": Address("0x" + "33" * 20)},
        {"sender": Address("0x" + "44" * 20)},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_grant_cannot_be_replayed_elsewhere(other: dict[str, object]) -> None:
    with pytest.raises(GrantRefusedError, match="not the resource's owner who signed"):
        taken(good(), **other)  # type: ignore[arg-type]


def test_the_replays_tried_above_are_all_there_are() -> None:
    assert {field.name for field in fields(Terms)} == {
        "invocation",
        "resource",
        "chain_id",
        "contract",
        "recipient",
        "sender",
        "commitment",
        "expires_at",
    }


def test_a_grant_signed_by_another_is_refused() -> None:
    _, payer, terms = parties()
    grant = grants.make(terms, CONTENT, participant(3), payer.public_document)
    with pytest.raises(GrantRefusedError, match="not the resource's owner"):
        taken(grant)


def test_an_expired_grant_is_refused() -> None:
    assert taken(good(), now=NOW + 60) == CONTENT
    with pytest.raises(GrantRefusedError, match="expired"):
        taken(good(), now=NOW + 61)


def test_a_grant_that_claims_another_end_is_refused() -> None:
    with pytest.raises(GrantRefusedError, match="ends at another time"):
        taken(good(), expires_at=NOW + 61)


@pytest.mark.parametrize("part", ["cid", "salt"])
def test_content_that_the_resource_does_not_commit_to_is_refused(part: str) -> None:
    owner, payer, terms = parties()
    other = replace(CONTENT, **{part: cids.of_raw(b"else") if part == "cid" else bytes(32)})  # type: ignore[arg-type]
    with pytest.raises(GrantRefusedError, match="commits to"):
        taken(grants.make(terms, other, owner, payer.public_document))


@pytest.mark.parametrize("field", ["key", "signature"])
def test_a_payers_own_change_of_what_was_signed_is_no_evidence(field: str) -> None:
    changed = document()
    raw = bytearray(base64.urlsafe_b64decode(str(changed[field]) + "=="))
    raw[3] ^= 1
    changed[field] = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    with pytest.raises(GrantRefusedError, match="sign"):
        taken(sealed(orjson.dumps(changed)))


@settings(max_examples=300, deadline=None)
@given(where=st.integers(0), bit=st.integers(0, 7))
def test_a_grant_altered_by_one_bit_is_refused_or_says_the_same(where: int, bit: int) -> None:
    """The unused last bits of a base64 text are the only ones that say nothing."""
    altered = bytearray(good())
    altered[where % len(altered)] ^= 1 << bit
    try:
        assert taken(bytes(altered)) == CONTENT
    except GrantRefusedError:
        return

    def parts(grant: bytes) -> list[bytes]:
        return [base64.urlsafe_b64decode(part + b"==") for part in grant.split(b".")]

    assert parts(bytes(altered)) == parts(good())


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=300), st.lists(st.binary(max_size=40), min_size=5, max_size=5).map(b".".join)
    )
)
def test_what_is_no_grant_is_refused(raw: bytes) -> None:
    with pytest.raises(GrantRefusedError):
        taken(raw)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        JSON,
        st.builds(
            lambda name, value: document() | {name: value},
            st.sampled_from(["type", "cid", "key", "salt", "expiresAt", "signature", "more"]),
            JSON,
        ),
    )
)
def test_a_malformed_document_is_refused(value: object) -> None:
    with pytest.raises(GrantRefusedError):
        taken(sealed(json.dumps(value).encode()))


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        b"\xff\xfe",
        b"[" * 10_000,
        b'{"expiresAt": 1e999}',
        b'{"expiresAt": ' + b"9" * 5000 + b"}",
        b"null",
    ],
    ids=["empty", "no text", "deep", "infinite", "long", "null"],
)
def test_a_hostile_document_is_refused(plain: bytes) -> None:
    with pytest.raises(GrantRefusedError, match="malformed"):
        taken(sealed(plain))


def header(**members: object) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(members).encode()).rstrip(b"=")


@pytest.mark.parametrize(
    "head",
    [
        header(alg="dir", enc="A256GCM"),
        header(alg="RSA1_5", enc="A256GCM"),
        header(alg="RSA-OAEP-256", enc="A128CBC-HS256"),
        header(alg="none"),
        header(alg=5, enc=[]),
        header(**HEADER, crit=["x"]),
        header(**HEADER, zip="DEF"),
        header(**HEADER, p2c=1 << 31),
        base64.urlsafe_b64encode(b"[]"),
        base64.urlsafe_b64encode(b"7"),
        base64.urlsafe_b64encode(b"[" * 20_000),
        b"",
    ],
)
def test_another_header_is_refused(head: bytes) -> None:
    with pytest.raises(GrantRefusedError, match="does not open"):
        taken(b".".join([head, *good().split(b".")[1:]]))


def test_a_compressed_grant_is_refused_whatever_it_would_unpack_to() -> None:
    with pytest.raises(GrantRefusedError, match="does not open"):
        taken(sealed(b" " * 100_000, zip="DEF"))


def test_a_grant_of_a_symmetric_key_is_refused() -> None:
    """The recipient's public key, taken for a secret, opens nothing."""
    key = OctKey.import_key(participant(2).public_document[:32])
    direct = jwe.encrypt_compact({"alg": "dir", "enc": "A256GCM"}, b"{}", key)
    with pytest.raises(GrantRefusedError, match="does not open"):
        taken(direct.encode())


def test_an_oversize_grant_is_refused_unread() -> None:
    with pytest.raises(GrantRefusedError, match="more than"):
        taken(good() + b"A" * grants.MOST_GRANT)


def jwk(key: RSAKey | ECKey | OctKey, *, private: bool = False) -> bytes:
    return json.dumps(key.as_dict(private=private)).encode()


def rsa_key(bits: int) -> RSAKey:
    pem = rsa.generate_private_key(public_exponent=65537, key_size=bits).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    return RSAKey.import_key(pem)


def number(value: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8)).rstrip(b"=").decode()


@pytest.mark.filterwarnings("ignore:.*(size|bits).*")
def test_a_weak_key_is_refused() -> None:
    with pytest.raises(EncryptionKeyError, match="1024 bits"):
        grants.public_key(jwk(rsa_key(1024)), TERMS.sender)


def test_a_private_key_is_refused() -> None:
    with pytest.raises(EncryptionKeyError, match="private"):
        grants.public_key(jwk(rsa_key(2048), private=True), TERMS.sender)


HUGE = (1 << 20_000) + 1
ODD = participant(2).rsa.public_key().public_numbers().n


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b'"x"',
        b"{}",
        b'{"kty":"RSA"}',
        b'{"kty":"RSA","n":5,"e":7}',
        b'{"kty":"oct","k":"AAAA"}',
        b'{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}',
        json.dumps({"kty": "RSA", "n": number(ODD), "e": number(1)}).encode(),
        json.dumps({"kty": "RSA", "n": number(ODD), "e": number(2)}).encode(),
        json.dumps({"kty": "RSA", "n": number(HUGE), "e": number(65537)}).encode(),
        json.dumps({"kty": "RSA", "n": "A" * 20_000, "e": "AQAB"}).encode(),
        jwk(
            ECKey.import_key(
                ec.generate_private_key(ec.SECP256R1()).private_bytes(
                    Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
                )
            )
        ),
        json.dumps(
            participant(2)
            .rsa.public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            .decode()
        ).encode(),
    ],
)
def test_what_is_no_public_rsa_jwk_is_refused(text: bytes) -> None:
    with pytest.raises(EncryptionKeyError):
        grants.public_key(text, TERMS.sender)


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_any_other_document_is_no_key(value: object) -> None:
    with pytest.raises(EncryptionKeyError):
        grants.public_key(json.dumps(value).encode(), TERMS.sender)


def test_a_nodes_own_document_is_a_key_and_says_nothing_more() -> None:
    own = participant(2).public_document
    assert set(json.loads(own)) == {"e", "kty", "n", "use"}
    assert grants.public_key(own, TERMS.sender).as_dict(private=False)["n"] == json.loads(own)["n"]


def test_the_commitment_binds_object_and_salt() -> None:
    salt = os.urandom(32)
    assert cids.commitment(CID, salt) == cids.commitment(CID, salt) != cids.commitment(CID, bytes(32))
    assert cids.commitment(CID, salt) != cids.commitment(Cid(str(cids.of_raw(b"other"))), salt)
