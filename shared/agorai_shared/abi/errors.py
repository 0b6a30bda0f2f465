"""What can be wrong with an ABI, and with bytes and values that should fit one.

InputError
├── BadAbiError             an ABI is not what Solidity's compilers write
├── AnonymousEventError     an event whose logs cannot be told from others
├── NotInAbiError           a function, an event or the bytecode is not there
└── UnencodableError        values do not fit the types
IntegrityError
├── UndecodableError        bytes are no encoding of the types
└── LogMismatchError        a log does not hold what the event declares
"""

from __future__ import annotations

from agorai_shared.errors import InputError, IntegrityError


class AnonymousEventError(InputError):
    """An ABI declares an event whose logs carry no signature to know them by."""

    def __init__(self, event: str) -> None:
        super().__init__(
            f"The event {event} is anonymous: its logs cannot be told from others.",
            remedy="Leave it out of the ABI.",
        )


class BadAbiError(InputError):
    """An ABI is not what Solidity's compilers write."""

    def __init__(self, name: str, cause: str) -> None:
        super().__init__(f"The ABI of {name} cannot be read: {cause}.")


class LogMismatchError(IntegrityError):
    """A log's topics or data do not hold what the event declares."""

    def __init__(self, event: str, cause: str) -> None:
        super().__init__(f"The log is no {event}: {cause}.")


class NotInAbiError(InputError):
    """A contract's ABI has no function or event of that name, or no bytecode."""

    def __init__(self, contract: str, what: str) -> None:
        super().__init__(f"The ABI of {contract} has no {what}.")


class UndecodableError(IntegrityError):
    """Bytes are no ABI encoding of the types they should hold."""

    def __init__(self, what: str, size: int, cause: str) -> None:
        super().__init__(
            f"{size} bytes are no encoding of {what}: {cause}.",
            remedy="Check that the address is the contract meant, on the chain meant.",
        )


class UnencodableError(InputError):
    """Values do not fit the types they are to be encoded as."""

    def __init__(self, what: str, cause: str) -> None:
        super().__init__(f"The values do not fit {what}: {cause}.")
