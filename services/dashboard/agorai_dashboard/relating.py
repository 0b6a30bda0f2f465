"""What an event is about: the items it names and the accounts in it. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from agorai_dashboard.views import Item
from agorai_shared.events import ChainEvent
from agorai_shared.types import Address

_OWN: Final[Mapping[tuple[str, str], str]] = {
    ("DataPool", "Added"): "contribution",
    ("DataPool", "Answered"): "contribution",
    ("DataPool", "Challenged"): "contribution",
    ("DataPool", "Claimed"): "contribution",
    ("DataPool", "Contested"): "contribution",
    ("DataPool", "Resolved"): "contribution",
    ("DataPool", "Settled"): "contribution",
    ("DataPool", "Closed"): "pool",
    ("DataPool", "Forfeited"): "pool",
    ("DataPool", "Funded"): "pool",
    ("DataPool", "Opened"): "pool",
    ("DataPool", "Returned"): "pool",
    ("DataPool", "Stopped"): "pool",
    ("DataPool", "Published"): "version",
    ("Registry", "Joined"): "actor",
    ("Registry", "Left"): "actor",
    ("Registry", "MisconductReported"): "actor",
    ("TrainingTask", "Accepted"): "subtask",
    ("TrainingTask", "Approved"): "subtask",
    ("TrainingTask", "Compensated"): "subtask",
    ("TrainingTask", "Declined"): "subtask",
    ("TrainingTask", "Left"): "subtask",
    ("TrainingTask", "Requested"): "subtask",
    ("TrainingTask", "Updated"): "subtask",
    ("VotingPanel", "Enlisted"): "actor",
    ("VotingPanel", "Retired"): "actor",
}
"""Of events whose first indexed argument is not their contract's usual item."""
_USUAL: Final = {
    "Registry": "resource",
    "Invocation": "invocation",
    "FairExchange": "trade",
    "VotingPanel": "case",
    "TrainingTask": "task",
    "DataTransfer": "transfer",
    "OnlineLearner": "learner",
}
_NAMED: Final = (
    ("contribution", "contribution", "DataPool"),
    ("pool", "pool", "DataPool"),
    ("task", "task", "TrainingTask"),
    ("resource", "resource", "Registry"),
    ("panelCase", "case", "VotingPanel"),
    ("dispute", "case", "VotingPanel"),
    ("predecessor", "version", "DataPool"),
    ("corrects", "contribution", "DataPool"),
    ("previous", "resource", "Registry"),
    ("sellerResource", "resource", "Registry"),
    ("buyerResource", "resource", "Registry"),
)
"""Arguments that name an item: its kind and contract; 0 is none."""
JUDGED: Final = {
    "FairExchange": "trade",
    "DataPool": "contribution",
    "TrainingTask": "task",
    "DataTransfer": "transfer",
}
"""What the cases are about that a contract opens."""


@dataclass(frozen=True, slots=True)
class Place:
    """The marketplace's contracts, by address."""

    names: Mapping[str, str]

    def name(self, address: str) -> str:
        """Give a contract's name, or the address of what is none."""
        return self.names.get(address, address)


def own_kind(contract: str, event: str) -> str | None:
    """Give the kind of the item that an event's key names; None: an account's credit, or nothing."""
    if (contract, event) in _OWN:
        return _OWN[contract, event]
    if event == "Withdrawn" and contract != "Registry":
        return None
    return _USUAL.get(contract)


def related(event: ChainEvent, place: Place, about: Callable[[str], Item | None]) -> tuple[Item, ...]:
    """Give the items that an event is about, its own first.

    Parameters
    ----------
    about
        Gives by case what it is about, where that is known.
    """
    found: dict[Item, None] = {}
    kind = own_kind(event.contract, event.event)
    if kind is not None:
        found[Item(kind, event.contract, event.key)] = None
    terms = event.args.get("terms")
    for args in (event.args, terms if isinstance(terms, Mapping) else {}):
        for name, of, contract in _NAMED:
            value = args.get(name)
            if value is not None and not isinstance(value, Mapping) and value not in (0, "0"):
                found[Item(of, contract, str(value))] = None
    if event.contract == "VotingPanel" and kind == "case":
        judged = _judged(event, place) if event.event == "Opened" else about(event.key)
        if judged is not None:
            found[judged] = None
    if event.event == "MisconductReported":
        source = place.name(str(event.args.get("source")))
        if source in JUDGED:
            found[Item(JUDGED[source], source, str(event.args.get("item")))] = None
    return tuple(found)


def _judged(event: ChainEvent, place: Place) -> Item | None:
    opener = place.name(str(event.args.get("opener")))
    kind = JUDGED.get(opener)
    return None if kind is None else Item(kind, opener, str(event.args.get("item")))


def accounts(event: ChainEvent, place: Place) -> frozenset[Address]:
    """Give all accounts among an event's arguments; the marketplace's own contracts are none."""
    return frozenset(one for one in _addresses(event.args) if one not in place.names)


def _addresses(value: object) -> Iterator[Address]:
    if isinstance(value, str):
        if _ADDRESS.fullmatch(value) and value != _NOBODY:
            yield Address(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _addresses(item)
    elif isinstance(value, list):
        for item in value:
            yield from _addresses(item)


_ADDRESS: Final = re.compile("0x[0-9a-fA-F]{40}")
_NOBODY: Final = "0x" + 40 * "0"


def written(items: tuple[Item, ...]) -> str:
    """Give items as one text, which `read` takes."""
    return " ".join(f"{item.kind}:{item.contract}:{item.key}" for item in items)


def read(text: str) -> tuple[Item, ...]:
    """Read what `written` gave."""
    return tuple(Item(*one.split(":", 2)) for one in text.split())
