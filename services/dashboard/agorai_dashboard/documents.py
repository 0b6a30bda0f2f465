"""Fetches the documents that the chain names by digest, as pages want them, into the read model.

This node's own store is asked first, then the gateways of whoever should serve it. Nobody waits long for it: a page
that wants one that is not there says so, and has it once it came.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from sqlalchemy import Connection, delete, func, select

from agorai_dashboard import query_market
from agorai_dashboard.looking import Wanted
from agorai_dashboard.model import over
from agorai_dashboard.projector import Projector
from agorai_dashboard.tables import DOCUMENTS, RESOURCE_NAMES
from agorai_dashboard.views import DocumentState
from agorai_shared import logging
from agorai_shared.digest_files import DigestFiles, FileOversizeError
from agorai_shared.documents import DocumentMalformedError, Metadata
from agorai_shared.ending import cancelled
from agorai_shared.errors import AgoraiError
from agorai_shared.types import Address

log = logging.get(__name__)

MOST_BYTES: Final = 1 << 20
"""Of one document; a larger one is not shown."""
MOST_KEPT: Final = 5000
MOST_KEPT_BYTES: Final = 256 << 20
"""Of all documents; strangers choose how large theirs are."""
AGAIN_S: Final = 60.0
"""How long a document that nobody served is not asked for again."""
AT_ONCE: Final = 8
MOST_WAITING: Final = 500
PATIENCE_S: Final = 0.4
"""How long a page waits for what it wants."""


class Documents:
    """Documents of one read model."""

    def __init__(self, projector: Projector, files: DigestFiles) -> None:
        self._projector = projector
        self._files = files
        self._asked: dict[str, float] = {}
        """By digest, when it was asked for last."""
        self._fetching: dict[str, asyncio.Task[bool]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Fetch; inside the projector's `running`."""
        try:
            yield
        finally:
            await cancelled(list(self._fetching.values()))

    async def want(self, wanted: Iterable[Wanted], patience_s: float = PATIENCE_S) -> bool:
        """Have documents fetched; gives whether any came within so many seconds."""
        now = time.monotonic()
        self._asked = {digest: at for digest, at in self._asked.items() if now - at < AGAIN_S}
        begun = set()
        for one in wanted:
            known = one.digest in self._asked or one.digest in self._fetching
            if not known and len(self._fetching) < MOST_WAITING:
                self._asked[one.digest] = now
                task = asyncio.create_task(self._fetch(one), name="dashboard.document")
                self._fetching[one.digest] = task
                task.add_done_callback(partial(self._fetched, one.digest))
            if one.digest in self._fetching:
                begun.add(self._fetching[one.digest])
        if not begun:
            return False
        done, _ = await asyncio.wait(begun, timeout=patience_s)
        return any(not task.cancelled() and task.exception() is None and task.result() for task in done)

    def _fetched(self, digest: str, task: asyncio.Task[bool]) -> None:
        self._fetching.pop(digest, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("document.not_kept", digest=digest, error=f"{type(error).__name__}: {error}")

    async def _fetch(self, wanted: Wanted) -> bool:
        """Fetch one and write it down; gives whether it is there."""
        digest, owners = bytes.fromhex(wanted.digest[2:]), [Address(owner) for owner in wanted.owners]
        async with self._turns:
            try:
                content = await self._files.file(digest, wanted.what, owners, MOST_BYTES)
                state = DocumentState.read
            except FileOversizeError:
                content, state = b"", DocumentState.malformed
            except AgoraiError as error:
                log.debug("document.absent", what=wanted.what, reason=str(error))
                content, state = b"", DocumentState.absent
        await self._projector.write(partial(self._keep, wanted, state, content))
        return state == DocumentState.read

    def _keep(self, wanted: Wanted, state: DocumentState, content: bytes) -> None:
        row = {"digest": wanted.digest, "state": state, "content": content, "tried_at": time.time()}
        with self._projector.model.writing() as connection:
            connection.execute(over(connection, DOCUMENTS), [row])
            _drop_oldest(connection)
            if wanted.resource is not None and state == DocumentState.read:
                self._name(connection, wanted.resource, content)

    def _name(self, connection: Connection, resource: int, content: bytes) -> None:
        try:
            metadata = Metadata.from_bytes(content)
        except DocumentMalformedError:
            return
        name = metadata.name.replace("\0", "")
        row = {"id": resource, "name": name, "words": query_market.words_of(metadata)}
        connection.execute(over(connection, RESOURCE_NAMES), [row])


def _drop_oldest(connection: Connection) -> None:
    """Drop those that were sought longest ago, a tenth at a time, as long as there are more than may be."""
    kept = select(func.count(), func.coalesce(func.sum(func.length(DOCUMENTS.c.content)), 0))
    while True:
        count, size = connection.execute(kept.select_from(DOCUMENTS)).one()
        if count <= MOST_KEPT and size <= MOST_KEPT_BYTES:
            return
        oldest = select(DOCUMENTS.c.digest).order_by(DOCUMENTS.c.tried_at).limit(-(-count // 10))
        connection.execute(delete(DOCUMENTS).where(DOCUMENTS.c.digest.in_(oldest)))
