"""Verbs of `agorai pool` about samples: add them, check them, challenge them, and what follows."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer
from pydantic import ValidationError
from rich.console import Group
from rich.text import Text

from agorai import pool_spec
from agorai.cli.output import HOME, JSON, emit, err, local, printable, progress, styled, table, with_client
from agorai.cli.pool import POOL, app
from agorai.cli.pool_shown import (
    YES,
    case_json,
    confirm,
    contribution_json,
    contribution_table,
    lacking_json,
    lacking_told,
    moment,
    place,
    samples_told,
    tokens,
    tokens_told,
    wrong_json,
)
from agorai.client import Client
from agorai.devchain import TOKEN
from agorai.exchange import refusal
from agorai.pool_refusals import ChallengeUnfitError, PoolDocumentError
from agorai.pool_state import ContributionSeen
from agorai.pools import Addition, Pools, Prepared, Proposed
from agorai_shared.bindings.data_pool import Challenged, Contested, State
from agorai_shared.pool import MAX_SAMPLES, Challenge
from agorai_shared.pool_trainer import Found
from agorai_shared.types import Wei
from agorai_shared.verifier import WatchedPool

CONTRIBUTION = typer.Argument(help="The contribution's id.", min=1)
_MOST_SHOWN = 20


class Answer(StrEnum):
    """What an owner says of a challenge."""

    uphold = "uphold"
    reject = "reject"


@app.command("add")
def add(
    pool: int = POOL,
    file: Path = typer.Argument(help="A CSV of the pool's columns.", exists=True, dir_okay=False),
    inline: bool | None = typer.Option(
        None,
        "--inline/--file",
        help="On the chain itself, or served by your node; by default if it is short.",
    ),
    again: bool = typer.Option(False, "--again", help="Also if you have added the very same file before."),
    yes: bool = YES,
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Add samples to a pool and lay down a deposit for each; with the reward it comes back once they stay."""
    data = local(lambda: pool_spec.read_samples(file), as_json)

    async def look(client: Client) -> Prepared:
        with progress(as_json) as tell:
            return await Pools(client).look_over(pool, data, again=again, on_stage=tell)

    prepared = with_client(home, as_json, look)
    if prepared.unread and not as_json:
        err.print(f"Served by nobody now, and not compared with: {prepared.unread} of the contributions.")
    undone = f"Adding {samples_told(prepared.count)} lays down {tokens_told(prepared.deposit)}"
    question = (
        f"Add {samples_told(prepared.count)} to pool {pool} for all to see, and lay down "
        f"{tokens_told(prepared.deposit)}, which come back with {tokens(prepared.reward)} more if all stay?"
    )
    if prepared.repeats:
        if not as_json:
            err.print(_repeats(prepared))
        undone = f"Of {samples_told(prepared.count)} the pool has {len(prepared.repeats)}"
        question = (
            f"{undone}, and whoever says so wins half of their deposits, the pool the rest. Lay down "
            f"{tokens_told(prepared.deposit)} all the same?"
        )
    confirm(question, undone, yes=yes, as_json=as_json)

    async def work(client: Client) -> tuple[Addition, int]:
        pools = Pools(client)
        with progress(as_json) as tell:
            added = await pools.add(pool, data, inline=inline, on_stage=tell)
        return added, await pools.now()

    added, now = with_client(home, as_json, work, look=f"agorai pool show {pool}")
    found = {
        "contribution": added.contribution,
        "pool": pool,
        "count": added.count,
        "deposit": added.deposit / TOKEN,
        "reward": prepared.reward / TOKEN,
        "deadline": added.deadline,
        "inline": added.inline,
        "repeats": [row for row, _ in prepared.repeats],
        "not_compared": prepared.unread,
        "transaction": added.transaction,
    }
    emit(
        found,
        as_json,
        lambda: styled(
            "[bold green]✓[/] Contribution [bold]{contribution}[/] of pool {pool}: {samples}, {deposit} laid down. "
            "They can be challenged until {until}; of those that stay, deposit and reward are credited then.",
            contribution=added.contribution, pool=pool, samples=samples_told(added.count),
            deposit=tokens_told(added.deposit), until=moment(added.deadline, now),
        ),
    )  # fmt: skip


def _repeats(prepared: Prepared) -> object:
    shown = table(">Row", "Repeats", title="Samples that are known")
    for row, origin in prepared.repeats[:_MOST_SHOWN]:
        where = place(origin.contribution, origin.row) if origin else "an earlier row of the same file"
        shown.add_row(str(row), where)
    if len(prepared.repeats) > _MOST_SHOWN:
        shown.add_row("", f"and {len(prepared.repeats) - _MOST_SHOWN} more")
    return shown


