"""Compile the contracts, one by one, to what depends on nothing but their source and the compiler.

Each contract is compiled with the files it imports and no others, under names that are the same on every
machine, so that neither a new contract nor another folder changes a byte of what is checked in.
"""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias

CONTRACTS = Path(__file__).resolve().parent.parent
IMPORT = re.compile(r'^import\s+(?:[^;"]*\sfrom\s+)?"([^"]+)";', re.MULTILINE)

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
Node: TypeAlias = dict[str, Json]


class CompilerError(Exception):
    """The compiler refused the source, or warned of it."""


def record(value: Json) -> Node:
    """Read a JSON object."""
    if not isinstance(value, dict):
        raise TypeError(f"an object was expected, not {value!r:.80}")
    return value


def records(value: Json) -> list[Node]:
    """Read a JSON array of objects."""
    if not isinstance(value, list):
        raise TypeError(f"an array was expected, not {value!r:.80}")
    return [record(item) for item in value]


@dataclass(frozen=True, slots=True)
class Artifact:
    """One compiled contract."""

    name: str
    abi: list[Node]
    bytecode: str
    """The creation code, 0x hex."""
    sources: Mapping[str, Node]
    """The syntax tree of each file, by its name."""
    texts: Mapping[str, str]
    """The text of each file, by its name."""

    def definitions(self, kind: str) -> Iterator[tuple[Node, Node]]:
        """Give every definition of that node type with the contract that holds it: its own first, of its interface."""
        holders = [node for source in self.sources.values() for node in records(source["nodes"])]
        contracts = [node for node in holders if node["nodeType"] == "ContractDefinition"]
        own = (f"I{self.name}", self.name)
        ranked = sorted(
            contracts, key=lambda node: (node["name"] not in own, node["contractKind"] != "interface")
        )
        for holder in ranked:
            for node in records(holder["nodes"]):
                if node["nodeType"] == kind:
                    yield holder, node

    def remark(self, node: Node) -> str:
        """Give the comment behind a definition on its line, where NatSpec has no tag for it; "" for none."""
        start, length, file = (int(part) for part in str(node["src"]).split(":"))
        name = next(name for name, tree in self.sources.items() if _file_index(tree) == file)
        line = self.texts[name].encode()[start + length :].partition(b"\n")[0].decode()
        found = re.fullmatch(r";\s*//\s*(.+)", line)
        return found[1][0].upper() + found[1][1:] if found else ""


def _file_index(tree: Node) -> int:
    return int(str(tree["src"]).rpartition(":")[2])


def compile_contracts(paths: Sequence[str]) -> list[Artifact]:
    """Compile files of `contracts/`; the contract of each bears the file's name.

    Raises
    ------
    CompilerError
        If the compiler refuses one, or warns of it.
    """
    profile = tomllib.loads((CONTRACTS / "foundry.toml").read_text(encoding="utf-8"))["profile"]["default"]
    deployed = next(p for p in profile["additional_compiler_profiles"] if p["name"] == "deployed")
    remappings: list[str] = profile["remappings"]
    closures = {path: _closure(path, [tuple(line.split("=", 1)) for line in remappings]) for path in paths}
    requests: list[Json] = [
        {
            "language": "Solidity",
            "sources": {name: {"content": text} for name, text in sources.items()},
            "settings": {
                "remappings": [*remappings],
                "optimizer": {"enabled": deployed["optimizer"], "runs": deployed["optimizer_runs"]},
                "viaIR": deployed["via_ir"],
                "evmVersion": profile["evm_version"],
                "metadata": {
                    "bytecodeHash": profile["bytecode_hash"],
                    "appendCBOR": profile["cbor_metadata"],
                },
                "outputSelection": {
                    "*": {"": ["ast"]},
                    path: {PurePosixPath(path).stem: ["abi", "evm.bytecode.object"]},
                },
            },
        }
        for path, sources in closures.items()
    ]
    ignored = {str(code) for code in profile["ignored_error_codes"]}
    return [
        _artifact(path, closures[path], output, ignored)
        for path, output in zip(closures, _solc(requests), strict=True)
    ]


def _artifact(path: str, texts: Mapping[str, str], output: Node, ignored: Container[str]) -> Artifact:
    complaints = [e for e in records(output.get("errors", [])) if str(e.get("errorCode")) not in ignored]
    if complaints:
        raise CompilerError("\n".join(str(e["formattedMessage"]) for e in complaints))
    name = PurePosixPath(path).stem
    contract = record(record(record(output["contracts"])[path])[name])
    bytecode = record(record(contract["evm"])["bytecode"])
    return Artifact(
        name=name,
        abi=records(contract["abi"]),
        bytecode=f"0x{bytecode['object']}",
        sources={file: record(record(node)["ast"]) for file, node in record(output["sources"]).items()},
        texts=texts,
    )


def _closure(path: str, remappings: Sequence[tuple[str, ...]]) -> dict[str, str]:
    sources: dict[str, str] = {}
    waiting = [path]
    while waiting:
        name = waiting.pop()
        if name in sources:
            continue
        sources[name] = (CONTRACTS / name).read_text(encoding="utf-8")
        waiting.extend(_resolve(name, target, remappings) for target in IMPORT.findall(sources[name]))
    return dict(sorted(sources.items()))


def _resolve(importer: str, target: str, remappings: Sequence[tuple[str, ...]]) -> str:
    if target.startswith("."):
        parts: list[str] = []
        for part in (PurePosixPath(importer).parent / target).parts:
            if part == "..":
                parts.pop()
            else:
                parts.append(part)
        return "/".join(parts)
    for prefix, replacement in remappings:
        if target.startswith(prefix):
            return replacement + target.removeprefix(prefix)
    return target


def _solc(requests: Sequence[Json]) -> list[Node]:
    done = subprocess.run(
        [CONTRACTS / "tools" / "solc", "--standard-json-lines"],
        input="\n".join(map(json.dumps, requests)),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise CompilerError(done.stderr.strip() or f"the compiler ended with {done.returncode}")
    return [record(json.loads(line)) for line in done.stdout.rstrip("\n").split("\n")]
