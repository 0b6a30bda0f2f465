"""What pages and the API show: plain facts, read from the read model by `queries`.

Times are seconds since 1970 as blocks tell them, amounts integers of the token's smallest unit (in JSON decimal
text, as doubles do not hold them), accuracies 1/10,000, accounts checksummed addresses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Generic, TypeAlias, TypeVar

from pydantic import PlainSerializer

Amount: TypeAlias = Annotated[int, PlainSerializer(str, return_type=str, when_used="json")]

T = TypeVar("T")


class DocumentState(StrEnum):
    """Whether a document that the chain names by digest could be read."""

    read = "read"
    wanted = "wanted"
    """Nobody has been asked for it yet, or it is on its way."""
    absent = "absent"
    """Nobody who should serve it does, for now."""
    malformed = "malformed"


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some rows; `following` is the cursor of those after them, None at the end."""

    rows: tuple[T, ...]
    following: str | None


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that events are about: `contract` and `key` as on the bus, `kind` as pages name it.

    Kinds are resource, invocation, trade, case, pool, contribution, version, task, subtask, transfer, learner, actor.
    """

    kind: str
    contract: str
    key: str


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a curve."""

    time: int
    value: Amount


@dataclass(frozen=True, slots=True)
class Duty:
    """Something that waits for somebody."""

    item: Item
    what: str
    """A sentence: who does what."""
    who: tuple[str, ...]
    """Accounts that can do it; none where anyone can, or who it is is not known by account."""
    until: int | None
    """Deadline; None where there is none."""
    overdue: bool


# ------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class EventRow:
    """One final event."""

    id: str
    """Transaction hash, a hyphen, log index: the same in every read model."""
    sequence: int
    block: int
    log_index: int
    time: int
    transaction_hash: str
    contract: str
    event: str
    key: str
    args: Mapping[str, object]
    related: tuple[Item, ...]
    """What it is about, its own item first."""
    cut: bool = False
    """Whether long arguments were cut, as they are in lists; the event's own story has them whole."""


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step that a handler of this node took, or failed to."""

    service: str
    protocol: str
    step: str
    outcome: str
    """`ok` or `error`."""
    error: str | None
    at: float
    seconds: float
    trace: str
    transactions: tuple[str, ...]
    """Hashes of what it sent."""


@dataclass(frozen=True, slots=True)
class EventStory:
    """One event with what came of it: its transaction, the handlers that it woke, what they sent."""

    event: EventRow
    together: tuple[EventRow, ...]
    """All events of its transaction, in order, itself among them."""
    caused_by: StepRow | None
    """The step of this node that sent its transaction, if this node did."""
    steps: tuple[StepRow, ...]
    """Of this node's handlers, about the same item, until its next event."""
    followed: tuple[EventRow, ...]
    """Events of the transactions that these steps sent."""
    earlier: EventRow | None
    later: EventRow | None
    """Of the same item, the nearest."""


# ----------------------------------------------------------------------------------------------- overview


@dataclass(frozen=True, slots=True)
class Count:
    """How many there are of a kind, and how many of them are still open."""

    kind: str
    total: int
    open: int


@dataclass(frozen=True, slots=True)
class Held:
    """Money that a contract holds for others."""

    contract: str
    amount: Amount


@dataclass(frozen=True, slots=True)
class Failing:
    """A check that fails."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Projection:
    """How far the read model is."""

    block: int
    block_time: int
    sequence: int
    behind: int
    """Messages of the final stream that are not projected yet."""
    events: int
    rebuilding: bool


@dataclass(frozen=True, slots=True)
class Overview:
    """What is happening now."""

    chain_id: int
    projection: Projection
    counts: tuple[Count, ...]
    held: tuple[Held, ...]
    activity: tuple[Point, ...]
    """Events in equal spans of time up to the last block, oldest first; `time` is where a span begins."""
    span_s: int
    duties: tuple[Duty, ...]
    """What waits for somebody, the nearest deadline first."""
    recent: tuple[EventRow, ...]
    failing: tuple[Failing, ...]
    """Of this node's checks; none when all is well."""


# ------------------------------------------------------------------------------------------------- market


@dataclass(frozen=True, slots=True)
class Described:
    """What a resource's own metadata document says; foreign text."""

    name: str
    description: str
    license: str
    format: str
    size: int
    rows: int | None
    columns: tuple[str, ...]
    task: str | None
    target: str | None
    metric: str | None
    score: float | None


@dataclass(frozen=True, slots=True)
class ResourceRow:
    """A resource on the market."""

    id: int
    kind: str
    """`data` or `model`."""
    owner: str
    price: Amount
    registered_at: int
    previous: int | None
    restricted: bool
    withdrawn: bool
    name: str | None
    """From its metadata; None until that was read."""
    sold: int
    """Invocations that were delivered."""
    earned: Amount


