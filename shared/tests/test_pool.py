"""A pool's documents and samples: one canonical form each, and what is wrong is told by row, column and value."""

from __future__ import annotations

import json
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agorai_shared.documents import Document, DocumentMalformedError
from agorai_shared.pool import (
    MAX_SAMPLES,
    Batch,
    CategoryColumn,
    CellCategoryError,
    CellError,
    CellNotFiniteError,
    CellNotNumberError,
    CellNotWholeError,
    CellOutOfBoundsError,
    CellsError,
    CellTooLongError,
    Challenge,
    Checks,
    NumberColumn,
    Origin,
    PoolBinding,
    PoolDocument,
    Rule,
    SampleCountError,
    Samples,
    SamplesEncodingError,
    SamplesError,
    SamplesHeaderError,
    SamplesShapeError,
    SamplesSizeError,
    Snapshot,
    Taken,
    TextColumn,
    VersionRecord,
    Versions,
    Wrong,
    most_bytes,
    most_challenge_bytes,
    read_initial,
    read_samples,
    write_samples,
)

CID = "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
RULE = Rule(estimator="sklearn.SGDClassifier", hyperparameters={"loss": "log_loss"}, mode="incremental")
POOL = PoolDocument(
    name="Flats",
    columns=(
        NumberColumn(name="area", low=5, high=500),
        NumberColumn(name="rooms", low=1, high=20, whole=True),
        TextColumn(name="note", longest=20),
        CategoryColumn(name="heated", values=("yes", "no")),
    ),
    target="heated",
    initial_samples=CID,
    rule=RULE,
    checks=Checks(most_rows=3),
)
CHALLENGE = Challenge(
    wrong=(
        Wrong(row=0, reason="duplicate", origin=Origin(contribution=0, row=3)),
        Wrong(row=4, reason="label", label="no", note="seen"),
    ),
    corrected="area,rooms,note,heated\n50,2,quiet,no\n",
)
SNAPSHOT = Snapshot(
    initial_samples=CID, taken=(Taken(contribution=7, digest="0a" * 32, count=5, left_out=(0, 4)),)
)
RECORD = VersionRecord(
    pool=PoolBinding(chain_id=1, contract="0x" + "aa" * 20, pool=1),
    predecessor=0,
    document=CID,
    snapshot=CID,
    model=CID,
    format="safetensors",
    rule=RULE,
    batches=(100, 3),
    versions=Versions(python="3.11.9", numpy="2.4", scikit_learn="1.9", machine="x86_64"),
    accuracy=None,
)
HEADER = b"area,rooms,note,heated\n"


def changed(document: Document, path: str, value: object) -> bytes:
    """Give a document's bytes with one member, by its path, made another."""
    whole = json.loads(document.to_bytes())
    *above, last = (int(part) if part.isdigit() else part for part in path.split("."))
    inner = whole
    for part in above:
        inner = inner[part]
    inner[last] = value
    return json.dumps(whole).encode()


@pytest.mark.parametrize("document", [POOL, CHALLENGE, SNAPSHOT, RECORD], ids=lambda one: type(one).__name__)
def test_a_document_is_read_as_it_was_written(document: Document) -> None:
    raw = document.to_bytes()
    again = type(document).from_bytes(raw)
    assert again == document
    assert again.to_bytes() == raw


