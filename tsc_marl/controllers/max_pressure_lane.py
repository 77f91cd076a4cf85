"""Max pressure per lane, as it is usually coded for reinforcement learning: a warning, not a recommendation.

The pressure of a link is the number of vehicles on its incoming lane less that on its outgoing lane. The pressure of a phase
is the sum over its links. Nothing upstream of the signal's own lanes counts. So the controller cannot tell
where vehicles on a shared lane are bound. It is blind where such a lane is shorter than a vehicle, as on RESCO's Ingolstadt
networks: vehicles queue on the lane before it and are never served. It has no starvation guard either.

Source: the pressure of sumo-rl and of PressLight (Wei et al. 2019, doi 10.1145/3292500.3330949). Parameters: none.
Information used: vehicles per controlled lane and per lane behind the signal; a camera or two loops a lane know it.
"""

from typing import ClassVar

import numpy as np

from tsc_marl.controllers import Controller
from tsc_marl.sim.planned_counts import PlannedCounts
from tsc_marl.sim.signal_view import SignalView
from tsc_marl.sim.turning_counts import PlanningContext


class MaxPressureLane(Controller):
    """Serves the lanes with the largest pressure."""

    number: ClassVar[str] = "pressure of lanes [veh]"

    def __init__(self, context: PlanningContext) -> None:
        super().__init__(context)
        self.links, index = PlannedCounts(context), context.network.lane_index
        self._weight = []
        for i, signal in enumerate(context.network.signals):
            weight = np.zeros((len(signal.phases), len(index)))
            for phase, green in enumerate(self.links.green[i]):
                for movement in signal.links:
                    if green[movement.link]:
                        weight[phase, index[movement.in_lane]] += 1
                        weight[phase, index[movement.out_lane]] -= 1
            self._weight.append(weight)

    def reset(self, seed: int, view: SignalView) -> None:
        """Forget the queues of the last episode."""
        self.links.reset(view)

    def act(self, view: SignalView) -> np.ndarray:
        """Return [N] int."""
        lanes = len(self.context.network.lane_index)
        expected = np.bincount(self.links.lane, self.links.expected(view), minlength=lanes)
        on_lane = np.bincount(view.vehicles.lane, minlength=lanes) + expected
        self.phase_numbers = [weight @ on_lane for weight in self._weight]
        chosen = []
        for pressure, legal, timer in zip(self.phase_numbers, view.legal, view.timers, strict=True):
            score = np.where(legal[: len(pressure)], pressure, -np.inf)
            chosen.append(timer.phase if score[timer.phase] == score.max() else int(score.argmax()))
        return np.array(chosen)
