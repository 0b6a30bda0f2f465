"""What the storage service must be told."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class StorageSettings(BaseSettings):
    """Where blocks are kept, how many, and how large an object may be."""

    model_config = SettingsConfigDict(env_prefix="AGORAI_STORAGE_", extra="ignore", frozen=True)

    path: Path = Field(Path("storage"), description="folder of the blocks; one process owns it")
    max_object_size: int = Field(64 << 30, gt=0, description="bytes; larger uploads are refused")
    quota: int | None = Field(None, gt=0, description="bytes of all blocks; none: the disk's")
    kubo_url: str | None = Field(
        None, description="RPC API of a Kubo that keeps the blocks instead, as a URL or multiaddr"
    )
