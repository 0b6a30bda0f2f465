"""What deploy/ says, held to the code and to its own parts."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from pydantic_settings import BaseSettings
from yarl import URL

from agorai.service_permissions import ASKED
from agorai_dashboard.settings import DashboardSettings
from agorai_hub.settings import HubSettings
from agorai_reward.settings import RewardSettings
from agorai_shared.settings import NodeSettings
from agorai_storage.settings import StorageSettings
from agorai_trainer.settings import TrainerSettings
from agorai_vault.settings import VaultSettings
from agorai_verifier.settings import VerifierSettings

DEPLOY = Path(__file__).parents[1] / "deploy"
ROOT = DEPLOY.parent
SERVICES = ("hub", *ASKED)
SETTINGS: dict[str, type[BaseSettings]] = {
    "hub": HubSettings,
    "storage": StorageSettings,
    "vault": VaultSettings,
    "trainer": TrainerSettings,
    "verifier": VerifierSettings,
    "reward": RewardSettings,
    "dashboard": DashboardSettings,
}


def variables(service: str) -> set[str]:
    """Give the variables that a service reads."""
    names = {"AGORAI_SECRETS"}
    both: tuple[type[BaseSettings], ...] = (NodeSettings, SETTINGS[service])
    for settings in both:
        prefix = settings.model_config["env_prefix"]
        names |= {f"{prefix}{field}".upper() for field in settings.model_fields}
    return names


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "compose.yaml").read_text()))


def test_every_container_of_the_composition_is_confined(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["user"] == "${AGORAI_USER}"
        assert service["mem_limit"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_the_composition_names_what_is_there(compose: dict[str, Any]) -> None:
    used = set()
    targets = re.findall(r"^FROM \S+ AS (\S+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    for name, service in compose["services"].items():
        if "build" in service:
            assert service["build"]["target"] in targets, name
        used |= {one if isinstance(one, str) else one["source"] for one in service.get("secrets", ())}
        assert set(service.get("networks", ())) <= set(compose["networks"])
        assert set(service.get("depends_on", ())) <= set(compose["services"])
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert not source.startswith("./") or (DEPLOY / source).exists(), source
    assert used == set(compose["secrets"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_told_only_what_it_reads(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    told = set(service["environment"]) | {one["target"].upper() for one in service["secrets"]}
    assert told <= variables(name)


@pytest.mark.parametrize("settings", [TrainerSettings, VerifierSettings, RewardSettings])
def test_a_nodes_account_is_kept_in_its_one_spelling(settings: type[BaseSettings]) -> None:
    account = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
    assert settings.model_validate({"address": account.lower()}).model_dump()["address"] == account
    for wrong in ("vault", account[:-1]):
        with pytest.raises(ValidationError, match="is no address"):
            settings.model_validate({"address": wrong})


def test_storage_keeps_its_blocks_in_the_kubo_that_nobody_else_reaches(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert URL(services["storage"]["environment"]["AGORAI_STORAGE_KUBO_URL"]).host == "kubo"
    (network,) = services["kubo"]["networks"]
    assert compose["networks"][network]["internal"]
    reaching = {name for name, service in services.items() if network in service["networks"]}
    assert reaching == {"kubo", "storage"}


def test_no_secret_is_in_the_environment(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for variable in service.get("environment", {}):
            assert not re.search(r"(PASSWORD|TOKEN|PASSPHRASE|KEY)$", variable), (name, variable)


def test_images_name_no_registry(compose: dict[str, Any]) -> None:
    bases = re.findall(r"^ARG (?:BASE|NODE)=(\S+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    images = [service["image"] for service in compose["services"].values()]
    assert len(bases) == 2
    assert not [one for one in (*bases, *images) if "." in one.partition("/")[0].partition(":")[0]]


def test_the_docker_client_takes_the_composition(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("there is no Docker client")
    if subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("the Docker client has no compose")
    environment = tmp_path / "env"
    names = set(re.findall(r"\$\{([A-Z_]+)\}", (DEPLOY / "compose.yaml").read_text()))
    environment.write_text("".join(f"{name}=/tmp/x\n" for name in names))
    command = [docker, "compose", "--env-file", str(environment), "-f", str(DEPLOY / "compose.yaml")]
    found = subprocess.run([*command, "config", "-q"], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_gets_its_services_locked_packages_and_no_others(name: str) -> None:
    members = ["shared", f"services/{name}"]
    found = subprocess.run(
        [sys.executable, "deploy/requirements.py", "requirements-dev.lock", *members, "--extra", "telemetry"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    packages = set(re.findall(r"^([a-z0-9-]+)==", found.stdout, re.MULTILINE))
    assert {"web3", "faststream", "opentelemetry-sdk", "pydantic-core"} <= packages
    assert not {"pytest", "ruff", "mypy", "playwright", "typer"} & packages
    assert ("scikit-learn" in packages) == (name == "trainer")
    entries = re.split(r"\n(?=[a-z0-9])", found.stdout.strip())
    assert all("--hash=sha256:" in entry for entry in entries)


def test_what_is_sent_to_the_engine_is_named_one_by_one() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    for line in lines:
        assert not line.startswith("!") or (ROOT / line[1:]).exists(), line
