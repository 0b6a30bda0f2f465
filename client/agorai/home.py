"""A node's home folder: what lies where, and the files by which the command finds its running node."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from agorai.parts import HUB, NEEDS, parts_of
from agorai_shared.errors import InputError, NotFoundError, RefusedError
from agorai_shared.types import Address

DEFAULT_HOME = Path("~/.agorai")
FileT = TypeVar("FileT", bound="HomeFile")


class NodeNotRunningError(NotFoundError):
    """No node runs from a home folder, or one whose file is gone, in a process that holds the folder."""

    def __init__(self, home: Path, holder: int | None = None, *, hub_alone: bool = False) -> None:
        if hub_alone:
            super().__init__(
                f"A hub alone runs from {home}: it has no account and no services.",
                remedy="Name a node's folder with --home or AGORAI_HOME, or start a node in another folder: "
                f"`agorai up --join {home}`, where this hub has a chain and a bus of its own.",
            )
        elif holder is None:
            super().__init__(
                f"No node runs from {home}.",
                remedy="Start one with `agorai up`, or name its folder with --home or AGORAI_HOME.",
            )
        else:
            super().__init__(
                f"Process {holder} runs from {home}, and there is no {home / 'node.json'}, by which a node is found.",
                remedy="A node that starts writes it in a moment. If it was taken away, "
                f"end that process (kill {holder}) and start it again: `agorai up`.",
            )


class HubNotRunningError(NotFoundError):
    """No hub is known to a home folder."""

    def __init__(self, home: Path) -> None:
        super().__init__(
            f"No hub runs from {home}, and none is named.",
            remedy="Start one with `agorai hub FILE` or `agorai up`, or name its URL with --hub or "
            "AGORAI_EVENTS_URL, or its folder with --home or AGORAI_HOME.",
        )


class HomeInUseError(RefusedError):
    """A node runs from a home folder already."""

    def __init__(self, home: Path, holder: int | None) -> None:
        process = f", as process {holder}" if holder else ""
        super().__init__(
            f"A node runs from {home} already{process}.",
            remedy="Stop it, or name another folder with --home.",
        )


class HomeFileError(InputError):
    """A file of the home folder is not of its form."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is damaged: {why}.", remedy="Stop the node, delete the file, start again.")


def write_private(path: Path, content: bytes) -> None:
    """Write a file for its owner alone, mode 0600, whole or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    part.replace(path)


class HomeFile(BaseModel):
    """A JSON file that only the node's owner may read."""

    model_config = ConfigDict(frozen=True)

    def save(self, path: Path) -> None:
        """Write it whole or not at all, mode 0600."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(path, self.model_dump_json(indent=2).encode())

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Read it, if it is there.

        Raises
        ------
        HomeFileError
            If it is not of its form.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            first = error.errors()[0]
            raise HomeFileError(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


class NodeFile(HomeFile):
    """How the owner's programs reach the running node."""

    name: str
    address: Address
    pid: int
    url: str
    vault_url: str
    token: str
    bus_url: str
    bus_user: str | None
    bus_password: str | None
    bus_ca: Path | None = None
    rpc_url: str
    confirmations: int | None
    deployment: Path
    hub_url: str | None = None
    joined: Path | None = None
    """Home of the node that carries bus and chain, if another does."""
    gateway: str | None = None
    """Where others are to reach it, as it has told the registry; None without a vault."""
    dashboard_url: str | None = None
    parts: tuple[str, ...] | None = None
    """What runs of it, if not all."""

    @property
    def runs(self) -> list[str]:
        """Name the parts that run here, the hub among them."""
        return parts_of(self.parts, dashboard=self.dashboard_url is not None, joins=self.joined is not None)

    @property
    def left_out(self) -> list[str]:
        """Name the parts that were left out on purpose; a hub is not, where another's is joined."""
        return [one for one in NEEDS if one not in self.runs and not (one == HUB and self.joined)]

    @property
    def up_again(self) -> str:
        """Give the command that starts it again as it was."""
        join = f" --join {self.joined}" if self.joined else ""
        return f"agorai up{join}" + (f" --only {','.join(self.runs)}" if self.left_out else "")


class PlatformFile(HomeFile):
    """How nodes on this machine reach the bus and the chain that one of them brought."""

    pid: int
    chain_id: int
    bus_pid: int
    bus_url: str
    rpc_url: str
    embedded_chain: bool
    confirmations: int | None
    deployment: Path
    hub_url: str
    alone: bool = False
    """Whether the hub is all that was wanted: no node of this home uses it."""


class HubFile(HomeFile):
    """How the programs of whoever runs a hub reach it and its bus."""

    url: str
    token: str
    pid: int
    bus_url: str
    bus_user: str | None = None
    bus_password: str | None = None
    chains: tuple[int, ...] = ()
    """Ids of the chains whose nodes had answered when it was written."""


