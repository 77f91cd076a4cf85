"""Effects of each phase on the return of its own signal, and on that of each signal near it: one function for all pairs."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from tsc_marl.nn.agent import AgentNet, Sharing
from tsc_marl.nn.critics import CentralNet
from tsc_marl.nn.phases import KINDS, PhaseNet
from tsc_marl.types import Movements, Rows, Spec


@dataclass(frozen=True)
class EffectRows(Rows):
    """Rows that effects learn from, with the policy that acted there."""

    obs: Float[Tensor, "*M N F"]
    state: Float[Tensor, "*M S"]
    """Of the whole network; without columns (S = 0) where the effects do not read it."""
    probs: Float[Tensor, "*M N A"]
    action: Int[Tensor, "*M N"]
    residual: Float[Tensor, "*M N"]
    """Return less the value of each agent, in its unit."""
    unit: Float[Tensor, "*M N"]
    """Deviation of each agent's residuals at that time, in the reward's unit."""


class VectorEffects(nn.Module):
    """Effects from observations that are vectors: those of both signals of a pair, side by side.

    Attributes:
        reads_state: whether the effects depend on the state of the network.
        sender: [P] the signal of each pair that chooses a phase.
        receiver: [P] the signal whose return changes.
    """

    reads_state = True
    sender: Tensor
    receiver: Tensor

    def __init__(self, spec: Spec, pairs: Int[Tensor, "P 2"], hidden: Sequence[int], sharing: Sharing) -> None:
        super().__init__()
        self.own = CentralNet(spec.n_agents, spec.obs_dim, spec.state_dim, hidden, spec.n_actions, sharing, 0.0)
        of_pairs: Sharing = "none" if sharing == "none" else "full"  # signals have learned clusters, pairs have none
        self.pair = AgentNet(len(pairs), 2 * spec.obs_dim, hidden, spec.n_actions, of_pairs, 0.0) if len(pairs) else None
        self.register_buffer("sender", pairs[:, 0], persistent=False)
        self.register_buffer("receiver", pairs[:, 1], persistent=False)

    def forward(
        self, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"]
    ) -> tuple[Float[Tensor, "*M N A"], Float[Tensor, "*M P A"]]:
        """Return the effects on the own signal and on the receivers."""
        own = self.own(obs, state)
        if self.pair is None:
            return own, own[..., :0, :]
        return own, self.pair(torch.cat([obs[..., self.sender, :], obs[..., self.receiver, :]], dim=-1))


class LinkSets(nn.Module):
    """Sums over a set of links for each pair: over all of them, and over those that each phase serves.

    Args:
        sets: the links of each pair, as numbers among the N L links of all signals.
        serves: the kind of green that each phase gives a link.
    """

    links: Tensor
    real: Tensor
    masks: Tensor

    def __init__(self, sets: Sequence[Int[Tensor, " _"]], serves: Int[Tensor, "NL A"]) -> None:
        super().__init__()
        most = max((len(links) for links in sets), default=0) or 1
        links, real = torch.zeros(len(sets), most, dtype=torch.long), torch.zeros(len(sets), most)
        for row, chosen in enumerate(sets):
            links[row, : len(chosen)], real[row, : len(chosen)] = chosen, 1
        kinds = torch.cat([(serves[links] == kind) * real.unsqueeze(-1) for kind in KINDS], dim=1)
        buffers = {"links": links, "real": real.unsqueeze(-2), "masks": kinds.transpose(-1, -2).contiguous()}
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def total(self, codes: Float[Tensor, "*M NL C"]) -> Float[Tensor, "*M P C"]:
        """Return the sum of the links' codes over each set."""
        return (self.real @ self._of_sets(codes)).squeeze(-2)

    def served(self, codes: Float[Tensor, "*M NL K C"]) -> Float[Tensor, "*M P A C"]:
        """Return the sum over the links of each set that a phase serves, of their codes for its kind of green."""
        return self.masks @ self._of_sets(codes.flatten(-2)).unflatten(-1, (len(KINDS), -1)).transpose(-2, -3).flatten(-3, -2)

    def _of_sets(self, codes: Tensor) -> Tensor:
        return codes[..., self.links.flatten(), :].unflatten(-2, self.links.shape)


