"""`agorai backup` and `restore`: a home in one sealed file, and back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from agorai.cli.output import HOME, JSON, emit, progress, run, styled
from agorai.cli.passphrase import ask_passphrase
from agorai.home import Home

if TYPE_CHECKING:
    from agorai.archive import Manifest


def backup(
    file: Path = typer.Argument(help="The file to write."),
    with_content: bool = typer.Option(
        False,
        "--with-content",
        help="Put what the store holds in, too: what you sell, and what describes it.",
    ),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Write keys, databases and settings into one file, sealed under the passphrase; the node may run."""
    from agorai import backup as backups  # noqa: PLC0415 - databases and keys, which other verbs do without
    from agorai_vault import keys as key_files  # noqa: PLC0415 - as above

    place = Home(home)

    async def work() -> Manifest:
        passphrase = ask_passphrase(new=not key_files.exist(place.vault))
        with progress(as_json) as tell:
            tell("copying and sealing")
            return await backups.back_up(place, file.absolute(), passphrase, with_content=with_content)

    made = run(work, as_json)
    emit(_value(file, made), as_json, lambda: _made(file, made))


def restore(
    file: Path = typer.Argument(help="A file that `agorai backup` wrote."),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Make a home of a backup, in a folder that is new or empty; `agorai up` goes on from there."""
    from agorai import backup as backups  # noqa: PLC0415 - as above

    place = Home(home)

    async def work() -> Manifest:
        passphrase = ask_passphrase(new=False)
        with progress(as_json) as tell:
            tell("opening and checking")
            return await backups.restore(file.absolute(), place, passphrase)

    found = run(work, as_json)
    joined = place.ports().joined
    emit(
        {"home": str(place.path), **_value(file, found)},
        as_json,
        lambda: styled(
            "[bold green]✓[/] {home} is restored, of {when}. Start it: [bold]AGORAI_HOME={home} agorai up{join}[/]\n"
            "Never run it beside the node that the backup is of: both would use one account.{missing}",
            home=place.path,
            join=f" --join {joined}" if joined else "",
            when=_when(found),
            missing=_missing(found),
        ),
    )


def _value(file: Path, manifest: Manifest) -> dict[str, object]:
    return {
        "file": str(file),
        "size": file.stat().st_size,
        "made_at": manifest.made_at,
        "address": manifest.address,
        "versions": manifest.versions,
        "content": manifest.content,
        "streams": manifest.streams,
        "files": len(manifest.files),
    }


def _made(file: Path, manifest: Manifest) -> object:
    return styled(
        "[bold green]✓[/] {file}: {files} files, {size} KiB, sealed under the account's passphrase.{missing}",
        file=file,
        files=len(manifest.files),
        size=-(-file.stat().st_size // 1024),
        missing=_missing(manifest),
    )


def _missing(manifest: Manifest) -> str:
    missing = []
    if not manifest.content:
        missing.append("what the store holds (--with-content)")
    if not manifest.streams:
        missing.append("the bus's streams with webhooks' subscriptions, as the node ran")
    return f"\nNot in it: {'; '.join(missing)}." if missing else ""


def _when(manifest: Manifest) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(manifest.made_at))
