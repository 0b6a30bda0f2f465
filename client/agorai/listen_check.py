"""Holds a file of chains against the chains themselves, before a hub follows it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pydantic import BaseModel

from agorai_hub.contracts import ContractSet
from agorai_hub.settings import FollowedChain, FollowedContract
from agorai_shared.chain import Chain, Finality
from agorai_shared.endpoint import Endpoint
from agorai_shared.errors import AgoraiError
from agorai_shared.rpc import Rpc


class CheckedEndpoint(BaseModel):
    """What one node says of itself."""

    url: str
    chain_id: int | None = None
    head: int | None = None
    final: int | None = None
    problem: str = ""


class CheckedContract(BaseModel):
    """Whether there is a contract where it is said to be; a family has no address, so nobody is asked."""

    name: str
    address: str | None
    events: int
    asked: bool = False
    problem: str = ""


class CheckedChain(BaseModel):
    """One entry of the file."""

    chain_id: int | None
    endpoints: list[CheckedEndpoint]
    contracts: list[CheckedContract]
    problem: str = ""

    @property
    def problems(self) -> list[str]:
        """All that is wrong with it."""
        parts = [self.problem, *(e.problem for e in self.endpoints), *(c.problem for c in self.contracts)]
        return [problem for problem in parts if problem]


async def check(chains: Sequence[FollowedChain], *, timeout_s: float = 15) -> list[CheckedChain]:
    """Ask every endpoint for its chain and its head, and whether each address has code.

    Raises
    ------
    InputError
        An ABI cannot be read, or two contracts share a name or an address.
    """
    for chain in chains:
        ContractSet(chain.contracts)
    found = await asyncio.gather(*(_checked(chain, timeout_s) for chain in chains))
    seen: set[int] = set()
    for one in found:
        if one.chain_id is not None and one.chain_id in seen:
            one.problem = (
                f"Chain {one.chain_id} is in the file twice: name all of its endpoints in one entry."
            )
        seen |= {one.chain_id} if one.chain_id is not None else set()
    return list(found)


async def _checked(chain: FollowedChain, timeout_s: float) -> CheckedChain:
    endpoints = await asyncio.gather(
        *(_endpoint(node, chain.confirmations, timeout_s) for node in chain.nodes())
    )
    first = next((one for one in endpoints if one.chain_id is not None), None)
    for one in endpoints:
        if chain.chain_id is not None and one.chain_id not in (None, chain.chain_id):
            one.problem = f"{one.url} serves chain {one.chain_id}; the file wants {chain.chain_id}."
        elif first is not None and one.chain_id not in (None, first.chain_id):
            one.problem = f"{one.url} serves chain {one.chain_id}, {first.url} serves {first.chain_id}."
    answering = [
        node
        for node, one in zip(chain.nodes(), endpoints, strict=True)
        if one.chain_id is not None and not one.problem
    ]
    contracts = [_without_code(one) for one in chain.contracts]
    if answering:
        async with Rpc(answering[:1], timeout_s=timeout_s) as rpc:
            for told in contracts:
                await _look_for_code(rpc, told)
    return CheckedChain(
        chain_id=first.chain_id if first else None, endpoints=list(endpoints), contracts=contracts
    )


async def _endpoint(node: Endpoint, confirmations: int | None, timeout_s: float) -> CheckedEndpoint:
    told = CheckedEndpoint(url=node.name)
    async with Rpc([node], timeout_s=timeout_s) as rpc:
        chain = Chain(rpc, Finality(confirmations))
        try:
            told.chain_id = await chain.chain_id()
            told.head = (await chain.head()).number
            told.final = (await chain.final()).number
        except AgoraiError as error:
            told.problem = str(error)
        except ValueError as error:
            told.problem = f"{node.name} answers, but not as a chain node does: {error}."
    return told


def _without_code(contract: FollowedContract) -> CheckedContract:
    events = len(contract.load_abi().events)
    problem = (
        "" if events else f"{contract.name}: its ABI has no events, so that nothing can be read in its logs."
    )
    return CheckedContract(name=contract.name, address=contract.address, events=events, problem=problem)


async def _look_for_code(rpc: Rpc, told: CheckedContract) -> None:
    if told.address is None:
        return
    try:
        code = await rpc.request("eth_getCode", told.address, "latest")
    except AgoraiError as error:
        told.problem = f"{told.problem} {error}".strip()
        return
    told.asked = True
    if code in ("0x", "0x0", None):
        absent = (
            f"{told.name}: there is no contract at {told.address} on this chain now. "
            "Check the address and the chain; it will have no events."
        )
        told.problem = f"{told.problem} {absent}".strip()
