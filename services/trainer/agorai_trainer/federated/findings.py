"""What was found of a provider's data, as the sandbox tells it; it loads no reader of tables."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_TOLD: Final = 100
"""Faults that are told of one file."""
MOST_TEXT: Final = 500

Fault = Literal["unreadable", "absent", "type", "missing value", "range", "class", "rows", "schema"]


class Finding(BaseModel):
    """Something in the data that is not as the task or the schema says.

    An explanation may quote a value of the data: it is for those who have them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: Fault
    column: str | None = Field(max_length=1000)
    explanation: str = Field(max_length=MOST_TEXT)


class Checked(BaseModel):
    """What was found of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int = Field(ge=0)
    findings: tuple[Finding, ...] = Field(max_length=MOST_TOLD)
