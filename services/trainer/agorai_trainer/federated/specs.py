"""Which strategy aggregates a task's updates: names, hyperparameters and defaults are those of Flower's strategies.

Flower's `eta_l` is left out, which its strategies do not use; how fast providers learn is said with the model.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    clipping_norm: float | None = Field(
        None,
        gt=0,
        description="most Euclidean length of an update's step, to which longer ones are shortened",
    )


class FedAvg(_Spec):
    """The mean, weighted by samples (McMahan et al. 2017, Algorithm 1)."""

    name: Literal["FedAvg"] = "FedAvg"


class FedProx(_Spec):
    """FedAvg of models that were held near the global one while they trained (Li et al. 2020, Algorithm 2)."""

    name: Literal["FedProx"] = "FedProx"
    proximal_mu: float = Field(0.0, ge=0, description="weight of mu/2 * ||w - w_t||^2 in local training")


class _FedOpt(_Spec):
    tau: float = Field(1e-3, gt=0, description="degree of adaptability")


class FedAdagrad(_FedOpt):
    """Adagrad on the mean step (Reddi et al. 2021, Algorithm 2), without momentum."""

    name: Literal["FedAdagrad"] = "FedAdagrad"
    eta: float = Field(1e-1, gt=0, description="the server's learning rate")


class _Momentum(_FedOpt):
    beta_1: float = Field(0.9, ge=0, lt=1, description="decay of the first moment")
    beta_2: float = Field(0.99, ge=0, lt=1, description="decay of the second moment")


class FedAdam(_Momentum):
    """Adam on the mean step (Reddi et al. 2021, Algorithm 2)."""

    name: Literal["FedAdam"] = "FedAdam"
    eta: float = Field(1e-1, gt=0, description="the server's learning rate")


class FedYogi(_Momentum):
    """Yogi on the mean step (Reddi et al. 2021, Algorithm 2)."""

    name: Literal["FedYogi"] = "FedYogi"
    eta: float = Field(1e-2, gt=0, description="the server's learning rate")


class FedMedian(_Spec):
    """The median of each coordinate (Yin et al. 2018, Definition 1)."""

    name: Literal["FedMedian"] = "FedMedian"


class FedTrimmedAvg(_Spec):
    """The mean of each coordinate without its extremes (Yin et al. 2018, Definition 2)."""

    name: Literal["FedTrimmedAvg"] = "FedTrimmedAvg"
    beta: float = Field(0.2, ge=0, lt=0.5, description="share that is cut off at either end")


class _Resilient(_Spec):
    num_malicious_nodes: int = Field(0, ge=0, description="how many updates may be malicious")


class Krum(_Resilient):
    """The update with the nearest neighbours (Blanchard et al. 2017, section 4)."""

    name: Literal["Krum"] = "Krum"


class MultiKrum(_Resilient):
    """The mean, weighted by samples, of updates with the nearest neighbours (Blanchard et al. 2017, section 6)."""

    name: Literal["MultiKrum"] = "MultiKrum"
    num_nodes_to_select: int = Field(1, ge=1, description="how many updates make the mean")


StrategySpec: TypeAlias = Annotated[
    FedAvg | FedProx | FedAdagrad | FedAdam | FedYogi | FedMedian | FedTrimmedAvg | Krum | MultiKrum,
    Field(discriminator="name"),
]
