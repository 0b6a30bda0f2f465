"""The hand-over: what the receiver refuses, a judge blames on the sender, and nobody can frame the other."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from eth_account import Account
from eth_account.signers.local import LocalAccount
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwe as joserfc_jwe
from joserfc.jwk import OctKey, RSAKey

from agorai_shared import cid as cids
from agorai_shared import handover, jwe
from agorai_shared.documents import Document
from agorai_shared.handover import (
    ADDRESS_MESSAGE,
    KEY_MESSAGE,
    PACKAGE_ADDRESS,
    SKEW_S,
    Binding,
    HandoverFaultyError,
    HandoverRefusedError,
    HandoverStaleError,
    KeySecret,
    NotSenderError,
    OpenedKey,
    PackageAddress,
)
from agorai_shared.jwe import DisclosureFalseError, EncryptionKeyError, MessageFaultyError
from agorai_shared.types import Address, Cid

NOW, MAX_AGE = 1_900_000_000, 600
SELLER: LocalAccount = Account.from_key(b"\1" * 32)
BUYER: LocalAccount = Account.from_key(b"\2" * 32)
THIRD: LocalAccount = Account.from_key(b"\3" * 32)
TO_SELLER = Binding(
    31337, Address("0x" + "11" * 20), 7, sender=Address(BUYER.address), recipient=Address(SELLER.address)
)
TO_BUYER = TO_SELLER.mirrored
AD = PackageAddress(cids.of_raw(b"sealed"), bytes(range(32)), bytes(range(32, 64)))
OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


@cache
def private(owner: str, exponent: int = 65537) -> RSAKey:
    del owner
    return RSAKey.import_key(rsa.generate_private_key(public_exponent=exponent, key_size=2048))


def public(key: RSAKey) -> RSAKey:
    return jwe.public_key(json.dumps(key.as_dict(private=False)).encode(), TO_SELLER.sender)


def modulus(key: RSAKey) -> int:
    return key.public_key.public_numbers().n


SELLERS, BUYERS, OTHERS = "seller", "buyer", "third"


@dataclass(frozen=True)
class Told:
    """A good hand-over."""

    key_message: bytes
    secret: KeySecret
    opened: OpenedKey
    address_message: bytes


@cache
def told() -> Told:
    key_message, secret = handover.make_key_message(TO_SELLER, BUYER, public(private(SELLERS)), NOW)
    opened = handover.open_key_message(key_message, TO_SELLER, private(SELLERS), NOW, MAX_AGE)
    answer = handover.make_address_message(
        TO_BUYER, SELLER, public(private(BUYERS)), opened, cids.sha256(key_message), AD, NOW
    )
    return Told(key_message, secret, opened, answer)


def open_key(document: bytes, binding: Binding = TO_SELLER, *, now: int = NOW) -> OpenedKey:
    return handover.open_key_message(document, binding, private(SELLERS), now, MAX_AGE)


def check_key(
    document: bytes, disclosed: bytes, key: RSAKey | None = None, *, named_at: int = NOW
) -> OpenedKey:
    return handover.check_key_message(
        document, TO_SELLER, key or public(private(SELLERS)), disclosed, named_at
    )


def open_address(
    document: bytes, binding: Binding = TO_BUYER, *, now: int = NOW, **changed: Any
) -> PackageAddress:
    expected: dict[str, Any] = {
        "secret": told().secret,
        "key_message_digest": cids.sha256(told().key_message),
        "commitment": AD.commitment,
    }
    return handover.open_address_message(
        document, binding, private(BUYERS), now=now, max_age_s=MAX_AGE, **expected | changed
    )


def check_address(
    document: bytes,
    disclosed: bytes,
    *,
    key: RSAKey | None = None,
    k: bytes | None = None,
    key_message: bytes | None = None,
    commitment: bytes = AD.commitment,
    named_at: int = NOW,
) -> PackageAddress:
    return handover.check_address_message(
        document,
        TO_BUYER,
        key or public(private(BUYERS)),
        disclosed,
        told().secret.k if k is None else k,
        told().key_message if key_message is None else key_message,
        commitment,
        named_at,
    )


@cache
def disclosed_key() -> bytes:
    return handover.disclose(told().key_message, TO_SELLER, private(SELLERS))


@cache
def disclosed_address() -> bytes:
    return handover.disclose(told().address_message, TO_BUYER, private(BUYERS))


# ------------------------------------------------------------------------------------------ a good hand-over


def test_the_seller_opens_what_the_buyer_sealed() -> None:
    assert open_key(told().key_message) == OpenedKey(told().secret.k, told().secret.hq)


def test_the_buyer_opens_what_the_seller_sealed() -> None:
    assert open_address(told().address_message) == AD


def test_a_judge_reads_the_same_in_a_good_key_message() -> None:
    assert check_key(told().key_message, disclosed_key()) == told().opened


def test_a_judge_reads_the_same_in_a_good_address_message() -> None:
    assert check_address(told().address_message, disclosed_address()) == AD


@settings(max_examples=25, deadline=None)
@given(
    st.binary(max_size=40).map(cids.of_raw) | st.binary(max_size=40).map(cids.of_dag_pb),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
    st.integers(0, (1 << 63) - 1),
    st.integers(0, (1 << 63) - 1),
    st.integers(0, 1 << 40),
)
def test_any_address_comes_over_in_any_trade(
    cid: Cid, key: bytes, salt: bytes, trade: int, chain_id: int, now: int
) -> None:
    there = replace(TO_SELLER, trade=trade, chain_id=chain_id)
    back, address = there.mirrored, PackageAddress(cid, key, salt)
    sell, buy = private(SELLERS), private(BUYERS)
    first, secret = handover.make_key_message(there, BUYER, public(sell), now)
    digest = cids.sha256(first)
    opened = handover.open_key_message(first, there, sell, now, MAX_AGE)
    second = handover.make_address_message(back, SELLER, public(buy), opened, digest, address, now)
    taken = handover.open_address_message(second, back, buy, secret, digest, address.commitment, now, 0)
    assert taken == address


def test_nothing_secret_shows_in_a_message_or_a_repr() -> None:
    secret, key, answer = told().secret, told().key_message, told().address_message
    for raw in (secret.k, secret.q, secret.hq, AD.key, AD.salt):
        for text in (key, answer, repr([secret, told().opened, AD]).encode()):
            assert raw not in text
            assert raw.hex().encode() not in text
            assert jwe.encode(raw).encode() not in text
            assert repr(raw)[2:-1].encode() not in text
    assert AD.cid.encode() not in answer


def test_every_key_message_has_its_own_key_and_number() -> None:
    secret = handover.make_key_message(TO_SELLER, BUYER, public(private(SELLERS)), NOW)[1]
    assert len({secret.k, secret.q, told().secret.k, told().secret.q}) == 4


def test_messages_are_canonical_and_small() -> None:
    for document in (told().key_message, told().address_message):
        assert document == orjson.dumps(orjson.loads(document), option=orjson.OPT_SORT_KEYS)
        assert len(document) < handover.MOST_DOCUMENT / 4


def test_both_kinds_fit_with_the_largest_keys() -> None:
    large = RSAKey.import_key(RSAPublicNumbers(65537, modulus(private(SELLERS)) ** 4).public_key())
    assert len(handover.make_key_message(TO_SELLER, BUYER, large, NOW)[0]) < 3000
    answer = handover.make_address_message(
        TO_BUYER, SELLER, large, told().opened, cids.sha256(told().key_message), AD, NOW
    )
    assert len(answer) < 3000


def test_only_the_binding_s_sender_signs() -> None:
    with pytest.raises(NotSenderError, match="to send"):
        handover.make_key_message(TO_SELLER, SELLER, public(private(SELLERS)), NOW)
    with pytest.raises(NotSenderError):
        handover.make_address_message(
            TO_BUYER, BUYER, public(private(BUYERS)), told().opened, cids.sha256(b""), AD, NOW
        )


def test_nothing_is_sealed_to_a_key_that_could_prove_nothing() -> None:
    with pytest.raises(EncryptionKeyError, match="exponent 65537"):
        handover.make_key_message(TO_SELLER, BUYER, public(private(SELLERS, 3)), NOW)


@pytest.mark.parametrize(
    ("n", "e", "why"),
    [
        (lambda n: n, 3, "exponent 65537"),
        (lambda n: n - 1, 65537, "small factor"),  # even: nothing can be sealed to it at all
        (lambda n: n // 4093 * 4093, 65537, "small factor"),
        (lambda n: n**5, 65537, "102.. bits"),
    ],
)
def test_a_key_to_which_nothing_can_be_sealed_is_none(n: Callable[[int], int], e: int, why: str) -> None:
    odd = n(modulus(private(SELLERS)))
    size = (odd.bit_length() + 7) // 8
    members = {"kty": "RSA", "n": jwe.encode(odd.to_bytes(size)), "e": jwe.encode(e.to_bytes(3))}
    with pytest.raises(EncryptionKeyError, match=why):
        jwe.public_key(json.dumps(members).encode(), TO_SELLER.recipient)


# ------------------------------------------------------------------------------------------------------ age


@pytest.mark.parametrize("late", [-SKEW_S, 0, MAX_AGE])
def test_a_message_in_time_is_taken(late: int) -> None:
    assert open_key(told().key_message, now=NOW + late) == told().opened
    assert open_address(told().address_message, now=NOW + late) == AD


@pytest.mark.parametrize(("late", "why"), [(-SKEW_S - 1, "from the future"), (MAX_AGE + 1, "s old")])
def test_a_message_out_of_time_is_refused_as_stale(late: int, why: str) -> None:
    with pytest.raises(HandoverStaleError, match=why):
        open_key(told().key_message, now=NOW + late)
    with pytest.raises(HandoverStaleError, match=why):
        open_address(told().address_message, now=NOW + late)


def test_a_message_that_is_also_wrong_is_not_refused_as_stale() -> None:
    with pytest.raises(HandoverRefusedError) as caught:
        open_key(told().key_message, replace(TO_SELLER, trade=8), now=NOW + MAX_AGE + 1)
    assert not isinstance(caught.value, HandoverStaleError)


# ------------------------------------------------------------------------------ what a faulty sender can send


def encoded(value: Any) -> str:
    return jwe.encode(value if isinstance(value, bytes) else json.dumps(value).encode())


def header(content_type: str, algorithm: str = "RSA-OAEP-256") -> dict[str, Any]:
    return {"alg": algorithm, "enc": "A256GCM", "typ": "JOSE", "cty": content_type}


def compact(
    head: bytes, encrypted_key: bytes, content_key: bytes, plain: bytes, iv: bytes = bytes(12)
) -> str:
    content = AESGCM(content_key).encrypt(iv, plain, encoded(head).encode())
    return ".".join(map(encoded, (head, encrypted_key, iv, content[:-16], content[-16:])))


def head_of(content_type: str, algorithm: str = "RSA-OAEP-256", **more: Any) -> bytes:
    return orjson.dumps(header(content_type, algorithm) | more)


def seal(plain: bytes, owner: str, head: bytes, *, content_key: bytes = bytes(32)) -> str:
    used = content_key if len(content_key) in {16, 32} else bytes(32)
    return compact(head, private(owner).public_key.encrypt(content_key, OAEP), used, plain)


def signed(message: Any, account: LocalAccount) -> bytes:
    """Sign as a cheat would, whoever the message says sent it."""
    signature = bytes(account.sign_message(handover._typed(message)).signature)
    document: Document = message.model_copy(update={"signature": signature.hex()})
    return document.to_bytes()


def sealed_key(**changed: Any) -> bytes:
    return orjson.dumps({"k": told().secret.k.hex(), "hq": told().secret.hq.hex()} | changed, option=SORTED)


SORTED = orjson.OPT_SORT_KEYS


def key_message(text: str | None = None, *, by: LocalAccount = BUYER, **changed: Any) -> bytes:
    members: dict[str, Any] = {
        "binding": TO_SELLER,
        "time": NOW,
        "jwe": jwe.encrypt(sealed_key(), KEY_MESSAGE, public(private(SELLERS)), TO_SELLER.recipient)
        if text is None
        else text,
        "commitment": cids.sha256(told().secret.k).hex(),
        "challenge": cids.sha256(told().secret.hq).hex(),
    }
    return signed(handover._KeyMessage(**members | changed), by)


def key_saying(plain: bytes, **changed: Any) -> bytes:
    return key_message(seal(plain, SELLERS, head_of(KEY_MESSAGE)), **changed)


def inner(plain: bytes | None = None, k: bytes | None = None, **changed: Any) -> str:
    members = {"cid": AD.cid, "key": AD.key.hex(), "salt": AD.salt.hex()} | changed
    plain = orjson.dumps(members, option=SORTED) if plain is None else plain
    return jwe.encrypt_directly(plain, PACKAGE_ADDRESS, told().secret.k if k is None else k)


def sealed_address(under_k: str | None = None, **changed: Any) -> bytes:
    members = {"address": inner() if under_k is None else under_k, "hq": told().secret.hq.hex()}
    return orjson.dumps(members | changed, option=SORTED)


def address_message(text: str, *, by: LocalAccount = SELLER, **changed: Any) -> bytes:
    answers = cids.sha256(told().key_message).hex()
    members: dict[str, Any] = {"binding": TO_BUYER, "time": NOW, "jwe": text, "answers": answers}
    return signed(handover._AddressMessage(**members | changed), by)


def address_saying(plain: bytes, **changed: Any) -> bytes:
    return address_message(seal(plain, BUYERS, head_of(ADDRESS_MESSAGE)), **changed)


def changed_json(document: bytes, **changed: Any) -> bytes:
    return orjson.dumps(orjson.loads(document) | changed, option=SORTED)


def with_v(document: bytes, v: int) -> bytes:
    signature = orjson.loads(document)["signature"]
    return changed_json(document, signature=signature[:-2] + f"{v:02x}")


def numbered(c: int, owner: str, length: int = 256) -> Callable[[bytes, bytes], str]:
    del owner
    return lambda head, plain: compact(head, c.to_bytes(length), bytes(32), plain)


def too_large_a_number(owner: str) -> int:
    """A ciphertext with the modulus added once, which still has the modulus's length."""
    n = modulus(private(owner))
    while True:
        c = int.from_bytes(private(owner).public_key.encrypt(bytes(32), OAEP))
        if c + n < 1 << 2048:
            return c + n
        if n + (1 << 2040) > 1 << 2048:  # almost no c fits; take the root of one that does
            return n + pow(2, 65537, n) % ((1 << 2048) - n)


