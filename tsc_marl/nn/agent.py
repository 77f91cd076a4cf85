"""Networks of the agents: input [..., N, F], output [..., N, O], under any sharing of parameters."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

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
        """Return the outputs of all agents for one common input, without a copy of the input per agent."""
        count, size_out, _ = self.weight.shape
        out = functional.linear(x, self.weight.flatten(0, 1), self.bias.flatten()).unflatten(-1, (count, size_out))
        return out.expand(*out.shape[:-2], len(self.group), size_out) if count == 1 else out[..., self.group, :]


def remember(
    gates: nn.ModuleList, inputs: Float[Tensor, "L *M N H"], carry: Float[Tensor, "*M N H"] | None
) -> tuple[Float[Tensor, "L *M N H"], Float[Tensor, "*M N H"]]:
    """Return the normalised memory of a GRU (Cho et al. 2014, arXiv 1406.1078) along L steps, and the memory after them.

    Args:
        gates: its layers, of the input and of the memory, each with three outputs per unit.
        inputs: of the steps.
        carry: memory before; None for zeros.
    """
    memory = torch.zeros_like(inputs[0]) if carry is None else carry
    memories = []
    for gate_input in gates[0](inputs):
        reset, update, new = gate_input.chunk(3, dim=-1)
        reset_h, update_h, new_h = gates[1](memory).chunk(3, dim=-1)
        gate = torch.sigmoid(update + update_h)
        memory = gate * memory + (1 - gate) * torch.tanh(new + torch.sigmoid(reset + reset_h) * new_h)
        memories.append(memory)
    out = torch.stack(memories)
    return functional.layer_norm(out, out.shape[-1:]), memory


def linear_layer(module: nn.Module, path: str) -> GroupLinear:
    """Return the layer of a module at a path such as `net.head`.

    Raises:
        TypeError: when another kind of module is there.
    """
    layer = module.get_submodule(path)
    if not isinstance(layer, GroupLinear):
        raise TypeError(f"{path} is a {type(layer).__name__}; expected a GroupLinear")
    return layer


class AgentNet(nn.Module):
    """A perceptron per agent: linear, ReLU, layer norm, as often as `hidden` has entries, then a linear head.

    With `recurrent`, a GRU of the last width and a layer norm before the head.
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
        """Return the outputs along L steps, and the memory after them; `carry` is the memory before (None: zeros)."""
        if self.gates is None:
            return self(x), carry
        trunk = self._trunk(x)
        out, memory = remember(self.gates, trunk, carry)
        return self.head(out), memory

    def _trunk(self, x: Tensor) -> Tensor:
        if self.with_id:
            identity = torch.eye(self.n_agents, dtype=x.dtype, device=x.device).expand(*x.shape[:-1], self.n_agents)
            x = torch.cat([x, identity], dim=-1)
        for layer in self.layers:
            x = functional.relu(layer(x))
            x = functional.layer_norm(x, x.shape[-1:])
        return x


class Ensemble(nn.Module):
    """K networks of the same kind; each row uses one of them."""

    def __init__(self, count: int, build: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList([build() for _ in range(count)])

    def forward(self, x: Float[Tensor, "*M N F"], k: Int[Tensor, "*M N"] | None = None) -> Tensor:
        """Return the outputs [..., N, A] of network k[..., n] for agent n; without k all outputs [..., K, N, A]."""
        if k is not None and len(self.members) == 1:
            return self.members[0](x)
        out = torch.stack([member(x) for member in self.members], dim=-3)
        if k is None:
            return out
        return out.gather(-3, k[..., None, :, None].expand(*k.shape[:-1], 1, k.shape[-1], out.shape[-1])).squeeze(-3)


class PolicyInferenceNet(nn.Module):
    """Agents' models of the others' policies (arXiv 1706.02275, 4.2): a perceptron on o^j for each pair (i, j), none shared."""

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
