"""What a command loads before it does its work: what it does not need is not waited for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = """
import json, sys
from agorai.cli import main
try:
    main()
finally:
    with open({loaded!r}, "w") as file:
        json.dump(sorted(sys.modules), file)
"""
TRAINING = {"numpy", "pandas", "pyarrow", "scipy", "sklearn", "skops"}
SERVING = {"eth_account", "fastapi", "faststream", "prometheus_client", "starlette", "uvicorn", "web3"}
CHAIN_AND_BUS = {"agorai.client", "cryptography", "eth_abi", "eth_utils", "joserfc", "nats"}
TALKING = {"aiohttp", "pydantic", "structlog", "uvloop"}


@pytest.mark.parametrize(
    ("arguments", "needed", "not_needed"),
    [
        (["--nonsense"], {"typer"}, TRAINING | SERVING | CHAIN_AND_BUS | TALKING | {"agorai.cli.node"}),
        (["trade", "asks"], {"agorai.client"}, TRAINING | SERVING | {"joserfc", "agorai.cli.node"}),
        (["transfer", "list"], {"agorai.transfers"}, TRAINING | SERVING | {"joserfc", "agorai.cli.node"}),
        (["events"], {"agorai.hub_client"}, TRAINING | SERVING | CHAIN_AND_BUS),
        (["store", "put", __file__], {"agorai.store_client"}, TRAINING | SERVING | CHAIN_AND_BUS),
        # A node adds updates up itself.
        (["up"], {"agorai.node"}, TRAINING - {"numpy"} | {"ipfshttpclient", "requests", "web3"}),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_a_command_loads_nothing_that_it_does_not_need(
    arguments: list[str], needed: set[str], not_needed: set[str], tmp_path: Path
) -> None:
    names = ("AGORAI_VAULT_PASSPHRASE", "AGORAI_VAULT_PASSPHRASE_FILE")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    loaded = tmp_path / "loaded.json"
    ended = subprocess.run(
        [sys.executable, "-c", RUN.format(loaded=str(loaded)), *arguments],
        env=environment | {"AGORAI_HOME": str(tmp_path / "home")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode in (1, 2), ended.stderr  # there is no node, no passphrase and no such option
    modules = set(json.loads(loaded.read_text()))
    assert needed <= modules
    assert modules & not_needed == set()
