from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest
from aiohttp import ClientSession, web
from nats.aio.client import Client

from agorai_hub import audit as auditor
from agorai_hub.audit import AuditRangeError, Report, audit, logs_of_range
from agorai_hub.auditing import router
from agorai_hub.bloom import masks, may_contain
from agorai_hub.comparison import SHOWN, compare
from agorai_hub.contracts import ContractSet
from agorai_hub.decoding import Decoder, decode_range
from agorai_hub.second_pass import AUDITED_BLOCK, DIFFERENCES, SecondPass
from agorai_hub.streams import Streams
from agorai_shared.bus import OutMessage, ensure_stream, final_stream, publish_batch
from agorai_shared.chain import Chain, Finality, RawLog
from agorai_shared.events import ChainEvent
from agorai_shared.rpc import Rpc, RpcResponseError
from agorai_shared.service import Host, Service, make_broker
from agorai_shared.settings import NodeSettings
from agorai_shared.types import Address

from .world import CHAIN_ID, World

Events = list[ChainEvent]
FINAL = str(final_stream(CHAIN_ID).name)


class Liar:
    """A node that leaves out logs, refuses wide ranges, knows no receipts, holds its answers back or is away."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.drops: set[int] = set()
        """Blocks whose logs no `eth_getLogs` over a range has."""
        self.widest = 1 << 30
        self.has_receipts = True
        self.drops_by_hash = False
        self.down = False
        self.open = asyncio.Event()
        self.open.set()
        self.asked = asyncio.Event()

    @asynccontextmanager
    async def chain(self) -> AsyncIterator[Chain]:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/", self._serve)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with ClientSession() as self._session, Rpc(f"http://127.0.0.1:{runner.addresses[0][1]}") as rpc:
            try:
                yield Chain(rpc, Finality(0))
            finally:
                self.open.set()
                await runner.cleanup()

    async def _serve(self, request: web.Request) -> web.Response:
        self.asked.set()
        await self.open.wait()
        if self.down:
            raise web.HTTPServiceUnavailable
        body = await request.json()
        if isinstance(body, list):
            return web.json_response([await self._answer(call) for call in body])
        return web.json_response(await self._answer(body))

    async def _answer(self, call: dict[str, Any]) -> dict[str, Any]:
        if call["method"] == "eth_getBlockReceipts" and not self.has_receipts:
            return {
                "jsonrpc": "2.0",
                "id": call["id"],
                "error": {"code": -32601, "message": "unknown method"},
            }
        is_logs = call["method"] == "eth_getLogs"
        is_range = is_logs and "blockHash" not in call["params"][0]
        wanted = call["params"][0]
        if is_range and int(wanted["toBlock"], 16) - int(wanted["fromBlock"], 16) >= self.widest:
            return {"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32005, "message": "too wide"}}
        async with self._session.post(self.target, json=call) as response:
            answer: dict[str, Any] = await response.json()
        if is_range or (is_logs and self.drops_by_hash):
            answer["result"] = [r for r in answer["result"] if int(r["blockNumber"], 16) not in self.drops]
        return answer


def decoder_of(world: World) -> Decoder:
    return Decoder(CHAIN_ID, ContractSet([world.followed]))


async def events_of(world: World) -> Events:
    raws = await world.node.chain.logs(world.node.address)
    return await decode_range(world.node.chain, decoder_of(world), raws)


async def beep(world: World, *counts: int) -> int:
    """Give the number of the newest block, after blocks with so many events."""
    for count in counts:
        await world.node.beep(count)
    return await world.node.head_number()


async def write(world: World, events: Events) -> None:
    """Make the final stream hold exactly these events, and the tick of the newest block."""
    js = world.client.jetstream()
    await js.delete_stream(FINAL)
    await ensure_stream(js, final_stream(CHAIN_ID))
    streams = Streams(world.client, CHAIN_ID, "test")
    await streams.append_final(events, await world.node.chain.head(), 0, len(events))


async def audited(world: World, first: int, last: int, **options: Any) -> Report:
    chain = options.pop("chain", world.node.chain)
    return await audit(chain, decoder_of(world), world.client, first, last, **options)


def places(report: Report, kind: str) -> list[str]:
    return [place.at for place in getattr(report.differences, kind).first]


async def test_what_a_hub_has_published_is_whole(world: World) -> None:
    await world.node.mine(5)
    await beep(world, 1, 3, 0, 2)
    await world.node.mine(40)
    async with world.hub(confirmations=2, catch_up_blocks=4):
        await world.caught_up(2)
        await beep(world, 4, 0, 1)
        await world.node.mine(2)
        await world.caught_up(2)
    last = world.final.last_number
    report = await audited(world, 0, last)
    assert report.is_whole
    assert report.events_on_chain == report.events_on_stream == 11
    assert (report.chain_id, report.first, report.last, report.dropped_count) == (CHAIN_ID, 0, last, 0)
    assert Report.model_validate_json(report.to_json()) == report
    part = await audited(world, 7, 8)
    assert (part.events_on_chain, part.events_on_stream, part.is_whole) == (4, 4, True)


Alter = Callable[[Events], Events]


def _swapped(events: Events) -> Events:
    return [*events[:2], events[3], events[2], *events[4:]]


def _stranger(events: Events) -> Events:
    return [*events, ChainEvent.from_json(events[-1].to_json().replace(b'"log_index":0', b'"log_index":77'))]


@pytest.mark.parametrize(
    ("alter", "kind", "index"),
    [
        pytest.param(lambda e: e[:2] + e[3:], "missing", 2, id="left out"),
        pytest.param(lambda e: [*e[:3], *e[2:]], "repeated", 2, id="repeated"),
        pytest.param(_swapped, "out_of_order", 2, id="swapped"),
        pytest.param(lambda e: [*e[:2], _altered(e[2]), *e[3:]], "differing", 2, id="altered"),
        pytest.param(lambda e: [*e[:2], _elsewhere(e[2]), *e[3:]], "differing", 2, id="of another block"),
        pytest.param(_stranger, "unexpected", None, id="unknown log"),
    ],
)
async def test_one_wrong_message_is_found_and_named(
    world: World, alter: Alter, kind: str, index: int | None
) -> None:
    last = await beep(world, 2, 3, 1)
    events = await events_of(world)
    await write(world, alter(events))
    report = await audited(world, 0, last)
    assert report.differences.count == 1
    event = events[-1] if index is None else events[index]
    log_index = 77 if index is None else event.log_index
    assert places(report, kind) == [f"{event.block_number}:{log_index}"]
    (place,) = getattr(report.differences, kind).first
    assert (place.contract, place.event) == ("Beeper", "Beep")


def _altered(event: ChainEvent) -> ChainEvent:
    return ChainEvent.from_json(event.to_json().replace(b'"value":', b'"value":1'))


def _elsewhere(event: ChainEvent) -> ChainEvent:
    return ChainEvent.from_json(event.to_json().replace(event.block_hash[2:].encode(), b"ab" * 32))


async def test_an_event_of_a_block_far_away_is_unexpected_wherever_it_stands(world: World) -> None:
    last = await beep(world, 1, 1, 1)
    events = await events_of(world)
    far = ChainEvent.from_json(events[1].to_json().replace(b'"block_number":3', b'"block_number":999'))
    assert far.block_number == 999
    await write(world, [*events[:2], far, events[2]])
    report = await audited(world, 0, last)
    assert places(report, "unexpected") == ["999:0"]
    assert report.differences.count == 1


async def test_a_message_that_is_no_event_is_unexpected(world: World) -> None:
    last = await beep(world, 2)
    await write(world, await events_of(world))
    junk = OutMessage(f"chain.final.{CHAIN_ID}.Beeper.Beep.1", b"junk")
    await publish_batch(world.client, FINAL, [junk], 3)
    await world.node.mine(1)
    streams = Streams(world.client, CHAIN_ID, "test")
    streams.final.last = 4
    await streams.append_final([], await world.node.chain.head(), last + 1, 0)
    report = await audited(world, last, last + 1)
    assert places(report, "unexpected") == ["message 4"]


async def test_an_event_without_its_arguments_for_its_size_is_no_difference(world: World) -> None:
    last = await beep(world, 2)
    await write(world, [event.without_args() for event in await events_of(world)])
    assert (await audited(world, 0, last)).is_whole


@pytest.mark.parametrize("has_receipts", [True, False], ids=["receipts", "no receipts"])
async def test_logs_that_the_node_drops_are_found_by_the_bloom(world: World, has_receipts: bool) -> None:
    last = await beep(world, 2, 3, 1)
    events = await events_of(world)
    liar = Liar(world.node.url)
    liar.has_receipts = has_receipts
    liar.drops = {last - 1}
    await write(world, [event for event in events if event.block_number != last - 1])
    async with liar.chain() as chain:
        report = await audited(world, 0, last, chain=chain)
        assert (report.dropped, report.dropped_count) == ((last - 1,), 1)
        assert places(report, "missing") == [f"{last - 1}:{n}" for n in range(3)]
        await write(world, events)
        report = await audited(world, 0, last, chain=chain)
    assert report.is_whole
    assert report.dropped == (last - 1,)


async def test_ranges_shrink_to_what_the_node_answers(world: World) -> None:
    last = await beep(world, 2, 3, 1)
    await world.node.mine(50)
    await write(world, await events_of(world))
    liar = Liar(world.node.url)
    liar.widest = 7
    seen: list[int] = []

    async def note(block: int) -> None:
        seen.append(block)

    async with liar.chain() as chain:
        report = await audited(world, 0, last + 50, chain=chain, on_progress=note)
        assert report.is_whole
        assert seen == sorted(set(seen))
        assert seen[-1] == last + 50
        assert len(seen) >= (last + 51) // 7
        liar.widest = 0
        with pytest.raises(RpcResponseError, match="too wide"):
            await audited(world, 0, last, chain=chain)


async def test_memory_holds_one_range_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditor, "FIRST_SPAN", 4)
    monkeypatch.setattr(auditor, "LOGS_WANTED", 50)
    last = await beep(world, *[20] * 30)
    await write(world, await events_of(world))
    sizes: list[int] = []

    async def counted(chain: Chain, decoder: Decoder, first: int, last: int) -> list[RawLog]:
        logs = await logs_of_range(chain, decoder, first, last)
        sizes.append(len(logs))
        return logs

    report = await audited(world, 0, last, logs=counted)
    assert report.is_whole
    assert report.events_on_stream == 600
    assert max(sizes) <= 160


async def test_only_the_first_differences_are_kept_and_all_are_counted(world: World) -> None:
    await beep(world, 3 * SHOWN)
    missing = compare(await events_of(world), []).missing
    assert (missing.count, len(missing.first)) == (3 * SHOWN, SHOWN)


async def test_blocks_that_are_not_published_are_refused_with_the_bounds(world: World) -> None:
    with pytest.raises(AuditRangeError, match="nothing yet"):
        await audited(world, 0, 1)
    last = await beep(world, 1, 1)
    await write(world, await events_of(world))
    world.followed = world.followed.model_copy(update={"start_block": 2})
    for first, end in ((2, last + 1), (1, last), (3, 2)):
        with pytest.raises(AuditRangeError, match=rf"{first} to {end} .* the blocks 2 to {last}\."):
            await audited(world, first, end)
    assert (await audited(world, 2, last)).is_whole


async def test_every_logs_address_is_in_its_blocks_bloom(world: World) -> None:
    last = await beep(world, 1, 0, 5)
    strangers = [Address(f"0x{n:040x}") for n in range(1, 200)]
    with_logs = {event.block_number for event in await events_of(world)}
    for number, block in (await world.node.chain.blocks(range(last + 1))).items():
        assert block.logs_bloom is not None
        assert may_contain(block.logs_bloom, masks(world.node.address)) == (number in with_logs)
        assert not any(may_contain(block.logs_bloom, masks(one)) for one in strangers)


# the second pass


@asynccontextmanager
async def second_pass(world: World, chain: Chain | None = None) -> AsyncIterator[SecondPass]:
    chosen = chain or world.node.chain
    passing = SecondPass(chosen, decoder_of(world), world.client, delay_s=0.01, recheck_s=0.05, pause_s=0)
    task = asyncio.create_task(passing.run())
    try:
        yield passing
    finally:
        while not task.done():  # the NATS client may forget a cancellation, as `auditing` says
            task.cancel()
            await asyncio.wait({task}, timeout=0.1)
        with suppress(asyncio.CancelledError):
            await task


async def until(enough: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not enough():  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # the pass is asked, it does not announce itself


async def cursor(world: World) -> int:
    try:
        entry = await (await world.client.jetstream().key_value("HUB")).get(f"audit.{CHAIN_ID}")
    except Exception:  # noqa: BLE001 - not there yet
        return -1
    return int(entry.value or b"")


async def until_cursor(world: World, number: int) -> None:
    async with asyncio.timeout(20):
        while await cursor(world) != number:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # a key of a store, asked for


async def append(world: World, events: Events) -> None:
    """Publish these events and the tick of the newest block behind what the final stream has."""
    streams = Streams(world.client, CHAIN_ID, "test")
    await streams.final.tail()
    await streams.append_final(events, await world.node.chain.head(), 0, len(events))


async def test_the_second_pass_begins_at_the_final_height_and_goes_on_after_a_restart(world: World) -> None:
    first = await beep(world, 1, 1)
    await write(world, [])  # what came before the first pass is not its affair
    async with second_pass(world) as passing:
        await until_cursor(world, first)
        second = await beep(world, 2)
        await append(world, [e for e in await events_of(world) if e.block_number == second])
        await until_cursor(world, second)
        assert passing.problem is None
    third = await beep(world, 1)
    await append(world, [])
    async with second_pass(world) as passing:
        await until(lambda: passing.problem is not None)
        assert f"the blocks {third} to {third}: 1 missing (first at {third}:0)" in str(passing.problem)
        assert DIFFERENCES.labels(str(CHAIN_ID))._value.get() == 1
    assert await cursor(world) == second


async def test_a_problem_clears_when_it_was_the_nodes(world: World) -> None:
    liar = Liar(world.node.url)
    start = await beep(world, 1)
    await write(world, await events_of(world))
    async with liar.chain() as chain, second_pass(world, chain) as passing:
        await until_cursor(world, start)
        last = await beep(world, 2)
        liar.drops, liar.has_receipts, liar.drops_by_hash = {last}, False, True
        await append(world, [e for e in await events_of(world) if e.block_number == last])
        await until(lambda: passing.problem is not None)
        assert f"2 unexpected (first at {last}:0)" in str(passing.problem)
        assert await cursor(world) == start
        liar.drops = set()
        await until(lambda: passing.problem is None)
        await until_cursor(world, last)
        assert DIFFERENCES.labels(str(CHAIN_ID))._value.get() == 0
        assert AUDITED_BLOCK.labels(str(CHAIN_ID))._value.get() == last


async def test_a_problem_clears_when_the_stream_is_written_anew(world: World) -> None:
    start = await beep(world, 1)
    await write(world, await events_of(world))
    async with second_pass(world) as passing:
        await until_cursor(world, start)
        last = await beep(world, 2)
        await append(world, [])
        await until(lambda: passing.problem is not None)
        js = world.client.jetstream()
        await js.delete_stream(FINAL)
        await ensure_stream(js, final_stream(CHAIN_ID))
        await append(world, await events_of(world))
        await until(lambda: passing.problem is None)
        await until_cursor(world, last)


async def test_the_second_pass_begins_anew_when_its_place_is_lost(world: World) -> None:
    first = await beep(world, 1)
    await write(world, await events_of(world))
    async with second_pass(world):
        await until_cursor(world, first)
        second = await beep(world, 1)
        await append(world, [e for e in await events_of(world) if e.block_number == second])
        await until_cursor(world, second)
        await world.client.jetstream().delete_key_value("HUB")
        third = await beep(world, 1)
        await append(world, [e for e in await events_of(world) if e.block_number == third])
        await until_cursor(world, third)


async def test_the_second_pass_waits_while_the_node_is_away(world: World) -> None:
    liar = Liar(world.node.url)
    start = await beep(world, 1)
    await write(world, await events_of(world))
    async with liar.chain() as chain, second_pass(world, chain) as passing:
        await until_cursor(world, start)
        liar.down = True
        last = await beep(world, 2)
        await append(world, [e for e in await events_of(world) if e.block_number == last])
        liar.asked.clear()
        await liar.asked.wait()
        liar.down = False
        await until_cursor(world, last)
        assert passing.problem is None


# over HTTP


@asynccontextmanager
async def served(world: World, chain: Chain) -> AsyncIterator[Callable[..., Any]]:
    settings = NodeSettings(bus_url=world.nats.url, node_token=cast("Any", "token"), port=0)
    decoder = decoder_of(world)

    async def lookup(_chain: int | None) -> tuple[Chain, Decoder, Client]:
        return chain, decoder, world.client

    api = router("token", lookup)
    host = Host(settings, [Service(name="audit", api=api)], make_broker(settings, "test"))
    async with host.running(), ClientSession() as session:

        def post(first: int, last: int, token: str = "token", **more: Any) -> Any:  # noqa: S107
            headers = {"authorization": f"Bearer {token}"}
            return session.post(f"{host.url}/audit", json={"from": first, "to": last} | more, headers=headers)

        yield post


async def test_an_audit_over_http_tells_its_progress_and_the_report(world: World) -> None:
    last = await beep(world, 2, 1)
    await write(world, (await events_of(world))[1:])
    async with served(world, world.node.chain) as post:
        async with post(0, last) as response:
            assert response.headers["content-type"] == "application/x-ndjson"
            lines = [json.loads(line) async for line in response.content]
        assert lines[0] == {"block": last, "of": last}
        report = Report.model_validate(lines[-1]["report"])
        assert places(report, "missing") == [f"{last - 1}:0"]
        async with post(0, last, token="wrong") as response:
            assert response.status == 401
        async with post(0, last, token="wrong", much="x" * 100_000) as response:
            assert response.status == 401
        async with post(0, last, much="x" * 100_000) as response:
            assert (response.status, (await response.json())["title"]) == (413, "body_too_large")
        async with post(0, last + 1) as response:
            assert (response.status, (await response.json())["title"]) == (422, "audit_range")


async def test_one_audit_runs_at_a_time_and_ends_with_its_client(world: World) -> None:
    last = await beep(world, 1)
    await write(world, await events_of(world))
    liar = Liar(world.node.url)
    async with liar.chain() as chain, served(world, chain) as post:
        liar.open.clear()
        async with post(0, last) as response:
            assert response.status == 200
            await liar.asked.wait()
            async with post(0, last) as second:
                assert (second.status, (await second.json())["title"]) == (429, "audit_busy")
            response.close()
        async with asyncio.timeout(60):
            while True:
                async with post(0, last) as again:
                    if again.status == 200:
                        liar.open.set()
                        assert b"report" in await again.read()
                        break
                await asyncio.sleep(0.01)  # that the client is gone is not announced


async def test_an_audit_that_fails_says_why_in_its_last_line(world: World) -> None:
    last = await beep(world, 1)
    await write(world, await events_of(world))
    liar = Liar(world.node.url)
    liar.widest = 0
    async with liar.chain() as chain, served(world, chain) as post, post(0, last) as response:
        (line,) = [json.loads(line) async for line in response.content]
    assert line["error"]["title"] == "rpc_response"
