"""MAPPO with a shared advantage (Yu et al. 2022, arXiv 2103.01955): the team's reward, one V(s), one advantage for all."""

from jaxtyping import Float
from torch import Tensor, nn

from tsc_marl.algos.ippo import Ippo
from tsc_marl.nn import agent, critics
from tsc_marl.types import Batch


class Mappo(Ippo):
    """PPO on the sum of the local rewards."""

    value_scope = "team"

    def build_critic(self) -> nn.Module:
        """Return V(s)."""
        return critics.StateNet(self.spec.state_dim, self.config.critic_hidden, 1)

    def normalised_values(self, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"]) -> Float[Tensor, "*M 1"]:
        """Return one value for all agents."""
        return self.critic(state)

    def value_head(self) -> agent.GroupLinear:
        """Return V's last layer."""
        return self.critic.get_submodule("net.head")  # pyright: ignore[reportReturnType]

    def critic_reward(self, batch: Batch) -> Float[Tensor, "T B 1"]:
        """Return the team's reward, the sum over agents."""
        return batch.reward.sum(-1, keepdim=True)