def factor_of(owner: str) -> int:
    key = private(owner).private_key
    assert key is not None
    return key.private_numbers().p


JweMaker = Callable[[str, str, bytes], str]
"""Makes of a recipient, a content type and a good plaintext a JWE that is at fault."""


def remake(text: str, part: int, change: Callable[[str], str]) -> str:
    parts = text.split(".")
    parts[part] = change(parts[part])
    return ".".join(parts)


def good_jwe(owner: str, cty: str, plain: bytes) -> str:
    return seal(plain, owner, head_of(cty))


def padded(owner: str, cty: str, plain: bytes, block: int) -> str:
    key = private(owner)
    return compact(head_of(cty), pow(block, 65537, modulus(key)).to_bytes(256), bytes(32), plain)


def oaep(data: bytes, seed: bytes, first: int = 0) -> bytes:
    masked = jwe._xor(data, jwe._mask(seed, len(data)))
    return bytes([first]) + jwe._xor(seed, jwe._mask(masked, 32)) + masked


EMPTY_LABEL = cids.sha256(b"")
ZEROS = bytes(100)


FAULTY_JWES: dict[str, JweMaker] = {
    "to another key": lambda _, cty, plain: seal(plain, OTHERS, head_of(cty)),
    "to a key of another size": lambda _, cty, plain: compact(
        head_of(cty), secrets.token_bytes(384), bytes(32), plain
    ),
    "of an encrypted key too short": lambda o, cty, p: remake(
        good_jwe(o, cty, p), 1, lambda e: encoded(jwe.decode(e)[1:])
    ),
    "of an encrypted key with a zero in front": lambda o, cty, p: remake(
        good_jwe(o, cty, p), 1, lambda e: encoded(b"\0" + jwe.decode(e))
    ),
    "of an encrypted key above the modulus": lambda o, cty, p: numbered(too_large_a_number(o), o)(
        head_of(cty), p
    ),
    "of the encrypted key 0": lambda o, cty, p: numbered(0, o)(head_of(cty), p),
    "of the encrypted key 1": lambda o, cty, p: numbered(1, o)(head_of(cty), p),
    "of an encrypted key that shares a factor": lambda o, cty, p: numbered(factor_of(o), o)(head_of(cty), p),
    "of no padding": lambda o, cty, p: padded(o, cty, p, 0xABCDEF),
    "of a random block": lambda o, cty, p: padded(o, cty, p, secrets.randbits(2000)),
    "of padding with another first byte": lambda o, cty, p: padded(
        o, cty, p, int.from_bytes(oaep(EMPTY_LABEL + bytes(158) + b"\1" + bytes(32), bytes(32), 1))
    ),
    "of padding that is not zeros": lambda o, cty, p: padded(
        o, cty, p, int.from_bytes(oaep(EMPTY_LABEL + b"\2" + bytes(157) + b"\1" + bytes(32), bytes(32)))
    ),
    "of padding without an end": lambda o, cty, p: padded(
        o, cty, p, int.from_bytes(oaep(EMPTY_LABEL + bytes(191), bytes(32)))
    ),
    "of a content key of 16 bytes": lambda o, cty, p: seal(p, o, head_of(cty), content_key=bytes(16)),
    "of an empty content key": lambda o, cty, p: seal(p, o, head_of(cty), content_key=b""),
    "of a content key of 33 bytes": lambda o, cty, p: seal(p, o, head_of(cty), content_key=bytes(33)),
    "under another content key": lambda o, cty, p: compact(
        head_of(cty), private(o).public_key.encrypt(bytes(32), OAEP), b"\1" * 32, p
    ),
    "with another tag": lambda o, cty, p: remake(good_jwe(o, cty, p), 4, lambda _: encoded(bytes(16))),
    "with a short tag": lambda o, cty, p: remake(
        good_jwe(o, cty, p), 4, lambda t: encoded(jwe.decode(t)[:12])
    ),
    "with a long nonce": lambda o, cty, p: compact(
        head_of(cty), private(o).public_key.encrypt(bytes(32), OAEP), bytes(32), p, bytes(16)
    ),
    "with no content": lambda o, cty, p: remake(good_jwe(o, cty, p), 3, lambda _: ""),
    "padded with =": lambda o, cty, p: good_jwe(o, cty, p) + "==",
    "of four parts": lambda o, cty, p: good_jwe(o, cty, p).rpartition(".")[0],
    "of six parts": lambda o, cty, p: good_jwe(o, cty, p) + ".",
    "of unused bits": lambda o, cty, p: remake(
        good_jwe(o, cty, p), 4, lambda t: t[:-1] + chr(ord(t[-1]) + 1)
    ),
    "of no base64url": lambda o, cty, p: remake(good_jwe(o, cty, p), 2, lambda _: "é!"),
    "empty": lambda *_: "",
    "of RSA1_5": lambda o, cty, p: compact(
        head_of(cty, "RSA1_5"), private(o).public_key.encrypt(bytes(32), padding.PKCS1v15()), bytes(32), p
    ),
    "of RSA-OAEP": lambda o, cty, p: compact(
        head_of(cty, "RSA-OAEP"),
        private(o).public_key.encrypt(
            bytes(32),
            padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None),  # noqa: S303
        ),
        bytes(32),
        p,
    ),
    "of a label": lambda o, cty, p: compact(
        head_of(cty),
        private(o).public_key.encrypt(
            bytes(32), padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), b"label")
        ),
        bytes(32),
        p,
    ),
    "under a known key": lambda _, cty, plain: compact(head_of(cty, "dir"), b"", bytes(32), plain),
    "under a password": lambda o, cty, p: seal(
        p, o, head_of(cty, "PBES2-HS256+A128KW", p2c=1 << 31, p2s="AAAA")
    ),
    "of another content cipher": lambda o, cty, p: seal(p, o, head_of(cty, enc="A128CBC-HS256")),
    "compressed": lambda o, cty, _: joserfc_jwe.encrypt_compact(
        header(cty) | {"zip": "DEF"},
        b" " * 100_000,
        public(private(o)),
        registry=joserfc_jwe.JWERegistry(algorithms=[*jwe.ALGORITHMS, "DEF"]),
    ),
    "with a critical member": lambda o, cty, p: seal(p, o, head_of(cty, crit=["exp"], exp=1)),
    "with a huge count": lambda o, cty, p: seal(p, o, head_of(cty, p2c=1 << 62)),
    "with one more member": lambda o, cty, p: seal(p, o, head_of(cty, kid="x")),
    "with a member twice": lambda o, cty, p: seal(p, o, b'{"alg":"dir",' + head_of(cty)[1:]),
    "with a space in its header": lambda o, cty, p: seal(p, o, head_of(cty).replace(b":", b": ", 1)),
    "of another content type": lambda o, _, p: seal(p, o, head_of("agorai/grant/1")),
    "of no header": lambda o, cty, p: seal(p, o, b"[]"),
    "of nested headers": lambda o, cty, p: seal(p, o, b"[" * 2000),
    "of something else": lambda o, cty, _: seal(b"null", o, head_of(cty)),
    "of nothing": lambda o, cty, _: seal(b"", o, head_of(cty)),
    "of no text": lambda o, cty, _: seal(b"\xff\xfe", o, head_of(cty)),
    "of one member more": lambda o, cty, p: seal(changed_json(p, more=1), o, head_of(cty)),
    "of a member twice within": lambda o, cty, p: seal(p[:-1] + b"," + p[1:], o, head_of(cty)),
    "of a space within": lambda o, cty, p: seal(p + b" ", o, head_of(cty)),
    "of too much": lambda o, cty, p: seal(b" " * 5000 + p, o, head_of(cty)),
}

