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
from agorai_trainer.settings import SandboxSettings, TrainerSettings
from agorai_trainer.tasks import Limits
from agorai_vault.settings import VaultSettings
from agorai_verifier.settings import VerifierSettings
from tests.composition import VARIABLE, prepare

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
    several: tuple[type[BaseSettings], ...] = (NodeSettings, SETTINGS[service])
    for settings in several:
        prefix = settings.model_config["env_prefix"]
        names |= {f"{prefix}{field}".upper() for field in settings.model_fields}
    if service == "trainer":
        names |= {f"AGORAI_TRAINER_LIMITS__{field}".upper() for field in Limits.model_fields}
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
        assert service["pids_limit"]
        assert (
            service["stop_grace_period"] == "30s"
        )  # its services finish what they have begun, anvil writes its state
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_the_composition_names_what_is_there(compose: dict[str, Any]) -> None:
    used = set()
    targets = re.findall(r"^FROM \S+ AS (\S+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    for name, service in compose["services"].items():
        built = service.get("build", {})
        if built:
            assert built["target"] in targets, name
        asked = (*service.get("secrets", ()), *service.get("configs", ()), *built.get("secrets", ()))
        used |= {one if isinstance(one, str) else one["source"] for one in asked}
        assert set(service.get("networks", ())) <= set(compose["networks"])
        assert set(service.get("depends_on", ())) <= set(compose["services"])
        for volume in service.get("volumes", ()):
            if isinstance(volume, str):
                assert (DEPLOY / volume.partition(":")[0]).exists(), volume
            else:  # what is not there is no new folder of root's
                assert volume["bind"] == {"create_host_path": False}, name
                assert volume["source"].rpartition("/")[2] in prepare().DATA
    assert used == {*compose["secrets"], *compose["configs"]}


def test_who_asks_others_is_in_a_network_that_leads_out(compose: dict[str, Any]) -> None:
    for name in SERVICES:
        service = compose["services"][name]
        assert any(key.endswith("_URL") for key in service["environment"])
        assert not all(compose["networks"][one].get("internal") for one in service["networks"]), name


def test_what_is_waited_for_says_when_it_is_healthy(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        for other, asked in service.get("depends_on", {}).items():
            assert asked["condition"] == "service_healthy", (name, other)
            assert "healthcheck" in services[other]
            assert asked.get("required", True) == ("profiles" not in services[other])


def test_the_chain_keeps_its_state_where_the_rest_keeps_theirs(compose: dict[str, Any]) -> None:
    chain = compose["services"]["chain"]
    state = Path(chain["command"][chain["command"].index("--state") + 1])
    (volume,) = chain["volumes"]
    assert state.parent == Path(volume["target"])


def test_two_jobs_fit_into_the_trainers_memory(compose: dict[str, Any]) -> None:
    trainer = compose["services"]["trainer"]
    job = int(trainer["environment"]["AGORAI_TRAINER_LIMITS__MEMORY_MIB"])
    assert trainer["mem_limit"] == "4g"
    assert SandboxSettings().max_jobs * job < 4096


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
    bases = re.findall(r"^ARG BASE=(\S+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    images = [service["image"] for service in compose["services"].values()]
    told = VARIABLE.findall(compose["services"]["hub"]["build"]["args"]["BASE"])
    assert [default for _, default in told] == bases
    assert bases
    assert not [one for one in (*bases, *images) if "." in one.partition("/")[0].partition(":")[0]]


def test_the_docker_client_takes_the_composition(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("there is no Docker client")
    if subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("the Docker client has no compose")
    environment = tmp_path / "env"
    names = {name for name, default in VARIABLE.findall((DEPLOY / "compose.yaml").read_text()) if not default}
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


def test_a_package_that_the_lock_lacks_is_named(tmp_path: Path) -> None:
    lock = tmp_path / "half.lock"
    whole = (ROOT / "requirements-dev.lock").read_text()
    lock.write_text(re.sub(r"^web3==.*?\n(?=\S)", "", whole, flags=re.MULTILINE | re.DOTALL))
    command = [sys.executable, "deploy/requirements.py", str(lock), "shared"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode != 0
    assert "web3" in found.stderr


def test_what_is_sent_to_the_engine_is_named_one_by_one() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    for line in lines:
        assert not line.startswith("!") or (ROOT / line[1:]).exists(), line
