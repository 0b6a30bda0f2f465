"""What must not keep a side from its part of a trade: a clock, an old agreement, another duty, a slow package."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from eth_account import Account

from agorai_shared import cid as cids
from agorai_shared import handover
from agorai_shared.bindings.fair_exchange import Kind, State, Trade
from agorai_shared.contract import Call
from agorai_shared.errors import UnavailableError
from agorai_shared.handover import Binding
from agorai_shared.negotiation import Ask, Negotiation, Role
from agorai_shared.negotiation import State as Stage
from agorai_shared.types import Cid, TradeId
from agorai_vault import database
from agorai_vault.database import Box
from agorai_vault.keys import Keys
from agorai_vault.negotiating import AGREEMENT_S, Negotiations
from agorai_vault.trade.decide import Duty
from agorai_vault.trade.handlers import TradeProtocol
from agorai_vault.trade.records import Records
from agorai_vault.trade.transcript import NotServedError

from .test_trade_protocol import AGREED

SEVEN = TradeId(7)
BEHIND_S = 3600
"""By how much the chain's last final block is behind this machine's clock."""


def protocol(kind: type[TradeProtocol] = TradeProtocol, **parts: object) -> TradeProtocol:
    absent: dict[str, Any] = dict.fromkeys(
        ("transcript", "records", "panel", "keys", "outbox", "packing", "witness", "verifier", "agreements")
    )
    return kind(**absent | parts)


def chain(timestamp: int) -> SimpleNamespace:
    async def final() -> SimpleNamespace:
        return SimpleNamespace(timestamp=timestamp)

    return SimpleNamespace(final=final)


async def test_a_message_is_dated_by_the_chain_and_so_is_good_whatever_its_senders_clock(
    tmp_path: Path,
) -> None:
    buyer, seller = (Keys(Account.create(), rsa.generate_private_key(65537, 2048)) for _ in range(2))
    binding, named_at = (
        Binding(1, seller.address, SEVEN, buyer.address, seller.address),
        int(time.time()) - BEHIND_S,
    )
    published: list[bytes] = []

    async def key_of_side(*_: object) -> object:
        return seller.jwk

    async def put_document(document: bytes, **_: object) -> Cid:
        published.append(document)
        return cids.of_raw(document)

    market = SimpleNamespace(chain=chain(named_at), store=SimpleNamespace(put_document=put_document))
    transcript = SimpleNamespace(market=market, binding=lambda *_: binding, key_of_side=key_of_side)
    connection = database.connect(tmp_path, "owner")
    records = Records(connection, Box(connection, bytes(32)))
    state = cast("Trade", SimpleNamespace(seller=seller.address, buyer=buyer.address))
    await protocol(transcript=transcript, records=records, keys=buyer)._key_message(SEVEN, state)
    connection.close()
    # anything dated much after the block that names it is refused
    opened = handover.open_key_message(published[0], binding, seller.jwk, named_at, handover.MOST_AGE_S)
    assert len(opened.k) == 32


def test_an_agreement_of_more_than_seven_days_ago_joins_nothing_by_itself(tmp_path: Path) -> None:
    connection = database.connect(tmp_path, "owner")
    negotiations = Negotiations(connection, cast("Any", None), cast("Any", None))
    for ask, age in (("0a" * 16, AGREEMENT_S - 60), ("0b" * 16, AGREEMENT_S + 60)):
        negotiations._keep_new(
            Negotiation(
                role=Role.ASKER,
                me=AGREED.buyer,
                other=AGREED.seller,
                ask=Ask(ask=ask, resource=1, price=60, verification=cids.of_raw(b"rows")),
                state=Stage.AGREED,
                asked_at=int(time.time()) - age,
                terms=AGREED,
            )
        )
    assert negotiations.bought() == [(f"{AGREED.seller}/{'0a' * 16}", AGREED)]
    connection.close()


class Stuck(TradeProtocol):
    """Of which the other side's key cannot be had."""

    async def _duty(self, trade: TradeId, state: Trade, duty: Duty) -> Call[Any]:
        if duty == Duty.KEY:
            raise UnavailableError("nobody serves it")
        return cast("Call[Any]", duty)


@pytest.mark.parametrize(
    ("duties", "done"),
    [
        ((Duty.PREPARATION, Duty.KEY), [Duty.PREPARATION]),
        ((Duty.PREPARATION, Duty.KEY, Duty.ADDRESS), [Duty.PREPARATION]),
        ((Duty.KEY,), None),
        ((Duty.JOINING, Duty.PREPARATION, Duty.KEY), None),  # who has not joined has nothing at stake yet
    ],
)
async def test_a_duty_that_cannot_be_done_keeps_those_before_it_not_back(
    duties: tuple[Duty, ...], done: list[Duty] | None
) -> None:
    trades, state = protocol(Stuck), cast("Trade", None)
    if done is None:
        with pytest.raises(UnavailableError, match="nobody serves it"):
            await trades._duties(SEVEN, state, duties)
    else:
        assert cast("Any", await trades._duties(SEVEN, state, duties)) == done


async def test_a_model_that_takes_too_long_is_left_while_it_can_still_be_disputed() -> None:
    now = int(time.time())
    trade = SimpleNamespace(
        kind=Kind.SALE, state=State.INSPECTING, deadline=now + 16, t1=60, t2=60, t3=60, tb=60
    )

    async def state(_trade: object) -> object:
        return trade

    async def inspect(_trade: object) -> None:
        await asyncio.Event().wait()

    transcript = SimpleNamespace(market=SimpleNamespace(chain=chain(now)), state=state)
    with pytest.raises(NotServedError, match="could still be disputed"):
        await protocol(transcript=transcript, verifier=SimpleNamespace(inspect=inspect))._inspect(SEVEN)
    assert time.time() < trade.deadline  # its last quarter has begun: the next step is to dispute
