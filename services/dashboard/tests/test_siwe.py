"""What proves an account: the message to the letter, its time, its nonce, and its signature."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from eth_account.messages import defunct_hash_message

from agorai_dashboard.siwe import MESSAGE_S, SignIn, SignInRefusedError, is_contract_signature
from agorai_shared.errors import AgoraiError
from agorai_shared.processes import Running
from agorai_shared.rpc import Rpc
from agorai_shared.sign_in import written
from agorai_shared.testing import anvil  # noqa: F401 - a fixture
from agorai_shared.types import Address

from .guarded import CHAIN_ID, OPERATOR, STRANGER, knows_none, signed

ORIGIN = "http://127.0.0.1:8090"
ACCOUNT = Address(OPERATOR.address)


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sign_in(clock: Clock) -> SignIn:
    return SignIn(CHAIN_ID, b"secret", knows_none, clock)


async def test_a_signed_message_proves_its_account_once(sign_in: SignIn) -> None:
    text = sign_in.message(ORIGIN, ACCOUNT).text()
    proof = signed(text, OPERATOR)
    assert await sign_in.account(ORIGIN, text, proof) == ACCOUNT
    with pytest.raises(SignInRefusedError, match="used before"):
        await sign_in.account(ORIGIN, text, proof)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"domain": "evil.example"}, "not for"),
        ({"uri": "http://evil.example/"}, "not for"),
        ({"scheme": "https"}, "not for"),
        ({"chain_id": 1}, "names chain 1"),
        ({"nonce": "a" * 56}, "not given out here"),
        ({"issued_at": written(Clock.now - MESSAGE_S - 60)}, "not issued"),
        ({"issued_at": written(Clock.now + 60)}, "not issued"),
        ({"expires_at": written(Clock.now)}, "expired"),
        ({"expires_at": None}, "expired"),
        ({"not_before": written(Clock.now + 60)}, "has not come"),
        ({"address": STRANGER.address}, "not that of the account"),
    ],
)
async def test_a_message_of_another_page_chain_or_time_is_refused(
    sign_in: SignIn, change: dict[str, Any], why: str
) -> None:
    text = replace(sign_in.message(ORIGIN, ACCOUNT), **change).text()
    with pytest.raises(SignInRefusedError, match=why):
        await sign_in.account(ORIGIN, text, signed(text, OPERATOR))


async def test_a_message_is_good_for_ten_minutes(sign_in: SignIn, clock: Clock) -> None:
    text = sign_in.message(ORIGIN, ACCOUNT).text()
    clock.now += MESSAGE_S
    with pytest.raises(SignInRefusedError):
        await sign_in.account(ORIGIN, text, signed(text, OPERATOR))


async def test_a_nonce_of_another_dashboard_is_refused(sign_in: SignIn, clock: Clock) -> None:
    text = SignIn(CHAIN_ID, b"another", knows_none, clock).message(ORIGIN, ACCOUNT).text()
    with pytest.raises(SignInRefusedError, match="not given out here"):
        await sign_in.account(ORIGIN, text, signed(text, OPERATOR))


@pytest.mark.parametrize(
    "signature", ["", "0x", "no hex", "0x" + "00" * 65, "0x" + "11" * 64, "0x" + "ff" * 5000]
)
async def test_what_is_no_signature_is_refused(sign_in: SignIn, signature: str) -> None:
    text = sign_in.message(ORIGIN, ACCOUNT).text()
    with pytest.raises(SignInRefusedError):
        await sign_in.account(ORIGIN, text, signature)


async def test_a_changed_message_is_refused(sign_in: SignIn) -> None:
    text = sign_in.message(ORIGIN, ACCOUNT).text()
    proof = signed(text, OPERATOR)
    for changed in (text + "\n", text.replace("\n\n", "\n"), text.replace("costs", "takes"), ""):
        with pytest.raises(AgoraiError):
            await sign_in.account(ORIGIN, changed, proof)


async def test_a_contract_account_is_asked_by_the_chain(anvil: Running, clock: Clock) -> None:  # noqa: F811
    # Takes the signature of the digest that lies in its first slot: sload(0) == calldataload(4) ? magic : 0
    wallet = Address("0x0000000000000000000000000000000000012345")
    code = "0x60005460043514631626ba7e60e01b0260005260206000f3"
    async with Rpc(anvil.url) as rpc:
        sign_in = SignIn(CHAIN_ID, b"secret", partial(is_contract_signature, rpc), clock)
        await rpc.request("anvil_setCode", wallet, code)
        message = sign_in.message(ORIGIN, wallet)
        with pytest.raises(SignInRefusedError):
            await sign_in.account(ORIGIN, message.text(), "0x0102")
        digest = _digest(message.text())
        await rpc.request("anvil_setStorageAt", wallet, "0x" + "00" * 32, digest)
        assert await sign_in.account(ORIGIN, message.text(), "0x0102") == wallet
        nobody = sign_in.message(ORIGIN, Address(STRANGER.address))
        with pytest.raises(SignInRefusedError):
            await sign_in.account(ORIGIN, nobody.text(), "0x0102")


def _digest(text: str) -> str:
    return "0x" + bytes(defunct_hash_message(text=text)).hex()
