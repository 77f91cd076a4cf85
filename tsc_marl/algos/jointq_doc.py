r"""jointq_doc, the first formulation of jointq: one team value V, one Q^i per agent, one-step advantages.

- Advantage: A^i = R^i + gamma V' - V
- Loss: L = c_J [(R^J + gamma G' - Q^J)^2 + (G - V)^2] + c_I sum_i (R^i + gamma Q^i' - Q^i)^2 / N

R^J = sum_i R^i, G is the lambda-return of the team's reward, Q^J is the sum of the Q^i or a monotone mix of them. The
advantage misses an agent's effect on others within one step. One Q^i has two targets, of c_I's loss and of c_J's. The algorithm
serves as a comparison for jointq.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tsc_marl import ops
from tsc_marl.algos.base import CriticEstimates, Minibatch, PpoConfig
from tsc_marl.algos.mappo_ind import MappoInd
from tsc_marl.bounds import NonNegative
from tsc_marl.nn import critics
from tsc_marl.types import Batch


@dataclass(frozen=True)
class JointqDocConfig(PpoConfig):
    """Settings of the first formulation of jointq."""

    adv_norm: Literal["batch", "agent", "none"] = "agent"
    """Normalise advantages over all agents, each agent alone, or not. A^i lacks the others' mean reward, an offset per agent."""
    joint_weight: NonNegative = 1.0
    """c_J, weight of the joint losses."""
    own_weight: NonNegative = 1.0
    """c_I, weight of each agent's own loss."""
    mixer: Literal["sum", "monotone"] = "sum"
    """Q^J as the sum of the Q^i, or as a monotone mix of them."""


class JointqDoc(MappoInd[JointqDocConfig]):
    """PPO on the one-step advantage R^i + gamma V' - V."""

    value_scope = "team"
    Config = JointqDocConfig
    value_layer = "heads.net.head"
    critic: nn.ModuleDict

    def build_critic(self) -> nn.ModuleDict:
        """Return the trunk with heads V and Q^i, and the mixer."""
        critic = nn.ModuleDict({"heads": self.central_net(1, 1)})
        if self.config.mixer == "monotone":
            critic["mixer"] = critics.MonotoneMixer(self.spec.n_agents, self.spec.state_dim)
        return critic

    def values_of(self, critic: nn.Module, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"]) -> Float[Tensor, "*M N"]:
        """Return V: each agent's estimate of the team's value."""
        return critic.get_submodule("heads")(obs, state)[..., 0]

    def critic_reward(self, batch: Batch) -> Float[Tensor, "T B N"]:
        """Return the team's reward, once per agent."""
        return batch.team_reward.expand_as(batch.reward)

    def estimate(self, batch: Batch) -> CriticEstimates:
        """Return V, the lambda-return less V, and `next_q`: Q^i of the next decision, in the reward's unit."""
        return replace(super().estimate(batch), extras={"next_q": self.next_q(batch)})

    def advantage(
        self, batch: Batch, estimates: CriticEstimates
    ) -> tuple[Float[Tensor, "T B N"], dict[str, Tensor], dict[str, float]]:
        """Return A^i = R^i + gamma V' - V, and the targets of Q^J and of the Q^i as extras."""
        config, done, value = self.config, (batch.terminated, batch.truncated), estimates.value
        follows = (~batch.terminated).float().unsqueeze(-1)
        joint = ops.one_step_target(self.critic_reward(batch), value, estimates.residual + value[:-1], *done, config.gamma)
        own = batch.reward + config.gamma * follows * estimates.extras["next_q"]
        extras = {
            "joint_target": self.returns.normalise(joint)[..., 0],
            "own_target": (own - self.returns.mean / self.spec.n_agents) / self.returns.deviation,
        }
        return batch.reward + config.gamma * follows * value[1:] - value[:-1], extras, {}

    def next_q(self, batch: Batch) -> Float[Tensor, "T B N"]:
        """Return Q^i of the next action (SARSA) in the reward's unit; its mean under the policy where an episode is cut."""
        q = self.critic["heads"](batch.obs[1:], batch.state[1:])[..., 1:]
        probs = ops.log_policy(self.actor.unroll(batch.obs, batch.initial_hidden)[0][1:], batch.avail[1:]).exp()
        expected = (probs * q).sum(-1)
        sampled = torch.cat([ops.gather_actions(q[:-1], batch.action[1:]), expected[-1:]])
        chosen = torch.where(batch.truncated.unsqueeze(-1), expected, sampled)
        return chosen * self.returns.deviation + self.returns.mean / self.spec.n_agents

    def value_estimates(
        self, obs: Float[Tensor, "B N F"], avail: Bool[Tensor, "B N A"], state: Float[Tensor, "B S"], carry: Any
    ) -> dict[str, Tensor]:
        """Return the policy, the team's values, and the Q^i around their mean under the policy."""
        estimates = super().value_estimates(obs, avail, state, carry)
        q = self.critic["heads"](obs, state)[..., 1:] * self.returns.deviation
        return estimates | {"own": ops.centre_under_policy(q, estimates["probs"])}

    def critic_loss(self, rows: Minibatch) -> Tensor:
        """Return L^joint + L^i in units of the team return's deviation."""
        heads = self.critic["heads"](rows.obs, rows.state)
        value_loss = ops.clipped_value_loss(heads[..., 0], rows.value, rows.target, self.config.clip_coef)
        q = ops.gather_actions(heads[..., 1:], rows.action)
        mixed = self.critic["mixer"](q, rows.state) if self.config.mixer == "monotone" else q.sum(-1)
        joint_loss = ((mixed - rows.extras["joint_target"]) ** 2).mean()
        own_loss = ((q - rows.extras["own_target"]) ** 2).mean()
        return self.config.joint_weight * (joint_loss + value_loss) + self.config.own_weight * own_loss
