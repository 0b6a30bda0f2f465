"""`agorai dashboard`: where the node's dashboard is, signing in to one, and building what it shows anew."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import typer

from agorai.cli.asking import ask
from agorai.cli.output import HOME, JSON, emit, local, out, styled, with_client
from agorai.client import Client
from agorai.home import Home
from agorai_shared.errors import NotFoundError


class DashboardAbsentError(NotFoundError):
    """The node runs without a dashboard."""

    def __init__(self, home: Path) -> None:
        super().__init__(
            f"The node of {home} runs without a dashboard.",
            remedy="Start it without --only, or with dashboard among what that names.",
        )


app = typer.Typer(help="Where the dashboard is; sign in to one; build what it shows anew.")
OPEN = typer.Option(False, "--open", help="Open it in this machine's browser, too.")


@app.callback(invoke_without_command=True)
def where(context: typer.Context, show: bool = OPEN, home: Path = HOME, as_json: bool = JSON) -> None:
    """Say where the node's dashboard is."""
    if context.invoked_subcommand is None:
        _shown(local(lambda: _url(home), as_json), show, as_json)


@app.command("sign-in")
def sign_in(
    url: str = typer.Argument(help="The dashboard's address, as in the browser."),
    show: bool = OPEN,
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Sign in to a dashboard with the node's account: prints a link that is good once, within a minute."""
    from agorai import dashboard  # noqa: PLC0415 - what the other verbs do without

    async def work(client: Client) -> str:
        return await dashboard.sign_in(client, url)

    _shown(with_client(home, as_json, work), show, as_json)


@app.command()
def rebuild(
    from_chain: bool = typer.Option(
        False, "--from-chain", help="Have the hub write its streams anew from the chain first."
    ),
    yes: bool = typer.Option(False, "--yes", "-y", help="Do not ask first."),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Have what the dashboard shows built anew from the events; the pages fill again meanwhile."""
    from agorai import dashboard  # noqa: PLC0415 - as above
    from agorai.hub_client import HubClient  # noqa: PLC0415 - as above

    url = local(lambda: _url(home), as_json)
    if from_chain and not (yes or as_json):
        ask("Delete the hub's streams and write them anew from the chain?")

    async def work(client: Client) -> None:
        if from_chain:
            hub, token = Home(home).hub()
            async with HubClient(hub, token) as asked:
                await asked.rebuild(client.deployment.chain_id)
        await dashboard.rebuild(client, url)

    with_client(home, as_json, work)
    emit(
        {"url": url, "from_chain": from_chain},
        as_json,
        lambda: f"It is being built anew: {url}/node shows how far it is.",
    )


def _url(home: Path) -> str:
    info = Home(home).running_node()
    if info.dashboard_url is None:
        raise DashboardAbsentError(Home(home).path)
    return info.dashboard_url


def _shown(url: str, show: bool, as_json: bool) -> None:
    emit({"url": url}, as_json, lambda: out.print(styled("{url}", url=url), soft_wrap=True, highlight=False))
    if show:
        webbrowser.open(url)
