"""What a voter's vault makes of a dispute's transcript, before anybody looks at a model (fair-sharing IV-C, IV-D).

The chain names the messages and the evidence, the parties' gateways serve them, `handover` says who is to blame for
one that is not good. What is left to judge then is the package itself, which this vault opens for the node's
verifier; its key stays here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from joserfc.jwk import RSAKey

from agorai_shared import evidence, handover, logging
from agorai_shared.bindings.fair_exchange import EvidenceGiven, Kind, Trade
from agorai_shared.bindings.fair_exchange import Step as OnChain
from agorai_shared.bindings.voting_panel import Case
from agorai_shared.errors import AgoraiError, NotFoundError
from agorai_shared.evidence import Testimony
from agorai_shared.handover import HandoverFaultyError, PackageAddress
from agorai_shared.jwe import DisclosureFalseError
from agorai_shared.sealing import open_sealed
from agorai_shared.types import Address, CaseId, Cid, TradeId
from agorai_shared.vault import CaseFinding
from agorai_vault.holders import Holders
from agorai_vault.trade import decide
from agorai_vault.trade.decide import Duty
from agorai_vault.trade.handlers import Named, TradeProtocol

log = logging.get(__name__)


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

    trades: TradeProtocol

    async def finding(self, case_id: CaseId, *, final: bool) -> CaseFinding:
        """Say who is to blame by the transcript alone, or that the package is to be evaluated.

        Parameters
        ----------
        final
            That what is missing will not be waited for: who had to show it is to blame.

        Raises
        ------
        EvidenceAwaitedError
            If something is missing and it is not final.
        """
        case, trade = await self._case(case_id)
        if trade is None:  # a vote all the same: silence would cost the seat's stake, whoever asked
            why = f"it was opened by {case.opener}, not by this marketplace's FairExchange"
            return CaseFinding(trade=0, blamed=case.accused, why=why)
        dispute = _Dispute(self.trades, case_id, case, TradeId(case.item), trade, final=final)
        try:
            if dispute.about_key:
                return await dispute.judge_key()
            address = await dispute.package_address()
        except HandoverFaultyError as error:
            return CaseFinding(trade=case.item, blamed=error.by, why=error.why)
        self.trades.records.keep_address(_place(case_id), address)
        return CaseFinding(trade=case.item, blamed=None, why="")

    async def package(self, case_id: CaseId) -> AsyncIterator[bytes]:
        """Stream the disputed package in the clear.

        Raises
        ------
        CasePackageError
            If `finding` has not found where it is.
        """
        address = self.trades.records.address(_place(case_id))
        if address is None:
            raise CasePackageError(case_id)
        case, _ = await self._case(case_id)
        accused = await self.trades.market.actor(case.accused)
        return open_sealed(Holders(self.trades.market, accused.gateway).get(address.cid), address.key)

    async def _case(self, case_id: CaseId) -> tuple[Case, Trade | None]:
        chain, exchange = self.trades.market.chain, self.trades.exchange
        (case,) = await chain.read(self.trades.panel.case_of(case_id))
        if case.opener != exchange.address:
            return case, None
        (trade,) = await chain.read(exchange.trade(TradeId(case.item)))
        return case, trade


def _place(case_id: CaseId) -> TradeId:
    """Keep what is learnt of a case apart from what is learnt of this node's own trades."""
    return TradeId(-case_id)


