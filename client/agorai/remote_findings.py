"""What a chain, a bus, a store and health answers tell of whether a node can run, or runs well."""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final, cast

import aiohttp

from agorai import chain_state, health
from agorai.findings import Finding, fail, ok, warn
from agorai.home import Home, HomeFileError, NodeFile, NodeNotRunningError
from agorai_shared import bus
from agorai_shared.bindings.registry import Registry
from agorai_shared.bus_tls import tls_context
from agorai_shared.chain import Chain, Finality
from agorai_shared.content import ContentStore
from agorai_shared.deployment import Deployment
from agorai_shared.errors import AgoraiError
from agorai_shared.rpc import Rpc
from agorai_shared.types import Address

SKEW_S: Final = 5.0
"""Off by more, a clock is worth a look; off by a minute, deadlines and signatures of messages are missed."""
MOST_SKEW_S: Final = 60.0
STALE_S: Final = 900.0
_PROBE: Final = b"a block that comes back as it went"


@dataclass(frozen=True, slots=True)
class Chosen:
    """A chain, as `agorai up` would be told."""

    rpc_url: str | None = None
    deployment: Path | None = None


async def of_chain(
    home: Home, info: NodeFile | None, chosen: Chosen, address: Address | None
) -> list[Finding]:
    """Look at the chain of the running node, or at the one that is chosen."""
    rpc_url = chosen.rpc_url or (info.rpc_url if info else None)
    if rpc_url is None:
        joined = home.ports().joined
        return _embedded(home) if joined is None else await _of_carrier(home, joined, address)
    path = chosen.deployment or (info.deployment if info else home.deployment)
    try:
        deployment = Deployment.load(path)
        async with Rpc(rpc_url) as rpc:
            found = await _marketplace(rpc, deployment)
            if not found:
                found.append(ok("chain", f"Chain {deployment.chain_id}, and all contracts on it"))
                found += await _account(rpc, address)
                found += await _gateway(rpc, deployment, info)
                found += await _block_time(rpc)
    except AgoraiError as error:
        return [fail("chain", error.message, error.remedy)]
    return [*found, *await _clock(rpc_url)]


async def _of_carrier(home: Home, joined: Path, address: Address | None) -> list[Finding]:
    """Look at the chain that a node uses which does not run and has joined another."""
    try:
        platform = Home(joined).running_platform()
    except (NodeNotRunningError, HomeFileError):
        what = f"This node uses the chain of {joined}, which it has joined; no node runs there."
        return [warn("chain", what, f"Start that one, then this: `agorai up --join {joined}`.")]
    whose = ok("chain", f"This node uses the chain of {joined}, which it has joined")
    chosen = Chosen(platform.rpc_url, platform.deployment)
    return [whose, *await of_chain(home, None, chosen, address)]


def _embedded(home: Home) -> list[Finding]:
    if not home.chain_state.exists():
        return [ok("chain", "The embedded chain begins with the first start")]
    if chain_state.is_whole(home.chain_state):
        return [ok("chain", "The embedded chain's state is whole")]
    return [
        warn(
            "chain",
            "The embedded chain's state was cut off in writing.",
            "`agorai up` takes its last whole copy.",
        )
    ]


async def _marketplace(rpc: Rpc, deployment: Deployment) -> list[Finding]:
    chain_id = int(cast("str", await rpc.request("eth_chainId")), 16)
    if chain_id != deployment.chain_id:
        raise health.OtherChainError(rpc.url, chain_id, deployment.chain_id)
    codes = await rpc.batch([("eth_getCode", [one, "latest"]) for one in deployment.contracts.values()])
    empty = [name for name, code in zip(deployment.contracts, codes, strict=True) if code in ("0x", None)]
    if not empty:
        return []
    what = f"There is no contract where the deployment file has {', '.join(empty)}."
    return [fail("chain", what, "Name the right --deployment, or wait until the chain's node has caught up.")]


async def _account(rpc: Rpc, address: Address | None) -> list[Finding]:
    if address is None:
        return []
    balance, price = await rpc.batch([("eth_getBalance", [address, "latest"]), ("eth_gasPrice", [])])
    cost = health.A_STEP_GAS * int(cast("str", price), 16)
    steps = int(cast("str", balance), 16) // cost if cost else 1
    if steps == 0:
        what = f"The account {address} has too little coin for a transaction."
        return [fail("chain", what, "Send it some of the chain's own coin.")]
    return [ok("chain", "The account has coin for fees")]


async def _gateway(rpc: Rpc, deployment: Deployment, info: NodeFile | None) -> list[Finding]:
    """Compare where the registry says that the running node is with where it is."""
    if info is None or info.gateway is None:
        return []
    astray = await sent_astray(Chain(rpc, Finality(info.confirmations)), deployment, info)
    return [
        fail("registry", *astray) if astray else ok("registry", f"Others find the node at {info.gateway}")
    ]


