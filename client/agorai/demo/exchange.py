"""The case of "Fair and autonomous sharing" (III-B, IV): alice and bob are honest, the others are not.

Alice sells bob a model, and they swap two. Mallory sells one that does not keep its promise, then buys one and calls
it bad; oscar leaves with what he was handed. Anna, boris and clara vote. At the end everyone takes what is due, and
what the chain says of each account is held against what each trade paid.

    AgoraiError
    ├── NotAgreedError       two sides that should have agreed did not
    └── UnaccountedError     tokens are elsewhere than the trades say
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

import pandas as pd
from faststream.nats import NatsBroker

from agorai.client import Client, OnStage
from agorai.demo.invocation import Case, describe
from agorai.demo.town import Resident, Town, running
from agorai.devchain import TOKEN, TOKEN_SYMBOL
from agorai.node import MakeVerifier
from agorai.trading import Seen, Trading
from agorai.voting import Voting
from agorai_shared.answering import commands_of
from agorai_shared.bindings.fair_exchange import Faulted, Kind, State, Terms
from agorai_shared.command import subject
from agorai_shared.errors import AgoraiError
from agorai_shared.negotiation import Limits, Negotiation
from agorai_shared.service import Service
from agorai_shared.settings import NodeSettings
from agorai_shared.types import Address, ResourceId, TradeId, Wei
from agorai_shared.verifier import Inspect, Report
from agorai_trainer.messages import Offer
from agorai_trainer.tasks import TrainingTask
from agorai_verifier.settings import VerifierSettings

PRICE: Final = Wei(100 * TOKEN)
LIMITS: Final = Limits(t0=60, t1=60, t2=60, t3=60, tb=60)
PROMISED: Final = 9_200
"""In 1/10,000."""
VOTERS: Final = ("anna", "boris", "clara")
CASE: Final = Case(
    "breast cancer",
    "breast_cancer",
    TrainingTask(estimator="sklearn.LogisticRegression", scaler="standard", target="target", seed=3),
)


class NotAgreedError(AgoraiError):
    """A negotiation did not come to an agreement."""

    def __init__(self, found: Negotiation) -> None:
        super().__init__(
            f"The ask for model {found.ask.resource} is {found.state}: {found.why or 'no terms'}."
        )


class UnaccountedError(AgoraiError):
    """Somebody has more or less than the trades say."""

    def __init__(self, what: str, has: int, due: int) -> None:
        super().__init__(
            f"Not every token is accounted for: {what} {has / TOKEN:g}, where {due / TOKEN:g} is due."
        )


@dataclass(frozen=True, slots=True)
class Deal:
    """A trade and what became of it, as the chain has it; amounts in the token's smallest unit."""

    trade: TradeId
    story: str
    kind: str
    seller: str
    buyer: str
    seller_deposit: int
    buyer_deposit: int
    price: int
    """Paid into the contract; 0 in a swap."""
    bonus: int
    """To the voters; 0 without a dispute."""
    to_seller: int
    to_buyer: int
    outcome: str
    at_fault: str | None


@dataclass(frozen=True, slots=True)
class Holding:
    """What a participant had and has, in the token's smallest unit."""

    name: str
    before: int
    after: int
    staked: int
    """Of that what is not in `after`: in the panel, to judge again."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """Where all tokens are at one block, in the token's smallest unit."""

    supply: int
    accounts: Mapping[str, int]
    staked: Mapping[str, int]
    contracts: Mapping[str, int]


@dataclass(frozen=True)
class Result:
    """What the demonstration showed."""

    token: str
    deals: list[Deal]
    holdings: list[Holding]
    supply: int
    contracts: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Give it for machines, with amounts in whole tokens."""
        amounts = {"seller_deposit", "buyer_deposit", "price", "bonus", "to_seller", "to_buyer"}
        return {
            "token": self.token,
            "trades": [
                {name: value / TOKEN if name in amounts else value for name, value in asdict(deal).items()}
                for deal in self.deals
            ],
            "participants": [
                {name: value if name == "name" else value / TOKEN for name, value in asdict(one).items()}
                for one in self.holdings
            ],
            "supply": self.supply / TOKEN,
            "contracts": {name: amount / TOKEN for name, amount in self.contracts.items()},
        }


def inspecting(report: Report | None) -> MakeVerifier:
    """Give a verifier that a participant wrote for itself: it finds this of every model, or never answers."""

    @asynccontextmanager
    async def create(
        node: NodeSettings, settings: VerifierSettings, _broker: NatsBroker
    ) -> AsyncIterator[Service]:
        commands = commands_of(node.node_token.get_secret_value())

        @commands.subscriber(subject(settings.address, "verifier", "inspect"))
        async def inspect(_command: Inspect) -> Report:
            if report is None:
                await asyncio.Event().wait()
            return report  # type: ignore[return-value]  # None waits for ever

        yield Service("verifier", commands)

    return create


class CheatingTrading(Trading):
    """Trades of who does not care whether a model keeps its promise."""

    async def try_own(self, terms: Terms, tell: OnStage) -> None:
        """Look away."""
        del terms, tell


def residents() -> list[Resident]:
    """Give the participants: each can pay what it is going to lay down, and a voter its stake."""
    lying = inspecting(Report(good=False, why="it is bad"))
    return [
        Resident("alice", 500),
        Resident("bob", 500),
        Resident("mallory", 500, lying),
        Resident("oscar", 500, inspecting(None)),
        *(Resident(name, 10) for name in VOTERS),
    ]


def rows(first: int, last: int) -> bytes:
    """Give some of the case's rows as CSV."""
    header, *lines = CASE.csv().splitlines(keepends=True)
    return b"".join([header, *lines[first:last]])


