"""What a node on a shared bus can do to another: nothing that counts."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client as Bus

from agorai import chain_state
from agorai.client import Client
from agorai.demo.town import Resident, Town, running
from agorai_shared.bus import final_stream, inbox_of
from agorai_shared.command import SIGNATURE, is_genuine, sign, subject
from agorai_shared.types import Wei
from agorai_shared.vault import Send

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town() -> AsyncGenerator[Town]:
    async with running([Resident("mallory", 1), Resident("bob", 100)]) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mallory(town: Town) -> AsyncGenerator[Bus]:
    info = town.clients["mallory"].info
    connection = await nats.connect(
        info.bus_url,
        user=info.bus_user,
        password=info.bus_password,
        inbox_prefix=inbox_of(info.bus_user),
        error_cb=_ignore,
    )
    yield connection
    await connection.close()


async def _ignore(_error: Exception) -> None:
    return


def robbery(town: Town) -> tuple[str, bytes]:
    bob, mallory = town.clients["bob"], town.clients["mallory"]
    call = bob.market.token.transfer(mallory.address, Wei(10**18))
    send = Send(
        once="robbery",
        to=call.to,
        data="0x" + call.data.hex(),
        contract=call.contract,
        function=call.function,
    )
    return subject(bob.address, "vault", "send"), send.model_dump_json().encode()


async def tokens(client: Client) -> int:
    return (await client.balances()).tokens


async def test_no_consumer_relays_a_stored_message_to_anothers_commands(town: Town, mallory: Bus) -> None:
    name, command = robbery(town)
    await mallory.publish("dead.letters", command)
    await mallory.flush()
    consumer = {"stream_name": "DEAD", "config": {"deliver_subject": name, "deliver_policy": "all"}}
    before = await tokens(town.clients["bob"])
    for create in ("$JS.API.CONSUMER.CREATE.DEAD", f"$JS.API.CONSUMER.CREATE.{final_stream(31337).name}"):
        with pytest.raises(nats.errors.TimeoutError):
            await mallory.request(create, json.dumps(consumer).encode(), timeout=0.5)
    assert await tokens(town.clients["bob"]) == before


async def test_a_command_that_reaches_a_vault_unsigned_is_refused(town: Town) -> None:
    bob = town.clients["bob"]
    name, command = robbery(town)
    before = await tokens(bob)
    answer = json.loads((await bob.bus.request(name, command, timeout=5)).data)
    assert "not signed" in answer["problem"]["detail"]
    assert await tokens(bob) == before


async def test_nobody_but_the_hub_writes_facts(town: Town, mallory: Bus) -> None:
    js = town.clients["bob"].bus.jetstream()
    stream = final_stream(31337).name or ""
    before = (await js.stream_info(stream)).state.messages
    await mallory.publish("chain.final.31337.Invocation.Paid.1", b"{}")
    await mallory.flush()
    assert (await js.stream_info(stream)).state.messages == before


async def test_a_signature_is_bound_to_subject_body_time_and_token() -> None:
    now = 1_000_000
    signature = sign("token", "node.a.vault.send", b"{}", now)
    assert SIGNATURE == "Agorai-Signature"
    assert not is_genuine("token", "node.a.vault.send", b"{}", signature)  # long ago
    assert signature != sign("token", "node.b.vault.send", b"{}", now)
    assert signature != sign("token", "node.a.vault.send", b"{ }", now)
    assert signature != sign("other", "node.a.vault.send", b"{}", now)
    assert not is_genuine("token", "node.a.vault.send", b"{}", "rubbish")


async def test_a_chain_state_that_was_cut_off_is_taken_from_its_copy(tmp_path: Path) -> None:
    state = tmp_path / "chain.json"
    state.write_text('{"block": 1}')
    async with chain_state.copied(state):
        pass
    state.write_text('{"block": 2, "acc')
    chain_state.mend(state)
    assert json.loads(state.read_text()) == {"block": 1}
    (tmp_path / "chain.copy.json").unlink()
    state.write_text("")
    chain_state.mend(state)
    assert not state.exists()
