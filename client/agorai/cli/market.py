"""`agorai buy`, `train`, `invoke` and `offer`: what a participant does on the market."""

from __future__ import annotations

import contextlib
import csv
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import ValidationError

from agorai.cli.amounts import tokens
from agorai.cli.output import HOME, JSON, emit, err, progress, styled, table, with_client
from agorai.client import Client, JobFailedError, OnStage, accuracy, address_of
from agorai.devchain import TOKEN
from agorai.rights import require_right, usable_right
from agorai_shared.bindings.registry import Kind, Registry
from agorai_shared.contract import Call
from agorai_shared.types import ResourceId, Wei
from agorai_shared.validation import first_fault
from agorai_trainer.messages import Offer

offer_app = typer.Typer(help="See and change what is on the market.", no_args_is_help=True)

NAME = typer.Option(None, help="Its name on the market; by default the file's.")
PRICE = typer.Option(0.0, min=0, callback=tokens, help="In tokens; 0 is free.")
DESCRIPTION = typer.Option("", help="What it is.")
LICENSE = typer.Option("", help="Under which terms it may be used.")
PREVIOUS = typer.Option(0, min=0, help="The resource that this is a new version of.")
DAYS = typer.Option(0.0, min=0, help="How long a right of use lasts, in days; 0 never ends.")
USES = typer.Option(0, min=0, help="How many uses one payment buys; 0 is unlimited.")
WINDOW = typer.Option(86_400, min=60, help="Seconds in which you deliver, or the payer has the money back.")
ONLY_ALLOWED = typer.Option(False, "--restricted", help="Sold only to accounts that you allow.")


def offer_of(
    name: str, price: float, description: str, licence: str, previous: int, days: float, uses: int,
    window: int, restricted: bool,
) -> Offer:  # fmt: skip
    """Say how something is to be sold, in units of the chain."""
    try:
        return Offer(
            name=name,
            description=description,
            license=licence,
            price=round(price * TOKEN),
            previous=previous,
            duration=round(days * 86_400),
            uses=uses,
            window=window,
            restricted=restricted,
        )
    except ValidationError as error:
        raise typer.BadParameter(f"{first_fault(error)}.") from error


RESOURCE = typer.Argument(help="The resource's id.", min=1)
MOST = typer.Option(None, "--max-price", min=0, callback=tokens, help="Pay no more than this, in tokens.")


def buy(
    resource: int = RESOURCE, max_price: float | None = MOST, home: Path = HOME, as_json: bool = JSON
) -> None:
    """Pay for a resource and wait for its grant."""

    async def work(client: Client) -> dict[str, Any]:
        with progress(as_json) as tell:
            bought = await client.buy(resource, max_price=_wei(max_price), on_stage=tell)
        kind = (await client.market.resource(resource)).kind
        return {
            "invocation": bought.invocation,
            "resource": bought.resource,
            "price": bought.price / TOKEN,
            "expires_at": bought.expires_at or None,
            "transaction": bought.transaction,
            "next": _use(kind, bought.resource, bought.invocation),
        }

    found = with_client(home, as_json, work)
    emit(
        found,
        as_json,
        lambda: styled(
            "[bold green]✓[/] Invocation [bold]{invocation}[/] gives the right to resource {resource} for {price}.\n"
            "Use it: [bold]{use}[/].",
            invocation=found["invocation"],
            resource=resource,
            price=f"{found['price']:g}",
            use=found["next"],
        ),
    )


def _use(kind: int, resource: int, invocation: int) -> str:
    """Give the command by which a right is used."""
    if kind == Kind.MODEL:
        return f"agorai invoke {resource} FILE.csv --invocation {invocation}"
    return f"agorai train {resource} --task TASK.toml --name NAME --invocation {invocation}"


def _wei(tokens: float | None) -> Wei | None:
    return None if tokens is None else Wei(round(tokens * TOKEN))


@contextlib.contextmanager
def _right_kept(invocation: int) -> Iterator[None]:
    """Tell, with what went wrong, that what was paid for is not lost."""
    try:
        yield
    except JobFailedError as error:
        error.remedy += f" What was paid for stays yours: repeat with --invocation {invocation}."
        raise


INVOCATION = typer.Option(
    None, min=1, help="A right bought before; by default one that is there, and else one is bought now."
)


async def _right(
    client: Client,
    resource: int,
    invocation: int | None,
    max_price: float | None,
    as_json: bool,
    tell: OnStage,
) -> tuple[int, bool]:
    """Give the right to use a resource, and whether it was bought now: nothing is paid while one is there."""
    if invocation is not None:
        await require_right(client, invocation, resource)
        return invocation, False
    tell("looking for a right that is there")
    known = await usable_right(client, resource)
    if known is None:
        return (await client.buy(resource, max_price=_wei(max_price), on_stage=tell)).invocation, True
    if not as_json:
        err.print(
            f"Invocation {known.id} gives the right to it and is used; nothing is paid. "
            f"For another right: `agorai buy {resource}`.",
            highlight=False,
        )
    await client.delivered(known.id, on_stage=tell)
    return known.id, False


