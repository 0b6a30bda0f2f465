"""The shell of a data provider's subtasks: it agrees where that pays, and hands its data to a computer, sealed."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from agorai_shared import cid, logging, vectors
from agorai_shared.bindings.training_task import Requested, Role, Subtask, SubtaskState, Task, TaskState
from agorai_shared.content import NODE_PIN
from agorai_shared.contract import Call
from agorai_shared.errors import RefusedError
from agorai_shared.federated import DataHandover, Specification
from agorai_shared.he_parameters import TRAINING
from agorai_shared.market import topic_of
from agorai_shared.reconciler import idempotency_key
from agorai_shared.task_history import Line, TaskHistory
from agorai_shared.types import Address, Digest, ResourceId
from agorai_shared.vault import SealEnvelope
from agorai_trainer.federated import decide
from agorai_trainer.federated.encryptable import fits
from agorai_trainer.federated.offers import Offers
from agorai_trainer.federated.reading import TaskReader
from agorai_trainer.federated.sandboxed import FederatedSandbox
from agorai_trainer.federated.sending import send_in_time

log = logging.get(__name__)

_SOON_S = 60
"""Before half of a round is over its data provider looks round for others."""
_SENT_S = 60
"""How long what was sent may take to be mined, besides twice as long as blocks take to be final."""
NEEDED_STATES = (SubtaskState.REQUESTED, SubtaskState.APPROVED, SubtaskState.READY, SubtaskState.LEFT)


class DataNotOwnedError(RefusedError):
    """A data set of this account's was not sealed by this node."""

    def __init__(self, resource: int) -> None:
        super().__init__(
            f"This node's vault does not hold the content of resource {resource}.",
            remedy="Offer it for training on the node that published it.",
        )


def _alike(history: TaskHistory, subtask: int) -> list[Line]:
    """Give a subtask with all that it replaces, and all that are to replace one of these."""
    found, last = {subtask}, history.subtasks[subtask]
    while last.replaces:
        last = history.subtasks[last.replaces]
        found.add(last.id)
    return [one for one in history.subtasks.values() if found & {one.id, one.replaces}]


def _asked_for(line: Line, offered: Specification) -> int | None:
    """Give the fee that this account asks for what a subtask is; None if it does not offer it."""
    if line.role == Role.ADDER:
        return None if offered.adding is None else int(offered.adding)
    return next((int(one.fee) for one in offered.data if one.resource == line.resource), None)