FACES: dict[str, Callable[[Callable[..., bytes]], bytes]] = {
    "unsigned": lambda good: changed_json(good(), signature="00" * 65),
    "signed by a third": lambda good: good(by=THIRD),
    "signed in a different form": lambda good: with_v(
        good(), int(orjson.loads(good())["signature"][-2:], 16) + 32
    ),
    "signed in a shorter form": lambda good: with_v(good(), 0),
    "with half a signature": lambda good: changed_json(good(), signature="00" * 64),
    "with no signature": lambda good: orjson.dumps(
        {name: value for name, value in orjson.loads(good()).items() if name != "signature"}, option=SORTED
    ),
    "of a time changed after signing": lambda good: changed_json(good(), time=NOW + 1),
    "of a negative time": lambda good: changed_json(good(), time=-1),
    "of a time that is text": lambda good: changed_json(good(), time=str(NOW)),
    "of a time that is true": lambda good: changed_json(good(), time=True),
    "of a time that is no integer": lambda good: changed_json(good(), time=float(NOW)),
    "of a time without end": lambda good: good().replace(str(NOW).encode(), b"9" * 4000),
    "of another type": lambda good: changed_json(good(), type="agorai/grant/1"),
    "of no type": lambda good: orjson.dumps(
        {name: value for name, value in orjson.loads(good()).items() if name != "type"}, option=SORTED
    ),
    "of one member more": lambda good: changed_json(good(), more=1),
    "of one member more in the binding": lambda good: changed_json(
        good(), binding=orjson.loads(good())["binding"] | {"more": 1}
    ),
    "of a member twice": lambda good: (raw := good())[:-1] + b"," + raw[1:],
    "with a space": lambda good: good() + b" ",
    "in another order": lambda good: orjson.dumps(dict(reversed(orjson.loads(good()).items()))),
    "with an escape": lambda good: good().replace(b"agorai", b"\\u0061gorai"),
    "too large": lambda good: changed_json(good(), jwe="A" * handover.MOST_DOCUMENT),
    "of nothing": lambda _: b"",
    "of null": lambda _: b"null",
    "of no text": lambda _: b"\xff\xfe",
    "of endless depth": lambda _: b"[" * 8000,
}


