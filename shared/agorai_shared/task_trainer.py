"""What a node's trainer does for training tasks besides its part in them, as the node's other services meet it.

Commands go over the bus (`node.<address>.trainer.<verb>`); data and parameters never do. What is long waits a while
for its end and is asked for again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final
from uuid import uuid4

from pydantic import Field, JsonValue

from agorai_shared.documents import CidText
from agorai_shared.federated import ContributionRule, HomomorphicKey, Mode, Privacy
from agorai_shared.lasting import Lasting, ended
from agorai_shared.message import Message
from agorai_shared.pool import Sha256

if TYPE_CHECKING:
    from agorai_shared.command import Commander  # and with it the bus, which a sandboxed job does without

MOST_COALITIONS: Final = 1 << 10
"""Of one command."""

Id = Annotated[int, Field(gt=0, lt=2**64)]
Coalition = Annotated[tuple[Id, ...], Field(max_length=1_000)]
"""Subtasks, in order."""


class KeepTaskTest(Message):
    """See that a task can be trained, keep its hidden test set, and bind to it."""

    model: dict[str, JsonValue]
    strategy: dict[str, JsonValue]
    test: CidText
    """A CSV or Parquet file with the task's columns, sealed by this node's vault."""
    mode: Mode
    privacy: Privacy | None = None
    contribution: ContributionRule = ContributionRule()
    key: str
    """The task's public key."""


class KeptTaskTest(Message):
    """The test set is kept."""

    commitment: Sha256
    """As `testCommitmentOf` of its digest and a salt that nobody else knows."""
    samples: int
    parameters: int
    """Of the model."""
    homomorphic: HomomorphicKey | None
    """A fresh one, where the mode needs one."""


class ReplayRound(Lasting):
    """Aggregate a round again."""

    task: Id
    round: int = Field(gt=0, lt=1 << 16)


class Replayed(Message):
    """What aggregating a round again came to."""

    same: bool
    """Whether the global model behind it is what its updates make of the one before."""


class ReplayStatus(Message):
    """How far that is."""

    replayed: Replayed | None
    """None: not at its end."""


class WorthsOf(Lasting):
    """Count what coalitions of a round's updates are worth."""

    task: Id
    round: int = Field(gt=0, lt=1 << 16)
    coalitions: tuple[Coalition, ...] = Field(min_length=1, max_length=MOST_COALITIONS)


class Worths(Message):
    """Test samples that are foretold rightly by the model that the round began with and each coalition's updates."""

    before: int
    """By the model that the round began with alone."""
    right: tuple[int, ...]


class WorthsStatus(Message):
    """How far that is."""

    worths: Worths | None
    """None: not at its end."""


class RevealTest(Message):
    """Give the hidden test set of a task of this account's away, which is to be put on the chain."""

    task: Id


class RevealedTest(Message):
    """The test set is in this node's store, in the clear."""

    test: CidText
    digest: Sha256
    salt: Sha256


class TaskTrainer:
    """Asks one node's trainer about training tasks."""

    def __init__(self, commander: Commander) -> None:
        self._commander = commander

    async def keep_test(self, asked: KeepTaskTest) -> KeptTaskTest:
        """Have a hidden test set kept.

        Raises
        ------
        RemoteError
            If the task cannot be trained as it is described, or the test set is not of its columns.
        """
        return await self._commander.ask("trainer", "keep_task_test", asked, KeptTaskTest, 120)

    async def replay(self, task: int, number: int) -> bool:
        """Say whether a round's global model is what its updates make of the one before.

        Raises
        ------
        RemoteError
            If something of it cannot be had, or is sealed to others.
        """
        asked = ReplayRound(id=uuid4().hex, task=task, round=number)
        replayed = await ended(
            self._commander, "trainer", "replay_round", asked, ReplayStatus, lambda status: status.replayed
        )
        return replayed.same

    async def worths(self, task: int, number: int, coalitions: Sequence[Sequence[int]]) -> list[int]:
        """Give the worth of coalitions of updates in test samples, which may be below 0; raises as `replay`."""
        found: list[int] = []
        for start in range(0, len(coalitions), MOST_COALITIONS):
            some = tuple(tuple(sorted(one)) for one in coalitions[start : start + MOST_COALITIONS])
            asked = WorthsOf(id=uuid4().hex, task=task, round=number, coalitions=some)
            said = await ended(
                self._commander, "trainer", "task_worths", asked, WorthsStatus, lambda status: status.worths
            )
            before = said.before
            found += [right - before for right in said.right]
        return found

    async def reveal_test(self, task: int) -> RevealedTest:
        """Have the test set of a task of this account's put into the store, in the clear."""
        return await self._commander.ask(
            "trainer", "reveal_task_test", RevealTest(task=task), RevealedTest, 60
        )
