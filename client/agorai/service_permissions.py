"""What each service of a node may do on the bus, where each runs alone under a user of its own.

Nothing but what it asks, answers and hears: a trainer that has been taken over can have steps sent, which the vault
keeps to the calls that services make, and cannot have tokens transferred, an allowance signed, a message sent in the
node's name, a task's key given away, or another service's commands, events and answers read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from agorai_shared.bus import final_stream, head_stream, inbox_of
from agorai_shared.command import subject
from agorai_shared.consumers import CONSUMERS, HEARD, consumer
from agorai_shared.events import Phase, block_subject
from agorai_shared.events import subject as event_subject
from agorai_shared.look_again import VERB as LOOK_AGAIN
from agorai_shared.trail import TRAIL
from agorai_shared.types import Address

DASHBOARD: Final = "dashboard"
ASKED: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "storage": {},
    "vault": {"verifier": ("inspect",), "trainer": ("degrade",)},
    "trainer": {"vault": ("step", "outcome", "content")},
    "verifier": {
        "vault": ("step", "outcome", "judge"),
        "trainer": ("evaluate", "compare", "check_samples", "judge_challenge"),
        "reward": ("audit_task",),
    },
    "reward": {
        "vault": ("step", "outcome", "reveal_task_key"),
        "trainer": ("task_worths", "replay_round", "reveal_task_test"),
    },
    DASHBOARD: dict.fromkeys(("vault", "trainer", "verifier", "reward"), (LOOK_AGAIN,)),
}
"""The services of a node, and the verbs that each asks of the others."""

API: Final = "$JS.API."


def permissions(address: Address, user: str, users: Mapping[str, str], chain_id: int) -> dict[str, Any]:
    """Give one service's permissions, as nats-server wants them.

    Parameters
    ----------
    user
        The service.
    users
        The bus user of each service, and of the node's owner under an empty name.
    """
    asked = ASKED[user]
    publish = [subject(address, other, verb) for other, verbs in asked.items() for verb in verbs]
    publish += [f"{inbox_of(users[other])}.>" for other in _askers(user) if other in users]
    subscribe = [f"{inbox_of(users[user])}.>"]
    if user == DASHBOARD:
        publish += common_api(chain_id)
        publish += [consumer_info(chain_id, consumer(one, address)) for one in CONSUMERS]
        subscribe += ["chain.>", subject(address, TRAIL, "*")]
    elif asked:
        publish += [subject(address, TRAIL, "*"), f"dead.{user}"]
        publish += [f"{API}STREAM.INFO.{final_stream(chain_id).name}"]
        publish += [
            one for name in _consumers(user) for one in consumer_api(chain_id, consumer(name, address))
        ]
        subscribe += [subject(address, user, "*"), block_subject(Phase.final, chain_id)]
        if user in HEARD:
            subscribe.append(event_subject(Phase.final, chain_id, *HEARD[user]))
    if user == "vault":
        publish.append(f"peer.{address.lower()}")
    return {"publish": publish or {"deny": ">"}, "subscribe": subscribe}


def _askers(service: str) -> Iterator[str]:
    """Give those whom a service answers: the node's owner, and services that ask it."""
    if service not in ("storage", DASHBOARD):
        yield ""
    yield from (other for other, asked in ASKED.items() if service in asked)


def _consumers(service: str) -> Iterator[str]:
    return (name for name in CONSUMERS if name.partition("-")[0] == service)


def common_api(chain_id: int) -> list[str]:
    """Give by what subjects a node reads the streams of a chain."""
    streams = [final_stream(chain_id).name, head_stream(chain_id).name]
    return [f"{API}{verb}.{stream}" for verb in ("STREAM.INFO", "DIRECT.GET") for stream in streams]


def consumer_info(chain_id: int, name: str) -> str:
    """Give by what subject a consumer's state is asked for."""
    return f"{API}CONSUMER.INFO.{final_stream(chain_id).name}.{name}"


def consumer_api(chain_id: int, name: str) -> list[str]:
    """Give by what subjects a consumer is read."""
    stream = final_stream(chain_id).name
    return [
        consumer_info(chain_id, name),
        f"{API}CONSUMER.MSG.NEXT.{stream}.{name}",
        f"$JS.ACK.{stream}.{name}.>",
    ]
