"""A transfer of data as it is seen, and whom it waits for. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from agorai_shared.bindings.data_transfer import DataProvided, Deal, Outcome, State


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
        return Awaited(f"voters judge it, in case {state.panel_case}", None)
    return _overdue(state) if seen.now > state.deadline else Awaited(_in_time(state), state.deadline)


def _in_time(state: State) -> str:
    if state.requested_forceful_refund and state.data_provided:
        return "the authority rules"
    what = (
        "the consumer verifies the data, or requests a refund"
        if state.data_provided
        else "the provider provides"
    )
    asked = state.requested_forceful_refund or state.requested_forceful_settle
    return f"{what}, or the authority rules" if asked else what


def _overdue(state: State) -> Awaited:
    if not state.data_provided:
        return Awaited("the consumer cancels: nothing was provided in time", None)
    if state.requested_forceful_refund:
        return Awaited("the authority did not rule in time: anyone ends it, and each side has half", None)
    return Awaited("the consumer was silent: anyone ends it, and the provider is paid", None)
