"""Nets that score phases by what they serve: the same weights for every signal of every network.

A link is a way from an incoming to an outgoing lane. Its code is a function of its features. The code of a phase is a function of
three sums: over its protected links, over its yielding links, and over all links of its signal. All phases use the same weights,
and the mean over the phases of a signal beside them, since phases compete (as in FRAP: Zheng et al. 2019, arXiv 1905.04722).
Nothing that a network has is in the weights.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tsc_marl.nn.agent import GroupLinear, Sharing, remember
from tsc_marl.types import Movements

KINDS, COUNT = (2, 1), 10.0
"""Kinds of green: protected, yielding; scale of the numbers of links."""
STEEP = 8.0
"""Steepness of the features' second form, tanh(STEEP x): one vehicle more matters most where few are."""


class RowLinear(GroupLinear):
    """Linear layers under a sharing map on R rows of each agent: links or phases."""

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Float[Tensor, "*M N R I"], beside: Float[Tensor, "*#M N #R J"]
    ) -> Float[Tensor, "*M N R O"]:
        """Return the outputs for I + J inputs; those beside are the same for many rows, and computed once for them."""
        sizes = [x.shape[-1], beside.shape[-1]]
        if len(self.weight) == 1:
            of_x, of_beside = self.weight[0].split(sizes, dim=-1)
            return functional.linear(x, of_x) + functional.linear(beside, of_beside, self.bias[0])
        of_x, of_beside = self.weight[self.group].split(sizes, dim=-1)
        common = torch.einsum("...nrj,noj->...nro", beside, of_beside) + self.bias[self.group].unsqueeze(-2)
        return torch.einsum("...nri,noi->...nro", x, of_x) + common


class LinkEncoder(nn.Module):
    """Codes of links [..., N, L, width]: functions of their own features, which stand beside them in both forms.

    In each of `hops` rounds a link takes in the mean code of the links that its vehicles go on to, and of those they come from.
    """

    static: Tensor
    real: Tensor
    onward: Tensor
    share: Tensor
    back_share: Tensor

    def __init__(self, movements: Movements, width: int, sharing: Sharing, hops: int = 0) -> None:
        super().__init__()
        n_agents, n_links, n_static = movements.link.shape
        self.columns, self.width = movements.link_columns, width + 2 * movements.link_columns
        self.first = RowLinear(n_agents, 2 * self.columns + n_static, width, sharing, math.sqrt(2))
        self.rounds = nn.ModuleList([RowLinear(n_agents, 3 * width, width, sharing, math.sqrt(2)) for _ in range(hops)])
        ahead, behind = movements.onward.T
        size = n_agents * n_links
        buffers = {
            "static": movements.link, "real": movements.real.unsqueeze(-1).float(), "onward": movements.onward.T.contiguous(),
            "share": 1 / torch.bincount(ahead, minlength=size)[ahead].float(),
            "back_share": 1 / torch.bincount(behind, minlength=size)[behind].float(),
        }  # fmt: skip
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, dynamic: Float[Tensor, "*M N LK"]) -> Float[Tensor, "*M N L H"]:
        """Return the codes, both forms of the features beside them; those of padding are 0."""
        links = dynamic.unflatten(-1, (-1, self.columns))
        links = torch.cat([links, torch.tanh(STEEP * links)], dim=-1)
        code = functional.relu(self.first(links, self.static)) * self.real
        for layer in self.rounds:
            code = functional.relu(layer(code, torch.cat(self._beside(code), dim=-1))) * self.real
        return torch.cat([code, links * self.real], dim=-1)

    def _beside(self, code: Float[Tensor, "*M N L H"]) -> tuple[Tensor, Tensor]:
        """Return the mean code of the links ahead of each link, and of those behind."""
        flat = code.flatten(-3, -2)
        sums = []
        for source, target, share in ((1, 0, self.share), (0, 1, self.back_share)):
            taken = flat[..., self.onward[source], :] * share.unsqueeze(-1)
            sums.append(torch.zeros_like(flat).index_add_(-2, self.onward[target], taken).unflatten(-2, code.shape[-3:-1]))
        return sums[0], sums[1]


