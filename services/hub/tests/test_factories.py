"""A factory announces addresses: each is followed from that block on, whatever happens to the hub or the chain."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import pytest
from eth_utils.address import to_checksum_address
from nats.aio.client import Client

from agorai_hub import contracts, streams
from agorai_hub.contracts import ContractSet, DuplicateContractError, FactoryUnknownError
from agorai_hub.settings import Factory, FollowedContract
from agorai_hub.streams import Streams
from agorai_shared import bus
from agorai_shared.bus import OutMessage
from agorai_shared.contract import EventAbi
from agorai_shared.events import ChainEvent, Phase
from agorai_shared.rpc import Json
from agorai_shared.types import Address, Hash

from .proxy import Proxy
from .world import BEEP, CHAIN_ID, World, beeper, check_history, until_ready

CREATED: dict[str, Any] = {
    "type": "event",
    "name": "Created",
    "inputs": [{"name": "child", "type": "address", "indexed": True}],
}
FAMILY = FollowedContract(
    name="Child", abi=[BEEP], factory=Factory(contract="Factory", event="Created", argument="child")
)


def factory_code() -> bytes:
    """Assemble a contract that, sent a 32-byte n, creates a beeper, announces it, and has it beep n times."""
    child = beeper()
    size = len(child).to_bytes(2)
    topic = bytes.fromhex(EventAbi.from_abi(CREATED).topic0[2:])
    rest = b"\x61" + size + bytes.fromhex("5f5ff0")  # create it from memory
    rest += bytes.fromhex("807f") + topic + bytes.fromhex("5f5fa2")  # announce it
    rest += bytes.fromhex("5f355f525f5f60205f5f855af15000")  # call it with n
    copy_size = 8
    start = (copy_size + len(rest)).to_bytes(2)
    body = b"\x61" + size + b"\x61" + start + bytes.fromhex("5f39") + rest + child
    length = len(body).to_bytes(2)
    return b"\x61" + length + bytes.fromhex("600c5f3961") + length + bytes.fromhex("5ff3") + body


@dataclass
class Works:
    """A factory on a world's chain, and those that it made."""

    world: World
    address: Address
    children: list[Address]

    @classmethod
    async def deploy(cls, world: World) -> Works:
        receipt = await cls._sent(world, {"data": "0x" + factory_code().hex()})
        return cls(world, Address(to_checksum_address(receipt["contractAddress"])), [])

    @staticmethod
    async def _sent(world: World, transaction: dict[str, Json]) -> dict[str, Any]:
        node = world.node
        whole: dict[str, Json] = {"from": node.account, "gas": "0x200000", **transaction}
        return cast("dict[str, Any]", await node.rpc.request("eth_sendTransactionSync", whole))

    @property
    def followed(self) -> list[FollowedContract]:
        return [FollowedContract(name="Factory", address=self.address, abi=[CREATED]), FAMILY]

    async def make(self, beeps: int = 0) -> Address:
        """Have a child made that beeps so often at once."""
        receipt = await self._sent(self.world, {"to": self.address, "data": "0x" + beeps.to_bytes(32).hex()})
        assert len(receipt["logs"]) == 1 + beeps
        child = Address(to_checksum_address("0x" + receipt["logs"][0]["topics"][1][26:]))
        self.children.append(child)
        return child

    async def beep(self, child: Address, count: int, gas: int = 0x200000) -> None:
        data = "0x" + count.to_bytes(32).hex()
        await self._sent(self.world, {"to": child, "data": data, "gas": hex(gas)})

    async def caught_up(self, confirmations: int) -> None:
        """Wait until all is said, and see that it is what the chain has."""
        world = self.world
        number = await world.node.head_number()
        await world.final.until(lambda reader: reader.last_number >= number - confirmations)
        await world.head.until(lambda reader: reader.last_number >= number or not confirmations)
        check_history(world.head, world.final)
        last = world.final.last_number
        logs = await world.node.chain.logs([self.address, *self.children], to_block=last)
        assert world.final.ids == [f"{raw['blockHash']}:{int(raw['logIndex'], 16)}" for raw in logs]


