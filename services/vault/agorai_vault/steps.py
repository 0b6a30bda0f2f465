"""Sending the one transaction of a protocol's step, or another where the same is wanted again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, Final

from agorai_shared.contract import Call
from agorai_shared.vault import TransactionRevertedError, TransactionState
from agorai_vault.outbox import Outbox

TRIES: Final = 5
"""Transactions for one step of an item; each but the last reverted though the step was still to be taken."""


async def send_step(outbox: Outbox, once: str, make: Callable[[], Awaitable[Call[Any]]]) -> str:
    """Send the step's call, unless it is on its way; gives the key under which it was sent.

    A try that reverted, or lost its nonce to another wallet, is final; the item was read after that and still
    wants the step, so another try can do it once.

    Raises
    ------
    TransactionRevertedError
        All tries reverted.
    """
    for number in range(TRIES):
        key = f"{once}/{number}"
        intent = outbox.find(key) or await outbox.send(key, await make())
        if intent.state != TransactionState.REVERTED:
            return key
    raise TransactionRevertedError(intent.label, intent.transaction, intent.reason or "")


async def send_again(outbox: Outbox, once: str, make: Callable[[], Awaitable[Call[Any]]]) -> None:
    """Send a call that one state of an item may want several times, unless it is on its way.

    So it is with the panel's: a draw may be another case's, or fail, and leave this one as it was. The contract must
    refuse what is not wanted, since the item may have been read just before the last one became final.
    """
    for key in (f"{once}/{number}" for number in count()):
        intent = outbox.find(key)
        if intent is None:
            await outbox.send(key, await make())
            return
        if intent.state not in (TransactionState.REVERTED, TransactionState.FINAL):
            return
