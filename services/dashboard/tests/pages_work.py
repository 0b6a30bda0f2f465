"""What is made together on the market of `pages_market`: a data pool and training tasks."""

from __future__ import annotations

from typing import Final

from agorai_shared import cid
from agorai_shared.federated import (
    Contribution,
    PayoutDocument,
    PayoutRow,
    RoundDocument,
    TaskBinding,
    TaskDocument,
    Wanted,
)
from agorai_shared.pool import CategoryColumn, NumberColumn, PoolDocument, Rule
from agorai_shared.shared_jwe import Envelope

from .pages_story import ADDRESSES, CHAIN, DAY, TOKEN, WHO, World, digest


def pool(world: World) -> None:
    """Tell of a pool that grows for six days, and of somebody who poisons it."""
    document = PoolDocument(
        name="film reviews",
        description="Reviews of films with what their authors thought; anyone may add some, or say what is wrong.",
        columns=(
            NumberColumn(name="stars", low=0, high=10),
            CategoryColumn(name="verdict", values=("good", "bad")),
        ),
        target="verdict",
        initial_samples=cid.of_raw(b"initial"),
        rule=Rule(estimator="sklearn.SGDClassifier", mode="incremental"),
    )
    begun = 6 * DAY
    terms = {
        "document": world.keep(document),
        "deposit": TOKEN,
        "reward": TOKEN // 10,
        "bond": 50 * TOKEN,
        "budget": 150 * TOKEN,
        "checkWindow": 6 * 3600,
        "answerWindow": 6 * 3600,
        "revealWindow": 7 * DAY,
        "closesAt": world.now + 20 * DAY,
        "panelSize": 3,
        "testCommitment": digest("test set"),
    }
    world.pay(begun, "anna", "DataPool", 200, "pool")
    world.say(begun, "DataPool", "Opened", with_="pool", id=1, owner=WHO["anna"], terms=terms)
    version = 0
    for id_ in range(1, 81):
        ago = begun - 3600 - id_ * (begun - 7_200) / 82
        bad = id_ % 4 == 0
        who = "eve" if bad else world.random.choice(("boris", "boris", "carl", "dora"))
        count = world.random.randint(4, 10)
        of = {"contribution": id_, "pool": 1}
        world.pay(ago, who, "DataPool", count, f"add {id_}")
        world.say(
            ago,
            "DataPool",
            "Added",
            with_=f"add {id_}",
            id=id_,
            pool=1,
            contributor=WHO[who],
            count=count,
            digest=digest(id_),
            samples="0x" + id_.to_bytes(4).hex(),
            committedAt=10,
        )
        accepted = count
        if bad:
            wrong, accepted = count - 1, 1
            world.say(
                ago - 2_000,
                "DataPool",
                "Challenged",
                **of,
                challenger=WHO["carl"],
                count=wrong,
                corrections=digest("c"),
                deadline=world.now - int(ago) + 8 * 3600,
            )
            if ago < 20_000:
                continue
            world.say(
                ago - 5_000,
                "DataPool",
                "Answered",
                **of,
                upheld=True,
                deadline=world.now - int(ago) + 9 * 3600,
            )
            world.say(
                ago - 17_000,
                "DataPool",
                "Resolved",
                **of,
                challenger=WHO["carl"],
                outcome=0,
                count=wrong,
                deadline=0,
            )
        if ago < 22_000:
            continue
        world.say(
            ago - 21_700,
            "DataPool",
            "Settled",
            with_=f"settle {id_}",
            **of,
            contributor=WHO[who],
            accepted=accepted,
        )
        world.pay(ago - 21_700, who, "DataPool", -accepted * 1.1, f"settle {id_}")
        if id_ % 5 == 0:
            version += 1
            accuracy = 7_800 + int(490 * (1 - 0.8**version)) + world.random.randint(-12, 12)
            world.say(
                ago - 21_800,
                "DataPool",
                "Published",
                version=version,
                pool=1,
                publisher=WHO["anna"],
                predecessor=version - 1,
                record=digest(f"r{version}"),
                model=digest(f"m{version}"),
                snapshot=digest(f"s{version}"),
                accuracy=accuracy,
            )


_PROVIDERS: Final = ("dora", "dino", "dana", "frank", "eve")


def tasks(world: World) -> None:
    """Tell of a task that was paid, and of one that runs."""
    _task(world, 1, 4 * DAY, 4, (11.8, 65.5, 77.8, 81.8, 84.5), "digits, read by many", settled=True)
    _task(world, 2, 5_000, 6, (12.4, 58.3, 71.9), "street sounds", settled=False)


