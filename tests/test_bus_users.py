"""The file of a shared bus's users."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from agorai.bus_users import BusUsers
from agorai_shared.types import Address


def test_nodes_that_join_at_the_same_moment_are_all_there(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from agorai.bus_users import BusUsers; sys.stdin.readline();"
        "print(BusUsers(Path(sys.argv[1]), 31337).add_node(sys.argv[2]))"
    )
    addresses = [f"0x{number:040x}" for number in range(1, 5)]
    joining = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for address in addresses
    ]
    try:
        for process in joining:
            assert process.stdin is not None
            process.stdin.write("now\n")
            process.stdin.flush()
        told = [process.communicate(timeout=60)[0].strip() for process in joining]
    finally:
        for process in joining:
            process.kill()
            process.wait()
    assert all(process.returncode == 0 for process in joining)
    users = BusUsers(tmp_path, 31337)
    assert {address.lower() for address in users.nodes()} == set(addresses)
    assert [users.add_node(Address(address)) for address in addresses] == told
    assert [path.name for path in tmp_path.iterdir()] == ["nats-server.conf"]
