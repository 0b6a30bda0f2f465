"""What `agorai status` makes of what it finds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestServer

from agorai import status
from agorai.client import Balances
from agorai.devchain import TOKEN
from agorai.health import LEAST_FREE, RENEW_BEFORE_S, processes
from agorai.home import NodeFile
from agorai.status import FEW_STEPS, Found, advise
from agorai.transfer_refusals import shown
from agorai.transfer_state import TransferSeen
from agorai_shared.bindings.data_transfer import Deal, State
from agorai_shared.types import Address, Wei

ME = Address("0x1111111111111111111111111111111111111111")
OTHER = Address("0x2222222222222222222222222222222222222222")
JUDGE = Address("0x3333333333333333333333333333333333333333")
NOW = 1_800_000_000
"""A moment, in seconds since 1970."""


def balances(coin: int) -> Balances:
    return Balances(tokens=Wei(0), credit=Wei(0), coin=Wei(coin), symbol="HAPY")


def test_a_node_that_is_well_asks_for_nothing() -> None:
    found = Found(
        balances=balances(TOKEN),
        step_cost=10**15,
        free_bytes=LEAST_FREE,
        node_version=metadata.version("agorai"),
    )
    assert advise(found, ME, NOW) == []


def test_what_is_urgent_comes_first_and_each_says_what_to_do() -> None:
    found = Found(
        balances=balances(10**14),
        step_cost=10**15,
        free_bytes=5 << 20,
        credit=3 * TOKEN,
        lacking=TOKEN,
        dead_letters=2,
        node_version="0.0.1",
    )
    advice = advise(found, ME, NOW)
    assert [one.urgent for one in advice] == [True, True, False, False, False, False]
    assert all(one.do for one in advice)
    assert {"agorai pool findings", "agorai account withdraw"} <= {one.do for one in advice}


def test_what_a_node_without_a_vault_cannot_do_is_not_asked_of_its_operator() -> None:
    found = Found(balances=balances(0), step_cost=10**15, credit=TOKEN, free_bytes=5 << 20, acts=False)
    found.transfers = [transfer(replace(state(), deadline=NOW + 60))]
    (one,) = advise(found, ME, NOW)
    assert "disk" in one.what


def test_a_certificate_that_ends_soon_is_told_with_its_end() -> None:
    assert advise(Found(certificate_end=NOW + RENEW_BEFORE_S), ME, NOW) == []
    (one,) = advise(Found(certificate_end=NOW + RENEW_BEFORE_S - 1), ME, NOW)
    assert (one.until, "agorai bus certificate" in one.do) == (NOW + RENEW_BEFORE_S - 1, True)


def test_little_coin_is_told_before_it_is_none() -> None:
    (one,) = advise(Found(balances=balances(FEW_STEPS - 1), step_cost=1), ME, NOW)
    assert not one.urgent
    assert "19 transactions" in one.what


async def test_of_a_node_in_pieces_the_vault_is_heard_too() -> None:
    letter = 'agorai_reconciler_dead_letters_total{protocol="trade"} 2.0\n'
    async with (
        process({}, letter) as store,
        process({"vault.chain": "It does not answer."}, letter) as vault,
    ):
        info = NodeFile(
            name="me", address=ME, pid=1, url=store, vault_url=vault, token="t", bus_url="nats://127.0.0.1:1",
            bus_user=None, bus_password=None, rpc_url="", confirmations=0, deployment=Path("none"),
        )  # fmt: skip
        found = Found()
        await status._hear_ports(info, found)
        assert (found.failing, found.dead_letters) == ({"vault.chain": "It does not answer."}, 4)
        assert set(processes(info)) == {"node", "vault"}
        assert set(processes(info.model_copy(update={"vault_url": store}))) == {"node"}


@asynccontextmanager
async def process(failing: dict[str, str], metrics: str) -> AsyncIterator[str]:
    """Answer as a process of a node does; gives its URL."""

    async def ready(_request: web.Request) -> web.Response:
        return web.json_response({"failing": failing}, status=503 if failing else 200)

    async def told(_request: web.Request) -> web.Response:
        return web.Response(text=metrics)

    app = web.Application()
    app.router.add_get("/health/ready", ready)
    app.router.add_get("/metrics", told)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


def transfer(state: State, *, now: int = NOW) -> TransferSeen:
    parties = {"data_provider": ME, "data_consumer": OTHER, "authority": JUDGE}
    deal = Deal(
        **{
            name: parties.get(name, 0)  # type: ignore[arg-type]
            for name in Deal.__dataclass_fields__
        }
    )
    return TransferSeen(id=7, deal=deal, state=state, provided=None, outcome=None, now=now)


def state() -> State:
    return State(**dict.fromkeys(State.__dataclass_fields__, 0))  # type: ignore[arg-type]


def test_a_transfer_is_for_whoever_it_waits_for_until_its_deadline() -> None:
    waiting = replace(state(), deadline=NOW + 60)
    provided = replace(waiting, data_provided=True)
    (one,) = advise(Found(transfers=[transfer(waiting)]), ME, NOW)
    assert (one.do, one.until) == (f"agorai transfer provide {shown(7)}", NOW + 60)
    assert advise(Found(transfers=[transfer(waiting)]), OTHER, NOW) == []
    (one,) = advise(Found(transfers=[transfer(provided)]), OTHER, NOW)
    assert one.do == f"agorai transfer verify {shown(7)}"
    disputed = transfer(replace(provided, requested_forceful_refund=True))
    assert advise(Found(transfers=[disputed]), OTHER, NOW) == []
    disputed = replace(disputed, deal=replace(disputed.deal, panel_size=3))
    (one,) = advise(Found(transfers=[disputed]), OTHER, NOW)
    assert one.do == f"agorai transfer contest {shown(7)}"
    assert advise(Found(transfers=[disputed]), ME, NOW) == []
    assert advise(Found(transfers=[transfer(waiting, now=NOW + 61)]), ME, NOW) == []


def test_an_authority_is_told_to_rule_once_it_was_asked_until_its_deadline() -> None:
    waiting = replace(state(), deadline=NOW + 60)
    refund, settlement = (
        replace(waiting, **{f"requested_forceful_{what}": True}) for what in ("refund", "settle")
    )
    assert advise(Found(transfers=[transfer(waiting)]), JUDGE, NOW) == []
    (one,) = advise(Found(transfers=[transfer(refund)]), JUDGE, NOW)
    assert (one.do, one.until) == (f"agorai transfer execute-refund {shown(7)}", NOW + 60)
    assert shown(7) in one.what
    for asked in (refund, settlement):
        (one,) = advise(Found(transfers=[transfer(replace(asked, data_provided=True))]), JUDGE, NOW)
        assert "execute-refund or execute-settle" in one.do
    assert advise(Found(transfers=[transfer(refund, now=NOW + 61)]), JUDGE, NOW) == []
