"""What is wrong with something that a person wrote, in that person's words and not in the validating library's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

_SHOWN: Final = 60
"""Characters of a wrong value that are quoted."""
_WORDS: Final[Mapping[str, str]] = {
    "missing": "it is missing",
    "extra_forbidden": "there is no such member",
    "json_invalid": "it is no JSON ({error})",
    "literal_error": "it is {given}; take {expected}",
    "enum": "it is {given}; take {expected}",
    "union_tag_invalid": "{discriminator} is '{tag}'; take {expected_tags}",
    "union_tag_not_found": "it has no {discriminator}, which says of what kind it is",
    "greater_than": "it is {given}, and must be more than {gt}",
    "greater_than_equal": "it is {given}, and must be {ge} at least",
    "less_than": "it is {given}, and must be less than {lt}",
    "less_than_equal": "it is {given}, and must be {le} at most",
    "finite_number": "it must be a finite number",
    "int_type": "it is {given}, and must be a whole number",
    "int_parsing": "it is {given}, and must be a whole number",
    "int_from_float": "it is {given}, and must be a whole number",
    "float_type": "it is {given}, and must be a number",
    "float_parsing": "it is {given}, and must be a number",
    "bool_type": "it is {given}, and must be true or false",
    "bool_parsing": "it is {given}, and must be true or false",
    "string_type": "it is {given}, and must be text, in quotes",
    "string_too_short": "it has fewer than {min_length} characters",
    "string_too_long": "it has more than {max_length} characters",
    "string_pattern_mismatch": "{given} is not of its form",
    "too_short": "it has {actual_length}, and needs {min_length} at least",
    "too_long": "it has more than {max_length}",
    "tuple_type": "it must be a list, in [ ]",
    "list_type": "it must be a list, in [ ]",
    "dict_type": "it must be an object, in {{ }}",
    "model_type": "it must be an object, in {{ }}",
    "model_attributes_type": "it must be an object, in {{ }}",
}
"""By kind of error, filled with its values and with what was given."""


def first_fault(error: ValidationError) -> str:
    """Say where the first fault is, and what is wrong there: `wanted.most_fee: it is missing`."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {_why(first)}" if where else _why(first)


def _why(fault: Mapping[str, Any]) -> str:
    kind, values = fault["type"], dict(fault.get("ctx", {}))
    if kind == "value_error":  # of a rule of the project's own
        return str(values["error"])
    values |= {name: f"{bound:g}" for name, bound in values.items() if isinstance(bound, float)}
    return _WORDS.get(kind, "it is not of its form").format(given=_quoted(fault["input"]), **values)


def _quoted(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        shown = repr(value)
        return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
    return "null" if value is None else "something else"
