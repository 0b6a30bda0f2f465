"""Backing a home up, whether its node runs or not, and restoring it elsewhere.

Databases are copied as of one moment each, by SQLite's own means; those that a running service keeps to itself it
copies when asked. Between the copies some moments pass. That does no harm: what counts is on the chain, and a node
that starts looks at all of it again. What can be built from the chain is left out, as are files of a running process.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager, suppress
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Final

import aiohttp

from agorai import archive, chain_state
from agorai.archive import Manifest, Member, Writer
from agorai.client import Client
from agorai.home import Home, HomeInUseError, NodeFile, NodeNotRunningError, PlatformFile
from agorai_shared.errors import InputError, RefusedError, RemoteError, UnavailableError
from agorai_shared.rpc import Rpc
from agorai_vault import keys as key_files

FOLDERS: Final = ("vault", "trainer", "verifier", "wholes", "bus", "storage")
"""Folders of a home that may be in a backup."""
FILES: Final = ("deployment.json", "ports.json", "hub-token.json", "chain.json")
DATABASES: Final = (".sqlite", ".db")
_PASSING: Final = ("-wal", "-shm", "-journal", ".part", ".snapshot.sqlite", ".snapshot.db")
"""Ends of names of files that belong to a process that runs, or ran."""
_WITHOUT_END: Final = aiohttp.ClientTimeout(total=None, sock_connect=10)
"""A large store's copy takes as long as its disk does."""


class BackupExistsError(InputError):
    """There is a file already where a backup is to be written."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"There is a file {path} already.", remedy="Name another, or take that one away.")


class BackupPathError(InputError):
    """A backup's file, or one of the home, cannot be read or written."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path} cannot be used: {why}.",
            remedy="See to its owner, its mode and room on its disk; a backup may be on another disk.",
        )


class DatabaseNotCopiedError(UnavailableError):
    """A database of the home cannot be copied."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"The database {path} cannot be copied: {why}.",
            remedy="See that the home's disk has room, where the copy is made, and that no other program has it "
            "open; one that is damaged is whole in an earlier backup.",
        )


class HomeEmptyError(InputError):
    """There is nothing in a home to be backed up."""

    def __init__(self, home: Path) -> None:
        super().__init__(f"There is no node in {home}.", remedy="Name its folder with --home or AGORAI_HOME.")


class HomeNotEmptyError(RefusedError):
    """A backup would be restored over something."""

    def __init__(self, home: Path) -> None:
        super().__init__(
            f"{home} is not empty.", remedy="Name a new folder with --home, or move that one away first."
        )


class StoreNotCopiedError(UnavailableError):
    """The running store did not make a copy."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The store made no copy of its index: {why}.", remedy="See `agorai status`, and try again."
        )


async def back_up(home: Home, path: Path, passphrase: str, *, with_content: bool) -> Manifest:
    """Write all that a home cannot do without into one sealed file.

    Parameters
    ----------
    with_content
        Put the store's blocks in, too: what was published and what is public about it.

    Raises
    ------
    BackupExistsError, BackupPathError, DatabaseNotCopiedError, HomeEmptyError
    PassphraseError, PassphraseTooShortError
        The passphrase is not the account's, or is none for a home without an account.
    UnavailableError
        The node runs and does not answer.
    """
    if path.exists():
        raise BackupExistsError(path)
    if not home.vault.is_dir() and not home.bus.is_dir():
        raise HomeEmptyError(home.path)
    address = await asyncio.to_thread(_check_passphrase, home, passphrase)
    async with AsyncExitStack() as stack:
        stack.enter_context(_blaming(home.path))
        copies, running = await stack.enter_async_context(_copies(home, with_content=with_content))

        def manifest(files: dict[str, Member]) -> Manifest:
            return Manifest(
                made_at=int(time.time()),
                versions={
                    "agorai": metadata.version("agorai"),
                    "python": sys.version.partition(" ")[0],
                    "sqlite": sqlite3.sqlite_version,
                },
                address=address,
                running=running,
                content=with_content,
                streams=not running,
                files=files,
            )

        def write() -> Manifest:
            with _blaming(path), archive.written(path, passphrase) as into:
                _add_all(into, home, copies, running=running, with_content=with_content)
                return into.close(manifest)

        return await asyncio.to_thread(write)


async def restore(path: Path, home: Home, passphrase: str) -> Manifest:
    """Make a home of a backup; it is there whole once all of the backup was checked, or not at all.

    Raises
    ------
    HomeNotEmptyError, BackupPathError
    NoArchiveError, ArchivePassphraseError, ArchiveDamagedError
    PassphraseError, KeyFileError
        The keys in it do not open.
    """
    return await asyncio.to_thread(_restore, path, home, passphrase)


def _restore(path: Path, home: Home, passphrase: str) -> Manifest:
    if home.path.exists() and (not home.path.is_dir() or any(home.path.iterdir())):
        raise HomeNotEmptyError(home.path)
    with _blaming(home.path):
        home.path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{home.path.name}.", dir=home.path.parent))
    try:
        with _blaming(path):
            manifest = archive.read(path, passphrase, staging, _belongs)
            if manifest.address is not None:
                key_files.load(staging / "vault", passphrase)
            os.sync()
            staging.rename(home.path)  # over an empty folder, too
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return manifest


