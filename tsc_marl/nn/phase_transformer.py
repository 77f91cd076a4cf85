"""The transformers of `transformer` over the signals of a network of any size.

Tokens are codes of signals, made of their links and phases; the action of a signal enters as the code of its phase.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from tsc_marl.nn.phases import PhaseNet
from tsc_marl.nn.transformer import DecoderBlock, EncoderBlock, Past, Perceptron, linear, normed
from tsc_marl.types import Movements


class SignalEncoder(nn.Module):
    """Codes of all signals, and a value V^m per signal; the signals are a set: no code has a number or a place."""

    def __init__(self, movements: Movements, blocks: Sequence[int], heads: int) -> None:
        super().__init__()
        width = blocks[0]
        self.embed = PhaseNet(movements, (width,), 0, 0, "full", 1.0)
        self.blocks = nn.ModuleList([EncoderBlock(width, heads) for _ in blocks])
        self.value = Perceptron(width, 1, norm=True, gain=1.0)

    def encode(self, obs: Float[Tensor, "*M N F"]) -> tuple[Float[Tensor, "*M N D"], Float[Tensor, "*M N A D"]]:
        """Return each signal's code, a function of all observations, and the codes of its phases, a function of its own."""
        phases, code = self.embed.codes(obs)
        code = normed(code)
        for block in self.blocks:
            code = block(code)
        return code, phases

    def forward(self, obs: Float[Tensor, "*M N F"]) -> Float[Tensor, "*M N"]:
        """Return V^m."""
        return self.value(self.encode(obs)[0]).squeeze(-1)


class PhaseDecoder(nn.Module):
    """Logits of signal m's phases given all observations and the phases that the signals before it take."""

    first: nn.Parameter

    def __init__(self, encoder: SignalEncoder, blocks: Sequence[int], heads: int) -> None:
        super().__init__()
        width = blocks[0]
        self.encoder = encoder
        self.embed = linear(width, width, math.sqrt(2))
        self.first = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList([DecoderBlock(width, heads) for _ in blocks])
        self.join = linear(2 * width, width, math.sqrt(2))
        self.logits = Perceptron(width, 1, norm=True)

    def decode(self, code: Tensor, phases: Tensor, stream: Tensor, past: Sequence[Past]) -> Float[Tensor, "*M N A"]:
        """Return the logits for codes of signals and phases and a stream of codes of the phases that the signals before take."""
        for block, block_past in zip(self.blocks, past, strict=True):
            stream = block(stream, code, block_past)
        beside = torch.cat([phases, stream.unsqueeze(-2).expand_as(phases)], dim=-1)
        return self.logits(functional.gelu(self.join(beside))).squeeze(-1)

    def embedded(self, phases: Float[Tensor, "*M N A D"], action: Int[Tensor, "*M N"]) -> Float[Tensor, "*M N D"]:
        """Return the codes of chosen phases."""
        index = action[..., None, None].expand(*action.shape, 1, phases.shape[-1])
        return normed(functional.gelu(self.embed(phases.gather(-2, index).squeeze(-2))))

    def one_by_one(self, obs: Float[Tensor, "M N F"], choose: Callable[[int, Tensor], Int[Tensor, "M"]]) -> Int[Tensor, "M N"]:
        """Return the phases that `choose` takes for signal m given its logits [M, A], one signal after the other."""
        past: list[Past] = [([], []) for _ in self.blocks]
        codes, phases = self.encoder.encode(obs)
        before, actions = self.first.expand(len(obs), 1, -1), []
        for m, (code, own) in enumerate(zip(codes.split(1, dim=1), phases.split(1, dim=1), strict=True)):
            actions.append(choose(m, self.decode(code, own, before, past)[:, 0]))
            before = self.embedded(own, actions[-1].unsqueeze(1))
        return torch.stack(actions, dim=1)

    def forward(self, obs: Float[Tensor, "*M N F"], action: Int[Tensor, "*M N"]) -> Float[Tensor, "*M N A"]:
        """Return the logits of all signals in one pass, given all phases."""
        code, phases = self.encoder.encode(obs)
        taken = self.embedded(phases, action)
        before = torch.cat([self.first.expand_as(taken[..., :1, :]), taken[..., :-1, :]], dim=-2)
        return self.decode(code, phases, before, [None] * len(self.blocks))
