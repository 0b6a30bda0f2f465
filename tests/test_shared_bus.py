"""What a node on a shared bus can do to another: nothing that counts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client as Bus
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from agorai import chain_state
from agorai.bus_users import HUB, BusUsers, move_streams, node_user
from agorai.client import Client
from agorai.demo.town import Resident, Town, running
from agorai_shared import bus
from agorai_shared.bus import final_stream, head_stream, inbox_of
from agorai_shared.command import SIGNATURE, is_genuine, sign, subject
from agorai_shared.consumers import CONSUMERS
from agorai_shared.stream_reader import described, read_portion
from agorai_shared.testing import flushed, running_nats
from agorai_shared.types import Address, Wei
from agorai_shared.vault import Send

FINAL, HEAD = final_stream(31337).name or "", head_stream(31337).name or ""
GET = f"$JS.API.DIRECT.GET.{FINAL}"
SETTLE_S = 0.4

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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub(town: Town) -> AsyncGenerator[Bus]:
    connection = await bus.connect(town.platform.info.bus_url, user=HUB, password=hub_password(town))
    yield connection
    await connection.close()


async def _ignore(_error: Exception) -> None:
    return


def hub_password(town: Town) -> str:
    folder = town.platform.info.deployment.parent / "bus"
    return BusUsers(folder, town.platform.info.chain_id).add_hub()


async def ends(hub: Bus) -> list[tuple[int, int]]:
    """Give first and last sequence of every stream."""
    js = hub.jetstream()
    states = [(await js.stream_info(name)).state for name in (FINAL, HEAD)]
    return [(state.first_seq, state.last_seq) for state in states]


def own_next(town: Town) -> str:
    """Give the subject on which mallory asks for its own vault's next event."""
    return f"$JS.API.CONSUMER.MSG.NEXT.{FINAL}.vault-{town.clients['mallory'].address}"


async def settled(connection: Bus) -> None:
    await flushed(connection)
    await asyncio.sleep(SETTLE_S)


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
    await flushed(mallory)
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
    await flushed(mallory)
    assert (await js.stream_info(stream)).state.messages == before


async def test_a_reply_subject_reaches_nothing_of_the_hubs(town: Town, mallory: Bus, hub: Bus) -> None:
    bob = town.clients["bob"]
    js = hub.jetstream()
    before = await ends(hub)
    streams = {stream.config.name for stream in await js.streams_info()}
    assert {FINAL, HEAD, bus.DEAD_STREAM} <= streams
    heard: list[str] = []

    async def hear(message: Msg) -> None:
        heard.append(message.subject)

    for connection in (bob.bus, hub):
        await connection.subscribe("chain.final.31337.Invocation.Forged.>", cb=hear)
        await connection.subscribe("chain.head.31337.Invocation.Forged.>", cb=hear)
    await bob.bus.subscribe(subject(bob.address, "forged", "x"), cb=hear)
    await settled(bob.bus)
    await settled(hub)
    targets = [
        "chain.final.31337.Invocation.Forged.1",
        "chain.head.31337.Invocation.Forged.1",
        subject(bob.address, "forged", "x"),
        *(
            f"$JS.API.STREAM.{verb}.{name}"
            for name in sorted(map(str, streams))
            for verb in ("PURGE", "DELETE")
        ),
    ]
    for target in targets:
        await mallory.publish(GET, b'{"seq": 1}', reply=target)
        await mallory.publish(GET, b'{"seq": 99999999}', reply=target)  # answered by an empty message
        await mallory.publish("dead.x", b"1", reply=target)
        await mallory.publish(f"$JS.API.STREAM.INFO.{FINAL}", b"", reply=target)
        await mallory.publish(own_next(town), b'{"batch": 1, "no_wait": true}', reply=target)
    await settled(mallory)
    assert heard == []
    assert {stream.config.name for stream in await js.streams_info()} == streams
    assert await ends(hub) == before
    assert (await js.stream_info(bus.DEAD_STREAM)).state.first_seq == 1


async def test_a_node_makes_no_consumer_not_even_its_own(town: Town, mallory: Bus) -> None:
    name = f"vault-{town.clients['mallory'].address}"
    config = {
        "name": name,
        "durable_name": name,
        "filter_subject": "chain.final.>",
        "deliver_subject": "chain.head.x",
    }
    body = json.dumps({"stream_name": FINAL, "config": config}).encode()
    for create in (
        f"$JS.API.CONSUMER.CREATE.{FINAL}.{name}.chain.final.>",
        f"$JS.API.CONSUMER.DELETE.{FINAL}.{name}",
    ):
        with pytest.raises((nats.errors.TimeoutError, nats.errors.NoRespondersError)):
            await mallory.request(create, body, timeout=0.5)


