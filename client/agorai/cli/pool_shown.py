"""How pools and contributions are told, to people and to machines; amounts in tokens, moments since 1970."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer
from rich.text import Text

from agorai.cli.asking import ask
from agorai.cli.output import SafeTable, fail, table
from agorai.cli.trade import lasting
from agorai.devchain import TOKEN
from agorai.pool_refusals import NotConfirmedError
from agorai.pool_state import ContributionSeen, PoolSeen
from agorai_shared import cid as cids
from agorai_shared.bindings.voting_panel import Case, Phase
from agorai_shared.digest_files import cids_of
from agorai_shared.pool import CategoryColumn, Challenge, Column, NumberColumn

if TYPE_CHECKING:
    from agorai.pools import Pools

YES = typer.Option(False, "--yes", "-y", help="Do not ask first.")
_VERDICTS = {
    "confirmed": "voters found the challenge wrong",
    "rejected": "voters found the challenge right",
    "undecided": "voters came to no verdict",
}
"""Who is accused is the contributor."""
_AT_STAKE = "lost if the test set is not revealed"
_BONDS = {"closed": "given back", "forfeited": "forfeit: the test set was not revealed"}
_MOST_VALUES = 8
_MOST_ROWS = 20


def confirm(question: str, undone: str, *, yes: bool, as_json: bool) -> None:
    """Go on only after a yes; with --json nobody is asked, and it has to be given beforehand."""
    if yes:
        return
    if as_json:
        fail(NotConfirmedError(undone), as_json)
    ask(question)


def moment(at: int, now: int) -> str:
    """Write a moment, and how far off it is."""
    away = f"in {lasting(at - now)}" if at >= now else f"{lasting(now - at)} ago"
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC ({away})"


def tokens(amount: float) -> str:
    """Write an amount given in the token's smallest unit."""
    return f"{amount / TOKEN:g}"


def tokens_told(amount: float) -> str:
    """Write it with the word."""
    told = tokens(amount)
    return f"{told} token{'' if told == '1' else 's'}"


def samples_told(count: int) -> str:
    """Write how many."""
    return f"{count:,} sample{'' if count == 1 else 's'}"


def columns_table(columns: Iterable[Column], target: str) -> object:
    """Show what a pool's columns take."""
    shown = table("Column", "Kind", "Takes", whole=("Column",))
    for column in columns:
        kind = f"{column.kind}, to be foretold" if column.name == target else column.kind
        shown.add_row(column.name, kind, _takes(column))
    return shown


def _takes(column: Column) -> str:
    match column:
        case NumberColumn():
            return f"{column.low:g} to {column.high:g}{', whole' if column.whole else ''}"
        case CategoryColumn(values=values):
            more = f" and {len(values) - _MOST_VALUES} more" if len(values) > _MOST_VALUES else ""
            return ", ".join(values[:_MOST_VALUES]) + more
    return f"at most {column.longest} characters"


# ---------------------------------------------------------------------------------------------------- pools


def pool_json(seen: PoolSeen) -> dict[str, Any]:
    """Give a pool for machines."""
    pool, document = seen.pool, seen.document
    return {
        "pool": seen.id,
        "name": document and document.name,
        "description": document and document.description,
        "target": document and document.target,
        "columns": document and [one.model_dump(mode="json") for one in document.columns],
        "rule": document and document.rule.model_dump(mode="json"),
        "document": cids.of_digest(seen.opened.terms.document),
        "owner": pool.owner,
        "state": seen.state,
        "deposit": pool.deposit / TOKEN,
        "reward": pool.reward / TOKEN,
        "bond": seen.opened.terms.bond / TOKEN,
        "budget": pool.budget / TOKEN,
        "bonus": pool.bonus / TOKEN,
        "pays_for": seen.pays_for,
        "check_window": pool.check_window,
        "answer_window": pool.answer_window,
        "reveal_window": pool.reveal_window,
        "closes_at": pool.closes_at,
        "reveal_until": seen.reveal_until,
        "panel_size": pool.panel_size,
        "open": pool.open,
        "accepted": pool.accepted,
        "test_set": seen.closed and list(cids_of(seen.closed.test_set)),
        "awaited": seen.awaited,
        "now": seen.now,
    }


