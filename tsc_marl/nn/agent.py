"""Neural modules. Every module that serves agents takes [..., N, F] and works under any sharing of parameters."""

import itertools
import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Literal, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

Net = TypeVar("Net", bound=nn.Module)
Sharing = Literal["full", "full_no_id", "none", "seps"]
"""One network for all agents with a one-hot id, one without, one network each, or one for each learned cluster (`seps`)."""


class GroupLinear(nn.Module):
    """Linear layers under a sharing map: agent n uses layer `group[n]`. Orthogonal weights, zero bias."""

    group: Tensor

    def __init__(self, n_agents: int, size_in: int, size_out: int, sharing: Sharing, gain: float) -> None:
        super().__init__()
        count = 1 if sharing.startswith("full") else n_agents
        self.weight = nn.Parameter(torch.empty(count, size_out, size_in))
        self.bias = nn.Parameter(torch.zeros(count, size_out))
        for weight in self.weight:
            nn.init.orthogonal_(weight, gain)
        group = torch.arange(n_agents) if sharing == "none" else torch.zeros(n_agents, dtype=torch.long)
        self.register_buffer("group", group, persistent=sharing == "seps")

    def forward(self, x: Float[Tensor, "*M N I"]) -> Float[Tensor, "*M N O"]:
        if len(self.weight) == 1:
            return functional.linear(x, self.weight[0], self.bias[0])
        flat = x.reshape(-1, *x.shape[-2:]).transpose(0, 1)
        weight, bias = self.weight[self.group], self.bias[self.group]
        out = torch.baddbmm(bias.unsqueeze(1), flat, weight.transpose(1, 2))
        return out.transpose(0, 1).reshape(*x.shape[:-1], -1)

    def common(self, x: Float[Tensor, "*M I"]) -> Float[Tensor, "*M N O"]:
        """Return the outputs of all agents for one input that is the same for all, without a copy of it per agent."""
        count, size_out, _ = self.weight.shape
        out = functional.linear(x, self.weight.flatten(0, 1), self.bias.flatten()).unflatten(-1, (count, size_out))
        return out.expand(*out.shape[:-2], len(self.group), size_out) if count == 1 else out[..., self.group, :]


def target_copy(module: Net) -> Net:
    """Return a copy that no gradient moves: a target network."""
    return deepcopy(module).requires_grad_(False)


@torch.no_grad()
def polyak_update(target: nn.Module, online: nn.Module, share: float) -> None:
    """Move a target network: target <- (1 - share) target + share online; a share of 1 copies (arXiv 1509.02971)."""
    for old, new in zip(target.parameters(), online.parameters(), strict=True):
        old.lerp_(new, share)


def regroup(module: nn.Module, group: Sequence[int]) -> None:
    """Let agent n use network `group[n]` from now on, in every part of a module that shares by learned clusters.

    A cluster's network starts as the one that its first agent used: no output changes where a cluster's agents used one.
    """
    first = {k: n for n, k in reversed(list(enumerate(group)))}
    for part in _clustered(module):
        if len(part.group) != len(group):
            continue
        with torch.no_grad():
            for values in (part.weight, part.bias):
                old = values.clone()
                for k, n in first.items():
                    values[k] = old[part.group[n]]
        part.group.copy_(torch.tensor(list(group)))


def is_grouped(module: nn.Module) -> bool:
    """Return whether `regroup` has made more than one cluster."""
    return any(bool(part.group.any()) for part in _clustered(module))


def _clustered(module: nn.Module) -> list[GroupLinear]:
    return [part for part in module.modules() if isinstance(part, GroupLinear) and "group" in part.state_dict()]


class AgentNet(nn.Module):
    """A perceptron per agent: linear, ReLU, layer norm, as often as `hidden` has entries, then a linear head.

    With `recurrent`, a GRU (Cho et al. 2014, arXiv 1406.1078) of the last width and a layer norm before the head.
    """

    def __init__(
        self,
        n_agents: int,
        size_in: int,
        hidden: Sequence[int],
        size_out: int,
        sharing: Sharing,
        gain: float,
        recurrent: bool = False,
    ) -> None:
        super().__init__()
        self.n_agents, self.with_id = n_agents, sharing == "full"
        sizes = [size_in + (n_agents if self.with_id else 0), *hidden]
        self.layers = nn.ModuleList([GroupLinear(n_agents, a, b, sharing, math.sqrt(2)) for a, b in itertools.pairwise(sizes)])
        self.gates: nn.ModuleList | None = None
        if recurrent:
            self.gates = nn.ModuleList([GroupLinear(n_agents, sizes[-1], 3 * sizes[-1], sharing, 1.0) for _ in range(2)])
        self.head = GroupLinear(n_agents, sizes[-1], size_out, sharing, gain)

    def forward(self, x: Float[Tensor, "*M N I"]) -> Float[Tensor, "*M N O"]:
        """Return the outputs of a net without memory."""
        return self.head(self._trunk(x))

    def unroll(
        self, x: Float[Tensor, "L *M N I"], carry: Float[Tensor, "*M N H"] | None
    ) -> tuple[Float[Tensor, "L *M N O"], Float[Tensor, "*M N H"] | None]:
        """Return the outputs along a sequence and the memory after it; `carry` is the one before, None at the start."""
        if self.gates is None:
            return self(x), carry
        trunk = self._trunk(x)
        memory = torch.zeros_like(trunk[0]) if carry is None else carry
        kept = []
        for given in self.gates[0](trunk):
            reset, update, new = given.chunk(3, dim=-1)
            reset_h, update_h, new_h = self.gates[1](memory).chunk(3, dim=-1)
            gate = torch.sigmoid(update + update_h)
            memory = gate * memory + (1 - gate) * torch.tanh(new + torch.sigmoid(reset + reset_h) * new_h)
            kept.append(memory)
        out = torch.stack(kept)
        return self.head(functional.layer_norm(out, out.shape[-1:])), memory

    def _trunk(self, x: Tensor) -> Tensor:
        if self.with_id:
            identity = torch.eye(self.n_agents, dtype=x.dtype, device=x.device).expand(*x.shape[:-1], self.n_agents)
            x = torch.cat([x, identity], dim=-1)
        for layer in self.layers:
            x = functional.relu(layer(x))
            x = functional.layer_norm(x, x.shape[-1:])
        return x


