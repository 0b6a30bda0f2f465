"""How transfers of data are told, to people and to machines; amounts in the chain's coin, moments since 1970."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from agorai.cli.output import styled, table
from agorai.cli.pool_shown import moment
from agorai.cli.trade import lasting
from agorai.devchain import TOKEN
from agorai.transfer_refusals import shown
from agorai.transfer_state import TransferSeen, awaited, standing, voters_found
from agorai_shared import cid as cids
from agorai_shared.digest_files import cids_of

_ROLES = ("consumer", "provider", "authority")
_MOST_ROWS = 20


def coin(amount: int) -> str:
    """Write an amount of the chain's own coin, given in its smallest unit."""
    return f"{amount / TOKEN:g} coin"


def transfer_json(seen: TransferSeen, account: str) -> dict[str, Any]:
    """Give a transfer for machines."""
    deal, provided, waiting = seen.deal, seen.provided, awaited(seen)
    parties = dict(zip(_ROLES, (deal.data_consumer, deal.data_provider, deal.authority), strict=True))
    return {
        "transfer": shown(seen.id),
        **parties,
        "role": next((role for role, party in parties.items() if party == account), None),
        "panel_size": deal.panel_size,
        "amount": deal.amount / TOKEN,
        "schema": cids.of_digest(deal.ipfs_schema_address),
        "public_key": cids.of_digest(deal.ipfs_consumer_pub_key_address),
        "sealed_key": provided and cids.of_digest(provided.ipfs_encrypted_aes_key_address),
        "data": provided and list(cids_of(provided.ipfs_data_address)),
        "duration": deal.duration,
        "slot": deal.slot,
        "state": standing(seen),
        "voters_found": voters_found(seen),
        "awaited": waiting and waiting.what,
        "until": waiting and waiting.until,
        "now": seen.now,
    }


def waits_for(found: dict[str, Any]) -> str:
    """Say whom a transfer waits for, and until when."""
    until = "" if found["until"] is None else f", until {moment(found['until'], found['now'])}"
    return f"{found['awaited'] or 'nobody'}{until}"


def transfer_table(found: dict[str, Any]) -> object:
    """Show a transfer."""
    made = table("Transfer", found["transfer"], whole=("Transfer",))
    made.columns[1].overflow = "fold"
    for role in _ROLES:
        panel = (
            f" (the panel, {found['panel_size']} voters)"
            if found["panel_size"] and role == "authority"
            else ""
        )
        made.add_row(role, found[role] + (" (you)" if role == found["role"] else panel))
    made.add_row("amount", f"{found['amount']:g} coin")
    made.add_row("schema", found["schema"])
    made.add_row("each wait", lasting(found["duration"]))
    made.add_section()
    made.add_row("state", found["state"])
    if found["voters_found"]:
        made.add_row("voters found", found["voters_found"])
    if found["data"]:
        made.add_row("data", " or ".join(found["data"]))
        made.add_row("sealed key", found["sealed_key"])
    if found["awaited"]:
        made.add_row("awaited", waits_for(found))
    return made


def transfers_told(found: list[dict[str, Any]]) -> object:
    """Show transfers, each with its id on a line of its own: a table of these would not fit a terminal."""
    if not found:
        return "You have part in no transfer."
    told = Text()
    for one in found:
        told.append_text(
            styled(
                "[bold]{transfer}[/]\n  you are the {role}; {amount} coin; {state}\n",
                transfer=one["transfer"], role=one["role"], amount=f"{one['amount']:g}", state=one["state"],
            )
        )  # fmt: skip
        if one["awaited"]:
            told.append(f"  {waits_for(one)}\n")
    told.rstrip()
    return told


def differences_table(found: dict[str, Any]) -> object:
    """Show where data are not as their schema says."""
    title = f"The data are in {found['file']}, and are not as their schema says"
    made = table("What", "The schema says", "The data have", title=title)
    for name in found["fields_removed"]:
        made.add_row(f"column {name}", "it is there", "none")
    for name in found["fields_added"]:
        made.add_row(f"column {name}", "none", "it is there")
    for one in found["changes"][:_MOST_ROWS]:
        made.add_row(one["path"].replace(".", " "), str(one["before"]), str(one["after"]))
    if len(found["changes"]) > _MOST_ROWS:
        made.add_row(f"and {len(found['changes']) - _MOST_ROWS} more", "", "--json has all")
    return made
