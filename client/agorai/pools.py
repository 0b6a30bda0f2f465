"""Data pools, from outside a node.

Ben Chaabene, Amayed and Cheriet, "Leveraging Centric Data Federated Learning Using Blockchain For Integrity
Assurance", Figs. 4, 7 and 8.

    async with Client.connect(Home(Path("~/.agorai"))) as client:
        added = await Pools(client).add(3, Path("samples.csv").read_bytes())

The node of whoever takes part does by itself what time makes due: it checks, answers, settles, publishes and reveals.
What its owner decides is here.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, cast

from agorai import pool_versions
from agorai.client import Client, OnStage, silent
from agorai.exchange import refusal
from agorai.pool_evidence import require_evidence, unproved
from agorai.pool_opening import require_classifier, require_openable
from agorai.pool_reading import PoolReader
from agorai.pool_refusals import (
    AddedAlreadyError,
    ChallengeOvertakenError,
    ChallengeUnfitError,
    NothingFoundError,
    NothingNewError,
    PoolTermsError,
    SamplesUnfitError,
)
from agorai_shared import cid as cids
from agorai_shared import pool_history, unixfs
from agorai_shared.bindings.data_pool import (
    Added,
    Challenged,
    Contested,
    Contribution,
    Opened,
    Pool,
    PoolState,
    State,
    Terms,
)
from agorai_shared.content import NODE_PIN
from agorai_shared.errors import AgoraiError, RemoteError
from agorai_shared.pool import (
    Cell,
    Challenge,
    Origin,
    PoolDocument,
    Rule,
    Samples,
    SamplesError,
    read_initial,
    read_samples,
)
from agorai_shared.pool_files import gone
from agorai_shared.pool_history import INLINE, Part
from agorai_shared.pool_trainer import (
    Checked,
    CheckSamples,
    Found,
    KeepTest,
    PoolTrainer,
    RebuildVersion,
    Rebuilt,
    TrainVersion,
)
from agorai_shared.types import Hash, Wei
from agorai_shared.verifier import PoolFinding, Verifier, WatchedPool

_WINDOW_S: Final = (60, 30 * 86_400)
"""From the shortest to the longest that the contract takes."""
_MOST_SEATS: Final = 15
_COMPARED_S: Final = 60.0
"""How long samples are compared with what others added before, in all."""
_ONE_S: Final = 10.0
"""And with one contribution, which a stranger serves."""
_LOOK_S: Final = 0.5
"""How often to look whether a version is published."""
_LOOKS: Final = 30
"""After how many looks to ask whether it can be."""


@dataclass(frozen=True, slots=True)
class PoolTerms:
    """A pool's money, in the token's smallest unit, and times, in seconds."""

    deposit: Wei
    """For each sample, of who adds and of who challenges."""
    reward: Wei
    """For each sample that stays."""
    bond: Wei
    """The owner's, lost if the test set is not revealed."""
    budget: Wei
    """For rewards and voters."""
    check_window: int
    answer_window: int
    reveal_window: int
    closes_at: int
    """Since 1970."""
    panel_size: int = 3


@dataclass(frozen=True, slots=True)
class Prepared:
    """Samples that may be added, and what adding them means."""

    pool: int
    count: int
    deposit: Wei
    """For all of them."""
    reward: Wei
    """If all of them stay."""
    repeats: tuple[tuple[int, Origin | None], ...]
    """Rows that repeat a known sample cell by cell; with none, an earlier row of the same file."""
    unread: int
    """Contributions that nobody serves now, with which they were not compared."""


@dataclass(frozen=True, slots=True)
class Addition:
    """Samples that were added."""

    contribution: int
    count: int
    deposit: Wei
    deadline: int
    """Until when they can be challenged, in seconds since 1970."""
    inline: bool
    """They are on the chain themselves."""
    transaction: Hash


@dataclass(frozen=True, slots=True)
class Proposed:
    """A challenge that is prepared, and what making it means."""

    contribution: int
    round: int
    """Of the contribution: once another challenge has ended, this one cannot be made any more."""
    digest: bytes
    count: int
    corrected: int
    document: bytes
    """Itself, if it goes on the chain."""
    cost: Wei
    """Laid down for all samples named; lost if one of them is not wrong."""
    prize: Wei
    """Won beyond that if all are."""
    reward: Wei
    """If the corrected samples stay; their deposits are kept back of what is won."""
    suspicions: tuple[Found, ...]
    """That were found of the samples named, at most `MOST_TOLD`; none of a challenge of one's own."""
    note: str = ""
    """What speaks against making it."""


