"""Six days of one pool on the chain: contributors add, check each other, and win or lose by it; the owner retrains.

Three rounds a day. A malicious contributor adds in one of them each day, an honest one each second day. Then the
honest ones check all that was added, by the rules of `agorai_trainer.pooling`, and stake on what is wrong; the owner
answers by the same rules.
What is left of a challenged contribution is checked again until nothing more is found, and so are corrected samples.
All windows elapse, and what is left is accepted and learnt.

Who loses by an answer would contest it if its own judgement were another. It never is: all judge by one pure function
of the same bytes, and only the owner, who does not challenge here, has the test set.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Final

from agorai.devchain import TOKEN
from agorai_shared.bindings.data_pool import Added, Outcome, Resolved, Terms
from agorai_shared.pool import Batch, Challenge, Samples, read_samples, write_samples
from agorai_trainer.pooling.checking import check
from agorai_trainer.pooling.judging import judge
from agorai_trainer.pooling.learning import accuracy, learn
from agorai_trainer.pooling.staking import Policy, challenge_of, stake
from benchmarks.pooling.cases import Case
from benchmarks.pooling.contributors import Contributor, Fault, Source, choose, spoiled
from benchmarks.pooling.ledger import Ledger

DAYS: Final = 6
ROUNDS: Final = 3
"""A day."""
PAUSE: Final = 2 * ROUNDS
"""Rounds from one contribution of an honest contributor to its next one."""
CONTRIBUTORS: Final = 10
START: Final = 100 * TOKEN
"""What each contributor has to begin with."""
DEPOSIT: Final = TOKEN
REWARD: Final = TOKEN // 10
_CHECK_S: Final = 3600
_ANSWER_S: Final = 900
_SALT: Final = bytes(32)


@dataclass
class Contribution:
    """Samples that were added together, and what they are compared with."""

    id: int
    by: Contributor
    batch: Batch
    known: tuple[Batch, ...]
    pending: tuple[Batch, ...]
    fault: Fault | None
    corrects: int = 0


@dataclass
class Told:
    """What came of one pool."""

    case: str
    share: float
    seed: int
    samples: list[int] = field(default_factory=list)
    """In the pool, at the beginning and after each round."""
    good: list[float] = field(default_factory=list)
    """Balance of an honest contributor, on average, as a share of what it began with; likewise."""
    malicious: list[float] = field(default_factory=list)
    with_mechanism: list[tuple[float, float]] = field(default_factory=list)
    """Accuracy after each accepted contribution, by day."""
    without_mechanism: list[float] = field(default_factory=list)
    """After each round, where nobody loses a deposit and all is learnt; likewise."""
    unchecked: float = 0.0
    """At the end, with all that was added in this pool, as little as malicious contributors could pay for."""
    clean: list[float] = field(default_factory=list)
    balances: dict[str, list[float]] = field(default_factory=lambda: {"honest": [], "malicious": []})
    """Of each contributor at the end, in the token."""
    earned: list[float] = field(default_factory=list)
    """By each honest contributor's challenges, in the token."""
    honest_samples: int = 0
    honest_lost: int = 0
    """Of these, good ones that were found wrong."""
    honest_wrong: int = 0
    """Those with a wrong label, as people's have, that were found wrong."""
    worst_lost: float = 0.0
    """Largest share of one honest contributor's samples that were good and found wrong."""
    honest_lost_for: Counter[str] = field(default_factory=Counter)
    """By the reason that was given."""
    challenges: Counter[str] = field(default_factory=Counter)
    """By outcome."""
    inadequate: Counter[str] = field(default_factory=Counter)
    """Samples by fault."""
    found: Counter[str] = field(default_factory=Counter)
    """Of these, those that were found wrong."""
    corrected: int = 0
    """Samples that challengers gave in place of wrong ones."""
    corrected_lost: int = 0


