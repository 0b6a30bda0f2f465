"""The shell of the reward service: reading contributions and pools, and performing the one next step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, cast

from agorai_reward import decide
from agorai_shared import logging
from agorai_shared.bindings.data_pool import (
    Added,
    Challenged,
    Contribution,
    DataPool,
    Opened,
    Pool,
    PoolState,
    Settled,
    State,
)
from agorai_shared.bindings.voting_panel import Case, Config, VotingPanel
from agorai_shared.chain import time_of
from agorai_shared.contract import Call
from agorai_shared.errors import RemoteError
from agorai_shared.market import Market, topic_of
from agorai_shared.panel import PanelCall, PanelCase, once_more
from agorai_shared.pool_files import PoolFiles
from agorai_shared.types import Address, CaseId
from agorai_shared.vault import Vault, send_step

log = logging.get(__name__)

_NOT_OURS: Final = (
    "DataPool_WrongState", "DataPool_DeadlineNotPassed", "DataPool_WrongPoolState", "DataPool_RevealNotOver",
    "DataPool_NotQuiet", "DataPool_NothingToClaim", "TrainingTask_WrongTaskState", "TrainingTask_Deadline",
    "TrainingTask_NothingToClaim", "VotingPanel_",
)  # fmt: skip
"""What a contract says where another has called, whose clock is behind ours, or where a draw must come first."""


@dataclass(frozen=True)
class Sender:
    """Sends what anyone may send, so that somebody else's having done so is no error."""

    vault: Vault
    panel: VotingPanel

    async def send(self, once: str, call: Call[Any], **item: int) -> None:
        """Send a call once; one that is refused because it is too early or too late is let be."""
        try:
            await send_step(self.vault, once, call)
        except RemoteError as error:
            if error.code != "contract_revert" or not any(why in error.message for why in _NOT_OURS):
                raise
            log.info("reward.not_now", function=call.function, why=error.message, **item)
            if "VotingPanel_DrawDue" in error.message:  # another case's, which holds all verdicts up
                await self.send(f"{once}/draw", self.panel.draw(), **item)


@dataclass(frozen=True)
class ContributionProtocol:
    """Seeing contributions to their end, for the reconciler."""

    files: PoolFiles
    me: Address
    sender: Sender

    @property
    def name(self) -> str:
        """Name in logs and metrics."""
        return "pool_contribution"

    @property
    def market(self) -> Market:
        """The market that the pools are of."""
        return self.files.market

    @property
    def contract(self) -> DataPool:
        """The contract."""
        return self.files.contract

    @property
    def panel(self) -> VotingPanel:
        """The contract that decides what is contested."""
        return self.sender.panel

    async def read(self, key: int) -> decide.Item:
        """Read the contribution, and its panel's case, at final blocks."""
        contribution = await self.files.contribution(key)
        owner = (await self.files.opened(contribution.pool)).owner
        if contribution.state != State.CONTESTED:
            return decide.Item(contribution, owner, None)
        case, config = await self.market.chain.read(
            self.panel.case_of(CaseId(contribution.panel_case)), self.panel.config()
        )
        return decide.Item(contribution, owner, PanelCase(cast("Case", case), cast("Config", config)))

    def next_step(self, state: decide.Item, now: int) -> decide.Step | None:
        """Decide as this account."""
        return decide.next_step(state, self.me, now)

    def due(self, state: decide.Item, now: int) -> int | None:
        """Give this account's turn."""
        return decide.due(state, self.me, now)

    async def perform(self, key: int, step: decide.Step, once: str) -> bool:
        """Take the step."""
        if isinstance(step, decide.MovePanel):
            once = once_more(once, await self.now())
        if step == decide.MovePanel(PanelCall.DRAW):  # of whichever case comes first, maybe not of this one
            (first,) = await self.market.chain.read(self.panel.due_draw())
            once = f"{once}/{first}"
        await self.sender.send(once, await self._call(key, step), contribution=key)
        return False

    async def open_items(self) -> Iterable[int]:
        """Find the contributions that have not ended in which this account has money."""
        me, address = topic_of(self.me), self.contract.address
        found: set[int] = set()
        for opened, _ in await self.market.events(address, Opened, None, me):
            history = await self.files.history(opened.id)
            found |= history.additions.keys() - set(history.settled)
        added = await self.market.events(address, Added, None, None, me)
        settled = await self.market.events(address, Settled, None, None, me)
        found |= {event.id for event, _ in added} - {event.contribution for event, _ in settled}
        challenged = await self.market.events(address, Challenged, None, None, me)
        others = sorted({event.contribution for event, _ in challenged} - found)
        calls = [self.contract.contribution_of(id_) for id_ in others]
        items = cast("tuple[Contribution, ...]", await self.market.chain.read(*calls) if calls else ())
        found |= {id_ for id_, item in zip(others, items, strict=True) if item.state != State.SETTLED}
        return sorted(found)

    async def concerns(self, contribution: int) -> bool:
        """Say whether this account has money in a contribution."""
        item = await self.files.contribution(contribution)
        owner = (await self.files.opened(item.pool)).owner
        return self.me in (item.contributor, item.challenger, owner)

    async def contribution_of(self, case: CaseId) -> int | None:
        """Give the contribution that a case is about, None when it is another contract's."""
        (found,) = await self.market.chain.read(self.panel.case_of(case))
        return int(found.item) if found.opener == self.contract.address else None

    async def now(self) -> int:
        """Give the later of the chain's time and this machine's, in seconds since 1970."""
        return await time_of(self.market.chain)

    async def _call(self, key: int, step: decide.Step) -> Call[Any]:
        match step:
            case decide.Settle():
                return self.contract.settle(key)
            case decide.Contest():
                return self.contract.contest(key)
            case decide.Resolve():
                return self.contract.resolve(key)
            case decide.MovePanel(PanelCall.DRAW):
                return self.panel.draw()
            case decide.MovePanel():
                return self.panel.close(CaseId((await self.files.contribution(key)).panel_case))


