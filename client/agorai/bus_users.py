"""The users of a bus that this machine's nodes share: each in an account of its own, with its own password.

The server checks what a user publishes, not where it asks for the answer, and would publish that anywhere: also as a
fact, or as an order to delete a stream. So streams and facts are in the hub's account, and a node in one of its own,
which no answer leaves. What a node needs of the hub's is imported: facts to hear and read, dead letters to write, and
its own consumers. The hub makes those, since whoever makes a consumer says on which of the hub's subjects it
delivers.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from eth_utils.address import to_checksum_address
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError
from pydantic import BaseModel, Field

from agorai.home import HomeFile
from agorai_shared.bus import answered, final_stream, head_stream, inbox_of
from agorai_shared.events import Phase
from agorai_shared.types import Address
from agorai_shared.waking import ACK_WAIT_S

HUB = "hub"
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
HUB_ACCOUNT: Final = "HUB"
_NODE: Final = "node-"
_API: Final = "$JS.API."


def node_user(address: Address) -> str:
    """Give the bus user of a node."""
    return f"{_NODE}{address.lower()}"


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
        self._final = final_stream(chain_id).name or ""
        self._head = head_stream(chain_id).name or ""
        self.path = folder / "nats-server.conf"

    def add_hub(self) -> str:
        """Add the hub, if it is not there, and give its password; a file of an older form is written anew."""
        return self._add(HUB)

    def add_node(self, address: Address) -> str:
        """Add a node, if it is not there, and give its password."""
        return self._add(node_user(address))

    def nodes(self) -> list[Address]:
        """Give the addresses of the nodes that were added."""
        return [_address(user) for user in self._passwords() if user.startswith(_NODE)]

    def reload(self, pid: int) -> None:
        """Have the running server take the file anew."""
        os.kill(pid, signal.SIGHUP)

    async def make_consumers(self, js: JetStreamContext, address: Address) -> None:
        """Make those of a node's consumers that are not there, as `waking` would if it might."""
        for service, contract in CONSUMERS.items():
            name = f"{service}-{address}"
            try:
                await answered(self._final, js.consumer_info(self._final, name))
            except NotFoundError:
                config = ConsumerConfig(
                    name=name,
                    durable_name=name,
                    filter_subject=f"chain.{Phase.final}.{self._chain_id}.{contract}.>",
                    deliver_policy=DeliverPolicy.NEW,
                    ack_policy=AckPolicy.EXPLICIT,
                    ack_wait=ACK_WAIT_S,
                    max_ack_pending=1000,
                )
                await answered(self._final, js.add_consumer(self._final, config))

    def _passwords(self) -> dict[str, str]:
        return (Configuration.load(self.path) or Configuration()).passwords()

    def _add(self, user: str) -> str:
        with self._alone():
            passwords = self._passwords()
            password = passwords.setdefault(user, secrets.token_urlsafe(32))
            Accounts(accounts=self._accounts(passwords)).save(self.path)
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

    def _accounts(self, passwords: Mapping[str, str]) -> dict[str, Account]:
        accounts: dict[str, Account] = {}
        for user, password in passwords.items():
            if user == HUB:
                accounts[HUB_ACCOUNT] = self._hub(password)
            elif user.startswith(_NODE):
                accounts[user] = self._node(_address(user), password)
                accounts[_gate(user)] = self._gate(_address(user))
        return accounts

    def _hub(self, password: str) -> Account:
        everything = {"publish": ">", "subscribe": ">"}
        return Account(
            users=(User(user=HUB, password=password, permissions=everything),),
            jetstream=True,
            exports=({"stream": "chain.>"}, *map(_service, [*self._common(), *self._consumer("*")])),
        )

    def _node(self, address: Address, password: str) -> Account:
        user = node_user(address)
        asked = self._asked(address)
        own = [f"node.{address.lower()}.>", f"peer.{address.lower()}", f"{inbox_of(user)}.>"]
        permissions = {"publish": [*own, *asked], "subscribe": [*own, "chain.>"]}
        return Account(
            users=(User(user=user, password=password, permissions=permissions),),
            imports=(
                {"stream": {"account": HUB_ACCOUNT, "subject": "chain.>"}},
                *(_import(HUB_ACCOUNT, subject) for subject in asked if not subject.startswith(_API)),
                _import(_gate(user), "api.>", f"{_API}>"),
            ),
        )

    def _gate(self, address: Address) -> Account:
        """Give the account through which a node asks JetStream, without users.

        The server answers all of `$JS.API.>` itself in an account that has no streams and imports less than that.
        """
        return Account(
            exports=({**_service("api.>"), "accounts": [node_user(address)]},),
            imports=tuple(
                _import(HUB_ACCOUNT, subject, f"api.{subject.removeprefix(_API)}")
                for subject in self._asked(address)
                if subject.startswith(_API)
            ),
        )

    def _asked(self, address: Address) -> list[str]:
        """Give what one node asks of the hub's account."""
        return [
            *self._common(),
            *(s for service in CONSUMERS for s in self._consumer(f"{service}-{address}")),
        ]

    def _common(self) -> list[str]:
        """Give what every node asks of the hub's account."""
        return [
            "dead.>",
            *(f"$JS.API.STREAM.INFO.{stream}" for stream in (self._final, self._head)),
            *(f"$JS.API.DIRECT.GET.{stream}" for stream in (self._final, self._head)),
        ]

    def _consumer(self, name: str) -> list[str]:
        """Give what is asked of one consumer."""
        return [
            f"$JS.API.CONSUMER.INFO.{self._final}.{name}",
            f"$JS.API.CONSUMER.MSG.NEXT.{self._final}.{name}",
            f"$JS.ACK.{self._final}.{name}.>",
        ]


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


def _address(user: str) -> Address:
    return Address(to_checksum_address(user.removeprefix(_NODE)))
