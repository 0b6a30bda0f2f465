"""How a running node is, and what a person would have to do about it."""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Final, TypeVar

import aiohttp

from agorai import health
from agorai.client import Balances, Client
from agorai.devchain import TOKEN
from agorai.home import Home, NodeFile, NodeNotRunningError, PlatformFile
from agorai.hub_client import HubClient
from agorai.parts import SERVICES, VAULT
from agorai.remote_findings import sent_astray
from agorai.trading import Trading
from agorai.transfer_refusals import shown
from agorai.transfer_state import TransferSeen
from agorai.transfers import Transfers
from agorai_shared.bindings.fair_exchange import State, Trade
from agorai_shared.errors import AgoraiError
from agorai_shared.types import Address
from agorai_shared.verifier import Verifier
from agorai_trainer.messages import TrainerStatus

T = TypeVar("T")
FEW_STEPS: Final = 20


@dataclass(frozen=True, slots=True)
class Advice:
    """Something that is for a person to do."""

    what: str
    do: str
    urgent: bool = False
    """Whether the node is not well until it is done."""
    until: int | None = None
    """When it is too late, in seconds since 1970."""


@dataclass(slots=True)
class Found:
    """What was found; None for what did not answer, or does not run."""

    failing: dict[str, str] = field(default_factory=dict)
    """Failing checks, each with why and what to do."""
    head: int | None = None
    final: int | None = None
    lag_blocks: int | None = None
    """How many the hub is behind the chain's node."""
    balances: Balances | None = None
    credit: int | None = None
    step_cost: int = 0
    """Coin that a transaction may cost now, in its smallest unit."""
    trainer: TrainerStatus | None = None
    pending_transactions: int | None = None
    lacking: int = 0
    """Tokens that are wanted to challenge what was found in pools, in the smallest unit."""
    offered: Sequence[tuple[int, Trade]] = ()
    """Trades that wait for this account to accept them."""
    transfers: Sequence[TransferSeen] = ()
    dead_letters: int = 0
    free_bytes: int | None = None
    node_version: str | None = None
    carrier: Path | None = None
    """Home of the node that carries the embedded chain; None for another chain."""
    carrier_again: str = "agorai up"
    """The command that starts that again as it was."""
    acts: bool = True
    """Whether this node acts for the account: without a vault it sends nothing."""
    astray: tuple[str, str] | None = None
    """That the registry sends others elsewhere, and what to do, if it does."""
    certificate_end: float | None = None
    """When the bus's certificate ends, in seconds since 1970; None without TLS."""


async def look(client: Client, home: Home) -> Found:
    """Ask everything that there is of a node, at once; what does not answer is a check that fails."""
    found = Found(free_bytes=shutil.disk_usage(home.path).free, acts=VAULT in client.info.runs)
    found.carrier, found.carrier_again = _carrier(client.info, home)
    left_out, trading = SERVICES.intersection(client.info.left_out), Trading(client)

    async def asked(name: str, question: Callable[[], Awaitable[T]]) -> T | None:
        if name in left_out:
            return None
        try:
            return await question()
        except AgoraiError as error:
            found.failing.setdefault(name, str(error))
            return None

    async def of_account(question: Callable[[], Awaitable[T]]) -> T | None:
        return await asked("chain", question) if client.info.address else None

    async with asyncio.TaskGroup() as asking:
        balances = asking.create_task(of_account(client.balances))
        credited = asking.create_task(of_account(trading.credits))
        trainer = asking.create_task(asked("trainer", client.trainer_status))
        vault = asking.create_task(asked("vault", client.vault.status))
        findings = asking.create_task(asked("verifier", Verifier(client.commander).findings))
        trades = asking.create_task(of_account(trading.mine))
        transfers = asking.create_task(of_account(Transfers(client).transfers))
        head = asking.create_task(asked("chain", client.chain.head))
        final = asking.create_task(asked("chain", client.chain.final))
        price = asking.create_task(asked("chain", partial(client.chain.rpc.request, "eth_gasPrice")))
        lag = asking.create_task(asked("hub", partial(_lag, client)))
        end = asking.create_task(asked("bus", partial(health.bus_certificate_end, client.info)))
        astray = asking.create_task(
            of_account(partial(sent_astray, client.chain, client.deployment, client.info))
        )
        asking.create_task(_hear_ports(client.info, found))
    found.balances, found.trainer, found.lag_blocks = balances.result(), trainer.result(), lag.result()
    found.certificate_end, found.astray = end.result(), astray.result()
    if (credits_ := credited.result()) is not None:
        found.credit = sum(credits_.values())
    if block := head.result():
        found.head = block.number
    if block := final.result():
        found.final = block.number
    if state := vault.result():
        found.pending_transactions = state.pending_transactions
    found.lacking = sum(one.lacking for one in findings.result() or ())
    found.step_cost = health.A_STEP_GAS * int(str(price.result() or "0x0"), 16)
    found.offered = [
        (opened.id, trade)
        for opened, trade in trades.result() or ()
        if trade.state == State.OFFERED and opened.buyer == client.address
    ]
    found.transfers = [seen for seen in transfers.result() or () if seen.outcome is None]
    return found


def _carrier(info: NodeFile, home: Home) -> tuple[Path | None, str]:
    """Give the home of the node that carries the embedded chain, if there is one, and what starts it again."""
    carrier = Home(info.joined) if info.joined else home
    platform = PlatformFile.load(carrier.platform_file)
    if platform is None or not platform.embedded_chain:
        return None, ""
    try:
        return carrier.path, carrier.running().up_again
    except NodeNotRunningError:
        return carrier.path, "agorai up"


