"""A store that is killed while it writes: what it acknowledged is there, and nothing is half there."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from agorai_shared import file_reader
from agorai_shared.types import Cid
from agorai_storage.embedded import EmbeddedStore

WRITER = """
import asyncio, sys
from pathlib import Path
from agorai_storage.embedded import EmbeddedStore

async def large(seed):
    for i in range(12):
        yield (seed * 100 + i).to_bytes(8, "big") * (1 << 17)

async def small(seed, number):
    yield seed.to_bytes(8, "big") * 100 + number.to_bytes(8, "big")

async def put_small(store, seed, number):
    stored = await store.put(small(seed, number))
    print(seed, number, stored.cid, flush=True)

async def main():
    store = EmbeddedStore(Path(sys.argv[1]), 1 << 30)
    seed = int(sys.argv[2])
    while True:
        many = asyncio.gather(*(put_small(store, seed, number) for number in range(40)))
        stored = await store.put(large(seed))
        print(seed, -1, stored.cid, flush=True)
        await many
        if seed % 3 == 0:
            await store.collect()
        seed += 1

asyncio.run(main())
"""
KILLS = int(os.environ.get("AGORAI_TEST_KILLS", "16"))


def expected(seed: int, number: int) -> bytes:
    if number >= 0:
        return seed.to_bytes(8, "big") * 100 + number.to_bytes(8, "big")
    return b"".join((seed * 100 + i).to_bytes(8, "big") * (1 << 17) for i in range(12))


def wait_for_the_middle(staging: Path, written: int, *, naming: bool) -> None:
    """Return while blocks of an object lie in staging, or have begun to leave it for their names."""
    seen = 0
    while seen < written:
        seen = sum(1 for _ in staging.iterdir())
    while naming and seen and seen >= written:
        written = seen
        seen = sum(1 for _ in staging.iterdir())


def told(lines: list[str]) -> dict[tuple[int, int], Cid]:
    """Read which objects were acknowledged; a line that the kill cut off does not count, nor does a log's."""
    words = [line.split() for line in lines if line.endswith("\n") and line[0].isdigit() and "[" not in line]
    return {(int(seed), int(number)): Cid(cid) for seed, number, cid in words}


async def read(store: EmbeddedStore, root: Cid) -> bytes:
    return b"".join([piece async for piece in file_reader.read_file(root, store.get_block)])


def test_what_was_acknowledged_survives_being_killed(tmp_path: Path) -> None:
    chance = random.Random(20)
    acknowledged: dict[tuple[int, int], Cid] = {}
    torn = 0
    for life in range(KILLS):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(life * 1000)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        try:
            lines = [writer.stdout.readline() for _ in range(chance.randint(1, 130))]
            wait_for_the_middle(tmp_path / "staging", chance.randint(1, 10), naming=life % 3 == 0)
        finally:
            writer.kill()
            lines += writer.stdout.readlines()
            writer.stdout.close()
            assert writer.wait() == -signal.SIGKILL
        torn += any(list((tmp_path / "staging").iterdir()))
        acknowledged |= told(lines)
    assert len(acknowledged) >= KILLS
    assert torn >= KILLS // 2, "most kills hit an upload in its middle"

    asyncio.run(check(tmp_path, acknowledged))


async def check(tmp_path: Path, acknowledged: dict[tuple[int, int], Cid]) -> None:
    store = EmbeddedStore(tmp_path, 1 << 30)
    assert list((tmp_path / "staging").iterdir()) == []
    for path in tmp_path.glob("blocks/*/*"):
        digest = hashlib.sha256(path.read_bytes()).digest()
        assert path.stem == base64.b32encode(b"\x12\x20" + digest).decode().rstrip("="), "a torn block"
    await store.collect()  # which fails if a pin is not whole
    for (seed, number), root in acknowledged.items():
        assert await read(store, root) == expected(seed, number)
    assert {pin.cid for pin in await store.pins()} >= set(acknowledged.values())
    left = {digest for keys in store.blocks.on_disk() for digest in keys}
    assert left == {key for keys in store.blocks.index.keys() for key in keys if store.blocks.exists(key)}  # noqa: SIM118
    await store.close()
