"""`agorai learner`: small models on the chain that learn sample by sample, free to ask, and proved by who doubts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer
from rich.console import Group

from agorai.cli.output import HOME, JSON, emit, err, progress, styled, table, with_client
from agorai.cli.pool_shown import samples_told
from agorai.client import Client
from agorai.learner_samples import Labelled, read_samples, words
from agorai.learners import ANYONE, Learned, Learners, Training, Verified
from agorai_shared.bindings.online_learner import Kind, Learner
from agorai_shared.online_learner import MAX_CLASSES, MAX_FEATURES, Prediction, Sample

app = typer.Typer(
    help="Small models on the chain: taught sample by sample, free to ask, and proved.", no_args_is_help=True
)

LEARNER = typer.Argument(help="The learner's id.", min=1)
FILE = typer.Argument(
    None, exists=True, dir_okay=False, help="A CSV with a header: a column for each feature, and the label."
)
SAMPLE = typer.Option(None, "--sample", help="One sample, FEATURE:VALUE with commas: 3:1,17:1.")
TEXT = typer.Option(None, "--text", help="One text; each of its words is hashed to a feature of value 1.")
LABEL_COLUMN = typer.Option(None, "--label-column", help="The label's column in FILE, if not the last.")
_SAMPLE = re.compile(r"([0-9]{1,9}):(-?[0-9]{1,9})")
_MOST_ROWS = 20


class KindName(StrEnum):
    """How a learner learns."""

    perceptron = "perceptron"
    nearest_centroid = "nearest-centroid"
    k_means = "k-means"


_KINDS = dict(zip(KindName, Kind, strict=True))


@app.command("create")
def create(
    kind: KindName = typer.Option(..., "--kind", help="How it learns."),
    features: int = typer.Option(
        ..., "--features", help="How many features its samples have.", min=1, max=MAX_FEATURES
    ),
    classes: int = typer.Option(
        2, "--classes", help="How many classes, or clusters of a k-means.", min=2, max=MAX_CLASSES
    ),
    anyone: bool = typer.Option(False, "--open", help="Let anyone train it, not only you."),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Begin a learner, with nothing learned."""

    async def work(client: Client) -> int:
        with progress(as_json) as tell:
            tell("beginning a learner")
            return await Learners(client).create(_KINDS[kind], features, classes, anyone=anyone)

    made = with_client(home, as_json, work)
    emit(
        {"learner": made, "kind": kind.value, "features": features, "classes": classes, "open": anyone},
        as_json,
        lambda: styled("[bold green]✓[/] Learner [bold]{learner}[/] has begun.", learner=made),
    )


