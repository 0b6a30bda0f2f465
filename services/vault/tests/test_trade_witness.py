"""What each side shows to voters, and what it keeps from them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from eth_account import Account
from joserfc.jwk import RSAKey

from agorai_shared import cid as cids
from agorai_shared import evidence, handover
from agorai_shared.bindings.fair_exchange import Kind, Mode, Outcome, State, Step, Terms, Trade
from agorai_shared.errors import InputError, UnavailableError
from agorai_shared.evidence import PackagePlace
from agorai_shared.handover import Binding, KeySecret
from agorai_shared.trainer import Degrade, Degraded
from agorai_shared.types import Address, Digest, TradeId, Wei
from agorai_vault.database import Box, ContentKey
from agorai_vault.keys import Keys
from agorai_vault.trade.decide import Finding, about_key
from agorai_vault.trade.records import Found, Records
from agorai_vault.trade.transcript import Named
from agorai_vault.trade.witness import VotersUnreachableError, Witness

SELLER, BUYER = (Keys(Account.create(), rsa.generate_private_key(65537, 2048)) for _ in range(2))
VOTER, STRANGER = Address("0x" + "22" * 20), Address("0x" + "33" * 20)
VOTERS_KEY = RSAKey.generate_key(2048)
SEVEN = TradeId(7)
CONTRACT = Address("0x" + "11" * 20)
TO_SELLER = Binding(31337, CONTRACT, 7, BUYER.address, SELLER.address)
DATA = b"a,y\n1,0\n"
ABOUT_MODEL, ABOUT_KEY = 5, 1
"""What the seller had done when the dispute began."""


def content(name: bytes) -> ContentKey:
    cid, salt = cids.of_raw(name), b"s" * 32
    return ContentKey(cid, b"k" * 32, salt, cids.commitment(cid, salt))


PACKAGE, SETS = content(b"package"), [content(b"set %d" % number) for number in range(5)]


@dataclass
class World:
    """One dispute, and this node's side of it."""

    me: Keys
    records: Records
    accuser: Address = BUYER.address
    mode: Mode = Mode.PAPER
    seller_done: int = ABOUT_MODEL
    voters: tuple[Address, ...] = (VOTER, STRANGER)
    verification: bytes | None = DATA
    trainer: Any = None
    asked: list[Degrade] = field(default_factory=list)
    exchange: Any = field(default_factory=lambda: SimpleNamespace(address=CONTRACT))

    @property
    def trade(self) -> Trade:
        return Trade(
            seller=SELLER.address, buyer=BUYER.address, price=Wei(5), seller_deposit=5, buyer_deposit=5, t1=60, t2=60,
            t3=60, tb=60, deadline=1, seller_done=self.seller_done, buyer_done=3, panel_size=3, kind=Kind.SALE,
            state=State.DISPUTED, outcome=Outcome.NONE, dispute=1,
        )  # fmt: skip

    @property
    def market(self) -> Any:
        async def read(*_: object) -> tuple[object, ...]:
            return self.voters, SimpleNamespace(accuser=self.accuser)

        return SimpleNamespace(chain=SimpleNamespace(read=read))

    async def terms(self, _trade: TradeId) -> Terms:
        return Terms(
            kind=Kind.SALE, mode=self.mode, seller=SELLER.address, buyer=BUYER.address, seller_resource=1,
            buyer_resource=0, price=Wei(5), seller_deposit=5, buyer_deposit=5, t0=60, t1=60, t2=60, t3=60, tb=60,
            seller_accuracy=9_500, buyer_accuracy=0, panel_size=3,
            seller_verification=cids.digest_of(cids.of_raw(DATA)), buyer_verification=bytes(32), keys_at=1,
        )  # fmt: skip

    async def by_sets(self, _trade: TradeId, state: Trade) -> bool:
        return self.mode == Mode.PAPER and not about_key(state)

    async def key_of_voter(self, account: Address) -> RSAKey:
        if account != VOTER:
            raise UnavailableError("it serves none")
        return VOTERS_KEY

    async def message(self, _trade: TradeId, giver: Address, step: Step) -> Named:
        if giver == SELLER.address:
            document = handover.make_address_message(
                TO_SELLER.mirrored, SELLER.account, BUYER.jwk, handover.OpenedKey(b"k" * 32, b"h" * 32),
                Digest(b"d" * 32), handover.PackageAddress(PACKAGE.cid, PACKAGE.key, PACKAGE.salt), 0,
            )  # fmt: skip
        else:
            document, _ = handover.make_key_message(TO_SELLER, BUYER.account, SELLER.jwk, 0)
        return Named(document, 0)

    async def document(self, _trade: TradeId, _by: Address, _digest: bytes, _what: str) -> bytes:
        if self.verification is None:
            raise UnavailableError("nobody serves them")
        return self.verification

    def binding(self, _trade: TradeId, sender: Address, _recipient: Address) -> Binding:
        return TO_SELLER if sender == BUYER.address else TO_SELLER.mirrored

    async def degrade(self, command: Degrade) -> Degraded:
        self.asked.append(command)
        if self.trainer is not None:
            raise self.trainer
        return Degraded(sets=tuple(one.cid for one in SETS))

    @property
    def witness(self) -> Witness:
        packing = SimpleNamespace(own=lambda _trade: PACKAGE)
        panel = SimpleNamespace(panel_of=lambda case: case, case_of=lambda case: case)
        return Witness(
            *(
                cast("Any", part)
                for part in (self, panel, self.me, self.records.box, self.records, packing, self)
            )
        )

    async def shown(self) -> tuple[evidence.Evidence, evidence.Testimony]:
        document = await self.witness.document(SEVEN, self.trade)
        return evidence.read(document), evidence.take(document, VOTER, VOTERS_KEY)


