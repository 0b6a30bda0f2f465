"""The shell of cases about transfers of data: their reading and performing, and the keys that are told in them.

KeyMisplacedError (RefusedError)   a key came from, or to, somebody who has no part in its case
KeyEarlyError (UnavailableError)   or this node does not see yet that they have
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, cast

from joserfc.jwk import RSAKey

from agorai_shared import logging
from agorai_shared.bindings.data_transfer import Initiated, State
from agorai_shared.bindings.voting_panel import Case, Config, Revealed, Seat
from agorai_shared.chain import ContractRevertError, time_of
from agorai_shared.contract import Call
from agorai_shared.documents import DocumentMalformedError
from agorai_shared.envelopes import EnvelopeFaultyError, NotForKeyError, seal_to_members
from agorai_shared.errors import RefusedError, UnavailableError
from agorai_shared.jwe import EncryptionKeyError
from agorai_shared.market import NotAMemberError, topic_of
from agorai_shared.panel import PanelCall, PanelCase
from agorai_shared.peer_messages import Message
from agorai_shared.shared_jwe import Envelope
from agorai_shared.transfer_key import TransferKey
from agorai_shared.types import Address, CaseId, Cid
from agorai_vault.envelopes import Envelopes
from agorai_vault.outbox import Outbox
from agorai_vault.steps import send_again
from agorai_vault.transfer import decide
from agorai_vault.transfer.opening import NotAboutTransferError, TransferData

log = logging.get(__name__)

_NOT_YET: Final = ("VotingPanel_", "DataTransfer_WrongState", "DataTransfer_NotFound")
"""What a contract says whose clock is behind ours, that another has called, or that a draw must come first."""


class KeyMisplacedError(RefusedError):
    """A key that nobody is to be told, or that is not the sender's to tell."""

    def __init__(self, case: int, sender: Address) -> None:
        super().__init__(f"In case {case} this account is told no key by {sender}.")


class KeyEarlyError(UnavailableError):
    """What makes a key the recipient's to have is not final here yet."""

    def __init__(self, case: int) -> None:
        super().__init__(f"Case {case} has not come so far here that this account is told the key.")


