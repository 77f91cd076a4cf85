"""IA2C (Mnih et al. 2016, arXiv 1602.01783, per agent as in arXiv 2006.07869): plain policy gradient on one's own reward.

L = -A log pi(a|o) - beta H with A = G^(n) - V(o^i), G^(n) the n-step return that a slowly moving target critic completes.
One pass over each batch, without a ratio: where PPO's ratio is 1 the two gradients are the same.
"""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from tsc_marl import ops
from tsc_marl.algos.base import PpoConfig
from tsc_marl.algos.ippo import Ippo, Rows
from tsc_marl.errors import UserError
from tsc_marl.nn import agent
from tsc_marl.types import Batch, Spec


@dataclass(frozen=True)
class A2cConfig(PpoConfig):
    """Settings of the A2C family: those of PPO, one pass over each batch."""

    epochs: int = 1
    """Passes over each batch: the loss has no ratio that would allow more than one."""
    num_minibatches: int = 16
    """Gradient steps per pass."""
    estimator: Literal["nstep", "gae"] = "nstep"
    """`nstep` returns, or the generalised advantage estimate with `lam`."""
    n_steps: int = 5
    """Rewards in an n-step return."""
    polyak: float = 0.1
    """Share by which the target critic moves at each batch."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        if self.epochs != 1:
            raise UserError(f"algo.epochs must be 1, the loss has no ratio to correct for a moved policy; got {self.epochs}")
        if self.n_steps < 1:
            raise UserError(f"algo.n_steps must be at least 1; got {self.n_steps}")
        if self.popart and self.estimator == "nstep":
            raise UserError("algo.popart True rescales the critic, not the target critic of nstep; set algo.estimator gae")
        if not 0 < self.polyak <= 1:
            raise UserError(f"algo.polyak must lie in (0, 1]; got {self.polyak}")


class Ia2c(Ippo):
    """Independent advantage actor-critic."""

    Config = A2cConfig
    config: A2cConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, spec: Spec, config: A2cConfig) -> None:
        super().__init__(spec, config)
        self.target_critic = agent.target_copy(self.critic)

    def update(self, batch: Batch, progress: float) -> dict[str, float]:
        """Learn as PPO does, then move the target critic."""
        metrics = super().update(batch, progress)
        agent.polyak_update(self.target_critic, self.critic, self.config.polyak)
        return metrics

    def return_residual(
        self, batch: Batch, reward: Float[Tensor, "T B K"], value: Float[Tensor, "T_1 B K"]
    ) -> Float[Tensor, "T B K"]:
        """Return G^(n) - V, or the generalised advantage estimate."""
        if self.config.estimator == "gae":
            return super().return_residual(batch, reward, value)
        online, self.critic = self.critic, self.target_critic
        later = self.returns.restore(self.normalised_values(batch.obs, batch.state))
        self.critic = online
        done = (batch.terminated, batch.truncated)
        return ops.nstep_return(reward, later, *done, self.config.gamma, self.config.n_steps) - value[:-1]

    def policy_loss(self, logp: Float[Tensor, "L M N"], rows: Rows) -> Tensor:
        """Return the plain policy gradient's loss."""
        return -ops.masked_mean(rows["advantage"] * logp, rows["active"])
