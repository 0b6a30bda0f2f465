"""Print every final event of the Invocation contract as it happens: `listen.py <a node's home>`."""

import asyncio
import json
import sys
from pathlib import Path

import nats


async def main(home: Path) -> None:
    """Listen with the node's own bus user, which may read all facts under `chain.>`."""
    node = json.loads((home / "node.json").read_text())
    bus = await nats.connect(node["bus_url"], user=node["bus_user"], password=node["bus_password"])
    events = await bus.subscribe("chain.final.*.Invocation.*.*")
    async for message in events.messages:
        event = json.loads(message.data)
        print(event["data"]["event"], event["data"]["args"])  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]).expanduser()))
