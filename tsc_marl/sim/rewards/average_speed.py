"""The reward `average-speed` of sumo-rl."""

from tsc_marl.sim.rewards._sumo_rl import SumoRlReward


class AverageSpeedReward(SumoRlReward):
    """Mean speed over the speed limit, on the lanes that lead to the signal; 1 without vehicles."""

    function = "average-speed"
