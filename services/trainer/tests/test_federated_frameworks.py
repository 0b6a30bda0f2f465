"""Nets trained in PyTorch and Keras, where they are installed."""

from __future__ import annotations

import importlib
from types import ModuleType

import numpy as np
import pytest

from agorai_trainer.estimators import ExtraMissingError
from agorai_trainer.federated import keras_net, models, torch_net
from agorai_trainer.federated.models import Kind
from agorai_trainer.federated.nets import Conv, Dense, Net, Pool

from .federated import DENSE, data_of, spec_of

NETS: dict[Kind, ModuleType] = {"torch": torch_net, "keras": keras_net}
BUILD = {"torch": "module", "keras": "model"}
LAYERS = (Conv(filters=4, kernel=3), Pool(size=2), Dense(units=12))
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(params=NETS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    extra = {"torch": "torch", "keras": "tensorflow"}[found]
    pytest.importorskip(extra, reason=f"needs the extra `{extra}`")
    return found


def test_a_vector_goes_into_a_net_and_comes_out_again(kind: Kind) -> None:
    net = Net((2, 7, 6), (Conv(filters=3, kernel=2), Pool(size=2), Dense(units=5)), 3)
    vector = np.random.default_rng(0).normal(size=net.size)
    built = getattr(NETS[kind], BUILD[kind])(net, vector)
    assert NETS[kind].vector_of(net, built).tobytes() == vector.tobytes()


def test_a_net_gives_the_outputs_that_are_counted_with(kind: Kind) -> None:
    net = Net((2, 7, 6), (Conv(filters=3, kernel=2), Pool(size=2), Dense(units=5)), 3)
    random = np.random.default_rng(0)
    vector, images = random.normal(size=net.size), random.normal(size=(4, 2, 7, 6))
    built = getattr(NETS[kind], BUILD[kind])(net, vector)
    if kind == "torch":
        found = built(importlib.import_module("torch").tensor(images)).detach().numpy()
    else:
        found = np.asarray(built(images.transpose(0, 2, 3, 1)))
    assert np.allclose(found, net.outputs_of(vector, images.reshape(4, -1)), atol=1e-12)


@pytest.mark.parametrize("name", ["iris", "breast_cancer", "diabetes"])
def test_a_dense_net_is_trained_as_the_core_trains_it(kind: Kind, name: str) -> None:
    features, target = data_of(name)
    few = features[:60], target[:60]
    spec, core = (spec_of(one, *few, DENSE, local_epochs=2) for one in (kind, "mlp"))
    start = models.initial(core)
    found = models.fit(spec, start, *few, 3, 0.2)
    assert np.allclose(found, models.fit(core, start, *few, 3, 0.2), atol=1e-10)


def test_a_net_with_convolutions_learns(kind: Kind) -> None:
    features, target = data_of("digits")
    spec = spec_of(kind, features, target, LAYERS, image=(1, 8, 8), local_epochs=6)
    first, again = (models.fit(spec, models.initial(spec), features[:800], target[:800], 0) for _ in range(2))
    assert models.right(spec, first, features[800:], target[800:]) > 0.75 * len(target[800:])
    assert again.tobytes() == first.tobytes()


@pytest.mark.parametrize("kind", NETS)
def test_without_its_framework_a_net_says_which_extra_it_needs(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> ModuleType:
        raise ModuleNotFoundError(name)

    features, target = data_of("iris")
    spec = spec_of(kind, features, target, DENSE)
    start = models.initial(spec)
    assert models.right(spec, start, features, target) <= len(target)  # without any framework
    monkeypatch.setattr("agorai_trainer.estimators.importlib.import_module", absent)
    extra = {"torch": "torch", "keras": "tensorflow"}[kind]
    with pytest.raises(ExtraMissingError, match=rf"\[{extra}\]"):
        models.fit(spec, start, features, target, 0)
