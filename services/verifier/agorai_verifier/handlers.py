"""The shell of the verifier: inspecting for this node, and judging cases for others."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

from agorai_shared import cid as cids
from agorai_shared import logging
from agorai_shared.bindings.data_transfer import Initiated
from agorai_shared.bindings.fair_exchange import FairExchange, Opened, Terms, Trade
from agorai_shared.bindings.voting_panel import Case, Config, Drawn, Seat, VotingPanel
from agorai_shared.chain import time_of
from agorai_shared.contract import Call
from agorai_shared.digest_files import DigestFiles, FileAbsentError
from agorai_shared.documents import DocumentMalformedError, Metadata, Schema
from agorai_shared.errors import AgoraiError, NotFoundError, RemoteError, UnavailableError
from agorai_shared.market import Market, NotAMemberError, topic_of
from agorai_shared.package import TradeBinding
from agorai_shared.panel import PanelCall, PanelCase, commitment, once_more
from agorai_shared.pool_trainer import JudgeChallenge, PoolTrainer
from agorai_shared.task_reward import TaskReward
from agorai_shared.trainer import Compare, Evaluate, Trainer
from agorai_shared.types import Address, CaseId, TradeId
from agorai_shared.vault import CaseFinding, Vault
from agorai_shared.verifier import Report
from agorai_verifier import decide
from agorai_verifier.inspecting import (
    CannotTellError,
    Offer,
    Promise,
    fault,
    fault_of_data,
    fault_of_set,
)
from agorai_verifier.votes import Votes

log = logging.get(__name__)

THEIR_FAULT: Final = frozenset(
    {
        "package_malformed", "wrong_key", "not_sealed", "seal_tampered", "seal_truncated",
        "tree_inconsistent", "block_malformed", "not_a_file", "cid_unsupported", "cid_syntax", "cid_codec",
    }
)  # fmt: skip
"""Codes of errors that only who made the package can have caused: each block is what its CID says, the package's CID
is in the commitment, and the key in what its maker signed or shows; the data's CID is this node's own making."""

GONE: Final = frozenset({"no_peer_has", "plaintext_cut_off", "package_too_slow", "plaintext_too_large"})
"""Codes of errors that say that a package is nowhere to be had: nobody serves it whole, or in time, or it has more
bytes than this node takes. Its maker can cause each of them, so silence would pay it. A voter's own line may be the
cause of the first three, and then an honest maker is one vote worse off. What this node's own store, trainer or
sandbox does not do says nothing about anybody (`content_not_found` and `store_unreachable` are of the data alone)."""


GONE_DATA: Final = GONE | {"transfer_key_absent"}
"""The same of a transfer's data, whose key the two sides tell the voters."""

WITHHELD: Final = frozenset({"file_absent", "document_malformed", "task_unusable"})
"""Codes of errors that say that a task's public record is not to be had as its model provider should serve it."""


class TransferAbsentError(NotFoundError):
    """There is no such transfer, or it is not final."""

    retryable = True

    def __init__(self, transfer: int) -> None:
        super().__init__(f"There is no transfer 0x{transfer:064x}, or it is not final yet.")


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


class JudgementOverdueError(UnavailableError):
    """Another service of this node has not judged what a case is about while there was time for it."""

    def __init__(self, case: int) -> None:
        super().__init__(f"What case {case} is about was not judged while there was time for it.")


class PayoutUnknownError(UnavailableError):
    """Something is missing of what a task's payout is recomputed from."""

    def __init__(self, task: int, why: str) -> None:
        super().__init__(f"The payout of task {task} cannot be recomputed yet: {why}")


