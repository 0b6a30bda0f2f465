"""How often something may be done, for each of many keys."""

from __future__ import annotations

import time
from collections.abc import Callable


class Limiter:
    """Lets `burst` pass at once, and `rate` a second after that (the generic cell rate algorithm).

    Of a key whose burst is whole again nothing is kept, so that what is kept is bounded by what was let pass.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = 1 / rate
        self._slack_s = (burst - 1) / rate
        self._clock = clock
        self._full_at: dict[str, float] = {}
        """When each key's burst will be whole again."""
        self._sweep_at = 1024

    def take(self, key: str) -> float:
        """Let one pass, and give 0; or give in how many seconds one would."""
        now = self._clock()
        full_at = max(now, self._full_at.get(key, now))
        if full_at - now > self._slack_s:
            return full_at - now - self._slack_s
        self._full_at[key] = full_at + self._interval_s
        if len(self._full_at) >= self._sweep_at:
            self._full_at = {name: at for name, at in self._full_at.items() if at > now}
            self._sweep_at = max(1024, 2 * len(self._full_at))
        return 0.0
