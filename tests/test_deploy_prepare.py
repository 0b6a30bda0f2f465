"""What deploy/prepare.py makes of a folder."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import ModuleType

import pytest

from agorai_shared.deployment import NEEDED
from tests.composition import environment_of, prepare

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
