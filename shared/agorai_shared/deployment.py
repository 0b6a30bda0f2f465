"""Where the contracts of one marketplace stand: read from, and written to, one small JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from agorai_shared.errors import InputError
from agorai_shared.types import Address


class DeploymentError(InputError):
    """The deployment file is absent, malformed or speaks of another chain."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"The deployment file {path} cannot be used: {why}.",
            remedy="Name the file that the marketplace's founder published with AGORAI_DEPLOYMENT.",
        )


class Deployment(BaseModel):
    """Addresses of the marketplace's contracts on one chain."""

    model_config = ConfigDict(frozen=True)

    chain_id: int
    start_block: int
    contracts: dict[str, Address]

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