class PhaseNet(nn.Module):
    """Outputs per signal and per phase from the observation `movements`.

    Args:
        movements: the links and phases of the signals.
        hidden: widths; half the first is that of the links' codes.
        signal_outputs: outputs of each signal.
        phase_outputs: outputs of each phase.
        sharing: which signals share parameters; `full` gives them no id, since their links tell them apart.
        gain: of the heads' initial weights.
        recurrent: a GRU on each signal's mean phase, between two decisions.
        hops: rounds in which links take in the links beside them.
    """

    masks: Tensor
    counts: Tensor
    shares: Tensor

    def __init__(
        self, movements: Movements, hidden: Sequence[int], signal_outputs: int, phase_outputs: int, sharing: Sharing, gain: float,
        recurrent: bool = False, hops: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        n_agents, self.n_phases, n_links = movements.serves.shape
        self.sizes = (n_links * movements.link_columns, self.n_phases * movements.phase_columns, movements.signal_columns)
        last = hidden[-1]
        self.encoder = LinkEncoder(movements, hidden[0] // 2, sharing, hops)
        width = self.encoder.width
        size_in = len(KINDS) * (width + 1) + movements.phase_columns + width + movements.signal_columns
        self.layers = nn.ModuleList()
        for size_out in hidden:
            self.layers.append(RowLinear(n_agents, size_in, size_out, sharing, math.sqrt(2)))
            size_in = 2 * size_out
        self.gates: nn.ModuleList | None = None
        if recurrent:
            self.gates = nn.ModuleList([GroupLinear(n_agents, last, 3 * last, sharing, 1.0) for _ in range(2)])
        self.head = GroupLinear(n_agents, last, signal_outputs, sharing, gain)
        self.phase_head = RowLinear(n_agents, 2 * last, phase_outputs, sharing, gain)
        kinds = torch.stack([movements.serves == kind for kind in KINDS], dim=2)
        real = movements.phase_real.float()
        buffers = {
            "masks": kinds.float().flatten(1, 2), "counts": kinds.sum(-1) / COUNT,
            "shares": (real / real.sum(-1, keepdim=True)).unsqueeze(-2),
        }  # fmt: skip
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, obs: Float[Tensor, "*M N F"]) -> Float[Tensor, "*M N O"]:
        """Return the outputs of each signal, then those of its phases, output after output."""
        return self._heads(*self.codes(obs))

    def unroll(
        self, obs: Float[Tensor, "L *M N F"], carry: Float[Tensor, "*M N H"] | None
    ) -> tuple[Float[Tensor, "L *M N O"], Float[Tensor, "*M N H"] | None]:
        """Return the outputs along L steps, and the memory after them; `carry` is the memory before (None: zeros)."""
        codes, mean = self.codes(obs)
        if self.gates is None:
            return self._heads(codes, mean), carry
        out, memory = remember(self.gates, mean, carry)
        return self._heads(codes, out), memory

    def codes(self, obs: Float[Tensor, "*M N F"]) -> tuple[Float[Tensor, "*M N A H"], Float[Tensor, "*M N H"]]:
        """Return the code of each phase, and their mean."""
        links, phases, signal = obs.split(self.sizes, dim=-1)
        code = self.encoder(links)
        sums = (self.masks @ code).unflatten(-2, (self.n_phases, len(KINDS))).flatten(-2)
        x = torch.cat([sums, self.counts.expand(*sums.shape[:-1], -1), phases.unflatten(-1, (self.n_phases, -1))], dim=-1)
        beside = torch.cat([code.sum(-2), signal], dim=-1)
        for layer in self.layers:
            x = functional.relu(layer(x, beside.unsqueeze(-2)))
            beside = (self.shares @ x).squeeze(-2)
        return x, beside

    def _heads(self, codes: Tensor, mean: Tensor) -> Tensor:
        """Return the outputs of each signal, then those of its phases, output after output."""
        return torch.cat([self.head(mean), self.phase_head(codes, mean.unsqueeze(-2)).transpose(-1, -2).flatten(-2)], dim=-1)
