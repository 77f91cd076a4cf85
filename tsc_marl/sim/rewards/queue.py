"""The reward `queue` of sumo-rl."""

from tsc_marl.sim.rewards._sumo_rl import SumoRlReward


class QueueReward(SumoRlReward):
    """Minus the halting vehicles on the lanes that lead to the signal [veh]."""

    function = "queue"
