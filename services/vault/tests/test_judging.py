"""Who is to blame by a transcript: what each side shows, hides or forges, and when a voter waits for more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from eth_account import Account
from joserfc.jwk import RSAKey

from agorai_shared import cid as cids
from agorai_shared import evidence, handover
from agorai_shared.bindings.fair_exchange import EvidenceGiven, Kind, Mode, Outcome, State, Trade
from agorai_shared.bindings.fair_exchange import Step as OnChain
from agorai_shared.bindings.voting_panel import Case, Config, Phase, Verdict
from agorai_shared.errors import UnavailableError
from agorai_shared.evidence import PackageKey, PackagePlace
from agorai_shared.handover import Binding, HandoverFaultyError, PackageAddress
from agorai_shared.jwe import EncryptionKeyError
from agorai_shared.panel import PanelCase
from agorai_shared.types import Address, CaseId, Digest, TradeId, Wei
from agorai_vault.keys import Keys
from agorai_vault.trade.decide import about_key, sets_due
from agorai_vault.trade.judging import EvidenceAwaitedError, _Dispute
from agorai_vault.trade.transcript import Fulfilment, Named, NotServedError
from agorai_vault.trade.transcript import Transcript as RealTranscript

SELLER, BUYER = Account.from_key(b"\1" * 32), Account.from_key(b"\2" * 32)
NOW = 1_900_000_000
CONTRACT = Address("0x" + "11" * 20)
TO_SELLER = Binding(31337, CONTRACT, 7, Address(BUYER.address), Address(SELLER.address))
TO_BUYER = TO_SELLER.mirrored
GOOD = PackageAddress(cids.of_raw(b"good"), b"k" * 32, b"s" * 32)
ELSEWHERE = PackageAddress(cids.of_raw(b"elsewhere"), b"k" * 32, b"s" * 32)
SETS = tuple(PackageAddress(cids.of_raw(b"set %d" % n), bytes([n]) * 32, b"s" * 32) for n in range(5))
VOTER = Address("0x" + "22" * 20)
NOT_SERVED = NotServedError(7, "document", UnavailableError("nobody serves it"))
IN_TIME, AT_LAST = NOW - 500, NOW - 100
"""When a side shows its evidence: of 600 s to commit, the last are at `NOW`."""


@cache
def key(name: str) -> RSAKey:
    made = rsa.generate_private_key(65537, 2048)
    return RSAKey.import_key(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def public(name: str) -> RSAKey:
    return RSAKey.import_key(key(name).as_dict(private=False))


@dataclass
class Transcript:
    """What the chain and the gateways hold of one trade: a stand-in for the parts that fetch it."""

    messages: dict[tuple[Address, OnChain], bytes]
    evidence: tuple[tuple[Address, bytes | None, int], ...] = ()
    """By whom, None when nobody serves it, and when."""
    committed: PackageAddress = GOOD
    served: tuple[str, ...] = (GOOD.cid,)
    unusable: Address | None = None
    """Whose registered key is none."""
    mode: Mode = Mode.PAPER

    async def message(self, _trade: TradeId, by: Address, step: OnChain) -> Named:
        if (by, step) not in self.messages:
            raise NOT_SERVED
        return Named(self.messages[by, step], NOW)

    async def fulfilled(self, _trade: TradeId, _by: Address, _step: OnChain) -> Fulfilment:
        return Fulfilment(self.committed.commitment, NOW)

    async def key_of_side(self, _trade: TradeId, account: Address) -> RSAKey:
        if account == self.unusable:
            raise EncryptionKeyError(account, "its exponent is 3")
        return public("seller" if account == TO_SELLER.recipient else "buyer")

    def binding(self, _trade: TradeId, sender: Address, _recipient: Address) -> Binding:
        return TO_SELLER if sender == TO_SELLER.sender else TO_BUYER

    async def by_sets(self, _trade: TradeId, trade: Trade) -> bool:
        return self.mode == Mode.PAPER and not about_key(trade)

    async def events(self, _kind: type[EvidenceGiven], id_: TradeId) -> list[tuple[EvidenceGiven, int]]:
        named = enumerate(self.evidence)
        return [(EvidenceGiven(id_, by, Digest(bytes([n]))), at) for n, (by, _, at) in named]

    async def document(self, _trade: TradeId, _by: Address, digest: bytes, _what: str) -> bytes:
        document = self.evidence[digest[0]][1]
        if document is None:
            raise NOT_SERVED
        return document

    @property
    def market(self) -> Any:
        async def block(number: int) -> Any:
            return SimpleNamespace(timestamp=number)

        return SimpleNamespace(chain=SimpleNamespace(block=block))

    async def holders(self, _owner: Address) -> Any:
        async def get(cid: str) -> AsyncIterator[bytes]:
            if cid not in self.served:
                raise UnavailableError("nobody has it")
            yield b"sealed"

        return SimpleNamespace(get=get)


@cache
def hand_over(address: PackageAddress) -> tuple[Transcript, bytes]:
    """Hand an address over as the protocol says; gives the transcript and the buyer's K_B."""
    asked, secret = handover.make_key_message(TO_SELLER, BUYER, public("seller"), NOW)
    opened = handover.open_key_message(asked, TO_SELLER, key("seller"), NOW, handover.MOST_AGE_S)
    answer = handover.make_address_message(
        TO_BUYER, SELLER, public("buyer"), opened, Digest(cids.sha256(asked)), address, NOW
    )
    messages = {
        (TO_SELLER.sender, OnChain.KEY): asked,
        (TO_BUYER.sender, OnChain.ADDRESS): answer,
    }
    return Transcript(messages), secret.k


