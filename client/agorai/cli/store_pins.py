"""`agorai store pin` and `car`: what a store keeps, and whole objects in and out as one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer
from rich.text import Text

from agorai.cli.output import HOME, JSON, emit, out, styled
from agorai.cli.store import OBJECT, app, urls_of, with_store
from agorai.cli.transfer import counted, moving, pieces_of, shown_size, to_stdout
from agorai.home import Home
from agorai.pin_names import NodePinError, check_name
from agorai.store_client import OnProgress, StoreClient
from agorai.store_files import save_file
from agorai_shared import cid as cids
from agorai_shared.content import NODE_PIN
from agorai_shared.types import Cid
from agorai_storage.backend import Pin

pin_app = typer.Typer(help="Say what the store keeps.", no_args_is_help=True)
car_app = typer.Typer(help="Take whole objects out of and into the store as CAR files.", no_args_is_help=True)
app.add_typer(pin_app, name="pin")
app.add_typer(car_app, name="car")


@pin_app.command("add")
def add(
    cid: str | None = typer.Argument(None, metavar="CID", help="What to keep, with all below it."),
    resource: int | None = typer.Option(
        None, min=1, help="Keep a resource's description, and its content if this node made or bought it."
    ),
    name: str | None = typer.Option(None, help="What the pin is called."),
    peers: list[str] | None = typer.Option(
        None, "--from", help="URL or member's address to fetch missing blocks from; may be repeated."
    ),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Keep an object, or a resource's content, fetching what is missing from others."""
    if (cid is None) == (resource is None):
        raise typer.BadParameter("give either a CID or --resource")

    async def work(store: StoreClient) -> dict[str, Any]:
        check_name(name or "")
        with moving("fetching", as_json) as tell:
            if resource is not None:
                return await _resource(home, store, resource, name, peers or (), tell)
            urls = await urls_of(home, peers or ())
            pinned = await store.pin(Cid(cid or ""), name=name or "", peers=urls, on_progress=tell)
            return {"pins": [told(pinned)]}

    found = with_store(home, as_json, work)

    def human() -> object:
        lines = [
            styled("[bold]{cid}[/] [green]✓[/] {size} pinned.", size=shown_size(pin["size"]), cid=pin["cid"])
            for pin in found["pins"]
        ]
        if resource is not None and found["sealed"] is None:
            lines.append(styled("Its description only: this node neither made nor bought its content."))
        return Text("\n").join(lines)

    emit(found, as_json, human)


async def _resource(
    home: Path, store: StoreClient, resource: int, name: str | None, peers: Sequence[str], tell: OnProgress
) -> dict[str, Any]:
    from agorai.client import Client  # noqa: PLC0415 - what of a node a store alone does without
    from agorai.pinning import MOST_PEERS, content_of, gateways  # noqa: PLC0415 - as above

    async with Client.connect(Home(home)) as client:
        content = await content_of(client, resource)
        urls = list(dict.fromkeys([*await gateways(client, peers), *content.peers]))[:MOST_PEERS]
    own = {pin.cid for pin in await store.pins() if pin.name.startswith(NODE_PIN)}
    pins = []
    for cid in (content.metadata, content.sealed):
        if cid is not None:
            # the node's own keeps its name, by which it is known
            called = name or ("" if cid in own else f"resource {resource}")
            pins.append(await store.pin(cid, name=called, peers=urls, on_progress=tell))
    return {"resource": resource, "sealed": content.sealed, "pins": [told(pin) for pin in pins]}


def told(pin: Pin) -> dict[str, Any]:
    """Give a pin as --json shows it; a time that its store does not know is null."""
    return {**asdict(pin), "since": pin.since or None}


@pin_app.command("ls")
def ls(home: Path = HOME, as_json: bool = JSON) -> None:
    """List what is kept."""

    async def work(store: StoreClient) -> list[dict[str, Any]]:
        return [told(pin) for pin in await store.pins()]

    found = with_store(home, as_json, work)

    def human() -> None:
        for pin in found:
            since = f"{datetime.fromtimestamp(pin['since'], UTC):%Y-%m-%d %H:%M}" if pin["since"] else ""
            template = "{cid}  {size:>9}  [dim]{since:<16}[/]  [bold]{name}[/]"
            line = styled(
                template, cid=pin["cid"], size=shown_size(pin["size"]), since=since, name=pin["name"]
            )
            out.print(line, soft_wrap=True, highlight=False)

    emit({"pins": found}, as_json, human)


@pin_app.command("rm")
def rm(
    cid: str = typer.Argument(metavar="CID", help="What was pinned."),
    force: bool = typer.Option(False, "--force", help="Even what the node pinned for itself."),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Keep an object no longer; `agorai store gc` then removes what no other pin reaches."""

    async def work(store: StoreClient) -> str:
        pinned = cids.canonical(cid)
        for pin in () if force else await store.pins():
            if pin.cid == pinned and pin.name.startswith(NODE_PIN):
                raise NodePinError(pinned, pin.name)
        await store.unpin(pinned)
        return pinned

    found = with_store(home, as_json, work)
    emit({"unpinned": found}, as_json, lambda: styled("{cid} is no longer pinned.", cid=found))


@car_app.command("export")
def export(
    what: str = OBJECT,
    output: str | None = typer.Option(
        None, "--output", "-o", help="The file to write, or - for standard output; by default CID.car."
    ),
    force: bool = typer.Option(False, "--force", help="Replace a file that is there already."),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Write an object with all below it to a CAR, which any IPFS software reads."""
    if output == "-" and as_json:
        raise typer.BadParameter("standard output takes either the bytes or --json")

    async def work(store: StoreClient) -> dict[str, Any]:
        entry = await store.resolve(what)
        with moving("exporting", as_json) as tell:
            pieces = counted(store.export_car(entry.cid), tell)
            if output == "-":
                await to_stdout(pieces)
                return {}
            target = Path(output or f"{entry.cid}.car")
            return {
                "cid": entry.cid,
                "path": str(target),
                "size": await save_file(pieces, target, force=force),
            }

    found = with_store(home, as_json, work)
    if output != "-":
        template = "[bold green]✓[/] {size} in [bold]{path}[/]"
        emit(found, as_json, lambda: styled(template, size=shown_size(found["size"]), path=found["path"]))


@car_app.command("import")
def import_(
    file: str = typer.Argument(metavar="FILE", help="A CAR (version 1), or - for standard input."),
    name: str = typer.Option("", help="What the pins of its roots are called."),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Take in a CAR's blocks, each verified, and keep its roots."""

    async def work(store: StoreClient) -> dict[str, Any]:
        with moving("importing", as_json) as tell:
            return asdict(await store.import_car(pieces_of(file, tell), name=check_name(name)))

    found = with_store(home, as_json, work)

    def human() -> object:
        template = "[bold]{roots}[/] [green]✓[/] {blocks} blocks, {size}, pinned."
        size, roots = shown_size(found["size"]), " ".join(found["roots"])
        return styled(template, blocks=found["blocks"], size=size, roots=roots)

    emit(found, as_json, human)
