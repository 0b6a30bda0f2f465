"""The paper's Table 1: what each operation takes between real nodes with all their services.

Their chain mines on arrival.

    node_creation            a content store of one's own, until it has taken its first file
    contract_creation        opening a pool: samples stored, test set sealed, its estimator tried, all final
    hash_upload              the initial samples put into a node's store, which gives their CID
    consensus_and_update     a transfer, from asking the node until it is final
    data_adding              a sample that goes on the chain itself: committed to and added, all final
    deposit_payment          money laid down in a pool
    training_single_input    the on-chain learner takes a sample of 20 features
    training_multiple_input  from a pool's opening until its first version is published: 20,000 samples learnt in the
                             sandbox, accuracy measured, and all that the version is made of stored and pinned
    contract_update          publishing a version's digests
    reward_payment           from the end of the check window until deposit and reward are in the wallet: the node
                             settles by itself, then all is withdrawn
    model_download           by a stranger, by the digest on the chain
    data_download            likewise, all 20,000 samples as one file
    whole_node               for who compares that with `node_creation`: a new account's keys, with geth's full work
                             factor, and its node with all services, funded and a member of the market
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
from pydantic import SecretStr

from agorai import node
from agorai.client import Client
from agorai.demo.town import Resident, Town, running
from agorai.devchain import TOKEN
from agorai.home import Home
from agorai.pools import Pools, PoolTerms
from agorai_shared.bindings.online_learner import Created, Kind, OnlineLearner
from agorai_shared.content import ContentStore
from agorai_shared.online_learner import encode_sample
from agorai_shared.pool import Samples, write_samples
from agorai_shared.service import Host, make_broker
from agorai_shared.settings import NodeSettings
from agorai_shared.types import Wei
from agorai_storage import app as storage
from agorai_storage.settings import StorageSettings
from benchmarks.pooling import cases

PAPER_S: Final = {
    "node_creation": (2, 3),
    "contract_creation": (15, 20),
    "hash_upload": (2, 3),
    "consensus_and_update": (2, 3),
    "data_adding": (1, 2),
    "deposit_payment": (2, 3),
    "training_single_input": (1, 2),
    "training_multiple_input": (60, 80),
    "contract_update": (2, 3),
    "reward_payment": (1, 2),
    "model_download": (1, 2),
    "data_download": (10, 15),
}
"""From, and to."""
SAMPLES: Final = 20_000
"""That the paper's model of reviews was first trained on."""
_FEATURES: Final = 1_000
_WINDOW_S: Final = 600
_PATIENCE_S: Final = 120


class Watch:
    """Takes times by the operation."""

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = defaultdict(list)

    @asynccontextmanager
    async def timed(self, operation: str) -> AsyncIterator[None]:
        """Take the time of what is done inside."""
        began = time.perf_counter()
        yield
        self.taken[operation].append(time.perf_counter() - began)


