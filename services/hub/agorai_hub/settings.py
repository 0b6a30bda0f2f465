"""What the hub must be told beside the node's own settings."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from agorai_shared.contract import ContractAbi
from agorai_shared.deployment import Deployment
from agorai_shared.errors import InputError
from agorai_shared.types import Address


class AbiUnreadableError(InputError):
    """A followed contract's ABI cannot be had."""

    def __init__(self, contract: str, source: str, why: str) -> None:
        super().__init__(
            f"The ABI of the followed contract {contract} cannot be read from {source}: {why}.",
            remedy="Name a packaged contract, a JSON file of an ABI, or give the ABI itself as a list.",
        )


class FollowedContract(BaseModel):
    """One contract whose logs are published."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="its token in subjects")
    address: Address
    abi: str | list[dict[str, object]] | None = Field(
        None, description="a packaged contract's name (none: `name`), a `.json` file, or the ABI itself"
    )
    start_block: int = Field(0, ge=0, description="height before which it has no logs")

    def load_abi(self) -> ContractAbi:
        """Give the ABI; anonymous events are left out, as their logs cannot be told apart.

        Raises
        ------
        AbiUnreadableError
            The file is absent or holds something else.
        """
        if isinstance(self.abi, list):
            return _named(self.name, self.abi)
        source = self.abi or self.name
        if not source.endswith(".json"):
            return ContractAbi.load(source)
        try:
            document = json.loads(Path(source).read_bytes())
        except (OSError, ValueError) as error:
            raise AbiUnreadableError(self.name, source, str(error)) from error
        entries = document.get("abi") if isinstance(document, dict) else document
        if not isinstance(entries, list):
            raise AbiUnreadableError(self.name, source, "it holds no list of entries")
        return _named(self.name, entries)


def _named(name: str, entries: list[dict[str, object]]) -> ContractAbi:
    return ContractAbi.from_entries(name, [entry for entry in entries if entry.get("anonymous") is not True])


class HubSettings(BaseSettings):
    """How one chain is followed."""

    model_config = SettingsConfigDict(env_prefix="AGORAI_HUB_", extra="ignore", frozen=True)

    contracts: tuple[FollowedContract, ...] = Field(
        (), description="more contracts beside the deployment's own"
    )
    ws_url: str | None = Field(
        None, description="WebSocket endpoint, when it is not the RPC URL's host and port"
    )
    poll_s: float = Field(0.25, gt=0, description="seconds between looks at the head without a WebSocket")
    catch_up_blocks: int = Field(32, ge=1, description="final blocks behind from which ranges are fetched")
    takeover_s: float = Field(
        5.0, gt=0, description="seconds of another hub's silence, with work to do, to take over"
    )
    unready_after_s: float = Field(
        10.0, ge=0, description="seconds of trouble after which readiness turns red"
    )
    replicas: int = Field(1, ge=1, le=5, description="copies of each stream in a NATS cluster")


def of_deployment(deployment: Deployment) -> tuple[FollowedContract, ...]:
    """Follow every contract of a marketplace."""
    return tuple(
        FollowedContract(name=name, address=address, abi=None, start_block=deployment.start_block)
        for name, address in deployment.contracts.items()
    )
