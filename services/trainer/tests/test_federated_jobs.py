"""What of a federated task runs in the sandbox, and what is believed of it."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from agorai_shared import vectors
from agorai_shared.documents import Schema
from agorai_shared.federated import Privacy
from agorai_shared.vectors import VectorRefusedError
from agorai_trainer import formats, schemas, tables, verdicts
from agorai_trainer.federated import models, published
from agorai_trainer.federated.checking import check, read
from agorai_trainer.federated.findings import Checked
from agorai_trainer.federated.models import Column, Kind, ModelSpec
from agorai_trainer.federated.sandboxed import FederatedSandbox
from agorai_trainer.frames import Json, Reply
from agorai_trainer.sandbox import Sandbox
from agorai_trainer.table_refusals import MissingColumnError, TargetKindError
from agorai_trainer.tasks import Limits

from .federated import DENSE, data_of, spec_of

SPECIES = ("setosa", "versicolor", "virginica")
COLUMNS = tuple(
    Column(name=f"f{number}", offset=mean, scale=deviation, minimum=0.0, maximum=8.0)
    for number, (mean, deviation) in enumerate([(5.8, 0.8), (3.1, 0.4), (3.8, 1.8), (1.2, 0.8)])
)


def of_iris(kind: Kind = "logistic_regression", **values: object) -> ModelSpec:
    """Give a model of the fixture `iris`, with scales that are known to all."""
    return ModelSpec.model_validate(
        {"kind": kind, "features": COLUMNS, "target": {"name": "y"}, "classes": SPECIES, **values}
    )


@pytest.fixture(scope="module")
def iris_schema(iris: bytes) -> Schema:
    return schemas.describe(tables.parse(iris), "iris", "y")


@pytest.mark.asyncio(loop_scope="session")
class TestInTheSandbox:
    async def test_a_round_gives_the_bits_that_it_gives_outside(self, sandbox: Sandbox, iris: bytes) -> None:
        spec, work = of_iris(), FederatedSandbox(sandbox)
        start = models.initial(spec)
        found = await work.fit(spec, start, iris, 1, 0.1)
        assert found.vector.tobytes() == models.fit(spec, start, *read(spec, iris), 1, 0.1).tobytes()
        assert found.samples == 150
        measured = await work.measure(spec, [start, found.vector], iris)
        assert measured.samples == 150
        assert measured.right == tuple(
            models.right(spec, one, *read(spec, iris)) for one in (start, found.vector)
        )
        assert measured.right[1] > 130

    async def test_what_is_to_be_hidden_is_clipped_and_blurred_anew_each_time(
        self, sandbox: Sandbox, iris: bytes
    ) -> None:
        spec, work = of_iris("mlp", layers=DENSE), FederatedSandbox(sandbox)
        start = models.initial(spec)
        hidden = Privacy(clip=0.01, noise=0.5)
        one, other = [(await work.fit(spec, start, iris, 1, privacy=hidden)).vector - start for _ in range(2)]
        for step in (one, other):
            assert 0.6 < np.std(step) / (hidden.noise * hidden.clip) < 1.6
        assert not np.array_equal(one, other)

    async def test_parquet_is_learnt_like_csv(
        self, sandbox: Sandbox, iris: bytes, iris_parquet: bytes
    ) -> None:
        spec, work = of_iris("mlp", layers=DENSE), FederatedSandbox(sandbox)
        start = models.initial(spec)
        one, other = [await work.fit(spec, start, data, 1) for data in (iris, iris_parquet)]
        assert one.vector.tobytes() == other.vector.tobytes()

    async def test_the_finished_model_is_stored_and_predicts_in_the_sandbox(
        self, sandbox: Sandbox, iris: bytes
    ) -> None:
        spec, work = of_iris(), FederatedSandbox(sandbox)
        vector = models.fit(spec, models.initial(spec), *read(spec, iris), 0)
        data = await work.store(spec, vector)
        assert data == published.stored(spec, vector)
        schema = published.schema_of(spec)
        found = await sandbox.predict(data, published.format_of(spec), schema, iris)
        assert list(found.values) == models.predict(spec, vector, read(spec, iris)[0]).tolist()
        score = await sandbox.evaluate(data, published.format_of(spec), schema, iris)
        assert score.accuracy == models.right(spec, vector, *read(spec, iris)) / 150

    async def test_data_are_checked_there_too(
        self, sandbox: Sandbox, iris: bytes, iris_schema: Schema
    ) -> None:
        work = FederatedSandbox(sandbox)
        assert await work.check_data(of_iris(), iris, 150, iris_schema) == Checked(rows=150, findings=())
        (fault,) = (await work.check_data(of_iris(), iris, 151)).findings
        assert fault.fault == "rows"

    async def test_what_is_wrong_with_the_data_is_told_by_name(self, sandbox: Sandbox, iris: bytes) -> None:
        spec, work = of_iris(), FederatedSandbox(sandbox)
        with pytest.raises(MissingColumnError, match="'f0'"):
            await work.fit(spec, models.initial(spec), iris.replace(b"f0", b"g0", 1), 0)
        with pytest.raises(TargetKindError, match="'versacolor'"):
            await work.fit(spec, models.initial(spec), iris.replace(b"versicolor", b"versacolor"), 0)

    async def test_a_specification_that_trains_for_ever_is_ended(self, sandbox: Sandbox, iris: bytes) -> None:
        spec = of_iris("mlp", layers=({"layer": "dense", "units": 5000},), local_epochs=10_000, batch_size=1)
        limits = Limits(cpu_s=1, memory_mib=1024, wall_s=60)
        body: Json = {"spec": spec.model_dump(mode="json"), "round": 0, "proximal_mu": 0.0}
        blobs = [vectors.to_bytes(models.initial(spec)), iris]
        with pytest.raises(verdicts.CpuLimitError):
            await sandbox.run("agorai_trainer.federated.jobs:fit", body, blobs, limits=limits)

    async def test_a_vector_of_another_model_does_not_get_there(self, sandbox: Sandbox, iris: bytes) -> None:
        spec, work = of_iris(), FederatedSandbox(sandbox)
        start = models.initial(spec)
        with pytest.raises(VectorRefusedError):
            await work.fit(spec, start[1:], iris, 0)
        with pytest.raises(VectorRefusedError):
            await work.measure(spec, [start, start * np.nan], iris)


class Lying(Sandbox):
    """A sandbox whose job was taken over by what it read."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.in_keras = False

    async def run(self, entry: str, body: Json, blobs: Sequence[bytes] = (), **rest: object) -> Reply:
        del entry, body, blobs
        self.in_keras = rest["keras"] is True
        return self._reply


