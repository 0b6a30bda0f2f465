"""What members offer now against what a task wants, before money is laid down for it (DAI, 4.4).

The model provider's node asks by the same rules once the task is open, and who offers something by then is asked too:
nothing here refuses a task.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import orjson

from agorai.devchain import TOKEN
from agorai.task_offering import Offering, offerings
from agorai.task_reading import SHOWN_S
from agorai.tasks import TaskPlan, Tasks
from agorai_shared import search
from agorai_shared.digest_files import hurry, several
from agorai_shared.documents import Schema
from agorai_shared.groups import LEAST
from agorai_shared.he_parameters import TRAINING
from agorai_shared.search import SchemaQuery
from agorai_shared.types import Address
from agorai_trainer.federated.models import Column, ModelSpec
from agorai_trainer.federated.offers import Offers, query

Kind = Literal["data", "computing", "adding"]
_Range: TypeAlias = tuple[float, float]

_MOST_TOLD: Final = 3
"""Columns of a data set that are told to be beyond their ranges."""
_HAS_KEY: Final = "you have the key, and so no node gives you its samples"


@dataclass(frozen=True, slots=True)
class Match:
    """Something on offer, and whether it suits the task."""

    kind: Kind
    account: Address
    resource: int
    """Of data; 0 else."""
    asks: int
    """A fee or a wage for each round, in the token's smallest unit."""
    why: str = ""
    """Why it is of no use to the task; empty: it suits."""
    places: int = 1
    """Of computing: subtasks at a time."""


@dataclass(frozen=True, slots=True)
class OnOffer:
    """What is on offer, those that suit first and in the order in which they are asked."""

    matches: tuple[Match, ...]
    asked: tuple[Match, ...]
    """Data sets and adders that are asked, as many as the task wants and its budget has the fees for."""
    fees: int
    """Of these for all rounds, out of which data providers pay wages, in the token's smallest unit."""

    def fitting(self, kind: Kind) -> list[Match]:
        """Give those of a kind that suit."""
        return [one for one in self.matches if one.kind == kind and not one.why]


async def on_offer(tasks: Tasks, plan: TaskPlan) -> OnOffer:
    """Read what members offer now, and compare it with a task that is to be opened."""
    offers, members = Offers(tasks.files), await offerings(tasks)
    pairs = [(one.account, each) for one in members for each in one.specification.data]
    with hurry(SHOWN_S):
        described = await several(lambda pair: offers.described(*pair), pairs)
    spec = ModelSpec.model_validate_json(orjson.dumps(plan.model))
    found = {(account, each.resource): told for (account, each), told in zip(pairs, described, strict=True)}
    columns = spec.features if spec.classes else (*spec.features, spec.target)
    return compared(plan, query(spec, plan.wanted), members, found, tasks.client.address, columns)


def compared(
    plan: TaskPlan,
    wanted: SchemaQuery,
    members: Sequence[Offering],
    described: dict[tuple[Address, int], search.Candidate | None],
    me: Address,
    columns: Sequence[Column] = (),
) -> OnOffer:
    """Compare; pure.

    `described` is by account and resource, None where nobody serves what a data set holds; `columns` are those of
    numbers, with the ranges that the model takes.
    """
    if plan.mode == "encrypted":  # no more can be encrypted
        columns = [one.bounded(TRAINING.most_value) for one in columns]
    ranges = {one.name: one.range for one in columns}
    computing = [
        (one.account, int(lent.wage), lent.subtasks)
        for one in members
        if (lent := one.specification.computing)
    ]
    reads = {me} if plan.mode == "encrypted" else set()  # who has the key, and so is given no samples
    least_wage = min((wage for account, wage, _ in computing if account not in reads), default=None)
    data = [
        Match("data", one.account, each.resource, int(each.fee),
              _unfit(wanted, described[one.account, each.resource], int(each.fee), least_wage, ranges))
        for one in members for each in one.specification.data
    ]  # fmt: skip
    order = search.ranked(wanted, [told for told in described.values() if told is not None])
    places = {one.key: place for place, one in enumerate(order)}
    data.sort(key=lambda one: places.get(one.resource, len(places)))
    adding = []
    if plan.mode == "aggregate":
        adding = [
            Match("adding", one.account, 0, int(one.specification.adding), _cannot_add(plan, one, me))
            for one in members
            if one.specification.adding is not None
        ]
    adding.sort(key=lambda one: (one.asks, one.account))
    most = max((one.asks for one in data if not one.why), default=0)
    lent_ = [
        Match(
            "computing",
            account,
            0,
            wage,
            _HAS_KEY if account in reads else _too_dear(wage, most),
            places=subtasks,
        )
        for account, wage, subtasks in sorted(computing, key=lambda one: one[1])
    ]
    every = [*data, *lent_, *adding]
    asked = _asked(plan, [one for one in every if not one.why])
    fees = sum(one.asks for one in asked) * plan.terms.rounds
    return OnOffer(tuple(sorted(every, key=lambda one: bool(one.why))), asked, fees)


