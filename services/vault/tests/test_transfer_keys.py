"""Whom the key to a transfer's data is told, by whom it is taken, and which of several opens the data."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from eth_account import Account
from joserfc.jwk import RSAKey

from agorai_shared import cid as cids
from agorai_shared.bindings.data_transfer import DataProvided, Deal, Initiated, State
from agorai_shared.bindings.voting_panel import Case, Config, Phase, Revealed, Seat, Verdict, VotingPanel
from agorai_shared.chain import ContractRevertError
from agorai_shared.contract import Call
from agorai_shared.digest_files import FileAbsentError
from agorai_shared.documents import DocumentMalformedError
from agorai_shared.envelopes import open_as_member, seal_to_members
from agorai_shared.errors import AgoraiError, UnavailableError
from agorai_shared.market import NotAMemberError
from agorai_shared.panel import PanelCall
from agorai_shared.peer_messages import Message
from agorai_shared.peers import NoPeerHasError
from agorai_shared.sealing import SealTamperedError, new_content_key, seal_bytes
from agorai_shared.shared_jwe import Envelope
from agorai_shared.transfer_key import TOPIC, TransferKey, context
from agorai_shared.types import Address, CaseId, Cid, Wei
from agorai_shared.vault import TransactionState
from agorai_vault.database import SCHEMA
from agorai_vault.keys import Keys
from agorai_vault.transfer import opening
from agorai_vault.transfer.decide import Forget, MovePanel, TellConsumer, TellVoters
from agorai_vault.transfer.handlers import KeyEarlyError, KeyMisplacedError, TransferProtocol
from agorai_vault.transfer.opening import NotAboutTransferError, TransferData, TransferKeyAbsentError
from agorai_vault.transfer.records import TransferRecords

CARLA, PAUL, VERA, VICTOR, STRANGER = (
    Keys(Account.create(), rsa.generate_private_key(65537, 2048)) for _ in range(5)
)
CONTRACT, PANEL = Address("0x" + "11" * 20), Address("0x" + "22" * 20)
CASE = CaseId(5)
TRANSFER = (int(CARLA.address, 16) << 32 | 2) << 64 | 5
CONTEXT = context(1, CONTRACT, TRANSFER)
PLAIN, KEY = b"a,b\n1,2\n", new_content_key()
SEALED = seal_bytes(PLAIN, KEY)
OBJECT = cids.of_raw(SEALED)
CONFIG = Config(
    seat_stake=1, seat_bonus=1, draw_window=600, commit_window=600, reveal_window=600, draw_delay=0
)
DEAL = Deal(CARLA.address, PAUL.address, PANEL, b"s" * 32, b"k" * 32, Wei(1), 1_000, 100, 2, 5, 3)


def envelope(*readers: Keys, key: bytes = KEY, cid: Cid = OBJECT, said: str = CONTEXT) -> Envelope:
    sealed = seal_to_members({one.address: one.jwk for one in readers}, key, said, cid)
    return Envelope(cid=cid, size=len(PLAIN), to_members=sealed)


GIVEN = envelope(CARLA, PAUL)
"""By the provider, when it provided."""


@dataclass
class World:
    """One case, of which this is one node's vault; nothing of it runs."""

    me: Keys
    seats: dict[Address, Seat] = field(default_factory=lambda: {VERA.address: Seat.SEATED})
    phase: Phase = Phase.COMMITTING
    verdict: Verdict = Verdict.PENDING
    opener: Address = CONTRACT
    contested: bool = True
    given: Envelope | AgoraiError = GIVEN
    confirms: bool = True
    stored: dict[str, bytes] = field(default_factory=lambda: {OBJECT: SEALED})
    meanwhile: Envelope | None = None
    """What the provider tells while its data come."""
    unusable: AgoraiError | None = None
    """What comes of asking for a member's encryption key."""
    posted: list[tuple[Address, TransferKey]] = field(default_factory=list)
    intents: dict[str, Any] = field(default_factory=dict)
    on_its_way: bool = False
    database: sqlite3.Connection = field(
        default_factory=lambda: sqlite3.connect(":memory:", isolation_level=None)
    )

    def __post_init__(self) -> None:
        self.database.executescript(SCHEMA)
        peers = SimpleNamespace(post=self._post, is_sending=lambda *_: self.on_its_way)
        self.records = TransferRecords(self.database, cast("Any", peers))
        deployment = SimpleNamespace(chain_id=1, data_transfer=CONTRACT, voting_panel=PANEL)
        chain = SimpleNamespace(read=self._read)
        self.data = TransferData(
            cast("Any", SimpleNamespace(deployment=deployment, chain=chain, events=self._events)),
            self.me,
            self.records,
            cast("Any", SimpleNamespace(read=self._file)),
        )
        envelopes = SimpleNamespace(keys=self.me, keys_of=self._keys_of)
        outbox = SimpleNamespace(find=self.intents.get, send=self._send)
        self.protocol = TransferProtocol(self.data, cast("Any", envelopes), cast("Any", outbox))

    def _post(self, to: Address, topic: str, body: Any) -> None:
        assert topic == TOPIC
        self.posted.append((to, TransferKey.from_bytes(json.dumps(body).encode())))

    async def _send(self, once: str, call: Call[Any]) -> None:
        self.intents[once] = SimpleNamespace(state=TransactionState.SENT, function=call.function)

    async def _read(self, *calls: Call[Any]) -> tuple[Any, ...]:
        return tuple(map(self._answer, calls))

    def _answer(self, call: Call[Any]) -> Any:
        panel = VotingPanel(PANEL)
        if call.function == "seatOf":
            found = [who for who in self.seats if call.data == panel.seat_of(CASE, who).data]
            return self.seats[found[0]] if found else Seat.NONE
        if call.function == "caseOf" and call.data != panel.case_of(CASE).data:
            raise ContractRevertError("VotingPanel", "caseOf", "VotingPanel_NotFound")
        return {
            "config": CONFIG,
            "panelOf": tuple(self.seats),
            "stateOf": State(True, True, True, False, self.contested, 0, CASE if self.contested else 0),
            "caseOf": Case(
                opener=self.opener, item=TRANSFER, accuser=CARLA.address, accused=PAUL.address, bonus=1,
                draw_block=1, deadline=1_000, size=3, round=1, seated=1, committed=0, revealed=0, confirming=0,
                phase=self.phase, verdict=self.verdict,
            ),
        }[call.function]  # fmt: skip

    async def _events(self, _contract: Address, kind: type[Any], *_topics: object) -> list[Any]:
        found = {
            Initiated: Initiated(TRANSFER, CARLA.address, PAUL.address, DEAL),
            DataProvided: DataProvided(
                TRANSFER, CARLA.address, PAUL.address, b"e" * 32, cids.digest_of(OBJECT)
            ),
            Revealed: Revealed(CASE, self.me.address, self.confirms),
        }
        return [(found[kind], 1)]

    async def _file(self, _kind: object, _digest: bytes, _what: str, owners: object) -> Envelope:
        assert owners == [PAUL.address]
        if isinstance(self.given, AgoraiError):
            raise self.given
        return self.given

    async def _keys_of(self, members: Any, *, lenient: bool, may_be_none: bool) -> dict[Address, RSAKey]:
        del may_be_none
        if self.unusable is not None:
            if lenient:
                return {}
            raise self.unusable
        known = {one.address: one.jwk for one in (CARLA, PAUL, VERA, VICTOR)}
        return {one: known[one] for one in members}

    async def take(self, sender: Keys, told: Envelope | None = None, case: int = CASE) -> None:
        """Have a message come in."""
        body = TransferKey(case=case, envelope=told or envelope(self.me)).to_bytes().decode()
        message = Message(1, sender.address, self.me.address, "0" * 32, 0, 1, TOPIC, body)
        (await self.protocol.look(message))()

    async def judged(self) -> bytes:
        return b"".join([piece async for piece in await self.data.judged(CASE)])


