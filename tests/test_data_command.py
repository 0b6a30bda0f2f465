"""Data sets described, measured, dealt into portions, found and compared: the command, with two real nodes."""

from __future__ import annotations

import csv
import json
import logging
import os
import re
import shlex
import signal
import stat
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from sklearn.datasets import load_breast_cancer, load_iris
from typer.testing import CliRunner, Result

from agorai.cli.main import app
from agorai.home import NodeFile
from tests.nodes import AGORAI, PASSPHRASE, Node, agorai, stop, up

TASK = 'estimator = "sklearn.LogisticRegression"\ntarget = "species"\nseed = 1\n'
RICH = 10**20
"""Of the chain's own coin, in wei."""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    folder = tmp_path_factory.mktemp("homes")
    seller = up(folder / "seller", "--name", "seller")
    try:
        buyer = up(folder / "buyer", "--name", "buyer", "--join", folder / "seller")
        try:
            yield seller, buyer
        finally:
            assert stop(buyer) == 0
    finally:
        assert stop(seller) == 0


@pytest.fixture(scope="module")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bunch = load_iris(as_frame=True)
    species = [str(bunch.target_names[code]) for code in bunch.target]
    species[0] = "virginica"  # which it is not
    table = bunch.data.assign(species=species)
    table = table.sample(frac=1, random_state=0)  # in order, a row's number would tell its class
    table.insert(0, "id", range(len(table)))
    path = tmp_path_factory.mktemp("tables") / "flowers.csv"
    table.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def published(nodes: tuple[Node, Node], flowers: Path) -> int:
    seller, _ = nodes
    made = seller.agorai(
        "publish", "data", flowers, "--target", "species", "--price", 5, "--name", "Iris", "--licence", "CC0"
    )
    assert 0.9 < made["quality"] < 1
    return int(made["resource"])


def asked(node: Node, *arguments: object, status: int = 0) -> Any:
    """Give what the command, run in this process, prints as JSON; starting one anew takes most of its time."""
    found = inside(node.home, *arguments, "--json")
    assert found.exit_code == status, found.output
    return json.loads(found.stdout.splitlines()[-1])


def say(node: Node, *arguments: object) -> str:
    """Give what people are shown."""
    found = inside(node.home, *arguments)
    assert found.exit_code == 0, found.output
    return found.stdout


def inside(home: Path, *arguments: object) -> Result:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        return CliRunner().invoke(app, [str(one) for one in arguments], env={"AGORAI_HOME": str(home)})
    finally:  # the command sends logs to a stream that is closed by now
        root.handlers[:] = handlers
        root.setLevel(level)


# ------------------------------------------------------------------------------------------------- search


def test_another_member_finds_what_was_published_by_its_schema(
    nodes: tuple[Node, Node], published: int
) -> None:
    _, buyer = nodes
    wishes = ("--field", "petal length (cm):number", "--field", "species", "--target", "species")
    limits = ("--min-rows", 150, "--min-quality", 0.9, "--max-price", 5, "--license", "cc0", "--kind", "data")
    found = asked(buyer, "search", "iris", *wishes, *limits, "--task", "classification")
    (one,) = found["found"]
    assert (one["resource"], one["name"], one["rows"], one["not_measured"]) == (published, "Iris", 150, {})
    assert found["unread"] == 0


@pytest.mark.parametrize(
    "wish",
    [
        ("roses",),
        ("--field", "petal length (cm):text"),
        ("--min-quality", "0.999"),
        ("--max-price", "4"),
    ],
    ids=" ".join,
)
def test_a_wish_that_is_not_met_finds_nothing(
    nodes: tuple[Node, Node], published: int, wish: tuple[str, ...]
) -> None:
    found = asked(nodes[1], "search", "iris", *wish)
    assert [one for one in found["found"] if one["resource"] == published] == []


def test_people_see_what_was_found_in_a_table(nodes: tuple[Node, Node], published: int) -> None:
    shown = say(nodes[1], "search", "iris", "--max-price", 5)
    assert "│ Iris" in shown
    assert "CC0" in shown
    assert "match" in shown


