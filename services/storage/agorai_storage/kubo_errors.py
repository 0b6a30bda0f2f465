"""What can go wrong with a Kubo, beyond what can with any store.

    KuboAddressError (InputError)           an address that is no multiaddr of an RPC API
    KuboUnreachableError (UnavailableError) the daemon does not answer
    KuboOutdatedError (UnavailableError)    the daemon lacks options that are needed
    KuboRefusedError (RefusedError)         the daemon refuses a call
    KuboAnswerError (IntegrityError)        the answer makes no sense

A daemon whose disk is full or cannot be written raises what any store does.
"""

from __future__ import annotations

from typing import Final

from agorai_shared.errors import InputError, IntegrityError, RefusedError, UnavailableError

OLDEST: Final = (0, 37)
"""The first Kubo whose `add` takes both `max-file-links` and `pin-name`."""


class KuboAddressError(InputError):
    """An address that is no multiaddr of an RPC API."""

    def __init__(self, api: str) -> None:
        super().__init__(
            f"{api!r} is not the address of a Kubo's RPC API.",
            remedy="Give it as a multiaddr, as in the file `api` of Kubo's repository: /ip4/127.0.0.1/tcp/5001.",
        )


class KuboUnreachableError(UnavailableError):
    """The daemon does not answer."""

    def __init__(self, api: str, why: str) -> None:
        super().__init__(
            f"Kubo at {api} does not answer ({why}).",
            remedy="Start it with `ipfs daemon`, or correct the address of its RPC API.",
        )


class KuboOutdatedError(UnavailableError):
    """The daemon lacks options that are needed."""

    retryable = False

    def __init__(self, api: str, version: str) -> None:
        oldest = ".".join(str(n) for n in OLDEST)
        super().__init__(f"Kubo at {api} is {version}.", remedy=f"Update it to {oldest} or later.")


class KuboRefusedError(RefusedError):
    """The daemon refuses a call."""

    http_status = 502

    def __init__(self, api: str, call: str, reason: str) -> None:
        super().__init__(
            f"Kubo at {api} refused {call}: {reason[:300]}.", remedy="Its own log says more: `ipfs log tail`."
        )
        self.reason = reason


class KuboAnswerError(IntegrityError):
    """The answer makes no sense."""

    http_status = 502

    def __init__(self, api: str, call: str, answer: object) -> None:
        super().__init__(
            f"Kubo at {api} answered {call} with {str(answer)[:100]!r}.",
            remedy="Check that a Kubo listens there, and nothing else.",
        )
