"""How much a limiter lets pass, and how much it remembers."""

from __future__ import annotations

from agorai_shared.limiter import Limiter


def test_a_limiter_lets_a_burst_pass_then_its_rate() -> None:
    now = 0.0
    limiter = Limiter(2, 3, lambda: now)
    assert [limiter.take("a") for _ in range(5)] == [0, 0, 0, 0.5, 0.5]
    assert limiter.take("b") == 0
    now = 0.25
    assert limiter.take("a") == 0.25
    now = 0.5
    assert [limiter.take("a"), limiter.take("a")] == [0, 0.5]
    now = 100.0
    assert [limiter.take("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_a_limiter_keeps_no_more_than_it_let_pass_of_late() -> None:
    now = 0.0
    limiter = Limiter(1, 10, lambda: now)
    for number in range(10_000):
        now += 0.01
        limiter.take(str(number))
    assert len(limiter._full_at) < 1200
