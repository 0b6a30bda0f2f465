"""What every service of a node must be told; each service adds its own with its own prefix.

Values come from the environment (`AGORAI_...`) or, when `agorai up` composes a node, from its home folder.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from agorai_shared.logging import LogFormat


class NodeSettings(BaseSettings):
    """One participant's node: its bus, its chain and where it listens."""

    model_config = SettingsConfigDict(env_prefix="AGORAI_", extra="ignore", frozen=True)

    bus_url: str = Field("nats://127.0.0.1:4222", description="NATS server or cluster")
    bus_user: str | None = None
    bus_password: SecretStr | None = None
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