def test_owners_that_are_away_are_counted_and_what_was_kept_of_them_is_found(
    nodes: tuple[Node, Node], published: int, flowers: Path
) -> None:
    seller, buyer = nodes
    assert asked(buyer, "search", "iris")["matching"] >= 1
    asked(seller, "publish", "data", flowers, "--name", "unseen", "--no-quality")
    owner = psutil.Process(seller.process.pid)
    owner.suspend()
    try:
        found = asked(buyer, "search")
    finally:
        owner.resume()
    assert published in {one["resource"] for one in found["found"]}
    assert (found["unread"], len(found["away"])) == (1, 1)
    (later,) = asked(buyer, "search", "unseen")["found"]
    assert set(later["not_measured"]) == {"label_noise", "class_balance"}


def test_a_wish_for_an_unknown_type_names_the_known_ones(nodes: tuple[Node, Node]) -> None:
    unknown = asked(nodes[1], "search", "--field", "species:numbr", status=1)["error"]
    assert "'numbr'" in unknown["detail"]
    assert "number" in unknown["remedy"]
    assert asked(nodes[1], "search", "--field", "a:numbr:")["found"] == []  # a name with a colon


def test_a_wish_of_no_form_is_said_to_be_one(nodes: tuple[Node, Node]) -> None:
    assert "kind" in asked(nodes[1], "search", "--kind", "thing", status=1)["error"]["detail"]


# ------------------------------------------------------------------------------------------------- portions


def test_a_portion_is_a_resource_that_is_bought_and_trained_on_alone(
    nodes: tuple[Node, Node], flowers: Path, tmp_path: Path
) -> None:
    seller, buyer = nodes
    dealt = ("--portions", 3, "--deal", "stratified", "--target", "species", "--seed", 4)
    made = asked(seller, "publish", "data", flowers, *dealt, "--name", "Thirds", "--price", 2)["portions"]
    assert [(one["portion"], one["name"], one["rows"]) for one in made] == [
        (number, f"Thirds, portion {number} of 3", 50) for number in (1, 2, 3)
    ]
    assert all(one["quality"] > 0.5 for one in made)
    found = {one["resource"]: one["portion"] for one in asked(buyer, "search", "thirds")["found"]}
    places = [found[one["resource"]] for one in made]
    assert [place["index"] for place in places] == [0, 1, 2]
    assert {(place["count"], place["dealt"], place["by"], place["seed"]) for place in places} == {
        (3, "stratified", "species", 4)
    }
    assert len({place["whole"] for place in places}) == 1
    (kept,) = [path for path in (seller.home / "wholes").iterdir() if '"stratified"' in path.read_text()]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert json.loads(kept.read_text())["salt"] not in json.dumps(places)

    task = tmp_path / "task.toml"
    task.write_text(TASK)
    trained = asked(buyer, "train", made[1]["resource"], "--task", task, "--name", "of a third")
    assert trained["accuracy"] > 0.8
    assert trained["test_rows"] == 15