@pytest.fixture(autouse=True)
def holders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the provider's node serve what a world says is stored."""

    async def held_by(market: Any, owner: Address) -> Any:
        assert owner == PAUL.address
        world: World = market.events.__self__

        async def get(cid: str) -> AsyncIterator[bytes]:
            if cid not in world.stored:
                raise NoPeerHasError(Cid(cid), {})
            if world.meanwhile is not None:
                await world.take(PAUL, world.meanwhile)
            yield world.stored[cid]

        return SimpleNamespace(get=get)

    monkeypatch.setattr(opening, "holders_of", held_by)


# ---------------------------------------------------------------------------------------------- telling


@pytest.mark.parametrize("side", [CARLA, PAUL], ids=["consumer", "provider"])
async def test_each_side_tells_each_voter_who_is_seated_the_key_once(side: Keys) -> None:
    seats = {VERA.address: Seat.SEATED, VICTOR.address: Seat.SEATED, STRANGER.address: Seat.ABSENT}
    world = World(side, seats)
    state = await world.protocol.read(CASE)
    assert state.untold == (VERA.address, VICTOR.address)
    await world.protocol.perform(CASE, TellVoters(state.untold), "once")
    assert [to for to, _ in world.posted] == [VERA.address, VICTOR.address]
    for voter, (_, told) in zip((VERA, VICTOR), world.posted, strict=True):
        assert open_as_member(told.envelope, voter.address, voter.jwk, CONTEXT) == KEY
        assert told.envelope.cid == OBJECT
        assert len(told.envelope.to_members[0].recipients) == 1
    assert (await world.protocol.read(CASE)).untold == ()


