"""Who gets in: hosts, sites, sessions, roles and limits."""

from __future__ import annotations

import os
import string
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.types import Message, Receive, Scope, Send
from yarl import URL

from agorai_dashboard import limits
from agorai_dashboard.access import AccessMiddleware, Policy, is_loopback
from agorai_dashboard.limits import SIGN_INS
from agorai_dashboard.settings import DashboardSettings
from agorai_shared.types import Address

from .guarded import OPERATOR, PAGE, STRANGER, VIEWER, site

EVERYWHERE = ".".join("0000")
OPEN = Policy("127.0.0.1")
GUARDED = Policy("127.0.0.1", viewers=frozenset({Address(VIEWER.address)}))
PUBLIC = Policy(EVERYWHERE, "https://market.example", viewers=frozenset({Address(VIEWER.address)}))


async def test_on_loopback_without_accounts_whoever_comes_is_the_operator() -> None:
    async with site(OPEN) as at:
        assert (await (await at.ask("/")).json())["role"] == "operator"
        assert (await at.post("/act")).status == 200
        assert (await at.ask("/sign-in")).headers["location"] == "/"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::1", ""])
async def test_a_name_that_was_made_to_resolve_to_this_machine_gets_nothing(host: str) -> None:
    async with site(OPEN) as at:
        refused = await at.ask("/", headers={"Host": host})
        assert refused.status == 421 or (host == "" and refused.status == 400)


@pytest.mark.parametrize("host", ["localhost:1234", "127.0.0.1", "[::1]:80", "LOCALHOST"])
async def test_loopback_has_several_names(host: str) -> None:
    async with site(OPEN) as at:
        assert (await at.ask("/", headers={"Host": host})).status == 200


async def test_a_public_dashboard_is_reached_by_its_public_name_alone() -> None:
    async with site(PUBLIC) as at:
        assert (await at.ask("/sign-in")).status == 200
        assert (await at.ask("/sign-in", headers={"Host": "127.0.0.1"})).status == 421
        assert (await at.ask("/metrics", headers={"Host": "dashboard:8080"})).status == 200


@pytest.mark.parametrize("path", ["/health/other", "/metrics/", "/metricsx", "/health/live/x"])
async def test_only_what_probes_ask_is_unguarded(path: str) -> None:
    async with site(PUBLIC) as at:
        assert (await at.ask(path, headers={"Host": "dashboard:8080"})).status == 421
        assert (await at.ask(path)).status == 401


@pytest.mark.parametrize("path", ["/?event=a%00b", "/api/overview%00", "/?%00=1"])
async def test_an_address_with_nul_is_refused(path: str) -> None:
    async with site(OPEN) as at:
        url = URL(at.url + path, encoded=True)
        async with at.session.get(url) as refused:
            assert (refused.status, refused.content_type) == (422, "application/problem+json")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
async def test_only_the_dashboards_own_pages_change_something(headers: dict[str, str], status: int) -> None:
    async with site(OPEN) as at:
        assert (await at.ask("/act", "POST", headers=headers)).status == status


async def test_another_sites_script_reads_nothing_but_its_links_work() -> None:
    async with site(OPEN) as at:
        script = {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}
        assert (await at.ask("/api/overview", headers=script)).status == 403
        link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        assert (await at.ask("/", headers=link)).status == 200


async def test_an_error_that_nobody_foresaw_is_answered_by_the_rules_too() -> None:
    async with site(OPEN) as at:
        failed = await at.ask("/fails")
        assert (failed.status, failed.content_type) == (500, "application/problem+json")
        assert failed.headers["content-security-policy"].startswith("default-src 'none'")
        problem = await failed.json()
    assert "ZeroDivisionError" in problem["detail"]
    assert "nobody" not in problem["detail"]


