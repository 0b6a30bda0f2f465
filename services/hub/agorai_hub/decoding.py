"""Turns raw logs into events, by each followed contract's ABI."""

from __future__ import annotations

from collections.abc import Sequence

from agorai_hub import metrics
from agorai_hub.settings import FollowedContract
from agorai_shared import logging
from agorai_shared.abi.codec import ArgValue
from agorai_shared.abi.errors import LogMismatchError
from agorai_shared.chain import BlockAbsentError, Chain, RawLog
from agorai_shared.contract import ContractAbi
from agorai_shared.errors import InputError
from agorai_shared.events import NO_KEY, UNKNOWN, ChainEvent, Phase, key_text
from agorai_shared.types import Address, Hash

log = logging.get(__name__)


class DuplicateContractError(InputError):
    """Two followed contracts share a name or an address."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"Two followed contracts share {what}.", remedy="Give each its own name and address."
        )


class Decoder:
    """Knows the followed contracts of one chain."""

    def __init__(self, chain_id: int, contracts: Sequence[FollowedContract]) -> None:
        self.chain_id = chain_id
        self.addresses = [contract.address for contract in contracts]
        self.start_block = min((contract.start_block for contract in contracts), default=0)
        self._by_address: dict[str, tuple[str, Address, ContractAbi]] = {}
        for contract in contracts:
            if contract.address.lower() in self._by_address:
                raise DuplicateContractError(f"the address {contract.address}")
            known = (contract.name, contract.address, contract.load_abi())
            self._by_address[contract.address.lower()] = known
        if len({contract.name for contract in contracts}) < len(contracts):
            raise DuplicateContractError("a name")
        self._warned: set[tuple[str, str]] = set()

    def decode(self, raw: RawLog, phase: Phase, block_time: int) -> ChainEvent:
        """Give the event; a log that the ABI does not explain becomes `unknown` with its topics and data."""
        name, address, abi = self._by_address[raw["address"].lower()]
        topics = raw["topics"]
        event = abi.events.get(topics[0]) if topics else None
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
            args = {"topics": list(topics), "data": raw["data"]}
            self._tell_undecoded(name, topics[0] if topics else "")
        return ChainEvent(
            phase=phase,
            chain_id=self.chain_id,
            contract=name,
            address=address,
            event=event_name,
            key=key,
            block_number=int(raw["blockNumber"], 16),
            block_hash=Hash(raw["blockHash"]),
            block_time=block_time,
            transaction_hash=Hash(raw["transactionHash"]),
            log_index=int(raw["logIndex"], 16),
            args=args,
        )

    def _tell_undecoded(self, contract: str, topic: str) -> None:
        metrics.UNDECODED.labels(self.chain_id, contract).inc()
        if (contract, topic) not in self._warned:
            self._warned.add((contract, topic))
            log.warning("hub.log.undecoded", contract=contract, topic=topic)


async def decode_range(chain: Chain, decoder: Decoder, logs: Sequence[RawLog]) -> list[ChainEvent]:
    """Give the final events of logs from many blocks, in chain order.

    Block times are asked for where the node does not put them into its logs.
    """
    dateless = {int(raw["blockNumber"], 16) for raw in logs if "blockTimestamp" not in raw}
    times = {n: b.timestamp for n, b in (await chain.blocks(sorted(dateless))).items()} if dateless else {}
    for absent in dateless - times.keys():
        raise BlockAbsentError(absent)
    events = [
        decoder.decode(
            raw,
            Phase.final,
            int(raw["blockTimestamp"], 16) if "blockTimestamp" in raw else times[int(raw["blockNumber"], 16)],
        )
        for raw in logs
    ]
    events.sort(key=lambda event: (event.block_number, event.log_index))
    return events