def pool_name(found: dict[str, Any]) -> str:
    """Give a pool's name as people are told it."""
    return found["name"] or "(its owner's node is away)"


def pool_table(found: dict[str, Any], account: str) -> object:
    """Show a pool."""
    shown = table("Pool", f"{found['pool']}: {pool_name(found)}", whole=("Pool",))
    if found["description"]:
        shown.add_row("", found["description"])
    shown.add_row("owner", found["owner"] + (" (you)" if found["owner"] == account else ""))
    if found["rule"]:
        rule = found["rule"]
        shown.add_row(
            "trained by", f"{rule['estimator']}, {rule['mode']}, every {samples_told(rule['every'])}"
        )
    shown.add_row("deposit", f"{found['deposit']:g} for each sample, of who adds and of who challenges")
    shown.add_row("reward", f"{found['reward']:g} for each sample that stays")
    shown.add_row("bond", f"{found['bond']:g}, {_BONDS.get(found['state'], _AT_STAKE)}")
    pays = f"; it pays for {samples_told(found['pays_for'])} more" if found["state"] == "open" else ""
    shown.add_row("budget", f"{found['budget']:g} left{pays}")
    windows = ((found[f"{name}_window"], name) for name in ("check", "answer", "reveal"))
    shown.add_row("windows", ", ".join(f"{lasting(seconds)} to {name}" for seconds, name in windows))
    shown.add_row("panel", f"{found['panel_size']} voters, {found['bonus']:g} for all of them")
    shown.add_section()
    shown.add_row("state", found["state"])
    over = found["now"] >= found["closes_at"]
    shown.add_row("closed" if over else "closes", moment(found["closes_at"], found["now"]))
    if found["state"] == "closing":
        shown.add_row("revealed until", moment(found["reveal_until"], found["now"]))
    shown.add_row("samples", f"{found['accepted']:,} accepted; contributions still open: {found['open']:,}")
    if found["test_set"]:
        shown.add_row("test set", " or ".join(found["test_set"]))
    if found["awaited"]:
        shown.add_row("awaited", found["awaited"])
    return shown


# -------------------------------------------------------------------------------------------- contributions


def contribution_json(seen: ContributionSeen) -> dict[str, Any]:
    """Give a contribution for machines."""
    added, latest = seen.added, seen.challenges[-1] if seen.challenges else None
    going_on = latest is not None and len(seen.outcomes) < len(seen.challenges)
    return {
        "contribution": seen.id,
        "pool": added.pool,
        "contributor": added.contributor,
        "state": seen.state.name.lower(),
        "count": added.count,
        "left": seen.left,
        "corrects": added.corrects or None,
        "digest": added.digest.hex(),
        "inline": bool(added.samples),
        "deadline": seen.deadline,
        "left_s": seen.left_s,
        "awaited": seen.awaited,
        "upheld": seen.upheld,
        "case": seen.panel_case,
        "challenger": latest.challenger if latest and going_on else None,
        "challenged": latest.count if latest and going_on else None,
        "outcomes": [one.name.lower() for one in seen.outcomes],
    }


def case_json(case: Case | None, now: int) -> dict[str, Any] | None:
    """Give how far voters are with a contested contribution, for machines."""
    if case is None:
        return None
    timed = case.phase != Phase.CLOSED
    return {
        "phase": case.phase.name.lower(),
        "deadline": case.deadline if timed else None,
        "left_s": case.deadline - now if timed else None,
        "verdict": case.verdict.name.lower(),
    }


def contributions_table(found: list[dict[str, Any]], most: int) -> object:
    """Show the newest of a pool's contributions."""
    title = f"Contributions: {len(found):,}" + (f", the newest {most}" if len(found) > most else "")
    shown = table(
        ">Id", ">Samples", ">Left", "State", ">Time left", "Awaited", "Challenges", "From", title=title
    )
    for one in reversed(found[-most:]):
        left = "" if one["left_s"] is None else lasting(one["left_s"]) if one["left_s"] >= 0 else "over"
        shown.add_row(
            str(one["contribution"]), str(one["count"]), str(one["left"]), one["state"], left,
            one["awaited"] or "", ", ".join(one["outcomes"]), one["contributor"],
        )  # fmt: skip
    return shown