def warnings(plan: TaskPlan, found: OnOffer) -> list[str]:
    """Say in plain words what is not on offer yet, and what comes of that."""
    terms, wanted, told = plan.terms, plan.wanted.providers, []
    suits = len(found.fitting("data"))
    asked = sum(one.kind == "data" for one in found.asked)
    if plan.mode == "aggregate":
        told += _of_adding(plan, found)
    if suits < terms.quorum:
        told.append(
            f"{suits} {'data set suits' if suits == 1 else 'data sets suit'}, and the first round takes "
            f"{terms.quorum}: unless more are offered within the join window, the task ends without a round."
        )
    elif suits < wanted:
        told.append(f"It wants {wanted} data providers, and {suits} offer what suits: it begins with these.")
    if asked < min(suits, wanted):
        told.append(
            f"The budget leaves {_tokens(terms.budget - terms.award)} besides the award, which are the fees of "
            f"{asked} of {min(suits, wanted)} data providers in {terms.rounds} rounds. `agorai task fund` adds to it."
        )
    places = sum(one.places for one in found.fitting("computing"))
    if 0 < places < asked:
        subtasks = f"{places} subtask{'' if places == 1 else 's'}"
        told.append(f"Computers take {subtasks} at a time, and {asked} data sets are to be trained on.")
    return told


def _of_adding(plan: TaskPlan, found: OnOffer) -> list[str]:
    told = []
    if not found.fitting("adding"):
        told.append(
            f"Nobody offers to add updates for {_tokens(int(plan.wanted.most_fee))} a round or less, and without an "
            "adder this task ends without a round. Your node asks who offers it within the join window: "
            "`agorai task offer --adding FEE`, on a node that is not yours."
        )
    elif not any(one.kind == "adding" for one in found.asked):
        told.append(
            "The budget leaves too little besides the award for an adder, without whom there is no round."
        )
    if plan.terms.quorum < LEAST:
        told.append(
            f"It may begin with one update a round, which comes to nothing: sums are of {LEAST} at least."
        )
    return told


def _unfit(
    wanted: SchemaQuery,
    told: search.Candidate | None,
    fee: int,
    least_wage: int | None,
    ranges: Mapping[str, _Range],
) -> str:
    """Say why a data set does not suit; empty if it does."""
    if told is None:
        return "nobody serves what it holds, or it is not on the market"
    schema, rows = told.schema, told.schema.rows if told.schema else told.metadata.rows
    whys = []
    columns = {one.name for one in (schema.fields if schema else told.metadata.columns)}
    absent = [
        one.name for one in wanted.fields if search.rank(_of(one.name), told.metadata, schema, None) is None
    ]
    if absent:
        whys.append(f"it has no {_listed(absent)}, but {_listed(sorted(columns))}")
    whys += [] if schema is None else _beyond(schema, ranges)
    if wanted.min_rows and (rows or 0) < wanted.min_rows:
        whys.append(f"it has {rows or 'an unknown number of'} rows, fewer than {wanted.min_rows}")
    if wanted.min_quality and (schema is None or schema.quality.score < wanted.min_quality):
        score = "not known" if schema is None else f"{schema.quality.score:.1%}"
        whys.append(f"its quality is {score}, and {wanted.min_quality:.1%} is wanted")
    if wanted.max_price is not None and fee > wanted.max_price:
        whys.append(f"its fee is above {_tokens(wanted.max_price)}")
    if least_wage is None:
        whys.append("nobody offers computing")
    elif least_wage >= fee:
        whys.append(f"nobody computes for less than its fee: the lowest wage is {_tokens(least_wage)}")
    if not whys and search.rank(wanted, told.metadata, schema, told.price) is None:
        whys.append("it is described as a model")
    return "; ".join(whys)


def _beyond(schema: Schema, ranges: Mapping[str, _Range]) -> list[str]:
    """Say which columns have numbers that the task refuses, by what the schema tells."""
    whys = []
    for one in schema.fields:
        least, most = one.minimum, one.maximum
        if one.name not in ranges or not (isinstance(least, int | float) and isinstance(most, int | float)):
            continue
        low, high = ranges[one.name]
        if least < low or most > high:
            told = f"its {one.name} is from {least:.6g} to {most:.6g}"
            whys.append(f"{told}, and the task takes {low:.6g} to {high:.6g}")
    more = len(whys) - _MOST_TOLD
    return [*whys[:_MOST_TOLD], *([f"{more} more columns are beyond their range"] if more > 0 else [])]


def _of(column: str) -> SchemaQuery:
    return SchemaQuery(fields=(search.WantedField(name=column),))


def _cannot_add(plan: TaskPlan, one: Offering, me: Address) -> str:
    fee, most = int(one.specification.adding or 0), int(plan.wanted.most_fee)
    if one.account == me:
        return "you have the key, and so cannot add"
    if fee > most:
        return f"its fee is above {_tokens(most)}"
    return "" if fee else "for a fee of 0 no node takes part"


def _too_dear(wage: int, most_fee: int) -> str:
    return "" if wage < most_fee else "its wage is not below the fee of any data set that suits"


def _asked(plan: TaskPlan, fitting: Iterable[Match]) -> tuple[Match, ...]:
    """Give who is asked, adders first, as long as the budget has the fees of all rounds."""
    left, found = plan.terms.budget - plan.terms.award, []
    wanted = {"adding": plan.wanted.adders, "data": plan.wanted.providers, "computing": 0}
    for one in sorted(fitting, key=lambda one: one.kind != "adding"):
        if wanted[one.kind] and one.asks * plan.terms.rounds <= left:
            wanted[one.kind] -= 1
            left -= one.asks * plan.terms.rounds
            found.append(one)
    return tuple(found)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (" ..." if names[6:] else "")


def _tokens(amount: int) -> str:
    return f"{amount / TOKEN:g}"
