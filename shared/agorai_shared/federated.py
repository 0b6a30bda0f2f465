"""Federated training off the chain: the documents that a task's parties write, and what each must know of the others.

Liu, Wu and Xiao, "Blockchain-Based platform for Distribution AI", 2019 (DAI). The chain names each of these documents
by digest, one raw block each. What only some may read is in envelopes, each bound to what it is for.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import Field, JsonValue, model_validator

from agorai_shared.documents import CidText, Count, Document, Share
from agorai_shared.pool import Sha256
from agorai_shared.shared_jwe import Envelope
from agorai_shared.types import Address

MOST_SUBTASKS: Final = 1_000
"""Of one task; each has at least one row in each round's document."""

_MOST_PAID: Final = 1 << 16
"""Subtasks that have delivered, those that others replaced among them: each delivery costs a transaction."""

Amount = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,28})$")]
"""Of the token's smallest unit, in decimal; as JSON numbers such amounts are not exact."""
Id = Annotated[int, Field(gt=0, lt=1 << 64)]
Round = Annotated[int, Field(ge=0, lt=1 << 16)]
Mode = Literal["open", "dai", "aggregate", "encrypted"]
"""How updates travel.

`open`: sealed to the task's key alone, which is revealed in the end. `dai`: encrypted homomorphically besides, under
the model provider's key, which decrypts each (DAI, 4.3 and 4.4). `aggregate`: encrypted homomorphically and sealed to
adders, who have no key; the model provider is handed sums of two at least. `encrypted`: samples and model are
encrypted homomorphically, and computers train on them without a key (DAI, 4.4: 3).
"""


class DataOffer(Document):
    """That models may be trained on a data set, without its being handed out, for a fee for each round."""

    resource: Id
    """In the registry; its schema document says what it holds and how good it is."""
    fee: Amount


class ComputingOffer(Document):
    """What a computation provider trains with, and its wage for each round."""

    wage: Amount
    cores: int = Field(gt=0, le=1 << 16)
    memory_mib: int = Field(gt=0)
    gpu: str = Field("", max_length=200)
    subtasks: int = Field(1, gt=0, le=MOST_SUBTASKS)
    """That it takes part in at the same time."""


class Specification(Document):
    """What a member offers to training tasks; its profile names this document (DAI, 3.1 and 4.2)."""

    type: Literal["agorai/specification/1"] = "agorai/specification/1"
    data: tuple[DataOffer, ...] = Field((), max_length=1_000, fail_fast=True)
    computing: ComputingOffer | None = None
    adding: Amount | None = None
    """The fee for each round for which it adds encrypted updates up."""

    @model_validator(mode="after")
    def _offers_each_once(self) -> Self:
        if len({offer.resource for offer in self.data}) != len(self.data):
            raise ValueError("a data set is offered twice")
        return self


class TaskBinding(Document):
    """The one task on one chain that a document is about."""

    chain_id: int = Field(gt=0)
    contract: Address = Field(pattern=r"^0x[0-9a-fA-F]{40}$")
    task: Id

    def data(self, subtask: int) -> str:
        """Give the context of the data set that a subtask is trained on."""
        return f"{self}:data:{subtask}"

    def model(self, round_: int) -> str:
        """Give the context of the global model behind a round; 0 is the first model."""
        return f"{self}:model:{round_}"

    def encrypted(self, round_: int) -> str:
        """Give the context of the same model, encrypted homomorphically."""
        return f"{self}:encrypted:{round_}"

    def update(self, subtask: int, round_: int) -> str:
        """Give the context of what a subtask gives in a round."""
        return f"{self}:update:{subtask}:{round_}"

    def sum(self, adder: int, round_: int, place: int) -> str:
        """Give the context of one of the sums that an adder's subtask gives in a round."""
        return f"{self}:sum:{adder}:{round_}:{place}"

    def __str__(self) -> str:
        return f"eip155:{self.chain_id}:{self.contract.lower()}:{self.task}"


class Stop(Document):
    """When a model has converged: after so many rounds that did not bring it so much further."""

    patience: int = Field(3, gt=0, le=1 << 16)
    least_gain: Share = 0.001
    """Of the test samples."""


