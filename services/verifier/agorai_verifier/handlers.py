"""The shell of the verifier: inspecting for this node, and judging cases for others."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, cast

from agorai_shared import cid as cids
from agorai_shared import logging
from agorai_shared.bindings.fair_exchange import FairExchange, Opened, Terms, Trade
from agorai_shared.bindings.voting_panel import Case, Config, Drawn, Seat, VotingPanel
from agorai_shared.contract import Call
from agorai_shared.documents import DocumentMalformedError, Metadata
from agorai_shared.errors import AgoraiError, NotFoundError, RemoteError, UnavailableError
from agorai_shared.market import Market
from agorai_shared.package import TradeBinding
from agorai_shared.panel import PanelCall, PanelCase, commitment
from agorai_shared.trainer import Evaluate, Trainer
from agorai_shared.types import Address, CaseId, TradeId
from agorai_shared.vault import Vault
from agorai_shared.verifier import Report
from agorai_verifier import decide
from agorai_verifier.inspecting import CannotTellError, Promise, fault
from agorai_verifier.votes import Votes

log = logging.get(__name__)

THEIR_FAULT: Final = frozenset(
    {
        "package_malformed", "wrong_key", "not_sealed", "seal_tampered", "seal_truncated",
        "tree_inconsistent", "block_malformed", "not_a_file",
    }
)  # fmt: skip
"""Codes of errors that only who made the package can have caused."""

GONE: Final = frozenset({"no_peer_has", "content_not_found", "store_unreachable", "plaintext_cut_off"})
"""Codes of errors that say that a package is nowhere to be had."""


class TermsAbsentError(NotFoundError):
    """The trade's terms are not on the chain, or not final."""

    retryable = True

    def __init__(self, trade: int) -> None:
        super().__init__(f"There is no trade {trade}, or it is not final yet.")


class VerificationAbsentError(UnavailableError):
    """The data on which a model is judged are served by neither side."""

    def __init__(self, trade: int, error: AgoraiError) -> None:
        super().__init__(f"The verification data of trade {trade} cannot be had: {error.message}")


class OfferAbsentError(UnavailableError):
    """The description with which a resource is offered is served by neither side."""

    def __init__(self, resource: int, error: AgoraiError) -> None:
        super().__init__(f"The description of resource {resource} cannot be had: {error.message}")


@dataclass(frozen=True)
class Inspector:
    """Holds a package that this node's vault can open against the terms of its trade."""

    market: Market
    exchange: FairExchange
    trainer: Trainer

    async def inspect(self, trade: TradeId, giver: Address, source: str) -> Report:
        """Inspect what `giver` handed over, streamed by the vault at the path `source`.

        Raises
        ------
        AgoraiError
            If it cannot be done now; it says nothing about the model. `VerificationAbsentError`, if it is the data
            that nobody serves, and `OfferAbsentError`, if it is the resource's description.
        """
        terms = await self._terms(trade)
        binding = TradeBinding(
            chain_id=self.market.deployment.chain_id, contract=self.exchange.address, trade=trade
        )
        promise = Promise.of(terms, giver, binding)
        try:
            verification = await self._document(promise.verification, terms)
        except AgoraiError as error:
            raise VerificationAbsentError(trade, error) from error
        resource = await self.market.resource(promise.resource)
        try:
            described = await self._document(resource.metadata, terms)
        except AgoraiError as error:
            raise OfferAbsentError(promise.resource, error) from error
        try:
            offered = Metadata.from_bytes(described)
            found = await self.trainer.evaluate(
                Evaluate(id=_same(binding, source), source=source, verification=cids.of_raw(verification))
            )
        except DocumentMalformedError as error:
            return Report(good=False, why=error.message)
        except RemoteError as error:
            if error.code not in THEIR_FAULT:
                raise
            return Report(good=False, why=error.message)
        why = fault(promise, offered, found)
        return Report(good=why is None, why=why or "")

    async def _document(self, digest: bytes, terms: Terms) -> bytes:
        """Fetch a document, which is in this node's own store then; either side may serve it."""
        try:
            return await self.market.document(digest, (await self.market.actor(terms.buyer)).gateway)
        except AgoraiError:
            return await self.market.document(digest, (await self.market.actor(terms.seller)).gateway)

    async def _terms(self, trade: TradeId) -> Terms:
        chain = self.market.chain
        topics = [Opened.ABI.topic0, f"0x{trade:064x}"]
        start = self.market.deployment.start_block
        for entry in await chain.logs(self.exchange.address, topics, start, (await chain.final()).number):
            return Opened.from_args(Opened.ABI.decode(entry["topics"], entry["data"])).terms
        raise TermsAbsentError(trade)


