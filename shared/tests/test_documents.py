"""Public documents and the deployment file: what is malformed is told of, what is read is what was written."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
from eth_utils.address import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from agorai_shared.deployment import NEEDED, Deployment, DeploymentError
from agorai_shared.documents import (
    ClassBalance,
    ClassShare,
    Column,
    DocumentMalformedError,
    Evaluation,
    LabelNoise,
    Metadata,
    PortionOf,
    Profile,
    Quality,
    Schema,
    SchemaField,
)
from agorai_shared.types import Address

METADATA = Metadata(
    kind="model",
    name="Iris",
    format="skops",
    size=17,
    columns=(Column(name="petal", type="number"),),
    classes=(1, "two"),
    training={"estimator": "x", "depth": [1, 2.5, None, True]},
    evaluation=Evaluation(accuracy=0.75, test_rows=4),
    derived_from=(3,),
)
NOISE = LabelNoise(
    suspected=2,
    share=0.2,
    rows=10,
    sampled=False,
    accuracy=0.9,
    method="confident learning",
    estimator="forest",
    folds=5,
    seed=0,
)
BALANCE = ClassBalance(
    classes=(ClassShare(name="b", share=0.75), ClassShare(name=None, share=0.25)), entropy=0.8
)
SCHEMA = Schema(
    name="Petals",
    format="csv",
    rows=20,
    fields=(
        SchemaField(name="width", type="real", missing=4, distinct=9, minimum=0.5, maximum=7),
        SchemaField(
            name="seen", type="date", missing=0, distinct=2, minimum="2026-01-01", maximum="2026-02-01"
        ),
        SchemaField(name="species", type="text", missing=0, distinct=2, longest=9),
    ),
    target="species",
    task="classification",
    quality=Quality(
        size=300,
        rows=20,
        missing_share=0.1,
        duplicate_rows=5,
        duplicate_share=0.25,
        class_balance=BALANCE,
        label_noise=NOISE,
        not_measured={},
        score=0.9 * 0.75 * 0.8 * 0.98,
    ),
    portion=PortionOf(whole="0a" * 32, index=1, count=2, dealt="stratified", by="species", seed=3),
)
SCHEMA_CID = "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
CONTRACTS = {name: Address(to_checksum_address("0x" + "aa" * 20)) for name in NEEDED}


def test_what_is_written_is_read_again_and_is_always_the_same_bytes() -> None:
    raw = METADATA.to_bytes()
    again = Metadata.from_bytes(raw)
    assert again == METADATA
    assert again.to_bytes() == raw
    assert list(json.loads(raw)) == sorted(json.loads(raw))


@given(st.text(max_size=200), st.text(max_size=300))
def test_any_profile_survives_its_writing(name: str, description: str) -> None:
    try:
        profile = Profile(name=name, description=description)
        raw = profile.to_bytes()
    except (ValueError, TypeError):  # half of a surrogate pair is no text
        return
    assert Profile.from_bytes(raw) == profile


@pytest.mark.parametrize(
    "change",
    [
        {"type": "agorai/metadata/2"},
        {"kind": "other"},
        {"size": -1},
        {"size": "17"},
        {"size": 1.5},
        {"name": "x" * 201},
        {"more": 1},
        {"x" * 100_000: 1},
        {"rows": True},
        {"classes": [1.5]},
        {"evaluation": {"accuracy": "NaN", "test_rows": 1}},
        {"columns": [{"name": "a"}]},
        {"derived_from": [1] * 1001},
        {"training": 5},
    ],
    ids=lambda change: str(change)[:30],
)
def test_another_form_is_refused_in_few_words(change: dict[str, object]) -> None:
    raw = json.dumps(json.loads(METADATA.to_bytes()) | change).encode()
    with pytest.raises(DocumentMalformedError) as caught:
        Metadata.from_bytes(raw)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"size":1e999}'])
def test_what_is_no_document_is_refused(raw: bytes) -> None:
    with pytest.raises(DocumentMalformedError):
        Metadata.from_bytes(raw)
    with pytest.raises(DocumentMalformedError):
        Profile.from_bytes(raw)


def test_what_is_longer_than_its_kind_may_be_is_not_read() -> None:
    raw = METADATA.to_bytes()
    assert Metadata.from_bytes(raw.ljust(Metadata.MOST_BYTES)) == METADATA
    with pytest.raises(DocumentMalformedError, match="1,048,577 bytes, and at most 1,048,576 are read"):
        Metadata.from_bytes(raw.ljust(Metadata.MOST_BYTES + 1))


def test_what_grows_beyond_its_kind_when_it_is_written_whole_is_refused() -> None:
    """Else who is passed it on, as a voter's sandbox is, refuses what another has read."""
    said = json.loads(SCHEMA.to_bytes())
    added = [{"name": f"{n:045}", "type": "text", "missing": 0, "distinct": 0} for n in range(9_900)]
    raw = json.dumps(said | {"fields": [*said["fields"], *added]}, separators=(",", ":")).encode()
    assert len(raw) < Schema.MOST_BYTES
    with pytest.raises(DocumentMalformedError, match="grows when it is written whole"):
        Schema.from_bytes(raw)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"{" + b",".join(b'"%d":0' % i for i in range(100_000)) + b"}", r"it has 100,00\d faults"),
        (b'{"columns":[' + b",".join([b"{}"] * 50_000) + b"]}", "kind: Field required"),
        (b'{"columns":[' + b",".join([b"{}"] * 100_000) + b"]}", "more than 131,072 values"),
        (b"[" + b",".join([b'""'] * 300_000) + b"]", "more than 131,072 values"),
    ],
    ids=["members", "elements", "objects", "strings"],
)
def test_a_small_document_with_many_faults_takes_little_memory(raw: bytes, why: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DocumentMalformedError, match=why) as caught:
            Metadata.from_bytes(raw)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert caught.value.__context__ is None, "the faults are kept with the error"