class ProvidedProtocol:
    """Providing data, for the reconciler; the key is the subtask's."""

    name = "trainer-provided"
    """In logs and metrics."""

    def __init__(
        self, reader: TaskReader, offers: Offers, sandbox: FederatedSandbox, max_content: int
    ) -> None:
        self._reader, self._files, self._vault = reader, reader.files, reader.vault
        self._offers, self._sandbox, self._most = offers, sandbox, max_content
        self._fits: dict[tuple[int, int], bool] = {}
        """By task and resource."""
        self._approved: dict[int, dict[Address, int]] = {}
        """By subtask, whom this node has asked, and when, in seconds since 1970."""

    async def read(self, key: int) -> decide.Provided:
        """Read the subtask and its task at final blocks, and who could compute."""
        task, subtask = await self._files.standing(key)
        provided = decide.Provided(task=task, subtask=subtask, since=await self._reader.since(key, subtask))
        if not await self._may_want(task, subtask):
            return provided
        line, mine = await self._line(subtask.task, key), await self._offers.of(self._reader.me)
        asks = _asked_for(line, mine) if mine else None
        lines = _alike(await self._files.history(subtask.task), key)
        known = {one.computer for one in lines if one.computer}
        asked = known | self._approved.get(key, {}).keys()
        return replace(
            provided,
            asking=await self._is_asking(key, known),
            asks=asks,
            fits=asks is not None and await self._is_fit(subtask.task, line),
            computers=await self._computers(subtask, line, mine, asked),
            replaced=await self._is_replaced(subtask.task, key),
        )

    async def _may_want(self, task: Task, subtask: Subtask) -> bool:
        """Tell whether a computer may be wanted: not while one is at it in time."""
        if task.state not in (TaskState.MATCHING, TaskState.RUNNING) or subtask.state not in NEEDED_STATES:
            return False
        if subtask.state != SubtaskState.READY:
            return True
        half = task.deadline - task.round_window // 2
        return task.state == TaskState.RUNNING and await self._reader.now() + _SOON_S >= half

    def next_step(self, state: decide.Provided, now: int) -> decide.ProvidedStep | None:
        """Decide."""
        return decide.next_provided_step(state, now)

    def due(self, state: decide.Provided, now: int) -> int | None:
        """Say when time alone brings a step."""
        return decide.provided_due(state, now)

    async def perform(self, key: int, step: decide.ProvidedStep, once: str) -> bool:
        """Take the step; data are sealed to one computer at a time."""
        subtask = await self._files.subtask(key)
        line, contract = await self._line(subtask.task, key), self._files.contract
        match step:
            case decide.Decline():
                call: Call[Any] = contract.decline(key)
                once = self._once(key, "decline")
            case decide.Approve(computer):
                task = await self._files.task(subtask.task)
                data = await self._handed_over(
                    subtask.task, line, key, computer, task.round if line.replaces else 0
                )
                call = contract.approve(key, computer.account, computer.wage, data)
                once = self._once(key, "approve", line.approvals)
            case decide.Replace(computer):
                # The new subtask's number is not known yet: what is handed over is bound to the old one's.
                number = (await self._files.task(subtask.task)).round
                data = await self._handed_over(subtask.task, line, key, computer, number)
                call = contract.replace(key, computer.account, computer.wage, data)
                replacements = (await self._files.history(subtask.task)).subtasks.values()
                count = sum(one.replaces == key for one in replacements)
                once = self._once(key, "replace", count)
        await send_in_time(self._vault, once, call)
        if not isinstance(step, decide.Decline):
            self._approved.setdefault(key, {})[step.computer.account] = await self._reader.now()
        return False

    async def open_items(self) -> Iterable[int]:
        """Find the subtasks on this account's data that have not ended."""
        events = await self._files.market.events(
            self._files.contract.address, Requested, None, None, topic_of(self._reader.me)
        )
        found: set[int] = set()
        for event in {event.task: event for event, _ in events}.values():
            if (await self._files.task(event.task)).state in (TaskState.MATCHING, TaskState.RUNNING):
                lines = (await self._files.history(event.task)).subtasks.values()
                found |= {line.id for line in lines if line.data_provider == self._reader.me}
        return sorted(found)

    # ------------------------------------------------------------------------------------------------- data

    async def _line(self, task: int, subtask: int) -> Line:
        return (await self._files.history(task)).subtasks[subtask]

    async def _computers(
        self, subtask: Subtask, line: Line, mine: Specification | None, asked: set[Address]
    ) -> tuple[decide.Computer, ...]:
        """Give who could compute; this account, if it offers that below the fee, for so its data go nowhere.

        Never the model provider where samples are encrypted: it has the key, and would read them.
        """
        me = self._reader.me
        if line.role == Role.ADDER:
            return (decide.Computer(me, 0),)
        if mine and mine.computing and me not in asked and int(mine.computing.wage) < subtask.fee:
            return (decide.Computer(me, int(mine.computing.wage)),)  # of others nothing need be read
        without = {*asked, me}
        if (await self._files.document(subtask.task)).mode == "encrypted":
            without.add((await self._files.opened(subtask.task)).model_provider)
        return await self._offers.computing(without)

    async def _is_asking(self, key: int, known: Collection[Address]) -> bool:
        """Tell whether somebody was asked whom the chain does not tell of yet, though it may still come to that."""
        since = [at for account, at in self._approved.get(key, {}).items() if account not in known]
        if not since:
            return False
        lag = await self._files.market.chain.finality_lag()
        return await self._reader.now() < max(since) + _SENT_S + 2 * lag

    async def _is_replaced(self, task: int, key: int) -> bool:
        lines = (await self._files.history(task)).subtasks.values()
        replacing = await self._files.subtasks([line.id for line in lines if line.replaces == key])
        return any(one.state in (SubtaskState.REQUESTED, SubtaskState.APPROVED) for one in replacing)

    async def _is_fit(self, task: int, line: Line) -> bool:
        key = task, line.resource
        if key not in self._fits:
            sound = await self._reader.leaves_time(task) and await self._reader.is_key_sound(task)
            self._fits[key] = sound and (
                line.role == Role.ADDER or await self._are_data_fit(task, line.resource)
            )
        return self._fits[key]

    async def _are_data_fit(self, task: int, resource: int) -> bool:
        described = await self._reader.described(task)
        least = described.document.wanted.least_rows
        most = TRAINING.most_value if described.is_encrypted else None
        data = await self._data(resource)
        checked = await self._sandbox.check_data(described.model, data, least, most=most)
        for one in checked.findings:
            log.warning(
                "subtask.data_unfit", task=task, resource=resource, fault=one.fault, column=one.column
            )
        if checked.findings or not described.is_encrypted:
            return not checked.findings
        rounds = (await self._files.opened(task)).terms.rounds
        if not fits(described.model, checked.rows, rounds):
            log.warning(
                "task.rows_do_not_suit", task=task, resource=resource, rows=checked.rows, rounds=rounds
            )
            return False
        return True

    async def _data(self, resource: int) -> bytes:
        commitment = (await self._files.market.resource(ResourceId(resource))).commitment
        sealed = await self._vault.content(commitment)
        if sealed is None:
            raise DataNotOwnedError(resource)
        return await self._vault.own(sealed, self._most)

    async def _handed_over(
        self, task: int, line: Line, subtask: int, computer: decide.Computer, round_: int
    ) -> Digest:
        """Seal the data to a computer, and in a round the model as well; gives the digest of what says where.

        What this account computes itself needs no such document.
        """
        if computer.account == self._reader.me:
            return Digest(bytes(32))
        binding, to = self._files.binding(task), (computer.account,)
        described, data = await self._reader.described(task), await self._data(line.resource)
        if described.is_encrypted:
            data = await self._sandbox.encrypt(described.model, await self._reader.public(task), data)
        model = None
        if round_:
            if described.is_encrypted:
                context, plain = (
                    binding.encrypted(round_ - 1),
                    await self._reader.encrypted_model(task, round_ - 1),
                )
            else:
                context = binding.model(round_ - 1)
                plain = vectors.to_bytes(await self._reader.model(task, round_ - 1))
            model = await self._vault.seal_envelope(plain, SealEnvelope(context=context, members=to))
        document = DataHandover(
            task=binding,
            subtask=subtask,
            resource=line.resource,
            data=await self._vault.seal_envelope(
                data, SealEnvelope(context=binding.data(subtask), members=to)
            ),
            round=round_,
            model=model,
        )
        what = f"{NODE_PIN}handover of subtask {subtask} to {computer.account}"
        return cid.digest_of(await self._files.market.store.put(document.to_bytes(), name=what))

    def _once(self, subtask: int, *what: object) -> str:
        deployment = self._files.market.deployment
        return idempotency_key(deployment.chain_id, deployment.training_task, "subtask", subtask, *what)
