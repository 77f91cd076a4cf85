"""MAPPO with individual rewards: R^i and V^i(s, o^i, i). The fair baseline: the information of `jointq` without its credit."""

from jaxtyping import Float
from torch import Tensor, nn

from tsc_marl.algos.ippo import Ippo
from tsc_marl.nn import agent, critics


class MappoInd(Ippo):
    """PPO on each agent's own reward with a central value per agent."""

    def build_critic(self) -> nn.Module:
        """Return V^i(s, o^i, i)."""
        return self.central_net(1)

    def central_net(self, size_out: int) -> critics.CentralNet:
        """Return a network of (s, o^i, i) with `size_out` outputs per agent."""
        spec, config = self.spec, self.config
        sizes = (spec.n_agents, spec.obs_dim, spec.state_dim)
        return critics.CentralNet(*sizes, config.critic_hidden, size_out, config.sharing, 1.0)

    def normalised_values(self, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"]) -> Float[Tensor, "*M N"]:
        """Return one value per agent."""
        return self.critic(obs, state).squeeze(-1)

    def value_head(self) -> agent.GroupLinear:
        """Return the last layer of the V^i."""
        return self.critic.get_submodule("net.head")  # pyright: ignore[reportReturnType]
