"""Every verb of `agorai events`, against a real `agorai hub`."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nats
import psutil
import pytest

from agorai.home import NodeFile
from agorai_hub.dead_letters import DeadLetter, DeadLetters
from agorai_shared.types import Address
from tests.hubs import (
    HubProcess,
    TillChain,
    Webhook,
    example_file,
    running,
    running_chain,
    running_hub,
    start_hub,
    until,
    watching,
)
from tests.nodes import AGORAI, agorai, stop, up

NOBODY = "0x000000000000000000000000000000000000dEaD"


@pytest.fixture(scope="module")
def chain() -> Iterator[TillChain]:
    with running_chain() as started:
        yield started


@pytest.fixture(scope="module")
def file(chain: TillChain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return example_file(tmp_path_factory.mktemp("example"), chain)


@pytest.fixture(scope="module")
def hub(chain: TillChain, file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """With three events, of 1, 2 and 3, in the blocks 2 to 4."""
    for amount in (1, 2, 3):
        chain.deposit(amount)
    with running_hub(tmp_path_factory.mktemp("hub"), file, "--allow-private-webhooks") as started:
        until_final(started, 4)
        yield started


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as started:
        yield started


@contextmanager
def subscribed(hub: HubProcess, *arguments: object) -> Iterator[dict[str, Any]]:
    made = asked(hub.home, "subscribe", *arguments)
    try:
        yield made
    finally:
        asked(hub.home, "delete", made["id"])


def until_final(hub: HubProcess, block: int) -> None:
    until(lambda: (hub.ask("/chains")[0]["final"] or 0) >= block)


def asked(home: Path, verb: str, *arguments: object, status: int = 0) -> Any:
    """Give what a verb prints as JSON."""
    found = agorai(home, "events", verb, *arguments, "--json")
    assert found.returncode == status, found.stderr + found.stdout
    return json.loads(found.stdout)


def refused(home: Path, *arguments: object) -> dict[str, Any]:
    """Give the problem with which a verb ends."""
    found = agorai(home, *arguments, "--json")
    assert found.returncode == 1, found.stdout + found.stderr
    problem: dict[str, Any] = json.loads(found.stdout)["error"]
    assert problem["remedy"]
    assert "Traceback" not in found.stderr
    return problem


def amounts(lines: str) -> list[int]:
    return [json.loads(line)["data"]["args"]["amount"] for line in lines.splitlines()]


# ------------------------------------------------------------------------------------------------- history


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ((), [1, 2, 3]),
        (("--contract", "Till", "--event", "Deposit"), [1, 2, 3]),
        (("--where", "amount >= 2", "--where", "amount != 3"), [2]),
        (("--from-block", 3), [2, 3]),
        (("--account", NOBODY), []),
        (("--chain", 31337, "--phase", "final"), [1, 2, 3]),
    ],
    ids=str,
)
def test_history_is_what_was_picked(hub: HubProcess, arguments: tuple[object, ...], found: list[int]) -> None:
    shown = agorai(hub.home, "events", *arguments, "--json")
    assert shown.returncode == 0, shown.stderr
    assert [amount for amount in amounts(shown.stdout) if amount < 10] == found


def test_history_by_account_and_key(chain: TillChain, hub: HubProcess) -> None:
    account = chain.account
    by_account = agorai(hub.home, "events", "--account", account, "--json")
    key = json.loads(by_account.stdout.splitlines()[0])["data"]["key"]
    assert key.lower() == account.lower()
    assert amounts(agorai(hub.home, "events", "--key", key, "--json").stdout)[:3] == [1, 2, 3]


def test_history_is_read_by_people_too(hub: HubProcess) -> None:
    shown = agorai(hub.home, "events", "--where", "amount = 2")
    (line,) = shown.stdout.splitlines()
    assert line.split()[:3] == ["3", "final", "Till.Deposit"]
    assert line.endswith("amount=2")


def test_history_goes_on_if_asked_until_ctrl_c(chain: TillChain, hub: HubProcess) -> None:
    command = [AGORAI, "events", "--follow", "--json", "--home", str(hub.home), "--where", "amount < 20"]
    with running(command) as following:
        following.until(lambda line: '"amount":3' in line)
        chain.deposit(10)
        following.until(lambda line: '"amount":10' in line)
        assert following.stop(signal.SIGINT) == 0


def test_a_node_that_joined_reads_and_leaves_the_rest_to_the_hubs_operator(
    hub: HubProcess, tmp_path: Path
) -> None:
    NodeFile(
        name="joined",
        address=Address(NOBODY),
        pid=os.getpid(),
        url="http://127.0.0.1:9",
        vault_url="http://127.0.0.1:9",
        token="another",
        bus_url=hub.bus_url,
        bus_user=None,
        bus_password=None,
        rpc_url="http://127.0.0.1:9",
        confirmations=0,
        deployment=tmp_path / "deployment.json",
        hub_url=hub.url,
    ).save(tmp_path / "node.json")
    assert amounts(agorai(tmp_path, "events", "--json").stdout)[:3] == [1, 2, 3]
    problem = refused(tmp_path, "events", "subscriptions")
    assert problem["title"] == "hub_token_missing"
    assert "operator" in problem["remedy"]


def test_a_node_that_brings_a_hub_is_its_operator(tmp_path: Path) -> None:
    node = up(tmp_path)
    try:
        assert stat.S_IMODE((tmp_path / "hub.json").stat().st_mode) == 0o600
        known = json.loads((tmp_path / "hub.json").read_text())
        assert known["chains"] == [31337]
        assert known["token"] != known["bus_password"]
        assert {one["name"] for one in asked(tmp_path, "lag")[0]["contracts"]} == {
            "MarketToken",
            "Registry",
            "Invocation",
            "VotingPanel",
            "FairExchange",
            "DataPool",
            "OnlineLearner",
            "TrainingTask",
            "DataTransfer",
        }
        assert asked(tmp_path, "subscriptions") == []
        assert asked(tmp_path, "audit")["whole"] is True
    finally:
        assert stop(node) == 0
    assert not (tmp_path / "hub.json").exists()


# ------------------------------------------------------------------------------------------------- live


def test_watch_begins_now_and_ends_well_at_ctrl_c(chain: TillChain, hub: HubProcess) -> None:
    with running(
        [
            AGORAI,
            "events",
            "watch",
            "--home",
            str(hub.home),
            "--where",
            "amount >= 30",
            "--where",
            "amount < 40",
        ]
    ) as watch:
        until(lambda: watch.process.poll() is None and _is_connected(watch.process.pid, hub))
        chain.deposit(30)
        line = watch.until(lambda _: True)
        assert line.split()[1:3] == ["final", "Till.Deposit"]
        assert watch.stop(signal.SIGINT) == 0


def _is_connected(pid: int, hub: HubProcess) -> bool:
    port = int(hub.url.rpartition(":")[2])
    return any(
        one.raddr and one.raddr.port == port for one in psutil.Process(pid).net_connections(kind="tcp")
    )


def test_watch_waits_for_a_hub_that_is_away_and_misses_nothing(
    chain: TillChain, file: Path, tmp_path: Path
) -> None:
    first = start_hub(tmp_path, file)
    with watching(first, "--from-block", "0", "--where", "amount >= 40", "--where", "amount < 50") as watch:
        chain.deposit(40)
        watch.until(lambda line: '"amount":40' in line)
        assert first.spoken.stop() == 0
        watch.until(lambda line: "Waiting for it" in line, on_stderr=True)
        chain.deposit(41)
        second = start_hub(tmp_path, file)
        try:
            assert second.url == first.url
            chain.deposit(42)
            assert '"amount":41' in watch.until(lambda _: True)
            assert '"amount":42' in watch.until(lambda _: True)
        finally:
            assert second.spoken.stop() == 0


def test_head_events_and_what_a_reorg_takes_back_are_watched(tmp_path: Path) -> None:
    with running_chain() as own:
        path = example_file(tmp_path, own, **{"confirmations = 0": "confirmations = 5"})
        own.deposit(1)
        with (
            running_hub(tmp_path / "hub", path) as hub,
            watching(hub, "--phase", "head", "--from-block", "0") as watch,
        ):
            watch.until(lambda line: '"phase":"head"' in line and '"amount":1' in line)
            own.deposit(2)
            watch.until(lambda line: '"phase":"head"' in line and '"amount":2' in line)
            own.rpc("anvil_reorg", 1, [])
            watch.until(lambda line: '"phase":"retracted"' in line and '"amount":2' in line)


# ------------------------------------------------------------------------------------------------- subscriptions


def test_a_webhook_is_subscribed_paused_resumed_replayed_and_tested(
    chain: TillChain, hub: HubProcess, webhook: Webhook
) -> None:
    picked = ("--contract", "Till", "--where", "amount >= 50", "--where", "amount < 60")
    with subscribed(hub, webhook.url, *picked, "--name", "mine", "--concurrency", 2) as made:
        id_ = made["id"]
        assert made["secret"].startswith("whsec_")
        chain.deposit(50)
        assert webhook.next("agorai.Till.Deposit")["data"]["args"]["amount"] == 50

        assert asked(hub.home, "pause", id_)["state"] == "paused"
        chain.deposit(51)
        shown = until(lambda: (one := asked(hub.home, "subscription", id_))["pending"] and one)
        assert (shown["state"], shown["name"], shown["concurrency"]) == ("paused", "mine", 2)
        assert asked(hub.home, "resume", id_)["state"] == "active"
        assert webhook.next("agorai.Till.Deposit")["data"]["args"]["amount"] == 51

        asked(hub.home, "replay", id_, "--from-block", 0)
        again = {webhook.next("agorai.Till.Deposit")["data"]["args"]["amount"] for _ in range(2)}
        assert again == {50, 51}

        tried = asked(hub.home, "test", id_)
        assert (tried["delivered"], tried["status"]) == (True, 204)
        assert webhook.next("agorai.subscription.ping")["data"]["name"] == "mine"
        webhook.status = 500
        assert asked(hub.home, "test", id_, status=1)["status"] == 500

        assert asked(hub.home, "rotate", id_)["secret"] != made["secret"]
        assert id_ in {one["id"] for one in asked(hub.home, "subscriptions")}
    assert id_ not in {one["id"] for one in asked(hub.home, "subscriptions")}


def test_a_failing_webhook_shows_its_last_error(chain: TillChain, hub: HubProcess, webhook: Webhook) -> None:
    webhook.status = 503
    with subscribed(hub, webhook.url) as made:
        chain.deposit(60)
        assert webhook.next("agorai.Till.Deposit")
        shown = until(lambda: (one := asked(hub.home, "subscription", made["id"]))["last_error"] and one)
        assert "503" in shown["last_error"]
        assert " UTC: HTTP 503" in agorai(hub.home, "events", "subscription", made["id"]).stdout


async def test_a_dead_letter_is_listed_and_delivered_again(
    chain: TillChain, hub: HubProcess, webhook: Webhook
) -> None:
    event = agorai(hub.home, "events", "--json").stdout.splitlines()[0]
    with subscribed(hub, webhook.url) as made:
        client = await nats.connect(hub.bus_url)
        try:
            letters = DeadLetters(lambda: client)
            await letters.ensure()
            letter = DeadLetter(0, event.encode(), "status 500", 11, "CHAIN_31337_FINAL", 3)
            await letters.add(made["id"], letter)
        finally:
            await client.close()
        (one,) = asked(hub.home, "dead", made["id"])["dead"]
        assert (one["attempts"], one["error"], one["event"]) == (11, "status 500", event)
        assert "Till.Deposit in block 2" in agorai(hub.home, "events", "dead", made["id"]).stdout
        webhook.status = 500
        assert asked(hub.home, "redeliver", made["id"], one["seq"], status=1)["status"] == 500
        webhook.status = 204
        assert asked(hub.home, "redeliver", made["id"], one["seq"])["delivered"] is True
        assert asked(hub.home, "dead", made["id"])["dead"] == []
        assert "no dead letter" in refused(hub.home, "events", "redeliver", made["id"], one["seq"])["detail"]


async def test_a_consumer_is_fetched_from_by_a_nats_client_of_ones_own(hub: HubProcess) -> None:
    with subscribed(hub, "--consumer", "--contract", "Till", "--from-block", 3) as made:
        client = await nats.connect(hub.bus_url)
        try:
            place = await client.jetstream().pull_subscribe_bind(made["consumer"], made["stream"])
            (message,) = await place.fetch(1, timeout=10)
            assert (
                json.loads(message.data)["data"]["args"]
                == json.loads(agorai(hub.home, "events", "--from-block", 3, "--json").stdout.splitlines()[0])[
                    "data"
                ]["args"]
            )
        finally:
            await client.close()
        assert "cannot be paused" in refused(hub.home, "events", "pause", made["id"])["detail"]


def test_people_are_told_to_keep_the_secret(hub: HubProcess, webhook: Webhook) -> None:
    said = agorai(hub.home, "events", "subscribe", webhook.url).stdout
    (id_,) = {word for word in said.split() if word.startswith("sub_")}
    try:
        assert "whsec_" in said
        assert "keep it" in said
        listed = agorai(hub.home, "events", "subscriptions").stdout
        assert id_ in listed
        assert "Name" not in listed
    finally:
        assert "is gone" in agorai(hub.home, "events", "delete", id_).stdout


def test_one_subscription_is_managed_with_its_own_token(
    hub: HubProcess, webhook: Webhook, tmp_path: Path
) -> None:
    with subscribed(hub, webhook.url) as made:
        own = ("--hub", hub.url, "--token", made["token"])
        assert asked(tmp_path, "subscription", made["id"], *own)["state"] == "active"
        assert refused(tmp_path, "events", "subscriptions", *own)["title"] == "hub_token_refused"


# ------------------------------------------------------------------------------------------------- audit, lag


def test_an_audit_of_a_whole_stream_finds_nothing(hub: HubProcess) -> None:
    report = asked(hub.home, "audit")
    assert report["whole"] is True
    assert report["events_on_chain"] == report["events_on_stream"] >= 3
    assert asked(hub.home, "audit", "--from", 2, "--to", 3, "--chain", 31337)["events_on_chain"] == 2
    assert "say the same" in agorai(hub.home, "events", "audit").stdout


def test_an_audit_shows_what_differs_and_ends_with_one(chain: TillChain, file: Path, tmp_path: Path) -> None:
    with running_hub(tmp_path / "hub", file) as first:
        until_final(first, 4)
    renamed = example_file(tmp_path, chain, **{'name = "Till"': 'name = "Safe"'})
    with running_hub(tmp_path / "hub", renamed) as second:
        until_final(second, 4)
        report = asked(second.home, "audit", "--from", 0, "--to", 4, status=1)
        assert report["differences"]["differing"]["count"] == 3
        shown = agorai(second.home, "events", "audit", "--from", 0, "--to", 4)
        assert shown.returncode == 1
        assert "2:0" in shown.stdout


def test_blocks_that_are_not_published_cannot_be_audited(hub: HubProcess) -> None:
    assert "cannot be audited" in refused(hub.home, "events", "audit", "--to", 10_000)["detail"]


def test_lag_shows_every_chain_endpoint_and_contract(chain: TillChain, hub: HubProcess) -> None:
    (state,) = asked(hub.home, "lag")
    assert (state["chain_id"], state["ready"], state["lag_blocks"]) == (31337, True, 0)
    assert state["endpoints"][0]["url"] == chain.url
    shown = agorai(hub.home, "events", "lag").stdout
    assert "31337" in shown
    assert "Till" in shown


def test_lag_ends_with_one_when_a_chain_is_not_ready(tmp_path: Path) -> None:
    path = example_file(tmp_path, TillChain("http://127.0.0.1:9"))
    with running_hub(tmp_path / "hub", path) as away:
        until(lambda: not away.ask("/chains")[0]["ready"])
        (state,) = asked(away.home, "lag", status=1)
        assert state["endpoints"][0]["latency_ms"] == 0
        shown = agorai(away.home, "events", "lag")
        rows = [line.split("│") for line in shown.stdout.splitlines() if "http://127.0.0.1:9" in line]
        assert [row[4].strip() for row in rows if len(row) > 4] == [""]


def test_streams_are_written_anew_and_subscriptions_stay(
    chain: TillChain, file: Path, webhook: Webhook, tmp_path: Path
) -> None:
    with running_hub(tmp_path, file, "--allow-private-webhooks") as hub:
        until_final(hub, 4)
        before = asked(tmp_path, "audit", "--to", 4)
        with subscribed(hub, webhook.url) as made:
            asking = agorai(tmp_path, "events", "rebuild", "--chain", 31337)
            assert asking.returncode == 1
            assert "Delete both streams" in asking.stderr
            assert asked(tmp_path, "rebuild", "--chain", 31337) == {"chain_id": 31337}
            until(lambda: "31337" in agorai(tmp_path, "events", "lag").stdout)
            until_final(hub, 4)
            until(lambda: agorai(tmp_path, "events", "audit", "--to", 4).returncode == 0)
            assert asked(tmp_path, "audit", "--to", 4)["events_on_stream"] == before["events_on_stream"]
            assert asked(tmp_path, "subscription", made["id"])["state"] == "active"
        assert agorai(tmp_path, "events", "rebuild", "--chain", 31337, "--yes").returncode == 0
        assert refused(tmp_path, "events", "rebuild", "--chain", 5)["title"] == "chain_not_followed"
        assert refused(tmp_path, "events", "rebuild", "--chain", 31337, "--token", "x")["title"] == (
            "hub_token_refused"
        )


def test_lag_is_shown_anew_until_ctrl_c(hub: HubProcess) -> None:
    with running([AGORAI, "events", "lag", "--watch", "--json", "--home", str(hub.home)]) as lag:
        for _ in range(2):
            assert json.loads(lag.until(lambda _: True))[0]["chain_id"] == 31337
        assert lag.stop(signal.SIGINT) == 0


# ------------------------------------------------------------------------------------------------- errors


def test_without_a_hub_it_is_said_how_to_start_or_name_one(tmp_path: Path) -> None:
    for verb in ((), ("watch",), ("subscriptions",), ("audit",), ("lag",)):
        found = agorai(tmp_path, "events", *verb, "--json")
        assert found.returncode == 1
        problem = json.loads(found.stdout)["error"]
        assert problem["title"] == "hub_not_running"
        assert "agorai hub" in problem["remedy"]
        assert "AGORAI_EVENTS_URL" in problem["remedy"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--hub", "127.0.0.1:9"), "hub_url", "is no hub's URL"),
        (("--hub", "http://127.0.0.1:9"), "hub_unreachable", "does not answer"),
        (("--where", "price"), "filter_malformed", "price >= 100"),
        (("--account", "0x12"), "filter_malformed", "is no account"),
        (("--contract", "a.b"), "filter_malformed", "is no name"),
        (("--chain", "5"), "chain_not_followed", "not followed"),
        (("--event", "Withdrawal"), "name_unknown", "There are: Deposit."),
        (("watch", "--where", "amount >"), "filter_malformed", "compares with nothing"),
        (("watch", "--chain", "5"), "chain_not_followed", "not followed"),
        (("subscriptions", "--token", "wrong"), "hub_token_refused", "does not take this token"),
        (("audit", "--token", "wrong"), "hub_token_refused", "does not take this token"),
        (("subscribe", "--where", "x", "http://127.0.0.1:9"), "filter_malformed", "is no comparison"),
        (("subscribe",), "where_to", "either a webhook's URL or --consumer"),
        (("subscribe", "--consumer", "http://127.0.0.1:9"), "where_to", "either"),
        (("subscribe", "ftp://example.com"), "destination_refused", "Nothing is sent"),
        (("subscribe", "--consumer", "--where", "a = 1"), "subscription_form", "cannot filter"),
        (("subscribe", "--chain", "5", "--consumer"), "chain_not_followed", "Chain 5 is not followed"),
        (("subscription", "sub_1"), "subscription_unknown", "no subscription"),
        (("subscription", "../chains"), "Not Found", "/openapi.json"),
        (("dead", "sub_000000000000000000000000"), "subscription_unknown", "no subscription"),
        (("audit", "--chain", "5"), "nothing_to_audit", "chain 5"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_error_says_what_is_wrong_and_what_to_do(
    hub: HubProcess, arguments: tuple[str, ...], code: str, said: str
) -> None:
    problem = refused(hub.home, "events", *arguments)
    assert problem["title"] == code
    assert said in f"{problem['detail']} {problem['remedy']}"


def test_people_are_told_the_error_and_the_remedy(hub: HubProcess) -> None:
    found = agorai(hub.home, "events", "watch", "--where", "price")
    assert found.returncode == 1
    assert "Events cannot be picked by this where" in found.stderr
    assert "price >= 100" in found.stderr


def test_a_webhook_on_this_machine_is_refused_unless_it_was_allowed(file: Path, tmp_path: Path) -> None:
    with running_hub(tmp_path, file) as hub:
        until_final(hub, 4)
        problem = refused(tmp_path, "events", "subscribe", "http://127.0.0.1:9/hook")
    assert problem["title"] == "destination_refused"


def test_options_before_the_verb_are_not_passed_over_in_silence(hub: HubProcess) -> None:
    found = agorai(hub.home, "events", "--contract", "Till", "watch")
    assert found.returncode == 2
    assert "behind the verb" in found.stderr


def test_something_else_at_the_hubs_url_is_said_not_to_be_one(webhook: Webhook, tmp_path: Path) -> None:
    problem = refused(tmp_path, "events", "lag", "--hub", webhook.url.removesuffix("/hook"))
    assert problem["title"] == "hub_answer"
