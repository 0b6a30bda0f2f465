"""One chain that is followed: its nodes, what is published of it, and how it is doing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from nats.aio.client import Client
from pydantic import BaseModel

from agorai_hub import metrics
from agorai_hub.audit import logs_of_range
from agorai_hub.contracts import ContractSet
from agorai_hub.decide import Policy
from agorai_hub.decoding import Decoder
from agorai_hub.follower import Follower, Timing
from agorai_hub.second_pass import SecondPass
from agorai_hub.settings import FollowedChain, HubSettings
from agorai_hub.status import Status
from agorai_hub.streams import Streams, writer_name
from agorai_shared import bus, logging
from agorai_shared.chain import Chain, Finality, RawLog
from agorai_shared.ending import cancelled
from agorai_shared.endpoint import hide_secrets
from agorai_shared.errors import AgoraiError, InputError, UnavailableError
from agorai_shared.rpc import Rpc, RpcResponseError

log = logging.get(__name__)

_PAUSES_S: Final = (0.1, 0.3, 1.0, 3.0)
SURVEY_S: Final = 5.0
"""Between comparisons of several nodes' heads."""
RECHECK_S: Final = 60.0
CODE_S: Final = 15.0
"""Between looks at addresses at which there was no contract."""


class ChainTwiceError(InputError):
    """Two of the chains to follow are one."""

    def __init__(self, chain_id: int) -> None:
        super().__init__(
            f"Chain {chain_id} is to be followed twice.",
            remedy="Name all of its endpoints and contracts in one entry.",
        )


class OtherChainError(UnavailableError):
    """The node serves another chain than is to be followed."""

    def __init__(self, url: str, found: int, wanted: int) -> None:
        super().__init__(
            f"The chain node at {hide_secrets(url)} serves chain {found}; chain {wanted} is to be followed.",
            remedy="Name the right RPC URL, or the right deployment or chain id.",
        )


class EndpointState(BaseModel):
    """How one of a chain's nodes does."""

    url: str
    head: int | None
    latency_ms: float
    failures: int
    resting_s: float


class ContractState(BaseModel):
    """One contract that is followed; of a family how many members are known."""

    name: str
    address: str | None
    start_block: int
    members: int | None = None
    has_code: bool | None = None


class ChainState(BaseModel):
    """How one chain is followed."""

    chain_id: int | None
    ready: bool
    problem: str
    standby: bool
    confirmations: int | None
    node_head: int | None
    head: int | None
    final: int | None
    lag_blocks: int | None
    lag_s: float | None
    endpoints: list[EndpointState]
    contracts: list[ContractState]


@dataclass(slots=True)
class Connected:
    """What there is of a chain once its node and the bus have answered."""

    chain: Chain
    decoder: Decoder
    client: Client