def dispute(transcript: Transcript, *, final: bool, about_key: bool = False) -> _Dispute:
    accuser, accused = (
        (TO_BUYER.sender, TO_SELLER.sender) if about_key else (TO_SELLER.sender, TO_BUYER.sender)
    )
    trade = Trade(
        seller=TO_BUYER.sender, buyer=TO_SELLER.sender, price=Wei(5), seller_deposit=5, buyer_deposit=5, t1=60,
        t2=60, t3=60, tb=60, deadline=NOW, seller_done=1 if about_key else 5, buyer_done=3, panel_size=3,
        kind=Kind.SALE, state=State.DISPUTED, outcome=Outcome.NONE, dispute=1,
    )  # fmt: skip
    case = Case(
        opener=CONTRACT, item=7, accuser=accuser, accused=accused, bonus=1, draw_block=1, deadline=NOW, size=3,
        round=1, seated=3, committed=0, revealed=0, confirming=0, phase=Phase.COMMITTING, verdict=Verdict.PENDING,
    )  # fmt: skip
    return _Dispute(
        cast("RealTranscript", transcript),
        cast("Keys", SimpleNamespace(address=VOTER, jwk=key("voter"))),
        CaseId(1),
        PanelCase(case, Config(1, 1, 600, 600, 600, 0)),
        TradeId(7),
        trade,
        final=final,
    )


def shown_by_buyer(transcript: Transcript, k: bytes) -> evidence.Testimony:
    disclosed = handover.disclose(
        transcript.messages[TO_BUYER.sender, OnChain.ADDRESS], TO_BUYER, key("buyer")
    )
    return evidence.Testimony(address=disclosed.hex(), k=k.hex())


def kept(address: PackageAddress) -> PackageKey:
    return PackageKey(cid=address.cid, key=address.key.hex(), salt=address.salt.hex())


def shown_by_seller(address: PackageAddress) -> evidence.Testimony:
    return evidence.Testimony(package=kept(address))


def told(transcript: Transcript, **testimonies: evidence.Testimony) -> Transcript:
    names = {"buyer": TO_SELLER.sender, "seller": TO_BUYER.sender}
    voters = {VOTER: public("voter")}
    given = tuple((names[name], evidence.make(one, voters), NOW) for name, one in testimonies.items())
    return replace(transcript, evidence=given)


async def test_the_package_is_where_the_buyer_was_told_that_it_is() -> None:
    transcript, k = hand_over(GOOD)
    complete = told(transcript, buyer=shown_by_buyer(transcript, k))
    assert await dispute(complete, final=False).package_address() == GOOD