@dataclass(frozen=True)
class Inspector:
    """Holds a package that this node's vault can open against the terms of its trade."""

    market: Market
    exchange: FairExchange
    trainer: Trainer

    async def inspect(
        self, trade: TradeId, giver: Address, source: str, rule: Callable[..., str | None] = fault
    ) -> Report:
        """Inspect by a rule what `giver` handed over, streamed by the vault at the path `source`.

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
        gateways = [await self._gateway(side) for side in (terms.buyer, terms.seller)]
        try:
            verification = await self._document(promise.verification, gateways)
        except AgoraiError as error:
            raise VerificationAbsentError(trade, error) from error
        resource = await self.market.resource(promise.resource)
        try:
            described = await self._document(resource.metadata, gateways)
        except AgoraiError as error:
            raise OfferAbsentError(promise.resource, error) from error
        try:
            offered = Offer(Metadata.from_bytes(described), resource.commitment)
            found = await self.trainer.evaluate(
                Evaluate(id=_same(binding, source), source=source, verification=cids.of_raw(verification))
            )
        except (DocumentMalformedError, RemoteError) as error:
            return _against_maker(error)
        why = rule(promise, offered, found)
        return Report(good=why is None, why=why or "")

    async def _gateway(self, side: Address) -> str:
        """Give where a side serves documents; one that has left the registry serves them nowhere."""
        try:
            return (await self.market.actor(side)).gateway
        except NotAMemberError:
            return ""

    async def _document(self, digest: bytes, gateways: list[str]) -> bytes:
        """Fetch a document, which is in this node's own store then; either side may serve it."""
        first, second = gateways
        try:
            return await self.market.document(digest, first)
        except AgoraiError:
            return await self.market.document(digest, second)

    async def _terms(self, trade: TradeId) -> Terms:
        for opened, _ in await self.market.events(self.exchange.address, Opened, f"0x{trade:064x}"):
            return opened.terms
        raise TermsAbsentError(trade)


