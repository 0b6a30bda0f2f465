"""`agorai pool`: pools of samples that anyone may add to and anyone may check, on which a model grows."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson
import typer
from pydantic import ValidationError
from rich.console import Group

from agorai import pool_schema, pool_spec
from agorai.cli import amounts
from agorai.cli.output import HOME, JSON, emit, err, local, progress, styled, table, with_client
from agorai.cli.pool_shown import (
    YES,
    columns_table,
    confirm,
    contribution_json,
    contributions_table,
    lacking_json,
    lacking_told,
    moment,
    pool_json,
    pool_name,
    pool_table,
    samples_told,
    tokens,
    tokens_told,
)
from agorai.cli.trade import lasting
from agorai.client import Client
from agorai.devchain import TOKEN
from agorai.home import Home
from agorai.pool_opening import require_openable
from agorai.pool_refusals import PoolDocumentError
from agorai.pool_spec import PoolSpec
from agorai.pool_state import PoolSeen
from agorai.pools import Pools, PoolTerms
from agorai_shared.bindings.data_pool import PoolState
from agorai_shared.pool import PoolDocument, read_initial
from agorai_shared.types import Wei

app = typer.Typer(
    help="Pools of samples that anyone may add to and check, on which a model grows.", no_args_is_help=True
)


def _pool(given: str) -> int:
    if not given.isdecimal() or int(given) < 1:
        raise typer.BadParameter(f"{given} is no pool's id; see which there are: `agorai pool list`.")
    return int(given)


POOL = typer.Argument(help="The pool's id.", parser=_pool, metavar="pool")
_COMMON = frozenset({"spec", "yes", "home", "as_json"})
_MOST_SHOWN = 50


class Mode(StrEnum):
    """How a pool's model is trained."""

    incremental = "incremental"
    anew = "anew"


class Scaler(StrEnum):
    """What scales numbers before they are learnt."""

    standard = "standard"
    minmax = "minmax"
    robust = "robust"
    maxabs = "maxabs"
    none = "none"


def has_text(document: PoolDocument) -> bool:
    """Say whether a pool has columns of text, whose features are too many to be scaled."""
    return any(column.kind == "text" for column in document.columns)


