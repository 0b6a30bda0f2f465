"""Samples for learners on the chain: from texts, from files, and checked before anything is sent.

InputError
├── SamplesFileError    a file's columns or cells are not of this learner
├── SampleUnfitError    one of several samples, or its label, is not of this learner
└── LabelAbsentError    a sample to be learned without a label
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from agorai.learner_replay import twin_of
from agorai_shared.bindings.online_learner import Kind, Learner
from agorai_shared.errors import AgoraiError, InputError
from agorai_shared.online_learner import LabelError, Sample, SampleError, encode_sample

_WHOLE: Final = re.compile(r"\s*[+-]?[0-9]{1,9}\s*")


class SamplesFileError(InputError):
    """A file's columns or cells are not of this learner."""

    def __init__(self, why: str, features: int) -> None:
        super().__init__(
            f"The file cannot be read as samples: {why}.",
            remedy=f"Give a CSV with a header, a column of whole numbers for each of the learner's {features} "
            "features, in their order, and one more for the label.",
        )


class SampleUnfitError(InputError):
    """One of several samples, or its label, is not of this learner."""

    def __init__(self, row: int, error: AgoraiError) -> None:
        super().__init__(
            f"Row {row} of the samples (the first is 0): {error.message}",
            remedy=f"{error.remedy} Nothing was sent.",
        )


class LabelAbsentError(InputError):
    """A sample to be learned without a label."""

    def __init__(self, labels: int) -> None:
        super().__init__(
            "A sample is learned by its label.",
            remedy=f"Give one from 0 to {labels - 1}: --label, or a file's last column.",
        )


class Labelled(NamedTuple):
    """A sample, and its class where that is known."""

    sample: Sample
    label: int | None
    """None if it is not known; of a k-means always."""


def words(text: str, features: int) -> Sample:
    """Give a text as the set of its words, each a feature of value 1.

    A word is letters, digits and underscores in a row, in lower case and NFC. Its feature is the first 8 bytes of its
    BLAKE2b (RFC 7693, digest of 8 bytes, UTF-8), read big endian, modulo `features`; words that meet in one feature
    count once ("Feature hashing", Weinberger et al. 2009, without signs).
    """
    found = re.findall(r"\w+", unicodedata.normalize("NFC", text.lower()))
    hashes = (blake2b(word.encode(), digest_size=8).digest() for word in found)
    return dict.fromkeys((int.from_bytes(digest, "big") % features for digest in hashes), 1)


def read_samples(data: bytes, learner: Learner, label_column: str | None = None) -> list[Labelled]:
    """Read a CSV with a header: a column for each feature, in their order, and, if there is one more, the label.

    Parameters
    ----------
    label_column
        The label's; None is the last, if there is one more column than features.

    Raises
    ------
    SamplesFileError
        If columns are missing or too many, there are no rows, or a cell is no whole number.
    """
    features = learner.features
    try:
        rows = [
            row for row in csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True) if row
        ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise SamplesFileError(f"it is no CSV, {error}", features) from error
    if len(rows) < 2:
        raise SamplesFileError("it has no rows", features)
    header = rows.pop(0)
    if label_column is not None and header.count(label_column) != 1:
        raise SamplesFileError(f"it has no single column {label_column!r}", features)
    labelled = label_column is not None or len(header) == features + 1
    if len(header) != features + labelled:
        raise SamplesFileError(f"it has {len(header)} columns", features)
    place = features if label_column is None else header.index(label_column)
    found = []
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise SamplesFileError(
                f"row {number} (the first is 0) has {len(row)} cells, not {len(header)}", features
            )
        wrong = [cell for cell in row if not _WHOLE.fullmatch(cell)]
        if wrong:
            raise SamplesFileError(
                f"row {number} (the first is 0) has {wrong[0][:40]!r}, no whole number", features
            )
        values = [int(cell) for cell in row]
        label = values.pop(place) if labelled else None
        sample = {feature: value for feature, value in enumerate(values) if value}
        # A sample names one feature at least, be it of value 0.
        found.append(Labelled(sample or {0: 0}, None if learner.kind is Kind.KMEANS else label))
    return found


def fitted(learner: Learner, samples: Sequence[Labelled]) -> Iterator[tuple[bytes, int]]:
    """Give samples as the contract takes them, each with its label, or 0 without one.

    Raises
    ------
    SampleError, LabelError
        If the learner has not such features or labels.
    SampleUnfitError
        The same of one of several samples.
    """
    twin = twin_of(learner)  # only for what it refuses
    for row, (sample, label) in enumerate(samples):
        try:
            if label is None:
                twin.predict(sample)
            else:
                twin.train(sample, label)
        except (SampleError, LabelError) as error:
            if len(samples) == 1:
                raise
            raise SampleUnfitError(row, error) from error
        yield encode_sample(sample), label or 0