@dataclass(frozen=True)
class TransferProtocol:
    """Cases about transfers, for the reconciler; the key is the case's. It takes the messages in them, too."""

    data: TransferData
    envelopes: Envelopes
    outbox: Outbox

    @property
    def name(self) -> str:
        """Name in logs and metrics."""
        return "transfer"

    @property
    def me(self) -> Address:
        """The node's account."""
        return self.envelopes.keys.address

    async def read(self, key: int) -> decide.CaseState:
        """Read the case and its transfer at a final block, with what this node holds of it."""
        id_, panel = CaseId(key), self.data.panel
        found, config, seat = await self.data.market.chain.read(
            panel.case_of(id_), panel.config(), panel.seat_of(id_, self.me)
        )
        case = PanelCase(cast("Case", found), cast("Config", config))
        if found.opener != self.data.contract.address or self.me not in (found.accuser, found.accused):
            return await self._as_voter(id_, case, cast("Seat", seat))
        told = self.data.records.told(id_)
        (state,) = await self.data.market.chain.read(
            self.data.contract.state_of(await self.data.deal(found.item))
        )
        return decide.CaseState(
            case,
            side=True,
            contested=cast("State", state).panel_case == id_,
            untold=await self._untold(id_, told) if case.pending else (),
            keeps=id_ in self.data.records.cases(),
        )

    async def _as_voter(self, id_: CaseId, case: PanelCase, seat: Seat) -> decide.CaseState:
        consumer = case.case.accuser
        told = consumer in self.data.records.told(id_)
        owes = seat == Seat.REVEALED and not told and self.data.records.has_opened(id_) is not None
        return decide.CaseState(
            case,
            side=False,
            owes=owes and await self._confirmed(id_),
            telling=told and self.data.records.is_telling(consumer),
            keeps=id_ in self.data.records.cases(),
        )

    async def _untold(self, id_: CaseId, told: set[Address]) -> tuple[Address, ...]:
        panel, read = self.data.panel, self.data.market.chain.read
        (drawn,) = await read(panel.panel_of(id_))
        voters = [voter for voter in cast("tuple[Address, ...]", drawn) if voter not in told]
        seats = await read(*(panel.seat_of(id_, voter) for voter in voters)) if voters else ()
        return tuple(voter for voter, seat in zip(voters, seats, strict=True) if seat == Seat.SEATED)

    async def _confirmed(self, id_: CaseId) -> bool:
        revealed = await self.data.market.events(
            self.data.panel.address, Revealed, f"0x{id_:064x}", topic_of(self.me)
        )
        return any(event.confirms for event, _ in revealed)

    def next_step(self, state: decide.CaseState, now: int) -> decide.Step | None:
        """Decide as this account."""
        return decide.next_step(state, now)

    def due(self, state: decide.CaseState, now: int) -> int | None:
        """Give the time that concerns this account."""
        return decide.due(state, now)

    async def perform(self, key: int, step: decide.Step, once: str) -> bool:
        """Take the step."""
        id_ = CaseId(key)
        case = await self.data.case(id_)
        match step:
            case decide.TellVoters(voters):
                await self._tell_voters(id_, case.item, voters)
            case decide.TellConsumer():
                await self._tell_consumer(id_, case)
            case decide.Forget():
                self.data.records.forget(id_)
            case decide.MovePanel(call):
                await self._send(
                    id_,
                    once,
                    self.data.panel.draw() if call is PanelCall.DRAW else self.data.panel.close(id_),
                )
            case decide.Resolve():
                await self._send(id_, once, self.data.contract.resolve(await self.data.deal(case.item)))
        return False

    async def open_items(self) -> Iterable[int]:
        """Find the cases of transfers in which this account is a side or a voter, and those it keeps anything of."""
        me, contract, panel = topic_of(self.me), self.data.contract, self.data.panel
        opened = [
            *await self.data.market.events(contract.address, Initiated, None, me),
            *await self.data.market.events(contract.address, Initiated, None, None, me),
        ]
        calls = [
            contract.state_of(event.deal) for event, _ in opened if event.deal.authority == panel.address
        ]
        states = cast("tuple[State, ...]", await self.data.market.chain.read(*calls) if calls else ())
        return {CaseId(state.panel_case) for state in states if state.panel_case} | self.data.records.cases()

    async def concerns(self, id_: CaseId) -> bool:
        """Say whether a case is about a transfer in which this account is a side or a voter."""
        found, seat = await self.data.market.chain.read(
            self.data.panel.case_of(id_), self.data.panel.seat_of(id_, self.me)
        )
        case = cast("Case", found)
        part = self.me in (case.accuser, case.accused) or seat != Seat.NONE
        return part and case.opener == self.data.contract.address

    async def now(self) -> int:
        """Give the later of the chain's time and this machine's, in seconds since 1970."""
        return await time_of(self.data.market.chain)

    # --------------------------------------------------------------------------------------------- messages

    async def look(self, message: Message) -> Callable[[], None]:
        """See that a key is told by a side to a voter who is seated, or by a voter to the consumer.

        Raises
        ------
        DocumentMalformedError, NotAboutTransferError, KeyMisplacedError, KeyEarlyError
        """
        told = TransferKey.from_bytes(message.body.encode())
        id_, panel = CaseId(told.case), self.data.panel
        try:
            found, mine, theirs = await self.data.market.chain.read(
                panel.case_of(id_), panel.seat_of(id_, self.me), panel.seat_of(id_, message.sender)
            )
        except ContractRevertError as error:
            raise KeyEarlyError(id_) from error
        case = cast("Case", found)
        if case.opener != self.data.contract.address:
            raise NotAboutTransferError(id_)
        if self.me == case.accuser:
            awaited, there = theirs in (Seat.SEATED, Seat.COMMITTED), theirs == Seat.REVEALED
        else:
            sides = (case.accuser, case.accused)
            told_by_side = message.sender in sides and self.me not in sides and not case.verdict
            awaited = told_by_side and mine == Seat.NONE
            there = told_by_side and mine in (Seat.SEATED, Seat.COMMITTED)
        if awaited:
            raise KeyEarlyError(id_)
        if not there:
            raise KeyMisplacedError(id_, message.sender)
        own = self.me == case.accuser
        return lambda: self.data.records.keep(id_, case.item, message.sender, told.envelope, own=own)

    def undelivered(self, message: Message, why: str) -> None:
        """Have a key told anew that did not reach its recipient."""
        case = CaseId(TransferKey.from_bytes(message.body.encode()).case)
        log.info("transfer.key_undelivered", case=case, recipient=message.recipient, why=why)
        self.data.records.untell(case, message.recipient)

    async def _tell_voters(self, id_: CaseId, transfer: int, voters: tuple[Address, ...]) -> None:
        try:
            own, key = await self.data.own_key(transfer)
        except (EnvelopeFaultyError, NotForKeyError, DocumentMalformedError) as error:
            log.warning("transfer.key_unreadable", case=id_, why=error.message)  # there is nothing to tell
            for voter in voters:
                self.data.records.count_as_told(id_, voter)
            return
        keys = await self.envelopes.keys_of(voters, lenient=True, may_be_none=True)
        for voter in keys:
            self.data.records.tell(voter, self._sealed(id_, transfer, own, key, voter, keys[voter]))

    async def _tell_consumer(self, id_: CaseId, case: Case) -> None:
        kept = self.data.records.has_opened(id_)
        if kept is None:
            return
        key = self.data.key_of(kept.envelope, case.item)
        try:
            keys = await self.envelopes.keys_of([case.accuser], lenient=False, may_be_none=False)
        except (NotAMemberError, EncryptionKeyError) as error:
            log.warning("transfer.consumer_unreachable", case=id_, why=error.message)
            self.data.records.count_as_told(id_, case.accuser)
            return
        self.data.records.tell(
            case.accuser, self._sealed(id_, case.item, kept.envelope, key, case.accuser, keys[case.accuser])
        )

    def _sealed(
        self, id_: CaseId, transfer: int, known: Envelope, key: bytes, reader: Address, to: RSAKey
    ) -> TransferKey:
        members = seal_to_members({reader: to}, key, self.data.context(transfer), Cid(known.cid))
        return TransferKey(case=id_, envelope=Envelope(cid=known.cid, size=known.size, to_members=members))

    # ---------------------------------------------------------------------------------------------- sending

    async def _send(self, id_: CaseId, once: str, call: Call[Any]) -> None:
        async def made() -> Call[Any]:
            return call

        async def draw() -> Call[Any]:
            return self.data.panel.draw()

        try:
            await send_again(self.outbox, once, made)
        except ContractRevertError as error:
            if not error.reason.startswith(_NOT_YET):
                raise
            log.info("transfer.early", case=id_, call=call.function, why=error.reason)
            if error.reason.startswith("VotingPanel_DrawDue"):  # another case's, which holds all verdicts up
                await send_again(self.outbox, f"{once}/draw", draw)
