"""What wakes the trainer's part in training tasks."""

from agorai_shared.consumers import FEW, HEARD
from agorai_trainer.federated import wiring


def test_every_event_after_which_there_is_something_to_do_is_pulled_or_heard() -> None:
    pulled, heard = {*FEW["trainer-task"]}, {HEARD["trainer"][1]}
    assert pulled | heard == wiring._OF_TASK | wiring._OF_SUBTASK
    assert not pulled & heard
