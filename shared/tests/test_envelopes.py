"""Envelopes: sealed to members and to tasks, and to one context alone."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import RSAKey

from agorai_shared import cid
from agorai_shared.envelopes import (
    ORDER,
    EnvelopeFaultyError,
    NotForKeyError,
    TaskKey,
    TaskKeyError,
    address_of,
    open_as_member,
    open_as_task,
    public_key,
    seal_to_members,
    seal_to_task,
)
from agorai_shared.shared_jwe import Envelope
from agorai_shared.types import Address, Cid

CONTENT = bytes(range(32))
CONTEXT = "eip155:31337:0xTask:7:update:3:2"
OBJECT = cid.of_raw(b"sealed")
OTHER = cid.of_raw(b"another")
KEY = TaskKey.derived(b"seed")
ALICE, BOB = Address("0x" + "a1" * 20), Address("0x" + "b0" * 20)


@pytest.fixture(scope="module")
def keys() -> dict[Address, RSAKey]:
    made = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
    return {owner: RSAKey.import_key(key) for owner, key in zip((ALICE, BOB), made, strict=True)}


def to_task(*, context: str = CONTEXT, of: str = OBJECT) -> Envelope:
    return Envelope(cid=OBJECT, size=1, to_task=seal_to_task(KEY.public, CONTENT, context, Cid(of)))


@given(st.integers(1, ORDER - 1))
@settings(max_examples=20)
def test_a_task_s_address_is_that_of_its_public_key(secret: int) -> None:
    key = TaskKey(secret)
    assert key.address == address_of(key.public) == Account.from_key(secret.to_bytes(32)).address


def test_the_same_seed_gives_the_same_key_and_another_another() -> None:
    assert TaskKey.derived(b"seed").public == KEY.public != TaskKey.derived(b"seeds").public
    assert 0 < KEY.secret < ORDER
    assert str(KEY.secret) not in repr(KEY)


def test_what_is_sealed_to_a_task_opens_by_its_key_alone() -> None:
    envelope = to_task()
    assert open_as_task(envelope, KEY, CONTEXT) == CONTENT
    with pytest.raises(EnvelopeFaultyError, match="does not open by the task's key"):
        open_as_task(envelope, TaskKey.derived(b"another"), CONTEXT)
    with pytest.raises(NotForKeyError, match="task's key"):
        open_as_task(Envelope(cid=OBJECT, size=1), KEY, CONTEXT)


def test_an_envelope_lifted_into_another_document_does_not_open() -> None:
    with pytest.raises(EnvelopeFaultyError, match=r"was sealed for 'eip155.*3:2', not for"):
        open_as_task(to_task(), KEY, CONTEXT.replace(":3:", ":4:"))
    with pytest.raises(EnvelopeFaultyError, match="for the object"):
        open_as_task(to_task(of=OTHER), KEY, CONTEXT)


def test_an_altered_envelope_does_not_open() -> None:
    sealed = to_task().to_task or ""
    another = sealed[:-8] + ("B" if sealed[-8] == "A" else "A") + sealed[-7:]
    for altered in (another, sealed.replace(".", "", 1), "", "x" * 5000, "....", sealed + "é"):
        with pytest.raises(EnvelopeFaultyError):
            KEY.open(altered, CONTEXT, OBJECT)


def test_what_is_sealed_to_members_each_of_them_opens(keys: dict[Address, RSAKey]) -> None:
    sealed = seal_to_members(keys, CONTENT, CONTEXT, Cid(OBJECT))
    envelope = Envelope.from_bytes(Envelope(cid=OBJECT, size=1, to_members=sealed).to_bytes())
    for owner, key in keys.items():
        assert open_as_member(envelope, owner, key, CONTEXT) == CONTENT
    with pytest.raises(NotForKeyError):
        open_as_member(envelope, Address("0x" + "cc" * 20), keys[ALICE], CONTEXT)
    with pytest.raises(EnvelopeFaultyError, match=r"padding|encrypted key"):  # by which key is the larger
        open_as_member(envelope, ALICE, keys[BOB], CONTEXT)
    with pytest.raises(EnvelopeFaultyError, match="not for 'elsewhere'"):
        open_as_member(envelope, ALICE, keys[ALICE], "elsewhere")


def test_more_members_than_one_jwe_takes_get_several(keys: dict[Address, RSAKey]) -> None:
    many = {Address(f"0x{number:040x}"): keys[ALICE] for number in range(1, 47)}
    sealed = seal_to_members(many, CONTENT, CONTEXT, Cid(OBJECT))
    assert [len(one.recipients) for one in sealed] == [45, 1]
    envelope = Envelope(cid=OBJECT, size=1, to_members=sealed)
    assert open_as_member(envelope, Address(f"0x{46:040x}"), keys[ALICE], CONTEXT) == CONTENT


def test_nothing_is_sealed_to_members_where_there_are_none() -> None:
    assert seal_to_members({}, CONTENT, CONTEXT, Cid(OBJECT)) == ()


@pytest.mark.parametrize(
    "text", ["", "02", "04" + "00" * 64, "02" + "ff" * 32, KEY.public.upper(), "zz" * 33]
)
def test_what_is_no_point_of_the_curve_is_refused(text: str) -> None:
    with pytest.raises(TaskKeyError, match="no key of the curve"):
        public_key(text)
