"""MAPPO with a shared advantage (Yu et al. 2022, arXiv 2103.01955): the team's reward, one V(s), one advantage for all."""

from jaxtyping import Float
from torch import Tensor, nn

from tsc_marl.algos.base import PpoSettings
from tsc_marl.algos.ippo import Ippo
from tsc_marl.nn import nets
from tsc_marl.types import Batch


class Mappo(Ippo[PpoSettings]):
    """PPO on the sum of the local rewards."""

    value_scope = "team"
    value_layer = "net.head"

    def build_critic(self) -> nn.Module:
        """Return V(s)."""
        return nets.team_net(self.spec, self.config.critic_hidden, self.config.sharing)

    def values_of(self, critic: nn.Module, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"]) -> Float[Tensor, "*M 1"]:
        """Return V(s), one value for all agents."""
        return critic(obs, state)

    def critic_reward(self, batch: Batch) -> Float[Tensor, "T B 1"]:
        """Return the team's reward R = sum_i R^i."""
        return batch.team_reward
