"""Containers of the services as compose.yaml describes them, on an engine that may have no image but those made here.

Compose itself is not asked: images, commands, users, limits, mounts, secrets, environment and networks are read of
its file. In which order services start, and where they are published, is said by who starts them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import docker
import pytest
from docker.errors import DockerException, ImageNotFound
from docker.types import Healthcheck
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from agorai_shared.processes import find_nats_server
from tests.composition import ROOT, composition, environment_of

BASE: Final = "agorai-base:test"
AUTHORITIES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
_PACKAGES: Final = "python3,python3-venv,ca-certificates"
_BUILDER: Final = "/usr/bin/docker"
"""Debian's own client builds with BuildKit by itself; another may want a plug-in."""


def require_engine() -> docker.DockerClient:
    """Give the engine, or skip with the reason why there is none."""
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    try:
        client = docker.from_env()
        client.ping()
    except DockerException as error:
        pytest.skip(f"there is no Docker engine: {error}")
    return client


def require_base(engine: docker.DockerClient) -> str:
    """Give a base image with Python: one that is there, or made from Debian's packages."""
    named = os.environ.get("AGORAI_TEST_BASE", BASE)
    try:
        engine.images.get(named)
    except ImageNotFound:
        if shutil.which("debootstrap") is None or os.getuid() != 0:
            pytest.skip(f"there is no image {named}, and debootstrap, run by root, is needed to make one")
        _debootstrap(named)
    return named


def _debootstrap(name: str) -> None:
    folder = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "agorai" / "containers-base"
    if not folder.exists():
        part = folder.with_suffix(".part")  # what was broken off is no base
        shutil.rmtree(part, ignore_errors=True)
        part.parent.mkdir(parents=True, exist_ok=True)
        command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", str(part)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        part.rename(folder)
    packed = [
        "tar",
        "-C",
        str(folder),
        "-c",
        "--exclude=./var/cache/apt/archives/*.deb",
        "--exclude=./usr/share/doc",
        ".",
    ]
    with subprocess.Popen(packed, stdout=subprocess.PIPE) as tar:
        path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        importing = [_client(), "import", "-c", path, "-", name]
        imported = subprocess.run(importing, stdin=tar.stdout, check=False, capture_output=True, text=True)
    assert (tar.returncode, imported.returncode) == (0, 0), imported.stderr


def _client() -> str:
    return _BUILDER if Path(_BUILDER).exists() else shutil.which("docker") or "docker"


def build(target: str, base: str) -> str:
    """Build one target of the Dockerfile, and give its tag."""
    tag = f"agorai-{target}:test"
    command = [_client(), "build", "-q", "--network", "host", "-f", str(ROOT / "deploy/Dockerfile")]
    command += ["--build-arg", f"BASE={base}", "--target", target, "-t", tag]
    if AUTHORITIES.exists():
        command += ["--secret", f"id=ca,src={AUTHORITIES}"]
    built = subprocess.run(
        [*command, str(ROOT)],
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr[-3000:]
    return tag


@dataclass
class Composed:
    """Services of compose.yaml that run in containers of their own."""

    document: Mapping[str, Any]
    told: Mapping[str, str]
    base: str
    networks: Mapping[str, Network]
    stack: ExitStack
    containers: dict[str, DockerContainer] = field(default_factory=dict)

    @property
    def services(self) -> Mapping[str, Any]:
        """What the file says of each."""
        return dict(self.document["services"])

    def mounts(self, service: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        """Give source, target and mode of what a service is given."""
        for one in service.get("volumes", ()):
            yield one["source"], one["target"], "rw"
        for one in service.get("configs", ()):
            yield self.document["configs"][one["source"]]["file"], one["target"], "ro"
        for one in service.get("secrets", ()):
            target = str(Path("/run/secrets") / one["target"])
            yield self.document["secrets"][one["source"]]["file"], target, "ro"

    def start(self, name: str) -> DockerContainer:
        """Start a service as compose.yaml says, but for where it is published."""
        service = self.services[name]
        mounts = [*self.mounts(service)]
        image, entry = f"{service['image']}:test", None
        if name == "nats":  # whose image cannot be made here
            mounts.append((str(find_nats_server().resolve()), "/program", "ro"))
            image, entry = self.base, ["/program"]
        first, *others = sorted(service["networks"], key=self._is_internal)  # which publishes nothing
        container = (
            DockerContainer(image)
            .with_network(self.networks[first])
            .with_network_aliases(name)
            .with_kwargs(
                user=service["user"], read_only=service["read_only"], cap_drop=service["cap_drop"],
                security_opt=service["security_opt"], mem_limit=service["mem_limit"],
                pids_limit=service["pids_limit"], entrypoint=entry,
                healthcheck=Healthcheck(interval=500_000_000) if entry is None else None,
            )
        )  # fmt: skip
        for place in service["tmpfs"]:
            container.with_tmpfs_mount(*place.split(":", 1))
        for source, target, mode in mounts:
            container.with_volume_mapping(source, target, mode)
        for key, value in service.get("environment", {}).items():
            given = self.told.get(key) if value is None else value
            if given is not None and key != "AGORAI_STORAGE_KUBO_URL":  # whose image cannot be made here
                container.with_env(key, given)
        if "command" in service:
            container.with_command(service["command"])
        container.with_exposed_ports(*({"nats": 4222, "chain": 8545}.get(name, 8080),))
        container.start()
        self.stack.callback(container.stop)
        for network in others:
            self.networks[network].connect(container.get_wrapped_container().id, [name])
        self.containers[name] = container
        return container

    def _is_internal(self, network: str) -> bool:
        return bool(self.document["networks"][network].get("internal"))

    def address(self, name: str, port: int = 8080) -> str:
        """Give host and port at which this machine reaches a service."""
        return f"127.0.0.1:{self.containers[name].get_exposed_port(port)}"


@contextmanager
def composed(folder: Path, base: str) -> Iterator[Composed]:
    """Make the networks of compose.yaml, and end what was started in them."""
    told = environment_of(folder)
    document = composition(told)
    with ExitStack() as stack:
        networks = {
            name: stack.enter_context(Network(docker_network_kw={"internal": bool(one.get("internal"))}))
            for name, one in document["networks"].items()
        }
        yield Composed(document, told, base, networks, stack)
