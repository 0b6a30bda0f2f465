"""`agorai up`, `found` and `issue`: running a node, and a marketplace of one's own."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import typer

from agorai.cli.amounts import AMOUNT
from agorai.cli.output import HOME, JSON, emit, err, local, out, progress, run, styled, table, with_client
from agorai.cli.passphrase import ask_passphrase
from agorai.client import Client
from agorai.devchain import TOKEN
from agorai.home import Home, NodeFile, PlatformFile
from agorai.parts import STAGE, chosen
from agorai_shared.types import Wei


def up(
    home: Path = HOME,
    name: str | None = typer.Option(
        None, help="How the node calls itself on the market; by default as in the last run, or me."
    ),
    host: str = typer.Option("127.0.0.1", help="Address to listen on."),
    port: int | None = typer.Option(None, help="HTTP port; by default the last one, or a free one."),
    public_url: str | None = typer.Option(
        None, help="Where other participants reach this node's content; by default where it listens."
    ),
    join: Path | None = typer.Option(
        None, help="Home of a node on this machine whose bus and chain this one shares."
    ),
    rpc: str | None = typer.Option(None, help="RPC URL of a chain; by default one is embedded."),
    deployment: Path | None = typer.Option(None, help="Addresses of the marketplace on that chain."),
    confirmations: int | None = typer.Option(
        None, min=0, help="Blocks on top that make a block final; by default the chain's own word."
    ),
    block_time: float | None = typer.Option(
        None, min=0.05, help="Seconds between the embedded chain's blocks; by default on arrival."
    ),
    as_json: bool = JSON,
    only: str | None = typer.Option(
        None,
        help="What of the node is run, parted by commas: hub (with bus and chain), storage, vault, trainer, "
        "verifier, reward, dashboard. By default all of it.",
    ),
    dashboard_host: str = typer.Option("127.0.0.1", help="Address at which the dashboard listens."),
    dashboard_port: int | None = typer.Option(
        None, min=0, max=65535, help="The dashboard's port; by default the last one, or a free one."
    ),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Show the services' logs."),
) -> None:
    """Run a node on this machine: bus, chain, hub, all services and the dashboard, until Ctrl-C."""
    started = time.monotonic()
    parts = local(lambda: chosen(only, joins=join is not None), as_json)
    # The services, which other verbs do without.
    from agorai import composing, node  # noqa: PLC0415
    from agorai.platform import ChainChoice  # noqa: PLC0415
    from agorai_shared.service import relax_collector, until_signalled  # noqa: PLC0415
    from agorai_vault import keys as key_files  # noqa: PLC0415

    relax_collector()
    place = Home(home)
    wanted = composing.Wanted(
        name=name,
        parts=parts,
        chain=ChainChoice(rpc, deployment, confirmations, block_time),
        join=Home(join) if join else None,
        host=host,
        port=port,
        public_url=public_url,
        dashboard_host=dashboard_host,
        dashboard_port=dashboard_port,
    )

    async def work() -> None:
        opens = wanted.opens_keys(place)
        passphrase = ask_passphrase(new=not key_files.exist(place.vault)) if opens else ""
        async with AsyncExitStack() as stack:
            with progress(as_json or verbose) as tell:  # the log tells more
                STAGE.set(tell)
                # before anything is started or written
                keys = await asyncio.to_thread(node.opened_keys, place, passphrase) if opens else None
                composed = await stack.enter_async_context(composing.running(place, wanted, passphrase, keys))
            seconds = time.monotonic() - started
            signalled = asyncio.create_task(until_signalled())
            lost = asyncio.create_task(composed.platform.chain_lost())
            await asyncio.sleep(0)  # whoever reads that it is up may stop it at once
            if composed.node is None:
                _announce_hub(composed.platform.info, place, seconds, as_json)
            else:
                _announce(composed.node, place, seconds, as_json)
            done, pending = await asyncio.wait({signalled, lost}, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            for task in done:
                task.result()
            if not as_json:
                err.print("Stopping …")

    run(work, as_json, log_level="INFO" if verbose else "WARNING")


def _announce(info: NodeFile, place: Home, seconds: float, as_json: bool) -> None:
    def human() -> None:
        out.print(
            styled(
                "[bold green]●[/] Node [bold]{name}[/] is up after {seconds} s.",
                name=info.name,
                seconds=f"{seconds:.1f}",
            )
        )
        shown = table("", "")
        shown.show_header = False
        for row in (
            ("account", info.address),
            ("home", str(place.path)),
            ("chain", info.rpc_url),
            ("bus", info.bus_url),
            ("node", f"{info.url}  (/health/ready, /metrics, /asyncapi.json, /ipfs/<cid>)"),
            ("dashboard", info.dashboard_url or ""),
        ):
            if row[1]:
                shown.add_row(*row)
        out.print(shown)
        flag = "" if place.path == Home(Path("~/.agorai")).path else f"AGORAI_HOME={place.path} "
        out.print(styled("In another terminal: [bold]{flag}agorai status[/]. Ctrl-C stops it.", flag=flag))

    value = {
        "name": info.name,
        "address": info.address,
        "url": info.url,
        "dashboard": info.dashboard_url,
        "seconds": round(seconds, 3),
    }
    emit(value, as_json, human)


def _announce_hub(info: PlatformFile, place: Home, seconds: float, as_json: bool) -> None:
    value = {
        "hub": info.hub_url,
        "bus": info.bus_url,
        "chain": info.rpc_url,
        "deployment": str(info.deployment),
        "seconds": round(seconds, 3),
    }
    emit(
        value,
        as_json,
        lambda: styled(
            "[bold green]●[/] The hub is up after {seconds} s: {hub}, bus {bus}, chain {chain}.\n"
            "Nodes of this machine join it: [bold]agorai up --join {home}[/]. Ctrl-C stops it.",
            home=place.path,
            hub=info.hub_url,
            bus=info.bus_url,
            chain=info.rpc_url,
            seconds=f"{seconds:.1f}",
        ),
    )


def found(
    rpc: str = typer.Option(..., help="RPC URL of the chain."),
    output: Path = typer.Option(Path("deployment.json"), help="Where the addresses are written."),
    name: str = typer.Option("Happy Token", help="The token's name."),
    symbol: str = typer.Option("HAPY", help="The token's symbol."),
    maximum_supply: int = typer.Option(1_000_000_000, min=1, help="Tokens there can ever be."),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Found a marketplace: put its contracts on a chain of your own, signed by this home's account."""
    from agorai import founding  # noqa: PLC0415 - web3.py, which other verbs do without
    from agorai_vault import keys as key_files  # noqa: PLC0415

    async def work() -> dict[str, object]:
        with progress(as_json) as tell:
            account = key_files.load(Home(home).vault, ask_passphrase(new=False)).account
            token = founding.TokenTerms(name, symbol, maximum_supply * TOKEN)
            deployment = await founding.found(rpc, account, token, tell)
        output.write_text(deployment.model_dump_json(indent=2))
        return {"deployment": str(output), **deployment.model_dump()}

    made = run(work, as_json)
    emit(
        made,
        as_json,
        lambda: styled(
            "[bold green]✓[/] The marketplace stands on chain {chain}; give {output} to those who are to join.",
            chain=made["chain_id"],
            output=output,
        ),
    )


def issue(
    to: str = typer.Argument(help="The account that gets the tokens."),
    amount: float = AMOUNT,
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Issue new tokens; the founder's account only."""

    async def work(client: Client) -> str:
        return await client.issue_tokens(to, Wei(round(amount * TOKEN)))

    transaction = with_client(home, as_json, work)
    emit({"transaction": transaction}, as_json, lambda: f"Issued {amount:g} to {to} ({transaction}).")
