"""What the vault must be told."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from agorai_shared.settings import SECRETS


class VaultSettings(BaseSettings):
    """Where the keys are kept and how transactions are sent."""

    model_config = SettingsConfigDict(
        env_prefix="AGORAI_VAULT_", extra="ignore", frozen=True, secrets_dir=SECRETS
    )

    path: Path = Field(Path("vault"), description="folder of the key files and the vault's database")
    passphrase: SecretStr = Field(description="opens the account key; everything else hangs on that key")
    store_url: str = Field("http://127.0.0.1:8080", description="this node's content store")
    stuck_after_s: float = Field(30.0, gt=0, description="unmined this long: sent again with a higher fee")
    max_fee_gwei: float = Field(
        500.0, gt=0, description="no transaction offers more than this for a gas unit"
    )
