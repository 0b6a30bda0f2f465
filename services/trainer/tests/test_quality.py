"""The quality measure: exact where it counts, honest where it estimates, and silent about the data."""

from __future__ import annotations

import io
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_wine, make_classification

from agorai_shared.documents import Quality, Schema
from agorai_trainer import label_noise, schemas, tables
from agorai_trainer.arrow import pa, pq
from agorai_trainer.quality import examine, measure, task_of
from agorai_trainer.table_refusals import MissingColumnError


def as_table(frame: pd.DataFrame) -> tables.Table:
    return tables.parse(frame.to_csv(index=False).encode())


def framed(features: np.ndarray, target: np.ndarray) -> pd.DataFrame:
    frame = pd.DataFrame(features, columns=[f"f{number}" for number in range(features.shape[1])])
    return frame.assign(y=target)


def flipped(target: np.ndarray, share: float) -> tuple[np.ndarray, int]:
    """Give the labels with a share of them made wrong, and how many that are."""
    rng = np.random.default_rng(0)
    wrong = rng.choice(len(target), round(share * len(target)), replace=False)
    classes = int(target.max()) + 1
    changed = target.copy()
    changed[wrong] = (target[wrong] + rng.integers(1, classes, len(wrong))) % classes
    return changed, len(wrong)


# Measured: 30 suspected where 28 of 569 are flipped (3 where none is), 9 where 9 of 178 are (0), 83 where 90 of
# 1797 are (0). The bounds leave room for other versions of the libraries.
@pytest.mark.parametrize("load", [load_breast_cancer, load_wine, load_digits])
def test_the_share_of_flipped_labels_is_found(load: object) -> None:
    features, target = load(return_X_y=True)  # type: ignore[operator]
    noisy, planted = flipped(target, 0.05)
    clean, spoilt = (measure(as_table(framed(features, labels)), "y") for labels in (target, noisy))
    assert clean.label_noise is not None
    assert spoilt.label_noise is not None
    assert clean.label_noise.suspected <= 0.02 * len(target)
    assert 0.75 * planted <= spoilt.label_noise.suspected <= 1.4 * planted
    assert spoilt.score < clean.score


def test_the_rows_suspected_are_mostly_those_that_were_flipped() -> None:
    features, target = load_breast_cancer(return_X_y=True)
    noisy, planted = flipped(target, 0.05)
    suspects = examine(as_table(framed(features, noisy)), "y").suspects
    right = [one for one in suspects if one.likely == target[one.row] != noisy[one.row]]
    assert len(right) >= 0.75 * planted  # measured: 24 of 28, and 6 others
    assert len(right) >= 0.7 * len(suspects)
    assert all(one.label == noisy[one.row] for one in suspects)
    assert [one.confidence for one in suspects] == sorted((one.confidence for one in suspects), reverse=True)


def test_the_same_seed_gives_the_same_document(cancer: bytes) -> None:
    table = tables.parse(cancer)
    assert measure(table, "y", 7).to_bytes() == measure(table, "y", 7).to_bytes()


def test_a_large_table_is_judged_by_a_sample_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_noise, "MOST_ROWS", 300)
    features, target = make_classification(2_000, 5, random_state=0)
    found = measure(as_table(framed(features, target)), "y").label_noise
    assert found is not None
    assert (found.rows, found.sampled) == (300, True)


def test_text_and_missing_values_are_features_too() -> None:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, 400)
    colours = np.where(target == 1, "red", rng.choice(["green", "blue", ""], 400))
    numbers = np.where(rng.random(400) < 0.3, np.nan, rng.random(400))
    numbers[0] = np.inf
    frame = pd.DataFrame({"colour": colours, "number": numbers, "empty": "", "id": np.arange(400)})
    noisy, planted = flipped(target, 0.05)
    found = measure(as_table(frame.assign(y=np.array(["no", "yes"])[noisy])), "y").label_noise
    assert found is not None
    assert found.accuracy > 0.9
    assert 0.5 * planted <= found.suspected <= 1.5 * planted


def test_classes_too_rare_for_the_folds_are_left_out_and_counted(iris: bytes) -> None:
    rare = iris + b"1,1,1,1,unknown\n" * 4 + b"1,1,1,1,\n"
    quality = measure(tables.parse(rare), "y")
    assert quality.label_noise is not None
    assert (quality.label_noise.rows, quality.label_noise.rare_classes) == (150, 1)
    assert quality.class_balance is not None
    assert [each.name for each in quality.class_balance.classes] == [
        "setosa",
        "versicolor",
        "virginica",
        None,
    ]


@pytest.mark.parametrize(
    ("data", "target", "why"),
    [
        (b"a,y\n1,x\n2,y\n", None, "no target was named"),
        (b"a,y\n" + b"1,2.5\n2,3.5\n" * 20, "y", "quantity"),
        (b"a,y\n1,x\n2,y\n", "y", "fewer than two classes have 5 rows"),
        (b"a,y\n" + b"1,x\n" * 20, "y", "fewer than two classes"),
        (b"y\n" + b"x\nz\n" * 20, "y", "no column besides the target"),
        (b"a,y\n" + b"".join(b"1,c%d\n" % row for row in range(101)), "y", "more than 100 classes"),
        (b"a,y\n1, \n2,\n", "y", "fewer than two classes"),
    ],
)
def test_what_is_not_measured_says_why(data: bytes, target: str | None, why: str) -> None:
    quality = measure(tables.parse(data), target)
    assert quality.label_noise is None
    assert why in quality.not_measured["label_noise"]


