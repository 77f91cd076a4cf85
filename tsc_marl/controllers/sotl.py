"""Self-organising traffic lights (Gershenson 2005, arXiv nlin/0411066; with platoons, Cools et al. 2008, arXiv nlin/0610040).

Each red link counts vehicle-seconds of the vehicles within `REACH_M`. A phase is due when the count of its links reaches
`THRESHOLD_VEH_S`; of several, the one with the largest count is next. It waits while a short platoon passes the present green:
at most `PLATOON_VEH` moving vehicles within `PLATOON_M`. Information used: vehicles near each stop line by their next movement.
"""

from typing import ClassVar

import numpy as np

from tsc_marl.controllers import Controller
from tsc_marl.sim.planned_counts import PlannedCounts
from tsc_marl.sim.signal_view import SignalView
from tsc_marl.sim.turning_counts import PlanningContext

REACH_M = 80.0
THRESHOLD_VEH_S = 40.0
PLATOON_M = 25.0
PLATOON_VEH = 3


class Sotl(Controller):
    """Changes when enough has waited."""

    number: ClassVar[str] = "waiting before red [veh·s]"
    exception: ClassVar[str] = f"it stays below {THRESHOLD_VEH_S:.0f} veh·s, and while at most {PLATOON_VEH} vehicles pass"

    def __init__(self, context: PlanningContext) -> None:
        super().__init__(context)
        self.links = PlannedCounts(context)

    def reset(self, seed: int, view: SignalView) -> None:
        """Forget who waited in the last episode."""
        self.links.reset(view)
        self._waited_veh_s = np.zeros(self.links.size)

    def act(self, view: SignalView) -> np.ndarray:
        """Return [N] int."""
        bound = self.links.approaching(view)
        self._waited_veh_s += self.links.count(bound, bound.distance_m <= REACH_M) * self.context.timing.decision_s
        platoon = self.links.count(bound, ~bound.halting & (bound.distance_m <= PLATOON_M))
        for i, timer in enumerate(view.timers):
            self.links.for_signal(self._waited_veh_s, i)[self.links.green[i][timer.phase]] = 0
        self.phase_numbers = self.links.of_phases(self._waited_veh_s)
        return np.array([self._choose(i, view, self.links.for_signal(platoon, i)) for i in range(len(view.timers))])

    def _choose(self, i: int, view: SignalView, platoon: np.ndarray) -> int:
        green, present = self.links.green[i], view.timers[i].phase
        score = np.where(view.legal[i, : len(green)], self.phase_numbers[i], -np.inf)
        passing = 0 < platoon[green[present]].sum() <= PLATOON_VEH
        return present if passing or score.max() < THRESHOLD_VEH_S else int(score.argmax())
