"""What deploy/prepare.py makes of a folder."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from agorai_shared.deployment import NEEDED
from tests.composition import ROOT, environment_of, prepare

DEPLOYMENT = {"chain_id": 5, "start_block": 1}


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Give the program, whose account is made in a moment."""
    found = prepare()
    create = found.key_files.create
    monkeypatch.setattr(found.key_files, "create", lambda *given: create(*given, scrypt_n=1 << 12))
    return found


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files to the containers' user")
def test_what_a_container_left_is_neither_followed_nor_given_away(module: ModuleType, tmp_path: Path) -> None:
    folder, outside = tmp_path / "local", tmp_path / "outside"
    outside.touch()
    module.files(folder)
    made = [path for path in folder.rglob("*") if path.stat().st_uid == module.CONTAINERS]
    assert {folder / "env", folder / "secrets" / "passphrase", *(folder / "data" / "vault").rglob("*")} <= {
        *made
    }
    left = folder / "data" / "storage" / "left"
    left.symlink_to(outside)
    (folder / "data" / "vault" / "linked").symlink_to(outside)
    module.files(folder)
    assert outside.stat().st_uid == left.lstat().st_uid == 0


def test_a_repetition_changes_nothing(module: ModuleType, tmp_path: Path) -> None:
    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    module.files(tmp_path)
    before = content()
    module.files(tmp_path)
    assert content() == before


def test_a_development_chain_is_told_unless_another_is_named(module: ModuleType, tmp_path: Path) -> None:
    module.files(tmp_path)
    assert module.DEVELOPMENT.items() <= environment_of(tmp_path).items()


def test_a_chain_of_ones_own_is_kept_and_its_bus_serves_it(module: ModuleType, tmp_path: Path) -> None:
    contracts = dict.fromkeys(NEEDED, "0x" + "1" * 40)
    (tmp_path / "deployment.json").write_text(json.dumps({**DEPLOYMENT, "contracts": contracts}))
    module.files(tmp_path, "https://chain.example")
    told = environment_of(tmp_path)
    assert told["AGORAI_RPC_URL"] == "https://chain.example"
    assert not {"COMPOSE_PROFILES", "AGORAI_CONFIRMATIONS"} & told.keys()
    streams = re.findall(r"CHAIN_(\d+)_", (tmp_path / "bus" / "nats.conf").read_text())
    assert set(streams) == {"5"}
    module.files(tmp_path, confirmations=12)
    assert environment_of(tmp_path) == {**told, "AGORAI_CONFIRMATIONS": "12"}


def test_a_chain_without_a_marketplace_is_refused(module: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(module.DeploymentMissingError, match=re.escape(str(tmp_path / "deployment.json"))):
        module.files(tmp_path, "https://chain.example")
    assert not any(tmp_path.iterdir())


def test_what_was_written_is_told_with_the_commands_that_come_next(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a folder"
    monkeypatch.setattr(sys, "argv", ["prepare.py", "files", str(folder)])
    module.main()
    said = capsys.readouterr().out
    for name in ("data/vault", "secrets", "tls", "bus", "data", "env"):
        assert f"\n  {name} " in said
        assert (folder / name).exists()
    assert environment_of(folder)["AGORAI_ADDRESS"] in said
    assert "data/nats the bus's streams" in said
    compose = f"docker compose --env-file '{folder}/env' -f deploy/compose.yaml"
    assert said.partition("Next, with compose:\n")[2].splitlines() == [
        f"  {compose} build",
        f"  {compose} up -d --wait chain",
        f"  python deploy/prepare.py chain '{folder}'",
    ]


def test_each_step_names_the_page_s_next_one(module: ModuleType, tmp_path: Path) -> None:
    """Of `docs/deployment.md`, in its order."""
    page = (ROOT / "docs" / "deployment.md").read_text()
    commands = [line for line in page.split("```")[1].splitlines() if "deploy" in line]
    module.files(tmp_path)
    told = [*module.following("files", tmp_path), *module.following("chain", tmp_path)]
    assert [line.replace(str(tmp_path), "deploy/local") for line in told] == commands[1:]
    (tmp_path / "env").write_text("AGORAI_RPC_URL=https://chain.example\n")
    _, up, join = module.following("files", tmp_path)
    assert up.endswith("up -d --wait")
    assert f"join {tmp_path} --gateway URL" in join
