"""The users of a bus that this machine's nodes share: each with its own password and subject permissions.

A node may read all facts under `chain.>`, speaks and hears under its own `node.<address>.>`, and reads the final
stream message by message or through consumers that carry its own name. It makes no other consumer: the bus would
deliver for it to any subject. The hub alone writes facts.
"""

from __future__ import annotations

import os
import secrets
import signal
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from agorai.home import HomeFile
from agorai_shared.bus import final_stream, inbox_of
from agorai_shared.types import Address

HUB = "hub"
CONSUMERS = ("vault", "trainer")
"""Services that read a stream through a durable consumer, named `<service>-<address>`."""


def node_user(address: Address) -> str:
    """Give the bus user of a node."""
    return f"node-{address.lower()}"


class UserList(BaseModel):
    """Users with their passwords and permissions, as nats-server wants them."""

    users: tuple[dict[str, Any], ...] = ()


class Authorization(HomeFile):
    """The part of the server's configuration that lists its users; JSON is a form of its own format."""

    authorization: UserList = UserList()


class BusUsers:
    """Keeps the configuration file of an embedded bus."""

    def __init__(self, folder: Path, chain_id: int) -> None:
        self._stream = final_stream(chain_id).name
        self.path = folder / "nats-server.conf"

    def add_hub(self) -> str:
        """Add the hub, if it is not there, and give its password."""
        return self._add(HUB, {"publish": ">", "subscribe": ">"})

    def add_node(self, address: Address) -> str:
        """Add a node, if it is not there, and give its password."""
        user, name = node_user(address), address.lower()
        inbox = f"{inbox_of(user)}.>"
        publish = [
            f"node.{name}.>",
            "peer.>",
            "dead.>",
            inbox,
            "$JS.API.INFO",
            f"$JS.API.STREAM.INFO.{self._stream}",
            f"$JS.API.DIRECT.GET.{self._stream}",
            f"$JS.ACK.{self._stream}.>",
        ]
        for service in CONSUMERS:
            publish += [
                f"$JS.API.CONSUMER.INFO.{self._stream}.{service}-{address}",
                f"$JS.API.CONSUMER.CREATE.{self._stream}.{service}-{address}.chain.final.>",
                f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{service}-{address}",
            ]
        return self._add(
            user, {"publish": publish, "subscribe": ["chain.>", f"node.{name}.>", f"peer.{name}", inbox]}
        )

    def reload(self, pid: int) -> None:
        """Have the running server take the file anew."""
        os.kill(pid, signal.SIGHUP)

    def _add(self, user: str, permissions: dict[str, Any]) -> str:
        users = (Authorization.load(self.path) or Authorization()).authorization.users
        known = next((entry for entry in users if entry["user"] == user), None)
        password: str = known["password"] if known else secrets.token_urlsafe(32)
        entry = {"user": user, "password": password, "permissions": permissions}
        others = (other for other in users if other["user"] != user)
        Authorization(authorization=UserList(users=(*others, entry))).save(self.path)
        return password
