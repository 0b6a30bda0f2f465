"""The outbox against a real chain: every intent once, whatever the chain and its node do."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_typing import HexStr
from eth_utils.crypto import keccak

from agorai_shared.bindings.data_transfer import DataTransfer
from agorai_shared.chain import ContractRevertError
from agorai_shared.contract import Call
from agorai_shared.rpc import Json, Rpc, RpcResponseError, RpcUnreachableError
from agorai_shared.testing import running_anvil
from agorai_shared.types import Hash
from agorai_shared.vault import TransactionState as State
from agorai_vault import outbox as outbox_module
from agorai_vault.account import AccountOnChain, FundsError, OtherChainError, Receipt
from agorai_vault.outbox import FeeLimitError

from .ground import FRIEND, TOKENS, Ground, Sender, looked, settled, until_attempts

GWEI = 10**9


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "SEND_AGAIN_S", -1)


async def test_a_key_asked_for_many_times_at_once_and_later_sends_one_transaction(
    ground: Ground, sender: Sender
) -> None:
    async with sender.outbox() as outbox:
        intents = await asyncio.gather(*(outbox.send("a", sender.transfer(5)) for _ in range(20)))
        assert len({intent.transaction for intent in intents}) == 1
        final = await settled(outbox, "a")
        assert await outbox.send("a", sender.transfer(6)) == final
    async with sender.outbox() as outbox:
        assert (await outbox.send("a", sender.transfer(7))).transaction == final.transaction
    assert await ground.transfers(sender.address) == [5]


async def test_many_keys_at_once_are_each_sent_once(ground: Ground, sender: Sender) -> None:
    async with sender.outbox() as outbox:
        await asyncio.gather(*(outbox.send(str(n), sender.transfer(n)) for n in range(1, 41)))
        for n in range(1, 41):
            await settled(outbox, str(n))
        assert outbox.pending() == 0
    assert sorted(await ground.transfers(sender.address)) == list(range(1, 41))
    assert await ground.nonce(sender.address) == 40


async def test_what_would_revert_takes_no_nonce_and_leaves_its_key_free(
    ground: Ground, sender: Sender
) -> None:
    async with sender.outbox() as outbox:
        with pytest.raises(ContractRevertError, match="ERC20InsufficientBalance"):
            await outbox.send("a", sender.transfer(TOKENS + 1))
        assert outbox.find("a") is None
        await outbox.send("b", sender.transfer(1))
        await ground.issuer_sends(ground.token.issue(sender.address, TOKENS))
        await outbox.send("a", sender.transfer(TOKENS + 1))
        await settled(outbox, "a")
    assert await ground.transfers(sender.address) == [1, TOKENS + 1]


async def test_final_means_as_deep_as_was_asked(ground: Ground, sender: Sender) -> None:
    async with sender.outbox(confirmations=2) as outbox:
        await outbox.send("a", sender.transfer(1))
        for _ in range(2):
            mined = await settled(outbox, "a", State.MINED)
            await looked(outbox)
            assert outbox.find("a") == mined
            await ground.mine()
        final = await settled(outbox, "a")
        assert (final.block, final.transaction) == (mined.block, mined.transaction)


async def test_the_nodes_own_finality_is_waited_for(ground: Ground, sender: Sender) -> None:
    async with sender.outbox(confirmations=None) as outbox:
        await outbox.send("a", sender.transfer(1))
        await settled(outbox, "a", State.MINED)
        await ground.mine(4)
        await settled(outbox, "a")


async def test_a_transaction_stuck_below_the_base_fee_is_replaced_and_mined_once(
    ground: Ground, sender: Sender
) -> None:
    await ground.automine(on=False)
    async with sender.outbox(stuck_after_s=0.01) as outbox:
        await outbox.send("a", sender.transfer(1))
        await outbox.send("b", sender.transfer(2))
        await looked(outbox)
        (first,) = await until_attempts(outbox, "a", 1)
        await ground.rpc.request("anvil_setNextBlockBaseFeePerGas", hex(10 * first))
        await ground.mine()
        fees = await until_attempts(outbox, "a", 2)
        assert fees[-1] > 10 * first  # one step, though the base fee rose tenfold
        await until_attempts(outbox, "b", 2)
        await ground.mine()
        final = await settled(outbox, "a")
        await settled(outbox, "b")
        assert final.nonce == 0
    assert await ground.transfers(sender.address) == [1, 2]
    assert await ground.nonce(sender.address) == 2


async def test_while_the_chain_stands_still_nobody_outbids_himself(ground: Ground, sender: Sender) -> None:
    await ground.automine(on=False)
    async with sender.outbox(stuck_after_s=0) as outbox:
        await outbox.send("a", sender.transfer(1))
        for _ in range(5):
            await looked(outbox)
        assert len(await until_attempts(outbox, "a", 1)) == 1


async def test_no_fee_goes_beyond_the_limit(ground: Ground, sender: Sender) -> None:
    async with sender.outbox(most_fee=1) as outbox:
        with pytest.raises(FeeLimitError):
            await outbox.send("a", sender.transfer(1))
        assert outbox.find("a") is None
    await ground.automine(on=False)
    most = 3 * GWEI
    async with sender.outbox(stuck_after_s=0, most_fee=most) as outbox:
        await outbox.send("a", sender.transfer(1))
        (first,) = await until_attempts(outbox, "a", 1)
        assert first <= most
        for n in range(4):
            await ground.rpc.request("anvil_setNextBlockBaseFeePerGas", hex((4 + n) * GWEI))
            await ground.mine()
            await looked(outbox)
            await looked(outbox)
        fees = await until_attempts(outbox, "a", 1)
        assert max(fees) <= most
        await ground.rpc.request("anvil_setNextBlockBaseFeePerGas", hex(1))
        await ground.mine()
        for _ in range(2):  # the node may have thrown out what the base fee had left behind
            await looked(outbox)
        await ground.mine()
        await settled(outbox, "a")


async def test_who_cannot_pay_the_fee_is_told_and_nothing_is_in_the_way_later(
    ground: Ground, sender: Sender
) -> None:
    await ground.rpc.request("anvil_setBalance", sender.address, hex(1000))
    async with sender.outbox() as outbox:
        with pytest.raises(FundsError):
            await outbox.send("a", sender.transfer(1))
        assert outbox.find("a") is None
        await ground.rpc.request("anvil_setBalance", sender.address, hex(10**18))
        await outbox.send("b", sender.transfer(2))
        await settled(outbox, "b")
    assert await ground.transfers(sender.address) == [2]


def paying(ground: Ground, amount: int, slot: int = 5) -> Call[Any]:
    """Open a transfer, which is paid in the chain's own coin."""
    transfers = DataTransfer(ground.deployment.data_transfer)
    call = transfers.init_transaction(slot, FRIEND, b"s" * 32, b"k" * 32, ground.issuer, 600, 0)
    return replace(call, value=amount)