@contextmanager
def coin(node: Node) -> Iterator[None]:
    """Leave a node's account without the chain's own coin."""
    info = NodeFile.load(node.home / "node.json")
    assert info is not None

    def have(wei: int) -> None:
        call = {"jsonrpc": "2.0", "id": 1, "method": "anvil_setBalance", "params": [info.address, hex(wei)]}
        request = urllib.request.Request(  # noqa: S310 - the test's own chain
            info.rpc_url, json.dumps(call).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - as above
            assert "error" not in json.load(answer)

    have(0)
    try:
        yield
    finally:
        have(RICH)


@contextmanager
def begun(node: Node, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Begin a command; it is in the middle of the second of ten portions."""
    environment = {**os.environ, "AGORAI_HOME": str(node.home), "AGORAI_VAULT_PASSPHRASE": PASSPHRASE}
    with subprocess.Popen(
        [AGORAI, *arguments], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "portion 2 of 10: sealing" in line:
                break
        yield process


def test_portions_that_break_off_in_the_middle_say_how_to_go_on_and_then_do(
    nodes: tuple[Node, Node], flowers: Path, tmp_path: Path
) -> None:
    seller, buyer = nodes
    table = tmp_path / "a table.csv"  # with a space: the command that is told must bear it
    table.write_text("\n".join(flowers.read_text().splitlines()[:81]) + "\n")
    arguments = ["publish", "data", str(table), "--portion-rows", "8", "--no-quality", "--name", "Tenths"]
    with begun(seller, *arguments) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        with coin(seller):
            said = process.stderr.read()
        assert process.wait(30) == 1
        shown = process.stdout.read()
    assert "too little of the chain's own coin" in " ".join(said.split())
    assert "Tenths, portion 1 of 10" in shown
    (command,) = re.findall(r"^→ agorai (.*--from-portion \d+)$", said, re.MULTILINE)
    words = shlex.split(command)
    first = int(words[-1])
    assert 2 <= first <= 10

    rest = asked(seller, *words)["portions"]

    assert [one["portion"] for one in rest] == list(range(1, 11))
    found = asked(buyer, "search", "tenths")
    assert found["matching"] == 10
    assert {one["portion"]["index"] for one in found["found"]} == set(range(10))
    assert len({one["portion"]["whole"] for one in found["found"]}) == 1
    assert {one["resource"] for one in found["found"]} == {one["resource"] for one in rest}


def test_portions_interrupted_say_how_to_go_on_and_are_not_begun_anew_by_mistake(
    nodes: tuple[Node, Node], flowers: Path, tmp_path: Path
) -> None:
    seller, _ = nodes
    table = tmp_path / "table.csv"
    table.write_text("\n".join(flowers.read_text().splitlines()[:61]) + "\n")
    arguments = ("publish", "data", str(table), "--portions", "10", "--no-quality", "--name", "Stopped")
    with begun(seller, *arguments) as process:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 130
    there, following = (int(found) for found in re.findall(r"(?:market: |--from-portion )(\d+)", said))
    assert following == there + 1
    again = asked(seller, *arguments, status=1)["error"]
    assert f"{there} of 10 portions" in again["detail"]
    rest = asked(seller, *arguments, "--from-portion", following)["portions"]
    assert [one["portion"] for one in rest] == list(range(1, 11))
    assert asked(seller, "search", "stopped")["matching"] == 10


def test_portions_that_are_all_on_the_market_are_published_anew_only_when_told(
    nodes: tuple[Node, Node], flowers: Path, tmp_path: Path
) -> None:
    seller, _ = nodes
    table = tmp_path / "table.csv"
    table.write_text("\n".join(flowers.read_text().splitlines()[:21]) + "\n")
    arguments = ("publish", "data", table, "--portions", 2, "--no-quality", "--name", "Halves")
    first = [one["resource"] for one in asked(seller, *arguments)["portions"]]
    again = asked(seller, *arguments, status=1)["error"]
    assert (
        f"All 2 portions of this file are on the market as resources {first[0]}, {first[1]}"
        in again["detail"]
    )
    assert "--from-portion 1" in again["remedy"]
    anew = asked(seller, *arguments, "--from-portion", 1)["portions"]
    assert not {one["resource"] for one in anew} & set(first)
    assert asked(seller, "search", "halves")["matching"] == 4


def test_portions_stratified_by_nothing_say_that_the_target_is_missing(flowers: Path, tmp_path: Path) -> None:
    stratified = ("--portions", 3, "--deal", "stratified")
    for command in (("publish", "data", flowers), ("data", "split", flowers, "-o", tmp_path / "out")):
        found = inside(tmp_path, *command, *stratified)
        assert found.exit_code == 2
        assert "--target" in found.stderr


def test_portions_go_on_only_as_they_were_begun(
    nodes: tuple[Node, Node], flowers: Path, tmp_path: Path
) -> None:
    seller, _ = nodes
    table = tmp_path / "table.csv"
    table.write_text("\n".join(flowers.read_text().splitlines()[:31]) + "\n")
    common = ("publish", "data", table, "--no-quality")
    broken = asked(seller, *common, "--portions", 2, "--from-portion", 2, status=1)
    assert "nothing to go on with" in broken["error"]["detail"]
    with coin(seller):
        broken = asked(seller, *common, "--portions", 2, status=1)
    assert (broken["from_portion"], broken["portions"]) == (1, [])
    assert broken["error"]["title"] == "portions_unfinished"
    other = asked(seller, *common, "--portions", 3, "--from-portion", 2, status=1)
    assert "another number of portions: 2, not 3" in other["error"]["detail"]
    none = asked(seller, *common, "--portions", 2, "--from-portion", 3, status=1)
    assert "no portion 3 of 2" in none["error"]["detail"]


# ------------------------------------------------------------------------------------------------- versions


@pytest.fixture(scope="module")
def changed(nodes: tuple[Node, Node], published: int, flowers: Path) -> int:
    """A version with one row removed, one added, one changed, and a column more."""
    header, *rows = flowers.read_text().splitlines()
    cells = [row.split(",") for row in rows[1:]]
    cells[9][1] = "99.5"
    cells.append(["150", "5", "3", "1.5", "0.5", "setosa"])
    table = flowers.with_name("changed.csv")
    lines = [f"{header},origin", *(",".join([*row, "here"]) for row in cells)]
    table.write_text("\n".join(lines) + "\n")
    more = ("--target", "species", "--name", "Iris, again", "--previous", published)
    return int(asked(nodes[0], "publish", "data", table, *more)["resource"])


def test_anyone_sees_how_the_public_descriptions_of_versions_differ(
    nodes: tuple[Node, Node], published: int, changed: int
) -> None:
    _, buyer = nodes
    (told,) = asked(buyer, "versions", changed, "--diff")
    assert (told["before"], told["after"], told["prices"]) == (published, changed, [5, 0])
    assert told["schema"]["fields_added"] == ["origin"]
    paths = {change["path"]: change["after"] for change in told["schema"]["changes"]}
    assert paths["fields.sepal length (cm).maximum"] == 99.5
    shown = say(buyer, "versions", changed, "--diff")
    assert f"{published} → {changed}" in shown
    assert "column origin" in shown
    assert "99.5" in shown
    assert "licence" in shown


def test_terms_that_changed_alone_are_told(nodes: tuple[Node, Node], flowers: Path) -> None:
    seller, buyer = nodes
    common = ("publish", "data", flowers, "--no-quality", "--name", "Terms")
    first = asked(seller, *common, "--description", "x" * 80)["resource"]
    terms = ("--licence", "MIT", "--days", 2, "--uses", 3, "--window", 120, "--restricted")
    second = asked(seller, *common, *terms, "--description", "x" * 81, "--previous", first)["resource"]
    compare = ("versions", second, "--diff")
    (told,) = asked(buyer, *compare)
    assert {change["path"]: change["after"] for change in told["offer"]} == {
        "license": "MIT", "days": 2, "uses": 3, "window": 120, "restricted": True, "description": "x" * 81
    }  # fmt: skip
    shown = say(buyer, *compare)
    assert "days of use" in shown
    assert "differs further on" in shown
    assert "the same" not in shown
    same = asked(seller, *common, "--description", "x" * 80)["resource"]
    assert "are the same" in say(buyer, "versions", same, "--diff", "--with", first)


def test_what_looks_the_same_before_and_after_is_not_shown_as_different(
    nodes: tuple[Node, Node], tmp_path: Path
) -> None:
    seller, buyer = nodes
    rows = [f"{number},{number % 7},{number % 11}" for number in range(10_000)]
    resources = []
    for name, last in (("whole", "10000,1,1"), ("holed", "10000,,1")):
        table = tmp_path / f"{name}.csv"
        table.write_text("\n".join(["a,b,c", *rows, last]) + "\n")
        common = ("publish", "data", table, "--no-quality", "--name", "Near")
        resources.append(asked(seller, *common)["resource"])
    compare = ("versions", resources[1], "--diff", "--with", resources[0])
    (told,) = asked(buyer, *compare)
    assert "quality.score" in {change["path"] for change in told["schema"]["changes"]}
    shown = say(buyer, *compare)
    assert "column b.missing" in shown
    assert "100.00%" not in shown


def test_the_previous_version_is_looked_at_before_anything_is_measured(
    nodes: tuple[Node, Node], published: int, flowers: Path
) -> None:
    seller, buyer = nodes
    for node, previous, why in ((seller, 99_999, "there is none"), (buyer, published, "it is 0x")):
        found = inside(node.home, "publish", "data", flowers, "--previous", previous)
        assert found.exit_code == 1
        said = " ".join(found.stderr.split())
        assert f"Resource {previous} cannot be the previous version: {why}" in said
        assert "--previous" in said.partition("→")[2]
        assert "measuring" not in said


def test_a_model_is_no_table_to_compare(nodes: tuple[Node, Node], published: int, tmp_path: Path) -> None:
    _, buyer = nodes
    right = asked(buyer, "buy", published)["invocation"]
    task = tmp_path / "task.toml"
    task.write_text(TASK)
    trained = ("train", published, "--task", task, "--invocation", right, "--name", "a model")
    model = asked(buyer, *trained)["resource"]
    compare = ("versions", model, "--diff", "--with", published, "--contents")
    assert f"Resource {model} is a model" in asked(buyer, *compare, status=1)["error"]["detail"]


def test_the_owner_sees_how_the_tables_differ(nodes: tuple[Node, Node], published: int, changed: int) -> None:
    seller, _ = nodes
    (told,) = asked(seller, "versions", changed, "--diff", "--contents", "--key", "id")
    contents = told["contents"]
    assert [contents[f"rows_{what}"] for what in ("before", "after", "added", "removed", "changed")] == [
        150, 150, 1, 1, 1
    ]  # fmt: skip
    (row,) = contents["changed"]
    assert row["key"] == [10]
    assert row["cells"]["sepal length (cm)"][1] == 99.5
    assert contents["removed"][0]["id"] == 0
    shown = say(seller, "versions", published, "--diff", "--with", changed, "--contents", "--key", "id")
    assert "99.5" in shown
    assert "Rows changed: 1" in shown
    twice = asked(seller, "versions", changed, "--diff", "--contents", "--key", "species", status=1)
    assert twice["error"]["detail"] == "Two rows of the first table have the same 'species'."
    assert "Name a column, or several, that tell every row apart" in twice["error"]["remedy"]


def test_a_buyer_compares_what_it_bought_and_nothing_else(
    nodes: tuple[Node, Node], published: int, changed: int
) -> None:
    _, buyer = nodes
    compare = ("versions", changed, "--diff", "--contents")
    closed = asked(buyer, *compare, status=1)["error"]
    assert f"Resource {published} is not this node's own" in closed["detail"]
    assert "--invocation" in closed["remedy"]
    rights = [asked(buyer, "buy", resource)["invocation"] for resource in (published, changed)]
    named = [word for right in rights for word in ("--invocation", right)]
    (told,) = asked(buyer, *compare, *named)
    contents = told["contents"]
    assert (contents["rows_added"], contents["rows_removed"], contents["rows_changed"]) == (2, 2, 0)


def test_comparing_spends_one_use_of_a_right_whose_uses_are_counted(
    nodes: tuple[Node, Node], changed: int, flowers: Path
) -> None:
    seller, buyer = nodes
    counted = asked(seller, "publish", "data", flowers, "--no-quality", "--uses", 1)["resource"]
    right, other = (asked(buyer, "buy", one)["invocation"] for one in (counted, changed))
    compare = ("versions", counted, "--diff", "--with", changed, "--contents")
    for _ in range(2):  # the same right serves again
        told = asked(buyer, *compare, "--invocation", right, "--invocation", other)
        assert told[0]["contents"]["rows_after"] == 150
    used = say(buyer, "events", "--contract", "Invocation", "--event", "Used", "--json")
    assert [json.loads(line)["data"]["key"] for line in used.splitlines()].count(str(right)) == 1


def test_a_first_version_has_nothing_to_differ_from(nodes: tuple[Node, Node], published: int) -> None:
    found = asked(nodes[1], "versions", published, "--diff", status=1)
    assert "--with" in found["error"]["remedy"]


# ------------------------------------------------------------------------------------------------- files


def test_checking_a_file_names_the_labels_that_were_spoilt(tmp_path: Path) -> None:
    bunch = load_breast_cancer(as_frame=True)
    rng = np.random.default_rng(0)
    spoilt = rng.choice(len(bunch.target), 28, replace=False)
    labels = bunch.target.to_numpy().copy()
    labels[spoilt] = 1 - labels[spoilt]
    bunch.data.assign(sick=labels).to_csv(tmp_path / "tumours.csv", index=False)
    out = tmp_path / "suspects.csv"

    found = agorai(
        tmp_path, "data", "check", tmp_path / "tumours.csv", "--target", "sick", "--suspects", out, "--json"
    )

    assert found.returncode == 0, found.stderr
    told = json.loads(found.stdout)
    noise = told["schema"]["quality"]["label_noise"]
    with out.open() as stream:
        written = list(csv.DictReader(stream))
    assert len(written) == noise["suspected"] == len(told["suspects"])
    rows = {int(one["row"]) - 1 for one in written}
    assert len(rows & set(spoilt.tolist())) >= 20
    assert len(rows - set(spoilt.tolist())) <= 10
    assert all(one["label"] != one["likely"] for one in written)


def test_people_see_columns_and_quality_of_a_file(flowers: Path, tmp_path: Path) -> None:
    found = inside(tmp_path, "data", "check", flowers, "--no-quality")
    assert found.exit_code == 0, found.output
    assert "150 rows" in found.stdout
    assert "sepal length (cm)" in found.stdout
    assert "0.1 … 2.5" in found.stdout
    assert "not measured: the owner left it out" in found.stdout
    assert "%*" in found.stdout
    assert "* not all parts were measured." in found.stdout


def test_a_table_of_nothing_but_the_target_has_nothing_to_learn_from(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("y\n" + "a\nb\n" * 20)
    found = inside(tmp_path, "data", "check", table, "--target", "y")
    assert found.exit_code == 0, found.output
    assert "nothing to learn from" in found.stdout
    (warning,) = json.loads(inside(tmp_path, "data", "check", table, "--target", "y", "--json").stdout)[
        "warnings"
    ]
    assert "“y”" in warning


def test_a_score_of_less_than_all_parts_is_marked_when_it_is_published(
    nodes: tuple[Node, Node], flowers: Path
) -> None:
    shown = say(nodes[0], "publish", "data", flowers, "--no-quality", "--name", "Starred")
    assert "%*" in shown
    assert "* not all parts were measured." in shown


def test_a_file_is_split_into_files_that_hold_each_row_once(flowers: Path, tmp_path: Path) -> None:
    split = (
        "data",
        "split",
        flowers,
        "-o",
        tmp_path / "out",
        "--portions",
        10,
        "--deal",
        "shuffled",
        "--json",
    )
    found = inside(tmp_path, *split)
    assert found.exit_code == 0, found.output
    portions = [Path(one["file"]).read_text().splitlines() for one in json.loads(found.stdout)["portions"]]
    header, *rows = flowers.read_text().splitlines()
    assert {portion[0] for portion in portions} == {header}
    assert sorted(row for portion in portions for row in portion[1:]) == sorted(rows)
    again = inside(tmp_path, *split)
    assert "exists" in json.loads(again.stdout)["error"]["detail"]


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        (b"", (), "no bytes"),
        (b"a,b\n", (), "no rows"),
        (b"a,b\n1,2\n3\n", (), "Line 3"),
        (b"\xff\xfe\x00", (), "not UTF-8"),
        (b"PAR1 and no more", (), "Parquet data cannot be read"),
        (b"a,b\n1,2\n", ("--target", "c"), "no target column 'c'"),
        (b"a," + b"b" * 501 + b"\n1,2\n", (), "cannot be described"),
    ],
    ids=["empty", "no rows", "ragged", "not text", "broken Parquet", "no such target", "long name"],
)
def test_a_file_that_cannot_be_read_is_said_why(
    content: bytes, arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(content)
    found = inside(tmp_path, "data", "check", tmp_path / "file", *arguments, "--json")
    assert found.exit_code == 1, found.output
    problem = json.loads(found.stdout)["error"]
    assert said in problem["detail"]
    assert problem["remedy"]


def test_nothing_is_measured_for_a_node_that_is_not_there(flowers: Path, tmp_path: Path) -> None:
    found = agorai(tmp_path, "publish", "data", flowers, "--target", "species")
    assert found.returncode == 1
    assert "agorai up" in found.stderr
    assert "measuring" not in found.stderr
