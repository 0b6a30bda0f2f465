"""The bits of Role. Written by contracts/tools/bindings.py: change the library."""

from __future__ import annotations

from enum import IntFlag


class Role(IntFlag):
    """What an actor does on the market: bits of `Registry`'s roles mask, to be combined.

    A role is what the actor says of itself. The bits above the last one named here are free for later
    roles.
    """

    DATA_PROVIDER = 1
    """Owns data sets and sells their use."""

    MODEL_PROVIDER = 2
    """Trains models, and sells their use."""

    COMPUTATION_PROVIDER = 4
    """Lends computation to the training of others."""

    MODEL_USER = 8
    """Buys the use of models and data sets."""

    VOTER = 16
    """Judges disputes."""
