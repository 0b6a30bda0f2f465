"""The parts that `agorai up` runs: all of them, or those that are named."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Final

from agorai_shared.errors import InputError

HUB: Final = "hub"
DASHBOARD: Final = "dashboard"
VAULT: Final = "vault"
NEEDS: Final[dict[str, frozenset[str]]] = {
    HUB: frozenset(),
    "storage": frozenset(),
    VAULT: frozenset({"storage"}),
    "trainer": frozenset({"storage", VAULT}),
    "verifier": frozenset({"storage", VAULT}),
    "reward": frozenset({"storage", VAULT}),
    DASHBOARD: frozenset(),
}
"""Each part, and which others of the node it asks: a node's parts on one machine are run together."""
SERVICES: Final = frozenset(NEEDS) - {HUB, DASHBOARD}
"""Those that serve at the node's own port."""


def _silent(_stage: str) -> None:
    """Tell nobody."""


STAGE: Final[ContextVar[Callable[[str], None]]] = ContextVar("agorai_stage", default=_silent)
"""Told of each stage of a start, in whatever task it is."""


class PartUnknownError(InputError):
    """There is no part of a name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"A node has no part {name!r}.", remedy=f"Name some of {', '.join(NEEDS)}.")


class PartLackingError(InputError):
    """A part is to be run without another that it asks."""

    def __init__(self, part: str, lacking: frozenset[str], named: frozenset[str]) -> None:
        whole = ",".join(name for name in NEEDS if name in named | lacking)
        super().__init__(
            f"The {part} asks {' and '.join(sorted(lacking))}, which --only leaves out.",
            remedy=f"Name them too: --only {whole}.",
        )


class HubLackingError(InputError):
    """Parts are to be run without the hub, and without a node that has one."""

    def __init__(self, named: frozenset[str]) -> None:
        super().__init__(
            "Without the hub there are no bus and no chain here.",
            remedy=f"Name the node that has them with --join, or --only {','.join((HUB, *sorted(named)))}.",
        )


class HubTwiceError(InputError):
    """A hub is named, and a node that has one."""

    def __init__(self) -> None:
        super().__init__(
            "The node that is joined has the hub, with bus and chain.",
            remedy="Leave out hub of --only, or --join.",
        )


def parts_of(services: Iterable[str] | None, *, dashboard: bool, joins: bool) -> list[str]:
    """Name what runs, the hub among it unless another's is joined; no `services` are all of them."""
    known = SERVICES if services is None else frozenset(services)
    others = (frozenset() if joins else {HUB}) | ({DASHBOARD} if dashboard else frozenset())
    return [name for name in NEEDS if name in known | others]


def chosen(only: str | None, *, joins: bool) -> frozenset[str]:
    """Give the parts to run; `only` names them, parted by commas.

    Raises
    ------
    PartUnknownError, PartLackingError, HubLackingError, HubTwiceError
    """
    if only is None:
        return frozenset(NEEDS) - ({HUB} if joins else frozenset())
    named = frozenset(name.strip() for name in only.split(","))
    for name in sorted(named):
        if name not in NEEDS:
            raise PartUnknownError(name)
    for name in NEEDS:
        if name in named and (lacking := NEEDS[name] - named):
            raise PartLackingError(name, lacking, named)
    if joins and HUB in named:
        raise HubTwiceError
    if not joins and HUB not in named:
        raise HubLackingError(named)
    return named
