"""A controller of one's own, measured beside max pressure on the same seeds.

Usage: python own_controller.py [network] [seed ...]
"""

import sys

import numpy as np

import tsc_marl
from tsc_marl.controllers import Greedy
from tsc_marl.sim.link_counts import ApproachingVehicles


class MostWaiting(Greedy):
    """Serves the links with the most halting vehicles within 100 m of the stop line."""

    def scores(self, bound: ApproachingVehicles) -> np.ndarray:
        """Return [L] veh, one score per link."""
        return self.links.count(bound, bound.halting & (bound.distance_m <= 100))


if __name__ == "__main__":  # the processes that simulate import this file
    network = sys.argv[1] if len(sys.argv) > 1 else "cologne3"
    seeds = [int(seed) for seed in sys.argv[2:]] or [1000, 1001]
    result = tsc_marl.evaluate(network, [MostWaiting, "max_pressure", "fixed_time"], seeds)
    print(result.to_frame()[["policy", "seed", "delay", "stops", "never_inserted"]].to_string(index=False))
