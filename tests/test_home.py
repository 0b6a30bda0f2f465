"""Files of a home."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agorai.home import Home, HomeInUseError, NodeNotRunningError, write_private


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
    assert home.holder() is None
    with pytest.raises(NodeNotRunningError, match="No node runs"):
        home.running_node()
