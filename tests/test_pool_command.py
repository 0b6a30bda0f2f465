"""`agorai pool` as people use it: what they write down, what they are shown and told, and what is refused."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from pathlib import Path
from string import Formatter
from typing import Any, cast

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner, Result

from agorai.cli.main import app
from agorai.cli.pool_events import _FILES, _INLINE, words
from agorai.cli.pool_samples import _not_applied, _suspicions
from agorai.cli.pool_shown import case_json, contribution_table, lacking_told, pool_table
from agorai.client import Client
from agorai.demo.town import Resident, Town, running
from agorai.devchain import TOKEN
from agorai.exchange import explained, refusal
from agorai.home import Home
from agorai.pool_opening import require_classifier
from agorai.pool_refusals import (
    REFUSALS,
    ColumnNotDerivedError,
    KnownTestSetError,
    NoSamplesError,
    PoolDocumentError,
    PoolRefusedError,
    PoolTermsError,
    VersionsApartError,
    VersionUntrueError,
)
from agorai.pool_schema import derive
from agorai.pool_spec import PoolSpec, read_samples
from agorai.pools import Pools, PoolTerms
from agorai_shared import cid as cids
from agorai_shared.abi.codec import ArgValue
from agorai_shared.bindings.data_pool import DataPool, Opened, Outcome, Published, State
from agorai_shared.bindings.voting_panel import Case, Phase, Verdict
from agorai_shared.chain import Chain, ContractRevertError
from agorai_shared.errors import RemoteError
from agorai_shared.pool import (
    CategoryColumn,
    NumberColumn,
    PoolBinding,
    PoolDocument,
    Rule,
    Samples,
    SamplesShapeError,
    Snapshot,
    Taken,
    TextColumn,
    VersionRecord,
    Versions,
    read_initial,
)
from agorai_shared.pool_history import WindowTooShortError
from agorai_shared.pool_trainer import Found
from agorai_shared.types import Address, Wei
from agorai_trainer.estimators import ESTIMATORS
from agorai_trainer.pooling.learning import try_out
from agorai_trainer.pooling.refusals import InitialClassError, RuleRefusedError
from tests.pooling import INITIAL, owned, table, until
from tests.pooling import csv as cells
from tests.pooling import document as described

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("wide")]

TERMS = ("--deposit", 1, "--reward", 0.1, "--bond", 50, "--budget", 60, "--closes", "1d",
         "--check-window", "1h", "--answer-window", "30m", "--reveal-window", "1h")  # fmt: skip
RULE = Rule(estimator="sklearn.SGDClassifier", hyperparameters={"loss": "log_loss"}, mode="incremental")


# ------------------------------------------------------------------------------------------ written down


async def test_columns_are_told_by_the_samples_with_room_to_either_side() -> None:
    rows = [
        "area,rooms,note,kind,kept",
        *("20.5,2,a cosy one,flat,yes" for _ in range(3)),
        "60.5,4,wide,house,no",
    ]
    found = {one.name: one for one in derive("\n".join(rows).encode(), "kept").columns}
    assert found["area"] == NumberColumn(name="area", low=0, high=150)
    assert found["rooms"] == NumberColumn(name="rooms", low=0, high=8, whole=True)
    assert found["note"] == CategoryColumn(name="note", values=("a cosy one", "wide"))
    assert found["kept"] == CategoryColumn(name="kept", values=("no", "yes"))


async def test_texts_that_do_not_repeat_may_be_twice_as_long() -> None:
    (note, _) = derive(b"note,kept\nshort,a\na longer one,b\n", "kept").columns
    assert note == TextColumn(name="note", longest=24)


@pytest.mark.parametrize(
    ("samples", "target", "why"),
    [
        (b"x,y\n1,a\n,b\n3,a\n", "y", r"'x' .* row 1 .* has ''"),
        (b"x,y\n1,a\n2,b\n", "z", "no such column"),
        (b"x,y\n", "y", "no samples"),
    ],
)
async def test_a_column_that_is_not_told_is_named(samples: bytes, target: str, why: str) -> None:
    with pytest.raises(ColumnNotDerivedError, match=why):
        derive(samples, target)


async def test_samples_of_one_class_or_broken_rows_tell_no_columns() -> None:
    with pytest.raises(PoolDocumentError, match=r"values: .*2 at least"):
        derive(b"x,y\n1,a\n2,a\n", "y")
    with pytest.raises(SamplesShapeError, match="Row 1"):
        derive(b"x,y\n1,a\n2\n", "y")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(allow_nan=False, allow_infinity=False),
            st.integers(-(10**6), 10**6),
            st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=30),
        ),
        min_size=2,
        max_size=30,
    )
)
async def test_columns_that_samples_tell_take_these_samples(rows: list[tuple[float, int, str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["real", "whole", "words", "label"])
    writer.writerows((*row, "ab"[place % 2]) for place, row in enumerate(rows))
    data = text.getvalue().encode()
    try:
        schema = derive(data, "label")
    except (ColumnNotDerivedError, PoolDocumentError):
        return  # huge numbers, or texts of which some look like numbers
    document = PoolDocument(
        name="any",
        columns=schema.columns,
        target="label",
        initial_samples=described().initial_samples,
        rule=RULE,
    )
    assert len(read_initial(document, data)) == len(rows)


def spec(**changes: object) -> dict[str, Any]:
    return {
        "name": "Cells", "samples": "initial.csv", "test": "test.csv", "target": "kind",
        "rule": RULE.model_dump(mode="json"), "deposit": 1, "reward": 0.1, "bond": 50, "budget": 60,
        "check_window": "1h", "answer_window": "30m", "reveal_window": "7d", "closes": "30d", **changes,
    }  # fmt: skip


async def test_a_spec_names_its_files_beside_it_and_times_as_people_write_them(tmp_path: Path) -> None:
    path = tmp_path / "pool.json"
    path.write_text(json.dumps(spec()))
    read = PoolSpec.load(path)
    assert (read.samples, read.test) == (tmp_path / "initial.csv", tmp_path / "test.csv")
    terms = read.terms(now=1_000)
    assert (terms.check_window, terms.answer_window, terms.reveal_window) == (3_600, 1_800, 604_800)
    assert (terms.closes_at, terms.reward) == (1_000 + 30 * 86_400, TOKEN // 10)
    path.write_text(json.dumps({key: value for key, value in spec().items() if key != "rule"}))
    assert PoolSpec.load(path).rule == Rule(estimator="sklearn.SGDClassifier", mode="incremental")
    for date in ("2027-01-31", "2027-01-31T00:00", "2027-01-31T01:00+01:00"):
        assert PoolSpec.model_validate(spec(closes=date)).terms(0).closes_at == 1_801_353_600


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"closes": "soon"}, "closes: write 'soon' as a date"),
        ({"check_window": "5w"}, "check_window: write '5w' as a number and s, m, h or d"),
        ({"deposit": -1}, "deposit: it is -1, and must be 0 at least"),
        ({"rule": {"estimator": "sklearn.SGDClassifier"}}, "rule.mode: it is missing"),
        ({"colour": "red"}, "colour: there is no such member"),
    ],
)
async def test_what_is_wrong_in_a_spec_is_named(changes: dict[str, object], why: str, tmp_path: Path) -> None:
    path = tmp_path / "pool.json"
    path.write_text(json.dumps(spec(**changes)))
    with pytest.raises(PoolDocumentError, match=why):
        PoolSpec.load(path)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("open", "--name", "Cells"), "opened with --samples"),
        (("open", __file__, "--bond", 3), "not both SPEC and --bond"),
        (("challenge", 1, "--rows", "3;7"), "write rows with commas"),
        (("challenge", 1, "--rows", "3", "--all-found"), "one of --rows"),
        (("download", 1), "--model, with --data"),
        (("watch", "--stake"), "go with a POOL"),
        (("answer", 1, "maybe"), "maybe"),
    ],
)
async def test_usage_that_is_wrong_is_told_before_any_node_is_asked(
    arguments: tuple[object, ...], why: str, tmp_path: Path
) -> None:
    command = ["pool", *map(str, arguments), "--home", str(tmp_path), "--json"]
    found = CliRunner().invoke(app, command)
    assert (found.exit_code, why in json.loads(found.stdout)["error"]["detail"]) == (2, True), found.stdout


async def test_a_schema_is_written_to_be_edited_and_needs_no_node(tmp_path: Path) -> None:
    samples = tmp_path / "samples.csv"
    samples.write_bytes(cells(0, 50))
    command = ["pool", "schema", str(samples), "--target", "kind"]
    found = CliRunner().invoke(app, command)
    assert json.loads(found.stdout)["columns"][-1]["values"] == ["benign", "malignant"]
    wrong = CliRunner().invoke(app, [*command[:-1], "sort", "--json"])
    assert json.loads(wrong.stdout)["error"]["title"] == "column_not_derived"


# ---------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("error", REFUSALS)
async def test_a_refusal_is_one_of_the_contracts_and_told_with_its_values(error: str) -> None:
    errors = {found.name: found for found in DataPool.ABI.errors.values()}
    named = {field for text in REFUSALS[error] for _, field, _, _ in Formatter().parse(text) if field}
    assert named <= {parameter.name for parameter in errors[error].inputs}


async def test_amounts_and_times_of_a_refusal_are_read_as_people_write_them() -> None:
    spent = f"DataPool_BudgetSpent(pool=3, needed={5 * 10**18}, left={10**17})"
    with pytest.raises(PoolRefusedError, match=r"Pool 3 has 0\.1 tokens left .* need 5"), explained():
        raise ContractRevertError("DataPool", "add", spent)
    one = f"DataPool_BudgetSpent(pool=3, needed={5 * 10**18}, left={10**18})"
    with pytest.raises(PoolRefusedError, match="Pool 3 has 1 token left"), explained():
        raise ContractRevertError("DataPool", "add", one)
    over = "DataPool_WrongTime(pool=3, closesAt=1767225600)"
    with pytest.raises(PoolRefusedError, match="closes at 2026-01-01 00:00:00 UTC"), explained():
        raise ContractRevertError("DataPool", "add", over)


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (State.OPEN, "is open: nobody has challenged it"),
        (State.CHALLENGED, "is challenged already"),
        (State.SETTLED, "is settled"),
    ],
)
async def test_a_refusal_says_in_which_state_a_contribution_is(state: State, why: str) -> None:
    wrong = f"DataPool_WrongState(contribution=7, state={state:d})"
    with pytest.raises(PoolRefusedError, match=f"Contribution 7 {why}.") as told, explained():
        raise ContractRevertError("DataPool", "answer", wrong)
    assert "agorai pool contribution 7" in told.value.remedy
    assert refusal("DataPool_WrongState", {"contribution": 7, "state": state}).message == told.value.message


async def test_a_row_that_is_suspected_for_several_reasons_is_shown_once() -> None:
    line = ",".join(["1.25"] * 40)
    found = [
        Found(row=4, reason="label", explanation="Its neighbours differ.", confidence=0.5, correction=line),
        Found(row=1, reason="duplicate", explanation="It repeats.", confidence=0.6),
        Found(row=4, reason="out_of_range", explanation="It is too high.", confidence=0.9, correction=line),
    ]
    shown = printed(_suspicions(found, "Suspected"))
    assert re.findall(r"\b\d+%", shown) == ["90%", "60%"]
    assert "1 weaker" in shown
    assert "…" not in shown


def printed(shown: object) -> str:
    """Give what a terminal of 100 columns shows, without what parts words and columns."""
    written = io.StringIO()
    Console(width=100, file=written).print(shown)
    return re.sub(r"[\s│┃]+", " ", written.getvalue())


async def test_what_too_little_is_known_for_is_told_in_one_line() -> None:
    few = "60 known samples are measured, and it takes 199"
    told = [
        {"reason": "unlike", "why": few},
        {"reason": "label", "why": "it takes two classes"},
        {"reason": "near_duplicate", "why": few},
    ]
    assert _not_applied(told) == (
        "Not applied, or not to all, since too little is known: "
        f"unlike, near_duplicate ({few}); label (it takes two classes)."
    )


SEEN: dict[str, Any] = {
    "contribution": 3, "pool": 1, "contributor": "0xabc", "state": "settled", "count": 12, "left": 10,
    "corrects": None, "digest": "ab" * 32, "inline": False, "deadline": None, "left_s": None, "awaited": None,
    "upheld": None, "case": None, "panel": None, "challenger": None, "challenged": None, "outcomes": [],
    "credited": None, "wrong": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("phase", "verdict", "says"),
    [
        (Phase.REVEALING, Verdict.PENDING, "case 7: revealing until 2026-01-01 00:00:00 UTC (in 2m 5s)"),
        (Phase.CLOSED, Verdict.REJECTED, "case 7: voters found the challenge right"),
        (Phase.CLOSED, Verdict.CONFIRMED, "case 7: voters found the challenge wrong"),
        (Phase.CLOSED, Verdict.UNDECIDED, "case 7: voters came to no verdict"),
    ],
)
async def test_a_contribution_before_voters_says_how_far_they_are(
    phase: Phase, verdict: Verdict, says: str
) -> None:
    nobody = Address("0x" + "00" * 20)
    deadline = 1_767_225_600
    case = Case(nobody, 3, nobody, nobody, 0, 0, deadline, 3, 1, 3, 3, 1, 0, phase, verdict)
    panel = case_json(case, deadline - 125)
    assert panel is not None
    assert panel["deadline"] == (None if phase is Phase.CLOSED else deadline)
    shown = printed(contribution_table({**SEEN, "state": "contested", "case": 7, "panel": panel}, "0xdef"))
    assert says in shown


async def test_a_contribution_that_is_settled_says_what_was_credited() -> None:
    shown = printed(contribution_table({**SEEN, "credited": 11.0}, "0xdef"))
    assert "credited 11 tokens" in shown
    assert "agorai account withdraw" in shown
    assert "ab" * 32 in shown
    assert "3 of pool 1" in shown


async def test_what_a_node_lacks_to_challenge_is_told_with_what_can_be_withdrawn() -> None:
    found = [
        {"contribution": 3, "lacking": 20.0, "credit": 59.1},
        {"contribution": 4, "lacking": 1.0, "credit": 0.0},
    ]
    assert [str(one) for one in lacking_told(found)] == [
        "Your node lacks 20 tokens to challenge contribution 3; 59.1 can be withdrawn: `agorai account withdraw`.",
        "Your node lacks 1 token to challenge contribution 4.",
    ]


@pytest.mark.parametrize(
    ("state", "says", "not_says"),
    [
        ("open", "5, lost if the test set is not revealed", "given back"),
        ("closed", "5, given back", "lost"),
        ("forfeited", "5, forfeit: the test set was not revealed", "given back"),
    ],
)
async def test_a_pool_that_is_over_says_what_became_of_its_bond(state: str, says: str, not_says: str) -> None:
    found: dict[str, Any] = {
        "pool": 2, "name": "Cells", "description": "", "owner": "0xabc", "rule": None, "deposit": 1.0,
        "reward": 0.1, "bond": 5.0, "budget": 3.0, "pays_for": 0, "check_window": 60, "answer_window": 60,
        "reveal_window": 60, "panel_size": 3, "bonus": 0.3, "state": state, "closes_at": 1_767_225_600,
        "now": 1_767_225_660 if state != "open" else 1_767_225_540, "reveal_until": 0, "accepted": 0, "open": 0,
        "test_set": None, "awaited": None,
    }  # fmt: skip
    shown = printed(pool_table(found, "0xdef"))
    assert says in shown
    assert not_says not in shown
    assert ("closes 2026-01-01 00:00:00 UTC (in 1m" in shown) is (state == "open")
    assert ("closed 2026-01-01 00:00:00 UTC (1m" in shown) is (state != "open")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"a;b\n1,5;x\n", "parts its cells by semicolons"),
        (b"a\tb\n1\tx\n", "parts its cells by tabs"),
    ],
)
async def test_a_file_that_holds_no_samples_says_how_to_save_it(
    data: bytes, why: str, tmp_path: Path
) -> None:
    path = tmp_path / "samples.csv"
    path.write_bytes(data)
    with pytest.raises(NoSamplesError, match=f"samples.csv {why}"):
        read_samples(path)


async def test_an_event_names_files_by_their_cids_and_shows_what_is_inline_as_text() -> None:
    document = b'{"wrong":[{"reason":"unlike","row":3}]}'
    digest = cids.sha256(document)
    inline: dict[str, ArgValue] = {
        "contribution": 1, "count": 1, "corrections": _hex(digest), "document": _hex(document),
    }  # fmt: skip
    assert words(inline) == (
        f"contribution=1, count=1, corrections={cids.of_digest(digest)}, "
        'document="{\\"wrong\\":[{\\"reason\\":\\"unlike\\",\\"row\\":3}]}"'
    )
    either = f"{cids.of_digest(digest)} or {cids.of_dag_pb_digest(digest)}"
    assert words({**inline, "document": "0x"}).endswith(f"corrections={either}, document=(in a file)")
    salted = "0x" + "5a" * 32
    terms: dict[str, ArgValue] = {"document": _hex(digest), "testCommitment": salted, "deposit": "1000"}
    assert words({"id": 1, "terms": terms}) == (
        f"id=1, terms=(document={cids.of_digest(digest)}, testCommitment={salted}, deposit=1000)"
    )
    assert words({"samples": "0xff"}) == "samples=0xff"
    assert words({"samples": _hex(b"a" * 300)}) == f'samples="{"a" * 200}…"'
    assert [words({"outcome": one.value}) for one in Outcome] == [
        f"outcome={one.name.lower()}" for one in Outcome
    ]


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


async def test_every_digest_of_an_event_is_a_files_or_of_what_is_bound_to() -> None:
    inputs = [one for event in DataPool.ABI.events.values() for one in event.inputs]
    inputs += [replace(one, name=f"terms.{one.name}") for each in inputs for one in each.components]
    digests = {one.name for one in inputs if one.type == "bytes32"}
    assert digests - _FILES == {"commitment", "terms.testCommitment", "salt"}
    assert digests >= _FILES
    assert {one.name for one in inputs if one.type == "bytes"} == _INLINE.keys()


@pytest.mark.parametrize(
    ("estimator", "says"),
    [
        ("sklearn.SGDRegressor", "it is no classifier of scikit-learn. → Did you mean sklearn.SGDClassifier"),
        ("sklearn.SGDClasifier", "there is no such estimator. → Did you mean sklearn.SGDClassifier"),
        ("SGDClassifier", "there is no such estimator. → Did you mean sklearn.SGDClassifier"),
        ("xgboost.XGBClassifier", "it is no classifier of scikit-learn. → "),
        ("sklearn.Oracle_7", "there is no such estimator. → Name a classifier of scikit-learn, such as"),
    ],
)
async def test_an_estimator_that_no_pool_can_be_trained_by_is_refused_and_classifiers_are_named(
    estimator: str, says: str
) -> None:
    with pytest.raises(RuleRefusedError) as refused:
        require_classifier(estimator)
    assert says in f"{refused.value.message} → {refused.value.remedy}"
    assert "Regressor" not in refused.value.remedy


@pytest.mark.parametrize("estimator", ESTIMATORS)
async def test_the_same_estimators_are_refused_before_and_while_a_rule_is_tried(estimator: str) -> None:
    pool = described()
    rule = Rule(estimator=estimator, mode="anew")
    one = Samples(table()[:1])  # of one class: what comes next is refused, too
    with pytest.raises((RuleRefusedError, InitialClassError)) as refused:
        try_out(pool.model_copy(update={"rule": rule}), one)
    try:
        require_classifier(estimator)
    except RuleRefusedError:
        assert isinstance(refused.value, RuleRefusedError)
    else:
        assert isinstance(refused.value, InitialClassError)


async def test_a_pool_whose_test_set_is_known_or_whose_estimator_is_not_is_refused_by_whoever_opens_it() -> (
    None
):
    class Untouched:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"{name} was asked for")

    pools = object.__new__(Pools)  # of no node: nothing may be stored, sealed or read
    pools.client = cast("Client", Untouched())
    terms = cast("PoolTerms", Untouched())
    with pytest.raises(KnownTestSetError, match="Of the 20 samples of the test set 20 are"):
        await pools.open(described(), cells(0, 100), cells(0, 20), terms)
    other = described().model_copy(update={"rule": Rule(estimator="sklearn.Ridge", mode="anew")})
    with pytest.raises(RuleRefusedError, match=r"sklearn\.Ridge"):
        await pools.open(other, cells(0, 100), cells(100, 120), terms)
    with pytest.raises(RuleRefusedError, match=r"sklearn\.Ridge"):
        await pools.train(1, other.rule)


# ------------------------------------------------------------------------------------- with running nodes


@dataclass
class Market:
    """Alice's and Bob's nodes, and files of samples."""

    folder: Path
    town: Town

    async def run(self, name: str, *arguments: object) -> Result:
        """Run a command in a thread: a process of its own would take a second more."""
        environment = {"AGORAI_HOME": str(self.folder / name)}
        return await asyncio.to_thread(
            CliRunner().invoke, app, ["pool", *map(str, arguments)], env=environment
        )

    async def agorai(self, name: str, *arguments: object, status: int = 0) -> Any:
        found = await self.run(name, *arguments, "--json")
        assert found.exit_code == status, found.output
        return json.loads(found.stdout)

    async def refusal(self, name: str, *arguments: object) -> str:
        error = (await self.agorai(name, *arguments, status=1))["error"]
        return f"{error['detail']} {error['remedy']}"

    async def said(self, name: str, *arguments: object, status: int = 0) -> str:
        found = await self.run(name, *arguments)
        assert found.exit_code == status, found.output
        return found.output

    def file(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def pools(self, name: str) -> Pools:
        return Pools(self.town.clients[name])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def market(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Market]:
    folder = tmp_path_factory.mktemp("homes")
    async with running([Resident("alice", 500), Resident("bob", 100)]) as town:
        for name, client in town.clients.items():
            (folder / name).mkdir()
            client.info.save(Home(folder / name).node_file)
        yield Market(folder, town)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(market: Market) -> int:
    """Open a pool by command; alice's node is not to challenge by itself what tests add."""
    initial = market.file("initial.csv", cells(0, INITIAL))
    test = market.file("test.csv", cells(INITIAL, INITIAL + 50))
    schema = market.file("schema.json", b"")
    found = await market.agorai("alice", "schema", initial, "--target", "kind")
    schema.write_text(json.dumps(found))
    files = ("--samples", initial, "--test", test, "--target", "kind", "--schema", schema)
    options = ("--name", "Cells", *files, *TERMS, "--param", "loss=log_loss")
    assert "--yes" in await market.refusal("alice", "open", *options)
    opened = await market.agorai("alice", "open", *options, "--yes")
    assert (opened["deposit"], opened["state"], opened["pays_for"]) == (1, "open", 599)
    assert opened["rule"]["hyperparameters"] == {"loss": "log_loss"}
    await market.agorai("alice", "watch", opened["pool"], "--no-stake")
    return int(opened["pool"])


