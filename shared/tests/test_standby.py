"""What a process says of a folder that it cannot have to itself."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

import pytest
from pydantic import SecretStr

from agorai_shared.settings import NodeSettings
from agorai_shared.standby import FolderError, active

NODE = NodeSettings(node_token=SecretStr("t"))


async def test_a_disk_without_file_locks_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(FolderError, match="No locks available") as told:
        async with active(tmp_path, NODE):
            pytest.fail("the folder was taken")
    assert "a disk with file locks" in told.value.remedy
