"""A day on the market, by the SDK: one node sells a data set, another buys it, trains, and sells the model back.

    market_day.py <the seller's home> <the trainer's home>

Both nodes must run (`agorai up`), on one marketplace. The seller needs 3 tokens, the trainer 2.
"""

import asyncio
import sys
from pathlib import Path

from agorai import data_sets
from agorai.client import Client
from agorai.home import Home
from agorai_shared.types import Wei
from agorai_trainer.messages import Offer
from agorai_trainer.tasks import TrainingTask

HERE = Path(__file__).parent
TOKEN = 10**18


async def main(seller_home: Path, trainer_home: Path) -> None:
    """Trade both ways."""
    async with (
        Client.connect(Home(seller_home)) as seller,
        Client.connect(Home(trainer_home)) as trainer,
    ):
        # The seller reads and describes a table, seals it into its own store, and offers it.
        offer = Offer(name="flowers", price=2 * TOKEN, license="CC-BY-4.0", uses=1, window=600)
        content = (HERE / "flowers.csv").read_bytes()
        flowers = await asyncio.to_thread(data_sets.read, content, offer, "species")
        data = await seller.publish(content, flowers.metadata, offer, schema=flowers.schema)
        say(f"resource {data}: {flowers.metadata.rows} rows of {offer.name}")

        # Anyone may look before paying. The buyer's vault verifies the grant before it counts.
        listing = await trainer.listing(data)
        say(f"it costs {listing.resource.price / TOKEN:g} and predicts {listing.metadata.target!r}")
        bought = await trainer.buy(data, max_price=Wei(2 * TOKEN), on_stage=say)

        # Training happens in the trainer node's sandbox; the sealed model goes on sale.
        task = TrainingTask(
            estimator="sklearn.LogisticRegression", target="species", scaler="standard", seed=7
        )
        job = await trainer.train(bought.invocation, task, Offer(name="flowers model", price=3 * TOKEN))
        accuracy = job.metrics.accuracy if job.metrics else None
        say(f"resource {job.resource}: a model with accuracy {accuracy:.4f}")

        # The seller buys the model and predicts on a table that never leaves its node.
        right = await seller.buy(job.resource or 0)
        say(str(await seller.predict(right.invocation, (HERE / "new_flowers.csv").read_bytes())))

        # Payments are credits until they are taken.
        for client in (seller, trainer):
            say(f"{client.info.name} takes {await client.withdraw() / TOKEN:g}")
        async for event in trainer.events(contract="Invocation", key=str(right.invocation)):
            say(f"block {event.block_number}: {event.event}")


def say(stage: str, share: float | None = None) -> None:
    """Tell the reader; `share` is how much of a long stage is done."""
    print(stage if share is None else f"{stage} {share:.0%}")  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
