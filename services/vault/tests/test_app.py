"""Whole vaults: an owner's and a payer's, with hub, stores and a real chain between them."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import aiohttp
import orjson
import pytest
import pytest_asyncio
from pydantic import BaseModel

from agorai_shared import bus
from agorai_shared import cid as cids
from agorai_shared.bindings.invocation import State
from agorai_shared.errors import RemoteError
from agorai_shared.processes import Running, die_with_parent
from agorai_shared.testing import nats_server
from agorai_shared.types import Address
from agorai_shared.vault import Vault
from agorai_vault import grants
from agorai_vault.grants import Content, Terms

from .ground import FRIEND, PATIENCE_S, Ground
from .town import LIMIT, PRICE, Participant, Town, running_town, until

__all__ = ["nats_server"]

PLAIN = b"age,income\n30,5\n" * 100_000


@pytest_asyncio.fixture
async def town(ground: Ground, nats_server: Running, tmp_path: Path) -> AsyncGenerator[Town]:
    async with running_town(ground, nats_server, tmp_path) as started:
        yield started


@pytest_asyncio.fixture
async def owner(town: Town) -> Participant:
    return await town.participant("owner")


@pytest_asyncio.fixture
async def payer(town: Town) -> Participant:
    return await town.participant("payer")


async def state_of(town: Town, invocation: int) -> State:
    return (await town.item(invocation)).state


async def test_what_is_paid_is_delivered_and_opened(
    town: Town, owner: Participant, payer: Participant
) -> None:
    async with owner.running() as seller, payer.running() as buyer:
        await asyncio.gather(seller.join(), buyer.join())
        invocation = await buyer.pay(await seller.publish(PLAIN))
        await buyer.granted(invocation)
        assert await buyer.vault.bought(invocation, "job", LIMIT) == PLAIN
        assert await town.credit(owner.address) == PRICE
        with pytest.raises(RemoteError, match="paid for by"):
            await seller.vault.bought(invocation, "job", LIMIT)
        await until_no_transaction_is_pending(seller.vault, buyer.vault)


async def until_no_transaction_is_pending(*vaults: Vault) -> None:
    for asked in vaults:

        async def none(asked: Vault = asked) -> bool:
            return not (await asked.status()).pending_transactions

        await until(none)


async def test_uses_are_enforced_for_each_job_and_the_end_for_all(
    town: Town, owner: Participant, payer: Participant
) -> None:
    async with owner.running() as seller, payer.running() as buyer:
        await asyncio.gather(seller.join(), buyer.join())
        invocation = await buyer.pay(await seller.publish(PLAIN, duration=3600, uses=2))
        await buyer.granted(invocation)
        with pytest.raises(RemoteError, match="no use of it is recorded"):
            await buyer.vault.bought(invocation, "a", LIMIT)
        await buyer.transact("use a", town.invocation.use(invocation))
        for _ in range(2):
            assert await buyer.vault.bought(invocation, "a", LIMIT) == PLAIN
        with pytest.raises(RemoteError, match="no use of it is recorded"):
            await buyer.vault.bought(invocation, "b", LIMIT)
        await buyer.transact("use b", town.invocation.use(invocation))
        assert await buyer.vault.bought(invocation, "b", LIMIT) == PLAIN
        await town.pass_time(3600)
        with pytest.raises(RemoteError, match="it ended at"):
            await buyer.vault.bought(invocation, "a", LIMIT)


async def test_an_absent_owners_payer_has_the_money_back_at_the_deadline_by_itself(
    town: Town, owner: Participant, payer: Participant
) -> None:
    async with owner.running() as seller:
        await seller.join()
        resource = await seller.publish(PLAIN)
    async with payer.running() as buyer:
        await buyer.join()
        invocation = await buyer.pay(resource)
        await town.pass_time(50)
        assert await state_of(town, invocation) == State.PAID
        await town.pass_time(20)
        await until(lambda: is_state(town, invocation, State.REFUNDED))
        assert await town.credit(payer.address) == PRICE
        await until_no_transaction_is_pending(buyer.vault)
    async with owner.running() as seller:  # it comes back too late, and lets it be
        await until_no_transaction_is_pending(seller.vault)
        assert await state_of(town, invocation) == State.REFUNDED


async def is_state(town: Town, invocation: int, state: State) -> bool:
    return await state_of(town, invocation) == state


async def test_a_payer_that_was_away_at_the_deadline_asks_for_the_money_when_it_is_back(
    town: Town, owner: Participant, payer: Participant
) -> None:
    async with owner.running() as seller:
        await seller.join()
        resource = await seller.publish(PLAIN)
    async with payer.running() as buyer:
        await buyer.join()
        invocation = await buyer.pay(resource)
    await town.pass_time(100)
    async with payer.running():
        await until(lambda: is_state(town, invocation, State.REFUNDED))


async def test_an_owner_killed_between_storing_the_grant_and_sending_it_delivers_once_at_restart(
    town: Town, owner: Participant, payer: Participant
) -> None:
    async with owner.running() as seller:
        await seller.join()
        resource = await seller.publish(PLAIN)
    async with payer.running() as buyer:
        await buyer.join()
        invocation = await buyer.pay(resource)
        arguments = [town.ground.anvil.url, town.bus.url, str(town.deployment), str(town.folder / "owner")]
        life = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).parent / "entries" / "owner.py"),
            *arguments,
            str(owner.port),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            preexec_fn=die_with_parent(),
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                assert await life.wait() == -signal.SIGKILL
        finally:
            if life.returncode is None:
                life.kill()
                await life.wait()
        assert await state_of(town, invocation) == State.PAID
        async with owner.running() as seller:
            await buyer.granted(invocation)
            assert await buyer.vault.bought(invocation, "job", LIMIT) == PLAIN
            await until_no_transaction_is_pending(seller.vault)
        assert await town.ground.nonce(owner.address) == 3  # join, register, deliver
        assert await town.credit(owner.address) == PRICE


async def test_a_payer_away_while_it_was_delivered_takes_the_grant_at_restart(
    town: Town, owner: Participant, payer: Participant
) -> None:
    async with owner.running() as seller:
        async with payer.running() as buyer:
            await asyncio.gather(seller.join(), buyer.join())
            resource = await seller.publish(PLAIN)
        await seller.market.store.put_document(payer.keys.public_document)  # as known from an earlier sale
        await pay_by_hand(town, payer.address, resource)
        await until(lambda: is_state(town, 1, State.DELIVERED))
        async with payer.running() as buyer:
            await buyer.granted(1)
            assert await buyer.vault.bought(1, "job", LIMIT) == PLAIN


async def pay_by_hand(town: Town, address: Address, resource: int) -> None:
    """Pay while the payer's node is down."""
    rpc, ground = town.ground.rpc, town.ground
    await rpc.request("anvil_impersonateAccount", address)
    for call in (
        ground.token.approve(ground.deployment.invocation, 10**6),
        town.invocation.pay(resource, PRICE),
    ):
        await send_as(ground, address, call)