@app.command("open")
def open_pool(
    context: typer.Context,
    spec: Path | None = typer.Argument(
        None, exists=True, dir_okay=False, help="All of it in one JSON file, instead of options."
    ),
    name: str | None = typer.Option(None, help="* What it is called."),
    samples: Path | None = typer.Option(
        None, exists=True, dir_okay=False, help="* The samples it begins with, CSV; they become public."
    ),
    test: Path | None = typer.Option(
        None, exists=True, dir_okay=False, help="* The hidden test set, CSV: sealed until the pool is closed."
    ),
    target: str | None = typer.Option(None, help="* The column to be foretold."),
    schema: Path | None = typer.Option(
        None, exists=True, dir_okay=False, help="What columns take, as `agorai pool schema` writes it."
    ),
    estimator: str = typer.Option(pool_spec.ESTIMATOR, help="What is trained."),
    param: list[str] = typer.Option([], metavar="NAME=VALUE", help="One of its hyperparameters."),
    scaler: Scaler | None = typer.Option(
        None, help="Scales numbers before it; standard, unless there are columns of text."
    ),
    mode: Mode = typer.Option(Mode.incremental, help="Batch by batch, or on all samples together."),
    every: int = typer.Option(1, min=1, help="Accepted samples after which there is a new version."),
    seed: int = typer.Option(0, min=0, help="Of the training."),
    deposit: float | None = typer.Option(
        None, min=0, callback=amounts.tokens, help="* For each sample, in tokens."
    ),
    reward: float | None = typer.Option(
        None, min=0, callback=amounts.tokens, help="* For each sample that stays, in tokens."
    ),
    bond: float | None = typer.Option(
        None, min=0, callback=amounts.tokens, help="* Lost if the test set is not revealed, in tokens."
    ),
    budget: float | None = typer.Option(
        None, min=0, callback=amounts.tokens, help="* For rewards and voters, in tokens."
    ),
    check_window: str = typer.Option("1d", help="How long a contribution can be challenged."),
    answer_window: str = typer.Option("1d", help="How long you have to answer, and others to contest."),
    reveal_window: str = typer.Option("7d", help="How long you have to reveal the test set."),
    closes: str | None = typer.Option(None, help="* When nothing is added any more: a date (UTC), or 30d."),
    panel_size: int = typer.Option(3, min=3, max=15, help="How many voters judge what is contested; odd."),
    yes: bool = YES,
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Open a pool: its samples, test set and terms are checked, shown, and only then sent.

    Without SPEC the options marked * are required.
    """
    given = [one for one in context.params if one not in _COMMON and _typed(context, one)]
    if spec is not None and given:
        raise typer.BadParameter(
            f"Give a file, or options: not both SPEC and --{given[0].replace('_', '-')}."
        )
    needed = {"name": name, "samples": samples, "test": test, "target": target, "deposit": deposit,
              "reward": reward, "bond": bond, "budget": budget, "closes": closes}  # fmt: skip
    if spec is None and (missing := [one for one, value in needed.items() if value is None]):
        raise typer.BadParameter(f"A pool is opened with --{missing[0]}, or with a SPEC file.")
    rule = {"estimator": estimator, "hyperparameters": dict(map(_param, param)), "mode": mode.value,
            "every": every, "seed": seed}  # fmt: skip
    windows = {"check_window": check_window, "answer_window": answer_window, "reveal_window": reveal_window}
    options: dict[str, Any] = {**needed, **windows, "panel_size": panel_size, "rule": rule}

    def prepare() -> tuple[PoolSpec, PoolDocument, bytes, bytes]:
        from agorai_trainer.pooling.learning import try_out  # noqa: PLC0415 - what other verbs do without

        Home(home).running_node()
        if spec is None and schema is not None:
            options["columns"] = pool_spec.read_schema(schema).columns
        try:
            made = PoolSpec.model_validate(options) if spec is None else PoolSpec.load(spec)
        except ValidationError as error:
            raise PoolDocumentError("The options", error) from error
        initial = pool_spec.read_samples(made.samples)
        document = made.document(initial)
        if spec is None or "rule" not in made.model_fields_set:
            chosen = scaler or (Scaler.none if has_text(document) else Scaler.standard)
            step = None if chosen is Scaler.none else chosen.value
            rule_ = document.rule.model_copy(update={"scaler": step})
            document = document.model_copy(update={"rule": rule_})
        hidden = pool_spec.read_samples(made.test)
        require_openable(document, initial, hidden)
        try_out(document, read_initial(document, initial))
        return made, document, initial, hidden

    made, document, initial, hidden = local(prepare, as_json)

    async def look(client: Client) -> tuple[PoolTerms, int]:
        pools = Pools(client)
        now = await pools.now()
        await pools.require_terms(made.terms(now))
        return made.terms(now), now

    terms, now = with_client(home, as_json, look)
    if not as_json:
        err.print(columns_table(document.columns, document.target))
        err.print(_terms_told(terms, now))
    confirm(
        f"Open “{document.name}” with these columns, and lay down {tokens_told(terms.bond + terms.budget)}?",
        "The pool was not opened", yes=yes, as_json=as_json,
    )  # fmt: skip

    async def work(client: Client) -> PoolSeen:
        pools = Pools(client)
        with progress(as_json) as tell:
            pool = await pools.open(document, initial, hidden, made.terms(await pools.now()), on_stage=tell)
        return await pools.look(pool)

    found = pool_json(with_client(home, as_json, work, look="agorai pool list"))
    emit(
        found,
        as_json,
        lambda: styled(
            "[bold green]✓[/] Pool [bold]{pool}[/] (“{name}”) is open; its budget pays for {samples}. "
            "Your node checks, answers, publishes versions and reveals the test set.",
            **found, samples=samples_told(found["pays_for"]),
        ),
    )  # fmt: skip


def _terms_told(terms: PoolTerms, now: int) -> str:
    windows = {"check": terms.check_window, "answer": terms.answer_window, "reveal": terms.reveal_window}
    told = ", ".join(f"{lasting(seconds)} to {name}" for name, seconds in windows.items())
    return (
        f"For each sample a deposit of {tokens(terms.deposit)} and a reward of {tokens(terms.reward)}; bond "
        f"{tokens(terms.bond)}, budget {tokens(terms.budget)}. Windows: {told}. Panel: {terms.panel_size} voters. "
        f"It closes at {moment(terms.closes_at, now)}."
    )


def _typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _param(given: str) -> tuple[str, Any]:
    name, found, value = given.partition("=")
    if not found:
        raise typer.BadParameter(f"--param {given}: write it as NAME=VALUE.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


@app.command("schema")
def schema(
    samples: Path = typer.Argument(help="A CSV file.", exists=True, dir_okay=False),
    target: str = typer.Option(..., help="The column to be foretold."),
    as_json: bool = JSON,
) -> None:
    """Write what the columns of a file take, as JSON, to be edited and given to `open --schema`; needs no node."""

    def work() -> dict[str, Any]:
        found = pool_schema.derive(pool_spec.read_samples(samples), target)
        if not as_json:
            err.print(columns_table(found.columns, target))
        return found.model_dump(mode="json")

    found = local(work, as_json)
    written = orjson.dumps(found, option=0 if as_json else orjson.OPT_INDENT_2)
    sys.stdout.write(written.decode() + "\n")


@app.command("list")
def list_pools(home: Path = HOME, as_json: bool = JSON) -> None:
    """Show all pools, the newest first."""

    async def work(client: Client) -> list[dict[str, Any]]:
        return [pool_json(one) for one in await Pools(client).pools()]

    found = with_client(home, as_json, work)

    def human() -> object:
        if not found:
            return "There is no pool yet; open one with `agorai pool open`."
        shown = table(">Pool", "Name", ">Deposit", ">Reward", ">Budget", ">Open", ">Accepted", "State",
                      ">Closes in", "Owner")  # fmt: skip
        for one in found:
            left = one["closes_at"] - one["now"]
            closes = lasting(left) if one["state"] == "open" else ""
            shown.add_row(
                str(one["pool"]), pool_name(one), f"{one['deposit']:g}", f"{one['reward']:g}",
                f"{one['budget']:g}", str(one["open"]), str(one["accepted"]), one["state"], closes,
                one["owner"],
            )  # fmt: skip
        return shown

    emit(found, as_json, human)


@app.command("show")
def show(pool: int = POOL, home: Path = HOME, as_json: bool = JSON) -> None:
    """Show a pool: its terms and money, its contributions, who must act until when."""

    async def work(client: Client) -> tuple[dict[str, Any], str]:
        pools = Pools(client)
        seen = pool_json(await pools.look(pool))
        contributions = [contribution_json(one) for one in await pools.contributions(pool)]
        lacking = await lacking_json(pools, pool)
        return {**seen, "contributions": contributions, "lacking": lacking}, client.address

    found, account = with_client(home, as_json, work)

    def human() -> object:
        parts: list[Any] = [pool_table(found, account)]
        if found["contributions"]:
            parts.append(contributions_table(found["contributions"], _MOST_SHOWN))
        parts += lacking_told(found["lacking"])
        return Group(*parts)

    emit(found, as_json, human)


@app.command("fund")
def fund(
    pool: int = POOL,
    amount: float = amounts.AMOUNT,
    yes: bool = YES,
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Add to a pool's budget; what is left in the end goes to its owner."""

    async def look(client: Client) -> PoolSeen:
        pools = Pools(client)
        await pools.require(round(amount * TOKEN))
        return await pools.look(pool)

    seen = pool_json(with_client(home, as_json, look))
    told = tokens_told(amount * TOKEN)
    confirm(
        f"Give {told} to pool {pool} (“{pool_name(seen)}”), of which the owner, {seen['owner']}, gets what is left?",
        f"Funding pool {pool} lays down {told}", yes=yes, as_json=as_json,
    )  # fmt: skip
    found = _changed(pool, home, as_json, Wei(round(amount * TOKEN)))
    emit(
        found,
        as_json,
        lambda: styled(
            "[bold green]✓[/] Pool [bold]{pool}[/] has {left} left, for {samples}.",
            **found,
            left=tokens_told(found["budget"] * TOKEN),
            samples=samples_told(found["pays_for"]),
        ),
    )


@app.command("stop")
def stop(pool: int = POOL, home: Path = HOME, as_json: bool = JSON) -> None:
    """Take no more samples into a pool of yours; what is there goes on, and the test set is revealed."""
    found = _changed(pool, home, as_json, None)
    emit(
        found,
        as_json,
        lambda: styled(
            "[bold green]✓[/] Pool [bold]{pool}[/] takes no more samples. Your node reveals the test set.",
            **found,
        ),
    )


def _changed(pool: int, home: Path, as_json: bool, amount: Wei | None) -> dict[str, Any]:
    """Fund a pool, or with no amount stop it; gives it as it is then."""

    async def work(client: Client) -> dict[str, Any]:
        pools = Pools(client)
        with progress(as_json) as tell:
            tell(f"laying down {tokens_told(amount)}" if amount is not None else "stopping the pool")
            await (pools.stop(pool) if amount is None else pools.fund(pool, amount))
        return pool_json(await pools.look(pool))

    return with_client(home, as_json, work, look=f"agorai pool show {pool}")


@app.command("close")
def close(pool: int = POOL, home: Path = HOME, as_json: bool = JSON) -> None:
    """Stop a pool of yours, and wait until your node has revealed its test set; it goes on without the waiting."""

    async def work(client: Client) -> dict[str, Any]:
        pools = Pools(client)
        seen = await pools.look(pool)
        with progress(as_json) as tell:
            if seen.now < seen.pool.closes_at:
                tell("stopping the pool")
                await pools.stop(pool)
            async for seen in pools.follow(pool):
                if seen.pool.state == PoolState.OPEN:
                    by = moment(seen.reveal_until, seen.now)
                    tell(f"{seen.awaited}, by {by}; contributions still open: {seen.pool.open}")
        return pool_json(seen)

    found = with_client(home, as_json, work, look=f"agorai pool show {pool}")
    emit(
        found,
        as_json,
        lambda: styled(
            "Pool [bold]{pool}[/] is {state}.{rest} What is credited you take with "
            "[bold]agorai account withdraw[/].",
            **found,
            rest=f" The rest of the budget comes back once the contributions still open ({found['open']}) have ended."
            if found["open"]
            else "",
        ),
    )
