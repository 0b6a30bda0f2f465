"""How quickly the hub puts a chain on the bus: old blocks, new ones and reorgs, and what memory that takes.

One anvil, one nats-server with a file store and one hub process stand on this machine and share its cores.

    backfill   470 blocks of 100 Transfer events, and 50,000 events, cold: from the hub's start to the last tick that
               a subscriber of the final stream receives. Imports are not counted, connecting is.
    nats       the same messages published again by themselves, in the same atomic batches: the bus's own limit
    web3       web3.py's `contract.events.Transfer().get_logs` over a tenth of the same blocks
    live       from before a block of 10 events is asked of the chain to a durable consumer's handler having the last
    reorg      from the answer to a 5-block `anvil_reorg` to the handler having what was retracted and what is new
    memory     the hub's peak resident size over a million events
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final, cast

import uvloop
from eth_utils.address import to_checksum_address
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, DeliverPolicy
from pydantic import SecretStr
from web3 import Web3

from agorai_hub.app import create
from agorai_hub.settings import FollowedChain, FollowedContract, FollowedEndpoint, HubSettings
from agorai_shared import bus, logging
from agorai_shared.contract import EventAbi
from agorai_shared.events import BlockTick, ChainEvent
from agorai_shared.rpc import Json, Rpc
from agorai_shared.service import relax_collector
from agorai_shared.settings import NodeSettings
from agorai_shared.stream_reader import read_portion
from agorai_shared.testing import running_anvil, running_nats
from agorai_shared.types import Address

TRANSFER: Final[dict[str, Any]] = {
    "type": "event",
    "name": "Transfer",
    "anonymous": False,
    "inputs": [
        {"name": "from", "type": "address", "indexed": True},
        {"name": "to", "type": "address", "indexed": True},
        {"name": "value", "type": "uint256", "indexed": False},
    ],
}
PER_BLOCK: Final = 100
SPAWN: Final = multiprocessing.get_context("spawn")


def emitter() -> bytes:
    """Assemble a contract that, sent a 32-byte n, emits n Transfers from its caller to 0, 1, 2 ... of as much."""
    topic = bytes.fromhex(EventAbi.from_abi(TRANSFER).topic0[2:])
    body = bytes.fromhex("6000355f")  # n, i = 0
    loop = len(body)
    body += (
        bytes.fromhex("5b818110156000") + b"\x57"
    )  # jump to the end unless i < n; its place is filled in below
    place = len(body) - 2
    body += bytes.fromhex("805f52")  # memory[0] = i
    body += bytes.fromhex("8033") + b"\x7f" + topic + bytes.fromhex("60205fa3")  # log it
    body += bytes.fromhex("60010160") + bytes([loop]) + b"\x56"  # i += 1
    end = len(body)
    body += bytes.fromhex("5b00")
    body = body[:place] + bytes([end]) + body[place + 1 :]
    size = bytes([len(body)])
    return b"\x60" + size + bytes.fromhex("600a5f3960") + size + bytes.fromhex("5ff3") + body


@dataclass
class Town:
    """A chain with an emitter, and a bus."""

    rpc: Rpc
    rpc_url: str
    bus_url: str
    client: Client
    account: str
    address: Address

    def chain(self, confirmations: int) -> FollowedChain:
        """Give what the hub is to follow."""
        contract = FollowedContract(name="Token", address=self.address, abi=[TRANSFER])
        endpoint = FollowedEndpoint(url=self.rpc_url)
        return FollowedChain(endpoints=(endpoint,), confirmations=confirmations, contracts=(contract,))

    def transaction(self, count: int) -> dict[str, Json]:
        """Give a transaction that emits so many events."""
        gas = hex(60_000 + 2_500 * count)
        return {"from": self.account, "to": self.address, "data": "0x" + count.to_bytes(32).hex(), "gas": gas}

    async def emit(self, blocks: int, count: int) -> None:
        """Mine blocks of so many events each."""
        for _ in range(blocks):
            await self.rpc.request("eth_sendTransactionSync", self.transaction(count))

    async def head(self) -> int:
        """Give the newest height."""
        return int(str(await self.rpc.request("eth_blockNumber")), 16)


@asynccontextmanager
async def town() -> AsyncIterator[Town]:
    """Run one, with nothing on its chain but the emitter."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        anvil = await stack.enter_async_context(
            running_anvil(arguments=("--gas-limit", "100000000", "--no-cors"))
        )
        nats = await stack.enter_async_context(running_nats(Path(folder)))
        rpc = await stack.enter_async_context(Rpc(anvil.url, timeout_s=120))
        client = await bus.connect(nats.url, name="benchmark")
        stack.push_async_callback(client.close)
        (account, *_) = cast("list[str]", await rpc.request("eth_accounts"))
        creation: dict[str, Json] = {"from": account, "data": "0x" + emitter().hex(), "gas": "0x100000"}
        receipt = cast("dict[str, str]", await rpc.request("eth_sendTransactionSync", creation))
        address = Address(to_checksum_address(receipt["contractAddress"]))
        yield Town(rpc, anvil.url, nats.url, client, account, address)


