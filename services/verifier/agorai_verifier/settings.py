"""What the verifier must be told."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from agorai_shared.account import Account


class VerifierSettings(BaseSettings):
    """Where votes and findings are kept, where the node's other services are, and what it may stake on."""

    model_config = SettingsConfigDict(env_prefix="AGORAI_VERIFIER_", extra="ignore", frozen=True)

    address: Account = Field(description="the node's account")
    path: Path = Field(
        Path("verifier"), description="folder of votes and findings, with the salts that hide them"
    )
    store_url: str = Field("http://127.0.0.1:8080", description="this node's content store")
    vault_url: str = Field("http://127.0.0.1:8080", description="this node's vault")
    stake_on_own: bool = Field(
        True, description="challenge what is wrong in the node's own data pools, unless told otherwise of one"
    )
