"""What a task's record counts: of its updates and sums, and of those that cannot be read, and by whose fault."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from agorai_reward.conduct import Vector
from agorai_reward.due import Coalition, Kind, due
from agorai_reward.task_record import Records
from agorai_shared import vectors
from agorai_shared.bindings.training_task import Begun, Role, Updated
from agorai_shared.digest_files import FileAbsentError, FileOversizeError
from agorai_shared.errors import AgoraiError, NotFoundError, RemoteError
from agorai_shared.federated import ContributionRule, Refused
from agorai_shared.task_history import Line, TaskHistory
from agorai_shared.task_reader import CiphertextUnfitError, SamplesExcessError
from agorai_shared.task_updates import GroupMean, KeyFaultyError, Sums
from agorai_shared.types import Address

MIRA = Address("0xMira")
FEE, AWARD, SAMPLES = 10, 900, 9
TRAINERS, ADDER = (1, 2, 3, 4, 5), 9
PASSED = frozenset(TRAINERS)
MODEL = np.ones(3)
ABSENT = FileAbsentError("update", bytes(32), NotFoundError("nobody has it"))


class OpenerDouble:
    """What the readers of updates and sums give."""

    def __init__(self, mode: str, *, key: AgoraiError | None = None) -> None:
        self.me, self.key = MIRA, key
        self.updates: dict[int, Vector | AgoraiError] = {id_: MODEL + id_ for id_ in TRAINERS}
        self.summed: Sums | None = None
        self.named: int | None = None
        """Whose sums the record says were taken."""
        self.taken: tuple[int, ...] = TRAINERS
        self.history = TaskHistory()
        begun = Begun(task=1, round=1, model=bytes(32), record=bytes(32), deadline=9)
        self.history.take([(begun, bytes(32)), *((self.event(id_), bytes(32)) for id_ in (*TRAINERS, ADDER))])
        for id_ in (*TRAINERS, ADDER):
            role = Role.ADDER if id_ == ADDER else Role.TRAINER
            owner = Address(f"0x{id_}")
            self.history.subtasks[id_] = Line(id_, owner, 1, FEE, role, owner, ready=True)
        terms = SimpleNamespace(award=AWARD)
        self.files = SimpleNamespace(
            opened=self.giving(SimpleNamespace(terms=terms, model_provider=MIRA)),
            history=self.giving(self.history),
            document=self.giving(SimpleNamespace(mode=mode, contribution=ContributionRule(method="samples"))),
            task=self.giving(SimpleNamespace(budget=10 * AWARD)),
            binding=lambda _: SimpleNamespace(model=str),
            update=self.giving(SimpleNamespace(samples=SAMPLES)),
            round=self.round,
        )

    @staticmethod
    def giving(what: object) -> Any:
        async def give(*_: object) -> object:
            return what

        return give

    @staticmethod
    def event(subtask: int) -> Updated:
        return Updated(subtask=subtask, task=1, computer=MIRA, round=1, digest=bytes(32))

    async def round(self, _task: int, _number: int) -> object:
        return SimpleNamespace(taken=self.taken, adder=self.named, model=None)

    async def open(self, *_: object) -> bytes:
        return vectors.to_bytes(MODEL)

    async def keys(self, _task: int) -> None:
        if self.key is not None:
            raise self.key

    async def update(self, _task: int, event: Updated, _most: int) -> tuple[None, Vector]:
        await self.delivered(event)
        found = self.updates[event.subtask]
        assert isinstance(found, np.ndarray)
        return None, found

    async def delivered(self, event: Updated) -> object:
        found = self.updates[event.subtask]
        if isinstance(found, AgoraiError):
            raise found
        return SimpleNamespace(samples=SAMPLES)

    async def sums(
        self, _task: int, _number: int, _most: int, *, final: bool, adder: int | None
    ) -> Sums | None:
        assert (final, adder) == (True, self.named)
        return self.summed


class FormsDouble(OpenerDouble):
    """The same of a task that is trained encrypted: forms are told, and nothing is opened."""

    def __init__(self, *, key: AgoraiError | None = None, **faults: AgoraiError) -> None:
        super().__init__("encrypted", key=key)
        self.updates |= {int(id_.removeprefix("u")): fault for id_, fault in faults.items()}
        self.public = self.keys
        self.keys = self.open = self.update = None  # type: ignore[assignment]

    async def result(self, _task: int, event: Updated) -> None:
        await self.delivered(event)


def records(opener: OpenerDouble) -> Records:
    async def replay(_task: int, _number: int) -> bool:
        return True

    return Records(cast("Any", opener), cast("Any", SimpleNamespace(replay=replay)))


def forms(opener: FormsDouble) -> Records:
    """Give records whose trainer is asked for nothing."""
    return Records(cast("Any", opener), cast("Any", None))


def unmeasured(_number: int, _coalitions: Sequence[Coalition]) -> dict[Coalition, int]:
    raise AssertionError("nothing can be measured")


def nothing(_number: int, coalitions: Sequence[Coalition]) -> dict[Coalition, int]:
    return dict.fromkeys(coalitions, 0)


@pytest.mark.parametrize("mode", ["dai", "aggregate"])
async def test_for_a_key_that_is_none_all_count_as_delivered_and_the_record_is_false(mode: str) -> None:
    opener = OpenerDouble(mode, key=KeyFaultyError(1, "it is none"))
    found = due(await records(opener).record(1), nothing)
    assert found.delivered == dict.fromkeys((*TRAINERS, ADDER), 1)
    assert found.contributions == dict.fromkeys(TRAINERS, Fraction(1)) | {ADDER: Fraction(0)}
    assert found.conduct == ()
    assert "The global model behind round 1 is not what" in found.findings[0].text
    assert found.rows is not None
    assert {row.amount for row in found.rows if row.account != f"0x{ADDER}"} == {FEE + AWARD // len(TRAINERS)}


@pytest.mark.parametrize("mode", ["dai", "aggregate"])
async def test_a_key_that_is_not_served_leaves_the_record_unknown(mode: str) -> None:
    with pytest.raises(FileAbsentError):
        await records(OpenerDouble(mode, key=ABSENT)).record(1)


@pytest.mark.parametrize("mode", ["open", "dai"])
async def test_who_claims_more_samples_than_its_data_set_has_is_paid_nothing(mode: str) -> None:
    opener = OpenerDouble(mode)
    opener.updates[3] = SamplesExcessError(2**32 - 1, 100)
    found = due(await records(opener).record(1), nothing)
    assert found.delivered == {1: 1, 2: 1, 4: 1, 5: 1}
    assert found.contributions[3] == 0


async def test_of_sums_what_is_refused_is_not_paid_and_a_false_claim_weighs_as_one_sample() -> None:
    opener = OpenerDouble("aggregate")
    opener.named, opener.taken = ADDER, (2, 3)
    opener.updates[3] = SamplesExcessError(2**32 - 1, 100)
    opener.updates[4] = ABSENT
    groups = (GroupMean((2, 3), 18, MODEL), GroupMean((4, 5), 18, None, "nobody has it", gone=True))
    opener.summed = Sums((opener.event(ADDER),), (Refused(subtask=1, why="it is none"),), groups, PASSED)
    record = await records(opener).record(1)
    (round_,) = record.rounds
    assert [(one.subtask, one.samples) for one in round_.updates] == [(2, 9), (3, 1), (4, 1), (5, 9)]
    found = due(record, nothing)
    assert found.delivered == {2: 1, 3: 1, 4: 1, 5: 1, ADDER: 1}
    assert [one.kind for one in found.findings if one.kind != Kind.NOTED] == []


@pytest.mark.parametrize(("taken", "missing"), [((2, 3, 4, 5), True), ((2, 3), False)])
async def test_a_sum_that_is_not_served_is_missing_only_if_it_was_taken(
    taken: tuple[int, ...], missing: bool
) -> None:
    opener = OpenerDouble("aggregate")
    opener.named, opener.taken = ADDER, taken
    groups = (GroupMean((2, 3), 18, MODEL), GroupMean((4, 5), 18, None, "nobody has it", gone=True))
    opener.summed = Sums((opener.event(ADDER),), (), groups, PASSED)
    found = due(await records(opener).record(1), nothing)
    assert (found.rows is None) == missing
    texts = [one.text for one in found.findings if one.kind == Kind.MISSING]
    assert texts == (["The sum of subtasks 4, 5 in round 1 is not served."] if missing else [])


async def test_without_sums_all_count_as_delivered_and_the_adder_does_not() -> None:
    opener = OpenerDouble("aggregate")
    opener.taken = ()
    found = due(await records(opener).record(1), nothing)
    assert found.delivered == dict.fromkeys(TRAINERS, 1)


async def test_without_groups_what_an_adder_has_passed_is_paid_and_what_came_behind_it_is_not() -> None:
    opener = OpenerDouble("aggregate")
    refused = tuple(Refused(subtask=id_, why="it is none") for id_ in (1, 3))
    opener.summed = Sums((opener.event(ADDER),), refused, (), frozenset({2}))
    opener.taken = ()
    what = due(await records(opener).record(1), nothing)
    assert what.delivered == {2: 1, ADDER: 1}


UNFORMED = CiphertextUnfitError("it is of another size")


@pytest.mark.parametrize("method", ["samples", "shapley"])
async def test_where_nothing_is_decrypted_what_has_the_form_of_an_update_is_paid_by_samples(
    method: str,
) -> None:
    opener = FormsDouble(u4=UNFORMED, u5=ABSENT)
    opener.files.document = opener.giving(
        SimpleNamespace(mode="encrypted", contribution=ContributionRule(method=cast("Any", method)))
    )
    opener.taken = (1, 2, 4)
    found = due(await forms(opener).record(1), unmeasured)
    assert found.delivered == {1: 1, 2: 1, 3: 1}
    assert found.contributions == dict.fromkeys((1, 2, 3), Fraction(1, 3)) | dict.fromkeys((4, 5, ADDER), 0)
    assert {one.kind for one in found.findings} == {Kind.NOTED}
    why, left_out, wrongly = (one.text for one in found.findings)
    assert why.startswith("Neither models nor updates are recomputed: ")
    assert "left out sound updates, of subtasks 3;" in left_out
    assert "took updates that are not due a fee, of subtasks 4." in wrongly


async def test_what_was_taken_by_its_form_and_is_not_served_leaves_it_unknown() -> None:
    found = due(await forms(FormsDouble(u5=ABSENT)).record(1), unmeasured)
    assert found.rows is None
    assert [one.kind for one in found.findings] == [Kind.MISSING]


async def test_where_the_public_key_is_none_all_count_and_nobody_asks_for_the_secret_one() -> None:
    found = due(await forms(FormsDouble(key=KeyFaultyError(1, "it is none"))).record(1), unmeasured)
    assert found.delivered == dict.fromkeys((*TRAINERS, ADDER), 1)


async def test_a_larger_file_than_a_record_may_have_makes_it_false() -> None:
    oversize = FileOversizeError("model", bytes(32), NotFoundError("it has more bytes"))

    async def replay(_task: int, _number: int) -> bool:
        raise RemoteError(dict(oversize.to_problem()))

    opener = OpenerDouble("open")
    found = due(
        await Records(cast("Any", opener), cast("Any", SimpleNamespace(replay=replay))).record(1), nothing
    )
    assert "is not what the updates taken make" in found.findings[0].text
