"""When a call of the panel's is made again."""

from __future__ import annotations

from agorai_shared.panel import AGAIN_S, once_more


def test_the_same_call_is_made_once_a_minute_while_a_case_stays_as_it_is() -> None:
    keys = [once_more("a state", now) for now in range(10 * AGAIN_S, 13 * AGAIN_S)]
    assert [keys.count(key) for key in dict.fromkeys(keys)] == [AGAIN_S] * 3
    assert once_more("another state", 10 * AGAIN_S) not in keys
