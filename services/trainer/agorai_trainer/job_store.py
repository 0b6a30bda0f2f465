"""The trainer's jobs, kept in SQLite so that a killed node goes on with them; no content is in it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter

from agorai_shared.errors import AgoraiError, NotFoundError
from agorai_shared.trainer import Failure
from agorai_trainer.messages import Job, JobStatus

SCHEMA = """
CREATE TABLE IF NOT EXISTS job (
    key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, invocation INTEGER NOT NULL, job TEXT NOT NULL,
    status TEXT NOT NULL, ended INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS job_open ON job (invocation) WHERE NOT ended;
"""

_JOB: TypeAdapter[Job] = TypeAdapter(Job)


class JobNotFoundError(NotFoundError):
    """There is no job of this id on this node."""

    def __init__(self, job: str) -> None:
        super().__init__(
            f"This node has no job {job}.", remedy="Submit it to the node that bought the right."
        )


class JobStore:
    """All jobs of this node."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._database = sqlite3.connect(folder / "jobs.sqlite", isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.executescript(SCHEMA)
        self._changed = asyncio.Condition()

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def add(self, job: Job) -> int:
        """Keep a job, once, and give its key."""
        status = JobStatus(id=job.id, kind=job.kind, invocation=job.invocation, revision=0, stage="waiting")
        self._database.execute(
            "INSERT OR IGNORE INTO job (id, invocation, job, status) VALUES (?, ?, ?, ?)",
            (job.id, job.invocation, job.model_dump_json(), status.model_dump_json()),
        )
        return self.key(job.id)

    def key(self, job: str) -> int:
        """Give the key of a job.

        Raises
        ------
        JobNotFoundError
            If there is none of this id.
        """
        row = self._database.execute("SELECT key FROM job WHERE id = ?", (job,)).fetchone()
        if row is None:
            raise JobNotFoundError(job)
        return int(row[0])

    def get(self, key: int) -> tuple[Job, JobStatus]:
        """Give a job and how far it is."""
        row = self._database.execute("SELECT job, status FROM job WHERE key = ?", (key,)).fetchone()
        return _JOB.validate_json(row[0]), JobStatus.model_validate_json(row[1])

    def open(self, invocation: int | None = None) -> list[int]:
        """Give the keys of the jobs not ended, all or those of one invocation."""
        query = "SELECT key FROM job WHERE NOT ended AND (?1 IS NULL OR invocation = ?1)"
        return [row[0] for row in self._database.execute(query, (invocation,))]

    async def update(self, key: int, **changes: object) -> JobStatus:
        """Change how far a job is; an ended one stays as it is."""
        _, before = self.get(key)
        if before.ended:
            return before
        status = JobStatus.model_validate(before.model_dump() | changes | {"revision": before.revision + 1})
        self._database.execute(
            "UPDATE job SET status = ?, ended = ? WHERE key = ?",
            (status.model_dump_json(), status.ended, key),
        )
        async with self._changed:
            self._changed.notify_all()
        return status

    async def fail(self, key: int, error: AgoraiError) -> JobStatus:
        """End a job with an error."""
        failure = Failure(code=error.code, message=error.message, remedy=error.remedy)
        return await self.update(key, stage="failed", failure=failure.model_dump())

    async def wait(self, job: str, after: int, timeout_s: float) -> JobStatus:
        """Give how far a job is once that is later than revision `after`, or the time is up."""
        key = self.key(job)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: self.get(key)[1].revision > after)
        return self.get(key)[1]
