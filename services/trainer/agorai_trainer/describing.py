"""Data against what their schema says, inside the sandbox: a table that was provided is a stranger's bytes."""

from __future__ import annotations

from dataclasses import asdict

import orjson
from pydantic import TypeAdapter, ValidationError

from agorai_shared.documents import Schema
from agorai_trainer import quality, schemas, tables, verdicts
from agorai_trainer.differences import SchemaDifferences, schema_differences
from agorai_trainer.frames import Job, Reply
from agorai_trainer.sandbox import Sandbox

_DIFFERENCES = TypeAdapter(SchemaDifferences)
_MOST_TEXT = 200


async def in_sandbox(sandbox: Sandbox, data: bytes, said: Schema) -> SchemaDifferences:
    """Tell where a file is not as its schema says: `before` is what that says, `after` what is.

    The balance and the noise of its labels, and with them the score, are not measured again: that takes a training.

    Raises
    ------
    InputError
        A leaf of `agorai_trainer.table_refusals`: it is no table.
    AgoraiError
        A leaf of `verdicts`.
    """
    reply = await sandbox.run(f"{__name__}:describe", {}, (data, said.to_bytes()))
    try:
        (found,) = reply.blobs
        return _DIFFERENCES.validate_json(found)
    except (ValidationError, ValueError) as error:
        raise verdicts.OutputLimitError("it is no list of differences") from error


def told(found: SchemaDifferences, most: int) -> tuple[str, ...]:
    """Write so many of the differences, none of them long."""
    texts = [
        *(f"there is no column {name}" for name in found.fields_removed),
        *(f"there is a column {name}" for name in found.fields_added),
        *(f"{one.path} is {one.after}, not {one.before}" for one in found.changes),
    ]
    return tuple(text[:_MOST_TEXT] for text in texts[:most])


def describe(job: Job) -> Reply:
    """Compare the first blob, a table, with the second, its schema."""
    data, document = job.blobs
    said = Schema.from_bytes(document)
    found = described(data, said)
    return Reply({}, (orjson.dumps(asdict(schema_differences(said, found))),))


def described(data: bytes, said: Schema) -> Schema:
    """Describe data as their schema would if it were true; raises what the tables' reader raises."""
    table = tables.parse(data)
    told = said.quality
    measured = quality.measure(table, None).model_copy(
        update={
            "class_balance": told.class_balance,
            "label_noise": told.label_noise,
            "not_measured": told.not_measured,
            "score": told.score,
        }
    )
    estimated = {one.name: one.distinct for one in said.fields if one.distinct_is == "estimate"}
    fields = tuple(
        one.model_copy(update={"distinct": estimated[one.name], "distinct_is": "estimate"})
        if one.name in estimated
        else one
        for one in map(schemas.field, table.columns)
    )
    return said.model_copy(
        update={"format": table.format, "rows": table.rows, "fields": fields, "quality": measured}
    )