@pytest.mark.parametrize(
    ("document", "path", "value", "why"),
    [
        (POOL, "target", "area", "no category column"),
        (POOL, "target", "colour", "no category column"),
        (POOL, "columns.1.name", "area", "two columns have one name"),
        (POOL, "columns.0.name", "a\nb", "match pattern"),
        (POOL, "columns.0.high", 5, "not below its upper one"),
        (POOL, "columns.0.high", float("inf"), "finite"),
        (POOL, "columns.0.high", 1e39, r"a bound of 1e\+39, and estimators, which may compute in float32"),
        (POOL, "columns.1.high", 1e17, "where integers are not exact"),
        (POOL, "columns.0.kind", "date", "kind"),
        (POOL, "columns.2.longest", 0, "greater than or equal"),
        (POOL, "columns.3.values", ["yes", "yes"], "has a value twice"),
        (POOL, "columns.3.values", ["yes"], "at least 2"),
        (POOL, "columns", [], "at least 2"),
        (POOL, "initial_samples", "here", "initial_samples"),
        (POOL, "rule.every", 0, "greater than or equal"),
        (POOL, "rule.mode", "online", "incremental"),
        (POOL, "rule.seed", -1, "greater than or equal"),
        (POOL, "rule.hyperparameters", {"alpha": float("nan")}, "rule.hyperparameters"),
        (POOL, "rule.hyperparameters", {"alpha": [1]}, "rule.hyperparameters"),
        (POOL, "checks.rare", 0, "greater than 0"),
        (POOL, "buckets", 2**20, "less than or equal"),
        (POOL, "price", 1, "Extra inputs"),
        (CHALLENGE, "wrong", [], "at least 1"),
        (CHALLENGE, "wrong.1.row", 0, "in the order of their rows"),
        (CHALLENGE, "wrong.0.row", 5, "in the order of their rows"),
        (CHALLENGE, "wrong.0.row", 1 << 20, "less than"),
        (CHALLENGE, "wrong.0.reason", "ugly", "reason"),
        (CHALLENGE, "wrong.0.origin", None, "an origin goes with"),
        (CHALLENGE, "wrong.1.origin", {"contribution": 1, "row": 2}, "an origin goes with"),
        (CHALLENGE, "wrong.1.label", None, "a right label goes with"),
        (SNAPSHOT, "taken.0.left_out", [4, 0], "not rows of the contribution"),
        (SNAPSHOT, "taken.0.left_out", [5], "not rows of the contribution"),
        (SNAPSHOT, "taken.0.contribution", 0, "greater than or equal"),
        (SNAPSHOT, "taken.0.digest", "0A" * 32, "match pattern"),
        (RECORD, "predecessor", -1, "greater than or equal"),
        (RECORD, "accuracy", 1.5, "less than or equal"),
        (RECORD, "pool.contract", "0x12", "match pattern"),
    ],
)
def test_a_document_that_contradicts_itself_is_refused(
    document: Document, path: str, value: object, why: str
) -> None:
    with pytest.raises(DocumentMalformedError, match=why):
        type(document).from_bytes(changed(document, path, value))


def test_a_snapshot_takes_each_contribution_once() -> None:
    with pytest.raises(ValueError, match="taken twice"):
        Snapshot(initial_samples=CID, taken=SNAPSHOT.taken * 2)


def test_samples_are_read() -> None:
    samples = read_samples(POOL, HEADER + b'70.5,3,"bright, ""new""",yes\n1e2,2.0,,no\n')
    assert samples.rows == ((70.5, 3.0, 'bright, "new"', "yes"), (100.0, 2.0, "", "no"))


@pytest.mark.parametrize(
    ("spelling", "canonical"),
    [
        (b"50,2,x,no", b"50,2,x,no\n"),
        (b"50.0,+2,x,no\r\n", b"50,2,x,no\n"),
        (b'5e1,2,"x",no\r', b"50,2,x,no\n"),
        (b"50.10,2,x,no\n", b"50.1,2,x,no\n"),
        (b'50,2,"a\r\nb",no\n', b'50,2,"a\r\nb",no\n'),
    ],
)
def test_the_same_samples_are_always_the_same_bytes(spelling: bytes, canonical: bytes) -> None:
    written = write_samples(POOL, read_samples(POOL, HEADER + spelling))
    assert written == HEADER + canonical
    assert write_samples(POOL, read_samples(POOL, b"\xef\xbb\xbf" + written)) == written


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.floats(5, 500),
            st.integers(1, 20),
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
            st.sampled_from(["yes", "no"]),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_any_samples_survive_their_writing(rows: list[tuple[float, float, str, str]]) -> None:
    samples = Samples(tuple(rows))
    assert read_samples(POOL, write_samples(POOL, samples)) == samples


def test_minus_zero_is_zero() -> None:
    signed = POOL.model_copy(update={"columns": (NumberColumn(name="a", low=-1, high=1), POOL.target_column)})
    samples = read_samples(signed, b"a,heated\n-0.0,no\n")
    assert repr(samples.rows[0][0]) == "0.0"
    assert write_samples(signed, samples) == b"a,heated\n0,no\n"


