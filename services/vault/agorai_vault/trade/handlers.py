"""The shell of the trade protocol: reading a trade, and performing the one next step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, cast

from agorai_shared import cid as cids
from agorai_shared import handover, logging
from agorai_shared.bindings.fair_exchange import (
    EvidenceGiven,
    FairExchange,
    Kind,
    Opened,
    State,
    Terms,
    Trade,
)
from agorai_shared.bindings.fair_exchange import Step as OnChain
from agorai_shared.bindings.voting_panel import Config, VotingPanel
from agorai_shared.chain import ContractRevertError, time_of
from agorai_shared.content import NODE_PIN
from agorai_shared.contract import Call
from agorai_shared.errors import AgoraiError, RefusedError, UnavailableError
from agorai_shared.handover import HandoverRefusedError
from agorai_shared.jwe import EncryptionKeyError
from agorai_shared.market import Market, topic_of
from agorai_shared.negotiation import Agreement, Limits
from agorai_shared.panel import PanelCall, PanelCase, impartial
from agorai_shared.sealing import open_sealed
from agorai_shared.types import Address, CaseId, Digest, TradeId
from agorai_shared.vault import TradeStatus, TransactionState
from agorai_shared.verifier import Verifier
from agorai_vault.keys import Keys
from agorai_vault.outbox import Outbox
from agorai_vault.steps import send_again, send_step
from agorai_vault.trade import decide
from agorai_vault.trade.decide import Duty, Finding
from agorai_vault.trade.packing import PackageNotHeldError, Packing
from agorai_vault.trade.records import Found, Records, terms_of
from agorai_vault.trade.transcript import NotServedError, TradeNotFoundError, Transcript
from agorai_vault.trade.witness import Witness

log = logging.get(__name__)
_UNLIMITED: Final = 2**256 - 1
_FINAL_S: Final = 15.0

_NOT_YET: Final = ("FairExchange_DeadlineNotPassed", "VotingPanel_")
"""What a contract says whose clock is behind ours, that another has called, or that a draw must come first."""


class TooFewVotersError(RefusedError):
    """A dispute could not be judged: who joins could lose the price with nobody to hear the case."""

    retryable = True

    def __init__(self, trade: int, left: int, size: int) -> None:
        super().__init__(
            f"Besides the two sides {left} voters could judge a dispute about trade {trade}, and its panel has "
            f"{size} seats.",
            remedy="Wait for more, until the time to join is over; nothing was spent.",
        )


class KeyOutdatedError(RefusedError):
    """A trade was opened with a key of this account's that it does not have any more."""

    def __init__(self, trade: int) -> None:
        super().__init__(
            f"Trade {trade} names an encryption key of this account's that is not the one it has.",
            remedy="Have the seller open it anew.",
        )


