"""The trainer as the node's other services meet it: what it is asked, what it answers, and a client.

Commands go over the bus (`node.<address>.trainer.<verb>`); packages and data sets never do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from agorai_shared.documents import CidText
from agorai_shared.lasting import Lasting, ended
from agorai_shared.message import Message
from agorai_shared.package import Accuracy, Manifest

if TYPE_CHECKING:
    from agorai_shared.command import Commander  # and with it the bus, which a sandboxed job does without

Commitment = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PackagePath = Annotated[
    str,
    Field(
        pattern=r"^/vault/(trades/[1-9][0-9]{0,18}/(package|own)|cases/[1-9][0-9]{0,18}/(package|sets/[0-9]|data))$"
    ),
]
"""Where the node's own vault streams a package's plaintext: of a trade, the other side's `package` or the node's
`own`; of a case, the `package` in dispute or one of the `sets` of low quality that are shown instead, or the `data`
of a transfer."""


class Failure(Message):
    """Why something failed, as the error's problem document has it."""

    code: str
    message: str
    remedy: str


class PackageCommand(Lasting):
    """Do something with a package."""

    source: PackagePath


class Evaluate(PackageCommand):
    """Evaluate the model of a package."""

    verification: CidText | None = None
    """A public CSV or Parquet file on which to evaluate the model besides the package's own test data."""


class Score(Message):
    """How a model did on data with known targets."""

    accuracy: Accuracy | None
    """None: the predictions are too far off for a number to say."""
    rows: int = Field(ge=1)

    def reaches(self, promised: int) -> bool:
        """Say whether it is as promised, in 1/10,000, to the hundredth of a percent."""
        return self.accuracy is not None and round(self.accuracy * 10_000) >= promised


class Evaluation(Message):
    """What was found of a package; the trade and the promises in its manifest are for the asker to compare.

    A `Failure` stands where the model could not be evaluated. That of `test` is the package's fault. That of
    `verification` may be the data's, the model's (it predicts what is not finite) or, where its code is that of a
    limit (`memory_limit`, `cpu_limit`, `time_limit`), this node's own settings'.
    """

    package: Manifest
    commitment: Commitment | None = None
    """With which a resource that sells this very model is registered, if the package says what that takes."""
    test: Score | Failure
    verification: Score | Failure | None
    """None: not asked for."""


class EvaluationStatus(Message):
    """How far an evaluation is."""

    evaluation: Evaluation | None
    """None: not at its end."""


class Degrade(PackageCommand):
    """Make packages like one, with models of low quality.

    In a dispute "the seller provides multiple model parameters with accuracy less than 50% to the participated nodes"
    (Hao et al., "Fair and autonomous sharing", IV-D).
    """

    verification: CidText
    """The public CSV or Parquet file on which each model's accuracy is to be below 1/2."""
    count: int = Field(ge=1, le=10)


class Degraded(Message):
    """Packages of low quality: each its own draw, sealed by this node's vault."""

    sets: tuple[CidText, ...]


class DegradeStatus(Message):
    """How far the making of such packages is."""

    degraded: Degraded | None
    """None: not at its end."""


class Compare(PackageCommand):
    """Compare the data at `source` with what their schema says."""

    described: CidText
    """The schema, in the node's own store."""


class Comparison(Message):
    """How data are, against their schema.

    A `Failure` says why they could not be compared. It is the data's, unless its code is that of a limit
    (`memory_limit`, `cpu_limit`, `time_limit`): then it may be this node's own settings'.
    """

    differences: tuple[str, ...] | Failure
    """What is not as it says, a few at most; none: they are as it says."""


class CompareStatus(Message):
    """How far a comparison is."""

    comparison: Comparison | None
    """None: not at its end."""


class Trainer:
    """Asks one node's trainer."""

    def __init__(self, commander: Commander) -> None:
        self._commander = commander

    async def evaluate(self, command: Evaluate) -> Evaluation:
        """Have the model of a package evaluated in the trainer's sandbox, however long it takes.

        An evaluation changes nothing, so it can be asked for again at any time: after a restart of the trainer, or
        of whoever asks, it is made anew.

        Raises
        ------
        ServiceUnreachableError
            If no trainer answers; repeating may help.
        RemoteError
            Of the code `package_malformed` if the seller's package is no package, of `package_too_slow` if it did
            not come in time. Others say that this node cannot tell: vault, store or sandbox do not serve, or package
            or data are not there or too large for it; `retryable` says whether repeating may help.
        """
        return await ended(
            self._commander,
            "trainer",
            "evaluate",
            command,
            EvaluationStatus,
            lambda status: status.evaluation,
        )

    async def degrade(self, command: Degrade) -> Degraded:
        """Have `count` packages made that differ from the one at `source` in model and accuracy alone.

        Each manifest's accuracy is exactly what was measured on the verification data, below 1/2; on another machine
        a model of numbers may differ from it in the last bits. Asked again after its end, others are made; those that
        nobody heard of stay sealed in the store and do no harm.

        Raises
        ------
        ServiceUnreachableError
            If no trainer answers; repeating may help.
        RemoteError
            Of the code `undegradable` if no parameters of low quality can be made of the model, and as `evaluate`
            raises it. Other codes say what is wrong with the model or the data, or (`memory_limit`, `cpu_limit`,
            `time_limit`) that the sandbox's limits were in the way.
        """
        return await ended(
            self._commander, "trainer", "degrade", command, DegradeStatus, lambda status: status.degraded
        )

    async def compare(self, command: Compare) -> Comparison:
        """Have data compared with their schema in the trainer's sandbox, however long it takes.

        Raises
        ------
        ServiceUnreachableError
            If no trainer answers; repeating may help.
        RemoteError
            As `evaluate` raises it.
        """
        return await ended(
            self._commander, "trainer", "compare", command, CompareStatus, lambda status: status.comparison
        )
