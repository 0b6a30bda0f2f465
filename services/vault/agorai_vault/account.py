"""The chain as one account that sends transactions needs it: nonces, fees, estimates, receipts, typed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from agorai_shared.abi.errors import NotInAbiError
from agorai_shared.chain import Chain, revert_error
from agorai_shared.contract import Call, ContractAbi
from agorai_shared.errors import InputError, RefusedError
from agorai_shared.rpc import Json, RpcResponseError
from agorai_shared.types import Address, Hash


class FundsError(RefusedError):
    """The account cannot pay for a transaction."""

    def __init__(self, account: Address, label: str) -> None:
        super().__init__(
            f"The account {account} has too little of the chain's own coin for {label} and its fee.",
            remedy="Send some to it and ask again.",
        )


class OtherChainError(InputError):
    """The node serves another chain than the marketplace is on."""

    def __init__(self, found: int, wanted: int) -> None:
        super().__init__(
            f"The chain node serves chain {found}; this marketplace is on chain {wanted}.",
            remedy="Set AGORAI_RPC_URL to a node of that chain, or name another deployment file.",
        )


@dataclass(frozen=True, slots=True)
class Fees:
    """What the chain asks for a unit of gas, in wei."""

    base_fee: int
    """In the newest block."""
    tip: int
    """As the node suggests."""
    head: int
    """Number of the newest block."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the chain says of a call that is about to be sent."""

    gas: int
    fees: Fees
    nonce: int
    """Transactions of the account that the node knows, mined or not."""
    balance: int
    """Wei."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A mined transaction."""

    transaction: Hash
    block: int
    succeeded: bool
    fee: int
    """What was paid to the chain, in wei."""


class AccountOnChain:
    """Asks the chain on behalf of one account."""

    def __init__(self, chain: Chain, address: Address, chain_id: int) -> None:
        self._chain = chain
        self.address = address
        self.chain_id = chain_id

    async def check_chain(self) -> None:
        """See that the node serves the chain that is meant.

        Raises
        ------
        OtherChainError
            If it serves another.
        """
        found = await self._chain.chain_id()
        if found != self.chain_id:
            raise OtherChainError(found, self.chain_id)

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
        OtherChainError
            If the node serves another chain.
        """
        await self.check_chain()
        request = self._request(call.to, call.data, call.value)
        try:
            answers = await self._chain.rpc.batch(
                [
                    ("eth_estimateGas", [request, "pending"]),
                    ("eth_getBlockByNumber", ["latest", False]),
                    ("eth_maxPriorityFeePerGas", []),
                    ("eth_getTransactionCount", [self.address, "pending"]),
                    ("eth_getBalance", [self.address, "latest"]),
                ]
            )
        except RpcResponseError as error:
            if "insufficient funds" in error.rpc_message.lower():
                raise FundsError(self.address, f"{call.contract}.{call.function}") from error
            raise revert_error(call, error) from error
        gas, latest, tip, nonce, balance = cast("tuple[str, dict[str, str], str, str, str]", answers)
        return Estimate(int(gas, 16), _fees(latest, tip), int(nonce, 16), int(balance, 16))

    async def fees(self) -> Fees:
        """Give what the chain asks now."""
        answers = await self._chain.rpc.batch(
            [("eth_getBlockByNumber", ["latest", False]), ("eth_maxPriorityFeePerGas", [])]
        )
        latest, tip = cast("tuple[dict[str, str], str]", answers)
        return _fees(latest, tip)

    async def nonce(self, at: int | None = None) -> int:
        """Count the account's transactions up to a block, or all that the node knows, mined or not."""
        block = "pending" if at is None else hex(at)
        count = await self._chain.rpc.request("eth_getTransactionCount", self.address, block)
        return int(cast("str", count), 16)

    async def balance(self) -> int:
        """Give what the account has for fees, in wei."""
        found = await self._chain.rpc.request("eth_getBalance", self.address, "latest")
        return int(cast("str", found), 16)

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
            Receipt(
                Hash(found["transactionHash"]),
                int(found["blockNumber"], 16),
                found["status"] == "0x1",
                int(found["gasUsed"], 16) * int(found.get("effectiveGasPrice", "0x0"), 16),
            )
            for found in cast("list[dict[str, str] | None]", answers)
            if found
        ]

    async def refusal(self, contract: str, target: Address, data: bytes, value: int, block: int) -> str:
        """Say why a call reverted in a block, by making it again on the state before."""
        try:
            await self._chain.rpc.request("eth_call", self._request(target, data, value), hex(block - 1))
        except RpcResponseError as error:
            try:
                return ContractAbi.load(contract).decode_error(error.data or "0x")
            except NotInAbiError:
                return error.rpc_message
        return "the state changed within its block, or the gas ran out"

    def _request(self, target: Address, data: bytes, value: int) -> dict[str, Json]:
        return {"from": self.address, "to": target, "data": "0x" + data.hex(), "value": hex(value)}


def _fees(latest: dict[str, str], tip: str) -> Fees:
    return Fees(int(latest["baseFeePerGas"], 16), int(tip, 16), int(latest["number"], 16))
