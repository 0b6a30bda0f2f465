"""What is delivered to webhooks, whatever the endpoint, the bus or the hub does."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from agorai_hub.outbound import Outbound, is_public
from agorai_hub.subscriptions import Subscriptions
from agorai_hub.webhooks import sign
from agorai_shared import bus
from agorai_shared.events import Phase

from .webhook_world import CHAIN_ID, QUICK, Endpoint, Got, Hooks, accept, answering, beep, tick
from .world import kill


@pytest_asyncio.fixture
async def hooks(tmp_path: Path) -> AsyncGenerator[Hooks]:
    async with Hooks.running(tmp_path / "jetstream") as running:
        yield running


async def never(_request: web.Request, _got: Got) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


def test_signs_as_the_specification_says() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    signature = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_delivers_in_order_the_cloud_event_as_it_is_on_the_stream(hooks: Hooks) -> None:
    async with hooks.hub() as api:
        made = await api.subscribe(url=hooks.url)
        await hooks.beep(100)
        await hooks.endpoint.until_taken(100)
    assert hooks.endpoint.numbers == list(range(1, 101))
    first = hooks.endpoint.taken[0]
    assert first.body == beep(1).to_json()
    assert first.headers["webhook-id"] == beep(1).id
    assert first.headers["content-type"] == "application/cloudevents+json"
    assert all(got.is_signed_by(made["secret"]) for got in hooks.endpoint.taken)


async def test_delivers_what_the_filter_wants_and_no_more(hooks: Hooks) -> None:
    async with hooks.hub() as api:
        made = await api.subscribe(url=hooks.url, filter={"where": ["value >= 3", "value != 5"]})
        await hooks.beep(6)
        await hooks.endpoint.until_taken(3)
        await api.until(f"/{made['id']}", lambda s: s["pending"] + s["under_way"] == 0)
    assert hooks.endpoint.numbers == [3, 4, 6]


async def test_head_phase_says_what_was_retracted(hooks: Hooks) -> None:
    async with hooks.hub() as api:
        await api.subscribe(url=hooks.url, filter={"phase": "head"})
        await hooks.say(beep(1, Phase.head))
        await hooks.say(beep(1, Phase.retracted))
        await hooks.endpoint.until_taken(2)
    assert [got.event["phase"] for got in hooks.endpoint.taken] == ["head", "retracted"]


async def test_a_failed_event_comes_again_and_holds_up_no_other(hooks: Hooks) -> None:
    failures = 0

    async def refuse_two_twice(request: web.Request, got: Got) -> web.StreamResponse:
        nonlocal failures
        if got.number == 2 and failures < 2:
            failures += 1
            return web.Response(status=500)
        return await accept(request, got)

    hooks.endpoint.behave = refuse_two_twice
    async with hooks.hub(replace(QUICK, schedule_s=(0.3, 0.3, 0.3))) as api:
        made = await api.subscribe(url=hooks.url)
        await hooks.beep(4)
        await hooks.endpoint.until_taken(4)
        shown = await api.until(f"/{made['id']}", lambda s: s["failing_since"] is None)
    assert hooks.endpoint.numbers == [1, 3, 4, 2]
    assert len({got.headers["webhook-id"] for got in hooks.endpoint.got if got.number == 2}) == 1
    assert shown["last_error"] == "HTTP 500"


async def test_a_slow_endpoint_loses_nothing_and_holds_up_no_other_subscription(hooks: Hooks) -> None:
    gate = asyncio.Event()

    async def slow(request: web.Request, got: Got) -> web.StreamResponse:
        if got.path == "/slow":
            await gate.wait()
        return await accept(request, got)

    hooks.endpoint.behave = slow
    async with hooks.hub() as api:
        await api.subscribe(url=f"{hooks.url}/slow")
        await api.subscribe(url=f"{hooks.url}/quick")
        await hooks.beep(20)
        await hooks.endpoint.until_taken(20)
        assert {got.path for got in hooks.endpoint.taken} == {"/quick"}
        gate.set()
        await hooks.endpoint.until_taken(40)
    assert [got.number for got in hooks.endpoint.taken if got.path == "/slow"] == list(range(1, 21))


async def test_concurrency_sends_so_many_at_a_time_and_no_more(hooks: Hooks) -> None:
    gate = asyncio.Event()
    now, most = 0, 0

    async def count(request: web.Request, got: Got) -> web.StreamResponse:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await gate.wait()
        now -= 1
        return await accept(request, got)

    hooks.endpoint.behave = count
    async with hooks.hub() as api:
        await api.subscribe(url=hooks.url, concurrency=4)
        await hooks.beep(12)
        await hooks.endpoint.until(lambda endpoint: len(endpoint.got) == 4)
        gate.set()
        await hooks.endpoint.until_taken(12)
    assert most == 4


async def test_what_takes_longer_than_the_bus_waits_is_sent_once(hooks: Hooks) -> None:
    async def slow(request: web.Request, got: Got) -> web.StreamResponse:
        await asyncio.sleep(0.8)  # that is what it is about
        return await accept(request, got)

    hooks.endpoint.behave = slow
    async with hooks.hub(replace(QUICK, ack_wait_s=0.3)) as api:
        made = await api.subscribe(url=hooks.url)
        await hooks.beep(2)
        await hooks.endpoint.until_taken(2)
        await api.until(f"/{made['id']}", lambda s: s["under_way"] == 0)
    assert [got.number for got in hooks.endpoint.got] == [1, 2]


async def test_too_many_in_retry_hold_back_new_ones_and_nothing_is_lost(hooks: Hooks) -> None:
    hooks.endpoint.behave = answering(500)
    async with hooks.hub(replace(QUICK, most_pending=3, schedule_s=(0.3,) * 100)) as api:
        made = await api.subscribe(url=hooks.url)
        await hooks.beep(10)
        await hooks.endpoint.until(lambda endpoint: len(endpoint.got) >= 6)
        assert {got.number for got in hooks.endpoint.got} == {1, 2, 3}
        shown = await api.ask("GET", f"/{made['id']}")
        assert (shown["under_way"], shown["pending"]) == (3, 7)
        hooks.endpoint.behave = accept
        await hooks.endpoint.until_taken(10)
    assert sorted(hooks.endpoint.numbers) == list(range(1, 11))


async def test_an_endpoint_that_never_answers_is_a_failure(hooks: Hooks) -> None:
    hooks.endpoint.behave = never
    async with hooks.hub(replace(QUICK, timeout_s=0.1)) as api:
        made = await api.subscribe(url=hooks.url)
        await hooks.beep()
        shown = await api.until(f"/{made['id']}", lambda s: s["failing_since"] is not None)
    assert shown["last_error"] == "no answer within 0.1 s"


async def test_nobody_listening_is_a_failure(hooks: Hooks) -> None:
    async with Endpoint().running() as gone:
        url = gone.url
    async with hooks.hub() as api:
        made = await api.subscribe(url=url)
        await hooks.beep()
        shown = await api.until(f"/{made['id']}", lambda s: s["failing_since"] is not None)
    assert "no connection" in shown["last_error"]


async def test_redirects_are_not_followed(hooks: Hooks) -> None:
    hooks.endpoint.behave = answering(302, Location=f"{hooks.url}/elsewhere")
    async with hooks.hub() as api:
        made = await api.subscribe(url=f"{hooks.url}/here")
        tried = await api.ask("POST", f"/{made['id']}/test")
    assert tried["error"].endswith("redirects are not followed")
    assert not tried["delivered"]
    assert [got.path for got in hooks.endpoint.got] == ["/here"]


async def test_of_a_huge_or_endless_answer_only_the_beginning_is_read(hooks: Hooks) -> None:
    async def endless(request: web.Request, _got: Got) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        try:
            while True:
                await answer.write(b"x" * 65536)
        except ConnectionError:
            return answer

    hooks.endpoint.behave = endless
    async with hooks.hub() as api:
        made = await api.subscribe(url=hooks.url)
        tried = await api.ask("POST", f"/{made['id']}/test")
    assert tried["delivered"]
    assert tried["body"] == "x" * 4096


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_is_respected(hooks: Hooks, form: str) -> None:
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def later(request: web.Request, got: Got) -> web.StreamResponse:
        times.append(loop.time())
        if len(times) > 1:
            return await accept(request, got)
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
        return web.Response(status=429, headers={"Retry-After": "1" if form == "seconds" else date})

    hooks.endpoint.behave = later
    async with hooks.hub() as api:
        await api.subscribe(url=hooks.url)
        await hooks.beep(2)
        await hooks.endpoint.until_taken(2)
    assert times[1] - times[0] >= 0.9


async def test_gone_disables_at_once_and_resuming_loses_nothing(hooks: Hooks) -> None:
    hooks.endpoint.behave = answering(410)
    async with hooks.hub() as api:
        made = await api.subscribe(url=hooks.url)
        await hooks.beep(3)
        shown = await api.until(f"/{made['id']}", lambda s: s["state"] == "disabled")
        assert "410" in shown["reason"]
        hooks.endpoint.behave = accept
        await hooks.beep(2)
        assert (await api.ask("POST", f"/{made['id']}/resume"))["reason"] == ""
        await hooks.endpoint.until_taken(5)
    assert sorted(hooks.endpoint.numbers) == [1, 2, 3, 4, 5]


async def test_after_the_last_attempt_it_is_a_dead_letter_that_can_be_redelivered(hooks: Hooks) -> None:
    hooks.endpoint.behave = answering(500)
    async with hooks.hub() as api:
        made = await api.subscribe(url=hooks.url)
        other = await api.subscribe(url=f"{hooks.url}/other", from_block=1000)
        path = f"/{made['id']}/dead"
        await hooks.beep(2)
        dead = (await api.until(path, lambda found: len(found["dead"]) == 2))["dead"]
        assert [letter["attempts"] for letter in dead] == [4, 4]
        assert dead[0]["error"] == "HTTP 500"
        assert {letter["event"] for letter in dead} == {beep(n).to_json().decode() for n in (1, 2)}
        page = await api.ask("GET", f"{path}?limit=1")
        assert len(page["dead"]) == page["more"] == 1
        assert (await api.ask("GET", f"/{other['id']}/dead"))["dead"] == []
        redeliver = f"{path}/{dead[0]['seq']}/redeliver"
        assert not (await api.ask("POST", redeliver))["delivered"]
        hooks.endpoint.behave = accept
        await api.ask("POST", f"/{other['id']}/dead/{dead[0]['seq']}/redeliver", status=404)
        assert (await api.ask("POST", redeliver))["delivered"]
        await api.ask("POST", redeliver, status=404)
        assert [letter["seq"] for letter in (await api.ask("GET", path))["dead"]] == [dead[1]["seq"]]
        shown = await api.ask("GET", f"/{made['id']}")
    assert shown["under_way"] == 0
    assert hooks.endpoint.taken[0].is_signed_by(made["secret"])


async def test_lasting_failure_disables_and_the_owner_is_told(hooks: Hooks) -> None:
    async def only_notices(_request: web.Request, got: Got) -> web.StreamResponse:
        return web.Response(status=200 if got.path == "/owner" else 500)

    hooks.endpoint.behave = only_notices
    async with hooks.hub(replace(QUICK, disable_after_s=0.05)) as api:
        made = await api.subscribe(url=hooks.url, notice_url=f"{hooks.url}/owner", name="mine")
        await hooks.beep(3)
        await hooks.endpoint.until_taken(1)
        shown = await api.ask("GET", f"/{made['id']}")
    told = hooks.endpoint.taken[0]
    assert told.event["type"] == "agorai.subscription.disabled"
    assert told.event["data"]["subscription"] == made["id"]
    assert told.is_signed_by(made["secret"])
    assert shown["state"] == "disabled"
    assert "HTTP 500" in shown["reason"]
    assert shown["under_way"] + shown["pending"] == 3


async def test_pause_stops_and_resume_goes_on(hooks: Hooks) -> None:
    async with hooks.hub() as api:
        made = await api.subscribe(url=hooks.url)
        await hooks.beep(2)
        await hooks.endpoint.until_taken(2)
        assert (await api.ask("POST", f"/{made['id']}/pause"))["state"] == "paused"
        await hooks.beep(3)
        assert (await api.ask("GET", f"/{made['id']}"))["state"] == "paused"
        assert len(hooks.endpoint.got) == 2
        await api.ask("POST", f"/{made['id']}/resume")
        await hooks.endpoint.until_taken(5)
    assert hooks.endpoint.numbers == [1, 2, 3, 4, 5]


async def test_starts_at_a_block_and_replays_from_one(hooks: Hooks) -> None:
    await hooks.beep(5)
    async with hooks.hub() as api:
        made = await api.subscribe(url=hooks.url, from_block=4)
        await hooks.endpoint.until_taken(2)
        assert hooks.endpoint.numbers == [4, 5]
        await api.ask("POST", f"/{made['id']}/replay", json={"from_block": 2})
        await hooks.endpoint.until_taken(6)
        assert hooks.endpoint.numbers[2:] == [2, 3, 4, 5]
        await hooks.beep()
        await hooks.endpoint.until_taken(7)
    assert hooks.endpoint.numbers[-1] == 6


async def test_a_block_that_is_still_to_come_can_be_begun_with(hooks: Hooks) -> None:
    async with hooks.hub() as api:
        await api.subscribe(url=hooks.url, from_block=3)
        await hooks.beep(4)
        await hooks.endpoint.until_taken(2)
    assert hooks.endpoint.numbers == [3, 4]


async def test_setting_aside_again_after_a_replay_replaces_the_dead_letter(hooks: Hooks) -> None:
    hooks.endpoint.behave = answering(500)
    async with hooks.hub(replace(QUICK, schedule_s=())) as api:
        made = await api.subscribe(url=hooks.url)
        path = f"/{made['id']}/dead"
        await hooks.beep()
        (first,) = (await api.until(path, lambda found: found["dead"]))["dead"]
        await api.ask("POST", f"/{made['id']}/replay", json={"from_block": 0})
        found = await api.until(path, lambda found: found["dead"][0]["seq"] != first["seq"])
    assert len(found["dead"]) == 1


async def test_a_message_under_way_when_a_hub_stops_is_taken_on_by_another(hooks: Hooks) -> None:
    hooks.endpoint.behave = never
    async with hooks.hub() as api:
        await api.subscribe(url=hooks.url)
        await hooks.beep()
        await hooks.endpoint.until(lambda endpoint: len(endpoint.got) == 1)
    hooks.endpoint.behave = accept
    async with hooks.hub():
        await hooks.endpoint.until_taken(1)
    assert hooks.endpoint.numbers == [1]


async def test_both_secrets_sign_after_a_rotation(hooks: Hooks) -> None:
    async with hooks.hub() as api:
        made = await api.subscribe(url=hooks.url)
        rotated = await api.ask("POST", f"/{made['id']}/rotate")
        assert rotated["secret"] != made["secret"]
        await hooks.beep()
        await hooks.endpoint.until_taken(1)
    assert hooks.endpoint.taken[0].is_signed_by(made["secret"])
    assert hooks.endpoint.taken[0].is_signed_by(rotated["secret"])


async def test_two_hubs_deliver_each_event_once_and_in_order(hooks: Hooks) -> None:
    async with hooks.hub() as api, hooks.hub() as other:
        made = await api.subscribe(url=hooks.url)
        await hooks.beep(200)
        await hooks.endpoint.until_taken(200)
        shown = await other.until(f"/{made['id']}", lambda s: s["under_way"] == 0)
    assert hooks.endpoint.numbers == list(range(1, 201))
    assert shown["pending"] == 0


async def test_two_hubs_share_a_subscription_that_needs_no_order(hooks: Hooks) -> None:
    async with hooks.hub() as api, hooks.hub() as other:
        await api.subscribe(url=hooks.url, concurrency=8)
        await hooks.beep(200)
        await hooks.endpoint.until_taken(200)
        await other.ask("GET")
    assert sorted(hooks.endpoint.numbers) == list(range(1, 201))


async def test_what_one_hub_changes_the_other_follows(hooks: Hooks) -> None:
    async with hooks.hub() as api, hooks.hub() as other:
        made = await api.subscribe(url=hooks.url)
        await hooks.beep(2)
        await hooks.endpoint.until_taken(2)
        await other.ask("POST", f"/{made['id']}/pause")
        await api.until(f"/{made['id']}", lambda s: s["state"] == "paused")
        await other.ask("POST", f"/{made['id']}/resume")
        await hooks.beep(2)
        await hooks.endpoint.until_taken(4)
        await other.ask("DELETE", f"/{made['id']}", status=204)
        await api.ask("GET", f"/{made['id']}", status=404)
        assert await api.ask("GET") == []


@pytest.mark.parametrize("concurrency", [1, 8])
async def test_a_killed_hub_loses_nothing(hooks: Hooks, concurrency: int) -> None:
    async with hooks.hub() as api:
        await api.subscribe(url=hooks.url, concurrency=concurrency)
    wanted = set(range(1, 301))
    beeping = asyncio.create_task(hooks.beep(300))
    for share in (50, 120, 200):
        hub = hooks.spawn_hub()
        try:
            await hooks.endpoint.until(lambda endpoint: len(set(endpoint.numbers)) >= share)  # noqa: B023
        finally:
            kill(hub)
    await beeping
    async with hooks.hub():
        await hooks.endpoint.until(lambda endpoint: set(endpoint.numbers) == wanted)
    assert len(hooks.endpoint.taken) < 300 + 3 * 8 + 1


async def test_a_bus_that_restarts_loses_nothing(hooks: Hooks) -> None:
    async with hooks.hub(replace(QUICK, note_s=0.1)) as api:
        made = await api.subscribe(url=hooks.url)
        await hooks.beep(20)
        await hooks.endpoint.until(lambda endpoint: len(endpoint.taken) >= 5)
        await hooks.restart_bus()
        await hooks.beep(20)
        await hooks.endpoint.until(lambda endpoint: set(endpoint.numbers) == set(range(1, 41)))
        await hooks.until_told(made["id"], 39)
    assert (await hooks.kept(made["id"])).generation == 1  # its stream is the same as before


OFTEN = replace(QUICK, note_s=0.1)


@pytest.mark.parametrize("note_s", [0.1, 60.0], ids=["noted", "not-noted"])
async def test_streams_written_anew_while_delivering_lose_nothing(hooks: Hooks, note_s: float) -> None:
    for _ in range(3):  # what makes the old stream longer than the new one
        await hooks.beep()
        await asyncio.gather(*(hooks.say(tick(hooks.last)) for _ in range(10)))
    async with hooks.hub(replace(QUICK, note_s=note_s)) as api, hooks.hub(replace(QUICK, note_s=note_s)):
        made = await api.subscribe(url=hooks.url)
        await hooks.beep(4)
        await hooks.endpoint.until_taken(4)
        assert hooks.endpoint.numbers == [4, 5, 6, 7]
        if note_s < 1:
            await hooks.until_told(made["id"], 6)
        await hooks.write_anew()
        await hooks.beep(15)
        await hooks.endpoint.until(lambda endpoint: set(endpoint.numbers) == set(range(4, 16)))
        await api.until(f"/{made['id']}", lambda s: s["pending"] == 0 and s["under_way"] == 0)
        kept = await hooks.kept(made["id"])
        info = await hooks.client.jetstream().stream_info(kept.stream)
    again = hooks.endpoint.numbers[4:]
    assert again == list(range(7 if note_s < 1 else 4, 16))
    assert (kept.generation, info.state.consumer_count) == (2, 1)


async def test_a_stream_that_is_long_in_coming_back_is_waited_for(hooks: Hooks) -> None:
    async with hooks.hub(OFTEN) as api:
        await api.subscribe(url=hooks.url)
        await hooks.beep(3)
        await hooks.endpoint.until_taken(3)
        js = hooks.client.jetstream()
        await js.delete_stream(f"CHAIN_{CHAIN_ID}_FINAL")
        await asyncio.sleep(0.5)  # that it is gone is what the deliverer has to bear
        await bus.ensure_stream(js, bus.final_stream(CHAIN_ID))
        hooks.last = 0
        await hooks.beep(5)
        await hooks.endpoint.until(lambda endpoint: set(endpoint.numbers) == {1, 2, 3, 4, 5})


@pytest.mark.parametrize("paused", [False, True])
async def test_streams_written_anew_while_nobody_delivers_lose_nothing(hooks: Hooks, *, paused: bool) -> None:
    async with hooks.hub() as api:  # which notes how far it is when it leaves
        made = await api.subscribe(url=hooks.url)
        await hooks.beep(3)
        await hooks.endpoint.until_taken(3)
        await api.until(f"/{made['id']}", lambda s: s["under_way"] == 0)
        if paused:
            await api.ask("POST", f"/{made['id']}/pause")
    assert (await hooks.kept(made["id"])).told_block == 2
    await hooks.write_anew()
    await hooks.beep(6)
    async with hooks.hub(OFTEN) as api:
        if paused:
            await api.ask("POST", f"/{made['id']}/resume")
        await hooks.endpoint.until_taken(7)
    assert hooks.endpoint.numbers == [1, 2, 3, 3, 4, 5, 6]


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_what_waits_for_another_attempt_outlasts_a_stream(hooks: Hooks, concurrency: int) -> None:
    taking = False

    async def refuse_two(request: web.Request, got: Got) -> web.StreamResponse:
        return web.Response(status=500) if got.number == 2 and not taking else await accept(request, got)

    hooks.endpoint.behave = refuse_two
    async with hooks.hub(replace(OFTEN, schedule_s=(600.0,))) as api:
        made = await api.subscribe(url=hooks.url, concurrency=concurrency)
        await hooks.beep(9)
        await hooks.endpoint.until_taken(8)
        await hooks.until_told(made["id"], 0)
        await asyncio.sleep(0.5)  # it is not noted any further
        assert (await hooks.kept(made["id"])).told_block == 0
        taking = True
        await hooks.write_anew()
        await hooks.beep(9)
        await hooks.endpoint.until(lambda endpoint: set(endpoint.numbers) == set(range(1, 10)))


async def test_a_head_stream_written_anew_begins_above_what_is_final(hooks: Hooks) -> None:
    async with hooks.hub(OFTEN) as api:
        made = await api.subscribe(url=hooks.url, filter={"phase": "head"})
        for number in range(1, 6):
            await hooks.say(beep(number, Phase.head))
            await hooks.say(tick(number, Phase.head))
        await hooks.endpoint.until_taken(5)
        await hooks.say(tick(2))
        await hooks.until_told(made["id"], 2)
        await hooks.write_anew()
        await hooks.beep(6, Phase.head)
        await hooks.endpoint.until_taken(9)
        assert (await hooks.kept(made["id"])).told_block == 2
    assert hooks.endpoint.numbers == [1, 2, 3, 4, 5, 3, 4, 5, 6]


async def test_replaying_forgets_how_far_it_was(hooks: Hooks) -> None:
    async with hooks.hub(OFTEN) as api:
        made = await api.subscribe(url=hooks.url)
        await hooks.beep(5)
        await hooks.until_told(made["id"], 4)
        hooks.endpoint.behave = never
        await api.ask("POST", f"/{made['id']}/replay", json={"from_block": 2})
        await asyncio.sleep(0.5)  # nothing is noted: nothing is taken
        assert (await hooks.kept(made["id"])).told_block == 1
        await hooks.write_anew()
        hooks.endpoint.behave = accept
        await hooks.beep(5)
        await hooks.endpoint.until(lambda endpoint: len(endpoint.taken) >= 9)
    assert hooks.endpoint.numbers == [1, 2, 3, 4, 5, 2, 3, 4, 5]


async def test_a_subscription_of_an_earlier_version_goes_on(hooks: Hooks) -> None:
    async with hooks.hub() as api:
        made = await api.subscribe(url=hooks.url)
        await hooks.beep(2)
        await hooks.endpoint.until_taken(2)
    store = Subscriptions(lambda: hooks.client)
    old = {"stream_created": "", "told_block": -1}
    await store.change(made["id"], lambda s: s.model_copy(update=old))
    async with hooks.hub():
        await hooks.beep(2)
        await hooks.endpoint.until_taken(4)
    kept = await hooks.kept(made["id"])
    assert hooks.endpoint.numbers == [1, 2, 3, 4]
    assert kept.generation == 1
    assert kept.stream_created


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://0x7f000001/",
        "http://2130706433/",
        "http://0177.0.0.1/",
        "http://127.0.0.1./",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[fe80::1]/",
        "http://[fc00::1]/",
        "http://\uff11\uff12\uff17.0.0.1/",
        "http://localhost/",
        "http://localhost./",
        "http://0.0.0.0/",
        "http://10.1.2.3/",
        "http://100.64.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://user:password@example.org/",
        "ftp://example.org/",
        "file:///etc/passwd",
        "http:///nothing",
        "//example.org",
        "http://[::1",
        "http://example.org:99999/",
        "",
        "http://" + "a" * 3000,
    ],
)
async def test_nothing_is_sent_inside(hooks: Hooks, url: str) -> None:
    async with hooks.hub(replace(QUICK, allow_private=False)) as api:
        problem = await api.ask("POST", status=422, json={"chain": 31337, "url": url})
        assert problem["status"] == 422
        assert "password@" not in problem["detail"]
    outbound = Outbound(timeout_s=2)
    try:
        answer = await outbound.post(url, b"", {})
    finally:
        await outbound.close()
    assert answer.status == 0
    assert answer.error


async def test_an_address_that_turned_private_is_refused_at_delivery(hooks: Hooks) -> None:
    async with hooks.hub() as api:
        made = await api.subscribe(url=hooks.url.replace("127.0.0.1", "localhost"))
    async with hooks.hub(replace(QUICK, allow_private=False)) as api:
        await hooks.beep()
        shown = await api.until(f"/{made['id']}", lambda s: s["failing_since"] is not None)
    assert "stands for the address" in shown["last_error"]
    assert hooks.endpoint.got == []


@pytest.mark.parametrize(
    "address",
    [
        "93.184.216.34",
        "192.0.0.9",
        "192.0.0.10",
        "192.88.98.255",
        "192.88.100.0",
        "2606:4700::1111",
        "3ffe:ffff::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::",
    ],
)
def test_public_addresses_are_sent_to(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "::",
        "::127.0.0.1",
        "fec0::1",
        "ff02::1",
        "192.0.2.1",
        "172.16.0.1",
        "::ffff:10.0.0.1",
        "240.0.0.1",
        "192.0.0.0",
        "192.0.0.8",
        "192.0.0.11",
        "192.0.0.170",
        "::ffff:192.0.0.8",
        "2002:c000:8::",
        "192.88.99.1",
        "64:ff9b::c058:6301",
        "3fff::1",
        "3fff:fff:ffff::1",
    ],
)
def test_other_addresses_are_not(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
