"""Events as a hub would tell them, of a marketplace that stands on no chain."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from importlib.resources import files
from random import Random
from typing import Any, Final

from eth_utils.address import to_checksum_address

from agorai_dashboard.relating import Place
from agorai_shared.documents import Document
from agorai_shared.events import NO_KEY, ChainEvent, Phase, key_text
from agorai_shared.trail import Step
from agorai_shared.types import Address, Hash

CHAIN: Final = 31337
TOKEN: Final = 10**18
DAY: Final = 86_400
CONTRACTS: Final = (
    "MarketToken",
    "Registry",
    "Invocation",
    "VotingPanel",
    "FairExchange",
    "DataPool",
    "OnlineLearner",
    "TrainingTask",
    "DataTransfer",
)
NAMES: Final = (
    "olga",
    "anna",
    "boris",
    "carl",
    "eve",
    "mira",
    "dora",
    "dino",
    "dana",
    "frank",
    "cora",
    "linhao",
    "tommy",
    "vera",
    "victor",
    "viola",
)


def address(name: str) -> Address:
    """Give somebody's account."""
    return Address(to_checksum_address("0x" + sha256(name.encode()).hexdigest()[:40]))


def digest(text: object) -> str:
    """Give 32 bytes that stand for something."""
    return "0x" + sha256(str(text).encode()).hexdigest()


ADDRESSES: Final = {name: address(f"contract {name}") for name in CONTRACTS}
WHO: Final = {name: address(name) for name in NAMES}
PLACE: Final = Place({at: name for name, at in ADDRESSES.items()})


def _abi() -> dict[tuple[str, str], list[dict[str, Any]]]:
    folder = files("agorai_shared") / "abi"
    return {
        (name, one["name"]): one["inputs"]
        for name in CONTRACTS
        for one in json.loads((folder / f"{name}.json").read_text())["abi"]
        if one["type"] == "event"
    }


_ABI: Final = _abi()


def _filled(inputs: list[dict[str, Any]], given: Mapping[str, Any]) -> dict[str, Any]:
    """Give an event's arguments; what is not given is its type's zero."""
    unknown = given.keys() - {one["name"] for one in inputs}
    assert not unknown, unknown
    return {one["name"]: _value(one, given.get(one["name"])) for one in inputs}


_ZEROS: Final = {
    "address": "0x" + 40 * "0",
    "bool": False,
    "bytes": "0x",
    "bytes32": "0x" + 64 * "0",
    "string": "",
}
"""By type; those of all others are numbers."""


def _value(one: dict[str, Any], value: Any) -> Any:
    kind = one["type"]
    if kind == "tuple":
        return _filled(one["components"], value or {})
    if value is not None:
        return str(value) if isinstance(value, int) and abs(value) >= 2**53 else value
    return _ZEROS.get(kind, 0)


@dataclass
class World:
    """Tells events, in any order; `events` gives them in the chain's."""

    now: int
    told: list[tuple[int, int, str, str, str, dict[str, Any]]] = field(default_factory=list)
    documents: dict[str, bytes] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    """Of resources, as their documents tell them."""
    random: Random = field(default_factory=lambda: Random(7))

    def say(self, ago_s: float, contract: str, event: str, /, with_: object = "", **args: Any) -> None:
        """Have an event happen; `with_` names a transaction that it shares with others at that time."""
        time, order = self.now - int(ago_s), len(self.told)
        hash_ = digest(f"{time} {with_ or order}")
        self.told.append((time, order, hash_, contract, event, _filled(_ABI[contract, event], args)))

    def pay(self, ago_s: float, who: str, contract: str, amount: float, with_: object = "") -> None:
        """Move tokens from somebody to a contract, or back where the amount is below 0."""
        ends = (WHO[who], ADDRESSES[contract])
        from_, to = ends if amount > 0 else ends[::-1]
        self.say(
            ago_s,
            "MarketToken",
            "Transfer",
            with_=with_,
            **{"from": from_, "to": to, "value": int(abs(amount) * TOKEN)},
        )

    def keep(self, document: Document) -> str:
        """Give a document's digest, by which the chain names it and the store finds it."""
        raw = document.to_bytes()
        hashed = "0x" + sha256(raw).hexdigest()
        self.documents[hashed] = raw
        return hashed

    def events(self) -> Iterator[ChainEvent]:
        """Give all, final, in the order of the chain, twelve seconds a block."""
        log_index, last = 0, -1
        for at, _, hash_, contract, event, args in sorted(self.told, key=lambda one: one[:2]):
            block = (at - self.now) // 12 + 200_000
            log_index = log_index + 1 if block == last else 0
            last = block
            first = next((one["name"] for one in _ABI[contract, event] if one["indexed"]), None)
            yield ChainEvent(
                Phase.final,
                CHAIN,
                contract,
                ADDRESSES[contract],
                event,
                NO_KEY if first is None else key_text(args[first]),
                block,
                Hash(digest(f"block {block}")),
                at,
                Hash(hash_),
                log_index,
                args,
            )


STRANGER: Final = address("a stranger")


def registered(block: int, resource: int) -> ChainEvent:
    """Tell that a model came to the market just now."""
    world = World(int(time.time()) + 12 * (block - 200_000))
    args = {"id": resource, "owner": WHO["linhao"], "kind": 1, "price": TOKEN, "metadata": digest(resource)}
    world.say(0, "Registry", "Registered", **args)
    return replace(next(world.events()), block_number=block, block_time=int(time.time()))


def joined(block: int, gateway: str) -> ChainEvent:
    """Tell that a stranger joined just now."""
    world = World(int(time.time()) + 12 * (block - 200_000))
    world.say(0, "Registry", "Joined", account=STRANGER, roles=1, gateway=gateway)
    return replace(next(world.events()), block_number=block, block_time=int(time.time()))


def step() -> Step:
    """Give a step of a handler, as a node tells of it."""
    return Step(
        service="vault",
        protocol="trade",
        contract="FairExchange",
        key="1",
        step="Pay",
        outcome="ok",
        error=None,
        once="a",
        at=time.time(),
        seconds=0.1,
        trace="0" * 32,
    )