@contextmanager
def _blaming(path: Path) -> Iterator[None]:
    """Have an error of the system name its file, or `path` if it names none."""
    try:
        yield
    except OSError as error:
        named = Path(error.filename or path)
        shown = path if named.suffix == ".part" else named  # that stands for the backup until it is whole
        raise BackupPathError(shown, error.strerror or str(error)) from error


def _belongs(name: PurePosixPath) -> bool:
    if len(name.parts) == 1:
        return name.parts[0] in FILES
    return name.parts[0] in FOLDERS


def _check_passphrase(home: Home, passphrase: str) -> str | None:
    """See that what seals the backup is what opens the account: one day it will be all that is left."""
    if key_files.exist(home.vault):
        return key_files.load(home.vault, passphrase).address
    if len(passphrase) < key_files.PASSPHRASE_LEAST:
        raise key_files.PassphraseTooShortError
    return None


@asynccontextmanager
async def _copies(home: Home, *, with_content: bool) -> AsyncIterator[tuple[dict[str, Path], bool]]:
    """Give copies of what is in use, by their names in the home, and whether a node runs; keep one from starting."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=home.path, prefix=".backup-")))
        copies: dict[str, Path] = {}
        try:
            stack.enter_context(home.held())
        except HomeInUseError:
            await _running_copies(home, copies, folder, stack, with_content=with_content)
            running = True
        else:
            if home.chain_state.exists() and (
                whole := await asyncio.to_thread(chain_state.whole, home.chain_state)
            ):
                copies[home.chain_state.name] = whole
            running = False
        for path in _files(home, with_content=with_content, streams=False):
            name = str(path.relative_to(home.path))
            if path.suffix in DATABASES and name not in copies:
                copies[name] = folder / f"{len(copies)}{path.suffix}"
                await asyncio.to_thread(_copy_database, path, copies[name])
        yield copies, running


async def _running_copies(
    home: Home, copies: dict[str, Path], folder: Path, stack: AsyncExitStack, *, with_content: bool
) -> None:
    """Have the services copy what they keep to themselves, and the chain tell its state."""
    with suppress(NodeNotRunningError):  # a hub alone
        info = home.running_node()
        if info.parts is None or "vault" in info.parts:
            client = await stack.enter_async_context(Client.connect(info))
            copies["vault/vault.sqlite"] = _taken(await client.vault.snapshot(), folder)
        if with_content and (info.parts is None or "storage" in info.parts):
            copies["storage/index.db"] = _taken(await _store_snapshot(info), folder)
    platform = PlatformFile.load(home.platform_file)
    if platform is not None and platform.embedded_chain:
        async with Rpc(platform.rpc_url) as rpc:
            state = str(await rpc.request("anvil_dumpState"))
        copies["chain.json"] = folder / "chain.json"
        packed = bytes.fromhex(state.removeprefix("0x"))
        copies["chain.json"].write_bytes(await asyncio.to_thread(gzip.decompress, packed))


def _taken(path: Path, folder: Path) -> Path:
    """Take a copy away that a service wrote into its own folder."""
    return Path(shutil.move(path, folder / path.name))  # the two may be on different disks


async def _store_snapshot(info: NodeFile) -> Path:
    headers = {"Authorization": f"Bearer {info.token}"}
    try:
        async with (
            aiohttp.ClientSession(headers=headers, timeout=_WITHOUT_END) as session,
            session.post(f"{info.url}/snapshots") as answer,
        ):
            made = await answer.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise StoreNotCopiedError(str(error) or type(error).__name__) from error
    if answer.status != 201:
        raise RemoteError(made) if isinstance(made, dict) else StoreNotCopiedError(f"status {answer.status}")
    return Path(made["path"])


def _copy_database(path: Path, copy: Path) -> None:
    try:
        with closing(sqlite3.connect(path)) as database, closing(sqlite3.connect(copy)) as into:
            database.backup(into)
    except sqlite3.Error as error:
        raise DatabaseNotCopiedError(path, str(error)) from error


def _add_all(into: Writer, home: Home, copies: dict[str, Path], *, running: bool, with_content: bool) -> None:
    for name, copy in sorted(copies.items()):
        into.add(name, copy)
    for path in _files(home, with_content=with_content, streams=not running):
        name = str(path.relative_to(home.path))
        if name not in copies:
            with suppress(FileNotFoundError):  # taken away meanwhile
                into.add(name, path)


def _files(home: Home, *, with_content: bool, streams: bool) -> Iterator[Path]:
    """Give the files of a home that a backup holds."""
    for name in FILES:
        if (path := home.path / name).is_file():
            yield path
    folders = [home.vault, home.trainer, home.verifier, home.wholes]
    if streams:
        folders.append(home.bus)
    elif (home.bus / "nats-server.conf").is_file():
        yield home.bus / "nats-server.conf"
    if with_content:
        folders += [home.storage / "blocks", home.storage / "quarantine"]
        if (home.storage / "index.db").is_file():
            yield home.storage / "index.db"
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink() and not path.name.endswith(_PASSING):
                yield path
