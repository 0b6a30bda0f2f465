"""The one text that the vault signs as it is given: a sign-in message of EIP-4361 that names this account.

Its prefix of EIP-191 keeps the signature from ever being one of a transaction or of typed data, and its grammar from
meaning anything but a sign-in.
"""

from __future__ import annotations

from eth_account.messages import encode_defunct

from agorai_shared.errors import RefusedError
from agorai_shared.sign_in import SignInMessage
from agorai_vault.keys import Keys


class SignInForeignError(RefusedError):
    """A sign-in message names another account or chain."""

    def __init__(self, what: str, given: object, own: object) -> None:
        super().__init__(
            f"The sign-in message names {what} {given}; this vault's is {own}.",
            remedy="Ask the page for a message of this node's account, on its chain.",
        )


def sign(keys: Keys, chain_id: int, text: str) -> str:
    """Sign a sign-in message; gives 65 bytes in hex.

    Raises
    ------
    SignInMalformedError
        If it is no such message.
    SignInForeignError
        If it is not of this account and chain.
    """
    message = SignInMessage.parse(text)
    if message.address != keys.address:
        raise SignInForeignError("the account", message.address, keys.address)
    if message.chain_id != chain_id:
        raise SignInForeignError("chain", message.chain_id, chain_id)
    return "0x" + bytes(keys.account.sign_message(encode_defunct(text=text)).signature).hex()