class ContributionRule(Document):
    """How contributions are measured."""

    method: Literal["shapley", "leave_one_out", "samples"] = "shapley"
    permutations: int = Field(200, ge=20, le=100_000)
    """At most, where there are more than ten providers in a round, and Shapley's values are estimated."""


class Privacy(Document):
    """How much of its data a provider's updates hide: by clipping their steps, and noise that it adds itself."""

    clip: float = Field(gt=0, allow_inf_nan=False)
    """Most Euclidean length of an update's step from the global model."""
    noise: float = Field(gt=0, le=1e6)
    """Standard deviation of the noise on each parameter, over `clip`."""
    delta: float = Field(1e-5, gt=0, lt=1)
    """Probability with which the bound epsilon may fail."""


class Wanted(Document):
    """What data are wanted, of those that members offer (DAI, 4.4: a suitable data resource)."""

    least_rows: int = Field(1, gt=0)
    least_quality: Share = 0.0
    """Of the score in a data set's schema."""
    most_fee: Amount
    """For each round."""
    providers: int = Field(gt=0, le=MOST_SUBTASKS)
    """To ask, the cheapest for their quality first."""
    adders: int = Field(1, gt=0, le=8)
    """To ask in mode `aggregate`: the sums of one are enough."""


class HomomorphicKey(Document):
    """What updates are encrypted by, and what sums of them are decrypted by once the task's key is revealed.

    In mode `encrypted` it is what samples are encrypted by, which computers keep: its secret is never revealed.
    """

    public: CidText
    """Of the public key's file; see `agorai_shared.ckks`."""
    secret: Envelope
    """The secret key's file, sealed to the task's key; in mode `encrypted` to the model provider's account alone."""

    @staticmethod
    def context(key: str) -> str:
        """Give the context of the secret key's envelope: the task has no number yet, and one public key."""
        return f"homomorphic:{key}"


class TaskDocument(Document):
    """What is trained, how, and what it is judged and paid by (DAI, 3.3: model provisioning)."""

    type: Literal["agorai/task/1"] = "agorai/task/1"
    name: str = Field(min_length=1, max_length=200)
    description: str = Field("", max_length=10_000)
    model: dict[str, JsonValue]
    """What is trained, and how locally, as the trainer reads it: with the columns that data sets must have."""
    strategy: dict[str, JsonValue]
    """How updates are aggregated, as the trainer reads it."""
    mode: Mode = "open"
    privacy: Privacy | None = None
    wanted: Wanted
    contribution: ContributionRule = ContributionRule()
    stop: Stop = Stop()
    key: str = Field(pattern=r"^0[23][0-9a-f]{64}$")
    """Public, compressed; its address is on the chain."""
    nonce: Sha256
    """What the model provider's vault derives the private key from, besides its account's."""
    homomorphic: HomomorphicKey | None = None
    """In all modes but `open`."""
    test_samples: int = Field(gt=0)

    @model_validator(mode="after")
    def _has_what_its_mode_needs(self) -> Self:
        if (self.homomorphic is None) != (self.mode == "open"):
            raise ValueError(f"mode {self.mode} and its homomorphic key do not go together")
        if self.mode == "encrypted" and self.homomorphic and self.homomorphic.secret.to_task is not None:
            raise ValueError("in mode encrypted the secret key must not be revealed with the task's")
        return self


class DataHandover(Document):
    """Where the data of a subtask are, sealed to its computer (DAI, 4.4: 3a)."""

    type: Literal["agorai/task-data/1"] = "agorai/task-data/1"
    task: TaskBinding
    subtask: Id
    resource: Id
    data: Envelope
    """The data set; in mode `encrypted` its samples, encrypted homomorphically."""
    round: Round = 0
    """The round in which the computer takes over from another, if it does."""
    model: Envelope | None = None
    """The global model with which that round begins, which the model provider has not sealed to this computer; in
    mode `encrypted` as the round's record has it encrypted."""


