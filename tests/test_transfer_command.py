"""`agorai transfer` without a node: its refusals in words, where a transfer is, and how it is shown."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from string import Formatter
from types import SimpleNamespace
from typing import cast

import pytest
from rich.console import Console
from typer.testing import CliRunner

from agorai.cli.data_transfer_shown import differences_table, transfer_json, transfers_told
from agorai.cli.main import app
from agorai.cli.vote import _about, _case
from agorai.client import Client
from agorai.devchain import TOKEN
from agorai.exchange import explained, refusal
from agorai.transfer_refusals import (
    REFUSALS,
    TransferIdError,
    TransferRefusedError,
    shown,
)
from agorai.transfer_state import Awaited, TransferSeen, awaited, standing, voters_found
from agorai.transfers import Transfers, read_id
from agorai.voting import Drawing
from agorai_shared.bindings.data_transfer import DataProvided, DataTransfer, Deal, Outcome, State
from agorai_shared.bindings.voting_panel import Case, Config, Phase, Seat, Verdict
from agorai_shared.chain import ContractRevertError
from agorai_shared.panel import PanelCase
from agorai_shared.types import Address, CaseId, Wei

CARLA, PAUL, JUDITH = (Address(f"0x{byte:02x}" + "00" * 19) for byte in (0xC0, 0xD0, 0xE0))
AMOUNT = Wei(3 * TOKEN + 1)
DEAL = Deal(CARLA, PAUL, JUDITH, b"s" * 32, b"k" * 32, AMOUNT, 1_000, 100, 2, 5, 0)
BY_PANEL = replace(DEAL, panel_size=3)
ID = (int(CARLA, 16) << 32 | 2) << 64 | 5


# ---------------------------------------------------------------------------------------------- refusals


def test_every_refusal_of_the_contract_is_told_with_its_values() -> None:
    errors = {found.name: found for found in DataTransfer.ABI.errors.values()}
    of_users = {name for name in errors if name.startswith("DataTransfer_")} - {"DataTransfer_NotContract"}
    assert of_users == REFUSALS.keys()
    for error, texts in REFUSALS.items():
        named = {name for text in texts for _, name, _, _ in Formatter().parse(text) if name}
        assert named <= {parameter.name for parameter in errors[error].inputs}


def test_ids_and_times_of_a_refusal_are_written_as_people_read_them() -> None:
    late = f"DataTransfer_DeadlinePassed(id={ID}, deadline=1700000000)"
    with pytest.raises(TransferRefusedError, match="ended at 2023-11-14 22:13:20 UTC") as told, explained():
        raise ContractRevertError("DataTransfer", "provideData", late)
    assert shown(ID) in told.value.message
    assert told.value.remedy == f"See `agorai transfer show {shown(ID)}`."
    said = refusal("DataTransfer_NotAllowed", {"id": ID, "caller": PAUL, "allowed": CARLA})
    assert f"{CARLA}'s to do, not {PAUL}'s" in said.message


def test_an_id_is_read_as_it_is_shown_and_as_events_have_it() -> None:
    assert shown(ID) == f"{CARLA.lower()}{2:08x}{5:016x}"
    assert read_id(shown(ID)) == read_id(str(ID)) == ID
    for wrong in ("", "7 ", "0x7", "-1", "1_0", str(1 << 256), shown(ID) + "0"):
        with pytest.raises(TransferIdError):
            read_id(wrong)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("init", 1, "--authority", JUDITH), "--amount"),
        (("init", 1, "--authority", JUDITH, "--amount", -1), "--amount"),
        (("init", 1, "--authority", JUDITH, "--amount", "1e-19"), "is no amount"),
        (("init", 1, "--authority", JUDITH, "--amount", "inf"), "is no amount"),
        (("init", 1, "--authority", JUDITH, "--amount", 1, "--duration", "5w"), "write '5w' as a number"),
    ],
)
def test_usage_that_is_wrong_is_told_before_any_node_is_asked(
    arguments: tuple[object, ...], why: str, tmp_path: Path
) -> None:
    command = ["transfer", *map(str, arguments), "--home", str(tmp_path), "--json"]
    found = CliRunner().invoke(app, command)
    assert (found.exit_code, why in json.loads(found.stdout)["error"]["detail"]) == (2, True), found.stdout


# ------------------------------------------------------------------------------------------------ states


def at(now: int, outcome: Outcome | None = None, **flags: object) -> TransferSeen:
    state = replace(State(True, False, False, False, False, 1_000, 0), **flags)  # type: ignore[arg-type]
    return TransferSeen(ID, DEAL, state, None, outcome, now)


@pytest.mark.parametrize(
    ("seen", "where", "whom", "until"),
    [
        (at(900), "initiated", "the provider provides", 1_000),
        (at(1_000), "initiated", "the provider provides", 1_000),
        (at(1_001), "initiated", "the consumer cancels", None),
        (at(900, requested_forceful_refund=True), "refund requested", "provides, or the authority", 1_000),
        (at(900, data_provided=True), "provided", "or requests a refund", 1_000),
        (at(1_001, data_provided=True), "provided", "the provider is paid", None),
        (
            at(900, data_provided=True, requested_forceful_settle=True),
            "settlement requested", "refund, or the authority rules", 1_000,
        ),
        (
            at(900, data_provided=True, requested_forceful_refund=True),
            "refund requested", "the authority rules", 1_000,
        ),
        (
            at(1_001, data_provided=True, requested_forceful_refund=True, requested_forceful_settle=True),
            "refund requested", "each side has half", None,
        ),
        (at(1_001, data_provided=True, contested=True, panel_case=7), "contested", "in case 7", None),
    ],
)  # fmt: skip
def test_a_transfer_says_whom_it_waits_for(
    seen: TransferSeen, where: str, whom: str, until: int | None
) -> None:
    waiting = awaited(seen)
    assert standing(seen) == where
    assert waiting is not None
    assert whom in waiting.what
    assert waiting.until == until


CONFIG = Config(seat_stake=1, seat_bonus=1, draw_window=60, commit_window=60, reveal_window=60, draw_delay=0)


def before_panel(phase: Phase, verdict: Verdict = Verdict.PENDING) -> PanelCase:
    case = Case(CARLA, ID, CARLA, PAUL, 0, 1, 1_000, 3, 1, 3, 0, 0, 0, phase, verdict)
    return PanelCase(case, CONFIG)


@pytest.mark.parametrize(
    ("now", "case", "whom", "until"),
    [
        (900, before_panel(Phase.DRAWING), "voters are drawn, in case 7", 1_000),
        (900, before_panel(Phase.COMMITTING), "voters judge it, in case 7", 1_000),
        (1_001, before_panel(Phase.COMMITTING), "voters show their votes, in case 7", 1_060),
        (900, before_panel(Phase.REVEALING), "voters show their votes, in case 7", 1_000),
        (1_001, before_panel(Phase.REVEALING), "anyone has the votes counted, in case 7", None),
        (
            1_001,
            before_panel(Phase.CLOSED, Verdict.REJECTED),
            "anyone resolves it: voters have found, in case 7",
            None,
        ),
    ],
)
def test_a_contested_transfer_says_how_far_its_voters_are(
    now: int, case: PanelCase, whom: str, until: int | None
) -> None:
    seen = replace(at(now, data_provided=True, contested=True, panel_case=7), case=case, deal=BY_PANEL)
    assert awaited(seen) == Awaited(whom, until)


@pytest.mark.parametrize(
    ("seen", "whom"),
    [
        (
            at(900, data_provided=True, requested_forceful_refund=True),
            "anyone asks the panel, or the provider is paid",
        ),
        (at(900, requested_forceful_refund=True), "the provider provides"),
        (
            at(900, data_provided=True, requested_forceful_settle=True),
            "the consumer verifies the data, or requests a refund, or anyone asks the panel",
        ),
        (
            at(1_001, data_provided=True, requested_forceful_refund=True),
            "nobody asked the panel in time: anyone ends it, and the provider is paid",
        ),
    ],
)  # fmt: skip
def test_where_the_panel_rules_a_transfer_waits_for_whoever_asks_it(seen: TransferSeen, whom: str) -> None:
    waiting = awaited(replace(seen, deal=BY_PANEL))
    assert waiting is not None
    assert waiting.what == whom


def test_a_transfer_that_has_ended_waits_for_nobody() -> None:
    for outcome in Outcome:
        seen = at(900, outcome, open=False, deadline=0)
        assert (awaited(seen), standing(seen)) == (None, outcome.name.lower())


@pytest.mark.parametrize(
    ("head", "changes", "why"),
    [
        (1_000, {"data_provided": True}, "nothing was requested"),
        (1_000, {"requested_forceful_refund": True}, "nothing was provided"),
        (1_000, {"data_provided": True, "contested": True, "panel_case": 7}, "it is before voters"),
        (1_001, {"data_provided": True, "requested_forceful_refund": True}, "The time for it"),
    ],
)
async def test_what_has_to_come_before_voters_is_told_before_they_are_paid(
    monkeypatch: pytest.MonkeyPatch, head: int, changes: dict[str, object], why: str
) -> None:
    async def look(_self: object, _transfer: int) -> TransferSeen:
        return replace(at(5_000, **changes), deal=BY_PANEL)  # type: ignore[arg-type]

    async def newest() -> SimpleNamespace:
        return SimpleNamespace(timestamp=head)

    monkeypatch.setattr(Transfers, "look", look)
    contracts = SimpleNamespace(fair_exchange=JUDITH, voting_panel=JUDITH, data_transfer=JUDITH)
    chain = SimpleNamespace(head=newest)
    client = SimpleNamespace(address=CARLA, deployment=contracts, chain=chain, market=None)
    with pytest.raises(TransferRefusedError, match=why):  # nothing to send with is there
        await Transfers(cast("Client", client)).contest(ID)


def test_of_a_transfer_that_has_ended_it_is_told_what_voters_found() -> None:
    for verdict, said in (
        (Verdict.CONFIRMED, "for the provider"),
        (Verdict.REJECTED, "for the consumer"),
        (Verdict.UNDECIDED, "no verdict"),
    ):
        seen = replace(at(900, Outcome.DIVIDED), case=before_panel(Phase.CLOSED, verdict))
        assert voters_found(seen) == transfer_json(seen, PAUL)["voters_found"] == said
    assert voters_found(at(900, Outcome.SETTLED)) is None


async def test_a_provider_who_serves_slowly_does_not_keep_its_consumer_from_asking_the_panel_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provided = DataProvided(ID, CARLA, PAUL, b"e" * 32, b"d" * 32)
    seen = replace(
        at(1_000, data_provided=True), provided=provided, deal=BY_PANEL
    )  # which is the last second
    asked: list[object] = []

    async def look(_self: object, _transfer: int) -> TransferSeen:
        return seen

    async def hangs(*_: object) -> None:
        asked.append(None)
        await asyncio.Event().wait()

    monkeypatch.setattr(Transfers, "look", look)
    market = SimpleNamespace(gateway=hangs, served_by=None)
    contracts = SimpleNamespace(fair_exchange=JUDITH, voting_panel=JUDITH, data_transfer=JUDITH)
    client = SimpleNamespace(address=CARLA, market=market, deployment=contracts)
    await Transfers(cast("Client", client))._keep(ID)
    assert asked


def test_differences_name_columns_and_what_the_schema_says() -> None:
    changes = [{"path": f"fields.c{n}.maximum", "before": n, "after": 4_000 + n} for n in range(25)]
    found = {"file": "f.csv", "fields_added": ["extra"], "fields_removed": ["lost"], "changes": changes}
    console = Console(width=200)
    with console.capture() as capture:
        console.print(differences_table(found))
    told = capture.get()
    for part in ("column extra", "column lost", "fields c0 maximum", "4000", "and 5 more"):
        assert part in told


def test_a_voter_is_shown_a_case_about_a_transfer_whose_number_no_json_holds() -> None:
    case = Case(CARLA, ID, CARLA, PAUL, 0, 0, 0, 3, 1, 0, 0, 0, 0, Phase.CLOSED, Verdict.UNDECIDED)
    drawing = Drawing(CaseId(1), case, Seat.SEATED, "DataTransfer", None, None)
    found = _case(drawing)
    assert found["item"] == str(ID)
    assert _about(found) == f"transfer {shown(ID)}"
    assert _case(replace(drawing, case=replace(case, item=7)))["item"] == 7


def test_the_list_fits_a_terminal_and_has_each_id_whole() -> None:
    mine = transfer_json(at(900), PAUL)
    told = StringIO()
    Console(file=told, width=80).print(transfers_told([mine, mine]))
    said = told.getvalue().splitlines()
    assert max(map(len, said)) <= 80
    assert said.count(shown(ID)) == 2
    assert said[1] == "  you are the provider; 3 coin; initiated"
    assert said[2].startswith("  the provider provides, until 1970-01-01 00:16:40 UTC (in")
    assert transfers_told([]) == "You have part in no transfer."
