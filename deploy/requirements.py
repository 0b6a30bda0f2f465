"""Prints the part of a lock file that some packages of this workspace need, with its hashes.

    python deploy/requirements.py requirements-dev.lock shared services/hub --extra telemetry

An export names, below each package, those by which it is there (`# via`). So what the workspace's own packages ask
for, and all that is there by that, is theirs. An image thus has exactly the locked versions, and none of another
service's.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from pathlib import Path

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")


def normal(name: str) -> str:
    """Give a distribution's name in the one form that lock files have."""
    found = _NAME.match(name)
    if found is None:
        raise SystemExit(f"{name!r} names no package")
    return re.sub(r"[-_.]+", "-", found.group()).lower()


def asked(member: Path, extras: list[str]) -> set[str]:
    """Give what one package of the workspace asks for, other packages of the workspace left out."""
    project = tomllib.loads((member / "pyproject.toml").read_text())
    wanted = list(project["project"].get("dependencies", ()))
    for extra in extras:
        wanted += project["project"].get("optional-dependencies", {}).get(extra, ())
    own = project.get("tool", {}).get("uv", {}).get("sources", {})
    return {normal(one) for one in wanted} - set(own)


def entries(lock: str) -> dict[str, tuple[str, set[str]]]:
    """Give each package of a lock file: its own lines, and by which packages it is there."""
    found: dict[str, tuple[str, set[str]]] = {}
    for entry in re.split(r"\n(?=[A-Za-z0-9])", lock.strip()):
        lines = entry.splitlines()
        via = " ".join(line.strip(" #") for line in lines if line.startswith("    #"))
        kept = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
        before, others = found.get(normal(entry), ("", set()))  # one for each range of Python versions
        found[normal(entry)] = (f"{before}\n{kept}".strip(), others | set(via.removeprefix("via").split()))
    return found


def needed(locked: dict[str, tuple[str, set[str]]], wanted: set[str]) -> list[str]:
    """Give the names of what is wanted, and of what is there by that."""
    if absent := wanted - locked.keys():
        raise SystemExit(f"The lock file lacks {', '.join(sorted(absent))}; `make lock` resolves it anew.")
    kept = set(wanted)
    while more := {name for name, (_, via) in locked.items() if name not in kept and via & kept}:
        kept |= more
    return sorted(kept)


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lock", type=Path)
    parser.add_argument("members", type=Path, nargs="+")
    parser.add_argument("--extra", action="append", default=[])
    given = parser.parse_args()
    locked = entries(given.lock.read_text())
    wanted: set[str] = set().union(*(asked(member, given.extra) for member in given.members))
    sys.stdout.write("\n".join(locked[name][0] for name in needed(locked, wanted)) + "\n")


if __name__ == "__main__":
    main()
