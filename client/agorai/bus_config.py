"""The configuration of a NATS server for nodes whose services run apart: accounts, TLS, and a cluster of three.

JSON is a form of the server's own format. The hub and each service get a user; the passwords are in a folder of their
own, one file each, for a secret store to take. What is there already is kept, so that adding a node changes nobody
else's.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from agorai.bus_users import HUB, Accounts, Configuration, accounts, service_user
from agorai.service_permissions import ASKED
from agorai_shared.types import Address

CLIENTS, ROUTES, MONITORING = 4222, 6222, 8222


@dataclass(frozen=True, slots=True)
class Tls:
    """Where the server finds its certificate; with `authority` it asks the others for theirs."""

    certificate: str
    key: str
    authority: str | None = None

    def of_routes(self) -> dict[str, Any]:
        """Give the part for the servers of a cluster."""
        asked = {"ca_file": self.authority, "verify": True} if self.authority else {}
        return {"cert_file": self.certificate, "key_file": self.key, **asked}

    def of_clients(self) -> dict[str, Any]:
        """Give the part for clients: TLS from the first byte on, or anyone between could talk them out of it."""
        return {**self.of_routes(), "handshake_first": True}


class ServerFile(Accounts):
    """All that a server is told but its own name, which is not the same for all of a cluster."""

    listen: str = f"0.0.0.0:{CLIENTS}"
    http: str = f"0.0.0.0:{MONITORING}"
    jetstream: dict[str, Any] = Field(default_factory=dict)
    tls: dict[str, Any] | None = None
    cluster: dict[str, Any] | None = None

    @model_serializer(mode="wrap")
    def _told(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not there: the server knows no null."""
        return {name: value for name, value in serialize(self).items() if value is not None}


def write(
    output: Path,
    passwords: Path,
    chain_id: int,
    nodes: Sequence[Address],
    *,
    store: str = "/data",
    tls: Tls | None = None,
    routes: Sequence[str] = (),
) -> list[str]:
    """Write the configuration and the passwords; gives the users.

    Parameters
    ----------
    output
        The file; the users in it stay as they are.
    passwords
        Folder of a file for each user, named as the user.
    store
        Folder of the streams, as seen by the server.
    routes
        Servers of the cluster, each as host or host:port; none for a server alone.
    """
    before = ServerFile.load(output)
    known = (Configuration.load(output) or Configuration()).passwords()
    users = [HUB, *(service_user(node, service) for node in nodes for service in ("", *ASKED))]
    for user in users:
        known.setdefault(user, secrets.token_urlsafe(32))
    ServerFile(
        accounts=accounts(known, chain_id),
        jetstream={"store_dir": store},
        tls=tls.of_clients() if tls else None,
        cluster=_cluster(routes, tls, before) if routes else None,
    ).save(output)
    passwords.mkdir(parents=True, exist_ok=True, mode=0o700)
    for user, password in known.items():
        _write_secret(passwords / user, password)
    return list(known)


def _cluster(routes: Sequence[str], tls: Tls | None, before: ServerFile | None) -> dict[str, Any]:
    known = (before.cluster if before else None) or {}
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


def _write_secret(path: Path, secret: str) -> None:
    part = path.with_suffix(".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secret)
    part.replace(path)
