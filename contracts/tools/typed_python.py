"""A compiled contract as a typed Python module."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from artifacts import Artifact, Node, record, records
from source_text import docstring, listed, snake, words

NEW_LINE = "\n"
WEI = {"price", "amount", "value"}
WEI_OF = {"creditOf", "balanceOf", "allowance", "totalSupply", "maximumSupply"}
DIGEST = {"profile", "encryptionKey", "metadata", "grant", "evidence"}
RESOURCE = {"resource", "previous"}
OWN_ID = {
    "Registry": "ResourceId",
    "Invocation": "InvocationId",
    "FairExchange": "TradeId",
    "VotingPanel": "CaseId",
}
BASES = {"uint": "int", "int": "int", "bool": "bool", "string": "str", "bytes": "bytes", "address": "Address"}
READERS = {"int": "as_int", "bool": "as_bool", "str": "as_text", "bytes": "as_bytes", "Address": "as_address"}


class UnsupportedError(Exception):
    """An ABI holds what no binding can be written for."""


def argument(entry: Node) -> str:
    """Give the expression for an event's value in the dict that a log is decoded to."""
    return f'args["{entry["name"]}"]'


@dataclass
class Module:
    """One module being written: what its text needs is collected as it is used."""

    artifact: Artifact
    codec: set[str] = field(default_factory=set)
    types: set[str] = field(default_factory=set)
    enums: dict[str, Node] = field(default_factory=dict)
    structs_in: dict[str, Node] = field(default_factory=dict)
    structs_out: dict[str, Node] = field(default_factory=dict)

    def base(self, entry: Node) -> str:
        """Give the Python type that a value decodes to, for a type that is no array or tuple."""
        return BASES[re.sub(r"\d+$", "", str(entry["type"]))]

    def element(self, entry: Node) -> Node | None:
        """Give the entry of an array's elements, None for what is no array."""
        kind = str(entry["type"])
        if not kind.endswith("]"):
            return None
        internal = str(entry.get("internalType", kind))
        return entry | {"type": kind[: kind.rindex("[")], "internalType": internal[: internal.rindex("[")]}

    def named(self, entry: Node, function: str) -> str | None:
        """Give the NewType that stands for such a value, by its name."""
        name, kind = str(entry["name"]), str(entry["type"])
        found = None
        if kind.startswith("uint"):
            if name in WEI or (not name and function in WEI_OF):
                found = "Wei"
            elif name in RESOURCE:
                found = "ResourceId"
            elif name == "id":
                found = OWN_ID.get(self.artifact.name)
        elif kind == "bytes32" and name in DIGEST:
            found = "Digest"
        return found

    def special(self, entry: Node, *, out: bool) -> str | None:
        """Give the name of a struct or an enum and see that it is written; None for any other type."""
        internal = str(entry.get("internalType", ""))
        name = internal.rpartition(".")[2].partition(" ")[0]
        if internal.startswith("enum "):
            self.enums[name] = entry
            return name
        if entry["type"] == "tuple":
            table = self.structs_out if out else self.structs_in
            if name not in table:
                for component in records(entry["components"]):
                    self.special(self.element(component) or component, out=out)
                table[name] = entry
            return name
        return None

    def type_in(self, entry: Node) -> str:
        """Give the type of an argument."""
        element = self.element(entry)
        if element is not None:
            return f"Sequence[{self.type_in(element)}]"
        special = self.special(entry, out=False)
        base = special or self.base(entry)
        if base == "Address":
            self.types.add(base)
        return base

    def type_out(self, entry: Node, function: str = "") -> str:
        """Give the type of a value that comes out."""
        element = self.element(entry)
        if element is not None:
            return f"tuple[{self.type_out(element)}, ...]"
        special = self.special(entry, out=True)
        found = special or self.named(entry, function) or self.base(entry)
        if special is None and found not in ("int", "bool", "str", "bytes"):
            self.types.add(found)
        return found

    def read(self, entry: Node, value: str, function: str = "") -> str:
        """Give the expression that reads such a value."""
        element = self.element(entry)
        if element is not None:
            self.codec.add("as_tuple")
            return f"tuple({self.read(element, 'each')} for each in as_tuple({value}))"
        special = self.special(entry, out=True)
        if special in self.structs_out:
            return f"{special}.from_abi({value})"
        reader = READERS[self.base(entry)]
        self.codec.add(reader)
        found = special or self.named(entry, function)
        return f"{found}({reader}({value}))" if found else f"{reader}({value})"

    def write(self, entry: Node, value: str) -> str:
        """Give the expression that hands such an argument to the encoder."""
        element = self.element(entry)
        if element is not None:
            inner = self.write(element, "each")
            return value if inner == "each" else f"tuple({inner} for each in {value})"
        return f"{value}.to_abi()" if self.special(entry, out=False) in self.structs_in else value

    def found(self, kind: str, name: str) -> Node | None:
        """Give the syntax tree's node of a definition."""
        return next((n for _, n in self.artifact.definitions(kind) if n.get("name") == name), None)

    def enum(self, name: str) -> str:
        """Write an enum."""
        node = self.found("EnumDefinition", name)
        if node is None:
            raise UnsupportedError(f"enum {name} of {self.artifact.name} has no definition")
        members = [str(member["name"]) for member in records(node["members"])]
        body = "".join(f"    {snake(member).upper()} = {n}\n" for n, member in enumerate(members))
        return f"class {name}(IntEnum):\n{docstring(words(node, name), 4)}\n{body}"

    def struct(self, name: str) -> str:
        """Write a struct as a frozen dataclass, with the ways out of and into the encoding that are used."""
        out = name in self.structs_out
        components = records((self.structs_out if out else self.structs_in)[name]["components"])
        types = [self.type_out(c) if out else self.type_in(c) for c in components]
        definition = self.found("StructDefinition", name)
        if definition is None:
            raise UnsupportedError(f"struct {name} of {self.artifact.name} has no definition")
        remarks = [self.artifact.remark(member) for member in records(definition["members"])]
        fields = "".join(
            f"    {snake(str(c['name']))}: {t}\n{docstring(remark, 4) if remark else ''}"
            for c, t, remark in zip(components, types, remarks, strict=True)
        )
        methods = []
        if out:
            self.codec.add("as_tuple")
            values = [self.read(c, f"values[{n}]") for n, c in enumerate(components)]
            methods.append(
                "    @classmethod\n    def from_abi(cls, value: object) -> Self:\n"
                '        """Read a decoded tuple."""\n        values = as_tuple(value)\n'
                + listed("return cls(", values, ")", 8)
            )
        if name in self.structs_in:
            values = [self.write(c, f"self.{snake(str(c['name']))}") for c in components]
            methods.append(
                '    def to_abi(self) -> tuple[object, ...]:\n        """Give the tuple that is encoded."""\n'
                + listed("return (", values, ")", 8)
            )
        doc = docstring(words(definition, name), 4)
        body = "\n".join(methods)
        return f"@dataclass(frozen=True, slots=True)\nclass {name}:\n{doc}\n{fields}\n{body}"

    def event(self, entry: Node) -> str:
        """Write an event as a frozen dataclass."""
        name, inputs = str(entry["name"]), records(entry["inputs"])
        fields = "".join(f"    {snake(str(i['name']))}: {self.type_out(i)}\n" for i in inputs)
        values = [f"{snake(str(i['name']))}={self.read(i, argument(i))}" for i in inputs]
        doc = docstring(words(self.found("EventDefinition", name), name), 4)
        return (
            f"@dataclass(frozen=True, slots=True)\nclass {name}:\n{doc}\n"
            f'    ABI: ClassVar[EventAbi] = CONTRACT.event("{name}")\n\n{fields and fields + NEW_LINE}'
            "    @classmethod\n    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:\n"
            '        """Read what `EventAbi.decode` gave, or its JSON form."""\n'
        ) + listed("return cls(", values, ")", 8)

    def function(self, entry: Node) -> str:
        """Write a function as a method that gives a `Call`."""
        name, inputs, outputs = str(entry["name"]), records(entry["inputs"]), records(entry["outputs"])
        arguments = [(snake(str(i["name"]) or f"arg{n}"), self.type_in(i), i) for n, i in enumerate(inputs)]
        types = [self.type_out(o, name) for o in outputs]
        reads = [self.read(o, f"out[{n}]", name) for n, o in enumerate(outputs)]
        if len(outputs) == 1:
            result, read = types[0], f"lambda out: {reads[0]}"
        elif outputs:
            result, read = f"tuple[{', '.join(types)}]", listed("lambda out: (", reads, ")", 12).strip()
        else:
            result, read = "None", "lambda _: None"
        given = "".join(f"{self.write(i, a)}, " for a, _, i in arguments)
        values = f"({given[:-1] if len(arguments) == 1 else given[:-2]})"
        node = self.found("FunctionDefinition", name) or self.found("VariableDeclaration", name)
        parameters = ["self", *(f"{a}: {t}" for a, t, _ in arguments)]
        return (
            listed(f"def {snake(name)}(", parameters, f") -> Call[{result}]:", 4)
            + docstring(words(node, f"Call `{name}`."), 8)
            + listed("return self._call(", [f"_{snake(name).upper()}", values, read], ")", 8)
        )

    def deployment(self) -> str:
        """Write how the contract is created."""
        constructor = next((e for e in self.artifact.abi if e["type"] == "constructor"), None)
        inputs = records(constructor["inputs"]) if constructor else []
        names = [snake(str(i["name"])).strip("_") for i in inputs]
        parameters = ["cls", *(f"{n}: {self.type_in(i)}" for n, i in zip(names, inputs, strict=True))]
        return (
            "    @classmethod\n"
            + listed("def deploy_data(", parameters, ") -> bytes:", 4)
            + '        """Give the data of the transaction that creates the contract."""\n'
            + listed(
                "return cls.ABI.deploy_data(",
                [self.write(i, n) for n, i in zip(names, inputs, strict=True)],
                ")",
                8,
            )
        )


