"""A training task by "Blockchain-Based platform for Distribution AI" (DAI), with a free rider and a poisoner in it.

Mira wants a model that reads handwritten digits. Dora, dino and dana have some, each few of one digit and many of
another; cora and cole train on these. Frank and eve have some too, and train themselves, each in a sandbox that was
tampered with: frank's gives back the model as it came, eve's goes the other way, three times as far. The rest of
their nodes is as everybody's. Dana comes last, and mira adds to the budget. After the rounds mira's node proposes a
payout, dora's recomputes it, everyone takes what is due, and what each account has is held against the payout.

Beside it stand two rehearsals without a market: training on the data of the three honest providers in one place, and
the same task by FedAvg, which takes every update as it is.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

import pandas as pd

from agorai.client import OnStage
from agorai.demo.digits import (
    AWARD,
    CHEATS,
    FEE,
    HIDDEN,
    HONEST,
    LATE,
    OWNER,
    PROVIDERS,
    ROOM,
    SHARES,
    STRATEGY,
    TARGET,
    TEST,
    WAGES,
    WINDOW_S,
    Cheat,
    plan,
    rehearsed,
)
from agorai.demo.exchange import Holdings, UnaccountedError
from agorai.demo.town import Resident, Town, running
from agorai.devchain import TOKEN, TOKEN_SYMBOL
from agorai.task_reading import follow, payout
from agorai.tasks import Tasks, TaskSeen
from agorai_shared import vectors
from agorai_shared.bindings.training_task import Task, TaskState
from agorai_shared.documents import Column, Metadata
from agorai_shared.federated import ComputingOffer, DataOffer, PayoutDocument, PayoutRow, Specification
from agorai_shared.task_reward import Audited, TaskReward
from agorai_shared.types import Address, Wei
from agorai_trainer.federated import jobs, specs
from agorai_trainer.frames import Json, Reply
from agorai_trainer.messages import Offer
from agorai_trainer.sandbox import Progress, Sandbox
from agorai_trainer.tasks import Limits

LOOK_S: Final = 0.25
_FIT: Final = f"{jobs.__name__}:{jobs.fit.__name__}"


# ---------------------------------------------------------------------------------------------- who cheats


class TamperedSandbox(Sandbox):
    """Another sandbox that gives back something else than what was learnt."""

    def __init__(self, honest: Sandbox, cheat: Cheat) -> None:
        super().__init__(honest.limits)
        self._honest, self._cheat = honest, cheat

    async def run(
        self,
        entry: str,
        body: Json,
        blobs: Sequence[bytes] = (),
        *,
        limits: Limits | None = None,
        on_progress: Progress | None = None,
        keras: bool = False,
        keep: str | None = None,
    ) -> Reply:
        """Run an entry in the honest one, and cheat where it trains."""
        reply = await self._honest.run(
            entry, body, blobs, limits=limits, on_progress=on_progress, keras=keras, keep=keep
        )
        if entry != _FIT:
            return reply
        model, learnt = (vectors.of_any_length(one) for one in (blobs[0], *reply.blobs))
        return Reply(reply.body, (vectors.to_bytes(self._cheat(model, learnt)),))


# -------------------------------------------------------------------------------------------------- result


@dataclass(frozen=True, slots=True)
class Round:
    """Accuracies behind a round, on the hidden samples; 0 is the initial model."""

    round: int
    accuracy: float
    fedavg: float
    """Had FedAvg been the strategy."""
    central: float
    """Of as much training on the honest providers' data in one place."""


@dataclass(frozen=True, slots=True)
class Line:
    """A subtask, and what it came to; amounts in the token's smallest unit."""

    subtask: int
    data_provider: str
    computer: str
    samples: int
    delivered: int
    """Rounds."""
    paid_for: int
    """Of these."""
    fee: int
    """For each."""
    contribution: float
    """In hidden samples."""
    found: str
    paid: int
    """To the data provider, less the wages."""