TRAINING, TEST, VERIFICATION = rows(0, 400), rows(400, 500), rows(500, 569)


def spoiled(table: bytes) -> bytes:
    """Give each row the target of another."""
    read = pd.read_csv(io.BytesIO(table))
    read["target"] = read["target"].to_numpy()[::-1]
    return read.to_csv(index=False).encode()


async def run(tell: OnStage, *, block_time_s: float | None = None) -> Result:
    """Run the whole case on a marketplace of its own.

    Raises
    ------
    NotAgreedError, UnaccountedError
        If the marketplace does not do what it promises.
    """
    tell("starting bus, chain, hub and seven nodes")
    async with running(residents(), block_time_s=block_time_s) as town:
        return await Fair(town, tell).held()


class Fair:
    """The five trades, one after the other."""

    def __init__(self, town: Town, tell: OnStage) -> None:
        self._town, self._tell = town, tell
        self._names = {client.address: name for name, client in town.clients.items()}
        self._alice, self._bob, self._oscar = (self._trading(name) for name in ("alice", "bob", "oscar"))
        self._mallory = CheatingTrading(town.clients["mallory"], town.sandbox)

    async def held(self) -> Result:
        """Hold it, and see that every token is accounted for."""
        before = await self._holdings()
        self._tell("alice, bob and mallory train a model each; anna, boris and clara stake to judge")
        clients = self._town.clients
        voters = asyncio.gather(*(Voting(clients[name]).enlist(1) for name in VOTERS))
        good, swapped, bad = await asyncio.gather(
            _model(clients["alice"], TRAINING),
            _model(clients["bob"], TRAINING),
            _model(clients["mallory"], spoiled(TRAINING)),
        )
        await voters
        for trading, model in ((self._alice, good), (self._bob, swapped), (self._mallory, bad)):
            await trading.list_model(
                model, TEST, price=PRICE, least=PRICE, limits=LIMITS, accuracy=PROMISED, panel_size=3
            )
        deals = [
            await self._sale("an honest sale", self._alice, self._bob, good),
            await self._swap(good, swapped),
            await self._sale("a seller that does not keep its promise", self._mallory, self._bob, bad),
            await self._sale("a buyer that calls a good model bad", self._alice, self._mallory, good),
            await self._left(good),
        ]
        self._tell("everyone takes what is due")
        for client in clients.values():
            await Trading(client).withdraw()
        after = await self._holdings()
        check(before, after, deals)
        holdings = [Holding(name, held, after.accounts[name], after.staked[name])
                    for name, held in before.accounts.items()]  # fmt: skip
        return Result(TOKEN_SYMBOL, deals, holdings, after.supply, after.contracts)

    def _trading(self, name: str) -> Trading:
        return Trading(self._town.clients[name], self._town.sandbox)

    async def _sale(self, story: str, seller: Trading, buyer: Trading, model: ResourceId) -> Deal:
        trade = await self._sold(story, seller, buyer, model)
        return await self._deal(story, await _seen(seller, trade, State.ENDED))

    async def _sold(self, story: str, seller: Trading, buyer: Trading, model: ResourceId) -> TradeId:
        """Have an offer taken and its trade opened; the two nodes go on by themselves."""
        self._tell(story)
        ask = _agreed(await buyer.ask(model, VERIFICATION, offer=PRICE))
        return await seller.open(ask)

    async def _swap(self, alices: ResourceId, bobs: ResourceId) -> Deal:
        story = "an honest swap"
        self._tell(story)
        await self._alice.list_swaps(alices, {bobs: VERIFICATION})
        ask = _agreed(await self._bob.ask(alices, VERIFICATION, have=(bobs,)))
        trade = await self._alice.open(ask)
        await self._bob.accept(trade)
        return await self._deal(story, await _seen(self._bob, trade, State.ENDED))

    async def _left(self, model: ResourceId) -> Deal:
        """Sell to who is not there any more once the model is his, and let the time to confirm it pass."""
        story = "a buyer that leaves with the model"
        trade = await self._sold(story, self._alice, self._oscar, model)
        await _seen(self._alice, trade, State.INSPECTING)
        await self._town.stop("oscar")
        rpc = self._alice.client.chain.rpc
        await rpc.request("evm_increaseTime", LIMITS.tb + 1)
        await rpc.request("evm_mine")
        return await self._deal(story, await _seen(self._alice, trade, State.ENDED))

    async def _deal(self, story: str, seen: Seen) -> Deal:
        terms, ended, exchange = seen.terms, seen.ended, self._alice.exchange
        if ended is None:
            raise AssertionError("the trade has ended")
        faults = await self._alice.events(exchange.address, Faulted, f"0x{seen.id:064x}")
        bonus = 0
        if seen.dispute is not None:
            (bonus,) = await self._alice.read(exchange.bonus_of(terms.seller_deposit, terms.buyer_deposit))
        return Deal(
            trade=seen.id,
            story=story,
            kind=terms.kind.name.lower(),
            seller=self._names[terms.seller],
            buyer=self._names[terms.buyer],
            seller_deposit=terms.seller_deposit,
            buyer_deposit=terms.buyer_deposit,
            price=terms.price if terms.kind == Kind.SALE else 0,
            bonus=bonus,
            to_seller=ended.to_seller,
            to_buyer=ended.to_buyer,
            outcome=ended.outcome.name.lower(),
            at_fault=", ".join(self._names[fault.account] for fault in faults) or None,
        )

    async def _holdings(self) -> Holdings:
        """Read at one block where the tokens are, also those of a node that is stopped."""
        token, panel = self._alice.client.market.token, self._alice.panel
        deployment = self._alice.client.deployment
        contracts: dict[str, Address] = {
            "Invocation": deployment.invocation,
            "FairExchange": deployment.fair_exchange,
            "VotingPanel": deployment.voting_panel,
        }
        held = [*self._names, *contracts.values()]
        supply, config, *found = await self._alice.read(
            token.total_supply(),
            panel.config(),
            *(token.balance_of(account) for account in held),
            *(panel.voter_of(account) for account in self._names),
        )
        balances, voters = dict(zip(held, found[: len(held)], strict=True)), found[len(held) :]
        return Holdings(
            supply=supply,
            accounts={name: balances[account] for account, name in self._names.items()},
            staked={
                name: (voter.free + voter.taken) * config.seat_stake
                for name, voter in zip(self._names.values(), voters, strict=True)
            },
            contracts={name: balances[account] for name, account in contracts.items()},
        )


