"""The command's verbs, put together."""

from __future__ import annotations

import typer

from agorai.cli import (
    account,
    data,
    events,
    exchange,
    hub_state,
    market,
    node,
    publish,
    search,
    store,
    store_pins,
    subscriptions,
    trade,
    versions,
    vote,
)
from agorai.cli.demo import demo
from agorai.cli.hub import hub

_VERBS_OF_GROUPS = (hub_state, store_pins, subscriptions)  # they add themselves to their group

app = typer.Typer(
    name="agorai",
    help="A marketplace for machine-learning data and models in which nobody has to be trusted.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
)
app.command("up")(node.up)
app.command("found")(node.found)
app.command("issue")(node.issue)
app.command("status")(node.status)
app.command("hub")(hub)
app.add_typer(events.app, name="events")
app.add_typer(account.app, name="account")
app.add_typer(store.app, name="store")
app.add_typer(publish.app, name="publish")
app.add_typer(data.app, name="data")
app.command("search")(search.search)
app.command("buy")(market.buy)
app.command("train")(market.train)
app.command("invoke")(market.invoke)
app.command("versions")(versions.versions)
app.add_typer(market.offer_app, name="offer")
app.add_typer(trade.app, name="trade")
app.add_typer(exchange.app, name="exchange")
app.add_typer(vote.app, name="vote")
app.add_typer(demo, name="demo")
