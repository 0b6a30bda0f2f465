"""What a fair sale costs in time and gas, and how many go on at once without a missed limit.

    handover_ms   the paper's three steps (Fig. 5: 59, 60 and 32 ms on average) on the same boundaries, with RSA of
                  3072 bits: make the key message; open it and make the address message; open that. Medians.
    sale_s        from the opening, on terms that both are given and do not negotiate, until the end is final, on a
                  chain that mines on arrival: two nodes with all their services, the model's package made, sealed,
                  handed over, fetched and evaluated in the sandbox
    gas           whole transactions, from the contracts' gated snapshots; a vote is a commit and a reveal
    concurrent    as many offers at once between two nodes; missed counts those that did not complete

Progress goes to standard error, one JSON object to standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import uvloop
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from eth_account import Account
from joserfc.jwk import RSAKey
from sklearn.datasets import load_breast_cancer

from agorai.client import Client
from agorai.demo.town import Resident, Town, running
from agorai.devchain import TOKEN
from agorai_shared import cid as cids
from agorai_shared import handover, logging
from agorai_shared.bindings.fair_exchange import (
    FairExchange,
    Kind,
    Mode,
    Opened,
    Outcome,
    State,
    Terms,
    Trade,
)
from agorai_shared.bindings.market_token import MarketToken
from agorai_shared.bindings.voting_panel import VotingPanel
from agorai_shared.documents import Column, Metadata
from agorai_shared.handover import Binding, PackageAddress
from agorai_shared.negotiation import Limits, Listing
from agorai_shared.types import Address, TradeId, Wei
from agorai_trainer.messages import Offer
from agorai_trainer.tasks import TrainingTask

PAPER_MS: Final = (59, 60, 32)
SNAPSHOTS: Final = Path(__file__).parent.parent / "contracts" / "snapshots"
LIMIT_S: Final = 300
TASK: Final = TrainingTask(estimator="sklearn.LogisticRegression", scaler="standard", target="target", seed=3)
VOTERS: Final = ("anna", "boris", "clara")


def say(text: str) -> None:
    """Tell a person how far it is."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def handover_ms(rounds: int) -> list[float]:
    """Give the median time of each of the three steps, in milliseconds."""
    buyer, seller = Account.create(), Account.create()
    keys = [_key(), _key()]
    public = [RSAKey.import_key(key.as_dict(private=False)) for key in keys]
    contract = Address("0x" + "11" * 20)
    there = Binding(31337, contract, 1, Address(buyer.address), Address(seller.address))
    package = PackageAddress(cids.of_raw(b"package"), os.urandom(32), os.urandom(32))
    took: list[tuple[float, ...]] = []
    for _ in range(rounds):
        now = int(time.time())
        marks = [time.perf_counter()]
        asked, secret = handover.make_key_message(there, buyer, public[1], now)
        marks.append(time.perf_counter())
        digest = cids.sha256(asked)
        opened = handover.open_key_message(asked, there, keys[1], now, 600)
        back = there.mirrored
        answer = handover.make_address_message(back, seller, public[0], opened, digest, package, now)
        marks.append(time.perf_counter())
        found = handover.open_address_message(
            answer, back, keys[0], secret, digest, package.commitment, now, 600
        )
        marks.append(time.perf_counter())
        if found != package:
            raise SystemExit("the address that came out is another")
        took.append(tuple(later - earlier for earlier, later in pairwise(marks)))
    return [round(1000 * statistics.median(step), 2) for step in zip(*took, strict=True)]