async def test_who_is_drawn_later_is_told_too_and_who_was_not_reached_is_told_anew() -> None:
    world = World(PAUL)
    await world.protocol.perform(CASE, TellVoters((VERA.address,)), "once")
    world.seats = {VERA.address: Seat.SEATED, VICTOR.address: Seat.SEATED}
    assert (await world.protocol.read(CASE)).untold == (VICTOR.address,)
    body = world.posted[0][1].to_bytes().decode()
    world.protocol.undelivered(
        Message(1, PAUL.address, VERA.address, "0" * 32, 0, 1, TOPIC, body), "it is away"
    )
    assert (await world.protocol.read(CASE)).untold == (VERA.address, VICTOR.address)


async def test_nobody_but_the_sides_tells_voters_anything() -> None:
    for me in (VERA, STRANGER):
        state = await World(me).protocol.read(CASE)
        assert (state.side, state.untold, state.contested) == (False, (), False)
    foreign = await World(PAUL, opener=STRANGER.address).protocol.read(CASE)
    assert (foreign.side, foreign.untold) == (False, ())


async def test_a_side_that_cannot_open_what_was_provided_tells_nothing_and_waits_for_what_is_not_served() -> (
    None
):
    for given in (
        envelope(PAUL),
        envelope(CARLA, said="elsewhere"),
        DocumentMalformedError("envelope", "empty"),
    ):
        world = World(CARLA, given=given)
        await world.protocol.perform(CASE, TellVoters((VERA.address,)), "once")
        assert world.posted == []
        assert (await world.protocol.read(CASE)).untold == ()
    world = World(CARLA, given=FileAbsentError("key", b"e" * 32, UnavailableError("it is away")))
    with pytest.raises(FileAbsentError):
        await world.protocol.perform(CASE, TellVoters((VERA.address,)), "once")
    assert (await world.protocol.read(CASE)).untold == (VERA.address,)


async def test_a_voter_whose_encryption_key_cannot_be_had_is_told_when_it_can() -> None:
    world = World(PAUL, unusable=UnavailableError("it is away"))
    await world.protocol.perform(CASE, TellVoters((VERA.address,)), "once")
    assert (world.posted, (await world.protocol.read(CASE)).untold) == ([], (VERA.address,))


async def test_a_draw_that_was_anothers_or_failed_is_made_again_though_the_case_is_as_it_was() -> None:
    """Else who opens a case of its own just before would have this one wait for ever, and its money with it."""
    world = World(PAUL, phase=Phase.DRAWING)
    for call in (PanelCall.DRAW, PanelCall.CLOSE):
        world.intents.clear()
        for ended in (TransactionState.FINAL, TransactionState.REVERTED, TransactionState.FINAL):
            sent = len(world.intents)
            for _ in range(2):  # what is on its way is not sent again
                await world.protocol.perform(CASE, MovePanel(call), "once")
                assert [one.function for one in world.intents.values()] == [call.value] * (sent + 1)
            world.intents[f"once/{sent}"].state = ended


