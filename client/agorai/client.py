"""The SDK: one participant's running node, from outside.

    async with Client.connect(Home(Path("~/.agorai"))) as client:
        purchase = await client.buy(resource=1)
        job = await client.train(purchase.invocation, task, offer)

Everything a client does it asks of its own node; the keys stay there.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, cast

import aiohttp
import orjson
from eth_utils.address import is_address, to_checksum_address
from nats.aio.client import Client as Bus
from pydantic import ValidationError

from agorai import catalogue
from agorai.catalogue import Described, Search
from agorai.home import Home, NodeFile
from agorai_shared import bus, cid, logging
from agorai_shared.bindings.invocation import Item, Paid, State
from agorai_shared.bindings.registry import Kind, Registered, Resource, ResourceParams
from agorai_shared.bus_tls import tls_context
from agorai_shared.chain import Chain, Finality
from agorai_shared.command import Commander
from agorai_shared.content import NODE_PIN, ContentStore
from agorai_shared.contract import Call
from agorai_shared.deployment import Deployment
from agorai_shared.documents import Metadata, Schema
from agorai_shared.errors import (
    AgoraiError,
    InputError,
    RefusedError,
    RemoteError,
    UnavailableError,
)
from agorai_shared.event_filter import EventFilter
from agorai_shared.events import ChainEvent, Phase, subject
from agorai_shared.market import Event, Market, ResourceNotFoundError
from agorai_shared.rpc import Rpc
from agorai_shared.search import SchemaQuery
from agorai_shared.stream_reader import AFTER_NEWS_S, LOOK_S, first_at, read_portion
from agorai_shared.types import Address, Hash, InvocationId, ResourceId, Wei
from agorai_shared.validation import first_fault
from agorai_shared.vault import (
    IntentNotFoundError,
    Outcome,
    TransactionRevertedError,
    TransactionState,
    Vault,
)
from agorai_trainer.messages import (
    Ask,
    JobStatus,
    Offer,
    PredictJob,
    Submit,
    TrainerStatus,
    TrainJob,
    WatchJob,
)
from agorai_trainer.tasks import TrainingTask

if TYPE_CHECKING:
    from agorai_trainer.differences import SchemaDifferences, TableDifferences

log = logging.get(__name__)
PERMIT_S = 3600
PATIENCE_S = 30.0
"""How long a client bears with a node, bus or chain that is away."""
_SETTLED_S = 5
"""How long the vault is asked at once to wait for a transaction: one that was killed meanwhile never answers."""
T = TypeVar("T")
EventT = TypeVar("EventT", bound=Event)
PIECE = 1 << 20
_MAX_PIN_NAME = 256
MOST_CONTENT = 2 << 30
"""Bytes of a data set that is opened here."""


class OnStage(Protocol):
    """Told what is being done, and of what can be counted, the share that is done."""

    def __call__(self, stage: str, share: float | None = None) -> None:
        """Take the news."""


class BalanceTooLowError(RefusedError):
    """The account has fewer tokens than the price."""

    def __init__(self, account: Address, balance: Wei, price: Wei, symbol: str) -> None:
        super().__init__(
            f"The price is {price / 10**18:g} {symbol}; {account} has {balance / 10**18:g}.",
            remedy=f"Get {(price - balance) / 10**18:g} {symbol} more and ask again; nothing was spent.",
        )


class AddressMalformedError(InputError):
    """What was given as an account is no address."""

    def __init__(self, given: str) -> None:
        super().__init__(
            f"{given!r} is no account.",
            remedy="Give 0x and 40 hex digits, with the right checksum if mixed case.",
        )


class PriceTooHighError(RefusedError):
    """The price is above what the buyer set."""

    def __init__(self, resource: int, price: Wei, most: Wei) -> None:
        super().__init__(
            f"Resource {resource} costs {price / 10**18:g}, more than the {most / 10**18:g} set as the most.",
            remedy="Raise the most (--max-price), or do without it; nothing was spent.",
        )


class PreviousUnfitError(InputError):
    """What was named as the previous version cannot be one."""

    def __init__(self, previous: int, why: str) -> None:
        super().__init__(
            f"Resource {previous} cannot be the previous version: {why}.",
            remedy="Name a resource of your own and of the same kind by --previous, or leave it out.",
        )


class ModelNotComparedError(InputError):
    """What was named to be compared is no table."""

    def __init__(self, resource: int) -> None:
        super().__init__(
            f"Resource {resource} is a model; only the contents of data sets are compared.",
            remedy="Leave out --contents: what is public of models is compared too.",
        )


class CarrierDownError(UnavailableError):
    """The node whose bus this one shares does not run."""

    def __init__(self, carrier: Path) -> None:
        super().__init__(
            f"The node in {carrier}, which carries the bus and the chain of this one, does not answer.",
            remedy=f"Start it again: `AGORAI_HOME={carrier} agorai up`; what is under way goes on then.",
        )


class NotDeliveredError(UnavailableError):
    """The owner has not delivered yet."""

    def __init__(self, invocation: int, deadline: int) -> None:
        left = max(0, deadline - int(time.time()))
        super().__init__(
            f"The owner has not delivered invocation {invocation} yet; the window ends in {left} s.",
            remedy="Wait on; past the window your node has the payment credited back by itself.",
        )


class RefundedError(RefusedError):
    """The owner never delivered."""

    def __init__(self, invocation: int) -> None:
        super().__init__(
            f"The owner did not deliver invocation {invocation} in time; the payment was credited back.",
            remedy="Take the credit with `agorai account withdraw`.",
        )


class GrantFalseError(RefusedError):
    """The owner delivered a grant that does not hold."""

    def __init__(self, invocation: int, why: str) -> None:
        super().__init__(f"The grant of invocation {invocation} is false: {why}")


class JobFailedError(InputError):
    """A job ended with an error, whose code, message and remedy these are."""

    def __init__(self, status: JobStatus) -> None:
        failure = status.failure
        super().__init__(
            failure.message if failure else "The job failed.", remedy=failure.remedy if failure else ""
        )
        self.failure_code = failure.code if failure else "internal"


class NotOpenableError(RefusedError):
    """The node has no key to a resource's content."""

    def __init__(self, resource: int) -> None:
        super().__init__(
            f"Resource {resource} is not this node's own, and no right to it was named.",
            remedy="Buy it with `agorai buy`, and name the right with --invocation.",
        )