BINDINGS: dict[str, dict[str, Any]] = {
    "chain": {"chain_id": 1},
    "contract": {"contract": "0x" + "22" * 20},
    "trade": {"trade": 8},
    "sender": {"sender": THIRD.address},
    "recipient": {"recipient": THIRD.address},
}
KEY_FAULTS: dict[str, Callable[[], bytes]] = {
    **{
        f"a JWE {name}": lambda make=make: key_message(make(SELLERS, KEY_MESSAGE, sealed_key()))  # type: ignore[misc]
        for name, make in FAULTY_JWES.items()
    },
    **{f"a document {name}": lambda make=make: make(key_message) for name, make in FACES.items()},  # type: ignore[misc]
    **{
        f"another {name}": lambda other=other: key_message(binding=replace(TO_SELLER, **other))  # type: ignore[misc]
        for name, other in BINDINGS.items()
    },
    "the other direction": lambda: key_message(binding=TO_BUYER, by=SELLER),
    "an address message": lambda: address_saying(sealed_address()),
    "another K than committed to": lambda: key_saying(sealed_key(k="ab" * 32)),
    "another H(Q) than committed to": lambda: key_saying(sealed_key(hq="ab" * 32)),
    "a commitment to another K": lambda: key_message(commitment="ab" * 32),
    "a commitment to a short K": lambda: key_saying(
        sealed_key(k="ab"), commitment=cids.sha256(b"\xab").hex()
    ),
    "a K in upper case": lambda: key_saying(sealed_key(k=told().secret.k.hex().upper())),
    "a K that is a number": lambda: key_saying(sealed_key(k=5)),
    "a changed commitment": lambda: changed_json(key_message(), commitment="ab" * 32),
    "a changed challenge": lambda: changed_json(key_message(), challenge="ab" * 32),
    "a commitment in upper case": lambda: changed_json(
        key_message(), commitment=cids.sha256(told().secret.k).hex().upper()
    ),
}