def check(before: Holdings, after: Holdings, deals: Iterable[Deal]) -> None:
    """See that every token is where the trades say.

    Raises
    ------
    UnaccountedError
        If a trade paid out other than was paid in, a trader or the voters have other than is theirs, or a contract
        holds other than the voters' stakes.
    """
    due = dict(before.accounts)
    bonuses = 0
    for deal in deals:
        paid_in = deal.seller_deposit + deal.buyer_deposit + deal.price
        _same(f"trade {deal.trade} paid out", deal.to_seller + deal.to_buyer + deal.bonus, paid_in)
        due[deal.seller] += deal.to_seller - deal.seller_deposit
        due[deal.buyer] += deal.to_buyer - deal.buyer_deposit - deal.price
        bonuses += deal.bonus
    has = {name: amount + after.staked[name] for name, amount in after.accounts.items()}
    for name, amount in has.items():
        if name not in VOTERS:
            _same(f"{name} has", amount, due[name])
    _same("the voters have", sum(has[name] for name in VOTERS), sum(due[name] for name in VOTERS) + bonuses)
    for name, amount in after.contracts.items():
        _same(f"{name} holds", amount, sum(after.staked.values()) if name == "VotingPanel" else 0)
    _same("there were", sum(before.accounts.values()), before.supply)
    _same("there are", sum(has.values()), after.supply)
    _same("there are", after.supply, before.supply)


def _same(what: str, has: int, due: int) -> None:
    if has != due:
        raise UnaccountedError(what, has, due)


async def _model(client: Client, table: bytes) -> ResourceId:
    """Train a model on a table of one's own; gives the resource that its use is offered as."""
    data = await client.publish(table, describe(CASE, table), Offer(name=CASE.name, price=0))
    bought = await client.buy(data)
    job = await client.train(bought.invocation, CASE.task, Offer(name=f"{CASE.name} model", price=TOKEN))
    return ResourceId(job.resource or 0)


def _agreed(found: Negotiation) -> str:
    if found.terms is None:
        raise NotAgreedError(found)
    return found.ask.ask


async def _seen(trading: Trading, trade: TradeId, state: State) -> Seen:
    """Wait until a trade is in a state, or has ended."""
    async with aclosing(trading.follow(trade)) as following:
        async for seen in following:
            if seen.trade.state in (state, State.ENDED):
                return seen
    raise AssertionError("a trade is followed to its end")
