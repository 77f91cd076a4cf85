"""The reward `pressure` of sumo-rl."""

from tsc_marl.sim.rewards._sumo_rl import SumoRlReward


class PressureReward(SumoRlReward):
    """Vehicles on the lanes that leave the signal, minus those on the lanes that lead to it [veh]."""

    function = "pressure"