@app.command("contribution")
def contribution_of(contribution: int = CONTRIBUTION, home: Path = HOME, as_json: bool = JSON) -> None:
    """Show a contribution: what is left of it, its latest challenge, who must act until when."""

    async def work(client: Client) -> tuple[dict[str, Any], str]:
        pools = Pools(client)
        seen = await pools.contribution(contribution)
        latest = await pools.challenge_document(seen.challenges[-1]) if seen.challenges else None
        (pool,) = await pools.read(pools.contract.pool_of(seen.added.pool))
        credited = seen.left * (pool.deposit + pool.reward) / TOKEN if seen.state == State.SETTLED else None
        panel = case_json(await pools.case(seen), seen.now)
        lacking = await lacking_json(pools, seen.added.pool)
        found = {
            **contribution_json(seen), "panel": panel, "credited": credited, "wrong": wrong_json(latest),
            "lacking": [one for one in lacking if one["contribution"] == contribution],
        }  # fmt: skip
        return found, client.address

    found, account = with_client(home, as_json, work)

    def human() -> object:
        return Group(contribution_table(found, account), *lacking_told(found["lacking"]))

    emit(found, as_json, human)


# -------------------------------------------------------------------------------------------- challenges


@app.command("check")
def check(contribution: int = CONTRIBUTION, home: Path = HOME, as_json: bool = JSON) -> None:
    """Look for wrong samples of a contribution, in a sandbox of your node; costs nothing."""

    async def work(client: Client) -> dict[str, Any]:
        with progress(as_json) as tell:
            found = await Pools(client).check(contribution, on_stage=tell)
        return {"contribution": contribution, **found.model_dump(mode="json", exclude={"proposal"})}

    found = with_client(home, as_json, work)

    def human() -> object:
        title = f"Suspected: {found['suspected']} of {samples_told(found['samples'])}, the surest first"
        parts: list[Any] = [Text(f"Of {samples_told(found['samples'])} none is suspected.")]
        if found["suspicions"]:
            parts = [_suspicions([Found(**one) for one in found["suspicions"]], title)]
        if found["not_applied"]:
            parts.append(Text(_not_applied(found["not_applied"])))
        return Group(*parts)

    emit(found, as_json, human)


def _not_applied(found: list[dict[str, str]]) -> str:
    """Say for which reasons nothing could be suspected, those together that miss the same."""
    by_why: dict[str, list[str]] = {}
    for one in found:
        by_why.setdefault(one["why"], []).append(one["reason"])
    told = "; ".join(f"{', '.join(reasons)} ({why})" for why, reasons in by_why.items())
    return printable(f"Not applied, or not to all, since too little is known: {told}.")


def _suspicions(found: list[Found], title: str) -> object:
    shown = table(">Row", ">Confidence", "Reason", "Why", "Give instead", title=title, whole=("Reason",))
    shown.columns[-1].overflow = "fold"
    by_row: dict[int, list[Found]] = {}
    for one in sorted(found, key=lambda one: -one.confidence):
        by_row.setdefault(one.row, []).append(one)
    for surest, *weaker in list(by_row.values())[:_MOST_SHOWN]:
        more = f" (And {len(weaker)} weaker reason{'' if len(weaker) == 1 else 's'}.)" if weaker else ""
        shown.add_row(
            str(surest.row),
            f"{surest.confidence:.0%}",
            surest.reason,
            surest.explanation + more,
            surest.correction or "(leave out)",
        )
    if len(by_row) > _MOST_SHOWN:
        shown.add_row("", "", "", f"and {len(by_row) - _MOST_SHOWN} more; --json has them")
    return shown


