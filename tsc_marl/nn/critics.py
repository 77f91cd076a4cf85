"""Central networks: values and mixers with the global state or all actions as input."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tsc_marl.nn.agent import AgentNet, GroupLinear, Sharing


class StateNet(nn.Module):
    """V(s): one perceptron on the global state."""

    def __init__(self, state_dim: int, hidden: Sequence[int], size_out: int, gain: float = 1.0) -> None:
        super().__init__()
        self.net = AgentNet(1, state_dim, hidden, size_out, "none", gain)

    def forward(self, state: Float[Tensor, "*M S"]) -> Float[Tensor, "*M O"]:
        return self.net(state.unsqueeze(-2)).squeeze(-2)


class CentralNet(nn.Module):
    """Per-agent outputs of (an embedding of s, o^i, id), with one embedding for all agents."""

    def __init__(
        self, n_agents: int, obs_dim: int, state_dim: int, hidden: Sequence[int], size_out: int, sharing: Sharing, gain: float
    ) -> None:
        super().__init__()
        self.embed = StateNet(state_dim, hidden[:1], hidden[0], math.sqrt(2))
        self.net = AgentNet(n_agents, obs_dim + hidden[0], hidden, size_out, sharing, gain)

    def forward(self, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"]) -> Float[Tensor, "*M N O"]:
        whole = functional.relu(self.embed(state)).unsqueeze(-2)
        return self.net(torch.cat([obs, whole.expand(*obs.shape[:-1], whole.shape[-1])], dim=-1))


class ActionCritic(nn.Module):
    """Q^i(x, a^1 .. a^N) of every agent (arXiv 1706.02275): per-agent outputs of (an embedding of x and all actions, o^i, a^i).

    x enters through one linear layer, once for all agents; actions are points of the simplex: one-hot, or probabilities.
    """

    def __init__(self, n_agents: int, obs_dim: int, n_actions: int, size_x: int, hidden: Sequence[int], sharing: Sharing) -> None:
        super().__init__()
        self.embed_x = GroupLinear(n_agents, size_x, hidden[0], sharing, math.sqrt(2))
        self.embed_actions = GroupLinear(n_agents, n_agents * n_actions, hidden[0], sharing, math.sqrt(2))
        self.net = AgentNet(n_agents, hidden[0] + obs_dim + n_actions, hidden, 1, sharing, 0.01)

    def forward(
        self, obs: Float[Tensor, "*M N F"], x: Float[Tensor, "*M X"], views: Float[Tensor, "*M N N A"]
    ) -> Float[Tensor, "*M N"]:
        """Return Q^i; `views[..., i, j, :]` is agent j's action as the input of critic i."""
        whole = functional.relu(self.embed_x.common(x) + self.embed_actions(views.flatten(-2)))
        own = views.diagonal(dim1=-3, dim2=-2).transpose(-1, -2)
        return self.net(torch.cat([whole, obs, own], dim=-1)).squeeze(-1)


class MonotoneMixer(nn.Module):
    """QMIX's mixer (Rashid et al. 2018, arXiv 1803.11485): non-negative weights that depend on the state.

    At the start the output rises by about 2 / pi per unit of each value, for every size `embed`.
    """

    def __init__(self, n_agents: int, state_dim: int, embed: int = 32) -> None:
        super().__init__()
        self.n_agents, self.embed = n_agents, embed
        self.w1 = StateNet(state_dim, [embed], n_agents * embed, embed**-0.5)
        self.b1 = StateNet(state_dim, [], embed)
        self.w2 = StateNet(state_dim, [embed], embed, embed**-0.5)
        self.b2 = StateNet(state_dim, [embed], 1)

    def forward(self, values: Float[Tensor, "*M N"], state: Float[Tensor, "*M S"]) -> Float[Tensor, "*M"]:
        w1 = self.w1(state).abs().unflatten(-1, (self.n_agents, self.embed))
        hidden = functional.elu((values.unsqueeze(-2) @ w1).squeeze(-2) + self.b1(state))
        return (hidden * self.w2(state).abs()).sum(-1) + self.b2(state).squeeze(-1)
