"""What wakes the trainer's part in training tasks."""

from __future__ import annotations

import pytest

from agorai_shared.abi.codec import ArgValue
from agorai_shared.consumers import FEW, HEARD
from agorai_shared.events import ChainEvent, Phase
from agorai_shared.types import Address, Hash
from agorai_trainer.federated import wiring
from agorai_trainer.federated.wiring import Parts

ME, ANN, BOB = (Address(f"0x{digit * 40}") for digit in "123")
SUBTASK = 7


def test_every_event_after_which_there_is_something_to_do_is_pulled_or_heard() -> None:
    pulled, heard = {*FEW["trainer-task"]}, {HEARD["trainer"][1]}
    assert pulled | heard == wiring._OF_TASK | wiring._OF_SUBTASK
    assert not pulled & heard


def said(name: str, **args: ArgValue) -> ChainEvent:
    args |= {"subtask": SUBTASK, "task": 1}
    anywhere = Hash("0x" + "00" * 32)
    return ChainEvent(
        Phase.final, 1, "TrainingTask", ME, name, str(SUBTASK), 5, anywhere, 0, anywhere, 0, args
    )


def requested(data_provider: Address) -> ChainEvent:
    return said("Requested", dataProvider=data_provider, resource=3, fee=1, role=0)


def approved(data_provider: Address, computer: Address, replaces: int = 0) -> ChainEvent:
    data = "0x" + "00" * 32
    return said(
        "Approved", dataProvider=data_provider, computer=computer, wage=1, data=data, replaces=replaces
    )


ACCEPTED, DECLINED = said("Accepted", computer=BOB), said("Declined", by=BOB)


@pytest.mark.parametrize(
    ("events", "others"),
    [
        ([requested(ANN)], True),
        ([requested(ANN), approved(ANN, BOB), ACCEPTED, DECLINED], True),
        ([requested(ME)], False),
        ([requested(ME), approved(ME, BOB), ACCEPTED], False),
        ([requested(ANN), approved(ANN, ME)], False),
        ([requested(ANN), approved(ANN, ME), DECLINED, approved(ANN, BOB)], False),
        ([approved(ANN, ME), requested(ANN), ACCEPTED], False),
        ([requested(ANN), approved(ANN, BOB, replaces=2), ACCEPTED], False),
        ([approved(ANN, BOB), ACCEPTED], False),  # asked for before this process began: the chain must tell
        ([ACCEPTED], False),
    ],
    ids=lambda value: "+".join(one.event for one in value) if isinstance(value, list) else "",
)
def test_a_subtask_is_read_unless_it_is_surely_others(events: list[ChainEvent], others: bool) -> None:
    parts = Parts(ME)
    assert [parts.is_others(event, SUBTASK) for event in events][-1] is others
