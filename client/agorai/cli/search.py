"""`agorai search`: find data sets and models by what their owners say of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from pydantic import ValidationError
from rich.console import Group
from rich.text import Text

from agorai.catalogue import Described, Search
from agorai.cli.amounts import tokens
from agorai.cli.output import HOME, JSON, emit, progress, table, with_client
from agorai.cli.publish import STAR_NOTE, Kind, score_of, task_of
from agorai.client import Client
from agorai.devchain import TOKEN
from agorai_shared.errors import InputError
from agorai_shared.search import SchemaQuery, WantedField
from agorai_shared.validation import first_fault

_TYPES = ("integer", "real", "number", "boolean", "date", "timestamp", "text")


class QueryError(InputError):
    """What is looked for is not of its form."""

    def __init__(self, error: ValidationError) -> None:
        super().__init__(f"Nothing can be found by this {first_fault(error)}.", remedy="See --help.")


class FieldTypeError(InputError):
    """A column is wished to be of a type that there is not."""

    def __init__(self, given: str, kind: str) -> None:
        super().__init__(
            f"There is no type {kind!r}, as in --field {given!r}.",
            remedy=f"Types are {', '.join(_TYPES)}. If the colon is the name's own, end the name by another: "
            f"{given + ':'!r}.",
        )


def search(
    words: list[str] = typer.Argument(
        None, help="Words that must be in its name, its columns' names or its description."
    ),
    fields: list[str] = typer.Option(
        [], "--field", metavar="NAME[:TYPE]", help=f"A column it must have; types: {', '.join(_TYPES)}."
    ),
    target: str | None = typer.Option(None, help="The column that is to be predicted."),
    task: Kind | None = typer.Option(None, help="What the target holds."),
    min_rows: int | None = typer.Option(None, min=0, help="At least so many rows."),
    min_quality: float | None = typer.Option(None, min=0, max=1, help="A score of at least this, up to 1."),
    max_price: float | None = typer.Option(None, min=0, callback=tokens, help="At most so many tokens."),
    kind: str | None = typer.Option(None, help="data or model."),
    licence: str | None = typer.Option(None, "--licence", "--license", help="Its licence."),
    most: int = typer.Option(20, min=1, max=1000, help="Show at most so many."),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Find what is on the market by its public documents; every wish must be met, the best come first."""

    async def work(client: Client) -> Search:
        try:
            query = SchemaQuery.model_validate(
                {
                    "words": " ".join(words or ()),
                    "fields": tuple(map(_field, fields)),
                    "target": target,
                    "task": task_of(task),
                    "min_rows": min_rows,
                    "min_quality": min_quality,
                    "max_price": None if max_price is None else round(max_price * TOKEN),
                    "kind": kind,
                    "license": licence,
                }
            )
        except ValidationError as error:
            raise QueryError(error) from error
        with progress(as_json) as tell:
            tell("reading what owners say of their offers")
            return await client.search(query, most=most)

    found = with_client(home, as_json, work)
    emit(
        {
            "found": [_told(one) for one in found.found],
            "matching": found.matching,
            "resources": found.resources,
            "away": found.away,
            "unread": found.unread,
        },
        as_json,
        lambda: _shown(found),
    )


def _field(given: str) -> WantedField:
    """Read NAME[:TYPE]; the last colon ends the name, so that one with a colon of its own takes another."""
    name, colon, kind = given.rpartition(":")
    if not colon:
        return WantedField(name=given, type=None)
    if kind and kind not in _TYPES:
        raise FieldTypeError(given, kind)
    return WantedField(name=name, type=kind or None)


def _told(one: Described) -> dict[str, Any]:
    metadata, schema = one.metadata, one.schema
    if metadata is None:
        raise AssertionError("only what is described is found")
    return {
        "resource": one.id,
        "kind": metadata.kind,
        "name": metadata.name,
        "price": one.resource.price / TOKEN,
        "rows": schema.rows if schema else metadata.rows,
        "target": metadata.target,
        "task": metadata.task,
        "license": metadata.license,
        "quality": schema.quality.score if schema else None,
        "not_measured": schema.quality.not_measured if schema else None,
        "portion": schema.portion.model_dump() if schema and schema.portion else None,
        "schema": metadata.schema_cid,
        "owner": one.resource.owner,
    }


def _shown(found: Search) -> object:
    parts: list[Any] = []
    if found.found:
        shown = table(
            ">Resource",
            "Kind",
            "Name",
            ">Rows",
            "Target",
            ">Quality",
            ">Price",
            "Licence",
            whole=(">Resource",),
        )
        for one in map(_told, found.found):
            quality = "" if one["quality"] is None else score_of(one["quality"], one["not_measured"])
            rows = "" if one["rows"] is None else f"{one['rows']:,}"
            shown.add_row(
                str(one["resource"]), one["kind"], one["name"], rows, one["target"] or "", quality,
                f"{one['price']:g}", one["license"],
            )  # fmt: skip
        parts.append(shown)
        if any(one.schema and one.schema.quality.not_measured for one in found.found):
            parts.append(Text(f"{STAR_NOTE} Quality is what each owner's node measured."))
    counted = f"{found.matching} of {found.resources} offers match"
    shown_ = f", {len(found.found)} are shown (--most)" if found.matching > len(found.found) else ""
    parts.append(Text(f"{counted}{shown_}."))
    if found.unread:
        away = f"; nodes that are away: {len(found.away)}" if found.away else ""
        parts.append(Text(f"Offers whose documents could not all be read: {found.unread}{away}."))
    return Group(*parts)