async def test_whom_a_factory_announced_long_ago_is_followed_from_there(world: World) -> None:
    works = await Works.deploy(world)
    first = await works.make(3)
    for _ in range(5):
        await works.beep(first, 2)
    second = await works.make(0)
    await works.beep(second, 700)
    await works.make(1)
    await works.beep(first, 1)
    async with world.hub(0, contracts=works.followed, catch_up_blocks=1):
        await works.caught_up(0)
        late = await works.make(2)
        await works.beep(late, 2)
        await works.caught_up(0)
    names = [event.contract for event in world.final.events]
    assert names[:4] == ["Factory", "Child", "Child", "Child"]
    assert {event.address for event in world.final.events} == {works.address, first, second, *works.children}


async def test_members_come_and_go_with_their_blocks(world: World) -> None:
    works = await Works.deploy(world)
    async with world.hub(3, contracts=works.followed):
        stays = await works.make(1)
        goes = await works.make(2)
        await works.beep(goes, 1)
        await works.beep(stays, 1)
        await works.caught_up(3)
        await world.node.reorg(3)
        works.children.remove(goes)
        await world.node.mine(1)
        await works.caught_up(3)
        await world.node.mine(3)
        await works.caught_up(3)
    retracted = [event for event in world.head.events if event.phase is Phase.retracted]
    assert [event.contract for event in retracted] == ["Child", "Child", "Child", "Child", "Factory"]
    assert {event.address for event in world.final.events} == {works.address, stays}


async def test_a_hub_that_starts_again_knows_the_members_from_its_streams(world: World) -> None:
    works = await Works.deploy(world)
    async with world.hub(3, contracts=works.followed):
        old = await works.make(1)
        await world.node.mine(4)
        young = await works.make(1)
        await works.caught_up(3)
    await works.beep(old, 2)
    await works.beep(young, 2)
    async with world.hub(3, contracts=works.followed):
        await works.beep(young, 1)
        await world.node.mine(3)
        await works.caught_up(3)


async def test_very_many_members_are_asked_for_by_their_topics(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contracts, "MOST_BY_ADDRESS", 1)
    await world.node.beep(3)  # a stranger's event of the same kind
    works = await Works.deploy(world)
    for _ in range(3):
        await works.make(1)
    async with world.hub(1, contracts=works.followed, catch_up_blocks=1):
        await works.beep(works.children[2], 2)
        await world.node.beep(1)
        await works.make(1)
        await world.node.mine(2)
        await works.caught_up(1)


async def test_a_hub_killed_inside_a_members_large_block_goes_on_with_that_member(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = await Works.deploy(world)
    child = await works.make(1)
    async with world.hub(0, contracts=works.followed):
        await works.caught_up(0)
    await works.beep(child, 1500, gas=10_000_000)
    publish = bus.publish_batch
    cut = asyncio.Event()

    async def cut_off(
        client: Client, stream: str, messages: Sequence[OutMessage], *rest: Any, **more: Any
    ) -> int:
        last = await publish(client, stream, messages[:1000], *rest, **more)
        if len(messages) > 1000:
            cut.set()
            await asyncio.Event().wait()
        return last

    monkeypatch.setattr(streams, "publish_batch", cut_off)
    async with world.hub(0, contracts=works.followed):
        await cut.wait()
    monkeypatch.setattr(streams, "publish_batch", publish)
    async with world.hub(0, contracts=works.followed):
        await works.caught_up(0)


@pytest.mark.parametrize("limit", ["result_cap", "cut_results_at"])
async def test_members_logs_that_are_too_many_at_once_are_asked_for_in_parts(
    world: World, limit: str
) -> None:
    works = await Works.deploy(world)
    await world.node.mine(300)
    child = await works.make(1)
    for _ in range(8):
        await works.beep(child, 200)
    await world.node.mine(40)
    async with Proxy(world.node.url).serving() as proxy:
        setattr(proxy, limit, 1000)
        async with world.hub(0, proxy.url, contracts=works.followed, catch_up_blocks=1):
            await works.caught_up(0)


async def test_a_hub_that_stands_by_audits_with_the_members_announced_meanwhile(world: World) -> None:
    works = await Works.deploy(world)
    own: dict[str, Any] = {"contracts": works.followed, "audit_delay_s": 0.2, "takeover_s": 30}
    async with world.hub(0, **own) as writes:
        await works.make(1)
        await works.caught_up(0)
        async with world.hub(0, **own) as stands_by:
            await until_ready(stands_by)
            for _ in range(4):
                await works.beep(await works.make(1), 2)
            await works.caught_up(0)
            number = await world.node.head_number()
            bucket = await world.client.jetstream().key_value("HUB")
            async with asyncio.timeout(30):
                while int((await bucket.get(f"audit.{CHAIN_ID}")).value or b"0") < number:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)  # the place is kept, not announced
            await writes.checks["follows"]()
            await stands_by.checks["follows"]()