async def test_a_good_package_that_is_shown_first_does_not_hide_a_bad_address_that_was_passed() -> None:
    transcript, k = hand_over(ELSEWHERE)
    early = told(transcript, seller=shown_by_seller(GOOD))
    with pytest.raises(EvidenceAwaitedError):
        await dispute(early, final=False).package_address()
    complete = told(transcript, seller=shown_by_seller(GOOD), buyer=shown_by_buyer(transcript, k))
    with pytest.raises(HandoverFaultyError) as refused:
        await dispute(complete, final=False).package_address()
    assert refused.value.by == TO_BUYER.sender


async def test_an_accuser_that_shows_nothing_leaves_the_package_to_be_judged() -> None:
    transcript, _ = hand_over(GOOD)
    alone = told(transcript, seller=shown_by_seller(GOOD))
    assert await dispute(alone, final=True).package_address() == GOOD


async def test_a_forged_disclosure_does_not_count_against_the_accused() -> None:
    transcript, k = hand_over(GOOD)
    honest = shown_by_buyer(transcript, k)
    forged = honest.model_copy(update={"k": "00" * 32})
    complete = told(transcript, buyer=forged, seller=shown_by_seller(GOOD))
    assert await dispute(complete, final=False).package_address() == GOOD


async def test_another_package_than_was_committed_to_is_not_shown() -> None:
    transcript, _ = hand_over(GOOD)
    with pytest.raises(HandoverFaultyError, match="not shown where its package is"):
        await dispute(told(transcript, seller=shown_by_seller(ELSEWHERE)), final=True).package_address()


async def test_who_shows_nothing_at_all_is_to_blame_once_nobody_waits() -> None:
    transcript, _ = hand_over(GOOD)
    with pytest.raises(EvidenceAwaitedError):
        await dispute(transcript, final=False).package_address()
    with pytest.raises(HandoverFaultyError) as refused:
        await dispute(transcript, final=True).package_address()
    assert refused.value.by == TO_BUYER.sender


async def test_a_message_that_nobody_serves_is_its_senders_fault() -> None:
    transcript, _ = hand_over(GOOD)
    unserved: Any = {k: v for k, v in transcript.messages.items() if k[1] is OnChain.KEY}
    for final, expected in ((False, EvidenceAwaitedError), (True, HandoverFaultyError)):
        with pytest.raises(expected):
            await dispute(replace(transcript, messages=unserved), final=final).package_address()


async def test_a_good_key_is_the_accusers_fault_and_a_bad_one_the_accuseds() -> None:
    transcript, _ = hand_over(GOOD)
    asked = transcript.messages[TO_SELLER.sender, OnChain.KEY]
    disclosed = evidence.Testimony(key=handover.disclose(asked, TO_SELLER, key("seller")).hex())
    fine = await dispute(told(transcript, seller=disclosed), final=False, about_key=True).judge_key()
    assert fine.blamed == TO_BUYER.sender

    other = replace(TO_SELLER, trade=8)  # a message of another trade
    stray, _ = handover.make_key_message(other, BUYER, public("seller"), NOW)
    bad = replace(transcript, messages={**transcript.messages, (TO_SELLER.sender, OnChain.KEY): stray})
    with pytest.raises(HandoverFaultyError) as refused:
        await dispute(told(bad, seller=evidence.Testimony(key="")), final=False, about_key=True).judge_key()
    assert refused.value.by == TO_SELLER.sender


async def test_an_accuser_that_does_not_disclose_the_key_has_no_case() -> None:
    transcript, _ = hand_over(GOOD)
    with pytest.raises(EvidenceAwaitedError):
        await dispute(transcript, final=False, about_key=True).judge_key()
    found = await dispute(transcript, final=True, about_key=True).judge_key()
    assert found.blamed == TO_BUYER.sender


def test_what_a_dispute_is_about_is_told_by_what_was_passed() -> None:
    transcript, _ = hand_over(GOOD)
    assert about_key(dispute(transcript, final=True, about_key=True).trade)
    assert not about_key(dispute(transcript, final=True).trade)


@pytest.mark.parametrize("final", [False, True])
async def test_a_key_that_nothing_can_be_sealed_to_is_its_owners_fault(final: bool) -> None:
    transcript, _ = hand_over(GOOD)
    for unusable in (TO_SELLER.sender, TO_SELLER.recipient):
        blocked = replace(told(transcript, seller=evidence.Testimony(key="")), unusable=unusable)
        with pytest.raises(HandoverFaultyError, match="exponent is 3") as refused:
            await dispute(blocked, final=final, about_key=True).judge_key()
        assert refused.value.by == unusable


