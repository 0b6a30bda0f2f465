"""Reading a stream by portions, from a real server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
from nats.aio.client import Client

from agorai_shared import bus
from agorai_shared.bus import BusUnreachableError, OutMessage, Stored, publish_batch
from agorai_shared.events import BlockTick, ChainEvent, Phase
from agorai_shared.processes import Running
from agorai_shared.stream_reader import block_of, described, first_at, read_portion
from agorai_shared.testing import nats_server, running_nats
from agorai_shared.types import Address, Hash

__all__ = ["nats_server"]

FINAL, HEAD = "CHAIN_1_FINAL", "CHAIN_1_HEAD"
ALL = "chain.>"


@pytest_asyncio.fixture
async def client(nats_server: Running) -> AsyncGenerator[Client]:
    client = await bus.connect(nats_server.url, name="test")
    for config in (bus.final_stream(1), bus.head_stream(1)):
        await bus.ensure_stream(client.jetstream(), config)
    yield client
    await client.close()


def tick(number: int, phase: Phase = Phase.final) -> OutMessage:
    fact = BlockTick(phase, 1, number, Hash("0x01"), Hash("0x00"), 0, 0, number)
    return OutMessage(fact.subject, fact.to_json())


def event(number: int, phase: Phase = Phase.final, name: str = "Beep", size: int = 0) -> OutMessage:
    fact = ChainEvent(
        phase=phase,
        chain_id=1,
        contract="Beeper",
        address=Address("0x01"),
        event=name,
        key=str(number),
        block_number=number,
        block_hash=Hash("0x01"),
        block_time=0,
        transaction_hash=Hash("0x02"),
        log_index=0,
        args={"text": "x" * size},
    )
    return OutMessage(fact.subject, fact.to_json())


async def read_all(
    client: Client, stream: str, pattern: str, following: int = 1, most: int = 512, most_bytes: int = 4 << 20
) -> tuple[list[Stored], int]:
    """Read until nothing follows; give the messages and the number of portions that had any."""
    found: list[Stored] = []
    portions = 0
    while True:
        portion = await read_portion(client, stream, following, pattern, most=most, most_bytes=most_bytes)
        if not portion.messages:
            assert portion.following == following
            assert portion.pending == 0
            return found, portions
        assert portion.following == portion.messages[-1].seq + 1
        assert len(portion.messages) <= most
        found += portion.messages
        following = portion.following
        portions += 1


@pytest.mark.parametrize("most", [1, 7, 512])
async def test_portions_together_are_the_stream(client: Client, most: int) -> None:
    messages = [part for number in range(150) for part in (event(number), tick(number))]
    await publish_batch(client, FINAL, messages, 0)
    found, portions = await read_all(client, FINAL, ALL, most=most)
    assert [(one.subject, one.payload) for one in found] == [(one.subject, one.payload) for one in messages]
    assert [one.seq for one in found] == list(range(1, 301))
    assert portions == -(-300 // most)


async def test_pending_counts_what_matches_beyond(client: Client) -> None:
    await publish_batch(client, FINAL, [event(n, name="Odd" if n % 2 else "Even") for n in range(20)], 0)
    portion = await read_portion(client, FINAL, 1, "chain.final.1.*.Odd.*", most=4)
    assert [one.seq for one in portion.messages] == [2, 4, 6, 8]
    assert portion.pending == 6
    portion = await read_portion(client, FINAL, 15, "chain.final.1.*.Odd.*", most=100)
    assert ([one.seq for one in portion.messages], portion.pending) == ([16, 18, 20], 0)


async def test_a_pattern_leaves_out_what_does_not_match(client: Client) -> None:
    await publish_batch(
        client, FINAL, [part for n in range(30) for part in (event(n), tick(n), event(n, name="Boop"))], 0
    )
    assert [block_of(m) for m in (await read_all(client, FINAL, "chain.final.1.*.Boop.*", most=4))[0]] == [
        *range(30)
    ]
    assert [m.seq for m in (await read_all(client, FINAL, "chain.final.1.*.*.7"))[0]] == [22, 24]
    assert (await read_all(client, FINAL, "chain.final.1.Nobody.*.*"))[0] == []
    assert (await read_all(client, FINAL, ALL, following=91))[0] == []
    assert (await read_all(client, FINAL, ALL, following=10_000))[0] == []


async def test_a_portion_is_bounded_in_bytes_but_never_empty_for_it(client: Client) -> None:
    await publish_batch(client, FINAL, [event(n, size=20_000) for n in range(10)], 0)
    found, portions = await read_all(client, FINAL, ALL, most_bytes=50_000)
    assert len(found) == 10
    assert 4 <= portions <= 6
    found, portions = await read_all(client, FINAL, ALL, most_bytes=10)
    assert len(found) == portions == 10


async def test_gaps_in_the_sequence_are_passed_over(client: Client) -> None:
    config = bus.final_stream(2)
    config.deny_delete = False
    js = client.jetstream()
    await bus.ensure_stream(js, config)
    name = str(config.name)
    messages = [OutMessage(f"chain.final.2.A.B.{n}", event(n).payload) for n in range(20)]
    await publish_batch(client, name, messages, 0)
    for seq in (1, 2, 3, 9, 10, 20):
        await js.delete_msg(name, seq)
    assert [m.seq for m in (await read_all(client, name, ALL, most=3))[0]] == [
        *range(4, 9), *range(11, 20)
    ]  # fmt: skip
    assert await first_at(client, name, 0) == 4
    assert await first_at(client, name, 8) == 9
    assert await first_at(client, name, 19) == 20


async def test_many_read_at_once(client: Client) -> None:
    await publish_batch(client, FINAL, [event(n) for n in range(400)], 0)
    results = await asyncio.gather(*(read_all(client, FINAL, ALL, most=50) for _ in range(30)))
    assert all([m.seq for m in found] == list(range(1, 401)) for found, _ in results)


async def test_an_absent_stream_or_bus_is_unreachable_and_may_be_asked_again(tmp_path: Path) -> None:
    async with running_nats(tmp_path) as server:
        client = await bus.connect(server.url)
        for ask in (
            read_portion(client, FINAL, 1, ALL), first_at(client, FINAL, 1), described(client, FINAL)
        ):  # fmt: skip
            with pytest.raises(BusUnreachableError, match="no such stream"):
                await ask
        await server.stop()
        with pytest.raises(BusUnreachableError):
            await read_portion(client, FINAL, 1, ALL, timeout_s=0.2)
        async with running_nats(tmp_path, port=server.port):
            other = await bus.connect(server.url)
            await bus.ensure_stream(other.jetstream(), bus.final_stream(1))
            await publish_batch(other, FINAL, [event(1)], 0)
            await other.close()
            async with asyncio.timeout(60):
                while not client.is_connected:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)  # the client tells nobody else
            assert len((await read_all(client, FINAL, ALL))[0]) == 1
            await client.close()


def linear(blocks: Sequence[int], number: int) -> int:
    return next((seq for seq, block in enumerate(blocks, 1) if block >= number), len(blocks) + 1)


@pytest.mark.parametrize("seed", range(5))
async def test_the_first_message_of_a_block_is_found_on_the_final_stream(client: Client, seed: int) -> None:
    chance = random.Random(seed)
    blocks = sorted(chance.choices(range(40), k=chance.choice([0, 1, 2, 60])))
    if blocks:
        await publish_batch(client, FINAL, [chance.choice([event, tick])(block) for block in blocks], 0)
    for number in range(-1, 42):
        assert await first_at(client, FINAL, number) == linear(blocks, number)


@pytest.mark.parametrize("seed", range(5))
async def test_on_a_head_stream_with_reorgs_the_branch_reads_whole_from_there(
    client: Client, seed: int
) -> None:
    chance = random.Random(seed)
    branch: list[int] = []
    messages: list[OutMessage] = []
    for _ in range(40):
        if branch and chance.random() < 0.3:
            for _ in range(chance.randint(1, min(4, len(branch)))):
                number = branch.pop()
                messages += [event(number, Phase.retracted), tick(number, Phase.retracted)]
        number = branch[-1] + 1 if branch else 5
        branch.append(number)
        messages += [event(number, Phase.head), tick(number, Phase.head)]
    await publish_batch(client, HEAD, messages, 0)
    for number in range(4, branch[-1] + 3):
        seq = await first_at(client, HEAD, number)
        rest, _ = await read_all(client, HEAD, ALL, seq)
        if seq > 1:  # it is where the branch grows to that height, never amid a retraction
            (before,) = (await read_portion(client, HEAD, seq - 1, ALL, most=1)).messages
            assert block_of(before) < number
            assert not rest or rest[0].subject.startswith("chain.head.")
        seen: list[int] = []
        for one in rest:
            if one.subject == "chain.head.1.block":
                seen.append(block_of(one))
            elif one.subject == "chain.retracted.1.block" and seen:
                assert seen.pop() == block_of(one)
        assert [block for block in seen if block >= number] == [block for block in branch if block >= number]
