"""The vault as the node's other services meet it: what it is asked, what it answers, and a client.

Commands go over the bus (`node.<address>.vault.<verb>`); plaintext goes over HTTP, with the node's token.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Protocol, Self

import aiohttp
from pydantic import Field, JsonValue, PlainSerializer, model_validator

from agorai_shared.command import Commander
from agorai_shared.contract import Call
from agorai_shared.errors import AgoraiError, NotFoundError, RefusedError, RemoteError, UnavailableError
from agorai_shared.message import Message
from agorai_shared.negotiation import Account, DataCid, Listing, Negotiation, Price, Resource
from agorai_shared.shared_jwe import Envelope
from agorai_shared.sign_in import MOST_CHARACTERS
from agorai_shared.types import Address, CaseId, Cid, Hash, TradeId

_WITHOUT_END: Final = aiohttp.ClientTimeout(total=None, sock_connect=10)
"""For streams: however long all of one takes, what matters is that it goes on."""

Word = Annotated[int, Field(ge=0, lt=1 << 256), PlainSerializer(str, return_type=str, when_used="json")]
"""A word of the chain's; text in JSON, whose readers round whole numbers beyond 53 or 64 bits."""

STEP_TRIES: Final = 5
"""Transactions for one step of an item; each but the last reverted though the step was still to be taken."""


class TransactionState(StrEnum):
    """How far an intended transaction has come."""

    SENT = "sent"
    MINED = "mined"
    FINAL = "final"
    REVERTED = "reverted"


class TransactionRevertedError(RefusedError):
    """A transaction was mined and reverted: the contract's state had changed since it was sent."""

    def __init__(self, label: str, transaction: Hash | None, reason: str) -> None:
        super().__init__(
            f"The transaction {transaction} ({label}) reverted: {reason}.",
            remedy="Look at the item's state; unless the reason says otherwise, nothing but the fee was spent.",
        )


class PlaintextCutOffError(UnavailableError):
    """The vault broke off in the middle of an object."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(
            f"The vault at {url} broke off: {why}.",
            remedy="Its log says why; the sealed object may be damaged.",
        )


class PlaintextTooLargeError(RefusedError):
    """An object is larger than what may be taken into memory."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The content has more than {limit >> 20} MiB.", remedy="Raise AGORAI_TRAINER_MAX_CONTENT_MIB."
        )


class IntentNotFoundError(NotFoundError):
    """Nothing was sent under this idempotency key."""

    def __init__(self, once: str) -> None:
        super().__init__(f"Nothing was sent under the key {once!r}.", remedy="Send it first.")


class Send(Message):
    """Send one call of a marketplace contract, once."""

    once: str = Field(min_length=1, max_length=200)
    """Idempotency key: the same key is the same intended transaction, however often it is asked for."""
    to: Address
    data: str = Field(pattern=r"^0x([0-9a-f]{2}){4,}$")
    contract: str
    function: str
    value: Word = 0
    """What the call pays of the chain's own coin, in its smallest unit."""


class Watch(Message):
    """Tell what became of an intended transaction, waiting a while for it to come to `until`."""

    once: str = Field(min_length=1, max_length=200)
    until: TransactionState = TransactionState.FINAL
    timeout_s: float = Field(20.0, ge=0, le=25)