def contribution_table(found: dict[str, Any], account: str) -> SafeTable:
    """Show a contribution."""
    title = f"{found['contribution']} of pool {found['pool']}"
    shown = table("Contribution", title, whole=("Contribution",))
    shown.columns[1].overflow = "fold"
    you = " (you)" if found["contributor"] == account else ""
    shown.add_row("contributor", found["contributor"] + you)
    shown.add_row("samples", f"{found['count']:,}, of which {found['left']:,} left")
    if found["corrects"]:
        shown.add_row("corrects", f"contribution {found['corrects']}")
    where = "on the chain" if found["inline"] else "in a file"
    shown.add_row("data", f"{where}, SHA-256 {found['digest']}")
    shown.add_section()
    shown.add_row("state", found["state"])
    if found["credited"] is not None:
        credited = tokens_told(found["credited"] * TOKEN)
        shown.add_row(
            "credited", f"{credited} to its contributor; `agorai account withdraw` takes what is credited"
        )
    if found["left_s"] is not None:
        shown.add_row("time left", lasting(found["left_s"]) if found["left_s"] >= 0 else "over")
    if found["awaited"]:
        shown.add_row("awaited", found["awaited"])
    if found["challenger"]:
        shown.add_row("challenged", f"{samples_told(found['challenged'])}, by {found['challenger']}")
    if found["upheld"] is not None:
        shown.add_row("answer", "the challenge is right" if found["upheld"] else "the challenge is wrong")
    if found["case"]:
        shown.add_row("panel", f"case {found['case']}: {_voting(found['panel'])}")
    if found["outcomes"]:
        shown.add_row("challenges", ", ".join(found["outcomes"]))
    for what, told in _called_wrong(found["wrong"]):
        shown.add_row(what, told)
    return shown


def _voting(panel: dict[str, Any]) -> str:
    if panel["deadline"] is None:
        return _VERDICTS[panel["verdict"]]
    return f"{panel['phase']} until {moment(panel['deadline'], panel['deadline'] - panel['left_s'])}"


def _called_wrong(wrong: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    if not wrong:
        return
    reasons = Counter(one["reason"] for one in wrong)
    yield "called wrong", ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    for one in wrong[:_MOST_ROWS]:
        yield f"  row {one['row']}", f"{one['reason']}: {one['note'] or _evidence(one)}"
    if len(wrong) > _MOST_ROWS:
        yield "", f"and {len(wrong) - _MOST_ROWS} more; --json has all"


async def lacking_json(pools: Pools, pool: int | None) -> list[dict[str, Any]]:
    """Give what the account has too little to challenge contributions as its node was told to, for machines."""
    lacking = await pools.lacking(pool)
    credit = sum((await pools.credits()).values()) if lacking else 0
    return [
        {"contribution": contribution, "lacking": amount / TOKEN, "credit": credit / TOKEN}
        for contribution, amount in lacking.items()
    ]


def lacking_told(found: list[dict[str, Any]]) -> list[Text]:
    """Say it."""
    return [
        Text(
            f"Your node lacks {tokens_told(one['lacking'] * TOKEN)} to challenge contribution {one['contribution']}"
            + (f"; {one['credit']:g} can be withdrawn: `agorai account withdraw`." if one["credit"] else "."),
            "bold yellow",
        )
        for one in found
    ]


def place(contribution: int, row: int) -> str:
    """Say where a sample is."""
    where = f"contribution {contribution}" if contribution else "the initial samples"
    return f"row {row} of {where}"


def _evidence(one: dict[str, Any]) -> str:
    if one["origin"]:
        origin = one["origin"]
        return f"repeats {place(origin['contribution'], origin['row'])}"
    return f"should be {one['label']}" if one["label"] else ""


def wrong_json(challenge: Challenge | None) -> list[dict[str, Any]]:
    """Give what a challenge calls wrong, for machines."""
    return [one.model_dump(mode="json") for one in challenge.wrong] if challenge else []
