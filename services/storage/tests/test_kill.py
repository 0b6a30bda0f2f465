"""A store that is killed while it writes: what it acknowledged is there, and nothing is half there."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from agorai_shared import unixfs
from agorai_shared.errors import AgoraiError
from agorai_shared.types import Cid
from agorai_storage.blocks import BlockStore

WRITER = """
import asyncio, sys
from pathlib import Path
from agorai_storage.blocks import BlockStore
from agorai_storage.objects import ObjectStore

async def pieces(seed):
    for i in range(12):
        yield (seed * 100 + i).to_bytes(8, "big") * (1 << 17)

async def main():
    objects = ObjectStore(BlockStore(Path(sys.argv[1])), 1 << 30)
    seed = int(sys.argv[2])
    while True:
        stored = await objects.put(pieces(seed))
        print(seed, stored.cid, flush=True)
        seed += 1

asyncio.run(main())
"""
KILLS = 16


def expected(seed: int) -> bytes:
    return b"".join((seed * 100 + i).to_bytes(8, "big") * (1 << 17) for i in range(12))


def wait_for_the_middle(staging: Path, written: int, *, naming: bool) -> None:
    """Return while blocks of an object lie in staging, or have begun to leave it for their names."""
    seen = 0
    while seen < written:
        seen = sum(1 for _ in staging.iterdir())
    while naming and seen and seen >= written:
        written = seen
        seen = sum(1 for _ in staging.iterdir())


async def read(store: BlockStore, root: Cid) -> bytes:
    async def fetch(cid: Cid) -> bytes:
        return store.get(cid)

    return b"".join([piece async for piece in unixfs.read_file(root, fetch)])


def test_what_was_acknowledged_survives_being_killed(tmp_path: Path) -> None:
    chance = random.Random(20)
    acknowledged: dict[int, Cid] = {}
    torn = 0
    for life in range(KILLS):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(life * 1000)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        try:
            for _ in range(chance.randint(1, 4)):
                seed, cid = writer.stdout.readline().split()
                acknowledged[int(seed)] = Cid(cid)
            wait_for_the_middle(tmp_path / "staging", chance.randint(1, 10), naming=life % 3 == 0)
        finally:
            writer.kill()
            rest = writer.stdout.read()
            writer.stdout.close()
            assert writer.wait() == -signal.SIGKILL
        torn += any((tmp_path / "staging").iterdir())
        for line in rest.splitlines(keepends=True):
            if line.endswith("\n"):
                seed, cid = line.split()
                acknowledged[int(seed)] = Cid(cid)

    store = BlockStore(tmp_path)
    assert list((tmp_path / "staging").iterdir()) == []
    for path in tmp_path.glob("blocks/*/*"):
        digest = hashlib.sha256(path.read_bytes()).digest()
        assert path.stem == base64.b32encode(b"\x12\x20" + digest).decode().rstrip("="), "a torn block"
        with suppress(AgoraiError):  # a leaf of these objects is no node
            for link in unixfs.decode_node(path.read_bytes()).links:
                assert store.size(link.cid.text) is not None, "a root without its leaves"

    assert len(acknowledged) >= KILLS
    assert torn >= KILLS // 2, "most kills hit an upload in its middle"
    for number, root in acknowledged.items():
        assert asyncio.run(read(store, root)) == expected(number)
    store.close()
