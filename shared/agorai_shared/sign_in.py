"""What an account signs to prove to a web page that it is there: messages of EIP-4361, "Sign-In with Ethereum".

Strict in both directions: a message is taken only if the grammar of the EIP gives it, byte for byte, so that what a
wallet shows and what a server reads are one thing. Pure: no network and no clock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self
from urllib.parse import urlsplit

from eth_utils.address import is_checksum_address

from agorai_shared.errors import InputError
from agorai_shared.types import Address

MOST_CHARACTERS: Final = 4096
VERSION: Final = "1"

_URI_CHARACTER: Final = r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]"
_TIME: Final = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_GRAMMAR: Final = re.compile(
    r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+\-.]*)://)?"
    # RFC 3986's authority without user information, behind which another host may hide.
    r"(?P<domain>(?:[A-Za-z0-9\-._~%!$&'()*+,;=]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?)"
    r" wants you to sign in with your Ethereum account:\n"
    r"(?P<address>0x[0-9A-Fa-f]{40})\n"
    r"\n"
    r"(?:(?P<statement>[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;= ]+)\n)?"
    r"\n"
    rf"URI: (?P<uri>[A-Za-z][A-Za-z0-9+\-.]*:{_URI_CHARACTER}+)\n"
    r"Version: (?P<version>1)\n"
    r"Chain ID: (?P<chain_id>[0-9]{1,18})\n"
    r"Nonce: (?P<nonce>[A-Za-z0-9]{8,})\n"
    rf"Issued At: (?P<issued_at>{_TIME})"
    rf"(?:\nExpiration Time: (?P<expires_at>{_TIME}))?"
    rf"(?:\nNot Before: (?P<not_before>{_TIME}))?"
    r"(?:\nRequest ID: (?P<request_id>[A-Za-z0-9\-._~%!$&'()*+,;=:@]*))?"
    rf"(?P<resources>\nResources:(?:\n- [A-Za-z][A-Za-z0-9+\-.]*:{_URI_CHARACTER}+)*)?"
)


class SignInMalformedError(InputError):
    """A text is no sign-in message."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"This is no sign-in message of EIP-4361: {why}.",
            remedy="Ask the page where you sign in for a new one, and sign it unchanged.",
        )


@dataclass(frozen=True, slots=True)
class SignInMessage:
    """One message, member for member as in the EIP; times as they are written (RFC 3339)."""

    domain: str
    """Host, and port if it is not the scheme's own."""
    address: Address
    uri: str
    chain_id: int
    nonce: str
    issued_at: str
    expires_at: str | None = None
    not_before: str | None = None
    statement: str | None = None
    request_id: str | None = None
    resources: tuple[str, ...] | None = None
    scheme: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a message.

        Raises
        ------
        SignInMalformedError
            If it is not one, to the letter.
        """
        if len(text) > MOST_CHARACTERS:
            raise SignInMalformedError(f"it has more than {MOST_CHARACTERS} characters")
        found = _GRAMMAR.fullmatch(text)
        if found is None:
            raise SignInMalformedError("its lines are not those of the grammar")
        if not is_checksum_address(found["address"]):
            raise SignInMalformedError("its address has not the checksum of EIP-55")
        resources = found["resources"]
        message = cls(
            domain=found["domain"],
            address=Address(found["address"]),
            uri=found["uri"],
            chain_id=int(found["chain_id"]),
            nonce=found["nonce"],
            issued_at=found["issued_at"],
            expires_at=found["expires_at"],
            not_before=found["not_before"],
            statement=found["statement"],
            request_id=found["request_id"],
            resources=None if resources is None else tuple(resources.split("\n- ")[1:]),
            scheme=found["scheme"],
        )
        for written in (message.issued_at, message.expires_at, message.not_before):
            if written is not None:
                moment(written)
        if message.text() != text:
            raise SignInMalformedError("it is not written as such messages are")
        return message

    def text(self) -> str:
        """Write it as it is signed."""
        scheme = "" if self.scheme is None else f"{self.scheme}://"
        lines = [
            f"{scheme}{self.domain} wants you to sign in with your Ethereum account:",
            self.address,
            "",
            *(() if self.statement is None else (self.statement,)),
            "",
            f"URI: {self.uri}",
            f"Version: {VERSION}",
            f"Chain ID: {self.chain_id}",
            f"Nonce: {self.nonce}",
            f"Issued At: {self.issued_at}",
        ]
        for name, value in (
            ("Expiration Time", self.expires_at),
            ("Not Before", self.not_before),
            ("Request ID", self.request_id),
        ):
            if value is not None:
                lines.append(f"{name}: {value}")
        if self.resources is not None:
            lines += ["Resources:", *(f"- {resource}" for resource in self.resources)]
        return "\n".join(lines)

    def is_for(self, origin: str) -> bool:
        """Say whether it names a page's origin, such as `https://example.com`, in all that names one."""
        at, uri = urlsplit(origin), urlsplit(self.uri)
        return (
            self.domain == at.netloc
            and self.scheme in (None, at.scheme)
            and (uri.scheme, uri.netloc) == (at.scheme, at.netloc)
        )


def moment(written: str) -> datetime:
    """Read a time of a message.

    Raises
    ------
    SignInMalformedError
        If there is no such time.
    """
    try:
        return datetime.fromisoformat(written.upper())
    except ValueError as error:
        raise SignInMalformedError(f"{written} is no time") from error


def written(seconds: float) -> str:
    """Write a time, in seconds since 1970, as messages have it."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
