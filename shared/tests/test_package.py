"""A package is exactly its three members, or it is refused; its share of the test data can be chosen again."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import zipfile
from contextlib import nullcontext
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agorai_shared import package, sealing, unixfs
from agorai_shared.handover import PackageAddress
from agorai_shared.package import (
    Card,
    CsvRowsError,
    InputColumn,
    Manifest,
    ModelFile,
    Output,
    Package,
    PackageMalformedError,
    PackageTooLargeError,
    QuotationError,
    Registered,
    Structure,
    TradeBinding,
)

TRADE = TradeBinding(chain_id=31337, contract="0xAb5801a7D398351b8bE11C439e05C5B3259aeC9B", trade=7)
MODEL = random.Random(1).randbytes(5000)
TEST = b"a,b,y\n" + b"".join(b"%d,%d,%d\n" % (row, row * row, row % 2) for row in range(50))
FIFTH = Fraction(1, 5)


def card(**changes: Any) -> Card:
    given = {
        "trade": TRADE,
        "resource": 3,
        "name": "Credit risk",
        "purpose": "Tells who pays back. Für alle.",
        "structure": Structure(estimator="sklearn.LogisticRegression", parameters={"C": 1.0, "l": [1, None]}),
        "format": "safetensors",
        "input": (InputColumn(name="a", type="number"), InputColumn(name="b", type="number")),
        "output": Output(target="y", classes=(0, 1)),
        "accuracy": 0.93,
    }
    return Card(**(given | changes))


@pytest.fixture(scope="module")
def whole() -> bytes:
    return package.write(card(), MODEL, TEST, FIFTH)


def zipped(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Give what Python's own tool makes of these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            archive.writestr(info, content, compression)
    return buffer.getvalue()


def members(data: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return [(name, archive.read(name)) for name in archive.namelist()]


def with_manifest(data: bytes, text: bytes) -> bytes:
    (name, _), *others = members(data)
    return zipped([(name, text), *others])


def changed(data: bytes, *path: str, to: object) -> bytes:
    """Give the package with one value of its manifest set, all else and the form kept."""
    document = json.loads(members(data)[0][1])
    where = document
    for part in path[:-1]:
        where = where[part]
    where[path[-1]] = to
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return with_manifest(data, text.encode())


def test_what_is_written_is_read_again(whole: bytes) -> None:
    read = package.read(whole)
    assert (read.model, read.manifest.model_dump() | card().model_dump()) == (
        MODEL,
        read.manifest.model_dump(),
    )
    assert read.test == package.test_rows(TEST, FIFTH, TRADE.seed)
    assert (read.manifest.test.rows, read.manifest.test.of, read.manifest.test.share) == (10, 50, 0.2)
    assert read.manifest.test.sha256 == hashlib.sha256(read.test).hexdigest()
    assert read.manifest.model.sha256 == hashlib.sha256(MODEL).hexdigest()


def test_any_tool_opens_it_and_pythons_own_writes_the_same_bytes(whole: bytes) -> None:
    opened = members(whole)
    assert [name for name, _ in opened] == ["package.json", "model", "test.csv"]
    assert dict(opened)["model"] == MODEL
    assert json.loads(dict(opened)["package.json"])["purpose"] == "Tells who pays back. Für alle."
    assert zipped(opened) == whole


def test_the_same_parts_give_the_same_bytes(whole: bytes) -> None:
    assert package.write(card(), MODEL, TEST, FIFTH) == whole


@given(st.data())
def test_no_byte_of_a_package_can_be_another(whole: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(whole) - 1))
    bit = data.draw(st.integers(0, 7))
    other = whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
    with pytest.raises(PackageMalformedError):
        package.read(other)


@given(st.data())
def test_a_package_cut_off_anywhere_is_refused(whole: bytes, data: st.DataObject) -> None:
    with pytest.raises(PackageMalformedError):
        package.read(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(st.binary(max_size=300))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    for tried in (data, b"PK\x03\x04" + data):
        with pytest.raises(PackageMalformedError):
            package.read(tried)


@pytest.mark.parametrize("more", [b"\0", b"PK\x05\x06" + bytes(18)])
def test_bytes_before_or_behind_are_refused(whole: bytes, more: bytes) -> None:
    with pytest.raises(PackageMalformedError, match="follow its end"):
        package.read(whole + more)
    with pytest.raises(PackageMalformedError, match="no ZIP member"):
        package.read(more + whole)


def test_other_members_are_refused(whole: bytes) -> None:
    manifest, model, test = members(whole)
    for other in (
        [manifest, model],
        [manifest, test, model],
        [model, manifest, test],
        [manifest, model, test, ("more", b"")],
        [manifest, model, model, test],
        [manifest, ("Model", model[1]), test],
        [manifest, ("../model", model[1]), test],
        [],
    ):
        with pytest.warns(UserWarning, match="Duplicate") if other.count(model) > 1 else nullcontext():
            data = zipped(other)
        with pytest.raises(PackageMalformedError):
            package.read(data)


def test_a_compressed_member_is_refused_before_it_is_unpacked(whole: bytes) -> None:
    bomb = zipped([("package.json", bytes(1 << 24)), *members(whole)[1:]], zipfile.ZIP_DEFLATED)
    assert len(bomb) < 1 << 16
    for data in (bomb, zipped(members(whole), zipfile.ZIP_DEFLATED)):
        with pytest.raises(PackageMalformedError):
            package.read(data)


def test_other_dates_comments_and_modes_are_refused(whole: bytes) -> None:
    for change in (
        {"date_time": (2026, 1, 1, 0, 0, 0)},
        {"comment": b"c"},
        {"external_attr": 1},
        {"extra": b"abcd"},
    ):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in members(whole):
                info = zipfile.ZipInfo(name)
                for key, value in change.items():
                    setattr(info, key, value)
                archive.writestr(info, content)
        with pytest.raises(PackageMalformedError):
            package.read(buffer.getvalue())
    with pytest.raises(PackageMalformedError):
        package.read(whole[:-2] + b"\x01\x00c")  # a comment on the whole


def test_a_model_or_test_data_other_than_the_manifests_are_refused(whole: bytes) -> None:
    manifest, model, test = members(whole)
    for other, what in (
        ([manifest, ("model", MODEL[:-1] + b"x"), test], "model"),
        ([manifest, ("model", MODEL[:-1]), test], "model"),
        ([manifest, model, ("test.csv", test[1] + b"1,1,1\n")], "test.csv"),
    ):
        with pytest.raises(PackageMalformedError, match=f"its {what} is not the one"):
            package.read(zipped(other))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("type",), "agorai/package/2"),
        (("more",), 1),
        (("trade", "chain_id"), "31337"),
        (("trade", "trade"), 0),
        (("trade", "contract"), "0x12"),
        (("resource",), 0),
        (("name",), "x" * 201),
        (("input",), []),
        (("input",), [{"name": "", "type": "number"}]),
        (("input",), [{"name": "a", "type": "number"}, {"name": "y", "type": "number"}]),
        (("input",), [{"name": "a", "type": "number"}, {"name": "a", "type": "number"}]),
        (("output", "classes"), [0.5]),
        (("accuracy",), 1.5),
        (("accuracy",), None),
        (("test", "rows"), 51),
        (("test", "rows"), 9),
        (("test", "share"), 0.5),
        (("test", "sha256"), "0" * 63),
        (("model", "size"), 0),
        (("structure", "parameters"), {"C": 1 << 70}),
    ],
)
def test_a_manifest_of_another_form_is_refused(whole: bytes, path: tuple[str, ...], value: object) -> None:
    with pytest.raises(PackageMalformedError, match=r"package\.json"):
        package.read(changed(whole, *path, to=value))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b"{", b"{ ", 1),
        lambda text: text.replace(b'"resource":3', b'"resource":3,"resource":3'),
        lambda text: text.replace(b"0.93", b"0.930"),
        lambda text: text.replace("ü".encode(), b"\\u00fc"),
        lambda text: text.replace(b'"C":1.0', b'"C":NaN'),
        lambda text: text.replace(b'"C":1.0', b'"C":"\\ud800"'),
        lambda text: text.replace(b'"C":1.0', b'"C":' + b"[" * 100_000),
        lambda text: text.replace(b'"C":1.0', b'"C":' + b"[" * 190 + b"]" * 190 + b" "),
        lambda _: b"",
        lambda _: b"[]",
        lambda _: b"\xff",
    ],
)
def test_a_manifest_that_could_be_read_in_two_ways_is_refused(whole: bytes, change: Any) -> None:
    text = change(members(whole)[0][1])
    assert text != members(whole)[0][1]
    with pytest.raises(PackageMalformedError, match=r"package\.json"):
        package.read(with_manifest(whole, text))


def test_a_manifest_is_bounded_for_writers_and_for_readers(whole: bytes) -> None:
    long = card(structure=Structure(estimator="e", parameters={"x": "y" * package.MAX_MANIFEST_SIZE}))
    with pytest.raises(PackageTooLargeError, match="description of the model"):
        package.write(long, MODEL, TEST, FIFTH)
    with pytest.raises(PackageMalformedError, match="more than 524288 bytes"):
        package.read(with_manifest(whole, b" " * (package.MAX_MANIFEST_SIZE + 1)))


def test_a_package_is_bounded_for_writers_and_for_readers(
    whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, "MAX_PACKAGE_SIZE", len(whole) - 1)
    with pytest.raises(PackageTooLargeError, match=f"{len(whole)} bytes"):
        package.write(card(), MODEL, TEST, FIFTH)
    with pytest.raises(PackageMalformedError, match="more than"):
        package.read(whole)
    monkeypatch.setattr(package, "MAX_PACKAGE_SIZE", len(whole))
    assert isinstance(package.read(package.write(card(), MODEL, TEST, FIFTH)), Package)


def test_a_package_shows_no_model_in_a_log(whole: bytes) -> None:
    assert "model=b" not in repr(package.read(whole))
    assert "test=b" not in repr(package.read(whole))


@given(st.floats(max_value=1, allow_infinity=False), st.binary(min_size=1, max_size=100))
def test_another_model_and_accuracy_leave_all_else_as_it_is(
    whole: bytes, accuracy: float, model: bytes
) -> None:
    old = package.read(whole)
    new = package.read(package.with_model(old, model, accuracy))
    assert (new.model, new.manifest.accuracy, new.test) == (model, accuracy, old.test)
    assert new.manifest.model == ModelFile(sha256=hashlib.sha256(model).hexdigest(), size=len(model))
    kept = {"accuracy": old.manifest.accuracy, "model": old.manifest.model}
    assert new.manifest.model_copy(update=kept) == old.manifest


def test_another_model_is_bounded_too(whole: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "MAX_PACKAGE_SIZE", len(whole))
    with pytest.raises(PackageTooLargeError):
        package.with_model(package.read(whole), MODEL + b"x", 0.93)


def test_an_empty_model_is_not_packed() -> None:
    with pytest.raises(ValidationError):
        package.write(card(), b"", TEST, FIFTH)


PRICES = st.integers(1, 1 << 96)


@given(PRICES, PRICES, PRICES)
def test_the_share_grows_with_the_offer_within_its_bounds(asked: int, offered: int, other: int) -> None:
    low, high = sorted((offered, other))
    assert FIFTH <= package.test_share(low, asked) <= package.test_share(high, asked) <= Fraction(1, 2)


@given(PRICES)
def test_the_share_is_a_fifth_up_to_the_price_asked_and_a_half_from_two_and_a_half_times_it(
    asked: int,
) -> None:
    assert package.test_share(0, asked) == package.test_share(asked, asked) == FIFTH
    assert package.test_share(2 * asked, asked) == Fraction(2, 5)
    assert package.test_share(5 * asked, 2 * asked) == package.test_share(9 * asked, asked) == Fraction(1, 2)


@pytest.mark.parametrize(("offered", "asked"), [(1, 0), (0, 0), (-1, 5), (5, -1)])
def test_prices_that_give_no_share_are_refused(offered: int, asked: int) -> None:
    with pytest.raises(QuotationError):
        package.test_share(offered, asked)


VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff"), max_size=8)


@given(
    st.lists(st.lists(VALUES, min_size=2, max_size=2), min_size=2, max_size=30),
    st.fractions(Fraction(1, 100), 1),
    st.binary(max_size=40),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.booleans(),
)
def test_the_rows_are_those_that_a_csv_reader_sees(
    table: list[list[str]], share: Fraction, seed: bytes, end: str, marked: bool, ended: bool
) -> None:
    # unless it quotes all, the writer leaves an end of line bare that is not its own
    few = end == "\r\n" and not marked
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end, quoting=csv.QUOTE_MINIMAL if few else csv.QUOTE_ALL).writerows(table)
    written = text.getvalue() if ended else text.getvalue().removesuffix(end)
    data = ("\ufeff" * marked + written).encode()
    chosen = package.test_rows(data, share, seed).decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(chosen, newline="")))
    order = sorted(
        range(len(table) - 1), key=lambda row: hashlib.sha256(seed + row.to_bytes(8, "big")).digest()
    )
    count = -(-share.numerator * len(order) // share.denominator)
    assert rows == [table[0], *(table[1 + row] for row in sorted(order[:count]))]
    assert 1 <= count <= len(order)


def test_lines_of_nothing_are_no_rows_and_text_is_kept_as_it_is() -> None:
    data = b'\xef\xbb\xbf\r\n\na ,"b"\n1,"x\n\ny"\n\n\r\n 2 ,""\n3,z'
    assert package.test_rows(data, Fraction(1), b"") == b'\xef\xbb\xbfa ,"b"\n1,"x\n\ny"\n 2 ,""\n3,z'


def test_other_trades_get_other_rows() -> None:
    other = TradeBinding(chain_id=TRADE.chain_id, contract=TRADE.contract, trade=8)
    assert package.test_rows(TEST, FIFTH, TRADE.seed) != package.test_rows(TEST, FIFTH, other.seed)
    lower = TradeBinding(chain_id=TRADE.chain_id, contract=TRADE.contract.lower(), trade=7)
    assert TRADE.seed == lower.seed == b"31337/0xab5801a7d398351b8be11c439e05c5b3259aec9b/7"


def test_every_row_is_chosen_about_as_often_as_the_share_says() -> None:
    seen = [0] * 50
    for trade in range(1000):
        for line in package.test_rows(TEST, FIFTH, b"%d" % trade).splitlines()[1:]:
            seen[int(line.split(b",")[0])] += 1
    assert sum(seen) == 10_000
    assert all(140 < times < 260 for times in seen)  # 200 expected, 12.6 the deviation


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no header"),
        (b"\n\r\n", "no header"),
        (b"a,b\n", "no rows"),
        (b"a,b\n\n\n", "no rows"),
        (b"a,b\n1,\xff\n", "byte 6 is not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "not UTF-8"),
        (b"a,b\n1,\0\n", "NUL"),
        (b'a,b\n1,"2\n', "quote"),
        (b'a,b\n1,2"3"\n', "quote"),
        (b'a,b\n1,"2"3\n', "quote"),
    ],
)
def test_data_without_certain_rows_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(CsvRowsError, match=why):
        package.test_rows(data, FIFTH, b"")


@pytest.mark.parametrize("share", [Fraction(0), Fraction(-1), Fraction(3, 2)])
def test_a_share_that_is_none_is_refused(share: Fraction) -> None:
    with pytest.raises(CsvRowsError, match="share"):
        package.test_rows(TEST, share, b"")


def test_hostile_quotes_take_no_longer_than_their_length() -> None:
    data = b"a\n" + b'""' * 500_000 + b"x\n"
    with pytest.raises(CsvRowsError):
        package.test_rows(data, FIFTH, b"")
    data = b"a\n" + b'"",' * 500_000 + b'"\n'
    with pytest.raises(CsvRowsError):
        package.test_rows(data, FIFTH, b"")


def test_a_manifest_says_all_that_the_paper_names() -> None:
    assert set(Manifest.model_fields) == {
        "type", "trade", "resource", "name", "purpose", "structure", "format", "input", "output", "registered",
        "accuracy", "test", "model",
    }  # fmt: skip


def test_who_has_the_model_can_tell_with_what_commitment_it_is_registered() -> None:
    key, salt = bytes(range(32)), b"s" * 32
    sealed = sealing.seal_bytes(MODEL, key)
    registered = PackageAddress(unixfs.cid_of(sealed), key, salt)
    said = Registered(header=sealed[: sealing.HEADER_LENGTH].hex(), key=key.hex(), salt=salt.hex())
    made = package.read(package.write(card(registered=said), MODEL, TEST, FIFTH))
    assert package.commitment(made) == registered.commitment
    other = package.read(package.write(card(registered=said), MODEL + b"!", TEST, FIFTH))
    assert package.commitment(other) != registered.commitment
    for wrong in ({"key": "00" * 32}, {"header": "00" * sealing.HEADER_LENGTH}):
        lied = card(registered=said.model_copy(update=wrong))
        assert package.commitment(package.read(package.write(lied, MODEL, TEST, FIFTH))) is None
    low = package.read(package.with_model(made, b"low", 0.4))
    assert (low.manifest.registered, package.commitment(low)) == (None, None)