@dataclass(frozen=True, slots=True)
class InvocationRow:
    """A paid use of a resource."""

    id: int
    resource: int
    payer: str
    owner: str
    price: Amount
    state: str
    """paid, delivered, refunded."""
    paid_at: int
    deadline: int | None
    """Until which it has to be delivered, then until which the grant holds."""
    uses: int
    uses_left: int | None
    duty: Duty | None


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource with its versions."""

    row: ResourceRow
    metadata: str
    """Digest, 0x hex."""
    document: DocumentState
    described: Described | None
    versions: tuple[ResourceRow, ...]
    """The chain of `previous` that it is in, the oldest first, itself among them."""
    invocations: tuple[InvocationRow, ...]
    """The newest."""
    trades: tuple[TradeRow, ...]
    allowed: tuple[str, ...]
    """Accounts that may buy it, where it is restricted."""


# -------------------------------------------------------------------------------------------------- trade


@dataclass(frozen=True, slots=True)
class TradeRow:
    """A sale or a swap."""

    id: int
    kind: str
    """sale, swap."""
    seller: str
    buyer: str
    seller_resource: int
    buyer_resource: int | None
    price: Amount
    state: str
    """offered, preparing, keys, addresses, inspecting, disputed, ended."""
    outcome: str | None
    """withdrawn, expired, completed, confirmed, rejected, undecided."""
    opened_at: int
    deadline: int | None
    duty: Duty | None


@dataclass(frozen=True, slots=True)
class Stage:
    """One state on a timeline; `since` is None while it is still to come."""

    name: str
    since: int | None
    deadline: int | None
    """Of this state, where it is known."""
    done: bool
    limit_s: int | None
    """How long it may take."""
    steps: tuple[StageStep, ...]


@dataclass(frozen=True, slots=True)
class StageStep:
    """What one side does in a state."""

    who: str
    """seller, buyer, or a role."""
    what: str
    at: int | None
    """When it was done; None: not yet."""
    event: str | None
    """Id of the event that says so."""


@dataclass(frozen=True, slots=True)
class Trade:
    """One trade with its timeline."""

    row: TradeRow
    mode: str
    seller_deposit: Amount
    buyer_deposit: Amount
    seller_accuracy: int
    buyer_accuracy: int | None
    panel_size: int
    to_seller: Amount | None
    to_buyer: Amount | None
    """What each got in the end."""
    faulted: tuple[str, ...]
    """Accounts whose fault ended it."""
    stages: tuple[Stage, ...]
    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True)
class Seat:
    """A voter's seat in a case."""

    voter: str
    round: int
    state: str
    """seated, committed, revealed, absent."""
    confirms: bool | None
    at: int
    """Of its last change."""


@dataclass(frozen=True, slots=True)
class Case:
    """A dispute before the panel."""

    id: int
    about: Item
    """The trade, contribution, task or transfer."""
    accuser: str
    accused: str
    size: int
    bonus: Amount
    state: str
    """drawing, committing, revealing, closed."""
    verdict: str | None
    """confirmed, rejected, undecided."""
    confirming: int
    revealed: int
    opened_at: int
    closed_at: int | None
    seats: tuple[Seat, ...]
    duty: Duty | None


# --------------------------------------------------------------------------------------------------- pool


@dataclass(frozen=True, slots=True)
class PoolRow:
    """A data pool."""

    id: int
    owner: str
    name: str | None
    state: str
    """open, closing, closed, forfeited."""
    opened_at: int
    closes_at: int
    accepted: int
    """Samples."""
    pending: int
    """Samples of contributions that have not ended."""
    contributions: int
    contributors: int
    versions: int
    accuracy: int | None
    """Of the latest version."""
    duty: Duty | None


