"""What can be wrong with training and rebuilding a pool's versions, and with a challenge that is asked for.

InputError
├── RuleRefusedError          an estimator or setting by which a pool cannot be trained
├── InitialClassError         a class that the initial samples have no row of
└── RowNotSuspectedError      a row that a challenge is to name, and no rule suspects
IntegrityError
├── NotOfRecordError          a document, snapshot or contribution that a record does not name
└── NotRebuiltError           the same samples and rule give another model here

They stand apart from what raises them: the node names them too, and does without the frameworks.
"""

from __future__ import annotations

from agorai_shared.errors import InputError, IntegrityError
from agorai_shared.pool import Versions
from agorai_shared.types import Cid


class RuleRefusedError(InputError):
    """A rule by which a pool cannot be trained."""

    def __init__(self, estimator: str, why: str, remedy: str) -> None:
        super().__init__(f"A pool cannot be trained by {estimator}: {why}.", remedy=remedy)


class InitialClassError(InputError):
    """A class that is not learnt from the beginning; the model's classes are the document's."""

    def __init__(self, label: str) -> None:
        super().__init__(
            f"The initial samples have no row of the class {label!r}.",
            remedy="Give at least one row of each class.",
        )


class RowNotSuspectedError(InputError):
    """A row that nothing speaks against."""

    def __init__(self, contribution: int, row: int) -> None:
        super().__init__(
            f"No rule suspects row {row} of contribution {contribution} (the first is 0).",
            remedy="Name rows that the check suspects; others need a challenge of your own.",
        )


class NotOfRecordError(IntegrityError):
    """Something that a version was not made from."""

    def __init__(self, what: str, given: str, wanted: str) -> None:
        super().__init__(
            f"The {what} is {given}, and the version's record names {wanted}.",
            remedy="Fetch what the record names.",
        )


class NotRebuiltError(IntegrityError):
    """A model that did not come out again."""

    def __init__(self, found: Cid, wanted: str, made: Versions, here: Versions) -> None:
        same = "with the same versions here" if made == here else f"with {made}, and here are {here}"
        super().__init__(
            f"Trained again, the model is {found} and not {wanted}; it was made {same}.",
            remedy="Install the record's versions and train again; if that fails, the record is not true.",
        )
        self.found = found
