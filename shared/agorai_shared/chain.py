"""One EVM chain seen through one node: blocks, finality, reading contracts, logs, and new heads as they come.

    RefusedError
    └── ContractRevertError     a contract refused a call; the reason is decoded
    UnavailableError
    └── AnswerMalformedError    the node's answer is not what its method gives
    NotFoundError
    ├── ContractAbsentError     no contract answers at that address
    └── BlockAbsentError        the node has no such block (yet)

Numbers of blocks are heights, times are whole seconds since 1970.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final, NotRequired, TypeAlias, TypedDict, cast

from agorai_shared import logging
from agorai_shared.contract import Call, ContractAbi
from agorai_shared.errors import AgoraiError, NotFoundError, RefusedError, UnavailableError
from agorai_shared.rpc import Json, Rpc, RpcResponseError
from agorai_shared.types import Address, Hash

log = logging.get(__name__)

POLL_S: Final = 0.25
"""Pause between looks at the head while no subscription tells of it."""
SILENCE_S: Final = 2.0
"""How long a subscription may be silent before the head is looked at all the same."""
_RESUBSCRIBE_S: Final = (0.2, 1.0, 5.0, 15.0)
_HEADS_KEPT: Final = 1024


class ContractRevertError(RefusedError):
    """A contract refused a call."""

    def __init__(self, contract: str, function: str, reason: str) -> None:
        super().__init__(f"{contract}.{function} refused: {reason}.")
        self.contract = contract
        self.function = function
        self.reason = reason


class ContractAbsentError(NotFoundError):
    """Nothing at the address answers like the contract."""

    def __init__(self, contract: str, function: str, address: Address) -> None:
        super().__init__(
            f"There is no {contract} at {address} that answers {function}.",
            remedy="Check the deployment file and that the RPC URL is of the same chain.",
        )


class BlockAbsentError(NotFoundError):
    """The node does not have the block."""

    retryable = True

    def __init__(self, block: int | str) -> None:
        super().__init__(f"The chain node has no block {block}.", remedy="It may still be catching up.")


class AnswerMalformedError(UnavailableError):
    """A node's answer contradicts itself or its method."""

    def __init__(self, method: str, why: str) -> None:
        super().__init__(f"The chain node's answer to {method} cannot be used: {why}.")


@dataclass(frozen=True, slots=True)
class Finality:
    """When a block is taken as here to stay.

    `confirmations` blocks on top of it (0: on arrival), or None for the node's own `finalized` tag.
    """

    confirmations: int | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """A block's place in the chain."""

    number: int
    hash: Hash
    parent_hash: Hash
    timestamp: int
    """Seconds since 1970."""
    logs_bloom: int | None = field(default=None, compare=False, repr=False)
    """2,048 bits in which every log's address and topics have left their marks; None where not told."""


class RawLog(TypedDict):
    """A log as the node sends it: numbers are `0x` hex."""

    address: str
    topics: list[str]
    data: str
    blockNumber: str
    blockHash: str
    transactionHash: str
    logIndex: str
    blockTimestamp: NotRequired[str]


LogFilter: TypeAlias = dict[str, Json]
"""`address` and `topics` as `eth_getLogs` takes them."""


