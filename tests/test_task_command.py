"""`agorai task` and `agorai audit` as people use them: what they write down, what they are shown, what is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import Formatter
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_asyncio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from agorai import node
from agorai.cli import output
from agorai.cli.main import app
from agorai.cli.task_audit import _contributions_table, audited_json
from agorai.cli.task_offers_shown import offers_table
from agorai.cli.task_shown import (
    members_table,
    plan_table,
    subtasks_json,
    subtasks_table,
    task_json,
    task_table,
)
from agorai.cli.vote import _about
from agorai.client import Client
from agorai.demo.town import LIGHT_SCRYPT_N, Resident, Town, running
from agorai.devchain import TOKEN
from agorai.exchange import explained, refusal
from agorai.home import Home
from agorai.joining import _specification
from agorai.task_following import watched
from agorai.task_model import ModelKeptError, trained
from agorai.task_privacy import epsilon
from agorai.task_refusals import (
    REFUSALS,
    SUBTASK_STATES,
    TASK_STATES,
    HiddenSetError,
    TaskModeError,
    TaskRefusedError,
    TaskSpecError,
)
from agorai.task_spec import TaskSpec
from agorai.task_state import awaited, missing, standing
from agorai.tasks import Tasks, TaskSeen
from agorai_shared.bindings.training_task import (
    Begun,
    Challenged,
    Opened,
    Outcome,
    Proposed,
    Resolved,
    Role,
    Subtask,
    SubtaskState,
    Task,
    TaskState,
    Terms,
    TrainingTask,
    Updated,
)
from agorai_shared.chain import ContractRevertError
from agorai_shared.content import ContentNotFoundError, ContentStore
from agorai_shared.errors import AgoraiError
from agorai_shared.federated import (
    Mode,
    PayoutDocument,
    PayoutRow,
    Privacy,
    TaskBinding,
    TaskDocument,
    Wanted,
)
from agorai_shared.task_history import Line as SubtaskLine
from agorai_shared.task_history import RoundLine, TaskHistory
from agorai_shared.task_reward import Audited, AuditFinding, DueOf
from agorai_shared.types import Address, Cid, Digest, Wei
from agorai_trainer.federated import privacy
from tests.line import Line
from tests.pooling import until
from tests.trades import pass_time

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("wide")]

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
HIDDEN = EXAMPLES / "flowers_test.csv"
DORA, CORA, MIRA = (Address("0x" + one * 20) for one in ("0d", "0c", "0a"))


# ------------------------------------------------------------------------------------------ written down


def spec(**changes: object) -> dict[str, Any]:
    return {**json.loads((EXAMPLES / "flowers_task.json").read_text()), **changes}


def planned(test: bytes, **changes: object) -> Any:
    return TaskSpec.model_validate(spec(**changes)).plan(test)


async def test_amounts_and_times_are_read_as_people_write_them() -> None:
    terms = planned(HIDDEN.read_bytes(), award=2.5, join_window="12h").terms
    assert (terms.budget, terms.award) == (8 * TOKEN, 25 * TOKEN // 10)
    assert (terms.join_window, terms.round_window, terms.challenge_window) == (43_200, 600, 86_400)


async def test_features_and_classes_are_told_by_the_test_set_with_room_for_what_others_have() -> None:
    test = b"area,noise,kind\n" + b"".join(
        b"%d,-3,%s\n" % (area, b"ab"[area % 2 :][:1]) for area in range(11)
    )
    model = planned(test, target="kind").model
    area, noise = model["features"]
    assert area == {"name": "area", "offset": 5.0, "scale": 3.16, "minimum": 0.0, "maximum": 30.0}
    assert noise == {"name": "noise", "offset": -3.0, "scale": 1.0, "minimum": -6.0, "maximum": 0.0}
    assert (model["target"]["name"], model["classes"]) == ("kind", ["a", "b"])


async def test_large_numbers_that_differ_little_keep_what_tells_them_apart() -> None:
    rows = "".join(f"{1_700_000_000 + second},{second % 2}\n" for second in range(100))
    (at,) = planned(f"at,kind\n{rows}".encode(), target="kind").model["features"]
    assert at["offset"] == pytest.approx(1_700_000_049.5, abs=0.1)
    assert at["minimum"] == pytest.approx(1_700_000_000 - 198, abs=1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e149, 1e149, allow_nan=False), min_size=1, max_size=20))
@example([0.0, 4.449968504345367e-168])
@example([0.0, 5e-324])
async def test_columns_that_a_test_set_tells_take_its_samples(values: list[float]) -> None:
    rows = "".join(f"{value!r},{place % 2}\n" for place, value in enumerate([*values, values[0]]))
    (column,) = planned(f"x,kind\n{rows}".encode(), target="kind").model["features"]
    assert column["minimum"] <= min(values) <= max(values) <= column["maximum"]
    assert column["scale"] > 0


async def test_numbers_too_far_apart_to_be_scaled_are_refused() -> None:
    with pytest.raises(HiddenSetError, match="'x' are too far apart"):
        planned(b"x,kind\n-1e300,a\n1e300,b\n", target="kind")


async def test_a_regression_has_a_scaled_target_and_no_classes() -> None:
    model = {"kind": "linear_regression", "tolerance": 0.5}
    found = planned(b"x,y\n1,10\n2,20\n3,30\n", target="y", model=model).model
    assert "classes" not in found
    assert (found["target"]["offset"], found["target"]["scale"]) == (20.0, 8.16)


async def test_features_that_a_spec_names_are_left_as_they_are() -> None:
    named = {"kind": "logistic_regression", "features": [{"name": "petal_width", "maximum": 3}]}
    (feature,) = planned(HIDDEN.read_bytes(), model=named).model["features"]
    assert (feature["name"], feature["scale"], feature["maximum"]) == ("petal_width", 1.0, 3.0)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"round_window": "5w"}, "round_window: write '5w' as a number and s, m, h or d"),
        ({"award": -1}, "award: it is -1, and must be 0 at least"),
        ({"mode": "secret"}, "mode: it is 'secret'; take 'open', 'dai', 'aggregate' or 'encrypted'"),
        ({"wanted": {"providers": 2}}, "wanted.most_fee: it is missing"),
        ({"colour": "red"}, "colour: there is no such member"),
    ],
)
async def test_what_is_wrong_in_a_spec_is_named(changes: dict[str, object], why: str, tmp_path: Path) -> None:
    path = tmp_path / "task.json"
    path.write_text(json.dumps(spec(**changes)))
    with pytest.raises(TaskSpecError, match=why):
        TaskSpec.load(path)


@pytest.mark.parametrize(
    ("changes", "error", "why"),
    [
        ({"model": {"kind": "oracle"}}, TaskSpecError, "The model: kind"),
        (
            {"strategy": {"name": "FedMagic"}},
            TaskSpecError,
            "The strategy: 'name' is 'FedMagic'; take 'FedAvg'",
        ),
        ({"target": "colour"}, HiddenSetError, "no column 'colour', but 'x', 'y'"),
    ],
)
async def test_a_model_that_there_is_not_is_refused_before_a_node_is_asked(
    changes: dict[str, object], error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        planned(HIDDEN.read_bytes() if changes.get("target") is None else b"x,y\n1,2\n", **changes)


async def test_what_is_trained_encrypted_takes_one_plain_step_a_round_on_rows_that_hide_enough() -> None:
    asked = {"kind": "logistic_regression", "learning_rate": 2}
    found = planned(HIDDEN.read_bytes(), mode="encrypted", model=asked, rounds=20)
    assert (found.model["l2"], found.model["local_epochs"], found.contribution.method) == (0, 1, "samples")
    assert found.wanted.least_rows == 20 * 3 + 1
    assert planned(HIDDEN.read_bytes(), mode="encrypted", model=asked, rounds=2).wanted.least_rows == 20


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model": {"kind": "svm"}}, "`kind` is svm"),
        ({"model": {"kind": "logistic_regression", "l2": 1}}, "`l2` must be 0, not 1"),
        ({"model": {"kind": "logistic_regression", "local_epochs": 5}}, "`local_epochs` must be 1, not 5"),
        ({"strategy": {"name": "FedProx", "proximal_mu": 0.1}}, "trains without `proximal_mu`"),
        ({"privacy": {"clip": 1, "noise": 1}}, "cannot shorten and blur"),
        ({"contribution": {"method": "shapley"}}, "`method` is shapley"),
        ({"contribution": {"method": "leave_one_out"}}, "`method` is leave_one_out"),
        (
            {
                "model": {
                    "kind": "logistic_regression",
                    "features": [{"name": f"f{place}"} for place in range(50)],
                }
            },
            "it has 153 weights, and mode encrypted takes 128 at most",
        ),
    ],
)
async def test_what_cannot_be_trained_encrypted_is_refused_with_what_to_do(
    changes: dict[str, object], why: str
) -> None:
    changes = {"mode": "encrypted", "model": {"kind": "logistic_regression"}} | changes
    with pytest.raises(TaskModeError, match=why) as refused:
        planned(HIDDEN.read_bytes(), **changes)
    assert refused.value.remedy


async def test_a_target_that_is_not_there_is_answered_by_the_columns_that_are_nearest_to_it() -> None:
    names = [f"column_{number}" for number in range(30)]
    test = f"{','.join([*names, 'Diagnosis'])}\n{','.join(['1'] * 31)}\n".encode()
    with pytest.raises(HiddenSetError, match="no column 'diagnosys', but 'Diagnosis', 'column_0'"):
        planned(test, target="diagnosys")


async def test_a_model_that_its_mode_keeps_is_refused_to_strangers_in_words() -> None:
    async def opened(_: int) -> object:
        return SimpleNamespace(model_provider=CORA)

    async def history(_: int) -> object:
        return SimpleNamespace(finished=True, rounds=[])

    async def document(_: int) -> object:
        return SimpleNamespace(mode="encrypted")

    files = SimpleNamespace(opened=opened, history=history, document=document)
    tasks = SimpleNamespace(files=files, client=SimpleNamespace(address=DORA))
    with pytest.raises(ModelKeptError, match=f"{CORA}, alone: mode encrypted keeps it"):
        await trained(cast("Tasks", tasks), 3)


async def test_a_test_set_without_columns_to_learn_from_is_refused() -> None:
    with pytest.raises(HiddenSetError, match="no columns besides the target"):
        planned(b"species\na\nb\n")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("offer",), "or else --nothing"),
        (("offer", "--nothing", "--computing", 1), "or else --nothing"),
        (("offer", "--computing", 1, "--subtasks", 1_001), "must be 1000 at most"),
        (("offer", "--data", "7"), "write it as RESOURCE=FEE"),
        (("offer", "--data", "7=-1"), "write it as RESOURCE=FEE"),
        (("offer", "--data", "7=1", "--data", "7=2"), "each data set has one fee"),
    ],
)
async def test_usage_that_is_wrong_is_told_before_any_node_is_asked(
    arguments: tuple[object, ...], why: str, tmp_path: Path
) -> None:
    command = ["task", *map(str, arguments), "--home", str(tmp_path), "--json"]
    found = CliRunner().invoke(app, command)
    assert (found.exit_code, why in json.loads(found.stdout)["error"]["detail"]) == (2, True), found.stdout


# ---------------------------------------------------------------------------------------------- refusals


async def test_every_refusal_of_the_contract_is_told_with_its_values() -> None:
    errors = {found.name: found for found in TrainingTask.ABI.errors.values()}
    of_users = {name for name in errors if name.startswith("TrainingTask_")} - {"TrainingTask_NotContract"}
    assert of_users == REFUSALS.keys()
    for error, texts in REFUSALS.items():
        named = {name for text in texts for _, name, _, _ in Formatter().parse(text) if name}
        assert named <= {parameter.name for parameter in errors[error].inputs}


async def test_amounts_and_states_of_a_refusal_are_read_as_people_write_them() -> None:
    spent = f"TrainingTask_BudgetSpent(task=3, needed={5 * TOKEN}, left={TOKEN // 2})"
    with (
        pytest.raises(TaskRefusedError, match=r"Task 3 has 0\.5 tokens left .* takes 5\.") as told,
        explained(),
    ):
        raise ContractRevertError("TrainingTask", "request", spent)
    assert "agorai task fund 3" in told.value.remedy
    for state, words in TASK_STATES.items():
        said = refusal("TrainingTask_WrongTaskState", {"task": 3, "state": int(state)})
        assert said.message == f"Task 3 {words}."
    for one, words in SUBTASK_STATES.items():
        said = refusal("TrainingTask_WrongState", {"subtask": 4, "state": int(one)})
        assert said.message == f"Subtask 4 {words}."


# ------------------------------------------------------------------------------------------------- shown

TERMS = Terms(
    document=b"d" * 32, key=DORA, test_commitment=b"t" * 32, budget=8 * TOKEN, award=5 * TOKEN, bond=5 * TOKEN,
    join_window=3600, round_window=600, step_window=100, challenge_window=900, rounds=3, quorum=2, panel_size=3,
)  # fmt: skip
RUNNING = Task(
    model_provider=CORA, award=5 * TOKEN, owed=0, delivered=0, awaited=2, done=0, trainers=2, round=2, rounds=3,
    deadline=1_000, state=TaskState.RUNNING, budget=8 * TOKEN, committed=0, panel_case=0, key=DORA,
    round_window=600, step_window=100, challenge_window=900, test_commitment=b"t" * 32, bond=5 * TOKEN, quorum=2,
    panel_size=3, failed=0, claimed=0, root=bytes(32), proposer=CORA, total=0, challenged_root=bytes(32),
    challenger=DORA, challenged_total=0,
)  # fmt: skip


def of_subtask(updated: int, state: SubtaskState = SubtaskState.READY) -> Subtask:
    return Subtask(
        computer=DORA, fee=TOKEN, data_provider=DORA, wage=0, task=1, replaces=0, promised=3, delivered=updated,
        updated=updated, role=Role.TRAINER, state=state, claimed=False,
    )  # fmt: skip


DECLINED = of_subtask(0, SubtaskState.ENDED)


def at(now: int, **changes: Any) -> TaskSeen:
    subtasks = {7: of_subtask(2), 8: of_subtask(1), 9: of_subtask(1, SubtaskState.LEFT), 10: of_subtask(0)}
    task = replace(RUNNING, **changes)
    return TaskSeen(1, Opened(1, CORA, TERMS), task, None, TaskHistory(), subtasks, now)


@pytest.mark.parametrize(
    ("seen", "what", "until_"),
    [
        (at(900), "updates of subtask 8 in round 2", 1_000),  # 10 has missed round 1
        (at(900, awaited=0), "the model provider aggregates round 2", 1_100),
        (at(1_001), "the model provider aggregates round 2", 1_100),
        (at(1_101), "the model provider did not go on in time: anyone ends it", None),
        (at(900, state=TaskState.MATCHING, trainers=1), "data providers agree: 1 of 2 are ready", 1_000),
        (
            replace(at(900, state=TaskState.MATCHING), subtasks={7: of_subtask(0), 8: DECLINED}),
            "the model provider begins the first round",
            1_000,
        ),
        (
            replace(at(900, state=TaskState.MATCHING, trainers=1), subtasks={7: of_subtask(0), 8: DECLINED}),
            "data providers agree: 1 of 2 are ready (subtask 8 has ended)",
            1_000,
        ),
        (at(900, state=TaskState.MATCHING), "the model provider begins the first round", 1_000),
        (
            at(1_001, state=TaskState.FINISHED),
            "the model provider did not go on in time: anyone ends it",
            None,
        ),
        (at(1_000, state=TaskState.FINISHED), "the model provider proposes the payout", 1_000),
        (at(1_000, state=TaskState.PROPOSED), "anyone may challenge the payout", 1_000),
        (at(1_001, state=TaskState.PROPOSED), "anyone settles it", None),
        (at(900, state=TaskState.CHALLENGED, panel_case=4), "voters judge the payout, in case 4", None),
    ],
)
async def test_a_task_says_whom_it_waits_for_and_until_when(
    seen: TaskSeen, what: str, until_: int | None
) -> None:
    found = task_json(seen)
    assert (found["awaited"], found["until"]) == (what, until_)


def added(*adders: Subtask, now: int = 900, **changes: Any) -> TaskSeen:
    """Give a task in mode `aggregate` that has not begun, with these asked to add."""
    wanted = Wanted(providers=2, most_fee=str(TOKEN // 2))
    document = cast("TaskDocument", SimpleNamespace(mode="aggregate", wanted=wanted))
    seen = at(now, **{"state": TaskState.MATCHING, **changes})
    return replace(seen, document=document, subtasks={10 + n: one for n, one in enumerate(adders)})


def adder(state: SubtaskState) -> Subtask:
    return replace(of_subtask(0, state), role=Role.ADDER, data_provider=CORA)


ADDS = replace(adder(SubtaskState.READY), updated=1)


@pytest.mark.parametrize(
    ("seen", "what"),
    [
        (added(), "a member offers to add updates, for 0.5 a round at most (`agorai task offer --adding`)"),
        (added(adder(SubtaskState.ENDED)), "a member offers to add updates, for 0.5 a round at most"),
        (added(adder(SubtaskState.REQUESTED)), f"{CORA} agrees to add updates"),
        (added(adder(SubtaskState.APPROVED), trainers=1), "data providers agree: 1 of 2 are ready; 0x0c"),
        (added(adder(SubtaskState.READY)), "the model provider begins the first round"),
        (
            added(of_subtask(2), of_subtask(1), ADDS, state=TaskState.RUNNING),
            "updates of subtask 11 and sums of subtask 12 in round 2",
        ),
    ],
)
async def test_a_task_names_who_is_to_add_its_updates(seen: TaskSeen, what: str) -> None:
    found = awaited(seen)
    assert found is not None
    assert found.what.startswith(what)


async def test_whose_updates_are_late_is_told_from_half_of_the_round_on() -> None:
    assert [found.late for now in (700, 701) if (found := awaited(at(now)))] == [(), (8,)]


async def test_who_missed_a_round_is_whoever_took_part_in_it_and_did_not_deliver() -> None:
    history = TaskHistory()
    replaced = {9: 7}
    for id_ in (7, 8, 9, 10):
        history.subtasks[id_] = SubtaskLine(
            id_, DORA, 1, TOKEN, Role.TRAINER, ready=True, replaces=replaced.get(id_, 0)
        )
    history.subtasks[11] = SubtaskLine(11, DORA, 0, TOKEN, Role.ADDER, ready=True)
    history.subtasks[12] = SubtaskLine(12, DORA, 1, TOKEN, Role.TRAINER)
    begun = Begun(1, 1, b"m" * 32, b"r" * 32, 900)
    for delivered in ((7, 8), (8,), (8, 9, 10)):
        history.rounds.append(RoundLine(begun, {id_: cast("Updated", None) for id_ in delivered}))
    ready, left = of_subtask(3), of_subtask(1, SubtaskState.LEFT)
    states = {7: left, 8: ready, 9: ready, 10: ready, 11: ready, 12: of_subtask(0, SubtaskState.ENDED)}
    seen = replace(at(900), history=history, subtasks=states)
    assert [missing(seen, number) for number in (1, 2, 3)] == [[10], [10], []]


async def test_tables_that_people_copy_from_fit_a_terminal_and_cut_no_account(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {
        "fee": 0.5, "wage": 0.05, "delivered": 3, "replaces": None, "state": "ready", "role": "trainer",
        "declined_by": None,
    }  # fmt: skip
    subtasks = [
        {**names, "subtask": 1, "resource": 7, "data_provider": DORA, "computer": CORA},
        {**names, "subtask": 2, "resource": 8, "data_provider": CORA, "computer": CORA},
        {**names, "subtask": 3, "resource": 0, "data_provider": DORA, "computer": DORA, "role": "adder"},
    ]
    offered = {"data": [{"resource": 7, "fee": 0.25}], "adding": 0.125}
    lent = {"wage": 0.125, "subtasks": 1, "cores": 2, "memory_mib": 24_105}
    offer = {"account": CORA, **offered, "computing": lent}
    width, output.out.width = output.out.width, 80
    try:
        for shown in (members_table(subtasks, DORA), subtasks_table(subtasks), offers_table([offer], CORA)):
            output.out.print(shown)
    finally:
        output.out.width = width
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    assert [said.count(one) for one in (DORA, CORA)] == [1, 2]
    for part in (
        "data of subtask 1; adds as",
        "trains subtasks 1, 2",
        "data set 7 for 0.25",
        "1 subtask ",
    ):
        assert part in said


async def test_who_declined_a_subtask_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    history = TaskHistory()
    for id_ in (7, 8, 9, 10):
        line = SubtaskLine(id_, DORA, 1, TOKEN, Role.TRAINER, computer=CORA, ready=id_ == 10)
        history.subtasks[id_] = line
    ended, asked = DECLINED, of_subtask(0, SubtaskState.REQUESTED)
    seen = replace(at(900), history=history, subtasks={7: ended, 8: ended, 9: asked, 10: ended})
    found = subtasks_json(seen, {7: DORA, 8: MIRA, 9: CORA, 10: CORA})
    assert [one["declined_by"] for one in found] == [DORA, MIRA, CORA, None]
    output.out.print(subtasks_table(found))
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    told = [
        "declined by its data provider", "withdrawn by the model provider",
        "was declined by its computer", "has ended",
    ]  # fmt: skip
    assert all(words in row for row, words in zip(rows, told, strict=True)), rows


async def test_where_the_award_is_shared_by_samples_nothing_speaks_of_contribution(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = {"kind": "logistic_regression"}
    plan = planned(HIDDEN.read_bytes(), mode="encrypted", model=model)
    document = SimpleNamespace(
        name=plan.name, description="", model=plan.model, strategy=plan.strategy, mode="encrypted",
        privacy=None, contribution=plan.contribution, test_samples=26,
    )  # fmt: skip
    found = task_json(replace(at(900), document=cast("TaskDocument", document)))
    assert found["contribution"] == "samples"
    due = (DueOf(subtask=7, contribution="3/2", delivered=2),)
    audited = audited_json(
        1, Audited(verdict="right", findings=(), rows=None, total="0", subtasks=due), None, ()
    )
    shown = _contributions_table(audited["contributions"], "samples")
    for one in (plan_table(plan), task_table(found, DORA), shown):
        output.out.print(one)
    said = capsys.readouterr().out
    assert "contribution" not in said.lower()
    assert (said.count("by samples"), " 1.50 " in said) == (2, True)


@pytest.mark.parametrize("state", [TaskState.SETTLED, TaskState.ABANDONED])
async def test_a_task_that_has_ended_waits_for_nobody(state: TaskState) -> None:
    assert awaited(at(900, state=state)) is None


async def test_the_payout_that_stands_is_that_of_the_last_challenge_that_succeeded() -> None:
    history = TaskHistory()
    assert standing(history) is None
    first = Proposed(1, CORA, b"r" * 32, 1, Digest(b"e" * 32), 5, b"t" * 32, b"s" * 32, 900)
    one, two, three = (
        Challenged(1, DORA, CORA, bytes([n]) * 32, n, Digest(bytes([n]) * 32), 1, n) for n in (1, 2, 3)
    )
    ends = [Resolved(1, DORA, outcome, 900) for outcome in (Outcome.REJECTED, Outcome.CONFIRMED)]
    history.take((event, bytes(32)) for event in (first, one))
    assert standing(history) == first
    history.take((event, bytes(32)) for event in (ends[0], two, ends[1], three))
    assert standing(history) == one


async def test_an_audit_puts_what_is_due_beside_what_was_proposed() -> None:
    binding = TaskBinding(chain_id=1, contract=CORA, task=1)
    proposed = PayoutDocument(
        task=binding,
        rows=(PayoutRow(account=CORA, amount=str(3 * TOKEN)), PayoutRow(account=DORA, amount=str(2 * TOKEN))),
        test_set="bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy",
    )
    audited = Audited(
        verdict="wrong",
        findings=(AuditFinding(kind="wrong", text="It is more."),),
        rows=(PayoutRow(account=DORA, amount=str(2 * TOKEN)),),
        total=str(5 * TOKEN),
        subtasks=(DueOf(subtask=7, contribution="-1/3", delivered=2),),
    )
    found = audited_json(1, audited, proposed, ())
    assert found["accounts"] == [
        {"account": CORA, "due": 0, "proposed": 3, "as_due": False},
        {"account": DORA, "due": 2, "proposed": 2, "as_due": True},
    ]
    (contribution,) = found["contributions"]
    assert (contribution["contribution"], contribution["about"]) == ("-1/3", pytest.approx(-0.333, abs=1e-3))
    unknown = audited_json(1, audited.model_copy(update={"rows": None}), proposed, ())
    assert {(one["due"], one["as_due"]) for one in unknown["accounts"]} == {(None, None)}
    unserved = audited_json(1, audited, None, ())
    assert [(one["proposed"], one["as_due"]) for one in unserved["accounts"]] == [(None, None)]


async def test_an_audit_tells_no_contribution_of_who_adds(capsys: pytest.CaptureFixture[str]) -> None:
    due = (DueOf(subtask=7, contribution="8", delivered=2), DueOf(subtask=9, contribution="0", delivered=2))
    audited = Audited(verdict="right", findings=(), rows=None, total="0", subtasks=due)
    trains, adds = audited_json(1, audited, None, {9})["contributions"]
    assert (trains["role"], trains["about"]) == ("trainer", 8)
    assert (adds["role"], adds["about"], adds["contribution"]) == ("adder", None, None)
    output.out.print(_contributions_table([trains, adds]))
    said = capsys.readouterr().out
    assert ("+8.00" in said, "(adds)" in said, "+0.00" in said) == (True, True, False)


@pytest.mark.parametrize(("mode", "multiplier"), [("open", 4 / 2), ("dai", 4 / 2), ("aggregate", 4 * 2**0.5)])
async def test_what_blurred_updates_give_away_is_told(mode: Mode, multiplier: float) -> None:
    pytest.importorskip("dp_accounting", reason="needs the extra `privacy`")
    hidden = Privacy(clip=1, noise=4)
    assert epsilon(mode, hidden, 0) == 0
    found = epsilon(mode, hidden, 6)
    assert found == privacy.epsilon(multiplier, 6, hidden.delta)
    assert found is not None
    assert found > 1


async def test_a_voter_is_shown_that_a_case_is_about_a_payout() -> None:
    assert _about({"contract": "TrainingTask", "item": 3, "pool": None}) == "payout of task 3"


@pytest.mark.parametrize(
    ("account", "head", "state", "why"),
    [
        (DORA, 1_001, TaskState.PROPOSED, "The time for it ended"),
        (DORA, 900, TaskState.SETTLED, "is settled"),
        (CORA, 1_000, TaskState.PROPOSED, "or your own"),
        (DORA, 1_000, TaskState.PROPOSED, ""),
    ],
)
async def test_a_payout_that_cannot_be_challenged_has_no_price(
    monkeypatch: pytest.MonkeyPatch, account: Address, head: int, state: TaskState, why: str
) -> None:
    async def read(_self: object, *_calls: object) -> tuple[object, ...]:
        return at(900, state=state).task, 5, 3

    async def newest() -> SimpleNamespace:
        return SimpleNamespace(timestamp=head)

    monkeypatch.setattr(Tasks, "read", read)
    contracts = SimpleNamespace(fair_exchange=DORA, voting_panel=DORA, training_task=DORA)
    market, chain = SimpleNamespace(deployment=contracts), SimpleNamespace(head=newest)
    client = SimpleNamespace(
        address=account, deployment=contracts, market=market, chain=chain, commander=None
    )
    tasks = Tasks(cast("Client", client))
    if why:
        with pytest.raises(TaskRefusedError, match=why):
            await tasks.challenge_cost(1)
    else:
        assert await tasks.challenge_cost(1) == 8


# ------------------------------------------------------------------------------------- with running nodes


@dataclass
class Market:
    """Mira's node, and Dora's, which stops and starts."""

    folder: Path
    town: Town
    dora: Home
    clients: dict[str, Client] = field(default_factory=dict)

    async def run(self, name: str, *arguments: object, status: int = 0, typed: str = "") -> str:
        environment = {"AGORAI_HOME": str(self.folder / name)}
        words = [*map(str, arguments)]
        found = await asyncio.to_thread(CliRunner().invoke, app, words, typed, environment)
        assert found.exit_code == status, found.output
        return found.output

    async def agorai(self, name: str, *arguments: object, status: int = 0) -> Any:
        return json.loads((await self.run(name, *arguments, "--json", status=status)).splitlines()[-1])

    async def refusal(self, name: str, *arguments: object) -> str:
        error = (await self.agorai(name, *arguments, status=1))["error"]
        return f"{error['detail']} {error['remedy']}"

    def file(self, name: str, data: object) -> Path:
        path = self.folder / name
        path.write_text(json.dumps(data))
        return path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def market(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Market]:
    """Have Dora offer a data set and computing, and her node stop and start again, by another name."""
    folder = tmp_path_factory.mktemp("homes")
    async with running([Resident("mira", 100)]) as town, AsyncExitStack() as stack:
        (folder / "mira").mkdir()
        town.clients["mira"].info.save(Home(folder / "mira").node_file)
        home, passphrase = Home(folder / "dora"), "a long enough passphrase"
        keys = await asyncio.to_thread(node.open_keys, home, passphrase, scrypt_n=LIGHT_SCRYPT_N)
        await town.platform.fund(keys.address, 0)
        info = town.platform.info
        place = node.Place(
            bus_url=info.bus_url,
            bus_password=await town.platform.add_node(keys.address),
            rpc_url=info.rpc_url,
            confirmations=info.confirmations,
            deployment=info.deployment,
        )
        found = Market(folder, town, home)
        async with node.running(home, "dora", keys, passphrase, place, town.sandbox):
            flowers = EXAMPLES / "flowers.csv"
            await found.agorai("dora", "publish", "data", flowers, "--target", "species", "--price", 1)
            said = await found.agorai("dora", "task", "offer", "--data", "1=0.25", "--computing", 0.125)
            assert said["data"] == [{"resource": 1, "fee": 0.25}]
        await stack.enter_async_context(
            node.running(home, "dora anew", keys, passphrase, place, town.sandbox)
        )
        yield found


async def test_a_node_that_starts_again_offers_what_it_did(market: Market) -> None:
    (offer,) = await market.agorai("mira", "task", "offers")
    assert offer["data"] == [{"resource": 1, "fee": 0.25}]
    assert (offer["computing"]["wage"], offer["computing"]["subtasks"]) == (0.125, 1)
    assert "1 for 0.25" in await market.run("mira", "task", "offers")


@pytest.mark.parametrize("held", [None, b"no profile"])
async def test_a_profile_that_is_lost_offers_nothing_and_holds_up_no_start(held: bytes | None) -> None:
    class Store:
        async def get_document(self, cid: Cid) -> bytes:
            if held is None:
                raise ContentNotFoundError(cid, "http://127.0.0.1")
            return held

    assert await _specification(cast("ContentStore", Store()), Digest(b"d" * 32)) is None


@pytest.mark.parametrize(
    ("name", "resource", "why"),
    [("mira", 1, "it is not yours"), ("dora", 99, "There is no resource 99")],
)
async def test_what_cannot_be_offered_is_refused(market: Market, name: str, resource: int, why: str) -> None:
    assert why in await market.refusal(name, "task", "offer", "--data", f"{resource}=1")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def task(market: Market) -> int:
    """Open the task of the example, and wait until its payout is proposed."""
    path = market.file("task.json", spec(wanted={"providers": 1, "most_fee": 0.5}, challenge_window="1h"))
    command = ("task", "open", path, "--test", HIDDEN)
    assert "--yes" in await market.refusal("mira", *command)
    opened = await market.agorai("mira", *command, "--yes")
    assert (opened["name"], opened["state"], opened["budget"]) == ("flowers", "matching", 8)
    tasks = Tasks(market.town.clients["mira"])

    async def is_proposed() -> bool:
        return (await tasks.files.task(opened["task"])).state == TaskState.PROPOSED

    await until(is_proposed, "the payout")
    return int(opened["task"])


async def test_a_task_shows_who_takes_part_and_what_rounds_came_to(market: Market, task: int) -> None:
    found = await market.agorai("mira", "task", "show", task)
    assert found["awaited"] == "anyone may challenge the payout"
    (subtask,) = found["subtasks"]
    assert (subtask["resource"], subtask["fee"], subtask["delivered"]) == (1, 0.25, 3)
    assert subtask["computer"] == subtask["data_provider"]
    assert [one["round"] for one in found["rounds_run"]] == [0, 1, 2, 3]
    assert found["rounds_run"][3]["right"] > found["rounds_run"][0]["right"]
    shown = await market.run("dora", "task", "show", task)
    assert "you" in shown
    assert "has a proposed payout" in shown
    assert f"{found['rounds_run'][3]['right'] / found['test_samples']:.1%}" in shown
    (listed,) = await market.agorai("dora", "task", "list")
    assert (listed["task"], listed["round"], listed["state"]) == (task, 3, "proposed")


async def test_an_audit_by_anyone_comes_to_what_was_proposed(market: Market, task: int) -> None:
    found = await market.agorai("dora", "audit", "task", task)
    assert (found["verdict"], [one["as_due"] for one in found["accounts"]]) == ("right", [True])
    assert found["accounts"][0]["due"] == pytest.approx(0.75 + 5)
    assert "is right" in await market.run("dora", "audit", "task", task)
    assert "There is no task 99" in await market.refusal("dora", "audit", "task", 99)
    command = ("task", "challenge", task)
    assert "--yes" in await market.refusal("dora", *command)
    assert "are to be laid down" in await market.refusal("dora", *command, "--yes")
    assert "is the same" in await market.refusal("mira", *command)
    async with Client.connect(market.dora) as dora:
        mira = market.town.clients["mira"]
        await mira.transact(mira.market.token.transfer(dora.address, Wei(20 * TOKEN)))
        asked = await market.run("dora", *command, status=1, typed="n\n")
        assert "lay down 5.003 tokens" in " ".join(asked.split())  # its bond, and 0.001 for each voter
        assert "is the same" in await market.refusal("dora", *command, "--yes")
        contract = dora.deployment.training_task
        (allowed,) = await dora.chain.read(dora.market.token.allowance(dora.address, contract))
        assert allowed == 0


async def test_the_model_that_was_paid_for_is_a_file_to_be_published(market: Market, task: int) -> None:
    model, schema = market.folder / "model.safetensors", market.folder / "schema.json"
    for name in ("mira", "dora"):
        command = ("task", "download", task, "--model", model, "--schema", schema)
        found = await market.agorai(name, *command)
        assert (found["round"], found["format"]) == (3, "safetensors")
        assert "File exists" in await market.refusal(name, *command)
        published = await market.agorai(name, "publish", "model", model, "--schema", schema)
        assert published["resource"] > 1
        model.unlink()
        schema.unlink()


async def test_a_watch_goes_on_once_what_was_away_is_back(market: Market, task: int) -> None:
    info = market.town.clients["mira"].info
    away: list[AgoraiError] = []

    async def chain() -> int:
        return int(info.rpc_url.rpartition(":")[2])

    async with Line.open(chain) as line:
        reached = info.model_copy(update={"rpc_url": f"http://127.0.0.1:{line.port}"})
        async with aclosing(watched(lambda: Client.connect(reached), task, away.append)) as all_news:
            assert list((await anext(all_news)).rounds) == [0, 1, 2, 3]
            later = asyncio.create_task(anext(all_news))
            await line.cut()

            async def is_away() -> bool:
                return bool(away)

            await until(is_away, "word that the chain is away")
            await line.mend()
            news = await later
    assert (len(away), news.rounds, news.seen.task.state) == (1, {}, TaskState.PROPOSED)


async def test_what_comes_too_late_is_refused_in_words(market: Market, task: int) -> None:
    assert f"Task {task} has a proposed payout" in await market.refusal("mira", "task", "cancel", task)
    assert f"Task {task} has a proposed payout" in await market.refusal("mira", "task", "fund", task, 1)
    assert "There is no subtask 99" in await market.refusal("dora", "task", "leave", 99)


async def test_a_task_is_cancelled_and_all_goes_back(market: Market) -> None:
    path = market.file("lonely.json", spec(wanted={"providers": 5, "most_fee": 0.01}, quorum=5))
    opened = await market.agorai("mira", "task", "open", path, "--test", HIDDEN, "--yes")
    funded = await market.agorai("mira", "task", "fund", opened["task"], 2)
    assert funded["budget"] == 10
    download = ("task", "download", opened["task"], "--model", market.folder / "none")
    assert "its last round has not ended" in await market.refusal("mira", *download)
    assert "Nobody has proposed" in await market.refusal("mira", "audit", "task", opened["task"])
    said = await market.agorai("mira", "task", "cancel", opened["task"])
    assert (said["state"], said["awaited"]) == ("abandoned", None)
    refused = await market.refusal("mira", "task", "challenge", opened["task"])
    assert f"Task {opened['task']} has ended without a payout" in refused
    ended = await market.agorai("mira", "task", "watch", opened["task"], status=1)
    assert (ended["what"], ended["state"]) == ("ended", "abandoned")
    assert "was abandoned" in await market.run("mira", "task", "watch", opened["task"], status=1)
    assert (await market.agorai("mira", "task", "withdraw"))["withdrawn"] == 15


async def test_data_beyond_a_task_s_range_are_told_before_it_opens_and_who_declined_behind(
    market: Market,
) -> None:
    model = {"kind": "logistic_regression", "features": [{"name": "sepal_length", "maximum": 7}]}
    path = market.file("narrow.json", spec(model=model, wanted={"providers": 1, "most_fee": 0.5}))
    opened = await market.agorai("mira", "task", "open", path, "--test", HIDDEN, "--yes")
    (why,) = (one["why"] for one in opened["on_offer"]["matches"] if one["kind"] == "data")
    assert why == "its sepal_length is from 4.3 to 7.9, and the task takes -inf to 7"
    found: list[dict[str, Any]] = []

    async def has_declined() -> bool:
        found[:] = [await market.agorai("mira", "task", "show", opened["task"])]
        return any(one["state"] == "ended" and one["declined_by"] for one in found[0]["subtasks"])

    await until(has_declined, "Dora's answer")
    (declined,) = found[0]["subtasks"]
    assert declined["declined_by"] == declined["data_provider"] != found[0]["model_provider"]
    awaits = f"data providers agree: 0 of 1 are ready (subtask {declined['subtask']} has ended)"
    assert found[0]["awaited"] == awaits
    assert "declined by its data provider" in await market.run("mira", "task", "show", opened["task"])


async def test_a_task_that_nobody_adds_for_says_so_and_asks_who_offers_it_later(market: Market) -> None:
    wanted = {"providers": 1, "most_fee": 0.5}
    path = market.file("added.json", spec(mode="aggregate", wanted=wanted, join_window="1m"))
    command, lacks = ("task", "open", path, "--test", HIDDEN), "Nobody offers to add updates for 0.5"
    said = await market.run("mira", *command, status=1, typed="n\n")
    for told in (lacks, "data set 1", "join 1m", "3 tokens at most, 0.5 tokens a round", "Nothing was done."):
        assert told in said
    opened = await market.agorai("mira", *command, "--yes")
    assert opened["warnings"][0].startswith(lacks)
    assert [one["suits"] for one in opened["on_offer"]["matches"]] == [True, True]
    assert "a member offers to add updates" in opened["awaited"]
    offer = ("task", "offer", "--data", "1=0.25", "--computing", 0.125)
    tasks = Tasks(market.town.clients["mira"])

    async def has_adder() -> bool:
        return any(one.role == Role.ADDER for one in (await tasks.look(opened["task"])).subtasks.values())

    async def has_trainer() -> bool:
        return bool((await tasks.files.task(opened["task"])).trainers)

    await until(has_trainer, "Dora's data")
    assert not await has_adder()
    await market.agorai("dora", *offer, "--adding", 0.1)
    await until(has_adder, "an adder that is asked")


async def test_a_task_is_watched_to_its_end_and_its_money_taken(market: Market, task: int) -> None:
    await pass_time(market.town.clients["mira"], 3_601)
    lines = (await market.run("mira", "task", "watch", task, "--json")).splitlines()
    told = [json.loads(line) for line in lines]
    rounds = [one for one in told if one["what"] == "round"]
    assert [(one["round"], len(one["in"]), one["missing"]) for one in rounds] == [
        (0, 0, []), *((number, 1, []) for number in (1, 2, 3)),
    ]  # fmt: skip
    assert rounds[3]["accuracy"] == rounds[3]["right"] / 26
    assert (told[-1]["what"], told[-1]["state"]) == ("ended", "settled")
    said = await market.run("dora", "task", "watch", task)
    assert f"round 3 {rounds[3]['accuracy']:.1%}, {rounds[3]['right']} of 26 correct; 1 update in" in said
    assert f"Task {task} is settled" in said
    taken = 0.0

    async def is_taken() -> bool:
        nonlocal taken
        taken += float((await market.agorai("dora", "task", "withdraw"))["withdrawn"])
        return taken > 0

    await until(is_taken, "what Dora is due")
    assert taken == pytest.approx(0.75 + 5)
    assert "no credit to take" in await market.run("dora", "task", "withdraw")


async def test_an_offer_is_taken_back(market: Market) -> None:
    await market.agorai("dora", "task", "offer", "--nothing")
    assert await market.agorai("mira", "task", "offers") == []