async def test_a_node_neither_speaks_in_anothers_name_nor_takes_its_events(
    town: Town, mallory: Bus, hub: Bus
) -> None:
    bob = town.clients["bob"]
    heard: list[str] = []

    async def hear(message: Msg) -> None:
        heard.append(message.subject)

    await bob.bus.subscribe(f"node.{bob.address.lower()}.heard", cb=hear)
    await settled(bob.bus)
    await mallory.publish(f"node.{bob.address.lower()}.heard", b"")
    js = hub.jetstream()
    # Not its vault's: that is at work.
    service = "vault-0x" + "b0" * 20
    await js.add_consumer(FINAL, ConsumerConfig(durable_name=service, ack_policy=AckPolicy.EXPLICIT))
    place = await js.pull_subscribe_bind(service, FINAL)
    (message,) = await place.fetch(1)
    inbox = mallory.new_inbox()
    taken = await mallory.subscribe(inbox)
    await mallory.publish(message.reply, b"+ACK")
    await mallory.publish(message.reply, b'+NXT {"batch": 10}', reply=inbox)
    await mallory.publish(f"$JS.API.CONSUMER.MSG.NEXT.{FINAL}.{service}", b'{"batch": 10}', reply=inbox)
    for target in (message.reply, f"$JS.API.CONSUMER.MSG.NEXT.{FINAL}.{service}"):
        await mallory.publish(GET, b'{"seq": 99999999}', reply=target)
    await settled(mallory)
    info = await place.consumer_info()
    await js.delete_consumer(FINAL, service)
    assert info.delivered is not None
    assert (info.num_ack_pending, info.num_waiting, info.delivered.consumer_seq) == (1, 0, 1)
    assert (heard, taken.pending_msgs) == ([], 0)


async def test_what_a_node_needs_of_the_bus_works(town: Town, mallory: Bus, hub: Bus) -> None:
    node = town.clients["mallory"]
    assert (await described(mallory, FINAL)).state.last_seq > 0
    assert (await described(mallory, HEAD)).config.name == HEAD
    assert (await read_portion(mallory, FINAL, 1, "chain.>")).messages
    dead = json.loads((await mallory.request("dead.test", b"{}", timeout=2)).data)
    assert dead["stream"] == bus.DEAD_STREAM
    live = await mallory.subscribe("chain.final.31337.>")
    await flushed(mallory)
    await town.platform.fund(Address("0x9fE46736679d2D9a65F0992F2272dE9f3c7fa6e1"), 1)  # thus a block
    assert (await live.next_msg(10)).subject.startswith("chain.final.31337.")
    for service in CONSUMERS:
        info = await mallory.jetstream().consumer_info(FINAL, f"{service}-{node.address}")
        assert info.config.ack_policy == AckPolicy.EXPLICIT


async def test_a_home_of_the_older_form_is_converted(tmp_path: Path) -> None:
    address = Address("0x9fE46736679d2D9a65F0992F2272dE9f3c7fa6e0")
    everything = {"publish": ">", "subscribe": ">"}
    old = {
        "authorization": {
            "users": [
                {"user": HUB, "password": "h" * 22, "permissions": everything},
                {"user": node_user(address), "password": "n" * 22, "permissions": everything},
            ]
        }
    }
    users = BusUsers(tmp_path, 31337)
    users.path.write_text(json.dumps(old))
    store = tmp_path / "store"
    async with running_nats(store, config=users.path) as server:
        client = await bus.connect(server.url, user=HUB, password="h" * 22)
        await bus.ensure_stream(client.jetstream(), final_stream(31337))
        await client.jetstream().publish("chain.final.31337.Invocation.Paid.1", b"{}")
        await client.close()
    assert users.add_hub() == "h" * 22
    assert users.nodes() == [address]
    move_streams(store)
    async with running_nats(store, config=users.path) as server:
        client = await bus.connect(server.url, user=HUB, password="h" * 22)
        await users.make_consumers(client.jetstream(), address)
        node = await bus.connect(server.url, user=node_user(address), password="n" * 22)
        assert (await described(node, FINAL)).state.messages == 1
        await client.jetstream().publish("chain.final.31337.Invocation.Paid.2", b"{}")
        place = await node.jetstream().pull_subscribe(
            "chain.final.>", durable=f"vault-{address}", stream=FINAL
        )
        (message,) = await place.fetch(1)
        await message.ack_sync()
        assert (await place.consumer_info()).num_ack_pending == 0
        await client.close()
        await node.close()


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
