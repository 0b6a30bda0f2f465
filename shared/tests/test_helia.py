"""The same CIDs as Helia, a second IPFS implementation: as known values, and live where `make helia` installed it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agorai_shared.directory import DirectoryBuilder
from agorai_shared.types import Cid
from agorai_shared.unixfs import TreeHasher

HELIA = Path(__file__).parents[2] / "tools" / "helia"
MIB = 1 << 20
KNOWN = {
    0: "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
    12: "bafkreihfnsdz2j7lmyvbs76imslpdyicu3vrsrnnrnmsdsupwoj4qacfhi",
    MIB: "bafkreiekn66be3bseimndmqudmqtw4f24zeplklu4aj43jy4nyz6hca2r4",
    MIB + 1: "bafybeih3t7bqnxym7lzhctvehj4qvtxacxpei4muryk2lhldrvravdusui",
    10 * MIB: "bafybeibgp3jiphvk6tryto5vpr2vy5c732nuyyjvgvq4ovwasaznrofq6u",
}
"""By size of `pattern`; given by @helia/unixfs 8.0.5, as are the others."""
KNOWN_LARGE = "bafybeidesoyeulqyseanfvn6j3idkgeh2f2t5h6ogxnqdbz22iecv2ymue"
KNOWN_EMPTY_DIRECTORY = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
KNOWN_DIRECTORY = "bafybeiacgcz4g57l4ordwchq7ldtzwhns44bxrry4xfovmjvs3a5hmhsfm"


def pattern(size: int) -> bytes:
    return bytes((i * 31 + (i >> 8) * 7 + (i >> 16)) & 255 for i in range(size))


def large() -> Iterator[bytes]:
    """300 MiB of chunks that differ."""
    chunk = bytearray(pattern(MIB))
    for number in range(300):
        chunk[:4] = number.to_bytes(4, "big")
        yield bytes(chunk)


def cid_of(pieces: Iterator[bytes]) -> tuple[Cid, int]:
    hasher = TreeHasher()
    for piece in pieces:
        hasher.update(piece)
    return hasher.finish(), hasher.size


def directory_of(names: list[str]) -> Cid:
    builder = DirectoryBuilder()
    for name in names:
        cid, size = cid_of(iter([pattern(1000 * len(name))]))
        builder.add(name, cid, size)
    return builder.finish()[0]


@pytest.mark.parametrize("size", KNOWN)
def test_files_get_the_cids_that_helia_gives(size: int) -> None:
    assert cid_of(iter([pattern(size)]))[0] == KNOWN[size]


def test_a_large_file_gets_the_cid_that_helia_gives() -> None:
    assert cid_of(large())[0] == KNOWN_LARGE


def test_directories_get_the_cids_that_helia_gives() -> None:
    assert directory_of([]) == KNOWN_EMPTY_DIRECTORY
    assert directory_of(["b", "a", "ü"]) == KNOWN_DIRECTORY


@contextmanager
def helia() -> Iterator[subprocess.Popen[str]]:
    if not (HELIA / "node_modules").exists():
        pytest.skip("Helia is not installed: `make helia`")
    process = subprocess.Popen(
        ["node", "cids.mjs"],  # noqa: S607 - from PATH or from its wheel, as everywhere
        cwd=HELIA,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process


def test_whatever_helia_adds_has_the_same_cid_here(tmp_path: Path) -> None:
    paths: dict[Path, Cid] = {}
    for number, size in enumerate((0, 1, 12, MIB - 1, MIB, MIB + 1, 10 * MIB, 10 * MIB + 5)):
        path = tmp_path / f"{number}"
        path.write_bytes(os.urandom(size))
        paths[path] = cid_of(iter([path.read_bytes()]))[0]
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.writelines(large())
    paths[path] = cid_of(large())[0]
    asked = [{"path": str(path)} for path in paths]
    with helia() as process:
        told, _ = process.communicate("".join(json.dumps(line) + "\n" for line in asked), timeout=120)
    assert told.split() == list(paths.values())


def test_whatever_directory_helia_makes_has_the_same_cid_here(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    leaf, size = cid_of(iter([b"content"]))
    asked, expected = [], []
    for count in (0, 1, 40, 300):
        names = [f"{number:x} {'ü' * (number % 60)}" for number in range(count)]
        builder = DirectoryBuilder()
        for name in names:
            builder.add(name, leaf, size)
        expected.append(builder.finish()[0])
        asked.append({"entries": [[name, str(tmp_path / "file")] for name in names]})
    with helia() as process:
        told, _ = process.communicate("".join(json.dumps(line) + "\n" for line in asked), timeout=120)
    assert told.split() == expected