@app.command("train")
def train(
    learner: int = LEARNER,
    file: Path | None = FILE,
    sample: str | None = SAMPLE,
    text: str | None = TEXT,
    label: int | None = typer.Option(
        None, "--label", help="The class of --sample or --text; of a k-means none."
    ),
    label_column: str | None = LABEL_COLUMN,
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Have a learner predict samples and learn them, one after another, each in a transaction."""
    named = _named(file, sample, text, label_column)
    if label is not None and file is not None:
        raise typer.BadParameter("--label goes with --sample or --text; a FILE has a column of labels.")

    async def work(client: Client) -> Training:
        learners = Learners(client)
        samples = named(await learners.learner(learner), label)
        begun = 0

        def count(stage: str, share: float | None = None) -> None:
            nonlocal begun
            begun = len(samples) if share is None else round(share * len(samples))
            tell(stage, share)

        with progress(as_json) as tell:
            try:
                return await learners.train(learner, samples, on_stage=count)
            except asyncio.CancelledError:
                err.print(f"{begun} of {samples_told(len(samples))} were learned, and perhaps one more.")
                raise

    done = with_client(home, as_json, work, look=f"agorai learner show {learner}")
    emit(
        {"learner": learner, **done._asdict()},
        as_json,
        lambda: styled(
            "[bold green]✓[/] Learner [bold]{learner}[/] learned {samples}, {mistakes} of which it had "
            "predicted wrongly; {gas} gas. It has learned {trained} in all.",
            learner=learner, samples=samples_told(done.samples), mistakes=done.mistakes, gas=f"{done.gas:,}",
            trained=done.trained,
        ),
    )  # fmt: skip


@app.command("predict")
def predict(
    learner: int = LEARNER,
    file: Path | None = FILE,
    sample: str | None = SAMPLE,
    text: str | None = TEXT,
    label_column: str | None = LABEL_COLUMN,
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Have a learner predict the classes of samples, with its scores; nothing is sent, and it is free.

    A perceptron's score is above 0 for class 1; others' are the squares of the distances to each class.
    """
    named = _named(file, sample, text, label_column)

    async def work(client: Client) -> dict[str, Any]:
        learners = Learners(client)
        seen = await learners.learner(learner)
        samples = named(seen, None)
        found = await learners.predict(learner, [one.sample for one in samples])
        labels = [one.label for one in samples]
        right = sum(one.predicted == label for one, label in zip(found, labels, strict=True))
        return {
            "learner": learner,
            "predictions": [{"predicted": one.predicted, "scores": _scores(seen, one)} for one in found],
            "right": None if None in labels else right,
        }

    found = with_client(home, as_json, work)

    def human() -> object:
        predictions = found["predictions"]
        title = f"{len(predictions)} prediction{'' if len(predictions) == 1 else 's'}"
        if found["right"] is not None:
            title += f", {found['right']} as labelled ({found['right'] / len(predictions):.2%})"
        shown = table(">Row", ">Class", "Scores", title=title)
        for number, one in enumerate(predictions[:_MOST_ROWS]):
            scores = ", ".join("no samples" if score is None else f"{score:g}" for score in one["scores"])
            shown.add_row(str(number), str(one["predicted"]), scores)
        if len(predictions) > _MOST_ROWS:
            shown.add_row("…", "", "--json has all")
        return shown

    emit(found, as_json, human)


def _named(
    file: Path | None, sample: str | None, text: str | None, label_column: str | None
) -> Callable[[Learner, int | None], list[Labelled]]:
    """Read samples as they are named on the command line, as far as that goes without their learner."""
    if [file, sample, text].count(None) != 2:
        raise typer.BadParameter("Give one of FILE, --sample and --text.")
    if label_column is not None and file is None:
        raise typer.BadParameter("--label-column goes with FILE.")
    listed = _sample(sample) if sample is not None else {}

    def samples(learner: Learner, label: int | None) -> list[Labelled]:
        if file is not None:
            return read_samples(file.read_bytes(), learner, label_column)
        return [Labelled(listed if text is None else words(text, learner.features), label)]

    return samples


def _sample(given: str) -> Sample:
    pairs = [_SAMPLE.fullmatch(part.strip()) for part in given.split(",")]
    sample = {int(pair[1]): int(pair[2]) for pair in pairs if pair}
    if len(sample) < len(pairs):
        raise typer.BadParameter(
            f"--sample {given}: write FEATURE:VALUE with commas, as 3:1,17:1, each once."
        )
    return sample


def _scores(learner: Learner, one: Prediction) -> list[float | None]:
    if learner.kind is Kind.PERCEPTRON:
        return list(one.scores)
    return [None if score < 0 else score / 1_000_000 for score in one.scores]


@app.command("list")
def list_learners(home: Path = HOME, as_json: bool = JSON) -> None:
    """Show all learners, the newest first."""
    seen = with_client(home, as_json, lambda client: Learners(client).learners())
    found = [_learner(id_, one) for id_, one in seen.items()]

    def human() -> object:
        shown = table(">Learner", "Kind", ">Features", ">Classes", ">Samples", ">Mistakes", "Trained by")
        for one in found:
            shown.add_row(
                str(one["learner"]), one["kind"], f"{one['features']:,}", str(one["classes"]),
                f"{one['trained']:,}", f"{one['mistakes']:,}",
                f"{one['trainer'][:8]}…" if one["trainer"] else "anyone",
            )  # fmt: skip
        return shown

    emit(found, as_json, human)


@app.command("show")
def show(
    learner: int = LEARNER,
    first: int = typer.Option(0, "--from", help="The first feature of the page.", min=0),
    count: int = typer.Option(20, "--count", help="How many features to show.", min=1, max=1000),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Show a learner and what it has learned of some features: weights, or the means of its classes."""
    found = with_client(home, as_json, lambda client: Learners(client).learned(learner, first, count))
    told = _told(learner, found, first)

    def human() -> object:
        rows = len(found.numbers) // (1 if told["weights"] is not None else told["classes"])
        which = f"{first} to {first + rows - 1}" if first else f"the first {rows}"
        about = table("Learner", str(learner), whole=("Learner",))
        about.add_row("kind", told["kind"])
        about.add_row("trained by", told["trainer"] or "anyone")
        about.add_row(
            "trained on", f"{samples_told(told['trained'])}; predicted wrongly: {told['mistakes']:,}"
        )
        about.add_row("features", f"{told['features']:,}; shown here: {which if rows else 'none'}")
        if told["weights"] is not None:
            shown = table(">Feature", ">Weight")
            for feature, weight in enumerate(told["weights"], first):
                shown.add_row(str(feature), str(weight))
            return Group(about, shown)
        heads = (f">Class {n} ({one['samples']})" for n, one in enumerate(told["centroids"]))
        shown = table(">Feature", *heads)
        means = [one["mean"] or [None] * rows for one in told["centroids"]]
        for feature, row in enumerate(zip(*means, strict=True), first):
            shown.add_row(str(feature), *("" if mean is None else f"{mean:g}" for mean in row))
        return Group(about, shown)

    emit(told, as_json, human)


def _learner(id_: int, seen: Learner) -> dict[str, Any]:
    return {
        "learner": id_,
        "kind": list(KindName)[seen.kind].value,
        "features": seen.features,
        "classes": seen.classes,
        "trainer": None if seen.trainer == ANYONE else seen.trainer,
        "trained": seen.trained,
        "mistakes": seen.mistakes,
    }


def _told(learner: int, found: Learned, first: int) -> dict[str, Any]:
    seen, centroids = found.learner, found.centroids
    return {
        **_learner(learner, seen),
        "from": first,
        "weights": list(found.numbers) if seen.kind is Kind.PERCEPTRON else None,
        "centroids": None
        if seen.kind is Kind.PERCEPTRON
        else [
            {
                "samples": one.count,
                "mean": [total / one.count for total in found.numbers[class_ :: seen.classes]]
                if one.count
                else None,
            }
            for class_, one in enumerate(centroids)
        ],
    }


@app.command("verify")
def verify(learner: int = LEARNER, home: Path = HOME, as_json: bool = JSON) -> None:
    """Prove a learner: learn again, here, all that transactions taught it, and compare.

    Ends with status 1 if anything differs.
    """

    async def work(client: Client) -> Verified:
        with progress(as_json) as tell:
            return await Learners(client).verify(learner, on_stage=tell)

    found = with_client(home, as_json, work)
    same = found.difference is None
    emit(
        {
            "learner": learner,
            "same": same,
            "samples": found.samples,
            "block": found.block,
            "difference": found.difference,
        },
        as_json,
        lambda: styled(
            "[bold green]✓[/] The same: all of learner {learner} follows from its {samples}, at block "
            "{block}."
            if same
            else "[bold red]✗[/] Learner {learner} differs at block {block}: {difference}.",
            learner=learner, samples=samples_told(found.samples), block=found.block, difference=found.difference,
        ),
    )  # fmt: skip
    if not same:
        raise typer.Exit(1)
