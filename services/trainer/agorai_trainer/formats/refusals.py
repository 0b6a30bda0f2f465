"""Why a model's bytes are not taken; the tree is drawn in the package's docstring."""

from __future__ import annotations

from agorai_shared.errors import InputError
from agorai_trainer.estimators import Format

_ANY_FORMAT = ", ".join(Format)


class UnknownFormatError(InputError):
    """Bytes in none of the formats."""

    def __init__(self, size: int) -> None:
        super().__init__(
            f"These {size} bytes are a model in none of the known formats.",
            remedy=f"Store it as one of: {_ANY_FORMAT}.",
        )


class FormatMismatchError(InputError):
    """Bytes in another format than was said."""

    def __init__(self, said: Format, found: Format) -> None:
        super().__init__(
            f"The model is said to be {said} and is {found}.", remedy=f"Name {found} as its format."
        )


class FormatUnsuitableError(InputError):
    """An estimator that a format cannot carry."""

    def __init__(self, fmt: Format, estimator: str, suitable: tuple[Format, ...]) -> None:
        super().__init__(
            f"The format {fmt} does not carry {estimator}.",
            remedy=f"Use {' or '.join(suitable) or 'another estimator'}.",
        )


class BrokenModelError(InputError):
    """A model that cannot be read in its format."""

    def __init__(self, fmt: Format, why: str) -> None:
        first = why.strip().splitlines()[0][:300] if why.strip() else "no reason given"
        super().__init__(
            f"The {fmt} model cannot be read: {first}.".replace("..", "."),
            remedy="Fetch it again, or have its maker store it again.",
        )


class RefusedModelError(InputError):
    """A model that would run code or read files when loaded."""


class PickleRefusedError(RefusedModelError):
    """A pickle: loading one runs whatever its maker put in."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"The model is {what}, and unpickling runs any code its maker put in, so it was not read.",
            remedy=f"Have its maker store it as one of: {_ANY_FORMAT}.",
        )


class TypeRefusedError(RefusedModelError):
    """A skops file that asks for types that are not trusted."""

    def __init__(self, types: tuple[str, ...]) -> None:
        shown = ", ".join(types[:5]) + (" and more" if len(types) > 5 else "")
        super().__init__(
            f"The skops model asks for types that are not on the trainer's list: {shown}.",
            remedy="Use an estimator of the list; the file's own list of types is never followed.",
        )


class OutsideReferenceError(RefusedModelError):
    """A model that keeps part of itself in another file."""

    def __init__(self, fmt: Format, what: str) -> None:
        super().__init__(
            f"The {fmt} model refers to {what} outside itself, which was not read.",
            remedy="Have its maker store everything in one file.",
        )