@dataclass(frozen=True)
class CaseProtocol:
    """The voting protocol, for the reconciler; the key is the case's."""

    market: Market
    panel: VotingPanel
    exchange: FairExchange
    me: Address
    vault: Vault
    inspector: Inspector
    votes: Votes

    @property
    def name(self) -> str:
        """Name in logs and metrics."""
        return "case"

    async def read(self, key: int) -> decide.CaseState:
        """Read the case at a final block, and whether this voter has come to a vote."""
        id_ = CaseId(key)
        case, seat, config = await self.market.chain.read(
            self.panel.case_of(id_), self.panel.seat_of(id_, self.me), self.panel.config()
        )
        judged = self.votes.get(id_) is not None
        return decide.CaseState(
            PanelCase(cast("Case", case), cast("Config", config)), cast("Seat", seat), judged
        )

    def next_step(self, state: decide.CaseState, now: int) -> decide.Step | None:
        """Decide as this voter."""
        return decide.next_step(state, now)

    def due(self, state: decide.CaseState, now: int) -> int | None:
        """Give the time that concerns this voter."""
        return decide.due(state, now)

    async def perform(self, key: int, step: decide.Step, once: str) -> bool:
        """Take the step."""
        id_ = CaseId(key)
        if isinstance(step, decide.Judge):
            await self._judge(id_, final=step.final)
            return True
        try:
            await self.vault.send(once, self._call(id_, step))
        except RemoteError as error:
            if not (isinstance(step, decide.MovePanel) and error.code == "contract_revert"):
                raise
            log.info("case.early", case=id_, step=type(step).__name__, why=error.message)
            if "VotingPanel_DrawDue" in error.message:  # another case's, which holds all verdicts up
                await self.vault.send(f"{once}/draw", self.panel.draw())
        return False

    async def now(self) -> int:
        """Give the later of the chain's time and this machine's, in seconds since 1970."""
        return max((await self.market.chain.final()).timestamp, int(time.time()))

    async def concerns(self, case: CaseId) -> bool:
        """Say whether this account was ever drawn for a case."""
        (seat,) = await self.market.chain.read(self.panel.seat_of(case, self.me))
        return cast("Seat", seat) != Seat.NONE

    async def other_side(self, trade: TradeId) -> Address:
        """Give with whom this account trades."""
        (state,) = await self.market.chain.read(self.exchange.trade(trade))
        return cast("Trade", state).buyer if state.seller == self.me else cast("Trade", state).seller

    async def open_items(self) -> Iterable[int]:
        """Find the cases without a verdict for which this account was drawn."""
        chain, start = self.market.chain, self.market.deployment.start_block
        account = "0x" + self.me[2:].lower().rjust(64, "0")
        final = (await chain.final()).number
        logs = await chain.logs(self.panel.address, [Drawn.ABI.topic0, None, account], start, final)
        ids = sorted({int(entry["topics"][1], 16) for entry in logs})
        calls = [self.panel.case_of(CaseId(id_)) for id_ in ids]
        cases = cast("tuple[Case, ...]", await chain.read(*calls, at=final) if calls else ())
        return [id_ for id_, case in zip(ids, cases, strict=True) if not case.verdict]

    def _call(self, case: CaseId, step: decide.Step) -> Call[Any]:
        vote = self.votes.get(case)
        if isinstance(step, decide.MovePanel):
            return self.panel.draw() if step.call is PanelCall.DRAW else self.panel.close(case)
        if vote is None:
            raise AssertionError("only a vote that is kept is committed to")
        if isinstance(step, decide.Commit):
            chain_id, panel = self.market.deployment.chain_id, self.panel.address
            bound = commitment(chain_id, panel, case, self.me, confirms=vote.confirms, salt=vote.salt)
            return self.panel.commit(case, bound)
        return self.panel.reveal(case, vote.confirms, vote.salt)

    async def _judge(self, case: CaseId, *, final: bool) -> None:
        """Come to a vote, by the transcript or else by the model itself, and keep it."""
        finding = await self.vault.judge(case, final=final)
        (state,) = await self.market.chain.read(self.panel.case_of(case))
        if finding.blamed is not None:
            self._vote(case, confirms=finding.blamed != state.accused, why=finding.why)
            return
        try:
            report = await self.inspector.inspect(
                TradeId(finding.trade), state.accused, f"/vault/cases/{case}/package"
            )
        except VerificationAbsentError as error:  # the accuser chose them, and is to serve them
            if not final:
                raise
            self._vote(case, confirms=True, why=error.message)
        except (OfferAbsentError, CannotTellError, RemoteError) as error:
            # what this voter's own node cannot do says nothing about anybody: better no vote than a wrong one
            if not final or (isinstance(error, RemoteError) and error.code not in GONE):
                raise
            self._vote(case, confirms=False, why=f"what is to be judged cannot be had: {error.message}")
        else:
            self._vote(case, confirms=report.good, why=report.why)

    def _vote(self, case: CaseId, *, confirms: bool, why: str) -> None:
        self.votes.keep(case, confirms=confirms, why=why)
        log.info("case.judged", case=case, confirms=confirms, why=why)


def _same(trade: TradeBinding, source: str) -> str:
    """Give what names one package's evaluation, so that asking for it again joins what is under way."""
    return hashlib.sha256(trade.seed + source.encode()).hexdigest()[:32]
