"""A model sold for good, by the SDK: listed, asked for, opened, handed over; voters stand by.

    fair_trade.py <model> <the seller's home> <the buyer's home> <a voter's home> <another's> <a third one's>

All nodes must run (`agorai up`), on one marketplace. The model is the seller's, made from flowers.csv. The seller
needs 9 tokens, the buyer 18, each voter 10; all but the price, 9, is there again at the end.
"""

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from agorai.client import Client
from agorai.home import Home
from agorai.trading import Trading
from agorai.voting import Voting
from agorai_shared.negotiation import Limits
from agorai_shared.types import Wei

HERE = Path(__file__).parent
TOKEN = 10**18


async def main(model: int, *homes: Path) -> None:
    """Sell once."""
    async with AsyncExitStack() as stack:
        connected = [await stack.enter_async_context(Client.connect(Home(home))) for home in homes]
        seller, buyer, *voters = connected

        # Whoever would judge disputes stakes for a seat; from then on its node votes by itself.
        for voter in voters:
            await Voting(voter).enlist(1)

        # The seller says once on which terms; its node answers who asks.
        rows = (HERE / "flowers.csv").read_bytes()
        selling, buying = Trading(seller), Trading(buyer)
        await selling.list_model(
            model,
            rows,
            price=Wei(10 * TOKEN),
            least=Wei(8 * TOKEN),
            limits=Limits(t0=600, t1=600, t2=600, t3=600, tb=600),
            accuracy=9_200,
            panel_size=3,
        )

        # The buyer names the rows on which the model is judged; they become public. What it offers binds its node.
        asked = await buying.ask(model, rows, offer=9 * TOKEN, on_stage=say)
        if asked.terms is None:
            raise SystemExit(f"There will be no trade: {asked.why or asked.state}.")
        trade = await selling.open(asked.ask.ask, on_stage=say)
        async for seen in buying.follow(trade):
            say(f"{seen.trade.state.name}: {', '.join(seen.awaited()) or seen.trade.outcome.name}")

        # What was handed over is in memory only. All that is owed waits in the contracts.
        bought = await buying.package(trade)
        say(f"a model of {len(bought.model)} bytes, with {bought.manifest.test.rows} test rows")
        for voter in voters:
            await Voting(voter).retire(1)
        for client in connected:
            for source, amount in (await Trading(client).withdraw()).items():
                say(f"{client.info.name} takes {amount / TOKEN:g} from {source}")


def say(stage: str, share: float | None = None) -> None:
    """Tell the reader; `share` is how much of a long stage is done."""
    print(stage if share is None else f"{stage} {share:.0%}")  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *map(Path, sys.argv[2:])))