@dataclass(frozen=True)
class DataInspector:
    """Holds the data of a transfer, which this node's vault can open, against their schema."""

    files: DigestFiles
    transfers: Address
    """The contract, the `DataTransfer`."""
    trainer: Trainer

    async def inspect(self, transfer: int, source: str) -> Report:
        """Inspect what its provider gave, streamed by the vault at the path `source`.

        Raises
        ------
        AgoraiError
            If it cannot be done now. `FileAbsentError`, if nobody serves the schema, as the provider should.
        """
        market = self.files.market
        opened = await market.events(self.transfers, Initiated, f"0x{transfer:064x}")
        if not opened:
            raise TransferAbsentError(transfer)
        deal, what = opened[0][0].deal, f"schema of the data of transfer 0x{transfer:064x}"
        schema = deal.ipfs_schema_address, what, [deal.data_provider, deal.data_consumer]
        try:
            await self.files.read(Schema, *schema)  # what is none is its provider's fault
            described = await market.store.put(await self.files.file(*schema), pin=False)
            id_ = hashlib.sha256(f"{self.transfers}/{transfer}/{source}".encode()).hexdigest()[:32]
            found = await self.trainer.compare(Compare(id=id_, source=source, described=described))
        except (DocumentMalformedError, RemoteError) as error:
            return _against_maker(error)
        why = fault_of_data(found)
        return Report(good=why is None, why=why or "")


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
    pools: Address
    """The contract whose cases are about samples, the `DataPool`."""
    trainer: PoolTrainer
    tasks: Address
    """The contract whose cases are about payouts, the `TrainingTask`."""
    reward: TaskReward
    data: DataInspector

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
        if isinstance(step, decide.MovePanel):
            once = once_more(once, await self.now())
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
        return await time_of(self.market.chain)

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
        drawn = await self.market.events(self.panel.address, Drawn, None, topic_of(self.me))
        ids = sorted({event.id for event, _ in drawn})
        calls = [self.panel.case_of(id_) for id_ in ids]
        cases = cast("tuple[Case, ...]", await self.market.chain.read(*calls) if calls else ())
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
        """Come to a vote, by what who asked has its panels decide, and keep it."""
        (state,) = await self.market.chain.read(self.panel.case_of(case))
        if state.opener == self.pools:
            await self._judge_samples(case, state, final=final)
        elif state.opener == self.tasks:
            await self._judge_payout(case, state, final=final)
        elif state.opener == self.data.transfers:
            await self._judge_transfer(case, state, final=final)
        else:
            await self._judge_trade(case, state, final=final)

    async def _judge_samples(self, case: CaseId, state: Case, *, final: bool) -> None:
        """Judge the challenge of a contribution, by the rules by which its pool's owner was to judge it.

        The accused's samples are confirmed where the challenge is not right. What cannot be had the trainer knows
        how to count; what it cannot do itself says nothing about anybody: then there is no vote.
        """
        scope = self.market.deployment.chain_id, self.panel.address, case, final
        id_ = hashlib.sha256(repr(scope).encode()).hexdigest()[:32]
        async with self._in_time(case, state, final=final):
            judged = await self.trainer.judge(JudgeChallenge(id=id_, contribution=state.item, final=final))
        self._vote(case, confirms=not judged.right, why=judged.explanation)

    async def _judge_payout(self, case: CaseId, state: Case, *, final: bool) -> None:
        """Judge the payout of a task by recomputing it.

        What cannot be had in the end counts as withheld: then what the chain alone proves is due.
        """
        try:
            async with self._in_time(case, state, final=final):
                audited = await self.reward.audit(state.item, withheld=final)
        except RemoteError as error:
            if not final or error.code not in WITHHELD:
                raise
            self._vote(case, confirms=False, why=f"what is to be judged cannot be had: {error.message}")
            return
        texts = [one.text for one in audited.findings if one.kind != "noted"]
        if audited.verdict == "unknown" and not final:
            raise PayoutUnknownError(state.item, texts[0])
        self._vote(case, confirms=audited.verdict == "right", why=" ".join(texts)[:1000])

    async def _judge_transfer(self, case: CaseId, state: Case, *, final: bool) -> None:
        """Judge the data of a transfer by their schema; what cannot be had in the end counts against their provider.

        What this voter's own node cannot do says nothing about anybody: then there is no vote.
        """
        try:
            async with self._in_time(case, state, final=final):
                report = await self.data.inspect(state.item, f"/vault/cases/{case}/data")
        except (FileAbsentError, CannotTellError, JudgementOverdueError, RemoteError) as error:
            if not final or (isinstance(error, RemoteError) and error.code not in GONE_DATA):
                raise
            self._vote(case, confirms=False, why=f"what is to be judged cannot be had: {error.message}")
        else:
            self._vote(case, confirms=report.good, why=report.why)

    @asynccontextmanager
    async def _in_time(self, case: CaseId, state: Case, *, final: bool) -> AsyncIterator[None]:
        """Give up what another service is asked for while there is still time to ask again, or to commit."""
        (config,) = await self.market.chain.read(self.panel.config())
        until = state.deadline - 2 * decide.MARGIN_S if final else decide.last_call(PanelCase(state, config))
        try:
            async with asyncio.timeout(max(until - await self.now(), 1)):
                yield
        except TimeoutError as error:
            raise JudgementOverdueError(case) from error

    async def _judge_trade(self, case: CaseId, state: Case, *, final: bool) -> None:
        """Judge by the transcript of a trade, or else by the model itself."""
        finding = await self.vault.judge(case, final=final)
        if finding.blamed is not None:
            self._vote(case, confirms=finding.blamed != state.accused, why=finding.why)
            return
        try:
            report = await self._inspect(case, finding, state.accused)
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

    async def _inspect(self, case: CaseId, finding: CaseFinding, accused: Address) -> Report:
        """Inspect the package in dispute, or each set that is judged in its stead, to the first that is bad."""
        trade, folder = TradeId(finding.trade), f"/vault/cases/{case}"
        if not finding.chosen:
            return await self.inspector.inspect(trade, accused, f"{folder}/package")
        for index in finding.chosen:
            report = await self.inspector.inspect(trade, accused, f"{folder}/sets/{index}", fault_of_set)
            if not report.good:
                return Report(good=False, why=f"of set {index}, {report.why}")
        return Report(good=True, why="")

    def _vote(self, case: CaseId, *, confirms: bool, why: str) -> None:
        self.votes.keep(case, confirms=confirms, why=why)
        log.info("case.judged", case=case, confirms=confirms, why=why)


def _against_maker(error: DocumentMalformedError | RemoteError) -> Report:
    """Find against who made it what nobody else can have caused; raise what somebody else can."""
    if isinstance(error, RemoteError) and error.code not in THEIR_FAULT:
        raise error
    return Report(good=False, why=error.message)


def _same(trade: TradeBinding, source: str) -> str:
    """Give what names one package's evaluation, so that asking for it again joins what is under way."""
    return hashlib.sha256(trade.seed + source.encode()).hexdigest()[:32]
