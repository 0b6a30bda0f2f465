"""Judging what others contest ("Fair and autonomous sharing", IV-D), from outside a node: it votes by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from agorai.exchange import Contracts
from agorai_shared.bindings.data_pool import DataPool
from agorai_shared.bindings.voting_panel import Case, Drawn, Revealed, Seat, Voter
from agorai_shared.types import CaseId, Wei


@dataclass(frozen=True, slots=True)
class Drawing:
    """A case for which an account was drawn."""

    id: CaseId
    case: Case
    seat: Seat
    contract: str
    """That asked, about its item `case.item`: its name in the marketplace, or a stranger's address."""
    pool: int | None
    """Of the contribution that it is about; None when another contract than `DataPool` asked."""
    vote: bool | None
    """Whether the account confirmed the accused; None until it has revealed."""


@dataclass(frozen=True, slots=True)
class Judging:
    """What an account has staked to judge, and has judged."""

    voter: Voter
    stake: int
    """Of one seat, in the token's smallest unit."""
    cases: tuple[Drawing, ...]
    """The newest first."""


class Voting(Contracts):
    """Judging of others' cases; the node votes by itself once it is drawn."""

    async def enlist(self, seats: int) -> Voter:
        """Stake for more seats; gives how many there are then.

        Raises
        ------
        TradeRefusedError
            If the contract refuses; nothing was staked.
        """
        await self.allow(self.panel.address, await self.stake_of(seats))
        await self.send(self.panel.enlist(seats))
        return await self._voter()

    async def stake_of(self, seats: int) -> Wei:
        """Give what seats cost, in the token's smallest unit."""
        (config,) = await self.read(self.panel.config())
        return Wei(seats * config.seat_stake)

    async def retire(self, seats: int) -> Voter:
        """Take free seats back, whose stake is credited; raises as `enlist`."""
        await self.send(self.panel.retire(seats))
        return await self._voter()

    async def _voter(self) -> Voter:
        (voter,) = await self.read(self.panel.voter_of(self.client.address))
        return cast("Voter", voter)

    async def judging(self) -> Judging:
        """Give this account's seats, and the cases for which it was drawn."""
        me = self.client.address
        drawn = await self.events(self.panel.address, Drawn, None, self.my_topic)
        revealed = await self.events(self.panel.address, Revealed, None, self.my_topic)
        votes = {event.id: event.confirms for event in revealed}
        ids = sorted({event.id for event in drawn}, reverse=True)
        calls = [call for id_ in ids for call in (self.panel.case_of(id_), self.panel.seat_of(id_, me))]
        (config, *found) = await self.read(self.panel.config(), *calls)
        names = {address: name for name, address in self.client.deployment.contracts.items()}
        pools = await self._pools(dict(zip(ids, found[::2], strict=True)))
        cases = [
            Drawing(id_, case, seat, names.get(case.opener, case.opener), pools.get(id_), votes.get(id_))
            for id_, case, seat in zip(ids, found[::2], found[1::2], strict=True)
        ]
        return Judging(await self._voter(), config.seat_stake, tuple(cases))

    async def _pools(self, cases: Mapping[CaseId, Case]) -> dict[CaseId, int]:
        """Give the pools of the contributions that cases are about."""
        contract = DataPool(self.client.deployment.data_pool)
        items = {id_: case.item for id_, case in cases.items() if case.opener == contract.address}
        found = await self.read(*map(contract.contribution_of, items.values())) if items else ()
        return {id_: one.pool for id_, one in zip(items, found, strict=True)}
