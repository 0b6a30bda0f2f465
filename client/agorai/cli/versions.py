"""`agorai versions`: a resource's history, and what is different between its versions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import typer
from rich.console import Group
from rich.text import Text

from agorai.catalogue import SchemaAbsentError
from agorai.cli.market import RESOURCE
from agorai.cli.output import HOME, JSON, emit, printable, progress, styled, table, with_client
from agorai.client import Client, Listing, accuracy
from agorai.devchain import TOKEN
from agorai_shared.bindings.registry import Kind
from agorai_shared.errors import InputError

if TYPE_CHECKING:
    from agorai.client import OnStage

_CUT = 60
"""Characters of a value that a table shows."""

_QUALITY = {
    "quality.score": "quality",
    "quality.size": "bytes",
    "quality.missing_share": "missing cells",
    "quality.duplicate_rows": "repeated rows",
    "quality.class_balance.classes": "classes",
    "quality.class_balance.entropy": "classes' evenness",
    "quality.label_noise.suspected": "suspected label errors",
    "quality.label_noise.accuracy": "labels foretold",
    "quality.not_measured.class_balance": "classes not measured",
    "quality.not_measured.label_noise": "label errors not measured",
}
"""What people are told of a quality, and by which words."""

_OFFERED = {"license": "licence", "size": "bytes", "days": "days of use", "window": "seconds to deliver"}
"""What people are told of an offer by other words than JSON's."""

_SHARES = frozenset({"quality.score", "quality.missing_share", "quality.label_noise.accuracy"})

_UNSEEN = "The public descriptions differ by less than is shown; --json has all."

_MOST_ROWS = 100
"""Of differences between descriptions."""

_DAY_S = 86_400

_MOST_COLUMNS = 8
"""Of whole rows."""


class OneVersionError(InputError):
    """There is nothing to compare with."""

    def __init__(self, resource: int) -> None:
        super().__init__(
            f"Resource {resource} is the first version.",
            remedy="Name another resource to compare, by --with.",
        )