async def send_as(ground: Ground, address: Address, call: object) -> None:
    before = await ground.nonce(address)
    await ground.rpc.request(
        "eth_sendTransaction",
        {"from": address, "to": call.to, "data": "0x" + call.data.hex(), "gas": hex(500_000)},  # type: ignore[attr-defined]
    )

    async def mined() -> bool:
        return await ground.nonce(address) > before

    await until(mined)


@pytest.mark.parametrize("fault", ["another invocation", "another key", "noise"])
async def test_a_false_grant_is_refused_for_good_and_the_refusal_is_told(
    town: Town, owner: Participant, payer: Participant, fault: str
) -> None:
    async with owner.running() as seller:
        await seller.join()
        resource = await seller.publish(PLAIN)
        commitment = (await seller.market.resource(resource)).commitment
    async with payer.running() as buyer:
        await buyer.join()
        invocation = await buyer.pay(resource)
        item = await town.item(invocation)
        terms = Terms(
            chain_id=31337,
            contract=town.invocation.address,
            invocation=invocation,
            resource=resource,
            sender=owner.address,
            recipient=payer.address,
            commitment=commitment,
            expires_at=item.deadline + item.duration if item.duration else 0,
        )
        if fault == "another invocation":
            terms = replace(terms, invocation=invocation + 1)
        content = Content(cids.of_raw(b"other"), bytes(32), bytes(32))
        false = (
            b"noise"
            if fault == "noise"
            else grants.make(terms, content, owner.keys, payer.keys.public_document)
        )
        digest = cids.digest_of(await buyer.market.store.put_document(false))
        await town.ground.rpc.request("anvil_impersonateAccount", owner.address)
        await send_as(town.ground, owner.address, town.invocation.deliver(invocation, digest))

        async def refused() -> bool:
            return (await buyer.vault.grant(invocation)).refusal is not None

        await until(refused)
        status = await buyer.vault.grant(invocation)
        assert (status.held, str(status.refusal).startswith("The grant is refused")) == (False, True)
        with pytest.raises(RemoteError, match="The grant is refused"):
            await buyer.vault.bought(invocation, "job", LIMIT)