async def test_a_replaced_transaction_pays_what_the_first_one_did_and_once(
    ground: Ground, sender: Sender
) -> None:
    amount = 19 * 10**18 + 7  # more than 64 bits hold
    await ground.automine(on=False)
    async with sender.outbox(stuck_after_s=0.01) as outbox:
        await outbox.send("a", paying(ground, amount))
        (first,) = await until_attempts(outbox, "a", 1)
        await ground.rpc.request("anvil_setNextBlockBaseFeePerGas", hex(10 * first))
        await ground.mine()
        await until_attempts(outbox, "a", 2)
        await ground.mine()
        await settled(outbox, "a")
    held = await ground.rpc.request("eth_getBalance", ground.deployment.data_transfer, "latest")
    assert int(str(held), 16) == amount


async def test_who_cannot_pay_what_a_call_pays_is_told_and_nothing_is_sent(
    ground: Ground, sender: Sender
) -> None:
    await ground.rpc.request("anvil_setBalance", sender.address, hex(10**18))
    async with sender.outbox() as outbox:
        for amount in (2 * 10**18, 10**18 - 1000):  # more than there is, and with the fee more than there is
            with pytest.raises(FundsError, match=r"DataTransfer\.initTransaction and its fee"):
                await outbox.send("a", paying(ground, amount))
        assert outbox.find("a") is None


