"""ONNX: stored by skl2onnx, run by onnxruntime from bytes."""

from __future__ import annotations

import importlib
import warnings

import numpy as np
import numpy.typing as npt
import onnx

from agorai_trainer.estimators import Estimator, Format
from agorai_trainer.formats.fitted import last_step, steps
from agorai_trainer.formats.refusals import BrokenModelError, FormatUnsuitableError, OutsideReferenceError
from agorai_trainer.tasks import ModelSchema

_INPUT = "features"


class _Graph:
    def __init__(self, data: bytes, schema: ModelSchema) -> None:
        onnxruntime = importlib.import_module("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        self._schema = schema
        entry, *others = self._session.get_inputs()
        types = {"tensor(double)": np.float64, "tensor(float)": np.float32}
        if others or entry.type not in types:
            raise BrokenModelError(Format.onnx, "it does not take one matrix of real numbers")
        self._name, self._type = entry.name, types[entry.type]

    def predict(self, features: npt.NDArray[np.float64]) -> npt.NDArray[np.generic]:
        first = self._session.get_outputs()[0].name
        values = np.asarray(self._session.run([first], {self._name: features.astype(self._type)})[0])
        if self._schema.classes is None:
            return values.reshape(len(features), -1)[:, 0].astype(np.float64)
        return values.reshape(-1).astype(np.asarray(self._schema.classes).dtype)


def store(estimator: Estimator, schema: ModelSchema) -> bytes:
    """Give the ONNX graph, its first output the labels or numbers.

    It computes in double precision where ONNX's operators can (then labels are equal, numbers to 1e-15), else
    in single precision, as scikit-learn's trees do with their inputs (numbers to 1e-6). skl2onnx counts some
    names up while a process lives; in the sandbox every job is a process of its own.

    Raises
    ------
    FormatUnsuitableError
        If skl2onnx has no converter for this estimator and these hyperparameters, or single precision would
        blur what a scaler gives to it.
    """
    precisions = (
        ("DoubleTensorType", "FloatTensorType") if len(steps(estimator)) == 1 else ("DoubleTensorType",)
    )
    why = ""
    for precision in precisions:
        try:
            data = _converted(estimator, schema, precision)
            _Graph(data, schema)
        except Exception as error:  # noqa: BLE001 - converter and runtime raise what comes to hand
            why = str(error)
        else:
            return data
    after = "" if len(precisions) == 2 else " after a scaler"
    what = f"this {type(last_step(estimator)).__name__}{after} ({why.strip()[-120:]})"
    raise FormatUnsuitableError(Format.onnx, what, (Format.skops,))


def _converted(estimator: Estimator, schema: ModelSchema, precision: str) -> bytes:
    skl2onnx = importlib.import_module("skl2onnx")
    kind = getattr(importlib.import_module("skl2onnx.common.data_types"), precision)
    inputs = [(_INPUT, kind([None, len(schema.features)]))]
    # ZipMap would turn the probabilities into Python dictionaries; LinearSVC has none
    plain = schema.classes is not None and type(last_step(estimator)).__name__ != "LinearSVC"
    options = {id(estimator): {"zipmap": False}} if plain else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = skl2onnx.to_onnx(estimator, initial_types=inputs, options=options, name="agorai")
    imports = sorted(graph.opset_import, key=lambda entry: str(entry.domain))  # a set's order till here
    del graph.opset_import[:]
    graph.opset_import.extend(imports)
    data: bytes = graph.SerializeToString(deterministic=True)
    return data


def load(data: bytes, schema: ModelSchema) -> _Graph:
    """Build the session from bytes; a graph whose weights lie in other files is refused."""
    _parsed(data)
    return _Graph(data, schema)


def describe(data: bytes) -> dict[str, str | int | list[str]]:
    """Give the graph's inputs, outputs and the operators it needs."""
    graph = _parsed(data).graph
    return {
        "inputs": [entry.name for entry in graph.input],
        "outputs": [entry.name for entry in graph.output],
        "operators": sorted({node.op_type for node in graph.node}),
    }


def _parsed(data: bytes) -> onnx.ModelProto:
    model: onnx.ModelProto = onnx.ModelProto.FromString(data)
    if b"external_data" in data or b"location" in data:
        for tensor in _tensors(model.graph):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                raise OutsideReferenceError(Format.onnx, f"the tensor {tensor.name[:60]!r}")
    return model


def _tensors(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            found += [attribute.t, *attribute.tensors]
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    found += _tensors(inner)
    return found
