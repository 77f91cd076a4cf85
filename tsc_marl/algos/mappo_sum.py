"""MAPPO with the sum of all agents' own advantages: a shared advantage with the values of `mappo_ind`, one for each agent.

The sum of the GAE of all R^i, each with its own V^i, estimates the same team advantage as `mappo` does from one V.
"""

from jaxtyping import Float
from torch import Tensor

from tsc_marl.algos.base import CriticEstimates, PpoConfig
from tsc_marl.algos.mappo_ind import MappoInd
from tsc_marl.types import Batch


class MappoSum(MappoInd[PpoConfig]):
    """PPO on the sum of all agents' own advantages."""

    def advantage(
        self, batch: Batch, estimates: CriticEstimates
    ) -> tuple[Float[Tensor, "T B N"], dict[str, Tensor], dict[str, float]]:
        """Return the sum over all agents, the same for each."""
        return estimates.residual.sum(-1, keepdim=True).expand_as(batch.reward), {}, {}
