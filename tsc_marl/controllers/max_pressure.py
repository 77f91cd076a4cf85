"""Max pressure per movement (Varaiya 2013, doi 10.1016/j.trc.2013.08.014), acyclic, with a starvation guard.

The pressure of a link is N - `FOLLOWING` M. N is the number of vehicles bound for the link within the detection distance.
M is that for the links that follow it, in equal shares. The pressure of a phase is the sum over its links. All links are one
lane wide, so their saturation flows are equal and cancel.

Parameters: `sim.detection_m`, `MAX_RED_S`, `FOLLOWING`. Information used: each vehicle's next movement, which a loop detector
does not know where a lane serves several: an upper bound for max pressure from real detectors.
"""

from typing import ClassVar

import numpy as np

from tsc_marl.controllers import Greedy
from tsc_marl.sim.link_counts import ApproachingVehicles


class MaxPressure(Greedy):
    """Serves the phase with the largest pressure."""

    number: ClassVar[str] = "pressure [veh]"
    FOLLOWING = 0.5
    """Weight of the vehicles downstream. 1 is the paper's; it proves that queues stay bounded where roads hold any queue, and
    is slower where they do not."""

    def scores(self, bound: ApproachingVehicles) -> np.ndarray:
        """Return [L] veh."""
        near = self.links.count(bound, bound.distance_m <= self.context.detection_m)
        return near - self.FOLLOWING * (self.links.following @ near)
