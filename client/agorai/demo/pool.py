"""The life of a pool by "Leveraging Centric Data Federated Learning Using Blockchain For Integrity Assurance".

Olga opens a data pool. Anna adds good samples; boris does too, but gives some a wrong label by mistake. Eve adds
samples with wrong labels on purpose, repeats anna's with a little noise, and calls good ones wrong. Carl checks for
what he earns by it, and corrects. Anna, boris and clara have staked to judge, and judge what eve contests. At the end
the newest version is rebuilt from its record, everyone takes what is due, and what each account has is held against
what the pool's rules say of it.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from sklearn.datasets import load_breast_cancer

from agorai.client import OnStage
from agorai.demo.exchange import VOTERS, Holding, Holdings, UnaccountedError, inspecting
from agorai.demo.town import Resident, Town, running
from agorai.devchain import TOKEN, TOKEN_SYMBOL
from agorai.pool_schema import derive
from agorai.pool_versions import Version
from agorai.pools import Pools, PoolTerms
from agorai.trading import Trading
from agorai.voting import Voting
from agorai_shared import unixfs
from agorai_shared.bindings.data_pool import Opened, Outcome, PoolState, Returned, State
from agorai_shared.pool import Challenge, PoolDocument, Rule, Wrong, read_initial
from agorai_shared.pool_history import PoolHistory
from agorai_shared.pool_trainer import Rebuilt
from agorai_shared.types import Address, Wei
from agorai_trainer.pooling.learning import accuracy, learn

DEPOSIT: Final = Wei(TOKEN)
REWARD: Final = Wei(TOKEN // 10)
BOND: Final = Wei(50 * TOKEN)
BUDGET: Final = Wei(50 * TOKEN)
CHECK_S: Final = 600
ANSWER_S: Final = 300
REVEAL_S: Final = 600
LIFE_S: Final = 86_400
LOOK_S: Final = 0.25
TARGET: Final = "kind"
RULE: Final = Rule(
    estimator="sklearn.SGDClassifier",
    hyperparameters={"loss": "log_loss", "alpha": 0.01},
    scaler="standard",
    mode="incremental",
)


# ------------------------------------------------------------------------------------------------- samples


def _table() -> tuple[list[str], list[list[str]]]:
    """Give the breast cancer data's columns and its samples, in an order of their own."""
    bunch: Any = load_breast_cancer()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    rows = [
        [*map(repr, bunch.data[row].tolist()), str(bunch.target_names[bunch.target[row]])] for row in order
    ]
    return [*map(str, bunch.feature_names), TARGET], rows


HEADER, TABLE = _table()
CLASSES: Final = ("malignant", "benign")


def written(rows: Iterable[Sequence[str]]) -> bytes:
    """Give samples as a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([HEADER, *rows])
    return text.getvalue().encode()


def mislabelled(rows: Sequence[Sequence[str]], every: int) -> list[list[str]]:
    """Give samples of which the first of each so many has the other class."""
    other = dict(zip(CLASSES, reversed(CLASSES), strict=True))
    return [[*row[:-1], other[row[-1]] if n % every == 0 else row[-1]] for n, row in enumerate(rows)]


def repeated(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Give the same samples once more, each number by about one percent different."""
    noise = np.random.default_rng(1).normal(1, 0.01, (len(rows), len(HEADER) - 1))
    return [
        [*(repr(float(cell) * by) for cell, by in zip(row[:-1], line.tolist(), strict=True)), row[-1]]
        for row, line in zip(rows, noise, strict=True)
    ]


INITIAL, TEST = TABLE[:250], TABLE[410:]
GOOD, MISTAKEN = TABLE[250:310], mislabelled(TABLE[310:370], every=12)
POISON, COPIES = mislabelled(TABLE[370:410], every=1), repeated(GOOD[:30])


# -------------------------------------------------------------------------------------------------- result


@dataclass(frozen=True, slots=True)
class Line:
    """What somebody did, and what it came to; amounts in the token's smallest unit."""

    contribution: int
    """0: the pool itself."""
    who: str
    did: str
    samples: int
    outcome: str
    laid_down: int
    paid_out: int


