"""What the dashboard must be told."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from agorai_shared.account import Account
from agorai_shared.settings import SECRETS


def _parted(given: object) -> object:
    return tuple(filter(None, map(str.strip, given.split(",")))) if isinstance(given, str) else given


Accounts = Annotated[tuple[Account, ...], NoDecode, BeforeValidator(_parted)]
"""Parted by commas."""


class DashboardSettings(BaseSettings):
    """Whose dashboard it is, where its read model is and whom it asks."""

    model_config = SettingsConfigDict(
        env_prefix="AGORAI_DASHBOARD_", extra="ignore", frozen=True, secrets_dir=SECRETS
    )

    address: Account = Field(description="the node's account")
    database: SecretStr = Field(
        SecretStr("sqlite:///dashboard.sqlite"),
        description="of the read model: sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME",
    )
    store_url: str = Field("http://127.0.0.1:8080", description="this node's content store")
    node_url: str | None = Field(None, description="this node's HTTP port, asked for its health")
    hub_url: str | None = Field(None, description="the hub's HTTP port, asked for its health and chains")
    hub_token: SecretStr | None = Field(None, description="the hub's token, to list its webhooks")
    readers: int = Field(64, ge=1, description="live connections at a time")
    public_url: str | None = Field(
        None, pattern=r"^https?://[^/]+$", description="how people reach it, if not where it listens"
    )
    operators: Accounts = Field((), description="accounts that may act in it, beside the node's own")
    viewers: Accounts = Field((), description="accounts that may look")
