"""`agorai publish`: offer data sets, whole or in portions, and models."""

from __future__ import annotations

import asyncio
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from agorai.cli.market import (
    DAYS,
    DESCRIPTION,
    LICENSE,
    NAME,
    ONLY_ALLOWED,
    PREVIOUS,
    PRICE,
    USES,
    WINDOW,
    offer_of,
)
from agorai.cli.output import HOME, JSON, emit, err, fail, local, out, progress, styled, table, with_client
from agorai.client import Client
from agorai.devchain import TOKEN
from agorai.home import Home
from agorai_shared.bindings import registry
from agorai_shared.documents import Quality, Task
from agorai_shared.types import ResourceId
from agorai_trainer.messages import Offer

if TYPE_CHECKING:
    from agorai.data_sets import DataSet, Deal
    from agorai.portions import PortionsUnfinishedError

app = typer.Typer(help="Seal a data set or a model and offer it on the market.", no_args_is_help=True)


class Dealing(StrEnum):
    """How rows are dealt into portions, as the command spells it."""

    IN_ORDER = "in-order"
    SHUFFLED = "shuffled"
    STRATIFIED = "stratified"


class Kind(StrEnum):
    """What a target holds."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


FILE = typer.Argument(help="The file.", exists=True, dir_okay=False, readable=True)
TARGET = typer.Option(None, help="The column that models are to predict.")
TASK = typer.Option(None, help="What the target holds, classes or a quantity; by default its values tell.")
NO_QUALITY = typer.Option(False, "--no-quality", help="Do not measure the labels.")
SEED = typer.Option(0, min=0, help="Of what is drawn: the same seed gives the same.")
PORTIONS = typer.Option(None, min=1, help="Into so many portions.")
PORTION_ROWS = typer.Option(None, min=1, help="Into portions of at most so many rows.")
DEAL = typer.Option(Dealing.IN_ORDER, help="How rows are dealt into portions; stratified: by the target.")


STAR_NOTE = "* not all parts were measured."
"""Goes with the star of `score_of`."""


def score_of(score: float, not_measured: object, digits: int = 1) -> str:
    """Write a score in percent, with a star if it is of less than all parts."""
    return f"{score:.{digits}%}{'*' if not_measured else ''}"


def task_of(kind: Kind | None) -> Task | None:
    """Give the task as documents name it."""
    return None if kind is None else "classification" if kind is Kind.CLASSIFICATION else "regression"


def deal_of(count: int | None, rows: int | None, how: Dealing, by: str | None, seed: int) -> Deal:
    """Say how a data set is dealt."""
    from agorai.data_sets import Deal  # noqa: PLC0415 - pyarrow, which other verbs do without

    if how is Dealing.STRATIFIED and by is None:
        raise typer.BadParameter(
            "--deal stratified needs --target, the column to stratify by; it is missing."
        )
    if how is Dealing.STRATIFIED:
        return Deal(count, rows, "stratified", by, seed)
    return Deal(count, rows, "shuffled" if how is Dealing.SHUFFLED else "in order", None, seed)


@app.command("data")
def publish_data(
    file: Path = FILE,
    target: str | None = TARGET,
    task: Kind | None = TASK,
    no_quality: bool = NO_QUALITY,
    portions: int | None = PORTIONS,
    portion_rows: int | None = PORTION_ROWS,
    deal: Dealing = DEAL,
    seed: int = SEED,
    from_portion: int | None = typer.Option(
        None, min=1, help="Go on with this portion of a run that broke off; 1 begins anew."
    ),
    name: str | None = NAME,
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
    """Offer a data set: a CSV or Parquet file with a row of names on top. Its schema becomes public."""
    offer = offer_of(name or file.stem, price, description, licence, previous, days, uses, window, restricted)
    chosen = {"target": target, "task": task_of(task), "measured": not no_quality}
    if portions is None and portion_rows is None:
        if from_portion or deal is not Dealing.IN_ORDER:
            raise typer.BadParameter("--deal and --from-portion go with --portions or --portion-rows.")
        _publish_whole(file, offer, chosen, seed, home, as_json)
        return
    if previous:
        raise typer.BadParameter("Portions have no --previous: it is one resource, and they are many.")
    dealt = local(lambda: deal_of(portions, portion_rows, deal, target, seed), as_json)
    _publish_portions(file, offer, chosen, dealt, from_portion, Home(home), as_json)


def _publish_whole(
    file: Path, offer: Offer, chosen: dict[str, Any], seed: int, home: Path, as_json: bool
) -> None:
    if offer.previous:  # before anything is measured
        with_client(home, as_json, lambda client: client.check_previous(offer.previous, registry.Kind.DATA))

    def prepare() -> DataSet:
        from agorai import data_sets  # noqa: PLC0415 - as above

        Home(home).running_node()  # so that nobody measures for a node that is not there
        with progress(as_json) as tell:
            return data_sets.read(data_sets.content_of(file), offer, seed=seed, on_stage=tell, **chosen)

    found = local(prepare, as_json)

    async def work(client: Client) -> ResourceId:
        with progress(as_json) as tell:
            return await client.publish(
                found.content, found.metadata, offer, schema=found.schema, on_stage=tell
            )

    resource = with_client(home, as_json, work)
    _published(resource, offer, "data", as_json, quality=found.schema.quality)


def _publish_portions(
    file: Path, offer: Offer, chosen: dict[str, Any], deal: Deal, first: int | None, home: Home, as_json: bool
) -> None:
    def prepare() -> tuple[Path, list[DataSet]]:
        from agorai import data_sets, portions  # noqa: PLC0415 - as above

        home.running_node()
        content = data_sets.content_of(file)
        with progress(as_json) as tell:
            prepared = portions.prepare(home, content, offer, deal=deal, first=first, on_stage=tell, **chosen)
        return portions.kept_in(home, content), prepared

    kept, prepared = local(prepare, as_json)

    async def work(client: Client) -> tuple[dict[int, ResourceId], PortionsUnfinishedError | None]:
        from agorai import portions  # noqa: PLC0415 - as above

        try:
            with progress(as_json) as tell:
                return await portions.publish(client, kept, prepared, offer, on_stage=tell), None
        except portions.PortionsUnfinishedError as error:
            return error.published, error
        except asyncio.CancelledError:  # Ctrl-C: nothing half-done without being told
            if (whole := portions.WholeFile.load(kept)) is not None:
                err.print(f"Broken off; portions on the market: {len(whole.published)} of {whole.count}.")
                _say_command(whole.following)
            raise

    published, error = with_client(home.path, as_json, work)
    shown = _resources(published, prepared, offer)
    if error is None:
        emit({"portions": shown}, as_json, lambda: _portions_table(shown))
    elif as_json:
        problem = {"error": error.to_problem(), "from_portion": error.following}
        emit({"portions": shown, "command": _command(error.following), **problem}, as_json, lambda: None)
        raise typer.Exit(1)
    else:
        if shown:
            out.print(_portions_table(shown))
        try:
            fail(error, as_json)
        finally:
            _say_command(error.following)


def _say_command(following: int) -> None:
    err.print(styled("[dim]→[/] {command}", command=_command(following)), soft_wrap=True, highlight=False)


def _command(following: int) -> str:
    """Give this command, so that it goes on with a portion."""
    words, given = [], iter(sys.argv[1:])
    for word in given:
        if word == "--from-portion":
            next(given, None)
        elif not word.startswith("--from-portion="):
            words.append(word)
    return shlex.join(["agorai", *words, "--from-portion", str(following)])


def _resources(
    published: dict[int, ResourceId], prepared: list[DataSet], offer: Offer
) -> list[dict[str, Any]]:
    known = {one.schema.portion.index + 1: one.schema for one in prepared if one.schema.portion}
    return [
        {
            "portion": number,
            "resource": resource,
            "price": offer.price / TOKEN,
            # of those that an earlier run published nothing is read again
            "name": known[number].name if number in known else None,
            "rows": known[number].rows if number in known else None,
            "quality": known[number].quality.score if number in known else None,
            "not_measured": known[number].quality.not_measured if number in known else None,
        }
        for number, resource in sorted(published.items())
    ]


def _portions_table(shown: list[dict[str, Any]]) -> object:
    made = table(">Portion", ">Resource", "Name", ">Rows", ">Quality", ">Price", title="On the market")
    for one in shown:
        quality = "" if one["quality"] is None else score_of(one["quality"], one["not_measured"])
        name = one["name"] or "(published before)"
        made.add_row(
            str(one["portion"]),
            str(one["resource"]),
            name,
            str(one["rows"] or ""),
            quality,
            f"{one['price']:g}",
        )
    if any(one["not_measured"] for one in shown):
        made.caption = STAR_NOTE
    return made


@app.command("model")
def publish_model(
    file: Path = FILE,
    schema: Path = typer.Option(
        ..., exists=True, dir_okay=False, help="JSON: features, target, and classes of a classification."
    ),
    name: str | None = NAME,
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
    """Offer a model file of your own: safetensors, skops, ONNX, LightGBM text, XGBoost JSON, HDF5 ..."""
    offer = offer_of(name or file.stem, price, description, licence, previous, days, uses, window, restricted)

    async def work(client: Client) -> ResourceId:
        with progress(as_json) as tell:
            from agorai import files  # noqa: PLC0415 - as above

            tell("checking the model")
            content, metadata = files.read_model(file, offer, schema)
            return await client.publish(content, metadata, offer, on_stage=tell)

    _published(with_client(home, as_json, work), offer, "model", as_json)


def _published(
    resource: int, offer: Offer, kind: str, as_json: bool, *, quality: Quality | None = None
) -> None:
    said: dict[str, Any] = {
        "resource": resource,
        "kind": kind,
        "name": offer.name,
        "price": offer.price / TOKEN,
    }
    tail, note = "", ""
    if quality is not None:
        said |= {"quality": quality.score, "not_measured": quality.not_measured}
        tail = f"; its quality is {score_of(quality.score, quality.not_measured)}"
        note = f"\n{STAR_NOTE}" if quality.not_measured else ""
    emit(
        said,
        as_json,
        lambda: styled(
            "[bold green]✓[/] Resource [bold]{resource}[/] ({kind} “{name}”) is on the market at {price}{tail}."
            + note,
            resource=resource,
            kind=kind,
            name=offer.name,
            price=f"{offer.price / TOKEN:g}",
            tail=tail,
        ),
    )
