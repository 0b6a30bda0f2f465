"""Transfers of data against the chain's own coin, from outside a node (DAI, 4.2 to 4.4 and Listing 1).

    async with Client.connect(Home(Path("~/.agorai"))) as client:
        transfer = await Transfers(client).init(resource=7, amount=Wei(10**18), authority=judith, duration=86_400)

Little of this is done by a node by itself: the consumer, the provider and the authority decide each step. Once voters
were asked, the nodes of both sides have them drawn and told the key, and execute what they find.

The paper's four digests are what this marketplace has already. The schema is that of a published data set. The
consumer's public key is its member's in the registry. The data's key is in an envelope, sealed to the consumer and,
beyond the paper, to the authority, which could not rule on what it cannot see; and the data are what that seals.
Where the panel is the authority nobody knows yet who will rule: then it is sealed to the provider as well, whose node
tells the key to the voters who are drawn, as the consumer's does.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from agorai.client import MOST_CONTENT, Client, OnStage, silent
from agorai.exchange import refusal
from agorai.transfer_reading import TransferReader
from agorai.transfer_refusals import (
    DataNotProvidedError,
    DataNotYoursError,
    NotProvidableError,
    ProvidedFaultyError,
    SchemaNotSoldError,
    TransferIdError,
    TransferRefusedError,
    TransferTermsError,
    shown,
)
from agorai.transfer_state import TransferSeen
from agorai_shared import cid as cids
from agorai_shared.bindings.data_transfer import DataProvided, Deal, Initiated
from agorai_shared.bindings.registry import Registered
from agorai_shared.bindings.voting_panel import Verdict
from agorai_shared.content import NODE_PIN
from agorai_shared.contract import Call
from agorai_shared.digest_files import DigestFiles, cids_of
from agorai_shared.documents import Schema
from agorai_shared.errors import AgoraiError, InputError, NotFoundError
from agorai_shared.market import NotAMemberError
from agorai_shared.panel import impartial
from agorai_shared.shared_jwe import Envelope
from agorai_shared.transfer_key import context
from agorai_shared.types import Address, Digest, Hash, ResourceId, Wei
from agorai_shared.vault import OpenEnvelope, SealEnvelope

if TYPE_CHECKING:
    from agorai_trainer.differences import SchemaDifferences
    from agorai_trainer.sandbox import Sandbox

_DURATION_S: Final = (60, 30 * 86_400)
"""From the shortest to the longest that the contract takes."""

_MARGIN_S: Final = 30
"""What is provided is readable before it is mined: with less time left it might be given away and be too late."""

PANEL_SIZE: Final = 3
"""Seats of the panel, where it is the authority and nothing else is said."""

_KEEP_S: Final = 300.0
"""How long what was provided may take to come."""

_SLOTS: Final = 16
"""Slots that are looked at together."""

_ID: Final = re.compile(r"0x[0-9a-fA-F]{64}|[0-9]{1,78}")

Step = Callable[[Deal], Call[None]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A transfer for which this account can provide, and the resource whose data it wants."""

    seen: TransferSeen
    resource: ResourceId
    panel_s: int = 0
    """How long voters may take, where they rule; that may be longer than a wait, since their finding has no end."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a transfer is opened on, that was seen to be taken."""

    provider: Address
    schema: Digest
    seats: int