# ----------------------------------------------------------------------------------------------- taking


async def test_a_voter_takes_a_key_of_either_side_and_of_nobody_else() -> None:
    world = World(VERA)
    for side in (CARLA, PAUL):
        await world.take(side)
    assert [kept.sender for kept in world.records.of_case(CASE)] == [CARLA.address, PAUL.address]
    with pytest.raises(KeyMisplacedError):
        await world.take(VICTOR)


async def test_what_comes_before_this_node_sees_the_draw_is_to_come_again() -> None:
    unseated = World(VICTOR)
    with pytest.raises(KeyEarlyError) as caught:
        await unseated.take(PAUL)
    assert caught.value.retryable
    with pytest.raises(KeyEarlyError):
        await World(VERA).take(PAUL, case=CASE + 1)
    assert unseated.records.of_case(CASE) == []


@pytest.mark.parametrize(
    ("me", "changes", "sender", "error"),
    [
        (VERA, {"opener": STRANGER.address}, PAUL, NotAboutTransferError),
        (VERA, {"verdict": Verdict.CONFIRMED}, PAUL, KeyMisplacedError),
        (VERA, {"seats": {VERA.address: Seat.ABSENT}}, PAUL, KeyMisplacedError),
        (VERA, {"seats": {VERA.address: Seat.REVEALED}}, PAUL, KeyMisplacedError),
        (PAUL, {}, CARLA, KeyMisplacedError),
        (CARLA, {}, PAUL, KeyMisplacedError),
        (CARLA, {}, STRANGER, KeyMisplacedError),
        (CARLA, {}, VERA, KeyEarlyError),  # she has not shown her vote
    ],
)
async def test_a_key_that_is_not_the_sender_s_to_tell_is_refused(
    me: Keys, changes: dict[str, Any], sender: Keys, error: type[AgoraiError]
) -> None:
    world = World(me, **changes)
    with pytest.raises(error):
        await world.take(sender)
    assert world.records.of_case(CASE) == []


# ---------------------------------------------------------------------------------------------- opening


async def test_a_false_key_of_one_side_does_not_displace_the_true_one_of_the_other() -> None:
    false = (
        envelope(VERA, key=new_content_key()),
        envelope(VERA, said="elsewhere"),
        envelope(VICTOR),
        envelope(VERA, cid=cids.of_raw(b"another")),
        envelope(VERA, cid=cids.of_dag_pb_digest(cids.digest_of(OBJECT))),
    )
    for told in false:
        for first, second in ((CARLA, PAUL), (PAUL, CARLA)):
            world = World(VERA)
            await world.take(first, told)
            with pytest.raises((TransferKeyAbsentError, NoPeerHasError)):
                await world.judged()
            await world.take(second)
            assert await world.judged() == PLAIN
            opened = world.records.has_opened(CASE)
            assert opened is not None
            assert opened.sender == second.address


async def test_a_side_cannot_take_back_a_key_that_has_opened_the_data() -> None:
    """Else a provider could keep the key from a consumer to whom it gave a false one."""
    world = World(VERA)
    await world.take(PAUL, envelope(VERA, key=new_content_key()))
    await world.take(PAUL)
    assert await world.judged() == PLAIN
    await world.take(PAUL, envelope(VERA, key=new_content_key()))
    assert await world.judged() == PLAIN
    assert world.records.has_opened(CASE) is not None


async def test_a_key_that_comes_while_another_opens_the_data_does_not_take_its_place() -> None:
    """A provider decides how long its data take to come."""
    world = World(VERA, meanwhile=envelope(VERA, key=new_content_key()))
    await world.take(PAUL)
    assert await world.judged() == PLAIN
    opened = world.records.has_opened(CASE)
    assert opened is not None
    assert open_as_member(opened.envelope, VERA.address, VERA.jwk, CONTEXT) == KEY


