"""What the dashboard must be told."""

from __future__ import annotations

from typing import Annotated

from eth_utils.address import is_address, to_checksum_address
from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from agorai_shared.settings import SECRETS
from agorai_shared.types import Address


def _account(given: object) -> object:
    if not isinstance(given, str):
        return given
    if not is_address(given):
        raise ValueError(f"{given!r} is no account")
    return to_checksum_address(given)


def _accounts(given: object) -> object:
    if not isinstance(given, str):
        return given
    return tuple(_account(one.strip()) for one in given.split(",") if one.strip())


Accounts = Annotated[tuple[Address, ...], NoDecode, BeforeValidator(_accounts)]
"""Parted by commas."""


class DashboardSettings(BaseSettings):
    """Whose dashboard it is, where its read model is and whom it asks."""

    model_config = SettingsConfigDict(
        env_prefix="AGORAI_DASHBOARD_", extra="ignore", frozen=True, secrets_dir=SECRETS
    )

    address: Annotated[Address, BeforeValidator(_account)] = Field(description="the node's account")
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
