"""What the hub must be told beside the node's own settings: which chains, and how they are followed.

Chains are told in a TOML file:

    [[chains]]
    endpoints = ["https://one.example/key", { url = "https://two.example", requests_per_second = 25 }]
    confirmations = 12

    [[chains.contracts]]
    name = "Factory"
    address = "0x1F98431c8aD98523631AE4a59f267346ea31F984"
    abi = "factory.json"
    start_block = 12369621

    [[chains.contracts]]
    name = "Pool"
    abi = "pool.json"
    factory = { contract = "Factory", event = "PoolCreated", argument = "pool" }
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from agorai_shared.abi.errors import BadAbiError, NotInAbiError
from agorai_shared.account import Account
from agorai_shared.contract import ContractAbi
from agorai_shared.deployment import Deployment
from agorai_shared.endpoint import Endpoint, hide_secrets
from agorai_shared.errors import InputError
from agorai_shared.settings import NodeSettings


class AbiUnreadableError(InputError):
    """A followed contract's ABI cannot be had."""

    def __init__(self, contract: str, source: str, why: str) -> None:
        super().__init__(
            f"The ABI of the followed contract {contract} cannot be read from {source}: {why}.",
            remedy="Name a packaged contract, a JSON file of an ABI, or give the ABI itself as a list.",
        )


class ChainsFileError(InputError):
    """The file that names the chains is absent or malformed."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"The chains to follow cannot be read from {path}: {why}.",
            remedy="See `docs/listen.md` for its form.",
        )


class RpcUrlError(InputError):
    """An RPC URL is of no use here."""

    def __init__(self, url: str) -> None:
        super().__init__(
            f"The RPC URL {hide_secrets(url)} is neither http nor https.",
            remedy="Name the node's HTTP endpoint; AGORAI_HUB_WS_URL names its WebSocket.",
        )


class Factory(BaseModel):
    """The event by which another followed contract announces the addresses of a family."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    contract: str = Field(description="name of the followed contract that announces them")
    event: str = Field(description="name of its event")
    argument: str = Field(description="name of the event's argument that is the address")


class FollowedContract(BaseModel):
    """One contract whose logs are published, or a family of them that a factory announces."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="its token in subjects")
    address: Account | None = None
    factory: Factory | None = None
    abi: str | list[dict[str, object]] | None = Field(
        None, description="a packaged contract's name (none: `name`), a `.json` file, or the ABI itself"
    )
    start_block: int = Field(0, ge=0, description="height before which it has no logs")

    @model_validator(mode="after")
    def _one_way(self) -> FollowedContract:
        if (self.address is None) == (self.factory is None):
            raise ValueError(f"the contract {self.name} needs either an address or a factory")
        return self

    def load_abi(self) -> ContractAbi:
        """Give the ABI's events; anonymous ones are left out, as their logs cannot be told apart.

        Raises
        ------
        AbiUnreadableError
            The file is absent or holds something else.
        """
        if isinstance(self.abi, list):
            return self._named(self.abi, "its list")
        source = self.abi or self.name
        if not source.endswith(".json"):
            try:
                return ContractAbi.load(source)
            except NotInAbiError as error:
                why = f"there is no packaged contract {source}; name a .json file with `abi`"
                raise AbiUnreadableError(self.name, "the packaged contracts", why) from error
        try:
            document = json.loads(Path(source).read_bytes())
        except OSError as error:
            raise AbiUnreadableError(self.name, source, error.strerror or str(error)) from error
        except ValueError as error:
            raise AbiUnreadableError(self.name, source, str(error)) from error
        entries = document.get("abi") if isinstance(document, dict) else document
        if not isinstance(entries, list):
            raise AbiUnreadableError(self.name, source, "it holds no list of entries")
        return self._named(entries, source)

    def _named(self, entries: list[dict[str, object]], source: str) -> ContractAbi:
        if not all(isinstance(entry, dict) for entry in entries):
            raise AbiUnreadableError(self.name, source, "an entry is no object")
        events = [one for one in entries if one.get("type") == "event" and one.get("anonymous") is not True]
        try:
            return ContractAbi.from_entries(self.name, events)
        except BadAbiError as error:
            raise AbiUnreadableError(self.name, source, error.message.rstrip(".")) from error


class FollowedEndpoint(BaseModel):
    """Where a node of the chain answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(pattern=r"^https?://", description="JSON-RPC over HTTP")
    ws_url: str = Field("", pattern=r"^(wss?://.*)?$", description="WebSocket; none: the same host and port")
    requests_per_second: float | None = Field(None, gt=0, description="what its provider allows")


def _endpoint(value: object) -> object:
    return {"url": value} if isinstance(value, str) else value