def test_counts_are_exact_and_the_score_is_of_them() -> None:
    data = b"a,b,y\n1,x,u\n1,x,u\n2,,u\n2, ,u\nnan,x,v\n,x,v\n1,x,v\n2,z,v\n"
    quality = measure(tables.parse(data), "y")
    assert quality.rows == 8
    assert quality.size == len(data)
    assert quality.missing_share == 4 / 24
    assert quality.duplicate_rows == 2  # of the first and of the fifth; blanks differ from nothing as text
    assert quality.class_balance is not None
    assert quality.class_balance.entropy == 1
    assert math.isclose(quality.score, (1 - 4 / 24) * (1 - 2 / 8))


def test_uneven_classes_have_the_entropy_of_their_shares() -> None:
    balance = measure(tables.parse(b"a,y\n" + b"1,x\n" * 30 + b"2,z\n" * 10), "y").class_balance
    assert balance is not None
    assert [(each.name, each.share) for each in balance.classes] == [("x", 0.75), ("z", 0.25)]
    assert math.isclose(balance.entropy, 0.8112781244591328)


def test_a_table_split_in_arrow_chunks_is_measured_as_one() -> None:
    buffer = io.BytesIO()
    pq.write_table(
        pa.table({"a": [1.0, None] * 50, "b": [None, 2] * 50, "y": ["p", "q"] * 50}), buffer, row_group_size=7
    )
    quality = measure(tables.parse(buffer.getvalue()), "y")
    assert quality.duplicate_rows == 98
    assert quality.class_balance is not None
    assert [each.share for each in quality.class_balance.classes] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["x", "y"], "classification"),
        (["true", "false"], "classification"),
        (["0", "1"], "classification"),
        (["0.0", "1.0"], "classification"),
        (["0.5", "1"], "regression"),
        ([str(number) for number in range(40)] * 20, "regression"),
        ([str(number) for number in range(10)] * 20, "classification"),
        (["1", "2", "3", ""], "regression"),
        (["1", "inf"], "regression"),
    ],
)
def test_a_categorical_target_is_told_from_a_quantity(values: list[str], task: str) -> None:
    data = "a,y\n" + "".join(f"1,{value}\n" for value in values)
    assert task_of(tables.parse(data.encode()), "y") == task


def test_a_target_that_is_not_there_is_named() -> None:
    with pytest.raises(MissingColumnError, match="'z'"):
        measure(tables.parse(b"a,y\n1,2\n"), "z")


def test_a_schema_describes_each_field_by_its_type() -> None:
    rows = [
        f"{row},{row / 4},2026-01-{row + 1:02},2026-01-01 10:{row:02}:00,w{'w' * row},true"
        for row in range(12)
    ]
    data = "\n".join(["i,r,d,t,s,b", *rows, ",,,,,"]).encode()
    schema = schemas.describe(tables.parse(data), "All kinds", None)
    told = {
        field.name: (field.type, field.missing, field.distinct, field.minimum, field.maximum, field.longest)
        for field in schema.fields
    }
    assert told == {
        "i": ("integer", 1, 12, 0, 11, None),
        "r": ("real", 1, 12, 0.0, 2.75, None),
        "d": ("date", 1, 12, "2026-01-01", "2026-01-12", None),
        "t": ("timestamp", 1, 12, "2026-01-01T10:00:00", "2026-01-01T10:11:00", None),
        "s": ("text", 1, 12, None, None, 12),
        "b": ("boolean", 1, 1, None, None, None),
    }
    assert Schema.from_bytes(schema.to_bytes()) == schema


def test_a_schema_tells_no_text_no_rare_class_and_no_extremes_of_a_few_rows() -> None:
    names = ["Ada", "Grace", "Hedy", "Joan", "Mary", "Radia", "Shafi"]
    data = "who,age,fate\n" + "".join(f"{name},{4711 + row},{name}s\n" for row, name in enumerate(names))
    raw = schemas.describe(tables.parse(data.encode()), "People", "fate").to_bytes().decode()
    assert not [name for name in names if name in raw]
    assert "47" not in raw


def test_infinite_values_are_no_extremes() -> None:
    data = "a\n" + "\n".join([*(str(row + 0.5) for row in range(20)), "inf", "-inf"])
    (field,) = schemas.describe(tables.parse(data.encode()), "n", None).fields
    assert (field.minimum, field.maximum, field.missing) == (0.5, 19.5, 0)


def test_importing_the_measure_imports_no_framework() -> None:
    program = (
        "import sys, agorai_trainer.quality, agorai_trainer.schemas, agorai_trainer.portions;"
        "sys.exit('cleanlab' in sys.modules or 'sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_score_is_one_only_for_what_is_whole() -> None:
    assert Quality.score_of(0.0, 0.0, None, None) == 1
    assert Quality.score_of(1.0, 0.0, None, None) == 0