# --------------------------------------------------------------------------------------- by parameter sets

ACCUSER, ACCUSED = TO_SELLER.sender, TO_BUYER.sender
VOTERS = {VOTER: public("voter")}
PLACE = PackagePlace(cid=GOOD.cid, salt=GOOD.salt.hex())
FIXED = tuple(one.commitment.hex() for one in SETS)
SHOWN = evidence.Testimony(sets=tuple(map(kept, SETS)), place=PLACE)
FIRST = (ACCUSED, evidence.make(SHOWN, VOTERS, sets=FIXED), IN_TIME)
LATE = (*FIRST[:2], AT_LAST)
CHOICE = (ACCUSER, evidence.make(evidence.Testimony(), VOTERS, chosen=(1, 4)), AT_LAST)
OTHER = (ACCUSED, evidence.make(SHOWN, VOTERS, sets=FIXED[::-1]), AT_LAST)
ANOTHER = (ACCUSER, evidence.make(evidence.Testimony(), VOTERS, chosen=(0, 2, 3)), AT_LAST)


def judged_by(*given: tuple[Address, bytes | None, int], **other: Any) -> Transcript:
    return replace(hand_over(GOOD)[0], evidence=given, **other)


@pytest.mark.parametrize(
    "given", [(FIRST, CHOICE), (LATE, CHOICE), (CHOICE, FIRST), (FIRST, CHOICE, ANOTHER)]
)
async def test_the_sets_that_the_accuser_chose_first_are_judged(
    given: tuple[tuple[Address, bytes, int], ...],
) -> None:
    chosen = await dispute(judged_by(*given), final=False).chosen_sets()
    assert chosen == {1: SETS[1], 4: SETS[4]}


NO_SETS = evidence.Testimony(place=PLACE)
UNSERVED = (ACCUSED, None, IN_TIME)
NONSENSE = b"{}"


@pytest.mark.parametrize(
    ("given", "blamed", "why"),
    [
        ((), ACCUSED, "shown nothing"),
        ((CHOICE,), ACCUSED, "shown nothing"),
        ((UNSERVED, CHOICE), ACCUSED, "cannot be had"),
        ((UNSERVED, FIRST, CHOICE), ACCUSED, "cannot be had"),  # or it could show others who knows the choice
        ((FIRST,), ACCUSER, "shown nothing"),
        ((LATE,), ACCUSED, "too late to be answered"),
        ((FIRST, (ACCUSER, None, AT_LAST)), ACCUSER, "cannot be had"),
        (((ACCUSED, evidence.make(NO_SETS, VOTERS, sets=FIXED), IN_TIME), CHOICE), ACCUSED, "fixed first"),
        ((FIRST, CHOICE, OTHER), None, ""),
        (
            ((ACCUSED, evidence.make(SHOWN, VOTERS, sets=FIXED[::-1]), IN_TIME), CHOICE),
            ACCUSED,
            "fixed first",
        ),
    ],
)
async def test_who_has_not_shown_its_part_is_to_blame_once_nobody_waits(
    given: tuple[tuple[Address, bytes | None, int], ...], blamed: Address | None, why: str
) -> None:
    transcript = judged_by(*given)
    if blamed is None:
        assert await dispute(transcript, final=True).chosen_sets()
        return
    with pytest.raises(EvidenceAwaitedError):
        await dispute(transcript, final=False).chosen_sets()
    with pytest.raises(HandoverFaultyError, match=why) as refused:
        await dispute(transcript, final=True).chosen_sets()
    assert refused.value.by == blamed


@pytest.mark.parametrize(
    ("given", "blamed"),
    [
        (((ACCUSED, NONSENSE, IN_TIME), FIRST, CHOICE), ACCUSED),
        ((FIRST, (ACCUSER, NONSENSE, IN_TIME), CHOICE), ACCUSER),
        ((FIRST, (ACCUSER, evidence.make(evidence.Testimony(), VOTERS), IN_TIME), CHOICE), ACCUSER),
        (
            (
                (
                    ACCUSED,
                    evidence.make(SHOWN.model_copy(update={"place": None}), VOTERS, sets=FIXED),
                    IN_TIME,
                ),
                CHOICE,
            ),
            ACCUSED,
        ),
    ],
)
async def test_what_cannot_become_right_is_not_waited_for(
    given: tuple[tuple[Address, bytes, int], ...], blamed: Address
) -> None:
    with pytest.raises(HandoverFaultyError) as refused:
        await dispute(judged_by(*given), final=False).chosen_sets()
    assert refused.value.by == blamed