class LinkEffects(nn.Module):
    """Effects from the links that join the signals of a pair, what a phase gives them, and the codes of both signals.

    Each link has a short code for each direction and kind of green. So sums over sets are small, of which there are many.
    Attributes as in `VectorEffects`.
    """

    reads_state = False
    sender: Tensor
    receiver: Tensor
    shares: Tensor

    def __init__(self, movements: Movements, pairs: Int[Tensor, "P 2"], hidden: Sequence[int], sharing: Sharing) -> None:
        super().__init__()
        self.net = PhaseNet(movements, hidden, 0, 1, sharing, 1.0, central=True)
        width, size_link = hidden[-1], hidden[0] // 2 + 2 * movements.link_columns
        serves = movements.serves.transpose(1, 2).flatten(0, 1)
        ahead, behind = _joining(movements, pairs), _joining(movements, pairs.flip(-1))
        self.leading = LinkSets([links for links, _ in ahead], serves)  # the sender's, to the receiver
        self.receiving = LinkSets([links for _, links in ahead], serves)
        self.fed = LinkSets([links for _, links in behind], serves)  # the sender's, from the receiver
        few = width // 4
        self.of_links, self.of_served = nn.Linear(size_link, 2 * len(KINDS) * few), nn.Linear(2 * few, width, bias=False)
        self.of_phase, self.of_signals = nn.Linear(width, width, bias=False), nn.Linear(2 * width, width)
        self.of_sets = nn.Linear(3 * size_link, width, bias=False)
        self.second, self.second_beside = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.head, self.head_beside = nn.Linear(width, 1), nn.Linear(width, 1, bias=False)
        inner = (self.of_links, self.of_served, self.of_phase, self.of_signals, self.of_sets, self.second, self.second_beside)
        for layer in inner:
            nn.init.orthogonal_(layer.weight)
        for layer in (self.of_links, self.of_signals, self.second, self.head):
            nn.init.zeros_(layer.bias)
        for layer in (self.head, self.head_beside, self.net.phase_head):
            nn.init.zeros_(layer.weight)
        real = movements.phase_real.float()
        self.register_buffer("sender", pairs[:, 0], persistent=False)
        self.register_buffer("receiver", pairs[:, 1], persistent=False)
        self.register_buffer("shares", (real / real.sum(-1, keepdim=True)).unsqueeze(-2)[pairs[:, 0]], persistent=False)

    def forward(
        self, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"]
    ) -> tuple[Float[Tensor, "*M N A"], Float[Tensor, "*M P A"]]:
        """Return the effects on the own signal and on the receivers."""
        forms, code = self.net.links(obs)
        codes, mean = self.net.codes_of(obs, forms, code)
        own = self.net.phase_head(codes, mean.unsqueeze(-2)).squeeze(-1)
        links = torch.cat([code, forms], dim=-1).flatten(-3, -2)
        to, back = functional.relu(self.of_links(links)).unflatten(-1, (2, len(KINDS), -1)).unbind(-3)
        served = self.of_served(torch.cat([self.leading.served(to), self.fed.served(back)], dim=-1))
        phase = served + self.of_phase(codes)[..., self.sender, :, :]
        sets = torch.cat([part.total(links) for part in (self.leading, self.receiving, self.fed)], dim=-1)
        signals = torch.cat([mean[..., self.receiver, :], mean[..., self.sender, :]], dim=-1)
        x = functional.relu(phase + (self.of_sets(sets) + self.of_signals(signals)).unsqueeze(-2))
        x = functional.relu(self.second(x) + self.second_beside(self.shares @ x))
        return own, (self.head(x) + self.head_beside(self.shares @ x)).squeeze(-1)


def _joining(movements: Movements, pairs: Int[Tensor, "P 2"]) -> list[tuple[Tensor, Tensor]]:
    """Return for each pair of signals the links of the first that lead to the second, and those of the second that they reach."""
    n, n_links = movements.real.shape
    first, second = (movements.onward // n_links).unbind(-1)
    number, order = torch.sort(first * n + second, stable=True)
    wanted = pairs[:, 0] * n + pairs[:, 1]
    begins, ends = (torch.searchsorted(number, wanted, right=right).tolist() for right in (False, True))
    ways = [movements.onward[order[begin:end]] for begin, end in zip(begins, ends, strict=True)]
    return [(way[:, 0].unique(), way[:, 1].unique()) for way in ways]


Effects = VectorEffects | LinkEffects


def effects_net(spec: Spec, hops: int, hidden: Sequence[int], sharing: Sharing) -> Effects:
    """Return the effects on the own signal, and on each at most so many hops away on the road graph; all are 0 at first."""
    pairs = spec.pairs(hops)
    if spec.movements is not None:
        return LinkEffects(spec.movements, pairs, hidden, sharing)
    return VectorEffects(spec, pairs, hidden, sharing)