class FollowedChain(BaseModel):
    """One chain: its nodes, its finality and the contracts whose logs are published."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoints: tuple[Annotated[FollowedEndpoint, BeforeValidator(_endpoint)], ...] = Field(min_length=1)
    chain_id: int | None = Field(None, ge=1, description="EIP-155 id that the nodes must have; none: any")
    confirmations: int | None = Field(
        None, ge=0, description="blocks on top that make a block final; none: the node's `finalized` tag"
    )
    contracts: tuple[FollowedContract, ...] = ()
    max_block_age_s: float | None = Field(
        None, gt=0, description="age of the newest block from which readiness is red; none: any age is fine"
    )

    def nodes(self) -> list[Endpoint]:
        """Give the endpoints afresh."""
        return [Endpoint(one.url, one.ws_url, one.requests_per_second) for one in self.endpoints]


def load_chains(path: Path) -> tuple[FollowedChain, ...]:
    """Read a file of chains; the ABI files that it names are looked for beside it.

    Raises
    ------
    ChainsFileError
        It is absent or not of its form.
    """
    try:
        document = tomllib.loads(path.read_text())
        chains = _Chains.model_validate(document).chains
    except OSError as error:
        raise ChainsFileError(path, error.strerror or str(error)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ChainsFileError(path, str(error)) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ChainsFileError(path, f"{where}: {_in_words(first['type'], first['msg'])}") from error
    return tuple(
        chain.model_copy(update={"contracts": tuple(_beside(path, one) for one in chain.contracts)})
        for chain in chains
    )


def _in_words(kind: str, message: str) -> str:
    """Say what a TOML file's author can do with pydantic's word on it."""
    return {
        "extra_forbidden": "there is no such setting",
        "missing": "it is missing",
        "tuple_type": "write a list: in [ ] for values, under [[ ]] for tables",
    }.get(kind, message.removeprefix("Value error, "))


class _Chains(BaseModel):
    model_config = ConfigDict(extra="forbid")

    chains: tuple[FollowedChain, ...] = Field(min_length=1)


def _beside(path: Path, contract: FollowedContract) -> FollowedContract:
    if isinstance(contract.abi, str) and contract.abi.endswith(".json"):
        return contract.model_copy(update={"abi": str(path.parent / contract.abi)})
    return contract


class HubSettings(BaseSettings):
    """How chains are followed, and what outside users may ask."""

    model_config = SettingsConfigDict(env_prefix="AGORAI_HUB_", extra="ignore", frozen=True)

    contracts: tuple[FollowedContract, ...] = Field(
        (), description="more contracts beside the deployment's own"
    )
    chains: Path | None = Field(None, description="a file of more chains to follow")
    ws_url: str | None = Field(
        None, description="WebSocket endpoint, when it is not the RPC URL's host and port"
    )
    rpc_timeout_s: float = Field(15.0, gt=0, description="seconds one request to a chain node may take")
    poll_s: float = Field(0.25, gt=0, description="seconds between looks at the head without a WebSocket")
    catch_up_blocks: int = Field(32, ge=1, description="final blocks behind from which ranges are fetched")
    takeover_s: float = Field(
        5.0, gt=0, description="seconds of another hub's silence, with work to do, to take over"
    )
    unready_after_s: float = Field(
        10.0, ge=0, description="seconds of trouble after which readiness turns red"
    )
    replicas: int = Field(1, ge=1, le=5, description="copies of each stream in a NATS cluster")
    audit_delay_s: float = Field(
        60.0, gt=0, description="seconds after which final blocks are read once more and compared"
    )
    nodes: tuple[Account, ...] = Field(
        (), description="nodes of the first chain whose consumers the hub makes, as their bus users may not"
    )
    allow_private_webhooks: bool = Field(
        False, description="whether a webhook may go to this machine or a private network"
    )
    disable_webhooks_after_s: float = Field(
        432_000.0, gt=0, description="seconds of nothing but failures after which a webhook is disabled"
    )


def chain_of_node(
    node: NodeSettings, settings: HubSettings, contracts: tuple[FollowedContract, ...] | None = None
) -> FollowedChain:
    """Give the node's own chain with the marketplace's contracts, or those given, and `settings.contracts`."""
    deployment = Deployment.load(node.deployment) if contracts is None else None
    followed = contracts if contracts is not None else () if deployment is None else of_deployment(deployment)
    first, *others = [url.strip() for url in node.rpc_url.split(",")]
    urls: list[Any] = [{"url": first, "ws_url": settings.ws_url or ""}, *others]
    for url in (first, *others):
        if not url.startswith(("http://", "https://")):
            raise RpcUrlError(url)
    return FollowedChain(
        endpoints=tuple(FollowedEndpoint.model_validate(_endpoint(url)) for url in urls),
        chain_id=None if deployment is None else deployment.chain_id,
        confirmations=node.confirmations,
        contracts=(*followed, *settings.contracts),
    )


def of_deployment(deployment: Deployment) -> tuple[FollowedContract, ...]:
    """Follow every contract of a marketplace."""
    return tuple(
        FollowedContract(name=name, address=address, start_block=deployment.start_block)
        for name, address in deployment.contracts.items()
    )
