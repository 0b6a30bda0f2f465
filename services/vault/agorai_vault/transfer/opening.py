"""The data of a transfer, opened by whichever of the keys that were told they commit to.

NotAboutTransferError (RefusedError)     a case of the panel is about something else
TransferKeyAbsentError (NotFoundError)   nobody has told this vault a key that opens the data
TransferUnknownError (NotFoundError)     there is no such transfer, or no data of it
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import cast

from agorai_shared import cid as cids
from agorai_shared import logging
from agorai_shared.bindings.data_transfer import DataProvided, DataTransfer, Deal, Initiated
from agorai_shared.bindings.voting_panel import Case, VotingPanel
from agorai_shared.digest_files import DigestFiles
from agorai_shared.envelopes import open_as_member
from agorai_shared.errors import AgoraiError, NotFoundError, RefusedError
from agorai_shared.market import Market
from agorai_shared.peers import NoPeerHasError
from agorai_shared.sealing import SealTamperedError, open_sealed
from agorai_shared.shared_jwe import Envelope
from agorai_shared.transfer_key import context
from agorai_shared.types import CaseId, Cid
from agorai_vault.holders import holders_of
from agorai_vault.keys import Keys
from agorai_vault.transfer.records import Kept, TransferRecords

log = logging.get(__name__)


class NotAboutTransferError(RefusedError):
    """A case is not about a transfer of this marketplace."""

    def __init__(self, case: int) -> None:
        super().__init__(f"Case {case} is not about a transfer of data.")


class TransferKeyAbsentError(NotFoundError):
    """None of the keys that were told opens the data, or none was told."""

    retryable = True

    def __init__(self, transfer: int) -> None:
        super().__init__(
            f"Nobody has told this node a key that opens the data of transfer 0x{transfer:064x}.",
            remedy="Both sides tell it to voters who are drawn, and these to the consumer when they have voted.",
        )


class TransferUnknownError(NotFoundError):
    """There is no such transfer, or its data were not provided."""

    retryable = True

    def __init__(self, transfer: int) -> None:
        super().__init__(
            f"There is no transfer 0x{transfer:064x} with data, or none that is final yet.",
            remedy="See those of this account: `agorai transfer list`.",
        )


@dataclass(frozen=True)
class TransferData:
    """What the chain says of transfers, and what this account can open of them."""

    market: Market
    keys: Keys
    records: TransferRecords
    files: DigestFiles
    _deals: dict[int, Deal] = field(default_factory=dict)

    @property
    def contract(self) -> DataTransfer:
        """The contract of transfers."""
        return DataTransfer(self.market.deployment.data_transfer)

    @property
    def panel(self) -> VotingPanel:
        """The contract of voters."""
        return VotingPanel(self.market.deployment.voting_panel)

    async def case(self, id_: CaseId) -> Case:
        """Read a case."""
        (found,) = await self.market.chain.read(self.panel.case_of(id_))
        return cast("Case", found)

    async def deal(self, transfer: int) -> Deal:
        """Give what a transfer was opened with; raises `TransferUnknownError`."""
        if transfer not in self._deals:
            opened = await self.market.events(self.contract.address, Initiated, f"0x{transfer:064x}")
            if not opened:
                raise TransferUnknownError(transfer)
            self._deals[transfer] = opened[0][0].deal
        return self._deals[transfer]

    async def _provided(self, transfer: int) -> DataProvided:
        found = await self.market.events(self.contract.address, DataProvided, f"0x{transfer:064x}")
        if not found:
            raise TransferUnknownError(transfer)
        return found[0][0]

    async def own_key(self, transfer: int) -> tuple[Envelope, bytes]:
        """Open what the provider sealed to this account.

        Raises
        ------
        FileAbsentError
            If nobody serves it.
        DocumentMalformedError, EnvelopeFaultyError, NotForKeyError
            If it is no key for this account.
        """
        deal, provided = await self.deal(transfer), await self._provided(transfer)
        digest = provided.ipfs_encrypted_aes_key_address
        what = f"key of the data of transfer 0x{transfer:064x}"
        envelope = await self.files.read(Envelope, digest, what, [deal.data_provider])
        return envelope, self.key_of(envelope, transfer)

    def key_of(self, envelope: Envelope, transfer: int) -> bytes:
        """Open an envelope of a transfer's that is for this account."""
        return open_as_member(envelope, self.keys.address, self.keys.jwk, self.context(transfer))

    def context(self, transfer: int) -> str:
        """Give what the data of a transfer are sealed for."""
        return context(self.market.deployment.chain_id, self.contract.address, transfer)

    async def judged(self, id_: CaseId) -> AsyncIterator[bytes]:
        """Stream the data that a case is about, in the clear, for the voter that this account is.

        Raises
        ------
        NotAboutTransferError, TransferKeyAbsentError, NoPeerHasError, SealTamperedError
        """
        case = await self.case(id_)
        if case.opener != self.contract.address:
            raise NotAboutTransferError(id_)
        return await self._opened(case.item, self.records.of_case(id_))

    async def bought(self, transfer: int) -> AsyncIterator[bytes]:
        """Stream the data of a transfer in the clear by a key that a voter told its consumer; raises as `judged`."""
        return await self._opened(transfer, self.records.of_transfer(transfer))

    async def _opened(self, transfer: int, told: list[Kept]) -> AsyncIterator[bytes]:
        """Open the data by the one of the keys that they commit to; who tells a false one holds up none."""
        deal, provided = await self.deal(transfer), await self._provided(transfer)
        holders = await holders_of(self.market, deal.data_provider)
        unserved: NoPeerHasError | None = None
        for kept in told:
            try:
                if cids.digest_of(Cid(kept.envelope.cid)) != provided.ipfs_data_address:
                    continue
                key = self.key_of(kept.envelope, transfer)
                pieces = open_sealed(holders.get(Cid(kept.envelope.cid)), key)
                first = await anext(pieces, b"")
            except NoPeerHasError as error:
                unserved = error
            except SealTamperedError:  # the key is right
                raise
            except AgoraiError as error:
                log.info("transfer.key_false", transfer=transfer, sender=kept.sender, why=error.message)
            else:
                self.records.opened(kept)
                return _joined(first, pieces)
        raise unserved or TransferKeyAbsentError(transfer)


async def _joined(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in pieces:
        yield piece
