"""VDN (Sunehag et al. 2018, arXiv 1706.05296): the sum of the agents' Q estimates the team's return."""

from jaxtyping import Float
from torch import Tensor, nn

from tsc_marl.algos.iql import Iql, QSettings
from tsc_marl.types import Batch


class Vdn(Iql[QSettings]):
    """Double Q-learning of Q^tot = sum_i Q^i."""

    value_scope = "team"

    def mix(self, mixer: nn.Module, q: Float[Tensor, "T B N"], batch: Batch, rows: slice) -> Float[Tensor, "T B 1"]:
        """Return Q_tot = sum_i Q^i."""
        return q.sum(-1, keepdim=True)

    def critic_reward(self, batch: Batch) -> Float[Tensor, "T B 1"]:
        """Return the team's reward r = sum_i r^i."""
        return batch.team_reward
