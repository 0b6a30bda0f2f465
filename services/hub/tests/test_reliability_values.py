"""Data fidelity: legal values that break things arrive as themselves, or are told of; nothing halts the hub."""

from __future__ import annotations

from typing import Any

from agorai_hub.settings import FollowedContract
from agorai_shared import bus
from agorai_shared.contract import EventAbi
from agorai_shared.events import ChainEvent
from agorai_shared.types import Address

from .proxy import Proxy, emptied, with_high_indices
from .reliability import grow, pytest_generate_tests
from .world import World, until_ready

__all__ = ["pytest_generate_tests"]

TELLER = Address("0x7e11E70000000000000000000000000000000001")
TOLD = {
    "type": "event",
    "name": "Told",
    "inputs": [
        {"name": "id", "type": "uint256", "indexed": True},
        {"name": "text", "type": "string", "indexed": False},
        {"name": "amount", "type": "uint256", "indexed": False},
    ],
}
NAMED = {"type": "event", "name": "Named", "inputs": [{"name": "name", "type": "bytes32", "indexed": True}]}
ANONYMOUS = {"type": "event", "name": "Whisper", "anonymous": True, "inputs": []}
LARGEST = 2**256 - 1


def word(number: int) -> bytes:
    return number.to_bytes(32)


def told(text: bytes, amount: int = 1) -> bytes:
    padded = text + bytes(-len(text) % 32)
    return word(64) + word(amount) + word(len(text)) + padded


def topic_of(event: dict[str, Any]) -> bytes:
    return bytes.fromhex(EventAbi.from_abi(event).topic0[2:])


