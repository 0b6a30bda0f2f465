"""What a homomorphic key is made with: how safe it is, how much it holds, and how precise it is."""

from __future__ import annotations

import hashlib
import math
from functools import cached_property, lru_cache
from typing import Final, Literal, Self

from pydantic import Field, model_validator

from agorai_shared.documents import Document

MOST_MODULUS_BITS: Final = {1024: 27, 2048: 54, 4096: 109, 8192: 218, 16384: 438, 32768: 881}
"""By degree N the most bits that all primes may have together, for 128 bits of security against classical computers
with a ternary secret: Albrecht et al., "Homomorphic encryption security standard" (2018), table 1.
"""

STATISTICAL_BITS: Final = 64
DECRYPTIONS: Final = 1 << 20
"""How many ciphertexts of one key may be decrypted and shown."""

_ROUNDING: Final = 1 / 12
_SECRET_DENSITY: Final = 2 / 3
_REACH: Final = 9
"""The noise drawn stays below so many standard deviations: 53 bits give a normal variate no more than 8.6."""


class HeParameters(Document):
    """How a key encrypts, and what can be done with its ciphertexts; weak parameters are refused."""

    type: Literal["agorai/he-parameters/1"] = "agorai/he-parameters/1"
    degree: int
    """N: a ciphertext holds N/2 values."""
    modulus_bits: tuple[int, ...] = Field(min_length=2, max_length=32)
    """Sizes of the primes; the last is used to make and switch keys only."""
    scale_bits: int = Field(ge=20, le=120)
    """A value is held as a multiple of 2**-scale_bits."""
    most_value: int = Field(ge=1)
    """The most that a value to encrypt may be, of either sign."""
    most_terms: int = Field(ge=1)
    """How many vectors may be added."""
    multiplies: bool = False
    """Whether the public key brings what multiplying ciphertexts needs."""

    @model_validator(mode="after")
    def _safe_and_sound(self) -> Self:
        most_bits = MOST_MODULUS_BITS.get(self.degree)
        if most_bits is None:
            raise ValueError(f"the degree must be one of {', '.join(map(str, MOST_MODULUS_BITS))}")
        if sum(self.modulus_bits) > most_bits:
            why = f"{sum(self.modulus_bits)} bits of modulus at degree {self.degree} are less than 128-bit security"
            raise ValueError(f"{why}; it allows {most_bits}")
        room = sum(self.modulus_bits[:-1]) - self.scale_bits - 2
        if self.most_value * self.most_terms > 2**room:
            raise ValueError(
                f"sums can reach {self.most_value * self.most_terms}, and there is room for 2**{room}"
            )
        _primes(self.degree, self.modulus_bits)
        return self

    @property
    def slots(self) -> int:
        """Values in one ciphertext."""
        return self.degree // 2

    def ciphertext_size(self, length: int) -> int:
        """Give how many bytes the file of an encrypted vector of that length has at most."""
        header = 128
        return header + -(-length // self.slots) * 2 * (len(self.modulus_bits) - 1) * self.degree * 8

    @cached_property
    def primes(self) -> tuple[int, ...]:
        """Of the modulus, the last being the one for keys only."""
        return _primes(self.degree, self.modulus_bits)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the document."""
        return hashlib.sha256(self.to_bytes()).digest()

    @property
    def noise(self) -> float:
        """Standard deviation of what decryption adds.

        It is sqrt(12 t) 2**(s/2) times the length of the error vector, for s `STATISTICAL_BITS` and t `DECRYPTIONS`
        (Li, Micciancio, Schultz and Sorrell, CRYPTO 2022). A coefficient of a fresh ciphertext's error has the
        variance (1 + 2N/3)/12, from the rounding of both parts when the last prime is divided out, the secret being
        ternary; an adder may have taken one ciphertext `most_terms` times; and the real parts of N/2 slots are N/2
        times as long as a coefficient's deviation.
        """
        fresh = math.sqrt((1 + _SECRET_DENSITY * self.degree) * _ROUNDING)
        length = fresh * self.most_terms * self.slots * 2.0**-self.scale_bits
        return math.sqrt(12 * DECRYPTIONS) * 2 ** (STATISTICAL_BITS / 2) * length

    @property
    def error(self) -> float:
        """The most by which a decrypted sum differs from the sum of what was encrypted, each value."""
        return _REACH * self.noise


@lru_cache(maxsize=32)
def _primes(degree: int, modulus_bits: tuple[int, ...]) -> tuple[int, ...]:
    """Give the primes as SEAL chooses them (`CoeffModulus::Create`): for each size the largest that are 1 modulo 2N.

    Raises
    ------
    ValueError
        If there are not as many.
    """
    pools: dict[int, list[int]] = {}
    for bits in set(modulus_bits):
        if not 20 <= bits <= 60:
            raise ValueError(f"a prime has 20 to 60 bits, not {bits}")
        candidates = range(((1 << bits) - 1) // (2 * degree) * 2 * degree + 1, 1 << (bits - 1), -2 * degree)
        found = (number for number in candidates if _is_prime(number))
        pools[bits] = [prime for _, prime in zip(range(modulus_bits.count(bits)), found, strict=False)]
        if len(pools[bits]) < modulus_bits.count(bits):
            raise ValueError(f"there are too few primes of {bits} bits")
    return tuple(pools[bits].pop() for bits in modulus_bits)


def _is_prime(number: int) -> bool:
    """Test an odd number below 2**64: Miller and Rabin's test by the first twelve primes errs for none of these."""
    twos = ((number - 1) & -(number - 1)).bit_length() - 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37):
        power = pow(base, (number - 1) >> twos, number)
        if power in (1, number - 1):
            continue
        if not any((power := power * power % number) == number - 1 for _ in range(twos - 1)):
            return False
    return True


SUMS: Final = HeParameters(
    degree=8192, modulus_bits=(60, 60, 30), scale_bits=86, most_value=1 << 22, most_terms=1 << 10
)
"""For updates that are weighted by their samples and added: up to 1,024 of values up to 4,194,304, each value true to
0.0002; each takes 64 bytes.
"""
TRAINING: Final = HeParameters(
    degree=8192,
    modulus_bits=(41, 34, 34, 34, 34, 41),
    scale_bits=34,
    most_value=16,
    most_terms=1,
    multiplies=True,
)
"""To train on encrypted samples with: four multiplications deep; weights stay below 64."""
