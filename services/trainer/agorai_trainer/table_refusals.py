"""Why a data set is not taken.

InputError
├── EmptyTableError            no bytes, no header or no rows
├── EncodingError              not UTF-8 text
├── CsvShapeError              a row with too many or too few values, an unclosed quote, another separator
├── ColumnNamesError           a column without a name, or two of one name
├── MissingColumnError         a column the task needs is not there
├── ExtraFeatureError          no column is left to learn from
├── NotNumericError            text where a number is needed
├── NotFiniteError             a missing, not-a-number or infinite value
├── TargetKindError            the target's values do not fit the kind of estimator
└── ParquetError               not a Parquet file, a damaged one, or a column of an unsupported type
"""

from __future__ import annotations

from agorai_shared.errors import InputError

SHOWN = 60
"""Characters of a wrong value that an error quotes."""


class EmptyTableError(InputError):
    """There is nothing to learn from."""

    def __init__(self, what: str) -> None:
        super().__init__(f"The data set has {what}.", remedy="Give a header and at least one row of values.")


class EncodingError(InputError):
    """Bytes that are not UTF-8 text."""

    def __init__(self, line: int, looks_like: str) -> None:
        super().__init__(
            f"Line {line} of the CSV data is not UTF-8 text ({looks_like}).",
            remedy="Save the file again with the encoding UTF-8.",
        )


class CsvShapeError(InputError):
    """A line of a CSV file that does not have the header's shape."""

    def __init__(self, line: int, why: str, remedy: str = "Correct that line.") -> None:
        super().__init__(f"Line {line} of the CSV data {why}.", remedy=remedy)


class ColumnNamesError(InputError):
    """A header that does not name each column once."""

    def __init__(self, why: str) -> None:
        super().__init__(f"The header {why}.", remedy="Give every column a name of its own.")


class MissingColumnError(InputError):
    """A column that is asked for is not in the data."""

    def __init__(self, missing: tuple[str, ...], role: str, present: tuple[str, ...]) -> None:
        names, have = listed(missing), listed(present)
        super().__init__(
            f"The data set has no {role} column {names}; it has {have}.",
            remedy="Name a column of the data set, spelled as in its header, or add the column.",
        )


class ExtraFeatureError(InputError):
    """The choice of features leaves nothing to learn from, or takes the target among them."""

    def __init__(self, why: str) -> None:
        super().__init__(f"The features {why}.", remedy="Name at least one column besides the target.")


class NotNumericError(InputError):
    """Text in a column of numbers."""

    def __init__(self, row: str, column: str, value: str) -> None:
        super().__init__(
            f"Column {column!r} must hold numbers, and {row} holds {value[:SHOWN]!r}.",
            remedy="Correct the value, leave the column out of the features, or encode it as numbers.",
        )


class NotFiniteError(InputError):
    """A value that is missing or no finite number."""

    def __init__(self, row: str, column: str, what: str) -> None:
        super().__init__(
            f"Column {column!r} has {what} in {row}.",
            remedy="Fill the value in or leave the row out; estimators need every value.",
        )


class TargetKindError(InputError):
    """A target that does not fit classification or regression."""

    def __init__(self, column: str, why: str, remedy: str) -> None:
        super().__init__(f"The target column {column!r} {why}.", remedy=remedy)


class TargetZeroError(TargetKindError):
    """Quantities that are all zero, on which no accuracy is defined; of the giver's own rows nobody's fault."""

    def __init__(self, column: str) -> None:
        super().__init__(
            column,
            "holds nothing but zeros, by which ISC-MTI's formula (2) would divide",
            "Give rows with other values.",
        )


class ParquetError(InputError):
    """Bytes that are no readable Parquet table of numbers and text."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The Parquet data cannot be read: {why[:300]}.",
            remedy="Write the file again, with columns of numbers, booleans and text only.",
        )


def listed(names: tuple[str, ...], most: int = 12) -> str:
    """Give names for a message, not too many of them."""
    quoted = ", ".join(repr(name[:SHOWN]) for name in names[:most])
    return quoted + (f" and {len(names) - most} more" if len(names) > most else "")
