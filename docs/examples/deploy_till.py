"""Put the example contract on a development chain, and pay into it: `deploy_till.py [amount ...]`.

The chain is the one at RPC_URL, http://127.0.0.1:8545 by default. The contract, sent money, emits
`Deposit(address indexed from, uint256 amount)`. It is put where listen.toml looks for it: at the address that the
first transaction of anvil's first account makes.
"""

import json
import os
import sys
import time
import urllib.request

TILL = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
BODY = (
    "34600052"  # the amount, into memory
    "33"  # the payer
    "7fe1fffcc4923d04b559f4d29a8bfc6cda04eb5b0d3c460751c2402c5c5cc9109c"  # keccak256("Deposit(address,uint256)")
    "60206000a200"  # a log of these
)
SIZE = f"{len(BODY) // 2:02x}"
BYTECODE = f"0x60{SIZE}600c60003960{SIZE}6000f3{BODY}"


def rpc(url: str, method: str, *params: object) -> object:
    """Ask the chain's node."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            answered = json.loads(answer.read())
    except (OSError, ValueError) as error:
        raise SystemExit(f"No chain answers at {url}: {error}") from None
    if "error" in answered:
        raise SystemExit(f"{method}: {answered['error']['message']}")
    return answered["result"]


def deploy(url: str) -> None:
    """Make the contract, unless it is there."""
    if rpc(url, "eth_getCode", TILL, "latest") == "0x":
        send(url, {"data": BYTECODE, "gas": hex(1_000_000)})
    if rpc(url, "eth_getCode", TILL, "latest") == "0x":
        raise SystemExit("The chain has been used before: start a new one.")


def deposit(url: str, amount: int) -> None:
    """Pay into the till; a block of its own."""
    send(url, {"to": TILL, "value": hex(amount), "gas": hex(100_000)})


def send(url: str, transaction: dict[str, str]) -> None:
    """Send a transaction from the first account, and wait until it is mined."""
    accounts = rpc(url, "eth_accounts")
    sender = accounts[0] if isinstance(accounts, list) else ""
    sent = rpc(url, "eth_sendTransaction", transaction | {"from": sender})
    while rpc(url, "eth_getTransactionReceipt", sent) is None:
        time.sleep(0.02)


def main(*amounts: str) -> None:
    """Deploy, then pay in each amount."""
    url = os.environ.get("RPC_URL", "http://127.0.0.1:8545")
    deploy(url)
    print("The till is at", TILL)  # noqa: T201
    for amount in amounts:
        deposit(url, int(amount))
        print("Paid in", amount)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