@dataclass(frozen=True, slots=True)
class Result:
    """What the demonstration showed."""

    token: str
    lines: list[Line]
    versions: list[Version]
    rebuilt: Rebuilt
    unchecked: float
    """Accuracy that the model would have if all that was added had been learnt."""
    holdings: list[Holding]
    supply: int
    contracts: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Give it for machines, with amounts in whole tokens."""
        amounts = {"laid_down", "paid_out"}
        return {
            "token": self.token,
            "contributions": [
                {name: value / TOKEN if name in amounts else value for name, value in asdict(line).items()}
                for line in self.lines
            ],
            "versions": [
                {
                    "version": one.version,
                    "predecessor": one.predecessor,
                    "samples": one.samples,
                    "accuracy": one.accuracy,
                }
                for one in self.versions
            ],
            "rebuilt": self.rebuilt.model_dump(include={"same", "why", "measured"}),
            "accuracy_unchecked": self.unchecked,
            "participants": [
                {name: value if name == "name" else value / TOKEN for name, value in asdict(one).items()}
                for one in self.holdings
            ],
            "supply": self.supply / TOKEN,
            "contracts": {name: amount / TOKEN for name, amount in self.contracts.items()},
        }


def ledger(
    opened: Opened, bonus: int, returned: int, history: PoolHistory, names: Mapping[Address, str]
) -> Iterator[Line]:
    """Give what each did in a pool that was closed, and what it gets for it by the pool's rules.

    Parameters
    ----------
    bonus
        Of the voters, for each case; there are as many as a panel has seats, and all have voted.
    returned
        What the owner got back with the last contribution.
    """
    terms = opened.terms
    staked, back = terms.bond + terms.budget, terms.bond + returned
    yield Line(0, names[opened.owner], "opened", len(INITIAL), "closed", staked, back)
    for id_, added in history.additions.items():
        left, won, failed = added.count, 0, 0
        lines = []
        for challenge, end in zip(
            history.challenges.get(id_, ()), history.resolved.get(id_, ()), strict=True
        ):
            deposits = challenge.count * terms.deposit
            stake = deposits << failed
            paid = 0
            if end.outcome == Outcome.FAILED:
                failed += 1
                won += stake // 2
            else:
                upheld = end.outcome == Outcome.UPHELD
                paid = stake + (deposits // 2 if upheld else 0)
                won += 0 if upheld else deposits
                left -= challenge.count
                failed = 0 if upheld else failed
            who = names[challenge.challenger]
            lines.append(Line(id_, who, "challenged", challenge.count, end.outcome.name.lower(), stake, paid))
        if (case := history.cases.get(id_)) is not None:
            if case.by in names:
                in_vain = (end.outcome == Outcome.UPHELD) == history.answers[id_].upheld
                outcome, paid = ("in vain", 0) if in_vain else ("rightly", bonus)
                lines.append(Line(id_, names[case.by], "contested", challenge.count, outcome, bonus, paid))
            share = bonus // terms.panel_size
            lines += [Line(id_, name, "judged", challenge.count, "voted", 0, share) for name in VOTERS]
        did = f"corrected {added.corrects}" if added.corrects else "added"
        laid_down, paid_out = added.count * terms.deposit, won + left * (terms.deposit + terms.reward)
        outcome = f"{left} accepted"
        yield Line(id_, names[added.contributor], did, added.count, outcome, laid_down, paid_out)
        yield from lines


def check(before: Holdings, after: Holdings, lines: Iterable[Line]) -> None:
    """See that every token is where the rules say.

    Raises
    ------
    UnaccountedError
        If the pool paid out other than was paid in, somebody has other than is due, or a contract holds other than
        the voters' stakes.
    """
    due = dict(before.accounts)
    balance = 0
    for line in lines:
        due[line.who] += line.paid_out - line.laid_down
        balance += line.laid_down - line.paid_out
    _same("the pool keeps", balance, 0)
    has = {name: amount + after.staked[name] for name, amount in after.accounts.items()}
    for name, amount in has.items():
        _same(f"{name} has", amount, due[name])
    for name, amount in after.contracts.items():
        _same(f"{name} holds", amount, sum(after.staked.values()) if name == "VotingPanel" else 0)
    _same("there are", sum(has.values()), after.supply)
    _same("there are", after.supply, before.supply)


def _same(what: str, has: int, due: int) -> None:
    if has != due:
        raise UnaccountedError(what, has, due)


# ---------------------------------------------------------------------------------------------- the pool


async def run(tell: OnStage, *, block_time_s: float | None = None) -> Result:
    """Run it on a marketplace of its own.

    Raises
    ------
    UnaccountedError
        If the marketplace does not do what it promises.
    """
    tell("starting bus, chain, hub and six nodes")
    residents = [
        *(Resident(name, 500) for name in ("olga", "carl", *VOTERS)),
        Resident("eve", 500, inspecting(None)),  # what she hears of herself does not matter to her
    ]
    async with running(residents, block_time_s=block_time_s) as town:
        return await Life(town, tell).lived()


class Life:
    """One pool from its opening to its end."""

    def __init__(self, town: Town, tell: OnStage) -> None:
        self._town, self._tell = town, tell
        self._names = {client.address: name for name, client in town.clients.items()}
        self._olga, self._anna, self._boris, self._eve, self._carl = (
            Pools(town.clients[name]) for name in ("olga", "anna", "boris", "eve", "carl")
        )
        self._pool = 0

    async def lived(self) -> Result:
        """Live it, and see that every token is accounted for."""
        clients = self._town.clients
        before = await self._holdings()
        self._tell(f"olga opens a pool with {len(INITIAL)} samples and a hidden test set of {len(TEST)}")
        await asyncio.gather(*(Voting(clients[name]).enlist(1) for name in VOTERS))
        self._pool = await self._opened()
        await self._olga.watch(self._pool, stake=False, off=True)  # she leaves checking to who earns by it
        await self._until(lambda: self._has_versions(1))
        await self._first_round()
        await self._second_round()
        await self._until(self._has_all)
        self._tell("olga closes the pool, and her node reveals the test set")
        await self._olga.stop(self._pool)
        await self._until(self._is_closed)
        versions = await self._carl.versions(self._pool)
        self._tell("carl's node rebuilds the newest version from its record")
        rebuilt = await self._carl.rebuild(versions[-1].version)
        unchecked = await asyncio.to_thread(_unchecked, await self._carl.files.document(self._pool))
        lines = await self._lines()
        self._tell("everyone takes what is due")
        for client in clients.values():
            await Trading(client).withdraw()
        after = await self._holdings()
        check(before, after, lines)
        holdings = [Holding(name, held, after.accounts[name], after.staked[name])
                    for name, held in before.accounts.items()]  # fmt: skip
        return Result(
            TOKEN_SYMBOL, lines, versions, rebuilt, unchecked, holdings, after.supply, after.contracts
        )

    async def _opened(self) -> int:
        initial = written(INITIAL)
        schema = derive(initial, TARGET)
        document = PoolDocument(
            name="Cells",
            columns=schema.columns,
            target=TARGET,
            initial_samples=unixfs.cid_of(initial),
            rule=RULE,
        )
        terms = PoolTerms(
            deposit=DEPOSIT,
            reward=REWARD,
            bond=BOND,
            budget=BUDGET,
            check_window=CHECK_S,
            answer_window=ANSWER_S,
            reveal_window=REVEAL_S,
            closes_at=await self._olga.now() + LIFE_S,
        )
        return await self._olga.open(document, initial, written(TEST), terms)

    async def _first_round(self) -> None:
        """Have anna's samples called wrong by eve, and accepted."""
        self._tell(f"anna adds {len(GOOD)} samples, and eve calls three of them wrong")
        good = (await self._anna.add(self._pool, written(GOOD))).contribution
        labels = [CLASSES[row[-1] == CLASSES[0]] for row in GOOD[:3]]
        lies = [Wrong(row=row, reason="label", label=label) for row, label in enumerate(labels)]
        await self._eve.challenge(await self._eve.propose(good, own=Challenge(wrong=tuple(lies))))
        await self._until(lambda: self._answered(good))
        await self._pass(ANSWER_S)
        await self._until(lambda: self._resolved(good))
        await self._pass(CHECK_S)
        await self._until(lambda: self._has_versions(2))

    async def _second_round(self) -> None:
        """Have carl find what boris and eve add wrongly, and eve contest in vain."""
        self._tell(f"boris and eve add {len(MISTAKEN) + len(POISON) + len(COPIES)} samples")
        await self._carl.watch(self._pool, stake=True)
        adding = ((self._boris, MISTAKEN), (self._eve, POISON), (self._eve, COPIES))
        added = [(await pools.add(self._pool, written(rows))).contribution for pools, rows in adding]
        self._tell("carl's node checks and challenges, and olga's answers")
        for one in added:
            await self._until(lambda one=one: self._answered(one))  # type: ignore[misc]
        await self._carl.watch(self._pool, stake=True, off=True)
        self._tell("eve contests before the voters")
        await self._eve.contest(added[-1])
        await self._until(lambda: self._resolved(added[-1]))
        self._tell("the time to contest, and to challenge what is left and what was corrected, goes by")
        await self._pass(ANSWER_S)
        for one in added:
            await self._until(lambda one=one: self._resolved(one))  # type: ignore[misc]
        await self._pass(CHECK_S)

    # ------------------------------------------------------------------------------------------ waiting

    async def _until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Wait for what the nodes do by themselves."""
        while not await holds():  # noqa: ASYNC110 - nothing announces it to who only looks on
            await asyncio.sleep(LOOK_S)

    async def _pass(self, seconds: int) -> None:
        """Let a time-out pass."""
        rpc = self._carl.client.chain.rpc
        await rpc.request("evm_increaseTime", seconds + 1)
        await rpc.request("evm_mine")

    async def _answered(self, contribution: int) -> bool:
        return (await self._carl.files.contribution(contribution)).state == State.ANSWERED

    async def _resolved(self, contribution: int) -> bool:
        return contribution in (await self._carl.files.history(self._pool)).resolved

    async def _has_versions(self, count: int) -> bool:
        return len((await self._carl.files.history(self._pool)).versions) >= count

    async def _has_all(self) -> bool:
        """Tell whether all contributions have ended, and the newest version has all that was accepted."""
        pool = (await self._carl.look(self._pool)).pool
        newest = (await self._carl.versions(self._pool))[-1]
        return not pool.open and newest.samples == len(INITIAL) + pool.accepted

    async def _is_closed(self) -> bool:
        return (await self._carl.look(self._pool)).pool.state == PoolState.CLOSED

    # ------------------------------------------------------------------------------------------ reading

    async def _lines(self) -> list[Line]:
        """Read off the chain what each did."""
        seen = await self._carl.look(self._pool)
        (returned,) = await self._carl.events(self._carl.contract.address, Returned, f"0x{self._pool:064x}")
        history = await self._carl.files.history(self._pool)
        return list(ledger(seen.opened, seen.pool.bonus, returned.amount, history, self._names))

    async def _holdings(self) -> Holdings:
        """Read at one block where the tokens are."""
        token, panel = self._carl.client.market.token, self._carl.panel
        deployment = self._carl.client.deployment
        contracts = {"DataPool": deployment.data_pool, "VotingPanel": deployment.voting_panel}
        held = [*self._names, *contracts.values()]
        supply, config, *found = await self._carl.read(
            token.total_supply(),
            panel.config(),
            *(token.balance_of(account) for account in held),
            *(panel.voter_of(account) for account in self._names),
        )
        balances, voters = dict(zip(held, found[: len(held)], strict=True)), found[len(held) :]
        return Holdings(
            supply=supply,
            accounts={name: balances[account] for account, name in self._names.items()},
            staked={
                name: (voter.free + voter.taken) * config.seat_stake
                for name, voter in zip(self._names.values(), voters, strict=True)
            },
            contracts={name: balances[account] for name, account in contracts.items()},
        )


def _unchecked(document: PoolDocument) -> float:
    """Learn from all that was added, as if nobody had looked at it."""
    initial, *batches, test = (
        read_initial(document, written(rows)) for rows in (INITIAL, GOOD, MISTAKEN, POISON, COPIES, TEST)
    )
    return accuracy(document, learn(document, initial, batches), test)
