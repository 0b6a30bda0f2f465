"""Public documents and the deployment file: what is malformed is told of, what is read is what was written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from eth_utils.address import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from agorai_shared.deployment import Deployment, DeploymentError
from agorai_shared.documents import Column, DocumentMalformedError, Evaluation, Metadata, Profile
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
CONTRACTS = {
    name: Address(to_checksum_address("0x" + "aa" * 20)) for name in ("MarketToken", "Registry", "Invocation")
}


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


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail_otherwise(raw: bytes) -> None:
    with pytest.raises(DocumentMalformedError):
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
