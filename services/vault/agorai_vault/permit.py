"""Allowances signed instead of sent (EIP-2612), so that paying takes one transaction."""

from __future__ import annotations

from agorai_shared.market import Market
from agorai_shared.vault import Permit, PermitSignature
from agorai_vault.keys import Keys

FIELDS = [
    {"name": "owner", "type": "address"},
    {"name": "spender", "type": "address"},
    {"name": "value", "type": "uint256"},
    {"name": "nonce", "type": "uint256"},
    {"name": "deadline", "type": "uint256"},
]


async def sign_permit(market: Market, keys: Keys, permit: Permit) -> PermitSignature:
    """Allow the `Invocation` contract, and nothing else, to take `value` until `deadline`."""
    name, nonce = await market.chain.read(
        market.token.name(), market.token.nonces(keys.address), at=await market.chain.head()
    )
    signed = keys.account.sign_typed_data(
        domain_data={
            "name": name,
            "version": "1",
            "chainId": market.deployment.chain_id,
            "verifyingContract": market.deployment.token,
        },
        message_types={"Permit": FIELDS},
        message_data={
            "owner": keys.address,
            "spender": market.deployment.invocation,
            "value": permit.value,
            "nonce": nonce,
            "deadline": permit.deadline,
        },
    )
    return PermitSignature(v=signed.v, r=f"0x{signed.r:064x}", s=f"0x{signed.s:064x}")
