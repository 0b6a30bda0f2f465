"""skops: scikit-learn estimators as JSON and arrays in a zip, types from our own list only.

skops writes the addresses objects had in memory, random file names and the time into its zip. `store`
numbers the objects in order instead and fixes the dates, so that the same estimator gives the same bytes. It
also blanks the padding in arrays of records (trees' nodes), which holds whatever was in memory before.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import cast

import numpy as np
from skops.io import dumps, get_untrusted_types, loads

from agorai_trainer.estimators import ESTIMATORS, Estimator
from agorai_trainer.formats.refusals import TypeRefusedError
from agorai_trainer.formats.trusted import TRUSTED_TYPES
from agorai_trainer.tasks import ModelSchema

_SCHEMA = "schema.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)
Json = dict[str, object]


def store(estimator: Estimator, schema: ModelSchema) -> bytes:
    """Give the estimator's canonical skops file."""
    del schema
    return canonical(dumps(estimator))


def load(data: bytes, schema: ModelSchema) -> Estimator:
    """Build the estimator.

    Raises
    ------
    TypeRefusedError
        If the file asks for a type that is not on our list; what it says of its own trust is not followed.
    """
    del schema
    if asked := set(get_untrusted_types(data=data)) - TRUSTED_TYPES:
        raise TypeRefusedError(tuple(sorted(asked)))
    estimator = loads(data, trusted=sorted(TRUSTED_TYPES))
    last = getattr(estimator, "steps", [("", estimator)])[-1][1]
    kind = type(last)
    if f"sklearn.{kind.__name__}" not in ESTIMATORS or not kind.__module__.startswith("sklearn."):
        raise TypeRefusedError((f"{kind.__module__}.{kind.__name__}",))
    return cast("Estimator", estimator)


def describe(data: bytes) -> dict[str, str | int | list[str]]:
    """Give the outermost class, the library's version and the types beyond skops' own trust."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        schema = json.loads(archive.read(_SCHEMA))
    return {
        "class": f"{schema['__module__']}.{schema['__class__']}",
        "skops": str(schema.get("_skops_version", "")),
        "types": sorted(get_untrusted_types(data=data)),
    }


def canonical(data: bytes) -> bytes:
    """Give the same skops file with objects and members numbered in order of appearance and without dates."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        numbering = _Numbering()
        schema = numbering.of(json.loads(archive.read(_SCHEMA)))
        blob = io.BytesIO()
        with zipfile.ZipFile(blob, "w", zipfile.ZIP_STORED) as ordered:
            for old, new in numbering.members.items():
                ordered.writestr(zipfile.ZipInfo(new, _EPOCH), _without_padding(archive.read(old)))
            text = json.dumps(schema, separators=(",", ":"))
            ordered.writestr(zipfile.ZipInfo(_SCHEMA, _EPOCH), text)
    return blob.getvalue()


def _without_padding(member: bytes) -> bytes:
    if not member.startswith(np.lib.format.MAGIC_PREFIX):
        return member
    array = np.load(io.BytesIO(member), allow_pickle=False)
    if array.dtype.names is None:
        return member
    blank = np.zeros(array.shape, array.dtype)  # zeros_like would leave the padding as it comes
    for name in array.dtype.names:
        blank[name] = array[name]
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, np.lib.format.header_data_from_array_1_0(blank))
    return buffer.getvalue() + blank.tobytes()


class _Numbering:
    """Gives objects and members numbers in the order in which a walk through the schema meets them."""

    def __init__(self) -> None:
        self.objects: dict[object, int] = {}
        self.members: dict[str, str] = {}
        self._next = 0

    def of(self, node: object) -> object:
        if isinstance(node, list):
            return [self.of(part) for part in node]
        if not isinstance(node, dict):
            return node
        if "__loader__" not in node:
            return {key: self.of(value) for key, value in node.items()}
        renamed: Json = {}
        for key, value in node.items():
            if key == "__id__":
                renamed[key] = self._object(value, shared=node["__loader__"] != "JsonNode")
            elif key == "file" and isinstance(value, str):
                suffix = value.rpartition(".")[2]
                renamed[key] = self.members.setdefault(value, f"{len(self.members)}.{suffix}")
            else:
                renamed[key] = self.of(value)
        return renamed

    def _object(self, identity: object, *, shared: bool) -> int:
        """Give an object's number; plain values are told apart always, for Python shares them by chance."""
        if shared and identity in self.objects:
            return self.objects[identity]
        self._next += 1
        if shared:
            self.objects[identity] = self._next
        return self._next
