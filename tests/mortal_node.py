"""`agorai up` that is killed at a named moment. Arguments: the moment, then those of `agorai up`.

A moment is `before` or `after` a method, as in `after Outbox.send of begin`: the last two words, if they are there,
say of which contract function the call is.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, Final

from agorai.cli import main
from agorai_reward.task_handlers import TaskProtocol
from agorai_shared.vault import Vault
from agorai_trainer.federated.computing import ComputedProtocol
from agorai_trainer.federated.owning import OwnedProtocol
from agorai_trainer.federated.providing import ProvidedProtocol
from agorai_trainer.federated.reading import TaskReader
from agorai_trainer.federated.sandboxed import FederatedSandbox
from agorai_vault.outbox import Outbox

_PARTS: Final[dict[str, type[Any]]] = {
    part.__name__: part
    for part in (
        *(ComputedProtocol, FederatedSandbox, Outbox, OwnedProtocol),
        *(ProvidedProtocol, TaskProtocol, TaskReader, Vault),
    )
}


def end_at(moment: str) -> None:
    """Have this process killed at a moment."""
    when, method, *of = moment.split()
    owner, name = method.split(".")
    original = getattr(_PARTS[owner], name)

    def is_of(arguments: tuple[Any, ...]) -> bool:
        return not of or any(getattr(one, "function", None) == of[-1] for one in arguments)

    async def mortal(*arguments: Any, **named: Any) -> Any:
        if when == "after":
            found = await original(*arguments, **named)
        if is_of(arguments):
            os.kill(os.getpid(), signal.SIGKILL)
        return found if when == "after" else await original(*arguments, **named)

    setattr(_PARTS[owner], name, mortal)


if __name__ == "__main__":
    end_at(sys.argv.pop(1))
    main()
