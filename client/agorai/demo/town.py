"""A whole marketplace in one process: a platform and several participants' nodes in a temporary folder."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agorai import node, platform
from agorai.client import Client
from agorai.devchain import TOKEN
from agorai.home import Home
from agorai.node import MakeVerifier, Place
from agorai.platform import ChainChoice, Platform
from agorai_trainer.app import make_sandbox
from agorai_trainer.sandbox import Sandbox
from agorai_vault.keys import Keys
from agorai_verifier import app as verifier

LIGHT_SCRYPT_N = 1 << 12
"""These accounts live for minutes; geth's "light" work factor will do."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A participant and what it has to begin with, in whole tokens."""

    name: str
    tokens: int
    verifier: MakeVerifier = verifier.create
    """Which its node runs: a participant may write its own."""
    sandbox: Callable[[Sandbox], Sandbox] = lambda common: common
    """What its node trains in, made of the one that all others have."""


@dataclass(frozen=True)
class Town:
    """The running marketplace."""

    platform: Platform
    clients: dict[str, Client]
    sandbox: Sandbox
    """All nodes' own."""
    nodes: dict[str, AsyncExitStack] = field(repr=False)

    async def stop(self, name: str) -> None:
        """Stop a participant's node, and go on without it."""
        await self.nodes[name].aclose()
        del self.clients[name]


@asynccontextmanager
async def running(
    residents: Sequence[Resident], *, block_time_s: float | None = None, joins: Platform | None = None
) -> AsyncIterator[Town]:
    """Run it until left; nothing of it stays.

    Parameters
    ----------
    block_time_s
        Seconds from block to block; none mines each transaction on arrival.
    joins
        Whose bus and chain it shares; none: its own.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agorai-")))
        passphrases = {resident.name: secrets.token_urlsafe(16) for resident in residents}
        homes = {resident.name: Home(folder / resident.name) for resident in residents}
        making = [
            asyncio.create_task(
                asyncio.to_thread(node.open_keys, homes[name], passphrases[name], scrypt_n=LIGHT_SCRYPT_N)
            )
            for name in homes
        ]
        sandbox = make_sandbox()
        warming = asyncio.create_task(sandbox.start())
        stack.push_async_callback(sandbox.close)
        shared = joins
        if shared is None:
            choice = ChainChoice(block_time_s=block_time_s)
            shared = await stack.enter_async_context(platform.running(Home(folder / "platform"), choice))
        keys: dict[str, Keys] = dict(zip(homes, await asyncio.gather(*making), strict=True))
        for resident in residents:
            await shared.fund(keys[resident.name].address, resident.tokens * TOKEN)
        await warming
        town = Town(shared, {}, sandbox, {})
        for resident, home in zip(residents, homes.values(), strict=True):
            name, info = resident.name, shared.info
            place = Place(
                bus_url=info.bus_url,
                bus_password=await shared.add_node(keys[name].address),
                rpc_url=info.rpc_url,
                confirmations=info.confirmations,
                deployment=info.deployment,
            )
            own = town.nodes[name] = await stack.enter_async_context(AsyncExitStack())
            running_node = await own.enter_async_context(
                node.running(
                    home,
                    name,
                    keys[name],
                    passphrases[name],
                    place,
                    resident.sandbox(sandbox),
                    make_verifier=resident.verifier,
                )
            )
            town.clients[name] = await own.enter_async_context(Client.connect(running_node))
        yield town
