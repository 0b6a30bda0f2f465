"""How offers to training tasks are told, to people and to machines; amounts in tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rich.text import Text

from agorai.cli.output import SafeTable, table
from agorai.cli.pool_shown import tokens_told
from agorai.devchain import TOKEN
from agorai.task_matching import Kind, Match, OnOffer
from agorai.task_offering import Offering
from agorai_shared.federated import Specification

_MOST_ROWS: Final = 20
_KINDS: Final[Mapping[Kind, str]] = {"data": "data sets", "computing": "computers", "adding": "adders"}


def specification_json(specification: Specification) -> dict[str, Any]:
    """Give what a member offers, for machines."""
    computing = specification.computing
    return {
        "data": [{"resource": one.resource, "fee": int(one.fee) / TOKEN} for one in specification.data],
        "computing": computing
        and {
            "wage": int(computing.wage) / TOKEN,
            "subtasks": computing.subtasks,
            "cores": computing.cores,
            "memory_mib": computing.memory_mib,
            "gpu": computing.gpu or None,
        },
        "adding": None if specification.adding is None else int(specification.adding) / TOKEN,
    }


def offering_json(one: Offering) -> dict[str, Any]:
    """Give a member's offer, for machines."""
    return {"account": one.account, **specification_json(one.specification)}


def offers_table(found: list[dict[str, Any]], account: str) -> object:
    """Show what members offer, each thing in a row of its own."""
    shown = table("Member", "Offers, for each round", whole=("Member",))
    for one in found:
        names = [one["account"], "(you)" if one["account"] == account else ""]
        things = [f"data set {each['resource']} for {each['fee']:g}" for each in one["data"]]
        if lent := one["computing"]:
            size = f"{lent['cores']} cores, {lent['memory_mib']:,} MiB"
            things.append(f"computing for {lent['wage']:g}, {_subtasks(lent['subtasks'])} ({size})")
        if one["adding"] is not None:
            things.append(f"adding for {one['adding']:g}")
        for place, thing in enumerate(things):
            shown.add_row(names[place] if place < len(names) else "", thing)
        if len(things) == 1 and names[1]:
            shown.add_row(names[1], "")
    return shown


def _subtasks(count: int) -> str:
    return f"{count} subtask{'' if count == 1 else 's'} at a time"


# ------------------------------------------------------------------------------- beside what a task wants


def on_offer_json(found: OnOffer) -> dict[str, Any]:
    """Give what is on offer for a task, for machines."""
    return {
        "matches": [
            {
                "kind": one.kind,
                "account": one.account,
                "resource": one.resource or None,
                "asks": one.asks / TOKEN,
                "subtasks": one.places if one.kind == "computing" else None,
                "suits": not one.why,
                "why": one.why or None,
            }
            for one in found.matches
        ],
        "fees": found.fees / TOKEN,
    }


def on_offer_table(found: OnOffer) -> SafeTable:
    """Show what is on offer for a task, what of it suits, and why other does not."""
    shown = table("On offer now", ">A round", "Suits")
    for name in ("On offer now", "Suits"):
        next(column for column in shown.columns if column.header == name).overflow = "fold"
    for one in found.matches[:_MOST_ROWS]:
        shown.add_row(_named(one), f"{one.asks / TOKEN:g}", f"no: {one.why}" if one.why else "yes")
    if len(found.matches) > _MOST_ROWS:
        shown.add_row(f"and {len(found.matches) - _MOST_ROWS} more", "", "`agorai task offers` has all")
    return shown


def _named(one: Match) -> str:
    match one.kind:
        case "data":
            return f"data set {one.resource}"
        case "computing":
            return f"computing, {_subtasks(one.places)}, by {one.account}"
    return f"adding, by {one.account}"


def counts_told(found: OnOffer, rounds: int) -> Text:
    """Say how many suit, and what those that are asked come to."""
    counts = []
    for kind, what in _KINDS.items():
        of = sum(one.kind == kind for one in found.matches)
        if of or kind != "adding":
            counts.append(f"{len(found.fitting(kind))} of {of} {what}")
    return Text(
        f"{', '.join(counts)} suit. Those that would be asked take {tokens_told(found.fees)} in {rounds} rounds."
    )
