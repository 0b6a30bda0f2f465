"""What the trainer must be told."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from agorai_shared.account import Account
from agorai_trainer.tasks import Limits


class TrainerSettings(BaseSettings):
    """Where jobs are kept and where the node's other services are."""

    model_config = SettingsConfigDict(env_prefix="AGORAI_TRAINER_", extra="ignore", frozen=True)

    address: Account = Field(description="the node's account")
    path: Path = Field(Path("trainer"), description="folder of the job list; never holds content")
    store_url: str = Field("http://127.0.0.1:8080", description="this node's content store")
    vault_url: str = Field("http://127.0.0.1:8080", description="this node's vault")
    max_content_mib: int = Field(2048, ge=1, description="largest data set or model taken into memory, MiB")
    lend_host: str | None = Field(
        None, description="address at which the node's other trainers reach this one, while it stands by"
    )
    ray: str | None = Field(
        None, description="address of a Ray cluster for local training: ray://host:10001, auto"
    )


class SandboxSettings(BaseSettings):
    """What jobs may use; a task may ask for less."""

    model_config = SettingsConfigDict(
        env_prefix="AGORAI_TRAINER_", env_nested_delimiter="__", extra="ignore", frozen=True
    )

    limits: Limits = Limits()
    max_jobs: int = Field(2, ge=1, description="jobs that work at the same time")
    blas_threads: int = Field(
        1, ge=1, description="of one job; with more, a model's last bits depend on the machine"
    )