@dataclass(frozen=True, slots=True)
class ContributionRow:
    """Samples that somebody added."""

    id: int
    pool: int
    contributor: str
    count: int
    left: int
    """Samples that have not been found wrong."""
    state: str
    """open, challenged, answered, contested, settled."""
    added_at: int
    deadline: int | None
    corrects: int | None
    challenger: str | None
    challenges: int
    upheld: bool | None
    """The owner's answer to the challenge at hand."""
    panel_case: int | None
    duty: Duty | None


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A model version that was published for a pool."""

    id: int
    publisher: str
    predecessor: int | None
    accuracy: int
    at: int
    record: str
    model: str
    snapshot: str


@dataclass(frozen=True, slots=True)
class Curve:
    """One account's or one quantity's course."""

    name: str
    """An address, or the quantity's name."""
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool with what it became (the papers' Figs. 9-12)."""

    row: PoolRow
    document: DocumentState
    description: str | None
    deposit: Amount
    reward: Amount
    bond: Amount
    budget: Amount
    """All that was paid in for rewards and voters."""
    check_window: int
    answer_window: int
    reveal_window: int
    panel_size: int
    test_set: str | None
    """Digest, once it is revealed."""
    growth: tuple[Curve, ...]
    """`accepted` and `added` samples, summed up; thinned out where there are many."""
    balances: tuple[Curve, ...]
    """By account with the most to show: what it got from the pool less what it paid in."""
    accuracy: tuple[Curve, ...]
    """By publisher, of its versions."""
    contributions: Page[ContributionRow]
    versions: tuple[VersionRow, ...]
    stages: tuple[Stage, ...]


# --------------------------------------------------------------------------------------------------- task


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A training task."""

    id: int
    model_provider: str
    name: str | None
    state: str
    """matching, running, finished, proposed, challenged, settled, abandoned."""
    opened_at: int
    round: int
    rounds: int
    budget: Amount
    award: Amount
    ready: int
    """Trainers that are."""
    deadline: int | None
    duty: Duty | None


@dataclass(frozen=True, slots=True)
class SubtaskRow:
    """Who takes part in a task, and as what."""

    id: int
    data_provider: str
    computer: str | None
    resource: int
    role: str
    """trainer, adder."""
    fee: Amount
    wage: Amount
    state: str
    """requested, approved, ready, left, declined, ended."""
    updates: int


@dataclass(frozen=True, slots=True)
class RoundRow:
    """A round of a task."""

    number: int
    begun_at: int
    deadline: int
    ended_at: int | None
    updates: tuple[int, ...]
    """Subtasks that delivered."""
    awaited: tuple[int, ...]
    document: DocumentState
    accuracy: float | None
    """Share of test samples foretold rightly after it, where its record could be read; else None."""
    right: int | None
    refused: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """What a subtask has contributed by a payout's evidence, and what its account gets."""

    subtask: int
    account: str | None
    contribution: float
    half_width: float
    conduct: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PayoutLine:
    """One account's part of a payout."""

    account: str
    amount: Amount
    claimed: bool


@dataclass(frozen=True, slots=True)
class Payout:
    """A payout that was proposed, or that a challenger proposed instead."""

    proposer: str
    challenge: bool
    at: int
    root: str
    total: Amount
    stands: bool
    outcome: str | None
    """Of the challenge: confirmed, rejected, undecided; None while it is open, or for the first."""
    panel_case: int | None
    document: DocumentState
    shares: tuple[Share, ...]
    lines: tuple[PayoutLine, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """One task with its rounds and payout."""

    row: TaskRow
    document: DocumentState
    mode: str | None
    strategy: str | None
    bond: Amount
    quorum: int
    panel_size: int
    join_window: int
    round_window: int
    step_window: int
    challenge_window: int
    stages: tuple[Stage, ...]
    subtasks: tuple[SubtaskRow, ...]
    initial: RoundRow | None
    """Round 0: the model before the first, whose record tells its accuracy."""
    rounds: tuple[RoundRow, ...]
    payouts: tuple[Payout, ...]
    claimed: Amount


# -------------------------------------------------------------------------------------------------- actor


@dataclass(frozen=True, slots=True)
class ActorRow:
    """An account that takes part in the market."""

    address: str
    roles: tuple[str, ...]
    """In words; none when it has left, or never joined."""
    joined_at: int | None
    left_at: int | None
    misconduct: int
    resources: int
    last_seen: int


@dataclass(frozen=True, slots=True)
class Misconduct:
    """A report of a contract that the registry keeps for ever."""

    at: int
    reporter: str
    source: str
    """Name of the contract, or its address."""
    about: Item | None
    event: str


@dataclass(frozen=True, slots=True)
class Actor:
    """One account with its reputation."""

    row: ActorRow
    gateway: str | None
    """Foreign text."""
    trades: tuple[tuple[str, int], ...]
    """By outcome, `open` for those that have none yet."""
    faults: int
    seats: int
    """At the panel."""
    votes: int
    absences: int
    resources: tuple[ResourceRow, ...]
    misconduct: tuple[Misconduct, ...]
    took_part: tuple[Count, ...]
    recent: tuple[EventRow, ...]


# --------------------------------------------------------------------------------------------------- node


@dataclass(frozen=True, slots=True)
class Lag:
    """One of this node's durable consumers on the final stream."""

    name: str
    pending: int
    unacknowledged: int
    redelivered: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An item that a service gave up on."""

    id: int
    service: str
    protocol: str
    item: Item
    step: str
    error: str
    attempts: int
    at: float
    retried_at: float | None


@dataclass(frozen=True, slots=True)
class Checked:
    """What answered, or failed to, when it was asked for its health."""

    name: str
    """node, hub, dashboard."""
    url: str | None
    ready: bool
    failing: tuple[Failing, ...]


@dataclass(frozen=True, slots=True)
class ChainHealth:
    """A chain that the hub follows."""

    chain_id: int
    facts: Mapping[str, object]
    """As the hub's `/chains` tells them."""


@dataclass(frozen=True, slots=True)
class ServiceSteps:
    """What one service's handlers did in the last hour."""

    service: str
    steps: int
    errors: int
    seconds: float
    """Mean of a step."""


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """How this node is."""

    at: float
    address: str
    checked: tuple[Checked, ...]
    chains: tuple[ChainHealth, ...]
    projection: Projection
    lags: tuple[Lag, ...]
    steps: tuple[ServiceSteps, ...]
    dead_letters: tuple[DeadLetter, ...]
    readers: int
    """Of `/live`."""
