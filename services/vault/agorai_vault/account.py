"""The chain as one account that sends transactions needs it: nonces, fees, estimates, receipts, typed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from agorai_shared.chain import Chain, revert_error
from agorai_shared.contract import Call, ContractAbi
from agorai_shared.errors import RefusedError
from agorai_shared.rpc import Json, RpcResponseError
from agorai_shared.types import Address, Hash


class FundsError(RefusedError):
    """The account cannot pay the fee of a transaction."""

    def __init__(self, account: Address, label: str) -> None:
        super().__init__(
            f"The account {account} has too little of the chain's own coin for the fee of {label}.",
            remedy="Send some to it and ask again.",
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the chain says of a call that is about to be sent."""

    gas: int
    base_fee: int
    """Wei for a unit of gas, in the newest block."""
    tip: int
    """Wei for a unit of gas, as the node suggests."""
    nonce: int
    """Transactions of the account that the node knows, mined or not."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A mined transaction."""

    transaction: Hash
    block: int
    succeeded: bool


class AccountOnChain:
    """Asks the chain on behalf of one account."""

    def __init__(self, chain: Chain, address: Address) -> None:
        self._chain = chain
        self.address = address

    async def chain_id(self) -> int:
        """Give the EIP-155 chain id."""
        return await self._chain.chain_id()

    async def final_number(self) -> int:
        """Give the number of the newest final block."""
        return (await self._chain.final()).number

    async def estimate(self, call: Call[Any]) -> Estimate:
        """Estimate a call against the pending state, in one request.

        Raises
        ------
        ContractRevertError
            If it would revert.
        FundsError
            If the account could not pay for it.
        """
        request: dict[str, Json] = {"from": self.address, "to": call.to, "data": "0x" + call.data.hex()}
        try:
            answers = await self._chain.rpc.batch(
                [
                    ("eth_estimateGas", [request, "pending"]),
                    ("eth_getBlockByNumber", ["latest", False]),
                    ("eth_maxPriorityFeePerGas", []),
                    ("eth_getTransactionCount", [self.address, "pending"]),
                ]
            )
        except RpcResponseError as error:
            if "insufficient funds" in error.rpc_message.lower():
                raise FundsError(self.address, f"{call.contract}.{call.function}") from error
            raise revert_error(call, error) from error
        gas, latest, tip, nonce = cast("tuple[str, dict[str, str], str, str]", answers)
        return Estimate(int(gas, 16), int(latest["baseFeePerGas"], 16), int(tip, 16), int(nonce, 16))

    async def nonce(self, at: int | None = None) -> int:
        """Count the account's transactions up to a block, or all that the node knows, mined or not."""
        block = "pending" if at is None else hex(at)
        count = await self._chain.rpc.request("eth_getTransactionCount", self.address, block)
        return int(cast("str", count), 16)

    async def send_raw(self, raw: bytes) -> str | None:
        """Hand a signed transaction to the node; gives why it was not taken."""
        try:
            await self._chain.rpc.request("eth_sendRawTransaction", "0x" + raw.hex())
        except RpcResponseError as error:
            return error.rpc_message
        return None

    async def receipts(self, transactions: list[Hash]) -> list[Receipt]:
        """Give the receipts of those that are mined, in one request."""
        answers = await self._chain.rpc.batch(
            [("eth_getTransactionReceipt", [transaction]) for transaction in transactions]
        )
        return [
            Receipt(Hash(found["transactionHash"]), int(found["blockNumber"], 16), found["status"] == "0x1")
            for found in cast("list[dict[str, str] | None]", answers)
            if found
        ]

    async def refusal(self, contract: str, target: Address, data: bytes, block: int) -> str:
        """Say why a call reverted in a block, by making it again on the state before."""
        request = {"from": self.address, "to": target, "data": "0x" + data.hex()}
        try:
            await self._chain.rpc.request("eth_call", cast("Any", request), hex(block - 1))
        except RpcResponseError as error:
            return ContractAbi.load(contract).decode_error(error.data or "0x")
        return "the state changed within its block"
