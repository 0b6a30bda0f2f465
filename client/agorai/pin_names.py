"""How pins may be called, and which are the node's own."""

from __future__ import annotations

from agorai_shared.content import NODE_PIN
from agorai_shared.errors import InputError, RefusedError
from agorai_shared.types import Cid


class PinNameError(InputError):
    """A name that only the node's own pins have."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The pin cannot be called {name!r}: names that begin with {NODE_PIN!r} are the node's own.",
            remedy="Give another name: --name.",
        )


class NodePinError(RefusedError):
    """A pin that the node needs."""

    def __init__(self, cid: Cid, name: str) -> None:
        super().__init__(
            f"{cid} is the node's own ({name}), and others may come for it.",
            remedy="Leave it pinned; if it is certainly needed no longer, give --force.",
        )


def check_name(name: str) -> str:
    """Give a name back that a user may give to a pin.

    Raises
    ------
    PinNameError
    """
    if name.startswith(NODE_PIN):
        raise PinNameError(name)
    return name
