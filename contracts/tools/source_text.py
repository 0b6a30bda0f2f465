"""Pieces of Python's source text, and of Solidity's NatSpec that becomes it."""

from __future__ import annotations

import keyword
import re
import textwrap

from artifacts import Node, record

WIDTH = 110


def snake(name: str) -> str:
    """Give a Solidity name as Python spells it."""
    if not name.isupper():
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    name = name.lower()
    return f"{name}_" if keyword.iskeyword(name) else name


def docstring(text: str, indent: int) -> str:
    """Give a docstring's lines, wrapped."""
    pad = " " * indent
    paragraphs = [textwrap.fill(p, WIDTH - 3 - indent) for p in re.split(r"\n\s*\n", text.strip())]
    body = "\n\n".join(paragraphs)
    closing = '"""' if "\n" not in body else '\n"""'
    return textwrap.indent(f'"""{body}{closing}', pad, lambda line: bool(line.strip())) + "\n"


def listed(head: str, items: list[str], tail: str, indent: int) -> str:
    """Give `head(items)tail` on one line if it fits, else one item a line."""
    pad = " " * indent
    line = f"{pad}{head}{', '.join(items)}{tail}"
    if len(line) <= WIDTH:
        return line + "\n"
    inner = "".join(f"{pad}    {item},\n" for item in items)
    return f"{pad}{head.rstrip()}\n{inner}{pad}{tail}\n"


def natspec(node: Node | None) -> dict[str, str]:
    """Split a NatSpec comment into its tags: `notice`, `dev`, `param x`, `return x`."""
    documentation = node.get("documentation") if node else None
    text = str(record(documentation)["text"]) if documentation else ""
    tags: dict[str, str] = {}
    for part in re.split(r"(?:^|\n)\s*(?=@)", text):
        found = re.match(r"@(param \w+|return \w+|\w+)\s+(.*)", part, re.DOTALL)
        if found:
            paragraph = found[2].strip().split("\n\n")[0]
            tags[found[1]] = " ".join(line.strip() for line in paragraph.splitlines())
    return tags


def words(node: Node | None, fallback: str) -> str:
    """Give a docstring's text from NatSpec."""
    tags = natspec(node)
    if "notice" in tags:
        head = [tags[tag] for tag in ("notice", "dev") if tag in tags]
    else:  # others' contracts: the first sentence says it
        head = [re.split(r"(?<=[a-z`)}]\.)\s", tags.get("dev", fallback))[0]]
    values = [f"`{snake(tag[6:])}`: {text}" for tag, text in tags.items() if tag.startswith("param ")]
    return "\n\n".join([*head, *values])
