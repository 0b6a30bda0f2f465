"""Messages of EIP-4361, to the letter."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorai_shared.sign_in import SignInMalformedError, SignInMessage
from agorai_shared.types import Address

ACCOUNT = Address("0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2")
FULL = f"""https://example.com:3388 wants you to sign in with your Ethereum account:
{ACCOUNT}

I take the terms: https://example.com/terms?x=1#y

URI: https://example.com:3388/login
Version: 1
Chain ID: 1
Nonce: 32891756abc
Issued At: 2026-09-30T16:25:24Z
Expiration Time: 2026-09-30T16:35:24.123+02:00
Not Before: 2026-09-30T16:20:24Z
Request ID: a-b_c:d@e
Resources:
- ipfs://bafybeiemxf5abjwjbikoz4mc3a3dla6ual3jsgpdr4cjr3oz3evfyavhwq/
- https://example.com/my-web2-claim.json"""
SHORT = f"""example.com wants you to sign in with your Ethereum account:
{ACCOUNT}


URI: https://example.com
Version: 1
Chain ID: 31337
Nonce: abcdefgh
Issued At: 2026-09-30T16:25:24.000Z"""


@pytest.mark.parametrize("text", [FULL, SHORT, SHORT + "\nResources:", SHORT + "\nRequest ID: "])
def test_a_message_that_was_read_is_written_the_same(text: str) -> None:
    assert SignInMessage.parse(text).text() == text


def test_every_member_is_read() -> None:
    found = SignInMessage.parse(FULL)
    assert (found.scheme, found.domain, found.address) == ("https", "example.com:3388", ACCOUNT)
    assert (found.chain_id, found.nonce, found.request_id) == (1, "32891756abc", "a-b_c:d@e")
    assert found.resources is not None
    assert len(found.resources) == 2
    assert SignInMessage.parse(SHORT).statement is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Version: 1", "Version: 2"),
        ("Chain ID: 31337", "Chain ID: 0x1"),
        ("Chain ID: 31337", "Chain ID: 031337"),
        ("Nonce: abcdefgh", "Nonce: abcdefg"),
        ("Nonce: abcdefgh", "Nonce: abcd-efgh"),
        ("Nonce: abcdefgh\n", ""),
        ("2026-09-30T16", "2026-13-30T16"),
        ("2026-09-30T16", "2026-09-30 16"),
        (".000Z", ""),
        ("example.com wants", "user@example.com wants"),
        ("example.com wants", "example.com  wants"),
        ("example.com wants", "wants"),
        ("Ethereum account", "ethereum account"),
        (ACCOUNT, ACCOUNT.lower()),
        (ACCOUNT, ACCOUNT[:-1]),
        ("\n\n\n", "\n\n"),
        ("\n\n\n", "\n\nzwei\nlines\n\n"),
        ("\n\n\n", "\n\nünicode\n\n"),
        ("\n", "\r\n"),
        ("URI: https://example.com", "URI: example.com"),
        ("URI: https://example.com", "URI: https://example.com /"),
        (".000Z", ".000Z\nNot Before: 2026-09-30T16:25:24Z\nExpiration Time: 2026-09-30T16:25:24Z"),
        (".000Z", ".000Z\n"),
        (".000Z", ".000Z\nResources:\n- no uri"),
        (".000Z", ".000Z" + "\nRequest ID: " + "a" * 5000),
    ],
)
def test_what_the_grammar_does_not_give_is_refused(old: str, new: str) -> None:
    assert old in SHORT
    with pytest.raises(SignInMalformedError):
        SignInMessage.parse(SHORT.replace(old, new))


@given(st.text(max_size=300))
def test_text_of_any_kind_is_read_or_refused(text: str) -> None:
    for whole in (text, SHORT + text, text + SHORT):
        with suppress(SignInMalformedError):
            assert SignInMessage.parse(whole).text() == whole


@pytest.mark.parametrize(
    ("origin", "fits"),
    [
        ("https://example.com:3388", True),
        ("http://example.com:3388", False),
        ("https://example.com", False),
        ("https://example.com:3388.evil.example", False),
    ],
)
def test_a_message_is_for_one_origin(origin: str, fits: bool) -> None:
    assert SignInMessage.parse(FULL).is_for(origin) == fits
