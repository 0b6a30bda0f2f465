"""How quickly the store takes and gives bytes, beside SHA-256 of the same bytes and a real Kubo, and in what memory.

Everything lies on one disk of this machine; each measurement runs in a process of its own, warm (what is read, the
file that is stored and the blocks that are got, was read before and is in the page cache), in turn with the others,
and the median of the runs counts. Nothing is acknowledged before it is fsynced.

    sha256      hashlib over the file's bytes in memory, one thread: the limit, since every byte must be hashed
    put         the file into an empty store, until it is acknowledged and pinned
    sealed put  the same, sealed on the way (AES-256-GCM), hashed and stored as one stream
    get         the file out of the store, every block verified
    opened get  the sealed one out, verified and opened
    cold get    the file out for the first time: a put goes past the page cache, so this waits for the disk
    kubo add    `ipfs add` with the same profile, into a running daemon's empty repository; null without Kubo
    small       100,000 objects of 1 KiB, 512 at once, each durable and pinned when its put returns
    large       one object of 10 GiB in and out: the process's memory, beside that for 1 GiB
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import uvloop

from agorai_shared import file_reader, sealing
from agorai_shared.types import Cid
from agorai_storage.embedded import WINDOW, EmbeddedStore
from agorai_storage.importing import import_path

MIB: Final = 1 << 20
KEY: Final = bytes(range(32))
LARGEST: Final = 1 << 40
AT_ONCE: Final = 512
SPAWN: Final = multiprocessing.get_context("spawn")


def say(text: str) -> None:
    """Tell a person how far it is."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def peak_rss_mb() -> float:
    """Give the most memory that this process had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def hash_of(path: Path) -> float:
    """Give MiB/s of SHA-256 alone: the reading between is not counted."""
    spent = 0.0
    with path.open("rb", buffering=0) as file:
        hasher = hashlib.sha256()
        while piece := file.read(MIB):
            start = time.perf_counter()
            hasher.update(piece)
            spent += time.perf_counter() - start
    return path.stat().st_size / MIB / spent


def in_and_out(path: Path, folder: Path, sealed: bool) -> tuple[float, float, float, float]:
    """Give MiB/s of a put, of the first get and of the second, and the peak memory."""

    async def work() -> tuple[float, float, float, float]:
        store = EmbeddedStore(folder, LARGEST)
        os.sync()  # its thousand folders, made once
        size = path.stat().st_size / MIB
        start = time.perf_counter()
        if sealed:
            stored = await store.put(sealing.seal(pieces_of(path), KEY))
        else:
            stored = await import_path(store, path)
        put = size / (time.perf_counter() - start)
        gets = []
        for _ in range(2):
            start = time.perf_counter()
            await drain(store, stored.cid, sealed)
            gets.append(size / (time.perf_counter() - start))
        await store.close()
        cold, warm = gets
        return put, cold, warm, peak_rss_mb()

    return uvloop.run(work())


async def pieces_of(path: Path) -> AsyncIterator[bytes]:
    """Read a file, 4 MiB at a time and one piece ahead."""
    with path.open("rb", buffering=0) as file:
        ahead = asyncio.create_task(asyncio.to_thread(file.read, 4 * MIB))
        while piece := await ahead:
            ahead = asyncio.create_task(asyncio.to_thread(file.read, 4 * MIB))
            yield piece


async def drain(store: EmbeddedStore, cid: Cid, sealed: bool) -> None:
    """Read a file to its end."""
    content = file_reader.read_file(cid, store.get_block, window=WINDOW)
    async for _ in sealing.open_sealed(content, KEY) if sealed else content:
        pass


def small_ones(folder: Path, count: int) -> tuple[float, float]:
    """Give puts per second and the peak memory."""

    async def work() -> tuple[float, float]:
        store = EmbeddedStore(folder, LARGEST)
        numbers = iter(range(count))

        async def content(number: int) -> AsyncIterator[bytes]:
            yield number.to_bytes(8, "big") * 128

        async def one_after_another() -> None:
            for number in numbers:
                await store.put(content(number))

        start = time.perf_counter()
        await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE)))
        rate = count / (time.perf_counter() - start)
        held = await store.stat()
        if (held.blocks, held.pins) != (count, count):
            raise SystemExit(f"{held} after {count} puts")
        await store.close()
        return rate, peak_rss_mb()

    return uvloop.run(work())


def large_one(folder: Path, gib: int) -> float:
    """Give the peak memory of an object that goes in and out."""

    async def work() -> float:
        store = EmbeddedStore(folder, LARGEST)
        base = os.urandom(MIB - 8)

        async def content() -> AsyncIterator[bytes]:
            for number in range(gib * 1024):
                yield number.to_bytes(8, "big") + base

        stored = await store.put(content())
        await drain(store, stored.cid, sealed=False)
        await store.close()
        return peak_rss_mb()

    return uvloop.run(work())


def kubo_add(ipfs: str, path: Path, folder: Path) -> float:
    """Give MiB/s of `ipfs add` into a running daemon."""
    environment = os.environ | {"IPFS_PATH": str(folder)}
    run = partial(subprocess.run, env=environment, check=True, capture_output=True)
    run([ipfs, "init", "--profile=test"])
    daemon = subprocess.Popen(
        [ipfs, "daemon", "--offline"], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert daemon.stdout is not None
        while "Daemon is ready" not in daemon.stdout.readline():
            if daemon.poll() is not None:
                raise SystemExit("the Kubo daemon did not start")
        flags = ["--cid-version=1", "--raw-leaves", f"--chunker=size-{MIB}", "--max-file-links=1024"]
        start = time.perf_counter()
        run([ipfs, "add", "-Q", *flags, str(path)])
        return path.stat().st_size / MIB / (time.perf_counter() - start)
    finally:
        daemon.terminate()
        daemon.wait()
        if daemon.stdout is not None:
            daemon.stdout.close()


def find_ipfs() -> str | None:
    """Find a Kubo: the one named, the one on PATH, or the newest that `make kubo` built."""
    built = sorted(Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")).glob("agorai/kubo-*/ipfs"))
    return os.environ.get("AGORAI_KUBO") or shutil.which("ipfs") or (str(built[-1]) if built else None)


@contextmanager
def fresh(root: Path) -> Iterator[Path]:
    """Give an empty folder on a disk at rest. It is deleted with the root: ext4 looks long for places just freed."""
    folder = Path(tempfile.mkdtemp(dir=root))
    os.sync()
    yield folder
    os.sync()


def alone(work: Callable[..., Any], *arguments: object) -> Any:
    """Run in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=SPAWN) as process:
        return process.submit(work, *arguments).result()


