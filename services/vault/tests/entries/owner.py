"""One life of an owner's node that is killed right when it would send its delivery: its grant is stored by then.

Arguments: RPC URL, bus URL, deployment file, folder, port. Prints `ready` when it runs.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from agorai_shared.contract import Call
from agorai_shared.service import Host, make_broker
from agorai_shared.settings import NodeSettings
from agorai_storage import app as storage
from agorai_storage.settings import StorageSettings
from agorai_vault import app as vault
from agorai_vault import keys as key_files
from agorai_vault.outbox import Intent, Outbox
from agorai_vault.settings import VaultSettings


async def killed(_self: Outbox, _once: str, call: Call[Any]) -> Intent:
    assert call.function == "deliver"
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


async def main() -> None:
    rpc_url, bus_url, deployment, folder, port = sys.argv[1:]
    Outbox.send = killed  # type: ignore[assignment, method-assign]
    settings = NodeSettings(
        bus_url=bus_url,
        rpc_url=rpc_url,
        confirmations=0,
        deployment=Path(deployment),
        node_token=SecretStr("node-token"),
        port=int(port),
    )
    broker = make_broker(settings, "owner")
    home = Path(folder)
    keys = key_files.load(home / "vault", "correct horse")
    own = VaultSettings(
        path=home / "vault", passphrase=SecretStr("correct horse"), store_url=f"http://127.0.0.1:{port}"
    )
    async with AsyncExitStack() as stack:
        store = storage.create(StorageSettings(path=home / "storage"), "node-token")
        service = await stack.enter_async_context(vault.create(settings, own, broker, keys))
        await stack.enter_async_context(Host(settings, [store, service], broker).running())
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


asyncio.run(main())
