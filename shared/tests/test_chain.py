from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

import pytest
import pytest_asyncio
from eth_utils.address import to_checksum_address

from agorai_shared.bindings.market_token import MarketToken
from agorai_shared.chain import (
    BlockAbsentError,
    Chain,
    ContractAbsentError,
    ContractRevertError,
    Finality,
    at_one_block,
)
from agorai_shared.processes import Running
from agorai_shared.rpc import Rpc
from agorai_shared.testing import running_anvil
from agorai_shared.types import Address, Hash, Wei

SUPPLY = 10**24


@pytest_asyncio.fixture
async def node() -> AsyncGenerator[Running]:
    async with running_anvil(slots_in_an_epoch=2) as node:
        yield node


@pytest_asyncio.fixture
async def rpc(node: Running) -> AsyncGenerator[Rpc]:
    async with Rpc(node.url) as rpc:
        yield rpc


async def accounts(rpc: Rpc) -> list[Address]:
    raw = cast("list[str]", await rpc.request("eth_accounts"))
    return [Address(to_checksum_address(account)) for account in raw]


async def deployed(rpc: Rpc) -> MarketToken:
    issuer = (await accounts(rpc))[0]
    data = MarketToken.deploy_data("Agora", "AGO", issuer, SUPPLY)
    receipt = cast(
        "dict[str, Any]",
        await rpc.request(
            "eth_sendTransactionSync", {"from": issuer, "data": "0x" + data.hex(), "gas": "0x500000"}
        ),
    )
    return MarketToken(Address(to_checksum_address(receipt["contractAddress"])))


async def test_finality_is_what_the_policy_says(rpc: Rpc) -> None:
    await rpc.request("anvil_mine", hex(20))
    assert (await Chain(rpc, Finality(0)).final()).number == 20
    assert (await Chain(rpc, Finality(3)).final()).number == 17
    assert (await Chain(rpc, Finality(50)).final()).number == 0
    assert 0 < (await Chain(rpc, Finality(None)).final()).number < 20


async def test_what_is_read_at_one_block_is_read_at_the_same_though_others_are_mined(rpc: Rpc) -> None:
    chain, token = Chain(rpc, Finality(0)), await deployed(rpc)
    issuer = (await accounts(rpc))[0]
    sent = {"from": issuer, "to": token.address, "data": "0x" + token.issue(issuer, Wei(7)).data.hex()}
    with at_one_block():
        first = await chain.final()
        await rpc.request("eth_sendTransactionSync", cast("Any", sent))
        assert await chain.final() == first
        assert await chain.read(token.balance_of(issuer)) == (0,)
    assert (await chain.final()).number == first.number + 1
    assert await chain.read(token.balance_of(issuer)) == (7,)


async def test_a_final_block_that_is_known_will_do_if_it_is_young_enough(rpc: Rpc) -> None:
    chain = Chain(rpc, Finality(0))
    with at_one_block(least=0):
        assert (await chain.final()).number == 0  # none was known: it is asked for
    await rpc.request("anvil_mine", hex(3))
    for least, number in ((0, 0), (3, 3), (1, 3), (None, 3)):
        with at_one_block(least=least):
            assert (await chain.final()).number == number
    await rpc.request("anvil_mine", hex(1))
    with at_one_block(least=3):
        assert (await chain.final()).number == 3
    assert (await chain.final()).number == 4
    await rpc.request("anvil_rollback", 2)  # as where another node answers, which is behind
    assert (await chain.final()).number == 2
    for least in (0, 4):
        with at_one_block(least=least):
            assert (await chain.final()).number == 2


async def test_all_that_is_read_at_a_final_block_that_is_known_is_read_at_it(rpc: Rpc) -> None:
    chain, token = Chain(rpc, Finality(0)), await deployed(rpc)
    issuer = (await accounts(rpc))[0]
    sent = {"from": issuer, "to": token.address, "data": "0x" + token.issue(issuer, Wei(7)).data.hex()}
    known = await chain.final()
    await rpc.request("eth_sendTransactionSync", cast("Any", sent))
    with at_one_block(least=known.number):
        assert await chain.read(token.balance_of(issuer)) == (0,)
        assert await chain.read(token.balance_of(issuer), token.total_supply()) == (0, 0)
    with at_one_block():
        assert await chain.read(token.balance_of(issuer)) == (7,)


async def test_finality_lags_behind_the_head_by_the_time_between_the_two_blocks(rpc: Rpc) -> None:
    await rpc.request("anvil_mine", hex(4), hex(12))  # four blocks, twelve seconds apart
    assert await Chain(rpc, Finality(3)).finality_lag() == 36
    assert await Chain(rpc, Finality(0)).finality_lag() == 0


