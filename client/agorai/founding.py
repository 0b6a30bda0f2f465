"""Founding a marketplace on a chain of one's own: its contracts, put there once by any account."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast

from eth_account.signers.local import LocalAccount
from web3 import AsyncHTTPProvider, AsyncWeb3
from web3.exceptions import Web3Exception
from web3.types import TxParams

from agorai.client import OnStage
from agorai.contracts import codes
from agorai_shared.bindings.market_token import MarketToken
from agorai_shared.bindings.voting_panel import Config
from agorai_shared.deployment import Deployment
from agorai_shared.errors import RefusedError
from agorai_shared.rpc import RpcUnreachableError
from agorai_shared.types import Address


class DeploymentRefusedError(RefusedError):
    """The chain did not take a contract."""

    def __init__(self, contract: str, account: Address, why: str) -> None:
        super().__init__(
            f"The chain did not take {contract} from {account}: {why}.",
            remedy="See that the account has enough of the chain's own coin for the fees, and try again.",
        )


@dataclass(frozen=True, slots=True)
class TokenTerms:
    """The token in which everything on the marketplace is paid."""

    name: str
    symbol: str
    maximum_supply: int
    """In the smallest unit; only the founder's account can issue, and never more than this."""


PANEL: Final = Config(
    seat_stake=10 * 10**18,
    seat_bonus=10**17,
    draw_window=86_400,
    commit_window=86_400,
    reveal_window=86_400,
    draw_delay=2,
)
"""Amounts and times of a marketplace's voters, unless its founder wants others."""


async def found(
    rpc_url: str, account: LocalAccount, token: TokenTerms, tell: OnStage, panel: Config = PANEL
) -> Deployment:
    """Put the marketplace's contracts on the chain, each signed offline.

    Raises
    ------
    RpcUnreachableError
        If the chain does not answer.
    DeploymentRefusedError
        If it does not take a contract; those it took before stay there unused.
    """
    chain: AsyncWeb3[Any] = AsyncWeb3(AsyncHTTPProvider(rpc_url))
    try:
        if not await chain.is_connected():
            raise RpcUnreachableError(rpc_url, "no connection")
        chain_id, start = await chain.eth.chain_id, await chain.eth.block_number
        founder = Address(account.address)
        code = MarketToken.deploy_data(token.name, token.symbol, founder, token.maximum_supply)
        contracts: dict[str, Address] = {}
        for name, code_of in codes(code, panel).items():
            tell(f"deploying {name}")
            contracts[name] = await _create(chain, account, name, code_of(contracts))
    finally:
        await chain.provider.disconnect()
    return Deployment(chain_id=chain_id, start_block=start, contracts=contracts)


async def _create(chain: AsyncWeb3[Any], account: LocalAccount, name: str, code: bytes) -> Address:
    founder = Address(account.address)
    try:
        filled: dict[str, Any] = {
            "from": founder,
            "data": code,
            "nonce": await chain.eth.get_transaction_count(account.address, "pending"),
            "chainId": await chain.eth.chain_id,
            "maxPriorityFeePerGas": await chain.eth.max_priority_fee,
        }
        base = (await chain.eth.get_block("latest"))["baseFeePerGas"]
        filled["maxFeePerGas"] = 2 * base + filled["maxPriorityFeePerGas"]
        filled["gas"] = await chain.eth.estimate_gas(cast("TxParams", filled))
        del filled["from"]
        signed = account.sign_transaction(filled)
        sent = await chain.eth.send_raw_transaction(signed.raw_transaction)
        receipt = await chain.eth.wait_for_transaction_receipt(sent, timeout=600)
    except Web3Exception as error:
        raise DeploymentRefusedError(name, founder, str(error).rstrip(".")) from error
    if receipt["status"] != 1:
        raise DeploymentRefusedError(name, founder, "its constructor reverted")
    return Address(cast("str", receipt["contractAddress"]))
