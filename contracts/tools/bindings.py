#!/usr/bin/env python3
"""Write the contracts' ABIs, and the typed Python bindings generated from them, into `shared/agorai_shared`.

    contracts/tools/bindings.py            write abi/*.json and bindings/*.py
    contracts/tools/bindings.py --check    compile afresh and name every file that differs; 1 if any does

A file `src/X.sol` becomes `abi/X.json` and `bindings/x.py`; a library of constants `src/types/Y.sol` becomes
`bindings/y.py`. The docstrings are the interfaces' NatSpec. Needs `node` on PATH, and of Python its standard
library only.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from artifacts import CONTRACTS, Artifact, CompilerError, compile_contracts
from source_text import snake
from typed_python import contract_module, flags_module

SHARED = CONTRACTS.parent / "shared" / "agorai_shared"


def abi_json(artifact: Artifact) -> str:
    """Give what is checked in of a compiled contract: one line for each entry of the ABI."""
    entries = ",\n".join(f"    {json.dumps(entry)}" for entry in artifact.abi)
    return (
        f'{{\n  "contractName": {json.dumps(artifact.name)},\n  "abi": [\n{entries}\n  ],\n'
        f'  "bytecode": {json.dumps(artifact.bytecode)}\n}}\n'
    )


def generate() -> dict[Path, str]:
    """Compile everything; give the files' contents by path."""
    contracts, constants = (
        [str(source.relative_to(CONTRACTS)) for source in sorted((CONTRACTS / folder).glob("*.sol"))]
        for folder in ("src", "src/types")
    )
    artifacts = compile_contracts([*contracts, *constants])
    files: dict[Path, str] = {}
    for artifact in artifacts[: len(contracts)]:
        files[SHARED / "abi" / f"{artifact.name}.json"] = abi_json(artifact)
        files[SHARED / "bindings" / f"{snake(artifact.name)}.py"] = contract_module(artifact)
    for artifact in artifacts[len(contracts) :]:
        files[SHARED / "bindings" / f"{snake(artifact.name)}.py"] = flags_module(artifact)
    return files


def stray(files: dict[Path, str]) -> list[Path]:
    """Give the files of the two folders that no source stands behind any more."""
    present = [*(SHARED / "abi").glob("*.json"), *(SHARED / "bindings").glob("*.py")]
    return [path for path in sorted(present) if path not in files and path.name != "__init__.py"]


def main() -> int:
    """Write or check; give the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a file differs")
    check: bool = parser.parse_args().check
    try:
        files = generate()
    except CompilerError as error:
        print(error, file=sys.stderr)
        return 2
    differing = [p for p, text in files.items() if not p.is_file() or p.read_text(encoding="utf-8") != text]
    for path in [*differing, *stray(files)]:
        verb = "differs" if check else "wrote" if path in files else "removed"
        print(f"{verb}: {path.relative_to(CONTRACTS.parent)}")
        if not check and path in files:
            path.write_text(files[path], encoding="utf-8")
        elif not check:
            path.unlink()
    if check and (differing or stray(files)):
        print("Run contracts/tools/bindings.py and check its changes in.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
