"""The configuration of a NATS server for nodes whose services run apart: accounts, TLS, and a cluster of three.

JSON is a form of the server's own format. The hub and each service get a user; the passwords are in a folder of their
own, one file each, for a secret store to take. What is there already is kept unless it is named anew: adding a node
changes nobody's password, and neither takes TLS or the cluster away nor has the others follow another chain.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from agorai.bus_users import HUB, HUB_ACCOUNT, Account, Accounts, Configuration, accounts, service_user
from agorai.home import write_private
from agorai.service_permissions import ASKED
from agorai_shared.types import Address

CLIENTS, ROUTES, MONITORING = 4222, 6222, 8222
CHAIN_ID: Final = 31337
"""Of a new file, if no chain is named: that of development chains."""
STORE: Final = "/data"
"""Of a new file, if no folder is named."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Where the server finds its certificate; with `authority` it asks clients for theirs."""

    certificate: str
    key: str
    authority: str | None = None

    @classmethod
    def of(cls, known: Mapping[str, Any]) -> Self:
        """Read what `of_clients` gave."""
        return cls(known["cert_file"], known["key_file"], known.get("ca_file"))

    def of_routes(self) -> dict[str, Any]:
        """Give the part for the servers of a cluster, which always ask each other for their certificates.

        Who signed these is in `ca.pem` beside the certificate, where `agorai bus certificate` puts it, if not named.
        """
        authority = self.authority or str(Path(self.certificate).with_name("ca.pem"))
        return {"cert_file": self.certificate, "key_file": self.key, "ca_file": authority}

    def of_clients(self) -> dict[str, Any]:
        """Give the part for clients: TLS from the first byte on, or anyone between could talk them out of it."""
        asked = {"ca_file": self.authority, "verify": True} if self.authority else {}
        return {"cert_file": self.certificate, "key_file": self.key, **asked, "handshake_first": True}


class ServerFile(Accounts):
    """All that a server is told but its own name, which is not the same for all of a cluster."""

    listen: str = f"0.0.0.0:{CLIENTS}"
    http: str = f"0.0.0.0:{MONITORING}"
    jetstream: dict[str, Any] = Field(default_factory=dict)
    tls: dict[str, Any] | None = None
    cluster: dict[str, Any] | None = None

    def chain_id(self) -> int | None:
        """Give the chain whose streams the hub lets nodes read."""
        hub = self.accounts.get(HUB_ACCOUNT, Account())
        exported = (str(one.get("service", "")) for one in hub.exports)
        found = [int(chain) for one in exported for chain in re.findall(r"\.CHAIN_(\d+)_FINAL", one)]
        return found[0] if found else None

    def routes(self) -> list[str]:
        """Give the servers of the cluster."""
        return [route.rpartition("@")[2] for route in (self.cluster or {}).get("routes", ())]

    @model_serializer(mode="wrap")
    def _told(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not there: the server knows no null."""
        return {name: value for name, value in serialize(self).items() if value is not None}


def write(
    output: Path,
    passwords: Path,
    chain_id: int | None,
    nodes: Sequence[Address],
    *,
    store: str | None = None,
    tls: Tls | None = None,
    routes: Sequence[str] = (),
) -> list[str]:
    """Write the configuration and the passwords; gives the users.

    What is not named is taken from the file, if it is there; so is the authority that clients are asked for.

    Parameters
    ----------
    output
        The file; the users in it stay as they are.
    passwords
        Folder of a file for each user, named as the user.
    chain_id
        EIP-155 id of the chain that all nodes of the file follow.
    store
        Folder of the streams, as seen by the server.
    routes
        Servers of the cluster, each as host or host:port; none for a server alone.
    """
    before = ServerFile.load(output) or ServerFile(accounts={})
    known = (Configuration.load(output) or Configuration()).passwords()
    users = [HUB, *(service_user(node, service) for node in nodes for service in ("", *ASKED))]
    for user in users:
        known.setdefault(user, secrets.token_urlsafe(32))
    secured = Tls.of(before.tls) if before.tls else None
    if tls and secured:
        tls = replace(tls, authority=tls.authority or secured.authority)
    tls, routes = tls or secured, routes or before.routes()
    ServerFile(
        accounts=accounts(known, chain_id or before.chain_id() or CHAIN_ID),
        jetstream={"store_dir": store or before.jetstream.get("store_dir", STORE)},
        tls=tls.of_clients() if tls else None,
        cluster=_cluster(routes, tls, before) if routes else None,
    ).save(output)
    passwords.mkdir(parents=True, exist_ok=True, mode=0o700)
    for user, password in known.items():
        write_private(passwords / user, password.encode())
    return list(known)


def _cluster(routes: Sequence[str], tls: Tls | None, before: ServerFile) -> dict[str, Any]:
    known = before.cluster or {}
    password = known.get("authorization", {}).get("password") or secrets.token_hex(32)
    cluster: dict[str, Any] = {
        "name": "agorai",
        "listen": f"0.0.0.0:{ROUTES}",
        "authorization": {"user": "route", "password": password, "timeout": 2},
        "routes": [f"nats-route://route:{password}@{_with_port(one)}" for one in routes],
    }
    if tls:
        cluster["tls"] = tls.of_routes()
    return cluster


def _with_port(server: str) -> str:
    return server if ":" in server else f"{server}:{ROUTES}"
