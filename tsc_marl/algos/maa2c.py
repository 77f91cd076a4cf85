"""MAA2C (arXiv 2006.07869): A2C on the team's reward with a central V(s): the critic of MAPPO, the loss of IA2C."""

from tsc_marl.algos.ia2c import A2cConfig, Ia2c
from tsc_marl.algos.mappo import Mappo


class Maa2c(Ia2c, Mappo):
    """Advantage actor-critic with one advantage for all agents."""

    config: A2cConfig  # pyright: ignore[reportIncompatibleVariableOverride]