class Trial:
    """One pool with its owner and its contributors."""

    def __init__(self, ledger: Ledger, case: Case, share: float, seed: int, days: int = DAYS) -> None:
        self._ledger, self._case, self._days = ledger, case, days
        self._random = Random(f"{case.name} {share} {seed}")
        self._elsewhere = Random(f"{case.name} {share} {seed} without the mechanism")
        self._source = Source(case, self._random)
        malicious = round(share * CONTRIBUTORS)
        self._contributors = [
            Contributor(ledger.member(START), number >= malicious, Random(f"{case.name} {seed} {number}"))
            for number in range(CONTRIBUTORS)
        ]
        self._random.shuffle(self._contributors)
        self._stock = {
            one.account: [self._source.draw(case.batch) for _ in range(0, days * ROUNDS, PAUSE)]
            for one in self._contributors
            if one.honest
        }
        self._owner = ledger.member(10**6 * TOKEN)
        self._began = ledger.now
        self._pool = self._opened()
        initial = Batch(0, case.initial)
        self._accepted = [initial]
        self._added: list[Contribution] = []
        self._unchecked: list[Samples] = []
        self._open: dict[int, Contribution] = {}
        self.told = Told(case.name, share, seed)

    def run(self) -> Told:
        """Let the days pass, then take all money out."""
        first = self._learnt([])
        self.told.with_mechanism.append((0.0, first))
        self.told.without_mechanism.append(first)
        self.told.clean.append(first)
        self._note()
        for number in range(self._days * ROUNDS):
            self._ledger.move(self._began + number * 86_400 // ROUNDS + 1 - self._ledger.now)
            for place, one in enumerate(self._contributors):
                pause = PAUSE if one.honest else ROUNDS
                turn, early = divmod(number - place % pause, pause)
                if turn >= 0 and not early:
                    self._add(one, turn)
            self._check()
            self._settle()
            everything = [one for one in self._added if not one.corrects]
            self.told.without_mechanism.append(self._learnt(self._unchecked))
            self.told.unchecked = self._learnt([one.batch.samples for one in everything])
            self.told.clean.append(self._learnt([one.batch.samples for one in everything if one.by.honest]))
            self._note()
        self._close()
        return self.told

    # ------------------------------------------------------------------------------------------------- pool

    def _opened(self) -> int:
        ledger, pools = self._ledger, self._ledger.pools
        digest = hashlib.sha256(write_samples(self._case.document, self._case.test)).digest()
        terms = Terms(
            document=hashlib.sha256(self._case.document.to_bytes()).digest(),
            test_commitment=ledger.read(pools.test_commitment_of(digest, _SALT)),
            deposit=DEPOSIT,
            reward=REWARD,
            bond=TOKEN,
            budget=10**5 * TOKEN,
            check_window=_CHECK_S,
            answer_window=_ANSWER_S,
            reveal_window=86_400,
            closes_at=ledger.now + self._days * 86_400,
            panel_size=3,
        )
        ledger.send(self._owner, pools.open(terms))
        return ledger.read(pools.counts())[0]

    def _close(self) -> None:
        ledger, pools = self._ledger, self._ledger.pools
        pool = ledger.read(pools.pool_of(self._pool))
        assert pool.open == 0, "a deposit is still at stake"
        assert pool.accepted == sum(len(batch.left) for batch in self._accepted[1:])
        for one in self._contributors:
            self._withdraw(one)
            found = ledger.read(ledger.token.balance_of(one.account)) / TOKEN
            self.told.balances["honest" if one.honest else "malicious"].append(round(found, 2))
            if one.honest:
                self.told.earned.append(round(one.earned / TOKEN, 2))
                self.told.worst_lost = max(self.told.worst_lost, one.lost / max(one.added, 1))

    def _note(self) -> None:
        self.told.samples.append(sum(len(batch.left) for batch in self._accepted))
        for honest, series in ((True, self.told.good), (False, self.told.malicious)):
            held = [self._balance(one) / START for one in self._contributors if one.honest is honest]
            if held:
                series.append(round(sum(held) / len(held), 4))

    def _balance(self, one: Contributor) -> int:
        """Give what a contributor has where nothing of it is at stake: wallet and credit."""
        ledger = self._ledger
        return ledger.read(ledger.token.balance_of(one.account)) + ledger.read(
            ledger.pools.credit_of(one.account)
        )

    # -------------------------------------------------------------------------------------------- adding

    def _add(self, one: Contributor, turn: int) -> None:
        self._withdraw(one)
        affords = self._ledger.read(self._ledger.token.balance_of(one.account)) // DEPOSIT
        fault = None
        if one.honest:
            samples = Samples(tuple(self._stock[one.account][turn][:affords]))
        else:
            fault = choose(one.random)
            public = [row for item in self._added if item.by is not one for row in item.batch.samples.rows]
            public = public or list(self._case.initial.rows)
            samples = spoiled(self._case, fault, self._source.draw(affords), public, one.random)
            more = self._elsewhere.choices(self._case.supply, k=max(START // DEPOSIT - len(samples), 0))
            self._unchecked.append(spoiled(self._case, fault, more, public, self._elsewhere))
        self._unchecked.append(samples)
        if not len(samples):
            return
        ledger, pools = self._ledger, self._ledger.pools
        data = write_samples(self._case.document, samples)
        digest = hashlib.sha256(data).digest()
        bound = ledger.read(pools.commitment_of(one.account, self._pool, 0, digest, _SALT))
        ledger.send(one.account, pools.commit(bound))
        receipt = ledger.send(one.account, pools.add(self._pool, len(samples), digest, b"", _SALT))
        (event,) = receipt.event(Added.ABI)
        # What others read is what was written.
        self._begin(event["id"], one, read_samples(self._case.document, data), fault)
        if fault is None:
            one.added += len(samples)
            self.told.honest_samples += len(samples)
        else:
            self.told.inadequate[fault.value] += len(samples)

    def _begin(
        self, number: int, by: Contributor, samples: Samples, fault: Fault | None, corrects: int = 0
    ) -> Contribution:
        pending = tuple(item.batch for item in self._open.values())
        made = Contribution(
            number, by, Batch(number, samples), tuple(self._accepted), pending, fault, corrects
        )
        self._added.append(made)
        self._open[number] = made
        return made

    def _withdraw(self, one: Contributor) -> None:
        if self._ledger.read(self._ledger.pools.credit_of(one.account)):
            self._ledger.send(one.account, self._ledger.pools.withdraw())

    # ------------------------------------------------------------------------------------------ checking

    def _check(self) -> None:
        """Have everything checked, and what was found answered and resolved, until nothing more is found."""
        fresh = list(self._open.values())
        while fresh:
            disputed = [pair for item in fresh if (pair := self._challenged(item)) is not None]
            upheld = [self._answered(item, challenge) for item, _, challenge in disputed]
            if disputed:
                self._ledger.move(_ANSWER_S + 1)
            fresh = []
            for (item, challenger, challenge), right in zip(disputed, upheld, strict=True):
                fresh += self._resolved(item, challenger, challenge, right=right)

    def _challenged(self, item: Contribution) -> tuple[Contribution, Contributor, Challenge] | None:
        """Have an honest contributor stake on what is wrong, if it finds anything and can pay for it."""
        ledger, pools, document = self._ledger, self._ledger.pools, self._case.document
        cost = ledger.read(pools.challenge_deposit_of(item.id))
        found = check(document, item.known, item.batch, pending=item.pending)
        wanted = frozenset(stake(found, Policy(stake=cost / DEPOSIT)))
        checkers = [one for one in self._contributors if one.honest and one is not item.by]
        self._random.shuffle(checkers)
        for one in checkers if wanted else ():
            self._withdraw(one)
            affords = ledger.read(ledger.token.balance_of(one.account)) // cost
            surest = list(dict.fromkeys(each.row for each in found if each.row in wanted))[:affords]
            if surest:
                challenge = challenge_of(document, item.batch, found, surest)
                self._send_challenge(item, one, challenge)
                return item, one, challenge
        return None

    def _send_challenge(self, item: Contribution, by: Contributor, challenge: Challenge) -> None:
        ledger, pools = self._ledger, self._ledger.pools
        data = challenge.to_bytes()
        digest = hashlib.sha256(data).digest()
        round_ = ledger.read(pools.round_of(item.id))
        bound = ledger.read(pools.commitment_of(by.account, item.id, round_, digest, _SALT))
        ledger.send(by.account, pools.commit(bound))
        corrected = len(self._corrected(challenge))
        ledger.send(by.account, pools.challenge(item.id, len(challenge.wrong), corrected, digest, b"", _SALT))

    def _corrected(self, challenge: Challenge) -> Samples:
        if not challenge.corrected:
            return Samples(())
        return read_samples(self._case.document, challenge.corrected.encode())

    def _answered(self, item: Contribution, challenge: Challenge) -> bool:
        verdict = judge(
            self._case.document, item.known, item.batch, challenge, pending=item.pending, test=self._case.test
        )
        self._ledger.send(self._owner, self._ledger.pools.answer(item.id, verdict.right))
        return verdict.right

    def _resolved(
        self, item: Contribution, challenger: Contributor, challenge: Challenge, *, right: bool
    ) -> Sequence[Contribution]:
        """Give what is to be checked after this: what is left, and what was corrected."""
        receipt = self._ledger.send(challenger.account, self._ledger.pools.resolve(item.id))
        (event,) = receipt.event(Resolved.ABI)
        outcome = Outcome(event["outcome"])
        assert (outcome is Outcome.UPHELD) == right
        self.told.challenges[outcome.name.lower()] += 1
        rows = [one.row for one in challenge.wrong]
        cost = len(rows) * DEPOSIT
        if not right:
            challenger.earned -= cost
            return []  # the owner has told its judgement, and all judge alike
        challenger.earned += cost // 2
        item.batch = replace(item.batch, out=item.batch.out | frozenset(rows))
        if item.corrects:
            self.told.corrected_lost += len(rows)
        elif item.fault is None:
            good = [
                one for one in challenge.wrong if item.batch.samples.rows[one.row][0] not in self._case.wrong
            ]
            item.by.lost += len(good)
            self.told.honest_lost += len(good)
            self.told.honest_wrong += len(rows) - len(good)
            self.told.honest_lost_for.update(one.reason for one in good)
        else:
            self.told.found[item.fault.value] += len(rows)
        if not event["deadline"]:
            del self._open[item.id]
            self._accept(item)
        fresh = [item] if item.id in self._open else []
        for added in receipt.event(Added.ABI):
            samples = self._corrected(challenge)
            self.told.corrected += len(samples)
            fresh.append(self._begin(added["id"], challenger, samples, None, item.id))
        return fresh

    def _settle(self) -> None:
        if not self._open:
            return
        self._ledger.move(_CHECK_S + 1)
        for item in list(self._open.values()):
            self._ledger.send(self._owner, self._ledger.pools.settle(item.id))
            del self._open[item.id]
            self._accept(item)

    def _accept(self, item: Contribution) -> None:
        if not item.batch.left:
            return
        self._accepted.append(item.batch)
        found = self._learnt([batch.samples.without(batch.out) for batch in self._accepted[1:]])
        day = (self._ledger.now - self._began) / 86_400
        self.told.with_mechanism.append((round(day, 3), found))

    def _learnt(self, batches: Sequence[Samples]) -> float:
        document = self._case.document
        model = learn(document, self._case.initial, batches)
        return round(accuracy(document, model, self._case.test), 4)


def told_of(told: Told) -> dict[str, Any]:
    """Give what is compared between shares and seeds."""
    malicious = told.balances["malicious"]
    return {
        "initial": told.clean[0],
        "with_mechanism": told.with_mechanism[-1][1],
        "without_mechanism": told.without_mechanism[-1],
        "unchecked": told.unchecked,
        "clean": told.clean[-1],
        "malicious_balance_left": sum(malicious) * TOKEN / (START * len(malicious)) if malicious else None,
        "checkers_profit": sum(told.balances["honest"]) * TOKEN / (START * len(told.balances["honest"])) - 1,
        "honest_loss": told.honest_lost / told.honest_samples,
        "worst_loss": told.worst_lost,
        "honest_wrong": told.honest_wrong / told.honest_samples,
    }