def _task(
    world: World, task: int, begun: float, rounds: int, right: tuple[float, ...], name: str, *, settled: bool
) -> None:
    binding = TaskBinding(chain_id=CHAIN, contract=ADDRESSES["TrainingTask"], task=task)
    document = TaskDocument(
        name=name,
        description="Trained where the data are; paid by what each part brought.",
        model={"kind": "mlp"},
        strategy={"name": "FedTrimmedAvg"},
        wanted=Wanted(most_fee="2", providers=5),
        key="02" + 64 * "a",
        nonce=64 * "b",
        test_samples=1000,
    )
    terms = {
        "document": world.keep(document),
        "budget": 180 * TOKEN,
        "award": 130 * TOKEN,
        "bond": 130 * TOKEN,
        "joinWindow": 1800,
        "roundWindow": 1800,
        "stepWindow": 1800,
        "challengeWindow": 3600,
        "rounds": rounds,
        "quorum": 3,
        "panelSize": 3,
    }
    world.pay(begun, "mira", "TrainingTask", 310, f"task {task}")
    world.say(
        begun,
        "TrainingTask",
        "Opened",
        with_=f"task {task}",
        task=task,
        modelProvider=WHO["mira"],
        terms=terms,
    )
    subtasks = [10 * task + at for at in range(len(_PROVIDERS))]
    for subtask, who in zip(subtasks, _PROVIDERS, strict=True):
        of = {"subtask": subtask, "task": task}
        computer = WHO["cora" if who.startswith("d") else who]
        world.say(
            begun - 60,
            "TrainingTask",
            "Requested",
            **of,
            dataProvider=WHO[who],
            resource=6,
            fee=2 * TOKEN,
            role=0,
        )
        world.say(
            begun - 120,
            "TrainingTask",
            "Approved",
            **of,
            computer=computer,
            dataProvider=WHO[who],
            wage=TOKEN // 2,
            data=digest("d"),
        )
        world.say(begun - 180, "TrainingTask", "Accepted", **of, computer=computer)
    for number in range(1, len(right) + 1):
        ago = begun - 400 - 900 * (number - 1)
        envelope = Envelope(cid=cid.of_raw(b"model"), size=9)
        record = world.keep(
            RoundDocument(
                task=binding,
                round=number - 1,
                taken=tuple(subtasks) if number > 1 else (),
                model=envelope,
                state=envelope,
                right=int(10 * right[number - 1]),
            )
        )
        if number > rounds:
            world.say(
                ago,
                "TrainingTask",
                "Finished",
                task=task,
                model=digest("m"),
                record=record,
                deadline=world.now - int(ago) + 1800,
            )
            break
        world.say(
            ago,
            "TrainingTask",
            "Begun",
            task=task,
            round=number,
            model=digest("m"),
            record=record,
            deadline=world.now - int(ago) + 1800,
        )
        delivered = subtasks if number < len(right) else subtasks[:2]
        for at, subtask in enumerate(delivered):
            world.say(
                ago - 200 - 90 * at,
                "TrainingTask",
                "Updated",
                subtask=subtask,
                task=task,
                computer=WHO["cora"],
                round=number,
                digest=digest((subtask, number)),
            )
    if settled:
        _payout(world, binding, begun - 5_000, subtasks)


def _payout(world: World, binding: TaskBinding, ago: float, subtasks: list[int]) -> None:
    task = binding.task
    values = ("1752/10", "2182/10", "1732/10", "0", "-9318/10")
    amounts = {"dora": 37.32, "dino": 44.91, "dana": 36.57, "eve": 8.0, "cora": 6.0}
    rows = sorted((WHO[who], str(int(amount * TOKEN))) for who, amount in amounts.items())
    evidence = PayoutDocument(
        task=binding,
        contributions=tuple(
            Contribution(
                subtask=subtask, value=value, conduct=("unchanged in 4 rounds",) if value == "0" else ()
            )
            for subtask, value in zip(subtasks, values, strict=True)
        ),
        delivered={str(subtask): 4 for subtask in subtasks},
        rows=tuple(PayoutRow(account=who, amount=amount) for who, amount in rows),
        test_set=cid.of_raw(b"test"),
    )
    total = sum(int(amount) for _, amount in rows)
    world.say(
        ago,
        "TrainingTask",
        "Proposed",
        task=task,
        proposer=WHO["mira"],
        root=digest("root"),
        total=total,
        evidence=world.keep(evidence),
        key=1,
        testSet=digest("t"),
        salt=digest("s"),
        deadline=world.now - int(ago) + 3600,
    )
    world.say(
        ago - 4_000, "TrainingTask", "Settled", task=task, root=digest("root"), total=total, back=47 * TOKEN
    )
    for at, who in enumerate(("dora", "dino", "cora")):
        amount = int(amounts[who] * TOKEN)
        world.say(
            ago - 4_400 - at * 60,
            "TrainingTask",
            "Claimed",
            with_=f"claim {who}",
            task=task,
            account=WHO[who],
            amount=amount,
        )
        world.pay(ago - 4_400 - at * 60, who, "TrainingTask", -amounts[who], f"claim {who}")
