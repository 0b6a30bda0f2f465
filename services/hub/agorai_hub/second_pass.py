"""Looks at every final block a second time, some while after it was published, and says when something is missing."""

from __future__ import annotations

import asyncio
from typing import Final

from nats.aio.client import Client
from nats.js.api import KeyValueConfig
from nats.js.errors import APIError, BucketNotFoundError, KeyNotFoundError
from nats.js.kv import KeyValue

from agorai_hub.audit import AuditRangeError, LogsOf, Report, audit, logs_of_range
from agorai_hub.comparison import Differences, Kind
from agorai_hub.decoding import Decoder
from agorai_hub.streams import Streams
from agorai_shared import logging
from agorai_shared.bus import BusRefusedError, answered
from agorai_shared.chain import BlockAbsentError, Chain
from agorai_shared.errors import IntegrityError, UnavailableError
from agorai_shared.events import MalformedEventError
from agorai_shared.metrics import gauge
from agorai_shared.rpc import RpcResponseError

log = logging.get(__name__)

BUCKET: Final = "HUB"
BLOCKS: Final = 1_000
"""Blocks of one look at most."""
PAUSE_S: Final = 0.2
"""Rest between two ranges, to leave the node to the head."""
PAUSES_S: Final = (0.2, 1.0, 5.0, 15.0)
"""Between attempts while the node or the bus is away."""

DIFFERENCES: Final = gauge(
    "agorai_hub_audit_differences", "Differences between chain and final stream now", "chain"
)
AUDITED_BLOCK: Final = gauge("agorai_hub_audited_block", "Newest block seen to be published whole", "chain")


class StreamIncompleteError(IntegrityError):
    """The final stream does not say what the chain says."""

    def __init__(self, chain_id: int, first: int, last: int, what: str) -> None:
        super().__init__(
            f"The final stream of chain {chain_id} differs from the chain in the blocks {first} to {last}: {what}.",
            remedy="Check by a second node whether the chain node is right: if it is wrong, this passes with it. "
            f"If the stream is, have it written anew: `agorai events rebuild --chain {chain_id}`.",
        )

    @classmethod
    def of(cls, report: Report) -> StreamIncompleteError:
        """Say what a report found."""
        return cls(report.chain_id, report.first, report.last, _in_words(report.differences))


def _in_words(differences: Differences) -> str:
    found = ((kind, differences.of(kind)) for kind in Kind)
    return ", ".join(
        f"{what.count} {kind.replace('_', ' ')} (first at {what.first[0].at})"
        for kind, what in found
        if what.count
    )


class SecondPass:
    """Audits one chain in the background; `problem` is for readiness.

    Its place is kept on the bus. If that is lost it begins at the newest final block; two of them on one chain
    do the work twice and no harm.

    Parameters
    ----------
    delay_s
        Seconds for which a block has been final before it is looked at, more than 0.
    recheck_s
        Seconds after which a range that differs is looked at again.
    replicas
        Copies of the place in a NATS cluster.
    logs
        Where a range's logs come from.
    """

    def __init__(
        self,
        chain: Chain,
        decoder: Decoder,
        client: Client,
        *,
        delay_s: float,
        recheck_s: float,
        replicas: int = 1,
        pause_s: float = PAUSE_S,
        logs: LogsOf = logs_of_range,
    ) -> None:
        self.problem: StreamIncompleteError | None = None
        self._chain = chain
        self._decoder = decoder
        self._client = client
        self._delay_s = delay_s
        self._recheck_s = recheck_s
        self._replicas = replicas
        self._pause_s = pause_s
        self._logs = logs
        self._streams = Streams(client, decoder.chain_id, writer="")
        self._key = f"audit.{decoder.chain_id}"
        self._label = str(decoder.chain_id)
        self._by = f"audit {decoder.chain_id} {id(self)}"

    async def run(self) -> None:
        """Audit until cancelled."""
        try:
            await self._run()
        finally:
            logging.forget(self._by)

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                tick = await self._streams.last_final_tick()
                if tick is None:
                    await asyncio.sleep(max(self._delay_s, PAUSES_S[0]))
                    continue
                final = tick.number
                cursor = await self._begin(final)
                await asyncio.sleep(self._delay_s)
                while cursor < final:
                    last = min(final, cursor + BLOCKS)
                    whole = await self._look(cursor + 1, last)
                    failures = 0
                    logging.present(self._by)
                    if whole:
                        cursor = last
                        await self._save(cursor)
                        await asyncio.sleep(self._pause_s)
                    else:
                        await asyncio.sleep(self._recheck_s)
            except (
                UnavailableError,
                RpcResponseError,
                BlockAbsentError,
                BusRefusedError,
                MalformedEventError,
                AuditRangeError,  # the stream was deleted and is written anew
                APIError,
            ) as error:
                pause = PAUSES_S[min(failures, len(PAUSES_S) - 1)]
                failures += 1
                chain_id = self._decoder.chain_id
                logging.trouble(
                    log,
                    "hub.audit.waits",
                    error,
                    self._by,
                    chain_id,
                    chain=chain_id,
                    reason=str(error),
                    pause_s=pause,
                )
                await asyncio.sleep(pause)

    async def _look(self, first: int, last: int) -> bool:
        """Audit a range, tell of what differs, and give whether nothing does."""
        chain_id = self._decoder.chain_id
        try:
            report = await audit(
                self._chain, self._decoder, self._client, first, last, logs=self._logs, pause_s=self._pause_s
            )
        except MalformedEventError as error:
            self._tell(StreamIncompleteError(chain_id, first, last, str(error).rstrip(".")), 1)
            return False
        if report.dropped_count:
            log.warning(
                "hub.audit.node_drops_logs",
                chain=chain_id,
                blocks=report.dropped_count,
                first=report.dropped[0],
            )
        if not report.is_whole:
            self._tell(StreamIncompleteError.of(report), report.differences.count)
            return False
        if self.problem is not None:
            log.info("hub.audit.whole_again", chain=chain_id, first=first, last=last)
        self.problem = None
        DIFFERENCES.labels(self._label).set(0)
        AUDITED_BLOCK.labels(self._label).set(last)
        return True

    def _tell(self, problem: StreamIncompleteError, differences: int) -> None:
        if self.problem is None or str(self.problem) != str(problem):
            log.critical("hub.audit.differs", chain=self._decoder.chain_id, reason=str(problem))
        self.problem = problem
        DIFFERENCES.labels(self._label).set(differences)

    async def _begin(self, final: int) -> int:
        """Give the last block audited; the newest final one where that is not known or is no longer published."""
        bucket = await self._bucket()
        try:
            entry = await answered(f"KV_{BUCKET}", bucket.get(self._key))
            cursor = int(entry.value or b"")
            if self._decoder.contracts.start_block - 1 <= cursor <= final:
                return cursor
        except (KeyNotFoundError, ValueError):
            log.info("hub.audit.begun", chain=self._decoder.chain_id, block=final)
        await self._save(final)
        self.problem = None
        DIFFERENCES.labels(self._label).set(0)
        return final

    async def _save(self, cursor: int) -> None:
        bucket = await self._bucket()
        await answered(f"KV_{BUCKET}", bucket.put(self._key, str(cursor).encode()))

    async def _bucket(self) -> KeyValue:
        js = self._client.jetstream()
        try:
            return await answered(f"KV_{BUCKET}", js.key_value(BUCKET))
        except BucketNotFoundError:
            config = KeyValueConfig(bucket=BUCKET, replicas=self._replicas)
            return await answered(f"KV_{BUCKET}", js.create_key_value(config))
