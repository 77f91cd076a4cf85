"""MAA2C (arXiv 2006.07869): A2C on the team's reward with a central V(s): the critic of MAPPO, the loss of IA2C."""

from tsc_marl.algos.ia2c import A2cConfig, Ia2c
from tsc_marl.algos.mappo import Mappo


class Maa2c(Ia2c[A2cConfig], Mappo[A2cConfig]):
    """Advantage actor-critic with one advantage for all agents."""
