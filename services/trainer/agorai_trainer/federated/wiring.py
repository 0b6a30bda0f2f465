"""What of a trainer's service is about training tasks: three reconcilers, what wakes them, and commands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

from agorai_shared.abi.codec import as_int
from agorai_shared.bindings.training_task import Approved, Requested, Role, Updated
from agorai_shared.chain import BlockAbsentError, at_one_block
from agorai_shared.events import ChainEvent
from agorai_shared.reconciler import Reconciler, Scope
from agorai_shared.task_history import Line
from agorai_shared.trail import Trail
from agorai_shared.types import Address
from agorai_trainer.federated import decide
from agorai_trainer.federated.answering import TaskCommands
from agorai_trainer.federated.computing import ComputedProtocol
from agorai_trainer.federated.offers import Offers
from agorai_trainer.federated.on_ray import RayEngine
from agorai_trainer.federated.owning import OwnedProtocol
from agorai_trainer.federated.providing import ProvidedProtocol
from agorai_trainer.federated.reading import TaskReader
from agorai_trainer.federated.sandboxed import FederatedSandbox
from agorai_trainer.pooling.store import PoolStore
from agorai_trainer.sandbox import Sandbox

_OF_SUBTASK: Final = frozenset({"Requested", "Approved", "Accepted", "Declined", "Left", "Updated"})
"""Events after which there may be something to do for the model provider and, of this subtask, for its parties."""
_OF_TASK: Final = frozenset({"Opened", "Funded", "Begun"})
_OF_OWNER: Final = frozenset({"Updated", "Opened", "Funded"})
"""Of these, those that concern the model provider alone."""


class Parts:
    """In which subtasks an account has a part, as far as events tell; they may come in any order."""

    def __init__(self, account: Address) -> None:
        self._account = account
        self._has: dict[int, bool] = {}
        """By subtask that was seen being asked for: whether the account has a part in it, or may have."""

    def is_others(self, event: ChainEvent, subtask: int) -> bool:
        """Tell whether a subtask surely gives the account nothing to do: then nothing of it need be read."""
        if event.event == "Requested":
            self._has.setdefault(subtask, Requested.from_args(event.args).data_provider == self._account)
        elif event.event == "Approved":
            approved = Approved.from_args(event.args)
            # Who computed what it replaces may be this account.
            if approved.replaces or self._account in (approved.data_provider, approved.computer):
                self._has[subtask] = True
        return self._has.get(subtask) is False


@dataclass(frozen=True)
class Tasks:
    """A node's part in training tasks."""

    reader: TaskReader
    owned: Reconciler[decide.Owned, decide.OwnedStep]
    provided: Reconciler[decide.Provided, decide.ProvidedStep]
    computed: Reconciler[decide.Computed, decide.ComputedStep]
    commands: TaskCommands
    engine: RayEngine | None
    parts: Parts
    _adding: dict[int, tuple[int, ...]] = field(default_factory=dict, init=False)
    """By task: this account's subtasks that add; whoever computes does so from an event on that is seen here."""

    @property
    def reconcilers(self) -> tuple[Reconciler[Any, Any], ...]:
        """Those of the three parts."""
        return self.owned, self.provided, self.computed

    def tick(self, timestamp: int) -> None:
        """Tell the time of a final block."""
        for reconciler in self.reconcilers:
            reconciler.tick(timestamp)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look at all that is open."""
        async with (
            self.engine or nullcontext(),
            self.owned.running(),
            self.provided.running(),
            self.computed.running(),
        ):
            yield

    async def wake(self, event: ChainEvent) -> None:
        """Look at what an event concerns: the task, if it is this account's, and its own subtasks among those."""
        subtask: int | None = None
        if event.event in _OF_TASK:
            task = int(event.key)
        elif event.event in _OF_SUBTASK:
            task, subtask = as_int(event.args["task"]), int(event.key)
        else:
            return
        me, files = self.reader.me, self.reader.files
        owns = (await files.opened(task)).model_provider == me
        if owns:
            self.owned.wake(task, least=event.block_number)
        if event.event == "Updated":
            await self._delivered(event, owns=owns)
        if event.event in _OF_OWNER or (subtask is not None and self.parts.is_others(event, subtask)):
            return
        with at_one_block(least=event.block_number):
            lines = (await files.history(task)).subtasks
            final = (await files.market.chain.final()).number
        if final < event.block_number:  # then the event comes again
            raise BlockAbsentError(event.block_number)
        self._adding[task] = self._added_by_me(lines)
        concerned = lines if subtask is None else (subtask, lines[subtask].replaces)
        for line in [lines[id_] for id_ in concerned if id_ in lines]:
            if line.data_provider == me:
                self.provided.wake(line.id, least=event.block_number)
            if line.computer == me:
                self.computed.wake(line.id, least=event.block_number)

    async def _delivered(self, event: ChainEvent, *, owns: bool) -> None:
        """Look at this account's own adding of what was delivered, if it adds, and read that ahead."""
        updated = Updated.from_args(event.args)
        if updated.task not in self._adding:
            lines = (await self.reader.files.history(updated.task)).subtasks
            self._adding.setdefault(updated.task, self._added_by_me(lines))
        adding = self._adding[updated.task]
        for subtask in adding:
            self.computed.wake(subtask, least=event.block_number)
        with at_one_block(least=event.block_number):
            if owns:
                await self.reader.ahead(updated)
            elif adding:
                await self.reader.term_ahead(updated)

    def _added_by_me(self, lines: Mapping[int, Line]) -> tuple[int, ...]:
        mine = self.reader.me
        return tuple(line.id for line in lines.values() if line.role == Role.ADDER and line.computer == mine)


def make(
    reader: TaskReader,
    kept: PoolStore,
    sandbox: Sandbox,
    ray: str | None,
    trail: Trail,
    most: int,
) -> Tasks:
    """Make a node's part in training tasks; `most` bytes of a data set are taken into memory.

    Raises
    ------
    ExtraMissingError
        If it is to train on the cluster `ray`, without the extra.
    """
    engine = RayEngine(ray, sandbox.limits) if ray else None
    offers, isolated = Offers(reader.files), FederatedSandbox(sandbox, engine)
    deployment = reader.files.market.deployment
    scope = Scope(deployment.chain_id, "TrainingTask", deployment.training_task)
    return Tasks(
        reader,
        Reconciler(OwnedProtocol(reader, offers, isolated), scope, trail, clock=reader.now),
        Reconciler(ProvidedProtocol(reader, offers, isolated, most), scope, trail, clock=reader.now),
        Reconciler(ComputedProtocol(reader, offers, isolated, most), scope, trail, clock=reader.now),
        TaskCommands(reader, kept, isolated),
        engine,
        Parts(reader.me),
    )