@app.command("challenge")
def challenge(
    contribution: int = CONTRIBUTION,
    rows: str | None = typer.Option(None, metavar="ROW,...", help="Name these suspected samples, as 3,7."),
    all_found: bool = typer.Option(False, "--all-found", help="Name all that are suspected."),
    file: Path | None = typer.Option(
        None, exists=True, dir_okay=False, help="A challenge of your own, JSON: whatever the check says."
    ),
    yes: bool = YES,
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Call samples wrong and lay down a stake for each; by default those for which it pays on average."""
    if sum((rows is not None, all_found, file is not None)) > 1:
        raise typer.BadParameter("Give one of --rows, --all-found and --file.")
    chosen = _rows(rows)

    async def prepare(client: Client) -> Proposed:
        own = None if file is None else _own(file)
        pools = Pools(client)
        await _challengeable(pools, contribution, [one.row for one in own.wrong] if own else chosen)
        with progress(as_json) as tell:
            return await pools.propose(
                contribution, rows=chosen, everything=all_found, own=own, on_stage=tell
            )

    proposed = with_client(home, as_json, prepare)
    if not as_json and not yes:
        err.print(_proposal(proposed))
    question = f"Lay down {tokens_told(proposed.cost)}?"
    undone = f"To challenge {samples_told(proposed.count)} costs {tokens_told(proposed.cost)}"
    confirm(question, undone, yes=yes, as_json=as_json)

    async def work(client: Client) -> tuple[Challenged, ContributionSeen]:
        pools = Pools(client)
        with progress(as_json) as tell:
            event = await pools.challenge(proposed, on_stage=tell)
        return event, await pools.contribution(contribution)

    event, seen = with_client(home, as_json, work, look=f"agorai pool contribution {contribution}")
    found = {
        "contribution": contribution,
        "count": proposed.count,
        "corrected": proposed.corrected,
        "cost": proposed.cost / TOKEN,
        "prize": proposed.prize / TOKEN,
        "reward": proposed.reward / TOKEN,
        "deadline": event.deadline,
        "awaited": seen.awaited,
        "note": proposed.note or None,
    }
    emit(
        found,
        as_json,
        lambda: styled(
            "[bold green]✓[/] Challenged {samples} of contribution [bold]{contribution}[/] of pool {pool}. Until "
            "{until} {awaited}.",
            samples=samples_told(proposed.count), contribution=contribution, pool=seen.added.pool,
            until=moment(event.deadline, seen.now),
            awaited=seen.awaited or "nobody acts",
        ),
    )  # fmt: skip


async def _challengeable(pools: Pools, contribution: int, rows: Sequence[int]) -> None:
    """Refuse what cannot be challenged before the sandbox is waited for; a wrong row is told first."""
    seen = await pools.contribution(contribution)
    beyond = [row for row in rows if row >= seen.added.count]
    if beyond:
        raise ChallengeUnfitError(contribution, f"it has no row {beyond[0]}")
    if seen.state != State.OPEN:
        raise refusal("DataPool_WrongState", {"contribution": contribution, "state": seen.state})


def _rows(given: str | None) -> tuple[int, ...]:
    if given is None:
        return ()
    parts = [part.strip() for part in given.split(",")]
    if not all(part.isdecimal() and len(part) < 8 and int(part) < MAX_SAMPLES for part in parts):
        raise typer.BadParameter(f"--rows {given}: write rows with commas, as 3,7; the first is 0.")
    return tuple(int(part) for part in parts)


def _own(file: Path) -> Challenge:
    try:
        return Challenge.model_validate_json(pool_spec.read(file), strict=True)
    except ValidationError as error:
        raise PoolDocumentError(str(file), error) from error


def _proposal(proposed: Proposed) -> object:
    corrected = f", and {proposed.corrected} given in their place" if proposed.corrected else ""
    lines = [
        f"Called wrong: {samples_told(proposed.count)} of contribution {proposed.contribution}{corrected}.",
        f"It costs {tokens_told(proposed.cost)}. If all are wrong they come back with {tokens(proposed.prize)} "
        "more; if one is not, they are lost.",
    ]
    if proposed.corrected:
        lines.append(
            f"If the corrected samples stay you get {tokens(proposed.reward)} for them; until then their deposits "
            "are kept back of what you win."
        )
    if proposed.note:
        lines.append(f"Mind: {proposed.note}.")
    parts: list[Any] = [Text(printable(line)) for line in lines]
    if proposed.suspicions:
        parts.insert(0, _suspicions(list(proposed.suspicions), "What was found"))
    return Group(*parts)


@app.command("answer")
def answer(
    contribution: int = CONTRIBUTION,
    verdict: Answer = typer.Argument(help="Whether the challenge is right."),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Say, as the pool's owner, whether a challenge is right; your node does by itself if you do not."""

    async def work(client: Client) -> dict[str, Any]:
        pools = Pools(client)
        with progress(as_json) as tell:
            tell("answering")
            await pools.answer(contribution, upheld=verdict is Answer.uphold)
        return contribution_json(await pools.contribution(contribution))

    found = with_client(home, as_json, work, look=f"agorai pool contribution {contribution}")
    emit(
        found,
        as_json,
        lambda: styled(
            "[bold green]✓[/] The challenge of contribution [bold]{contribution}[/] is {what}, unless that is "
            "contested.",
            contribution=contribution, what="upheld" if verdict is Answer.uphold else "rejected",
        ),
    )  # fmt: skip


@app.command("contest")
def contest(
    contribution: int = CONTRIBUTION, yes: bool = YES, home: Path = HOME, as_json: bool = JSON
) -> None:
    """Have voters decide about a challenge: if you lose by the owner's answer, or it did not answer in time."""

    async def look(client: Client) -> Wei:
        pools = Pools(client)
        await _contestable(pools, contribution)
        cost = await pools.contest_cost(contribution)
        await pools.require(cost)
        return cost

    cost = with_client(home, as_json, look)
    if cost:
        question = f"Lay down {tokens_told(cost)} for the voters, which come back if the answer is wrong?"
        undone = f"Contesting lays down {tokens_told(cost)}"
        confirm(question, undone, yes=yes, as_json=as_json)

    async def work(client: Client) -> Contested:
        with progress(as_json) as tell:
            return await Pools(client).contest(contribution, on_stage=tell)

    event = with_client(home, as_json, work, look=f"agorai pool contribution {contribution}")
    emit(
        {"contribution": contribution, "case": event.panel_case, "cost": cost / TOKEN},
        as_json,
        lambda: styled(
            "[bold green]✓[/] Case {case} is about contribution [bold]{contribution}[/]; voters decide.",
            case=event.panel_case, contribution=contribution,
        ),
    )  # fmt: skip


async def _contestable(pools: Pools, contribution: int) -> None:
    """Refuse what cannot be contested before anybody is asked for money."""
    seen = await pools.contribution(contribution)
    if seen.state not in (State.CHALLENGED, State.ANSWERED):
        raise refusal("DataPool_WrongState", {"contribution": contribution, "state": seen.state})
    if seen.state == State.ANSWERED:
        loser = seen.added.contributor if seen.upheld else seen.challenges[-1].challenger
        if pools.client.address != loser:
            values = {"contribution": contribution, "caller": pools.client.address}
            raise refusal("DataPool_NotLoser", values)


# ---------------------------------------------------------------------------------------------- watching


@app.command("watch")
def watch(
    pool: int | None = typer.Argument(None, help="The pool's id; without it, show what is watched.", min=1),
    stake: bool = typer.Option(
        False, "--stake/--no-stake", help="Challenge by itself where that pays on average, or only tell you."
    ),
    off: bool = typer.Option(False, "--off", help="Watch it no more."),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Have your node check what is added to a pool, or show which it watches."""
    if pool is None and (stake or off):
        raise typer.BadParameter("--stake and --off go with a POOL.")

    async def work(client: Client) -> tuple[tuple[WatchedPool, ...], str]:
        pools = Pools(client)
        if pool is None:
            return await pools.watched(), ""
        watched = await pools.watch(pool, stake=stake, off=off)
        return watched, await _spending(pools, pool) if stake and not off else ""

    watched, spending = with_client(home, as_json, work)
    found = [one.model_dump(mode="json") for one in watched]

    def human() -> object:
        if not found:
            return "No pool is watched; begin with `agorai pool watch POOL`."
        shown = table(">Pool", "What is suspected")
        for one in found:
            shown.add_row(str(one["pool"]), "is challenged" if one["stake"] else "is told you")
        return Group(shown, *filter(None, [spending]))

    emit(found, as_json, human)


async def _spending(pools: Pools, pool: int) -> str:
    """Say what a node that is to stake in a pool may lay down."""
    (terms,) = await pools.read(pools.contract.pool_of(pool))
    has = (await pools.client.balances()).tokens
    return (
        f"For each sample that your node challenges in pool {pool} it lays down {tokens_told(terms.deposit)}, twice "
        f"that after a challenge that failed, and {tokens_told(terms.bonus)} where it contests. The account has "
        f"{tokens(has)}: send away what is not to be staked."
    )


@app.command("findings")
def findings(
    pool: int | None = typer.Argument(None, help="Of one pool only.", min=1),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Show what your node found in the pools it watches and did not stake on."""

    async def work(client: Client) -> tuple[list[dict[str, Any]], int, list[dict[str, Any]]]:
        pools = Pools(client)
        found = [one.model_dump(mode="json") for one in await pools.findings(pool)]
        return found, await pools.now(), await lacking_json(pools, pool)

    found, now, lacking = with_client(home, as_json, work)

    def human() -> object:
        if not found:
            return "Nothing was found; have a pool watched with `agorai pool watch POOL`."
        shown = table(">Contribution", ">Pool", ">Samples", ">Suspected", "Surest", "Challenge by")
        for one in found:
            surest = one["suspicions"][0] if one["suspicions"] else None
            told = f"row {surest['row']}, {surest['reason']}, {surest['confidence']:.0%}" if surest else ""
            shown.add_row(
                str(one["contribution"]), str(one["pool"]), str(one["samples"]), str(one["suspected"]), told,
                moment(one["deadline"], now),
            )  # fmt: skip
        return Group(shown, *lacking_told(lacking))

    emit(found, as_json, human)