class Transfers(TransferReader):
    """Transfers of data in which a participant has part."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.files = DigestFiles(client.market)

    # -------------------------------------------------------------------------------------------- consuming

    async def init(
        self,
        resource: int,
        amount: Wei,
        authority: Address,
        duration: int,
        panel_size: int | None = None,
        *,
        on_stage: OnStage | None = None,
    ) -> int:
        """Open a transfer of a data set and pay for it, as its consumer; gives its id once that is final.

        Parameters
        ----------
        resource
            The data set, as its owner has published it.
        amount
            Of the chain's own coin, in its smallest unit.
        authority
            Who rules where the two sides do not agree: an account, or `panel.address`.
        duration
            Of each wait, in seconds.
        panel_size
            Seats of the panel, where that is the authority; none: `PANEL_SIZE`.

        Raises
        ------
        TransferTermsError
            If nobody should open it so; nothing was sent.
        NotAMemberError
            If the authority is none.
        ResourceNotFoundError, FileAbsentError, DocumentMalformedError
            If there is no such data set, or its owner's node does not serve its schema.
        """
        tell, market = on_stage or silent, self.client.market
        tell("reading the schema")
        terms = await self.require_terms(resource, amount, authority, duration, panel_size)
        me = await market.actor(self.client.address)
        tell("opening")
        call = self.contract.init_transaction(
            await self._slot(),
            terms.provider,
            terms.schema,
            me.encryption_key,
            authority,
            duration,
            terms.seats,
        )
        sent = await self.send(replace(call, value=amount))
        return (await market.emitted(sent, Initiated)).id

    async def require_terms(
        self, resource: int, amount: Wei, authority: Address, duration: int, panel_size: int | None = None
    ) -> Terms:
        """See that a transfer can be opened so; parameters and errors as of `init`."""
        market = self.client.market
        found = await market.resource(resource)
        metadata = await market.metadata(found)
        if metadata.schema_cid is None:
            raise TransferTermsError(f"resource {resource} has no schema", "Choose a data set that has one.")
        schema = cids.digest_of(metadata.schema_cid)
        usual = PANEL_SIZE if authority == self.panel.address else 0
        seats = usual if panel_size is None else panel_size
        await self._check(amount, authority, found.owner, duration, seats)
        await self.files.read(Schema, schema, f"schema of resource {resource}", [found.owner])
        return Terms(found.owner, schema, seats)

    async def verify(self, transfer: int) -> Hash:
        """Say, as the consumer, that the data are good, and so have their provider paid."""
        return await self._send(transfer, self.contract.verified_data)

    async def cancel(self, transfer: int) -> Hash:
        """Take the money back, as the consumer, where nothing was provided in time."""
        seen = await self.look(transfer)
        mine = seen.deal.data_consumer == self.client.address
        if mine and seen.outcome is None and seen.state.data_provided:
            raise _misplaced(
                transfer,
                "data were provided",
                f"If they are not what was wanted, and in time: `agorai transfer request-refund {shown(transfer)}`.",
            )
        return await self.send(self.contract.cancel(seen.deal))

    async def request_refund(self, transfer: int) -> Hash:
        """Ask the authority, as the consumer, for the money back.

        Where voters may have to rule the node keeps a copy of what was provided, if it is served in a quarter of the
        time that is left; as of `contest`.
        """
        sent = await self._send(transfer, self.contract.request_forceful_refund)
        await self._keep(transfer)
        return sent

    async def data(self, transfer: int) -> bytes:
        """Fetch and open what was provided, as the consumer or the authority.

        A consumer whose key does not open them takes that which voters told its node when they found the data good.

        Raises
        ------
        TransferAbsentError, DataNotProvidedError
        DataNotYoursError
            If this account is no reader of them.
        ProvidedFaultyError
            If it does not open: the provider's fault.
        FileAbsentError, RemoteError
            If the provider's node does not serve it.
        """
        seen = await self.look(transfer)
        second = seen.deal.data_provider if seen.by_panel else seen.deal.authority
        if self.client.address not in (seen.deal.data_consumer, second):
            raise DataNotYoursError(
                transfer, "consumer and its provider" if seen.by_panel else "consumer and its authority"
            )
        if seen.provided is None:
            raise DataNotProvidedError(transfer)
        try:
            return await self._given(transfer, seen.deal.data_provider, seen.provided)
        except AgoraiError:
            if seen.by_panel and seen.deal.data_consumer == self.client.address:
                with suppress(AgoraiError):
                    return await self.client.vault.transferred(transfer, MOST_CONTENT)
            raise

    async def _given(self, transfer: int, provider: Address, provided: DataProvided) -> bytes:
        digest = provided.ipfs_encrypted_aes_key_address
        what = f"key of the data of transfer {shown(transfer)}"
        try:
            envelope = await self.files.read(Envelope, digest, what, [provider])
            if cids.digest_of(envelope.cid) != provided.ipfs_data_address:
                raise ProvidedFaultyError(transfer, "the key is another object's")
            asked = OpenEnvelope(envelope=envelope, context=self._context(transfer), author=provider)
            return await self.client.vault.open_envelope(asked, MOST_CONTENT)
        except AgoraiError as error:
            from agorai_shared.task_reader import is_fault  # noqa: PLC0415 - cryptography, for an error alone

            if is_fault(error):
                raise ProvidedFaultyError(transfer, error.message) from error
            raise

    async def differences(
        self, transfer: int, data: bytes, *, sandbox: Sandbox | None = None
    ) -> SchemaDifferences:
        """Compare data that were provided with the schema that was wanted, in a sandbox.

        Parameters
        ----------
        sandbox
            Where it is done; None starts one.

        Raises
        ------
        ProvidedFaultyError
            If they are no table.
        TransferAbsentError, FileAbsentError, UnavailableError
        """
        from agorai_trainer import describing  # noqa: PLC0415 - pyarrow, which other methods do without
        from agorai_trainer.app import make_sandbox  # noqa: PLC0415

        deal = (await self.look(transfer)).deal
        what = f"schema of the data of transfer {shown(transfer)}"
        schema = await self.files.read(Schema, deal.ipfs_schema_address, what, [deal.data_provider])
        async with make_sandbox() if sandbox is None else nullcontext(sandbox) as running:
            try:
                return await describing.in_sandbox(running, data, schema)
            except InputError as error:
                raise ProvidedFaultyError(transfer, error.message) from error

    # -------------------------------------------------------------------------------------------- providing

    async def wanted(self, transfer: int) -> Wanted:
        """See that this account can provide in a transfer, without giving its data away for nothing.

        Raises
        ------
        TransferAbsentError
        NotProvidableError
            If another is to provide, it is too late, or its terms put the provider at a disadvantage.
        SchemaNotSoldError
            If none of this account's data sets has the schema.
        """
        seen = await self.look(transfer)
        await self._check_providable(seen)
        schema = seen.deal.ipfs_schema_address
        mine = await self.events(self.client.deployment.registry, Registered, None, self.my_topic)
        for event in reversed(mine):
            found = await self.client.listing(event.id)
            described = found.metadata and found.metadata.schema_cid
            if described and cids.digest_of(described) == schema:
                return Wanted(seen, event.id, await self._panel_s() if seen.by_panel else 0)
        raise SchemaNotSoldError(transfer, cids.of_digest(schema))

    async def provide(
        self, transfer: int, *, sandbox: Sandbox | None = None, on_stage: OnStage | None = None
    ) -> Hash:
        """Seal the data that are wanted to their readers, and say where they are; raises as `wanted`.

        Where voters may have to judge them they are compared with their schema first, as those would: in `sandbox`,
        or in one that is started.
        """
        tell = on_stage or silent
        wanted = await self.wanted(transfer)
        deal = wanted.seen.deal
        content = await self.client.content(wanted.resource)
        if wanted.seen.by_panel:
            tell("comparing the data with their schema, as voters would")
            if any(astuple(await self.differences(transfer, content, sandbox=sandbox))):
                why = "voters would find that the data are not as their schema says"
                raise NotProvidableError(
                    transfer, why, "Publish them again, and have that data set asked for."
                )
        tell("sealing the data")
        second = self.client.address if wanted.seen.by_panel else deal.authority
        to = SealEnvelope(context=self._context(transfer), members=(deal.data_consumer, second))
        envelope = await self.client.vault.seal_envelope(content, to)
        name = f"{NODE_PIN}key of the data of transfer {shown(transfer)}"
        await self._check_providable(await self.look(transfer))  # all that may have taken long
        key = await self.client.store.put_document(envelope.to_bytes(), name=name)
        tell("providing")
        call = self.contract.provide_data(deal, cids.digest_of(key), cids.digest_of(envelope.cid))
        return await self.send(call)

    async def request_settle(self, transfer: int) -> Hash:
        """Ask the authority, as the provider, to be paid at once."""
        return await self._send(transfer, self.contract.request_forceful_settle)

    # ----------------------------------------------------------------------------------------------- ending

    async def execute_refund(self, transfer: int) -> Hash:
        """Rule for the consumer, as the authority."""
        return await self._send(transfer, self.contract.execute_forceful_refund)

    async def execute_settle(self, transfer: int) -> Hash:
        """Rule for the provider, as the authority."""
        return await self._send(transfer, self.contract.execute_forceful_settle)

    async def bonus(self, transfer: int) -> Wei:
        """Give what it costs to ask the panel, in the token's smallest unit.

        Raises
        ------
        TransferAbsentError
        TransferRefusedError
            If the panel cannot be asked: an account rules, nothing was requested, or it is too late.
        """
        seen = await self.look(transfer)
        state, id_ = seen.state, shown(transfer)
        if seen.outcome is not None:
            raise refusal("DataTransfer_NotFound", {"id": transfer})
        if not seen.by_panel:
            values = {"id": transfer, "authority": seen.deal.authority}
            raise refusal("DataTransfer_NotPanel", values)
        if state.contested:
            raise _misplaced(
                transfer, "it is before voters", f"See how far they are: `agorai transfer show {id_}`."
            )
        if not state.data_provided:
            raise _misplaced(
                transfer,
                "nothing was provided",
                f"Cancel it once its time is over: `agorai transfer cancel {id_}`.",
            )
        # By the chain's time: a clock that is fast must not keep the consumer from asking.
        if (await self.client.chain.head()).timestamp > state.deadline:
            raise refusal("DataTransfer_DeadlinePassed", {"id": transfer, "deadline": state.deadline})
        if not (state.requested_forceful_refund or state.requested_forceful_settle):
            remedy = (
                f"First its consumer does `agorai transfer request-refund {id_}`, "
                f"or its provider `agorai transfer request-settle {id_}`."
            )
            raise _misplaced(transfer, "nothing was requested", remedy)
        (config,) = await self.read(self.panel.config())
        return Wei(seen.deal.panel_size * config.seat_bonus)

    async def contest(self, transfer: int) -> Hash:
        """Put what was requested before the panel and pay the voters; anyone may, in time.

        The node lets the contract take tokens first, unless it may.

        Raises
        ------
        TransferAbsentError, TransferRefusedError
        DepositTooHighError
            If the account has fewer tokens than the voters' bonus.
        """
        await self.allow(self.contract.address, await self.bonus(transfer))
        sent = await self._send(transfer, self.contract.contest)
        await self._keep(transfer)
        return sent

    async def resolve(self, transfer: int) -> Hash:
        """Have a transfer end as the panel has found; anyone may, and both sides' nodes do.

        Raises
        ------
        TransferAbsentError
        TransferRefusedError
            Before the panel has spoken, too.
        """
        seen = await self.look(transfer)
        if seen.case is not None and seen.case.case.verdict == Verdict.PENDING:
            why = f"The voters of transfer {shown(transfer)} have not come to a verdict"
            raise TransferRefusedError(
                why, f"See how far they are: `agorai transfer show {shown(transfer)}`."
            )
        return await self.send(self.contract.resolve(seen.deal))

    async def expire(self, transfer: int) -> Hash:
        """End a transfer for which data were provided and whose time is over; anyone may."""
        return await self._send(transfer, self.contract.expire)

    async def withdraw(self) -> Hash:
        """Take out what is credited."""
        return await self.send(self.contract.withdraw(self.client.address))

    async def credit(self) -> Wei:
        """Give what this account can take out, of payments that it did not take; in the coin's smallest unit."""
        (found,) = await self.read(self.contract.credit_of(self.client.address))
        return Wei(found)

    async def withdraw_bonus(self) -> Hash:
        """Take out the bonuses of which no voter earned any, in tokens."""
        return await self.send(self.contract.withdraw_bonus(self.client.address))

    async def bonus_credit(self) -> Wei:
        """Give what bonuses this account can take out, in the token's smallest unit."""
        (found,) = await self.read(self.contract.bonus_credit_of(self.client.address))
        return Wei(found)

    # ---------------------------------------------------------------------------------------------- private

    async def _send(self, transfer: int, step: Step) -> Hash:
        return await self.send(step((await self.look(transfer)).deal))

    def _context(self, transfer: int) -> str:
        """Give what the data of a transfer are sealed for."""
        return context(self.client.deployment.chain_id, self.contract.address, transfer)

    async def _check(
        self, amount: Wei, authority: Address, provider: Address, duration: int, panel_size: int
    ) -> None:
        """See that a transfer on these terms is taken by the contract, and can be ruled on."""
        if amount <= 0:
            raise TransferTermsError("nothing is paid", "Pay an amount above 0.")
        if provider == self.client.address:
            raise TransferTermsError("the data set is your own", "Choose another's.")
        if authority in (self.client.address, provider):
            why = "its authority is one of its two sides"
            raise TransferTermsError(why, "Choose somebody whom both sides trust.")
        by_panel = authority == self.panel.address
        if panel_size and not by_panel:
            raise TransferTermsError("an account that rules has no seats", "Leave the panel's size out.")
        if by_panel:
            (most,) = await self.read(self.panel.max_size())
            if not (3 <= panel_size <= most and panel_size % 2):
                why = f"a panel of {panel_size} seats is not permitted"
                raise TransferTermsError(why, f"Take an odd number from 3 to {most}.")
            if why := await self._voters_lack(panel_size, self.client.address, provider):
                raise TransferTermsError(
                    why, "Take a smaller panel, name an account, or wait for more voters."
                )
        least = max(_DURATION_S[0], 2 * await self.client.chain.finality_lag())
        if not least <= duration <= _DURATION_S[1]:
            why = f"a duration of {duration} s is too short or too long"
            raise TransferTermsError(why, f"Take from {least} s to 30 days: each side acts on final blocks.")
        if not by_panel:
            await self.client.market.actor(authority)

    async def _panel_s(self) -> int:
        """Give how long voters may take in one round, in seconds."""
        (config,) = await self.read(self.panel.config())
        return int(config.draw_window + config.commit_window + config.reveal_window)

    async def _voters_lack(self, seats: int, *parties: Address) -> str:
        """Say why no panel of so many seats can be drawn now, between parties that are none of it; "" if one can."""
        panel = self.panel
        available, *sides = await self.read(panel.available(), *map(panel.voter_of, parties))
        left = impartial(available, sides)
        return f"{left} voters with a free seat are no panel of {seats}" if left < seats else ""

    async def _check_providable(self, seen: TransferSeen) -> None:
        """See that whoever provides in a transfer can be paid; raises `NotProvidableError`."""
        deal, market = seen.deal, self.client.market
        why, remedy = "", "See yours: `agorai transfer list`."
        if deal.data_provider != self.client.address:
            why = f"it is {deal.data_provider}'s to provide"
        elif seen.outcome is not None or seen.state.data_provided:
            why = "it has ended, or data were provided"
        elif seen.now + _MARGIN_S > seen.state.deadline:
            why = "its time is over, or so nearly that the data might be given away for nothing"
        elif seen.by_panel and (
            lack := await self._voters_lack(deal.panel_size, deal.data_consumer, deal.data_provider)
        ):
            why = f"{lack}: without a verdict each side has half"
            remedy = "Wait for more voters, or have it opened again with an account as the authority."
        else:
            try:
                consumer = await market.actor(deal.data_consumer)
                if not seen.by_panel:
                    await market.actor(deal.authority)
            except NotAMemberError as error:
                why, remedy = error.message.rstrip("."), "Have it opened again by members, or once they are."
            else:
                if consumer.encryption_key != deal.ipfs_consumer_pub_key_address:
                    why = "the key it names is not the one that its consumer has in the registry"
                    remedy = "Have it opened again with that."
        if why:
            raise NotProvidableError(seen.id, why, remedy)

    async def _keep(self, transfer: int) -> None:
        """Keep what was provided, sealed as it is, if its consumer may be told another key to it.

        Its provider, once it is paid, need not serve it. Where it does not now, voters have nothing to confirm.
        """
        from agorai_shared.sealing import is_sealed  # noqa: PLC0415 - cryptography that other verbs do without

        seen = await self.look(transfer)
        mine = seen.by_panel and seen.deal.data_consumer == self.client.address
        if not mine or seen.provided is None:
            return
        block, tree = cids_of(seen.provided.ipfs_data_address)
        # A provider who serves slowly must not keep the consumer from asking the panel in time.
        left_s = _KEEP_S if seen.state.contested else (seen.state.deadline - seen.now) / 4
        with suppress(AgoraiError, TimeoutError):
            async with asyncio.timeout(min(left_s, _KEEP_S)):
                served = self.client.market.served_by(
                    await self.client.market.gateway(seen.deal.data_provider)
                )
                try:
                    name = block if is_sealed(await served.get_block(block)) else tree
                except NotFoundError:  # a store that has blocks by their whole name
                    name = tree
                most = MOST_CONTENT + (MOST_CONTENT >> 3)
                named = f"{NODE_PIN}data of transfer {shown(transfer)}"
                await self.client.store.put(served.get(name, max_size=most), name=named)

    async def _slot(self) -> int:
        """Give a free slot of this account's: one that was used before if there is one, which costs less."""
        head, first = await self.client.chain.head(), 0
        while True:
            slots = range(first, first + _SLOTS)
            calls: list[Call[Any]] = [self.contract.vacancy(self.client.address, slot) for slot in slots]
            found = await self.client.chain.read(*calls, at=head)
            free = [(nonce == 0, slot) for slot, (vacant, nonce) in zip(slots, found, strict=True) if vacant]
            if free:
                return min(free)[1]
            first += _SLOTS


def _misplaced(transfer: int, why: str, remedy: str) -> TransferRefusedError:
    return TransferRefusedError(f"Transfer {shown(transfer)} is not where this can be done: {why}", remedy)


def read_id(given: str) -> int:
    """Read a transfer's id as `shown` writes it, or as the number that events have; raises `TransferIdError`."""
    if not _ID.fullmatch(given):
        raise TransferIdError(given)
    found = int(given, 16 if given.startswith("0x") else 10)
    if found >= 1 << 256:
        raise TransferIdError(given)
    return found
