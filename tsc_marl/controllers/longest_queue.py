"""Longest queue first: the phase with the most halting vehicles, with a starvation guard.

Parameters: `sim.detection_m`, within which vehicles count; `MAX_RED_S`. Information used: each vehicle's next movement; a
queue detector per lane knows it where a lane serves one movement.
"""

from typing import ClassVar

import numpy as np

from tsc_marl.controllers import Greedy
from tsc_marl.sim.link_counts import ApproachingVehicles


class LongestQueue(Greedy):
    """Serves the longest queues."""

    number: ClassVar[str] = "queue [veh]"

    def scores(self, bound: ApproachingVehicles) -> np.ndarray:
        """Return [L] veh."""
        return self.links.count(bound, bound.halting & (bound.distance_m <= self.context.detection_m))
