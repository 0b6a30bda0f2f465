"""What is on offer against what a task wants, before it is opened: what suits, what does not and why, what lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from agorai.devchain import TOKEN
from agorai.task_matching import OnOffer, compared, warnings
from agorai.task_offering import Offering
from agorai.tasks import TaskPlan, TaskTerms
from agorai_shared.documents import Column, Metadata, Quality, Schema, SchemaField
from agorai_shared.federated import ComputingOffer, DataOffer, Mode, Specification, Wanted
from agorai_shared.search import Candidate, SchemaQuery, WantedField
from agorai_shared.types import Address, Wei
from agorai_trainer.federated.models import Column as Feature

DORA, CORA, ADA, MIRA = (Address("0x" + f"{byte:02x}" * 20) for byte in (0xD0, 0xC0, 0xA0, 0x30))
FIELDS = (WantedField(name="area"), WantedField(name="kind"))


def plan(mode: Mode = "open", providers: int = 1, quorum: int = 1, budget: float = 8) -> TaskPlan:
    terms = TaskTerms(
        budget=Wei(round(budget * TOKEN)), award=Wei(5 * TOKEN), bond=Wei(5 * TOKEN), rounds=2, quorum=quorum,
        join_window=3600, round_window=600, step_window=600, challenge_window=3600,
    )  # fmt: skip
    wanted = Wanted(providers=providers, most_fee=str(TOKEN), least_rows=20)
    return TaskPlan("flowers", {}, {}, wanted, terms, mode=mode)


def wei(amount: float) -> str:
    return str(round(amount * TOKEN))


def data(account: Address = DORA, **fees: float) -> Offering:
    """Let an account offer data sets, `r7=0.5` for number 7."""
    offers = tuple(DataOffer(resource=int(name[1:]), fee=wei(fee)) for name, fee in fees.items())
    return Offering(account, Specification(data=offers))


def computing(wage: float = 0.1, subtasks: int = 4) -> Offering:
    lent = ComputingOffer(wage=wei(wage), cores=2, memory_mib=1, subtasks=subtasks)
    return Offering(CORA, Specification(computing=lent))


def adding(fee: float, account: Address = ADA) -> Offering:
    return Offering(account, Specification(adding=wei(fee)))


def described(resource: int, rows: int | None = 100, columns: Sequence[str] = ("area", "kind")) -> Candidate:
    metadata = Metadata(
        kind="data", name="flowers", format="csv", size=1, rows=rows,
        columns=tuple(Column(name=name, type="number") for name in columns),
    )  # fmt: skip
    return Candidate(resource, metadata, None, Wei(0))


def found(wanted: TaskPlan, *members: Offering, **told: Candidate | None) -> OnOffer:
    """Compare; each data set is as wanted unless told otherwise, `r7=...` for number 7."""
    query = SchemaQuery(fields=FIELDS, kind="data", min_rows=20, max_price=TOKEN)
    known: dict[tuple[Address, int], Candidate | None] = {
        (one.account, each.resource): told.get(f"r{each.resource}", described(each.resource))
        for one in members
        for each in one.specification.data
    }
    return compared(wanted, query, members, known, MIRA)


def whys(on_offer: OnOffer) -> dict[str | int, str]:
    return {one.resource or one.kind: one.why for one in on_offer.matches}


@pytest.mark.parametrize(
    ("fee", "told", "why"),
    [
        (0.5, described(7), ""),
        (0.5, described(7, columns=("AREA", "Kind")), ""),
        (0.5, described(7, columns=("area", "hue")), "it has no kind, but area, hue"),
        (0.5, described(7, rows=19), "it has 19 rows, fewer than 20"),
        (0.5, described(7, rows=None), "it has an unknown number of rows, fewer than 20"),
        (1.5, described(7), "its fee is above 1"),
        (0.1, described(7), "nobody computes for less than its fee: the lowest wage is 0.1"),
        (1.5, described(7, rows=19), "it has 19 rows, fewer than 20; its fee is above 1"),
        (0.5, None, "nobody serves what it holds, or it is not on the market"),
    ],
)
def test_a_data_set_that_does_not_suit_says_why(fee: float, told: Candidate | None, why: str) -> None:
    assert whys(found(plan(), data(r7=fee), computing(0.1), r7=told))[7] == why


def ranged(least: float, most: float) -> Candidate:
    """Give a data set whose schema says from where to where a column goes."""
    area = SchemaField(name="area", type="real", missing=0, distinct=9, minimum=least, maximum=most)
    kind = SchemaField(name="kind", type="text", missing=0, distinct=2, longest=4)
    quality = Quality(
        rows=100, size=1, missing_share=0, duplicate_rows=0, duplicate_share=0, score=1,
        class_balance=None, label_noise=None, not_measured={"class_balance": "none", "label_noise": "none"},
    )  # fmt: skip
    schema = Schema(name="flowers", format="csv", rows=100, fields=(area, kind), quality=quality)
    return replace(described(7), schema=schema)


@pytest.mark.parametrize(
    ("mode", "area", "told", "why"),
    [
        ("open", Feature(name="area", minimum=0, maximum=9), ranged(0, 9), ""),
        ("open", Feature(name="area"), ranged(-99, 99), ""),
        ("open", Feature(name="area", maximum=9), ranged(-99, 9.5), "-99 to 9.5, and the task takes -inf to 9"),
        ("open", Feature(name="area", minimum=0, maximum=9), ranged(-1, 9), "-1 to 9, and the task takes 0 to 9"),
        ("open", Feature(name="area", minimum=0), described(7), ""),
        ("encrypted", Feature(name="area", offset=4, scale=0.25), ranged(0, 8), ""),
        ("encrypted", Feature(name="area", offset=4, scale=0.25), ranged(1, 9), "1 to 9, and the task takes 0 to 8"),
    ],
)  # fmt: skip
def test_data_beyond_the_range_that_the_model_takes_do_not_suit(
    mode: Mode, area: Feature, told: Candidate, why: str
) -> None:
    query = SchemaQuery(fields=FIELDS, kind="data")
    on_offer = compared(plan(mode), query, [data(r7=0.5), computing()], {(DORA, 7): told}, MIRA, (area,))
    assert whys(on_offer)[7] == (f"its area is from {why}" if why else "")


def test_a_quality_that_is_not_known_does_not_suit_where_one_is_wanted() -> None:
    query = SchemaQuery(fields=FIELDS, kind="data", min_quality=0.8)
    known: dict[tuple[Address, int], Candidate | None] = {(DORA, 7): described(7)}
    on_offer = compared(plan(), query, [data(r7=0.5), computing()], known, MIRA)
    assert whys(on_offer)[7] == "its quality is not known, and 80.0% is wanted"


def test_without_computers_no_data_suit_and_without_data_no_computers() -> None:
    assert whys(found(plan(), data(r7=0.5)))[7] == "nobody offers computing"
    no_use = "its wage is not below the fee of any data set that suits"
    assert whys(found(plan(), computing(0.1)))["computing"] == no_use
    assert whys(found(plan(), data(r7=0.5), computing(0.4))) == {7: "", "computing": ""}


def test_who_has_the_key_computes_on_no_samples_that_are_encrypted_for_it() -> None:
    mine = replace(computing(0.1), account=MIRA)
    assert whys(found(plan("open"), data(r7=0.5), mine)) == {7: "", "computing": ""}
    assert whys(found(plan("encrypted"), data(r7=0.5), mine)) == {
        7: "nobody offers computing", "computing": "you have the key, and so no node gives you its samples",
    }  # fmt: skip
    others = computing(0.4)
    assert whys(found(plan("encrypted"), data(r7=0.5), mine, others))[7] == ""


@pytest.mark.parametrize(
    ("offer", "why"),
    [
        (adding(0.1), ""),
        (adding(1.1), "its fee is above 1"),
        (adding(0), "for a fee of 0 no node takes part"),
        (adding(0.1, MIRA), "you have the key, and so cannot add"),
    ],
)
def test_an_adder_that_does_not_suit_says_why(offer: Offering, why: str) -> None:
    assert whys(found(plan("aggregate"), offer)) == {"adding": why}
    assert whys(found(plan("open"), offer)) == {}


def test_those_who_are_asked_are_the_best_that_the_budget_has_fees_for() -> None:
    members = (data(r7=0.5, r8=1.0, r9=0.4), computing(), adding(0.25))
    on_offer = found(plan("aggregate", providers=2, budget=10), *members)
    assert [(one.kind, one.resource) for one in on_offer.asked] == [("adding", 0), ("data", 7), ("data", 8)]
    assert on_offer.fees == 2 * (0.25 + 0.5 + 1.0) * TOKEN
    short = found(plan("aggregate", providers=2, budget=7.4), *members)
    assert [one.resource for one in short.asked] == [0, 7, 9]
    assert warnings(plan("aggregate", providers=2, quorum=2, budget=7.4), short) == []


@pytest.mark.parametrize(
    ("wanted", "members", "told"),
    [
        (plan(), [data(r7=0.5), computing()], []),
        (plan(), [], ["0 data sets suit, and the first round takes 1"]),
        (plan(providers=3, quorum=2), [data(r7=0.5), computing()], ["1 data set suits, and the first round takes 2"]),
        (plan(providers=3), [data(r7=0.5), computing()], ["It wants 3 data providers, and 1 offer what suits"]),
        (
            plan(providers=2, budget=6.5),
            [data(r7=0.5, r8=0.5), computing()],
            ["The budget leaves 1.5 besides the award, which are the fees of 1 of 2 data providers in 2 rounds"],
        ),
        (
            plan(providers=2),
            [data(r7=0.5, r8=0.5), computing(subtasks=1)],
            ["Computers take 1 subtask at a time, and 2 data sets are to be trained on"],
        ),
        (
            plan("aggregate", providers=2, quorum=2),
            [data(r7=0.5, r8=0.5), computing(), adding(1.1)],
            ["Nobody offers to add updates for 1 a round or less"],
        ),
        (
            plan("aggregate", providers=2, quorum=2, budget=5.1),
            [data(r7=0.5, r8=0.5), computing(), adding(0.5)],
            ["The budget leaves too little besides the award for an adder", "The budget leaves 0.1 besides"],
        ),
        (
            plan("aggregate", providers=2),
            [data(r7=0.5, r8=0.5), computing(), adding(0.1)],
            ["It may begin with one update a round, which comes to nothing"],
        ),
    ],
)  # fmt: skip
def test_what_lacks_is_told_with_what_comes_of_it(
    wanted: TaskPlan, members: list[Offering], told: list[str]
) -> None:
    said: list[Any] = warnings(wanted, found(wanted, *members))
    assert len(said) == len(told), said
    assert all(one.startswith(begins) for one, begins in zip(said, told, strict=True)), said
