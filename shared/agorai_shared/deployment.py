"""Where the contracts of one marketplace stand: read from, and written to, one small JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from agorai_shared.account import Account
from agorai_shared.errors import InputError
from agorai_shared.types import Address

NEEDED: Final = frozenset(
    {
        "MarketToken",
        "Registry",
        "Invocation",
        "VotingPanel",
        "FairExchange",
        "DataPool",
        "OnlineLearner",
        "TrainingTask",
        "DataTransfer",
    }
)
"""Contracts that every marketplace has."""


class DeploymentError(InputError):
    """The deployment file is absent, malformed or speaks of another chain."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"The deployment file {path} cannot be used: {why}.",
            remedy="Name the file that the marketplace's founder published with AGORAI_DEPLOYMENT.",
        )


class PartialDeployment(BaseModel):
    """Addresses on one chain, as a file tells them; that of an older version has fewer."""

    model_config = ConfigDict(frozen=True)

    chain_id: int = Field(gt=0)
    start_block: int = Field(ge=0)
    contracts: dict[str, Account]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file.

        Raises
        ------
        DeploymentError
            If it is absent or not of this form.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise DeploymentError(path, error.strerror or str(error)) from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise DeploymentError(path, f"{where}: {first['msg']}") from error


class Deployment(PartialDeployment):
    """Addresses of all of the marketplace's contracts on one chain."""

    @field_validator("contracts")
    @classmethod
    def _complete(cls, contracts: dict[str, Address]) -> dict[str, Address]:
        if absent := sorted(NEEDED - contracts.keys()):
            raise ValueError(f"it lacks {', '.join(absent)}")
        return contracts

    @property
    def token(self) -> Address:
        """The ERC-20 token in which everything is paid."""
        return self.contracts["MarketToken"]

    @property
    def registry(self) -> Address:
        """The `Registry` of actors and resources."""
        return self.contracts["Registry"]

    @property
    def invocation(self) -> Address:
        """The `Invocation` contract."""
        return self.contracts["Invocation"]

    @property
    def voting_panel(self) -> Address:
        """The `VotingPanel` contract."""
        return self.contracts["VotingPanel"]

    @property
    def fair_exchange(self) -> Address:
        """The `FairExchange` contract."""
        return self.contracts["FairExchange"]

    @property
    def data_pool(self) -> Address:
        """The `DataPool` contract."""
        return self.contracts["DataPool"]

    @property
    def online_learner(self) -> Address:
        """The `OnlineLearner` contract."""
        return self.contracts["OnlineLearner"]

    @property
    def training_task(self) -> Address:
        """The `TrainingTask` contract."""
        return self.contracts["TrainingTask"]

    @property
    def data_transfer(self) -> Address:
        """The `DataTransfer` contract."""
        return self.contracts["DataTransfer"]
