"""`agorai up` and `status`: running a node and looking at it."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import typer

from agorai.cli.amounts import AMOUNT
from agorai.cli.output import HOME, JSON, emit, err, out, progress, run, styled, table, with_client
from agorai.cli.passphrase import ask_passphrase
from agorai.client import Client
from agorai.devchain import TOKEN
from agorai.home import Home, NodeFile
from agorai.trading import Trading
from agorai_shared.types import Wei
from agorai_shared.verifier import Verifier

START_TOKENS = 100
"""What a new account on the embedded chain begins with, as tommy does in the paper."""


def up(
    home: Path = HOME,
    name: str = typer.Option("me", help="How the node calls itself on the market."),
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
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Show the services' logs."),
) -> None:
    """Run a node on this machine: bus, chain, hub, storage, vault, trainer, verifier and reward, until Ctrl-C."""
    started = time.monotonic()
    # The services, which other verbs do without.
    from agorai import node, platform  # noqa: PLC0415
    from agorai_shared.service import relax_collector, until_signalled  # noqa: PLC0415
    from agorai_trainer.app import make_sandbox  # noqa: PLC0415
    from agorai_vault import keys as key_files  # noqa: PLC0415

    relax_collector()
    place = Home(home)
    choice = platform.ChainChoice(rpc, deployment, confirmations, block_time)

    async def work() -> None:
        passphrase = ask_passphrase(new=not key_files.exist(place.vault))
        async with AsyncExitStack() as stack:
            stack.enter_context(place.held())
            sandbox = make_sandbox()
            stack.push_async_callback(sandbox.close)
            opening = asyncio.create_task(asyncio.to_thread(node.open_keys, place, passphrase))
            warming = asyncio.create_task(sandbox.start())
            if join is None:
                shared = await stack.enter_async_context(platform.running(place, choice))
            else:
                shared = platform.Platform(Home(join), Home(join).running_platform())
            keys = await opening
            await shared.fund(keys.address, START_TOKENS * TOKEN)
            info = shared.info
            where = node.Place(
                info.bus_url,
                await shared.add_node(keys.address),
                info.rpc_url,
                info.confirmations,
                info.deployment,
                info.hub_url,
                None if join is None else Home(join).path,
            )
            running = await stack.enter_async_context(
                node.running(
                    place, name, keys, passphrase, where, sandbox, host=host, port=port, public_url=public_url
                )
            )
            await warming
            _announce(running, place, time.monotonic() - started, as_json)
            signalled = asyncio.create_task(until_signalled())
            lost = asyncio.create_task(shared.chain_lost())
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
        ):
            shown.add_row(*row)
        out.print(shown)
        flag = "" if place.path == Home(Path("~/.agorai")).path else f"AGORAI_HOME={place.path} "
        out.print(styled("In another terminal: [bold]{flag}agorai status[/]. Ctrl-C stops it.", flag=flag))

    value = {"name": info.name, "address": info.address, "url": info.url, "seconds": round(seconds, 3)}
    emit(value, as_json, human)


def status(home: Path = HOME, as_json: bool = JSON) -> None:
    """Say whether the node is well, and if not, what to do."""

    async def work(client: Client) -> dict[str, object]:
        health = await _health(client)
        balances, owed, trainer, vault = await asyncio.gather(
            client.balances(), Trading(client).credits(), client.trainer_status(), client.vault.status()
        )
        head, final = await asyncio.gather(client.chain.head(), client.chain.final())
        suspected = await Verifier(client.commander).findings()
        return {
            "ready": not health,
            "failing": health,
            "name": client.info.name,
            "address": client.address,
            "url": client.info.url,
            "head": head.number,
            "final": final.number,
            "balance": balances.tokens / TOKEN,
            "credit": sum(owed.values()) / TOKEN,
            "coin": balances.coin / 10**18,
            "token": balances.symbol,
            "pending_transactions": vault.pending_transactions,
            "open_jobs": trainer.open_jobs,
            "isolation": trainer.isolation,
            "lacking": sum(one.lacking for one in suspected) / TOKEN,
        }

    found = with_client(home, as_json, work)

    def human() -> object:
        mark = "[bold green]● ready[/]" if found["ready"] else "[bold red]● not ready[/]"
        out.print(styled(mark + "  {name}  {address}", name=found["name"], address=found["address"]))
        for check, message in found["failing"].items():  # type: ignore[attr-defined]
            out.print(styled("  [red]{check}[/]: {message}", check=check, message=message))
        shown = table("", "")
        shown.show_header = False
        shown.add_row("chain", f"head {found['head']}, final {found['final']}")
        shown.add_row(
            "account",
            f"{found['balance']:g} {found['token']}, {found['credit']:g} to withdraw, "
            f"{found['coin']:.4g} coin for fees",
        )
        if found["lacking"]:
            lacking = f"{found['lacking']:g} {found['token']} are lacking to challenge"
            shown.add_row("pools", f"{lacking}: `agorai pool findings`")
        shown.add_row("transactions", f"{found['pending_transactions']} on their way")
        shown.add_row("jobs", f"{found['open_jobs']} open")
        shown.add_row("sandbox", ", ".join(f"{k}: {v}" for k, v in found["isolation"].items()))  # type: ignore[attr-defined]
        return shown

    emit(found, as_json, human)
    if not found["ready"]:
        raise typer.Exit(1)


async def _health(client: Client) -> dict[str, str]:
    """Ask the node and its hub which of their checks fail, and why."""
    failing: dict[str, str] = {}
    async with aiohttp.ClientSession() as session:
        for name, url in (("node", client.info.url), ("hub", client.info.hub_url)):
            if url is None:
                continue
            try:
                async with session.get(f"{url}/health/ready") as answer:
                    failing |= (await answer.json())["failing"]
            except (aiohttp.ClientError, TimeoutError):
                failing[name] = f"It does not answer at {url}. Start it again: `agorai up`."
    return failing


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
