"""What can be wrong with a federated task's seeds.

InputError
└── SeedRefusedError         a seed of another length
"""

from __future__ import annotations

from agorai_shared.errors import InputError


class SeedRefusedError(InputError):
    """A seed of another length."""

    def __init__(self, given: int, wanted: int) -> None:
        super().__init__(
            f"The seed of the noise has {given} bytes.",
            remedy=f"Give {wanted} fresh random bytes, another seed for each update.",
        )