def under_k(head: bytes, encrypted_key: bytes = b"") -> str:
    return compact(
        head,
        encrypted_key,
        told().secret.k,
        orjson.dumps({"cid": AD.cid, "key": AD.key.hex(), "salt": AD.salt.hex()}, option=SORTED),
    )


ADDRESS_FAULTS: dict[str, Callable[[], bytes]] = {
    **{
        f"a JWE {name}": lambda make=make: address_message(make(BUYERS, ADDRESS_MESSAGE, sealed_address()))  # type: ignore[misc]
        for name, make in FAULTY_JWES.items()
    },
    **{
        f"a document {name}": lambda make=make: make(  # type: ignore[misc]
            lambda **changed: address_saying(sealed_address(), **changed)
        )
        for name, make in FACES.items()
    },
    **{
        f"another {name}": lambda other=other: address_saying(  # type: ignore[misc]
            sealed_address(), binding=replace(TO_BUYER, **other)
        )
        for name, other in BINDINGS.items()
    },
    "the other direction": lambda: address_saying(sealed_address(), binding=TO_SELLER, by=BUYER),
    "a key message": key_message,
    "an answer to another": lambda: address_saying(sealed_address(), answers="ab" * 32),
    "a changed answer": lambda: changed_json(address_saying(sealed_address()), answers="ab" * 32),
    "another H(Q)": lambda: address_saying(sealed_address(hq="ab" * 32)),
    "an address under another key": lambda: address_saying(sealed_address(inner(k=bytes(32)))),
    "an address in the clear": lambda: address_saying(sealed_address(AD.cid)),
    "another CID": lambda: address_saying(sealed_address(inner(cid=cids.of_raw(b"else")))),
    "another salt": lambda: address_saying(sealed_address(inner(salt="ab" * 32))),
    "no CID": lambda: address_saying(sealed_address(inner(cid="bafkrei"))),
    "the CID otherwise written": lambda: address_saying(sealed_address(inner(cid=AD.cid.upper()))),
    "a short content key": lambda: address_saying(sealed_address(inner(key="ab"))),
    "no JSON within": lambda: address_saying(sealed_address(inner(b"\xff"))),
    "an encrypted key within": lambda: address_saying(
        sealed_address(under_k(head_of(PACKAGE_ADDRESS, "dir"), b"x"))
    ),
    "another content type within": lambda: address_saying(
        sealed_address(under_k(head_of(KEY_MESSAGE, "dir")))
    ),
    "compression within": lambda: address_saying(
        sealed_address(under_k(head_of(PACKAGE_ADDRESS, "dir", zip="DEF")))
    ),
    "another algorithm within": lambda: address_saying(sealed_address(under_k(head_of(PACKAGE_ADDRESS)))),
}


@pytest.mark.parametrize("fault", KEY_FAULTS)
def test_what_the_seller_refuses_a_judge_blames_on_the_buyer(fault: str) -> None:
    document = KEY_FAULTS[fault]()
    with pytest.raises(HandoverRefusedError) as refused:
        open_key(document)
    assert not isinstance(refused.value, HandoverStaleError)
    with pytest.raises(HandoverFaultyError) as blamed:
        check_key(document, handover.disclose(document, TO_SELLER, private(SELLERS)))
    assert (blamed.value.by, blamed.value.why) == (TO_SELLER.sender, refused.value.why)