def _key() -> RSAKey:
    made = rsa.generate_private_key(65537, 3072)
    return RSAKey.import_key(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def gas() -> dict[str, int]:
    """Read what the gated snapshots say."""
    exchange = json.loads((SNAPSHOTS / "FairExchange.json").read_text())
    panel = json.loads((SNAPSHOTS / "VotingPanel.json").read_text())
    sale = next(int(cost) for name, cost in exchange.items() if name.startswith("total: a sale, 5"))
    return {"sale_total": sale, "vote_total": int(panel["commit"]) + int(panel["reveal"])}


def rows(first: int, last: int) -> bytes:
    """Give some rows of the breast cancer data as CSV."""
    data = load_breast_cancer()
    table = np.column_stack([data.data, data.target])[first:last]
    header = ",".join([f"f{n}" for n in range(data.data.shape[1])] + ["target"])
    lines = [",".join([*(repr(float(v)) for v in row[:-1]), str(int(row[-1]))]) for row in table]
    return "\n".join([header, *lines]).encode() + b"\n"


async def prepared(town: Town) -> Terms:
    """Have a model trained and listed, voters enlisted, and the money allowed; gives the terms of its sales."""
    alice, bob = town.clients["alice"], town.clients["bob"]
    deployment = alice.market.deployment
    for name in VOTERS:
        voter = town.clients[name]
        await voter.transact(MarketToken(deployment.token).approve(deployment.voting_panel, Wei(2**255)))
        await voter.transact(VotingPanel(deployment.voting_panel).enlist(1))
    for client in (alice, bob):
        await client.transact(
            MarketToken(deployment.token).approve(deployment.fair_exchange, Wei(2**256 - 1))
        )
    table = rows(0, 400)
    columns = tuple(Column(name=f"f{n}", type="float") for n in range(30))
    metadata = Metadata(
        kind="data", name="cells", format="csv", size=len(table), columns=columns, rows=400, target="target",
        task="classification",
    )  # fmt: skip
    data = await alice.publish(table, metadata, Offer(name="cells", price=0))
    job = await alice.train((await alice.buy(data)).invocation, TASK, Offer(name="model", price=TOKEN))
    model = job.resource or 0
    test = await alice.vault.put(rows(400, 500))
    limits = Limits(t0=LIMIT_S, t1=LIMIT_S, t2=LIMIT_S, t3=LIMIT_S, tb=LIMIT_S)
    await alice.vault.list_resource(
        model,
        Listing(
            resource=model, price=TOKEN, least=TOKEN, limits=limits, panel_size=3, accuracy=9_200, test=test.cid
        ),
    )  # fmt: skip
    chosen = await bob.store.put_document(rows(500, 569))
    return Terms(
        kind=Kind.SALE, mode=Mode.DIRECT, seller=alice.address, buyer=bob.address, seller_resource=model,
        buyer_resource=0, price=Wei(TOKEN), seller_deposit=TOKEN, buyer_deposit=TOKEN, t0=LIMIT_S, t1=LIMIT_S,
        t2=LIMIT_S, t3=LIMIT_S, tb=LIMIT_S, seller_accuracy=9_200, buyer_accuracy=0, panel_size=3,
        seller_verification=cids.digest_of(chosen), buyer_verification=bytes(32),
        keys_at=2**40 - 1,
    )  # fmt: skip


async def sale(town: Town, terms: Terms, look_s: float = 0.01) -> tuple[float, Trade]:
    """Give the seconds of one sale, and what became of it, looking at the chain every `look_s` seconds."""
    alice, bob = town.clients["alice"], town.clients["bob"]
    exchange = FairExchange(alice.market.deployment.fair_exchange)
    start = time.perf_counter()
    transaction = await alice.transact(exchange.open(terms))
    trade = TradeId((await alice.market.emitted(transaction, Opened)).id)
    await bob.vault.agree(trade)
    found = await ended(alice, exchange, trade, look_s)
    return time.perf_counter() - start, found


async def ended(client: Client, exchange: FairExchange, trade: TradeId, look_s: float) -> Trade:
    """Wait until a trade has ended."""
    while True:
        (found,) = await client.market.chain.read(exchange.trade(trade))
        if found.state == State.ENDED:
            return cast("Trade", found)
        await asyncio.sleep(look_s)


async def measure(sales: int, at_once: int) -> dict[str, Any]:
    """Run sales one after the other, then many at once."""
    residents = [
        Resident("alice", 100_000),
        Resident("bob", 100_000),
        *(Resident(name, 100) for name in VOTERS),
    ]
    async with running(residents) as town:
        terms = await prepared(town)
        took = []
        for number in range(sales + 1):
            seconds, found = await sale(town, terms)
            if found.outcome != Outcome.COMPLETED:
                raise SystemExit(f"a sale ended as {found.outcome.name}")
            if number:  # the first warms what the others find warm
                took.append(seconds)
        say(f"{sales} sales, one after the other: median {statistics.median(took):.2f} s")
        start = time.perf_counter()
        several = await asyncio.gather(*(sale(town, terms, look_s=1.0) for _ in range(at_once)))
        whole = time.perf_counter() - start
        missed = sum(found.outcome != Outcome.COMPLETED for _, found in several)
        say(f"{at_once} at once: {whole:.1f} s, {missed} missed")
        return {
            "sale_s": {
                "p50": round(statistics.median(took), 3),
                "spread": [round(min(took), 3), round(max(took), 3)],
            },
            "concurrent": {
                "trades": at_once,
                "missed": missed,
                "seconds": round(whole, 1),
                "slowest_s": round(max(seconds for seconds, _ in several), 1),
            },
        }


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=200, help="of the hand-over (default: 200)")
    options.add_argument("--sales", type=int, default=20, help="one after the other (default: 20)")
    options.add_argument("--at-once", type=int, default=200, help="trades at once (default: 200)")
    given = options.parse_args()
    logging.configure("WARNING")
    steps = handover_ms(given.rounds)
    say(f"hand-over: {steps} ms; the paper's {list(PAPER_MS)}")
    found = uvloop.run(measure(given.sales, given.at_once))
    shares = [round(ours / paper, 3) for ours, paper in zip(steps, PAPER_MS, strict=True)]
    result = {"handover_ms": steps, "handover_share_of_paper": shares, **found, "gas": gas()}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