def contract_module(artifact: Artifact) -> str:
    """Write the binding of one contract."""
    module = Module(artifact)
    functions = [entry for entry in artifact.abi if entry["type"] == "function"]
    if len({entry["name"] for entry in functions}) != len(functions):
        raise UnsupportedError(f"{artifact.name} overloads a function: a method has one signature")
    methods = [module.deployment(), *(module.function(entry) for entry in functions)]
    events = [module.event(entry) for entry in artifact.abi if entry["type"] == "event"]
    structs = [module.struct(name) for name in {**module.structs_in, **module.structs_out}]
    enums = [module.enum(name) for name in module.enums]
    name = artifact.name
    title = next(n for h in artifact.sources.values() for n in records(h["nodes"]) if n.get("name") == name)
    constants = "".join(
        f'_{snake(str(e["name"])).upper()}: Final = CONTRACT.function("{e["name"]}")\n' for e in functions
    )
    doc = docstring(words(title, name), 4)
    body = f"class {name}(Contract):\n{doc}\n    ABI: ClassVar[ContractAbi] = CONTRACT\n\n"
    blocks = [*enums, *structs, *events, constants, body + "\n".join(methods)]
    text = "\n\n".join(blocks)
    return header(module, text) + text


def header(module: Module, text: str) -> str:
    """Write a module's docstring and imports: those that its text uses."""
    name = module.artifact.name
    collections = [n for n in ("Mapping", "Sequence") if f"{n}[" in text]
    typing = ["ClassVar", "Final", *(["Self"] if "Self:" in text else [])]
    codec = [*(["ArgValue"] if "ArgValue" in text else []), *sorted(module.codec)]
    contract = ["Call", "Contract", "ContractAbi", *(["EventAbi"] if "EventAbi" in text else [])]
    lines = [
        f'"""The {name} contract, typed. Written by contracts/tools/bindings.py: change the contract."""\n\n',
        "from __future__ import annotations\n\n",
        f"from collections.abc import {', '.join(collections)}\n" if collections else "",
        "from dataclasses import dataclass\n" if "@dataclass" in text else "",
        "from enum import IntEnum\n" if "(IntEnum)" in text else "",
        f"from typing import {', '.join(typing)}\n\n",
        f"from agorai_shared.abi.codec import {', '.join(codec)}\n" if codec else "",
        f"from agorai_shared.contract import {', '.join(contract)}\n",
        f"from agorai_shared.types import {', '.join(sorted(module.types))}\n" if module.types else "",
        f'\nCONTRACT: Final = ContractAbi.load("{name}")\n\n\n',
    ]
    return "".join(lines)


def flags_module(artifact: Artifact) -> str:
    """Write a library of constants, each one bit, as an `IntFlag`."""
    name = artifact.name
    members = ""
    for holder, node in artifact.definitions("VariableDeclaration"):
        if holder["name"] == name:
            value = record(node["value"])["value"]
            members += f"\n    {node['name']} = {value}\n{docstring(words(node, str(node['name'])), 4)}"
    title = next(n for h in artifact.sources.values() for n in records(h["nodes"]) if n.get("name") == name)
    return (
        f'"""The bits of {name}. Written by contracts/tools/bindings.py: change the library."""\n\n'
        "from __future__ import annotations\n\nfrom enum import IntFlag\n\n\n"
        f"class {name}(IntFlag):\n{docstring(words(title, name), 4)}{members}"
    )