@pytest.mark.parametrize("fault", ADDRESS_FAULTS)
def test_what_the_buyer_refuses_a_judge_blames_on_the_seller(fault: str) -> None:
    document = ADDRESS_FAULTS[fault]()
    with pytest.raises(HandoverRefusedError) as refused:
        open_address(document)
    assert not isinstance(refused.value, HandoverStaleError)
    with pytest.raises(HandoverFaultyError) as blamed:
        check_address(document, handover.disclose(document, TO_BUYER, private(BUYERS)))
    assert (blamed.value.by, blamed.value.why) == (TO_BUYER.sender, refused.value.why)


def test_what_these_faults_are_made_from_is_good() -> None:
    block = int.from_bytes(oaep(EMPTY_LABEL + bytes(158) + b"\1" + bytes(32), bytes(32)))
    assert open_key(key_message(padded(SELLERS, KEY_MESSAGE, sealed_key(), block))) == told().opened
    assert open_key(key_message()) == open_key(key_saying(sealed_key())) == told().opened
    assert open_address(address_saying(sealed_address(under_k(head_of(PACKAGE_ADDRESS, "dir"))))) == AD


@pytest.mark.parametrize(
    "other",
    [
        {"secret": KeySecret(bytes(32), bytes(32))},
        {"key_message_digest": cids.sha256(b"")},
        {"commitment": bytes(32)},
    ],
    ids=["secret", "digest", "commitment"],
)
def test_a_good_answer_to_something_else_is_refused(other: dict[str, Any]) -> None:
    with pytest.raises(HandoverRefusedError):
        open_address(told().address_message, **other)


@pytest.mark.parametrize("name", ["time", "jwe", "commitment", "challenge", "answers"])
def test_every_member_is_signed(name: str) -> None:
    """What replaces it would be good otherwise, so that only the signature can tell."""
    for good, again, opening in (
        (told().key_message, key_message(), open_key),
        (told().address_message, address_saying(sealed_address()), open_address),
    ):
        other = {"time": NOW + 1, "jwe": orjson.loads(again)["jwe"]}.get(name, "ab" * 32)
        if name in orjson.loads(good):
            with pytest.raises(HandoverRefusedError, match="did not sign"):
                opening(changed_json(good, **{name: other}))


@pytest.mark.parametrize("name", ["chain", "contract", "trade", "recipient", "sender"])
def test_every_member_of_the_binding_is_signed(name: str) -> None:
    """Even a receiver who expects another binding does not take a message that was rewritten to it."""
    for good, binding, opening in (
        (told().key_message, TO_SELLER, open_key),
        (told().address_message, TO_BUYER, open_address),
    ):
        other = orjson.loads(good)["binding"] | BINDINGS[name]
        with pytest.raises(HandoverRefusedError, match="did not sign"):
            opening(changed_json(good, binding=other), replace(binding, **BINDINGS[name]))


def test_an_oversize_message_is_refused_unread() -> None:
    for opening in (open_key, open_address):
        with pytest.raises(HandoverRefusedError, match="more than 8192 bytes"):
            opening(b"[" * (handover.MOST_DOCUMENT + 1))


def test_nothing_is_opened_for_whoever_did_not_sign_for_this_trade() -> None:
    for document in (key_message(by=THIRD), key_message(binding=replace(TO_SELLER, trade=8)), b"{}"):
        assert handover.disclose(document, TO_SELLER, private(SELLERS)) == b""
    assert len(disclosed_key()) == 9 * 256


def test_a_package_that_is_not_the_one_on_the_chain_is_the_sellers_fault() -> None:
    with pytest.raises(HandoverFaultyError, match="not that of the package"):
        check_address(told().address_message, disclosed_address(), commitment=bytes(32))


@settings(max_examples=400, deadline=None)
@given(kind=st.booleans(), where=st.integers(0), bit=st.integers(0, 7))
def test_one_bit_flipped_anywhere_is_refused(kind: bool, where: int, bit: int) -> None:
    document = told().key_message if kind else told().address_message
    altered = bytearray(document)
    altered[where % len(altered)] ^= 1 << bit
    with pytest.raises(HandoverRefusedError):
        (open_key if kind else open_address)(bytes(altered))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(max_size=10),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5), inside, max_size=3),
    max_leaves=6,
)
MEMBERS = ["type", "binding", "time", "jwe", "commitment", "challenge", "answers", "signature", "more"]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(MEMBERS), JSON)
def test_any_other_member_is_refused(name: str, value: object) -> None:
    for document, opening in ((told().key_message, open_key), (told().address_message, open_address)):
        with pytest.raises(HandoverRefusedError):
            opening(json.dumps(json.loads(document) | {name: value}, sort_keys=True).encode())


# --------------------------------------------------------------------------------- what a discloser can show


def altered(disclosed: bytes, at: int) -> bytes:
    raw = bytearray(disclosed)
    raw[at] ^= 1
    return bytes(raw)


FALSE: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda _: b"",
    "another block": lambda d: altered(d, 100),
    "another first byte": lambda d: altered(d, 0),
    "another last root": lambda d: altered(d, -1),
    "another first root": lambda d: altered(d, 256),
    "the block alone": lambda d: d[:256],
    "one byte more": lambda d: d + b"\0",
    "roots in another order": lambda d: d[:256] + d[512:] + d[256:512],
    "zeros": lambda d: bytes(len(d)),
    "what another message holds": lambda d: (
        handover.disclose(key_message(), TO_SELLER, private(SELLERS))[:256] + d[256:]
    ),
}


@pytest.mark.parametrize("lie", FALSE)
def test_a_false_disclosure_is_the_disclosers_fault(lie: str) -> None:
    with pytest.raises(DisclosureFalseError):
        check_key(told().key_message, FALSE[lie](disclosed_key()))
    with pytest.raises(DisclosureFalseError):
        check_address(told().address_message, FALSE[lie](disclosed_address()))


def test_a_block_larger_than_the_modulus_is_false() -> None:
    """It has the same power, and would unpad to something else."""
    n = modulus(private(SELLERS))
    while True:
        document = key_message()
        disclosed = handover.disclose(document, TO_SELLER, private(SELLERS))
        larger = int.from_bytes(disclosed[:256]) + n
        if larger < 1 << 2048:
            break
    assert pow(larger, 65537, n) == pow(larger - n, 65537, n)
    with pytest.raises(DisclosureFalseError):
        check_key(document, larger.to_bytes(256) + disclosed[256:])


