"""What the vault sends for a service: read from the bytes, whatever the command says of them."""

from __future__ import annotations

from typing import Any

import pytest

from agorai_shared.bindings.data_pool import DataPool
from agorai_shared.bindings.fair_exchange import FairExchange
from agorai_shared.bindings.invocation import Invocation
from agorai_shared.bindings.market_token import MarketToken
from agorai_shared.bindings.registry import Registry
from agorai_shared.bindings.training_task import TrainingTask
from agorai_shared.contract import Call
from agorai_shared.deployment import NEEDED, Deployment
from agorai_shared.types import Address, InvocationId, Wei
from agorai_shared.vault import Send
from agorai_vault.policy import StepRefusedError, TargetRefusedError, check_step, check_target

ADDRESSES = {name: Address(f"0x{number:040x}") for number, name in enumerate(sorted(NEEDED), 1)}
DEPLOYMENT = Deployment(chain_id=1, start_block=0, contracts=ADDRESSES)
STRANGER = Address("0x" + "77" * 20)
TOKEN = MarketToken(DEPLOYMENT.token)
POOL = DataPool(DEPLOYMENT.data_pool)
MOST = Wei((1 << 256) - 1)


def command(call: Call[Any], data: bytes | None = None) -> Send:
    """Ask for a call under a name that always looks right."""
    data = call.data if data is None else data
    return Send(once="a", to=call.to, data="0x" + data.hex(), contract=call.contract, function="approve")


@pytest.mark.parametrize(
    "call",
    [
        TOKEN.transfer(STRANGER, MOST),
        TOKEN.transfer_from(STRANGER, STRANGER, MOST),
        TOKEN.approve(STRANGER, MOST),
        Invocation(DEPLOYMENT.invocation).pay(1, 1 << 90),
        FairExchange(DEPLOYMENT.fair_exchange).pay(1),
        Registry(DEPLOYMENT.registry).leave(),
        TrainingTask(DEPLOYMENT.training_task).fund(1, 1 << 90),
        POOL.fund(1, 1 << 90),
        POOL.multicall([POOL.claim(1).data, POOL.fund(1, 1 << 90).data]),
        POOL.multicall([POOL.multicall([POOL.claim(1).data]).data]),
    ],
    ids=lambda call: f"{call.contract}.{call.function}",
)
def test_what_moves_the_accounts_tokens_is_sent_for_the_owner_and_for_no_service(call: Call[Any]) -> None:
    check_target(DEPLOYMENT, command(call))
    with pytest.raises(StepRefusedError):
        check_step(DEPLOYMENT, command(call))


@pytest.mark.parametrize(
    "call",
    [
        TOKEN.approve(DEPLOYMENT.data_pool, MOST),
        Invocation(DEPLOYMENT.invocation).use(InvocationId(1)),
        POOL.multicall([POOL.claim(1).data, POOL.claim(2).data]),
    ],
    ids=lambda call: f"{call.contract}.{call.function}",
)
def test_a_step_is_sent_for_a_service(call: Call[Any]) -> None:
    assert check_step(DEPLOYMENT, command(call)).name == call.function, "by its bytes, not by what it says"


def test_bytes_that_could_be_read_in_two_ways_are_no_step() -> None:
    approved = TOKEN.approve(DEPLOYMENT.data_pool, MOST)
    for data in (
        approved.data[:4],
        approved.data[:-1],
        approved.data + b"\0",
        approved.data[:4] + b"\1" * 64,
    ):
        with pytest.raises(StepRefusedError):
            check_step(DEPLOYMENT, command(approved, data))


def test_a_step_is_not_for_another_contract() -> None:
    with pytest.raises(TargetRefusedError):
        check_step(DEPLOYMENT, command(MarketToken(STRANGER).approve(DEPLOYMENT.data_pool, MOST)))
