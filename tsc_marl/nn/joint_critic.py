"""The critic of jointq: a value and two heads over the actions of each agent."""

import torch
from torch import Tensor, nn

from tsc_marl import ops
from tsc_marl.nn.critics import MonotoneMixer
from tsc_marl.nn.nets import Central, CentralPhaseNet
from tsc_marl.types import Spec


class JointCritic(nn.Module):
    """Heads v, D_o, D_e per agent on one trunk, and the mixer. D_o and D_e start at zero."""

    def __init__(self, base: Central, spec: Spec, monotone: bool) -> None:
        super().__init__()
        self.base, self.n_actions = base, spec.n_actions
        self.mixer = MonotoneMixer(spec.n_agents, spec.state_dim) if monotone else None
        with torch.no_grad():
            if isinstance(base, CentralPhaseNet):
                base.net.phase_head.weight.zero_()
            else:
                base.net.head.weight[:, 1:] = 0

    def forward(self, obs: Tensor, state: Tensor, probs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return v [..., N] and the centred heads [..., N, A], in normalised units."""
        return self.heads(self.base(obs, state), probs)

    def heads(self, outputs: Tensor, probs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return v and the centred heads in outputs of the trunk."""
        v, own, others = outputs.split([1, self.n_actions, self.n_actions], dim=-1)
        return v.squeeze(-1), ops.centre_under_policy(own, probs), ops.centre_under_policy(others, probs)

    def interaction(self, v: Tensor, own_taken: Tensor, state: Tensor) -> Tensor:
        """Return M of the agents' Q^i(a^i) [..., N], summed to [...]."""
        return self.mixer(v + own_taken, state) if self.mixer is not None else torch.zeros_like(v[..., 0])
