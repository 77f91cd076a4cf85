"""The reward `diff-waiting-time` of sumo-rl."""

from tsc_marl.sim.rewards._sumo_rl import SumoRlReward


class DiffWaitingTimeReward(SumoRlReward):
    """Decrease of the accumulated waiting time since the last decision, on the lanes that lead to the signal [100 s]."""

    function = "diff-waiting-time"