class Teller:
    """A contract that says whatever it is given code for: each log is one transaction and one block."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.abi: list[dict[str, Any]] = [TOLD, NAMED, ANONYMOUS]
        self.follow()

    def follow(self) -> None:
        world = self.world
        world.node.address = TELLER
        world.followed = FollowedContract(name="Teller", address=TELLER, abi=self.abi)

    async def say(self, topics: list[bytes], data: bytes = b"", blank: int = 0) -> None:
        """Emit one log with these topics, and data that ends in so many zero bytes."""
        push = b"".join(b"\x7f" + topic for topic in reversed(topics))
        size = b"\x36\x62" + blank.to_bytes(3) + b"\x01"  # what it was sent, and the blanks
        code = (
            bytes.fromhex("3660006000 37".replace(" ", ""))
            + push
            + size
            + b"\x60\x00"
            + bytes([0xA0 + len(topics)])
        )
        node = self.world.node
        await node.rpc.request("anvil_setCode", TELLER, "0x" + code.hex() + "00")
        await node.rpc.request(
            "eth_sendTransactionSync",
            {"from": node.account, "to": TELLER, "data": "0x" + data.hex(), "gas": hex(16_000_000)},
        )

    async def tell(self, id_: int, text: bytes, amount: int = 1) -> None:
        await self.say([topic_of(TOLD), word(id_)], told(text, amount))


async def published(world: World, teller_blocks: int = 2, **own: Any) -> list[ChainEvent]:
    """Follow the chain both ways, as old blocks and as new ones were; give the final events."""
    await world.node.mine(teller_blocks)
    async with world.hub(**own) as hub:
        await world.caught_up()
        await until_ready(hub)
    return world.final.events


async def test_an_empty_text_arrives_as_empty(world: World) -> None:
    """No text at all, and data that is none where the ABI promises some."""
    teller = Teller(world)
    await teller.tell(1, b"")
    await teller.say([topic_of(TOLD), word(2)], b"")
    await teller.tell(3, b"after")
    first, second, third = await published(world)
    assert (first.event, first.args["text"]) == ("Told", "")
    assert (second.event, second.args["data"]) == ("unknown", "0x")
    assert third.args["text"] == "after"


async def test_a_nul_byte_in_a_text_does_not_stop_the_stream(world: World) -> None:
    teller = Teller(world)
    texts = [b"a\0b", b"\0", "é\u2028\U0001f600".encode(), b"\xff\xfe broken", b'"\\\r\n\x1b[31m']
    async with world.hub():
        for place, text in enumerate(texts):
            await teller.tell(place, text)
        await teller.say([topic_of(NAMED), b"a\0 .*>".ljust(32, b"\0")])
        await world.node.mine(2)
        await world.caught_up()
    *said, named = world.final.events
    assert [event.args.get("text") for event in said[:3]] == ["a\0b", "\0", "é\u2028\U0001f600"]
    assert "fffe" in str(said[3].args).lower() or "\ufffd" in str(said[3].args)
    assert said[4].args["text"] == '"\\\r\n\x1b[31m'
    assert named.args["name"] == "0x" + b"a\0 .*>".ljust(32, b"\0").hex()


async def test_a_log_index_near_the_32_bit_ceiling(world: World) -> None:
    await grow(world, 40, events=3)
    async with Proxy(world.node.url).serving() as proxy:
        proxy.alter = with_high_indices
        async with world.hub(rpc_url=proxy.url, poll_s=0.01, catch_up_blocks=4) as hub:
            await world.final.until(lambda reader: len(reader.events) >= 3 * 38)
            await grow(world, 3, events=3)
            await world.node.mine(2)
            await world.final.until(lambda reader: len(reader.events) >= 3 * 43)
            await until_ready(hub)
    assert [event.log_index for event in world.final.events] == [0xFFFFFFE2, 0xFFFFFFE3, 0xFFFFFFE4] * 43
    assert [event.key for event in world.final.events] == [str(number) for number in range(3 * 43)]


async def test_an_unsigned_256_bit_maximum_survives_the_round_trip(world: World) -> None:
    teller = Teller(world)
    await teller.tell(LARGEST, b"most", LARGEST)
    await teller.tell(2**53, b"beyond doubles", 2**53 + 1)
    await teller.tell(2**53 - 1, b"a double", 2**53 - 1)
    events = await published(world)
    assert [event.key for event in events] == [str(LARGEST), str(2**53), str(2**53 - 1)]
    assert [event.args["amount"] for event in events] == [str(LARGEST), str(2**53 + 1), 2**53 - 1]


async def test_long_empty_stretches_advance_progress(world: World) -> None:
    """Five hundred blocks without a log, once as old blocks and once as new ones."""
    await grow(world, 2)
    await world.node.mine(500)
    async with world.hub() as hub:
        await world.caught_up()
        assert world.final.last_number >= 500
        await world.node.mine(500)
        await world.caught_up()
        assert world.final.last_number >= 1000
        await world.node.beep(1)
        await world.caught_up()
        await until_ready(hub)


# beyond


async def test_logs_that_the_abi_does_not_explain_arrive_raw(world: World) -> None:
    """Without topics, with an unknown one, with too few, with too many, and with data of another shape."""
    teller = Teller(world)
    cases = [
        ([], b""),
        ([], b"\x01\x02"),
        ([b"\x07" * 32], b"\x03"),
        ([topic_of(TOLD)], told(b"no id")),
        ([topic_of(TOLD), word(1), word(2)], told(b"two ids")),
        ([topic_of(TOLD), word(1)], word(2**255)),
        ([topic_of(TOLD), word(1)], word(64) + word(1) + word(2**64)),
    ]
    async with world.hub() as hub:
        for topics, data in cases:
            await teller.say(topics, data)
        await teller.tell(9, b"after")
        await world.node.mine(2)
        await world.caught_up()
        await until_ready(hub)
    *raw, last = world.final.events
    assert [event.event for event in raw] == ["unknown"] * len(cases)
    assert [event.args for event in raw] == [
        {"topics": ["0x" + topic.hex() for topic in topics], "data": "0x" + data.hex()}
        for topics, data in cases
    ]
    assert last.event == "Told"


async def test_logs_whose_data_a_provider_has_left_out_arrive_raw(world: World) -> None:
    await grow(world, 5, events=2)
    async with Proxy(world.node.url).serving() as proxy:
        proxy.alter = emptied
        async with world.hub(rpc_url=proxy.url, poll_s=0.01):
            await world.caught_up()
    assert {event.event for event in world.final.events} == {"unknown"}


async def test_an_abi_of_another_contract_stops_nothing(world: World) -> None:
    other = {**world.followed.model_dump(), "abi": [TOLD]}
    world.followed = FollowedContract(**other)
    await grow(world, 5, events=2)
    async with world.hub() as hub:
        await world.caught_up()
        await until_ready(hub)
    assert {event.event for event in world.final.events} == {"unknown"}


async def test_an_address_without_code_stops_nothing(world: World) -> None:
    world.node.address = Address("0x" + "00" * 19 + "77")
    world.followed = FollowedContract(name="Nobody", address=world.node.address, abi=[TOLD])
    await world.node.mine(40)
    async with world.hub() as hub:
        await world.node.mine(3)
        await world.caught_up()
        await until_ready(hub)
    assert not world.final.events


async def test_an_event_too_large_for_the_bus_is_told_without_its_arguments(world: World) -> None:
    teller = Teller(world)
    await teller.say([b"\x07" * 32], blank=1 << 20)
    await teller.tell(2, b"after")
    large, after = await published(world)
    assert large.truncated
    assert large.args == {}
    assert not after.truncated
    async with world.hub():
        await teller.say([b"\x07" * 32], blank=1 << 20)
        await world.node.mine(2)
        await world.caught_up()
    assert world.final.events[-1].truncated
    assert await bus.last_sequence(world.client.jetstream(), world.final.stream) == len(world.final.facts)
