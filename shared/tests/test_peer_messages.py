"""Peer messages: only what its sender wrote, to this recipient, on this chain, just now, is believed."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from functools import cache

import orjson
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwe as jose
from joserfc.jwk import RSAKey
from pydantic import JsonValue

from agorai_shared import jwe, peer_messages
from agorai_shared.peer_messages import (
    LONGEST_LIFE_S,
    MOST_BODY,
    MOST_BYTES,
    SKEW_S,
    BodyError,
    Message,
    PeerMessageRefusedError,
    PeerMessageTooLargeError,
    canonical,
    open_envelope,
    seal,
)
from agorai_shared.types import Address

NOW = 1_900_000_000
CHAIN = 31337
HEADER = {"alg": "RSA-OAEP-256", "enc": "A256GCM", "typ": "JOSE", "cty": peer_messages.TYPE}


def account(number: int) -> LocalAccount:
    made: LocalAccount = Account.from_key(number.to_bytes(32))
    return made


ALICE, BOB, MALLORY = (account(number) for number in (1, 2, 3))


@cache
def key_of(_name: str) -> RSAKey:
    return RSAKey.generate_key(2048)


def message(body: dict[str, JsonValue] | None = None, **changed: object) -> Message:
    made = Message.new(
        CHAIN, (Address(BOB.address), Address(ALICE.address)), "negotiation", body or {"price": "5"}, NOW
    )
    return replace(made, **changed)  # type: ignore[arg-type]


def opened(envelope: bytes, *, now: int = NOW, me: LocalAccount = ALICE, chain_id: int = CHAIN) -> Message:
    return open_envelope(envelope, key_of("alice"), Address(me.address), chain_id, now)


def document_of(sent: Message, signer: LocalAccount = BOB) -> dict[str, object]:
    plain = jwe.decrypt(seal(sent, signer, key_of("alice")).decode(), peer_messages.TYPE, key_of("alice"))
    read: dict[str, object] = orjson.loads(plain)
    return read


def sealed(plain: bytes, **header: object) -> bytes:
    registry = jose.JWERegistry(algorithms=["RSA-OAEP-256", "A256GCM", "DEF", "RSA-OAEP", "A128GCM"])
    return jose.encrypt_compact(HEADER | header, plain, key_of("alice"), registry=registry).encode()


def refused(envelope: bytes, why: str, **given: object) -> None:
    with pytest.raises(PeerMessageRefusedError, match=why):
        opened(envelope, **given)  # type: ignore[arg-type]


def test_what_is_sealed_is_opened() -> None:
    sent = message()
    assert opened(seal(sent, BOB, key_of("alice"))) == sent


def test_two_messages_have_two_ids_and_two_envelopes_of_one_differ() -> None:
    sent = message()
    assert sent.id != message().id
    assert len(bytes.fromhex(sent.id)) == 16
    assert seal(sent, BOB, key_of("alice")) != seal(sent, BOB, key_of("alice"))


def test_an_envelope_shows_neither_parties_nor_topic_nor_body() -> None:
    envelope = seal(message({"price": "a secret"}), BOB, key_of("alice"))
    readable = envelope + b"".join(
        base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)) for part in envelope.split(b".")
    )
    for hidden in (BOB.address, ALICE.address, BOB.address.lower(), "negotiation", "a secret"):
        assert hidden.encode() not in readable


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_any_object_survives(body: dict[str, JsonValue]) -> None:
    try:
        text = canonical(body)
    except BodyError:  # half of a surrogate pair
        return
    sent = message(body or {"empty": {}})
    assert opened(seal(sent, BOB, key_of("alice"))) == sent
    assert canonical(orjson.loads(text)) == text


@pytest.mark.parametrize("body", [[], None, "text", {"a": 1 << 64}, {"a": b""}, {"a": "\ud800"}])
def test_what_is_no_json_object_is_no_body(body: object) -> None:
    with pytest.raises(BodyError):
        canonical(body)


def test_a_body_too_large_for_an_envelope_is_told_before_it_is_sent() -> None:
    seal(message({"a": "x" * (MOST_BODY - 8)}), BOB, key_of("alice"))
    with pytest.raises(PeerMessageTooLargeError):
        message({"a": "x" * (MOST_BODY - 7)})
    with pytest.raises(PeerMessageTooLargeError):
        seal(message({"a": "\\" * (MOST_BODY // 2 - 4)}), BOB, key_of("alice"))


def test_an_envelope_too_large_is_refused_unread() -> None:
    refused(b"x" * (MOST_BYTES + 1), "more than 65536 bytes")
    refused(b"x" * MOST_BYTES, "does not open")


@pytest.mark.parametrize("envelope", [b"", b"....", b"{}", b"\xff" * 100, b"a.b.c.d.e"])
def test_noise_is_refused(envelope: bytes) -> None:
    refused(envelope, "does not open")


def test_an_envelope_to_another_key_does_not_open() -> None:
    refused(seal(message(), BOB, key_of("other")), "does not open")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_an_altered_envelope_is_refused(data: st.DataObject) -> None:
    sent = message(id="0a" * 16)
    envelope = bytearray(seal(sent, BOB, key_of("alice")))
    at = data.draw(st.integers(0, len(envelope) - 1))
    envelope[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PeerMessageRefusedError):
        opened(bytes(envelope))


@pytest.mark.parametrize(
    "header",
    [{"zip": "DEF"}, {"alg": "RSA-OAEP"}, {"enc": "A128GCM"}, {"cty": "agorai/grant/1"}, {"kid": "1"}],
    ids=lambda header: next(iter(header)),
)
def test_another_header_is_refused(header: dict[str, object]) -> None:
    plain = orjson.dumps(document_of(message()))
    assert opened(sealed(plain)).topic == "negotiation"
    refused(sealed(plain, **header), "does not open")


@pytest.mark.parametrize(
    "change",
    [
        {"type": "agorai/peer-message/2"},
        {"type": "agorai/grant/1"},
        {"chain_id": "31337"},
        {"chain_id": 0},
        {"chain_id": True},
        {"sender": BOB.address.lower()},
        {"sender": "0x"},
        {"recipient": ""},
        {"id": "0A" * 16},
        {"id": "0a" * 15},
        {"id": "0a" * 16 + "\n"},
        {"time": -1},
        {"time": 1.5},
        {"time": 1 << 63},
        {"expires": None},
        {"topic": ""},
        {"topic": "a.b"},
        {"topic": "x" * 41},
        {"topic": "peer.>"},
        {"body": {"price": "5"}},
        {"body": "[]"},
        {"body": "{"},
        {"body": '{"price": "5"}'},
        {"body": '{"b":1,"a":2}'},
        {"body": '{"a":1,"a":2}'},
        {"body": '{"a":18446744073709551616}'},
        {"body": '{"a":"' + "x" * MOST_BODY + '"}'},
        {"body": '{"a":' * 1100 + "1" + "}" * 1100},
        {"signature": "?"},
        {"signature": 5},
        {"more": 1},
    ],
    ids=lambda change: str(change)[:40],
)
def test_a_document_of_another_form_is_malformed(change: dict[str, object]) -> None:
    refused(sealed(json.dumps(document_of(message()) | change).encode()), "malformed")


@pytest.mark.parametrize("name", ["type", "chain_id", "sender", "id", "body", "signature"])
def test_a_document_without_one_of_its_members_is_refused(name: str) -> None:
    document = document_of(message())
    del document[name]
    refused(sealed(orjson.dumps(document)), "malformed")


@pytest.mark.parametrize("plain", [b"", b"null", b"[]", b"\xff", b"[" * 30_000])
def test_what_is_no_document_is_malformed(plain: bytes) -> None:
    refused(sealed(plain), "malformed")


def test_a_message_for_another_recipient_or_chain_is_refused() -> None:
    to_carol = message(recipient=Address(MALLORY.address))
    refused(seal(to_carol, BOB, key_of("alice")), "another recipient")
    refused(seal(message(chain_id=1), BOB, key_of("alice")), "another chain")
    refused(seal(message(), BOB, key_of("alice")), "another chain", chain_id=1)


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (NOW - SKEW_S, None),
        (NOW - SKEW_S - 1, "from the future"),
        (NOW + LONGEST_LIFE_S, None),
        (NOW + LONGEST_LIFE_S + 1, "has expired"),
    ],
)
def test_a_message_is_good_from_when_it_was_sent_until_it_expires(now: int, why: str | None) -> None:
    envelope = seal(message(), BOB, key_of("alice"))
    if why is None:
        opened(envelope, now=now)
    else:
        refused(envelope, why, now=now)


@pytest.mark.parametrize("life", [-1, 0, LONGEST_LIFE_S + 1, 1 << 40])
def test_a_message_that_lives_too_long_or_not_at_all_is_refused(life: int) -> None:
    refused(seal(message(expires=NOW + life), BOB, key_of("alice")), "lives longer")


@pytest.mark.parametrize(
    "change",
    [
        {"sender": MALLORY.address},
        {"id": "0b" * 16},
        {"time": NOW + 1},
        {"expires": NOW + 1},
        {"topic": "other"},
        {"body": '{"price":"6"}'},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_field_is_signed(change: dict[str, object]) -> None:
    refused(sealed(orjson.dumps(document_of(message(id="0a" * 16)) | change)), "not its sender")


def test_chain_and_recipient_are_signed_too() -> None:
    meant_for_carol = document_of(message(recipient=Address(MALLORY.address)))
    refused(sealed(orjson.dumps(meant_for_carol | {"recipient": ALICE.address})), "not its sender")
    elsewhere = document_of(message(chain_id=1))
    refused(sealed(orjson.dumps(elsewhere | {"chain_id": CHAIN})), "not its sender")


def test_nobody_signs_for_another() -> None:
    refused(seal(message(), MALLORY, key_of("alice")), "not its sender")


def test_a_man_in_the_middle_can_pass_a_message_on_only_as_it_is_or_as_its_own() -> None:
    """Mallory has Bob believe that its key is Alice's: it opens what Bob seals to her, and seals anew."""
    sent = message()
    to_mallory = seal(sent, BOB, key_of("mallory")).decode()
    caught = jwe.decrypt(to_mallory, peer_messages.TYPE, key_of("mallory"))
    assert opened(sealed(caught)) == sent  # Bob's still, with his id: a second one is a replay
    altered = replace(sent, body='{"price":"1"}')
    refused(seal(altered, MALLORY, key_of("alice")), "not its sender")
    own = replace(altered, sender=Address(MALLORY.address))
    assert str(opened(seal(own, MALLORY, key_of("alice"))).sender) == MALLORY.address


