"""Who signs in: nonces that are good once, and whether a signed message of EIP-4361 proves an account.

A nonce carries its own time and proof, so that asking for many fills no memory; only those that were used are kept,
until they would have expired.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Final, cast

from agorai_shared.errors import RefusedError
from agorai_shared.rpc import Rpc, RpcResponseError
from agorai_shared.sign_in import SignInMessage, moment, written
from agorai_shared.types import Address

MESSAGE_S: Final = 600
"""How long a message may be signed and brought back."""
SKEW_S: Final = 30
"""How far the clock of whoever wrote the message may be ahead."""
STATEMENT: Final = "Sign in to this node's dashboard. It costs nothing and sends no transaction."
_MAGIC: Final = "1626ba7e"
"""`isValidSignature(bytes32,bytes)`, its selector and its answer (EIP-1271)."""
_MOST_SIGNATURE: Final = 4096

IsContractSignature = Callable[[Address, bytes, bytes], Awaitable[bool]]
"""Asks a contract account whether a signature of a hash is its own."""


class SignInRefusedError(RefusedError):
    """A message or its signature does not prove an account; the reason names the first fault."""

    http_status = 401

    def __init__(self, why: str) -> None:
        super().__init__(f"The sign-in is refused: {why}.", remedy="Ask for a new message and sign that.")


class SpentOnce:
    """Remembers what was used until it would have expired anyway."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}

    def spend(self, name: str, until: float) -> bool:
        """Use it; gives whether it was not used before."""
        now = self._clock()
        self._until = {kept: end for kept, end in self._until.items() if end > now}
        if name in self._until:
            return False
        self._until[name] = until
        return True

    def is_spent(self, name: str) -> bool:
        """Say whether it was used, and not so long ago that it is forgotten."""
        return name in self._until


class SignIn:
    """Writes messages and judges what comes back; an `origin` is scheme, host and port, as people reach the page.

    Parameters
    ----------
    secret
        What nonces are proved by.
    """

    def __init__(
        self,
        chain_id: int,
        secret: bytes,
        is_contract_signature: IsContractSignature,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.chain_id = chain_id
        self._secret = secret
        self._is_contract_signature = is_contract_signature
        self._clock = clock
        self.spent = SpentOnce(clock)

    def message(self, origin: str, address: Address) -> SignInMessage:
        """Write a new message for an account to sign."""
        now = self._clock()
        return SignInMessage(
            domain=origin.partition("://")[2],
            address=address,
            uri=f"{origin}/",
            chain_id=self.chain_id,
            nonce=self._nonce(now),
            issued_at=written(now),
            expires_at=written(now + MESSAGE_S),
            statement=STATEMENT,
        )

    async def account(self, origin: str, text: str, signature: str) -> Address:
        """Give the account that a message and its signature prove; the message is used up by that.

        Raises
        ------
        SignInMalformedError
            If the text is no message.
        SignInRefusedError
            If it is for another page or chain, not of this time, used, or not signed by its account.
        RpcUnreachableError
            If a contract account cannot be asked.
        """
        message = SignInMessage.parse(text)
        self._check(origin, message)
        if not await self._is_signed(message, signature):
            raise SignInRefusedError("the signature is not that of the account in the message")
        if not self.spent.spend(message.nonce, self._clock() + MESSAGE_S):
            raise SignInRefusedError("the message was used before")
        return message.address

    def _check(self, origin: str, message: SignInMessage) -> None:
        now = self._clock()
        if not message.is_for(origin):
            raise SignInRefusedError(f"the message is not for {origin}")
        if message.chain_id != self.chain_id:
            raise SignInRefusedError(f"the message names chain {message.chain_id}, not {self.chain_id}")
        if not self._is_own(message.nonce, now):
            raise SignInRefusedError("its nonce was not given out here, or too long ago")
        issued = moment(message.issued_at).timestamp()
        if not now - MESSAGE_S <= issued <= now + SKEW_S:
            raise SignInRefusedError("it was not issued within the last minutes")
        if message.expires_at is None or moment(message.expires_at).timestamp() <= now:
            raise SignInRefusedError("it has expired, or never would")
        if message.not_before is not None and moment(message.not_before).timestamp() > now:
            raise SignInRefusedError("its time has not come")

    async def _is_signed(self, message: SignInMessage, signature: str) -> bool:
        # Takes a third of a second and 20 MB, which a dashboard where nobody signs in does without.
        from eth_account import Account  # noqa: PLC0415
        from eth_account.messages import defunct_hash_message, encode_defunct  # noqa: PLC0415

        try:
            raw = bytes.fromhex(signature.strip().removeprefix("0x"))
        except ValueError:
            raise SignInRefusedError("the signature is not written in hex") from None
        if not 0 < len(raw) <= _MOST_SIGNATURE:
            raise SignInRefusedError(f"a signature has no {len(raw)} bytes")
        text = message.text()
        try:
            if Account.recover_message(encode_defunct(text=text), signature=raw) == message.address:
                return True
        except Exception:  # noqa: BLE001, S110 - whatever it is, it is no signature of a key; a contract may know it
            pass
        return await self._is_contract_signature(message.address, bytes(defunct_hash_message(text=text)), raw)

    def _nonce(self, now: float) -> str:
        head = f"{int(now):08x}{secrets.token_hex(8)}"
        return head + self._proof(head)

    def _is_own(self, nonce: str, now: float) -> bool:
        head, proof = nonce[:24], nonce[24:]
        if not hmac.compare_digest(proof.encode(), self._proof(head).encode()):
            return False
        return now - MESSAGE_S <= int(head[:8], 16) <= now + SKEW_S

    def _proof(self, head: str) -> str:
        return hmac.new(self._secret, f"nonce {head}".encode(), hashlib.sha256).hexdigest()[:32]


async def is_contract_signature(rpc: Rpc, account: Address, digest: bytes, signature: bytes) -> bool:
    """Ask a contract account, at the newest block, whether it takes a signature as its own (EIP-1271)."""
    padded = signature + bytes(-len(signature) % 32)
    data = f"0x{_MAGIC}{digest.hex()}{64:064x}{len(signature):064x}{padded.hex()}"
    try:
        answer = await rpc.request("eth_call", {"to": account, "data": data, "gas": hex(1_000_000)}, "latest")
    except RpcResponseError:  # it reverts: no
        return False
    return cast("str", answer) == f"0x{_MAGIC}{0:056x}"
