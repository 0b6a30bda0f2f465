"""The chain that is played on: an anvil of its own, with a clock that only the simulation moves."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Final, TypeVar, cast

import orjson
from eth_utils.address import to_checksum_address

from agorai_shared.bindings.fair_exchange import FairExchange
from agorai_shared.contract import Call, EventAbi
from agorai_shared.rpc import RpcResponseError
from agorai_shared.testing import running_anvil
from agorai_shared.types import Address

R = TypeVar("R")

CHAIN_ID: Final = 31337
START: Final = 1_800_000_000
"""The first block's time, in seconds since 1970."""

# Cancun is what the contracts are compiled for; what later forks store of each block slows an anvil down.
FLAGS: Final = (
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


class RefusedError(Exception):
    """A contract refused a call; nothing has changed. `reason` is the error's name."""

    def __init__(self, call: Call[Any], reason: str) -> None:
        super().__init__(f"{call.contract}.{call.function}: {reason}")
        self.reason = reason


class Chain:
    """A block each second, and one more for each transaction. The same calls make the same blocks, hash for hash."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._answers: dict[tuple[Address, bytes], object] = {}
        self._decoded: dict[tuple[str, str, str], object] = {}
        self._logs: list[dict[str, Any]] = []
        self.now = START
        self._request("anvil_setLoggingEnabled", False)  # nobody reads them
        self._request("anvil_setBlockTimestampInterval", 0)

    def move(self, to: int) -> None:
        """Go on to the block of this time, in seconds since 1970."""
        assert to >= self.now, "time goes one way"
        if to > self.now:
            self._request("evm_mine", {"timestamp": to, "blocks": to - self.now})
            self.now = to

    def create(self, by: Address, data: bytes) -> Address:
        """Put a contract on the chain."""
        receipt = self._mined({"from": by, "data": "0x" + data.hex()})
        return Address(to_checksum_address(receipt["contractAddress"]))

    def read(self, call: Call[R]) -> R:
        """Ask a contract, as of the last transaction; raises `RefusedError`.

        What has changed with time alone since then, a case's phase, `PanelCase` knows by itself.
        """
        asked = call.to, call.data
        if asked not in self._answers:
            output = self._call(call, _transaction(_NOBODY, call), "latest")
            known = call.contract, call.function, output
            if known not in self._decoded:  # decoding takes as long as asking
                self._decoded[known] = call.decode(bytes.fromhex(output[2:]))
            self._answers[asked] = self._decoded[known]
        return cast("R", self._answers[asked])

    def send(self, by: Address, call: Call[R]) -> R:
        """Have a transaction mined; raises `RefusedError`."""
        transaction = _transaction(by, call)
        output = self._call(call, transaction, "pending")  # in the very block that is mined then
        self._logs = self._mined(transaction)["logs"]
        return call.decode(bytes.fromhex(output[2:]))

    def events(self, event: EventAbi) -> list[dict[str, Any]]:
        """Give what the last transaction told by this event."""
        return [
            event.decode(log["topics"], log["data"]) for log in self._logs if log["topics"][0] == event.topic0
        ]

    def _call(self, call: Call[Any], transaction: dict[str, str], block: str) -> str:
        try:
            return cast("str", self._request("eth_call", transaction, block))
        except RpcResponseError as error:
            raise RefusedError(call, _reason(error)) from error

    def _mined(self, transaction: dict[str, str]) -> dict[str, Any]:
        self._answers.clear()
        hash_ = self._request("eth_sendTransaction", {**transaction, "gas": _GAS, "gasPrice": "0x0"})
        self._request("evm_mine")
        receipt = self._request("eth_getTransactionReceipt", hash_)
        assert receipt["status"] == "0x1", receipt
        return cast("dict[str, Any]", receipt)

    def _request(self, method: str, *params: object) -> Any:
        self._stream.write(orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
        self._stream.flush()
        answer = orjson.loads(self._stream.readline())
        if (error := answer.get("error")) is not None:
            raise RpcResponseError(method, error["code"], error["message"], error.get("data"))
        return answer["result"]


@asynccontextmanager
async def running_chain() -> AsyncGenerator[Chain]:
    """Run an anvil on which every account sends without a key and without coin.

    It is the fork of an empty chain, since of a fork anvil computes no state roots: over all that is stored, and for
    each block anew, they take most of a simulation's time. Its socket takes a third of HTTP's time.
    """
    with TemporaryDirectory() as folder:
        path = str(Path(folder, "anvil"))
        async with (
            running_anvil(chain_id=CHAIN_ID, arguments=("--timestamp", str(START))) as empty,
            running_anvil(chain_id=CHAIN_ID, arguments=(*FLAGS, "--fork-url", empty.url, "--ipc", path)),
        ):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(path)
                with connection.makefile("rwb") as stream:
                    yield Chain(cast("IO[bytes]", stream))


def _transaction(by: Address, call: Call[Any]) -> dict[str, str]:
    return {"from": by, "to": call.to, "data": "0x" + call.data.hex()}


def _reason(error: RpcResponseError) -> str:
    revert = FairExchange.ABI.revert(error.data or "")
    assert revert is not None, f"no error of ours: {error}"
    assert revert.name not in {"Panic", "Error"}, f"not foreseen: {revert}"
    return revert.name
