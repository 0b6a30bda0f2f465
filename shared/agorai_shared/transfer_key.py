"""The key to the data of a transfer, as one node tells it to another by a peer message of the topic `TOPIC`.

Who will judge is drawn long after the data were sealed, so both sides tell those voters the key. A voter that found
the data good tells it to their consumer, who is about to pay for them and may have been given another key.

What is told is an envelope for its recipient, bound to the transfer as the provider's own is.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from agorai_shared.documents import Document
from agorai_shared.shared_jwe import Envelope
from agorai_shared.types import Address

TOPIC: Final = "transfer-key"


class TransferKey(Document):
    """The body of such a message."""

    type: Literal["agorai/transfer-key/1"] = "agorai/transfer-key/1"
    case: int = Field(gt=0, lt=1 << 63)
    """Of the panel, about the transfer."""
    envelope: Envelope


def context(chain_id: int, contract: Address, transfer: int) -> str:
    """Give what the data of a transfer are sealed for."""
    return f"eip155:{chain_id}:{contract.lower()}:0x{transfer:064x}"
