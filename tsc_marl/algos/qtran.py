r"""QTRAN-base (Son et al. 2019, arXiv 1905.05408): a free joint Q, and agents' Q with the same greedy actions.

u is the joint action, u* the agents' greedy actions, Q^ the joint network, V(s) a correction of the sum of the Q^i.

- L_td = (Q^(u) - y)^2
- L_opt = (sum_i Q^i(u*_i) - Q^(u*) + V)^2
- L_nopt = min(sum_i Q^i(u_i) - Q^(u) + V, 0)^2

Q^ is constant in the last two. y uses the target networks at the online networks' greedy actions.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import one_hot

from tsc_marl import ops
from tsc_marl.algos.iql import QConfig
from tsc_marl.algos.vdn import Vdn
from tsc_marl.bounds import NonNegative, Widths
from tsc_marl.nn import agent, critics
from tsc_marl.types import Batch


@dataclass(frozen=True)
class QtranConfig(QConfig):
    """Settings of QTRAN."""

    joint_hidden: Widths = (64, 64)
    """Widths of the joint networks' hidden layers."""
    lambda_opt: NonNegative = 1.0
    """Weight of L_opt."""
    lambda_nopt: NonNegative = 0.1
    """Weight of L_nopt."""


class QtranNet(nn.Module):
    """Q^(s, sum_i e(o^i, a^i, i)) and V(s)."""

    def __init__(self, n_agents: int, obs_dim: int, n_actions: int, state_dim: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.n_actions = n_actions
        self.embed = agent.AgentNet(n_agents, obs_dim + n_actions, hidden[:1], hidden[0], "full", 1.0)
        self.net = critics.StateNet(state_dim + hidden[0], hidden, 1, 0.01)
        self.value = critics.StateNet(state_dim, hidden, 1, 0.01)

    def forward(
        self, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"], action: Int[Tensor, "*M N"]
    ) -> Float[Tensor, "*M 1"]:
        """Return Q^ of a joint action."""
        chosen = torch.cat([obs, one_hot(action, self.n_actions).float()], dim=-1)
        return self.net(torch.cat([state, self.embed(chosen).sum(-2)], dim=-1))


class Qtran(Vdn[QtranConfig]):
    """Q-learning of a free joint Q; the sum of the agents' Q equals it at the greedy actions and is at least it elsewhere."""

    value_scope = "utility"
    Config = QtranConfig
    mixer: QtranNet

    def build_mixer(self) -> QtranNet:
        """Return Q^ and V."""
        spec = self.spec
        return QtranNet(spec.n_agents, spec.obs_dim, spec.n_actions, spec.state_dim, self.config.joint_hidden)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Return L_td + lambda_opt L_opt + lambda_nopt L_nopt in normalised units, and metrics."""
        q, greedy_next, _ = self.utilities(batch)
        obs, state = batch.obs[:-1], batch.state[:-1]
        with torch.no_grad():
            later = self.target_mixer(batch.obs[1:], batch.state[1:], greedy_next)
            target, metrics = self.normalised_target(batch, self.returns.restore(later))
        predicted = self.mixer(obs, state, batch.action)
        greedy = ops.mask_illegal(q[:-1].detach(), batch.avail[:-1]).argmax(-1)
        with torch.no_grad():
            best = self.mixer(obs, state, greedy)
        correction = self.mixer.value(state)
        at_best = ops.gather_actions(q[:-1], greedy).sum(-1, keepdim=True) - best + correction
        at_taken = ops.gather_actions(q[:-1], batch.action).sum(-1, keepdim=True) - predicted.detach() + correction
        losses = {
            "td": ((predicted - target) ** 2).mean(), "opt": (at_best**2).mean(), "nopt": (at_taken.clamp(max=0) ** 2).mean(),
        }  # fmt: skip
        metrics |= {f"loss/{name}": loss.item() for name, loss in losses.items()}
        return losses["td"] + self.config.lambda_opt * losses["opt"] + self.config.lambda_nopt * losses["nopt"], metrics
