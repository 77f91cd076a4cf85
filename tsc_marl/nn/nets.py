"""The nets of the agents for a task: of vectors of one size, or of links and phases where the observation has them."""

from jaxtyping import Float
from torch import Tensor, nn

from tsc_marl.nn.agent import AgentNet, Sharing
from tsc_marl.nn.critics import CentralNet
from tsc_marl.nn.phases import PhaseNet
from tsc_marl.types import Spec

AgentOrPhaseNet = AgentNet | PhaseNet


class CentralPhaseNet(nn.Module):
    """Outputs per agent of the links and phases of its signal and of the signals beside it."""

    def __init__(self, net: PhaseNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"]) -> Float[Tensor, "*M N O"]:
        return self.net(obs)


Central = CentralNet | CentralPhaseNet


class TeamValueNet(nn.Module):
    """V(s) as the mean over signals of what each adds: the value normaliser has the scale of the sum."""

    def __init__(self, net: PhaseNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"]) -> Float[Tensor, "*M 1"]:
        return self.net(obs).mean(-2)


class StateValueNet(nn.Module):
    """V(s) of the state."""

    def __init__(self, state_dim: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.net = AgentNet(1, state_dim, hidden, 1, "none", 1.0)

    def forward(self, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"]) -> Float[Tensor, "*M 1"]:
        return self.net(state.unsqueeze(-2)).squeeze(-2)


def team_net(spec: Spec, hidden: tuple[int, ...], sharing: Sharing) -> TeamValueNet | StateValueNet:
    """Return V(s)."""
    if spec.movements is not None:
        return TeamValueNet(PhaseNet(spec.movements, hidden, 1, 0, sharing, 1.0, central=True))
    return StateValueNet(spec.state_dim, hidden)


def agent_net(
    spec: Spec,
    hidden: tuple[int, ...],
    sharing: Sharing,
    gain: float,
    signal_outputs: int,
    phase_outputs: int,
    recurrent: bool = False,
) -> AgentOrPhaseNet:
    """Return a net of each agent's own observation: outputs of the agent first, then those of its phases."""
    if spec.movements is not None:
        return PhaseNet(spec.movements, hidden, signal_outputs, phase_outputs, sharing, gain, recurrent)
    size_out = signal_outputs + phase_outputs * spec.n_actions
    return AgentNet(spec.n_agents, spec.obs_dim, hidden, size_out, sharing, gain, recurrent)


def central_net(
    spec: Spec, hidden: tuple[int, ...], sharing: Sharing, gain: float, signal_outputs: int, phase_outputs: int
) -> Central:
    """Return a net of each agent's own observation and of the others'."""
    if spec.movements is not None:
        return CentralPhaseNet(PhaseNet(spec.movements, hidden, signal_outputs, phase_outputs, sharing, gain, central=True))
    size_out = signal_outputs + phase_outputs * spec.n_actions
    return CentralNet(spec.n_agents, spec.obs_dim, spec.state_dim, hidden, size_out, sharing, gain)