async def test_what_is_no_request_of_http_gets_nothing() -> None:
    async def inside(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise AssertionError("it was let in")

    said: list[Message] = []

    async def send(message: Message) -> None:
        said.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async with site(OPEN) as at:
        await AccessMiddleware(inside, at.access)({"type": "websocket"}, receive, send)
    assert [message["type"] for message in said] == ["websocket.close"]


async def test_nobody_asks_too_often_not_even_for_what_probes_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REQUESTS", (0.001, 3))
    async with site(OPEN) as at:
        assert [(await at.ask("/metrics")).status for _ in range(4)] == [200, 200, 200, 429]


@pytest.mark.parametrize("path", ["/", "/sign-in", "/metrics", "/nothing"])
async def test_every_answer_holds_browsers_to_the_rules(path: str) -> None:
    async with site(GUARDED) as at:
        headers = (await at.ask(path)).headers
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


async def test_who_has_not_signed_in_is_led_to_where_one_does() -> None:
    async with site(GUARDED) as at:
        page = await at.ask("/?pool=3", headers=PAGE)
        assert (page.status, page.headers["location"]) == (303, "/sign-in?next=/%3Fpool%3D3")
        api = await at.ask("/api/overview")
        assert (api.status, api.content_type) == (401, "application/problem+json")


async def test_who_signs_in_has_the_role_of_the_account_until_signing_out() -> None:
    async with site(GUARDED) as at:
        signed_in = await at.sign_in(OPERATOR, next="/trades/7")
        assert (signed_in.status, signed_in.headers["location"]) == (303, "/trades/7")
        assert await (await at.ask("/")).json() == {"role": "operator", "account": OPERATOR.address}
        assert (await at.post("/act")).status == 200
        kept = {cookie.key: cookie.value for cookie in at.session.cookie_jar}
        assert (await at.post("/sign-out")).status == 303
        assert (await at.ask("/")).status == 401
        assert (await at.ask("/", cookies=kept)).status == 401  # nor is a copy of the session good


def respelt(token: str) -> list[str]:
    """Give a token as other texts that decode to the same bytes."""
    head, last = token[:-1], token[-1]
    order = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    return [f"{token}!!", f"{token}====", head + order[order.index(last) ^ 1]]


async def test_a_session_that_has_ended_is_no_better_in_another_spelling() -> None:
    async with site(GUARDED) as at:
        await at.sign_in(OPERATOR)
        (cookie,) = at.session.cookie_jar
        assert (await at.post("/sign-out")).status == 303
        at.session.cookie_jar.clear()
        for text in (cookie.value, *respelt(cookie.value)):
            headers = {"Cookie": f"{cookie.key}={text}"}
            assert (await at.post("/act", headers=headers)).status == 401


async def test_a_link_is_good_once_in_whatever_spelling() -> None:
    async with site(GUARDED) as at:
        code = at.access.link_code(Address(OPERATOR.address))
        assert (await at.ask(f"/sign-in/link/{code}")).headers["location"] == "/"
        for text in respelt(code):
            assert (await at.ask(f"/sign-in/link/{text}")).headers["location"] == "/sign-in"


async def test_a_viewer_looks_and_does_not_act() -> None:
    async with site(GUARDED) as at:
        await at.sign_in(VIEWER)
        assert (await (await at.ask("/")).json())["role"] == "viewer"
        refused = await at.post("/act")
        assert refused.status == 403
        assert "AGORAI_DASHBOARD_OPERATORS" in (await refused.json())["remedy"]


async def test_a_stranger_who_proves_an_account_gets_no_session() -> None:
    async with site(GUARDED) as at:
        refused = await at.sign_in(STRANGER)
        assert refused.status == 403
        assert "has no role" in await refused.text()
        assert not list(at.session.cookie_jar)


async def test_the_session_is_out_of_reach_of_scripts_other_sites_and_plain_connections() -> None:
    async with site(PUBLIC) as at:
        (given,) = (await at.sign_in(VIEWER)).headers.getall("set-cookie")
    assert {"HttpOnly", "SameSite=strict", "Secure", "Max-Age=43200"} <= set(given.split("; "))


async def test_a_session_of_another_node_or_a_forged_one_is_none() -> None:
    async with site(GUARDED) as at:
        await at.sign_in(VIEWER)
        (cookie,) = at.session.cookie_jar
        head, _, proof = cookie.value.rpartition(".")
        at.session.cookie_jar.clear()
        for forged in (f"{head}.{proof[::-1]}", "", "x.y.z"):
            assert (await at.ask("/", cookies={cookie.key: forged})).status == 401


@pytest.mark.parametrize(
    "elsewhere", ["//evil.example", "https://evil.example", "/\\evil.example", "/\n/evil.example"]
)
async def test_signing_in_leads_to_no_other_site(elsewhere: str) -> None:
    async with site(GUARDED) as at:
        assert (await at.sign_in(VIEWER, next=elsewhere)).headers["location"] == "/"


async def test_a_link_signs_a_browser_in_once() -> None:
    async with site(GUARDED) as at:
        made = await at.post("/sign-in/link", json=await at.proof(VIEWER))
        path = (await made.json())["url"].removeprefix(at.url)
        foreign = await at.ask(path, headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"})
        assert foreign.headers["location"] == "/sign-in"
        assert (await at.ask(path)).headers["location"] == "/"
        assert (await (await at.ask("/")).json())["role"] == "viewer"
        assert (await at.ask(path)).headers["location"] == "/sign-in"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"no json", b"x" * 20_000])