async def test_a_revert_of_a_call_that_pays_is_told_with_the_reason_that_it_had(
    ground: Ground, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ground.automine(on=False)
    monkeypatch.setattr(outbox_module, "SEND_AGAIN_S", 1000)
    async with sender.outbox(watching=False) as outbox:
        sent = await outbox.send("a", paying(ground, 7))
        await ground.rpc.request("anvil_dropTransaction", str(sent.transaction))
    key = int(sender.address, 16) << 32 | 5
    place = keccak(key.to_bytes(32) + bytes(32))
    taken = [ground.deployment.data_transfer, "0x" + place.hex(), f"0x{1:064x}"]
    await ground.rpc.request("anvil_setStorageAt", *taken)
    await ground.automine(on=True)
    monkeypatch.setattr(outbox_module, "SEND_AGAIN_S", -1)
    async with sender.outbox() as outbox:
        reverted = await settled(outbox, "a", State.REVERTED)
    assert reverted.reason == "DataTransfer_SlotTaken(slot=5)"


async def test_a_node_of_another_chain_is_told_apart_and_sent_nothing(ground: Ground, sender: Sender) -> None:
    async with sender.outbox(chain_id=1) as outbox:
        with pytest.raises(OtherChainError, match="31337"):
            await outbox.send("a", sender.transfer(1))
        assert outbox.find("a") is None


async def test_a_transaction_that_its_node_forgot_is_sent_again(ground: Ground, sender: Sender) -> None:
    await ground.automine(on=False)
    async with sender.outbox() as outbox:
        sent = [await outbox.send(str(n), sender.transfer(n)) for n in range(1, 4)]
        for forgotten in (sent[1], sent[0]):
            await ground.rpc.request("anvil_dropTransaction", str(forgotten.transaction))
        await looked(outbox)
        await looked(outbox)
        await ground.mine()
        for n in range(1, 4):
            await settled(outbox, str(n))
    assert await ground.transfers(sender.address) == [1, 2, 3]


async def test_a_revert_on_the_chain_is_told_with_the_contracts_reason(
    ground: Ground, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sender.outbox() as outbox:
        await outbox.send("approve", ground.token.approve(ground.issuer, TOKENS))
        await settled(outbox, "approve")
        await ground.automine(on=False)
        monkeypatch.setattr(outbox_module, "SEND_AGAIN_S", 1000)
        sent = await outbox.send("a", sender.transfer(7))
        await ground.rpc.request("anvil_dropTransaction", str(sent.transaction))
        await ground.automine(on=True)
        await ground.issuer_sends(ground.token.transfer_from(sender.address, FRIEND, TOKENS))
        monkeypatch.setattr(outbox_module, "SEND_AGAIN_S", -1)
    async with sender.outbox() as outbox:
        reverted = await settled(outbox, "a", State.REVERTED)
        assert reverted.reason is not None
        assert reverted.reason.startswith("ERC20InsufficientBalance")
        assert reverted.block is not None
    assert await ground.transfers(sender.address) == [TOKENS]


async def test_a_revert_of_a_contract_without_a_packaged_abi_does_not_hold_up_others(
    ground: Ground, sender: Sender
) -> None:
    call = sender.transfer(7)
    foreign = Call(call.to, call.data, "Foreign", call.function, call.read)
    async with sender.outbox(watching=False) as outbox:
        await outbox.send("approve", ground.token.approve(ground.issuer, TOKENS))
        await ground.automine(on=False)
        sent = await outbox.send("a", foreign)
        await outbox.send("b", ground.token.approve(ground.issuer, 1))
        await ground.rpc.request("anvil_dropTransaction", str(sent.transaction))
        await ground.automine(on=True)
        await ground.issuer_sends(ground.token.transfer_from(sender.address, FRIEND, TOKENS))
    async with sender.outbox() as outbox:
        await settled(outbox, "a", State.REVERTED)
        await settled(outbox, "b")


async def test_a_nonce_taken_by_another_wallet_is_told_and_the_next_is_sent(
    ground: Ground, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "SEND_AGAIN_S", 1000)
    async with sender.outbox() as outbox:
        await looked(outbox)
        await ground.automine(on=False)
        sent = await outbox.send("a", sender.transfer(1))
        await ground.rpc.request("anvil_dropTransaction", str(sent.transaction))
        other = sender.account.sign_transaction(
            {
                "chainId": 31337,
                "nonce": 0,
                "to": HexStr(FRIEND),
                "value": 1,
                "gas": 21_000,
                "maxFeePerGas": 10 * GWEI,
                "maxPriorityFeePerGas": GWEI,
            }
        )
        await ground.rpc.request("eth_sendRawTransaction", "0x" + bytes(other.raw_transaction).hex())
        await ground.mine()
        reverted = await settled(outbox, "a", State.REVERTED)
        assert "unknown to this vault, took nonce 0" in str(reverted.reason)
        assert "look at the account's history before paying again" in str(reverted.reason)
        await ground.automine(on=True)
        await outbox.send("b", sender.transfer(2))
        assert (await settled(outbox, "b")).nonce == 1
    assert await ground.transfers(sender.address) == [2]


async def test_a_transaction_that_is_counted_before_its_receipt_is_there_is_not_given_up(
    ground: Ground, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    withheld = 2  # of one look: a real node does so for a moment, and not when it is asked to
    given = AccountOnChain.receipts

    async def late(self: AccountOnChain, transactions: list[Hash]) -> list[Receipt]:
        nonlocal withheld
        withheld -= 1
        return [] if withheld >= 0 else await given(self, transactions)

    async with sender.outbox() as outbox:
        await looked(outbox)
        monkeypatch.setattr(AccountOnChain, "receipts", late)
        await outbox.send("a", sender.transfer(1))
        await settled(outbox, "a")
    assert withheld < 0
    assert await ground.transfers(sender.address) == [1]


async def test_while_the_node_is_away_nothing_is_lost_and_nothing_is_sent_twice(
    ground: Ground, sender: Sender
) -> None:
    async with sender.outbox(timeout_s=0.3) as outbox:
        await ground.automine(on=False)
        await outbox.send("before", sender.transfer(1))
        os.kill(ground.anvil.pid, signal.SIGSTOP)
        try:
            with pytest.raises(RpcUnreachableError):
                await outbox.send("during", sender.transfer(2))
        finally:
            os.kill(ground.anvil.pid, signal.SIGCONT)
        await ground.automine(on=True)
        await outbox.send("during", sender.transfer(2))
        await ground.mine()
        await settled(outbox, "before")
        await settled(outbox, "during")
    assert sorted(await ground.transfers(sender.address)) == [1, 2]


async def test_a_node_away_while_the_signed_transaction_is_sent_gets_it_later(
    ground: Ground, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sender.outbox(timeout_s=0.3, watching=False) as outbox:

        async def away(_once: str) -> None:
            raise RpcUnreachableError(ground.anvil.url, "away")

        monkeypatch.setattr(outbox, "_broadcast", away)
        with pytest.raises(RpcUnreachableError):
            await outbox.send("a", sender.transfer(1))
    assert await ground.transfers(sender.address) == []
    async with sender.outbox() as outbox:
        await settled(outbox, "a")
    assert await ground.transfers(sender.address) == [1]


async def test_what_a_chain_lost_with_its_last_blocks_final_ones_too_is_sent_again(
    ground: Ground, sender: Sender
) -> None:
    async with sender.outbox() as outbox:
        await outbox.send("kept", sender.transfer(1))
        await settled(outbox, "kept")
        snapshot = await ground.rpc.request("evm_snapshot")
        for n in range(2, 5):
            await outbox.send(str(n), sender.transfer(n))
            await settled(outbox, str(n))
        assert await ground.rpc.request("evm_revert", snapshot) is True
        assert await ground.nonce(sender.address) == 1
        await looked(outbox)
        await looked(outbox)
        for n in range(2, 5):
            await settled(outbox, str(n))
    assert await ground.transfers(sender.address) == [1, 2, 3, 4]


async def test_a_reorg_before_finality_only_delays(ground: Ground, sender: Sender) -> None:
    async with sender.outbox(confirmations=3) as outbox:
        await ground.mine(3)
        await outbox.send("a", sender.transfer(1))
        await settled(outbox, "a", State.MINED)
        await ground.rpc.request("anvil_reorg", 2, [])
        await looked(outbox)
        await looked(outbox)
        await ground.mine()
        await settled(outbox, "a", State.MINED)
        await ground.mine(4)
        await settled(outbox, "a")
    assert await ground.transfers(sender.address) == [1]
    assert await ground.nonce(sender.address) == 1


async def test_a_chain_restarted_from_an_older_state_gets_what_it_lost(tmp_path: Path) -> None:
    state, older = tmp_path / "chain.json", tmp_path / "older.json"
    async with running_anvil(state=state) as anvil, Rpc(anvil.url) as rpc:
        ground = await Ground.laid(anvil, rpc)
        sender = await Sender.funded(ground, tmp_path / "vault")
        port = anvil.port
        async with sender.outbox() as outbox:
            await outbox.send("kept", sender.transfer(1))
            await settled(outbox, "kept")
    shutil.copy(state, older)
    async with running_anvil(state=state, port=port) as anvil, Rpc(anvil.url) as rpc:
        ground.anvil, ground.rpc = anvil, rpc
        async with sender.outbox() as outbox:
            await outbox.send("lost", sender.transfer(2))
            await settled(outbox, "lost")
    async with (
        sender.outbox(timeout_s=1) as outbox,  # it starts while there is no chain at all
        running_anvil(state=older, port=port) as anvil,
        Rpc(anvil.url) as rpc,
    ):
        ground.anvil, ground.rpc = anvil, rpc
        for _ in range(2):
            await looked(outbox)
        await settled(outbox, "lost")
        await outbox.send("next", sender.transfer(3))
        await settled(outbox, "next")
        assert await ground.transfers(sender.address) == [1, 2, 3]


async def test_waiting_for_an_unknown_key_ends_at_once(sender: Sender) -> None:
    async with sender.outbox() as outbox, asyncio.timeout(5):
        assert await outbox.wait("never", State.FINAL, 25) is None


async def test_waiting_ends_with_its_time_and_tells_how_far_it_is(ground: Ground, sender: Sender) -> None:
    await ground.automine(on=False)
    async with sender.outbox() as outbox:
        await outbox.send("a", sender.transfer(1))
        waited = await outbox.wait("a", State.MINED, 0.01)
        assert waited is not None
        assert waited.state == State.SENT
        assert (await outbox.wait("a", State.SENT, 25)) == waited


async def test_an_answer_that_makes_no_sense_does_not_end_the_watch(
    ground: Ground, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ground.automine(on=False)
    async with sender.outbox() as outbox:
        await outbox.send("a", sender.transfer(1))
        mined, faults = outbox._mined, 0

        async def nonsense(keys: list[str]) -> object:
            nonlocal faults
            faults += 1
            if faults < 3:
                raise KeyError("status")
            return await mined(keys)

        monkeypatch.setattr(outbox, "_mined", nonsense)
        await ground.mine()
        await settled(outbox, "a")
    assert faults >= 3


async def test_it_ends_at_once_though_a_block_comes_at_that_very_moment(sender: Sender) -> None:
    async with asyncio.timeout(20):
        for _ in range(5):
            async with sender.outbox() as outbox:
                await looked(outbox)
                await outbox._chain.final_number()  # by now the watcher waits for the next block
                outbox.on_block()


async def test_a_node_that_tells_neither_balances_nor_the_price_paid_holds_up_nothing(
    ground: Ground, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "SEND_AGAIN_S", 3600)
    request, asked = Rpc.request, []

    async def refusing(self: Rpc, method: str, *parameters: Json) -> Json:
        asked.append(method)
        if method == "eth_getBalance":
            raise RpcResponseError(method, -32601, "the method does not exist", None)
        return await request(self, method, *parameters)

    batch = Rpc.batch

    async def bare(self: Rpc, calls: Sequence[tuple[str, list[Json]]]) -> list[Json]:
        answers = await batch(self, calls)
        for answer in answers:
            if isinstance(answer, dict):
                answer.pop("effectiveGasPrice", None)
        return answers

    monkeypatch.setattr(Rpc, "request", refusing)
    monkeypatch.setattr(Rpc, "batch", bare)
    await ground.automine(on=False)
    async with sender.outbox(stuck_after_s=0) as outbox:
        await outbox.send("a", sender.transfer(1))
        await ground.mine()
        await settled(outbox, "a")
        await looked(outbox)
    assert asked.count("eth_getBalance") == 1, "it is asked for as often as what was forgotten is sent again"


async def test_looking_at_what_is_open_reads_no_more_of_the_database(ground: Ground, sender: Sender) -> None:
    statements: list[str] = []
    await ground.automine(on=False)
    async with sender.outbox(stuck_after_s=0) as outbox:
        await outbox.send("a", sender.transfer(1))
        outbox._database.set_trace_callback(statements.append)
        await looked(outbox)
        await looked(outbox)
        outbox._database.set_trace_callback(None)
        asked = {statement for statement in statements if statement.startswith("SELECT")}
        plans = {
            statement: [row[3] for row in outbox._database.execute(f"EXPLAIN QUERY PLAN {statement}")]
            for statement in asked
        }
    assert len(plans) > 3
    assert not [plan for plan in plans.values() if any(step.startswith("SCAN") for step in plan)]
