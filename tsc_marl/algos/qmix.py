"""QMIX (Rashid et al. 2018, arXiv 1803.11485): a monotone mix of the agents' Q, given the state, estimates the team's return."""

from jaxtyping import Float
from torch import Tensor, nn

from tsc_marl.algos.iql import QConfig
from tsc_marl.algos.vdn import Vdn
from tsc_marl.nn import critics
from tsc_marl.types import Batch


class Qmix(Vdn[QConfig]):
    """Double Q-learning of Q^tot = f(Q^1 .. Q^N; s) with df/dQ^i >= 0, so that each agent's best action is the team's."""

    value_scope = "utility"

    def build_mixer(self) -> nn.Module:
        """Return the mixing network f."""
        return critics.MonotoneMixer(self.spec.n_agents, self.spec.state_dim)

    def mix(self, mixer: nn.Module, q: Float[Tensor, "T B N"], batch: Batch, rows: slice) -> Float[Tensor, "T B 1"]:
        """Return Q_tot = f(Q^1 .. Q^N; s)."""
        return mixer(q, batch.state[rows]).unsqueeze(-1)
