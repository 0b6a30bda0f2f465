"""A vault that is killed at any instant sends each of its transactions once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import pytest

from agorai_shared.processes import die_with_parent

from .ground import FRIEND, Ground, Sender

COUNT = 150
KILLS = 60


@pytest.mark.parametrize("mining", ["at once", "each second"])
async def test_killed_at_random_instants_every_transfer_is_on_the_chain_once(
    ground: Ground, sender: Sender, mining: str
) -> None:
    if mining == "each second":
        await ground.automine(on=False)
        await ground.rpc.request("evm_setIntervalMining", 1)
    moments = random.Random(7)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).parent / "entries" / "sending.py"),
        str(sender.folder),
        ground.anvil.url,
        bytes(sender.account.key).hex(),
        ground.token.address,
        FRIEND,
        str(COUNT),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=die_with_parent(),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        for _ in range(KILLS):
            process.stdin.write(b"go\n")
            child = int(await process.stdout.readline())
            await asyncio.sleep(moments.uniform(0.01, 0.2))  # any instant will do
            os.kill(child, signal.SIGKILL)
            assert await process.stdout.readline() == b"over -9\n"
        early = len(await ground.transfers(sender.address))
        process.stdin.write(b"end\n")
        await process.stdout.readline()
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"over 0\n"
    finally:
        if process.returncode is None:
            process.kill()
        process.stdin.close()
        await process.wait()
    assert early > 0
    assert sorted(await ground.transfers(sender.address)) == list(range(1, COUNT + 1))
    assert await ground.nonce(sender.address) == COUNT
