"""A finished task's model in a published format, so that it is sold and invoked like any other.

A net of dense layers is a scikit-learn estimator, and stored as safetensors; one with convolutions is an ONNX graph.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper

from agorai_shared.vectors import Vector, require
from agorai_trainer import formats
from agorai_trainer.estimators import Estimator, Format, build
from agorai_trainer.federated.models import ModelSpec, size
from agorai_trainer.federated.nets import Conv, Dense, Net, Pool
from agorai_trainer.tasks import ModelSchema

_LINEAR: Final = {
    "linear_regression": "LinearRegression",
    "logistic_regression": "LogisticRegression",
    "svm": "LinearSVC",
}
_OPSET: Final = 17
_IR: Final = 8


def format_of(spec: ModelSpec) -> Format:
    """Give the format in which `stored` gives the model."""
    return Format.onnx if spec.image else Format.safetensors


def schema_of(spec: ModelSpec) -> ModelSchema:
    """Give what the finished model takes and gives."""
    return ModelSchema(features=spec.feature_names, target=spec.target.name, classes=spec.classes)


def stored(spec: ModelSpec, vector: Vector) -> bytes:
    """Give the model's file; the same vector gives the same bytes.

    It predicts what `models.predict` does, but where two classes are level to the last digits; an ONNX graph computes
    in single precision.

    Raises
    ------
    VectorRefusedError
        If the vector is not of this model.
    """
    require(vector, size(spec))
    if format_of(spec) is Format.onnx:
        return _graph(spec, vector)
    name = _LINEAR.get(spec.kind) or ("MLPRegressor" if spec.classes is None else "MLPClassifier")
    estimator = _estimator(spec, f"sklearn.{name}", vector)
    return formats.store(estimator, Format.safetensors, f"sklearn.{name}", schema_of(spec))


def _estimator(spec: ModelSpec, name: str, vector: Vector) -> Estimator:
    """Give the fitted estimator; the target's scale goes into the last layer."""
    made: Any = build(name, {}, 0, None)
    layers = [(weights.copy(), biases.copy()) for weights, biases in spec.net.split(vector)]
    weights, biases = layers[-1]
    weights *= spec.target.scale
    biases *= spec.target.scale
    biases += spec.target.offset
    if spec.layers:
        made.coefs_, made.intercepts_ = map(list, zip(*layers, strict=True))
        outputs = "identity" if spec.classes is None else "logistic" if biases.size == 1 else "softmax"
        made.out_activation_ = outputs
    elif spec.classes is None:
        made.coef_, made.intercept_ = weights[:, 0], biases[0]
    else:
        made.coef_, made.intercept_ = np.ascontiguousarray(weights.T), biases
    if all((column.offset, column.scale) == (0, 1) for column in spec.features):
        estimator: Estimator = made
        return estimator
    scaler: Any = importlib.import_module("sklearn.preprocessing").StandardScaler()
    scaler.mean_ = np.array([column.offset for column in spec.features])
    scaler.scale_ = np.array([column.scale for column in spec.features])
    scaler.var_ = scaler.scale_**2
    pipeline: Estimator = importlib.import_module("sklearn.pipeline").make_pipeline(scaler, made)
    return pipeline


class _Nodes:
    """Operators one behind the other, and the constants they take."""

    def __init__(self, first: str) -> None:
        self.last, self.nodes, self.constants = first, [], []  # type: str, list[Any], list[Any]

    def add(self, operator: str, *constants: Any, **attributes: Any) -> None:
        names = [f"{len(self.nodes)}.{place}" for place in range(len(constants))]
        self.constants += [
            onnx.numpy_helper.from_array(np.asarray(value), name)
            for value, name in zip(constants, names, strict=True)
        ]
        output = f"{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, [self.last, *names], [output], **attributes))
        self.last = output


def _graph(spec: ModelSpec, vector: Vector) -> bytes:
    entry = helper.make_tensor_value_info("features", onnx.TensorProto.DOUBLE, [None, len(spec.features)])
    nodes = _Nodes("features")
    nodes.add("Sub", np.array([column.offset for column in spec.features]))
    nodes.add("Div", np.array([column.scale for column in spec.features]))
    nodes.add("Cast", to=onnx.TensorProto.FLOAT)  # onnxruntime has no convolution in double precision
    nodes.add("Reshape", np.array([-1, *spec.net.inputs]))
    _add_layers(nodes, spec.net, vector)
    if spec.classes is None:
        nodes.add("Cast", to=onnx.TensorProto.DOUBLE)
        nodes.add("Mul", np.float64(spec.target.scale))
        nodes.add("Add", np.float64(spec.target.offset))
        given = onnx.TensorProto.DOUBLE
    else:
        _add_winner(nodes, spec)
        labels = np.asarray(spec.classes)
        given = onnx.TensorProto.STRING if labels.dtype.kind == "U" else onnx.TensorProto.INT64
    leaving = helper.make_tensor_value_info(nodes.last, given, None)
    graph = helper.make_graph(nodes.nodes, "agorai", [entry], [leaving], nodes.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _add_layers(nodes: _Nodes, net: Net, vector: Vector) -> None:
    parameters = iter(net.split(vector.astype(np.float32)))
    for stage in net.stages:
        match stage.layer:
            case Pool(size=length):
                nodes.add("MaxPool", kernel_shape=[length, length], strides=[length, length])
                continue
            case Conv():
                nodes.add("Conv", *next(parameters))
            case Dense():
                nodes.add("Flatten")
                nodes.add("Gemm", *next(parameters))
        if not stage.last:
            nodes.add("Relu")


def _add_winner(nodes: _Nodes, spec: ModelSpec) -> None:
    """Go from outputs of shape (rows, outputs) to labels of shape (rows,)."""
    if spec.net.outputs == 1:
        nodes.add("Greater", np.float32(0))
        nodes.add("Cast", to=onnx.TensorProto.INT64)
        nodes.add("Reshape", np.array([-1]))
    else:
        nodes.add("ArgMax", axis=1, keepdims=0)
    winners, labels = nodes.last, np.asarray(spec.classes)
    nodes.constants.append(
        onnx.numpy_helper.from_array(labels.astype(object) if labels.dtype.kind == "U" else labels, "labels")
    )
    nodes.nodes.append(helper.make_node("Gather", ["labels", winners], ["label"]))
    nodes.last = "label"