def train(
    resource: int = typer.Argument(help="The data set's id.", min=1),
    task: Path = typer.Option(
        ..., exists=True, dir_okay=False, help="The training task, JSON or TOML (see the trainer's guide)."
    ),
    name: str = typer.Option(..., help="The model's name on the market."),
    invocation: int | None = INVOCATION,
    max_price: float | None = MOST,
    price: float = PRICE,
    description: str = DESCRIPTION,
    licence: str = LICENSE,
    previous: int = PREVIOUS,
    days: float = DAYS,
    uses: int = USES,
    window: int = WINDOW,
    restricted: bool = ONLY_ALLOWED,
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Pay for a data set, train on it in memory, and offer the sealed model."""
    offer = offer_of(name, price, description, licence, previous, days, uses, window, restricted)

    async def work(client: Client) -> dict[str, Any]:
        from agorai import files  # noqa: PLC0415 - pyarrow, which other verbs do without

        declared = files.read_task(task)
        with progress(as_json) as tell:
            files.check_task(declared, await client.listing(resource))
            right, bought = await _right(client, resource, invocation, max_price, as_json, tell)
            with _right_kept(right):
                status = await client.train(right, declared, offer, on_stage=tell)
        metrics = status.metrics
        return {
            "resource": status.resource,
            "invocation": right,
            "bought": bought,
            "accuracy": metrics.accuracy if metrics else None,
            "test_rows": metrics.n_test if metrics else None,
            "cid": status.sealed,
        }

    found = with_client(home, as_json, work)

    def human() -> object:
        return styled(
            "[bold green]✓[/] Model [bold]{resource}[/] “{name}”: accuracy {score} on {rows} rows held back. "
            "It is sealed in your store and on the market.",
            resource=found["resource"],
            name=name,
            score="undefined" if found["accuracy"] is None else f"{found['accuracy']:.2%}",
            rows=found["test_rows"],
        )

    emit(found, as_json, human)


def invoke(
    resource: int = typer.Argument(help="The model's id.", min=1),
    file: Path = typer.Argument(help="A CSV or Parquet file with the model's features.", exists=True),
    invocation: int | None = INVOCATION,
    max_price: float | None = MOST,
    output: Path | None = typer.Option(None, help="Write the predictions here, as CSV."),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Pay for a model, load it in memory and predict on a file of your own, which stays here."""

    async def work(client: Client) -> dict[str, Any]:
        from agorai import files  # noqa: PLC0415 - pyarrow, which other verbs do without

        with progress(as_json) as tell:
            listing = await client.listing(resource)
            content = files.read_features(file, listing)
            right, bought = await _right(client, resource, invocation, max_price, as_json, tell)
            with _right_kept(right):
                predictions = await client.predict(right, content, on_stage=tell)
        return {
            "resource": resource,
            "invocation": right,
            "bought": bought,
            "target": (listing.metadata and listing.metadata.target) or "prediction",
            "predictions": predictions,
        }

    found = with_client(home, as_json, work)
    if output is not None:
        with output.open("w", newline="") as stream:
            _write_csv(stream, found)
    if as_json or output is not None:
        emit(
            found,
            as_json,
            lambda: styled(
                "[bold green]✓[/] {count} predictions in {output}.",
                count=len(found["predictions"]),
                output=output,
            ),
        )
    else:
        _write_csv(sys.stdout, found)


def _write_csv(stream: Any, found: dict[str, Any]) -> None:
    writer = csv.writer(stream)
    writer.writerow([found["target"]])
    writer.writerows([value] for value in found["predictions"])


@offer_app.command("list")
def list_offers(home: Path = HOME, as_json: bool = JSON) -> None:
    """Show what is on the market; while an owner's node is away its descriptions are missing."""

    async def work(client: Client) -> list[dict[str, Any]]:
        return [
            {
                "resource": listing.id,
                "kind": "data" if listing.resource.kind == Kind.DATA else "model",
                "name": listing.metadata.name if listing.metadata else None,
                "price": listing.resource.price / TOKEN,
                "restricted": listing.resource.restricted,
                "accuracy": accuracy(listing),
                "owner": listing.resource.owner,
            }
            for listing in await client.offers()
        ]

    found = with_client(home, as_json, work)

    def human() -> object:
        shown = table(">Resource", "Kind", "Name", ">Price", ">Accuracy", "Owner", title="On the market")
        for offer in found:
            score = "" if offer["accuracy"] is None else f"{offer['accuracy']:.2%}"
            name = offer["name"] or "(its owner's node is away)"
            shown.add_row(
                str(offer["resource"]), offer["kind"], name, f"{offer['price']:g}", score, offer["owner"]
            )
        return shown

    emit(found, as_json, human)


@offer_app.command("reprice")
def reprice(
    resource: int = RESOURCE,
    price: float = typer.Argument(help="The new price, in tokens.", min=0, callback=tokens),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Change the price of what is sold from now on."""
    wei = Wei(round(price * TOKEN))
    _owner_sends(home, as_json, resource, lambda registry: registry.reprice(ResourceId(resource), wei))


@offer_app.command("allow")
def allow(
    resource: int = RESOURCE,
    accounts: list[str] = typer.Argument(help="Accounts that may buy it."),
    forbid: bool = typer.Option(False, "--forbid", help="They may buy it no more."),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Let accounts buy a restricted resource of yours."""

    def call(registry: Registry) -> Call[None]:
        return registry.allow(ResourceId(resource), [address_of(account) for account in accounts], not forbid)

    _owner_sends(home, as_json, resource, call)


@offer_app.command("withdraw")
def withdraw(resource: int = RESOURCE, home: Path = HOME, as_json: bool = JSON) -> None:
    """Take a resource of yours off the market, for good."""
    _owner_sends(home, as_json, resource, lambda registry: registry.withdraw(ResourceId(resource)))


def _owner_sends(home: Path, as_json: bool, resource: int, call: Callable[[Registry], Call[None]]) -> None:
    async def work(client: Client) -> str:
        await client.market.resource(resource)
        return await client.transact(call(client.market.registry))

    transaction = with_client(home, as_json, work)
    emit({"transaction": transaction}, as_json, lambda: f"Done for resource {resource} ({transaction}).")
