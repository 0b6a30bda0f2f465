"""Containers of the services, run as compose.yaml says, on an engine that may have no image but those made here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import docker
import pytest
import yaml
from docker.errors import DockerException, ImageNotFound
from docker.types import Healthcheck
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from agorai_shared.processes import find_anvil, find_nats_server

ROOT: Final = Path(__file__).parents[1]
COMPOSE: Final = ROOT / "deploy" / "compose.yaml"
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
    if not (folder / "usr/bin/python3").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    packed = ["tar", "-C", str(folder), "-c", "--exclude=./var/cache", "--exclude=./usr/share/doc", "."]
    with subprocess.Popen(packed, stdout=subprocess.PIPE) as tar:
        path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        subprocess.run(
            [_client(), "import", "-c", path, "-", name], stdin=tar.stdout, check=True, capture_output=True
        )


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


def composition(environment: Mapping[str, str]) -> dict[str, Any]:
    """Read compose.yaml, its variables filled in."""

    def value(found: re.Match[str]) -> str:
        return environment[found[1]]

    return dict(yaml.safe_load(re.sub(r"\$\{([A-Z_]+)\}", value, COMPOSE.read_text())))


def environment_of(folder: Path) -> dict[str, str]:
    """Read the variables that were prepared for compose.yaml."""
    lines = (folder / "env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


@dataclass
class Composed:
    """Services of compose.yaml that run in containers of their own."""

    services: Mapping[str, Any]
    secrets: Mapping[str, Any]
    base: str
    network: Network
    stack: ExitStack
    containers: dict[str, DockerContainer] = field(default_factory=dict)

    def start(self, name: str) -> DockerContainer:
        """Start a service as compose.yaml says, but for where it is published."""
        service = self.services[name]
        secrets = [
            f"{self.secrets[one['source']]['file']}:/run/secrets/{one['target']}:ro"
            for one in service.get("secrets", ())
        ]
        mounts = [*service.get("volumes", ()), *secrets]
        image, entry = f"{service['image']}:test", None
        if name in ("nats", "chain"):
            program = find_nats_server() if name == "nats" else find_anvil()
            mounts.append(f"{program.resolve()}:/program:ro")
            everywhere = ["--host", "0.0.0.0"]  # noqa: S104 - of its own network
            image, entry = self.base, ["/program", *(everywhere if name == "chain" else ())]
        container = (
            DockerContainer(image)
            .with_network(self.network)
            .with_network_aliases(name)
            .with_kwargs(
                user=service["user"], read_only=service["read_only"], cap_drop=service["cap_drop"],
                security_opt=service["security_opt"], mem_limit=service["mem_limit"], pids_limit=512,
                entrypoint=entry,
                healthcheck=Healthcheck(interval=500_000_000) if entry is None else None,
            )
        )  # fmt: skip
        for place in service["tmpfs"]:
            container.with_tmpfs_mount(*place.split(":", 1))
        for mount in mounts:
            source, target, mode = (*mount.split(":"), "rw")[:3]
            container.with_volume_mapping(source, target, mode)
        for key, value in service.get("environment", {}).items():
            if key != "AGORAI_STORAGE_KUBO_URL":  # whose image cannot be made here
                container.with_env(key, value)
        if "command" in service:
            container.with_command(service["command"])
        container.with_exposed_ports(*({"nats": 4222, "chain": 8545}.get(name, 8080),))
        container.start()
        self.stack.callback(container.stop)
        self.containers[name] = container
        return container

    def address(self, name: str, port: int = 8080) -> str:
        """Give host and port at which this machine reaches a service."""
        return f"127.0.0.1:{self.containers[name].get_exposed_port(port)}"


@contextmanager
def composed(folder: Path, base: str) -> Iterator[Composed]:
    """Make a network for the services of compose.yaml, and end what was started in it."""
    document = composition(environment_of(folder))
    with Network() as network, ExitStack() as stack:
        yield Composed(document["services"], document["secrets"], base, network, stack)