SPEC = of_iris()
GOOD = vectors.to_bytes(models.initial(SPEC))


@pytest.mark.parametrize(
    "reply",
    [
        Reply({"samples": 150}),
        Reply({"samples": 150}, (GOOD, GOOD)),
        Reply({"samples": 150}, (GOOD[:-8],)),
        Reply({"samples": 150}, (GOOD[:-8] + b"\xff" * 8,)),
        Reply({"samples": 0}, (GOOD,)),
        Reply({"samples": "many"}, (GOOD,)),
        Reply({"samples": 150, "more": 1}, (GOOD,)),
    ],
)
async def test_an_update_that_is_none_is_not_taken(reply: Reply, iris: bytes) -> None:
    with pytest.raises(verdicts.OutputLimitError):
        await FederatedSandbox(Lying(reply)).fit(SPEC, models.initial(SPEC), iris, 0)


@pytest.mark.parametrize("kind", ["keras", "torch", "mlp"])
async def test_only_nets_in_keras_are_trained_where_tensorflow_is_at_hand(kind: Kind, iris: bytes) -> None:
    spec = of_iris(kind, layers=DENSE)
    start = models.initial(spec)
    sandbox = Lying(Reply({"samples": 1}, (vectors.to_bytes(start),)))
    await FederatedSandbox(sandbox).fit(spec, start, iris, 0)
    assert sandbox.in_keras == (kind == "keras")


@pytest.mark.parametrize(
    "body",
    [
        {"right": [1], "samples": 3},
        {"right": [1, 4], "samples": 3},
        {"right": [1, -1], "samples": 3},
        {"right": [1, 2.5], "samples": 3},
        {"right": [1, 2]},
    ],
)
async def test_counts_that_cannot_be_are_not_taken(body: Json, iris: bytes) -> None:
    start = models.initial(SPEC)
    with pytest.raises(verdicts.OutputLimitError):
        await FederatedSandbox(Lying(Reply(body))).measure(SPEC, [start, start], iris)


def frame(iris: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(iris))


def faults(spec: ModelSpec, data: bytes, schema: Schema | None = None) -> list[tuple[str, str | None]]:
    return [(one.fault, one.column) for one in check(spec, data, 10, schema).findings]


