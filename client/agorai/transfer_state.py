"""A transfer of data as it is seen, and whom it waits for. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from agorai_shared.bindings.data_transfer import DataProvided, Deal, Outcome, State
from agorai_shared.bindings.voting_panel import Phase, Verdict
from agorai_shared.panel import PanelCase


@dataclass(frozen=True, slots=True)
class TransferSeen:
    """A transfer as it is shown."""

    id: int
    deal: Deal
    state: State
    provided: DataProvided | None
    outcome: Outcome | None
    """How it ended; None while it is open."""
    now: int
    case: PanelCase | None = None
    """That is before the panel, while it is contested; of one that has ended, the last that was."""

    @property
    def by_panel(self) -> bool:
        """Whether the panel is the authority: the contract takes seats with no other."""
        return self.deal.panel_size > 0


@dataclass(frozen=True, slots=True)
class Awaited:
    """What a transfer waits for."""

    what: str
    until: int | None
    """In seconds since 1970; none: without a limit."""


def standing(seen: TransferSeen) -> str:
    """Give where a transfer is, in a word or two."""
    state = seen.state
    if seen.outcome is not None:
        return seen.outcome.name.lower()
    if state.contested:
        return "contested"
    if state.requested_forceful_refund:
        return "refund requested"
    if state.requested_forceful_settle:
        return "settlement requested"
    return "provided" if state.data_provided else "initiated"


def awaited(seen: TransferSeen) -> Awaited | None:
    """Say whom a transfer waits for; none: it has ended."""
    state = seen.state
    if seen.outcome is not None:
        return None
    if state.contested:
        return _before_panel(seen)
    if seen.now > state.deadline:
        return _overdue(state, by_panel=seen.by_panel)
    return Awaited(_in_time(state, by_panel=seen.by_panel), state.deadline)


def voters_found(seen: TransferSeen) -> str | None:
    """Say what voters found in a transfer that has ended; none: they were not asked."""
    if seen.outcome is None or seen.case is None:
        return None
    found = {Verdict.CONFIRMED: "for the provider", Verdict.REJECTED: "for the consumer"}
    return found.get(seen.case.case.verdict, "no verdict")


def _before_panel(seen: TransferSeen) -> Awaited:
    what, case = f"in case {seen.state.panel_case}", seen.case
    if case is None:
        return Awaited(f"voters judge it, {what}", None)
    if not case.pending:
        return Awaited(f"anyone resolves it: voters have found, {what}", None)
    phase, deadline = case.phase(seen.now)
    over = seen.now > deadline
    doing = {
        Phase.DRAWING: "voters are drawn",
        Phase.COMMITTING: "voters judge it",
        Phase.REVEALING: "voters show their votes",
    }
    told = (
        "anyone has the votes counted"
        if over and phase == Phase.REVEALING
        else doing.get(phase, "voters judge it")
    )
    return Awaited(f"{told}, {what}", None if over else deadline)


def _in_time(state: State, *, by_panel: bool) -> str:
    rules = "anyone asks the panel" if by_panel else "the authority rules"
    if state.requested_forceful_refund and state.data_provided:
        return f"{rules}, or the provider is paid" if by_panel else rules
    what = (
        "the consumer verifies the data, or requests a refund"
        if state.data_provided
        else "the provider provides"
    )
    asked = state.requested_forceful_refund or state.requested_forceful_settle
    rules = rules if state.data_provided or not by_panel else ""
    return f"{what}, or {rules}" if asked and rules else what


def _overdue(state: State, *, by_panel: bool) -> Awaited:
    if not state.data_provided:
        return Awaited("the consumer cancels: nothing was provided in time", None)
    if state.requested_forceful_refund and by_panel:
        return Awaited("nobody asked the panel in time: anyone ends it, and the provider is paid", None)
    if state.requested_forceful_refund:
        return Awaited("the authority did not rule in time: anyone ends it, and each side has half", None)
    return Awaited("the consumer was silent: anyone ends it, and the provider is paid", None)