@pytest.mark.parametrize("k", [bytes(32), b"", bytes(31)], ids=["another", "none", "short"])
def test_another_key_than_the_one_committed_to_is_the_buyers_fault(k: bytes) -> None:
    with pytest.raises(DisclosureFalseError, match="K_B"):
        check_address(told().address_message, disclosed_address(), k=k)


def test_a_key_that_was_committed_to_but_is_too_short_is_the_buyers_fault() -> None:
    asked = key_saying(sealed_key(), commitment=cids.sha256(b"\xab").hex())
    with pytest.raises(DisclosureFalseError, match="K_B"):
        check_address(told().address_message, disclosed_address(), k=b"\xab", key_message=asked)


@pytest.mark.parametrize("face", FACES)
def test_a_buyer_cannot_blame_the_seller_by_a_key_message_that_is_faulty_on_its_face(face: str) -> None:
    with pytest.raises(DisclosureFalseError, match="own key message"):
        check_address(told().address_message, disclosed_address(), key_message=FACES[face](key_message))


def test_an_answer_to_another_key_message_is_the_sellers_fault() -> None:
    with pytest.raises(HandoverFaultyError, match="another key message"):
        check_address(told().address_message, disclosed_address(), key_message=key_message())


@pytest.mark.parametrize(
    "key",
    [
        lambda: private(OTHERS),
        lambda: private(SELLERS, 3),
        lambda: RSAKey.import_key(RSAPublicNumbers(65537, modulus(private(SELLERS)) ** 2).public_key()),
    ],
    ids=["another", "exponent 3", "larger"],
)
def test_a_good_message_is_never_the_senders_fault_for_a_good_disclosure_to_another_key(
    key: Callable[[], RSAKey],
) -> None:
    """Which key is the recipient's, the chain says; of another size the message is not to it at all."""
    with pytest.raises((DisclosureFalseError, HandoverFaultyError)) as caught:
        check_key(told().key_message, disclosed_key(), key())
    if isinstance(caught.value, HandoverFaultyError):
        assert "none to the recipient's key" in caught.value.why


def test_a_key_whose_exponent_proves_nothing_discloses_nothing() -> None:
    key = private(SELLERS, 3)
    text = seal(sealed_key(), SELLERS, head_of(KEY_MESSAGE))
    with pytest.raises(DisclosureFalseError, match="exponent"):
        jwe.open_disclosed(text, KEY_MESSAGE, key, bytes(9 * 256))
    small = remake(text, 1, lambda _: encoded((2**2000).to_bytes(256)))
    with pytest.raises(DisclosureFalseError, match="damaged"):
        jwe.disclose(small, KEY_MESSAGE, key)


def unsound_key() -> tuple[int, int]:
    """Give two primes, the first of which makes every number that has a root modulo it have 65537 of them."""
    q = factor_of(BUYERS)
    while True:
        p = 2 * 65537 * (secrets.randbits(1007) | 3 << 1005) + 1
        if pow(2, p - 1, p) == 1 and (p - 1) // 65537 % 65537:
            return p, q


