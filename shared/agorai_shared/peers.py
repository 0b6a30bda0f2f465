"""Several content stores seen as one: whoever is best is asked first, and nobody's failure is everybody's.

A peer that lacks a block, refuses or fails is passed over for this block, and asked later for the next ones. One
that stalls is overtaken: the next is asked while it may still answer. One that lies, that is, gives bytes that
are not the block, is never asked again.

    NoPeerHasError (NotFoundError)   no peer gave the block; it names how each failed
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agorai_shared import cid as cids
from agorai_shared import dag_pb, file_reader, logging
from agorai_shared.cid import CidMismatchError
from agorai_shared.content import ContentStore
from agorai_shared.errors import AgoraiError, NotFoundError
from agorai_shared.types import Cid

log = logging.get(__name__)

STALL_S: Final = 5.0
"""Seconds without a block after which the next peer is asked too."""

_FIRST_GUESS_S: Final = 0.1
"""What a peer that has not answered yet is taken to need."""

_WEIGHT: Final = 0.2
"""Of the newest answer in a peer's latency."""

_MOST_FAULTS: Final = 8
"""Faults that count; a peer that recovers is back in its place after as many blocks."""

_TOLD: Final = 8
"""Peers whose failures an error's message tells."""


class NoPeerHasError(NotFoundError):
    """No peer gave a block; it may be worth repeating if one of them may only have been away."""

    def __init__(self, cid: Cid, failures: Mapping[str, AgoraiError]) -> None:
        told = [f"{url}: {error.message}" for url, error in list(failures.items())[:_TOLD]]
        more = [f"and {len(failures) - _TOLD} more"] if len(failures) > _TOLD else []
        super().__init__(
            f"None of {len(failures)} peers gave {cid}. {' '.join([*told, *more])}".strip(),
            remedy="Name another peer that has it, or ask its owner to serve it.",
        )
        self.failures = dict(failures)
        self.retryable = any(error.retryable for error in failures.values())  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class Report:
    """A peer that lied, and how."""

    url: str
    error: CidMismatchError


class Peers:
    """Stores in the order in which they are to be tried at first. Several blocks may be asked for at once.

    Give each store a `Patience` of one attempt: here are others to turn to.

    Parameters
    ----------
    stall_s
        Seconds after which the next peer is asked too.
    window
        Blocks that `get` fetches ahead.
    """

    def __init__(self, stores: Sequence[ContentStore], *, stall_s: float = STALL_S, window: int = 4) -> None:
        self._peers = [_Peer(store) for store in stores]
        self._stall_s = stall_s
        self._window = window
        self.reports: list[Report] = []

    async def get_block(self, cid: Cid, *, max_size: int = dag_pb.MAX_BLOCK_SIZE) -> bytes:
        """Read one block, verified, from whichever peer gives it first.

        Raises
        ------
        CidError, NoPeerHasError
        """
        cid = cids.canonical(cid)
        waiting = deque(sorted((p for p in self._peers if p.lie is None), key=_Peer.expected_s))
        failures: dict[str, AgoraiError] = {p.url: p.lie for p in self._peers if p.lie is not None}
        asked: dict[asyncio.Task[bytes], _Peer] = {}
        try:
            while waiting or asked:
                if waiting:
                    peer = waiting.popleft()
                    asked[peer.ask(cid, max_size)] = peer
                block = await self._first(cid, asked, failures, hurry=bool(waiting))
                if block is not None:
                    return block
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        raise NoPeerHasError(cid, failures)

    def get(self, cid: Cid, *, max_size: int | None = None) -> AsyncIterator[bytes]:
        """Stream a file's bytes, each block from whichever peer gives it.

        Raises
        ------
        CidError, NoPeerHasError
        BlockMalformedError, NotAFileError, TreeInconsistentError, FileTooLargeError
        """
        return file_reader.read_file(
            cids.canonical(cid), self.get_block, max_size=max_size, window=self._window
        )

    async def _first(
        self,
        cid: Cid,
        asked: dict[asyncio.Task[bytes], _Peer],
        failures: dict[str, AgoraiError],
        *,
        hurry: bool,
    ) -> bytes | None:
        """Wait for a block; None once another peer had better be asked, or none is left that might answer."""
        done, _ = await asyncio.wait(
            asked, timeout=self._stall_s if hurry else None, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            for peer in asked.values():
                peer.blame()
        for task in done:
            peer = asked.pop(task)
            try:
                return task.result()
            except AgoraiError as error:
                failures[peer.url] = error
                log.debug("peer.failed", url=peer.url, cid=cid, reason=error.message)
                if isinstance(error, CidMismatchError) and peer.lie is None:
                    peer.lie = error
                    self.reports.append(Report(peer.url, error))
                    log.warning("peer.lied", url=peer.url, cid=cid)
        return None


class _Peer:
    """A store, and what is known of it."""

    def __init__(self, store: ContentStore) -> None:
        self._store = store
        self.url = store.url
        self.lie: CidMismatchError | None = None
        self._latency_s: float | None = None
        self._faults = 0
        self._asked = 0

    def expected_s(self) -> float:
        """Give how long this peer is likely to take for one more block, with what it is asked already."""
        latency_s = _FIRST_GUESS_S if self._latency_s is None else self._latency_s
        return latency_s * (1 + self._asked) * (1 << self._faults)

    def blame(self) -> None:
        """Count a fault."""
        self._faults = min(self._faults + 1, _MOST_FAULTS)

    def ask(self, cid: Cid, max_size: int) -> asyncio.Task[bytes]:
        """Begin to ask for a block, which counts at once."""
        self._asked += 1
        task = asyncio.create_task(self._get_block(cid, max_size))
        task.add_done_callback(self._answered)
        return task

    def _answered(self, _task: asyncio.Task[bytes]) -> None:
        self._asked -= 1

    async def _get_block(self, cid: Cid, max_size: int) -> bytes:
        """Get a block, and learn from how it goes."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            block = await self._store.get_block(cid, max_size=max_size)
        except AgoraiError:
            self.blame()
            raise
        took_s = loop.time() - begun
        known_s = took_s if self._latency_s is None else self._latency_s
        self._latency_s = known_s + _WEIGHT * (took_s - known_s)
        self._faults = max(0, self._faults - 1)
        return block
