"""What a voter's vault makes of a dispute's transcript, before anybody looks at a model (fair-sharing IV-C, IV-D).

The chain names the messages and the evidence, the parties' gateways serve them, `handover` says who is to blame for
one that is not good. What is left to judge then is the package itself, which this vault opens for the node's
verifier; its key stays here.

In a trade of the paper's mode voters are not to be given the model. What is left to judge then are parameter sets of
low quality: the accused fixes five by its first evidence, the accuser names two or three of them by its own first.
Of the address this is judged before: that its message is there, and whatever is wrong with it that the accuser can
show, which gives nothing away if it is no address; and that there is something at the place that the accused names.
What lies there nobody sees: a model that is not what was promised passes. An accused that cannot make such sets shows
its package, and is judged by that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, cast

from joserfc.jwk import RSAKey

from agorai_shared import cid as cids
from agorai_shared import evidence, handover, logging
from agorai_shared.bindings.fair_exchange import EvidenceGiven, Trade
from agorai_shared.bindings.fair_exchange import Step as OnChain
from agorai_shared.bindings.voting_panel import Case, Config, VotingPanel
from agorai_shared.errors import AgoraiError, NotFoundError
from agorai_shared.evidence import Evidence, EvidenceMalformedError, PackageKey, Testimony
from agorai_shared.handover import HandoverFaultyError, PackageAddress
from agorai_shared.jwe import DisclosureFalseError, EncryptionKeyError
from agorai_shared.panel import PanelCase
from agorai_shared.sealing import open_sealed
from agorai_shared.types import Address, CaseId, Cid, TradeId
from agorai_shared.vault import CaseFinding
from agorai_vault.keys import Keys
from agorai_vault.trade import decide
from agorai_vault.trade.records import Records
from agorai_vault.trade.transcript import Named, NotServedError, Transcript

log = logging.get(__name__)

_RECENT: Final = 4
"""Of a side's evidence, so much is looked at: it gives one for each draw. One that names much more and serves none
would keep voters busy until it is too late to vote."""

_LOOK_S: Final = 20.0
"""Seconds for the first piece of a package; the node asks its vault for a finding with a patience of 60."""


class EvidenceAwaitedError(NotFoundError):
    """What would settle a question is not there, and there is time left for it."""

    retryable = True

    def __init__(self, case: int, what: str) -> None:
        super().__init__(f"In case {case} {what}; there is time left for it.")


class CasePackageError(NotFoundError):
    """A package that nobody has shown to this voter."""

    def __init__(self, case: int) -> None:
        super().__init__(f"No package of case {case} was shown to this vault.")


@dataclass(frozen=True)
class Judge:
    """Judges transcripts with the voter's own key."""

    transcript: Transcript
    panel: VotingPanel
    keys: Keys
    records: Records

    async def finding(self, case_id: CaseId, *, final: bool) -> CaseFinding:
        """Say who is to blame by the transcript alone, or what is to be evaluated.

        Parameters
        ----------
        final
            That what is missing will not be waited for: who had to show it is to blame.

        Raises
        ------
        EvidenceAwaitedError
            If something is missing and it is not final.
        """
        case, config, trade = await self._case(case_id)
        if trade is None:  # a vote all the same: silence would cost the seat's stake, whoever asked
            why = f"it was opened by {case.opener}, not by this marketplace's FairExchange"
            return CaseFinding(trade=0, blamed=case.accused, why=why)
        id_ = TradeId(case.item)
        dispute = _Dispute(
            self.transcript, self.keys, case_id, PanelCase(case, config), id_, trade, final=final
        )
        try:
            if decide.about_key(trade):
                return await dispute.judge_key()
            if await self.transcript.by_sets(id_, trade) and (chosen := await dispute.chosen_sets()):
                for index, address in chosen.items():
                    self.records.keep_address(_place(case_id), address, _set(index))
                return CaseFinding(trade=id_, blamed=None, why="", chosen=tuple(chosen))
            address = await dispute.package_address()
        except HandoverFaultyError as error:
            return CaseFinding(trade=id_, blamed=error.by, why=error.why)
        self.records.keep_address(_place(case_id), address)
        return CaseFinding(trade=id_, blamed=None, why="")

    async def package(self, case_id: CaseId, index: int | None = None) -> AsyncIterator[bytes]:
        """Stream the disputed package in the clear, or the set of this index that is judged instead.

        Raises
        ------
        CasePackageError
            If `finding` has not found where it is.
        """
        address = self.records.address(_place(case_id), _set(index))
        if address is None:
            raise CasePackageError(case_id)
        case, _, _ = await self._case(case_id)
        holders = await self.transcript.holders(case.accused)
        return open_sealed(holders.get(address.cid), address.key)

    async def _case(self, case_id: CaseId) -> tuple[Case, Config, Trade | None]:
        chain, exchange = self.transcript.market.chain, self.transcript.exchange
        case, config = await chain.read(self.panel.case_of(case_id), self.panel.config())
        if case.opener != exchange.address:
            return case, config, None
        return case, config, await self.transcript.state(TradeId(case.item))


