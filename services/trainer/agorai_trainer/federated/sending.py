"""Sending a step of a task whose time may not have come yet on the chain, or may have passed meanwhile."""

from __future__ import annotations

from typing import Any, Final

from agorai_shared import logging
from agorai_shared.contract import Call
from agorai_shared.errors import RemoteError
from agorai_shared.vault import Vault, send_step

log = logging.get(__name__)

_NOT_NOW: Final = (
    "TrainingTask_Deadline", "TrainingTask_WrongTaskState", "TrainingTask_WrongState", "TrainingTask_WrongRound",
    "TrainingTask_AlreadyUpdated", "TrainingTask_Awaited", "TrainingTask_NoQuorum", "TrainingTask_WageChanged",
)  # fmt: skip
"""What the contract says where its clock is behind this node's, or another has acted since the last final block."""


async def send_in_time(vault: Vault, once: str, call: Call[Any]) -> None:
    """Send a call once; one that is too early or too late is let be, and the item looked at again.

    Raises
    ------
    RemoteError, TransactionRevertedError
        As `send_step`, for any other reason.
    """
    try:
        await send_step(vault, once, call)
    except RemoteError as error:
        if error.code != "contract_revert" or not any(name in error.message for name in _NOT_NOW):
            raise
        log.info("task.not_now", function=call.function, why=error.message)
