"""Transfers of data as a participant reads them, from the chain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from agorai.client import Client
from agorai.exchange import Contracts
from agorai.transfer_refusals import TransferAbsentError
from agorai.transfer_state import TransferSeen
from agorai_shared.bindings.data_transfer import Contested, DataProvided, DataTransfer, Ended, Initiated
from agorai_shared.bindings.voting_panel import Config
from agorai_shared.panel import PanelCase


class TransferReader(Contracts):
    """Reads transfers of data."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.contract = DataTransfer(client.deployment.data_transfer)

    async def look(self, transfer: int) -> TransferSeen:
        """Read a transfer; raises `TransferAbsentError`."""
        topic = f"0x{transfer:064x}"
        opened = await self.events(self.contract.address, Initiated, topic)
        if not opened:
            raise TransferAbsentError(transfer)
        (seen,) = await self._seen(opened, topic)
        return seen

    async def transfers(self) -> list[TransferSeen]:
        """Give those in which this account has part, the newest first."""
        me = self.client.address
        opened = await self.events(self.contract.address, Initiated)
        mine = [
            event
            for event in reversed(opened)
            if me in (event.deal.data_consumer, event.deal.data_provider, event.deal.authority)
        ]
        return await self._seen(mine, None) if mine else []

    async def _seen(self, opened: Sequence[Initiated], topic: str | None) -> list[TransferSeen]:
        states = await self.read(*(self.contract.state_of(event.deal) for event in opened))
        # After the states, so that of one which is not open there is the end.
        provided = {one.id: one for one in await self.events(self.contract.address, DataProvided, topic)}
        outcomes = {one.id: one.outcome for one in await self.events(self.contract.address, Ended, topic)}
        contested = {}  # its last case: the contract forgets that of a transfer which has ended
        if any(event.deal.panel_size for event in opened):
            events = await self.events(self.contract.address, Contested, topic)
            contested = {one.id: one.panel_case for one in events if one.id in outcomes}
        ids = {
            event.id: state.panel_case or contested.get(event.id, 0)
            for event, state in zip(opened, states, strict=True)
        }
        now, cases = await self.now(), await self._cases({*ids.values()} - {0})
        return [
            TransferSeen(
                event.id,
                event.deal,
                state,
                provided.get(event.id),
                outcomes.get(event.id),
                now,
                cases.get(ids[event.id]),
            )
            for event, state in zip(opened, states, strict=True)
        ]

    async def _cases(self, ids: Iterable[int]) -> dict[int, PanelCase]:
        """Give the panel's cases of these ids."""
        if not (wanted := sorted(ids)):
            return {}
        config, *found = await self.read(self.panel.config(), *map(self.panel.case_of, wanted))
        return {id_: PanelCase(case, cast("Config", config)) for id_, case in zip(wanted, found, strict=True)}
