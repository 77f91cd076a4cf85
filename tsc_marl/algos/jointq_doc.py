r"""The joint-Q critic to the letter of its first text: one team value V, one Q^i per agent, one-step advantages.

A^i = R^i + gamma V' - V;  L = c_J [(R^J + gamma G' - Q^J)^2 + (G - V)^2] + c_I sum_i (R^i + gamma Q^i' - Q^i)^2 / N
with R^J = sum_i R^i, G the lambda-return of the team's reward, Q^J = sum_i Q^i or a monotone mix of them.
Known to miss what an agent does to others within one step, and to pull one Q^i to two targets (L^i and L^J): it is here
so that the text itself is measured.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tsc_marl import ops
from tsc_marl.algos.base import PpoConfig
from tsc_marl.algos.ippo import Rows
from tsc_marl.algos.mappo_ind import MappoInd
from tsc_marl.errors import UserError
from tsc_marl.nn import agent, critics
from tsc_marl.types import Batch


@dataclass(frozen=True)
class JointqDocConfig(PpoConfig):
    """Settings of the document's algorithm."""

    adv_norm: Literal["batch", "agent", "none"] = "agent"
    """The others' mean reward is missing from A^i, which shifts it per agent: so normalise each agent alone."""
    joint_weight: float = 1.0
    """c_J, weight of the joint losses."""
    own_weight: float = 1.0
    """c_I, weight of each agent's own loss."""
    mixer: Literal["sum", "monotone"] = "sum"
    """How the Q^i make Q^J."""

    def __post_init__(self) -> None:
        """Refuse negative weights."""
        super().__post_init__()
        for name in ("joint_weight", "own_weight"):
            if not getattr(self, name) >= 0:
                raise UserError(f"algo.{name} must not be negative; got {getattr(self, name)}")


class JointqDoc(MappoInd):
    """PPO on the document's one-step advantage."""

    value_scope = "team"
    Config = JointqDocConfig
    config: JointqDocConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    critic: nn.ModuleDict

    def build_critic(self) -> nn.ModuleDict:
        """Return the trunk with heads V and Q^i, and the mixer."""
        critic = nn.ModuleDict({"heads": self.central_net(1 + self.spec.n_actions)})
        if self.config.mixer == "monotone":
            critic["mixer"] = critics.MonotoneMixer(self.spec.n_agents, self.spec.state_dim)
        return critic

    def normalised_values(self, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"]) -> Float[Tensor, "*M N"]:
        """Return V(s^i): each agent's estimate of the team's value."""
        return self.critic["heads"](obs, state)[..., 0]

    def value_head(self) -> agent.GroupLinear:
        """Return the layer whose first output is V."""
        return self.critic.get_submodule("heads.net.head")  # pyright: ignore[reportReturnType]

    def critic_reward(self, batch: Batch) -> Float[Tensor, "T B N"]:
        """Return the team's reward, once per agent."""
        return batch.reward.sum(-1, keepdim=True).expand_as(batch.reward)

    def return_residual(
        self, batch: Batch, reward: Float[Tensor, "T B N"], value: Float[Tensor, "T_1 B N"]
    ) -> Float[Tensor, "T B N"]:
        """Return how much more than predicted the team's return was, and note the next Q^i before the normaliser moves."""
        self.next_q = self._next_q(batch)
        return super().return_residual(batch, reward, value)

    def advantage(
        self,
        batch: Batch,
        value: Float[Tensor, "T_1 B N"],
        estimate: Float[Tensor, "T B N"],
        rows: Rows,
        metrics: dict[str, float],
    ) -> Float[Tensor, "T B N"]:
        """Return R^i + gamma V' - V, and put the targets of Q^J and of the Q^i into the rows."""
        config, done = self.config, (batch.terminated, batch.truncated)
        follows = (~batch.terminated).float().unsqueeze(-1)
        joint = ops.one_step_target(self.critic_reward(batch), value, estimate + value[:-1], *done, config.gamma)
        own = batch.reward + config.gamma * follows * self.next_q
        n = self.spec.n_agents
        rows["joint_target"] = self.returns.normalise(joint)[..., 0]
        rows["own_target"] = (own - self.returns.mean / n) / self.returns.deviation
        return batch.reward + config.gamma * follows * value[1:] - value[:-1]

    def _next_q(self, batch: Batch) -> Float[Tensor, "T B N"]:
        """Return Q^i of the next action (SARSA), raw; where an episode is cut, its expectation under the policy."""
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
        known = super().value_estimates(obs, avail, state, carry)
        q = self.critic["heads"](obs, state)[..., 1:] * self.returns.deviation
        return known | {"own": ops.centre_under_policy(q, known["probs"])}

    def critic_loss(self, rows: Rows) -> Tensor:
        """Return L^joint + L^i in units of the team return's deviation."""
        heads = self.critic["heads"](rows["obs"], rows["state"])
        value_loss = ops.clipped_value_loss(heads[..., 0], rows["value"], rows["target"], self.config.clip_coef)
        q = ops.gather_actions(heads[..., 1:], rows["action"])
        mixed = self.critic["mixer"](q, rows["state"]) if self.config.mixer == "monotone" else q.sum(-1)
        joint_loss = ((mixed - rows["joint_target"]) ** 2).mean()
        own_loss = ((q - rows["own_target"]) ** 2).mean()
        return self.config.joint_weight * (joint_loss + value_loss) + self.config.own_weight * own_loss