async def test_what_is_no_proof_is_refused_plainly(body: bytes) -> None:
    async with site(GUARDED) as at:
        assert (await at.post("/sign-in/link", data=body)).status == 422


async def test_who_tries_to_sign_in_too_often_is_told_when_to_come_back() -> None:
    async with site(GUARDED) as at:
        answers = [await at.post("/sign-in", data={}) for _ in range(SIGN_INS[1] + 1)]
        assert [answer.status for answer in answers] == [422] * SIGN_INS[1] + [429]
        assert 0 < int(answers[-1].headers["retry-after"]) <= 5
        assert (await at.ask("/sign-in")).status == 200


async def test_the_page_shows_the_message_and_takes_hostile_text_as_text() -> None:
    async with site(GUARDED) as at:
        shown = await (await at.ask("/sign-in", params={"address": VIEWER.address})).text()
        assert "wants you to sign in with your Ethereum account" in shown
        hostile = await at.ask("/sign-in", params={"address": '"><script>', "next": '"><script>'})
        assert hostile.status == 422
        assert "<script>" not in await hostile.text()


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), (EVERYWHERE, False), ("10.0.0.5", False)],
)
def test_what_others_reach_is_never_open(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback
    assert Policy(host).is_open == loopback
    assert not Policy(host, "https://market.example").is_open
    assert not Policy(host, operators=frozenset({Address(OPERATOR.address)})).is_open


def test_accounts_are_named_in_one_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGORAI_DASHBOARD_ADDRESS", OPERATOR.address)
    monkeypatch.setenv("AGORAI_DASHBOARD_VIEWERS", f"{VIEWER.address.lower()}, {STRANGER.address}")
    assert set(DashboardSettings().viewers) == {Address(VIEWER.address), Address(STRANGER.address)}
    monkeypatch.setenv("AGORAI_DASHBOARD_VIEWERS", "bob")
    with pytest.raises(ValueError, match="'bob' is no address"):
        DashboardSettings()


def test_the_nodes_account_is_spelt_as_it_is_everywhere_and_nothing_else_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AGORAI_DASHBOARD_ADDRESS", OPERATOR.address.lower())
    assert DashboardSettings().address == Address(OPERATOR.address)
    monkeypatch.setenv("AGORAI_DASHBOARD_ADDRESS", "0x12")
    with pytest.raises(ValueError, match="'0x12' is no address"):
        DashboardSettings()


def test_secrets_are_read_from_files_and_never_shown(tmp_path: Path) -> None:
    url = "postgresql+psycopg://user:secret@127.0.0.1/name"
    (tmp_path / "agorai_dashboard_database").write_text(url)
    (tmp_path / "agorai_dashboard_hub_token").write_text("secret token")
    told = "from agorai_dashboard.settings import DashboardSettings as D; own = D(); print(own, repr(own)); "
    told += "print(own.database.get_secret_value() + own.hub_token.get_secret_value(), end='')"
    env = {**os.environ, "AGORAI_SECRETS": str(tmp_path), "AGORAI_DASHBOARD_ADDRESS": OPERATOR.address}
    ran = subprocess.run([sys.executable, "-c", told], env=env, capture_output=True, text=True, check=True)
    shown, read = ran.stdout.split("\n")
    assert "secret" not in shown
    assert read == f"{url}secret token"
