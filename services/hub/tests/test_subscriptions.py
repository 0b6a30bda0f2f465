"""Subscriptions are kept so that hubs agree on them, and their REST interface lets nobody do what is not theirs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from agorai_hub.subscriptions import Subscription, Subscriptions, SubscriptionUnknownError, new_id, new_secret
from agorai_shared.event_filter import EventFilter
from agorai_shared.events import ChainEvent

from .webhook_world import CHAIN_ID, QUICK, Api, Hooks


@pytest_asyncio.fixture
async def hooks(tmp_path: Path) -> AsyncGenerator[Hooks]:
    async with Hooks.running(tmp_path / "jetstream") as running:
        yield running


@pytest_asyncio.fixture
async def api(hooks: Hooks) -> AsyncGenerator[Api]:
    async with hooks.hub() as running:
        yield running


def some(**values: Any) -> Subscription:
    given = {
        "id": new_id(),
        "chain": CHAIN_ID,
        "filter": EventFilter(),
        "delivery": "webhook",
        "url": "https://example.org/",
        "secret": new_secret(),
        "token": "own",
        "created_at": 1.0,
        "start_seq": 1,
    }
    return Subscription.model_validate(given | values)


async def test_changes_by_two_hubs_at_once_are_both_kept(hooks: Hooks) -> None:
    one, other = (Subscriptions(lambda: hooks.client) for _ in range(2))
    subscription = some()
    await one.add(subscription)

    async def count(store: Subscriptions) -> None:
        for _ in range(10):
            await store.change(
                subscription.id, lambda s: s.model_copy(update={"generation": s.generation + 1})
            )

    await asyncio.gather(count(one), count(other))
    assert (await one.read(subscription.id)).generation == 21


async def test_what_one_hub_writes_another_hears_of_at_once(hooks: Hooks) -> None:
    one, other = (Subscriptions(lambda: hooks.client) for _ in range(2))
    before, after = some(name="before"), some(name="after")
    await one.add(before)
    async with other.listening():
        following = asyncio.create_task(other.follow())
        try:
            assert other.get(before.id) == before
            await other.changed()
            async with asyncio.timeout(2):  # less than a look by the clock takes
                await one.add(after)
                await other.changed()
                assert other.get(after.id) == after
                await one.remove(before.id)
                await other.changed()
                assert other.known == {after.id: after}
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def test_what_was_removed_cannot_be_read_or_changed(hooks: Hooks) -> None:
    store = Subscriptions(lambda: hooks.client)
    subscription = some()
    await store.add(subscription)
    await store.remove(subscription.id)
    with pytest.raises(SubscriptionUnknownError):
        await store.read(subscription.id)
    with pytest.raises(SubscriptionUnknownError):
        await store.change(subscription.id, lambda s: s.model_copy(update={"name": "new"}))
    assert store.known == {}


async def test_secrets_are_told_once_and_not_shown_again(hooks: Hooks, api: Api) -> None:
    made = await api.subscribe(url=hooks.url, name="mine", filter={"contract": "Beeper"})
    shown = await api.ask("GET", f"/{made['id']}")
    listed = await api.ask("GET")
    assert made["secret"].startswith("whsec_")
    assert made["secret"] not in json.dumps([shown, listed])
    assert made["token"] not in json.dumps([shown, listed])
    assert shown["name"] == listed[0]["name"] == "mine"
    assert shown["pending"] == shown["in_retry"] == 0
    assert made["secret"] not in repr(some(secret=made["secret"]))


async def test_a_subscriptions_token_is_good_for_itself_only(hooks: Hooks, api: Api) -> None:
    mine = await api.subscribe(url=hooks.url)
    other = await api.subscribe(url=hooks.url)
    own = mine["token"]
    assert (await api.ask("GET", f"/{mine['id']}", own))["id"] == mine["id"]
    for token in (own, "", "wrong", None):
        await api.ask("GET", "", token, status=401)
        await api.ask("POST", "", token, status=401, json={"chain": CHAIN_ID, "url": hooks.url})
        for method, path in (
            ("GET", ""),
            ("DELETE", ""),
            ("GET", "/dead"),
            ("POST", "/pause"),
            ("POST", "/resume"),
            ("POST", "/test"),
            ("POST", "/rotate"),
            ("POST", "/dead/1/redeliver"),
        ):
            await api.ask(method, f"/{other['id']}{path}", token, status=401)
        await api.ask("POST", f"/{other['id']}/replay", token, status=401, json={"from_block": 0})
    await api.ask("DELETE", f"/{mine['id']}", own, status=204)
    await api.ask("GET", f"/{mine['id']}", own, status=404)


@pytest.mark.parametrize("body", [b"{", b"\xff", b"{}", b"[]", b"{" + b" " * (1 << 19)])
async def test_a_stranger_is_turned_away_before_the_body_is_read(hooks: Hooks, api: Api, body: bytes) -> None:
    made = await api.subscribe(url=hooks.url)
    json_ = {"data": body, "skip_auto_headers": ["content-type"]}
    for token in (None, "", "wrong"):
        await api.ask("POST", "", token, status=401, **json_)
        await api.ask("POST", f"/{made['id']}/replay", token, status=401, **json_)
    await api.ask("POST", "", made["token"], status=401, **json_)


@pytest.mark.parametrize("id_", ["sub_" + "0" * 24, "unknown", "sub_>", "sub_*", "sub_%2e%2e", "sub_\u00e9"])
async def test_an_unknown_id_is_not_found(api: Api, id_: str) -> None:
    await api.ask("GET", f"/{id_}", status=404)
    await api.ask("DELETE", f"/{id_}", status=404)


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"url": "https://127.0.0.1", "filter": {"where": ["price >"]}},
        {"url": "https://127.0.0.1", "filter": {"contract": "a.>"}},
        {"url": "https://127.0.0.1", "filter": {"account": "0x12"}},
        {"url": "https://127.0.0.1", "filter": {"phase": "soon"}},
        {"url": "https://127.0.0.1", "filter": {"surprise": 1}},
        {"url": "https://127.0.0.1", "concurrency": 33},
        {"url": "https://127.0.0.1", "from_block": -1},
        {"url": "https://127.0.0.1", "secret": "mine"},
        {"url": "nowhere"},
        {"url": "http://127.0.0.1", "notice_url": "nowhere"},
        {"delivery": "consumer", "url": "http://127.0.0.1"},
        {"delivery": "consumer", "filter": {"where": ["number = 1"]}},
        {"delivery": "pigeon"},
    ],
)
async def test_what_does_not_fit_is_refused_with_a_problem(api: Api, wanted: dict[str, Any]) -> None:
    problem = await api.ask("POST", status=422, json={"chain": CHAIN_ID, **wanted})
    assert problem["type"].startswith("urn:agorai:error:")
    assert problem["remedy"]
    assert await api.ask("GET") == []


async def test_a_chain_that_is_not_followed_is_not_found(api: Api) -> None:
    wanted = {"url": "https://127.0.0.1", "chain": 5}
    problem = await api.ask("POST", status=404, json=wanted)
    assert "31337" in problem["remedy"]


async def test_a_chain_whose_stream_is_not_made_yet_is_to_be_asked_for_later(hooks: Hooks, api: Api) -> None:
    await hooks.client.jetstream().delete_stream(f"CHAIN_{CHAIN_ID}_FINAL")
    for start in ({}, {"from_block": 3}):
        wanted = {"chain": CHAIN_ID, "url": hooks.url, **start}
        problem = await api.ask("POST", status=503, json=wanted)
        assert problem["retryable"]


async def test_a_body_that_is_too_large_is_refused(api: Api) -> None:
    problem = await api.ask("POST", status=413, data=b"{" + b" " * (1 << 19))
    assert "larger than" in problem["detail"]


async def test_a_consumer_is_read_by_its_owners_own_client(hooks: Hooks, api: Api) -> None:
    await hooks.beep(3)
    made = await api.subscribe(delivery="consumer", filter={"contract": "Beeper", "key": "2"}, from_block=1)
    assert made["secret"] == ""
    js = hooks.client.jetstream()
    pull = await js.pull_subscribe_bind(consumer=made["consumer"], stream=made["stream"])
    (message,) = await pull.fetch(1, timeout=5)
    await message.ack_sync()
    assert message.subject.endswith(".Beeper.Beep.2")
    assert (await api.ask("GET", f"/{made['id']}"))["pending"] == 0
    replayed = await api.ask("POST", f"/{made['id']}/replay", json={"from_block": 0})
    assert replayed["consumer"] != made["consumer"]
    assert (await api.ask("GET", f"/{made['id']}"))["pending"] == 1
    for verb in ("pause", "resume", "test", "rotate"):
        await api.ask("POST", f"/{made['id']}/{verb}", status=409)
    await api.ask("DELETE", f"/{made['id']}", status=204)
    state = await js.stream_info(made["stream"])
    assert state.state.consumer_count == 0


async def test_a_consumer_is_made_again_on_a_stream_written_anew(hooks: Hooks) -> None:
    js = hooks.client.jetstream()
    await hooks.beep(5)
    async with hooks.hub(replace(QUICK, note_s=0.1)) as api, hooks.hub(replace(QUICK, note_s=0.1)):
        begun = await api.subscribe(delivery="consumer", from_block=3)
        read = await api.subscribe(delivery="consumer", from_block=1)
        pull = await js.pull_subscribe_bind(consumer=read["consumer"], stream=read["stream"])
        for message in await pull.fetch(3, timeout=5):
            await message.ack_sync()
        await hooks.until_told(read["id"], 2)
        await hooks.write_anew()
        await hooks.beep(7)
        for made, numbers in ((begun, {3, 4, 5, 6, 7}), (read, {3, 4, 5, 6, 7})):
            path = f"/{made['id']}"
            shown = await api.until(path, lambda s: s["consumer"].endswith("-2"))
            pull = await js.pull_subscribe_bind(consumer=shown["consumer"], stream=shown["stream"])
            got: set[int] = set()
            async with asyncio.timeout(10):
                while not numbers <= got:
                    for message in await pull.fetch(1, timeout=5):
                        await message.ack()
                        got.add(ChainEvent.from_json(message.data).block_number)
        assert (await js.stream_info(begun["stream"])).state.consumer_count == 2


async def test_unsubscribing_leaves_nothing_behind(hooks: Hooks) -> None:
    async with hooks.hub(replace(QUICK, schedule_s=())) as api:
        made = await api.subscribe(url="http://127.0.0.1:9/")
        await hooks.beep(2)
        await api.until(f"/{made['id']}/dead", lambda found: len(found["dead"]) == 2)
        await api.ask("DELETE", f"/{made['id']}", status=204)
        js = hooks.client.jetstream()
        assert (await js.stream_info("WEBHOOKS_DEAD")).state.messages == 0
        assert (await js.stream_info(made["stream"])).state.consumer_count == 0


async def test_the_interface_is_described(api: Api) -> None:
    url = f"{api.url}/openapi.json"
    async with api.session.get(url) as response:
        document = await response.json()
    paths = document["paths"]
    assert {path for path in paths if path.startswith("/subscriptions")} == {
        "/subscriptions",
        "/subscriptions/{subscription}",
        *(
            f"/subscriptions/{{subscription}}/{verb}"
            for verb in ("pause", "resume", "replay", "test", "rotate")
        ),
        "/subscriptions/{subscription}/dead",
        "/subscriptions/{subscription}/dead/{seq}/redeliver",
    }
    assert paths["/subscriptions"]["post"]["security"]
    assert "Wanted" in document["components"]["schemas"]