@dataclass(frozen=True)
class PoolProtocol:
    """Having the bond of a silent owner shared, for the reconciler; the key is the pool's."""

    files: PoolFiles
    me: Address
    sender: Sender

    @property
    def name(self) -> str:
        """Name in logs and metrics."""
        return "pool_bond"

    @property
    def market(self) -> Market:
        """The market that the pools are of."""
        return self.files.market

    @property
    def contract(self) -> DataPool:
        """The contract."""
        return self.files.contract

    async def read(self, key: int) -> decide.Share:
        """Read the pool, and what this account gave to it, at a final block."""
        given = await self._accepted(f"0x{key:064x}")
        calls = [self.contract.contribution_of(event.contribution) for event in given]
        pool, *items = await self.market.chain.read(self.contract.pool_of(key), *calls)
        found = cast("Pool", pool)
        mine = cast("list[Contribution]", items)
        return decide.Share(
            owner=found.owner,
            state=found.state,
            until=found.closes_at + found.reveal_window,
            accepted=found.accepted,
            quiet=not found.open,
            samples=sum(item.left for item in mine),
            unclaimed=tuple(
                event.contribution for event, item in zip(given, mine, strict=True) if not item.claimed
            ),
        )

    def next_step(self, state: decide.Share, now: int) -> decide.PoolStep | None:
        """Decide as this account."""
        return decide.next_pool_step(state, self.me, now)

    def due(self, state: decide.Share, _now: int) -> int | None:
        """Give when the owner's time is up."""
        return decide.pool_due(state, self.me)

    async def perform(self, key: int, step: decide.PoolStep, once: str) -> bool:
        """Take the step."""
        if isinstance(step, decide.Forfeit):
            call: Call[Any] = self.contract.forfeit(key)
        else:
            call = self.contract.multicall([self.contract.claim(id_).data for id_ in step.contributions])
        await self.sender.send(once, call, pool=key)
        return False

    async def open_items(self) -> Iterable[int]:
        """Find the pools that have taken samples of this account's and that have not revealed their test set."""
        ids = sorted({event.pool for event in await self._accepted(None)})
        pools = cast(
            "tuple[Pool, ...]",
            await self.market.chain.read(*map(self.contract.pool_of, ids)) if ids else (),
        )
        return [id_ for id_, pool in zip(ids, pools, strict=True) if pool.state != PoolState.CLOSED]

    async def concerns(self, pool: int) -> bool:
        """Say whether a pool has taken samples of this account's."""
        return bool(await self._accepted(f"0x{pool:064x}"))

    async def _accepted(self, pool: str | None) -> list[Settled]:
        """Give how this account's contributions to a pool, or to all, ended of which samples were taken."""
        ended = await self.market.events(self.contract.address, Settled, None, pool, topic_of(self.me))
        return [event for event, _ in ended if event.accepted]
