"""What every service of a node must be told; each service adds its own with its own prefix.

Values come from the environment (`AGORAI_...`) or, when `agorai up` composes a node, from its home folder. A secret
may also be in a file of the variable's name in the folder AGORAI_SECRETS, as Docker and Kubernetes mount them.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Final

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from agorai_shared.bus_tls import tls_context
from agorai_shared.logging import LogFormat

SECRETS: Final = os.environ.get("AGORAI_SECRETS") or None
"""Folder of secrets, one file each."""


class NodeSettings(BaseSettings):
    """One participant's node: its bus, its chain and where it listens."""

    model_config = SettingsConfigDict(env_prefix="AGORAI_", extra="ignore", frozen=True, secrets_dir=SECRETS)

    bus_url: str = Field("nats://127.0.0.1:4222", description="NATS server or cluster")
    bus_user: str | None = None
    bus_password: SecretStr | None = None
    bus_ca: Path | None = Field(
        None, description="authorities whose certificates are believed; none: the system's"
    )
    bus_certificate: Path | None = Field(None, description="shown to a server that asks for a certificate")
    bus_key: Path | None = Field(None, description="its private key, if it is in a file of its own")
    rpc_url: str = Field("http://127.0.0.1:8545", description="JSON-RPC endpoint of the chain")
    confirmations: int | None = Field(
        None, ge=0, description="blocks on top that make a block final; none: the node's `finalized` tag"
    )
    deployment: Path = Field(Path("deployment.json"), description="addresses of the contracts on the chain")
    node_token: SecretStr = Field(description="bearer token among one node's own services and its owner")
    host: str = "127.0.0.1"
    port: int = Field(0, ge=0, le=65535, description="HTTP port; 0 takes a free one")
    log_level: str = "INFO"
    log_format: LogFormat = "console"

    def bus_tls(self) -> ssl.SSLContext | None:
        """Give what a connection to the bus needs for TLS, if it is to be one; raises as `tls_context` does."""
        return tls_context(self.bus_url, self.bus_ca, self.bus_certificate, self.bus_key)