class Line:
    """Follows one chain for as long as it runs."""

    def __init__(self, followed: FollowedChain, settings: HubSettings) -> None:
        self.followed = followed
        self.settings = settings
        self.contracts = ContractSet(followed.contracts)
        self.status = Status(settings.unready_after_s, followed.max_block_age_s)
        self.connected: Connected | None = None
        self._rpc: Rpc | None = None
        self._second: SecondPass | None = None
        self._codeless: set[str] | None = None
        self._rebuild = asyncio.Event()
        self._auditor: Decoder | None = None
        self._announced = 1

    async def run(self, connect: Callable[[], Awaitable[Client]], taken: set[int]) -> None:
        """Follow the chain until cancelled, starting over until the bus and the node are there.

        Parameters
        ----------
        taken
            Ids of the chains that this process follows already.
        """
        async with AsyncExitStack() as stack:
            rpc = Rpc(
                self.followed.nodes(), timeout_s=self.settings.rpc_timeout_s, observe=metrics.observe_rpc
            )
            stack.push_async_callback(_closed, rpc)
            self._rpc = rpc
            by = f"start of a hub {id(self)}"
            stack.callback(logging.forget, by)
            chain = Chain(rpc, Finality(self.followed.confirmations))
            attempt = 0
            while True:
                try:
                    client = await connect()
                    chain_id = await _chain_id(rpc, self.followed.chain_id)
                    if self.status.chain_id is None:
                        _claim(chain_id, taken)
                        self.status.chain_id = chain_id
                    streams = Streams(client, chain_id, writer_name())
                    await streams.ensure(self.settings.replicas)
                    logging.present(by)
                    break
                except (UnavailableError, RpcResponseError, bus.BusRefusedError) as error:
                    self.status.trouble(str(error))
                    pause = _PAUSES_S[min(attempt, len(_PAUSES_S) - 1)]
                    attempt += 1
                    logging.trouble(
                        log,
                        "hub.not_started",
                        error,
                        by,
                        self.followed.chain_id,
                        reason=str(error),
                        pause_s=pause,
                    )
                    await asyncio.sleep(pause)
                except ChainTwiceError as error:
                    self.status.trouble(str(error))
                    log.error("hub.not_started", reason=str(error))  # noqa: TRY400
                    return
            decoder = Decoder(chain_id, self.contracts)
            self.connected = Connected(chain, decoder, client)
            while True:
                await self._follow(chain, streams, decoder, client)
                await streams.begin_anew(self.settings.replicas)
                self.status.begin_anew()
                self._auditor, self._announced = None, 1
                log.warning("hub.streams.begun_anew", chain=chain_id)

    def rebuild(self) -> None:
        """Have both streams deleted and written anew from the chain."""
        self._rebuild.set()

    async def _follow(self, chain: Chain, streams: Streams, decoder: Decoder, client: Client) -> None:
        """Follow the chain until the streams are to be written anew."""
        rpc = chain.rpc
        policy = Policy(self.followed.confirmations, self.settings.catch_up_blocks)
        timing = Timing(self.settings.poll_s, self.settings.takeover_s)
        follower = Follower(chain, streams, decoder, policy, timing, self.status)
        beside = [
            asyncio.create_task(_kept(lambda: self._surveyed(rpc)), name="hub.survey"),
            asyncio.create_task(_kept(lambda: self._looked_for_code(rpc)), name="hub.code"),
            asyncio.create_task(_kept(lambda: self._audited(chain, client)), name="hub.audit"),
        ]

        async def follow() -> None:
            await follower.run()
            await cancelled(beside)  # the chain was reorged past finality: nothing is to be done for it

        following = asyncio.create_task(_kept(follow), name="hub.follow")
        try:
            await self._rebuild.wait()
            self._rebuild.clear()
        finally:
            await cancelled([following])
            await cancelled(beside)

    async def _surveyed(self, rpc: Rpc) -> None:
        while len(rpc.endpoints) > 1:
            await rpc.survey()
            for endpoint in rpc.endpoints:
                if endpoint.head is not None:
                    metrics.ENDPOINT_HEAD.labels(endpoint.name).set(endpoint.head)
            await asyncio.sleep(SURVEY_S)

    async def _looked_for_code(self, rpc: Rpc) -> None:
        """Warn of addresses at which there is no contract: perhaps not yet, perhaps a wrong one."""
        named = self.contracts.named
        while self._codeless is None or self._codeless:
            try:
                codes = await rpc.batch([("eth_getCode", [known.address, "latest"]) for known in named])
            except (UnavailableError, RpcResponseError):
                await asyncio.sleep(SURVEY_S)
                continue
            codeless = {known.name for known, code in zip(named, codes, strict=True) if code in ("0x", None)}
            if self._codeless is None:
                for known in named:
                    if known.name in codeless:
                        log.warning("hub.contract.no_code", contract=known.name, address=known.address)
            self._codeless = codeless
            await asyncio.sleep(CODE_S)

    async def auditor(self) -> Decoder:
        """Give a decoder that knows all members announced by now, whoever writes; raises `BusUnreachableError`."""
        assert self.connected is not None  # noqa: S101 - its callers look
        if self._auditor is None:
            self._auditor = Decoder(self.connected.decoder.chain_id, ContractSet(self.followed.contracts))
        contracts = self._auditor.contracts
        streams = Streams(self.connected.client, self._auditor.chain_id, "")
        announced, self._announced = await streams.announced(contracts.families, self._announced)
        contracts.learn(announced)
        return self._auditor

    async def _audited(self, chain: Chain, client: Client) -> None:
        decoder = await self.auditor()

        async def logs(chain: Chain, _decoder: Decoder, first: int, last: int) -> list[RawLog]:
            return await logs_of_range(chain, await self.auditor(), first, last)

        self._second = SecondPass(
            chain,
            decoder,
            client,
            delay_s=self.settings.audit_delay_s,
            recheck_s=RECHECK_S,
            replicas=self.settings.replicas,
            logs=logs,
        )
        await self._second.run()

    async def check(self) -> None:
        """Raise while the chain is not followed as it should be."""
        self.status.check()
        if self._second is not None and self._second.problem is not None:
            raise self._second.problem

    async def state(self) -> ChainState:
        """Tell how the chain is followed."""
        problem = ""
        try:
            await self.check()
        except AgoraiError as error:
            problem = str(error)
        status = self.status
        newest = status.newest
        behind = None
        if newest is not None and status.node_head is not None:
            behind = max(0, status.node_head - newest.number)
        now = time.monotonic()
        return ChainState(
            chain_id=status.chain_id,
            ready=not problem,
            problem=problem,
            standby=status.standby,
            confirmations=self.followed.confirmations,
            node_head=status.node_head,
            head=None if newest is None else newest.number,
            final=status.final,
            lag_blocks=behind,
            lag_s=None if newest is None else round(max(0.0, time.time() - newest.timestamp), 1),
            endpoints=[
                EndpointState(
                    url=one.name,
                    head=one.head
                    if one.head is not None or len(self.followed.endpoints) > 1
                    else status.node_head,
                    latency_ms=round(1000 * one.latency_s, 2),
                    failures=one.failures,
                    resting_s=round(max(0.0, one.rests_until - now, one.barred_until - now), 1),
                )
                for one in (self._rpc.endpoints if self._rpc is not None else self.followed.nodes())
            ],
            contracts=[
                ContractState(
                    name=one.name,
                    address=one.address,
                    start_block=one.start_block,
                    members=None
                    if one.factory is None
                    else sum(known.name == one.name for known in self.contracts.members),
                    has_code=None
                    if self._codeless is None or one.address is None
                    else one.name not in self._codeless,
                )
                for one in self.followed.contracts
            ],
        )


async def _closed(rpc: Rpc) -> None:
    """Close the connections whole, though this may be cancelled once more meanwhile."""
    await asyncio.shield(asyncio.create_task(rpc.close()))


async def _kept(work: Callable[[], Awaitable[None]]) -> None:
    """Do what goes on beside the following, which no fault of it may end."""
    while True:
        try:
            return await work()
        except Exception:
            log.exception("hub.fault")
            await asyncio.sleep(SURVEY_S)


async def _chain_id(rpc: Rpc, wanted: int | None) -> int:
    found = int(str(await rpc.request("eth_chainId")), 16)
    if wanted not in (None, found):
        raise OtherChainError(rpc.url, found, wanted)
    return found


def _claim(chain_id: int, taken: set[int]) -> None:
    if chain_id in taken:
        raise ChainTwiceError(chain_id)
    taken.add(chain_id)
