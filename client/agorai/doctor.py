"""What could keep a node from running, looked at one by one, whether it runs or not."""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from agorai import health
from agorai.findings import Finding, fail, ok, warn
from agorai.home import Home, HomeFileError, NodeFile, NodeNotRunningError
from agorai.parts import VAULT
from agorai.remote_findings import Chosen, of_bus, of_chain, of_health, of_store
from agorai_shared.errors import AgoraiError
from agorai_shared.processes import ProgramAbsentError, find_anvil, find_nats_server
from agorai_vault import keys as key_files

PACKAGES: Final = (
    "agorai",
    "agorai-shared",
    *(f"agorai-{name}" for name in ("hub", "storage", "vault", "trainer", "verifier", "reward", "dashboard")),
)
LEAST_PYTHON: Final = (3, 11)
PROGRAM_S: Final = 20


async def examine(home: Home, passphrase: str | None, chosen: Chosen) -> list[Finding]:
    """Look at everything; gives what was found, in the order in which a node needs it.

    Parameters
    ----------
    passphrase
        Tried on the keys, if given.
    chosen
        The chain that is meant while no node runs; the embedded one unless it names another.
    """
    try:
        info = home.running()
    except (NodeNotRunningError, HomeFileError):
        info = None
    local = await asyncio.to_thread(lambda: list(_local(home, info, passphrase, chosen)))
    acts = info is None or VAULT in info.runs
    address = key_files.address_of(home.vault) if acts and _is_readable(home) else None
    remote = await asyncio.gather(
        of_chain(home, info, chosen, address), of_bus(info), of_store(info), of_health(info)
    )
    return [*local, *(finding for findings in remote for finding in findings)]


def _is_readable(home: Home) -> bool:
    try:
        return bool(key_files.address_of(home.vault))
    except AgoraiError:
        return False


def _local(home: Home, info: NodeFile | None, passphrase: str | None, chosen: Chosen) -> Iterator[Finding]:
    joined = info.joined if info else home.ports().joined
    yield from _versions(embedded_chain=chosen.rpc_url is None and joined is None)
    if not home.path.is_dir():
        yield warn(
            "home", f"There is no folder {home.path} yet.", "`agorai up` makes it, or name another: --home."
        )
        return
    if info is not None and info.left_out:
        yield ok("parts", f"Left out on purpose (--only): {', '.join(info.left_out)}")
    if info is not None and not info.address:
        yield ok("keys", "A hub alone has no account, and needs none")
    else:
        yield from _keys(home, passphrase)
    yield from _disk(home)
    yield from _ports(home, info)


def _versions(*, embedded_chain: bool) -> Iterator[Finding]:
    running = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < LEAST_PYTHON:
        yield fail("versions", f"This is Python {running}.", "Use Python 3.11 or newer.")
    else:
        yield ok("versions", f"Python {running}")
    installed = {name: _version(name) for name in PACKAGES}
    own = installed["agorai"]
    others = {name: version for name, version in installed.items() if version != own}
    if others:
        listed = ", ".join(f"{name} {version or 'is not installed'}" for name, version in others.items())
        yield fail(
            "versions", f"This is agorai {own}, but {listed}.", "Install all packages anew: make setup."
        )
    else:
        yield ok("versions", f"Agorai {own}, in all its packages")
    yield _program("nats-server", find_nats_server, health.LEAST_NATS)
    if embedded_chain:
        yield _program("anvil", find_anvil, (1,))
        node = shutil.which("node")
        yield ok(
            "versions",
            f"Node.js {_said(Path(node))}" if node else "Node.js is not on PATH, and is not needed",
        )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _program(name: str, find: Callable[[], Path], least: tuple[int, ...]) -> Finding:
    try:
        path = find()
        said = _said(path)
    except (ProgramAbsentError, OSError, subprocess.TimeoutExpired) as error:
        remedy = getattr(error, "remedy", "") or "Install it anew: make setup."
        return fail("versions", f"{name} does not run: {error}", remedy)
    if tuple(map(int, said.split("."))) < least:
        wanted = ".".join(map(str, least))
        return fail("versions", f"{name} is {said}.", f"It takes {wanted} or newer: make setup.")
    return ok("versions", f"{name} {said}")


def _said(path: Path) -> str:
    ended = subprocess.run(
        [path, "--version"], capture_output=True, text=True, timeout=PROGRAM_S, check=False
    )
    found = re.search(r"\d+(\.\d+)+", ended.stdout)
    return found[0] if found else "0"


def _keys(home: Home, passphrase: str | None) -> Iterator[Finding]:
    if not key_files.exist(home.vault):
        yield warn(
            "keys",
            f"There is no account in {home.vault}.",
            "`agorai up` or `agorai account create` makes it.",
        )
        return
    for path in (home.vault, *sorted(home.vault.glob("*"))):
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            wanted = "700" if path.is_dir() else "600"
            yield fail(
                "keys", f"Others on this machine may use {path} (mode {mode:o}).", f"chmod {wanted} {path}"
            )
    if home.has_lost_database:
        yield fail(
            "keys",
            f"{home.vault_database} is gone: what this account sells can be neither opened nor delivered.",
            "`agorai restore` brings it back from a backup.",
        )
    try:
        if passphrase is None:
            address = key_files.address_of(home.vault)
            yield ok("keys", f"Account {address}; no passphrase was given to try")
        else:
            yield ok(
                "keys",
                f"Account {key_files.load(home.vault, passphrase).address}; the passphrase opens both keys",
            )
    except AgoraiError as error:
        yield fail("keys", error.message, error.remedy)


def _disk(home: Home) -> Iterator[Finding]:
    free = shutil.disk_usage(home.path).free
    if free < health.LEAST_FREE:
        yield fail(
            "disk", f"The disk of {home.path} has {free >> 20} MiB left.", "Make room, or use a larger disk."
        )
    else:
        yield ok("disk", f"{free / 2**30:.1f} GiB free")
    for folder in (home.path, home.vault, home.storage, home.trainer, home.verifier, home.bus):
        if not folder.is_dir():
            continue
        probe, content = folder / f".doctor-{secrets.token_hex(4)}", secrets.token_bytes(4096)
        try:
            probe.write_bytes(content)
            same = probe.read_bytes() == content
        except OSError as error:
            yield fail(
                "disk", f"{folder} cannot be written: {error.strerror}.", "Give it to the node's user."
            )
            continue
        finally:
            probe.unlink(missing_ok=True)
        if not same:
            yield fail(
                "disk",
                f"{folder} does not give back what is written.",
                "Look after the disk, and restore a backup.",
            )


def _ports(home: Home, info: NodeFile | None) -> Iterator[Finding]:
    """Say which ports of the last run are free, while nothing of the home listens at them."""
    if info is not None or _is_held(home):
        return
    for part, port in home.ports().model_dump().items():
        if isinstance(port, int) and port and _is_taken(port):
            yield warn(
                "ports",
                f"Something else listens at {port}, the {part}'s port of the last run.",
                "Stop it; else the next start takes another port, and who joined or knows it must be told.",
            )
    yield ok("ports", "looked at those of the last run")


def _is_held(home: Home) -> bool:
    try:
        with home.held():
            return False
    except AgoraiError:
        return True


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
