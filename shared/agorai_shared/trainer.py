"""The trainer as the node's other services meet it: what it is asked, what it answers, and a client.

Commands go over the bus (`node.<address>.trainer.<verb>`); packages and data sets never do.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from agorai_shared.command import Commander
from agorai_shared.documents import CidText
from agorai_shared.package import Manifest

_ANSWER_S: Final = 10.0
"""How long an answer may take beyond what was asked for."""

JobId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
PackagePath = Annotated[str, Field(pattern=r"^/vault/(trades|cases)/[1-9][0-9]{0,18}/package$")]
"""Where the node's own vault streams a package's plaintext."""


class Message(BaseModel):
    """A command or its answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Failure(Message):
    """Why something failed, as the error's problem document has it."""

    code: str
    message: str
    remedy: str


class Evaluate(Message):
    """Evaluate the model of a package, and wait a while for the end; the same id is the same evaluation."""

    id: JobId
    source: PackagePath
    verification: CidText | None = None
    """A public CSV or Parquet file on which to evaluate the model besides the package's own test data."""
    timeout_s: float = Field(20.0, ge=0, le=25)


class Score(Message):
    """How a model did on data with known targets."""

    accuracy: float | None = Field(le=1, allow_inf_nan=False)
    """As a share, 1 being perfect, by ISC-MTI's formulas (1) for classes and (2) for numbers; None: not defined."""
    rows: int = Field(ge=1)


class Evaluation(Message):
    """What was found of a package; the trade and the promises in its manifest are for the asker to compare.

    A `Failure` stands where the model could not be evaluated. That of `test` is the package's fault. That of
    `verification` may be the data's, the model's (it predicts what is not finite) or, where its code is that of a
    limit (`memory_limit`, `cpu_limit`, `time_limit`), this node's own settings'.
    """

    package: Manifest
    test: Score | Failure
    verification: Score | Failure | None
    """None: not asked for."""


class EvaluationStatus(Message):
    """How far an evaluation is."""

    evaluation: Evaluation | None
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
            Of the code `package_malformed` if the seller's package is no package. Others say that this node cannot
            tell: vault, store or sandbox do not serve, or package or data are not there or too large for it;
            `retryable` says whether repeating may help.
        """
        while True:
            status = await self._commander.ask(
                "trainer", "evaluate", command, EvaluationStatus, command.timeout_s + _ANSWER_S
            )
            if status.evaluation is not None:
                return status.evaluation
