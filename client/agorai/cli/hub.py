"""`agorai hub`: a hub alone, for whoever wants chain events on a bus and nothing else."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from agorai.cli.output import HOME, JSON, emit, err, out, run, styled, table
from agorai.home import Home, HubFile
from agorai_shared.endpoint import hide_secrets
from agorai_shared.errors import InputError

if TYPE_CHECKING:
    from agorai.listen_check import CheckedChain
    from agorai_hub.settings import FollowedChain


class BusPasswordFileError(InputError):
    """The file of the bus user's password cannot be read."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"The bus password cannot be read from {path}: {why}.",
            remedy="Name a readable file with --bus-password-file.",
        )


def hub(
    file: Path = typer.Argument(help="TOML file of the chains and contracts to follow; see docs/listen.md."),
    bus: str | None = typer.Option(
        None,
        help="URL of a NATS server with JetStream, or several parted by commas; by default one is started.",
    ),
    bus_user: str | None = typer.Option(None, help="The user there."),
    bus_password_file: Path | None = typer.Option(None, help="File with that user's password."),
    host: str = typer.Option("127.0.0.1", help="Address to serve HTTP on."),
    port: int | None = typer.Option(
        None, min=0, max=65535, help="HTTP port; by default the last one, or a free one."
    ),
    bus_port: int | None = typer.Option(
        None,
        min=1,
        max=65535,
        help="Port of the bus that is started; by default the last one, or a free one.",
    ),
    allow_private_webhooks: bool = typer.Option(
        False, "--allow-private-webhooks", help="Let webhooks go to this machine and private networks, too."
    ),
    check: bool = typer.Option(
        False, "--check", help="Ask every endpoint whether the file is right, print what it says, and end."
    ),
    home: Path = HOME,
    as_json: bool = JSON,
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Show the hub's log."),
) -> None:
    """Put the events of contracts on a bus: no account, no marketplace, until Ctrl-C."""
    # The services, which other verbs do without.
    from agorai_hub.settings import load_chains  # noqa: PLC0415

    if check:
        _check(file, as_json)
        return

    if bus and bus_port:
        raise typer.BadParameter("--bus-port is for the bus that is started; --bus names another")

    from agorai import listener  # noqa: PLC0415
    from agorai_hub.settings import HubSettings  # noqa: PLC0415
    from agorai_shared.service import relax_collector, until_signalled  # noqa: PLC0415

    relax_collector()
    settings = HubSettings(allow_private_webhooks=True) if allow_private_webhooks else HubSettings()

    async def work() -> None:
        chains = load_chains(file)
        choice = listener.BusChoice(bus, bus_user, _password(bus_password_file)) if bus else None
        async with listener.running(
            Home(home), chains, bus=choice, host=host, port=port, bus_port=bus_port, settings=settings
        ) as running:
            _announce(running, chains, Home(home), bus is None, as_json)
            await until_signalled()
            if not as_json:
                err.print("Stopping …")

    run(work, as_json, log_level="INFO" if verbose else "WARNING")


def _password(path: Path | None) -> str | None:
    if path is None:
        return os.environ.get("AGORAI_BUS_PASSWORD")
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BusPasswordFileError(path, getattr(error, "strerror", None) or str(error)) from error


def _announce(
    running: HubFile, chains: tuple[FollowedChain, ...], place: Home, own_bus: bool, as_json: bool
) -> None:
    bus_url = ",".join(hide_secrets(server.strip()) for server in running.bus_url.split(","))
    paths = ("/chains", "/events", "/openapi.json", "/asyncapi.json", "/metrics")

    def human() -> None:
        out.print(
            styled("[bold green]●[/] The hub is up at [bold]{url}[/].", url=running.url), highlight=False
        )
        shown = table("", "")
        shown.show_header = False
        for chain in chains:
            finality = (
                "the node's `finalized` tag"
                if chain.confirmations is None
                else f"{chain.confirmations} confirmations"
            )
            names = ", ".join(
                f"{one.name} {one.address or f'(by {one.factory.contract})' if one.factory else one.address}"
                for one in chain.contracts
            )
            nodes = ", ".join(node.name for node in chain.nodes())
            which = f"chain of {nodes}" if chain.chain_id is None else f"chain {chain.chain_id} of {nodes}"
            shown.add_row("follows", f"{which}: {names or 'blocks only'}; final by {finality}")
        shown.add_row("bus", f"{bus_url}{'  (no users; this machine only)' if own_bus else ''}")
        for path in paths:
            shown.add_row("" if path != paths[0] else "HTTP", running.url + path)
        out.print(shown)
        flag = "" if place.path == Home(Path("~/.agorai")).path else f"AGORAI_HOME={place.path} "
        lines = (
            f"{flag}agorai events watch",
            f"{flag}agorai events lag",
            f"curl -N '{running.url}/events?from_block=0'",
        )
        out.print("In another terminal, one of:")
        for line in lines:
            out.print(styled("  [bold]{line}[/]", line=line), highlight=False, soft_wrap=True)
        out.print("Ctrl-C stops it.")

    value = running.model_dump(exclude={"token", "bus_password"}) | {"bus_url": bus_url}
    emit(value, as_json, human)


def _check(file: Path, as_json: bool) -> None:
    from agorai import listen_check  # noqa: PLC0415
    from agorai_hub.settings import load_chains  # noqa: PLC0415

    async def work() -> list[CheckedChain]:
        return await listen_check.check(load_chains(file))

    checked = run(work, as_json)
    problems = [problem for chain in checked for problem in chain.problems]

    def human() -> None:
        for chain in checked:
            title = "Chain unknown" if chain.chain_id is None else f"Chain {chain.chain_id}"
            shown = table("What", "Where", ">Head", ">Final", "", title=title, whole=("Where",))
            for node in chain.endpoints:
                mark = _mark(node.problem, asked=True)
                shown.add_row("endpoint", node.url, _number(node.head), _number(node.final), mark)
            for contract in chain.contracts:
                where = contract.address or "announced by its factory"
                what = f"{contract.name} ({contract.events} {'event' if contract.events == 1 else 'events'})"
                shown.add_row(what, where, "", "", _mark(contract.problem, asked=contract.asked))
            out.print(shown)
        if not all(contract.asked for chain in checked for contract in chain.contracts):
            out.print("? not asked whether it is there")
        for problem in problems:
            err.print(styled("[bold yellow]Warning:[/] {problem}", problem=problem), highlight=False)
        if not problems:
            out.print(styled("[bold green]✓[/] {file} is right.", file=file))

    emit(
        {"right": not problems, "problems": problems, "chains": [chain.model_dump() for chain in checked]},
        as_json,
        human,
    )
    sys.stdout.flush()
    if problems:
        raise typer.Exit(1)


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _mark(problem: str, *, asked: bool) -> str:
    return "✗" if problem else "✓" if asked else "?"
