"""The contracts of an embedded chain, over the lives of its home."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from agorai.contracts import codes
from agorai.devchain import PANEL, TOKEN, DevChain
from agorai_shared.bindings.data_pool import DataPool
from agorai_shared.bindings.market_token import MarketToken
from agorai_shared.bindings.online_learner import OnlineLearner
from agorai_shared.chain import Chain, Finality
from agorai_shared.deployment import Deployment, PartialDeployment
from agorai_shared.processes import Running
from agorai_shared.rpc import Rpc
from agorai_shared.testing import anvil
from agorai_shared.types import Address

__all__ = ["anvil"]

FIVE = ("MarketToken", "Registry", "Invocation", "VotingPanel", "FairExchange")
ACCOUNT = Address("0x000000000000000000000000000000000000000A")


@pytest_asyncio.fixture
async def chain(anvil: Running) -> AsyncIterator[Chain]:
    async with Rpc(anvil.url) as rpc:
        yield Chain(rpc, Finality(0))


async def test_the_contracts_that_an_older_home_lacks_are_put_beside_those_it_has(
    chain: Chain, tmp_path: Path
) -> None:
    dev, path = DevChain(chain.rpc, chain), tmp_path / "deployment.json"
    issuer = await dev._issuer()
    old: dict[str, Address] = {}
    create = codes(MarketToken.deploy_data("Old", "OLD", issuer, 10**9 * TOKEN), PANEL)
    for name in FIVE:
        old[name] = await dev._create(create[name](old), name)
    kept = PartialDeployment(chain_id=31337, start_block=1, contracts=old)
    path.write_text(kept.model_dump_json())
    await dev._send(MarketToken(old["MarketToken"]).issue(ACCOUNT, 5 * TOKEN))

    found = await dev.deployment(path)

    assert (found.chain_id, found.start_block) == (31337, 1)
    assert {name: found.contracts[name] for name in FIVE} == old
    pool = DataPool(found.data_pool)
    read = (pool.token(), pool.registry(), pool.panel(), OnlineLearner(found.online_learner).max_samples())
    token, registry, panel, most = await chain.read(*read)
    assert (token, registry, panel) == (found.token, found.registry, found.voting_panel)
    assert most > 0
    assert await chain.read(MarketToken(found.token).balance_of(ACCOUNT)) == (5 * TOKEN,)
    assert Deployment.load(path) == found
    head = await chain.head()
    assert await dev.deployment(path) == found
    assert await chain.head() == head  # nothing was sent for what is there


async def test_what_the_chain_has_lost_is_put_there_anew_with_all_that_knows_it_by_its_address(
    chain: Chain, tmp_path: Path
) -> None:
    dev, path = DevChain(chain.rpc, chain), tmp_path / "deployment.json"
    before = await dev.deployment(path)
    await chain.rpc.request("anvil_setCode", before.voting_panel, "0x")

    after = await dev.deployment(path)

    same = {name for name, address in before.contracts.items() if after.contracts[name] == address}
    assert same == {"MarketToken", "Registry", "Invocation"}
    assert await chain.read(DataPool(after.data_pool).panel()) == (after.voting_panel,)
    assert after.start_block == before.start_block
    assert Deployment.load(path) == after


async def test_the_file_of_another_chain_is_written_anew(chain: Chain, tmp_path: Path) -> None:
    dev, path = DevChain(chain.rpc, chain), tmp_path / "deployment.json"
    here = await dev.deployment(path)
    path.write_text(here.model_copy(update={"chain_id": 1, "start_block": 0}).model_dump_json())
    head = await chain.head()

    again = await dev.deployment(path)

    assert (again.chain_id, again.start_block) == (31337, head.number + 1)
    assert not set(again.contracts.values()) & set(here.contracts.values())
    assert Deployment.load(path) == again
