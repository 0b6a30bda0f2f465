"""`agorai demo`: each paper's flow, on this machine."""

from __future__ import annotations

import time

import typer

from agorai.cli.output import JSON, emit, out, progress, run, table

demo = typer.Typer(help="Run a paper's flow on this machine, with real parts; nothing stays.")


@demo.callback(invoke_without_command=True)
def every(context: typer.Context) -> None:
    """Run every demonstration there is, unless one is named."""
    if context.invoked_subcommand is None:
        invocation(block_time=None, as_json=False)


@demo.command()
def invocation(
    block_time: float | None = typer.Option(
        None, min=0.05, help="Seconds between blocks; by default each transaction is mined on arrival."
    ),
    as_json: bool = JSON,
) -> None:
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