@dataclass(frozen=True, slots=True)
class Account:
    """What an account is paid, in the token's smallest unit."""

    name: str
    proposed: int
    recomputed: int | None
    """By another node; None: it does not know."""
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Result:
    """What the demonstration showed."""

    token: str
    rounds: list[Round]
    subtasks: list[Line]
    verdict: str
    findings: list[str]
    """Of the audit."""
    accounts: list[Account]
    supply: int
    contracts: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Give it for machines, with amounts in whole tokens."""
        amounts = {"fee", "paid", "proposed", "recomputed", "before", "after"}

        def in_tokens(found: Mapping[str, Any]) -> dict[str, Any]:
            return {
                name: value / TOKEN if name in amounts and value is not None else value
                for name, value in found.items()
            }

        return {
            "token": self.token,
            "strategy": STRATEGY.name,
            "hidden_samples": TEST,
            "award": AWARD / TOKEN,
            "rounds": [asdict(one) for one in self.rounds],
            "subtasks": [in_tokens(asdict(one)) for one in self.subtasks],
            "audit": {"by": HONEST[0], "verdict": self.verdict, "findings": self.findings},
            "participants": [in_tokens(asdict(one)) for one in self.accounts],
            "supply": self.supply / TOKEN,
            "contracts": {name: amount / TOKEN for name, amount in self.contracts.items()},
        }


def check(before: Holdings, after: Holdings, paid: Mapping[str, int]) -> None:
    """See that every token is where the payout says.

    Raises
    ------
    UnaccountedError
        If somebody has other than is due, mira has paid other than that, or the contract keeps something.
    """
    due = {name: amount + paid.get(name, 0) for name, amount in before.accounts.items()}
    due[OWNER] -= sum(paid.values())
    compared = [(f"{name} has", amount, due[name]) for name, amount in after.accounts.items()]
    compared += [(f"{name} holds", amount, 0) for name, amount in after.contracts.items()]
    compared += [
        ("there are", after.supply, before.supply),
        ("there are", sum(after.accounts.values()), after.supply),
    ]
    for what, has, wanted in compared:
        if has != wanted:
            raise UnaccountedError(what, has, wanted)


# ------------------------------------------------------------------------------------------------- the task


async def run(tell: OnStage, *, rounds: int, block_time_s: float | None = None) -> Result:
    """Run the whole task on a marketplace of its own.

    Raises
    ------
    UnaccountedError
        If the marketplace does not do what it promises.
    """
    tell("starting bus, chain, hub and eight nodes")
    capital = (AWARD + FEE * rounds * len(PROVIDERS) + AWARD) // TOKEN
    penniless = [*HONEST, *(name for name in WAGES if name not in CHEATS)]
    residents = [
        Resident(OWNER, capital),
        *(Resident(name, 0) for name in penniless),
        *(Resident(name, 0, sandbox=partial(TamperedSandbox, cheat=cheat)) for name, cheat in CHEATS.items()),
    ]
    async with running(residents, block_time_s=block_time_s) as town:
        return await Training(town, rounds, tell).held()


class Training:
    """One task, from its opening to its end."""

    def __init__(self, town: Town, rounds: int, tell: OnStage) -> None:
        self._town, self._most_rounds, self._tell = town, rounds, tell
        self._names = {client.address: name for name, client in town.clients.items()}
        self._tasks = {name: Tasks(client) for name, client in town.clients.items()}
        self._mira = self._tasks[OWNER]

    async def held(self) -> Result:
        """Hold it, and see that every token is accounted for."""
        before = await self._holdings()
        self._tell("four offer data to training, and four offer computing")
        await asyncio.gather(*(self._offer(name) for name in self._tasks if name not in (OWNER, LATE)))
        self._tell("mira opens a task")
        task = await self._mira.open(plan(self._most_rounds), _csv(HIDDEN))
        await self._watched(task, lambda task: task.trainers == len(PROVIDERS) - 1)
        self._tell(f"{LATE} offers data, and mira adds to the budget")
        await self._offer(LATE)
        await self._mira.fund(task, Wei(FEE * self._most_rounds))
        seen = await self._watched(task, lambda task: task.state == TaskState.PROPOSED)
        self._tell(f"{HONEST[0]}'s node recomputes the payout")
        audited = await TaskReward(self._tasks[HONEST[0]].client.commander).audit(task)
        proposed = await payout(self._mira, seen)
        if proposed is None:
            raise AssertionError("mira's node serves what it has just proposed")
        self._tell("the time to challenge goes by, and every node claims")
        await self._claimed(task)
        self._tell("everyone takes what is due")
        for tasks in self._tasks.values():
            if await tasks.credit():
                await tasks.withdraw()
        after = await self._holdings()
        paid = self._by_name(proposed.rows)
        check(before, after, paid)
        self._tell("the same without a market")
        rounds = await self._rounds(seen)
        return Result(
            token=TOKEN_SYMBOL,
            rounds=rounds,
            subtasks=sorted(
                self._lines(seen, proposed, paid), key=lambda line: PROVIDERS.index(line.data_provider)
            ),
            verdict=audited.verdict,
            findings=[one.text for one in audited.findings],
            accounts=self._accounts(before, after, paid, audited),
            supply=after.supply,
            contracts=after.contracts,
        )

    async def _offer(self, name: str) -> None:
        data: tuple[DataOffer, ...] = ()
        computing = None
        if name in SHARES:
            data = (DataOffer(resource=await self._published(name), fee=str(FEE)),)
        if name in WAGES:
            computing = ComputingOffer(
                wage=str(round(WAGES[name] * TOKEN)), cores=1, memory_mib=512, subtasks=ROOM
            )
        await self._tasks[name].offer(Specification(data=data, computing=computing))

    async def _published(self, name: str) -> int:
        share = SHARES[name]
        content = _csv(share)
        metadata = Metadata(
            kind="data",
            name=f"{name}'s digits",
            format="csv",
            size=len(content),
            columns=tuple(Column(name=column, type="integer") for column in share.columns),
            rows=len(share),
            target=TARGET,
            task="classification",
        )
        return await self._tasks[name].client.publish(content, metadata, Offer(name=metadata.name, price=0))

    async def _watched(self, task: int, is_reached: Callable[[Task], bool]) -> TaskSeen:
        """Tell how far the task is until it is so far."""
        async with aclosing(follow(self._mira, task)) as moving:
            async for seen in moving:
                if is_reached(seen.task):
                    break
                self._tell(*await self._how_far(seen))
        return seen

    async def _how_far(self, seen: TaskSeen) -> tuple[str, float]:
        task = seen.task
        share = task.delivered / (self._most_rounds * len(PROVIDERS))
        match task.state:
            case TaskState.MATCHING:
                return f"nodes agree: {task.trainers} of {len(PROVIDERS)} subtasks are ready", share
            case TaskState.RUNNING:
                right = (await self._mira.files.round(seen.id, task.round - 1)).right
                told = f"round {task.round}, begun with {right / TEST:.1%}"
                return f"{told}: {len(seen.history.rounds[-1].updates)} of {len(PROVIDERS)} updates", share
        return "mira's node measures contributions, and proposes a payout", share

    async def _rounds(self, seen: TaskSeen) -> list[Round]:
        numbers = range(seen.task.round + 1)
        right = [(await self._mira.files.round(seen.id, number)).right / TEST for number in numbers]
        return await asyncio.to_thread(_compared, right)

    async def _claimed(self, task: int) -> None:
        """Let the challenge window pass, and wait until all has been claimed."""
        rpc = self._mira.client.chain.rpc
        await rpc.request("evm_increaseTime", WINDOW_S + 1)
        await rpc.request("evm_mine")
        while not await self._is_claimed(task):  # noqa: ASYNC110 - nothing announces it to who only looks on
            await asyncio.sleep(LOOK_S)

    async def _is_claimed(self, task: int) -> bool:
        found = await self._mira.files.task(task)
        return found.state == TaskState.SETTLED and found.claimed == found.total

    # ------------------------------------------------------------------------------------------------ reading

    def _by_name(self, rows: Iterable[PayoutRow]) -> dict[str, int]:
        return {self._names[Address(row.account)]: int(row.amount) for row in rows}

    def _lines(self, seen: TaskSeen, proposed: PayoutDocument, paid: Mapping[str, int]) -> Iterator[Line]:
        found = {one.subtask: one for one in proposed.contributions}
        for line in seen.history.subtasks.values():
            if line.computer is None:
                raise AssertionError("the first round began with all of them ready")
            provider, of_it = self._names[line.data_provider], found[line.id]
            reasons = Counter(one.partition(": ")[2] for one in of_it.conduct)
            yield Line(
                subtask=line.id,
                data_provider=provider,
                computer=self._names[line.computer],
                samples=len(SHARES[provider]),
                delivered=seen.history.delivered(line.id),
                paid_for=proposed.delivered.get(str(line.id), 0),
                fee=line.fee,
                contribution=float(of_it.fraction),
                found=", ".join(f"{reason} in {count} rounds" for reason, count in reasons.items()),
                paid=paid.get(provider, 0),
            )

    def _accounts(
        self, before: Holdings, after: Holdings, paid: Mapping[str, int], audited: Audited
    ) -> list[Account]:
        due = None if audited.rows is None else self._by_name(audited.rows)
        return [
            Account(
                name, paid.get(name, 0), None if due is None else due.get(name, 0), held, after.accounts[name]
            )
            for name, held in before.accounts.items()
        ]

    async def _holdings(self) -> Holdings:
        """Read at one block where the tokens are."""
        client = self._mira.client
        token, contract = client.market.token, client.deployment.training_task
        supply, *found = await self._mira.read(
            token.total_supply(), *(token.balance_of(account) for account in (*self._names, contract))
        )
        *held, kept = found
        return Holdings(
            supply, dict(zip(self._names.values(), held, strict=True)), {}, {"TrainingTask": kept}
        )


def _compared(accuracies: Sequence[float]) -> list[Round]:
    """Put beside each round's accuracy what the rehearsals come to."""
    last = len(accuracies) - 1
    honest = {"all of them": pd.concat([SHARES[name] for name in HONEST])}
    fedavg, central = (rehearsed(specs.FedAvg(), shares, HIDDEN, last) for shares in (SHARES, honest))
    each = zip(accuracies, fedavg, central, strict=True)
    return [Round(number, *found) for number, found in enumerate(each)]


def _csv(samples: pd.DataFrame) -> bytes:
    return samples.to_csv(index=False).encode()