class UpdateDocument(Document):
    """What a subtask gives in a round (DAI, 4.4: 3b)."""

    type: Literal["agorai/update/1"] = "agorai/update/1"
    task: TaskBinding
    subtask: Id
    round: Round
    samples: int = Field(gt=0, lt=1 << 32)
    """No more than its data set has rows."""
    update: Envelope
    """Parameters as bytes or, where they are encrypted homomorphically, a ciphertext of them times `samples`; in mode
    `encrypted` what `agorai_shared.he_results` reads."""


class Refused(Document):
    """An update that was not taken into the global model."""

    subtask: Id
    why: str = Field(max_length=500)


class GroupSum(Document):
    """The sum of the ciphertexts of some subtasks."""

    members: tuple[Id, ...] = Field(min_length=2, max_length=MOST_SUBTASKS, fail_fast=True)
    """In order."""
    sum: Envelope
    """Sealed to the task's key."""


class SumsDocument(Document):
    """What an adder gives in a round: of the first updates on the chain, all that it does not refuse, added."""

    type: Literal["agorai/sums/1"] = "agorai/sums/1"
    task: TaskBinding
    subtask: Id
    """The adder's."""
    round: Round
    sums: tuple[GroupSum, ...] = Field((), max_length=MOST_SUBTASKS, fail_fast=True)
    """Of the groups that `groups.deal` deals by the hash of the block with the last of these updates."""
    refused: tuple[Refused, ...] = Field((), max_length=MOST_SUBTASKS, fail_fast=True)


class RoundDocument(Document):
    """What became of a round: which updates were taken, and the global model that they make."""

    type: Literal["agorai/round/1"] = "agorai/round/1"
    task: TaskBinding
    round: Round
    """0 is before the first: the initial model."""
    taken: tuple[Id, ...] = Field((), max_length=MOST_SUBTASKS, fail_fast=True)
    """Subtasks, in order."""
    refused: tuple[Refused, ...] = Field((), max_length=MOST_SUBTASKS, fail_fast=True)
    adder: Id | None = None
    """Whose sums these updates were taken from, in mode `aggregate`."""
    model: Envelope
    """Parameters as bytes, sealed to the task's key, and to data providers and computers of the next round; in mode
    `encrypted` to the model provider's account alone."""
    encrypted: Envelope | None = None
    """In mode `encrypted`, of a model that is trained further: it as a ciphertext, sealed as `model` else is."""
    state: Envelope
    """What the strategy keeps, sealed to the task's key alone; in mode `encrypted` as `model` is."""
    right: Count
    """Test samples that the global model foretells rightly; in mode `encrypted` the model provider's word."""


class Contribution(Document):
    """What a subtask has contributed, in test samples: an exact fraction, and how far an estimate may be off."""

    subtask: Id
    value: str = Field(pattern=r"^-?[0-9]{1,2000}(/[1-9][0-9]{0,2000})?$")
    half_width: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Of the 95 % confidence interval, where it was estimated."""
    conduct: tuple[Annotated[str, Field(max_length=500)], ...] = Field((), max_length=1 << 16, fail_fast=True)
    """What was found of its updates, such as that one is another's."""

    @property
    def fraction(self) -> Fraction:
        """The value as a number."""
        return Fraction(self.value)


class PayoutRow(Document):
    """What an account gets."""

    account: Address = Field(pattern=r"^0x[0-9a-fA-F]{40}$")
    amount: Amount


class PayoutDocument(Document):
    """A proposed payout and what it was computed from: its evidence on the chain (DAI, 4.5)."""

    MOST_BYTES: ClassVar[int] = 64 << 20
    type: Literal["agorai/payout/1"] = "agorai/payout/1"
    task: TaskBinding
    contributions: tuple[Contribution, ...] = Field((), max_length=_MOST_PAID, fail_fast=True)
    """Of subtasks that delivered something."""
    delivered: dict[str, Count] = Field({}, max_length=_MOST_PAID)
    """Rounds for which each subtask is paid its fee."""
    rows: tuple[PayoutRow, ...] = Field((), max_length=2 * _MOST_PAID, fail_fast=True)
    """The leaves of the tree, sorted by address."""
    test_set: CidText
    """Of the file with the test samples, in the clear."""
