"""The VotingPanel contract, typed. Written by contracts/tools/bindings.py: change the contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final, Self

from agorai_shared.abi.codec import ArgValue, as_address, as_bool, as_bytes, as_int, as_tuple
from agorai_shared.contract import Call, Contract, ContractAbi, EventAbi
from agorai_shared.types import Address, CaseId, Wei

CONTRACT: Final = ContractAbi.load("VotingPanel")


class Phase(IntEnum):
    """Where a case is."""

    NONE = 0
    DRAWING = 1
    COMMITTING = 2
    REVEALING = 3
    CLOSED = 4


class Verdict(IntEnum):
    """What the panel found."""

    PENDING = 0
    CONFIRMED = 1
    REJECTED = 2
    UNDECIDED = 3


class Seat(IntEnum):
    """What a voter has done about a case."""

    NONE = 0
    SEATED = 1
    COMMITTED = 2
    REVEALED = 3
    ABSENT = 4


@dataclass(frozen=True, slots=True)
class Config:
    """Amounts and times, fixed for good."""

    seat_stake: int
    """Of one seat, in the token's smallest unit"""
    seat_bonus: int
    """The least bonus for each seat of a case; at 0 anyone busies voters for nothing"""
    draw_window: int
    """To find enough voters, in seconds; much longer than 256 blocks"""
    commit_window: int
    """In seconds"""
    reveal_window: int
    """In seconds"""
    draw_delay: int
    """Blocks from the request to the block whose hash draws; 0 on a chain that mines on arrival"""

    @classmethod
    def from_abi(cls, value: object) -> Self:
        """Read a decoded tuple."""
        values = as_tuple(value)
        return cls(
            as_int(values[0]),
            as_int(values[1]),
            as_int(values[2]),
            as_int(values[3]),
            as_int(values[4]),
            as_int(values[5]),
        )

    def to_abi(self) -> tuple[object, ...]:
        """Give the tuple that is encoded."""
        return (
            self.seat_stake,
            self.seat_bonus,
            self.draw_window,
            self.commit_window,
            self.reveal_window,
            self.draw_delay,
        )


@dataclass(frozen=True, slots=True)
class Case:
    """One question before a panel."""

    opener: Address
    """Who asked"""
    item: int
    """What it is about, the opener's id"""
    accuser: Address
    """Never drawn"""
    accused: Address
    """Never drawn"""
    bonus: int
    draw_block: int
    """Whose hash draws next, or drew last; 0 when the draw failed"""
    deadline: int
    """Of the phase, in seconds since 1970; says nothing once closed"""
    size: int
    """Seats"""
    round: int
    """From 1; another follows when seats were left empty that matter"""
    seated: int
    """Seats that hold a voter now"""
    committed: int
    """In this round, or the last one"""
    revealed: int
    """In all rounds"""
    confirming: int
    """Of the revealed"""
    phase: Phase
    """As of now, whether or not somebody has called since the last deadline"""
    verdict: Verdict

    @classmethod
    def from_abi(cls, value: object) -> Self:
        """Read a decoded tuple."""
        values = as_tuple(value)
        return cls(
            as_address(values[0]),
            as_int(values[1]),
            as_address(values[2]),
            as_address(values[3]),
            as_int(values[4]),
            as_int(values[5]),
            as_int(values[6]),
            as_int(values[7]),
            as_int(values[8]),
            as_int(values[9]),
            as_int(values[10]),
            as_int(values[11]),
            as_int(values[12]),
            Phase(as_int(values[13])),
            Verdict(as_int(values[14])),
        )


@dataclass(frozen=True, slots=True)
class Voter:
    """A voter."""

    free: int
    """Seats that can be drawn"""
    taken: int
    """Seats on panels"""

    @classmethod
    def from_abi(cls, value: object) -> Self:
        """Read a decoded tuple."""
        values = as_tuple(value)
        return cls(as_int(values[0]), as_int(values[1]))


@dataclass(frozen=True, slots=True)
class Absented:
    """A voter did not show its vote in time, and lost its stake."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Absented")

    id: CaseId
    voter: Address

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(id=CaseId(as_int(args["id"])), voter=as_address(args["voter"]))


@dataclass(frozen=True, slots=True)
class Awaited:
    """The hash of this block draws voters for the case, in this round; block 0: a draw failed, `close` asks
    again.
    """

    ABI: ClassVar[EventAbi] = CONTRACT.event("Awaited")

    id: CaseId
    round: int
    draw_block: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=CaseId(as_int(args["id"])),
            round=as_int(args["round"]),
            draw_block=as_int(args["drawBlock"]),
        )


@dataclass(frozen=True, slots=True)
class Closed:
    """The panel is done with the case."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Closed")

    id: CaseId
    verdict: Verdict
    confirming: int
    revealed: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=CaseId(as_int(args["id"])),
            verdict=Verdict(as_int(args["verdict"])),
            confirming=as_int(args["confirming"]),
            revealed=as_int(args["revealed"]),
        )


