"""The durable consumers by which a node's services are woken, where they may not make them themselves.

Whoever makes a consumer says on which subject it delivers. On a bus that nodes share only the hub is trusted with
that.
"""

from __future__ import annotations

from typing import Final

from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from agorai_shared.bus import answered, final_stream
from agorai_shared.types import Address
from agorai_shared.waking import consumer_config

CONSUMERS: Final = {
    "vault": "Invocation",
    "vault-trades": "FairExchange",
    "vault-cases": "VotingPanel",
    "trainer": "Invocation",
    "trainer-pool": "DataPool",
    "trainer-task": "TrainingTask",
    "verifier": "VotingPanel",
    "verifier-pool": "DataPool",
    "reward-pool": "DataPool",
    "reward-panel": "VotingPanel",
    "reward-task": "TrainingTask",
    "reward-task-panel": "VotingPanel",
}
"""Durable consumers of a stream, each named `<this>-<address>`, and the contract whose events it brings."""

FEW: Final = {
    "trainer-task": (
        "Opened", "Funded", "Requested", "Approved", "Accepted", "Declined", "Left", "Begun",
    ),
    "reward-task": ("Begun", "Finished", "Proposed", "Challenged", "Resolved", "Settled", "Abandoned"),
}  # fmt: skip
"""Of consumers that bring only some of the contract's events, the names of these: each party of a round updates."""


HEARD: Final = {"trainer": ("TrainingTask", "Updated")}
"""Events that a service hears instead (`waking.hearing`), each with its contract."""


def consumer(service: str, address: Address) -> str:
    """Give the name of one of a node's consumers."""
    return f"{service}-{address}"


async def make_consumers(js: JetStreamContext, chain_id: int, address: Address) -> None:
    """Make those of a node's consumers that are not there, as `waking` would if it might."""
    stream = final_stream(chain_id).name or ""
    for service, contract in CONSUMERS.items():
        name = consumer(service, address)
        try:
            await answered(stream, js.consumer_info(stream, name))
        except NotFoundError:
            config = consumer_config(chain_id, contract, FEW.get(service, ()))
            config.name = config.durable_name = name
            await answered(stream, js.add_consumer(stream, config))