def _place(case_id: CaseId) -> TradeId:
    """Keep what is learnt of a case apart from what is learnt of this node's own trades."""
    return TradeId(-case_id)


def _set(index: int | None) -> str:
    return "" if index is None else f" of set {index}"


def _address(shown: PackageKey) -> PackageAddress:
    return PackageAddress(Cid(shown.cid), bytes.fromhex(shown.key), bytes.fromhex(shown.salt))


@dataclass(frozen=True)
class _Dispute:
    """One dispute, with what is to be had of it."""

    transcript: Transcript
    keys: Keys
    case_id: CaseId
    case: PanelCase
    id: TradeId
    trade: Trade
    final: bool

    @property
    def accuser(self) -> Address:
        return self.case.case.accuser

    @property
    def accused(self) -> Address:
        return self.case.case.accused

    async def judge_key(self) -> CaseFinding:
        """Judge the accused's key message by what the accuser discloses of it, and the accused's own key.

        Raises
        ------
        HandoverFaultyError
            The message is not good, or a side's public key cannot be had or used.
        """
        message = await self._message(self.accused, OnChain.KEY)
        await self._key_of(self.accused)
        testimony = await self._testimony(self.accuser)
        if not self.final and (testimony is None or testimony.key is None):
            raise EvidenceAwaitedError(self.case_id, f"{self.accuser} has not disclosed the key message")
        disclosed = bytes.fromhex((testimony and testimony.key) or "")
        binding = self.transcript.binding(self.id, self.accused, self.accuser)
        key = await self._key_of(self.accuser)
        try:
            handover.check_key_message(message.document, binding, key, disclosed, message.named_at)
        except DisclosureFalseError as error:
            return CaseFinding(trade=self.id, blamed=self.accuser, why=error.why)
        return CaseFinding(trade=self.id, blamed=self.accuser, why="the key message is as it should be")

    async def package_address(self) -> PackageAddress:
        """Find where the accused's package is: from what it handed over, or else from what it shows.

        Raises
        ------
        HandoverFaultyError
            The accused handed over no good address, or none can be had of anybody.
        """
        theirs = await self._testimony(self.accuser)
        handed_over = await self._handed_over(theirs)
        if handed_over is not None:
            return handed_over
        if theirs is None and not self.final:
            # or who shows a good package first would hide the bad address that it passed
            raise EvidenceAwaitedError(self.case_id, f"{self.accuser} has not shown what it was handed")
        shown = await self._testimony(self.accused)
        if shown is not None and shown.package is not None:
            address = _address(shown.package)
            if address.commitment == await self._committed():
                return address
        raise self._lacking(self.accused, "it has not shown where its package is")

    async def chosen_sets(self) -> dict[int, PackageAddress]:
        """Give where the accused's chosen sets are, by their index; none if it shows its package instead.

        Raises
        ------
        HandoverFaultyError
            The accused has shown nothing, or too late for an answer, or handed over no good address; or the accuser
            has not chosen.
        """
        fixed, fixed_at = await self._first_evidence(self.accused)
        await self._handed_over(await self._testimony(self.accuser))
        try:
            choice, _ = await self._first_evidence(self.accuser)
        except HandoverFaultyError as error:
            if fixed_at > decide.sets_due(self.case):
                raise HandoverFaultyError(
                    self.accused, "its evidence came too late to be answered"
                ) from error
            if fixed.sets:
                raise
            return {}
        if not fixed.sets:
            return {}
        if not choice.chosen:
            raise HandoverFaultyError(self.accuser, "its first evidence chooses none of the sets")
        shown = await self._testimony(self.accused)
        addresses = [] if shown is None else [_address(one) for one in shown.sets]
        if tuple(address.commitment.hex() for address in addresses) != fixed.sets:
            raise self._lacking(self.accused, "it has not shown the sets that it fixed first")
        await self._look_for_package(shown)
        return {index: addresses[index] for index in choice.chosen}

    async def _handed_over(self, theirs: Testimony | None) -> PackageAddress | None:
        """Open the address message by what the accuser shows; None if it does not show what opens it."""
        message = await self._message(self.accused, OnChain.ADDRESS)
        if theirs is None or theirs.address is None or theirs.k is None:
            return None
        asked = await self._message(self.accuser, OnChain.KEY)
        try:
            return handover.check_address_message(
                message.document,
                self.transcript.binding(self.id, self.accused, self.accuser),
                await self._key_of(self.accuser),
                bytes.fromhex(theirs.address),
                bytes.fromhex(theirs.k),
                asked.document,
                await self._committed(),
                message.named_at,
            )
        except DisclosureFalseError as error:
            log.info("case.disclosure_false", case=self.case_id, why=error.why)
            return None

    async def _look_for_package(self, shown: Testimony | None) -> None:
        """See that something lies where the accused says that its package is, sealed as it stays."""
        place = None if shown is None else shown.place
        if place is None or cids.commitment(place.cid, bytes.fromhex(place.salt)) != await self._committed():
            raise HandoverFaultyError(self.accused, "it has not shown where its package is")
        pieces = (await self.transcript.holders(self.accused)).get(Cid(place.cid))
        try:
            async with asyncio.timeout(_LOOK_S), aclosing(cast("AsyncGenerator[bytes]", pieces)):
                await anext(pieces, b"")
        except (AgoraiError, TimeoutError) as error:
            raise self._lacking(self.accused, "its package is not where it says") from error

    async def _committed(self) -> bytes:
        return (await self.transcript.fulfilled(self.id, self.accused, OnChain.PREPARATION)).digest

    async def _message(self, by: Address, step: OnChain) -> Named:
        try:
            return await self.transcript.message(self.id, by, step)
        except NotServedError as error:
            raise self._lacking(by, f"its {step.name.lower()} message cannot be had") from error

    async def _key_of(self, side: Address) -> RSAKey:
        try:
            return await self.transcript.key_of_side(self.id, side)
        except EncryptionKeyError as error:
            raise HandoverFaultyError(side, error.message) from error
        except NotServedError as error:
            raise self._lacking(side, "its public key cannot be had") from error

    async def _first_evidence(self, by: Address) -> tuple[Evidence, int]:
        """Give the first evidence of a side, which fixes what it shows to whom, and when the chain named it."""
        for event, block in await self.transcript.events(EvidenceGiven, self.id):
            if event.by != by:
                continue
            found = await self.transcript.market.chain.block(block)
            try:
                document = await self.transcript.document(self.id, by, event.digest, "evidence")
                return evidence.read(document), 0 if found is None else found.timestamp
            except EvidenceMalformedError as error:
                raise HandoverFaultyError(by, error.message) from error
            except NotServedError as error:
                raise self._lacking(by, "its first evidence cannot be had") from error
        raise self._lacking(by, "it has shown nothing")

    async def _testimony(self, by: Address) -> Testimony | None:
        """Give the last testimony of a party that opens for this voter."""
        given = [event for event, _ in await self.transcript.events(EvidenceGiven, self.id) if event.by == by]
        for event in reversed(given[-_RECENT:]):
            try:
                document = await self.transcript.document(self.id, by, event.digest, "evidence")
                return evidence.take(document, self.keys.address, self.keys.jwk)
            except (NotServedError, EvidenceMalformedError) as error:
                log.info("case.evidence_unread", case=self.case_id, by=by, why=str(error))
        return None

    def _lacking(self, by: Address, why: str) -> EvidenceAwaitedError | HandoverFaultyError:
        """Give the error that says that a side has not shown something: it is waited for, until it is final."""
        return (
            HandoverFaultyError(by, why) if self.final else EvidenceAwaitedError(self.case_id, f"{by}: {why}")
        )
