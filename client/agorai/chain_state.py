"""The embedded chain's state file, which anvil writes in place: a copy that is whole is kept beside it."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agorai_shared import logging

log = logging.get(__name__)

COPY_EVERY_S = 20.0


def mend(state: Path) -> None:
    """See that the state file is whole, or absent: else take the copy's place of it."""
    if not state.exists() or is_whole(state):
        return
    if copy := whole(state):
        shutil.copyfile(copy, state)
        log.warning("chain.state_restored", file=str(state), reason="it was cut off in writing")
    else:
        state.rename(state.with_suffix(".damaged"))
        log.error("chain.state_lost", file=str(state), remedy="The embedded chain begins anew.")


def whole(state: Path) -> Path | None:
    """Give the state file, or the copy if only that is whole; None if neither is."""
    return next((one for one in (state, _copy(state)) if is_whole(one)), None)


@asynccontextmanager
async def copied(state: Path) -> AsyncIterator[None]:
    """Keep a whole copy, some seconds old, until left."""

    async def keep() -> None:
        while True:
            await asyncio.sleep(COPY_EVERY_S)
            await asyncio.to_thread(_keep, state)

    task = asyncio.create_task(keep(), name="chain-state")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(_keep, state)


def _keep(state: Path) -> None:
    """Copy the state, if it is whole, under the copy's name at once."""
    part = state.with_suffix(".part")
    try:
        shutil.copyfile(state, part)
        if is_whole(part):
            part.replace(_copy(state))
    except OSError as error:
        log.warning("chain.state_not_copied", reason=str(error))
    finally:
        part.unlink(missing_ok=True)


def _copy(state: Path) -> Path:
    return state.with_suffix(".copy.json")


def is_whole(state: Path) -> bool:
    """Say whether a state file was written to its end."""
    try:
        return isinstance(json.loads(state.read_bytes()), dict)
    except (OSError, ValueError):
        return False
