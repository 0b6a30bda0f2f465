"""The contracts of a marketplace, in the order in which they can be put on a chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agorai_shared.bindings.data_pool import DataPool
from agorai_shared.bindings.data_transfer import DataTransfer
from agorai_shared.bindings.fair_exchange import FairExchange
from agorai_shared.bindings.invocation import Invocation
from agorai_shared.bindings.online_learner import OnlineLearner
from agorai_shared.bindings.registry import Registry
from agorai_shared.bindings.training_task import TrainingTask
from agorai_shared.bindings.voting_panel import Config, VotingPanel
from agorai_shared.types import Address


def codes(token: bytes, panel: Config) -> dict[str, Callable[[Mapping[str, Address]], bytes]]:
    """Give by name what the transaction that creates a contract carries, from the addresses of those before it.

    Parameters
    ----------
    token
        What the transaction that creates the `MarketToken` carries.
    panel
        Amounts and times of the voters.
    """
    return {
        "MarketToken": lambda _: token,
        "Registry": lambda _: Registry.deploy_data(),
        "Invocation": lambda at: Invocation.deploy_data(at["MarketToken"], at["Registry"]),
        "VotingPanel": lambda at: VotingPanel.deploy_data(at["MarketToken"], at["Registry"], panel),
        "FairExchange": lambda at: FairExchange.deploy_data(
            at["MarketToken"], at["Registry"], at["VotingPanel"]
        ),
        "DataPool": lambda at: DataPool.deploy_data(at["MarketToken"], at["Registry"], at["VotingPanel"]),
        "OnlineLearner": lambda _: OnlineLearner.deploy_data(),
        "TrainingTask": lambda at: TrainingTask.deploy_data(
            at["MarketToken"], at["Registry"], at["VotingPanel"]
        ),
        "DataTransfer": lambda at: DataTransfer.deploy_data(at["VotingPanel"]),
    }