def advise(found: Found, account: Address, now: float | None = None) -> list[Advice]:
    """Say what is for a person to do, what is urgent first, then by when."""
    moment = time.time() if now is None else now
    advice = _of_machine(found, moment)
    if not found.acts:
        return sorted(advice, key=_place)
    advice += _of_account(found)
    for trade_id, trade in found.offered:
        if trade.deadline > moment:
            what = f"Trade {trade_id} is offered to you."
            advice.append(Advice(what, f"agorai trade accept {trade_id}", until=trade.deadline))
    advice += [one for seen in found.transfers if (one := _of_transfer(seen, account))]
    return sorted(advice, key=_place)


def _place(advice: Advice) -> tuple[bool, float]:
    return not advice.urgent, advice.until or float("inf")


def _of_account(found: Found) -> list[Advice]:
    advice = []
    if found.balances and found.step_cost:
        steps = found.balances.coin // found.step_cost
        if steps < FEW_STEPS:
            what = f"The account has coin for about {steps} transactions."
            advice.append(Advice(what, "Send it some of the chain's own coin for fees.", urgent=steps == 0))
    if found.astray:
        advice.append(Advice(*found.astray, urgent=True))
    if found.lacking:
        what = f"{found.lacking / TOKEN:g} tokens are lacking to challenge what is wrong in data pools."
        advice.append(Advice(what, "agorai pool findings"))
    if found.credit:
        what = f"{found.credit / TOKEN:g} tokens are credited to you."
        advice.append(Advice(what, "agorai account withdraw"))
    return advice


def _of_machine(found: Found, moment: float) -> list[Advice]:
    advice = []
    if found.carrier and "chain" in found.failing:
        again = f"Stop the node that carries it and start it again: AGORAI_HOME={found.carrier} {found.carrier_again}"
        what = "The embedded chain does not answer; it goes on from its last saved state."
        advice.append(Advice(what, again, urgent=True))
    if found.free_bytes is not None and found.free_bytes < health.LEAST_FREE:
        what = f"The disk of the home folder has {found.free_bytes >> 20} MiB left."
        advice.append(Advice(what, "Make room: `agorai store gc`, or a larger disk.", urgent=True))
    if found.dead_letters:
        what = f"{found.dead_letters} items were given up on since the node started."
        advice.append(
            Advice(what, "See why, and try again, on the dashboard's page of the node: agorai dashboard")
        )
    if found.certificate_end is not None and found.certificate_end - moment < health.RENEW_BEFORE_S:
        what = "The certificate of the bus ends; then nobody reaches it anew."
        advice.append(Advice(what, health.RENEW, until=int(found.certificate_end)))
    own = metadata.version("agorai")
    if found.node_version not in (None, own):
        what = f"The node runs version {found.node_version}, and this command is {own}."
        advice.append(Advice(what, "Stop the node and start it again: agorai up"))
    return advice


def _of_transfer(seen: TransferSeen, account: Address) -> Advice | None:
    id_, state = shown(seen.id), seen.state
    name = f"Transfer {id_}"
    if state.contested or seen.now > state.deadline:
        return None
    if seen.deal.data_provider == account and not state.data_provided:
        return Advice(f"{name} waits for your data.", f"agorai transfer provide {id_}", until=state.deadline)
    if seen.deal.data_consumer == account and state.data_provided and not state.requested_forceful_refund:
        what = f"{name} waits for you to look at the data and verify it."
        return Advice(what, f"agorai transfer verify {id_}", until=state.deadline)
    if seen.deal.data_consumer == account and state.data_provided and seen.by_panel:
        what = f"{name}: unless the panel is asked in time, its provider is paid."
        return Advice(what, f"agorai transfer contest {id_}", until=state.deadline)
    asked = state.requested_forceful_refund or state.requested_forceful_settle
    if seen.deal.authority == account and asked:
        rule = f"agorai transfer execute-refund {id_}"
        if state.data_provided:
            rule = f"agorai transfer download {id_} FILE, then execute-refund or execute-settle"
        return Advice(f"{name} waits for you to rule.", rule, until=state.deadline)
    return None


async def _lag(client: Client) -> int | None:
    if client.info.hub_url is None:
        return None
    async with HubClient(client.info.hub_url) as hub:
        states = await hub.chains()
    own = [state.lag_blocks for state in states if state.chain_id == client.deployment.chain_id]
    return own[0] if own else None


async def _hear_ports(info: NodeFile, found: Found) -> None:
    """Ask a node's processes which of their checks fail, and its services what else only their metrics tell."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session:
        for one in await health.readiness(session, info):
            if one.failing is None:
                again = f"Start it again: `{info.up_again}`."
                found.failing[one.name] = f"It does not answer at {one.url}. {again}"
            else:
                found.failing |= one.failing
        for url in {info.url, info.vault_url}:
            try:
                async with session.get(f"{url}/metrics") as answer:
                    _read_metrics(await answer.text(), found)
            except (aiohttp.ClientError, TimeoutError):
                continue


def _read_metrics(said: str, found: Found) -> None:
    counts = re.findall(r"^agorai_reconciler_dead_letters_total\{[^}]*\} (\S+)$", said, re.MULTILINE)
    found.dead_letters += int(sum(map(float, counts)))
    if version := re.search(r'^agorai_build_info\{version="([^"]+)"\}', said, re.MULTILINE):
        found.node_version = version[1]


def tokens(amount: int | None) -> float | None:
    """Give an amount in whole tokens, or of the chain's coin."""
    return None if amount is None else amount / TOKEN
