"""What `agorai pool rebuild` says of a version, and with which status."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from agorai.cli import pool_versions
from agorai.cli.pool import app

FOUND: dict[str, Any] = {
    "version": 3, "same": True, "why": "", "notes": [],
    "samples": 65, "accuracy": 0.9, "measured": 0.9, "seconds": 1.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "status", "told"),
    [
        ({}, 0, "came out bit for bit the same"),
        ({"notes": ["By another \x1brule."]}, 0, "By another  rule."),
        ({"why": "Its accuracy is not 90.00%.", "notes": ["A note."]}, 1, "A note."),
        ({"why": "Its accuracy is not 90.00%."}, 1, "has the model that was published, and differs: Its accuracy"),
        ({"same": False, "why": "Trained again, another."}, 1, "differs: Trained again"),
    ],
)  # fmt: skip
def test_what_is_false_of_a_version_is_told_and_ends_with_status_one(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], status: int, told: str
) -> None:
    monkeypatch.setattr(pool_versions, "with_client", lambda *_: FOUND | changes)
    result = CliRunner().invoke(app, ["rebuild", "3"])
    assert result.exit_code == status
    assert told in " ".join(result.output.split("\n"))
