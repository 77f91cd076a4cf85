"""Transformers whose tokens are agents in a fixed order (arXiv 1706.03762; as in MAT: Wen et al. 2022, arXiv 2205.14953).

Layer norms stand after the residual sums and have no parameters. What goes into a residual sum starts with gain .01.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from tsc_marl.nn import agent

Past = tuple[list[Tensor], list[Tensor]] | None
"""Keys and values of the agents that have acted, for the two attentions of a decoder block; None: all agents in one pass."""


def linear(size_in: int, size_out: int, gain: float) -> agent.GroupLinear:
    """Return one linear layer for all agents: orthogonal weights, zero bias."""
    return agent.GroupLinear(1, size_in, size_out, "full", gain)


class Attention(nn.Module):
    """softmax(Q K^T / sqrt(D / heads)) V; when causal, agent m attends to agents 1..m only."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        # With a gain of .01, as in MAT's code, the keys' gradient is below Adam's epsilon and the keys hardly learn.
        self.query, self.key, self.value = (linear(width, width, 1.0) for _ in range(3))
        self.out = linear(width, width, 0.01)

    def forward(
        self, query: Float[Tensor, "*M N D"], stream: Float[Tensor, "*M N D"], past: list[Tensor] | None = None
    ) -> Float[Tensor, "*M N D"]:
        """Return the attention's output.

        Args:
            query: rows that attend.
            stream: rows that are attended to.
            past: keys and values of the agents before; those of `stream` are appended in place.
        """
        inputs = ((self.query, query), (self.key, stream), (self.value, stream))
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(-2, -3) for layer, x in inputs)
        if past is not None:
            if past:
                k, v = (torch.cat([old, new], dim=-2) for old, new in zip(past, (k, v), strict=True))
            past[:] = [k, v]
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal and past is None)
        return self.out(attended.transpose(-2, -3).flatten(-2))


class Perceptron(nn.Module):
    """Linear, GELU, layer norm if `norm`, linear."""

    def __init__(self, width: int, size_out: int, norm: bool = False, gain: float = 0.01) -> None:
        super().__init__()
        self.norm = norm
        self.inner, self.head = linear(width, width, math.sqrt(2)), linear(width, size_out, gain)

    def forward(self, x: Float[Tensor, "*M N D"]) -> Float[Tensor, "*M N O"]:
        x = functional.gelu(self.inner(x))
        return self.head(normed(x) if self.norm else x)


def normed(x: Float[Tensor, "*M D"]) -> Float[Tensor, "*M D"]:
    """Layer norm over the last axis."""
    return functional.layer_norm(x, x.shape[-1:])


class EncoderBlock(nn.Module):
    """Attention among all agents, then a perceptron, each with a residual and a layer norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention, self.perceptron = Attention(width, heads, causal=False), Perceptron(width, width)

    def forward(self, x: Float[Tensor, "*M N D"]) -> Float[Tensor, "*M N D"]:
        x = normed(x + self.attention(x, x))
        return normed(x + self.perceptron(x))


class DecoderBlock(nn.Module):
    """Causal attention along the actions, then from each agent's code to the actions before it, then a perceptron."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.along, self.across = (Attention(width, heads, causal=True) for _ in range(2))
        self.perceptron = Perceptron(width, width)

    def forward(self, stream: Float[Tensor, "*M N D"], code: Float[Tensor, "*M N D"], past: Past = None) -> Tensor:
        along, across = past or (None, None)
        stream = normed(stream + self.along(stream, stream, along))
        stream = normed(code + self.across(code, stream, across))
        return normed(stream + self.perceptron(stream))


class Encoder(nn.Module):
    """Codes of all agents' observations, and a value V^m per agent; one block of width `blocks[0]` per entry."""

    def __init__(self, n_agents: int, obs_dim: int, blocks: Sequence[int], heads: int, with_id: bool) -> None:
        super().__init__()
        width = blocks[0]
        self.n_agents, self.with_id = n_agents, with_id
        self.embed = linear(obs_dim + (n_agents if with_id else 0), width, math.sqrt(2))
        self.blocks = nn.ModuleList([EncoderBlock(width, heads) for _ in blocks])
        self.value = Perceptron(width, 1, norm=True, gain=1.0)

    def encode(self, obs: Float[Tensor, "*M N F"]) -> Float[Tensor, "*M N D"]:
        """Return each agent's code, a function of all observations."""
        if self.with_id:
            identity = torch.eye(self.n_agents, dtype=obs.dtype, device=obs.device).expand(*obs.shape[:-1], self.n_agents)
            obs = torch.cat([obs, identity], dim=-1)
        code = normed(functional.gelu(self.embed(normed(obs))))
        for block in self.blocks:
            code = block(code)
        return code

    def forward(self, obs: Float[Tensor, "*M N F"]) -> Float[Tensor, "*M N"]:
        """Return V^m."""
        return self.value(self.encode(obs)).squeeze(-1)


class EncoderDecoder(nn.Module):
    """Logits of agent m given all observations and the actions of the agents before it: pi(a^m | o, a^1..a^{m-1})."""

    def __init__(self, encoder: Encoder, n_actions: int, blocks: Sequence[int], heads: int) -> None:
        super().__init__()
        width = blocks[0]
        self.n_actions, self.encoder = n_actions, encoder
        self.embed = linear(n_actions + 1, width, math.sqrt(2))
        self.blocks = nn.ModuleList([DecoderBlock(width, heads) for _ in blocks])
        self.logits = Perceptron(width, n_actions, norm=True)

    def decode(self, code: Float[Tensor, "*M N D"], stream: Float[Tensor, "*M N D"], past: Sequence[Past]) -> Tensor:
        """Return the logits [..., N, A] for codes of the observations and a stream of codes of the previous actions."""
        for block, block_past in zip(self.blocks, past, strict=True):
            stream = block(stream, code, block_past)
        return self.logits(stream)

    def embedded(self) -> Float[Tensor, "A_1 D"]:
        """Return the codes of all actions; the last code stands for no action (before the first agent)."""
        return normed(functional.gelu(self.embed(torch.eye(self.n_actions + 1, device=self.embed.weight.device))))

    def one_by_one(self, obs: Float[Tensor, "M N F"], choose: Callable[[int, Tensor], Int[Tensor, "M"]]) -> Int[Tensor, "M N"]:
        """Return the actions that `choose` takes for agent m given its logits [M, A], one agent after the other."""
        past: list[Past] = [([], []) for _ in self.blocks]
        codes, actions = self.embedded(), []
        before = codes[-1].expand(len(obs), 1, -1)
        for m, code in enumerate(self.encoder.encode(obs).split(1, dim=1)):
            actions.append(choose(m, self.decode(code, before, past)[:, 0]))
            before = codes[actions[-1].unsqueeze(1)]
        return torch.stack(actions, dim=1)

    def forward(self, obs: Float[Tensor, "*M N F"], action: Int[Tensor, "*M N"]) -> Float[Tensor, "*M N A"]:
        """Return the logits of all agents in one pass, given all actions."""
        before = torch.cat([torch.full_like(action[..., :1], self.n_actions), action[..., :-1]], dim=-1)
        return self.decode(self.encoder.encode(obs), self.embedded()[before], [None] * len(self.blocks))
