"""A JWE to several recipients, and an envelope, as documents: what loads no cryptography."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from agorai_shared.documents import CidText, Count, Document
from agorai_shared.types import Address

MOST_RECIPIENTS: Final = 45
"""As many voters as a dispute can ever draw."""
MOST_SEALED: Final = 4096
"""Characters of a content key that is sealed to a task."""
MOST_INLINE: Final = 16 << 10
"""Bytes of a sealed object that its envelope may hold."""


class Recipient(Document):
    """The content key, encrypted to one recipient."""

    class Header(Document):
        """Whom it is for."""

        kid: str = Field(max_length=100)

    header: Header
    encrypted_key: str


class SharedJwe(Document):
    """A JWE to several recipients, in the general JSON form."""

    protected: str
    recipients: tuple[Recipient, ...] = Field(min_length=1, max_length=MOST_RECIPIENTS)
    iv: str
    ciphertext: str
    tag: str

    def to(self, owner: Address) -> str | None:
        """Give it in the compact form, as if to this recipient alone; None if it is not for it."""
        for recipient in self.recipients:
            if recipient.header.kid == owner:
                parts = (self.protected, recipient.encrypted_key, self.iv, self.ciphertext, self.tag)
                return ".".join(parts)
        return None


class Envelope(Document):
    """Where sealed bytes are, and their content key as each reader opens it."""

    cid: CidText
    """Of the sealed object."""
    size: Count
    """Bytes of the plaintext."""
    to_members: tuple[SharedJwe, ...] = Field((), max_length=200)
    to_task: str | None = Field(None, max_length=MOST_SEALED)
    inline: str | None = Field(None, max_length=-(-MOST_INLINE * 4 // 3))
    """The sealed object itself, in base64url, where it is small: then it need not be in a store."""
