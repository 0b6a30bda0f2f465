"""`agorai demo`: each paper's flow, on this machine."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.text import Text

from agorai.cli.output import JSON, emit, out, progress, run, table

demo = typer.Typer(help="Run a paper's flow on this machine, with real parts; nothing stays.")

BLOCK_TIME = typer.Option(
    None, min=0.05, help="Seconds between blocks; by default each transaction is mined on arrival."
)


@demo.callback(invoke_without_command=True)
def every(context: typer.Context) -> None:
    """Run every demonstration there is, unless one is named."""
    if context.invoked_subcommand is None:
        for one in (invocation, exchange, pool, federated):
            one(block_time=None, as_json=False)


@demo.command()
def invocation(block_time: float | None = BLOCK_TIME, as_json: bool = JSON) -> None:
    """Train, sell and invoke models by ISC-MTI: a data owner, linhao who trains, tommy who pays."""
    from agorai.demo import invocation as case  # noqa: PLC0415 - scikit-learn, which other verbs do without

    started = time.monotonic()

    async def work() -> case.Report:
        with progress(as_json) as tell:
            return await case.run(tell, block_time_s=block_time)

    report = run(work, as_json)

    def human() -> None:
        shown = table(
            "Data set", ">Accuracy, ordinary", ">Accuracy, Agorai", ">Time, ordinary", ">Time, Agorai", ">L",
            title="Ordinary training against Agorai (ISC-MTI, Table 4)",
        )  # fmt: skip
        for run_ in report.runs:
            shown.add_row(
                run_.dataset,
                f"{run_.accuracy_ordinary:.2f} %",
                f"{run_.accuracy_agorai:.2f} %",
                f"{run_.seconds_ordinary:.2f} s",
                f"{run_.seconds_agorai:.2f} s",
                f"{run_.L:.1f} %",
            )
        out.print(shown)
        shown = table(">Invocation", ">Resource", "From", "To", f">{report.token}", title="Transfers")
        for transfer in report.transfers:
            shown.add_row(
                str(transfer["invocation"]),
                str(transfer["resource"]),
                transfer["from"],
                transfer["to"],
                f"{transfer['amount']:g}",
            )
        out.print(shown)
        shown = table(">Resource", "Name", ">Previous", ">Accuracy", title="Versions, newest first")
        for version in report.versions:
            shown.add_row(
                str(version["resource"]),
                version["name"],
                str(version["previous"] or "-"),
                f"{version['accuracy']:.2f} %",
            )
        out.print(shown)
        balances = ", ".join(f"{name} {amount:g}" for name, amount in report.balances.items())
        out.print(
            f"Balances in {report.token}: {balances}. {time.monotonic() - started:.0f} s in all; nothing is left."
        )

    emit(report.to_json(), as_json, human)


@demo.command()
def exchange(block_time: float | None = BLOCK_TIME, as_json: bool = JSON) -> None:
    """Sell and swap models by "Fair and autonomous sharing", with parties that are honest, cheat or leave."""
    from agorai.demo import exchange as case  # noqa: PLC0415 - scikit-learn, which other verbs do without

    started = time.monotonic()

    async def work() -> case.Result:
        with progress(as_json) as tell:
            return await case.run(tell, block_time_s=block_time)

    report = run(work, as_json).to_json()

    def human() -> None:
        shown = table(
            "Trade", "Who", ">Deposit", ">Price", ">Paid out", title=f"Sales and swaps, in {report['token']}"
        )
        for one in report["trades"]:
            fault = f"{one['at_fault']} at fault" if one["at_fault"] else "nobody at fault"
            both = "swaps" if one["kind"] == "swap" else None
            shown.add_row(f"{one['trade']}: {one['story']}", f"{one['seller']} {both or 'sells'}",
                          f"{one['seller_deposit']:g}", "", f"{one['to_seller']:g}")  # fmt: skip
            shown.add_row(f"   {one['outcome']}, {fault}", f"{one['buyer']} {both or 'buys'}",
                          f"{one['buyer_deposit']:g}", f"{one['price']:g}" if one["price"] else "",
                          f"{one['to_buyer']:g}", end_section=not one["bonus"])  # fmt: skip
            if one["bonus"]:
                shown.add_row("", "voters", "", "", f"{one['bonus']:g}", end_section=True)
        out.print(shown)
        shown = table("Participant", ">Before", ">After", ">Staked to judge", ">Change")
        for one in report["participants"]:
            has = one["after"] + one["staked"]
            shown.add_row(
                one["name"], f"{one['before']:g}", f"{one['after']:g}", f"{one['staked']:g}",
                f"{has - one['before']:+g}",
            )  # fmt: skip
        out.print(shown)
        held = sum(one["after"] for one in report["participants"])
        stakes = report["contracts"]["VotingPanel"]
        out.print(
            f"Every token is accounted for: of {report['supply']:g} {report['token']} the participants hold "
            f"{held:g}, the panel {stakes:g} as their stakes, the other contracts nothing. "
            f"{time.monotonic() - started:.0f} s in all; nothing is left."
        )

    emit(report, as_json, human)


@demo.command()
def pool(block_time: float | None = BLOCK_TIME, as_json: bool = JSON) -> None:
    """Grow a model on samples of many by "Data-Centric Federated Learning", with who is honest, errs or poisons."""
    from agorai.demo import pool as case  # noqa: PLC0415 - scikit-learn, which other verbs do without

    started = time.monotonic()

    async def work() -> case.Result:
        with progress(as_json) as tell:
            return await case.run(tell, block_time_s=block_time)

    report = run(work, as_json).to_json()

    def human() -> None:
        shown = table(
            ">", "Who", "Did what", ">Samples", "Outcome", ">Laid down", ">Paid out",
            title=f"The pool (0) and its contributions, in {report['token']}",
        )  # fmt: skip
        for one in report["contributions"]:
            shown.add_row(
                str(one["contribution"]), one["who"], one["did"], str(one["samples"]), one["outcome"],
                f"{one['laid_down']:g}", f"{one['paid_out']:g}",
            )  # fmt: skip
        out.print(shown)
        shown = table(">Version", ">Made from", ">Samples", ">Accuracy", title="Versions of the model")
        for version in report["versions"]:
            shown.add_row(
                str(version["version"]), str(version["predecessor"] or "-"), str(version["samples"]),
                f"{version['accuracy']:.2%}",
            )  # fmt: skip
        out.print(shown)
        rebuilt = report["rebuilt"]
        same = "bit for bit the same" if rebuilt["same"] else f"another: {rebuilt['why']}"
        out.print(
            f"Rebuilt from its record, the newest is {same}; on the test set, revealed by now, its accuracy is "
            f"{rebuilt['measured']:.2%}. Had all that was added been learnt, it would be "
            f"{report['accuracy_unchecked']:.2%}."
        )
        shown = table("Participant", ">Before", ">After", ">Staked to judge", ">Change")
        for one in report["participants"]:
            change = one["after"] + one["staked"] - one["before"]
            shown.add_row(
                one["name"], f"{one['before']:g}", f"{one['after']:g}", f"{one['staked']:g}", f"{change:+g}"
            )
        out.print(shown)
        out.print(
            f"Every token is accounted for: the pool keeps none of {report['supply']:g} {report['token']}, the panel "
            f"{report['contracts']['VotingPanel']:g} as stakes. {time.monotonic() - started:.0f} s in all; nothing "
            "is left."
        )

    emit(report, as_json, human)


@demo.command()
def federated(
    block_time: float | None = BLOCK_TIME,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Rounds of training, at most.")] = 4,
    as_json: bool = JSON,
) -> None:
    """Train a model on data of many by DAI, with a free rider and a poisoner, and pay by contribution."""
    from agorai.demo import federated as case  # noqa: PLC0415 - scikit-learn, which other verbs do without

    started = time.monotonic()

    async def work() -> case.Result:
        with progress(as_json) as tell:
            return await case.run(tell, rounds=rounds, block_time_s=block_time)

    report = run(work, as_json).to_json()

    def human() -> None:
        shown = table(
            ">Round", "Accuracy, and │ the central one", f">{report['strategy']}", ">FedAvg", ">Central",
            title=f"Accuracy on {report['hidden_samples']} hidden samples; two of five cheat",
        )  # fmt: skip
        for one in report["rounds"]:
            shown.add_row(
                str(one["round"]), _bar(one["accuracy"], one["central"]), Text(f"{one['accuracy']:.1%}", "green"),
                Text(f"{one['fedavg']:.1%}", "red"), Text(f"{one['central']:.1%}", "yellow"),
            )  # fmt: skip
        out.print(shown)
        out.print(
            "Frank hands the model back as it came, eve goes the other way. FedAvg would take all of that as it is; "
            "central is as much training on the three honest providers' data in one place."
        )
        shown = table(
            "Data of", "Trained by", ">Samples", ">Rounds", ">Paid for", ">Fee", ">Contribution", "Found", ">Paid",
            title=f"Subtasks, in {report['token']}; an award of {report['award']:g} is shared by contribution",
        )  # fmt: skip
        for one in report["subtasks"]:
            gained = one["contribution"] > 0
            shown.add_row(
                one["data_provider"], one["computer"], str(one["samples"]), str(one["delivered"]),
                str(one["paid_for"]), f"{one['fee']:g}",
                Text(f"{one['contribution']:+.1f}", "green" if gained else "red"),
                Text(one["found"], "red"), f"{one['paid']:.2f}",
            )  # fmt: skip
        out.print(shown)
        shown = table(
            "Participant", ">Proposed", f">Recomputed by {report['audit']['by']}", ">Before", ">After", ">Change",
            title="The payout",
        )  # fmt: skip
        for one in report["participants"]:
            recomputed = "unknown" if one["recomputed"] is None else f"{one['recomputed']:.2f}"
            shown.add_row(
                one["name"], f"{one['proposed']:.2f}", recomputed, f"{one['before']:.2f}", f"{one['after']:.2f}",
                f"{one['after'] - one['before']:+.2f}",
            )  # fmt: skip
        out.print(shown)
        verdict = report["audit"]["verdict"]
        out.print(
            f"{report['audit']['by']}'s node has recomputed the payout: it is",
            Text(verdict, _VERDICTS[verdict]),
            end="",
        )
        out.print(
            f". Every token is accounted for: the contract keeps none of {report['supply']:g} {report['token']}. "
            f"{time.monotonic() - started:.0f} s in all; nothing is left."
        )

    emit(report, as_json, human)


_VERDICTS = {"right": "bold green", "wrong": "bold red", "unknown": "bold yellow"}
_BAR = 30
"""Characters that are 100 %."""


def _bar(share: float, mark: float) -> Text:
    """Draw a share as a bar, with a mark beside it."""
    bar, at = ("█" * round(share * _BAR)).ljust(_BAR + 1), round(mark * _BAR)
    return Text.assemble((bar[:at], "green"), ("│", "yellow"), (bar[at + 1 :], "green"))
