"""A market as its events tell it, always the same: three weeks of sales, trades, disputes, a pool and tasks."""

from __future__ import annotations

from typing import Any, Final

from agorai_shared.documents import Column, Evaluation, Metadata

from .pages_story import ADDRESSES, DAY, NAMES, TOKEN, WHO, World, digest
from .pages_work import pool, tasks


def market(now: int) -> World:
    """Tell the whole story."""
    world = World(now)
    _actors(world)
    _resources(world)
    _trades(world)
    pool(world)
    tasks(world)
    return world


def with_malice(world: World) -> World:
    """Have somebody write what would do harm if it were taken for more than text."""
    metadata = Metadata(
        kind="data",
        name="<img src=x onerror=window.harmed=1>",
        description="</script><script>window.harmed=1</script>",
        license="javascript:window.harmed=1",
        format="csv",
        size=1,
    )
    world.names[11] = metadata.name
    world.say(900, "Registry", "Registered", id=11, owner=WHO["eve"], metadata=world.keep(metadata))
    return world


def _actors(world: World) -> None:
    for index, name in enumerate(NAMES):
        begun = 20 * DAY - index * 3_000
        world.say(
            begun,
            "MarketToken",
            "Transfer",
            **{"from": "0x" + 40 * "0", "to": WHO[name], "value": 1000 * TOKEN},
        )
        gateway = f"http://{name}.example:8080"
        profile, key = digest(f"profile {name}"), digest(f"key {name}")
        world.say(
            begun - 60,
            "Registry",
            "Joined",
            account=WHO[name],
            roles=1 + index % 7,
            profile=profile,
            encryptionKey=key,
            gateway=gateway,
        )
    for name in ("vera", "victor", "viola"):
        world.pay(19 * DAY, name, "VotingPanel", 50, f"enlist {name}")
        world.say(19 * DAY, "VotingPanel", "Enlisted", with_=f"enlist {name}", account=WHO[name], seats=5)


_OFFERS: Final = (
    ("flowers", "data", "olga", 5, "150 irises, measured by hand: sepals, petals and the species.", None),
    ("flowers model", "model", "linhao", 10, "Tells three species of iris by their measures.", 0.9556),
    ("flowers model", "model", "linhao", 10, "As before, trained on the corrected samples.", 0.9778),
    ("breast cancer", "data", "olga", 12, "569 cases with 30 features of cell nuclei.", None),
    ("breast cancer model", "model", "linhao", 25, "A forest of 200 trees.", 0.9825),
    ("digits", "data", "dora", 8, "Handwritten digits, 8 by 8 pixels.", None),
    ("digits model", "model", "linhao", 18, "A small dense net.", 0.9630),
    ("street sounds", "data", "dino", 20, "Spectra of 8,732 street sounds in ten classes.", None),
    ("flowers model", "model", "linhao", 14, "With a third more samples from the pool.", 0.9889),
    ("film reviews", "model", "anna", 30, "Says whether a review is favourable.", 0.8290),
)


def _resources(world: World) -> None:
    previous = {3: 2, 9: 3}
    for id_, (name, kind, owner, price, about, accuracy) in enumerate(_OFFERS, 1):
        world.names[id_] = name
        metadata = Metadata(
            kind="data" if kind == "data" else "model",
            name=name,
            description=about,
            license="CC-BY-4.0",
            format="csv" if kind == "data" else "skops",
            size=4_550 * id_,
            rows=150 * id_ if kind == "data" else None,
            columns=tuple(Column(name=one, type="real") for one in ("length", "width", "height", "class")),
            target="class",
            task="classification",
            evaluation=None if accuracy is None else Evaluation(accuracy=accuracy, test_rows=45),
        )
        world.say(
            (19 - 1.5 * id_) * DAY,
            "Registry",
            "Registered",
            id=id_,
            owner=WHO[owner],
            previous=previous.get(id_, 0),
            kind=int(kind == "model"),
            price=price * TOKEN,
            metadata=world.keep(metadata),
            commitment=digest(name),
        )
    payers = ("tommy", "anna", "boris", "mira", "cora")
    for id_ in range(1, 61):
        resource = world.random.choice((1, 1, 2, 3, 3, 3, 4, 5, 5, 6, 7, 9))
        _, _, owner, price, _, _ = _OFFERS[resource - 1]
        ago = (19 - 1.5 * resource) * DAY * (1 - id_ / 61) + 1_500
        payer = payers[id_ % len(payers)]
        who = {"id": id_, "payer": WHO[payer], "owner": WHO[owner], "resource": resource}
        world.pay(ago, payer, "Invocation", price, f"paid {id_}")
        world.say(
            ago,
            "Invocation",
            "Paid",
            with_=f"paid {id_}",
            **who,
            price=price * TOKEN,
            deadline=world.now - int(ago) + DAY,
        )
        if id_ == 60:
            continue  # not delivered yet
        if id_ % 17 == 0:
            world.say(ago - 1_000, "Invocation", "Refunded", **who, price=price * TOKEN)
        else:
            world.say(ago - 40, "Invocation", "Delivered", **who, grant=digest(id_))
            world.say(
                ago - 300, "Invocation", "Used", id=id_, payer=WHO[payer], resource=resource, usesLeft=9
            )


_LIMITS: Final = {"t0": 3600, "t1": 3600, "t2": 3600, "t3": 3600, "tb": DAY}