async def sent_astray(chain: Chain, deployment: Deployment, info: NodeFile) -> tuple[str, str] | None:
    """Say that the registry sends others elsewhere than to the running node, and what to do, if it does."""
    if info.gateway is None:
        return None
    registry = Registry(deployment.registry)
    (actor,) = await chain.read(registry.actor(info.address), at=await chain.head())
    if actor.gateway == info.gateway:
        return None
    what = f"The registry sends others to {actor.gateway or 'nowhere'}, and the node is at {info.gateway}."
    return what, f"Stop any copy of the node, then this one, and start it again: `{info.up_again}`."


async def _block_time(rpc: Rpc) -> list[Finding]:
    block = cast("dict[str, str]", await rpc.request("eth_getBlockByNumber", "latest", False))
    age = time.time() - int(block["timestamp"], 16)
    if age < -MOST_SKEW_S:
        what = f"The newest block is from {-age:.0f} s in the future."
        return [fail("clock", what, "Set this machine's clock: timedatectl set-ntp true.")]
    client = str(await rpc.request("web3_clientVersion"))
    if age > STALE_S and not client.startswith("anvil"):  # which mines when there is something to mine
        return [
            warn(
                "chain",
                f"The newest block is {age / 60:.0f} min old.",
                "See whether the chain's node keeps up.",
            )
        ]
    return []


async def _clock(url: str) -> list[Finding]:
    """Compare the clock with the time that an HTTP server tells."""
    if not url.startswith("http"):
        return []
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            date = answer.headers.get("Date")
    except (aiohttp.ClientError, TimeoutError):
        return []
    if date is None:
        return []
    off = time.time() - parsedate_to_datetime(date).timestamp()
    if abs(off) <= SKEW_S:
        return [ok("clock", "It agrees with the chain node's")]
    what = f"This machine's clock and the chain node's differ by {abs(off):.0f} s."
    remedy = "Set the one that is wrong: timedatectl set-ntp true."
    return [fail("clock", what, remedy) if abs(off) > MOST_SKEW_S else warn("clock", what, remedy)]


async def of_bus(info: NodeFile | None) -> list[Finding]:
    """Look at the bus of the running node."""
    if info is None:
        return []
    certificate: list[Finding] = []
    try:
        certificate = await _certificate(info)
        client = await bus.connect(
            info.bus_url,
            user=info.bus_user,
            password=info.bus_password,
            name="doctor",
            tls=tls_context(info.bus_url, info.bus_ca),
        )
    except AgoraiError as error:
        return [*certificate, fail("bus", error.message, error.remedy)]
    try:
        version = client.connected_server_version
        if (version.major, version.minor) < health.LEAST_NATS:
            return [fail("bus", f"nats-server is {version}.", "It takes 2.12 or newer.")]
        chain_id = Deployment.load(info.deployment).chain_id
        await bus.last_sequence(client.jetstream(), bus.final_stream(chain_id).name or "")
    except AgoraiError as error:
        return [*certificate, fail("bus", f"JetStream does not answer: {error.message}", error.remedy)]
    finally:
        await bus.close(client)
    return [
        *certificate,
        ok("bus", f"nats-server {version.major}.{version.minor}.{version.patch}, with the chain's stream"),
    ]


async def _certificate(info: NodeFile) -> list[Finding]:
    """Say until when the bus's certificate holds, if it shows one."""
    end = await health.bus_certificate_end(info)
    if end is None:
        return []
    left = end - time.time()
    if left <= 0:
        return [fail("bus", "Its certificate has ended: nobody reaches it anew.", health.RENEW)]
    what = f"Its certificate holds for {left / 86_400:.0f} days"
    if left < health.RENEW_BEFORE_S:
        return [warn("bus", f"{what}; then nobody reaches it anew.", health.RENEW)]
    return [ok("bus", what)]


async def of_store(info: NodeFile | None) -> list[Finding]:
    """Put a block into the running store, and take it out again."""
    if info is None or (info.parts is not None and "storage" not in info.parts):
        return []
    try:
        async with aiohttp.ClientSession() as session:
            store = ContentStore(info.url, info.token, session)
            cid = await store.put_document(_PROBE, name="agorai doctor")
            same = await store.get_document(cid) == _PROBE
            async with session.delete(
                f"{info.url}/pins/{cid}", headers={"Authorization": f"Bearer {info.token}"}
            ):
                pass
    except AgoraiError as error:
        return [fail("store", error.message, error.remedy)]
    except (aiohttp.ClientError, TimeoutError) as error:
        return [
            fail("store", f"It does not answer at {info.url}: {error}.", "Start the node again: `agorai up`.")
        ]
    if not same:
        return [fail("store", "It gives back another block than was put in.", "Look after the disk.")]
    return [ok("store", "A block went in and came back")]


async def of_health(info: NodeFile | None) -> list[Finding]:
    """Ask the running processes which of their checks fail."""
    if info is None:
        return [warn("node", "It does not run.", "`agorai up` starts it.")]
    found = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session:
        for one in await health.readiness(session, info):
            if one.failing is None:
                found.append(
                    fail(one.name, f"It does not answer at {one.url}.", "Start it again: `agorai up`.")
                )
                continue
            found += [
                fail(one.name, f"{check}: {why}", "See its log: `agorai up -v`.")
                for check, why in one.failing.items()
            ]
            if not one.failing:
                found.append(ok(one.name, f"It is ready at {one.url}"))
    return found
