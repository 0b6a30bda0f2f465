"""How quickly the dashboard takes events in, answers with 100,000 of them, and shows a new one.

    project    events a second from a stream of one pool's samples into an empty read model (SQLite), while nobody
               asks; `sqlite` beside it: what is kept of the events themselves by sqlite3's own `executemany`
    ready      seconds from a request to the whole answer, the worst of five, with so many events in the read model,
               all of one pool; pages as the API
    live       milliseconds from the moment a transaction is handed to the chain, which mines at once, to its final
               event at a reader of `/live`, by way of hub, bus and read model; and at one of the hub's own `/events`
    memory     megabytes that the dashboard's process holds for itself, idle and empty, and with all those events

One anvil, one nats-server, one hub and one dashboard stand on this machine and share its cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, cast

import aiohttp
import uvloop
from eth_utils.address import to_checksum_address
from nats.aio.client import Client

from agorai.devchain import DevChain
from agorai_shared import bus
from agorai_shared.bindings.market_token import MarketToken
from agorai_shared.chain import Chain, Finality
from agorai_shared.deployment import Deployment
from agorai_shared.events import BlockTick, ChainEvent, Phase
from agorai_shared.processes import die_with_parent
from agorai_shared.rpc import Json, Rpc
from agorai_shared.testing import running_anvil, running_nats
from agorai_shared.types import Address, Hash

PER_BLOCK: Final = 100
AGAIN: Final = 5
PATIENCE_S: Final = 900.0
"""For all events to come into the read model."""
LOST_S: Final = 60.0
"""After which an event that did not come to a reader never will."""
BEGUN: Final = 1_700_000_000
API: Final = (
    "/api/overview",
    "/api/resources",
    "/api/trades",
    "/api/cases",
    "/api/pools",
    "/api/pools/1",
    "/api/tasks",
    "/api/actors",
    "/api/events",
    "/api/events?account={contributor}",
    "/api/events?contract=DataPool&event=Settled",
    "/api/events?key=7",
    "/api/events?kind=pool&id=1",
    "/api/events/{event}/story",
    "/api/actors/{contributor}",
    "/api/health",
)
PAGES: Final = ("/", "/market", "/trades", "/pools", "/pools/1", "/tasks", "/actors", "/events", "/node")


def say(text: str) -> None:
    """Tell a person how far it is."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def told(deployment: Deployment, count: int) -> Iterator[ChainEvent]:
    """Tell of one pool to which forty accounts add samples: for each an addition, its payment and its acceptance."""
    accounts = [to_checksum_address(f"0x{number:040x}") for number in range(1000, 1040)]
    number = 0

    def event(contract: str, name: str, key: object, args: dict[str, Any]) -> ChainEvent:
        nonlocal number
        number += 1
        return ChainEvent(
            Phase.final,
            deployment.chain_id,
            contract,
            deployment.contracts[contract],
            name,
            str(key),
            1 + number // PER_BLOCK,
            Hash(f"0x{number // PER_BLOCK:064x}"),
            BEGUN + number // 10,
            Hash(f"0x{number:064x}"),
            number % PER_BLOCK,
            args,
        )

    digest = "0x" + 32 * "33"
    terms = {
        "document": digest,
        "testCommitment": digest,
        "deposit": 10,
        "reward": 5,
        "bond": 100,
        "budget": str(10**24),
        "checkWindow": 60,
        "answerWindow": 60,
        "revealWindow": 60,
        "closesAt": BEGUN * 2,
        "panelSize": 3,
    }
    yield event("DataPool", "Opened", 1, {"id": 1, "owner": accounts[0], "terms": terms})
    for id_ in range(1, count // 3 + 1):
        who = accounts[id_ % len(accounts)]
        added = {
            "id": id_,
            "pool": 1,
            "contributor": who,
            "count": 3,
            "digest": digest,
            "samples": "0x" + 200 * "44",
            "committedAt": 1,
            "corrects": 0,
        }
        yield event("DataPool", "Added", id_, added)
        yield event("MarketToken", "Transfer", who, {"from": who, "to": deployment.data_pool, "value": 30})
        settled = {"contribution": id_, "pool": 1, "contributor": who, "accepted": 3}
        yield event("DataPool", "Settled", id_, settled)


async def publish(client: Client, events: list[ChainEvent]) -> None:
    """Write events as a hub would."""
    stream = str(bus.final_stream(events[0].chain_id).name)
    tail = 0
    for begin in range(0, len(events), 900):
        part = events[begin : begin + 900]
        messages = [bus.OutMessage(event.subject, event.to_json()) for event in part]
        last = part[-1]
        tick = BlockTick(
            Phase.final,
            last.chain_id,
            last.block_number,
            last.block_hash,
            Hash("0x"),
            last.block_time,
            len(part),
            last.block_number,
        )
        messages.append(bus.OutMessage(tick.subject, tick.to_json()))
        tail = await bus.publish_batch(client, stream, messages, tail)


def raw_sqlite(folder: Path, events: list[ChainEvent]) -> float:
    """Write the rows that the events are kept in by sqlite3 alone, a portion at a time; gives events a second."""
    connection = sqlite3.connect(folder / "raw.sqlite")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("CREATE TABLE events (n INTEGER PRIMARY KEY, b, l, t, h, c, e, k, a, r)")
    for number, columns in enumerate(("h, l", "c, e, n", "c, n", "b")):
        connection.execute(f"CREATE INDEX index_{number} ON events ({columns})")
    connection.execute("CREATE TABLE items (kind, key, n, PRIMARY KEY (kind, key, n)) WITHOUT ROWID")
    connection.execute("CREATE TABLE accounts (account, n, PRIMARY KEY (account, n)) WITHOUT ROWID")
    rows = [
        (
            n,
            e.block_number,
            e.log_index,
            e.block_time,
            e.transaction_hash,
            e.contract,
            e.event,
            e.key,
            str(e.args),
            "",
        )
        for n, e in enumerate(events)
    ]
    began = time.perf_counter()
    for begin in range(0, len(rows), 512):
        part = rows[begin : begin + 512]
        connection.executemany("INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?,?)", part)
        pairs = [(kind, row[7], row[0]) for row in part for kind in ("contribution", "pool")]
        connection.executemany("INSERT INTO items VALUES (?,?,?)", pairs)
        connection.executemany("INSERT INTO accounts VALUES (?,?)", [(row[7], row[0]) for row in part])
        connection.commit()
    took = time.perf_counter() - began
    connection.close()
    return len(rows) / took


@asynccontextmanager
async def service(module: str, environment: dict[str, str]) -> AsyncIterator[tuple[str, int]]:
    """Run a service of its own; gives its URL and process once it answers."""
    port_taken = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = port_taken.sockets[0].getsockname()[1]
    port_taken.close()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        env={**os.environ, **environment, "AGORAI_PORT": str(port), "AGORAI_LOG_LEVEL": "ERROR"},
        stdout=sys.stderr,
        preexec_fn=die_with_parent(),
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as session, asyncio.timeout(120):
            while not await _answers(session, url):
                if process.returncode is not None:
                    raise RuntimeError(f"{module} ended with {process.returncode}")
                await asyncio.sleep(0.02)
        yield url, process.pid
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/health/live") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


def memory_mb(pid: int) -> float:
    """Give what a process holds that it shares with none."""
    found = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in found if line.startswith("Private_")) / 1024