@dataclass(frozen=True)
class _Dispute:
    """One dispute, with what is to be had of it."""

    trades: TradeProtocol
    case_id: CaseId
    case: Case
    id: TradeId
    trade: Trade
    final: bool

    @property
    def about_key(self) -> bool:
        """Whether it was begun before all addresses were passed: then it is the key that is said to be bad."""
        givers = [self.trade.seller, *([self.trade.buyer] if self.trade.kind == Kind.SWAP else [])]
        return any(Duty.ADDRESS not in decide.done(self.trade, giver) for giver in givers)

    async def judge_key(self) -> CaseFinding:
        """Judge the accused's key message by what the accuser discloses of it.

        Raises
        ------
        HandoverFaultyError
            The message is not good, or the accuser's public key cannot be had.
        """
        accuser, accused = self.case.accuser, self.case.accused
        message = await self._message(accused, OnChain.KEY)
        testimony = await self._testimony(accuser)
        if not self.final and (testimony is None or testimony.key is None):
            raise EvidenceAwaitedError(self.case_id, f"{accuser} has not disclosed the key message")
        disclosed = bytes.fromhex((testimony and testimony.key) or "")
        binding = self.trades.binding(self.id, accused, accuser)
        try:
            handover.check_key_message(
                message.document,
                binding,
                await self._key_of(accuser),
                disclosed,
                message.named_at,
            )
        except DisclosureFalseError as error:
            return CaseFinding(trade=self.id, blamed=accuser, why=error.why)
        return CaseFinding(trade=self.id, blamed=accuser, why="the key message is as it should be")

    async def package_address(self) -> PackageAddress:
        """Find where the accused's package is: from what it handed over, or else from what it shows.

        Raises
        ------
        HandoverFaultyError
            The accused handed over no good address, or none can be had of anybody.
        """
        accuser, accused = self.case.accuser, self.case.accused
        committed = (await self.trades.fulfilled(self.id, accused, OnChain.PREPARATION)).digest
        message = await self._message(accused, OnChain.ADDRESS)
        theirs = await self._testimony(accuser)
        if theirs is not None and theirs.address is not None and theirs.k is not None:
            asked = await self._message(accuser, OnChain.KEY)
            try:
                return handover.check_address_message(
                    message.document,
                    self.trades.binding(self.id, accused, accuser),
                    await self._key_of(accuser),
                    bytes.fromhex(theirs.address),
                    bytes.fromhex(theirs.k),
                    asked.document,
                    committed,
                    message.named_at,
                )
            except DisclosureFalseError as error:
                log.info("case.disclosure_false", case=self.case_id, why=error.why)
        if theirs is None and not self.final:
            # or who shows a good package first would hide the bad address that it passed
            raise EvidenceAwaitedError(self.case_id, f"{accuser} has not shown what it was handed")
        shown = await self._testimony(accused)
        if shown is not None and shown.package is not None:
            package = shown.package
            address = PackageAddress(
                Cid(package.cid), bytes.fromhex(package.key), bytes.fromhex(package.salt)
            )
            if address.commitment == committed:
                return address
        if not self.final:
            raise EvidenceAwaitedError(self.case_id, "nobody has shown where the package is")
        raise HandoverFaultyError(accused, "it has not shown where its package is")

    async def _message(self, by: Address, step: OnChain) -> Named:
        try:
            return await self.trades.message(self.id, by, step)
        except AgoraiError as error:
            if not self.final:
                raise EvidenceAwaitedError(self.case_id, f"a message of {by} cannot be had") from error
            raise HandoverFaultyError(by, f"its {step.name.lower()} message cannot be had") from error

    async def _key_of(self, side: Address) -> RSAKey:
        try:
            return await self.trades.key_of_side(self.id, side)
        except AgoraiError as error:
            if not self.final:
                raise EvidenceAwaitedError(self.case_id, f"the public key of {side} cannot be had") from error
            raise HandoverFaultyError(side, "its public key cannot be had") from error

    async def _testimony(self, by: Address) -> Testimony | None:
        """Give the last testimony of a party that opens for this voter."""
        actor = await self.trades.market.actor(by)
        for event, _ in reversed(await self.trades.events(EvidenceGiven, self.id)):
            if event.by != by:
                continue
            try:
                document = await self.trades.market.document(event.digest, actor.gateway)
                return evidence.take(document, self.trades.me, self.trades.keys.jwk)
            except AgoraiError as error:
                log.info("case.evidence_unread", case=self.case_id, by=by, why=str(error))
        return None
