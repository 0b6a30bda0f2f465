"""What trades, votes, data pools, training tasks and transfers share: contracts read and sent to, refusals in words.

RefusedError
├── TradeRefusedError       a contract refused; says why, and what to do
└── DepositTooHighError     more is to be laid down than the account has
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from agorai import pool_refusals, task_refusals, transfer_refusals
from agorai.client import Client
from agorai.devchain import TOKEN
from agorai.pool_refusals import PoolRefusedError
from agorai.task_refusals import TaskRefusedError
from agorai.transfer_refusals import TransferRefusedError
from agorai_shared.bindings.data_pool import DataPool, State
from agorai_shared.bindings.fair_exchange import FairExchange
from agorai_shared.bindings.training_task import SubtaskState, TaskState, TrainingTask
from agorai_shared.bindings.voting_panel import VotingPanel
from agorai_shared.chain import ContractRevertError, time_of
from agorai_shared.contract import Call
from agorai_shared.errors import RefusedError, RemoteError
from agorai_shared.market import Event, topic_of
from agorai_shared.types import Address, Hash, Wei
from agorai_shared.vault import TransactionRevertedError

EventT = TypeVar("EventT", bound=Event)

_UNLIMITED: Final = 2**256 - 1
_REFUSAL: Final = re.compile(
    r"\b((?:FairExchange|VotingPanel|DataPool|TrainingTask|DataTransfer|Registry)_\w+)\(([^()]*)\)"
)
_AMOUNTS: Final = frozenset(
    {
        "deposit",
        "price",
        "bonus",
        "least",
        "needed",
        "left",
        "bond",
        "wage",
        "fee",
        "amount",
        "total",
        "budget",
    }
)
_TIMES: Final = frozenset({"until", "deadline", "closesAt"})
REFUSALS: Final[Mapping[str, tuple[str, str]]] = {
    "FairExchange_NotMember": (
        "{account} is no member of this marketplace",
        "Its node joins when it starts: `agorai up`.",
    ),
    "FairExchange_NotOwner": (
        "Resource {resource} is not {account}'s",
        "Trade what the registry says is theirs.",
    ),
    "FairExchange_Blocked": (
        "{account} missed too many limits or lost too many disputes in a row, and is blocked until {until}",
        "Wait until then; trades that are open go on.",
    ),
    "FairExchange_DepositBelowPrice": (
        "A deposit of {deposit} is below the price of {price}",
        "List the model with --deposit-percent 100 or more, and have it asked for anew.",
    ),
    "FairExchange_LimitOutOfRange": (
        "A limit of {limit} s is not between {minimum} s and {maximum} s",
        "List the model with other --limits.",
    ),
    "FairExchange_BadPanelSize": (
        "A panel of {size} seats is not permitted",
        "List the model with an odd --panel-size from 3 to 15.",
    ),
    "FairExchange_BonusTooSmall": (
        "The voters' share of the deposits would be {bonus}; for this panel it is {least} at least",
        "List the model with a smaller --panel-size, or a higher price or deposit.",
    ),
    "FairExchange_NotFound": ("There is no trade {id}", "See this account's: `agorai trade mine`."),
    "FairExchange_WrongState": ("Trade {id} is not where this can be done", "See `agorai trade show {id}`."),
    "FairExchange_NotParty": (
        "{account} has no part in trade {id}, or not this one",
        "Only its sides can do this.",
    ),
    "FairExchange_NotSeller": (
        "Only the seller opens a trade, and {caller} is not",
        "Have the seller open it.",
    ),
    "FairExchange_NotDue": (
        "This step of trade {id} is done already, or another comes before it",
        "See `agorai trade show {id}`.",
    ),
    "FairExchange_DeadlinePassed": (
        "The time for it in trade {id} was over at {deadline}",
        "The nodes of the two sides end the trade; see `agorai trade show {id}`.",
    ),
    "VotingPanel_NotMember": (
        "{account} is no member of this marketplace",
        "Its node joins when it starts: `agorai up`.",
    ),
    "VotingPanel_SeatsTaken": (
        "{account} has {free} seats free, fewer than {wanted}",
        "Wait until the cases it was drawn for are closed: `agorai vote show`.",
    ),
    "VotingPanel_DrawDue": (
        "Case {id} is about to draw its voters, and until then nobody joins or leaves",
        "Try again in a moment; the nodes of its sides make the draw.",
    ),
}
"""By error: why, and what to do, with the error's values."""
_WORDS: Final = {
    **REFUSALS,
    **pool_refusals.REFUSALS,
    **task_refusals.REFUSALS,
    **transfer_refusals.REFUSALS,
}