class Outcome(Message):
    """What became of an intended transaction."""

    once: str
    state: TransactionState
    transaction: Hash | None
    block: int | None
    reason: str | None

    @property
    def settled(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in (TransactionState.FINAL, TransactionState.REVERTED)


class Permit(Message):
    """Sign an allowance of the market's token for the `Invocation` contract (EIP-2612)."""

    value: Word
    deadline: Annotated[Word, Field(gt=0)]


class PermitSignature(Message):
    """The signed allowance."""

    v: int
    r: str
    s: str


class SignIn(Message):
    """Sign a message of EIP-4361 that names this account and chain, and nothing else."""

    message: str = Field(max_length=MOST_CHARACTERS)


class SignedIn(Message):
    """The signature, 65 bytes in hex."""

    signature: str


class Snapshot(Message):
    """Write a consistent copy of the vault's database, encrypted as it is, beside it."""


class SnapshotWritten(Message):
    """Where the copy is, for whoever asked to take it away."""

    path: str


class Ask(Message):
    """Ask for the vault's own state."""


class VaultStatus(Message):
    """The vault's own state."""

    address: Address
    encryption_key: Cid
    pending_transactions: int


class GrantOf(Message):
    """Ask for the grant of one invocation."""

    invocation: int = Field(gt=0, lt=1 << 63)


class GrantStatus(Message):
    """Whether this vault holds the grant of one invocation, or why it refused it."""

    held: bool
    refusal: str | None
    cid: Cid | None = None
    """The sealed object that the grant opens."""


class ContentOf(Message):
    """Ask which object of this vault's own a resource sells."""

    commitment: str = Field(pattern=r"^[0-9a-f]{64}$")
    """What the resource carries."""


class OwnContent(Message):
    """The sealed object that a commitment hides; None when this vault did not make it."""

    cid: Cid | None


class SealedObject(Message):
    """A sealed object put into the store."""

    cid: Cid
    commitment: str
    """What a resource that sells it carries: SHA-256 of salt and CID, as 64 hex digits."""
    size: int
    """Bytes of the plaintext."""


Nonce = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""What a task's key is derived from, besides the account's."""


class TaskKeyOf(Message):
    """Ask for the public key of a task of this account's; the same nonce is the same key."""

    nonce: Nonce


class PublicTaskKey(Message):
    """What others seal to a task by."""

    public: str
    """Compressed point in hex."""
    address: Address
    """What the contract compares the revealed key with."""


class RevealTaskKey(Message):
    """Ask for the private key of a task of this account's, which is to be put on the chain."""

    nonce: Nonce


class RevealedTaskKey(Message):
    """A task's private key, known to all from now on."""

    secret: str = Field(pattern=r"^[0-9a-f]{64}$")


class SealEnvelope(Message):
    """For whom, and for what, a plaintext is sealed."""

    context: str = Field(max_length=500)
    members: tuple[Account, ...] = Field((), max_length=1_000)
    lenient: bool = False
    """Whether members whose key cannot be used are left out: who has left must not hold up all others."""
    task: str | None = None
    """A task's public key."""
    inline: bool = False
    """Whether a small object stays in the envelope: one that nobody has to find by its CID."""


class OpenEnvelope(Message):
    """Open what is sealed to this account or, with its nonce, to a task of this account's."""

    envelope: Envelope
    context: str = Field(max_length=500)
    author: Account
    """Who serves the object."""
    nonce: Nonce | None = None


class Tell(Message):
    """Send a message to another member's node."""

    to: Account
    topic: str = Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")
    body: dict[str, JsonValue]


class Told(Message):
    """The other node took the message."""

    id: str


class BlockPeer(Message):
    """Take no messages of an account any more, or take them again."""

    account: Account
    blocked: bool = True


class BlockedPeers(Message):
    """Whose messages are not taken."""

    accounts: tuple[Address, ...]


class ListResource(Message):
    """Trade a model of this node's own on these terms, or no more."""

    resource: int = Field(gt=0)
    listing: Listing | None

    @model_validator(mode="after")
    def _speaks_of_one(self) -> Self:
        if self.listing is not None and self.listing.resource != self.resource:
            raise ValueError("the listing is of another resource")
        return self


class ListingsOf(Message):
    """Ask what is listed."""


class Listings(Message):
    """What is listed."""

    listings: tuple[Listing, ...]


class AskFor(Message):
    """Ask what another's model costs, or offer a price for it."""

    resource: Resource
    price: Price
    """What is paid, on the terms quoted last for this model or better ones; 0 only asks, or swaps."""
    verification: DataCid
    """The public CSV on which the model shall be judged."""
    have: tuple[Resource, ...] = Field((), max_length=100)
    """Own models, each listed, that would be swapped for it."""


class Asked(Message):
    """The ask is on its way."""

    ask: str
    other: Address
    """Who is asked."""


class TradeOpened(Message):
    """Note, as the seller, that the trade agreed on is opened."""

    other: Account
    ask: str
    trade: int = Field(gt=0)


class AsksOf(Message):
    """Ask how negotiations stand."""

    limit: int = Field(100, ge=1, le=100)


class Asks(Message):
    """How negotiations stand, the newest first."""

    asks: tuple[Negotiation, ...]


class AgreeTo(Message):
    """Agree to a trade on the terms on which it was opened."""

    trade: int = Field(gt=0)


class TradeOf(Message):
    """Ask what this node found of a trade."""

    trade: int = Field(gt=0)


class TradeStatus(Message):
    """What this node found of what the other side handed over: `unseen`, `good` or `bad`, and why."""

    trade: int
    agreed: bool
    key: str
    address: str
    model: str
    why: str


class JudgeCase(Message):
    """Judge the transcript of a case; `final` when what is missing will not be waited for."""

    case: int = Field(gt=0)
    final: bool


class CaseFinding(Message):
    """Who is to blame by the transcript of a trade; nobody yet if packages are to be evaluated."""

    trade: int
    blamed: Address | None
    why: str
    chosen: tuple[int, ...] = ()
    """Which of the accused's parameter sets of low quality are to be evaluated; none: its package itself."""


_ANSWER_S: Final = 10
"""How long a vault may take that need not wait: one that was killed never answers, and another is asked then."""


class Sends(Protocol):
    """What sends calls, as `Vault` does."""

    async def send(self, once: str, call: Call[Any]) -> Outcome:
        """Have a call sent once."""


async def send_step(vault: Sends, once: str, call: Call[Any]) -> str:
    """Send the call of an item's step, unless it is on its way; gives the key under which it was sent.

    A try that reverted, or lost its nonce to another wallet, is final; the item was read after that and still wants
    the step.

    Raises
    ------
    TransactionRevertedError
        All tries reverted.
    RemoteError
        As `Vault.send` raises it.
    """
    for number in range(STEP_TRIES):
        key = f"{once}/{number}"
        sent = await vault.send(key, call)
        if sent.state != TransactionState.REVERTED:
            return key
    raise TransactionRevertedError(f"{call.contract}.{call.function}", sent.transaction, sent.reason or "")


class Vault:
    """Asks one node's vault: its owner has calls sent by the verb `send`, a service by `step`, which sends less."""

    def __init__(
        self,
        commander: Commander,
        url: str,
        token: str,
        session: aiohttp.ClientSession,
        verb: Literal["send", "step"] = "send",
    ) -> None:
        self._commander = commander
        self._verb = verb
        self._url = url
        self._session = session
        self._headers = {"Authorization": f"Bearer {token}"}

    async def send(self, once: str, call: Call[Any]) -> Outcome:
        """Have a call sent once; gives as soon as the chain's node has it.

        Raises
        ------
        RemoteError
            If it would revert, the fee cannot be paid, the vault refuses it, or the chain does not answer.
        """
        send = Send(
            once=once,
            to=call.to,
            data="0x" + call.data.hex(),
            contract=call.contract,
            function=call.function,
            value=call.value,
        )
        return await self._commander.ask("vault", self._verb, send, Outcome, _ANSWER_S)

    async def settled(
        self, once: str, until: TransactionState = TransactionState.FINAL, timeout_s: float = 20
    ) -> Outcome:
        """Wait up to 25 s for a transaction to come to a state; gives where it is by then."""
        watch = Watch(once=once, until=until, timeout_s=timeout_s)
        return await self._commander.ask("vault", "outcome", watch, Outcome, timeout_s + 5)

    async def permit(self, value: int, deadline: int) -> PermitSignature:
        """Have an allowance for the `Invocation` contract signed."""
        return await self._commander.ask(
            "vault", "permit", Permit(value=value, deadline=deadline), PermitSignature
        )

    async def sign_in(self, message: str) -> str:
        """Have a sign-in message (EIP-4361) of this account signed; gives the signature in hex."""
        return (await self._commander.ask("vault", "sign_in", SignIn(message=message), SignedIn)).signature

    async def snapshot(self) -> Path:
        """Have a consistent copy of the vault's database written; gives where it is, on the vault's machine."""
        return Path((await self._commander.ask("vault", "snapshot", Snapshot(), SnapshotWritten)).path)

    async def grant(self, invocation: int) -> GrantStatus:
        """Ask whether a grant is held."""
        asked = GrantOf(invocation=invocation)
        return await self._commander.ask("vault", "grant", asked, GrantStatus, _ANSWER_S)

    async def content(self, commitment: bytes) -> Cid | None:
        """Ask which object of this vault's own a resource with this commitment sells; None if none does."""
        content_of = ContentOf(commitment=commitment.hex())
        return (await self._commander.ask("vault", "content", content_of, OwnContent)).cid

    async def status(self) -> VaultStatus:
        """Ask for the vault's own state."""
        return await self._commander.ask("vault", "status", Ask(), VaultStatus, 5)

    async def tell(self, to: Address, topic: str, body: dict[str, JsonValue]) -> Told:
        """Send a message to another member's node; gives when that has taken it.

        Raises
        ------
        RemoteError
            If that node does not answer or refuses, or the account is no member or has no inbox.
        """
        return await self._commander.ask("vault", "tell", Tell(to=to, topic=topic, body=body), Told, 45)

    async def block_peer(self, account: Address, *, blocked: bool = True) -> BlockedPeers:
        """Take no messages of an account any more, or take them again; gives whose are not taken."""
        block = BlockPeer(account=account, blocked=blocked)
        return await self._commander.ask("vault", "block_peer", block, BlockedPeers)

    async def list_resource(self, resource: int, listing: Listing | None) -> Listings:
        """Trade a model of this node's own on these terms, or no more; gives what is listed then."""
        change = ListResource(resource=resource, listing=listing)
        return await self._commander.ask("vault", "list_resource", change, Listings)

    async def listings(self) -> Listings:
        """Ask what is listed."""
        return await self._commander.ask("vault", "listings", ListingsOf(), Listings)

    async def ask(self, ask: AskFor) -> Asked:
        """Ask what another's model costs, or offer a price; the answers come later, see `asks`."""
        return await self._commander.ask("vault", "ask", ask, Asked)

    async def asks(self, limit: int = 100) -> tuple[Negotiation, ...]:
        """Ask how negotiations stand, the newest first."""
        return (await self._commander.ask("vault", "asks", AsksOf(limit=limit), Asks)).asks

    async def opened(self, other: Address, ask: str, trade: TradeId) -> None:
        """Note, as the seller, that the trade agreed on is opened; the buyer's node is told."""
        await self._commander.ask("vault", "opened", TradeOpened(other=other, ask=ask, trade=trade), Asks)

    async def agree(self, trade: TradeId) -> TradeStatus:
        """Agree to a trade on the terms on which it was opened; the node does the rest."""
        return await self._commander.ask("vault", "agree", AgreeTo(trade=trade), TradeStatus)

    async def trade(self, trade: TradeId) -> TradeStatus:
        """Ask what the node found of a trade."""
        return await self._commander.ask("vault", "trade", TradeOf(trade=trade), TradeStatus)

    async def judge(self, case: CaseId, *, final: bool) -> CaseFinding:
        """Judge the transcript of a case for which this account was drawn.

        Raises
        ------
        RemoteError
            If something is missing for which there is time left.
        """
        return await self._commander.ask("vault", "judge", JudgeCase(case=case, final=final), CaseFinding, 60)

    async def task_key(self, nonce: str) -> PublicTaskKey:
        """Ask for the public key of a task of this account's."""
        return await self._commander.ask("vault", "task_key", TaskKeyOf(nonce=nonce), PublicTaskKey)

    async def reveal_task_key(self, nonce: str) -> int:
        """Ask for the private key of a task of this account's, which is to be put on the chain."""
        asked = RevealTaskKey(nonce=nonce)
        revealed = await self._commander.ask("vault", "reveal_task_key", asked, RevealedTaskKey)
        return int(revealed.secret, 16)

    async def seal_envelope(self, plain: bytes, to: SealEnvelope) -> Envelope:
        """Have bytes sealed into the store for others.

        Raises
        ------
        RemoteError
            If a reader's key cannot be used, or the store does not answer.
        """
        try:
            async with self._session.post(
                f"{self._url}/vault/envelopes",
                params={"for": to.model_dump_json()},
                data=BytesIO(plain),
                headers=self._headers,
                timeout=_WITHOUT_END,
            ) as answer:
                if answer.status != 201:
                    raise await self._refusal(answer)
                return Envelope.model_validate(await answer.json(content_type=None))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise PlaintextCutOffError(self._url, f"{type(error).__name__}: {error}") from error

    async def open_envelope(self, asked: OpenEnvelope, limit: int) -> bytes:
        """Open what others sealed to this account, or to a task of this account's, of at most `limit` bytes."""
        body = asked.model_dump_json().encode()
        return await _whole(self._open("/vault/envelopes/open", {}, body), limit)

    async def put(self, plain: bytes | AsyncIterable[bytes]) -> SealedObject:
        """Have bytes sealed into the store."""
        # As a file they are sent in pieces, with other work in between.
        data = BytesIO(plain) if isinstance(plain, bytes) else plain
        try:
            async with self._session.post(
                f"{self._url}/vault/objects", data=data, headers=self._headers, timeout=_WITHOUT_END
            ) as answer:
                if answer.status != 201:
                    raise await self._refusal(answer)
                return SealedObject.model_validate(await answer.json(content_type=None))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise PlaintextCutOffError(self._url, f"{type(error).__name__}: {error}") from error

    def open_own(self, cid: Cid) -> AsyncGenerator[bytes]:
        """Stream an object of this node's own, opened.

        A fault in the middle raises in the middle: earlier bytes are genuine, but not the whole.

        Raises
        ------
        RemoteError, PlaintextCutOffError
        """
        return self._open(f"/vault/objects/{cid}", {})

    def open_bought(self, invocation: int, job: str) -> AsyncGenerator[bytes]:
        """Stream, opened for one job, what an invocation gives a right to; a fault raises as in `open_own`."""
        return self._open(f"/vault/invocations/{invocation}/content", {"job": job})

    async def own(self, cid: Cid, limit: int) -> bytes:
        """Open an object of this node's own, of at most `limit` bytes."""
        return await _whole(self.open_own(cid), limit)

    async def bought(self, invocation: int, job: str, limit: int) -> bytes:
        """Open, for one job, what an invocation gives a right to, of at most `limit` bytes."""
        return await _whole(self.open_bought(invocation, job), limit)

    async def package(self, source: str, limit: int) -> bytes:
        """Open the package that the vault streams at the path `source`, of at most `limit` bytes."""
        return await _whole(self._open(source, {}), limit)

    async def transferred(self, transfer: int, limit: int) -> bytes:
        """Open the data of a transfer, of at most `limit` bytes, by the key that voters told this account.

        Raises
        ------
        RemoteError
            Of the code `transfer_key_absent`, if none did.
        """
        return await _whole(self._open(f"/vault/transfers/{transfer}/data", {}), limit)

    async def _open(
        self, path: str, query: dict[str, str], body: bytes | None = None
    ) -> AsyncGenerator[bytes]:
        try:
            async with self._session.request(
                "GET" if body is None else "POST",
                self._url + path,
                params=query,
                data=body,
                headers=self._headers,
                timeout=_WITHOUT_END,
            ) as answer:
                if answer.status != 200:
                    raise await self._refusal(answer)
                async for piece in answer.content.iter_any():
                    yield piece
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise PlaintextCutOffError(self._url, f"{type(error).__name__}: {error}") from error

    async def _refusal(self, answer: aiohttp.ClientResponse) -> AgoraiError:
        problem = await answer.json(content_type=None)
        if isinstance(problem, dict):
            return RemoteError(problem)
        return PlaintextCutOffError(self._url, f"status {answer.status}")


async def _whole(pieces: AsyncGenerator[bytes], limit: int) -> bytes:
    plain = bytearray()
    async with aclosing(pieces):
        async for piece in pieces:
            plain += piece
            if len(plain) > limit:
                raise PlaintextTooLargeError(limit)
    return bytes(plain)