@pytest.mark.parametrize(
    ("data", "kind", "says"),
    [
        (
            HEADER + b"50,2,x,no\n5 0,2,x,no\n",
            CellNotNumberError,
            r"Row 1 .*column 'area': '5 0' is no number",
        ),
        (HEADER + b",2,x,no\n", CellNotNumberError, "'' is no number"),
        (HEADER + b"1_0,2,x,no\n", CellNotNumberError, "'1_0' is no number"),
        (HEADER + "\u0661\u0660,2,x,no\n".encode(), CellNotNumberError, "is no number"),
        (HEADER + b"0x10,2,x,no\n", CellNotNumberError, "is no number"),
        (HEADER + b"NaN,2,x,no\n", CellNotFiniteError, "'NaN' is no finite number"),
        (HEADER + b"-inf,2,x,no\n", CellNotFiniteError, "'-inf' is no finite number"),
        (HEADER + b"Infinity,2,x,no\n", CellNotFiniteError, "is no finite number"),
        (HEADER + b"1e999,2,x,no\n", CellNotFiniteError, "'1e999' is no finite number"),
        (HEADER + b"50,2.5,x,no\n", CellNotWholeError, "column 'rooms': '2.5' is no whole number"),
        (HEADER + b"4.9,2,x,no\n", CellOutOfBoundsError, "'4.9' is not from 5 to 500"),
        (HEADER + b"500.1,2,x,no\n", CellOutOfBoundsError, "'500.1' is not from 5 to 500"),
        (HEADER + b"50,2," + b"x" * 21 + b",no\n", CellTooLongError, "has 21 characters and not at most 20"),
        (
            HEADER + b"50,2," + b"x" * 200_000 + b",no\n",
            SamplesSizeError,
            "200,032 bytes, and .* have at most 923",
        ),
        (HEADER + b"5" * 101 + b",2,x,no\n", CellTooLongError, "has 101 characters and not at most 100"),
        (HEADER + b"50,2,x,No\n", CellCategoryError, "'No' is none of .*Give one of 'yes', 'no'"),
        (HEADER + b"50,2,x\n", SamplesShapeError, "Row 0 .* has 3 cells and not 4"),
        (HEADER + b"50,2,x,no,\n", SamplesShapeError, "has 5 cells and not 4"),
        (HEADER + b"50,2,x,no\n\n", SamplesShapeError, "Row 1 .* has 0 cells"),
        (HEADER + b'50,2,"x,no\n', SamplesShapeError, "is no CSV"),
        (HEADER + b'50,2,"x"y,no\n', SamplesShapeError, "is no CSV"),
        (b"area,note,heated\n", SamplesHeaderError, "lacks the column 'rooms'"),
        (b"", SamplesHeaderError, "lacks the column 'area'"),
        (b"area,rooms,note,heated,id\n", SamplesHeaderError, "has the column 'id'"),
        (b"rooms,area,note,heated\n", SamplesHeaderError, "another order"),
        (b"area,rooms,note,heated,area\n", SamplesHeaderError, "twice"),
        (HEADER + b"50,2,\xff,no\n", SamplesEncodingError, "Line 2 .* not UTF-8"),
        (HEADER + b"50,2,x,no\n50,2,\0,no\n", SamplesEncodingError, "Line 3 .* NUL"),
        (HEADER, SampleCountError, "no samples"),
        (HEADER + b"50,2,x,no\n" * 4, SampleCountError, "more than 3 samples"),
    ],
)
def test_each_wrong_thing_is_told_of_by_an_error_of_its_own(
    data: bytes, kind: type[SamplesError], says: str
) -> None:
    with pytest.raises(SamplesError, match=says) as raised:
        read_samples(POOL, data)
    assert type(raised.value) is kind
    assert raised.value.remedy
    assert len(str(raised.value)) < 1_000
    assert isinstance(raised.value, CellError) == ("Cell" in kind.__name__)


def test_what_is_wrong_in_the_first_five_rows_that_are_is_told_at_once() -> None:
    pool = POOL.model_copy(update={"checks": Checks(most_rows=10)})
    wrong = [b"5,2,x,No", b"x,2,x,no", b"50,2,x,no", *[b"50,2.5,x,no"] * 6]
    with pytest.raises(CellsError) as raised:
        read_samples(pool, HEADER + b"\n".join(wrong))
    assert re.findall(r"Row (\d+)", raised.value.message) == ["0", "1", "3", "4", "5"]
    assert raised.value.remedy.count("digits with a decimal point") == 1