async def test_a_test_set_that_becomes_public_with_the_initial_samples_is_refused(market: Market) -> None:
    """Three rows of 25 are more than a tenth; two of 20 are not."""
    initial = market.file("public.csv", cells(0, INITIAL))
    hidden = market.file("hidden.csv", cells(INITIAL - 3, INITIAL + 22))
    files = ("--samples", initial, "--test", hidden, "--target", "kind", "--name", "Known")
    said = await market.refusal("alice", "open", *files, *TERMS, "--yes")
    assert "Of the 25 samples of the test set 3 are among the initial samples" in said
    hidden.write_bytes(cells(INITIAL - 2, INITIAL + 18))
    assert "--yes" in await market.refusal("alice", "open", *files, *TERMS)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--closes", "2020-01-01"), "it would be closed already"),
        (("--panel-size", 4), "a panel of 4 seats is not permitted"),
        (("--check-window", "31d"), "the check window has 2678400 s"),
        (("--budget", 9_999), "are to be laid down"),
        (("--param", "loss=nonsense"), "loss"),
        (("--param", "los=hinge"), "los"),
    ],
)
async def test_what_speaks_against_opening_is_told_before_anybody_is_asked(
    market: Market, pool: int, options: tuple[object, ...], says: str
) -> None:
    files = ("--samples", market.folder / "initial.csv", "--test", market.folder / "test.csv")
    said = await market.refusal(
        "alice", "open", "--name", "Cells", "--target", "kind", *files, *TERMS, *options
    )
    assert says in said
    assert "was not opened" not in said