class Pools(PoolReader):
    """Data pools of a participant's node."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.trainer = PoolTrainer(client.commander)
        self.verifier = Verifier(client.commander)

    # ----------------------------------------------------------------------------------------------- owning

    async def open(
        self,
        document: PoolDocument,
        initial: bytes,
        test: bytes,
        terms: PoolTerms,
        *,
        on_stage: OnStage | None = None,
    ) -> int:
        """Open a pool, laying down bond and budget; gives its id once that is final.

        Parameters
        ----------
        document
            What it collects; its `initial_samples` become those given.
        initial
            A CSV of its columns, which becomes public.
        test
            A CSV of its columns, which stays with this node, sealed, until the pool is closed.

        Raises
        ------
        RuleRefusedError, SamplesUnfitError, KnownTestSetError
            As `require_openable`; nothing was stored.
        PoolTermsError, WindowTooShortError, DepositTooHighError
            If it cannot be opened so; nothing was stored.
        RemoteError
            Of the trainer, if the pool could not be trained by its rule; nothing was sent.
        """
        tell = on_stage or silent
        tell("reading the samples")
        document = document.model_copy(update={"initial_samples": unixfs.cid_of(initial)})
        require_openable(document, initial, test)
        await self.require_terms(terms)
        tell("storing the description and the initial samples")
        store = self.client.store
        described = await store.put_document(document.to_bytes(), name=_pin("description", document.name))
        await store.put(initial, name=_pin("initial samples", document.name))
        tell("sealing the test set")
        sealed = await self.client.vault.put(test)
        kept = await self.trainer.keep_test(KeepTest(document=described, test=sealed.cid))
        tell("approving bond and budget")
        await self.allow(self.contract.address, terms.bond + terms.budget)
        tell("opening")
        sent = await self.send(
            self.contract.open(
                Terms(
                    document=cids.digest_of(described),
                    test_commitment=bytes.fromhex(kept.commitment),
                    deposit=terms.deposit,
                    reward=terms.reward,
                    bond=terms.bond,
                    budget=terms.budget,
                    check_window=terms.check_window,
                    answer_window=terms.answer_window,
                    reveal_window=terms.reveal_window,
                    closes_at=terms.closes_at,
                    panel_size=terms.panel_size,
                )
            )
        )
        return (await self.client.market.emitted(sent, Opened)).id

    async def require_terms(self, terms: PoolTerms) -> None:
        """See that the contract takes these terms, the account can pay them, and nodes can keep them in time.

        Raises
        ------
        PoolTermsError, WindowTooShortError, DepositTooHighError
        """
        if terms.deposit <= 0 or terms.bond <= 0:
            raise PoolTermsError("deposit and bond are more than 0", "Without a stake nobody is kept honest.")
        if not 3 <= terms.panel_size <= _MOST_SEATS or terms.panel_size % 2 == 0:
            why = f"a panel of {terms.panel_size} seats is not permitted"
            raise PoolTermsError(why, f"Take an odd number from 3 to {_MOST_SEATS}.")
        if terms.closes_at <= await self.now():
            raise PoolTermsError("it would be closed already", "Take a later moment.")
        windows = {"check": terms.check_window, "answer": terms.answer_window, "reveal": terms.reveal_window}
        for name, given in windows.items():
            if not _WINDOW_S[0] <= given <= _WINDOW_S[1]:
                raise PoolTermsError(f"the {name} window has {given} s", "Take from 60 s to 30 days.")
        pool_history.require_time(windows, await self.client.chain.finality_lag())
        await self.require(terms.bond + terms.budget)

    async def fund(self, pool: int, amount: Wei) -> None:
        """Add to a pool's budget; anyone may; raises `DepositTooHighError`, `PoolRefusedError`."""
        await self._open_pool(pool)
        await self.allow(self.contract.address, amount)
        await self.send(self.contract.fund(pool, amount))

    async def stop(self, pool: int) -> None:
        """Take no more samples, as the owner; what is there goes on; raises `PoolRefusedError`."""
        await self.send(self.contract.stop(pool))

    async def answer(self, contribution: int, *, upheld: bool) -> None:
        """Say, as the owner, whether a challenge is right; raises `PoolRefusedError`.

        A node answers by itself; this is for an owner who knows better, and answers first.
        """
        await self.send(self.contract.answer(contribution, upheld))

    # --------------------------------------------------------------------------------------------- samples

    async def look_over(
        self, pool: int, data: bytes, *, again: bool = False, on_stage: OnStage | None = None
    ) -> Prepared:
        """Read samples and compare them with all that are known; nothing is sent.

        Parameters
        ----------
        again
            The account may have added the very same file before.

        Raises
        ------
        SamplesError
            A leaf that names row, column and value.
        PoolRefusedError
            If the pool takes no samples any more, or not so many.
        AddedAlreadyError
            If the account has added the very same file before.
        DepositTooHighError
            If the account has not the deposits.
        WindowTooShortError
            If nobody could act in time there: who is challenged could not contest the owner's answer.
        PoolAbsentError, FileAbsentError, DocumentMalformedError
            If there is no pool, or no description of it.
        """
        tell = on_stage or silent
        document, state, samples = await self._addable(pool, data)
        digest = cids.digest_of(unixfs.cid_of(data))
        for added in (await self.files.history(pool)).additions.values():
            if not again and (added.contributor, added.digest) == (self.client.address, digest):
                raise AddedAlreadyError(pool, added.id)
        await self.require(len(samples) * state.deposit)
        tell("comparing with the known samples")
        repeats, unread = await self._repeats(pool, document, samples, tell)
        count = len(samples)
        return Prepared(
            pool, count, Wei(count * state.deposit), Wei(count * state.reward), tuple(repeats), unread
        )

    async def add(
        self, pool: int, data: bytes, *, inline: bool | None = None, on_stage: OnStage | None = None
    ) -> Addition:
        """Add samples, laying down a deposit for each; gives once that is final.

        Parameters
        ----------
        data
            A CSV of the pool's columns; it becomes public.
        inline
            Whether it goes on the chain itself, or is served by this node; none: if it is short.

        Raises
        ------
        DepositTooHighError
            If the account has not the deposits; nothing was sent.
        AgoraiError
            As `look_over`; nothing was laid down.
        """
        tell = on_stage or silent
        document, state, samples = await self._addable(pool, data)
        deposit = Wei(len(samples) * state.deposit)
        await self.require(deposit)
        on_chain = len(data) <= INLINE if inline is None else inline
        if not on_chain:
            tell("storing the samples")
            await self.client.store.put(data, name=_pin("samples for", document.name))
        digest, salt = cids.digest_of(unixfs.cid_of(data)), secrets.token_bytes(32)
        tell("approving the deposit")
        await self.allow(self.contract.address, deposit)
        await self._commit(pool, digest, salt, tell)
        tell("adding the samples")
        call = self.contract.add(pool, len(samples), digest, data if on_chain else b"", salt)
        sent = await self.send(call)
        added = await self.client.market.emitted(sent, Added)
        current = await self.files.contribution(added.id)
        return Addition(added.id, len(samples), deposit, current.deadline, on_chain, sent)

    async def _addable(self, pool: int, data: bytes) -> tuple[PoolDocument, Pool, Samples]:
        document = await self.files.document(pool)
        samples = read_samples(document, data)
        state = await self._open_pool(pool)
        windows = {"check": state.check_window, "answer": state.answer_window}
        pool_history.require_time(windows, await self.client.chain.finality_lag())
        if await self.now() >= state.closes_at:
            raise refusal("DataPool_WrongTime", {"pool": pool, "closesAt": state.closes_at})
        needed = len(samples) * state.reward + state.bonus
        if state.budget < needed:
            values = {"pool": pool, "needed": needed, "left": state.budget}
            raise refusal("DataPool_BudgetSpent", values)
        return document, state, samples

    async def _open_pool(self, pool: int) -> Pool:
        (state,) = cast("tuple[Pool]", await self.read(self.contract.pool_of(pool)))
        if state.state != PoolState.OPEN:
            raise refusal("DataPool_WrongPoolState", {"pool": pool})
        return state

    async def _repeats(
        self, pool: int, document: PoolDocument, samples: Samples, tell: OnStage
    ) -> tuple[list[tuple[int, Origin | None]], int]:
        """Give the rows that are known, or earlier in the file; and how many contributions could not be had."""
        first: dict[tuple[Cell, ...], Origin | None] = {}
        history = await self.files.history(pool)
        owner = (await self.files.opened(pool)).owner
        unread = 0
        digest = cids.digest_of(document.initial_samples)
        try:
            data = await self.files.file(digest, "initial samples", [owner])
            initial = await asyncio.to_thread(read_initial, document, data)
            for row, cells in enumerate(initial.rows):
                first.setdefault(cells, Origin(contribution=0, row=row))
        except AgoraiError:
            unread += 1
        parts = [history.part(id_) for id_ in history.additions]
        give_up = time.monotonic() + _COMPARED_S
        for place, part in enumerate(parts):
            tell("comparing with the known samples", place / len(parts))
            try:
                async with asyncio.timeout(min(_ONE_S, max(0.0, give_up - time.monotonic()))):
                    left = await self._left(document, part)
            except SamplesError:
                continue  # what cannot be read holds no samples
            except (AgoraiError, TimeoutError):
                unread += 1
                continue
            for row, cells in left:
                first.setdefault(cells, Origin(contribution=part.added.id, row=row))
        found: list[tuple[int, Origin | None]] = []
        for row, cells in enumerate(samples.rows):
            if cells in first:
                found.append((row, first[cells]))
            else:
                first[cells] = None
        return found, unread

    async def _left(self, document: PoolDocument, part: Part) -> list[tuple[int, tuple[Cell, ...]]]:
        if gone(part):
            return []
        content = await self.files.content(part)
        out = frozenset(content.out)
        read = await asyncio.to_thread(read_samples, document, content.data, count=part.added.count)
        return [(row, cells) for row, cells in enumerate(read.rows) if row not in out]

    # ------------------------------------------------------------------------------------------ challenges

    async def check(self, contribution: int, *, on_stage: OnStage | None = None) -> Checked:
        """Have this node's trainer look for wrong samples of a contribution, in its sandbox.

        Raises
        ------
        ContributionAbsentError
        RemoteError
            Of the trainer, such as `file_absent`.
        """
        tell = on_stage or silent
        await self.files.contribution(contribution)
        tell("checking the samples in the sandbox")
        return await self.trainer.check(CheckSamples(id=_job(), contribution=contribution))

    async def propose(
        self,
        contribution: int,
        *,
        rows: Collection[int] = (),
        everything: bool = False,
        own: Challenge | None = None,
        on_stage: OnStage | None = None,
    ) -> Proposed:
        """Prepare a challenge; nothing is sent.

        By default it names the samples of which the trainer is so sure that a stake pays on average.

        Parameters
        ----------
        rows
            Name these, which are suspected.
        everything
            Name all that are suspected, at most the surest `MOST_TOLD`.
        own
            Take this one, whatever the trainer says.

        Raises
        ------
        NothingFoundError
            If nothing is suspected, or not surely enough.
        ChallengeUnfitError
            If one's own names what cannot be named.
        PoolRefusedError
            If the contribution cannot be challenged now, or not by this account.
        RemoteError
            Of the trainer: `row_not_suspected`, `file_absent` and others.
        """
        tell = on_stage or silent
        current = await self.files.contribution(contribution)
        await self._challengeable(contribution, current)
        each, pool = await self.read(
            self.contract.challenge_deposit_of(contribution), self.contract.pool_of(current.pool)
        )
        suspicions: tuple[Found, ...] = ()
        note = ""
        if own is not None:
            digest, corrected, document = await self._own(contribution, current, own)
            count = len(own.wrong)
            note = unproved(own)
        else:
            if everything:
                checked = await self.check(contribution, on_stage=tell)
                if not checked.suspicions:
                    raise NothingFoundError(contribution, 0)
                rows = {one.row for one in checked.suspicions if one.reason != "unreadable"}
                if rows and checked.suspected > len(rows):  # what is unreadable is named as a whole
                    note = (
                        f"it names the surest {len(rows)} of {checked.suspected} samples that are suspected"
                    )
            tell("preparing the challenge in the sandbox")
            stake = None if rows else each / pool.deposit
            command = CheckSamples(
                id=_job(), contribution=contribution, stake=stake, rows=tuple(sorted(rows))
            )
            checked = await self.trainer.check(command)
            found = checked.proposal
            if found is None:
                raise NothingFoundError(contribution, checked.suspected)
            suspicions = checked.suspicions
            digest, document = bytes.fromhex(found.digest), found.document.encode()
            count, corrected = found.count, found.corrected
        return Proposed(
            contribution=contribution,
            round=pool_history.round_of(current.left, current.failed),
            digest=digest,
            count=count,
            corrected=corrected,
            document=document,
            cost=Wei(count * each),
            prize=Wei(count * pool.deposit // 2),
            reward=Wei(corrected * pool.reward),
            suspicions=suspicions,
            note=note,
        )

    async def challenge(self, proposed: Proposed, *, on_stage: OnStage | None = None) -> Challenged:
        """Make a challenge, laying down its cost; gives once that is final. Of the owner it is the answer too.

        Raises
        ------
        DepositTooHighError
            If the account has not what it costs; nothing was sent.
        PoolRefusedError, ChallengeOvertakenError
            If somebody was first; nothing was laid down.
        """
        tell = on_stage or silent
        await self.require(proposed.cost)
        contribution = proposed.contribution
        tell("approving what it costs")
        await self.allow(self.contract.address, proposed.cost)
        round_ = self.contract.round_of(contribution)
        (now,) = await self.client.chain.read(round_, at=await self.client.chain.head())
        if now != proposed.round:
            raise ChallengeOvertakenError(contribution)
        salt = secrets.token_bytes(32)
        await self._commit(contribution, proposed.digest, salt, tell, round_=now)
        tell("challenging")
        sent = await self.send(
            self.contract.challenge(
                contribution,
                proposed.count,
                proposed.corrected,
                proposed.digest,
                proposed.document,
                salt,
            )
        )
        return await self.client.market.emitted(sent, Challenged)

    async def _challengeable(self, contribution: int, current: Contribution) -> None:
        if current.state != State.OPEN:
            raise refusal("DataPool_WrongState", {"contribution": contribution, "state": current.state})
        if await self.now() > current.deadline:
            values = {"contribution": contribution, "deadline": current.deadline}
            raise refusal("DataPool_DeadlinePassed", values)
        if current.contributor == self.client.address:
            raise refusal("DataPool_OwnSamples", {"contribution": contribution})

    async def _own(
        self, contribution: int, current: Contribution, own: Challenge
    ) -> tuple[bytes, int, bytes]:
        """Store a challenge of one's own; gives its digest, its corrected samples, and itself if it is short."""
        part = (await self.files.history(current.pool)).part(contribution)
        faults = [await self.files.challenge(fault) for fault in part.faults]
        gone = set(pool_history.left_out(part, faults))
        for one in own.wrong:
            if one.row >= current.count:
                raise ChallengeUnfitError(contribution, f"it has no row {one.row}")
            if one.row in gone:
                raise ChallengeUnfitError(contribution, f"row {one.row} was found wrong before")
        document = await self.files.document(current.pool)
        await require_evidence(self.files, document, part.added, own)
        corrected = 0
        if own.corrected:
            try:
                corrected = len(read_samples(document, own.corrected.encode()))
            except SamplesError as error:
                raise SamplesUnfitError("The corrected samples", error) from error
        if corrected > len(own.wrong):
            why = f"there are {corrected} corrected samples for {len(own.wrong)} wrong ones"
            raise ChallengeUnfitError(contribution, why)
        data = own.to_bytes()
        if len(data) > Challenge.MOST_BYTES:
            why = f"it has {len(data):,} bytes, and at most {Challenge.MOST_BYTES:,} are read"
            raise ChallengeUnfitError(contribution, why)
        inline = len(data) <= INLINE
        if not inline:
            await self.client.store.put(data, name=_pin("challenge of contribution", str(contribution)))
        return cids.digest_of(unixfs.cid_of(data)), corrected, data if inline else b""

    async def _commit(self, item: int, digest: bytes, salt: bytes, tell: OnStage, *, round_: int = 0) -> None:
        """Bind to what is given in a later block: who copies it out of the mempool then comes too late."""
        tell("binding to it")
        commitment = pool_history.commitment(
            self.client.deployment.chain_id,
            self.contract.address,
            self.client.address,
            item,
            round_,
            digest,
            salt,
        )
        await self.send(self.contract.commit(commitment))

    async def contest_cost(self, contribution: int) -> Wei:
        """Give what contesting lays down: the voters' bonus after an answer, nothing where the owner was silent."""
        current = await self.files.contribution(contribution)
        if current.state != State.ANSWERED:
            return Wei(0)
        (pool,) = await self.read(self.contract.pool_of(current.pool))
        return Wei(pool.bonus)

    async def contest(self, contribution: int, *, on_stage: OnStage | None = None) -> Contested:
        """Have the panel decide about a challenge; whoever contests an answer in vain pays the voters.

        Raises
        ------
        DepositTooHighError, PoolRefusedError
            If it cannot be contested now, or not by this account; nothing was laid down.
        """
        tell = on_stage or silent
        cost = await self.contest_cost(contribution)
        if cost:
            tell("approving the voters' bonus")
            await self.allow(self.contract.address, cost)
        tell("contesting")
        sent = await self.send(self.contract.contest(contribution))
        return await self.client.market.emitted(sent, Contested)

    # -------------------------------------------------------------------------------------------- watching

    async def watch(self, pool: int, *, stake: bool, off: bool = False) -> tuple[WatchedPool, ...]:
        """Have this node's verifier check what is added to a pool, or no more; gives all that are watched then.

        Parameters
        ----------
        stake
            Whether it challenges by itself where that pays on average; else it only keeps what it finds.
        """
        await self.files.opened(pool)
        return await self.verifier.watch(pool, stake=stake, off=off)

    async def watched(self) -> tuple[WatchedPool, ...]:
        """Give the pools that this node's verifier watches."""
        return await self.verifier.watched()

    async def findings(self, pool: int | None = None) -> tuple[PoolFinding, ...]:
        """Give what the verifier found, of one pool or of all, and did not stake on: for a person to decide."""
        return await self.verifier.findings(pool)

    async def lacking(self, pool: int | None = None) -> dict[int, Wei]:
        """Give by contribution what the account has too little to challenge it as its node was told to."""
        return {one.contribution: Wei(one.lacking) for one in await self.findings(pool) if one.lacking}

    # ------------------------------------------------------------------------------------------- versions

    async def train(self, pool: int, rule: Rule | None = None, *, on_stage: OnStage | None = None) -> int:
        """Have this node's trainer publish a version on top of the newest one; gives its id once that is final.

        The node goes on with it also if this is cancelled.

        Parameters
        ----------
        rule
            Another way to train than the pool's.

        Raises
        ------
        RuleRefusedError
            If no pool can be trained by the rule's estimator.
        NothingNewError
            If the owner or this account has published what would come out.
        RemoteError
            Of the trainer, if the pool cannot be trained by this rule, or this node has done so.
        """
        if rule is not None:
            require_classifier(rule.estimator)
        owner = (await self.files.opened(pool)).owner
        wanted = rule or (await self.files.document(pool)).rule
        found = await pool_versions.trained(self.files, pool, wanted, {owner, self.client.address})
        if found is not None:
            raise NothingNewError(pool, found)
        before = {one.version for one in (await self.files.history(pool)).versions}
        tell = on_stage or silent
        tell("trying the rule")
        command = TrainVersion(pool=pool, rule=rule)
        await self.trainer.train(command)
        tell("training; your node goes on with it also after Ctrl-C")
        while True:
            for _ in range(_LOOKS):
                for one in (await self.files.history(pool)).versions:
                    if one.publisher == self.client.address and one.version not in before:
                        return one.version
                await asyncio.sleep(_LOOK_S)
            await self._still_made(command)

    async def _still_made(self, command: TrainVersion) -> None:
        """See that a version that was asked for is on its way; raises what the trainer says if it cannot be made."""
        try:
            await self.trainer.train(command)
        except RemoteError as error:
            if error.code != "version_made" or "could not be made" in error.message:
                raise

    async def rebuild(self, version: int, *, on_stage: OnStage | None = None) -> Rebuilt:
        """Have this node's trainer make a version again from its record alone, and compare bit for bit.

        Raises
        ------
        VersionAbsentError
        RemoteError
            Of the trainer, if a file cannot be had.
        """
        tell = on_stage or silent
        await self.files.version(version)
        tell("training it again in the sandbox")
        return await self.trainer.rebuild(RebuildVersion(id=_job(), version=version))


def _pin(what: str, name: str) -> str:
    return f"{NODE_PIN}{what} {name}"[:256]


def _job() -> str:
    return secrets.token_hex(16)
