"""What deploy/compose.yaml says, and the program that prepares a folder for it."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[1]
COMPOSE: Final = ROOT / "deploy" / "compose.yaml"
VARIABLE: Final = re.compile(r"\$\{([A-Z_]+)(?::-([^}]*))?\}")


def composition(environment: Mapping[str, str]) -> dict[str, Any]:
    """Read compose.yaml, its variables filled in."""

    def value(found: re.Match[str]) -> str:
        return environment[found[1]] if found[2] is None else environment.get(found[1], found[2])

    return dict(yaml.safe_load(VARIABLE.sub(value, COMPOSE.read_text())))


def environment_of(folder: Path) -> dict[str, str]:
    """Read the variables that were prepared for compose.yaml."""
    lines = (folder / "env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def prepare() -> ModuleType:
    """Give deploy/prepare.py."""
    spec = importlib.util.spec_from_file_location("prepare", ROOT / "deploy" / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look for their annotations
    spec.loader.exec_module(module)
    return module