async def test_a_pool_is_opened_after_its_terms_were_shown(market: Market, pool: int) -> None:
    files = ("--samples", market.folder / "initial.csv", "--test", market.folder / "test.csv")
    asked = await market.said(
        "alice", "open", "--name", "Cells", "--target", "kind", *files, *TERMS, status=1
    )
    told = " ".join(asked.split())
    assert (
        "a deposit of 1 and a reward of 0.1; bond 50, budget 60. Windows: 1h to check, 30m to answer" in told
    )
    assert "with these columns, and lay down 110 tokens?" in told


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def repeating(market: Market, pool: int) -> int:
    """Have bob add three samples on the chain, the last of which the pool began with."""
    repeated = cells(0, 1).split(b"\n", 1)[1]
    file = market.file("repeating.csv", cells(400, 402) + repeated)
    said = await market.refusal("bob", "add", pool, file)
    assert "Of 3 samples the pool has 1" in said
    asked = await market.said("bob", "add", pool, file, status=1)
    assert "row 0 of the initial samples" in asked
    added = await market.agorai("bob", "add", pool, file, "--inline", "--yes")
    assert (added["count"], added["deposit"], added["repeats"], added["inline"]) == (3, 3, [2], True)
    return int(added["contribution"])


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"panel_size": 4}, PoolTermsError),
        ({"bond": Wei(0)}, PoolTermsError),
        ({"check_window": 59}, PoolTermsError),
        ({"closes_at": 1}, PoolTermsError),
    ],
)
async def test_terms_that_no_pool_can_have_are_refused_before_anything_is_sent(
    market: Market, changes: dict[str, Any], error: type[Exception]
) -> None:
    pools = market.pools("alice")
    terms = {"deposit": Wei(1), "reward": Wei(0), "bond": Wei(1), "budget": Wei(0), "check_window": 60,
             "answer_window": 60, "reveal_window": 60, "closes_at": await pools.now() + 60}  # fmt: skip
    with pytest.raises(error, match="othing was sent"):
        await pools.open(described(), cells(0, 100), cells(100, 120), PoolTerms(**{**terms, **changes}))