def spread(values: Sequence[float]) -> list[float]:
    """Give least and most."""
    return [round(min(values), 1), round(max(values), 1)]


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--mib", type=int, default=1024, help="size of the file (default: 1024)")
    options.add_argument("--small", type=int, default=100_000, help="small objects (default: 100,000)")
    options.add_argument("--gib", type=int, default=10, help="size of the large object (default: 10)")
    options.add_argument("--runs", type=int, default=3, help="of each (default: 3)")
    options.add_argument(
        "--folder", type=Path, default=None, help="on the disk to measure (default: the temporary one)"
    )
    given = options.parse_args()
    ipfs = find_ipfs()
    rates: dict[str, list[float]] = {}

    def note(**found: float) -> None:
        for name, value in found.items():
            rates.setdefault(name, []).append(value)
        say("  ".join(f"{name} {value:,.0f}" for name, value in found.items()))

    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        root = Path(name)
        source = root / "source"
        with source.open("wb") as file:
            for _ in range(given.mib):
                file.write(os.urandom(MIB))
        for run in range(given.runs):
            say(f"run {run + 1} of {given.runs}")
            note(sha256_mb_s=alone(hash_of, source))
            with fresh(root) as folder:
                put, cold, get, rss = alone(in_and_out, source, folder, False)
                note(put_mb_s=put, cold_get_mb_s=cold, get_mb_s=get, file_rss_mb=rss)
            with fresh(root) as folder:
                put, _, get, rss = alone(in_and_out, source, folder, True)
                note(sealed_put_mb_s=put, opened_get_mb_s=get, file_rss_mb=rss)
            if ipfs is not None:
                with fresh(root) as folder:
                    note(kubo_add_mb_s=alone(kubo_add, ipfs, source, folder))
            with fresh(root) as folder:
                puts, rss = alone(small_ones, folder, given.small)
                note(small_puts_per_s=puts, small_rss_mb=rss)
        source.unlink()
        for gib in sorted({1, given.gib}):
            with fresh(root) as folder:
                note(**{f"rss_mb_of_{gib}_gib": alone(large_one, folder, gib)})
    medians = {key: round(statistics.median(values), 1) for key, values in rates.items()}
    peak = max(value for key, values in rates.items() if "rss" in key for value in values)
    kubo = medians.get("kubo_add_mb_s")
    sha256 = medians["sha256_mb_s"]
    print(
        json.dumps(
            {
                **medians,
                "kubo_add_mb_s": kubo,
                "peak_rss_mb": round(peak, 1),
                "put_share_of_sha256": round(medians["put_mb_s"] / sha256, 3),
                "sealed_put_share_of_sha256": round(medians["sealed_put_mb_s"] / sha256, 3),
                "get_share_of_sha256": round(medians["get_mb_s"] / sha256, 3),
                "put_times_kubo": kubo and round(medians["put_mb_s"] / kubo, 2),
                "spread": {key: spread(values) for key, values in rates.items() if len(values) > 1},
            }
        )
    )


if __name__ == "__main__":
    main()
