"""A net in PyTorch, built from its shapes; CPU, double precision, one order of batches."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from agorai_shared.vectors import Vector
from agorai_trainer.estimators import framework
from agorai_trainer.federated.descent import Objective, Steps
from agorai_trainer.federated.nets import Conv, Dense, Net, Pool


def module(net: Net, vector: Vector) -> Any:
    """Give a `torch.nn.Sequential` with the vector's parameters.

    Raises
    ------
    ExtraMissingError
        Without the extra `torch`.
    """
    nn = _torch().nn
    parts: list[Any] = []
    for stage in net.stages:
        match stage.layer:
            case Pool(size=size):
                parts.append(nn.MaxPool2d(size))
                continue
            case Conv(filters=filters, kernel=kernel):
                parts.append(nn.Conv2d(stage.before[0], filters, kernel, dtype=_torch().float64))
            case Dense(units=units):
                if len(stage.before) > 1:
                    parts.append(nn.Flatten())
                inputs = int(np.prod(stage.before))
                parts.append(nn.Linear(inputs, units, dtype=_torch().float64))
        if not stage.last:
            parts.append(nn.ReLU())
    built = nn.Sequential(*parts)
    state = {}
    learning = [str(place) for place, part in enumerate(parts) if hasattr(part, "weight")]
    for place, (weights, biases) in zip(learning, net.split(vector), strict=True):
        state[f"{place}.weight"] = _torch().tensor(weights.T if weights.ndim == 2 else weights)
        state[f"{place}.bias"] = _torch().tensor(biases)
    built.load_state_dict(state)
    return built


def vector_of(net: Net, built: Any) -> Vector:
    """Give the parameters of a module that `module` made."""
    vector = np.empty(net.size)
    values = iter(built.state_dict().values())
    for weights, biases in net.split(vector):
        given = next(values).numpy()
        weights[:] = given.T if weights.ndim == 2 else given
        biases[:] = next(values).numpy()
    return vector


def fit(objective: Objective, steps: Steps) -> Vector:
    """Descend as `descent.by_batch` does."""
    torch = _torch()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    net, rows = objective.net, len(objective.features)
    built, start = module(net, objective.start), module(net, objective.start)
    anchors = [parameter.detach() for parameter in start.parameters()]
    features = torch.tensor(objective.features.reshape(-1, *net.inputs))
    target = torch.tensor(objective.target)
    for chosen in steps.batches(rows):
        batch = torch.tensor(chosen)
        value = _loss(objective, built(features[batch]), target[batch])
        for parameter, anchor in zip(built.parameters(), anchors, strict=True):
            if parameter.ndim > 1:
                value = value + objective.l2 / (2 * rows) * parameter.square().sum()
            value = value + objective.proximal_mu / 2 * (parameter - anchor).square().sum()
        built.zero_grad()
        value.backward()
        with torch.no_grad():
            for parameter in built.parameters():
                parameter.sub_(steps.learning_rate * parameter.grad)
    return vector_of(net, built)


def _loss(objective: Objective, outputs: Any, target: Any) -> Any:
    torch = _torch()
    if objective.loss == "squared":
        return (outputs[:, 0] - target).square().mean() / 2
    if outputs.shape[1] == 1:
        outputs = torch.hstack([torch.zeros_like(outputs), outputs])
    return torch.nn.functional.cross_entropy(outputs, target)


def _torch() -> ModuleType:
    return framework("torch", "A PyTorch net", "torch")