def test_data_that_fit_have_no_findings_though_classes_are_missing(iris: bytes) -> None:
    table = frame(iris)
    assert faults(of_iris(), iris) == []
    one_class = table[table["y"] == "virginica"].to_csv(index=False).encode()
    assert faults(of_iris(), one_class) == []


def test_what_is_encrypted_may_be_no_further_from_its_mean_than_a_ciphertext_holds(iris: bytes) -> None:
    (petal,) = [column for column in COLUMNS if column.name == "f2"]  # from 1 to 6.9
    narrow = petal.model_copy(update={"offset": 0.0, "scale": 0.4, "minimum": None, "maximum": 9.0})
    spec = of_iris(features=tuple(narrow if one is petal else one for one in COLUMNS))
    assert check(spec, iris, 10, None, 18.0).findings == ()
    (found,) = check(spec, iris, 10, None, 16.0).findings
    assert (found.fault, found.column) == ("range", "f2")
    assert "from -6.4 to 6.4" in found.explanation


@pytest.mark.parametrize("extra", ["", "and more columns"])
def test_every_fault_is_found_and_named(iris: bytes, extra: str) -> None:
    table = frame(iris)
    table = table.assign(extra=1) if extra else table
    table["f1"] = table["f1"].astype(object)
    table.loc[3, "f1"] = "wide"
    table.loc[5, "f2"] = np.nan
    table.loc[[7, 8], "f3"] = [9.5, -0.1]
    table.loc[9, "y"] = "rosa"
    found = check(of_iris(), table.drop(columns="f0").to_csv(index=False).encode(), 10, None).findings
    assert [(one.fault, one.column) for one in found] == [
        ("absent", "f0"), ("type", "f1"), ("missing value", "f2"), ("range", "f3"), ("class", "y")
    ]  # fmt: skip
    assert "'wide'" in found[1].explanation
    assert "2 values" in found[3].explanation
    assert "'rosa'" in found[4].explanation


@pytest.mark.parametrize("data", [b"", b"f0,f1\n", b"PAR1 nothing", b"\xff\xfe", b"a,b\n1\n"])
def test_files_that_are_none_are_named_unreadable(data: bytes) -> None:
    assert faults(of_iris(), data) == [("unreadable", None)]


def test_quantities_of_a_regression_are_checked_like_features(diabetes: bytes) -> None:
    features, target = data_of("diabetes")
    spec = spec_of("linear_regression", features, target)
    assert faults(spec, diabetes) == []
    bounded = spec.model_copy(update={"target": Column(name="y", minimum=30.0, maximum=300.0)})
    assert faults(bounded, diabetes) == [("range", "y")]


def test_a_schema_that_lies_is_found(iris: bytes, iris_schema: Schema) -> None:
    true, spec = iris_schema, of_iris()
    assert faults(spec, iris, true) == []

    def told(**lie: object) -> list[tuple[str, str | None]]:
        return faults(spec, iris, true.model_copy(update=lie))

    fields = true.fields
    assert told(rows=1500) == [("schema", None)]
    assert told(format="parquet") == [("schema", None)]
    for part in ({"size": 1}, {"missing_share": 0.1}, {"duplicate_rows": 0}):
        assert told(quality=true.quality.model_copy(update=part)) == [("schema", None)]
    assert told(fields=fields[1:]) == [("schema", None)]
    assert told(fields=fields[::-1]) == [("schema", None)]
    for lie in ({"missing": 1}, {"distinct": 150}, {"maximum": 9.0}, {"type": "integer"}):
        assert told(fields=(fields[0].model_copy(update=lie), *fields[1:])) == [("schema", "f0")]
    estimate = fields[0].model_copy(update={"distinct": 40, "distinct_is": "estimate"})
    assert told(fields=(estimate, *fields[1:])) == []


def test_no_more_findings_are_told_than_a_message_holds() -> None:
    names = tuple(Column(name=f"f{number}") for number in range(300))
    spec = ModelSpec(kind="svm", features=names, target=Column(name="y"), classes=(0, 1))
    assert len(faults(spec, b"y\n0\n1\n")) == 100


def test_a_published_model_says_what_it_is(iris: bytes) -> None:
    spec = of_iris("mlp", layers=DENSE)
    vector = models.fit(spec, models.initial(spec), *read(spec, iris), 0)
    told = formats.describe(published.stored(spec, vector), published.format_of(spec))
    assert told["features"] == list(spec.feature_names)
    assert told["steps"] == ["StandardScaler", "MLPClassifier"]
