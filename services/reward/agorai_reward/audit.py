"""A proposed payout compared with what the task's public record says is due, in plain words.

Pure. Voters' nodes judge by it, and whoever considers a challenge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from agorai_reward import merkle
from agorai_reward.due import Due, Finding, Kind, Record, Worths, due
from agorai_reward.payout import Row


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the chain holds of a proposed payout, and the rows of its evidence; None if these are not served."""

    root: bytes
    total: int
    rows: tuple[Row, ...] | None


class Verdict(StrEnum):
    """Whether the proposal pays what is due."""

    RIGHT = "right"
    WRONG = "wrong"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Audit:
    """A verdict and what it rests on."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    due: Due


def audit(record: Record, proposal: Proposal, worths: Worths) -> Audit:
    """Compare a proposal with what is due.

    It is right if root and total are those of what is due, and wrong if they are not, or if what is served of its
    evidence contradicts them. It is unknown if there is no such contradiction and something is missing.

    Raises
    ------
    InputError
        As `due` does.
    """
    what = due(record, worths)
    findings = [*what.findings, *_contradictions(record, proposal)]
    if what.rows is not None:
        findings += _differences(record.terms.task, what.rows, proposal)
    kinds = {finding.kind for finding in findings}
    verdicts = {Kind.WRONG: Verdict.WRONG, Kind.MISSING: Verdict.UNKNOWN}
    verdict = next((verdict for kind, verdict in verdicts.items() if kind in kinds), Verdict.RIGHT)
    return Audit(verdict, tuple(findings), what)


def root_of(task: int, rows: Iterable[Row]) -> bytes:
    """Give the Merkle root of a task's payout."""
    return merkle.root([merkle.leaf_of(task, row) for row in rows])


def _contradictions(record: Record, proposal: Proposal) -> list[Finding]:
    texts = []
    if proposal.total > record.terms.budget:
        texts.append(f"The proposal pays {proposal.total}, and the budget is {record.terms.budget}.")
    if proposal.rows is not None:
        accounts = Counter(row.account for row in proposal.rows)
        parties = {account for part in record.subtasks for account in (part.data_provider, part.computer)}
        texts += [
            f"The proposal has {count} rows for {account}."
            for account, count in accounts.items()
            if count > 1
        ]
        texts += [
            f"The proposal pays {account}, who has no part in the task."
            for account in accounts
            if account not in parties
        ]
        paid = sum(row.amount for row in proposal.rows)
        if paid != proposal.total:
            texts.append(f"The proposal's rows come to {paid}, and its total says {proposal.total}.")
        if root_of(record.terms.task, proposal.rows) != proposal.root:
            texts.append("The proposal's rows do not give its root.")
    return [Finding(Kind.WRONG, text) for text in texts]


def _differences(task: int, rows: Sequence[Row], proposal: Proposal) -> list[Finding]:
    total = sum(row.amount for row in rows)
    findings = []
    if proposal.rows is None:
        findings.append(Finding(Kind.NOTED, "The proposal's evidence is not served."))
    else:
        right, proposed = (
            Counter({row.account: row.amount for row in some}) for some in (rows, proposal.rows)
        )
        findings += [
            Finding(
                Kind.WRONG, f"{account} is due {right[account]}, and the proposal pays {proposed[account]}."
            )
            for account in sorted(right.keys() | proposed.keys())
            if right[account] != proposed[account]
        ]
    if proposal.total != total:
        findings.append(
            Finding(Kind.WRONG, f"{total} is due in all, and the proposal's total is {proposal.total}.")
        )
    if proposal.root != root_of(task, rows):
        findings.append(Finding(Kind.WRONG, "The proposal's root is not that of what is due."))
    return findings
