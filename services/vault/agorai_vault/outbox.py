"""The outbox: each intended transaction is signed offline and sent once, whatever is killed meanwhile.

An intent is named by an idempotency key. It is given a nonce and signed, and both reach the disk before the
first byte is sent; from then on only that signed transaction, or one of the same nonce with a higher fee, is
ever sent for it. It is settled when the chain has it at final depth. After a restart, of this process or of a
chain that lost its last blocks, everything whose nonce the chain has not used is simply sent again.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_typing import HexStr
from hexbytes import HexBytes

from agorai_shared import logging, metrics, tracing
from agorai_shared.command import STEP
from agorai_shared.contract import Call
from agorai_shared.errors import AgoraiError, RefusedError
from agorai_shared.types import Address, Hash
from agorai_shared.vault import Outcome
from agorai_shared.vault import TransactionState as State
from agorai_vault.account import AccountOnChain, FundsError, Receipt
from agorai_vault.database import transaction

log = logging.get(__name__)

PENDING = metrics.gauge("agorai_vault_pending_transactions", "Transactions sent and not yet final")
OLDEST = metrics.gauge(
    "agorai_vault_oldest_pending_seconds", "Age of the oldest transaction that is not final"
)
SENT = metrics.counter("agorai_vault_transactions", "Transactions by what became of them", "outcome")
FEES = metrics.counter("agorai_vault_fees_wei", "Paid to the chain for transactions that became final")
BALANCE = metrics.gauge("agorai_vault_balance_wei", "What the account has for fees", "account")

REPLACEMENT_PERCENT = 113
"""Nodes take a replacement only if it pays at least a tenth more (geth's `txpool.pricebump`)."""

LOOK_S = 1.0
"""How often to look at what was sent though no block came."""

OUTRUN_S = 3.0
"""How long a node may count a transaction before it gives its receipt."""

SEND_AGAIN_S = 5.0
"""How often to see whether the chain's node has forgotten something."""

ROOM_FOR_SLOTS = 2 * 22_100
"""Gas for two storage slots that become non-zero though they were not when the gas was estimated (EIP-2929)."""

LAST_ATTEMPT = "SELECT hash, raw FROM attempt WHERE once = ? ORDER BY max_fee DESC LIMIT 1"


class FeeLimitError(RefusedError):
    """The chain asks for more than the node is set to pay."""

    def __init__(self, wanted: int, most: int) -> None:
        super().__init__(
            f"The chain asks {wanted / 1e9:.1f} gwei a gas unit; this node pays {most / 1e9:.1f} at most.",
            remedy="Wait, or raise AGORAI_VAULT_MAX_FEE_GWEI.",
        )


@dataclass(frozen=True, slots=True)
class Intent:
    """One intended transaction and what became of it."""

    once: str
    label: str
    nonce: int
    state: State
    reason: str | None
    transaction: Hash | None
    """The transaction that was mined, or the last one sent."""
    block: int | None

    def outcome(self) -> Outcome:
        """Give what others may know of it."""
        return Outcome(
            once=self.once,
            state=self.state,
            transaction=self.transaction,
            block=self.block,
            reason=self.reason,
        )


@dataclass(frozen=True, slots=True)
class _Asked:
    """Where a transaction was asked for: its step and its place in a trace. Known to the process that heard it."""

    step: str
    place: tracing.Place | None


@dataclass(frozen=True, slots=True)
class _Fee:
    max_fee: int
    max_tip: int


class Outbox:
    """Sends this account's transactions.

    Parameters
    ----------
    tell
        Called with each transaction that is sent, and the key of the step that asked for it.
    stuck_after_s
        A transaction unmined for this many seconds is replaced by one with a higher fee.
    most_fee
        No transaction offers more than this, in wei for a unit of gas.
    """

    def __init__(
        self,
        database: sqlite3.Connection,
        signer: LocalAccount,
        chain: AccountOnChain,
        tell: Callable[[str, str], None],
        *,
        stuck_after_s: float,
        most_fee: int,
    ) -> None:
        self._database = database
        self._signer = signer
        self._chain = chain
        self._tell = tell
        self._asked: dict[str, _Asked] = {}
        self._stuck_after_s = stuck_after_s
        self._most_fee = most_fee
        self._lock = asyncio.Lock()
        self._new_block = asyncio.Event()
        self._moved = asyncio.Condition()
        self._at_limit: set[str] = set()
        """Intents whose fee is as high as it may be."""
        self._outrun: dict[str, float] = {}
        """Intents whose nonce was used, though no receipt was there: since when, by the monotonic clock."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send again what was left, then watch until left."""
        watcher = asyncio.create_task(self._watch(), name="outbox")
        try:
            yield
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
            logging.forget(f"outbox {id(self)}")

    def on_block(self) -> None:
        """Tell that there is a new final block."""
        self._new_block.set()

    def pending(self) -> int:
        """Count what is sent and not yet final."""
        return len(self._open())

    def _oldest_s(self) -> float:
        query = "SELECT min(sent_at) FROM intent JOIN attempt USING (once) WHERE state IN ('sent', 'mined')"
        (sent_at,) = self._database.execute(query).fetchone()
        return 0.0 if sent_at is None else max(0.0, time.time() - sent_at)

    def find(self, once: str) -> Intent | None:
        """Give what became of an intent."""
        row = self._database.execute(
            "SELECT label, nonce, state, reason, mined_hash, mined_block FROM intent WHERE once = ?", (once,)
        ).fetchone()
        if row is None:
            return None
        last = self._database.execute(LAST_ATTEMPT, (once,)).fetchone()
        return Intent(once, row[0], row[1], State(row[2]), row[3], Hash(row[4] or last[0]), row[5])

    async def send(self, once: str, call: Call[Any]) -> Intent:
        """Send a call once, however often it is asked for; gives as soon as the chain's node has it.

        Raises
        ------
        ContractRevertError
            If it would revert now; nothing was sent and the key is free to be used again.
        FundsError, FeeLimitError
            If the fee cannot or shall not be paid; nothing was sent.
        RpcUnreachableError
            If the chain does not answer. Asking again under the same key goes on where this stopped.
        OtherChainError
            If the node serves another chain; nothing was sent.
        """
        async with self._lock:
            known = self.find(once)
            if known is not None:
                return known
            with tracing.span(f"send {call.contract}.{call.function}"):
                await self._prepare(once, call)
            self._asked[once] = _Asked(STEP.get() or once, tracing.here())
        await self._broadcast(once)
        self._tell_sent(once)
        await self._check([once])
        sent = self.find(once)
        if sent is None:
            raise AssertionError("an intent that was prepared is kept")
        return sent

    async def wait(self, once: str, until: State, timeout_s: float) -> Intent | None:
        """Wait until an intent is settled or has come to `until`; gives where it is by then."""
        wanted = {until, State.REVERTED, State.FINAL}

        def reached() -> bool:
            intent = self.find(once)
            return intent is None or intent.state in wanted

        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._moved:
                await self._moved.wait_for(reached)
        return self.find(once)

    async def _prepare(self, once: str, call: Call[Any]) -> None:
        """Choose nonce, gas and fee, sign, and keep it all."""
        estimate = await self._chain.estimate(call)
        fees, label = estimate.fees, f"{call.contract}.{call.function}"
        if fees.base_fee + fees.tip > self._most_fee:
            raise FeeLimitError(fees.base_fee + fees.tip, self._most_fee)
        # Twice the base fee is enough for five full blocks, each of which raises it by an eighth (EIP-1559).
        fee = _Fee(min(2 * fees.base_fee + fees.tip, self._most_fee), fees.tip)
        # Another transaction may first change what this one touches, for instance empty a slot that it fills.
        gas = estimate.gas * 6 // 5 + ROOM_FOR_SLOTS
        if (
            estimate.balance < gas * fee.max_fee + call.value
        ):  # no node would take it, and its nonce would block all others
            raise FundsError(self._chain.address, label)
        (mine,) = self._database.execute("SELECT coalesce(max(nonce) + 1, 0) FROM intent").fetchone()
        nonce = max(estimate.nonce, mine)
        attempt = self._sign(call.to, call.data, call.value, nonce, gas, fee)
        with transaction(self._database):
            self._database.execute(
                "INSERT INTO intent (once, target, data, label, nonce, state) VALUES (?, ?, ?, ?, ?, ?)",
                (once, call.to, call.data, label, nonce, State.SENT),
            )
            self._keep_attempt(once, attempt, fee, gas, fees.head)

    def _sign(
        self, target: str, data: bytes, value: int, nonce: int, gas: int, fee: _Fee
    ) -> tuple[Hash, bytes]:
        signed = self._signer.sign_transaction(
            {
                "type": 2,
                "chainId": self._chain.chain_id,
                "nonce": nonce,
                "to": HexStr(target),
                "value": value,
                "data": data,
                "gas": gas,
                "maxFeePerGas": fee.max_fee,
                "maxPriorityFeePerGas": fee.max_tip,
            }
        )
        return Hash("0x" + bytes(signed.hash).hex()), bytes(signed.raw_transaction)

    def _keep_attempt(self, once: str, attempt: tuple[Hash, bytes], fee: _Fee, gas: int, head: int) -> None:
        self._database.execute(
            "INSERT INTO attempt (hash, once, raw, max_fee, max_tip, gas, sent_at, head)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (attempt[0], once, attempt[1], fee.max_fee, fee.max_tip, gas, time.time(), head),
        )

    def _tell_sent(self, once: str) -> None:
        (transaction_, _) = self._database.execute(LAST_ATTEMPT, (once,)).fetchone()
        self._tell(self._asked[once].step if once in self._asked else once, transaction_)

    async def _broadcast(self, once: str) -> None:
        """Send the last signed transaction of an intent."""
        row = self._database.execute(LAST_ATTEMPT, (once,)).fetchone()
        if why := await self._chain.send_raw(row[1]):
            # Known, or mined already: the receipt will tell. Anything else is tried again by the watcher.
            log.info("outbox.not_taken", once=once, why=why)

    async def _watch(self) -> None:
        looked, part = -math.inf, f"outbox {id(self)}"
        while True:
            try:
                due = time.monotonic() - looked > SEND_AGAIN_S
                if due:
                    await self._send_again_unused()
                    looked = time.monotonic()
                await self._check(self._open())
                await self._replace_stuck()
                if due:
                    await self._measure()
                logging.present(part)
            except AgoraiError as error:
                logging.trouble(log, "outbox.not_looked", error, part, self._chain.chain_id, error=str(error))
            except Exception:
                log.exception("outbox.watch_failed")  # whatever a node answers, what was sent stays watched
            self._new_block.clear()
            # Not `wait_for`: Python 3.11's forgets a cancellation that its result crosses.
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._new_block.wait()

    async def _measure(self) -> None:
        try:
            BALANCE.labels(self._chain.address).set(await self._chain.balance())
        except AgoraiError as error:  # a node may have no such method
            log.debug("outbox.balance_unknown", error=str(error))

    def _open(self) -> list[str]:
        query = "SELECT once FROM intent WHERE state IN ('sent', 'mined') ORDER BY nonce"
        return [row[0] for row in self._database.execute(query)]

    async def _send_again_unused(self) -> None:
        """Send again, in order, what the chain's node does not know though it was sent."""
        used = await self._chain.nonce()
        query = "SELECT once, state FROM intent WHERE nonce >= ? ORDER BY nonce"
        for once, state in self._database.execute(query, (used,)).fetchall():
            if state != State.SENT:
                log.warning("outbox.chain_lost_transaction", once=once, state=state)
                self._settle(once, State.SENT, None, None)
            await self._broadcast(once)

    async def _check(self, keys: Sequence[str]) -> None:
        """Read the receipts of some intents and settle what is final."""
        final = await self._chain.final_number() if keys else 0
        mined = await self._mined(keys)
        for once in keys:
            if once in mined:
                self._outrun.pop(once, None)
                await self._settle_mined(once, mined[once], final)
            else:
                await self._settle_unmined(once, final)
        PENDING.set(self.pending())
        OLDEST.set(self._oldest_s())
        async with self._moved:
            self._moved.notify_all()

    async def _mined(self, keys: Sequence[str]) -> dict[str, Receipt]:
        attempts = {
            Hash(row[0]): once
            for once in keys
            for row in self._database.execute("SELECT hash FROM attempt WHERE once = ?", (once,))
        }
        receipts = await self._chain.receipts(list(attempts)) if attempts else []
        return {attempts[receipt.transaction]: receipt for receipt in receipts}

    async def _settle_mined(self, once: str, receipt: Receipt, final: int) -> None:
        if receipt.block > final:
            self._settle(once, State.MINED, None, receipt)
        elif receipt.succeeded:
            self._settle(once, State.FINAL, None, receipt)
        else:
            target, data, label = self._database.execute(
                "SELECT target, data, label FROM intent WHERE once = ?", (once,)
            ).fetchone()
            (_, raw) = self._database.execute(LAST_ATTEMPT, (once,)).fetchone()
            contract, value = label.split(".")[0], _value(raw)
            reason = await self._chain.refusal(contract, Address(target), data, value, receipt.block)
            self._settle(once, State.REVERTED, reason, receipt)

    async def _settle_unmined(self, once: str, final: int) -> None:
        """Give up an intent whose nonce another transaction has used, at final depth."""
        intent = self.find(once)
        if intent is None or intent.state in (State.FINAL, State.REVERTED):
            return
        if intent.state == State.MINED:  # reorged out
            self._settle(once, State.SENT, None, None)
        # It may have been mined since its receipt was asked for, and a node may count a transaction a moment
        # before it gives its receipt: only a look that finds none some seconds later is proof. The next look is
        # not: whoever sends and the watcher may look in the same moment.
        if await self._chain.nonce(final) <= intent.nonce or once in await self._mined([once]):
            self._outrun.pop(once, None)
        elif time.monotonic() - self._outrun.setdefault(once, time.monotonic()) > OUTRUN_S:
            del self._outrun[once]
            why = (
                f"another transaction, unknown to this vault, took nonce {intent.nonce}. It may be this very one,"
                " sent with a higher fee after the backup that this vault was restored from: look at the account's"
                " history before paying again. Use the account from one node only"
            )
            self._settle(once, State.REVERTED, why, None)

    def _settle(self, once: str, state: State, reason: str | None, receipt: Receipt | None) -> None:
        changed = self._database.execute(
            "UPDATE intent SET state = ?1, reason = ?2, mined_hash = ?3, mined_block = ?4"
            " WHERE once = ?5 AND (state <> ?1 OR mined_hash IS NOT ?3 OR mined_block IS NOT ?4)",
            (
                state,
                reason,
                receipt.transaction if receipt else None,
                receipt.block if receipt else None,
                once,
            ),
        )
        if changed.rowcount and state in (State.FINAL, State.REVERTED):
            SENT.labels(state).inc()
            FEES.inc(receipt.fee if receipt else 0)
            self._tell_settled(once, state)
            log.info("transaction.settled", once=once, state=state, reason=reason)

    def _tell_settled(self, once: str, state: State) -> None:
        """Trace the time from sending to finality under the step that asked, if it was asked in this process."""
        if (asked := self._asked.pop(once, None)) is not None:
            query = "SELECT label, min(sent_at) FROM intent JOIN attempt USING (once) WHERE once = ?"
            label, sent_at = self._database.execute(query, (once,)).fetchone()
            tracing.ended(asked.place, f"transaction {label}", sent_at, state=state.value)

    async def _replace_stuck(self) -> None:
        """Offer a higher fee, under the same nonce, for what has been unmined for long."""
        # Each row is its intent's last attempt: the one whose fee is the highest.
        rows = self._database.execute(
            "SELECT once, target, data, nonce, max(max_fee), max_tip, gas, sent_at, head, raw"
            " FROM intent JOIN attempt USING (once) WHERE state = 'sent' GROUP BY once ORDER BY nonce"
        ).fetchall()
        before = time.time() - self._stuck_after_s
        rows = [row for row in rows if row[7] < before and row[0] not in self._at_limit]
        fees = await self._chain.fees() if rows else None
        for once, target, data, nonce, max_fee, max_tip, gas, _, head, raw in rows:
            if fees is None or fees.head == head:
                continue  # the chain itself stands still: outbidding ourselves would only cost
            least = _Fee(max_fee * REPLACEMENT_PERCENT // 100 + 1, max_tip * REPLACEMENT_PERCENT // 100 + 1)
            if least.max_fee > self._most_fee:
                log.warning("outbox.fee_limit_reached", once=once, most_gwei=self._most_fee / 1e9)
                self._at_limit.add(once)
                continue
            wanted = min(2 * fees.base_fee + least.max_tip, self._most_fee)
            fee = _Fee(max(least.max_fee, wanted), least.max_tip)
            attempt = self._sign(target, data, _value(raw), nonce, gas, fee)
            with transaction(self._database):
                self._keep_attempt(once, attempt, fee, gas, fees.head)
            log.info("outbox.replaced", once=once, nonce=nonce, max_fee_gwei=fee.max_fee / 1e9)
            await self._broadcast(once)
            self._tell_sent(once)


def _value(raw: bytes) -> int:
    """Give what a signed transaction pays, in wei: no number that SQLite has is as large as it may be."""
    return int(TypedTransaction.from_bytes(HexBytes(raw)).as_dict()["value"])
