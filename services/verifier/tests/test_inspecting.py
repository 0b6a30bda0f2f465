"""What makes a package as promised, and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agorai_shared.documents import Column, Metadata
from agorai_shared.package import InputColumn, Manifest, ModelFile, Output, Sample, Structure, TradeBinding
from agorai_shared.trainer import Evaluation, Failure, Score
from agorai_verifier.inspecting import CannotTellError, Offer, Promise, fault, fault_of_set

BINDING = TradeBinding(chain_id=31337, contract="0x" + "ab" * 20, trade=7)
PROMISE = Promise(BINDING, 3, 9_500, bytes(32))
MANIFEST = Manifest(
    trade=BINDING,
    resource=3,
    name="model",
    purpose="",
    structure=Structure(estimator="sklearn.LogisticRegression", parameters={}),
    format="skops",
    input=(InputColumn(name="a", type="float"),),
    output=Output(target="y", classes=(0, 1)),
    accuracy=0.95,
    test=Sample(rows=2, of=10, share=0.2, sha256="0" * 64),
    model=ModelFile(sha256="0" * 64, size=1),
)
FAILURE = Failure(code="model_malformed", message="The model is malformed.", remedy="")


OFFERED = Offer(
    Metadata(
        kind="model",
        name="model",
        format="skops",
        size=1,
        columns=(Column(name="a", type="number"),),
        target="y",
        classes=(0, 1),
    ),
    commitment=b"C" * 32,
)
TOO_SLOW = Failure(code="time_limit", message="It took too long.", remedy="")


def evaluated(verification: Score | Failure | None, manifest: Manifest = MANIFEST) -> Evaluation:
    return Evaluation(
        package=manifest,
        commitment=OFFERED.commitment.hex(),
        test=Score(accuracy=1.0, rows=2),
        verification=verification,
    )


@pytest.mark.parametrize("commitment", [None, "00" * 32])
def test_a_model_that_was_not_registered_is_not_as_promised_however_good(commitment: str | None) -> None:
    found = evaluated(Score(accuracy=1.0, rows=100)).model_copy(update={"commitment": commitment})
    assert "not the one that resource 3 was registered with" in str(fault(PROMISE, OFFERED, found))


@pytest.mark.parametrize("accuracy", [0.95, 0.94996, 1.0])
def test_a_model_that_reaches_its_promise_to_the_hundredth_of_a_percent_has_no_fault(accuracy: float) -> None:
    assert fault(PROMISE, OFFERED, evaluated(Score(accuracy=accuracy, rows=100))) is None


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (evaluated(Score(accuracy=0.9499, rows=100)), "94.99%, 95.00% was promised"),
        (evaluated(Score(accuracy=None, rows=100)), "not defined, 95.00% was promised"),
        (evaluated(None), "not defined, 95.00% was promised"),
        (evaluated(Score(accuracy=1, rows=9)).model_copy(update={"test": FAILURE}), "The model is malformed"),
        (
            evaluated(
                Score(accuracy=1, rows=9),
                MANIFEST.model_copy(update={"input": (*MANIFEST.input, InputColumn(name="b", type="float"))}),
            ),
            "other columns than it was offered with",
        ),
        (
            evaluated(FAILURE, MANIFEST.model_copy(update={"output": Output(target="y", classes=(0, 1, 2))})),
            "other columns than it was offered with",
        ),
        (
            evaluated(Score(accuracy=1, rows=9), MANIFEST.model_copy(update={"resource": 4})),
            "resource 4, not 3",
        ),
        (
            evaluated(
                Score(accuracy=1, rows=9),
                MANIFEST.model_copy(update={"trade": BINDING.model_copy(update={"trade": 8})}),
            ),
            "for trade 8",
        ),
    ],
)
def test_every_fault_is_named(found: Evaluation, why: str) -> None:
    assert why in (fault(PROMISE, OFFERED, found) or "")


def test_the_address_of_the_contract_is_compared_whatever_its_capitals() -> None:
    shouted = replace(PROMISE, trade=BINDING.model_copy(update={"contract": "0x" + "AB" * 20}))
    assert fault(shouted, OFFERED, evaluated(Score(accuracy=1, rows=9))) is None


@pytest.mark.parametrize("error", ["missing_column", "not_finite", "target_kind"])
def test_data_that_do_not_fit_the_model_as_offered_show_nothing_against_it(error: str) -> None:
    assert fault(PROMISE, OFFERED, evaluated(FAILURE.model_copy(update={"code": error}))) is None


@pytest.mark.parametrize(("error", "why"), [("target_zero", None), ("target_kind", "cannot be evaluated")])
def test_of_the_givers_own_rows_only_what_chance_can_choose_is_excused(error: str, why: str | None) -> None:
    found = evaluated(Score(accuracy=1.0, rows=100))
    failed = found.model_copy(update={"test": FAILURE.model_copy(update={"code": error})})
    told = fault(PROMISE, OFFERED, failed)
    assert told is None if why is None else why in str(told)


def test_a_model_that_fails_on_data_that_fit_it_is_at_fault() -> None:
    refused = FAILURE.model_copy(update={"code": "prediction_refused"})
    assert "cannot be evaluated" in (fault(PROMISE, OFFERED, evaluated(refused)) or "")


@pytest.mark.parametrize("which", ["test", "verification"])
def test_what_ran_into_this_nodes_own_limits_is_not_judged(which: str) -> None:
    with pytest.raises(CannotTellError, match="It took too long"):
        fault(PROMISE, OFFERED, evaluated(FAILURE).model_copy(update={which: TOO_SLOW}))


def of_set(measured: float | None, said: float = 0.42, update: dict[str, object] | None = None) -> Evaluation:
    manifest = MANIFEST.model_copy(update={"accuracy": said} | (update or {}))
    return evaluated(Score(accuracy=measured, rows=100), manifest)


@pytest.mark.parametrize("measured", [0.42, 0.42 + 1e-9, 0.42 - 1e-9])
def test_a_set_that_is_wrong_as_often_as_it_says_has_no_fault(measured: float) -> None:
    assert fault_of_set(PROMISE, OFFERED, of_set(measured)) is None


def test_a_set_of_numbers_may_be_worse_than_nothing() -> None:
    assert fault_of_set(PROMISE, OFFERED, of_set(-3.5, -3.5)) is None


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (of_set(0.5, 0.5), "50.00%, not below 50%"),
        (of_set(0.96, 0.42), "96.00%, not below 50%"),
        (of_set(0.41, 0.42), "41.00%, 42.00% was said"),
        (of_set(0.43, 0.42), "43.00%, 42.00% was said"),
        (of_set(None), "not defined"),
        (evaluated(None), "not defined"),
        (of_set(0.42, update={"format": "safetensors"}), "of the format safetensors"),
        (of_set(0.42, update={"resource": 4}), "resource 4, not 3"),
        (of_set(0.42, update={"trade": BINDING.model_copy(update={"trade": 8})}), "for trade 8"),
        (of_set(0.42, update={"output": Output(target="y", classes=(1, 0))}), "other columns"),
        (of_set(0.42).model_copy(update={"test": FAILURE}), "The model is malformed"),
        (evaluated(FAILURE), "cannot be evaluated"),
    ],
)
def test_every_fault_of_a_set_is_named(found: Evaluation, why: str) -> None:
    assert why in (fault_of_set(PROMISE, OFFERED, found) or "")


def test_a_set_that_ran_into_this_nodes_own_limits_is_not_judged() -> None:
    with pytest.raises(CannotTellError):
        fault_of_set(PROMISE, OFFERED, evaluated(TOO_SLOW))


def test_data_that_do_not_fit_a_set_show_nothing_against_it() -> None:
    unfit = FAILURE.model_copy(update={"code": "missing_column"})
    assert fault_of_set(PROMISE, OFFERED, evaluated(unfit)) is None
