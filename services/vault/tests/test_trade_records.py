"""What a vault keeps of its trades: agreements, each good for one trade, and secrets, sealed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace

import pytest

from agorai_shared import cid as cids
from agorai_shared.bindings.fair_exchange import Kind, Mode, Terms
from agorai_shared.handover import KeySecret, OpenedKey, PackageAddress
from agorai_shared.types import Address, TradeId, Wei
from agorai_vault.database import Box, BoxTamperedError
from agorai_vault.trade.decide import Finding
from agorai_vault.trade.records import Found, Records

SEVEN, EIGHT = TradeId(7), TradeId(8)
TERMS = Terms(
    kind=Kind.SALE, mode=Mode.DIRECT, seller=Address("0x" + "aa" * 20), buyer=Address("0x" + "bb" * 20),
    seller_resource=1, buyer_resource=0, price=Wei(5), seller_deposit=5, buyer_deposit=5, t0=60, t1=60, t2=60,
    t3=60, tb=60, seller_accuracy=9_500, buyer_accuracy=0, panel_size=3, seller_verification=b"\1" * 32,
    buyer_verification=bytes(32), keys_at=1,
)  # fmt: skip


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    yield connection
    connection.close()


@pytest.fixture
def records(database: sqlite3.Connection) -> Records:
    return Records(database, Box(database, bytes(32)))


def test_an_agreement_is_to_one_trade_on_its_very_terms(records: Records) -> None:
    records.agree(SEVEN, TERMS)
    assert records.agreed(SEVEN, TERMS)
    assert not records.agreed(EIGHT, TERMS)
    assert not records.agreed(SEVEN, replace(TERMS, price=Wei(6)))
    assert not records.agreed(SEVEN, replace(TERMS, seller_verification=b"\2" * 32))


def test_an_ask_is_good_for_the_first_trade_that_comes(records: Records) -> None:
    assert records.use("0xSeller/1", SEVEN)
    assert not records.use("0xSeller/1", EIGHT)
    assert records.use("0xSeller/1", SEVEN)
    assert records.use("0xSeller/2", EIGHT)


def test_the_first_finding_stands(records: Records) -> None:
    assert records.found(SEVEN, "model") == Found(Finding.UNSEEN)
    records.find(SEVEN, "model", Found(Finding.BAD, "its accuracy is low"))
    records.find(SEVEN, "model", Found(Finding.GOOD))
    assert records.found(SEVEN, "model") == Found(Finding.BAD, "its accuracy is low")
    assert records.found(EIGHT, "model").finding is Finding.UNSEEN


def test_secrets_come_back_and_are_not_in_the_database(
    records: Records, database: sqlite3.Connection
) -> None:
    secret, opened = KeySecret(b"k" * 32, b"q" * 32), OpenedKey(b"K" * 32, b"H" * 32)
    address = PackageAddress(cids.of_raw(b"package"), b"c" * 32, b"s" * 32)
    assert records.key_secret(SEVEN) is None
    assert records.address(SEVEN) is None
    records.keep_key_secret(SEVEN, b"document", secret)
    records.keep_key_secret(SEVEN, b"another", KeySecret(bytes(32), bytes(32)))
    records.keep_opened_key(SEVEN, opened)
    records.keep_address(SEVEN, address)
    assert records.key_secret(SEVEN) == (b"document", secret)
    assert records.opened_key(SEVEN) == opened
    assert records.address(SEVEN) == address
    kept = b"".join(row[0] for row in database.execute("SELECT value FROM trade_fact"))
    for hidden in (b"k" * 32, b"q" * 32, b"K" * 32, b"H" * 32, b"c" * 32):
        assert hidden not in kept


def test_a_secret_of_one_trade_does_not_open_as_anothers(
    records: Records, database: sqlite3.Connection
) -> None:
    records.keep_address(SEVEN, PackageAddress(cids.of_raw(b"package"), b"c" * 32, b"s" * 32))
    database.execute("UPDATE trade_fact SET trade = 8")
    with pytest.raises(BoxTamperedError):
        records.address(EIGHT)


def test_evidence_is_counted_anew_when_more_voters_are_drawn(records: Records) -> None:
    assert records.evidence(SEVEN) == 0
    records.keep_evidence(SEVEN, 3)
    records.keep_evidence(SEVEN, 5)
    assert records.evidence(SEVEN) == 5


def test_the_first_sets_and_the_first_choice_stand(records: Records) -> None:
    made = (cids.of_raw(b"one"), cids.of_raw(b"two"))
    assert records.sets(SEVEN) is None
    records.keep_sets(SEVEN, made)
    records.keep_sets(SEVEN, ())
    assert records.sets(SEVEN) == made
    records.keep_sets(EIGHT, ())
    assert records.sets(EIGHT) == ()
    assert records.choice(SEVEN, (0, 3)) == (0, 3)
    assert records.choice(SEVEN, (1, 2, 4)) == (0, 3)
    assert records.choice(EIGHT, (1, 2, 4)) == (1, 2, 4)


def test_each_set_of_a_case_has_its_own_address(records: Records) -> None:
    one, two = (PackageAddress(cids.of_raw(name), name * 32, name * 32) for name in (b"1", b"2"))
    records.keep_address(SEVEN, one, " of set 1")
    records.keep_address(SEVEN, two, " of set 2")
    assert records.address(SEVEN) is None
    assert (records.address(SEVEN, " of set 1"), records.address(SEVEN, " of set 2")) == (one, two)
