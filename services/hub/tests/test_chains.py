"""One hub with several chains, and what it says of itself."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from faststream.specification.asyncapi.v3_0_0.schema import ApplicationSchema
from pydantic import SecretStr

from agorai_hub.app import create
from agorai_hub.settings import (
    AbiUnreadableError,
    ChainsFileError,
    FollowedChain,
    FollowedContract,
    FollowedEndpoint,
    HubSettings,
    load_chains,
)
from agorai_shared import bus
from agorai_shared.processes import Running
from agorai_shared.rpc import Rpc
from agorai_shared.service import Host, Service, make_broker
from agorai_shared.settings import NodeSettings
from agorai_shared.testing import running_anvil
from agorai_shared.types import Address

from .world import BEEP, CHAIN_ID, Node, Reader, World, until_ready, until_unready

OTHER = 4242


def chain_of(node: Node, *more: FollowedContract, **own: Any) -> FollowedChain:
    endpoint = FollowedEndpoint(url=node.url)
    return FollowedChain(endpoints=(endpoint,), confirmations=1, contracts=(node.followed, *more), **own)


@asynccontextmanager
async def other_node() -> AsyncIterator[tuple[Node, Running]]:
    async with running_anvil(chain_id=OTHER) as anvil, Rpc(anvil.url) as rpc:
        yield await Node.deploy(anvil.url, rpc), anvil


def hub_of(world: World, *chains: FollowedChain) -> tuple[NodeSettings, Service]:
    node = NodeSettings(bus_url=world.nats.url, node_token=SecretStr("token"))
    return node, create(node, HubSettings(unready_after_s=0.2, takeover_s=0.4), chains=chains)


def only(service: Service, check: str) -> Service:
    return Service("hub", checks={"follows": service.checks[check]})


async def test_two_chains_are_followed_and_one_that_goes_away_does_not_hold_up_the_other(
    world: World,
) -> None:
    async with other_node() as (other, anvil):
        _, service = hub_of(world, chain_of(world.node), chain_of(other))
        others = await Reader.of(world.client, bus.final_stream(OTHER))
        async with service.background():
            await world.node.beep(2)
            await other.beep(3)
            await world.node.mine(1)
            await other.mine(1)
            await world.caught_up(1)
            await others.until(lambda reader: reader.last_number >= 2)
            assert others.ids == await other.ids(others.last_number)
            assert {event.chain_id for event in others.events} == {OTHER}
            await until_ready(only(service, "follows.1"))
            await anvil.stop()
            await until_unready(only(service, "follows.2"), "does not answer")
            await world.node.beep(1)
            await world.node.mine(1)
            await world.caught_up(1)
            await until_ready(only(service, "follows.1"))


async def test_a_chain_named_twice_is_told(world: World) -> None:
    _, service = hub_of(world, chain_of(world.node), chain_of(world.node))
    async with service.background():
        told = f"Chain {CHAIN_ID} is to be followed twice"
        either = [
            asyncio.create_task(until_unready(only(service, check), told))
            for check in ("follows.1", "follows.2")
        ]
        _, other = await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        other.pop().cancel()
        await world.node.beep(1)
        await world.node.mine(1)
        await world.caught_up(1)


async def test_a_node_whose_newest_block_is_old_is_not_ready(world: World) -> None:
    _, service = hub_of(world, chain_of(world.node, max_block_age_s=1e-6))
    async with service.background():
        await until_unready(service, "no block newer than")


async def test_a_chain_that_began_anew_is_noticed_and_its_streams_are_written_anew_when_told(
    world: World,
) -> None:
    node, service = hub_of(world, chain_of(world.node))
    host = Host(node, [service], make_broker(node, "hub"))
    async with host.running(), aiohttp.ClientSession(host.url) as http:
        for _ in range(8):
            await world.node.beep(2)
        await world.caught_up(1)
        await world.node.rpc.request("anvil_reset")
        again = await Node.deploy(world.node.url, world.node.rpc)
        assert again.address == world.node.address
        await again.beep(3)
        await until_unready(service, "reorged past finality")
        async with http.post(f"/chains/{CHAIN_ID}/rebuild") as answer:
            assert answer.status == 401
        authorised = {"authorization": "Bearer token"}
        async with http.post(f"/chains/{CHAIN_ID}/rebuild", headers=authorised) as answer:
            assert (answer.status, await answer.json()) == (202, {"chain_id": CHAIN_ID})
        async with http.post("/chains/5/rebuild", headers=authorised) as answer:
            assert answer.status == 404
        await until_ready(service)
        world.head = await Reader.of(world.client, bus.head_stream(CHAIN_ID))
        world.final = await Reader.of(world.client, bus.final_stream(CHAIN_ID))
        await world.node.mine(1)
        await world.caught_up(1)
        assert len(world.final.events) == 3


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("contract=Beper", "No contract 'Beper' is followed"),
        ("event=Boop", "has the event 'Boop'"),
        ("where=nmber>1", "has the argument 'nmber'"),
        ("event=Beep&where=topics=1", "has the argument 'topics'"),
    ],
)
async def test_a_filter_that_can_match_nothing_is_refused(world: World, query: str, why: str) -> None:
    node, service = hub_of(world, chain_of(world.node))
    host = Host(node, [service], make_broker(node, "hub"))
    async with host.running(), aiohttp.ClientSession(host.url) as http:
        await until_ready(service)
        async with http.get(f"/events?follow=false&{query}") as answer:
            problem = await answer.json()
        assert answer.status == 422
        assert why in problem["detail"]
        assert "There are: " in problem["remedy"]
        wanted = {"chain": CHAIN_ID, "delivery": "consumer", "filter": {"contract": "Beper"}}
        authorised = {"authorization": "Bearer token"}
        async with http.post("/subscriptions", json=wanted, headers=authorised) as answer:
            assert (answer.status, (await answer.json())["title"]) == (422, "name_unknown")
        async with http.get("/events?follow=false&contract=Beeper&where=number>1&from_block=0") as answer:
            assert answer.status == 200


async def test_what_the_hub_says_of_its_chains_and_of_itself(world: World) -> None:
    nobody = FollowedContract(name="Nobody", address=Address("0x" + "00" * 19 + "99"), abi=[BEEP])
    node, service = hub_of(world, chain_of(world.node, nobody))
    host = Host(node, [service], make_broker(node, "hub"))
    async with host.running(), aiohttp.ClientSession(host.url) as http:
        await world.node.beep(2)
        await world.node.mine(2)
        await world.caught_up(1)
        await until_ready(service)
        async with http.get("/chains") as answer:
            (state,) = await answer.json()
        assert (state["chain_id"], state["ready"], state["problem"]) == (CHAIN_ID, True, "")
        assert (state["lag_blocks"], state["head"]) == (0, await world.node.head_number())
        assert state["final"] == state["head"] - 1
        assert [one["url"] for one in state["endpoints"]] == [world.node.url]
        assert {one["name"]: one["has_code"] for one in state["contracts"]} == {
            "Beeper": True,
            "Nobody": False,
        }
        async with http.get("/asyncapi.json") as answer:
            document = await answer.json()
        ApplicationSchema.model_validate(document)
        patterns = [
            re.compile(re.sub(r"\\\{\w+\\\}", "[^.]+", re.escape(one["address"])))
            for one in document["channels"].values()
        ]
        for message in (*world.head.messages, *world.final.messages):
            assert any(pattern.fullmatch(message.subject) for pattern in patterns), message.subject
        payload = document["components"]["messages"][f"{CHAIN_ID}.Beeper.Beep"]["payload"]
        event = world.final.events[0]
        assert set(payload["properties"]["data"]["properties"]["args"]["properties"]) == set(event.args)
        async with http.get("/openapi.json") as answer:
            paths = (await answer.json())["paths"]
        assert {"/chains", "/events", "/audit", "/subscriptions", "/subscriptions/{subscription}"} <= set(
            paths
        )
        async with http.get("/chians") as answer:
            assert (answer.status, answer.content_type) == (404, "application/problem+json")
        async with http.post("/audit", json={}) as answer:
            assert answer.status == 401
        async with http.get("/metrics") as answer:
            metrics = await answer.text()
        for name in (
            "lag_blocks",
            "lag_seconds",
            "head_block",
            "final_block",
            "node_head_block",
            "rpc_seconds_bucket",
        ):
            assert f"agorai_hub_{name}" in metrics


def test_a_file_of_chains_is_read_with_its_abis_beside_it(tmp_path: Path) -> None:
    (tmp_path / "beeper.json").write_text('[{"type": "event", "name": "Beep", "inputs": []}]')
    file = tmp_path / "listen.toml"
    file.write_text(
        """
        [[chains]]
        endpoints = ["http://one", { url = "https://two", ws_url = "wss://two", requests_per_second = 25 }]
        confirmations = 12

        [[chains.contracts]]
        name = "Beeper"
        address = "0x5fbdb2315678afecb367f032d93f642f64180aa3"
        abi = "beeper.json"
        """
    )
    (chain,) = load_chains(file)
    assert [node.ws_url for node in chain.nodes()] == ["ws://one", "wss://two"]
    assert chain.contracts[0].address == "0x5FbDB2315678afecb367f032d93F642f64180aa3"
    assert [event.name for event in chain.contracts[0].load_abi().events.values()] == ["Beep"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "chains: it is missing"),
        ("[chains]\nendpoints = []", "chains: write a list"),
        ("chains = [", "Invalid"),
        ('[[chains]]\nendpoints = ["ftp://node"]', "chains.0.endpoints.0.url"),
        (
            '[[chains]]\nendpoints = ["http://node"]\nconfirmation = 1',
            "chains.0.confirmation: there is no such setting",
        ),
        (
            '[[chains]]\nendpoints = ["http://node"]\n[[chains.contracts]]\nname = "A"',
            "needs either an address or a factory",
        ),
        (
            '[[chains]]\nendpoints = ["http://node"]\n[[chains.contracts]]\nname = "A"\naddress = "0x12"',
            "is no address",
        ),
    ],
)
def test_a_file_of_chains_that_is_wrong_is_told_with_the_place(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "listen.toml"
    file.write_text(text)
    with pytest.raises(ChainsFileError, match=re.escape(why)):
        load_chains(file)


@pytest.mark.parametrize(
    ("abi", "why"),
    [
        (None, "there is no packaged contract Odd"),
        ([{"type": "event", "name": "A", "inputs": [{"name": "a", "type": "addres"}]}], "addres"),
        ([{"type": "event", "name": "a b", "inputs": []}], "no Solidity identifier"),
        ("nowhere.json", "No such file"),
    ],
)
def test_an_abi_that_cannot_be_had_is_told_with_its_contract(abi: Any, why: str) -> None:
    contract = FollowedContract(name="Odd", address=Address("0x" + "00" * 19 + "99"), abi=abi)
    with pytest.raises(AbiUnreadableError, match=why) as caught:
        contract.load_abi()
    assert "Odd" in caught.value.message
    assert caught.value.remedy