async def projected(session: aiohttp.ClientSession, url: str, count: int) -> float:
    """Wait until the read model has so many events; gives how many it took a second from its first portion on."""
    first: tuple[float, float] | None = None
    async with asyncio.timeout(PATIENCE_S):
        while True:
            async with session.get(f"{url}/metrics") as answer:
                lines = (await answer.text()).splitlines()
            now = time.perf_counter()
            taken = next(
                float(line.split()[1]) for line in lines if line.startswith("agorai_dashboard_events_total")
            )
            if first is None and taken:
                first = now, taken
            if first is not None and taken >= count:
                return (taken - first[1]) / max(now - first[0], 1e-9)
            await asyncio.sleep(0.1)


async def ready(
    session: aiohttp.ClientSession, url: str, paths: tuple[str, ...], event: ChainEvent
) -> dict[str, float]:
    """Give by path the worst of some answers' times, in seconds."""
    found = {}
    for path in paths:
        contributor = str(event.args["contributor"])
        asked = path.format(contributor=contributor, event=f"{event.transaction_hash}-{event.log_index}")
        times = []
        for _ in range(AGAIN):
            began = time.perf_counter()
            async with session.get(f"{url}{asked}", headers={"Accept": "text/html"}) as answer:
                await answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"{asked}: {answer.status}")
            times.append(time.perf_counter() - began)
            await asyncio.sleep(0.05)
        found[path] = round(max(times), 4)
    return found


