"""What this side of a dispute shows to the voters drawn (fair-sharing IV-D)."""

from __future__ import annotations

from dataclasses import dataclass

from joserfc.jwk import RSAKey

from agorai_shared import cid as cids
from agorai_shared import evidence, handover, logging
from agorai_shared.bindings.fair_exchange import Step, Trade
from agorai_shared.bindings.voting_panel import VotingPanel
from agorai_shared.errors import AgoraiError, UnavailableError
from agorai_shared.evidence import PackageKey, PackagePlace, Testimony
from agorai_shared.trainer import Degrade, Trainer
from agorai_shared.types import Address, CaseId, Cid, Digest, TradeId
from agorai_vault.database import Box, ContentKey
from agorai_vault.keys import Keys
from agorai_vault.trade import decide
from agorai_vault.trade.decide import Finding
from agorai_vault.trade.packing import Packing
from agorai_vault.trade.records import Records
from agorai_vault.trade.transcript import Transcript

log = logging.get(__name__)


class VotersUnreachableError(UnavailableError):
    """No voter's encryption key can be had, so that nothing can be shown to anybody."""

    def __init__(self, trade: int) -> None:
        super().__init__(f"No voter of trade {trade} serves an encryption key that can be used.")


@dataclass(frozen=True)
class Witness:
    """Makes this side's evidence."""

    transcript: Transcript
    panel: VotingPanel
    keys: Keys
    box: Box
    records: Records
    packing: Packing
    trainer: Trainer

    async def document(self, trade: TradeId, state: Trade) -> bytes:
        """Show each voter drawn what this side accuses by, or is to be judged by, sealed to that voter.

        Raises
        ------
        NotServedError
            If this side accuses and what it was handed is not served: to say so proves nothing, and who serves it
            later must meet with its disclosure.
        VotersUnreachableError
        """
        case_id, chain = CaseId(state.dispute), self.transcript.market.chain
        voters, case = await chain.read(self.panel.panel_of(case_id), self.panel.case_of(case_id))
        by_sets = await self.transcript.by_sets(trade, state)
        accuses = case.accuser == self.keys.address
        sets = self._sets(trade) if by_sets and not accuses else []
        testimony = (
            await self._accusation(trade, state, by_sets=by_sets) if accuses else self._defence(trade, sets)
        )
        return evidence.make(
            testimony,
            await self._recipients(trade, voters),
            sets=tuple(one.commitment.hex() for one in sets),
            chosen=self.records.choice(trade, evidence.choose()) if by_sets and accuses else (),
        )

    async def make_sets(self, trade: TradeId, *, final: bool) -> None:
        """Have parameter sets of low quality made of this side's model, once.

        Where none can be made, or not in time, it is kept that there are none: then this side shows the model itself,
        as in other trades. That costs it the model's secrecy towards the voters; to show nothing costs its deposit.
        """
        terms = await self.transcript.terms(trade)
        sells = terms.seller == self.keys.address
        buyers, sellers = (terms.buyer, terms.seller_verification), (terms.seller, terms.buyer_verification)
        chosen_by, digest = buyers if sells else sellers
        try:
            # so that the trainer finds them in this node's own store
            await self.transcript.document(trade, chosen_by, digest, "verification data")
            made = await self.trainer.degrade(
                Degrade(
                    id=cids.sha256(f"{self.transcript.exchange.address}/{trade}".encode()).hex()[:32],
                    source=f"/vault/trades/{trade}/own",
                    verification=cids.of_digest(Digest(digest)),
                    count=evidence.SETS,
                )
            )
        except AgoraiError as error:
            if error.retryable and not final:
                raise
            log.warning("evidence.without_sets", trade=trade, why=str(error))
            self.records.keep_sets(trade, ())
        else:
            self.records.keep_sets(trade, tuple(map(Cid, made.sets)))

    async def _accusation(self, trade: TradeId, state: Trade, *, by_sets: bool) -> Testimony:
        """Give what this side was handed; where voters are not to have the model, only what does not lead to it."""
        giver, own = decide.other(state, self.keys.address), self.records.key_secret(trade)
        if decide.about_key(state):
            return Testimony(key=await self._disclosed(trade, giver, Step.KEY))
        leads_there = self.records.found(trade, "address").finding is not Finding.BAD
        if own is None or (by_sets and leads_there):
            return Testimony()
        return Testimony(address=await self._disclosed(trade, giver, Step.ADDRESS), k=own[1].k.hex())

    def _defence(self, trade: TradeId, sets: list[ContentKey]) -> Testimony:
        """Give this side's package, or else sets of low quality and where the package lies."""
        package = self.packing.own(trade)
        if not sets:
            return Testimony(package=_shown(package))
        place = PackagePlace(cid=package.cid, salt=package.salt.hex())
        return Testimony(place=place, sets=tuple(map(_shown, sets)))

    def _sets(self, trade: TradeId) -> list[ContentKey]:
        kept = [self.box.content_by_cid(cid) for cid in self.records.sets(trade) or ()]
        return [one for one in kept if one is not None]

    async def _recipients(self, trade: TradeId, voters: list[Address]) -> dict[Address, RSAKey]:
        recipients: dict[Address, RSAKey] = {}
        for voter in voters:
            try:
                recipients[voter] = await self.transcript.key_of_voter(voter)
            except AgoraiError as error:  # one voter's broken key must not keep the evidence from the others
                log.warning("evidence.voter_left_out", trade=trade, voter=voter, why=str(error))
        if not recipients:
            raise VotersUnreachableError(trade)
        return recipients

    async def _disclosed(self, trade: TradeId, giver: Address, step: Step) -> str:
        message = await self.transcript.message(trade, giver, step)
        binding = self.transcript.binding(trade, giver, self.keys.address)
        return handover.disclose(message.document, binding, self.keys.jwk).hex()


def _shown(content: ContentKey) -> PackageKey:
    return PackageKey(cid=content.cid, key=content.key.hex(), salt=content.salt.hex())
