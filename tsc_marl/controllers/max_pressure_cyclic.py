"""Max pressure in a cycle: the phases come in the order of the program, with greens as their pressures.

After the cyclic back pressure of Le et al. 2015 (doi 10.1016/j.trc.2014.11.009) and the cyclical max pressure of Levin et al.
2020 (doi 10.1016/j.trc.2020.102828): drivers see a fixed order, and few changes lose little time. The pressure of a link is N
(1 - o). N is the number of vehicles bound for it within the detection distance, o the share of the receiving lanes that
vehicles fill. The pressure of a phase is the sum over its links. A phase begins with a green of `CYCLE_S` times its share of
all phases' pressures, and at least the minimum green. It ends early when nobody is left. A phase without traffic is skipped.

Parameters: `sim.detection_m`, `CYCLE_S`. Information used: each vehicle's next movement, and the vehicles on the receiving
lanes.
"""

from typing import ClassVar

import numpy as np

from tsc_marl.controllers import TRAFFIC_VEH, Controller
from tsc_marl.sim.planned_counts import PlannedCounts
from tsc_marl.sim.signal_view import SignalView
from tsc_marl.sim.turning_counts import PlanningContext


class MaxPressureCyclic(Controller):
    """Serves the phases in turn, for as long as their pressures say."""

    number: ClassVar[str] = "pressure [veh]"
    exception: ClassVar[str] = "phases come in their order, and the present one lasts its share of the cycle"
    CYCLE_S = 90.0
    """Time that the phases share."""

    def __init__(self, context: PlanningContext) -> None:
        super().__init__(context)
        self.links = PlannedCounts(context)

    def reset(self, seed: int, view: SignalView) -> None:
        """Forget the greens of the last episode."""
        self.links.reset(view)
        self._until_s = np.full(len(view.timers), view.now_s)

    def act(self, view: SignalView) -> np.ndarray:
        """Return [N] int."""
        bound = self.links.approaching(view)
        near = self.links.count(bound, bound.distance_m <= self.context.detection_m)
        pressure = near * (1 - self.links.filled(view.vehicles.lane))
        self.phase_numbers = self.links.of_phases(pressure)
        return np.array([self._choose(i, view, self.links.for_signal(near, i)) for i in range(len(view.timers))])

    def _choose(self, i: int, view: SignalView, near: np.ndarray) -> int:
        present, green, pressure = view.timers[i].phase, self.links.green[i], self.phase_numbers[i]
        wanted = green @ near >= TRAFFIC_VEH
        if wanted[present] and view.now_s < self._until_s[i]:
            return present
        order = (present + np.arange(1, len(green))) % len(green)
        following = order[wanted[order] & view.legal[i, order]]
        if not len(following):
            return present
        phase = int(following[0])
        timing = self.context.timing
        green_s = max(timing.min_green_s, self.CYCLE_S * pressure[phase] / max(pressure.sum(), TRAFFIC_VEH))
        self._until_s[i] = view.now_s + timing.change_s + green_s
        return phase
