"""VDN (Sunehag et al. 2018, arXiv 1706.05296): the sum of the agents' Q predicts the team's return."""

from jaxtyping import Float
from torch import Tensor, nn

from tsc_marl.algos.iql import Iql
from tsc_marl.types import Batch


class Vdn(Iql):
    """Double Q-learning of Q^tot = sum_i Q^i."""

    value_scope = "team"

    def mix(self, joint: nn.Module, q: Float[Tensor, "T B N"], batch: Batch, rows: slice) -> Float[Tensor, "T B 1"]:
        """Return the sum; the mean of the targets is shared evenly by the agents."""
        return q.sum(-1, keepdim=True)

    def critic_reward(self, batch: Batch) -> Float[Tensor, "T B 1"]:
        """Return the team's reward, the sum over agents."""
        return batch.reward.sum(-1, keepdim=True)
