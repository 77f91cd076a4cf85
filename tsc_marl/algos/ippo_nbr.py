"""IPPO with the neighbours' rewards: each agent learns from R^i + alpha sum_k R^k over the signals k beside it on the road graph.

A reward of the neighbourhood is the usual way to make independent learners cooperate in traffic (Chu et al. 2020,
arXiv 1903.04527, with a spatial discount alpha).
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from tsc_marl.algos.base import PpoConfig
from tsc_marl.algos.ippo import Ippo
from tsc_marl.bounds import NonNegative
from tsc_marl.types import Batch, Spec


@dataclass(frozen=True)
class IppoNbrConfig(PpoConfig):
    """Settings of independent PPO on the neighbourhood's rewards."""

    neighbours_weight: NonNegative = 0.2
    """alpha, weight of each neighbour's reward beside the own."""


class IppoNbr(Ippo[IppoNbrConfig]):
    """Independent PPO on the own reward and the neighbours'."""

    Config = IppoNbrConfig
    pairs: Tensor

    def __init__(self, spec: Spec, config: IppoNbrConfig) -> None:
        super().__init__(spec, config)
        self.register_buffer("pairs", spec.pairs(), persistent=False)

    def critic_reward(self, batch: Batch) -> Float[Tensor, "T B N"]:
        """Return R^i + alpha sum_k R^k."""
        of, neighbour = self.pairs.unbind(-1)
        return batch.reward.index_add(-1, of, self.config.neighbours_weight * batch.reward[..., neighbour])
