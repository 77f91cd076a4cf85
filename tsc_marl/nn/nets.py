"""The nets of the agents for a task: of vectors of one size, or of links and phases where the observation has them."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tsc_marl.nn.agent import AgentNet, Sharing
from tsc_marl.nn.critics import CentralNet, StateNet
from tsc_marl.nn.phases import PhaseNet
from tsc_marl.types import Spec

AgentOrPhaseNet = AgentNet | PhaseNet
HOPS = 1
"""Rounds in which the links of a central critic take in the links beside them."""


class CentralPhaseNet(nn.Module):
    """Outputs per agent of the links and phases of its signal and of the signals near it."""

    def __init__(self, net: PhaseNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"]) -> Float[Tensor, "*M N O"]:
        return self.net(obs)


class TeamValueNet(nn.Module):
    """V(s) as the sum of what each signal adds."""

    def __init__(self, net: PhaseNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"]) -> Float[Tensor, "*M 1"]:
        return self.net(obs).mean(-2)


class StateValueNet(StateNet):
    """V(s) of the state."""

    def forward(self, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"]) -> Float[Tensor, "*M 1"]:
        return super().forward(state)


def team_net(spec: Spec, hidden: tuple[int, ...], sharing: Sharing) -> TeamValueNet | StateValueNet:
    """Return V(s)."""
    if spec.movements is not None:
        return TeamValueNet(PhaseNet(spec.movements, hidden, 1, 0, sharing, 1.0, hops=HOPS))
    return StateValueNet(spec.state_dim, hidden, 1)


def agent_net(
    spec: Spec, hidden: tuple[int, ...], sharing: Sharing, gain: float, signal_outputs: int, phase_outputs: int, recurrent: bool = False,
) -> AgentOrPhaseNet:  # fmt: skip
    """Return a net of each agent's own observation: outputs of the agent first, then those of its phases."""
    if spec.movements is not None:
        return PhaseNet(spec.movements, hidden, signal_outputs, phase_outputs, sharing, gain, recurrent)
    size_out = signal_outputs + phase_outputs * spec.n_actions
    return AgentNet(spec.n_agents, spec.obs_dim, hidden, size_out, sharing, gain, recurrent)


def central_net(
    spec: Spec, hidden: tuple[int, ...], sharing: Sharing, gain: float, signal_outputs: int, phase_outputs: int
) -> CentralNet | CentralPhaseNet:
    """Return a net of each agent's own observation and of the others'."""
    if spec.movements is not None:
        return CentralPhaseNet(PhaseNet(spec.movements, hidden, signal_outputs, phase_outputs, sharing, gain, hops=HOPS))
    size_out = signal_outputs + phase_outputs * spec.n_actions
    return CentralNet(spec.n_agents, spec.obs_dim, spec.state_dim, hidden, size_out, sharing, gain)