@pytest.mark.parametrize("signature", [b"", bytes(65), b"\xff" * 65, bytes(64), bytes(66), b"x" * 100])
def test_a_malformed_signature_is_refused(signature: bytes) -> None:
    document = document_of(message()) | {"signature": jwe.encode(signature)}
    refused(sealed(orjson.dumps(document)), "signature is malformed|not its sender")


def test_the_typed_data_is_what_eip_712_says() -> None:
    sent = message(id="0a" * 16)
    signed = Account.sign_typed_data(
        BOB.key,
        full_message={
            "types": {
                "EIP712Domain": [
                    {"name": "name", "type": "string"},
                    {"name": "version", "type": "string"},
                    {"name": "chainId", "type": "uint256"},
                ],
                "PeerMessage": peer_messages.FIELDS,
            },
            "primaryType": "PeerMessage",
            "domain": {"name": "Agorai", "version": "1", "chainId": CHAIN},
            "message": {
                "sender": BOB.address,
                "recipient": ALICE.address,
                "id": bytes.fromhex(sent.id),
                "time": NOW,
                "expires": NOW + LONGEST_LIFE_S,
                "topic": "negotiation",
                "bodyDigest": hashlib.sha256(b'{"price":"5"}').digest(),
            },
        },
    )
    assert document_of(sent)["signature"] == jwe.encode(signed.signature)