async def test_blocks_are_found_by_number_and_hash(rpc: Rpc) -> None:
    chain = Chain(rpc, Finality(0))
    await rpc.request("anvil_mine", hex(3))
    head = await chain.head()
    assert head.number == 3
    assert await chain.block(3) == head == await chain.block_by_hash(head.hash)
    assert await chain.block(4) is None
    assert await chain.block_by_hash(Hash("0x" + "12" * 32)) is None
    assert sorted(await chain.blocks((1, 2, 7))) == [1, 2]
    assert await chain.chain_id() == 31337


async def test_several_calls_are_read_at_one_block(rpc: Rpc) -> None:
    chain = Chain(rpc, Finality(0))
    token = await deployed(rpc)
    assert await chain.read(token.symbol(), token.maximum_supply(), token.total_supply()) == (
        "AGO",
        SUPPLY,
        0,
    )
    before = await chain.head()
    issuer, buyer, *_ = await accounts(rpc)
    issue = token.issue(buyer, 5)
    await rpc.request(
        "eth_sendTransactionSync", {"from": issuer, "to": token.address, "data": "0x" + issue.data.hex()}
    )
    balance = token.balance_of(buyer)
    assert await chain.read(balance, at=before) == (0,)
    assert await chain.read(balance, at=before.number) == (0,)
    assert await chain.read(balance) == (5,)
    assert await Chain(rpc, Finality(1)).read(balance) == (0,)


async def test_a_revert_tells_the_contracts_own_reason(rpc: Rpc) -> None:
    chain = Chain(rpc, Finality(0))
    token = await deployed(rpc)
    _, buyer, *_ = await accounts(rpc)
    with pytest.raises(
        ContractRevertError, match=r"transfer refused: .*ERC20InvalidSender|InsufficientBalance"
    ):
        await chain.read(token.symbol(), token.transfer(buyer, 1))
    symbol, refused = await chain.outcomes(token.symbol(), token.transfer(buyer, 1))
    assert symbol == "AGO"
    assert isinstance(refused, ContractRevertError)


async def test_an_address_without_the_contract_is_told(rpc: Rpc) -> None:
    nobody = MarketToken(Address("0x" + "00" * 19 + "99"))
    with pytest.raises(ContractAbsentError, match="MarketToken"):
        await Chain(rpc, Finality(0)).read(nobody.symbol())


async def test_logs_of_a_range_come_with_its_ends_and_of_a_block_by_hash(rpc: Rpc) -> None:
    chain = Chain(rpc, Finality(0))
    token = await deployed(rpc)
    issuer, *_ = await accounts(rpc)
    for _ in range(2):
        call = token.issue(issuer, 1)
        await rpc.request(
            "eth_sendTransactionSync", {"from": issuer, "to": token.address, "data": "0x" + call.data.hex()}
        )
    logs, first, last = await chain.logs_between([{"address": token.address}], 1, 3)
    assert (first.number, last.number) == (1, 3)
    assert [int(raw["blockNumber"], 16) for raw in await chain.logs(token.address, from_block=2)] == [2, 3]
    assert await chain.logs_of(last.hash, [{"address": token.address}]) == [
        raw for raw in logs if raw["blockNumber"] == "0x3"
    ]
    with pytest.raises(BlockAbsentError):
        await chain.logs_between([{"address": token.address}], 1, 9)
    with pytest.raises(BlockAbsentError):
        await chain.logs_of(Hash("0x" + "12" * 32), [{"address": token.address}])


@pytest.mark.parametrize("web_socket", [True, False])
async def test_heads_come_one_by_one(node: Running, web_socket: bool) -> None:
    ws_url = None if web_socket else "http://127.0.0.1:1"
    async with (
        Rpc(node.url, ws_url=ws_url) as rpc,
        aclosing(Chain(rpc, Finality(0)).heads(poll_s=0.01)) as heads,
    ):
        assert (await anext(heads)).number == 0
        for number in range(1, 6):
            await rpc.request("evm_mine")
            async with asyncio.timeout(60):
                assert (await anext(heads)).number == number


async def test_a_reorged_head_is_pushed_too(rpc: Rpc) -> None:
    async with aclosing(Chain(rpc, Finality(0)).heads()) as heads:
        await anext(heads)
        await rpc.request("anvil_mine", hex(3))
        old = await anext(heads)
        while old.number < 3:
            old = await anext(heads)
        await rpc.request("anvil_reorg", 2, [])
        async with asyncio.timeout(60):
            while (await anext(heads)).hash in {old.hash, old.parent_hash}:
                pass
        head = await Chain(rpc, Finality(0)).head()
        assert head.number == 3
        assert head.hash != old.hash
