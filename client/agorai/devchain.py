"""The embedded chain: the marketplace's contracts put on it, and accounts given coin and tokens to begin with.

Anvil signs for its own first account, the issuer of the token; that account is public knowledge, so this is for
a chain that lives on this machine and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from itertools import takewhile
from pathlib import Path
from typing import Any, Final, cast

from eth_utils.address import to_checksum_address

from agorai_shared.bindings.market_token import MarketToken
from agorai_shared.bindings.voting_panel import Config
from agorai_shared.chain import Chain
from agorai_shared.contract import Call
from agorai_shared.deployment import Deployment, PartialDeployment
from agorai_shared.errors import AgoraiError
from agorai_shared.rpc import Rpc
from agorai_shared.types import Address

TOKEN_NAME, TOKEN_SYMBOL = "Happy Token", "HAPY"
"""The paper's token (ISC-MTI, section 6.3)."""
TOKEN = 10**18
"""One token in its smallest unit."""
MAXIMUM_SUPPLY = 10**9 * TOKEN
COIN = 100 * 10**18


class DeploymentFailedError(AgoraiError):
    """A contract could not be put on the chain."""

    def __init__(self, what: str) -> None:
        super().__init__(f"The embedded chain did not take {what}.", remedy="Start with a fresh --home.")


PANEL: Final = Config(
    seat_stake=10 * 10**18,
    seat_bonus=10**15,
    draw_window=600,
    commit_window=60,
    reveal_window=60,
    draw_delay=0,
)
"""Amounts and times of voters on a chain of one's own, which mines on arrival and is in a hurry."""


class DevChain:
    """Deploys to, and funds accounts on, an anvil chain."""

    def __init__(self, rpc: Rpc, chain: Chain) -> None:
        self._rpc = rpc
        self._chain = chain

    async def deployment(self, path: Path) -> Deployment:
        """Give the deployment kept in `path`; what the chain has not of it is put there, and kept as well.

        A contract knows those before it by their addresses. So what comes after one that the chain has lost is put
        there anew, while the fewer contracts of an older version's home stay, with all that they hold.
        """
        from agorai.contracts import codes  # noqa: PLC0415 - all bindings, which take 0.1 s to load

        chain_id, start = await self._chain.chain_id(), (await self._chain.head()).number + 1
        token = MarketToken.deploy_data(TOKEN_NAME, TOKEN_SYMBOL, await self._issuer(), MAXIMUM_SUPPLY)
        needed = codes(token, PANEL)
        contracts: dict[str, Address] = {}
        if path.exists() and (kept := PartialDeployment.load(path)).chain_id == chain_id:
            there = await self._there(kept.contracts)
            contracts = {name: there[name] for name in takewhile(there.__contains__, needed)}
            start = kept.start_block if contracts else start
        complete = contracts.keys() == needed.keys()
        for name in [name for name in needed if name not in contracts]:
            contracts[name] = await self._create(needed[name](contracts), name)
        deployment = Deployment(chain_id=chain_id, start_block=start, contracts=contracts)
        if not complete:
            part = path.with_suffix(".part")
            part.write_text(deployment.model_dump_json(indent=2))
            part.replace(path)
        return deployment

    async def fund(self, deployment: Deployment, account: Address, tokens: int) -> None:
        """Give an account coin for fees, and issue tokens to it (in the smallest unit), unless it has coin."""
        if await self._rpc.request("eth_getBalance", account, "latest") != "0x0":
            return
        await self._rpc.request("anvil_setBalance", account, hex(COIN))
        if tokens:
            await self._send(MarketToken(deployment.token).issue(account, tokens))

    async def _there(self, contracts: Mapping[str, Address]) -> dict[str, Address]:
        """Give those at whose addresses the chain has code."""
        found = await self._rpc.batch([("eth_getCode", [at, "latest"]) for at in contracts.values()])
        return {name: at for (name, at), code in zip(contracts.items(), found, strict=True) if code != "0x"}

    async def _issuer(self) -> Address:
        accounts = cast("list[str]", await self._rpc.request("eth_accounts"))
        return Address(accounts[0])

    async def _create(self, code: bytes, name: str) -> Address:
        receipt = await self._mined({"data": "0x" + code.hex()}, name)
        return Address(to_checksum_address(receipt["contractAddress"]))

    async def _send(self, call: Call[Any]) -> None:
        await self._mined({"to": call.to, "data": "0x" + call.data.hex()}, f"{call.contract}.{call.function}")

    async def _mined(self, transaction: dict[str, str], what: str) -> dict[str, Any]:
        sent = await self._rpc.request(
            "eth_sendTransaction", {"from": await self._issuer(), "gas": hex(8_000_000), **transaction}
        )
        async with aclosing(self._chain.heads(poll_s=0.05, silence_s=0.2)) as heads:
            async for _ in heads:
                receipt = await self._rpc.request("eth_getTransactionReceipt", sent)
                if receipt is not None:
                    break
        found = cast("dict[str, Any]", receipt)
        if found["status"] != "0x1":
            raise DeploymentFailedError(what)
        return found