def _block(raw: Json) -> Block:
    try:
        fields = cast("dict[str, str]", raw)
        return Block(
            int(fields["number"], 16),
            Hash(fields["hash"]),
            Hash(fields["parentHash"]),
            int(fields["timestamp"], 16),
            int(fields["logsBloom"], 16) if "logsBloom" in fields else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise AnswerMalformedError("a block", f"{type(error).__name__} {error}") from error


def _logs(answers: Sequence[Json]) -> list[RawLog]:
    """Join the answers to several filters in chain order, each log once.

    Raises
    ------
    AnswerMalformedError
        One of them is no list of logs, or holds logs that were taken back.
    """
    found: list[tuple[int, int, RawLog]] = []
    try:
        for answer in answers:
            for raw in cast("list[RawLog]", answer):
                if raw.get("removed"):
                    raise AnswerMalformedError("eth_getLogs", "it holds a log that was taken back")
                found.append((int(raw["blockNumber"], 16), int(raw["logIndex"], 16), raw))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise AnswerMalformedError("eth_getLogs", f"{type(error).__name__} {error}") from error
    found.sort(key=_PLACE)
    logs: list[RawLog] = []
    last = (-1, -1)
    for number, index, raw in found:
        if (number, index) != last:
            logs.append(raw)
        elif raw != logs[-1]:
            raise AnswerMalformedError("eth_getLogs", f"block {number} has two logs of index {index}")
        last = (number, index)
    return logs


_PLACE: Final = itemgetter(0, 1)


@dataclass(frozen=True, slots=True)
class _OneBlock:
    """What is read inside `at_one_block`."""

    least: int | None
    of: dict[Chain, Block] = field(default_factory=dict)


_AT_ONE_BLOCK: ContextVar[_OneBlock | None] = ContextVar("at_one_block", default=None)


@contextmanager
def at_one_block(*, least: int | None = None) -> Iterator[None]:
    """Have one block be the newest final one for all that is read inside: the one that is when it is first asked.

    Tasks that are begun inside read at it as long as they last.

    Parameters
    ----------
    least
        A block from which on the last one will do that the chain's node is known to hold final; none: it is asked.
    """
    token = _AT_ONE_BLOCK.set(_OneBlock(least))
    try:
        yield
    finally:
        _AT_ONE_BLOCK.reset(token)


class Chain:
    """Reads one chain through one node."""

    def __init__(self, rpc: Rpc, finality: Finality) -> None:
        self.rpc = rpc
        self.finality = finality
        self._chain_id: int | None = None
        self._last_final: Block | None = None
        """What its node last called final."""

    async def chain_id(self) -> int:
        """Give the EIP-155 chain id; asked once."""
        if self._chain_id is None:
            self._chain_id = int(str(await self.rpc.request("eth_chainId")), 16)
        return self._chain_id

    async def head(self) -> Block:
        """Give the newest block."""
        return await self._tagged("latest")

    async def block(self, number: int) -> Block | None:
        """Give the block of that height on the node's branch; None when it has none."""
        raw = await self.rpc.request("eth_getBlockByNumber", hex(number), False)
        return None if raw is None else _block(raw)

    async def blocks(self, numbers: Sequence[int]) -> dict[int, Block]:
        """Give the blocks of those heights that the node has, in one request."""
        raws = await self.rpc.batch([("eth_getBlockByNumber", [hex(n), False]) for n in numbers])
        return {block.number: block for block in (_block(raw) for raw in raws if raw is not None)}

    async def block_by_hash(self, block_hash: Hash) -> Block | None:
        """Give the block with that hash, on whichever branch; None when the node does not know it."""
        raw = await self.rpc.request("eth_getBlockByHash", block_hash, False)
        return None if raw is None else _block(raw)

    async def final(self) -> Block:
        """Give the newest block that the finality policy calls final; the very first while there is none."""
        one = _AT_ONE_BLOCK.get()
        if one is None:
            return await self._final()
        if self not in one.of:
            last = self._last_final
            if last is None or one.least is None or last.number < one.least:
                last = await self._final()
            one.of.setdefault(self, last)  # another reader may have been quicker
        return one.of[self]

    async def _final(self) -> Block:
        # The last, not the highest: another node may answer now, which is a few blocks behind.
        self._last_final = final = await self._asked_final()
        return final

    async def _asked_final(self) -> Block:
        confirmations = self.finality.confirmations
        if confirmations is None:
            return await self._tagged("finalized")
        head = await self.head()
        if confirmations == 0:
            return head
        number = max(0, head.number - confirmations)
        block = await self.block(number)
        if block is None:
            raise BlockAbsentError(number)
        return block

    async def finality_lag(self) -> int:
        """Give by how many seconds the newest final block is behind the head."""
        head, final = await self.head(), await self.final()
        return max(0, head.timestamp - final.timestamp)

    async def _tagged(self, tag: str) -> Block:
        raw = await self.rpc.request("eth_getBlockByNumber", tag, False)
        if raw is None and tag == "finalized":  # a young chain has finalized nothing but its beginning
            raw = await self.rpc.request("eth_getBlockByNumber", "earliest", False)
        if raw is None:
            raise BlockAbsentError(tag)
        return _block(raw)

    async def read(self, *calls: Call[Any], at: Block | int | None = None) -> tuple[Any, ...]:
        """Make several calls against the state after one and the same block, in one request.

        Parameters
        ----------
        at
            That block, or its number; None takes the newest final one.

        Raises
        ------
        ContractRevertError
            A contract refused; the first in order.
        ContractAbsentError
            No such contract at the address, at that block.
        """
        outcomes = await self.outcomes(*calls, at=at)
        for outcome in outcomes:
            if isinstance(outcome, AgoraiError):
                raise outcome
        return outcomes

    async def outcomes(self, *calls: Call[Any], at: Block | int | None = None) -> tuple[Any, ...]:
        """Like `read`, with the `AgoraiError` of a call that failed standing in its place."""
        where = await self._block_parameter(at, alone=len(calls) == 1)
        answers = await self.rpc.batch_outcomes(
            [("eth_call", [{"to": call.to, "data": "0x" + call.data.hex()}, where]) for call in calls]
        )
        return tuple(_returned(call, answer) for call, answer in zip(calls, answers, strict=True))

    async def _block_parameter(self, at: Block | int | None, *, alone: bool) -> str:
        if isinstance(at, Block):
            return hex(at.number)
        if at is not None:
            return hex(at)
        one = _AT_ONE_BLOCK.get()
        known = one is not None and (self in one.of or one.least is not None)
        # consistent in itself: ask by tag, save a round trip
        if alone and not known and not self.finality.confirmations:
            return "finalized" if self.finality.confirmations is None else "latest"
        return hex((await self.final()).number)

    async def logs(
        self,
        address: Address | Sequence[Address],
        topics: Sequence[str | Sequence[str] | None] = (),
        from_block: int = 0,
        to_block: int | None = None,
    ) -> list[RawLog]:
        """Give the logs of contracts between two heights, both included (None: the head), in chain order."""
        raw = await self.rpc.request(
            "eth_getLogs",
            {
                "address": cast("Json", address),
                "topics": cast("Json", list(topics)),
                "fromBlock": hex(from_block),
                "toBlock": "latest" if to_block is None else hex(to_block),
            },
        )
        return cast("list[RawLog]", raw)

    async def logs_between(
        self, wanted: Sequence[LogFilter], first: int, last: int
    ) -> tuple[list[RawLog], Block, Block]:
        """Give the logs of a range in chain order with its first and last block, from one request.

        Raises
        ------
        BlockAbsentError
            The node has not got that far, so its logs would be incomplete.
        AnswerMalformedError
            The answer contradicts itself.
        """
        span: LogFilter = {"fromBlock": hex(first), "toBlock": hex(last)}
        # The last block before and behind the logs: they are of its branch if it did not change meanwhile.
        raw_first, raw_before, *raw_logs, raw_last = await self.rpc.batch(
            [
                ("eth_getBlockByNumber", [hex(first), False]),
                ("eth_getBlockByNumber", [hex(last), False]),
                *(("eth_getLogs", [{**one, **span}]) for one in wanted),
                ("eth_getBlockByNumber", [hex(last), False]),
            ]
        )
        if None in (raw_first, raw_before, raw_last) or None in raw_logs:
            raise BlockAbsentError(last)
        first_block, last_block = _block(raw_first), _block(raw_last)
        if _block(raw_before) != last_block:
            raise AnswerMalformedError("eth_getLogs", f"block {last} was replaced meanwhile")
        logs = _logs(raw_logs)
        for block in (first_block, last_block):
            if not first <= block.number <= last:
                raise AnswerMalformedError("eth_getBlockByNumber", f"it gives block {block.number}")
        for raw in logs[:1] + logs[-1:]:
            number = int(raw["blockNumber"], 16)
            if not first <= number <= last:
                raise AnswerMalformedError(
                    "eth_getLogs", f"a log is of block {number}, outside {first} to {last}"
                )
            if number == last and raw["blockHash"] != last_block.hash:
                raise AnswerMalformedError("eth_getLogs", f"a log of block {number} is on another branch")
        return logs, first_block, last_block

    async def logs_of(self, block_hash: Hash, wanted: Sequence[LogFilter]) -> list[RawLog]:
        """Give the logs of exactly this block in order, whatever happens to the branch meanwhile.

        Raises
        ------
        BlockAbsentError
            The node does not know the block (any more).
        AnswerMalformedError
            The answer contradicts itself.
        """
        outcomes = await self.rpc.batch_outcomes(
            [("eth_getLogs", [{**one, "blockHash": block_hash}]) for one in wanted]
        )
        refusal = next((one for one in outcomes if isinstance(one, RpcResponseError)), None)
        # some nodes answer [] for a block unknown to them
        if (refusal is not None or not any(outcomes)) and await self.block_by_hash(block_hash) is None:
            raise BlockAbsentError(block_hash)
        if refusal is not None:
            raise refusal
        logs = _logs(cast("list[Json]", outcomes))
        if any(raw["blockHash"] != block_hash for raw in logs):
            raise AnswerMalformedError("eth_getLogs", f"a log is of another block than {block_hash}")
        return logs

    async def logs_by_receipts(self, block_hash: Hash) -> list[RawLog] | None:
        """Give all logs of a block from its transactions' receipts, in order; None where a node cannot.

        Slower than `logs_of` and independent of the node's index of logs, which may be behind or cut short.

        Raises
        ------
        BlockAbsentError
            The node does not know the block (any more).
        AnswerMalformedError
            The answer contradicts itself.
        """
        try:
            receipts = await self.rpc.request("eth_getBlockReceipts", block_hash)
        except RpcResponseError:
            return None
        if receipts is None:
            raise BlockAbsentError(block_hash)
        try:
            return _logs([receipt["logs"] for receipt in cast("list[dict[str, Json]]", receipts)])
        except (KeyError, TypeError) as error:
            raise AnswerMalformedError("eth_getBlockReceipts", f"{type(error).__name__} {error}") from error

    async def heads(self, *, poll_s: float = POLL_S, silence_s: float = SILENCE_S) -> AsyncGenerator[Block]:
        """Yield each new head, from the node's own `newHeads` where it speaks WebSocket, else by polling.

        A head may be skipped, come late or belong to another branch than the one before; the first comes at
        once. While subscribed the head is still looked at when the socket was silent for `silence_s`, so a
        socket that is open but dead only delays. Close it with `contextlib.aclosing`.

        Raises
        ------
        RpcUnreachableError
            The node answers neither way; ask again.
        """
        feed = _HeadFeed(self.rpc)
        task = asyncio.create_task(feed.run(), name="chain.heads")
        last: Hash | None = None
        try:
            while True:
                if feed.pushed:
                    block = feed.pushed.popleft()
                else:
                    if not feed.look:
                        await feed.wait(silence_s if feed.subscribed else poll_s)
                        if feed.pushed:
                            continue
                    feed.look = False
                    block = await self.head()
                if block.hash != last:
                    last = block.hash
                    yield block
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class _HeadFeed:
    """Holds a `newHeads` subscription, renewed whenever it breaks, and what it pushed."""

    def __init__(self, rpc: Rpc) -> None:
        self.pushed: deque[Block] = deque(maxlen=_HEADS_KEPT)
        self.subscribed = False
        self.look = True
        """Heads may have been missed: the next one should be asked for."""
        self._rpc = rpc
        self._news = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Wait for news; silence is a reason to look."""
        self._news.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            self.look = True

    async def run(self) -> None:
        attempt = 0
        while True:
            try:
                async with aclosing(self._rpc.subscribe("newHeads")) as heads:
                    async for head in heads:
                        if head is None:
                            self.subscribed = self.look = True
                            attempt = 0
                        else:
                            self.pushed.append(_block(head))
                        self._news.set()
            except Exception as error:  # noqa: BLE001 - whatever it sent: heads are asked for meanwhile
                log.debug("chain.heads.unsubscribed", reason=str(error) or type(error).__name__)
            self.subscribed = False
            self._news.set()
            await asyncio.sleep(_RESUBSCRIBE_S[min(attempt, len(_RESUBSCRIBE_S) - 1)])
            attempt += 1


async def time_of(chain: Chain, *, newest: bool = False) -> int:
    """Give this machine's time, or the last final block's (or the newest's) if later; in seconds since 1970."""
    block = await (chain.head() if newest else chain.final())
    return max(block.timestamp, int(time.time()))


def _returned(call: Call[Any], answer: Json | RpcResponseError) -> Any:
    if isinstance(answer, RpcResponseError):
        if answer.data is None and "revert" not in answer.rpc_message.lower():
            return answer
        return revert_error(call, answer)
    output = bytes.fromhex(str(answer)[2:])
    try:
        return call.decode(output)
    except Exception as error:
        if output:
            raise
        absent = ContractAbsentError(call.contract, call.function, call.to)
        absent.__cause__ = error
        return absent


def revert_error(call: Call[Any], error: RpcResponseError) -> ContractRevertError:
    """Explain a node's refusal of a call or gas estimate by the contract's own errors."""
    reason = error.rpc_message
    if error.data and error.data != "0x":
        reason = ContractAbi.load(call.contract).decode_error(error.data)
    return ContractRevertError(call.contract, call.function, reason)