async def test_windows_that_end_before_a_final_block_tells_of_them_are_refused(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = market.pools("alice")

    async def lag() -> int:
        return 90

    monkeypatch.setattr(pools.client.chain, "finality_lag", lag)
    terms = PoolTerms(
        deposit=Wei(1), reward=Wei(0), bond=Wei(1), budget=Wei(0), check_window=180, answer_window=179,
        reveal_window=180, closes_at=await pools.now() + 60,
    )  # fmt: skip
    with pytest.raises(WindowTooShortError, match=r"The answer window has 179 s.*at least 180 s"):
        await pools.open(described(), cells(0, 100), cells(100, 120), terms)


async def test_nothing_is_laid_down_in_a_pool_whose_windows_end_before_a_final_block_tells_of_them(
    market: Market, pool: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lag(_: Chain) -> int:
        return 901

    bob = market.pools("bob")
    before = await owned(bob)
    monkeypatch.setattr(Chain, "finality_lag", lag)
    said = await market.refusal("bob", "add", pool, market.file("one.csv", cells(300, 301)))
    assert "The answer window has 1800 s" in said
    assert "at least 1802 s; nothing was sent" in said
    with pytest.raises(WindowTooShortError):
        await bob.add(pool, cells(300, 301))
    with pytest.raises(RemoteError, match="The answer window has 1800 s"):
        await bob.watch(pool, stake=True)
    assert await owned(bob) == before


async def test_a_pool_is_found_and_shown(market: Market, pool: int) -> None:
    (found,) = [one for one in await market.agorai("bob", "list") if one["pool"] == pool]
    assert (found["name"], found["awaited"]) == ("Cells", "anyone may add samples")
    assert "Cells" in await market.said("bob", "list")
    shown = await market.said("bob", "show", pool)
    assert "1 for each sample, of who adds and of who challenges" in shown
    assert "1h to check, 30m to answer, 1h to reveal" in shown
    assert "no pool 99" in await market.refusal("bob", "show", 99)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (
            cells(300, 302).replace(b"benign", b"neither").replace(b"malignant", b"neither"),
            "Row 0 .*'kind': 'neither'",
        ),
        (cells(300, 301).replace(b"f3,", b"f33,", 1), "lacks the column 'f3'"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
async def test_samples_that_are_not_the_pools_are_named_before_anything_is_sent(
    market: Market, pool: int, data: bytes, why: str
) -> None:
    said = await market.refusal("bob", "add", pool, market.file("wrong.csv", data))
    assert re.search(why, said), said


async def test_deposits_that_the_account_has_not_are_told(market: Market, pool: int) -> None:
    many = market.file("many.csv", cells(300, 450))
    assert "150 tokens are to be laid down" in await market.refusal("bob", "add", pool, many)


async def test_samples_that_the_budget_does_not_pay_for_are_refused(market: Market, pool: int) -> None:
    rows = cells(300, 301).split(b"\n", 1)
    many = market.file("too-many.csv", rows[0] + b"\n" + rows[1] * 600)
    assert "tokens left for rewards and voters" in await market.refusal("alice", "add", pool, many)


async def test_a_budget_grows(market: Market, pool: int) -> None:
    before = (await market.agorai("bob", "show", pool))["budget"]
    assert "Funding pool 1 lays down 2 tokens" in await market.refusal("bob", "fund", pool, 2)
    assert (await market.agorai("bob", "show", pool))["budget"] == before
    assert (await market.agorai("bob", "fund", pool, 2, "--yes"))["budget"] == before + 2
    assert "99999 tokens are to be laid down" in await market.refusal("bob", "fund", pool, 99_999, "--yes")


async def test_the_same_file_is_not_added_twice_by_mistake(market: Market, pool: int, repeating: int) -> None:
    file = market.folder / "repeating.csv"
    said = await market.refusal("bob", "add", pool, file, "--yes")
    assert f"The same file is contribution {repeating} of yours in pool {pool} already" in said
    assert "Of 3 samples the pool has 3" in await market.refusal("bob", "add", pool, file, "--again")
    assert "Of 3 samples the pool has 3" in await market.refusal("alice", "add", pool, file)


async def test_what_is_laid_down_for_samples_is_told_before_it_is_sent(market: Market, pool: int) -> None:
    file = market.file("two.csv", cells(310, 312))
    said = await market.refusal("bob", "add", pool, file)
    assert "Adding 2 samples lays down 2 tokens: with --json nobody is asked first" in said
    asked = await market.said("bob", "add", pool, file, status=1)
    assert (
        f"Add 2 samples to pool {pool} for all to see, and lay down 2 tokens, which come back with 0.2 more"
        in asked
    )
    assert "Add --yes to do it." in asked


async def test_what_is_suspected_is_told_and_challenged_only_after_a_yes(
    market: Market, pool: int, repeating: int
) -> None:
    found = await market.agorai("alice", "check", repeating)
    assert found["not_applied"] == []
    assert next((one["row"], one["reason"]) for one in found["suspicions"]) == (2, "duplicate")
    said = await market.refusal("alice", "challenge", repeating, "--rows", 2)
    assert "To challenge 1 sample costs 1 token:" in said
    asked = await market.said("alice", "challenge", repeating, status=1)
    assert "It costs 1 token. If all are wrong they come back with 0.5 more" in asked
    assert "is your own" in await market.refusal("bob", "challenge", repeating, "--rows", 2)
    assert (await market.agorai("bob", "contribution", repeating))["state"] == "open"


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ([{"row": 3, "reason": "out_of_range"}], "no row 3"),
        ([], "wrong: it has 0, and needs 1 at least"),
        ([{"row": 0, "reason": "label"}], "a right label goes with a wrong one"),
        ([{"row": 0, "reason": "label", "label": "odd"}], "no kind 'odd', only benign, malignant"),
        ([{"row": 0, "reason": "label", "label": table()[400][-1]}], f"called {table()[400][-1]!r} already"),
        (
            [{"row": 2, "reason": "duplicate", "origin": {"contribution": 0, "row": 1}}],
            "row 2 does not repeat row 1 of contribution 0",
        ),
        (
            [{"row": 2, "reason": "near_duplicate", "origin": {"contribution": 0, "row": INITIAL}}],
            f"there is no row {INITIAL} of contribution 0",
        ),
        (
            [{"row": 2, "reason": "duplicate", "origin": {"contribution": 99, "row": 0}}],
            "there is no row 0 of contribution 99",
        ),
    ],
)
async def test_a_challenge_of_ones_own_that_cannot_be_right_is_refused(
    market: Market, repeating: int, wrong: list[dict[str, Any]], why: str
) -> None:
    file = market.file("challenge.json", json.dumps({"wrong": wrong}).encode())
    assert why in await market.refusal("alice", "challenge", repeating, "--file", file, "--yes")


async def test_a_challenge_of_ones_own_is_shown_answered_and_contested(
    market: Market, pool: int, repeating: int
) -> None:
    origin = {"contribution": 0, "row": 0}
    wrong = {"wrong": [{"row": 2, "reason": "duplicate", "origin": origin, "note": "It repeats."}]}
    unproved = {"wrong": [{"row": 2, "reason": "unlike"}]}
    file = market.file("own.json", json.dumps(unproved).encode())
    asked = await market.said("alice", "challenge", repeating, "--file", file, status=1)
    assert "whether a rule bears it out (unlike)" in asked
    file = market.file("own.json", json.dumps(wrong).encode())
    made = await market.agorai("alice", "challenge", repeating, "--file", file, "--yes")
    assert (made["count"], made["cost"], made["prize"]) == (1, 1, 0.5)
    found = await market.agorai("bob", "contribution", repeating)
    # the owner's challenge is its answer, too
    assert (found["state"], found["upheld"], found["challenged"]) == ("answered", True, 1)
    assert found["wrong"][0]["origin"] == origin
    shown = await market.said("bob", "contribution", repeating)
    assert "duplicate: It repeats." in shown
    assert "whoever loses by the answer may contest it" in shown
    assert "Contribution 1 was answered." in await market.refusal("alice", "answer", repeating, "reject")
    assert "Contribution 1 was answered." in await market.refusal("alice", "challenge", repeating)
    assert "it has no row 3." in await market.refusal("alice", "challenge", repeating, "--rows", "0,3")
    assert "does not lose" in await market.refusal("alice", "contest", repeating)
    assert "Contesting lays down 0.003 tokens" in await market.refusal("bob", "contest", repeating)
    assert (await market.agorai("bob", "contest", repeating, "--yes"))["case"] > 0
    contested = await market.agorai("bob", "contribution", repeating)
    assert (contested["awaited"], contested["panel"]["phase"]) == ("the voters judge", "drawing")
    assert contested["panel"]["deadline"] > 0
    assert "drawing until 20" in await market.said("bob", "contribution", repeating)
    assert "Contribution 1 is before voters." in await market.refusal("bob", "contest", repeating)


async def test_pools_are_watched_until_they_are_not(market: Market, pool: int) -> None:
    assert {"pool": pool, "stake": True} in await market.agorai("bob", "watch", pool, "--stake")
    assert "is challenged" in await market.said("bob", "watch")
    told = await market.said("bob", "watch", pool, "--stake")
    assert f"each sample that your node challenges in pool {pool} it lays down 1 token" in told
    assert {one["pool"] for one in await market.agorai("bob", "watch", pool, "--off")} == set()
    assert "begin with `agorai pool watch POOL`" in await market.said("bob", "watch")
    assert await market.agorai("bob", "findings", pool) == []
    assert "agorai pool watch POOL" in await market.said("bob", "findings", pool)


# --------------------------------------------------------------------------------------------- versions


@dataclass
class Told:
    """Two versions that bob has published by hand, on top of each other."""

    first: int
    second: int
    model: bytes
    added: int
    """Contribution that the second was trained on, too."""


async def publish(
    client: Client, pools: Pools, pool: int, taken: tuple[Taken, ...], counts: tuple[int, ...], **changes: Any
) -> int:
    """Publish a version whose record says what it is told to."""
    document = await pools.files.document(pool)
    snapshot = Snapshot(initial_samples=document.initial_samples, taken=taken)
    store = client.store
    deployment = client.deployment
    record = VersionRecord(
        pool=PoolBinding(chain_id=deployment.chain_id, contract=deployment.data_pool, pool=pool),
        predecessor=changes.get("predecessor", 0),
        document=cids.of_raw(document.to_bytes()),
        snapshot=await store.put_document(snapshot.to_bytes()),
        model=await store.put(changes.get("model", b"a model")),
        format="skops",
        rule=changes.get("rule", document.rule),
        batches=counts,
        versions=Versions(python="3.11", numpy="2", scikit_learn="1.7", machine="x86_64"),
        accuracy=changes.get("accuracy", 0.9),
    )
    digest = cids.digest_of(await store.put_document(record.to_bytes()))
    call = pools.contract.publish(
        pool, record.predecessor, digest, cids.digest_of(record.model), cids.digest_of(record.snapshot),
        changes.get("claimed", round((record.accuracy or 0) * 10_000)),
    )  # fmt: skip
    return (await client.market.emitted(await client.transact(call), Published)).version


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def told(market: Market, pool: int) -> Told:
    bob, pools = market.town.clients["bob"], market.pools("bob")
    good = market.file("good.csv", cells(380, 384))
    added = await market.agorai("bob", "add", pool, good, "--file", "--yes")
    assert (added["inline"], added["count"]) == (False, 4)
    contribution = (await pools.files.history(pool)).additions[added["contribution"]]
    taken = Taken(contribution=contribution.id, digest=contribution.digest.hex(), count=4, left_out=(1,))
    first = await publish(bob, pools, pool, (), (INITIAL,), accuracy=0.8)
    rule = RULE.model_copy(update={"seed": 7})
    second = await publish(
        bob, pools, pool, (taken,), (INITIAL, 3), accuracy=0.85, predecessor=first, rule=rule, model=b"grown"
    )
    return Told(first, second, b"grown", contribution.id)


async def test_where_nothing_new_was_accepted_nothing_is_trained(market: Market, pool: int) -> None:
    alice = market.town.clients["alice"].address
    found: list[int] = []

    async def is_published() -> bool:
        versions = (await market.pools("bob").files.history(pool)).versions
        found[:] = [one.version for one in versions if one.publisher == alice]
        return bool(found)

    await until(is_published, "the owner's first version")
    said = await market.refusal("bob", "train", pool)
    assert f"Nothing was accepted into pool {pool} since version {found[0]} was trained by this rule" in said
    assert f"agorai pool rebuild {found[0]}" in said
    rule = market.file("rule.json", RULE.model_copy(update={"seed": 5}).model_dump_json().encode())
    made = await market.agorai("bob", "train", pool, "--rule", rule)
    (version,) = [one for one in await market.pools("bob").versions(pool) if one.version == made["version"]]
    assert (version.published.publisher, version.predecessor) == (
        market.town.clients["bob"].address,
        found[0],
    )
    rarely = RULE.model_copy(update={"seed": 5, "every": 9})  # comes to the same
    rule.write_text(rarely.model_dump_json())
    said = await market.refusal("bob", "train", pool, "--rule", rule)
    assert f"since version {made['version']} was trained by this rule" in said


async def test_versions_are_shown_with_the_one_each_was_made_from(
    market: Market, pool: int, told: Told
) -> None:
    found = {one["version"]: one for one in await market.agorai("alice", "versions", pool)}
    assert (found[told.first]["predecessor"], found[told.second]["predecessor"]) == (None, told.first)
    assert (found[told.second]["accuracy"], found[told.second]["samples"]) == (0.85, INITIAL + 3)
    shown = await market.said("alice", "versions", pool)
    assert "85.00%" in shown
    assert "█" in shown


async def test_versions_are_compared(market: Market, pool: int, told: Told) -> None:
    found = await market.agorai("alice", "compare", told.first, told.second)
    assert found["added"] == [{"contribution": told.added, "samples": 3}]
    assert (found["removed"], found["changed"]) == ([], [])
    assert {"what": "seed", "before": 0, "after": 7} in found["training"]
    bob, pools = market.town.clients["bob"], market.pools("bob")
    digest = (await pools.files.history(pool)).additions[told.added].digest.hex()
    none_left = Taken(contribution=told.added, digest=digest, count=4, left_out=(0, 1, 2, 3))
    emptied = await publish(bob, pools, pool, (none_left,), (INITIAL,))
    assert (await market.agorai("alice", "compare", told.first, emptied))["added"] == []
    back = await market.said("alice", "compare", told.second, told.first)
    assert f"Contribution {told.added}: 3 samples removed." in back


async def test_what_a_version_was_trained_on_is_downloaded_in_its_order(
    market: Market, pool: int, told: Told, tmp_path: Path
) -> None:
    model, data = tmp_path / "model", tmp_path / "data.csv"
    await market.agorai("alice", "download", told.second, "--model", model, "--data", data)
    assert model.read_bytes() == told.model
    document = await market.pools("alice").files.document(pool)
    rows = read_initial(document, data.read_bytes()).rows
    assert rows == (*table()[:INITIAL], table()[380], *table()[382:384])
    again = await market.refusal("alice", "download", told.second, "--model", model)
    assert "was not written" in again


async def test_a_version_whose_record_says_something_else_is_not_believed(
    market: Market, pool: int, told: Told
) -> None:
    bob, pools = market.town.clients["bob"], market.pools("bob")
    boasting = await publish(bob, pools, pool, (), (INITIAL,), accuracy=0.8, claimed=9_999)
    shown = {one.version: one for one in await pools.versions(pool)}
    assert shown[boasting].record is None
    assert "another accuracy" in shown[boasting].why
    with pytest.raises(VersionUntrueError, match="another accuracy"):
        await pools.data(boasting)
    short = await publish(bob, pools, pool, (), (INITIAL - 1,))
    with pytest.raises(VersionUntrueError, match="counts 249 samples, and there are 250"):
        await pools.data(short)
    invented = Taken(contribution=told.added, digest="0" * 64, count=4)
    with pytest.raises(VersionUntrueError, match="is another one on the chain"):
        await pools.data(await publish(bob, pools, pool, (invented,), (INITIAL, 4)))


async def test_a_pool_that_is_stopped_takes_nothing_more_and_shares_no_versions(
    market: Market, pool: int, told: Told
) -> None:
    pools = market.pools("alice")
    opened = await pools.files.opened(pool)
    terms = replace(opened.terms, test_commitment=bytes(31) + b"1", closes_at=await pools.now() + 3_600)
    await pools.allow(pools.contract.address, terms.bond + terms.budget)
    sent = await pools.send(pools.contract.open(terms))
    other = (await pools.client.market.emitted(sent, Opened)).id
    assert "Only who opened it" in await market.refusal("bob", "stop", other)
    assert (await market.agorai("alice", "stop", other))["state"] == "closing"
    shown = await market.said("alice", "show", other)
    assert "closing" in shown
    assert "pays for" not in shown
    said = await market.refusal("bob", "add", other, market.file("late.csv", cells(300, 302)))
    assert f"Pool {other} closes at" in said
    version = await publish(market.town.clients["bob"], market.pools("bob"), other, (), (100,))
    with pytest.raises(VersionsApartError, match=f"version {version} of pool {other}"):
        await pools.compare(told.first, version)