async def test_an_accused_that_shows_its_package_instead_is_judged_by_that() -> None:
    instead = judged_by((ACCUSED, evidence.make(shown_by_seller(GOOD), VOTERS), IN_TIME), CHOICE)
    assert await dispute(instead, final=False).chosen_sets() == {}
    assert await dispute(instead, final=False).package_address() == GOOD


async def test_who_shows_its_package_too_late_hides_no_bad_address_behind_it() -> None:
    package = evidence.make(shown_by_seller(GOOD), VOTERS)
    in_time, late = (judged_by((ACCUSED, package, at)) for at in (IN_TIME, AT_LAST))
    for unanswered in (in_time, late):
        with pytest.raises(EvidenceAwaitedError):
            await dispute(unanswered, final=False).chosen_sets()
    assert await dispute(in_time, final=True).chosen_sets() == {}
    with pytest.raises(HandoverFaultyError, match="too late to be answered") as refused:
        await dispute(late, final=True).chosen_sets()
    assert refused.value.by == ACCUSED


async def test_a_chain_that_does_not_answer_is_no_sides_fault() -> None:
    class Silent(Transcript):
        async def events(self, *_: object) -> list[Any]:
            raise UnavailableError("the chain's node does not answer")

    for question in ("judge_key", "package_address", "chosen_sets"):
        silent = dispute(Silent(hand_over(GOOD)[0].messages), final=True, about_key=question == "judge_key")
        with pytest.raises(UnavailableError):
            await getattr(silent, question)()


async def test_evidence_that_nobody_serves_keeps_no_voter_busy() -> None:
    asked: list[bytes] = []

    class Flooded(Transcript):
        async def document(self, trade: TradeId, by: Address, digest: bytes, what: str) -> bytes:
            asked.append(digest)
            return await super().document(trade, by, digest, what)

    flood = Flooded({}, evidence=tuple((ACCUSED, None, AT_LAST) for _ in range(200)))
    assert await dispute(flood, final=True)._testimony(ACCUSED) is None
    assert len(asked) == 4


async def test_good_sets_do_not_hide_a_bad_address_or_one_that_nobody_serves() -> None:
    transcript, k = hand_over(ELSEWHERE)
    shows = (ACCUSER, evidence.make(shown_by_buyer(transcript, k), VOTERS, chosen=(1, 4)), AT_LAST)
    with pytest.raises(HandoverFaultyError, match="not that of the package") as refused:
        await dispute(replace(transcript, evidence=(FIRST, shows)), final=False).chosen_sets()
    assert refused.value.by == ACCUSED
    unserved = judged_by(FIRST, CHOICE, messages={})
    with pytest.raises(EvidenceAwaitedError):
        await dispute(unserved, final=False).chosen_sets()
    with pytest.raises(HandoverFaultyError, match="address message cannot be had") as refused:
        await dispute(unserved, final=True).chosen_sets()
    assert refused.value.by == ACCUSED


async def test_good_sets_do_not_hide_a_package_that_is_not_there() -> None:
    gone = judged_by(FIRST, CHOICE, served=())
    with pytest.raises(EvidenceAwaitedError):
        await dispute(gone, final=False).chosen_sets()
    with pytest.raises(HandoverFaultyError, match="not where it says") as refused:
        await dispute(gone, final=True).chosen_sets()
    assert refused.value.by == ACCUSED
    elsewhere = judged_by(FIRST, CHOICE, committed=ELSEWHERE, served=(GOOD.cid,))
    with pytest.raises(HandoverFaultyError, match="not shown where"):
        await dispute(elsewhere, final=False).chosen_sets()


def test_the_time_to_commit_is_shared_in_thirds() -> None:
    case = dispute(judged_by(), final=True).case
    assert IN_TIME <= sets_due(case) < AT_LAST
    assert sets_due(case) == NOW - 400