class Ensemble(nn.Module):
    """K networks of the same kind side by side, of which each row uses one."""

    def __init__(self, count: int, build: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList([build() for _ in range(count)])

    def forward(self, x: Float[Tensor, "*M N F"], k: Int[Tensor, "*M N"] | None = None) -> Tensor:
        """Return the outputs [..., N, A] of network k[..., n] for agent n, or without k those of all, [..., K, N, A]."""
        if k is not None and len(self.members) == 1:
            return self.members[0](x)
        out = torch.stack([member(x) for member in self.members], dim=-3)
        if k is None:
            return out
        return out.gather(-3, k[..., None, :, None].expand(*k.shape[:-1], 1, k.shape[-1], out.shape[-1])).squeeze(-3)


class PolicyInferenceNet(nn.Module):
    """What agents believe of others' policies (arXiv 1706.02275, 4.2): a perceptron per pair (i, j) on o^j, none shared."""

    watcher: Tensor
    watched: Tensor

    def __init__(self, peers: Sequence[Sequence[int]], obs_dim: int, hidden: Sequence[int], n_actions: int) -> None:
        super().__init__()
        pairs = [(i, j) for i, others in enumerate(peers) for j in others]
        self.net = AgentNet(len(pairs), obs_dim, hidden, n_actions, "none", 0.01)
        for name, index in zip(("watcher", "watched"), zip(*pairs, strict=True), strict=True):
            self.register_buffer(name, torch.tensor(index), persistent=False)

    def forward(self, obs: Float[Tensor, "*M N F"]) -> Float[Tensor, "*M P A"]:
        """Return the logits of the P pairs, in the order of `watcher` and `watched`."""
        return self.net(obs[..., self.watched, :])


class ValueNorm(nn.Module):
    """Debiased running mean and deviation of targets: ValueNorm of arXiv 2103.01955, one for all agents or one each."""

    mean_sum: Tensor
    square_sum: Tensor
    weight: Tensor

    def __init__(self, decay: float, n_agents: int | None = None) -> None:
        super().__init__()
        self.keep = decay
        for name in ("mean_sum", "square_sum", "weight"):
            self.register_buffer(name, torch.zeros(() if n_agents is None or name == "weight" else n_agents))

    def update(self, x: Tensor) -> None:
        """Take in one batch of targets; [..., N] where each agent has its own."""
        axes = tuple(range(x.dim() - self.mean_sum.dim()))
        for name, new in (("mean_sum", x.mean(axes)), ("square_sum", (x**2).mean(axes)), ("weight", torch.ones(()))):
            getattr(self, name).mul_(self.keep).add_(new * (1 - self.keep))

    @property
    def mean(self) -> Tensor:
        return self.mean_sum / self.weight.clamp(min=1e-8)

    @property
    def deviation(self) -> Tensor:
        variance = self.square_sum / self.weight.clamp(min=1e-8) - self.mean**2
        return torch.where(self.weight > 0, variance.clamp(min=1e-4).sqrt(), torch.ones(()))

    @torch.no_grad()
    def update_preserving(self, x: Tensor, head: GroupLinear) -> None:
        """Take in one batch of targets and rescale a head's first output so that what it predicts, restored, stays the same.

        PopArt (van Hasselt et al. 2016, arXiv 1602.07714): w <- w s / s', b <- (s b + m - m') / s'.
        """
        mean, deviation = self.mean, self.deviation
        self.update(x)
        head.weight[:, 0] *= deviation / self.deviation
        head.bias[:, 0] = (deviation * head.bias[:, 0] + mean - self.mean) / self.deviation

    def normalise(self, x: Tensor) -> Tensor:
        """Return (x - mean) / deviation."""
        return (x - self.mean) / self.deviation

    def restore(self, x: Tensor) -> Tensor:
        """Undo `normalise`."""
        return x * self.deviation + self.mean