class TradeRefusedError(RefusedError):
    """A contract of trades or voters refused."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(f"{why}.", remedy=remedy)


class DepositTooHighError(RefusedError):
    """The account has fewer tokens than are to be laid down."""

    def __init__(self, account: Address, balance: int, credit: int, needed: int, *, at_least: bool) -> None:
        least = "at least " if at_least else ""
        lacking = needed - balance
        taken = f"Take the {credit / TOKEN:g} credited to it with `agorai account withdraw`" if credit else ""
        got = f"get {least}{(lacking - credit) / TOKEN:g} more" if lacking > credit else ""
        todo = ", ".join(filter(None, (taken, got)))
        what = "token {}is" if needed == TOKEN else "tokens {}are"
        super().__init__(
            f"{needed / TOKEN:g} {what.format(least)} to be laid down; {account} has {balance / TOKEN:g}.",
            remedy=f"{todo[0].upper()}{todo[1:]} and repeat; nothing was spent.",
        )


@contextmanager
def explained() -> Iterator[None]:
    """Tell in words why a contract refused.

    Raises
    ------
    TradeRefusedError, PoolRefusedError, TaskRefusedError, TransferRefusedError
    """
    try:
        yield
    except (ContractRevertError, RemoteError, TransactionRevertedError) as error:
        found = _REFUSAL.search(error.message)
        if found is None or found[1] not in _WORDS:
            raise
        pairs = (pair.partition("=")[::2] for pair in found[2].split(", ") if pair)
        raise refusal(found[1], dict(pairs)) from error


def refusal(name: str, values: Mapping[str, object]) -> RefusedError:
    """Tell in words what a contract's error says with these values."""
    why, remedy = _WORDS[name]
    shown = {value: _shown(value, str(given)) for value, given in values.items()}
    if name == "DataPool_WrongState":
        shown["state"] = pool_refusals.STATES[State(int(shown["state"]))]
    elif name == "TrainingTask_WrongTaskState":
        shown["state"] = task_refusals.TASK_STATES[TaskState(int(shown["state"]))]
    elif name == "TrainingTask_WrongState":
        shown["state"] = task_refusals.SUBTASK_STATES[SubtaskState(int(shown["state"]))]
    elif name in transfer_refusals.REFUSALS and "id" in shown:
        shown["id"] = transfer_refusals.shown(int(shown["id"]))
    kind: type[PoolRefusedError | TaskRefusedError | TransferRefusedError | TradeRefusedError]
    kind = TradeRefusedError
    if name in pool_refusals.REFUSALS:
        kind = PoolRefusedError
    elif name in task_refusals.REFUSALS:
        kind = TaskRefusedError
    elif name in transfer_refusals.REFUSALS:
        kind = TransferRefusedError
    return kind(why.format_map(shown), remedy.format_map(shown))


def _shown(name: str, value: str) -> str:
    if name in _AMOUNTS:
        amount = f"{int(value) / TOKEN:g}"
        return amount if name != "left" else f"{amount} token{'' if amount == '1' else 's'}"
    return f"{datetime.fromtimestamp(int(value), UTC):%Y-%m-%d %H:%M:%S} UTC" if name in _TIMES else value


class Contracts:
    """The two contracts, as this account reads them and sends to them."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.exchange = FairExchange(client.deployment.fair_exchange)
        self.panel = VotingPanel(client.deployment.voting_panel)

    async def read(self, *calls: Call[Any]) -> tuple[Any, ...]:
        """Read at a final block; raises as `explained`."""
        with explained():
            return await self.client.chain.read(*calls)

    async def send(self, call: Call[Any], *, once: str | None = None) -> Hash:
        """Send once and wait until that is final; raises as `explained`, also before anything is sent."""
        with explained():
            return await self.client.transact(call, once=once)

    async def now(self) -> int:
        """Give the time in seconds since 1970: this machine's, or the chain's newest block's if that is later."""
        return await time_of(self.client.chain, newest=True)

    async def require(self, amount: int, *, at_least: bool = False) -> None:
        """See that the account has so much of the token, or at least so much; raises `DepositTooHighError`."""
        (balance,) = await self.read(self.client.market.token.balance_of(self.client.address))
        if balance < amount:
            credit = sum((await self.credits()).values())
            raise DepositTooHighError(self.client.address, balance, credit, amount, at_least=at_least)

    async def credits(self) -> dict[str, Wei]:
        """Give what is credited to this account, by where: sales (and refunds), trades, votes, pools and tasks."""
        me = self.client.address
        found = await self.read(*(contract.credit_of(me) for contract in self._payers.values()))
        return dict(zip(self._payers, found, strict=True))

    @property
    def _payers(self) -> dict[str, Any]:
        return {
            "sales": self.client.market.invocation,
            "trades": self.exchange,
            "votes": self.panel,
            "pools": DataPool(self.client.deployment.data_pool),
            "tasks": TrainingTask(self.client.deployment.training_task),
        }

    async def allow(self, spender: Address, amount: int) -> None:
        """Let a contract take what this account itself tells it to, unless it may; raises as `require`."""
        await self.require(amount)
        token = self.client.market.token
        (allowed,) = await self.read(token.allowance(self.client.address, spender))
        if allowed < amount:
            await self.send(token.approve(spender, Wei(_UNLIMITED)))

    async def events(self, contract: Address, kind: type[EventT], *topics: str | None) -> list[EventT]:
        """Read a contract's final events of a kind, whose indexed values are these topics, oldest first."""
        return [event for event, _ in await self.client.market.events(contract, kind, *topics)]

    @property
    def my_topic(self) -> str:
        """The account as a topic of events."""
        return topic_of(self.client.address)