class EventsNotAskedForError(InputError):
    """What events are asked for is not of its form."""

    def __init__(self, error: ValidationError) -> None:
        super().__init__(f"Events cannot be picked by this {first_fault(error)}.")


@dataclass(frozen=True, slots=True)
class Purchase:
    """A right that was paid for and delivered."""

    invocation: InvocationId
    resource: ResourceId
    price: Wei
    expires_at: int
    transaction: Hash


@dataclass(frozen=True, slots=True)
class Listing:
    """A resource with what its owner says of it."""

    id: ResourceId
    resource: Resource
    metadata: Metadata | None
    """None when its owner's node does not answer, or wrote something else."""


def accuracy(listing: Listing) -> float | None:
    """Give the accuracy that a model's owner tells, as a share."""
    evaluation = listing.metadata.evaluation if listing.metadata else None
    return evaluation.accuracy if evaluation else None


@dataclass(frozen=True, slots=True)
class Balances:
    """What an account has, in the smallest units."""

    tokens: Wei
    credit: Wei
    coin: Wei
    symbol: str


class Client:
    """A participant's running node."""

    def __init__(self, info: NodeFile, connection: Bus, rpc: Rpc, session: aiohttp.ClientSession) -> None:
        self.info = info
        self.address = info.address
        self.bus = connection
        self.deployment = Deployment.load(info.deployment)
        self.chain = Chain(rpc, Finality(info.confirmations))
        self.store = ContentStore(info.url, info.token, session)
        self.market = Market(self.chain, self.deployment, self.store, session)
        self.commander = Commander(lambda: connection, info.address, info.token)
        self.vault = Vault(self.commander, info.vault_url, info.token, session)
        self._session = session
        self.has_sent = False
        """Whether it has asked for a transaction, which may be on its way."""

    @classmethod
    @asynccontextmanager
    async def connect(cls, node: Home | NodeFile) -> AsyncIterator[Self]:
        """Reach a running node.

        Raises
        ------
        NodeNotRunningError, BusUnreachableError
            If it does not run.
        CarrierDownError
            If the node does not run that it has joined.
        """
        info = node.running_node() if isinstance(node, Home) else node
        async with AsyncExitStack() as stack:
            try:
                connection = await bus.connect(
                    info.bus_url,
                    user=info.bus_user,
                    password=info.bus_password,
                    name="agorai-client",
                    tls=tls_context(info.bus_url, info.bus_ca),
                )
            except bus.BusUnreachableError as error:
                if info.joined is None:
                    raise
                raise CarrierDownError(info.joined) from error
            stack.push_async_callback(connection.close)
            rpc = await stack.enter_async_context(Rpc(info.rpc_url))
            session = await stack.enter_async_context(aiohttp.ClientSession())
            yield cls(info, connection, rpc, session)

    # ------------------------------------------------------------------------------------------ publishing

    async def publish(
        self,
        content: bytes,
        metadata: Metadata,
        offer: Offer,
        *,
        schema: Schema | None = None,
        once: str | None = None,
        on_stage: OnStage | None = None,
    ) -> ResourceId:
        """Seal content into this node's store and offer it on the chain; gives its id once that is final.

        Parameters
        ----------
        schema
            Of a data set; stored as a document of its own, which the metadata then name.
        once
            The same text is the same offer, however often it is asked for; see `transact`.

        Raises
        ------
        PreviousUnfitError
            As of `check_previous`; nothing was sealed.
        """
        tell = on_stage or silent
        if once is not None and (sent := await self._sent(once)):
            return (await self.market.emitted(sent, Registered)).id
        kind = Kind.DATA if metadata.kind == "data" else Kind.MODEL
        await self.check_previous(offer.previous, kind)

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(content), PIECE):
                tell("sealing", start / len(content))
                yield content[start : start + PIECE]

        called = f"{NODE_PIN}description of {metadata.name}"[:_MAX_PIN_NAME]
        if schema is not None:
            described = await self.store.put_document(schema.to_bytes(), name=called)
            metadata = metadata.model_copy(update={"schema_cid": described})
        document = cid.digest_of(await self.store.put_document(metadata.to_bytes(), name=called))
        sealed = await self.vault.put(pieces())
        tell("registering")
        call = self.market.registry.register(
            ResourceParams(
                kind=kind,
                price=offer.price,
                previous=offer.previous,
                duration=offer.duration,
                uses=offer.uses,
                window=offer.window,
                restricted=offer.restricted,
                metadata=document,
                commitment=bytes.fromhex(sealed.commitment),
            )
        )
        transaction = await self.transact(call, once=once)
        return (await self.market.emitted(transaction, Registered)).id

    async def check_previous(self, previous: int, kind: Kind) -> None:
        """See that a resource, if not 0, may be named as the previous version of one of this account's.

        Raises
        ------
        PreviousUnfitError
            If there is none, it is another's, or of another kind.
        """
        if not previous:
            return
        try:
            found = await self.market.resource(previous)
        except ResourceNotFoundError as error:
            raise PreviousUnfitError(previous, "there is none of this number") from error
        if found.owner != self.address:
            raise PreviousUnfitError(previous, f"it is {found.owner}'s")
        if found.kind != kind:
            raise PreviousUnfitError(
                previous, "it is a model" if found.kind == Kind.MODEL else "it is a data set"
            )

    # ---------------------------------------------------------------------------------------------- buying

    async def buy(
        self, resource: int, *, max_price: Wei | None = None, on_stage: OnStage | None = None
    ) -> Purchase:
        """Pay for a resource and wait until its grant is delivered and verified.

        Raises
        ------
        ResourceNotFoundError, ContractRevertError
            If there is none, or it is withdrawn or not sold to this account.
        BalanceTooLowError, PriceTooHighError
            If it cannot or shall not be paid; nothing was spent.
        RefundedError, GrantFalseError
            If its owner did not keep the bargain.
        """
        paid, transaction = await self.pay(resource, max_price=max_price, on_stage=on_stage)
        item = await self.delivered(paid.id, on_stage=on_stage)
        return Purchase(paid.id, paid.resource, paid.price, item.expires_at, transaction)

    async def pay(
        self, resource: int, *, max_price: Wei | None = None, on_stage: OnStage | None = None
    ) -> tuple[Paid, Hash]:
        """Pay for a resource; gives once that is final. See `buy` for the errors."""
        tell = on_stage or silent
        tell("reading the terms")
        await self.market.resource(resource)
        registry, token = self.market.registry, self.market.token
        terms, balance = await self.chain.read(
            registry.quote(ResourceId(resource), self.address), token.balance_of(self.address)
        )
        if max_price is not None and terms.price > max_price:
            raise PriceTooHighError(resource, terms.price, max_price)
        if balance < terms.price:
            (symbol,) = await self.chain.read(token.symbol())
            raise BalanceTooLowError(self.address, balance, terms.price, symbol)
        tell("paying")
        invocation = self.market.invocation
        if terms.price:
            deadline = max(int(time.time()), (await self.chain.head()).timestamp) + PERMIT_S
            permit = await self.vault.permit(terms.price, deadline)
            call = invocation.pay_with_permit(
                ResourceId(resource),
                terms.price,
                deadline,
                permit.v,
                bytes.fromhex(permit.r[2:]),
                bytes.fromhex(permit.s[2:]),
            )
        else:
            call = invocation.pay(ResourceId(resource), 0)
        transaction = await self.transact(call)
        return await self.market.emitted(transaction, Paid), transaction

    async def delivered(self, invocation: int, *, on_stage: OnStage | None = None) -> Item:
        """Wait until an invocation's grant is delivered and this node's vault has verified it.

        Raises
        ------
        RefundedError, GrantFalseError
            If its owner did not keep the bargain.
        """
        tell = on_stage or silent
        told = ""
        news = asyncio.Event()

        async def on_event(_message: object) -> None:
            news.set()

        pattern = subject(Phase.final, self.deployment.chain_id, "Invocation", "*", str(invocation))
        subscription = await self.bus.subscribe(pattern, cb=on_event)
        try:
            while True:
                (item,) = await self.chain.read(self.market.invocation.item(InvocationId(invocation)))
                handed_over = item.state == State.DELIVERED
                stage = (
                    "verifying the grant"
                    if handed_over
                    else f"paid; waiting for the owner to deliver invocation {invocation}"
                )
                if stage != told:
                    tell(stage)
                told = stage
                if item.state == State.REFUNDED:
                    raise RefundedError(invocation)
                if handed_over:
                    grant = await _patiently(partial(self.vault.grant, invocation))
                    if grant.refusal:
                        raise GrantFalseError(invocation, grant.refusal)
                    if grant.held:
                        return cast("Item", item)
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.05 if handed_over else 1.0):
                        await news.wait()
                news.clear()
        finally:
            await subscription.unsubscribe()

    # ------------------------------------------------------------------------------------------------ jobs

    async def train(
        self, invocation: int, task: TrainingTask, offer: Offer, *, on_stage: OnStage | None = None
    ) -> JobStatus:
        """Train on a data set that was bought, and offer the model; gives once that is final.

        Raises
        ------
        JobFailedError
            If the data do not fit the task, a limit was met, or the right has ended.
        """
        job = TrainJob(id=secrets.token_hex(16), invocation=invocation, task=task, offer=offer)
        return await self._done(job, on_stage or silent)

    async def predict(
        self, invocation: int, table: bytes, *, on_stage: OnStage | None = None
    ) -> list[int | float | str]:
        """Predict on a table of one's own with a model that was bought; the table stays on this node.

        Raises
        ------
        JobFailedError
            If the table does not fit the model, a limit was met, or the right has ended.
        """
        sealed = await self.vault.put(table)
        job = PredictJob(id=secrets.token_hex(16), invocation=invocation, table=sealed.cid)
        status = await self._done(job, on_stage or silent)
        if status.sealed is None:
            raise JobFailedError(status)
        result = orjson.loads(await self.vault.own(status.sealed, 1 << 30))
        return cast("list[int | float | str]", result["predictions"])

    async def _done(self, job: TrainJob | PredictJob, tell: OnStage) -> JobStatus:
        ask = self.commander.ask
        status = await _patiently(partial(ask, "trainer", "submit", Submit(job=job), JobStatus))
        while not status.ended:
            tell(status.stage)
            watch = WatchJob(id=job.id, after=status.revision)
            status = await _patiently(partial(ask, "trainer", "job", watch, JobStatus))
        if status.stage == "failed":
            raise JobFailedError(status)
        return status

    # --------------------------------------------------------------------------------------------- reading

    async def listing(self, resource: int) -> Listing:
        """Read a resource and its metadata."""
        found = await self.market.resource(resource)
        return Listing(ResourceId(resource), found, await self._metadata(found))

    async def _metadata(self, resource: Resource) -> Metadata | None:
        try:
            return await self.market.metadata(resource)
        except AgoraiError as error:
            log.info("metadata.absent", owner=resource.owner, reason=str(error))
            return None

    async def offers(self) -> list[Listing]:
        """Read all that is on the market, oldest first."""
        described = await catalogue.offers(self.market)
        return [Listing(one.id, one.resource, one.metadata) for one in described]

    async def search(self, query: SchemaQuery, *, most: int = 20) -> Search:
        """Look through the public documents of what is on the market; gives the best `most` that match.

        It takes a minute at most, however many owners do not answer; what was not looked at is counted.
        """
        return await catalogue.search(self.market, query, most)

    async def schema(self, resource: int) -> Schema:
        """Read a data set's schema.

        Raises
        ------
        ResourceNotFoundError, SchemaAbsentError
            If there is no such resource, or no schema of it that can be read.
        """
        found = await self.market.resource(resource)
        return await catalogue.schema_of(self.market, Described(ResourceId(resource), found))

    async def versions(self, resource: int) -> list[Listing]:
        """Walk `previous` from a resource to its first version; newest first."""
        found: list[Listing] = []
        while resource:
            found.append(await self.listing(resource))
            resource = found[-1].resource.previous
        return found

    async def schema_differences(self, before: int, after: int) -> SchemaDifferences:
        """Compare what two data sets' schemas say; raises as `schema` does."""
        from agorai_trainer import differences  # noqa: PLC0415 - pyarrow, which other methods do without

        return differences.schema_differences(await self.schema(before), await self.schema(after))

    async def differences(
        self,
        before: int,
        after: int,
        *,
        key: Sequence[str] = (),
        invocations: Sequence[int] = (),
        examples: int = 10,
        on_stage: OnStage | None = None,
    ) -> TableDifferences:
        """Compare two data sets that this node may open, in a sandbox.

        Parameters
        ----------
        key
            The columns that tell a row from every other; with none, whole rows are compared.
        invocations
            Rights to those that were bought. Of one whose uses are counted, one is spent the first time.
        examples
            At most so many rows of each sort are given whole.

        Raises
        ------
        ModelNotComparedError
            If one of them is a model; nothing was opened.
        NotOpenableError
            If one of them is neither this node's own nor bought by one of these rights.
        InputError
            Of `agorai_trainer.differences` or its reader of tables; or a verdict of the sandbox.
        """
        from agorai_trainer import comparing  # noqa: PLC0415 - as above
        from agorai_trainer.app import make_sandbox  # noqa: PLC0415

        for one in (before, after):
            if (await self.market.resource(one)).kind == Kind.MODEL:
                raise ModelNotComparedError(one)
        tell = on_stage or silent
        tell("opening both")
        old, new = await self.content(before, invocations), await self.content(after, invocations)
        tell("comparing in the sandbox")
        async with make_sandbox() as sandbox:
            return await comparing.in_sandbox(sandbox, old, new, tuple(key), examples=examples)

    async def content(self, resource: int, invocations: Sequence[int] = ()) -> bytes:
        """Open a resource's content: this node's own, or bought by one of these rights; see `differences`."""
        found = await self.market.resource(resource)
        own = await self.vault.content(found.commitment)
        if own is not None:
            return await self.vault.own(own, MOST_CONTENT)
        for invocation in map(InvocationId, invocations):
            (item,) = await self.chain.read(self.market.invocation.item(invocation))
            if item.resource == resource:
                if item.limited:
                    await self.transact(self.market.invocation.use(invocation), once=f"compare/{invocation}")
                return await self.vault.bought(invocation, f"compare/{invocation}", MOST_CONTENT)
        raise NotOpenableError(resource)

    async def balances(self) -> Balances:
        """Read what the account has, at a final block."""
        token, invocation = self.market.token, self.market.invocation
        tokens, credit, symbol = await self.chain.read(
            token.balance_of(self.address), invocation.credit_of(self.address), token.symbol()
        )
        coin = await self.chain.rpc.request("eth_getBalance", self.address, "latest")
        return Balances(tokens, credit, Wei(int(cast("str", coin), 16)), symbol)

    async def trainer_status(self) -> TrainerStatus:
        """Ask for the trainer's own state."""
        return await self.commander.ask("trainer", "status", Ask(), TrainerStatus, 5)

    async def events(
        self,
        *,
        contract: str = "*",
        event: str = "*",
        key: str = "*",
        follow: bool = False,
        where: Sequence[str] = (),
        account: str | None = None,
        from_block: int = 0,
    ) -> AsyncIterator[ChainEvent]:
        """Yield final events in chain order; then, if asked, go on with those that come.

        Parameters
        ----------
        contract, event, key
            Names that must be the event's own; `*` is any.
        follow
            Go on for ever, also over times in which the bus is away.
        where
            Comparisons of arguments that must all hold, as `price >= 100`.
        account
            An account that must be among the arguments.
        from_block
            Height of the first block; 0 begins with the first event kept.

        Raises
        ------
        EventsNotAskedForError
            If what is asked for is not of its form.
        BusUnreachableError
            If not following and the bus is away for longer than `PATIENCE_S` seconds.
        """
        wanted = _wanted(contract=contract, event=event, key=key, account=account, where=tuple(where))
        stream = bus.final_stream(self.deployment.chain_id).name or ""
        pattern = wanted.subject(self.deployment.chain_id)
        patience_s = inf if follow else PATIENCE_S
        news = asyncio.Event()

        async def on_event(_message: object) -> None:
            news.set()

        subscription = await self.bus.subscribe(pattern, cb=on_event) if follow else None
        try:
            following = 1
            if from_block:
                following = await _patiently(
                    partial(first_at, self.bus, stream, from_block), patience_s=patience_s
                )
            pauses: Iterator[float] = iter(())
            while True:
                news.clear()
                read = partial(read_portion, self.bus, stream, following, pattern)
                portion = await _patiently(read, patience_s=patience_s)
                following = portion.following
                for message in portion.messages:
                    found = ChainEvent.from_json(message.payload)
                    if found.block_number >= from_block and wanted.matches(found):
                        yield found
                if portion.messages:
                    continue
                if not follow:
                    return
                try:
                    async with asyncio.timeout(next(pauses, LOOK_S)):
                        await news.wait()
                    pauses = iter(AFTER_NEWS_S)
                except TimeoutError:
                    pass
        finally:
            if subscription is not None and not self.bus.is_closed:
                await subscription.unsubscribe()

    # --------------------------------------------------------------------------------------------- sending

    async def withdraw(self) -> Wei:
        """Take the credit that sales and refunds brought; gives how much it was."""
        credit = (await self.balances()).credit
        if credit:
            await self.transact(self.market.invocation.withdraw())
        return credit

    async def send_tokens(self, to: str, amount: Wei) -> Hash:
        """Send tokens, in the smallest unit, to another account.

        Raises
        ------
        AddressMalformedError
            If `to` is no address.
        """
        return await self.transact(self.market.token.transfer(address_of(to), amount))

    async def issue_tokens(self, to: str, amount: Wei) -> Hash:
        """Issue new tokens, in the smallest unit; the founder's account only."""
        return await self.transact(self.market.token.issue(address_of(to), amount))

    async def transact(self, call: Call[Any], *, once: str | None = None) -> Hash:
        """Send a call of a marketplace contract once and wait until it is final.

        Raises
        ------
        RemoteError
            If it would revert or cannot be paid for; nothing was sent.
        TransactionRevertedError
            If it was mined and reverted.
        """
        once = once or f"client/{secrets.token_hex(16)}"
        self.has_sent = True
        outcome = await _patiently(partial(self.vault.send, once, call))
        return await self._final(once, outcome, f"{call.contract}.{call.function}")

    async def _final(self, once: str, outcome: Outcome, label: str) -> Hash:
        while not outcome.settled:
            outcome = await _patiently(partial(self.vault.settled, once, timeout_s=_SETTLED_S))
        if outcome.state == TransactionState.REVERTED or outcome.transaction is None:
            raise TransactionRevertedError(label, outcome.transaction, outcome.reason or "")
        return outcome.transaction

    async def _sent(self, once: str) -> Hash | None:
        """Wait for what was sent under this key to be final; none if nothing was."""
        try:
            outcome = await _patiently(partial(self.vault.settled, once, timeout_s=0))
        except RemoteError as error:
            if error.code == IntentNotFoundError.code:
                return None
            raise
        return await self._final(once, outcome, once)


