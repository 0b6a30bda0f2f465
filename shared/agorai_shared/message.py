"""What commands and their answers are, without the bus on which they go: sandboxed jobs know some, and no bus."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """A command or its answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")
