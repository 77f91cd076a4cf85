"""MAPPO with individual rewards R^i and values V^i(s, o^i, i): the inputs of `jointq`, without its credit assignment."""

from jaxtyping import Float
from torch import Tensor, nn

from tsc_marl.algos.base import PpoSettings
from tsc_marl.algos.ippo import Ippo
from tsc_marl.nn import nets


class MappoInd(Ippo[PpoSettings]):
    """PPO on each agent's own reward with a central value per agent."""

    value_layer = "net.head"

    def build_critic(self) -> nn.Module:
        """Return V^i(s, o^i, i)."""
        return self.central_net(1, 0)

    def central_net(self, signal_outputs: int, phase_outputs: int) -> nets.Central:
        """Return a network of (s, o^i, i) with outputs per agent, then per phase."""
        config = self.config
        return nets.central_net(self.spec, config.critic_hidden, config.sharing, 1.0, signal_outputs, phase_outputs)

    def values_of(self, critic: nn.Module, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"]) -> Float[Tensor, "*M N"]:
        """Return V^i(s, o^i, i)."""
        return critic(obs, state).squeeze(-1)