def test_an_unsound_key_cannot_make_an_honest_message_look_like_nonsense() -> None:
    p, q = unsound_key()
    n = p * q
    key = RSAKey.import_key(RSAPublicNumbers(65537, n).public_key())
    document, _ = handover.make_key_message(TO_SELLER, BUYER, key, NOW)
    length = (n.bit_length() + 7) // 8
    c = int.from_bytes(jwe.decode(orjson.loads(document)["jwe"].split(".")[1]))
    root_p = pow(c, pow(65537, -1, (p - 1) // 65537), p)
    root_q = pow(c, pow(65537, -1, q - 1), q)
    turn = next(t for g in range(2, 99) if (t := pow(g, (p - 1) // 65537, p)) != 1)
    others = [(r := root_p * pow(turn, i, p) % p) + p * ((root_q - r) * pow(p, -1, q) % q) for i in range(2)]
    assert others[0] != others[1]
    assert all(pow(other, 65537, n) == c for other in others)
    nonsense = 0
    for other in others:  # at most one of all 65537 is what the buyer sealed
        try:
            jwe._unpad(other.to_bytes(length))
        except MessageFaultyError:
            nonsense += 1
    assert nonsense
    powers = jwe._challenges(n)
    assert sum(pow(power, (p - 1) // 65537, p) == 1 for power in powers) < len(powers)
    for other in others:
        shown = other.to_bytes(length)
        with pytest.raises(DisclosureFalseError):
            check_key(document, shown + secrets.token_bytes(8 * length), key)
        with pytest.raises(DisclosureFalseError):
            check_key(document, shown * 9, key)


def test_a_modulus_with_small_factors_is_found_when_it_matters() -> None:
    """Where c and n share a factor, c can have several roots; an honest sender never sends such a c."""
    n = math.prod(p for p in range(3, 1500, 2) if all(p % d for d in range(3, 39, 2) if d < p))
    key = RSAKey.import_key(RSAPublicNumbers(65537, n << 20 | 1).public_key())
    smooth = RSAKey.import_key(RSAPublicNumbers(65537, n).public_key())
    assert jwe.LEAST_RSA_BITS <= n.bit_length() <= jwe.MOST_RSA_BITS
    refused = 0
    for _ in range(60):
        try:
            text = jwe.encrypt(b"x", KEY_MESSAGE, smooth, TO_SELLER.recipient)
        except EncryptionKeyError:
            refused += 1
        else:
            assert math.gcd(int.from_bytes(jwe.decode(text.split(".")[1])), n) == 1
    assert refused
    assert jwe.encrypt(b"x", KEY_MESSAGE, key, TO_SELLER.recipient)


# --------------------------------------------------------- one ciphertext under two keys (GCM does not commit)


def times(a: int, b: int) -> int:
    """Multiply in GCM's field (NIST SP 800-38D, 6.3)."""
    product = 0
    for i in range(127, -1, -1):
        if b >> i & 1:
            product ^= a
        a = a >> 1 ^ (0xE1 << 120 if a & 1 else 0)
    return product


def inverse(a: int) -> int:
    result, power = 1 << 127, a
    for _ in range(127):
        power = times(power, power)
        result = times(result, power)
    return result


def block_cipher(key: bytes, block: bytes) -> int:
    return int.from_bytes(Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block))  # noqa: S305


def under_two_keys(head: bytes, encrypted_key: bytes, one: bytes, two: bytes) -> str:
    """Make a JWE of one block whose content opens under both keys (Grubbs, Lu and Ristenpart, 2017)."""
    iv, aad = bytes(12), encoded(head).encode()
    blocks = [int.from_bytes(aad[at : at + 16].ljust(16, b"\0")) for at in range(0, len(aad), 16)]
    lengths = (len(aad) * 8) << 64 | 128

    def parts(key: bytes) -> tuple[int, int]:
        h, known = block_cipher(key, bytes(16)), 0
        for block in blocks:
            known = times(known ^ block, h)
        square = times(h, h)
        return square, times(known, square) ^ times(lengths, h) ^ block_cipher(key, iv + b"\0\0\0\1")

    (square_1, rest_1), (square_2, rest_2) = parts(one), parts(two)
    x = times(rest_1 ^ rest_2, inverse(square_1 ^ square_2))
    tag = times(x, square_1) ^ rest_1
    return ".".join(map(encoded, (head, encrypted_key, iv, x.to_bytes(16), tag.to_bytes(16))))


def test_of_two_keys_that_open_an_address_only_the_one_committed_to_counts() -> None:
    k, other = told().secret.k, bytes(32)
    twofold = under_two_keys(head_of(PACKAGE_ADDRESS, "dir"), b"", k, other)
    assert jwe.decrypt_directly(twofold, PACKAGE_ADDRESS, k) != jwe.decrypt_directly(
        twofold, PACKAGE_ADDRESS, other
    )
    document = address_saying(sealed_address(twofold))
    disclosed = handover.disclose(document, TO_BUYER, private(BUYERS))
    with pytest.raises(HandoverFaultyError, match="under K_B, it is malformed"):
        check_address(document, disclosed)
    with pytest.raises(DisclosureFalseError):
        check_address(document, disclosed, k=other)


def test_of_two_keys_that_open_a_message_only_the_one_sealed_counts() -> None:
    one, two = b"\1" * 32, b"\2" * 32
    texts = [
        under_two_keys(head_of(KEY_MESSAGE), private(SELLERS).public_key.encrypt(key, OAEP), one, two)
        for key in (one, two)
    ]
    plains = [jwe.decrypt(text, KEY_MESSAGE, private(SELLERS)) for text in texts]
    shown = [jwe.disclose(text, KEY_MESSAGE, private(SELLERS)) for text in texts]
    assert plains[0] != plains[1]
    for i in range(2):
        assert jwe.open_disclosed(texts[i], KEY_MESSAGE, private(SELLERS), shown[i]) == plains[i]
        with pytest.raises(DisclosureFalseError):
            jwe.open_disclosed(texts[i], KEY_MESSAGE, private(SELLERS), shown[1 - i])


# ------------------------------------------------------------------------------- the padding, and other readers


def block_of(c: bytes) -> bytes:
    key = private(SELLERS).private_key
    assert key is not None
    numbers = key.private_numbers()
    return pow(int.from_bytes(c), numbers.d, numbers.public_numbers.n).to_bytes(256)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=190))
def test_the_padding_is_undone_as_cryptography_makes_it(message: bytes) -> None:
    assert jwe._unpad(block_of(private(SELLERS).public_key.encrypt(message, OAEP))) == message


@settings(max_examples=150, deadline=None)
@given(
    st.binary(min_size=32, max_size=32),
    st.one_of(
        st.tuples(st.binary(min_size=223, max_size=223), st.just(0)),
        st.tuples(
            st.tuples(
                st.sampled_from([EMPTY_LABEL, EMPTY_LABEL[:-1] + b"\0", bytes(32)]),
                st.sampled_from([b"", ZEROS, ZEROS[:-1] + b"\2", b"\2" + ZEROS]),
                st.sampled_from([b"\1", b"\1\1", b"\2\1", b""]),
                st.binary(max_size=40),
            )
            .map(b"".join)
            .map(lambda data: data.ljust(223, b"\0")),
            st.sampled_from([0, 0, 0, 1]),
        ),
    ),
)
def test_the_padding_is_refused_where_cryptography_refuses_it(seed: bytes, data: tuple[bytes, int]) -> None:
    block, key = oaep(data[0], seed, data[1]), private(SELLERS)
    n, number = modulus(key), int.from_bytes(block)
    if not 0 < number < n:
        return
    assert key.private_key is not None
    try:
        theirs: bytes | None = key.private_key.decrypt(pow(number, 65537, n).to_bytes(256), OAEP)
    except ValueError:
        theirs = None
    try:
        ours: bytes | None = jwe._unpad(block)
    except MessageFaultyError:
        ours = None
    assert ours == theirs


def test_other_readers_of_jose_open_what_is_sealed_here() -> None:
    key = private(SELLERS)
    text = jwe.encrypt(b"plain", KEY_MESSAGE, public(key), TO_SELLER.recipient)
    assert joserfc_jwe.decrypt_compact(text, key, algorithms=jwe.ALGORITHMS).plaintext == b"plain"
    direct = jwe.encrypt_directly(b"plain", PACKAGE_ADDRESS, bytes(32))
    opened = joserfc_jwe.decrypt_compact(direct, OctKey.import_key(bytes(32)), algorithms=["dir", "A256GCM"])
    assert opened.plaintext == b"plain"


def test_opening_needs_a_private_key() -> None:
    text = jwe.encrypt(b"plain", KEY_MESSAGE, public(private(SELLERS)), TO_SELLER.recipient)
    with pytest.raises(TypeError, match="private key"):
        jwe.decrypt(text, KEY_MESSAGE, public(private(SELLERS)))
