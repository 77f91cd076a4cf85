"""Greedy, or max wave: the phase with the most vehicles, halting or moving, close to the stop line.

Source: RESCO's MAXWAVE (Ault and Sharon 2021, NeurIPS Datasets and Benchmarks), with a starvation guard. Parameters:
`REACH_M`, within which vehicles count; `MAX_RED_S`. Information used: each vehicle's next movement; a loop 50 m upstream of
every stop line comes close to it.
"""

from typing import ClassVar

import numpy as np

from tsc_marl.controllers import Greedy
from tsc_marl.sim.link_counts import ApproachingVehicles

REACH_M = 50.0


class MaxWave(Greedy):
    """Serves the most vehicles at the stop line."""

    number: ClassVar[str] = f"vehicles within {REACH_M:.0f} m [veh]"

    def scores(self, bound: ApproachingVehicles) -> np.ndarray:
        """Return [L] veh."""
        return self.links.count(bound, bound.distance_m <= REACH_M)
