"""Sends transfers until it is killed; one child for each line read, forked from here so that it starts at once.

Arguments: folder, RPC URL, account's key (hex), token, recipient, count. Told `go`, it prints the child's process
id; told `end`, too, and that child is the one that may finish. Prints `over <status>` when a child has ended.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

import structlog
from eth_account import Account

from agorai_shared.bindings.market_token import MarketToken
from agorai_shared.chain import Chain, Finality
from agorai_shared.rpc import Rpc
from agorai_shared.types import Address
from agorai_shared.vault import TransactionState
from agorai_vault import database, outbox
from agorai_vault.account import AccountOnChain
from agorai_vault.outbox import Outbox


async def life(*, last: bool) -> None:
    """Ask for every transfer, in order, as one that restarts knows no better."""
    folder, url, key, token, recipient, count = sys.argv[1:]
    account = Account.from_key(key)
    address = Address(account.address)
    connection = database.connect(Path(folder), address)
    async with Rpc(url) as rpc:
        on_chain = AccountOnChain(Chain(rpc, Finality(0)), address, 31337)
        box = Outbox(connection, account, on_chain, lambda *_: None, stuck_after_s=60, most_fee=10**12)
        async with box.running():
            for start in range(1, int(count) + 1, 3):
                numbers = range(start, min(start + 3, int(count) + 1))
                calls = {n: MarketToken(Address(token)).transfer(Address(recipient), n) for n in numbers}
                await asyncio.gather(*(box.send(f"transfer/{n}", call) for n, call in calls.items()))
            while last and box.pending():
                box.on_block()
                for n in range(1, int(count) + 1):
                    await box.wait(f"transfer/{n}", TransactionState.FINAL, 5)
            if not last:
                await asyncio.Event().wait()


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    outbox.SEND_AGAIN_S = 0.02
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                asyncio.run(life(last=line == "end\n"))
                status = 0
            finally:
                os._exit(status)
        tell(str(child))
        tell(f"over {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}")


if __name__ == "__main__":
    main()