def _hub(bus_url: str, chain: FollowedChain, begin: Any, began: Any, peak: Any) -> None:
    """Run a hub in a process of its own."""

    async def main() -> None:
        node = NodeSettings(bus_url=bus_url, node_token=SecretStr("token"))
        service = create(node, HubSettings(audit_delay_s=1e6), chains=[chain])
        begin.wait()
        began.value = time.perf_counter()
        async with service.background():
            while True:
                await asyncio.sleep(0.05)
                peak.value = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    logging.configure("ERROR")
    relax_collector()
    if os.environ.get("AGORAI_PROFILE"):
        import cProfile  # noqa: PLC0415 - for whoever looks for what to make quicker

        profile = cProfile.Profile()
        try:
            profile.runcall(asyncio.run, asyncio.wait_for(main(), float(os.environ["AGORAI_PROFILE"])))
        except TimeoutError:
            profile.dump_stats("hub.prof")
        return
    uvloop.run(main())


@dataclass
class HubProcess:
    """A hub that is told when to begin; `peak` is its resident size in MiB."""

    process: BaseProcess
    begin: Any
    began: Any
    peak: Any

    @classmethod
    def start(cls, place: Town, confirmations: int) -> HubProcess:
        """Start the process and let it import everything."""
        begin, began, peak = SPAWN.Event(), SPAWN.Value("d", 0.0), SPAWN.Value("d", 0.0)
        process = SPAWN.Process(
            target=_hub, args=(place.bus_url, place.chain(confirmations), begin, began, peak), daemon=True
        )
        process.start()
        return cls(process, begin, began, peak)

    def stop(self) -> float:
        """End it; gives its peak resident size in MiB."""
        self.process.terminate()
        self.process.join()
        return float(self.peak.value)


async def backfill(place: Town) -> tuple[float, float]:
    """Backfill everything on the chain into new streams; gives seconds, and the hub's peak size in MiB."""
    await forget(place)
    last = await place.head()
    done = asyncio.get_running_loop().create_future()

    async def on_tick(message: Msg) -> None:
        if BlockTick.from_json(message.data).number >= last and not done.done():
            done.set_result(time.perf_counter())

    ticks = await place.client.subscribe("chain.final.*.block", cb=on_tick)
    hub = HubProcess.start(place, confirmations=0)
    try:
        await asyncio.sleep(3)  # its imports
        hub.begin.set()
        ended = await asyncio.wait_for(done, 600)
        return ended - hub.began.value, hub.stop()
    finally:
        await ticks.unsubscribe()
        hub.stop()


async def forget(place: Town) -> None:
    """Delete all streams."""
    js = place.client.jetstream()
    for info in await js.streams_info():
        await js.delete_stream(str(info.config.name))


async def republish(place: Town) -> float:
    """Publish the final stream's messages again by themselves; gives events/s."""
    messages: list[bus.OutMessage] = []
    following, pending = 1, 1
    while pending:
        portion = await read_portion(place.client, "CHAIN_31337_FINAL", following, "chain.final.*.*.*.*")
        messages += [bus.OutMessage(m.subject, m.payload, {"content-type": "x"}) for m in portion.messages]
        following, pending = portion.following, portion.pending
    await forget(place)
    await bus.ensure_stream(place.client.jetstream(), bus.final_stream(31337))
    started = time.perf_counter()
    await bus.publish_batch(place.client, "CHAIN_31337_FINAL", messages, 0)
    return len(messages) / (time.perf_counter() - started)


def web3_get_logs(url: str, address: str, first: int, last: int) -> float:
    """Read decoded events by web3.py in ranges of 10 blocks; gives events/s."""
    contract = Web3(Web3.HTTPProvider(url)).eth.contract(
        address=Web3.to_checksum_address(address), abi=[TRANSFER]
    )
    started = time.perf_counter()
    found = 0
    for start in range(first, last + 1, 10):
        found += len(contract.events.Transfer().get_logs(from_block=start, to_block=min(last, start + 9)))
    return found / (time.perf_counter() - started)