@pytest.fixture
def records() -> Iterator[Records]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute(
        "CREATE TABLE content (cid TEXT PRIMARY KEY, commitment BLOB, salt BLOB, sealed_key BLOB) STRICT"
    )
    box = Box(connection, bytes(32))
    for one in SETS:
        box.keep_content(one)
    kept = Records(connection, box)
    kept.keep_key_secret(SEVEN, b"document", KeySecret(b"K" * 32, b"Q" * 32))
    yield kept
    connection.close()


NOTHING = evidence.Testimony()


async def test_the_accused_shows_five_sets_and_neither_its_package_nor_what_leads_to_it(
    records: Records,
) -> None:
    world = World(SELLER, records)
    await world.witness.make_sets(SEVEN, final=False)
    public, testimony = await world.shown()
    (asked,) = world.asked
    assert (asked.source, asked.count) == ("/vault/trades/7/own", 5)
    assert asked.verification == cids.of_raw(DATA)
    assert public.sets == tuple(one.commitment.hex() for one in SETS)
    assert public.chosen == ()
    assert testimony.place == PackagePlace(cid=PACKAGE.cid, salt=PACKAGE.salt.hex())
    assert [one.cid for one in testimony.sets] == [one.cid for one in SETS]
    assert (testimony.package, testimony.address, testimony.k, testimony.key) == (None, None, None, None)


async def test_the_accuser_shows_a_choice_that_stays_the_same_and_what_cannot_lead_to_the_model(
    records: Records,
) -> None:
    world = World(BUYER, records)
    records.find(SEVEN, "address", Found(Finding.GOOD))
    public, testimony = await world.shown()
    assert len(public.chosen) in {2, 3}
    assert public.sets == ()
    assert testimony == NOTHING
    assert all([(await world.shown())[0].chosen == public.chosen for _ in range(5)])


async def test_a_bad_address_is_shown_in_the_papers_mode_too(records: Records) -> None:
    records.find(SEVEN, "address", Found(Finding.BAD, "it answers another key message"))
    public, testimony = await World(BUYER, records).shown()
    assert public.chosen
    assert (testimony.k, bool(testimony.address)) == ((b"K" * 32).hex(), True)


async def test_where_the_model_is_judged_the_package_and_the_address_are_shown(records: Records) -> None:
    seller, buyer = (World(me, records, mode=Mode.DIRECT) for me in (SELLER, BUYER))
    public, testimony = await seller.shown()
    assert (public.sets, public.chosen) == ((), ())
    assert testimony.package is not None
    assert testimony.package.cid == PACKAGE.cid
    public, testimony = await buyer.shown()
    assert (public.sets, public.chosen) == ((), ())
    assert testimony.address
    assert testimony.k == (b"K" * 32).hex()


@pytest.mark.parametrize("mode", Mode)
async def test_who_accuses_a_key_shows_that_alone(records: Records, mode: Mode) -> None:
    world = World(SELLER, records, accuser=SELLER.address, mode=mode, seller_done=ABOUT_KEY)
    public, testimony = await world.shown()
    assert public.chosen == ()
    assert testimony.key
    assert testimony == NOTHING.model_copy(update={"key": testimony.key})


async def test_what_can_be_made_later_is_tried_again_until_it_would_come_too_late(records: Records) -> None:
    for broken in ({"verification": None}, {"trainer": UnavailableError("no trainer answers")}):
        world = World(SELLER, records, **cast("Any", broken))
        with pytest.raises(UnavailableError):
            await world.witness.make_sets(SEVEN, final=False)
        assert records.sets(SEVEN) is None
    await world.witness.make_sets(SEVEN, final=True)
    assert records.sets(SEVEN) == ()


async def test_a_model_of_which_no_sets_can_be_made_is_shown_itself(records: Records) -> None:
    world = World(SELLER, records, trainer=InputError("it is a support vector machine"))
    await world.witness.make_sets(SEVEN, final=False)
    public, testimony = await world.shown()
    assert public.sets == ()
    assert testimony.package is not None


async def test_evidence_waits_for_a_voter_who_can_read_it(records: Records) -> None:
    nobody = replace(World(BUYER, records), voters=(STRANGER,))
    with pytest.raises(VotersUnreachableError):
        await nobody.witness.document(SEVEN, nobody.trade)
