"""Neural modules. Every module that serves agents takes [..., N, F] and works under any sharing of parameters."""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

Sharing = Literal["full", "full_no_id", "none"]
"""One network for all agents with a one-hot id, one without, or one network each."""


def groups(sharing: Sharing, n_agents: int) -> list[int]:
    """Return the number of the network that each agent uses."""
    return list(range(n_agents)) if sharing == "none" else [0] * n_agents


class GroupLinear(nn.Module):
    """K linear layers; agent n uses layer `group[n]`. Orthogonal weights, zero bias."""

    group: Tensor

    def __init__(self, group: Sequence[int], size_in: int, size_out: int, gain: float) -> None:
        super().__init__()
        count = max(group) + 1
        self.weight = nn.Parameter(torch.empty(count, size_out, size_in))
        self.bias = nn.Parameter(torch.zeros(count, size_out))
        for weight in self.weight:
            nn.init.orthogonal_(weight, gain)
        self.register_buffer("group", torch.tensor(list(group)), persistent=False)

    def forward(self, x: Float[Tensor, "*M N I"]) -> Float[Tensor, "*M N O"]:
        if len(self.weight) == 1:
            return functional.linear(x, self.weight[0], self.bias[0])
        flat = x.reshape(-1, *x.shape[-2:]).transpose(0, 1)
        weight, bias = self.weight[self.group], self.bias[self.group]
        out = torch.baddbmm(bias.unsqueeze(1), flat, weight.transpose(1, 2))
        return out.transpose(0, 1).reshape(*x.shape[:-1], -1)


class AgentNet(nn.Module):
    """A perceptron per agent: linear, ReLU, layer norm, as often as `hidden` has entries, then a linear head."""

    def __init__(self, n_agents: int, size_in: int, hidden: Sequence[int], size_out: int, sharing: Sharing, gain: float) -> None:
        super().__init__()
        self.n_agents, self.with_id = n_agents, sharing == "full"
        group = groups(sharing, n_agents)
        sizes = [size_in + (n_agents if self.with_id else 0), *hidden]
        self.layers = nn.ModuleList([GroupLinear(group, a, b, math.sqrt(2)) for a, b in itertools.pairwise(sizes)])
        self.head = GroupLinear(group, sizes[-1], size_out, gain)

    def forward(self, x: Float[Tensor, "*M N I"]) -> Float[Tensor, "*M N O"]:
        if self.with_id:
            identity = torch.eye(self.n_agents, dtype=x.dtype, device=x.device).expand(*x.shape[:-1], self.n_agents)
            x = torch.cat([x, identity], dim=-1)
        for layer in self.layers:
            x = functional.relu(layer(x))
            x = functional.layer_norm(x, x.shape[-1:])
        return self.head(x)


class StateNet(nn.Module):
    """V(s): one perceptron on the global state."""

    def __init__(self, state_dim: int, hidden: Sequence[int], size_out: int, gain: float = 1.0) -> None:
        super().__init__()
        self.net = AgentNet(1, state_dim, hidden, size_out, "none", gain)

    def forward(self, state: Float[Tensor, "*M S"]) -> Float[Tensor, "*M O"]:
        return self.net(state.unsqueeze(-2)).squeeze(-2)


class CentralNet(nn.Module):
    """Per-agent outputs of (an embedding of s, o^i, id): the embedding is computed once for all agents."""

    def __init__(
        self, n_agents: int, obs_dim: int, state_dim: int, hidden: Sequence[int], size_out: int, sharing: Sharing, gain: float
    ) -> None:
        super().__init__()
        self.embed = StateNet(state_dim, hidden[:1], hidden[0], math.sqrt(2))
        self.net = AgentNet(n_agents, obs_dim + hidden[0], hidden, size_out, sharing, gain)

    def forward(self, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"]) -> Float[Tensor, "*M N O"]:
        whole = functional.relu(self.embed(state)).unsqueeze(-2)
        return self.net(torch.cat([obs, whole.expand(*obs.shape[:-1], whole.shape[-1])], dim=-1))


class Moments(nn.Module):
    """Debiased running mean and deviation of targets: ValueNorm of arXiv 2103.01955, one scalar for all agents."""

    mean_sum: Tensor
    square_sum: Tensor
    weight: Tensor

    def __init__(self, keep: float) -> None:
        super().__init__()
        self.keep = keep
        for name in ("mean_sum", "square_sum", "weight"):
            self.register_buffer(name, torch.zeros(()))

    def update(self, x: Tensor) -> None:
        """Take in one batch of targets."""
        for name, new in (("mean_sum", x.mean()), ("square_sum", (x**2).mean()), ("weight", torch.ones(()))):
            getattr(self, name).mul_(self.keep).add_(new * (1 - self.keep))

    @property
    def mean(self) -> Tensor:
        return self.mean_sum / self.weight.clamp(min=1e-8)

    @property
    def deviation(self) -> Tensor:
        variance = self.square_sum / self.weight.clamp(min=1e-8) - self.mean**2
        return torch.where(self.weight > 0, variance.clamp(min=1e-4).sqrt(), torch.ones(()))

    def normalise(self, x: Tensor) -> Tensor:
        """Return (x - mean) / deviation."""
        return (x - self.mean) / self.deviation

    def restore(self, x: Tensor) -> Tensor:
        """Undo `normalise`."""
        return x * self.deviation + self.mean


class MonotoneMixer(nn.Module):
    """QMIX's mixer (Rashid et al. 2018, arXiv 1803.11485): non-negative weights that depend on the state."""

    def __init__(self, n_agents: int, state_dim: int, embed: int = 32) -> None:
        super().__init__()
        self.n_agents, self.embed = n_agents, embed
        self.w1 = StateNet(state_dim, [embed], n_agents * embed)
        self.b1 = StateNet(state_dim, [], embed)
        self.w2 = StateNet(state_dim, [embed], embed)
        self.b2 = StateNet(state_dim, [embed], 1)

    def forward(self, values: Float[Tensor, "*M N"], state: Float[Tensor, "*M S"]) -> Float[Tensor, "*M"]:
        w1 = self.w1(state).abs().unflatten(-1, (self.n_agents, self.embed))
        hidden = functional.elu((values.unsqueeze(-2) @ w1).squeeze(-2) + self.b1(state))
        return (hidden * self.w2(state).abs()).sum(-1) + self.b2(state).squeeze(-1)