class Handler:
    """A durable consumer's handler of the head stream."""

    def __init__(self) -> None:
        self.seen = 0
        self.arrived = asyncio.Event()

    async def take(self, message: Msg) -> None:
        """Handle one message."""
        if not message.subject.endswith(".block"):
            ChainEvent.from_json(message.data)
            self.seen += 1
            self.arrived.set()
        await message.ack()

    async def until(self, count: int) -> float:
        """Wait for so many events; gives when they were there."""
        async with asyncio.timeout(30):
            while self.seen < count:
                self.arrived.clear()
                await self.arrived.wait()
        return time.perf_counter()


async def live(place: Town, blocks: int, reorgs: int) -> tuple[list[float], list[float]]:
    """Follow new blocks of 10 events, then 5-block reorgs; gives the milliseconds of each."""
    await forget(place)
    js = place.client.jetstream()
    await bus.ensure_stream(js, bus.head_stream(31337))
    handler = Handler()
    await js.subscribe(
        "chain.>",
        stream="CHAIN_31337_HEAD",
        durable="benchmark",
        cb=handler.take,
        manual_ack=True,
        config=ConsumerConfig(deliver_policy=DeliverPolicy.ALL),
    )
    hub = HubProcess.start(place, confirmations=64)
    try:
        hub.begin.set()
        await place.emit(1, 1)
        await place.rpc.request("anvil_mine", hex(64))
        await asyncio.sleep(5)
        await place.emit(1, 1)
        await asyncio.sleep(1)
        waits: list[float] = []
        for _ in range(blocks):
            wanted = handler.seen + 10
            started = time.perf_counter()
            await place.emit(1, 10)
            waits.append(1000 * (await handler.until(wanted) - started))
        turns: list[float] = []
        for _ in range(reorgs):
            await place.emit(5, 10)
            await asyncio.sleep(0.3)
            wanted = handler.seen + 50 + 11  # not 10 again: the new block could be the old one
            pairs: list[Json] = [[cast("Json", place.transaction(11)), 0]]
            await place.rpc.request("anvil_reorg", 5, pairs)
            answered = time.perf_counter()
            turns.append(1000 * max(0.0, await handler.until(wanted) - answered))
            await asyncio.sleep(0.2)
        return waits, turns
    finally:
        hub.stop()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def main() -> None:
    """Measure everything and print one JSON object."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--repeats", type=int, default=3, help="cold backfills of each size")
    options.add_argument("--million", type=int, default=1_000_000, help="events of the memory run")
    chosen = options.parse_args()
    logging.configure("ERROR")
    async with town() as place:
        rates: dict[int, list[float]] = {}
        for total in (470 * PER_BLOCK, 50_000):
            missing = total // PER_BLOCK - (await place.head() - 1)
            await place.emit(missing, PER_BLOCK)
            for _ in range(chosen.repeats):
                seconds, _ = await backfill(place)
                rates.setdefault(total, []).append(total / seconds)
            _say(f"backfill of {total} events: {', '.join(f'{rate:,.0f}' for rate in rates[total])} events/s")
        nats_rate = await republish(place)
        _say(f"the same messages alone: {nats_rate:,.0f} events/s")
        web3_rate = await asyncio.to_thread(web3_get_logs, place.rpc_url, place.address, 2, 51)
        _say(f"web3.py get_logs: {web3_rate:,.0f} events/s")
    async with town() as place:
        waits, turns = await live(place, 300, 10)
        _say(f"live: median {statistics.median(waits):.1f} ms of {len(waits)} blocks; reorgs {turns}")
    async with town() as place:
        await place.emit(chosen.million // 1000, 1000)
        seconds, peak = await backfill(place)
        _say(f"{chosen.million} events: {chosen.million / seconds:,.0f} events/s, {peak:.0f} MiB")
    best = rates[50_000]
    print(
        json.dumps(
            {
                "backfill_events_per_s": round(statistics.median(best)),
                "backfill_range": [round(min(best)), round(max(best))],
                "backfill_470_blocks_events_per_s": round(statistics.median(rates[470 * PER_BLOCK])),
                "nats_events_per_s": round(nats_rate),
                "web3_get_logs_events_per_s": round(web3_rate),
                "times_web3": round(statistics.median(best) / web3_rate, 1),
                "live_ms": {
                    "p50": round(statistics.median(waits), 2),
                    "p99": round(statistics.quantiles(waits, n=100)[98], 2),
                },
                "reorg_ms": round(statistics.median(turns), 1),
                "reorg_ms_worst": round(max(turns), 1),
                "peak_rss_mb": round(peak, 1),
                "million_events_per_s": round(chosen.million / seconds),
            }
        )
    )


if __name__ == "__main__":
    uvloop.run(main())