def versions(
    resource: int = RESOURCE,
    diff: bool = typer.Option(False, "--diff", help="Show what is different from version to version."),
    other: int | None = typer.Option(
        None, "--with", min=1, help="Compare with this resource instead, as the earlier one."
    ),
    contents: bool = typer.Option(
        False, "--contents", help="Compare the tables too, of the last version and the one before it."
    ),
    key: list[str] = typer.Option([], help="A column that tells rows apart; may be repeated."),
    invocation: list[int] = typer.Option(
        [], min=1, help="A right to a version that you bought; one use is spent if they are counted."
    ),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Show a resource and every version before it, newest first; with --diff, what is different."""
    if not diff:
        if other or contents or key or invocation:
            raise typer.BadParameter("--with, --contents, --key and --invocation go with --diff.")
        _list(resource, home, as_json)
        return
    if (key or invocation) and not contents:
        raise typer.BadParameter("--key and --invocation go with --contents.")

    async def work(client: Client) -> list[dict[str, Any]]:
        with progress(as_json) as tell:
            tell("reading the versions")
            if other is not None:
                pairs = [(await client.listing(other), await client.listing(resource))]
            else:
                walked = await client.versions(resource)
                pairs = list(zip(walked[1:], walked[:-1], strict=True))
            if not pairs:
                raise OneVersionError(resource)
            found = [await _public(client, *pair) for pair in pairs]
            if contents:
                found[0]["contents"] = await _contents(client, pairs[0], key, invocation, tell)
        return found

    found = with_client(home, as_json, work)
    emit(found, as_json, lambda: Group(*(part for one in found for part in _difference(one))))


async def _public(client: Client, before: Listing, after: Listing) -> dict[str, Any]:
    told: dict[str, Any] = {
        "before": before.id,
        "after": after.id,
        "names": [one.metadata.name if one.metadata else None for one in (before, after)],
        "prices": [one.resource.price / TOKEN for one in (before, after)],
        "offer": [],
        "schema": None,
        "why": None,
        "contents": None,
    }
    try:
        told["schema"] = asdict(await client.schema_differences(before.id, after.id))
    except SchemaAbsentError as error:
        told["why"] = error.message
    told["offer"] = _offers_differ(before, after, described=told["schema"] is not None)
    return told


def _offers_differ(before: Listing, after: Listing, *, described: bool) -> list[dict[str, Any]]:
    """Compare terms and metadata; what schemas tell in full is left to them, if there are both."""
    left_out = {"schema_cid", "columns", "size"} if described else {"schema_cid"}
    old, new = _terms(before), _terms(after)
    if before.metadata and after.metadata:
        old |= before.metadata.model_dump(mode="json")
        new |= after.metadata.model_dump(mode="json")
    return [
        {"path": path, "before": old.get(path), "after": new.get(path)}
        for path in dict.fromkeys((*old, *new))
        if path not in left_out and old.get(path) != new.get(path)
    ]


def _terms(one: Listing) -> dict[str, Any]:
    resource = one.resource
    return {
        "price": resource.price / TOKEN,
        "days": resource.duration / _DAY_S,
        "uses": resource.uses,
        "window": resource.window,
        "restricted": resource.restricted,
        "withdrawn": resource.withdrawn,
    }


async def _contents(
    client: Client, pair: tuple[Listing, Listing], key: list[str], invocations: list[int], tell: OnStage
) -> dict[str, Any]:
    before, after = (one.id for one in pair)
    return asdict(await client.differences(before, after, key=key, invocations=invocations, on_stage=tell))


def _difference(one: dict[str, Any]) -> list[Any]:
    names = [name or "(its owner's node is away)" for name in one["names"]]
    head = styled(
        "[bold]{before} → {after}[/]  {old} → {new}",
        before=one["before"],
        after=one["after"],
        old=names[0],
        new=names[1],
    )
    parts: list[Any] = [head]
    shown = table("What", "Before", "After")
    schema = one["schema"] or {"fields_removed": (), "fields_added": (), "changes": ()}
    offered = {change["path"] for change in one["offer"]}
    rows = [
        *_changes(one["offer"]),
        *((f"column {name}", "there", "removed") for name in schema["fields_removed"]),
        *((f"column {name}", "", "added") for name in schema["fields_added"]),
        *_changes([change for change in schema["changes"] if change["path"] not in offered]),
    ]
    for row in rows[:_MOST_ROWS]:
        shown.add_row(*row)
    if len(rows) > _MOST_ROWS:
        shown.add_row(f"and {len(rows) - _MOST_ROWS} more", "", "--json has all")
    if shown.row_count:
        parts.append(shown)
    if one["why"]:
        parts.append(Text(one["why"]))
    elif not shown.row_count:
        unseen = bool(schema["changes"])
        parts.append(Text(_UNSEEN if unseen else "The public descriptions and terms are the same."))
    if one["contents"] is not None:
        parts += _tables(one["contents"])
    return [*parts, Text("")]


def _changes(changes: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    for change in changes:
        path = change["path"]
        if (what := _what(path)) is None:
            continue
        old, new = _said(path, change["before"]), _said(path, change["after"])
        if old != new:
            yield what, old, new
        elif isinstance(change["before"], str):  # cut before they differ
            yield what, old, "differs further on; --json has all"


def _what(path: str) -> str | None:
    """Name a member of a schema for people; none for what follows from others, which --json has."""
    if path.startswith("fields."):
        return "column " + path.removeprefix("fields.")
    return _QUALITY.get(path) if path.startswith("quality.") else _OFFERED.get(path, path)


def _said(path: str, value: Any) -> str:
    if value is None:
        return "not told"
    if path == "quality.class_balance.classes":
        return _short(", ".join(f"{one['name'] or '(rare)'} {one['share']:.1%}" for one in value))
    if isinstance(value, float):
        return f"{value:.2%}" if path in _SHARES else f"{value:g}"
    return _short(value)


def _tables(found: dict[str, Any]) -> list[Any]:
    counts = ("added", "removed", "changed")
    said = ", ".join(f"{found[f'rows_{what}']:,} {what}" for what in counts)
    parts: list[Any] = [Text(f"Rows: {found['rows_before']:,} → {found['rows_after']:,}; {said}.")]
    if found["cells_changed"]:
        shown = table("Column", ">Cells changed")
        for name, cells in found["cells_changed"].items():
            shown.add_row(name, f"{cells:,}")
        parts.append(shown)
    parts += [
        _rows_table(f"Rows {what}", found[f"rows_{what}"], found[what])
        for what in ("added", "removed")
        if found[what]
    ]
    if found["changed"]:
        title = _title("Rows changed", found["rows_changed"], len(found["changed"]))
        shown = table("Key", "Column", "Before", "After", title=title)
        for row in found["changed"]:
            key = ", ".join(_short(value) for value in row["key"])
            for name, (old, new) in row["cells"].items():
                shown.add_row(key, name, _short(old), _short(new))
        parts.append(shown)
    return parts


def _rows_table(name: str, count: int, rows: list[dict[str, Any]]) -> object:
    columns = list(rows[0])
    shown = table(title=_title(name, count, len(rows)))
    for column in columns[:_MOST_COLUMNS]:
        shown.add_column(printable(_short(column)))
    for row in rows:
        shown.add_row(*(_short(row[column]) for column in columns[:_MOST_COLUMNS]))
    if len(columns) > _MOST_COLUMNS:
        shown.caption = f"{len(columns) - _MOST_COLUMNS} more columns; --json has all"
    return shown


def _title(name: str, count: int, shown: int) -> str:
    return f"{name}: {count:,}" + (f", the first {shown}" if shown < count else "")


def _short(value: object) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= _CUT else text[: _CUT - 1] + "…"


def _list(resource: int, home: Path, as_json: bool) -> None:
    async def work(client: Client) -> list[dict[str, Any]]:
        return [
            {
                "resource": version.id,
                "previous": version.resource.previous or None,
                "kind": "data" if version.resource.kind == Kind.DATA else "model",
                "name": version.metadata.name if version.metadata else None,
                "price": version.resource.price / TOKEN,
                "accuracy": accuracy(version),
                "registered_at": version.resource.registered_at,
                "withdrawn": version.resource.withdrawn,
                "owner": version.resource.owner,
            }
            for version in await client.versions(resource)
        ]

    found = with_client(home, as_json, work)

    def human() -> object:
        shown = table(
            ">Resource", "Name", "Kind", ">Price", ">Accuracy", "State", title="Versions, newest first"
        )
        for version in found:
            score = "" if version["accuracy"] is None else f"{version['accuracy']:.2%}"
            state = "withdrawn" if version["withdrawn"] else "on the market"
            shown.add_row(
                str(version["resource"]),
                version["name"] or "(its owner's node is away)",
                version["kind"],
                f"{version['price']:g}",
                score,
                state,
            )
        return shown

    emit(found, as_json, human)