def test_what_is_in_texts_is_no_value() -> None:
    whole = METADATA.model_copy(update={"training": {"text": 'a,"{[\\' * 100_000}})
    assert Metadata.from_bytes(whole.to_bytes()) == whole


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail_otherwise(raw: bytes) -> None:
    with pytest.raises(DocumentMalformedError):
        Metadata.from_bytes(raw)


def test_a_schema_is_read_as_it_was_written() -> None:
    raw = SCHEMA.to_bytes()
    assert Schema.from_bytes(raw) == SCHEMA
    assert Schema.from_bytes(raw).to_bytes() == raw


def _with(path: str, value: object) -> bytes:
    """Give the schema's bytes with one member, by its path, made another."""
    document = json.loads(SCHEMA.to_bytes())
    *above, last = (int(part) if part.isdigit() else part for part in path.split("."))
    inner = document
    for part in above:
        inner = inner[part]
    inner[last] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("quality.score", 0.99, "score is not what its parts give"),
        ("quality.label_noise", None, "not_measured must say why"),
        ("quality.not_measured", {"label_noise": "too dear"}, "not_measured must say why"),
        ("quality.rows", 21, "another number of rows"),
        ("quality.missing_share", 1.5, "less than or equal to 1"),
        ("target", "colour", "none of the fields"),
        ("fields.1.name", "width", "two fields have one name"),
        ("fields.0.distinct", 21, "more values than there are rows"),
        ("fields.2.minimum", "anna", "has no extremes"),
        ("fields.0.longest", 5, "only text has a longest value"),
        ("fields.0.maximum", "7", "of another type"),
        ("fields.1.maximum", 7, "of another type"),
        ("fields.0.sample", [1, 2], "Extra inputs"),
        ("portion.index", 2, "portion 2 of 2"),
        ("portion.by", None, "stratified, and only then"),
        ("portion.whole", "0A" * 32, "match pattern"),
        ("type", "agorai/schema/2", "agorai/schema/1"),
    ],
)
def test_a_schema_that_contradicts_itself_or_tells_of_values_is_refused(
    path: str, value: object, why: str
) -> None:
    with pytest.raises(DocumentMalformedError, match=why):
        Schema.from_bytes(_with(path, value))


def test_infinity_is_no_extreme() -> None:
    with pytest.raises(DocumentMalformedError, match="not finite"):
        Schema.from_bytes(_with("fields.0.maximum", float("inf")))


def test_metadata_names_its_schema_and_that_of_before_there_were_schemas_keeps_its_bytes() -> None:
    raw = METADATA.to_bytes()
    assert b"schema" not in raw
    assert Metadata.from_bytes(raw).schema_cid is None
    named = METADATA.model_copy(update={"schema_cid": SCHEMA_CID})
    assert Metadata.from_bytes(named.to_bytes()).schema_cid == SCHEMA_CID


@pytest.mark.parametrize("text", ["", "schema", SCHEMA_CID[:-1], SCHEMA_CID.upper(), "f0155" + "12" * 33])
def test_what_is_no_cid_in_its_canonical_form_names_no_schema(text: str) -> None:
    raw = json.dumps(json.loads(METADATA.to_bytes()) | {"schema_cid": text}).encode()
    with pytest.raises(DocumentMalformedError, match="schema_cid"):
        Metadata.from_bytes(raw)


def written(folder: Path, content: object) -> Path:
    path = folder / "deployment.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_deployment_file_is_read(tmp_path: Path) -> None:
    made = Deployment(chain_id=1, start_block=2, contracts=CONTRACTS)
    assert Deployment.load(written(tmp_path, made.model_dump_json())) == made
    assert made.token == made.registry == made.invocation


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "JSON"),
        ({}, "chain_id"),
        ({"chain_id": 0, "start_block": 0, "contracts": CONTRACTS}, "chain_id"),
        ({"chain_id": 1, "start_block": -1, "contracts": CONTRACTS}, "start_block"),
        ({"chain_id": 1, "start_block": 0, "contracts": {}}, "MarketToken"),
        ({"chain_id": 1, "start_block": 0, "contracts": CONTRACTS | {"Registry": "0x12"}}, "Registry"),
        ({"chain_id": 1, "start_block": 0, "contracts": CONTRACTS | {"Registry": "no"}}, "Registry"),
    ],
)
def test_a_deployment_file_that_cannot_be_used_says_what_is_wrong_with_it(
    tmp_path: Path, content: object, why: str
) -> None:
    with pytest.raises(DeploymentError, match=why):
        Deployment.load(written(tmp_path, content))


def test_an_absent_deployment_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match=r"nowhere\.json"):
        Deployment.load(tmp_path / "nowhere.json")


def test_addresses_are_compared_in_one_spelling_however_the_file_writes_them(tmp_path: Path) -> None:
    mixed = "0xAb5801a7D398351b8bE11C439e05C5B3259aeC9B"
    for spelling in (mixed, mixed.lower()):
        content = {"chain_id": 1, "start_block": 0, "contracts": CONTRACTS | {"Registry": spelling}}
        assert Deployment.load(written(tmp_path, content)).registry == mixed
