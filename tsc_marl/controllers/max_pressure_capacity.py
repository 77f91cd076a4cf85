"""Max pressure that knows how much the roads behind hold, acyclic, with a starvation guard.

After the capacity-aware back pressure of Gregoire et al. 2015 (doi 10.1109/TCNS.2014.2378871): there the pressure of a road is
a convex function of how full it is. The score of a link is N (1 - o^2). N is the number of vehicles bound for it within the
detection distance, o the share of the receiving lanes that vehicles fill. So a link with a full road behind has no use for
green; one with a quarter of it filled has hardly less than one with an empty road.

Parameters: `sim.detection_m`, `MAX_RED_S`. Information used: each vehicle's next movement, and the vehicles on the receiving
lanes.
"""

from typing import ClassVar

import numpy as np

from tsc_marl.controllers import Greedy
from tsc_marl.sim.link_counts import ApproachingVehicles
from tsc_marl.sim.signal_view import SignalView


class MaxPressureCapacity(Greedy):
    """Serves the phase whose vehicles find most room."""

    number: ClassVar[str] = "vehicles with room [veh]"

    def act(self, view: SignalView) -> np.ndarray:
        """Return [N] int."""
        self._room = 1 - self.links.filled(view.vehicles.lane) ** 2
        return super().act(view)

    def scores(self, bound: ApproachingVehicles) -> np.ndarray:
        """Return [L] veh."""
        return self._room * self.links.count(bound, bound.distance_m <= self.context.detection_m)