class HubToken(HomeFile):
    """The bearer token of this home's hub, the same after every start."""

    token: str


class Ports(HomeFile):
    """Ports of the last run, taken again so that whoever knows them finds the node; 0 for none yet.

    And what else it was told then: its name, and the home whose bus and chain it joined.
    """

    name: str = ""
    joined: Path | None = None
    node: int = 0
    bus: int = 0
    chain: int = 0
    hub: int = 0
    dashboard: int = 0


class Home:
    """Where things lie."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.vault = self.path / "vault"
        self.vault_database = self.vault / "vault.sqlite"
        self.storage = self.path / "storage"
        self.trainer = self.path / "trainer"
        self.verifier = self.path / "verifier"
        self.wholes = self.path / "wholes"
        self.dashboard = self.path / "dashboard"
        self.bus = self.path / "bus"
        self.chain_state = self.path / "chain.json"
        self.deployment = self.path / "deployment.json"
        self.node_file = self.path / "node.json"
        self.platform_file = self.path / "platform.json"
        self.hub_file = self.path / "hub.json"
        self.hub_token_file = self.path / "hub-token.json"
        self.ports_file = self.path / "ports.json"
        self.lock = self.path / "lock"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder if need be, for its owner alone, and keep other nodes out of it.

        Raises
        ------
        HomeInUseError
            If a node runs from here.
        """
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.lock.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise HomeInUseError(self.path, self.holder()) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            try:
                yield
            finally:
                lock.truncate(0)

    def holder(self) -> int | None:
        """Give the process that holds the home, by its own word; None if that process does not run."""
        try:
            pid = int(self.lock.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if _alive(pid) else None

    @property
    def has_lost_database(self) -> bool:
        """Whether a whole node has run here, and its vault's database is gone."""
        return self.verifier.is_dir() and self.vault.is_dir() and not self.vault_database.exists()

    @property
    def has_lost_deployment(self) -> bool:
        """Whether a vault has run here on an embedded chain, and no file says on which marketplace of it."""
        kept = self.vault_database.exists() and self.chain_state.exists()
        return kept and not self.deployment.exists()

    def ports(self) -> Ports:
        """Give the ports of the last run."""
        return Ports.load(self.ports_file) or Ports()

    def hub_token(self) -> str:
        """Give the token of this home's hub, drawn at its first start."""
        known = HubToken.load(self.hub_token_file)
        if known is None:
            known = HubToken(token=secrets.token_urlsafe(32))
            known.save(self.hub_token_file)
        return known.token

    def hub(self) -> tuple[str, str | None]:
        """Give the URL of the hub that runs from here, or that the node here uses, and the token if it is ours.

        Raises
        ------
        HubNotRunningError
            If there is none.
        """
        hub = HubFile.load(self.hub_file)
        if hub is not None and _alive(hub.pid):
            return hub.url, hub.token
        node = NodeFile.load(self.node_file)
        if node is None or node.hub_url is None or not _alive(node.pid):
            raise HubNotRunningError(self.path)
        return node.hub_url, None

    def running_node(self) -> NodeFile:
        """Give how to reach the node that runs from here.

        Raises
        ------
        NodeNotRunningError
            If none does, or its file was taken away.
        """
        node = NodeFile.load(self.node_file)
        if node is None or not _alive(node.pid):
            raise NodeNotRunningError(self.path, self.holder(), hub_alone=self._is_hub_alone())
        return node

    def _is_hub_alone(self) -> bool:
        platform, hub = PlatformFile.load(self.platform_file), HubFile.load(self.hub_file)
        return hub is not None and _alive(hub.pid) and (platform is None or platform.alone)

    def running(self) -> NodeFile:
        """Give how to reach what runs from here: the node, or a hub alone, told as one without account and services.

        Raises
        ------
        NodeNotRunningError
            As `running_node`.
        """
        platform, hub = PlatformFile.load(self.platform_file), HubFile.load(self.hub_file)
        if platform is None or hub is None or not platform.alone or not _alive(platform.pid):
            return self.running_node()
        return NodeFile(
            name="a hub alone",
            address=Address(""),
            pid=platform.pid,
            url=hub.url,
            vault_url=hub.url,
            token=hub.token,
            bus_url=platform.bus_url,
            bus_user=hub.bus_user,
            bus_password=hub.bus_password,
            rpc_url=platform.rpc_url,
            confirmations=platform.confirmations,
            deployment=platform.deployment,
            hub_url=hub.url,
            parts=(),
        )

    def running_platform(self) -> PlatformFile:
        """Give how to reach the bus and the chain that run from here.

        Raises
        ------
        NodeNotRunningError
            If none do.
        """
        platform = PlatformFile.load(self.platform_file)
        if platform is None or not _alive(platform.pid):
            raise NodeNotRunningError(self.path)
        return platform


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
