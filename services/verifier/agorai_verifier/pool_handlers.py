"""The shell of the verifier's part in data pools: reading a contribution, and performing the one next step."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias, TypeVar, cast

from agorai_shared import logging, pool_history
from agorai_shared.bindings.data_pool import (
    Added,
    Challenged,
    Committed,
    Contribution,
    DataPool,
    Opened,
    Settled,
    State,
)
from agorai_shared.chain import time_of
from agorai_shared.contract import Call
from agorai_shared.errors import RemoteError, UnavailableError
from agorai_shared.market import Market, topic_of
from agorai_shared.pool_files import PoolFiles
from agorai_shared.pool_history import WindowTooShortError
from agorai_shared.pool_trainer import CheckSamples, JudgeChallenge, PoolTrainer
from agorai_shared.types import Address, Wei
from agorai_shared.vault import Vault, send_step
from agorai_shared.verifier import PoolFinding, WatchedPool
from agorai_verifier import pool_decide as decide
from agorai_verifier.pool_decide import Commitment, Found, PoolItem, Round, Rules, Watch
from agorai_verifier.pool_records import Finding, PoolRecords

log = logging.get(__name__)

TURN_S: Final = 30.0
"""How long one look waits for the trainer, so that files which do not come take nobody else's turn; the next one asks
for the same work."""

MOST_FINDINGS: Final = 100
"""Findings that one answer tells of, those whose time is up soonest; and of each the surest suspicions."""
MOST_SUSPICIONS: Final = 10

_UNLIMITED: Final = Wei(2**256 - 1)
_TOO_LATE: Final = ("DataPool_WrongState", "DataPool_DeadlinePassed", "DataPool_NotCommitted")
"""What the contract says where somebody else was first, or the time is up by its own clock."""

_R = TypeVar("_R")
_Transaction: TypeAlias = decide.Approve | decide.Commit | decide.Challenge | decide.Answer | decide.Contest


class TrainerOverdueError(UnavailableError):
    """The trainer has not come to an end yet."""

    def __init__(self, what: str, contribution: int) -> None:
        super().__init__(f"The trainer has not {what} contribution {contribution} yet.")


@dataclass(frozen=True)
class PoolProtocol:
    """Checking, answering and contesting, for the reconciler; the key is the contribution's."""

    files: PoolFiles
    me: Address
    vault: Vault
    trainer: PoolTrainer
    records: PoolRecords
    stake_on_own: bool
    """Whether pools of this account's own are staked on, unless it was told otherwise of one."""
    rules: dict[int, Rules] = field(default_factory=dict)
    """By pool; they never change."""

    @property
    def name(self) -> str:
        """Name in logs and metrics."""
        return "pool_check"

    @property
    def market(self) -> Market:
        """The market that the pools are of."""
        return self.files.market

    @property
    def contract(self) -> DataPool:
        """The contract."""
        return self.files.contract

    async def read(self, key: int) -> PoolItem:
        """Read the contribution at a final block, with what this node holds of it."""
        item = await self.files.contribution(key)
        rules = await self.rules_of(item.pool)
        finding = self.records.finding(key, Round.of(item))
        found, commitment = None, None
        if finding is not None:
            proposal, bound = finding.checked.proposal, self._bound(finding)
            found = Found(proposal.count if proposal else 0, finding.staking, bound)
            if proposal and item.state == State.OPEN:
                commitment = await self._commitment(bound)
        state = PoolItem(
            contribution=item,
            rules=rules,
            watch=await self.watch_of(item.pool, rules),
            found=found,
            commitment=commitment,
            judged=self.records.judged(key, Round.of(item)),
            funded=True,
            allowed=True,
        )
        cost = decide.cost(state, self.me)
        if not cost:
            return state
        tokens, allowance = await self.market.chain.read(
            self.market.token.balance_of(self.me),
            self.market.token.allowance(self.me, self.contract.address),
        )
        return replace(state, funded=tokens >= cost, allowed=allowance >= cost)

    def next_step(self, state: PoolItem, now: int) -> decide.Step | None:
        """Decide as this account."""
        if decide.lacks(state, now):
            log.warning("pool.tokens_lacking", pool=state.contribution.pool)
        return decide.next_step(state, self.me, now)

    def due(self, state: PoolItem, now: int) -> int | None:
        """Give when to look again."""
        return decide.due(state, self.me, now)

    async def perform(self, key: int, step: decide.Step, once: str) -> bool:
        """Take the step; one that only looks at something asks for another look at once."""
        match step:
            case decide.Check():
                await self._check(key, step)
            case decide.Judge():
                await self._judge(key, step)
            case (
                decide.Approve() | decide.Commit()
            ):  # of which no event that names the contribution will tell
                sent = await send_step(self.vault, once, self._call(key, step))
                return (await self.vault.settled(sent)).settled
            case _:
                await self._transact(key, step, once)
                return False
        return True

    async def open_items(self) -> Iterable[int]:
        """Find the open contributions to pools that are watched or this account's, and its own contributions."""
        me, address = topic_of(self.me), self.contract.address
        pools = {event.id for event, _ in await self.market.events(address, Opened, None, me)}
        pools.update(pool for pool, watch in self.records.watches().items() if watch is not Watch.OFF)
        found = {item for pool in sorted(pools) for item in await self.open_of(pool)}
        added = await self.market.events(address, Added, None, None, me)
        challenged = await self.market.events(address, Challenged, None, None, me)
        settled = {
            event.contribution for event, _ in await self.market.events(address, Settled, None, None, me)
        }
        found.update(event.id for event, _ in added if event.id not in settled)
        others = sorted({event.contribution for event, _ in challenged} - found)
        calls = [self.contract.contribution_of(id_) for id_ in others]
        items = cast("tuple[Contribution, ...]", await self.market.chain.read(*calls) if calls else ())
        found.update(id_ for id_, item in zip(others, items, strict=True) if item.state != State.SETTLED)
        return sorted(found)

    async def open_of(self, pool: int) -> list[int]:
        """Give the contributions to a pool that have not ended."""
        history = await self.files.history(pool)
        settled = set(history.settled)
        return [id_ for id_ in history.additions if id_ not in settled]

    async def now(self) -> int:
        """Give the later of the chain's time and this machine's, in seconds since 1970."""
        return await time_of(self.market.chain)

    async def concerns(self, contribution: int) -> bool:
        """Say whether this account watches the pool, owns it, or has money in the contribution."""
        item = await self.files.contribution(contribution)
        rules = await self.rules_of(item.pool)
        parties = (rules.owner, item.contributor, item.challenger)
        return self.me in parties or self._said_of(item.pool, rules) is not Watch.OFF

    async def rules_of(self, pool: int) -> Rules:
        """Give what a pool was opened with."""
        if pool not in self.rules:
            (found,) = await self.market.chain.read(self.contract.pool_of(pool))
            self.rules[pool] = Rules.of(found)
        return self.rules[pool]

    async def watch_of(self, pool: int, rules: Rules) -> Watch:
        """Give what is to be done about a pool: nothing is staked where nobody could contest what its owner says."""
        said = self._said_of(pool, rules)
        if said is not Watch.STAKE:
            return said
        try:
            await self._require_time(rules)
        except WindowTooShortError as error:
            log.warning("pool.not_staked", pool=pool, why=error.message)
            return Watch.LOOK
        return said

    async def _require_time(self, rules: Rules) -> None:
        windows = {"check": rules.check_window, "answer": rules.answer_window}
        pool_history.require_time(windows, await self.market.chain.finality_lag())

    def _said_of(self, pool: int, rules: Rules) -> Watch:
        """Give what was said of a pool; where nothing was, only an own one is watched."""
        own = Watch.STAKE if self.stake_on_own else Watch.LOOK
        return self.records.watches().get(pool, own if rules.owner == self.me else Watch.OFF)

    # ------------------------------------------------------------------------------------------- commands

    async def watch(self, pool: int, watch: Watch) -> None:
        """Keep what is to be done about a pool; raises `PoolAbsentError`, to stake on it `WindowTooShortError`."""
        await self.files.opened(pool)
        if watch is Watch.STAKE:
            await self._require_time(await self.rules_of(pool))
        self.records.watch(pool, watch)

    async def watched(self) -> tuple[WatchedPool, ...]:
        """Tell which pools are watched, those of this account's own among them."""
        own = await self.market.events(self.contract.address, Opened, None, topic_of(self.me))
        pools = sorted({event.id for event, _ in own} | self.records.watches().keys())
        watches = [(pool, await self.watch_of(pool, await self.rules_of(pool))) for pool in pools]
        return tuple(
            WatchedPool(pool=pool, stake=watch is Watch.STAKE)
            for pool, watch in watches
            if watch is not Watch.OFF
        )

    async def findings(self, pool: int | None) -> tuple[PoolFinding, ...]:
        """Tell what was found and nobody has challenged, while there is time for it; of one pool, or of all."""
        found = [one for one in self.records.findings() if pool in (None, one.pool)]
        calls = [self.contract.contribution_of(one.contribution) for one in found]
        items = cast("tuple[Contribution, ...]", await self.market.chain.read(*calls) if calls else ())
        now, told = await self.now(), []
        for one, item in zip(found, items, strict=True):
            if item.state == State.SETTLED:
                self.records.forget(one.contribution)
            elif item.state == State.OPEN and now <= item.deadline and Round.of(item) == one.round:
                told.append(
                    PoolFinding(
                        pool=one.pool,
                        contribution=one.contribution,
                        deadline=item.deadline,
                        samples=one.checked.samples,
                        suspected=one.checked.suspected,
                        suspicions=one.checked.suspicions[:MOST_SUSPICIONS],
                        lacking=await self._lacking(one.contribution),
                    )
                )
        return tuple(sorted(told, key=lambda one: one.deadline)[:MOST_FINDINGS])

    async def _lacking(self, key: int) -> Wei:
        """Give what the account has too little for what it would lay down next for a contribution."""
        (tokens,) = await self.market.chain.read(self.market.token.balance_of(self.me))
        return Wei(max(decide.cost(await self.read(key), self.me) - tokens, 0))

    # -------------------------------------------------------------------------------------------- looking

    async def _check(self, key: int, step: decide.Check) -> None:
        command = CheckSamples(
            id=self._job(key, step.round, "check", step.stake, step.final),
            contribution=key,
            stake=step.stake,
            final=step.final,
        )
        checked = await self._in_time(self.trainer.check(command), step.until, "checked", key)
        pool = (await self.files.contribution(key)).pool
        self.records.find(key, pool, step.round, checked, staking=step.stake is not None)
        log.info("pool.checked", contribution=key, suspected=checked.suspected)

    async def _judge(self, key: int, step: decide.Judge) -> None:
        command = JudgeChallenge(
            id=self._job(key, step.round, "judge", step.final), contribution=key, final=step.final
        )
        judged = await self._in_time(self.trainer.judge(command), step.until, "judged", key)
        self.records.judge(key, step.round, upheld=judged.right, why=judged.explanation)
        log.info("pool.judged", contribution=key, right=judged.right, why=judged.explanation)

    async def _in_time(self, work: Awaitable[_R], until: int, what: str, key: int) -> _R:
        """Wait for the trainer for a while, but no longer than until a time in seconds since 1970."""
        try:
            async with asyncio.timeout(max(min(until - await self.now(), TURN_S), 1)):
                return await work
        except TimeoutError as error:
            raise TrainerOverdueError(what, key) from error

    def _job(self, key: int, round_: Round, *parts: object) -> str:
        """Name one piece of the trainer's work, so that asking for it again joins what is under way."""
        scope = self.market.deployment.chain_id, self.contract.address
        return hashlib.sha256(repr((*scope, key, round_, *parts)).encode()).hexdigest()[:32]

    async def _commitment(self, bound: bytes) -> Commitment | None:
        """Find where this node's challenge was committed to."""
        committed = await self.market.events(self.contract.address, Committed, f"0x{bound.hex()}")
        if not committed:
            return None
        (lifetime,) = await self.market.chain.read(self.contract.commitment_blocks())
        block = committed[-1][1]
        return Commitment(block, (await self.market.chain.final()).number < block + lifetime)

    def _bound(self, finding: Finding) -> bytes:
        """Give what binds to the challenge that was prepared; nothing if none was."""
        proposal = finding.checked.proposal
        if proposal is None:
            return b""
        chain_id, digest = self.market.deployment.chain_id, bytes.fromhex(proposal.digest)
        round_ = pool_history.round_of(finding.round.left, finding.round.failed)
        return pool_history.commitment(
            chain_id, self.contract.address, self.me, finding.contribution, round_, digest, finding.salt
        )

    # -------------------------------------------------------------------------------------------- sending

    async def _transact(self, key: int, step: _Transaction, once: str) -> None:
        try:
            await send_step(self.vault, once, self._call(key, step))
        except RemoteError as error:
            if error.code != "contract_revert" or not any(why in error.message for why in _TOO_LATE):
                raise
            log.info("pool.too_late", contribution=key, step=type(step).__name__, why=error.message)

    def _call(self, key: int, step: _Transaction) -> Call[Any]:
        if isinstance(step, decide.Approve):
            return self.market.token.approve(self.contract.address, _UNLIMITED)
        if isinstance(step, decide.Answer):
            return self.contract.answer(key, step.upheld)
        if isinstance(step, decide.Contest):
            return self.contract.contest(key)
        finding = self.records.finding(key, step.round)
        proposal = finding and finding.checked.proposal
        if finding is None or not proposal:
            raise AssertionError("only a challenge that is kept is committed to")
        if isinstance(step, decide.Commit):
            return self.contract.commit(self._bound(finding))
        return self.contract.challenge(
            key,
            proposal.count,
            proposal.corrected,
            bytes.fromhex(proposal.digest),
            proposal.document.encode(),
            finding.salt,
        )