def _wanted(
    *, contract: str, event: str, key: str, account: str | None, where: tuple[str, ...]
) -> EventFilter:
    names = {"contract": contract, "event": event, "key": key}
    given = {name: value for name, value in names.items() if value != "*"}
    try:
        return EventFilter.model_validate({**given, "account": account, "where": where})
    except ValidationError as error:
        raise EventsNotAskedForError(error) from error


async def _patiently(ask: Callable[[], Awaitable[T]], *, patience_s: float = PATIENCE_S) -> T:
    """Ask again while the node or what it needs is away for a moment; what is asked must bear repeating.

    Raises
    ------
    AgoraiError
        The last error, once `patience_s` seconds have passed, or one that repeating would not mend.
    """
    give_up = time.monotonic() + patience_s
    while True:
        try:
            return await ask()
        except AgoraiError as error:
            if not error.retryable or time.monotonic() > give_up:
                raise
            log.info("client.asks_again", reason=str(error))
        await asyncio.sleep(0.5)


def address_of(given: str) -> Address:
    """Read an account's address; raises `AddressMalformedError`."""
    if not is_address(given):
        raise AddressMalformedError(given)
    return Address(to_checksum_address(given))


def silent(stage: str, share: float | None = None) -> None:
    """Tell nobody."""
    del stage, share
