"""The bindings against the contracts as a real chain runs them: ISC-MTI's experiment (section 6.3)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import cast

import pytest
import pytest_asyncio

from agorai_shared.abi.codec import checksum
from agorai_shared.bindings.invocation import Delivered, Invocation, Paid, State, Used, Withdrawn
from agorai_shared.bindings.market_token import MarketToken
from agorai_shared.bindings.registry import Joined, Kind, Registered, Registry, ResourceParams
from agorai_shared.bindings.role import Role
from agorai_shared.chain import Chain, ContractRevertError, Finality, RawLog
from agorai_shared.contract import Call
from agorai_shared.rpc import Json, Rpc, RpcResponseError
from agorai_shared.testing import running_anvil
from agorai_shared.types import Address

HAPY = 10**18
DIGEST = bytes(range(32))
GATEWAY = "http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class Market:
    chain: Chain
    token: MarketToken
    registry: Registry
    invocation: Invocation
    linhao: Address
    tommy: Address

    async def send(self, sender: Address, call: Call[object]) -> list[RawLog]:
        """Send from an account that the node itself holds; give the logs."""
        return await transact(self.chain.rpc, sender, call.data, call.to)

    async def refusal(self, sender: Address, call: Call[object]) -> str:
        request: dict[str, Json] = {"from": sender, "to": call.to, "data": "0x" + call.data.hex()}
        with pytest.raises(RpcResponseError) as caught:
            await self.chain.rpc.request("eth_call", request, "latest")
        return self.invocation.ABI.decode_error(caught.value.data or "0x")


async def receipt(rpc: Rpc, sender: Address, data: bytes, to: Address | None) -> dict[str, Json]:
    request: dict[str, Json] = {"from": sender, "data": "0x" + data.hex()}
    if to is not None:
        request["to"] = to
    return cast("dict[str, Json]", await rpc.request("eth_sendTransactionSync", request))


async def transact(rpc: Rpc, sender: Address, data: bytes, to: Address) -> list[RawLog]:
    return cast("list[RawLog]", (await receipt(rpc, sender, data, to))["logs"])


async def deploy(rpc: Rpc, sender: Address, data: bytes) -> Address:
    return Address(str((await receipt(rpc, sender, data, None))["contractAddress"]))


@pytest_asyncio.fixture
async def market() -> AsyncGenerator[Market]:
    async with running_anvil() as anvil, Rpc(anvil.url) as rpc:
        accounts = cast("list[str]", await rpc.request("eth_accounts"))
        issuer, linhao, tommy = (checksum(account) for account in accounts[:3])
        token = MarketToken(
            await deploy(rpc, issuer, MarketToken.deploy_data("Happy", "HAPY", issuer, 1000 * HAPY))
        )
        registry = Registry(await deploy(rpc, issuer, Registry.deploy_data()))
        invocation = Invocation(
            await deploy(rpc, issuer, Invocation.deploy_data(token.address, registry.address))
        )
        chain = Chain(rpc, Finality(0))
        made = Market(chain, token, registry, invocation, linhao, tommy)
        await made.send(issuer, token.issue(tommy, 100 * HAPY))
        yield made


def model() -> ResourceParams:
    return ResourceParams(
        kind=Kind.MODEL,
        price=10 * HAPY,
        previous=0,
        duration=3600,
        uses=1,
        window=60,
        restricted=False,
        metadata=DIGEST,
        commitment=DIGEST,
    )


async def test_tommy_pays_linhao_ten_hapy_for_one_use_of_a_model(market: Market) -> None:
    linhao, tommy, invocation = market.linhao, market.tommy, market.invocation
    for account, role in ((linhao, Role.MODEL_PROVIDER), (tommy, Role.MODEL_USER)):
        (log,) = await market.send(account, market.registry.join(role, DIGEST, DIGEST, GATEWAY))
        joined = Joined.from_args(Joined.ABI.decode(log["topics"], log["data"]))
        assert (joined.account, Role(joined.roles), joined.gateway) == (account, role, GATEWAY)
    (log,) = await market.send(linhao, market.registry.register(model()))
    registered = Registered.from_args(Registered.ABI.decode(log["topics"], log["data"]))
    assert (registered.id, registered.owner, registered.kind) == (1, linhao, Kind.MODEL)

    await market.send(tommy, market.token.approve(invocation.address, 10 * HAPY))
    log = (await market.send(tommy, invocation.pay(registered.id, 10 * HAPY)))[0]
    paid = Paid.from_args(Paid.ABI.decode(log["topics"], log["data"]))
    assert (paid.payer, paid.owner, paid.price) == (tommy, linhao, 10 * HAPY)
    (log,) = await market.send(linhao, invocation.deliver(paid.id, DIGEST))
    delivered = Delivered.from_args(Delivered.ABI.decode(log["topics"], log["data"]))
    assert delivered.grant == DIGEST
    (log,) = await market.send(tommy, invocation.use(paid.id))
    assert Used.from_args(Used.ABI.decode(log["topics"], log["data"])).uses_left == 0
    log = (await market.send(linhao, invocation.withdraw()))[0]
    assert Withdrawn.from_args(Withdrawn.ABI.decode(log["topics"], log["data"])).amount == 10 * HAPY

    item, of_linhao, of_tommy, actor = await market.chain.read(
        invocation.item(paid.id),
        market.token.balance_of(linhao),
        market.token.balance_of(tommy),
        market.registry.actor(tommy),
    )
    assert item.state is State.DELIVERED
    assert item.expires_at == delivered.expires_at
    assert (of_linhao, of_tommy) == (10 * HAPY, 90 * HAPY)
    assert (actor.roles, actor.gateway) == (Role.MODEL_USER, GATEWAY)


async def test_a_refusal_is_told_whichever_contract_it_comes_from(market: Market) -> None:
    linhao, tommy = market.linhao, market.tommy
    await market.send(linhao, market.registry.join(Role.MODEL_PROVIDER, DIGEST, DIGEST, ""))
    await market.send(linhao, market.registry.register(model()))
    pay = market.invocation.pay(1, 10 * HAPY)

    assert await market.refusal(tommy, pay) == f"Registry_NotMember(account={tommy})"
    await market.send(tommy, market.registry.join(Role.MODEL_USER, DIGEST, DIGEST, ""))
    assert (await market.refusal(tommy, pay)).startswith("ERC20InsufficientAllowance(spender=")
    assert await market.refusal(tommy, market.invocation.use(1)) == "Invocation_NotFound(id=1)"
    with pytest.raises(ContractRevertError, match=r"Invocation_NotFound\(id=9\)"):
        await market.chain.read(market.invocation.item(9))
