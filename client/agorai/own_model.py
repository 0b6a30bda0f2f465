"""A party's own model, tried before its deposit is at stake ("Fair and autonomous sharing", III-B).

The other side chooses the data on which voters would judge it; "the validity of the data is confirmed by both".
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from agorai.client import Client
from agorai.trade_refusals import DataUnfitError, NotTradableError, PromiseNotKeptError
from agorai_shared.errors import AgoraiError, UnavailableError
from agorai_shared.trainer import Score

if TYPE_CHECKING:
    from agorai_trainer.estimators import Format
    from agorai_trainer.sandbox import Sandbox
    from agorai_trainer.tasks import ModelSchema


class OwnModel:
    """A model of the node's own, opened in this process and run in a sandbox.

    Parameters
    ----------
    sandbox
        Where it runs; None starts one for each run.
    """

    def __init__(self, client: Client, resource: int, sandbox: Sandbox | None) -> None:
        self._client, self.resource, self._sandbox = client, resource, sandbox

    async def check_promise(self, promised: int, chosen: bytes, test: bytes) -> Score:
        """See that it is as promised, by the rule of who judges it; gives its accuracy on the data chosen.

        Parameters
        ----------
        promised
            The accuracy, in 1/10,000.
        chosen
            The other side's CSV.
        test
            The own CSV of which rows go with the model: it must take them, how well it does says nothing.

        Raises
        ------
        DataUnfitError, PromiseNotKeptError
        NotTradableError, NotOpenableError
            If it is no model that this node can open.
        UnavailableError
            If the sandbox cannot be started, or the model's framework is not installed.
        """
        fmt, schema = await self._described()
        model = await self._client.content(self.resource)
        async with self._shut_in() as sandbox:
            for whose, data in (("its own test data", test), ("the data that the other side chose", chosen)):
                try:
                    score = await sandbox.evaluate(model, fmt, schema, data)
                except UnavailableError:
                    raise
                except AgoraiError as error:
                    raise DataUnfitError(self.resource, whose, error) from error
        if not score.reaches(promised):
            reached = "nothing that can be told" if score.accuracy is None else f"{score.accuracy:.2%}"
            raise PromiseNotKeptError(self.resource, reached, promised)
        return score

    async def check_degradable(self, data: bytes) -> None:
        """See that a model of low quality can be made of it, as a dispute in the paper's mode asks for (IV-D).

        Parameters
        ----------
        data
            A CSV of the model's columns and target, on which such a model errs more often than not.

        Raises
        ------
        UndegradableError
            If none can.
        InputError
            A leaf that says why the data do not fit the model.
        NotTradableError, NotOpenableError, UnavailableError
            As `check_promise`.
        """
        fmt, schema = await self._described()
        model = await self._client.content(self.resource)
        async with self._shut_in() as sandbox:
            await sandbox.degrade(
                model, fmt, schema, data, 0
            )  # thrown away: whoever is shown some gets others

    async def _described(self) -> tuple[Format, ModelSchema]:
        from agorai_trainer.estimators import Format  # noqa: PLC0415 - what other verbs do without
        from agorai_trainer.tasks import ModelSchema  # noqa: PLC0415

        metadata = (await self._client.listing(self.resource)).metadata
        if metadata is None:
            raise NotTradableError(self.resource, "its description cannot be read")
        try:
            return Format(metadata.format), ModelSchema(
                features=tuple(column.name for column in metadata.columns),
                target=metadata.target or "",
                classes=metadata.classes,
            )
        except ValueError as error:
            raise NotTradableError(self.resource, "its description is none of a model") from error

    @asynccontextmanager
    async def _shut_in(self) -> AsyncIterator[Sandbox]:
        from agorai_trainer.app import make_sandbox  # noqa: PLC0415 - as above

        if self._sandbox is not None:
            yield self._sandbox
            return
        async with make_sandbox() as sandbox:
            yield sandbox