async def test_an_address_that_two_factories_announce_keeps_its_first_name(world: World) -> None:
    one, two = [await Works.deploy(world) for _ in range(2)]
    child = Address("0x" + "77" * 20)
    order = [announcement(child, 5, "Two"), announcement(child, 6, "One")]
    families = [
        FollowedContract(
            name=f"ChildOf{name}",
            abi=[BEEP],
            factory=Factory(contract=name, event="Created", argument="child"),
        )
        for name in ("One", "Two")
    ]
    await bus.ensure_stream(world.client.jetstream(), bus.final_stream(1))
    kept = Streams(world.client, 1, "test")
    await kept.final.append([OutMessage(event.subject, event.to_json()) for event in order])
    followed = ContractSet(
        [
            FollowedContract(name="One", address=one.address, abi=[CREATED]),
            FollowedContract(name="Two", address=two.address, abi=[CREATED]),
            *families,
        ]
    )
    announced, following = await kept.announced(followed.families, 1)
    assert [known.name for known in followed.learn(announced)] == ["ChildOfTwo"]
    assert await kept.announced(followed.families, following) == ([], following)


def named(name: str, address: int) -> FollowedContract:
    return FollowedContract(name=name, address=Address(f"0x{address:040x}"), abi=[CREATED, BEEP])


@pytest.mark.parametrize(
    ("factory", "why"),
    [
        (
            Factory(contract="Nobody", event="Created", argument="child"),
            "no followed contract is called Nobody",
        ),
        (Factory(contract="Factory", event="Made", argument="child"), "Factory has no event Made"),
        (Factory(contract="Factory", event="Created", argument="kid"), "has no address kid"),
        (Factory(contract="Factory", event="Beep", argument="number"), "has no address number"),
    ],
)
def test_a_factory_that_is_not_there_is_told(factory: Factory, why: str) -> None:
    family = FollowedContract(name="Child", abi=[BEEP], factory=factory)
    with pytest.raises(FactoryUnknownError, match=why):
        ContractSet([named("Factory", 1), family])


def test_two_contracts_of_one_name_or_address_are_refused() -> None:
    with pytest.raises(DuplicateContractError, match="the name A"):
        ContractSet([named("A", 1), named("A", 2)])
    with pytest.raises(DuplicateContractError, match="the address 0x"):
        ContractSet([named("A", 1), named("B", 1)])


def test_who_was_announced_in_a_block_that_is_gone_is_followed_no_longer() -> None:
    followed = ContractSet([named("Factory", 1), FAMILY])
    old, young = (Address(to_checksum_address(f"0x{n:040x}")) for n in (7, 8))
    assert [known.address for known in followed.learn([announcement(old, 5), announcement(young, 6)])] == [
        old,
        young,
    ]
    assert not followed.learn([announcement(old, 6)]), "it is known"
    followed.forget_above(5)
    assert followed.at(old.lower()) is not None
    assert followed.at(young.lower()) is None
    assert followed.wanted() == [{"address": [named("Factory", 1).address]}, {"address": [old]}]


def announcement(child: Address, block: int, factory: str = "Factory") -> ChainEvent:
    hash_ = Hash("0x" + "11" * 32)
    address = named("Factory", 1).address
    assert address is not None
    return ChainEvent(
        Phase.final, 1, factory, address, "Created", child, block, hash_, 0, hash_, 0, {"child": child}
    )
