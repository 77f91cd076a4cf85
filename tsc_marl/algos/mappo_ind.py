"""MAPPO with individual rewards R^i and values V^i(s, o^i, i): the inputs of `jointq`, without its credit assignment."""

from jaxtyping import Float
from torch import Tensor, nn

from tsc_marl.algos.base import PpoSettings
from tsc_marl.algos.ippo import Ippo
from tsc_marl.nn import critics


class MappoInd(Ippo[PpoSettings]):
    """PPO on each agent's own reward with a central value per agent."""

    value_layer = "net.head"

    def build_critic(self) -> nn.Module:
        """Return V^i(s, o^i, i)."""
        return self.central_net(1)

    def central_net(self, size_out: int) -> critics.CentralNet:
        """Return a network of (s, o^i, i) with `size_out` outputs per agent."""
        spec, config = self.spec, self.config
        sizes = (spec.n_agents, spec.obs_dim, spec.state_dim)
        return critics.CentralNet(*sizes, config.critic_hidden, size_out, config.sharing, 1.0)

    def values_of(self, critic: nn.Module, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"]) -> Float[Tensor, "*M N"]:
        """Return V^i(s, o^i, i)."""
        return critic(obs, state).squeeze(-1)