async def table1(repeats: int) -> dict[str, dict[str, float]]:
    """Give the seconds of each operation: median, least and most; what is done once for a pool, is done once."""
    case = cases.text(0, supply=SAMPLES, test=2_000)
    initial = write_samples(case.document, Samples(case.supply[:-repeats]))
    test = write_samples(case.document, case.test)
    watch = Watch()
    async with running([Resident(name, 10_000) for name in ("olga", "gina", "carl")]) as town:
        olga, gina, carl = (Pools(town.clients[name]) for name in ("olga", "gina", "carl"))
        for number in range(repeats):
            await _new_store(olga.client, watch)
            await _new_node(town, watch)
            content = initial + b"\n" * (number + 1)  # no store has it
            async with watch.timed("hash_upload"):
                await olga.client.store.put(content)
            async with watch.timed("consensus_and_update"):
                await gina.client.send_tokens(olga.client.address, Wei(1))
        terms = PoolTerms(
            deposit=Wei(TOKEN), reward=Wei(TOKEN // 10), bond=Wei(TOKEN), budget=Wei(1_000 * TOKEN),
            check_window=_WINDOW_S, answer_window=_WINDOW_S, reveal_window=_WINDOW_S,
            closes_at=await olga.now() + 30 * 86_400,
        )  # fmt: skip
        async with watch.timed("contract_creation"):
            pool = await olga.open(case.document, initial, test, terms)
        async with watch.timed("training_multiple_input"):
            await _until(lambda: _is_published(carl, pool))
        version = (await carl.versions(pool))[0].version
        async with watch.timed("model_download"):
            await carl.model(version)
        async with watch.timed("data_download"):
            await carl.data(version)
        await _pool_repeated(watch, pool, (olga, gina), case, repeats)
        await _learner(watch, olga.client, repeats)
    return {
        operation: {
            "median": round(statistics.median(taken), 3),
            "least": round(min(taken), 3),
            "most": round(max(taken), 3),
        }
        for operation, taken in watch.taken.items()
    }


async def _pool_repeated(
    watch: Watch, pool: int, who: tuple[Pools, Pools], case: cases.Case, repeats: int
) -> None:
    owner, contributor = who
    await contributor.allow(contributor.contract.address, TOKEN)
    for row in case.supply[-repeats:]:
        sample = write_samples(case.document, Samples((row,)))
        async with watch.timed("deposit_payment"):
            await owner.fund(pool, Wei(TOKEN))
        async with watch.timed("data_adding"):
            await contributor.add(pool, sample, inline=True)
        record, model, snapshot = (secrets.token_bytes(32) for _ in range(3))
        async with watch.timed("contract_update"):
            await contributor.send(contributor.contract.publish(pool, 0, record, model, snapshot, 0))
        await contributor.client.chain.rpc.request("evm_increaseTime", _WINDOW_S + 1)
        async with watch.timed("reward_payment"):
            await contributor.client.chain.rpc.request("evm_mine")
            await _until(lambda: _is_credited(contributor))
            await contributor.send(contributor.contract.withdraw())


async def _learner(watch: Watch, client: Client, repeats: int) -> None:
    learners = OnlineLearner(client.deployment.online_learner)
    sent = await client.transact(learners.create(Kind.PERCEPTRON, _FEATURES, 2, client.address))
    learner = (await client.market.emitted(sent, Created)).id
    await client.transact(learners.prepare(learner, 0, _FEATURES))
    for number in range(repeats):
        sample = encode_sample(dict.fromkeys(range(number, _FEATURES, _FEATURES // 20), 1))
        async with watch.timed("training_single_input"):
            await client.transact(learners.train(learner, sample, number % 2))


async def _new_store(client: Client, watch: Watch) -> None:
    """Run a storage service alone."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        info, token = client.info, secrets.token_urlsafe(32)
        async with watch.timed("node_creation"):
            settings = NodeSettings(
                bus_url=info.bus_url,
                bus_user=info.bus_user,
                bus_password=SecretStr(info.bus_password or ""),
                node_token=SecretStr(token),
                port=0,
            )
            service = storage.create(StorageSettings(path=folder), token)
            host = Host(settings, [service], make_broker(settings, "new"))
            await stack.enter_async_context(host.running())
            await ContentStore(host.url, token, session).put(b"first")


async def _new_node(town: Town, watch: Watch) -> None:
    """Run another participant's node, as `agorai start` does."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        platform = town.platform
        async with watch.timed("whole_node"):
            home, passphrase = Home(folder), secrets.token_urlsafe(16)
            keys = await asyncio.to_thread(node.open_keys, home, passphrase)
            await platform.fund(keys.address, TOKEN)
            place = node.Place(
                bus_url=platform.info.bus_url,
                bus_password=await platform.add_node(keys.address),
                rpc_url=platform.info.rpc_url,
                confirmations=platform.info.confirmations,
                deployment=platform.info.deployment,
            )
            await stack.enter_async_context(node.running(home, "new", keys, passphrase, place, town.sandbox))


async def _is_published(pools: Pools, pool: int) -> bool:
    return bool((await pools.files.history(pool)).versions)


async def _is_credited(pools: Pools) -> bool:
    (credit,) = await pools.read(pools.contract.credit_of(pools.client.address))
    return bool(credit)


async def _until(look: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(_PATIENCE_S):
        while not await look():  # noqa: ASYNC110 - the chain announces nothing to a benchmark
            await asyncio.sleep(0.05)