async def live(
    session: aiohttp.ClientSession, url: str, rpc: Rpc, deployment: Deployment, times: int
) -> list[float]:
    """Give the milliseconds from each of some transactions to its final event at a reader."""
    issuer = Address(to_checksum_address(cast("list[str]", await rpc.request("eth_accounts"))[0]))
    call = MarketToken(deployment.token).issue(issuer, 1)
    transaction: dict[str, Json] = {
        "from": issuer,
        "to": call.to,
        "data": "0x" + call.data.hex(),
        "gas": hex(200_000),
    }
    found = []
    async with session.get(url, timeout=aiohttp.ClientTimeout(total=None)) as answer:
        await answer.content.readline()
        for _ in range(times):
            began = time.perf_counter()
            sent = str(await rpc.request("eth_sendTransaction", transaction)).encode()
            async with asyncio.timeout(LOST_S):
                async for line in answer.content:
                    if sent in line:
                        break
                else:
                    raise RuntimeError("the reader was let go")
            found.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(0.05)
    return found


def _told_ms(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    at = min(len(ordered) - 1, int(0.99 * len(ordered)))
    return {"median": round(statistics.median(ordered), 1), "p99": round(ordered[at], 1)}


async def measure(count: int, times: int) -> dict[str, Any]:
    """Measure all."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agorai-dashboard-")))
        anvil = await stack.enter_async_context(running_anvil())
        nats = await stack.enter_async_context(running_nats(folder / "jetstream"))
        rpc = await stack.enter_async_context(Rpc(anvil.url))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        path = folder / "deployment.json"
        deployment = await DevChain(rpc, Chain(rpc, Finality(0))).deployment(path)
        say(f"writing {count:,} events on the bus")
        events = list(told(deployment, count))
        client = await bus.connect(nats.url)
        stack.push_async_callback(client.close)
        await bus.ensure_stream(client.jetstream(), bus.final_stream(deployment.chain_id))
        await publish(client, events)
        environment = {
            "AGORAI_BUS_URL": nats.url,
            "AGORAI_RPC_URL": anvil.url,
            "AGORAI_CONFIRMATIONS": "0",
            "AGORAI_DEPLOYMENT": str(path),
            "AGORAI_NODE_TOKEN": "token",
            "AGORAI_DASHBOARD_ADDRESS": "0x" + 40 * "1",
            "AGORAI_DASHBOARD_DATABASE": f"sqlite:///{folder / 'dashboard.sqlite'}",
        }
        result: dict[str, Any] = {"events": len(events)}
        say("projecting")
        began = time.perf_counter()
        async with service("agorai_dashboard.app", environment) as (url, pid):
            start = time.perf_counter() - began
            speed = await projected(session, url, len(events))
            result["project"] = {
                "events_per_s": round(speed),
                "sqlite_per_s": round(raw_sqlite(folder, events)),
            }
            result["start_s"] = round(start, 2)
            say("asking")
            last = events[-1]
            result["ready_s"] = {
                "api": await ready(session, url, API, last),
                "pages": await ready(session, url, PAGES, last),
            }
            result["memory_mb"] = {"with_all": round(memory_mb(pid), 1)}
        say("telling live")
        environment["AGORAI_DASHBOARD_DATABASE"] = f"sqlite:///{folder / 'live.sqlite'}"
        await client.jetstream().delete_stream(str(bus.final_stream(deployment.chain_id).name))
        hub, _ = await stack.enter_async_context(service("agorai_hub.app", environment))
        url, pid = await stack.enter_async_context(service("agorai_dashboard.app", environment))
        await asyncio.sleep(2)
        result["memory_mb"]["idle"] = round(memory_mb(pid), 1)
        shown = await live(session, f"{url}/live?phase=final", rpc, deployment, times)
        events_ = await live(session, f"{hub}/events?contract=MarketToken", rpc, deployment, times)
        result["live_ms"] = {"dashboard": _told_ms(shown), "hub": _told_ms(events_)}
        return result


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--live", type=int, default=100, help="transactions")
    given = parser.parse_args()
    print(json.dumps(uvloop.run(measure(given.events, given.live))))


if __name__ == "__main__":
    main()
