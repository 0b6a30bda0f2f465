"""What a whole task pays, to whom: fees for what was delivered, and the award by contribution.

Pure. DAI, 3.3 (6) and 4.5: the model provider rewards data providers and computation providers. A data provider is
paid a fee for each round in which its subtask delivered, and passes the wage on to the computer; the award is
shared among the data providers by what their subtasks contributed. All amounts are integers of the token's smallest
unit.

InputError
├── OverspentError             the fees alone are more than the budget
└── BadSubtaskError            a wage above its fee, or a negative amount
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from agorai_shared.errors import InputError
from agorai_shared.types import Address


class OverspentError(InputError):
    """The fees do not fit in the budget; the contract reserves them, so a number is wrong."""

    def __init__(self, fees: int, budget: int) -> None:
        super().__init__(
            f"The fees come to {fees}, and the budget is {budget}.",
            remedy="Read the subtasks' fees and their delivered rounds from the contract again.",
        )


class BadSubtaskError(InputError):
    """Terms of a subtask that the contract does not allow."""

    def __init__(self, subtask: int, fee: int, wage: int) -> None:
        super().__init__(
            f"Subtask {subtask} cannot have a fee of {fee} and a wage of {wage}.",
            remedy="A wage is 0 or more and at most the fee.",
        )


@dataclass(frozen=True, slots=True)
class Subtask:
    """One data provider's part of a task, trained by one computer; amounts are for one round."""

    id: int
    data_provider: Address
    computer: Address
    fee: int
    wage: int
    """Of the fee."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one account is paid, more than 0."""

    account: Address
    amount: int


def payout(
    subtasks: Sequence[Subtask],
    delivered: Mapping[int, int],
    contributions: Mapping[int, Fraction],
    *,
    award: int,
    budget: int,
) -> tuple[Row, ...]:
    """Give the rows of a task's payout, one an account, sorted by address; what the budget has beyond them goes back.

    Parameters
    ----------
    subtasks
        All of the task; one account may have several, and be data provider and computer.
    delivered
        Subtask to the number of rounds that its fee is due for; a subtask left out has none.
    contributions
        Subtask to its contribution, in any unit. Those below 0 count as 0, and if none is above, no award is paid.
    award
        To be shared, rounded down for each subtask; where fees leave less of the budget, it is what they leave.

    Raises
    ------
    OverspentError, BadSubtaskError
    """
    paid: Counter[Address] = Counter()
    for subtask in subtasks:
        if not 0 <= subtask.wage <= subtask.fee:
            raise BadSubtaskError(subtask.id, subtask.fee, subtask.wage)
        rounds = delivered.get(subtask.id, 0)
        paid[subtask.computer] += subtask.wage * rounds
        paid[subtask.data_provider] += (subtask.fee - subtask.wage) * rounds
    fees = paid.total()
    if fees > budget:
        raise OverspentError(fees, budget)
    shares = {
        subtask.id: max(Fraction(0), contributions.get(subtask.id, Fraction(0))) for subtask in subtasks
    }
    total = sum(shares.values(), Fraction(0))
    if total:
        for subtask in subtasks:
            paid[subtask.data_provider] += int(min(award, budget - fees) * shares[subtask.id] / total)
    rows = (Row(account, amount) for account, amount in paid.items() if amount)
    return tuple(sorted(rows, key=lambda row: int(row.account, 16)))
