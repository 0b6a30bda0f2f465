"""The users of a bus that this machine's nodes share: each in an account of its own, with its own password.

The server checks what a user publishes, not where it asks for the answer, and would publish that anywhere: also as a
fact, or as an order to delete a stream. So streams and facts are in the hub's account, and a node in one of its own,
which no answer leaves. What a node needs of the hub's is imported: facts to hear and read, dead letters to write, and
its own consumers. The hub makes those, since whoever makes a consumer says on which of the hub's subjects it
delivers.

Where a node's services run apart, each is a user of its own in the node's account (`service_permissions`).
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from eth_utils.address import to_checksum_address
from nats.js import JetStreamContext
from pydantic import BaseModel, Field

from agorai.home import HomeFile
from agorai.service_permissions import API, ASKED, common_api, consumer_api, permissions
from agorai_shared.bus import inbox_of
from agorai_shared.consumers import CONSUMERS, consumer, make_consumers
from agorai_shared.types import Address

HUB = "hub"
HUB_ACCOUNT: Final = "HUB"
_NODE: Final = "node-"


def node_user(address: Address) -> str:
    """Give the bus user of a node."""
    return f"{_NODE}{address.lower()}"


def service_user(address: Address, service: str) -> str:
    """Give the bus user of one service of a node; no service is the node's owner."""
    return f"{node_user(address)}-{service}" if service else node_user(address)


class User(BaseModel):
    """One user with what it may do, as nats-server wants it."""

    user: str
    password: str
    permissions: dict[str, Any]


class Users(BaseModel):
    """Users of one account, or of a server without accounts."""

    users: tuple[User, ...] = ()


class Account(Users):
    """Subjects of its own, of which others see only what is exported to them."""

    jetstream: bool = False
    exports: tuple[dict[str, Any], ...] = ()
    imports: tuple[dict[str, Any], ...] = ()


class Accounts(HomeFile):
    """The part of the server's configuration that lists accounts; JSON is a form of its own format."""

    accounts: dict[str, Account]


class Configuration(HomeFile):
    """What is read of a configuration, also of a home whose users were all in one account."""

    accounts: dict[str, Users] = Field(default_factory=dict)
    authorization: Users = Users()

    def passwords(self) -> dict[str, str]:
        """Give the password of each user."""
        lists = (self.authorization, *self.accounts.values())
        return {entry.user: entry.password for each in lists for entry in each.users}


class BusUsers:
    """Keeps the configuration file of an embedded bus."""

    def __init__(self, folder: Path, chain_id: int) -> None:
        self._chain_id = chain_id
        self.path = folder / "nats-server.conf"

    def add_hub(self) -> str:
        """Add the hub, if it is not there, and give its password; a file of an older form is written anew."""
        return self._add(HUB)

    def add_node(self, address: Address) -> str:
        """Add a node, if it is not there, and give its password."""
        return self._add(node_user(address))

    def nodes(self) -> list[Address]:
        """Give the addresses of the nodes that were added."""
        return nodes_of(self._passwords())

    def reload(self, pid: int) -> None:
        """Have the running server take the file anew."""
        os.kill(pid, signal.SIGHUP)

    async def make_consumers(self, js: JetStreamContext, address: Address) -> None:
        """Make those of a node's consumers that are not there."""
        await make_consumers(js, self._chain_id, address)

    def _passwords(self) -> dict[str, str]:
        return (Configuration.load(self.path) or Configuration()).passwords()

    def _add(self, user: str) -> str:
        with self._alone():
            passwords = self._passwords()
            password = passwords.setdefault(user, secrets.token_urlsafe(32))
            Accounts(accounts=accounts(passwords, self._chain_id)).save(self.path)
        return password

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others that join at the same moment from writing what they read before."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


def accounts(passwords: Mapping[str, str], chain_id: int) -> dict[str, Account]:
    """Give the accounts of the hub and of nodes, of whose services each that has a password is a user."""
    found = {HUB_ACCOUNT: _hub(passwords[HUB], chain_id)} if HUB in passwords else {}
    for address in nodes_of(passwords):
        user = node_user(address)
        found[user] = _node(address, passwords, chain_id)
        found[_gate(user)] = _gate_of(address, chain_id)
    return found


def nodes_of(users: Iterable[str]) -> list[Address]:
    """Give the addresses of the nodes among users."""
    return [
        Address(to_checksum_address(user.removeprefix(_NODE)))
        for user in users
        if user.startswith(_NODE) and "-" not in user.removeprefix(_NODE)
    ]


def _hub(password: str, chain_id: int) -> Account:
    everything = {"publish": ">", "subscribe": ">"}
    exported = ["dead.>", *common_api(chain_id), *consumer_api(chain_id, "*")]
    return Account(
        users=(User(user=HUB, password=password, permissions=everything),),
        jetstream=True,
        exports=({"stream": "chain.>"}, *map(_service, exported)),
    )


def _node(address: Address, passwords: Mapping[str, str], chain_id: int) -> Account:
    user = node_user(address)
    asked = _asked(address, chain_id)
    users = {name: service_user(address, name) for name in ("", *ASKED)}
    users = {name: user for name, user in users.items() if user in passwords}
    own = [f"node.{address.lower()}.>", f"peer.{address.lower()}", f"{inbox_of(user)}.>"]
    answers = [f"{inbox_of(one)}.>" for name, one in users.items() if name]
    of_owner = {"publish": [*own, *answers, *asked], "subscribe": [*own, "chain.>"]}
    return Account(
        users=tuple(
            User(
                user=one,
                password=passwords[one],
                permissions=permissions(address, name, users, chain_id) if name else of_owner,
            )
            for name, one in users.items()
        ),
        imports=(
            {"stream": {"account": HUB_ACCOUNT, "subject": "chain.>"}},
            *(_import(HUB_ACCOUNT, subject) for subject in asked if not subject.startswith(API)),
            _import(_gate(user), "api.>", f"{API}>"),
        ),
    )


def _gate_of(address: Address, chain_id: int) -> Account:
    """Give the account through which a node asks JetStream, without users.

    The server answers all of `$JS.API.>` itself in an account that has no streams and imports less than that.
    """
    return Account(
        exports=({**_service("api.>"), "accounts": [node_user(address)]},),
        imports=tuple(
            _import(HUB_ACCOUNT, subject, f"api.{subject.removeprefix(API)}")
            for subject in _asked(address, chain_id)
            if subject.startswith(API)
        ),
    )


def _asked(address: Address, chain_id: int) -> list[str]:
    """Give what one node asks of the hub's account."""
    names = [consumer(name, address) for name in CONSUMERS]
    return ["dead.>", *common_api(chain_id), *(one for name in names for one in consumer_api(chain_id, name))]


def move_streams(store: Path) -> None:
    """Bring the streams of a server that knew no accounts into the hub's; only while it does not run."""
    old, new = (store / "jetstream" / name for name in ("$G", HUB_ACCOUNT))
    if old.is_dir() and not new.exists():
        old.rename(new)


def _service(subject: str) -> dict[str, str]:
    return {"service": subject, "response_type": "stream"}


def _import(account: str, subject: str, local: str | None = None) -> dict[str, Any]:
    return {"service": {"account": account, "subject": subject}, "to": local or subject}


def _gate(user: str) -> str:
    return f"gate-{user}"
