"""Comparing two versions of a data set inside the sandbox: a table that was bought is a stranger's bytes."""

from __future__ import annotations

from dataclasses import asdict

import orjson
from pydantic import TypeAdapter, ValidationError

from agorai_trainer import tables, verdicts
from agorai_trainer.differences import KeyNotUniqueError, TableDifferences, differences
from agorai_trainer.frames import Job, Reply
from agorai_trainer.sandbox import Sandbox

_DIFFERENCES = TypeAdapter(TableDifferences)
_VERSIONS = frozenset({"first", "second"})


async def in_sandbox(
    sandbox: Sandbox, before: bytes, after: bytes, key: tuple[str, ...] = (), *, examples: int = 20
) -> TableDifferences:
    """Compare two files as `differences` does; raises what it and the tables' reader raise, or a verdict."""
    reply = await sandbox.run(
        f"{__name__}:compare", {"key": list(key), "examples": examples}, (before, after)
    )
    version = reply.body.get("not_unique")
    if isinstance(version, str) and version in _VERSIONS:
        raise KeyNotUniqueError(key, version)
    try:
        (found,) = reply.blobs
        return _DIFFERENCES.validate_json(found)
    except (ValidationError, ValueError) as error:
        raise verdicts.OutputLimitError("it is no list of differences") from error


def compare(job: Job) -> Reply:
    """Compare the two blobs by the body's key."""
    before, after = map(tables.parse, job.blobs)
    key, examples = job.body["key"], job.body["examples"]
    if not isinstance(key, list) or not isinstance(examples, int):
        raise TypeError("the key is a list and examples a number")
    try:
        found = differences(before, after, [str(name) for name in key] or None, examples=examples)
    except KeyNotUniqueError as error:
        return Reply({"not_unique": error.version}, ())
    return Reply({}, (orjson.dumps(asdict(found)),))
