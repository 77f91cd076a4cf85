"""Nets that score phases by what they serve: the same weights for every signal of every network.

A link is a way from an incoming to an outgoing lane. Its code is a function of its features. The code of a phase is a function of
three sums: over its protected links, over its yielding links, and over all links of its signal. All phases use the same weights,
and the mean over the phases of a signal beside them, since phases compete (as in FRAP: Zheng et al. 2019, arXiv 1905.04722).
Nothing that a network has is in the weights.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
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

    def forward(self, *parts: Float[Tensor, "*#M N #R _"]) -> Float[Tensor, "*M N R O"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the outputs for inputs in parts, of which the first has all rows; a part with one row per agent holds for all.

        The parts stay apart, since a row that many rows share is computed once, and features without weights need no gradient.
        """
        alone = len(self.weight) == 1
        weights = (self.weight[0] if alone else self.weight[self.group]).split([part.shape[-1] for part in parts], dim=-1)
        outs = [
            functional.linear(part, weight) if alone else torch.einsum("...nri,noi->...nro", part, weight)
            for part, weight in zip(parts, weights, strict=True)
        ]
        total = outs[0]
        for out in outs[1:]:
            total += out
        return total.add_(self.bias[0] if alone else self.bias[self.group].unsqueeze(-2))


class LinkEncoder(nn.Module):
    """Codes of links: functions of their own features, given in two forms."""

    static: Tensor
    real: Tensor

    def __init__(self, movements: Movements, width: int, sharing: Sharing) -> None:
        super().__init__()
        n_agents, _, n_static = movements.link.shape
        self.columns = movements.link_columns
        self.first = RowLinear(n_agents, 2 * self.columns + n_static, width, sharing, math.sqrt(2))
        self.register_buffer("static", movements.link, persistent=False)
        self.register_buffer("real", movements.real.unsqueeze(-1).float(), persistent=False)

    def forms(self, dynamic: Float[Tensor, "*M N LK"]) -> Float[Tensor, "*M N L J"]:
        """Return the features of each link in both forms; those of padding are 0."""
        links = dynamic.unflatten(-1, (-1, self.columns)) * self.real
        return torch.cat([links, torch.tanh(STEEP * links)], dim=-1)

    def forward(self, forms: Float[Tensor, "*M N L J"]) -> Float[Tensor, "*M N L H"]:
        """Return the codes; those of padding are 0."""
        return functional.relu(self.first(forms, self.static)) * self.real


class NeighbourMean(nn.Module):
    """Mean over a signal's neighbours; 0 where there is none.

    Args:
        pairs: of signals, each with a neighbour of its own.
        n_agents: number of signals.
    """

    of: Tensor
    neighbour: Tensor
    share: Tensor

    def __init__(self, pairs: Int[Tensor, "P 2"], n_agents: int) -> None:
        super().__init__()
        of, neighbour = pairs.T
        share = 1 / torch.bincount(of, minlength=n_agents)[of].float()
        for name, value in {"of": of, "neighbour": neighbour, "share": share[:, None, None]}.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, x: Float[Tensor, "*M N 1 H"]) -> Float[Tensor, "*M N 1 H"]:
        return torch.zeros_like(x).index_add(-3, self.of, x[..., self.neighbour, :, :] * self.share)


def _ways(movements: Movements) -> tuple[Int[Tensor, "P 2"], Int[Tensor, "P 2"]]:
    """Return the pairs of each signal with those ahead of it, and with those behind."""
    signals = torch.unique(movements.onward // movements.real.shape[1], dim=0)
    signals = signals[signals[:, 0] != signals[:, 1]]
    return signals, signals.flip(-1)


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
        central: each layer after the first takes in the mean phases of the signals that a signal's vehicles go on to, and of
            those they come from.
    """

    masks: Tensor
    counts: Tensor
    shares: Tensor

    def __init__(
        self, movements: Movements, hidden: Sequence[int], signal_outputs: int, phase_outputs: int, sharing: Sharing, gain: float,
        recurrent: bool = False, central: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        n_agents, self.n_phases, n_links = movements.serves.shape
        self.sizes = (n_links * movements.link_columns, self.n_phases * movements.phase_columns, movements.signal_columns)
        last, width = hidden[-1], hidden[0] // 2
        self.encoder = LinkEncoder(movements, width, sharing)
        of_links = width + 2 * movements.link_columns
        size_in = len(KINDS) * (of_links + 1) + movements.phase_columns + of_links + movements.signal_columns
        self.phase_layers = nn.ModuleList()
        for size_out in hidden:
            self.phase_layers.append(RowLinear(n_agents, size_in, size_out, sharing, math.sqrt(2)))
            size_in = (4 if central else 2) * size_out
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
        self.neighbours = nn.ModuleList(NeighbourMean(way, n_agents) for way in _ways(movements)) if central else []

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
        codes = codes * (1 + out.unsqueeze(-2))  # a sum would add the same to all phases, and change no choice
        return self._heads(codes, out), memory

    def codes(self, obs: Float[Tensor, "*M N F"]) -> tuple[Float[Tensor, "*M N A H"], Float[Tensor, "*M N H"]]:
        """Return the code of each phase, and their mean."""
        return self.codes_of(obs, *self.links(obs))

    def links(self, obs: Float[Tensor, "*M N F"]) -> tuple[Float[Tensor, "*M N L J"], Float[Tensor, "*M N L H"]]:
        """Return the features of each link in both forms, and its code."""
        forms = self.encoder.forms(obs[..., : self.sizes[0]])
        return forms, self.encoder(forms)

    def codes_of(
        self, obs: Float[Tensor, "*M N F"], forms: Float[Tensor, "*M N L J"], code: Float[Tensor, "*M N L E"]
    ) -> tuple[Float[Tensor, "*M N A H"], Float[Tensor, "*M N H"]]:
        """Return the code of each phase, and their mean, given the links."""
        _, phases, signal = obs.split(self.sizes, dim=-1)
        sums, counts = self._served(forms), self.counts.expand(*obs.shape[:-1], -1, -1)
        known = torch.cat([sums, counts, phases.unflatten(-1, (self.n_phases, -1))], dim=-1)
        known_beside = torch.cat([forms.sum(-2), signal], dim=-1).unsqueeze(-2)
        parts = (self._served(code), known, code.sum(-2, keepdim=True), known_beside)
        for layer in self.phase_layers:
            x = functional.relu(layer(*parts))
            mean = self.shares @ x
            parts = (x, mean, *(neighbours(mean) for neighbours in self.neighbours))
        return parts[0], parts[1].squeeze(-2)

    def _served(self, links: Float[Tensor, "*M N L J"]) -> Float[Tensor, "*M N A K"]:
        """Return for each phase the sum over the links of each kind of green."""
        return (self.masks @ links).unflatten(-2, (self.n_phases, len(KINDS))).flatten(-2)

    def _heads(self, codes: Tensor, mean: Tensor) -> Tensor:
        """Return the outputs of each signal, then those of its phases, output after output."""
        return torch.cat([self.head(mean), self.phase_head(codes, mean.unsqueeze(-2)).transpose(-1, -2).flatten(-2)], dim=-1)