@dataclass(frozen=True)
class TradeProtocol:
    """The trade protocol, for the reconciler."""

    transcript: Transcript
    panel: VotingPanel
    keys: Keys
    outbox: Outbox
    records: Records
    packing: Packing
    witness: Witness
    verifier: Verifier
    agreements: Callable[[], Iterable[tuple[str, Agreement]]]
    """Gives what this node's owner agreed to by messages, as the buyer, each with the ask in which it did."""
    sides: dict[TradeId, bool] = field(default_factory=dict)
    """Whether this account is a side of a trade, which never changes."""

    @property
    def name(self) -> str:
        """Name in logs and metrics."""
        return "trade"

    @property
    def me(self) -> Address:
        """The node's account."""
        return self.keys.address

    @property
    def market(self) -> Market:
        """The market in which it trades."""
        return self.transcript.market

    @property
    def exchange(self) -> FairExchange:
        """The contract."""
        return self.transcript.exchange

    async def read(self, key: int) -> decide.TradeState:
        """Read the trade at a final block, with what this node found of it."""
        id_ = TradeId(key)
        final = (await self.market.chain.final()).number
        trade, allowance = await self._trade(id_, final)
        case, voters, by_sets, answered = None, 0, False, False
        if trade.state == State.DISPUTED:
            case, voters = await self._case(CaseId(trade.dispute), final)
            by_sets = await self.transcript.by_sets(id_, trade)
            given = await self.transcript.events(EvidenceGiven, id_) if by_sets else []
            answered = any(event.by == case.case.accused for event, _ in given)
        agreed = trade.state != State.OFFERED or self._agreed(id_, await self.transcript.terms(id_))
        return decide.TradeState(
            trade=trade,
            agreed=agreed,
            allowance=allowance,
            key=self.records.found(id_, "key").finding,
            address=self.records.found(id_, "address").finding,
            model=self.records.found(id_, "model").finding,
            case=case,
            voters=voters,
            evidence=self.records.evidence(id_),
            by_sets=by_sets,
            made_sets=self.records.sets(id_) is not None,
            answered=answered,
        )

    def next_step(self, state: decide.TradeState, now: int) -> decide.Step | None:
        """Decide as this account."""
        return decide.next_step(state, self.me, now)

    def due(self, state: decide.TradeState, now: int) -> int | None:
        """Give the time that concerns this account."""
        return decide.due(state, self.me, now)

    async def perform(self, key: int, step: decide.Step, once: str) -> bool:
        """Take the step; one that only looks at something asks for another look at once."""
        id_ = TradeId(key)
        match step:
            case decide.OpenKey():
                await self._open_key(id_, decide.other(await self.transcript.state(id_), self.me))
            case decide.OpenAddress():
                await self._open_address(id_, decide.other(await self.transcript.state(id_), self.me))
            case decide.Inspect():
                await self._inspect(id_)
            case decide.MakeSets(final):
                await self.witness.make_sets(id_, final=final)
            case decide.Approve():  # of which no event of the exchange will tell
                sent = await send_step(self.outbox, once, lambda: self._call(id_, step))
                await self.outbox.wait(sent, TransactionState.FINAL, _FINAL_S)
            case _:
                await self._send(id_, step, once)
                return False
        return True

    async def open_items(self) -> Iterable[int]:
        """Find the trades in which this account is a side and that have not ended."""
        me, address = topic_of(self.me), self.exchange.address
        opened = [
            *await self.market.events(address, Opened, None, me),
            *await self.market.events(address, Opened, None, None, me),
        ]
        ids = sorted({event.id for event, _ in opened})
        calls = [self.exchange.trade(id_) for id_ in ids]
        trades = cast("tuple[Trade, ...]", await self.market.chain.read(*calls) if calls else ())
        return [id_ for id_, trade in zip(ids, trades, strict=True) if trade.state != State.ENDED]

    async def concerns(self, trade: TradeId) -> bool:
        """Say whether this account is a side of a trade; it is told of every trade's every event."""
        if trade not in self.sides:
            state = await self.transcript.state(trade)
            self.sides[trade] = self.me in (state.seller, state.buyer)
        return self.sides[trade]

    async def trade_of(self, case: CaseId) -> TradeId | None:
        """Give the trade that a case is about, None when it is another contract's."""
        (found,) = await self.market.chain.read(self.panel.case_of(case))
        return TradeId(found.item) if found.opener == self.exchange.address else None

    async def status(self, trade: TradeId) -> TradeStatus:
        """Tell what this node found of a trade."""
        found = {what: self.records.found(trade, what) for what in ("key", "address", "model")}
        return TradeStatus(
            trade=trade,
            agreed=self._agreed(trade, await self.transcript.terms(trade)),
            **{what: one.finding.value for what, one in found.items()},
            why=" ".join(one.why for one in found.values() if one.why),
        )

    async def _named_about(self) -> int:
        """Give the time for a message that the chain is about to name: its own, by which it will be judged."""
        return (await self.market.chain.final()).timestamp

    async def now(self) -> int:
        """Give the later of the chain's time and this machine's, in seconds since 1970."""
        return await time_of(self.market.chain)

    async def package(self, trade: TradeId) -> AsyncIterator[bytes]:
        """Stream the other side's package in the clear.

        Raises
        ------
        PackageNotHeldError, TradeNotFoundError
            If its address is not here, or was refused.
        """
        found, address = self.records.found(trade, "address"), self.records.address(trade)
        if found.finding is not Finding.GOOD or address is None:
            await self.transcript.terms(trade)  # that there is such a trade
            receives = decide.receives(await self.transcript.state(trade), self.me)
            awaited = (
                "its address was not handed over yet" if receives else "it is not this side that receives it"
            )
            raise PackageNotHeldError(trade, found.why or awaited)
        copy = self.records.copy(trade)
        if copy is not None:
            return open_sealed(self.market.store.get(copy), address.key)
        giver = decide.other(await self.transcript.state(trade), self.me)
        return open_sealed((await self.transcript.holders(giver)).get(address.cid), address.key)

    def own_package(self, trade: TradeId) -> AsyncIterator[bytes]:
        """Stream this side's own package in the clear.

        Raises
        ------
        PackageNotHeldError
            If none was made.
        """
        content = self.packing.own(trade)
        return open_sealed(self.market.store.get(content.cid), content.key)

    async def _trade(self, trade: TradeId, final: int) -> tuple[Trade, int]:
        try:
            found, allowance = await self.market.chain.read(
                self.exchange.trade(trade),
                self.market.token.allowance(self.me, self.exchange.address),
                at=final,
            )
        except ContractRevertError as error:
            raise TradeNotFoundError(trade) from error
        return found, allowance

    def _agreed(self, trade: TradeId, terms: Terms) -> bool:
        """Say whether the owner wants this trade: what was agreed once is good for one trade and not for the next.

        A swap the owner agrees to by itself, trade by trade: what is handed over for this side's model is judged on
        data that the other side chose, on which nobody has tried it.
        """
        asked = [
            self.records.use(ask, trade)
            for ask, agreement in self.agreements()
            if terms_of(agreement, terms.keys_at) == terms
        ]
        return self.records.agreed(trade, terms) or (terms.kind == Kind.SALE and any(asked))

    async def _case(self, case: CaseId, final: int) -> tuple[PanelCase, int]:
        found, voters, config = await self.market.chain.read(
            self.panel.case_of(case), self.panel.panel_of(case), self.panel.config(), at=final
        )
        return PanelCase(found, cast("Config", config)), len(voters)

    # ---------------------------------------------------------------------------------------------- looking

    async def _open_key(self, trade: TradeId, giver: Address) -> None:
        try:
            await self.transcript.key_of_side(trade, giver)  # to which the address is to be sealed
        except EncryptionKeyError as error:
            self._found(trade, "key", Found(Finding.BAD, error.message))
            return
        message = await self.transcript.message(trade, giver, OnChain.KEY)
        binding = self.transcript.binding(trade, giver, self.me)
        try:
            opened = handover.open_key_message(
                message.document, binding, self.keys.jwk, message.named_at, handover.MOST_AGE_S
            )
        except HandoverRefusedError as error:
            self._found(trade, "key", Found(Finding.BAD, error.why))
            return
        self.records.keep_opened_key(trade, opened)
        self._found(trade, "key", Found(Finding.GOOD))

    async def _open_address(self, trade: TradeId, giver: Address) -> None:
        message = await self.transcript.message(trade, giver, OnChain.ADDRESS)
        own = self.records.key_secret(trade)
        if own is None:
            raise PackageNotHeldError(trade, "the secret of its key message is lost")
        package = await self.transcript.fulfilled(trade, giver, OnChain.PREPARATION)
        try:
            address = handover.open_address_message(
                message.document,
                self.transcript.binding(trade, giver, self.me),
                self.keys.jwk,
                own[1],
                cids.sha256(own[0]),
                package.digest,
                message.named_at,
                handover.MOST_AGE_S,
            )
        except HandoverRefusedError as error:
            self._found(trade, "address", Found(Finding.BAD, error.why))
            self.records.keep_evidence(trade, 0)  # it is to be shown to voters, who may have been shown less
            return
        self.records.keep_address(trade, address)
        self._found(trade, "address", Found(Finding.GOOD))

    async def _inspect(self, trade: TradeId) -> None:
        """Have the model evaluated, but not beyond the time in which it could be disputed."""
        left = decide.patience_ends(await self.transcript.state(trade)) - await self.now()
        try:
            async with asyncio.timeout(max(left, 1)):
                report = await self.verifier.inspect(trade)
                if report.good:
                    await self._keep_package(trade)
        except TimeoutError as error:
            too_slow = UnavailableError("it was not evaluated while it could still be disputed")
            raise NotServedError(trade, "package", too_slow) from error
        except AgoraiError as error:
            raise NotServedError(trade, "package", error) from error
        self._found(trade, "model", Found(Finding.GOOD if report.good else Finding.BAD, report.why))

    async def _keep_package(self, trade: TradeId) -> None:
        """Copy what is about to be paid for, sealed as it is: its giver need not be there afterwards."""
        address = self.records.address(trade)
        if address is None:
            raise PackageNotHeldError(trade, "its address was not handed over yet")
        giver = decide.other(await self.transcript.state(trade), self.me)
        sealed = (await self.transcript.holders(giver)).get(address.cid)
        copy = await self.market.store.put(sealed, name=f"{NODE_PIN}package bought in trade {trade}")
        self.records.keep_copy(
            trade, copy
        )  # its giver may have cut it into other blocks than this store does

    def _found(self, trade: TradeId, what: str, found: Found) -> None:
        self.records.find(trade, what, found)
        log.info("trade.found", trade=trade, what=what, finding=found.finding.value, why=found.why)

    # ---------------------------------------------------------------------------------------------- sending

    async def _send(self, trade: TradeId, step: decide.Step, once: str) -> None:
        try:
            if isinstance(step, decide.MovePanel):
                await send_again(self.outbox, once, lambda: self._call(trade, step))
                return
            sent = await send_step(self.outbox, once, lambda: self._call(trade, step))
        except ContractRevertError as error:
            if not error.reason.startswith(_NOT_YET):
                raise
            log.info("trade.early", trade=trade, step=type(step).__name__, why=error.reason)
            if error.reason.startswith("VotingPanel_DrawDue"):  # another case's, which holds all verdicts up
                await send_again(self.outbox, f"{once}/draw", self._draw)
            return
        if isinstance(step, decide.GiveEvidence):
            intent = await self.outbox.wait(sent, TransactionState.FINAL, _FINAL_S)
            if intent is not None and intent.state == TransactionState.FINAL:
                self.records.keep_evidence(trade, step.voters)

    async def _call(self, trade: TradeId, step: decide.Step) -> Call[Any]:
        exchange = self.exchange
        state = await self.transcript.state(trade)
        match step:
            case decide.Approve():
                call: Call[Any] = self.market.token.approve(exchange.address, _UNLIMITED)
            case decide.Fulfil(duties):
                calls = await self._duties(trade, state, duties)
                call = calls[0] if len(calls) == 1 else exchange.multicall([one.data for one in calls])
            case decide.Dispute(missing):
                call = exchange.dispute(trade, missing)
            case decide.GiveEvidence():
                document = await self.witness.document(trade, state)
                call = exchange.submit_evidence(trade, await self._publish(document, "evidence"))
            case decide.MovePanel(PanelCall.DRAW):
                call = self.panel.draw()
            case decide.MovePanel():
                call = self.panel.close(CaseId(state.dispute))
            case decide.Settle():
                call = exchange.settle(trade)
            case _:
                call = exchange.expire(trade)
        return call

    async def _require_keys(self, trade: TradeId, state: Trade) -> None:
        """See that messages can be sealed to the other side, and that this side can open those sealed to it."""
        await self.transcript.key_of_side(trade, state.seller)
        own = await self.transcript.key_of_side(trade, self.me)
        if own.thumbprint() != self.keys.jwk.thumbprint():
            raise KeyOutdatedError(trade)

    async def _duties(self, trade: TradeId, state: Trade, duties: tuple[Duty, ...]) -> list[Call[Any]]:
        """Build the calls of duties, as far as they can be: one that cannot must not keep the others back."""
        calls: list[Call[Any]] = []
        for duty in duties:
            try:
                calls.append(await self._duty(trade, state, duty))
            except AgoraiError as error:
                if not calls or Duty.JOINING in duties:
                    raise
                log.warning("trade.duty_put_off", trade=trade, duty=duty.name, why=str(error))
                break
        return calls

    async def _draw(self) -> Call[Any]:
        return self.panel.draw()

    async def _duty(self, trade: TradeId, state: Trade, duty: Duty) -> Call[Any]:
        match duty:
            case Duty.JOINING:
                await self._require_time(trade)
                await self._require_voters(trade, state)
                await self._require_keys(trade, state)
                return self.exchange.join(trade)
            case Duty.PREPARATION:
                if not decide.hands_over(state, self.me):
                    return self.exchange.pay(trade)
                content = await self.packing.pack(trade, await self.transcript.terms(trade))
                return self.exchange.prepare(trade, content.commitment)
            case Duty.KEY:
                return self.exchange.pass_key(trade, await self._key_message(trade, state))
            case Duty.ADDRESS:
                return self.exchange.pass_address(trade, await self._address_message(trade, state))
            case _:
                return self.exchange.confirm(trade)

    async def _require_time(self, trade: TradeId) -> None:
        limits = Limits.of(await self.transcript.terms(trade))
        limits.require_time(await self.market.chain.finality_lag())

    async def _require_voters(self, trade: TradeId, state: Trade) -> None:
        panel = self.panel
        available, *sides = await self.market.chain.read(
            panel.available(), panel.voter_of(state.seller), panel.voter_of(state.buyer)
        )
        left = impartial(available, sides)
        if left < state.panel_size:
            raise TooFewVotersError(trade, left, state.panel_size)

    async def _key_message(self, trade: TradeId, state: Trade) -> Digest:
        own = self.records.key_secret(trade)
        if own is None:
            receiver = decide.other(state, self.me)
            document, secret = handover.make_key_message(
                self.transcript.binding(trade, self.me, receiver),
                self.keys.account,
                await self.transcript.key_of_side(trade, receiver),
                await self._named_about(),
            )
            self.records.keep_key_secret(trade, document, secret)
            own = document, secret
        return await self._publish(own[0], "key message")

    async def _address_message(self, trade: TradeId, state: Trade) -> Digest:
        receiver = decide.other(state, self.me)
        package = self.packing.own(trade)
        document = handover.make_address_message(
            self.transcript.binding(trade, self.me, receiver),
            self.keys.account,
            await self.transcript.key_of_side(trade, receiver),
            self.records.opened_key(trade),
            Digest((await self.transcript.fulfilled(trade, receiver, OnChain.KEY)).digest),
            handover.PackageAddress(package.cid, package.key, package.salt),
            await self._named_about(),
        )
        return await self._publish(document, "address message")

    async def _publish(self, document: bytes, what: str) -> Digest:
        return cids.digest_of(await self.market.store.put_document(document, name=f"{NODE_PIN}{what}"))
