"""What the vault sends with its account: for the node's owner, and the less that it sends for a service.

A service may have been taken over. What it may call is what its steps call, read from the call's bytes and not from
what the command says of them, so that neither a transfer nor a purchase of somebody's worthless data passes for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

from agorai_shared.abi.errors import UndecodableError
from agorai_shared.bindings import (
    data_pool,
    invocation,
    market_token,
    registry,
    training_task,
    voting_panel,
)
from agorai_shared.contract import ContractAbi, FunctionAbi
from agorai_shared.deployment import Deployment
from agorai_shared.errors import RefusedError
from agorai_shared.vault import Send

_APPROVE: Final = market_token.CONTRACT.function("approve")
_MULTICALL: Final = data_pool.CONTRACT.function("multicall")


def _named(contract: ContractAbi, *names: str) -> tuple[str, Mapping[bytes, FunctionAbi]]:
    functions = [contract.function(name) for name in names]
    return contract.name, {function.selector: function for function in functions}


STEPS: Final = dict(
    (
        _named(invocation.CONTRACT, "use"),
        _named(registry.CONTRACT, "register"),
        _named(market_token.CONTRACT, "approve"),
        _named(voting_panel.CONTRACT, "draw", "close", "commit", "reveal"),
        _named(
            data_pool.CONTRACT,
            "publish", "close", "answer", "contest", "commit", "challenge", "settle", "resolve", "forfeit", "claim",
            "multicall",
        ),
        _named(
            training_task.CONTRACT,
            "request", "withdrawRequest", "cancel", "begin", "finish", "decline", "approve", "replace", "accept",
            "update", "propose", "challenge", "resolve", "settle", "claim", "abandon", "claimAbandoned",
        ),
    )
)  # fmt: skip
"""By contract and selector, what the trainer, the verifier and the reward service call."""


def check_target(deployment: Deployment, command: Send) -> None:
    """Let only the marketplace's own contracts be called with this account, each by its own name.

    Raises
    ------
    TargetRefusedError
        If the call goes elsewhere.
    """
    if deployment.contracts.get(command.contract) != command.to:
        raise TargetRefusedError(command.contract, command.to)


def check_step(deployment: Deployment, command: Send) -> FunctionAbi:
    """Let a service call only what a step of its own may be, of which none pays in the chain's own coin.

    Gives what is called, by its bytes.

    Raises
    ------
    TargetRefusedError, StepRefusedError
        If the call goes elsewhere, or is no such step.
    """
    check_target(deployment, command)
    if command.value:
        raise StepRefusedError(command.contract, "pays in the chain's own coin")
    return _check_call(deployment, command.contract, bytes.fromhex(command.data.removeprefix("0x")))


def _check_call(deployment: Deployment, contract: str, data: bytes) -> FunctionAbi:
    function = STEPS.get(contract, {}).get(data[:4])
    if function is None:
        raise StepRefusedError(contract, f"has the selector 0x{data[:4].hex()}")
    if contract == market_token.CONTRACT.name:
        (spender, _) = _arguments(contract, function, data)
        if str(spender).lower() not in {one.lower() for one in deployment.contracts.values()}:
            raise StepRefusedError(
                contract, f"lets {spender} take tokens, which is no contract of the marketplace"
            )
    if function is _MULTICALL:
        (calls,) = _arguments(contract, function, data)
        for call in cast("tuple[bytes, ...]", calls):
            if call[:4] == function.selector:
                raise StepRefusedError(contract, "has a multicall in a multicall")
            _check_call(deployment, contract, call)
    return function


def _arguments(contract: str, function: FunctionAbi, data: bytes) -> tuple[object, ...]:
    """Decode the arguments of bytes that have no other reading: just what these arguments are encoded as."""
    try:
        arguments = function.decode_arguments(data[4:])
    except UndecodableError as error:
        raise StepRefusedError(contract, f"is no {function.signature}") from error
    if function.encode(arguments) != data:
        raise StepRefusedError(contract, f"is no {function.signature} as it is usually encoded")
    return arguments


class TargetRefusedError(RefusedError):
    """A transaction to something else than the marketplace's contracts."""

    def __init__(self, contract: str, to: str) -> None:
        super().__init__(
            f"The vault calls this marketplace's contracts only, not {contract[:50]!r} at {to[:50]}.",
            remedy="Use another wallet for other contracts.",
        )


class StepRefusedError(RefusedError):
    """A call that a service asked for and that is no step of any service."""

    def __init__(self, contract: str, why: str) -> None:
        super().__init__(
            f"The vault sends for a service only what its steps are; this call of {contract[:50]!r} {why}.",
            remedy="Send it as the node's owner. If you did not ask for it, look at who runs the service.",
        )
