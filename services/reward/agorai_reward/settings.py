"""What the reward service must be told."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from agorai_shared.account import Account


class RewardSettings(BaseSettings):
    """Where the node's other services are."""

    model_config = SettingsConfigDict(env_prefix="AGORAI_REWARD_", extra="ignore", frozen=True)

    address: Account = Field(description="the node's account")
    store_url: str = Field("http://127.0.0.1:8080", description="this node's content store")
    vault_url: str = Field("http://127.0.0.1:8080", description="this node's vault")
