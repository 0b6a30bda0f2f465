"""The shell of the trade protocol: reading a trade, and performing the one next step."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

from joserfc.jwk import RSAKey

from agorai_shared import cid as cids
from agorai_shared import evidence, handover, jwe, logging
from agorai_shared.bindings.fair_exchange import FairExchange, Fulfilled, Joined, Opened, State, Terms, Trade
from agorai_shared.bindings.fair_exchange import Step as OnChain
from agorai_shared.bindings.registry import Joined as Registered
from agorai_shared.bindings.voting_panel import Config, VotingPanel
from agorai_shared.chain import ContractRevertError
from agorai_shared.content import NODE_PIN
from agorai_shared.contract import Call
from agorai_shared.errors import AgoraiError, NotFoundError, UnavailableError
from agorai_shared.evidence import PackageKey, Testimony
from agorai_shared.handover import Binding, HandoverRefusedError
from agorai_shared.market import Event, Market, NotAMemberError
from agorai_shared.negotiation import Agreement
from agorai_shared.panel import PanelCall, PanelCase
from agorai_shared.sealing import open_sealed
from agorai_shared.types import Address, CaseId, Digest, TradeId
from agorai_shared.vault import TradeStatus, TransactionState
from agorai_shared.verifier import Verifier
from agorai_vault.database import Box
from agorai_vault.holders import Holders
from agorai_vault.keys import Keys
from agorai_vault.outbox import Outbox
from agorai_vault.steps import send_step
from agorai_vault.trade import decide
from agorai_vault.trade.decide import Duty, Finding
from agorai_vault.trade.packing import Packing
from agorai_vault.trade.records import Found, Records, terms_of

log = logging.get(__name__)
EventT = TypeVar("EventT", bound=Event)

_UNLIMITED: Final = 2**256 - 1
_FINAL_S: Final = 15.0

_NOT_YET: Final = ("FairExchange_DeadlineNotPassed", "VotingPanel_")
"""What a contract says whose clock is behind ours, that another has called, or that a draw must come first."""


class TradeNotFoundError(NotFoundError):
    """There is no trade of this id."""

    retryable = True

    def __init__(self, trade: int) -> None:
        super().__init__(
            f"There is no trade {trade}, or it is not final yet.",
            remedy="See this account's trades: `agorai trade mine`.",
        )


class PackageNotHeldError(NotFoundError):
    """A package that this vault cannot open."""

    def __init__(self, trade: int, why: str) -> None:
        super().__init__(f"This vault cannot open the package of trade {trade}: {why}.")


class MessageAbsentError(NotFoundError):
    """A message that was not put on the chain, or is not final."""

    retryable = True

    def __init__(self, trade: int, what: str) -> None:
        super().__init__(f"There is no final {what} message of trade {trade}.")


class NotServedError(UnavailableError):
    """What the other side handed over cannot be had, or not evaluated, now; it is tried until it is disputed."""

    def __init__(self, trade: int, what: str, error: AgoraiError) -> None:
        super().__init__(f"The {what} of trade {trade} cannot be had now: {error.message}")


@dataclass(frozen=True, slots=True)
class Fulfilment:
    """What a side put on the chain by a step, and when: the time of the block, in seconds since 1970."""

    digest: bytes
    at: int


@dataclass(frozen=True, slots=True)
class Named:
    """A message, and when the chain named it."""

    document: bytes
    named_at: int


@dataclass(frozen=True)
class TradeProtocol:
    """The trade protocol, for the reconciler."""

    market: Market
    exchange: FairExchange
    panel: VotingPanel
    keys: Keys
    box: Box
    outbox: Outbox
    records: Records
    packing: Packing
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

    async def read(self, key: int) -> decide.TradeState:
        """Read the trade at a final block, with what this node found of it."""
        id_ = TradeId(key)
        final = (await self.market.chain.final()).number
        trade, allowance = await self._trade(id_, final)
        case, voters = None, 0
        if trade.state == State.DISPUTED:
            case, voters = await self._case(CaseId(trade.dispute), final)
        agreed = trade.state != State.OFFERED or self._agreed(id_, await self.terms(id_))
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
                await self._open_key(id_, decide.other(await self._state(id_), self.me))
            case decide.OpenAddress():
                await self._open_address(id_, decide.other(await self._state(id_), self.me))
            case decide.Inspect():
                await self._inspect(id_)
            case decide.Approve():  # of which no event of the exchange will tell
                sent = await send_step(self.outbox, once, lambda: self._call(id_, step))
                await self.outbox.wait(sent, TransactionState.FINAL, _FINAL_S)
            case _:
                await self._send(id_, step, once)
                return False
        return True

    async def open_items(self) -> Iterable[int]:
        """Find the trades in which this account is a side and that have not ended."""
        account = "0x" + self.me[2:].lower().rjust(64, "0")
        start, chain = self.market.deployment.start_block, self.market.chain
        final = (await chain.final()).number
        topic = Opened.ABI.topic0
        logs = [
            *await chain.logs(self.exchange.address, [topic, None, account], start, final),
            *await chain.logs(self.exchange.address, [topic, None, None, account], start, final),
        ]
        ids = sorted({int(entry["topics"][1], 16) for entry in logs})
        calls = [self.exchange.trade(TradeId(id_)) for id_ in ids]
        trades = cast("tuple[Trade, ...]", await chain.read(*calls, at=final) if calls else ())
        return [id_ for id_, trade in zip(ids, trades, strict=True) if trade.state != State.ENDED]

    async def terms(self, trade: TradeId) -> Terms:
        """Give what a trade was opened on."""
        for opened, _ in await self.events(Opened, trade):
            return opened.terms
        raise TradeNotFoundError(trade)

    async def concerns(self, trade: TradeId) -> bool:
        """Say whether this account is a side of a trade; it is told of every trade's every event."""
        if trade not in self.sides:
            state = await self._state(trade)
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
            agreed=self._agreed(trade, await self.terms(trade)),
            **{what: one.finding.value for what, one in found.items()},
            why=" ".join(one.why for one in found.values() if one.why),
        )

    async def now(self) -> int:
        """Give the later of the chain's time and this machine's, in seconds since 1970."""
        return max((await self.market.chain.final()).timestamp, int(time.time()))

    async def package(self, trade: TradeId) -> AsyncIterator[bytes]:
        """Stream the other side's package in the clear.

        Raises
        ------
        PackageNotHeldError
            If its address is not here, or was refused.
        """
        found, address = self.records.found(trade, "address"), self.records.address(trade)
        if found.finding is not Finding.GOOD or address is None:
            raise PackageNotHeldError(trade, found.why or "its address was not handed over yet")
        giver = await self.market.actor(decide.other(await self._state(trade), self.me))
        return open_sealed(Holders(self.market, giver.gateway).get(address.cid), address.key)

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
        """Say whether the owner wants this trade: what was agreed once is good for one trade and not for the next."""
        asked = [
            self.records.use(ask, trade)
            for ask, agreement in self.agreements()
            if terms_of(agreement) == terms
        ]
        return self.records.agreed(trade, terms) or any(asked)

    async def _case(self, case: CaseId, final: int) -> tuple[PanelCase, int]:
        found, voters, config = await self.market.chain.read(
            self.panel.case_of(case), self.panel.panel_of(case), self.panel.config(), at=final
        )
        return PanelCase(found, cast("Config", config)), len(voters)

    # ---------------------------------------------------------------------------------------------- looking

    async def _open_key(self, trade: TradeId, giver: Address) -> None:
        message = await self.message(trade, giver, OnChain.KEY)
        binding = self.binding(trade, giver, self.me)
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
        message = await self.message(trade, giver, OnChain.ADDRESS)
        own = self.records.key_secret(trade)
        if own is None:
            raise PackageNotHeldError(trade, "the secret of its key message is lost")
        package = await self.fulfilled(trade, giver, OnChain.PREPARATION)
        try:
            address = handover.open_address_message(
                message.document,
                self.binding(trade, giver, self.me),
                self.keys.jwk,
                own[1],
                cids.sha256(own[0]),
                package.digest,
                message.named_at,
                handover.MOST_AGE_S,
            )
        except HandoverRefusedError as error:
            self._found(trade, "address", Found(Finding.BAD, error.why))
            return
        self.records.keep_address(trade, address)
        self._found(trade, "address", Found(Finding.GOOD))

    async def _inspect(self, trade: TradeId) -> None:
        try:
            report = await self.verifier.inspect(trade)
        except AgoraiError as error:
            raise NotServedError(trade, "package", error) from error
        self._found(trade, "model", Found(Finding.GOOD if report.good else Finding.BAD, report.why))

    def _found(self, trade: TradeId, what: str, found: Found) -> None:
        self.records.find(trade, what, found)
        log.info("trade.found", trade=trade, what=what, finding=found.finding.value, why=found.why)

    # ---------------------------------------------------------------------------------------------- sending

    async def _send(self, trade: TradeId, step: decide.Step, once: str) -> None:
        try:
            sent = await send_step(self.outbox, once, lambda: self._call(trade, step))
        except ContractRevertError as error:
            if not error.reason.startswith(_NOT_YET):
                raise
            log.info("trade.early", trade=trade, step=type(step).__name__, why=error.reason)
            if error.reason.startswith("VotingPanel_DrawDue"):  # another case's, which holds all verdicts up
                await send_step(self.outbox, f"{once}/draw", self._draw)
            return
        if isinstance(step, decide.GiveEvidence):
            intent = await self.outbox.wait(sent, TransactionState.FINAL, _FINAL_S)
            if intent is not None and intent.state == TransactionState.FINAL:
                self.records.keep_evidence(trade, step.voters)

    async def _call(self, trade: TradeId, step: decide.Step) -> Call[Any]:
        exchange = self.exchange
        state = await self._state(trade)
        match step:
            case decide.Approve():
                call: Call[Any] = self.market.token.approve(exchange.address, _UNLIMITED)
            case decide.Fulfil(duties):
                calls = [await self._duty(trade, state, duty) for duty in duties]
                call = calls[0] if len(calls) == 1 else exchange.multicall([one.data for one in calls])
            case decide.Dispute():
                call = exchange.dispute(trade)
            case decide.GiveEvidence():
                call = exchange.submit_evidence(trade, await self._evidence(trade, state))
            case decide.MovePanel(PanelCall.DRAW):
                call = self.panel.draw()
            case decide.MovePanel():
                call = self.panel.close(CaseId(state.dispute))
            case decide.Settle():
                call = exchange.settle(trade)
            case _:
                call = exchange.expire(trade)
        return call

    async def _draw(self) -> Call[Any]:
        return self.panel.draw()

    async def _duty(self, trade: TradeId, state: Trade, duty: Duty) -> Call[Any]:
        match duty:
            case Duty.JOINING:
                await self.key_of_side(trade, state.seller)  # one that cannot be used would block the trade
                return self.exchange.join(trade)
            case Duty.PREPARATION:
                if not decide.hands_over(state, self.me):
                    return self.exchange.pay(trade)
                content = await self.packing.pack(trade, await self.terms(trade))
                return self.exchange.prepare(trade, content.commitment)
            case Duty.KEY:
                return self.exchange.pass_key(trade, await self._key_message(trade, state))
            case Duty.ADDRESS:
                return self.exchange.pass_address(trade, await self._address_message(trade, state))
            case _:
                return self.exchange.confirm(trade)

    async def _key_message(self, trade: TradeId, state: Trade) -> Digest:
        own = self.records.key_secret(trade)
        if own is None:
            receiver = decide.other(state, self.me)
            document, secret = handover.make_key_message(
                self.binding(trade, self.me, receiver),
                self.keys.account,
                await self.key_of_side(trade, receiver),
                await self.now(),
            )
            self.records.keep_key_secret(trade, document, secret)
            own = document, secret
        return await self._publish(own[0], "key message")

    async def _address_message(self, trade: TradeId, state: Trade) -> Digest:
        receiver = decide.other(state, self.me)
        package = self.packing.packed(trade)
        if package is None:
            raise PackageNotHeldError(trade, "it was not made here")
        document = handover.make_address_message(
            self.binding(trade, self.me, receiver),
            self.keys.account,
            await self.key_of_side(trade, receiver),
            self.records.opened_key(trade),
            Digest((await self.fulfilled(trade, receiver, OnChain.KEY)).digest),
            handover.PackageAddress(package.cid, package.key, package.salt),
            await self.now(),
        )
        return await self._publish(document, "address message")

    async def _evidence(self, trade: TradeId, state: Trade) -> Digest:
        """Show each voter drawn what this side was handed and what it handed over, sealed to that voter.

        Raises
        ------
        NotServedError
            If this side accuses and what it was handed is not served: to say so proves nothing, and who serves it
            later must meet with its disclosure.
        """
        case_id = CaseId(state.dispute)
        voters, case = await self.market.chain.read(self.panel.panel_of(case_id), self.panel.case_of(case_id))
        accuses = case.accuser == self.me
        giver, own = decide.other(state, self.me), self.records.key_secret(trade)
        package = self.packing.packed(trade)
        testimony = Testimony(
            key=await self._disclosed(trade, giver, OnChain.KEY, needed=accuses),
            address=await self._disclosed(trade, giver, OnChain.ADDRESS, needed=accuses),
            k=None if own is None else own[1].k.hex(),
            package=None
            if package is None
            else PackageKey(cid=package.cid, key=package.key.hex(), salt=package.salt.hex()),
        )
        recipients: dict[Address, RSAKey] = {}
        for voter in voters:
            try:
                recipients[voter] = await self.key_of_voter(voter)
            except AgoraiError as error:  # one voter's broken key must not keep the evidence from the others
                log.warning("evidence.voter_left_out", trade=trade, voter=voter, why=str(error))
        return await self._publish(evidence.make(testimony, recipients), "evidence")

    async def _disclosed(self, trade: TradeId, giver: Address, step: OnChain, *, needed: bool) -> str | None:
        try:
            message = await self.message(trade, giver, step)
        except (MessageAbsentError, NotServedError) as error:
            if needed and isinstance(error, NotServedError):
                raise
            log.info("evidence.without_message", trade=trade, step=step.name, why=str(error))
            return None
        return handover.disclose(message.document, self.binding(trade, giver, self.me), self.keys.jwk).hex()

    async def _publish(self, document: bytes, what: str) -> Digest:
        return cids.digest_of(await self.market.store.put_document(document, name=f"{NODE_PIN}{what}"))

    # ---------------------------------------------------------------------------------------------- reading

    async def _state(self, trade: TradeId) -> Trade:
        (state,) = await self.market.chain.read(self.exchange.trade(trade))
        return cast("Trade", state)

    async def message(self, trade: TradeId, giver: Address, step: OnChain) -> Named:
        """Fetch the message that a side put on the chain, and tell when it did."""
        named = await self.fulfilled(trade, giver, step)
        try:
            actor = await self.market.actor(giver)
            return Named(await self.market.document(named.digest, actor.gateway), named.at)
        except AgoraiError as error:
            raise NotServedError(trade, f"{step.name.lower()} message", error) from error

    async def fulfilled(self, trade: TradeId, by: Address, step: OnChain) -> Fulfilment:
        """Give what a side put on the chain by a step.

        Raises
        ------
        MessageAbsentError
        """
        for event, block in await self.events(Fulfilled, trade):
            if event.by == by and event.step == step:
                found = await self.market.chain.block(block)
                if found is not None:
                    return Fulfilment(event.digest, found.timestamp)
        raise MessageAbsentError(trade, step.name.lower())

    async def events(self, kind: type[EventT], trade: TradeId) -> list[tuple[EventT, int]]:
        """Give a trade's events of a kind, oldest first, each with its block."""
        chain, start = self.market.chain, self.market.deployment.start_block
        topics = [kind.ABI.topic0, f"0x{trade:064x}"]
        logs = await chain.logs(self.exchange.address, topics, start, (await chain.final()).number)
        return [
            (kind.from_args(kind.ABI.decode(log_["topics"], log_["data"])), int(log_["blockNumber"], 16))
            for log_ in logs
        ]

    def binding(self, trade: TradeId, sender: Address, recipient: Address) -> Binding:
        """Give what a message of a trade is bound to."""
        chain_id = self.market.deployment.chain_id
        return Binding(chain_id, self.exchange.address, trade, sender, recipient)

    async def key_of_side(self, trade: TradeId, account: Address) -> RSAKey:
        """Give the key that a side had in the registry when both had joined the trade.

        With its key of now, a side could change it once a message is sealed to it, and blame the sender.
        """
        joined = [block for _, block in await self.events(Joined, trade)]
        chain, registry = self.market.chain, self.market.deployment.registry
        topics = [Registered.ABI.topic0, "0x" + account[2:].lower().rjust(64, "0")]
        last = joined[0] if joined else (await chain.final()).number
        logs = await chain.logs(registry, topics, self.market.deployment.start_block, last)
        if not logs:
            raise NotAMemberError(account)
        digest = Registered.from_args(
            Registered.ABI.decode(logs[-1]["topics"], logs[-1]["data"])
        ).encryption_key
        actor = await self.market.actor(account)
        return jwe.public_key(await self.market.document(digest, actor.gateway), account)

    async def key_of_voter(self, account: Address) -> RSAKey:
        """Give the key that an account has in the registry."""
        actor = await self.market.actor(account)
        return jwe.public_key(await self.market.document(actor.encryption_key, actor.gateway), account)
