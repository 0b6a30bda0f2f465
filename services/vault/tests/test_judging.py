"""Who is to blame by a transcript: what each side shows, hides or forges, and when a voter waits for more."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from eth_account import Account
from joserfc.jwk import RSAKey

from agorai_shared import cid as cids
from agorai_shared import evidence, handover
from agorai_shared.bindings.fair_exchange import Kind, Outcome, State, Trade
from agorai_shared.bindings.fair_exchange import Step as OnChain
from agorai_shared.bindings.voting_panel import Case, Phase, Verdict
from agorai_shared.errors import UnavailableError
from agorai_shared.evidence import PackageKey
from agorai_shared.handover import Binding, HandoverFaultyError, PackageAddress
from agorai_shared.types import Address, CaseId, Digest, TradeId, Wei
from agorai_vault.trade.handlers import Fulfilment, Named, TradeProtocol
from agorai_vault.trade.judging import EvidenceAwaitedError, _Dispute

SELLER, BUYER = Account.create(), Account.create()
NOW = 1_900_000_000
CONTRACT = Address("0x" + "11" * 20)
TO_SELLER = Binding(31337, CONTRACT, 7, Address(BUYER.address), Address(SELLER.address))
TO_BUYER = TO_SELLER.mirrored
GOOD = PackageAddress(cids.of_raw(b"good"), b"k" * 32, b"s" * 32)
ELSEWHERE = PackageAddress(cids.of_raw(b"elsewhere"), b"k" * 32, b"s" * 32)


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
    testimonies: dict[Address, evidence.Testimony] = field(default_factory=dict)
    committed: PackageAddress = GOOD

    async def message(self, _trade: TradeId, by: Address, step: OnChain) -> Named:
        if (by, step) not in self.messages:
            raise UnavailableError("nobody serves it")
        return Named(self.messages[by, step], NOW)

    async def fulfilled(self, _trade: TradeId, _by: Address, _step: OnChain) -> Fulfilment:
        return Fulfilment(self.committed.commitment, NOW)

    async def key_of_side(self, _trade: TradeId, account: Address) -> RSAKey:
        return public("seller" if account == TO_SELLER.recipient else "buyer")

    def binding(self, _trade: TradeId, sender: Address, _recipient: Address) -> Binding:
        return TO_SELLER if sender == TO_SELLER.sender else TO_BUYER


class Dispute(_Dispute):
    """One whose testimonies are at hand."""

    async def _testimony(self, by: Address) -> evidence.Testimony | None:
        return cast("Transcript", self.trades).testimonies.get(by)


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


def dispute(transcript: Transcript, *, final: bool, about_key: bool = False) -> Dispute:
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
    return Dispute(cast("TradeProtocol", transcript), CaseId(1), case, TradeId(7), trade, final=final)


def shown_by_buyer(transcript: Transcript, k: bytes) -> evidence.Testimony:
    disclosed = handover.disclose(
        transcript.messages[TO_BUYER.sender, OnChain.ADDRESS], TO_BUYER, key("buyer")
    )
    return evidence.Testimony(address=disclosed.hex(), k=k.hex())


def shown_by_seller(address: PackageAddress) -> evidence.Testimony:
    return evidence.Testimony(
        package=PackageKey(cid=address.cid, key=address.key.hex(), salt=address.salt.hex())
    )


def told(transcript: Transcript, **testimonies: evidence.Testimony) -> Transcript:
    names = {"buyer": TO_SELLER.sender, "seller": TO_BUYER.sender}
    return replace(transcript, testimonies={names[name]: one for name, one in testimonies.items()})


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
    assert dispute(transcript, final=True, about_key=True).about_key
    assert not dispute(transcript, final=True).about_key
