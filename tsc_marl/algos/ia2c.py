"""IA2C (Mnih et al. 2016, arXiv 1602.01783, per agent as in arXiv 2006.07869): plain policy gradient on one's own reward.

L = -A log pi(a|o) - beta H with A = G^(n) - V(o^i), G^(n) the n-step return that a slowly moving target critic completes.
One pass over each batch, without a ratio: where PPO's ratio is 1 the two gradients are the same.
"""

from dataclasses import dataclass
from typing import Literal, TypeVar

from jaxtyping import Float
from torch import Tensor

from tsc_marl import ops
from tsc_marl.algos.base import Minibatch, PpoConfig
from tsc_marl.algos.ippo import Ippo
from tsc_marl.bounds import Count, PositiveShare
from tsc_marl.errors import UserError
from tsc_marl.nn.sharing import polyak_update, target_copy
from tsc_marl.types import Batch, Spec

A2cSettings = TypeVar("A2cSettings", bound="A2cConfig")


@dataclass(frozen=True)
class A2cConfig(PpoConfig):
    """Settings of the A2C family: those of PPO, one pass over each batch."""

    epochs: Count = 1
    """Passes over each batch: the loss has no ratio that would allow more than one."""
    num_minibatches: Count = 16
    """Gradient steps per pass."""
    estimator: Literal["nstep", "gae"] = "nstep"
    """`nstep` returns, or the generalised advantage estimate with `gae_lambda`."""
    n_steps: Count = 5
    """Rewards in an n-step return."""
    polyak: PositiveShare = 0.1
    """Share by which the target critic moves at each batch."""

    def __post_init__(self) -> None:
        """Refuse several epochs, and PopArt beside a target critic."""
        super().__post_init__()
        if self.epochs != 1:
            raise UserError(f"algo.epochs must be 1, the loss has no ratio to correct for a moved policy; got {self.epochs}")
        if self.popart and self.estimator == "nstep":
            raise UserError("algo.popart True rescales the critic, not the target critic of nstep; set algo.estimator gae")


class Ia2c(Ippo[A2cSettings]):
    """Independent advantage actor-critic."""

    learns_together = False
    Config = A2cConfig

    def __init__(self, spec: Spec, config: A2cSettings) -> None:
        super().__init__(spec, config)
        self.target_critic = target_copy(self.critic)

    def update(self, batch: Batch, progress: float) -> dict[str, float]:
        """Learn as PPO does, then move the target critic."""
        metrics = super().update(batch, progress)
        polyak_update(self.target_critic, self.critic, self.config.polyak)
        return metrics

    def return_residual(
        self, batch: Batch, reward: Float[Tensor, "T B K"], value: Float[Tensor, "T_1 B K"]
    ) -> Float[Tensor, "T B K"]:
        """Return G^(n) - V, or the generalised advantage estimate."""
        if self.config.estimator == "gae":
            return super().return_residual(batch, reward, value)
        later = self.returns.restore(self.values_of(self.target_critic, batch.obs, batch.state))
        done = (batch.terminated, batch.truncated)
        return ops.nstep_return(reward, later, *done, self.config.gamma, self.config.n_steps) - value[:-1]

    def policy_loss(self, logp: Float[Tensor, "L M N"], rows: Minibatch) -> Tensor:
        """Return the plain policy gradient's loss."""
        return -ops.masked_mean(rows.advantage * logp, rows.active)