async def test_while_the_owners_store_is_away_the_grant_is_tried_for_and_then_taken(
    town: Town, owner: Participant, payer: Participant
) -> None:
    async with owner.running() as seller:
        async with payer.running() as buyer:
            await asyncio.gather(seller.join(), buyer.join())
            resource = await seller.publish(PLAIN)
        await seller.market.store.put_document(payer.keys.public_document)  # as known from an earlier sale
        await pay_by_hand(town, payer.address, resource)
        await until(lambda: is_state(town, 1, State.DELIVERED))
    async with payer.running() as buyer:
        with pytest.raises(RemoteError, match="does not answer") as caught:
            await buyer.vault.bought(1, "job", LIMIT)
        assert caught.value.retryable
        assert await buyer.vault.grant(1) == await buyer.vault.grant(1)
        async with owner.running():
            await buyer.granted(1)
            assert await buyer.vault.bought(1, "job", LIMIT) == PLAIN


async def test_a_payer_whose_key_is_unusable_is_given_up_on_and_the_others_are_served(
    town: Town, owner: Participant, payer: Participant
) -> None:
    client = await bus.connect(town.bus.url, name="test")
    letters = await client.subscribe("dead.vault")
    private = json.dumps(owner.keys.jwk.as_dict(private=True)).encode()
    bad = await town.participant("bad")
    async with owner.running() as seller, payer.running() as buyer, bad.running() as fool:
        await asyncio.gather(seller.join(), buyer.join(), fool.join(private))
        resource = await seller.publish(PLAIN)
        lost = await fool.pay(resource)
        invocation = await buyer.pay(resource)
        await buyer.granted(invocation)
        letter = orjson.loads((await letters.next_msg(timeout=PATIENCE_S)).data)
        assert (letter["protocol"], letter["key"], letter["step"]) == ("invocation", lost, "Deliver")
        assert "private key" in letter["error"]
        await town.pass_time(100)
        await until(lambda: is_state(town, lost, State.REFUNDED))
        assert await town.credit(bad.address) == PRICE
    await client.close()


async def test_the_vault_calls_the_marketplaces_contracts_only_each_by_its_name(
    town: Town, owner: Participant
) -> None:
    async with owner.running() as node:
        own = node.market.token.transfer(FRIEND, 1)
        for to, contract in [(FRIEND, "MarketToken"), (own.to, "Registry"), (own.to, "../secret")]:
            with pytest.raises(RemoteError, match="calls this marketplace's contracts only") as caught:
                await node.vault.send("a", replace(own, to=to, contract=contract))
            assert caught.value.code == "target_refused"
        with pytest.raises(RemoteError, match="Nothing was sent"):
            await node.vault.settled("a")
        await node.transact("a", own)


