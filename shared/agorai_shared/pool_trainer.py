"""What a node's trainer does for data pools, as the node's other services meet it.

Commands go over the bus (`node.<address>.trainer.<verb>`); samples never do. What is long waits a while for its end
and is asked for again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, TypeVar

from pydantic import Field

from agorai_shared.documents import CidText
from agorai_shared.lasting import Lasting, ended
from agorai_shared.message import Message
from agorai_shared.pool import MAX_SAMPLES, Reason, Row, Rule, Sha256

if TYPE_CHECKING:
    from agorai_shared.command import Commander  # and with it the bus, which a sandboxed job does without

MOST_TOLD: Final = 200
"""Suspicions that an answer tells of."""

Id = Annotated[int, Field(gt=0, lt=2**64)]


class CheckSamples(Lasting):
    """Find what is likely wrong with a contribution; `stake` or `rows` have the challenge prepared that says so."""

    contribution: Id
    stake: float | None = Field(None, gt=0)
    """What a challenge costs for each sample now, in the pool's deposits: prepare one by policy."""
    rows: tuple[Row, ...] = Field((), max_length=MAX_SAMPLES)
    """Prepare one of these rows, which are suspected: a person's choice."""
    final: bool = False
    """A file that nobody serves is not waited for any longer: its samples are all wrong."""


class Found(Message):
    """One suspicion: `pooling.checking.Suspicion`."""

    row: int
    reason: Reason
    explanation: str
    confidence: float
    label: str | None = None
    correction: str | None = None
    """What to give in its place, a line of CSV."""


class NotApplied(Message):
    """A reason for which nothing was suspected, or nothing of some classes: `pooling.checking.not_applied`."""

    reason: Reason
    why: str


class Proposal(Message):
    """A challenge that is prepared: its document is in this node's own store."""

    digest: Sha256
    count: int
    corrected: int
    document: str = ""
    """Itself, if it goes on the chain; it has at most `INLINE` bytes."""


class Checked(Message):
    """What was found of a contribution."""

    samples: int
    """That are left of it."""
    suspected: int
    suspicions: tuple[Found, ...]
    """The surest, at most `MOST_TOLD`."""
    not_applied: tuple[NotApplied, ...] = ()
    """Since too little is known."""
    proposal: Proposal | None
    """None: not asked for, or nothing to stake on."""


class CheckStatus(Message):
    """How far a check is."""

    checked: Checked | None
    """None: not at its end."""


class JudgeChallenge(Lasting):
    """Say whether the latest challenge of a contribution is right."""

    contribution: Id
    final: bool = False
    """What nobody serves is not waited for any longer, and counts against who should."""


class Judged(Message):
    """Whether it is, and why, for a person."""

    right: bool
    explanation: str


class JudgeStatus(Message):
    """How far a judgement is."""

    judged: Judged | None
    """None: not at its end."""


class KeepTest(Message):
    """Keep the hidden test set of a pool that is about to be opened, and bind to it."""

    document: CidText
    """The pool's, in this node's own store."""
    test: CidText
    """A file of samples, sealed by this node's vault."""


class KeptTest(Message):
    """The test set is kept."""

    commitment: Sha256
    """As `testCommitmentOf` of its digest and a salt that nobody else knows."""
    samples: int


class TrainVersion(Message):
    """Publish a version on top of the newest one, besides those that this node publishes by itself."""

    pool: Id
    rule: Rule | None = None
    """Another way to train than the pool's."""


class VersionWanted(Message):
    """It will be published."""

    pool: int


class RebuildVersion(Lasting):
    """Make a version's model again from its record alone, and compare."""

    version: Id


class Rebuilt(Message):
    """What came out."""

    same: bool
    """The model, bit for bit."""
    why: str = ""
    """What differs, be it only the accuracy: then nobody should believe what was published."""
    notes: tuple[str, ...] = ()
    """What is no fault and worth knowing."""
    model: CidText
    """That was published."""
    found: CidText | None
    """That came out; none: it did not come to that."""
    samples: int
    accuracy: float | None
    """That was published."""
    measured: float | None
    """On the test set, once that is revealed."""
    seconds: float


class RebuildStatus(Message):
    """How far a rebuilding is."""

    rebuilt: Rebuilt | None
    """None: not at its end."""


AnswerT = TypeVar("AnswerT", bound=Message)


class PoolTrainer:
    """Asks one node's trainer."""

    def __init__(self, commander: Commander) -> None:
        self._commander = commander

    async def check(self, command: CheckSamples) -> Checked:
        """Have a contribution checked in the trainer's sandbox.

        Raises
        ------
        ServiceUnreachableError
            If no trainer answers; repeating may help.
        RemoteError
            Of the code `file_absent` if it cannot be had now; `row_not_suspected` if a row asked for is not; others
            as the sandbox and the store raise them.
        """
        return await ended(
            self._commander, "trainer", "check_samples", command, CheckStatus, lambda status: status.checked
        )

    async def judge(self, command: JudgeChallenge) -> Judged:
        """Have the latest challenge of a contribution judged; raises as `check`."""
        return await ended(
            self._commander, "trainer", "judge_challenge", command, JudgeStatus, lambda status: status.judged
        )

    async def rebuild(self, command: RebuildVersion) -> Rebuilt:
        """Have a version made again; raises as `check`."""
        return await ended(
            self._commander,
            "trainer",
            "rebuild_version",
            command,
            RebuildStatus,
            lambda status: status.rebuilt,
        )

    async def keep_test(self, command: KeepTest) -> KeptTest:
        """Have a hidden test set kept for a pool, before it is opened.

        Raises
        ------
        RemoteError
            If document or test set cannot be read, or the pool could not be trained by its rule.
        """
        return await self._commander.ask("trainer", "keep_test", command, KeptTest, 60.0)

    async def train(self, command: TrainVersion) -> VersionWanted:
        """Have a version published as soon as it is trained."""
        return await self._commander.ask("trainer", "train_version", command, VersionWanted, 30.0)
