"""The market's contracts on an anvil of the experiment's own, with a clock that only the experiment moves."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Final, TypeVar, cast

import orjson
from eth_utils.address import to_checksum_address

from agorai.devchain import PANEL, TOKEN
from agorai_shared.bindings.data_pool import DataPool
from agorai_shared.bindings.market_token import MarketToken
from agorai_shared.bindings.registry import Registry
from agorai_shared.bindings.role import Role
from agorai_shared.bindings.voting_panel import VotingPanel
from agorai_shared.contract import Call, EventAbi
from agorai_shared.rpc import RpcResponseError
from agorai_shared.testing import running_anvil
from agorai_shared.types import Address

R = TypeVar("R")

START: Final = 1_800_000_000
"""The first block's time, in seconds since 1970."""

# Cancun is what the contracts are compiled for.
_FLAGS: Final = (
    "--hardfork=cancun",
    "--base-fee=0",
    "--no-mining",
    "--auto-impersonate",
    "--prune-history",
    "--no-rate-limit",
    "--no-storage-caching",
)
_GAS: Final = hex(16_000_000)
_NOBODY: Final = Address("0x" + 40 * "0")
_ISSUER: Final = Address("0x" + 40 * "1")


class TransactionFailedError(Exception):
    """A contract refused a transaction, which no player of the experiment sends."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a transaction cost, and what it told."""

    gas: int
    """Used, as anvil says."""
    seconds: float
    """From sending until the receipt was there."""
    logs: tuple[dict[str, Any], ...]

    def event(self, event: EventAbi) -> list[dict[str, Any]]:
        """Give what was told by this event."""
        return [
            event.decode(log["topics"], log["data"]) for log in self.logs if log["topics"][0] == event.topic0
        ]


class Ledger:
    """A block for each transaction. Every account sends without a key and without coin."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._accounts = 0
        self.now = START
        self._request("anvil_setLoggingEnabled", False)  # nobody reads them
        self._request("anvil_setBlockTimestampInterval", 0)
        token = self._create(MarketToken.deploy_data("Happy Token", "HAPY", _ISSUER, 10**12 * TOKEN))
        registry = self._create(Registry.deploy_data())
        panel = self._create(VotingPanel.deploy_data(token, registry, PANEL))
        pools = self._create(DataPool.deploy_data(token, registry, panel))
        self.token, self.registry, self.pools = MarketToken(token), Registry(registry), DataPool(pools)

    def member(self, tokens: int) -> Address:
        """Give a new member of the market, with so much money, which the pools may draw on."""
        self._accounts += 1
        account = Address(to_checksum_address(f"0x{0xA11CE + self._accounts:040x}"))
        self.send(account, self.registry.join(Role.DATA_PROVIDER, bytes(32), b"k" * 32, ""))
        self.send(_ISSUER, self.token.issue(account, tokens))
        self.send(account, self.token.approve(self.pools.address, 2**256 - 1))
        return account

    def move(self, seconds: int) -> None:
        """Let time pass; the next block is mined then."""
        self.now += seconds
        self._request("evm_setNextBlockTimestamp", self.now)

    def read(self, call: Call[R]) -> R:
        """Ask a contract, as of the last transaction."""
        return call.decode(
            bytes.fromhex(self._request("eth_call", _transaction(_NOBODY, call), "latest")[2:])
        )

    def send(self, by: Address, call: Call[Any]) -> Receipt:
        """Have a transaction mined.

        Raises
        ------
        TransactionFailedError
            If the contract refuses it.
        """
        return self._mined(_transaction(by, call), f"{call.contract}.{call.function}")

    def _create(self, code: bytes) -> Address:
        receipt = self._request_receipt({"from": _ISSUER, "data": "0x" + code.hex()})
        return Address(to_checksum_address(receipt["contractAddress"]))

    def _mined(self, transaction: dict[str, str], what: str) -> Receipt:
        began = time.perf_counter()
        receipt = self._request_receipt(transaction)
        seconds = time.perf_counter() - began
        if receipt["status"] != "0x1":
            try:
                self._request("eth_call", transaction, "latest")
            except RpcResponseError as error:
                raise TransactionFailedError(
                    f"{what}: {DataPool.ABI.decode_error(error.data or '')}"
                ) from error
            raise TransactionFailedError(f"{what}: out of gas, or refused for what was so a block ago")
        return Receipt(int(receipt["gasUsed"], 16), seconds, tuple(receipt["logs"]))

    def _request_receipt(self, transaction: dict[str, str]) -> dict[str, Any]:
        hash_ = self._request("eth_sendTransaction", {**transaction, "gas": _GAS, "gasPrice": "0x0"})
        self._request("evm_mine")
        return cast("dict[str, Any]", self._request("eth_getTransactionReceipt", hash_))

    def _request(self, method: str, *params: object) -> Any:
        self._stream.write(orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
        self._stream.flush()
        answer = orjson.loads(self._stream.readline())
        if (error := answer.get("error")) is not None:
            raise RpcResponseError(method, error["code"], error["message"], error.get("data"))
        return answer["result"]


@asynccontextmanager
async def running_ledger() -> AsyncGenerator[Ledger]:
    """Run an anvil, reached by its socket, which takes a third of HTTP's time.

    It is the fork of an empty chain, since of a fork anvil computes no state roots: over all that is stored, and for
    each block anew, they would be most of what a transaction takes.
    """
    with TemporaryDirectory() as folder:
        path = str(Path(folder, "anvil"))
        async with (
            running_anvil(arguments=("--timestamp", str(START))) as empty,
            running_anvil(arguments=(*_FLAGS, "--fork-url", empty.url, "--ipc", path)),
        ):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(path)
                with connection.makefile("rwb") as stream:
                    yield Ledger(cast("IO[bytes]", stream))


def _transaction(by: Address, call: Call[Any]) -> dict[str, str]:
    return {"from": by, "to": call.to, "data": "0x" + call.data.hex()}
