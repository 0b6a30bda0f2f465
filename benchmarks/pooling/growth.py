"""Ten thousand contributions in one pool: what each action costs does not depend on how many there are.

They come by the hundred: all of one hundred are committed to and added, some of them challenged and answered, and
when the windows are over all are resolved and settled.
"""

from __future__ import annotations

import hashlib
import statistics
from collections import defaultdict
from typing import Any, Final

from agorai.devchain import TOKEN
from agorai_shared.bindings.data_pool import Added, Terms
from benchmarks.pooling.ledger import Ledger, Receipt

BLOCK: Final = 100
MARKS: Final = (100, 1_000, 5_000, 10_000)
"""The hundred that ends here is told of."""
_CHALLENGED: Final = 10
"""Of each hundred."""
_WINDOW_S: Final = 60
_SALT: Final = bytes(32)


def growth(ledger: Ledger, count: int) -> dict[str, dict[str, dict[str, float]]]:
    """Give gas and milliseconds of each action, medians of a hundred contributions (ten challenges), at `MARKS`."""
    pools = ledger.pools
    owner, contributor, checker = (ledger.member(10**6 * TOKEN) for _ in range(3))
    terms = Terms(
        document=b"d" * 32,
        test_commitment=b"t" * 32,
        deposit=TOKEN,
        reward=TOKEN // 10,
        bond=TOKEN,
        budget=10**5 * TOKEN,
        check_window=_WINDOW_S,
        answer_window=_WINDOW_S,
        reveal_window=_WINDOW_S,
        closes_at=ledger.now + 365 * 86_400,
        panel_size=3,
    )
    ledger.send(owner, pools.open(terms))
    pool = ledger.read(pools.counts())[0]
    found: dict[str, dict[str, dict[str, float]]] = {}
    for end in range(BLOCK, count + 1, BLOCK):
        taken: dict[str, list[Receipt]] = defaultdict(list)
        ids = []
        for number in range(end - BLOCK, end):
            digest = hashlib.sha256(f"samples {number}".encode()).digest()
            bound = ledger.read(pools.commitment_of(contributor, pool, 0, digest, _SALT))
            taken["commit"].append(ledger.send(contributor, pools.commit(bound)))
            taken["add"].append(ledger.send(contributor, pools.add(pool, 1, digest, b"", _SALT)))
            ids.append(taken["add"][-1].event(Added.ABI)[0]["id"])
        for id_ in ids[:_CHALLENGED]:
            digest = hashlib.sha256(f"challenge of {id_}".encode()).digest()
            round_ = ledger.read(pools.round_of(id_))
            bound = ledger.read(pools.commitment_of(checker, id_, round_, digest, _SALT))
            ledger.send(checker, pools.commit(bound))
            taken["challenge"].append(ledger.send(checker, pools.challenge(id_, 1, 0, digest, b"", _SALT)))
            ledger.send(owner, pools.answer(id_, True))
        ledger.move(_WINDOW_S + 1)
        for id_ in ids[:_CHALLENGED]:
            ledger.send(owner, pools.resolve(id_))
        for id_ in ids[_CHALLENGED:]:
            taken["settle"].append(ledger.send(owner, pools.settle(id_)))
        if end in MARKS:
            for action, receipts in taken.items():
                found.setdefault(action, {})[str(end)] = _medians(receipts)
    state: Any = ledger.read(pools.pool_of(pool))
    assert (state.open, state.accepted) == (0, count * (BLOCK - _CHALLENGED) // BLOCK)
    return found


def _medians(receipts: list[Receipt]) -> dict[str, float]:
    return {
        "gas": statistics.median(receipt.gas for receipt in receipts),
        "ms": round(1000 * statistics.median(receipt.seconds for receipt in receipts), 3),
    }
