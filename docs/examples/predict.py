"""Predict with a model that was bought: `python docs/examples/predict.py bought docs/examples/new_flowers.csv`."""

import sys
from pathlib import Path

from agorai_shared.package import Manifest
from agorai_trainer import training
from agorai_trainer.estimators import Format
from agorai_trainer.tasks import ModelSchema

folder, table = map(Path, sys.argv[1:])
package = Manifest.model_validate_json((folder / "package.json").read_bytes())
schema = ModelSchema(
    features=tuple(column.name for column in package.input),
    target=package.output.target,
    classes=package.output.classes,
)
model = (folder / "model").read_bytes()
for value in training.predict(model, Format(package.format), schema, table.read_bytes()).values:
    print(value)  # noqa: T201