def test_there_are_as_many_samples_as_were_counted() -> None:
    data = HEADER + b"50,2,x,no\n" * 2
    assert len(read_samples(POOL, data, count=2)) == 2
    with pytest.raises(SampleCountError, match="2 samples, and 3 were counted"):
        read_samples(POOL, data, count=3)


def test_the_initial_samples_may_be_more_than_a_contribution() -> None:
    assert len(read_initial(POOL, HEADER + b"50,2,x,no\n" * 9)) == 9


def test_a_cell_that_the_csv_reader_does_not_take_is_told() -> None:
    with pytest.raises(SamplesShapeError, match="is no CSV"):
        read_initial(POOL, HEADER + b"50,2," + b"x" * 200_000 + b",no\n")


def test_the_longest_spelling_of_samples_is_read_and_nothing_longer() -> None:
    document = POOL.model_copy(
        update={"columns": (*POOL.columns[:3], CategoryColumn(name="heated", values=('"yes" €', "no")))}
    )
    header = b'\xef\xbb\xbf"area","rooms","note","heated"\r\n'
    row = b'"%s","%s","%s","%s"\r\n' % (
        b"0" * 98 + b"50", b"0" * 99 + b"2", "\U0001f3e0".encode() * 20, '""yes"" €'.encode(),
    )  # fmt: skip
    for count in (1, 3):
        data = header + row * count
        assert len(data) == most_bytes(document, count)
        assert len(read_samples(document, data, count=count)) == count
        with pytest.raises(SamplesSizeError):
            read_samples(document, data + b"\n", count=count)
    assert most_bytes(document, 4) == most_bytes(document, 3), "more samples are not read"


@pytest.mark.parametrize("rare", ["\U0001f3e0", "\x01", '"', "\\", "é"])
def test_the_longest_challenge_is_one_that_is_read(rare: str) -> None:
    text = rare * 20
    document = POOL.model_copy(update={"checks": Checks()})
    label = ("a" if rare == "\x01" else rare) * 200  # labels are free of control characters
    wrong = tuple(
        Wrong(row=MAX_SAMPLES - 9 + row, reason="label", label=label, note=rare * 500) for row in range(9)
    )
    corrected = write_samples(document, Samples(((5.0, 1.0, text, "no"),) * 9)).decode()
    challenge = Challenge(wrong=wrong, corrected=corrected)
    most = most_challenge_bytes(document, 9, 9)
    for written in (challenge.to_bytes(), json.dumps(challenge.model_dump(), indent=4).encode()):
        assert len(written) <= most < Challenge.MOST_BYTES
        assert Challenge.from_bytes(written) == challenge
    assert most_challenge_bytes(document, 16_000, 0) == Challenge.MOST_BYTES


def test_what_a_stranger_writes_takes_no_more_time_than_its_length() -> None:
    columns = (*(NumberColumn(name=f"f{place}", low=0, high=1) for place in range(900)), POOL.target_column)
    wide = POOL.model_copy(update={"columns": columns})
    start = time.process_time()
    with pytest.raises(SamplesHeaderError):
        read_initial(wide, b"," * 1_000_000)
    with pytest.raises(CellTooLongError):
        read_initial(POOL, HEADER + b"1" * 131_000 + b"x,2,x,no\n")
    assert time.process_time() - start < 5  # measured: 0.3; comparing each with each takes a minute


@settings(max_examples=40)
@given(st.binary(max_size=60))
def test_no_bytes_make_it_fail_otherwise(data: bytes) -> None:
    for given_bytes in (data, HEADER + data):
        try:
            read_samples(POOL, given_bytes)
        except SamplesError:
            continue


def test_what_was_found_wrong_is_left_out() -> None:
    samples = Samples(((50.0, 2.0, "a", "no"), (60.0, 2.0, "b", "no"), (70.0, 2.0, "c", "no")))
    assert Batch(3, samples, frozenset({1})).left == (0, 2)
    assert samples.without((1,)).rows == (samples.rows[0], samples.rows[2])