async def test_a_voter_that_nobody_told_a_key_waits_for_one() -> None:
    with pytest.raises(TransferKeyAbsentError) as caught:
        await World(VERA).judged()
    assert (caught.value.code, caught.value.retryable) == ("transfer_key_absent", True)


async def test_data_that_are_not_served_or_not_as_they_were_sealed_are_told_apart_from_a_false_key() -> None:
    world = World(VERA, stored={})
    await world.take(PAUL)
    with pytest.raises(NoPeerHasError):
        await world.judged()
    world.stored[OBJECT] = SEALED[:-1] + bytes([SEALED[-1] ^ 1])
    with pytest.raises(SealTamperedError):
        await world.judged()


async def test_only_cases_about_transfers_are_opened() -> None:
    world = World(VERA)
    await world.take(PAUL)
    world.opener = STRANGER.address
    with pytest.raises(NotAboutTransferError):
        await world.judged()


# ------------------------------------------------------------------------------------------ the consumer


async def voted(*, confirms: bool = True) -> World:
    """Give a voter that has shown its vote."""
    world = World(VERA, confirms=confirms)
    await world.take(PAUL)
    assert await world.judged() == PLAIN
    world.seats = {VERA.address: Seat.REVEALED}
    return world


async def test_a_voter_that_confirmed_tells_the_consumer_the_key_and_nobody_else_does() -> None:
    world = await voted()
    assert (await world.protocol.read(CASE)).owes
    await world.protocol.perform(CASE, TellConsumer(), "once")
    ((to, told),) = world.posted
    assert to == CARLA.address
    assert open_as_member(told.envelope, to, CARLA.jwk, CONTEXT) == KEY
    assert not (await world.protocol.read(CASE)).owes
    world.protocol.undelivered(
        Message(1, VERA.address, to, "0" * 32, 0, 1, TOPIC, told.to_bytes().decode()), "it is away"
    )
    assert (await world.protocol.read(CASE)).owes

    assert not (await (await voted(confirms=False)).protocol.read(CASE)).owes
    unread = World(VERA, {VERA.address: Seat.REVEALED})
    assert not (await unread.protocol.read(CASE)).owes


async def test_a_consumer_who_has_left_holds_nothing_up() -> None:
    world = await voted()
    world.unusable = NotAMemberError(CARLA.address)
    await world.protocol.perform(CASE, TellConsumer(), "once")
    assert (world.posted, (await world.protocol.read(CASE)).owes) == ([], False)


async def test_a_consumer_takes_the_key_of_a_voter_and_opens_the_data_though_the_case_is_over() -> None:
    world = World(
        CARLA, {VERA.address: Seat.REVEALED, VICTOR.address: Seat.REVEALED}, verdict=Verdict.CONFIRMED
    )
    world.contested = False
    await world.take(VICTOR, envelope(CARLA, key=new_content_key()))
    with pytest.raises(TransferKeyAbsentError):
        await world.data.bought(TRANSFER)
    await world.take(VERA)
    assert b"".join([piece async for piece in await world.data.bought(TRANSFER)]) == PLAIN
    with pytest.raises(TransferKeyAbsentError):
        await world.data.bought(TRANSFER + 1)


async def test_what_a_case_was_the_only_use_of_is_forgotten_with_it() -> None:
    world = await voted()
    assert world.records.cases() == {CASE}
    await world.protocol.perform(CASE, Forget(), "once")
    assert (world.records.cases(), world.records.of_case(CASE)) == (set(), [])

    bought = World(CARLA, {VERA.address: Seat.REVEALED})
    await bought.take(VERA)
    bought.records.count_as_told(CASE, VERA.address)
    await bought.protocol.perform(CASE, Forget(), "once")
    assert len(bought.records.of_transfer(TRANSFER)) == 1
    assert bought.records.cases() == set()


async def test_a_key_is_kept_as_it_came_and_nowhere_in_the_clear() -> None:
    world = await voted()
    await world.protocol.perform(CASE, TellConsumer(), "once")
    dumped = "\n".join(world.database.iterdump())
    assert KEY.hex() not in dumped
    assert world.records.of_case(CASE)[0].envelope.to_members[0].to(VERA.address) is not None