@dataclass(frozen=True, slots=True)
class Committed:
    """A voter has committed to its vote."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Committed")

    id: CaseId
    voter: Address

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(id=CaseId(as_int(args["id"])), voter=as_address(args["voter"]))


@dataclass(frozen=True, slots=True)
class Drawn:
    """An account was drawn."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Drawn")

    id: CaseId
    voter: Address
    round: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=CaseId(as_int(args["id"])),
            voter=as_address(args["voter"]),
            round=as_int(args["round"]),
        )


@dataclass(frozen=True, slots=True)
class Enlisted:
    """A voter staked for more seats."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Enlisted")

    account: Address
    seats: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(account=as_address(args["account"]), seats=as_int(args["seats"]))


@dataclass(frozen=True, slots=True)
class Opened:
    """Someone asked a question."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Opened")

    id: CaseId
    opener: Address
    item: int
    accuser: Address
    accused: Address
    size: int
    bonus: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=CaseId(as_int(args["id"])),
            opener=as_address(args["opener"]),
            item=as_int(args["item"]),
            accuser=as_address(args["accuser"]),
            accused=as_address(args["accused"]),
            size=as_int(args["size"]),
            bonus=as_int(args["bonus"]),
        )


@dataclass(frozen=True, slots=True)
class Retired:
    """A voter took seats back."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Retired")

    account: Address
    seats: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(account=as_address(args["account"]), seats=as_int(args["seats"]))


@dataclass(frozen=True, slots=True)
class Revealed:
    """A voter has shown its vote."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Revealed")

    id: CaseId
    voter: Address
    confirms: bool

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=CaseId(as_int(args["id"])),
            voter=as_address(args["voter"]),
            confirms=as_bool(args["confirms"]),
        )


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """An account took out what was credited to it."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Withdrawn")

    account: Address
    amount: Wei

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(account=as_address(args["account"]), amount=Wei(as_int(args["amount"])))


_MAX_ROUNDS: Final = CONTRACT.function("MAX_ROUNDS")
_MAX_SIZE: Final = CONTRACT.function("MAX_SIZE")
_AVAILABLE: Final = CONTRACT.function("available")
_CASE_COUNT: Final = CONTRACT.function("caseCount")
_CASE_OF: Final = CONTRACT.function("caseOf")
_CLOSE: Final = CONTRACT.function("close")
_COLLECT: Final = CONTRACT.function("collect")
_COMMIT: Final = CONTRACT.function("commit")
_COMMITMENT_OF: Final = CONTRACT.function("commitmentOf")
_CONFIG: Final = CONTRACT.function("config")
_CREDIT_OF: Final = CONTRACT.function("creditOf")
_DRAW: Final = CONTRACT.function("draw")
_DUE_DRAW: Final = CONTRACT.function("dueDraw")
_ENLIST: Final = CONTRACT.function("enlist")
_OPEN: Final = CONTRACT.function("open")
_PANEL_OF: Final = CONTRACT.function("panelOf")
_REGISTRY: Final = CONTRACT.function("registry")
_RESERVE: Final = CONTRACT.function("reserve")
_RETIRE: Final = CONTRACT.function("retire")
_REVEAL: Final = CONTRACT.function("reveal")
_SEAT_OF: Final = CONTRACT.function("seatOf")
_TOKEN: Final = CONTRACT.function("token")
_VOTER_OF: Final = CONTRACT.function("voterOf")
_WITHDRAW: Final = CONTRACT.function("withdraw")


class VotingPanel(Contract):
    """Voters who staked are drawn at random to answer one question: did the accused do what it had promised?

    The token must move exactly the amounts it is asked to move, as MarketToken does: one that takes a fee
    on transfer or rebases would leave credits uncovered.
    """

    ABI: ClassVar[ContractAbi] = CONTRACT

    @classmethod
    def deploy_data(cls, token: Address, registry: Address, config: Config) -> bytes:
        """Give the data of the transaction that creates the contract."""
        return cls.ABI.deploy_data(token, registry, config.to_abi())

    def max_rounds(self) -> Call[int]:
        """The most draws for one case."""
        return self._call(_MAX_ROUNDS, (), lambda out: as_int(out[0]))

    def max_size(self) -> Call[int]:
        """The most seats of a panel."""
        return self._call(_MAX_SIZE, (), lambda out: as_int(out[0]))

    def available(self) -> Call[int]:
        """How many voters have a free seat. A case can draw fewer: neither its parties, who are counted here
        if they are voters, nor those who had a seat in it before.
        """
        return self._call(_AVAILABLE, (), lambda out: as_int(out[0]))

    def case_count(self) -> Call[int]:
        """How many cases were ever opened: their ids are 1 to this number."""
        return self._call(_CASE_COUNT, (), lambda out: as_int(out[0]))

    def case_of(self, id: int) -> Call[Case]:
        """The case with this id."""
        return self._call(_CASE_OF, (id,), lambda out: Case.from_abi(out[0]))

    def close(self, id: int) -> Call[None]:
        """Count; anyone may, once all who committed have revealed or the phase's time is over. Empty seats
        that matter are drawn anew, in at most `MAX_ROUNDS` rounds. After a draw that failed: wait for
        another block if there are voters enough now, or end the case if its window is over.
        """
        return self._call(_CLOSE, (id,), lambda _: None)

    def collect(self, id: int) -> Call[tuple[Verdict, int]]:
        """Take the verdict, and the bonus back if nobody revealed; the opener, once."""
        return self._call(_COLLECT, (id,), lambda out: (Verdict(as_int(out[0])), as_int(out[1])))

    def commit(self, id: int, commitment: bytes) -> Call[None]:
        """Bind to a vote; the voters drawn only.

        `commitment`: As `commitmentOf` gives.
        """
        return self._call(_COMMIT, (id, commitment), lambda _: None)

    def commitment_of(self, id: int, voter: Address, confirms: bool, salt: bytes) -> Call[bytes]:
        """What binds a voter to a vote, and to this case of this contract on this chain."""
        return self._call(_COMMITMENT_OF, (id, voter, confirms, salt), lambda out: as_bytes(out[0]))

    def config(self) -> Call[Config]:
        """Amounts and times."""
        return self._call(_CONFIG, (), lambda out: Config.from_abi(out[0]))

    def credit_of(self, account: Address) -> Call[Wei]:
        """What an account can take out."""
        return self._call(_CREDIT_OF, (account,), lambda out: Wei(as_int(out[0])))

    def draw(self) -> Call[CaseId]:
        """Make the oldest draw that is due; anyone may. Without voters enough, or once its block is older
        than the chain remembers, the draw fails.
        """
        return self._call(_DRAW, (), lambda out: CaseId(as_int(out[0])))

    def due_draw(self) -> Call[int]:
        """The oldest case whose draw can be made now, 0 when there is none."""
        return self._call(_DUE_DRAW, (), lambda out: as_int(out[0]))

    def enlist(self, seats: int) -> Call[None]:
        """Stake for seats, each of which can be drawn once at a time; pulls `seats` times the stake."""
        return self._call(_ENLIST, (seats,), lambda _: None)

    def open(self, item: int, accuser: Address, accused: Address, size: int, bonus: int) -> Call[CaseId]:
        """Ask whether the accused did what it had promised; anyone may. Pulls the bonus from the caller: at
        least `Config.seatBonus` for each seat, which is what keeps voters from being asked for nothing.

        `item`: What it is about, in the caller's own numbering.

        `accuser`: Who says that it did not; never drawn.

        `accused`: Of whom it is said; never drawn.

        `size`: Seats: odd, 3 to `MAX_SIZE`.

        `bonus`: For those who reveal; at least `size` times `Config.seatBonus`.
        """
        return self._call(_OPEN, (item, accuser, accused, size, bonus), lambda out: CaseId(as_int(out[0])))

    def panel_of(self, id: int) -> Call[tuple[Address, ...]]:
        """All who were ever drawn for the case, in order."""
        return self._call(_PANEL_OF, (id,), lambda out: tuple(as_address(each) for each in as_tuple(out[0])))

    def registry(self) -> Call[Address]:
        """Where voters are members."""
        return self._call(_REGISTRY, (), lambda out: as_address(out[0]))

    def reserve(self) -> Call[int]:
        """Stakes of panels in which nobody revealed; those who reveal in the next case that is closed share
        them.
        """
        return self._call(_RESERVE, (), lambda out: as_int(out[0]))

    def retire(self, seats: int) -> Call[None]:
        """Take free seats back; their stake is credited."""
        return self._call(_RETIRE, (seats,), lambda _: None)

    def reveal(self, id: int, confirms: bool, salt: bytes) -> Call[None]:
        """Show the vote; once all have committed, or after their time."""
        return self._call(_REVEAL, (id, confirms, salt), lambda _: None)

    def seat_of(self, id: int, account: Address) -> Call[Seat]:
        """What an account has done about a case."""
        return self._call(_SEAT_OF, (id, account), lambda out: Seat(as_int(out[0])))

    def token(self) -> Call[Address]:
        """The money."""
        return self._call(_TOKEN, (), lambda out: as_address(out[0]))

    def voter_of(self, account: Address) -> Call[Voter]:
        """A voter's seats."""
        return self._call(_VOTER_OF, (account,), lambda out: Voter.from_abi(out[0]))

    def withdraw(self) -> Call[None]:
        """Take out what is credited: stakes taken back, and bonuses."""
        return self._call(_WITHDRAW, (), lambda _: None)
