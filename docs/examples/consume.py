"""Take every event of a contract once, in order, also after a pause: `consume.py <bus URL> <chain id> <contract>`.

On a bus with users, name one by NATS_USER and NATS_PASSWORD.
"""

import asyncio
import json
import os
import sys

import nats


async def main(url: str, chain: str, contract: str) -> None:
    """Read the final stream by a durable consumer: the bus remembers what was acknowledged."""
    user, password = os.environ.get("NATS_USER"), os.environ.get("NATS_PASSWORD")
    bus = await nats.connect(url, user=user, password=password, error_cb=tell, max_reconnect_attempts=-1)
    subject, stream = f"chain.final.{chain}.{contract}.*.*", f"CHAIN_{chain}_FINAL"
    events = await bus.jetstream().pull_subscribe(subject, durable="my-program", stream=stream)
    while True:
        try:
            messages = await events.fetch(100, timeout=5)
        except TimeoutError:  # nothing happened, or the bus was away
            continue
        for message in messages:
            event = json.loads(message.data)["data"]
            print(event["block_number"], event["event"], event["args"], flush=True)  # noqa: T201
            await message.ack()


async def tell(error: Exception) -> None:
    """Say in one line that the bus is away."""
    print("bus:", error or type(error).__name__, file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