async def test_a_service_has_only_steps_sent(town: Town, owner: Participant) -> None:
    async with owner.running() as node:
        token, exchange = node.market.token, town.ground.deployment.fair_exchange
        named_otherwise = replace(token.transfer(FRIEND, 1), function="approve")
        for call in (
            token.transfer(FRIEND, 1),
            named_otherwise,
            token.approve(FRIEND, 1),
            town.invocation.pay(1, 1),
        ):
            with pytest.raises(RemoteError, match="only what its steps are") as caught:
                await node.for_service.send("a", call)
            assert caught.value.code == "step_refused"
        approved = token.approve(exchange, 1)
        with pytest.raises(RemoteError, match="the chain's own coin"):
            await node.for_service.send("a", replace(approved, value=1))
        with pytest.raises(RemoteError, match="Nothing was sent"):
            await node.vault.settled("a")
        await node.for_service.send("a", approved)
        assert (await node.vault.settled("a")).transaction


async def test_a_permit_lets_one_pay_in_one_transaction(
    town: Town, owner: Participant, payer: Participant
) -> None:
    async with owner.running() as seller, payer.running() as buyer:
        await asyncio.gather(seller.join(), buyer.join())
        resource = await seller.publish(PLAIN)
        permit = await buyer.vault.permit(PRICE, 1 << 40)
        r, s = (bytes.fromhex(part[2:]) for part in (permit.r, permit.s))
        call = town.invocation.pay_with_permit(resource, PRICE, 1 << 40, permit.v, r, s)
        await buyer.transact("pay", call)
        await buyer.granted(1)
        with pytest.raises(RemoteError) as caught:
            await buyer.vault._commander.ask(
                "vault", "permit", Overflow(value=1 << 256, deadline=1), Overflow
            )
        assert caught.value.code == "command"


class Overflow(BaseModel):
    value: int
    deadline: int


@pytest.mark.parametrize("number", [0, 5, (1 << 63) - 1, 1 << 63, 1 << 64, 10**30])
async def test_an_invocation_that_is_not_there_is_not_found(
    town: Town, payer: Participant, number: int
) -> None:
    async with payer.running() as node:
        with pytest.raises(RemoteError, match="no invocation") as caught:
            await node.vault.bought(number, "job", LIMIT)
        assert caught.value.http_status == 404


async def test_nothing_is_opened_without_the_nodes_token(town: Town, owner: Participant) -> None:
    async with owner.running() as node, aiohttp.ClientSession() as session:
        sealed = await node.vault.put(PLAIN)
        assert await node.vault.own(sealed.cid, LIMIT) == PLAIN
        for path in (f"/vault/objects/{sealed.cid}", "/vault/invocations/1/content"):
            for headers in ({}, {"Authorization": "Bearer nonsense"}):
                async with session.get(owner.url + path, headers=headers) as answer:
                    assert answer.status == 401
        async with session.post(f"{owner.url}/vault/objects", data=b"x") as answer:
            assert answer.status == 401


async def test_the_store_and_the_log_see_no_plaintext_and_no_key(
    town: Town, owner: Participant, payer: Participant, capsys: pytest.CaptureFixture[str]
) -> None:
    async with owner.running() as seller, payer.running() as buyer:
        await asyncio.gather(seller.join(), buyer.join())
        invocation = await buyer.pay(await seller.publish(b"a very secret table" * 1000))
        await buyer.granted(invocation)
        await buyer.vault.bought(invocation, "job", LIMIT)
    said = capsys.readouterr()
    for participant in (owner, payer):
        secret = bytes(participant.keys.account.key)
        assert secret.hex() not in said.out + said.err
        for file in (town.folder / participant.name).rglob("*"):
            if file.is_file():
                content = file.read_bytes()
                assert b"a very secret table" not in content
                assert secret not in content
                assert secret.hex().encode() not in content
