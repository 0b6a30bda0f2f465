"""A chain in this process: the real contracts' bytecode, on revm, with a clock that only the simulation moves."""

from __future__ import annotations

import re
from typing import Any, Final, TypeVar, cast

import pyrevm
from eth_utils.address import to_checksum_address

from agorai_shared.bindings.fair_exchange import FairExchange
from agorai_shared.contract import Call, EventAbi
from agorai_shared.types import Address

R = TypeVar("R")

CHAIN_ID: Final = 31337
START: Final = 1_800_000_000
"""The first block's time, in seconds since 1970."""

_REVERTED: Final = re.compile(r"Revert \{ gas_used: \d+, output: (0x[0-9a-f]*) \}")
_NOBODY: Final = Address("0x" + 40 * "0")


class RefusedError(Exception):
    """A contract refused a call; nothing has changed. `reason` is the error's name."""

    def __init__(self, call: Call[Any], reason: str) -> None:
        super().__init__(f"{call.contract}.{call.function}: {reason}")
        self.reason = reason


class Chain:
    """One block each second. A block's hash is that of its number, as revm has it for a chain without blocks:
    one for each of the last 256 blocks, and nobody's choice, which is all that a draw asks of it.
    """

    def __init__(self, first_block: int) -> None:
        self._evm = pyrevm.EVM(pyrevm.Env(cfg=pyrevm.CfgEnv(chain_id=CHAIN_ID)), spec_id="CANCUN")
        self._first_block = first_block
        self._decoded: dict[tuple[Address, str, bytes], object] = {}
        self.now = START
        self.move(START)

    def move(self, to: int) -> None:
        """Go on to the block of this time, in seconds since 1970."""
        assert to >= self.now, "time goes one way"
        self.now = to
        number = self._first_block + to - START
        self._evm.set_block_env(pyrevm.BlockEnv(number=number, timestamp=to))

    def create(self, by: Address, data: bytes) -> Address:
        """Put a contract on the chain."""
        return Address(to_checksum_address(self._evm.deploy(by, data)))

    def read(self, call: Call[R]) -> R:
        """Ask a contract; raises `RefusedError`."""
        output = self._run(_NOBODY, call, is_static=True)
        known = call.to, call.function, output
        if known not in self._decoded:  # decoding takes most of a simulation's time
            self._decoded[known] = call.decode(output)
        return cast("R", self._decoded[known])

    def send(self, by: Address, call: Call[R]) -> R:
        """Have a transaction mined; raises `RefusedError`."""
        output = self._run(by, call, is_static=False)
        self._evm.reset_transient_storage()
        return call.decode(output)

    def events(self, event: EventAbi) -> list[dict[str, Any]]:
        """Give what the last transaction told by this event."""
        result = self._evm.result
        assert result is not None
        return [
            event.decode(log.topics, "0x" + log.data[1].hex())
            for log in result.logs
            if log.topics[0] == event.topic0
        ]

    def _run(self, by: Address, call: Call[Any], *, is_static: bool) -> bytes:
        try:
            return bytes(self._evm.message_call(by, call.to, call.data, is_static=is_static))
        except RuntimeError as error:
            found = _REVERTED.fullmatch(str(error))
            if found is None:
                raise
            raise RefusedError(call, _reason(found[1])) from error


def _reason(data: str) -> str:
    revert = FairExchange.ABI.revert(data)
    assert revert is not None, f"no error of ours: {data}"
    assert revert.name not in {"Panic", "Error"}, f"not foreseen: {revert}"
    return revert.name
