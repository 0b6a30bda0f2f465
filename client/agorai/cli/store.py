"""`agorai store put`, `get`, `ls`, `stat` and `gc`: files and folders in the node's own store.

The other verbs of the group are in `store_pins`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import typer

from agorai.cli.asking import ask
from agorai.cli.output import HOME, JSON, emit, err, out, run, styled, table
from agorai.cli.transfer import counted, moving, pieces_of, shown_size, source_of, to_stdout
from agorai.home import Home
from agorai.pin_names import check_name
from agorai.store_client import Entry, OnProgress, StoreClient
from agorai.store_files import SymlinkRefusedError, save_file, save_folder
from agorai.store_http import Outgoing
from agorai_shared import cid as cids
from agorai_shared.content import ContentNotFoundError
from agorai_shared.errors import InputError
from agorai_shared.types import Cid
from agorai_shared.unixfs import PROFILES, UNIXFS_V0, UNIXFS_V1

T = TypeVar("T")
JOB = "agorai store get"
"""As which the vault counts what is opened for a file: the right's uses are spent by jobs."""


class ProfileName(StrEnum):
    """How a file becomes blocks (IPIP-499)."""

    v1 = UNIXFS_V1.name
    v0 = UNIXFS_V0.name


class FolderNotSealedError(InputError):
    """Only a stream is sealed."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{str(path)!r} is a folder, and only files are sealed.",
            remedy="Pack it first: `tar c FOLDER | agorai store put - --sealed`.",
        )


class FolderPinnedError(InputError):
    """A folder comes in with its pin."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{str(path)!r} is a folder, which is pinned as it comes in.",
            remedy="Do without --no-pin, and then remove the pin: `agorai store pin rm CID`.",
        )


class FileExpectedError(InputError):
    """A directory where only a file will do."""

    def __init__(self, cid: Cid, what: str) -> None:
        super().__init__(
            f"{cid} is not a file, and {what}.",
            remedy="Name a file below it (`agorai store ls` shows them), or have the whole as one stream: "
            "`agorai store car export`.",
        )


class AnotherContentError(InputError):
    """An invocation gives a right to something else."""

    def __init__(self, invocation: int, cid: Cid | None) -> None:
        what = "this node does not know the content of" if cid is None else f"{cid} is the content of"
        super().__init__(
            f"The CID that was given is not what was bought: {what} invocation {invocation}.",
            remedy="Give --invocation without a CID.",
        )


class CollectionNotConfirmedError(InputError):
    """Nobody was asked whether to remove anything."""

    def __init__(self) -> None:
        super().__init__(
            "Nothing was removed: with --json nobody is asked first.",
            remedy="Add --yes to remove every block that no pin reaches.",
        )


app = typer.Typer(
    help="Put files and folders into the node's store, and get them back.", no_args_is_help=True
)

OBJECT = typer.Argument(metavar="CID[/PATH]", help="A CID, or a CID and a path: CID/folder/file.")
FROM = typer.Option(
    None, "--from", help="URL or member's address of another store that may have it; may be repeated."
)


def with_store(
    home: Path, as_json: bool, work: Callable[[StoreClient], Awaitable[T]], others: list[str] | None = None
) -> T:
    """Reach the running node's store, do the work, and turn an error into its message and status 1."""

    async def main() -> T:
        urls = await urls_of(home, others or ())
        async with StoreClient.connect(Home(home), others=urls) as store:
            try:
                return await work(store)
            except ContentNotFoundError as error:
                error.remedy = (
                    "Name who has it: `agorai store get`, `ls` and `pin add` take --from URL or address."
                )
                raise

    return run(main, as_json)


async def urls_of(home: Path, peers: Sequence[str]) -> Sequence[str]:
    """Give URLs as they are, and for a member's address its gateway; raises `NotAMemberError`."""
    if not peers:
        return peers
    from eth_utils.address import is_address  # noqa: PLC0415 - what a store alone does without

    if not any(is_address(peer) for peer in peers):
        return peers
    from agorai.client import Client  # noqa: PLC0415 - as above
    from agorai.pinning import gateways  # noqa: PLC0415 - as above

    async with Client.connect(Home(home)) as client:
        return await gateways(client, peers)