def _trades(world: World) -> None:
    story: tuple[tuple[int, str, str, int, float, str], ...] = (
        (1, "linhao", "tommy", 2, 12, "completed"),
        (2, "anna", "boris", 10, 3, "rejected"),
        (3, "linhao", "mira", 5, 0.4, "disputed"),
        (4, "linhao", "cora", 9, 0.1, "inspecting"),
        (5, "anna", "tommy", 10, 0.02, "offered"),
    )
    for id_, seller, buyer, resource, days, end in story:
        ago = days * DAY
        both = {"id": id_, "seller": WHO[seller], "buyer": WHO[buyer]}
        terms = {
            "kind": 0,
            "mode": 0,
            "seller": WHO[seller],
            "buyer": WHO[buyer],
            "sellerResource": resource,
            "price": 40 * TOKEN,
            "sellerDeposit": 40 * TOKEN,
            "buyerDeposit": 40 * TOKEN,
            **_LIMITS,
            "sellerAccuracy": 9500,
            "panelSize": 3,
        }
        world.pay(ago, seller, "FairExchange", 40, f"open {id_}")
        world.say(ago, "FairExchange", "Opened", with_=f"open {id_}", **both, terms=terms)
        if end == "offered":
            continue
        world.pay(ago - 300, buyer, "FairExchange", 80, f"join {id_}")
        world.say(ago - 300, "FairExchange", "Joined", with_=f"join {id_}", **both)
        _hand_over(world, ago - 300, both)
        if end == "inspecting":
            continue
        if end == "completed":
            by = {"id": id_, "by": WHO[buyer], "step": 3, "digest": digest(f"confirmed {id_}")}
            world.say(ago - 4_000, "FairExchange", "Fulfilled", with_=f"end {id_}", **by)
            world.say(
                ago - 4_000,
                "FairExchange",
                "Ended",
                with_=f"end {id_}",
                **both,
                outcome=3,
                toSeller=80 * TOKEN,
                toBuyer=40 * TOKEN,
            )
            world.pay(ago - 5_000, seller, "FairExchange", -80)
            world.pay(ago - 5_100, buyer, "FairExchange", -40)
            continue
        case = 1 if end == "rejected" else 2
        world.say(
            ago - 6_000,
            "FairExchange",
            "Disputed",
            with_=f"dispute {id_}",
            id=id_,
            accuser=WHO[buyer],
            accused=WHO[seller],
            dispute=case,
        )
        _case(world, case, ago - 6_000, "FairExchange", id_, buyer, seller, open_=end == "disputed")
        if end == "rejected":
            closing = ago - 6_000 - 2_600
            world.say(
                closing,
                "FairExchange",
                "Faulted",
                with_=f"end {id_}",
                id=id_,
                account=WHO[seller],
                state=6,
                blockedUntil=world.now + 9 * DAY,
            )
            world.say(
                closing,
                "FairExchange",
                "Ended",
                with_=f"end {id_}",
                **both,
                outcome=5,
                toSeller=0,
                toBuyer=120 * TOKEN,
            )
            world.say(
                closing,
                "Registry",
                "MisconductReported",
                with_=f"end {id_}",
                subject=WHO[seller],
                reporter=ADDRESSES["FairExchange"],
                source=ADDRESSES["FairExchange"],
                item=id_,
                evidence=digest("judged"),
            )
            world.pay(closing - 500, buyer, "FairExchange", -120)


def _hand_over(world: World, ago: float, both: dict[str, Any]) -> None:
    """Have both sides take the steps of the papers' Fig. 5, up to the inspection."""
    for at, state in enumerate((2, 3, 4, 5)):
        deadline = world.now - int(ago) + at * 600 + (DAY if state == 5 else 3600)
        step = f"step {both['id']} {state}"
        if state > 2:
            for side in ("seller", "buyer"):
                world.say(
                    ago - at * 600 + 90,
                    "FairExchange",
                    "Fulfilled",
                    id=both["id"],
                    by=both[side],
                    step=state - 3,
                    digest=digest(step + side),
                )
        world.say(
            ago - at * 600, "FairExchange", "Advanced", with_=step, **both, state=state, deadline=deadline
        )


def _case(
    world: World, case: int, ago: float, opener: str, item: int, accuser: str, accused: str, *, open_: bool
) -> None:
    world.say(
        ago,
        "VotingPanel",
        "Opened",
        with_=f"case {case}",
        id=case,
        opener=ADDRESSES[opener],
        item=item,
        accuser=WHO[accuser],
        accused=WHO[accused],
        size=3,
        bonus=6 * TOKEN,
    )
    world.say(ago, "VotingPanel", "Awaited", with_=f"case {case}", id=case, round=1, drawBlock=100_000)
    voters = ("vera", "victor", "viola")
    for name in voters:
        world.say(ago - 120, "VotingPanel", "Drawn", with_=f"drawn {case}", id=case, voter=WHO[name], round=1)
    for at, name in enumerate(voters[: 2 if open_ else 3]):
        world.say(ago - 600 - 50 * at, "VotingPanel", "Committed", id=case, voter=WHO[name])
    if not open_:
        for at, name in enumerate(voters):
            world.say(
                ago - 1_800 - 50 * at, "VotingPanel", "Revealed", id=case, voter=WHO[name], confirms=at != 1
            )
        world.say(ago - 2_500, "VotingPanel", "Closed", id=case, verdict=1, confirming=2, revealed=3)
