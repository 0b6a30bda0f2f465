"""Files of a home."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agorai.home import Home, HomeInUseError, HubFile, NodeNotRunningError, write_private


def test_a_file_for_its_owner_alone_takes_the_place_of_one_for_all(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("for all")
    file.chmod(0o644)
    before = os.umask(0)
    try:
        write_private(file, b"for one")
    finally:
        os.umask(before)
    assert file.read_text() == "for one"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_a_home_says_who_holds_it_as_long_as_that_process_runs(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with home.held():
        assert home.holder() == os.getpid()
        with pytest.raises(HomeInUseError, match=str(os.getpid())), home.held():
            pass
        with pytest.raises(NodeNotRunningError, match=str(home.node_file)):
            home.running_node()
        HubFile(url="http://127.0.0.1:1", token="t", pid=os.getpid(), bus_url="nats://127.0.0.1:1").save(
            home.hub_file
        )
        with pytest.raises(NodeNotRunningError, match="no account") as told:
            home.running_node()
        assert f"agorai up --join {home.path}" in told.value.remedy
        assert "kill" not in told.value.remedy
        home.hub_file.unlink()
    assert home.holder() is None
    with pytest.raises(NodeNotRunningError, match="No node runs"):
        home.running_node()
