"""A user's own files, read and checked before they go anywhere: models, training tasks, tables to predict on."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from pydantic import ValidationError

from agorai.client import Listing
from agorai_shared.bindings.registry import Kind
from agorai_shared.documents import Column, Metadata
from agorai_shared.errors import InputError
from agorai_shared.validation import first_fault
from agorai_trainer import formats, tables
from agorai_trainer.messages import Offer
from agorai_trainer.table_refusals import MissingColumnError
from agorai_trainer.tasks import ModelSchema, TrainingTask


class FileMalformedError(InputError):
    """A file that describes a task or a schema is not of its form."""

    def __init__(self, path: Path, why: str, remedy: str) -> None:
        super().__init__(f"{path}: {why}.", remedy=remedy)


class WrongKindError(InputError):
    """A data set was named where a model is wanted, or the other way round."""

    def __init__(self, resource: int, kind: Kind) -> None:
        found, wanted = ("data set", "model") if kind == Kind.DATA else ("model", "data set")
        super().__init__(
            f"Resource {resource} is a {found}, not a {wanted}.",
            remedy="Train on data sets, invoke models; nothing was paid.",
        )


def read_model(path: Path, offer: Offer, schema_path: Path) -> tuple[bytes, Metadata]:
    """Read a model file, told by its own bytes, and describe it by the schema given.

    Raises
    ------
    InputError
        If it is a pickle, of no known format or broken, or the schema is not of its form.
    """
    content = path.read_bytes()
    found = formats.sniff(content)
    formats.describe(content, found)
    remedy = 'Give {"features": [...], "target": "...", "classes": [...] or null}.'
    try:
        schema = ModelSchema.model_validate_json(schema_path.read_bytes())
    except ValidationError as error:
        raise FileMalformedError(schema_path, first_fault(error), remedy) from error
    return content, Metadata(
        kind="model",
        name=offer.name,
        description=offer.description,
        license=offer.license,
        format=found,
        size=len(content),
        columns=tuple(Column(name=name, type="number") for name in schema.features),
        target=schema.target,
        task=schema.kind,
        classes=schema.classes,
    )


def read_task(path: Path) -> TrainingTask:
    """Read a training task from JSON or TOML.

    Raises
    ------
    InputError
        If it is not of its form, or names an estimator that is not on the list.
    """
    raw = path.read_bytes()
    try:
        declared = tomllib.loads(raw.decode()) if path.suffix == ".toml" else json.loads(raw)
        return TrainingTask.model_validate(declared)
    except ValidationError as error:
        remedy = "See the trainer's guide for the members of a task."
        raise FileMalformedError(path, first_fault(error), remedy) from error
    except ValueError as error:
        raise FileMalformedError(path, str(error), "Write it as JSON, or as TOML in a .toml file.") from error


def check_task(task: TrainingTask, listing: Listing) -> None:
    """See before paying that a task fits what the data set's owner says of it.

    Raises
    ------
    WrongKindError, MissingColumnError
        If it does not.
    """
    _require(listing, Kind.DATA)
    if listing.metadata is None or not listing.metadata.columns:
        return
    present = tuple(column.name for column in listing.metadata.columns)
    for role, wanted in (("the target", (task.target,)), ("a feature", task.features or ())):
        if missing := tuple(name for name in wanted if name not in present):
            raise MissingColumnError(missing, role, present)


def read_features(path: Path, listing: Listing) -> bytes:
    """Read a table to predict on, and see before paying that it has the model's features.

    Raises
    ------
    InputError
        If the resource is no model, or the file no table with its features.
    """
    _require(listing, Kind.MODEL)
    content = path.read_bytes()
    table = tables.parse(content)
    if listing.metadata is not None:
        table.matrix(tuple(column.name for column in listing.metadata.columns))
    return content


def _require(listing: Listing, kind: Kind) -> None:
    if listing.resource.kind != kind:
        raise WrongKindError(listing.id, listing.resource.kind)