@app.command("put")
def put(
    path: str = typer.Argument(metavar="PATH", help="A file, a folder, or - for standard input."),
    profile: ProfileName = typer.Option(
        ProfileName.v1, help="How files become blocks; the same bytes get another CID under another one."
    ),
    name: str | None = typer.Option(None, help="What the pin is called; by default as the file is."),
    sealed: bool = typer.Option(False, "--sealed", help="Encrypt it under a fresh key that the vault keeps."),
    no_pin: bool = typer.Option(False, "--no-pin", help="Let the next collection take it."),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Store a file, a folder with all that is in it, or standard input."""
    if sealed and (no_pin or profile is not ProfileName.v1):
        raise typer.BadParameter("what is sealed is pinned, and made with the default profile")
    called = ("" if path == "-" else Path(path).absolute().name) if name is None else name

    async def work(store: StoreClient) -> dict[str, Any]:
        source = source_of(path)
        check_name(called)
        with moving("sealing" if sealed else "storing", as_json) as tell:
            if sealed:
                if source is not None and source.is_dir():
                    raise FolderNotSealedError(source)
                return await _seal(home, store, path, called, tell)
            if source is not None and source.is_dir() and no_pin:
                raise FolderPinnedError(source)
            made_by = PROFILES[profile.value]
            if source is None or no_pin:
                pieces = pieces_of(path, tell)
                stored = await store.put(pieces, profile=made_by, pin=not no_pin, name=called)
            else:
                stored = await store.import_path(str(source), profile=made_by, name=called, on_progress=tell)
        return {**asdict(stored), "name": called, "pinned": not no_pin}

    found = with_store(home, as_json, work)
    how = ", sealed and pinned" if sealed else ", not pinned" if no_pin else " and pinned"

    def human() -> None:
        done = styled("[green]✓[/] {size} stored{how}.", size=shown_size(found["size"]), how=how)
        if sys.stdout.isatty():
            line = styled("[bold]{cid}[/] ", cid=found["cid"]) + done
            out.print(line, soft_wrap=True, highlight=False)
        else:  # for `cid=$(agorai store put FILE)`
            sys.stdout.write(found["cid"] + "\n")
            err.print(done, highlight=False)

    emit(found, as_json, human)


async def _seal(home: Path, store: StoreClient, path: str, name: str, tell: OnProgress) -> dict[str, Any]:
    from agorai.client import Client  # noqa: PLC0415 - what of a node a store alone does without
    from agorai_shared.vault import PlaintextCutOffError  # noqa: PLC0415 - as above

    outgoing = Outgoing(pieces_of(path, tell))
    async with Client.connect(Home(home)) as client:
        try:
            sealed = await client.vault.put(outgoing.stream())
        except PlaintextCutOffError as error:
            raise outgoing.fault or error from None
    await store.pin(sealed.cid, name=name)
    return {**sealed.model_dump(), "name": name, "pinned": True}


def _range(text: str | None) -> tuple[int, int | None]:
    if text is None:
        return 0, None
    match = re.fullmatch(r"([0-9]{1,19})-([0-9]{0,19})", text)
    if match is None:
        raise typer.BadParameter("give FIRST-LAST, both counted from 0 and included, or FIRST- up to the end")
    return int(match[1]), int(match[2]) if match[2] else None


@app.command("get")
def get(
    what: str | None = typer.Argument(None, metavar="CID[/PATH]", help="What to get."),
    output: str | None = typer.Option(
        None,
        "--output",
        "-o",
        help="A file or folder to write, or - for standard output; by default its name.",
    ),
    sealed: bool = typer.Option(False, "--sealed", help="Open what this node sealed."),
    invocation: int | None = typer.Option(
        None, min=1, help="With --sealed: open what this invocation gives a right to."
    ),
    part: str | None = typer.Option(
        None, "--range", metavar="FIRST-LAST", help="Only these bytes, counted from 0, both included."
    ),
    others: list[str] | None = FROM,
    force: bool = typer.Option(False, "--force", help="Replace files that are there already."),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Get a file or a whole folder, every block of it verified."""
    if (what is None and invocation is None) or (invocation is not None and not sealed):
        raise typer.BadParameter("give a CID, or --sealed with --invocation")
    if sealed and (part or others):
        raise typer.BadParameter("what is sealed is opened from the beginning, by this node's vault")
    if output == "-" and as_json:
        raise typer.BadParameter("standard output takes either the bytes or --json")
    span = _range(part)

    async def work(store: StoreClient) -> dict[str, Any]:
        with moving("getting", as_json) as tell:
            if sealed:
                return await _open(home, store, what, invocation, output, force, tell)
            entry = await store.resolve(what or "")
            if entry.kind == "directory":
                return await _folder(store, entry, output, part, force, tell)
            if entry.kind != "file":
                raise SymlinkRefusedError(entry.name)
            of = None if part else entry.size
            pieces = counted(store.get(entry.cid, first=span[0], last=span[1]), tell, of)
            return {"cid": entry.cid, "kind": "file", **await _file(pieces, entry.name, output, force)}

    found = with_store(home, as_json, work, others)
    if output != "-":
        template = "[bold green]✓[/] {size} in [bold]{path}[/]"
        emit(found, as_json, lambda: styled(template, size=shown_size(found["size"]), path=found["path"]))


async def _file(pieces: AsyncIterator[bytes], name: str, output: str | None, force: bool) -> dict[str, Any]:
    if output == "-":
        await to_stdout(pieces)
        return {}
    target = Path(output or name)
    if output is not None and target.is_dir():
        target /= name
    return {"path": str(target), "size": await save_file(pieces, target, force=force)}


async def _folder(
    store: StoreClient, entry: Entry, output: str | None, part: str | None, force: bool, tell: OnProgress
) -> dict[str, Any]:
    if part:
        raise FileExpectedError(entry.cid, "only a file has a range of bytes")
    if output == "-":
        raise FileExpectedError(entry.cid, "only a file goes to standard output")
    target = Path(output or entry.name)
    files, size = await save_folder(store, entry, target, force=force, on_bytes=lambda done: tell(done, None))
    return {"cid": entry.cid, "kind": "directory", "path": str(target), "size": size, "files": files}


async def _open(
    home: Path,
    store: StoreClient,
    what: str | None,
    invocation: int | None,
    output: str | None,
    force: bool,
    tell: OnProgress,
) -> dict[str, Any]:
    from agorai.client import Client  # noqa: PLC0415 - what of a node a store alone does without

    async with Client.connect(Home(home)) as client:
        if invocation is not None:
            cid = (await client.vault.grant(invocation)).cid
            if what is not None and cids.canonical(what) != cid:
                raise AnotherContentError(invocation, cid)
            pieces, name = client.vault.open_bought(invocation, JOB), f"invocation-{invocation}"
        else:
            entry = await store.resolve(what or "")
            cid, name = entry.cid, entry.name
            pieces = client.vault.open_own(cid)
        return {"cid": cid, "kind": "file", **await _file(counted(pieces, tell), name, output, force)}


@app.command("ls")
def ls(what: str = OBJECT, others: list[str] | None = FROM, home: Path = HOME, as_json: bool = JSON) -> None:
    """List a directory: names, kinds, sizes and CIDs."""

    async def work(store: StoreClient) -> tuple[Cid, list[Entry]]:
        cid = (await store.resolve(what)).cid
        return cid, [entry async for entry in store.entries(cid)]

    cid, entries = with_store(home, as_json, work, others)

    def human() -> None:
        for entry in entries:
            name = f"{entry.name}/" if entry.kind == "directory" else entry.name
            template = "{cid}  [dim]{kind:<9}[/]  {size:>9}  [bold]{name}[/]"
            line = styled(template, cid=entry.cid, kind=entry.kind, size=shown_size(entry.size), name=name)
            out.print(line, soft_wrap=True, highlight=False)

    emit({"cid": cid, "entries": [asdict(entry) for entry in entries]}, as_json, human)


@app.command("stat")
def stat(
    what: str | None = typer.Argument(None, metavar="[CID[/PATH]]", help="An object; by default the store."),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Show what the store holds; or of one object its kind, size and blocks."""

    async def work(store: StoreClient) -> dict[str, Any]:
        if what is None:
            return asdict(await store.stat())
        return asdict(await store.measure(await store.resolve(what)))

    found = with_store(home, as_json, work)

    def human() -> object:
        shown = table("", "")
        shown.show_header = False
        for name, value in found.items():
            is_size = name in ("size", "stored", "quota") and value is not None
            shown.add_row(name, shown_size(value) if is_size else "none" if value is None else str(value))
        return shown

    emit(found, as_json, human)


@app.command("gc")
def gc(
    yes: bool = typer.Option(False, "--yes", "-y", help="Do not ask first."),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Collect: remove every block that no pin reaches."""
    if not (yes or as_json):
        ask("Remove every block that no pin reaches?")

    async def work(store: StoreClient) -> dict[str, Any]:
        if not yes and as_json:
            raise CollectionNotConfirmedError
        return asdict(await store.collect())

    found = with_store(home, as_json, work)
    emit(found, as_json, lambda: f"Removed {found['blocks']} blocks, {shown_size(found['size'])}.")
