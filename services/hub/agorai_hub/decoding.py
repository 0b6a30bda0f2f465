"""Turns raw logs into events, by each followed contract's ABI."""

from __future__ import annotations

from collections.abc import Sequence

from agorai_hub import metrics
from agorai_hub.contracts import ContractSet
from agorai_shared import logging
from agorai_shared.abi.codec import ArgValue
from agorai_shared.abi.errors import LogMismatchError
from agorai_shared.chain import AnswerMalformedError, BlockAbsentError, Chain, RawLog
from agorai_shared.events import NO_KEY, UNKNOWN, ChainEvent, Phase, key_text
from agorai_shared.types import Hash

log = logging.get(__name__)


class Decoder:
    """Reads the logs of one chain's followed contracts."""

    def __init__(self, chain_id: int, contracts: ContractSet) -> None:
        self.chain_id = chain_id
        self.contracts = contracts
        self._warned: set[tuple[str, str]] = set()

    def decode(self, raw: RawLog, phase: Phase, block_time: int) -> ChainEvent | None:
        """Give the event; a log that the ABI does not explain becomes `unknown` with its topics and data.

        None for a log that is not wanted: a stranger's, of a block before the contract was followed, or one
        that a family's ABI does not know.

        Raises
        ------
        AnswerMalformedError
            The node sent something that is no log.
        """
        try:
            known = self.contracts.at(raw["address"])
            number = int(raw["blockNumber"], 16)
            if known is None or number < known.since:
                return None
            topics = raw["topics"]
            event = known.abi.events.get(topics[0]) if topics else None
            args: dict[str, ArgValue]
            key = NO_KEY
            event_name = UNKNOWN
            if event is not None:
                try:
                    args = event.decode(topics, raw["data"])
                except LogMismatchError:
                    event = None
                else:
                    event_name = event.name
                    if event.key_name is not None:
                        key = key_text(args[event.key_name])
            if event is None:
                if known.is_member and not (topics and topics[0] in known.abi.events):
                    return None
                args = {"topics": list(topics), "data": raw["data"]}
                self._tell_undecoded(known.name, topics[0] if topics else "")
            return ChainEvent(
                phase=phase,
                chain_id=self.chain_id,
                contract=known.name,
                address=known.address,
                event=event_name,
                key=key,
                block_number=number,
                block_hash=Hash(raw["blockHash"]),
                block_time=block_time,
                transaction_hash=Hash(raw["transactionHash"]),
                log_index=int(raw["logIndex"], 16),
                args=args,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise AnswerMalformedError("eth_getLogs", f"{type(error).__name__} {error}") from error

    def _tell_undecoded(self, contract: str, topic: str) -> None:
        metrics.UNDECODED.labels(self.chain_id, contract).inc()
        if (contract, topic) not in self._warned:
            self._warned.add((contract, topic))
            log.warning(
                "hub.log.undecoded",
                contract=contract,
                topic=topic,
                reason="its ABI does not explain it; it is published as `unknown`",
            )


async def decode_range(chain: Chain, decoder: Decoder, logs: Sequence[RawLog]) -> list[ChainEvent]:
    """Give the final events of logs from many blocks, in the order of the logs.

    Block times are asked for where the node does not put them into its logs.
    """
    dateless = {int(raw["blockNumber"], 16) for raw in logs if "blockTimestamp" not in raw}
    times = {n: b.timestamp for n, b in (await chain.blocks(sorted(dateless))).items()} if dateless else {}
    for absent in dateless - times.keys():
        raise BlockAbsentError(absent)
    decode = decoder.decode
    found = [
        decode(
            raw,
            Phase.final,
            int(raw["blockTimestamp"], 16) if "blockTimestamp" in raw else times[int(raw["blockNumber"], 16)],
        )
        for raw in logs
    ]
    return [event for event in found if event is not None]
